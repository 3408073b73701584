//! One entry of `inputs`. What an input takes in place of its tensor is its kind: `image`, `audio` or `text`. Each kind
//! has a file of its own, with its fields, defaults and checks.
//!
//! A new kind is a new file, a field of [`InputManifest`] and a line in `InputManifest::kinds`.

use serde::Deserialize;

use super::audio::AudioInput;
use super::checks::{check_shape, datatype};
use super::image::ImageInput;
use super::kind::InputKind;
use super::text::TextInput;
use crate::model::tensor::Datatype;

/// What `model.json` says about one input of the ONNX file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputManifest {
    /// The input's name in the ONNX file.
    pub name: String,
    /// The datatype, for readers. It must be that of the ONNX file.
    #[serde(default, deserialize_with = "datatype")]
    pub datatype: Option<Datatype>,
    /// Narrows the shape of the ONNX file: -1 leaves a dimension as it is, a number fixes it.
    pub shape: Option<Vec<i64>>,
    /// The input also takes JPEG and PNG files.
    pub image: Option<ImageInput>,
    /// The input also takes sound, and a stream of sound.
    pub audio: Option<AudioInput>,
    /// The input also takes text.
    pub text: Option<TextInput>,
}

impl InputManifest {
    /// Every kind with the name of its field, and whether this input has it.
    fn kinds(&self) -> [(&'static str, Option<&dyn InputKind>); 3] {
        // Written out, so that the compiler reports a kind that is missing here.
        let InputManifest { name: _, datatype: _, shape: _, image, audio, text } = self;
        [
            ("image", image.as_ref().map(|kind| kind as &dyn InputKind)),
            ("audio", audio.as_ref().map(|kind| kind as &dyn InputKind)),
            ("text", text.as_ref().map(|kind| kind as &dyn InputKind)),
        ]
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        let name = &self.name;
        if let Some(shape) = &self.shape {
            let field = format!("inputs[`{name}`].shape");
            check_shape(&field, shape, "a dimension is -1 (open) or at least 1")?;
        }
        let kinds = self.kinds();
        let mut chosen = 0;
        for (field, kind) in &kinds {
            if let Some(kind) = kind {
                kind.validate().map_err(|error| format!("inputs[`{name}`].{field}.{error}"))?;
                chosen += 1;
            }
        }
        if chosen > 1 {
            let [others @ .., (last, _)] = &kinds;
            let others = others.iter().map(|(field, _)| format!("`{field}`")).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "inputs[`{name}`] is more than one of {others} and `{last}`: expected at most one of them"
            ));
        }
        Ok(())
    }
}
