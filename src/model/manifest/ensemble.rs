//! Chains: one request runs several models, step by step. The fields are those of Triton's `ensemble_scheduling`, and more
//! where Triton has none.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::checks::{MOST_AXES, within};

/// Steps of a chain.
const MOST_STEPS: usize = 64;
/// The largest absolute value of `scale`, `offset` and `initial`.
const MOST_LEVEL: f32 = 1e6;
/// Entries of a window along its axis.
const MOST_WINDOW: usize = 1 << 20;

/// The steps of a chain, in the order in which they run. `ensemble_scheduling` of `model.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleManifest {
    pub step: Vec<StepManifest>,
}

/// A model that runs in a chain.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepManifest {
    /// The name of the model in the same repository.
    pub model_name: String,
    /// Its version. Default, and with -1: the newest.
    pub model_version: Option<i64>,
    /// The tensor of the chain that each input of the model gets.
    pub input_map: BTreeMap<String, MappedInput>,
    /// The tensor of the chain that each output of the model becomes.
    #[serde(default)]
    pub output_map: BTreeMap<String, String>,
    /// The name of the model's result (`result` in its model.json) in the chain. This is an extension of onnxd.
    pub result: Option<String>,
}

/// A tensor of the chain as the input of a step: its name, or its name and how it is changed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected the name of a tensor, or an object with `tensor` and how it is changed"
)]
pub enum MappedInput {
    Name(String),
    Changed(ChangedInput),
}

/// How a tensor of the chain is changed for a step. What is not given is not done. This is an extension of onnxd.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedInput {
    /// The name of the tensor.
    pub tensor: String,
    /// First: every element is multiplied by this.
    pub scale: Option<f32>,
    /// Then: this is added to every element.
    pub offset: Option<f32>,
    /// Or, for an image: parts of it, each of which is a run of the model.
    pub crop: Option<CropManifest>,
    /// Then: the tensors of one request after the other are joined, and cut into windows.
    pub window: Option<WindowManifest>,
    /// Last: the shape of one window, or of the tensor. One length may be -1; the elements keep their order.
    pub reshape: Option<Vec<i64>>,
}

/// Windows over what a step gives from request to request. Each window is one run of the next step.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowManifest {
    /// The axis along which the tensors are joined.
    pub axis: usize,
    /// The length of a window along this axis.
    pub size: usize,
    /// The distance from the start of one window to the start of the next. Default: `size`.
    pub hop: Option<usize>,
    /// The value of what lies before the start, so that the first window ends with the first `hop` entries. Default: the
    /// first window comes when there is enough for it.
    pub initial: Option<f32>,
}

/// Parts of an image that a step before has found. Each is cut out, straightened, and given to the model as an image.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropManifest {
    /// The result with the places: regions, or detections.
    pub regions: String,
    /// Whether a part that is at least 1.5 times as high as wide is turned to the left by 90°, as in PP-OCR. Default: true.
    pub rotate_tall: Option<bool>,
    /// When a part is turned by 180°.
    pub turn_when: Option<TurnManifest>,
}

/// A class of a step before that says that a part is upside down.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnManifest {
    /// The tensor with the classes, a row for each part.
    pub tensor: String,
    /// The class that means 180°.
    pub class: usize,
    /// The least score of the class. Default: 0.9, as in PP-OCR.
    pub threshold: Option<f32>,
}

impl MappedInput {
    /// How parts of an image are cut out.
    pub fn crop(&self) -> Option<&CropManifest> {
        match self {
            MappedInput::Name(_) => None,
            MappedInput::Changed(changed) => changed.crop.as_ref(),
        }
    }

    /// The name of the tensor.
    pub fn tensor(&self) -> &str {
        match self {
            MappedInput::Name(name) => name,
            MappedInput::Changed(changed) => &changed.tensor,
        }
    }
}

impl EnsembleManifest {
    pub(super) fn validate(&self) -> Result<(), String> {
        within("the number of ensemble_scheduling.step", Some(self.step.len()), 1, MOST_STEPS)?;
        for (at, step) in self.step.iter().enumerate() {
            step.validate().map_err(|error| {
                format!("ensemble_scheduling.step[{at}] (`{}`): {error}", step.model_name)
            })?;
        }
        Ok(())
    }
}

impl StepManifest {
    fn validate(&self) -> Result<(), String> {
        if self.output_map.is_empty() && self.result.is_none() {
            return Err("output_map is empty, and there is no `result`: name what the chain uses".into());
        }
        within("model_version", self.model_version, -1, i64::MAX)?;
        for (input, mapped) in &self.input_map {
            if let MappedInput::Changed(changed) = mapped {
                changed.validate().map_err(|error| format!("input_map[`{input}`].{error}"))?;
            }
        }
        Ok(())
    }
}

impl ChangedInput {
    fn validate(&self) -> Result<(), String> {
        let is_changed =
            self.scale.is_some() || self.offset.is_some() || self.window.is_some() || self.reshape.is_some();
        if self.crop.is_some() && is_changed {
            return Err("crop cuts parts out of an image: `scale`, `offset`, `window` and `reshape` are for tensors, so leave \
                        them out"
                .into());
        }
        if let Some(turn) = self.crop.as_ref().and_then(|crop| crop.turn_when.as_ref()) {
            within("crop.turn_when.threshold", turn.threshold, 0.0, 1.0)?;
        }
        within("scale", self.scale, -MOST_LEVEL, MOST_LEVEL)?;
        within("offset", self.offset, -MOST_LEVEL, MOST_LEVEL)?;
        if let Some(window) = &self.window {
            within("window.axis", Some(window.axis), 0, MOST_AXES - 1)?;
            within("window.size", Some(window.size), 1, MOST_WINDOW)?;
            within("window.hop", window.hop, 1, window.size)?;
            within("window.initial", window.initial, -MOST_LEVEL, MOST_LEVEL)?;
        }
        match &self.reshape {
            Some(shape) if shape.len() > MOST_AXES => {
                Err(format!("reshape has {} dimensions: expected at most {MOST_AXES}", shape.len()))
            }
            Some(shape) if shape.iter().any(|dim| !matches!(dim, -1 | 1..=0x7fff_ffff)) => Err(format!(
                "reshape is {shape:?}: a dimension is a length, or -1 for one that follows from the others"
            )),
            Some(shape) if shape.iter().filter(|dim| **dim == -1).count() > 1 => {
                Err(format!("reshape is {shape:?}: at most one dimension may be -1"))
            }
            _ => Ok(()),
        }
    }
}
