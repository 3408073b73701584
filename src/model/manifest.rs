//! `model.json`: what a user may say about a model. Every field is optional; what is not said comes
//! from the ONNX file. Field names are Triton's model configuration wherever it has them. A field
//! that nobody knows is an error that names the nearest one, never ignored.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::signature::nearest;
use super::tensor::Datatype;

/// The content of a `model.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// The name in paths and replies. Default: the folder's (or the file's) name.
    pub name: Option<String>,
    /// The version in paths and replies. Default: `"1"`.
    pub version: Option<String>,
    /// The ONNX file, relative to the folder. Default: `model.onnx`.
    pub file: Option<String>,
    /// The most rows a request may bring along the first axis, which declares that axis a batch of
    /// independent rows. 0 or absent: nothing is declared.
    pub max_batch_size: usize,
    /// Read and checked; without effect until requests are gathered into batches, and told so at load.
    pub dynamic_batching: Option<DynamicBatching>,
    pub instance_group: InstanceGroup,
    pub inputs: Vec<InputManifest>,
    pub outputs: Vec<OutputManifest>,
    /// Inputs that always get the same value (a sample rate, say). They leave the signature.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Runs on zeros before the model is called ready. Default: 1.
    pub warmup: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DynamicBatching {
    /// How long a batch may wait to be filled.
    pub max_queue_delay_microseconds: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceGroup {
    /// Workers of this model, each with a state of its own. Default: the machine's cores.
    pub count: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputManifest {
    pub name: String,
    /// Must be what the file says; here for the reader, and checked.
    #[serde(default, deserialize_with = "datatype")]
    pub datatype: Option<Datatype>,
    /// Narrows the file's shape: -1 leaves a dimension open, a number fixes it.
    pub shape: Option<Vec<i64>>,
    /// The input also takes JPEG and PNG files, made into its tensor as this says.
    pub image: Option<ImageInput>,
    /// The input also takes text, made into tokens as this says.
    pub text: Option<TextInput>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputManifest {
    pub name: String,
    /// Must be what the file says; here for the reader, and checked.
    #[serde(default, deserialize_with = "datatype")]
    pub datatype: Option<Datatype>,
    /// One vector for each row of `[batch, sequence, hidden]`: answered as `[batch, hidden]`.
    pub pooling: Option<Pooling>,
    /// Makes each vector of the last axis one of length 1, after pooling.
    pub normalize: Option<Normalize>,
    /// Applied along the last axis before the output is answered.
    pub activation: Option<Activation>,
    /// A file beside the manifest, one label a line, in the order of the last axis.
    pub labels: Option<String>,
    /// Answer the k best classes instead of the tensor, unless a request says otherwise.
    pub classification: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    Softmax,
    Sigmoid,
}

/// How a sequence of vectors becomes one. Only what the attention mask leaves takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    Mean,
    /// The first token's.
    Cls,
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalize {
    /// By the Euclidean length.
    L2,
}

/// How text becomes the token ids of the input that this stands on, and the tensors beside it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextInput {
    /// The file that all libraries of the field read and write. Default: `tokenizer.json`.
    pub tokenizer: String,
    /// The most tokens of a text, special ones included. Default: what the tokenizer's file says, or the
    /// input's own fixed length, or 512.
    pub max_length: Option<usize>,
    /// Whether a longer text is cut (the default) or refused.
    pub truncation: bool,
    /// Default: what the tokenizer's file says, or the longest.
    pub padding: Option<Padding>,
    /// The input that gets 1 for a token and 0 for padding. Default: `attention_mask`, if there is one.
    pub attention_mask: Option<String>,
    /// The input that gets each token's segment. Default: `token_type_ids`, if there is one.
    pub token_type_ids: Option<String>,
}

impl Default for TextInput {
    fn default() -> Self {
        TextInput {
            tokenizer: "tokenizer.json".into(),
            max_length: None,
            truncation: true,
            padding: None,
            attention_mask: None,
            token_type_ids: None,
        }
    }
}

/// To how many tokens the texts of a request are filled up, all to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Padding {
    Word(PaddingWord),
    /// So many, or the longest if that has more.
    Length(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingWord {
    /// As many as the longest text of the request has.
    Longest,
    /// `max_length`, always.
    MaxLength,
}

/// How an image file becomes a tensor: value = (pixel × scale − mean) ÷ std, pixels 0–255.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInput {
    #[serde(default)]
    pub color: Color,
    #[serde(default)]
    pub resize: Resize,
    #[serde(default)]
    pub filter: Filter,
    /// What shows where the image does not reach (`contain`) or is transparent.
    #[serde(default)]
    pub background: Background,
    /// Default 1: pixels stay 0–255.
    #[serde(default = "one")]
    pub scale: f32,
    /// One value, or one a channel. Default 0.
    #[serde(default)]
    pub mean: Vec<f32>,
    /// One value, or one a channel. Default 1.
    #[serde(default)]
    pub std: Vec<f32>,
    #[serde(default)]
    pub layout: Layout,
}

fn one() -> f32 {
    1.0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Luma by ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B), as OpenCV and Pillow make it.
    Gray,
    #[default]
    Rgb,
    Bgr,
}

impl Color {
    pub fn channels(self) -> usize {
        match self {
            Color::Gray => 1,
            Color::Rgb | Color::Bgr => 3,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// The whole image, aspect kept, centred on the background.
    Contain,
    /// Filled, aspect kept, what stands over cut off evenly.
    Cover,
    /// Filled, aspect not kept.
    #[default]
    Stretch,
}

/// Resampling. All but `nearest` widen with the reduction (antialiasing), as Pillow's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    Nearest,
    #[default]
    Bilinear,
    Bicubic,
    Lanczos3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Background {
    /// One level for all channels, 0–255.
    Level(u8),
    /// Red, green, blue, 0–255.
    Rgb([u8; 3]),
    /// The mean colour of the image's own border, so that padding adds no edge.
    Edge(EdgeWord),
}

impl Default for Background {
    fn default() -> Self {
        Background::Level(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeWord {
    Edge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Layout {
    #[default]
    #[serde(rename = "NCHW")]
    Nchw,
    #[serde(rename = "NHWC")]
    Nhwc,
}

fn datatype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Datatype>, D::Error> {
    let name = String::deserialize(deserializer)?;
    Datatype::from_name(&name).map(Some).ok_or_else(|| {
        let known = Datatype::ALL.map(Datatype::name).join(", ");
        serde::de::Error::custom(format!("unknown datatype `{name}`, expected one of {known}"))
    })
}

/// Why a `model.json` was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ManifestError {
    pub path: String,
    pub message: String,
}

impl Manifest {
    pub fn read(path: &Path) -> Result<Manifest, ManifestError> {
        let failed = |message: String| ManifestError { path: path.display().to_string(), message };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Manifest::parse(&text).map_err(failed)
    }

    pub fn parse(text: &str) -> Result<Manifest, String> {
        let manifest: Manifest = serde_json::from_str(text).map_err(|error| explain(&error.to_string()))?;
        manifest.validate()?;
        Ok(manifest)
    }

    pub fn input(&self, name: &str) -> Option<&InputManifest> {
        self.inputs.iter().find(|input| input.name == name)
    }

    pub fn output(&self, name: &str) -> Option<&OutputManifest> {
        self.outputs.iter().find(|output| output.name == name)
    }

    /// What serde's types cannot say.
    fn validate(&self) -> Result<(), String> {
        if let Some(name) = &self.name {
            check_name("name", name)?;
        }
        if let Some(version) = &self.version {
            check_name("version", version)?;
        }
        if self.instance_group.count == Some(0) {
            return Err("instance_group.count is 0: a model needs at least one worker".into());
        }
        for input in &self.inputs {
            if let Some(bad) = input.shape.iter().flatten().find(|dim| **dim < -1 || **dim == 0) {
                return Err(format!(
                    "inputs[`{}`].shape holds {bad}: a dimension is -1 (open) or at least 1",
                    input.name
                ));
            }
            if let Some(image) = &input.image {
                image.validate().map_err(|error| format!("inputs[`{}`].image.{error}", input.name))?;
            }
            if let Some(text) = &input.text {
                if input.image.is_some() {
                    return Err(format!("inputs[`{}`] has both `image` and `text`: give one", input.name));
                }
                text.validate().map_err(|error| format!("inputs[`{}`].text.{error}", input.name))?;
            }
        }
        for output in &self.outputs {
            if output.classification == Some(0) {
                return Err(format!(
                    "outputs[`{}`].classification is 0: leave it out to answer the tensor",
                    output.name
                ));
            }
        }
        Ok(())
    }
}

impl ImageInput {
    fn validate(&self) -> Result<(), String> {
        let channels = self.color.channels();
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if !matches!(values.len(), 0 | 1) && values.len() != channels {
                return Err(format!(
                    "{field} has {} values: give one, or one a channel ({channels})",
                    values.len()
                ));
            }
        }
        if self.std.contains(&0.0) {
            return Err("std holds 0, and values are divided by it".into());
        }
        Ok(())
    }
}

impl TextInput {
    fn validate(&self) -> Result<(), String> {
        if self.max_length == Some(0) {
            return Err("max_length is 0: expected a number of tokens".into());
        }
        match (self.padding, self.max_length) {
            (Some(Padding::Length(0)), _) => {
                Err("padding is 0: expected `longest`, `max_length` or a number of tokens".into())
            }
            (Some(Padding::Length(length)), Some(most)) if length > most => {
                Err(format!("padding is {length}, but max_length is {most}"))
            }
            _ => Ok(()),
        }
    }
}

/// A name becomes part of a path, so it may hold only what a path segment holds unescaped.
pub fn check_name(field: &str, name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(fine) {
        return Err(format!("{field} is `{name}`: use letters, digits, `-`, `_` and `.`"));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_names_the_nearest_known_one() {
        let error = Manifest::parse(r#"{"nam": "x", "optputs": []}"#).unwrap_err();
        assert!(error.starts_with("unknown field `nam`"), "{error}");
        assert!(error.ends_with("did you mean `name`?"), "{error}");
        let error =
            Manifest::parse(r#"{"inputs": [{"name": "x", "image": {"colour": "rgb"}}]}"#).unwrap_err();
        assert!(error.contains("did you mean `color`?"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused_with_what_to_do() {
        for (text, part) in [
            (r#"{"inputs":[{"name":"x","shape":[0]}]}"#, "at least 1"),
            (r#"{"inputs":[{"name":"x","datatype":"FLOAT"}]}"#, "unknown datatype `FLOAT`"),
            (r#"{"inputs":[{"name":"x","image":{"mean":[1,2]}}]}"#, "one a channel (3)"),
            (r#"{"inputs":[{"name":"x","image":{"std":[0]}}]}"#, "divided by it"),
            (r#"{"inputs":[{"name":"x","image":{"color":"grey"}}]}"#, "did you mean `gray`"),
            (r#"{"inputs":[{"name":"x","text":{"max_length":0}}]}"#, "expected a number of tokens"),
            (r#"{"inputs":[{"name":"x","text":{"max_length":8,"padding":9}}]}"#, "but max_length is 8"),
            (r#"{"inputs":[{"name":"x","text":{},"image":{}}]}"#, "both `image` and `text`"),
            (r#"{"outputs":[{"name":"x","pooling":"men"}]}"#, "did you mean `mean`"),
            (r#"{"instance_group":{"count":0}}"#, "at least one worker"),
            (r#"{"name":"a/b"}"#, "letters, digits"),
        ] {
            let error = Manifest::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_background_is_a_level_a_colour_or_the_word_edge() {
        for (text, background) in [
            ("7", Background::Level(7)),
            ("[1,2,3]", Background::Rgb([1, 2, 3])),
            ("\"edge\"", Background::Edge(EdgeWord::Edge)),
        ] {
            let text = format!(r#"{{"inputs":[{{"name":"x","image":{{"background":{text}}}}}]}}"#);
            let manifest = Manifest::parse(&text).unwrap();
            assert_eq!(manifest.inputs[0].image.as_ref().unwrap().background, background);
        }
    }
}
