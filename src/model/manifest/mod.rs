//! `model.json`: what a user can say about a model. Every field is optional; what is not given comes from the ONNX
//! file. Field names are those of Triton's model configuration where it has them. An unknown field is an error that
//! names the nearest known one; no field is ignored.
//!
//! This file holds [`Manifest`] and how it is read. Each section has a file of its own, with its fields, defaults and
//! checks: a new section is a new file, a field of [`Manifest`] and a line in `Manifest::validate`. A new kind of input
//! is registered in `input.rs`, a new kind of result in `output.rs`.
//!
//! Not here: whether a manifest fits its ONNX file. `inference` checks that when it loads the model.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::reading;
use super::signature::nearest;
use crate::plain;

mod audio;
mod batching;
mod checks;
mod classification;
mod embedding;
mod ensemble;
mod image;
mod input;
mod instances;
mod kind;
mod origin;
mod output;
mod result;
mod sequence;
mod shapes;
#[cfg(test)]
mod tests;
mod text;
mod versions;

pub use audio::{AudioInput, Encoding};
pub use batching::DynamicBatching;
pub use checks::check_name;
pub use classification::Activation;
pub use embedding::{Normalize, Pooling};
pub use ensemble::{
    ChangedInput, CropManifest, EnsembleManifest, MappedInput, StepManifest, TurnManifest, WindowManifest,
};
pub use image::{Background, Color, EdgeWord, Filter, ImageInput, ImagePlacement, Layout, Resize};
pub use input::InputManifest;
pub use instances::InstanceGroup;
pub use origin::check_sha256;
pub use output::OutputManifest;
pub use result::{
    Blank, Bounded, BoxForm, BoxUnit, Column, Coordinates, DetectionDecoder, DetectionsManifest, EventForm,
    EventsManifest, HeadForm, HeadManifest, KeypointsManifest, LabelManifest, Labels, MaskDecoder,
    MaskEncoding, MasksManifest, Order, RegionsManifest, ResultManifest, ScoreActivation, Suppression,
    TextManifest,
};
pub use sequence::{SequenceManifest, StateManifest};
pub use shapes::InputShapes;
pub use text::{Padding, PaddingWord, TextInput};
pub use versions::VersionPolicy;

/// Bytes of a `model.json`. The largest ones hold the initial values of a state, or of a parameter.
const MOST_BYTES: u64 = 64 << 20;
/// Warm-up runs.
const MOST_WARM_UPS: u32 = 10_000;

/// The content of a `model.json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// The name in paths and responses. Default: the name of the folder (or of the file).
    pub name: Option<String>,
    /// The version in paths and responses. Default: `"1"`.
    pub version: Option<String>,
    /// The ONNX file, relative to the folder (with an archive: to the archive's folder). Default: `model.onnx`.
    pub file: Option<String>,
    /// The URL of the model: an ONNX file, or a .tar.gz of a model's folder.
    pub url: Option<String>,
    /// The SHA-256 of the file at `url`, as 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// Which versions are served, when versions are folders. Default: all of them.
    pub version_policy: VersionPolicy,
    /// The most rows of a request along the first axis. It declares that axis a batch of independent rows. 0 or
    /// absent: nothing is declared.
    pub max_batch_size: usize,
    /// How requests are gathered into batches, where batches are faster.
    pub dynamic_batching: DynamicBatching,
    /// The shapes that the model is used with, when they are few. Each entry gets a plan of its own, and requests with
    /// other shapes are refused. An entry gives shapes by input name, as in `inputs[].shape`.
    pub shapes: Vec<InputShapes>,
    /// The state that the model keeps from one request to the next.
    pub sequence: Option<SequenceManifest>,
    /// The workers of the model.
    pub instance_group: InstanceGroup,
    /// The most threads that work on one request while no other one waits, for models where a measurement shows that this is
    /// faster. They are the model's workers. Default: all of them; 1 turns it off.
    pub intra_op_threads: Option<usize>,
    /// Entries for single inputs. An input without an entry is as the ONNX file declares it.
    pub inputs: Vec<InputManifest>,
    /// Entries for single outputs. An output without an entry is as the ONNX file declares it.
    pub outputs: Vec<OutputManifest>,
    /// Answers that are made of the outputs, such as detections in an image.
    pub result: Option<ResultManifest>,
    /// Inputs that always get the same value (for example a sample rate), by name. Clients do not see them.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The runs on zeros before the model is ready. Default: 1.
    pub warmup: Option<u32>,
    /// The steps of a chain: the model has no ONNX file, but runs other models of the repository.
    pub ensemble_scheduling: Option<EnsembleManifest>,
    /// Whether clients can use the model. A model that only serves as a step of chains may be hidden. Default: true.
    pub public: Option<bool>,
}

/// A `model.json` that cannot be read or is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ManifestError {
    /// The path of the file.
    pub path: String,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl Manifest {
    /// Reads a `model.json` of at most 64 MiB from disk and checks it.
    pub fn read(path: &Path) -> Result<Manifest, ManifestError> {
        let failed = |message: String| ManifestError { path: path.display().to_string(), message };
        let text = reading::read_text(path, MOST_BYTES).map_err(failed)?;
        Manifest::parse(&text).map_err(failed)
    }

    /// Reads the text of a `model.json` and checks it. The error names the field, and says what was expected.
    pub fn parse(text: &str) -> Result<Manifest, String> {
        let manifest: Manifest =
            serde_json::from_str(plain::without_mark(text)).map_err(|error| explain(&error.to_string()))?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The entry for the input `name`, if there is one.
    pub fn input(&self, name: &str) -> Option<&InputManifest> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// The entry for the output `name`, if there is one.
    pub fn output(&self, name: &str) -> Option<&OutputManifest> {
        self.outputs.iter().find(|output| output.name == name)
    }

    /// The files beside `model.json` that it names: labels, characters and tokenizers.
    pub fn named_files(&self) -> Vec<&str> {
        let labels = self.outputs.iter().filter_map(|output| output.labels.as_deref());
        let texts = self.inputs.iter().filter_map(|input| Some(input.text.as_ref()?.tokenizer.as_str()));
        let of_result = match self.result.as_ref().and_then(ResultManifest::labels) {
            Some(Labels::File(file)) => Some(file.as_str()),
            _ => None,
        };
        labels.chain(texts).chain(of_result).collect()
    }

    /// Checks what the field types do not.
    fn validate(&self) -> Result<(), String> {
        for (field, name) in [("name", &self.name), ("version", &self.version)] {
            name.iter().try_for_each(|name| check_name(field, name))?;
        }
        origin::check(self.url.as_deref(), self.sha256.as_deref())?;
        instances::check(&self.instance_group, self.intra_op_threads)?;
        checks::within("warmup", self.warmup, 0, MOST_WARM_UPS)?;
        self.version_policy.validate()?;
        self.dynamic_batching.validate(self.max_batch_size)?;
        shapes::check(&self.shapes)?;
        self.sequence.iter().try_for_each(SequenceManifest::validate)?;
        self.inputs.iter().try_for_each(InputManifest::validate)?;
        self.result.iter().try_for_each(ResultManifest::validate)?;
        self.outputs.iter().try_for_each(OutputManifest::validate)?;
        self.ensemble_scheduling.iter().try_for_each(EnsembleManifest::validate)?;
        if self.ensemble_scheduling.is_some() { self.check_chain() } else { Ok(()) }
    }

    /// Checks that a chain has no fields that belong to the models of its steps.
    fn check_chain(&self) -> Result<(), String> {
        // Only what a chain can have, and the rest as in an empty manifest.
        let allowed = Manifest {
            name: self.name.clone(),
            version: self.version.clone(),
            result: self.result.clone(),
            ensemble_scheduling: self.ensemble_scheduling.clone(),
            public: self.public,
            version_policy: self.version_policy.clone(),
            ..Manifest::default()
        };
        if allowed == *self {
            return Ok(());
        }
        Err("a chain (ensemble_scheduling) can have `name`, `version`, `version_policy`, `result` and `public`: the other \
             fields belong into the model.json of its steps"
            .into())
    }

    /// Whether clients can use the model.
    pub fn is_public(&self) -> bool {
        self.public.unwrap_or(true)
    }
}

/// Adds "did you mean" to serde's list of known fields.
fn explain(error: &str) -> String {
    let Some(rest) =
        error.strip_prefix("unknown field `").or_else(|| error.strip_prefix("unknown variant `"))
    else {
        return error.to_owned();
    };
    let mut names = rest.split('`').step_by(2);
    let unknown = names.next().unwrap_or_default();
    match nearest(unknown, names) {
        Some(near) => format!("{error}; did you mean `{near}`?"),
        None => error.to_owned(),
    }
}
