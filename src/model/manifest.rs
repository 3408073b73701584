//! `model.json`: what a user may say about a model. Every field is optional; what is not said comes
//! from the ONNX file. Field names are Triton's model configuration wherever it has them. A field
//! that nobody knows is an error that names the nearest one, never ignored.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::reading;
use super::signature::nearest;
use super::tensor::Datatype;
use crate::plain;

mod validate;

/// Bytes of a `model.json`. The largest of them hold a state's first values, or a parameter's.
const MOST_BYTES: u64 = 64 << 20;

/// The content of a `model.json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// The name in paths and replies. Default: the folder's (or the file's) name.
    pub name: Option<String>,
    /// The version in paths and replies. Default: `"1"`.
    pub version: Option<String>,
    /// The ONNX file, relative to the folder (of the archive, when there is one). Default: `model.onnx`.
    pub file: Option<String>,
    /// Where the model is fetched from: an ONNX file, or a .tar.gz of a model's folder.
    pub url: Option<String>,
    /// The SHA-256 of what is there, 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// Which of the versions are served, where they are folders. Default: all of them.
    pub version_policy: VersionPolicy,
    /// The most rows a request may bring along the first axis, which declares that axis a batch of
    /// independent rows. 0 or absent: nothing is declared.
    pub max_batch_size: usize,
    /// How requests are gathered into batches, where they pay.
    pub dynamic_batching: DynamicBatching,
    /// The shapes that come, when they are few: each has a plan of its own, and no other is taken. An entry gives
    /// shapes by input name, as `inputs[].shape` does.
    pub shapes: Vec<BTreeMap<String, Vec<i64>>>,
    /// The model keeps a state from request to request.
    pub sequence: Option<SequenceManifest>,
    pub instance_group: InstanceGroup,
    /// Threads that work on one request, where that was measured to be faster. Default: 1. The workers are then as many
    /// as the cores have room for, unless `instance_group` says.
    pub intra_op_threads: Option<usize>,
    pub inputs: Vec<InputManifest>,
    pub outputs: Vec<OutputManifest>,
    /// Inputs that always get the same value (a sample rate, say). They leave the signature.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Runs on zeros before the model is called ready. Default: 1.
    pub warmup: Option<u32>,
}

/// Triton's, but that all is the default: what lies there is served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum VersionPolicy {
    All {},
    /// Those with the highest numbers.
    Latest {
        num_versions: usize,
    },
    Specific {
        versions: Vec<u64>,
    },
}

impl Default for VersionPolicy {
    fn default() -> Self {
        VersionPolicy::All {}
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DynamicBatching {
    /// Sizes of batches that are used as they are. Default: powers of two up to `max_batch_size` are measured, and
    /// those are used that make a row cheaper. `[1]` is no batches.
    pub preferred_batch_size: Option<Vec<usize>>,
    /// How long a request may wait for others to fill its batch, while others come. Default: 0.
    pub max_queue_delay_microseconds: u64,
}

/// Triton's `sequence_batching`, as far as it means something here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceManifest {
    pub states: Vec<StateManifest>,
    /// Sequences by `sequence_id` at once, over HTTP; and in each conversation. Default: 1,024.
    #[serde(default = "max_sequences")]
    pub max_sequences: usize,
    /// After so long without a step a sequence over HTTP is forgotten. Default: 60 s.
    #[serde(default = "max_sequence_idle")]
    pub max_sequence_idle_microseconds: u64,
}

fn max_sequences() -> usize {
    1024
}

fn max_sequence_idle() -> u64 {
    60_000_000
}

/// An output that is the next step's input. Neither is seen by clients.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateManifest {
    pub input: String,
    pub output: String,
    /// What a sequence begins with: a number for all of it, or nested lists. Default: 0.
    #[serde(default)]
    pub initial: Option<serde_json::Value>,
    /// The axis along which states of different sequences may be put together, to run them as a batch. Default:
    /// they are not.
    #[serde(default)]
    pub batch_axis: Option<usize>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceGroup {
    /// Workers of this model, each with a state of its own. Default: the machine's cores.
    pub count: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
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
    /// The input also takes sound, and a stream of it.
    pub audio: Option<AudioInput>,
    /// The input also takes text, made into tokens as this says.
    pub text: Option<TextInput>,
}

/// How sound becomes tensors. Lengths are in samples.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioInput {
    #[serde(default)]
    pub encoding: Encoding,
    /// In Hz; for the reader and `onnxd check`, sound is not converted.
    pub sample_rate: Option<u32>,
    /// New samples that a window begins with. Default: what the tensor holds besides `context`.
    pub window: Option<usize>,
    /// From one window's begin to the next one's. Default: `window`.
    pub hop: Option<usize>,
    /// Samples before the window that go in front of it; zeros at the stream's begin. Default: 0.
    #[serde(default)]
    pub context: usize,
}

/// One channel, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// 16 bits; ÷ 32768 where the tensor is of floats.
    #[default]
    PcmS16le,
    /// 32-bit floats, from −1 to 1.
    PcmF32le,
}

impl Encoding {
    /// Bytes of a sample.
    pub fn size(self) -> usize {
        match self {
            Encoding::PcmS16le => 2,
            Encoding::PcmF32le => 4,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
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
        let text = reading::read_text(path, MOST_BYTES).map_err(failed)?;
        Manifest::parse(&text).map_err(failed)
    }

    pub fn parse(text: &str) -> Result<Manifest, String> {
        let manifest: Manifest =
            serde_json::from_str(plain::without_mark(text)).map_err(|error| explain(&error.to_string()))?;
        manifest.validate()?;
        Ok(manifest)
    }

    pub fn input(&self, name: &str) -> Option<&InputManifest> {
        self.inputs.iter().find(|input| input.name == name)
    }

    pub fn output(&self, name: &str) -> Option<&OutputManifest> {
        self.outputs.iter().find(|output| output.name == name)
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

pub fn check_sha256(field: &str, digits: &str) -> Result<(), String> {
    if digits.len() == 64 && digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(format!("{field} is `{digits}`: expected 64 hexadecimal digits, as `sha256sum FILE` prints them"))
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
