//! Chooses the model for clients that ask for objects or faces and name no model.
//!
//! What belongs here: the choice among the served models. What does not: the formats of such clients (`wire::deepstack`).

use std::sync::Arc;

use super::{Catalogue, ServedModel};
use crate::error::{Code, RequestError, shorten};
use crate::model::signature::quoted;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detector {
    /// Any objects.
    Objects,
    /// Faces.
    Faces,
    /// What the model with this name finds.
    Named(String),
}

impl Catalogue {
    /// Finds the model that takes images and answers with detections. Among several that fit, it is the default model. A
    /// model for faces answers for objects only when there is no other.
    ///
    /// Errors: no model fits, or several do and none of them is the default model.
    pub fn detector(&self, wanted: &Detector) -> Result<&Arc<ServedModel>, RequestError> {
        if let Detector::Named(name) = wanted {
            let model = self.find(Some(name), None)?;
            return if model.detects() { Ok(model) } else { Err(finds_nothing(name)) };
        }
        let all: Vec<&Arc<ServedModel>> =
            self.newest().filter(|model| model.is_public && model.detects()).collect();
        let (faces, objects): (Vec<_>, Vec<_>) = all.iter().partition(|model| model.detects_faces());
        let fitting = match wanted {
            Detector::Faces => faces,
            _ if objects.is_empty() => faces,
            _ => objects,
        };
        let is_default = |model: &&&Arc<ServedModel>| Some(&model.name) == self.default.as_ref();
        match (fitting.iter().find(is_default), fitting.as_slice()) {
            (Some(model), _) | (None, [model]) => Ok(model),
            (None, []) => Err(self.nothing_finds(wanted)),
            (None, several) => {
                let names = quoted(several.iter().map(|model| model.name.as_str()));
                Err(RequestError::new(
                    Code::UnknownModel,
                    format!(
                        "several models fit: {names}; ask for one at /v1/vision/custom/<name>, or name one with \
                         --default-model"
                    ),
                ))
            }
        }
    }

    fn nothing_finds(&self, wanted: &Detector) -> RequestError {
        let unready = self.unready();
        if !unready.is_empty() {
            let message = format!("no model that fits is served, and {} could not be loaded", unready.len());
            return RequestError::new(Code::Unavailable, message);
        }
        let needed = match wanted {
            Detector::Faces => {
                "no model finds faces: expected one that takes images, and has a result of the kind `detections` with the \
                 only label `face` or the decoder `anchor_free_heads`"
            }
            _ => {
                "no model finds objects: expected one that takes images, and has a result of the kind `detections`"
            }
        };
        RequestError::new(Code::UnknownModel, needed)
    }
}

fn finds_nothing(name: &str) -> RequestError {
    RequestError::invalid(format!(
        "model `{}` does not answer images with detections: ask for it at /v2/models/<name>/infer",
        shorten(name)
    ))
}

impl ServedModel {
    /// Whether it takes one image file, and its result is detections.
    fn detects(&self) -> bool {
        let takes_images = self.signature.single().is_some_and(|(_, input)| input.takes_images());
        takes_images && self.result.as_ref().is_some_and(|result| result.maker().kind() == "detections")
    }

    fn detects_faces(&self) -> bool {
        self.result.as_ref().is_some_and(|result| result.maker().finds_faces())
    }
}
