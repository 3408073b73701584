//! What the types of `model.json` cannot say. Every number has a bound, which the error names: a server that is running
//! loads what somebody wrote by hand, and must not run out of memory or threads over it.

use std::fmt::Display;

use super::{
    AudioInput, ImageInput, Manifest, Padding, SequenceManifest, TextInput, VersionPolicy, check_name,
    check_sha256,
};

/// Workers of a model: more than the cores of any machine that this is made for.
const MOST_WORKERS: usize = 1024;
/// Threads inside a run.
const MOST_THREADS: usize = 256;
/// Runs before a model is called ready.
const MOST_WARM_UPS: u32 = 10_000;
/// A length in a shape: what 32 bits with a sign hold, as in most frameworks.
const MOST_LENGTH: i64 = i32::MAX as i64;
/// Entries of `shapes`, each of which takes the time and the memory of a plan.
const MOST_SHAPES: usize = 256;
/// Rows of a request.
const MOST_ROWS: usize = 1 << 16;
/// An hour: no request waits longer for others.
const MOST_DELAY: u64 = 3_600_000_000;
/// Sequences at once, each of which keeps a state.
const MOST_SEQUENCES: usize = 1 << 20;
/// Thirty days.
const MOST_IDLE: u64 = 30 * 24 * 3600 * 1_000_000;
/// Dimensions of a tensor.
const MOST_AXES: usize = 16;
/// Samples of a window: six minutes at 44.1 kHz.
const MOST_SAMPLES: usize = 1 << 24;
/// Hz.
const MOST_SAMPLE_RATE: u32 = 10_000_000;
/// Tokens of a text.
const MOST_TOKENS: usize = 1 << 20;
/// Classes of an answer.
const MOST_CLASSES: usize = 1 << 20;
/// What pixels are multiplied and divided by, and moved by.
const MOST_LEVEL: f32 = 1e6;
/// Version numbers that a policy may name or count.
const MOST_VERSIONS: usize = 1 << 16;
const MOST_VERSION: u64 = i64::MAX as u64;

/// Refuses a number that is not from `least` to `most`.
fn within<T: PartialOrd + Display>(field: &str, value: Option<T>, least: T, most: T) -> Result<(), String> {
    match value.filter(|value| *value < least || *value > most) {
        Some(wrong) => Err(format!("{field} is {wrong}: expected {least} to {most}")),
        None => Ok(()),
    }
}

fn check_shape(field: &str, shape: &[i64], rule: &str) -> Result<(), String> {
    if shape.len() > MOST_AXES {
        return Err(format!("{field} has {} dimensions: expected at most {MOST_AXES}", shape.len()));
    }
    match shape.iter().find(|dim| !matches!(**dim, -1 | 1..=MOST_LENGTH)) {
        Some(wrong) => Err(format!("{field} holds {wrong}: {rule}, and at most {MOST_LENGTH}")),
        None => Ok(()),
    }
}

impl VersionPolicy {
    fn validate(&self) -> Result<(), String> {
        match self {
            VersionPolicy::All {} => Ok(()),
            VersionPolicy::Latest { num_versions: 0 } => {
                Err("version_policy lets no version be served".into())
            }
            VersionPolicy::Latest { num_versions } => {
                within("version_policy.latest.num_versions", Some(*num_versions), 1, MOST_VERSIONS)
            }
            VersionPolicy::Specific { versions } if versions.is_empty() => {
                Err("version_policy lets no version be served".into())
            }
            VersionPolicy::Specific { versions } => {
                let highest = versions.iter().max().copied();
                within("version_policy.specific.versions", highest, 0, MOST_VERSION)
            }
        }
    }
}

impl Manifest {
    /// What serde's types cannot say.
    pub(super) fn validate(&self) -> Result<(), String> {
        if let Some(name) = &self.name {
            check_name("name", name)?;
        }
        if let Some(version) = &self.version {
            check_name("version", version)?;
        }
        match (&self.url, &self.sha256) {
            (Some(_), None) => {
                return Err(
                    "url needs sha256 beside it, so that what is fetched is known to be what was meant: \
                            `sha256sum FILE` prints it"
                        .into(),
                );
            }
            (None, Some(_)) => {
                return Err(
                    "sha256 says what url must give, but there is no url: add it, or leave sha256 out".into(),
                );
            }
            (_, Some(sha256)) => check_sha256("sha256", sha256)?,
            (None, None) => {}
        }
        if self.instance_group.count == Some(0) {
            return Err("instance_group.count is 0: a model needs at least one worker".into());
        }
        within("instance_group.count", self.instance_group.count, 1, MOST_WORKERS)?;
        within("intra_op_threads", self.intra_op_threads, 0, MOST_THREADS)?;
        within("warmup", self.warmup, 0, MOST_WARM_UPS)?;
        self.version_policy.validate()?;
        self.validate_batching()?;
        self.validate_shapes()?;
        if let Some(sequence) = &self.sequence {
            sequence.validate()?;
        }
        for input in &self.inputs {
            if let Some(shape) = &input.shape {
                let field = format!("inputs[`{}`].shape", input.name);
                check_shape(&field, shape, "a dimension is -1 (open) or at least 1")?;
            }
            if let Some(image) = &input.image {
                image.validate().map_err(|error| format!("inputs[`{}`].image.{error}", input.name))?;
            }
            if let Some(audio) = &input.audio {
                audio.validate().map_err(|error| format!("inputs[`{}`].audio.{error}", input.name))?;
            }
            if let Some(text) = &input.text {
                text.validate().map_err(|error| format!("inputs[`{}`].text.{error}", input.name))?;
            }
            let kinds = [input.image.is_some(), input.audio.is_some(), input.text.is_some()];
            if kinds.into_iter().filter(|is| *is).count() > 1 {
                return Err(format!(
                    "inputs[`{}`] is more than one of `image`, `audio` and `text`: it can be one",
                    input.name
                ));
            }
        }
        for output in &self.outputs {
            if output.classification == Some(0) {
                return Err(format!(
                    "outputs[`{}`].classification is 0: leave it out to answer the tensor",
                    output.name
                ));
            }
            let field = format!("outputs[`{}`].classification", output.name);
            within(&field, output.classification, 1, MOST_CLASSES)?;
        }
        Ok(())
    }
}

impl Manifest {
    fn validate_batching(&self) -> Result<(), String> {
        let most = self.max_batch_size;
        within("max_batch_size", Some(most), 0, MOST_ROWS)?;
        let delay = self.dynamic_batching.max_queue_delay_microseconds;
        within("dynamic_batching.max_queue_delay_microseconds", Some(delay), 0, MOST_DELAY)?;
        let preferred = self.dynamic_batching.preferred_batch_size.iter().flatten();
        if let Some(wrong) = preferred.clone().find(|rows| **rows == 0 || **rows > most.max(1)) {
            return Err(format!(
                "dynamic_batching.preferred_batch_size holds {wrong}: a batch has 1 to max_batch_size ({most}) rows"
            ));
        }
        if most == 0 && (preferred.count() > 0 || self.dynamic_batching.max_queue_delay_microseconds > 0) {
            return Err(
                "dynamic_batching needs `max_batch_size`, which says that rows are independent".into()
            );
        }
        Ok(())
    }

    fn validate_shapes(&self) -> Result<(), String> {
        if self.shapes.len() > MOST_SHAPES {
            return Err(format!(
                "shapes has {} entries: expected at most {MOST_SHAPES}, for each has a plan",
                self.shapes.len()
            ));
        }
        for (input, shape) in self.shapes.iter().flatten() {
            let field = format!("shapes[`{input}`]");
            check_shape(&field, shape, "a dimension is at least 1, or -1 where rows lie")?;
        }
        Ok(())
    }
}

impl SequenceManifest {
    fn validate(&self) -> Result<(), String> {
        if self.states.is_empty() {
            return Err("sequence.states is empty: name the inputs and outputs that carry the state".into());
        }
        if self.max_sequences == 0 {
            return Err("sequence.max_sequences is 0, which would let none begin".into());
        }
        within("sequence.max_sequences", Some(self.max_sequences), 1, MOST_SEQUENCES)?;
        let idle = self.max_sequence_idle_microseconds;
        within("sequence.max_sequence_idle_microseconds", Some(idle), 0, MOST_IDLE)?;
        for (at, state) in self.states.iter().enumerate() {
            let others = &self.states[..at];
            if others.iter().any(|other| other.input == state.input || other.output == state.output) {
                return Err(format!("sequence.states names `{}` or `{}` twice", state.input, state.output));
            }
            let field = format!("sequence.states[`{}`].batch_axis", state.input);
            within(&field, state.batch_axis, 0, MOST_AXES - 1)?;
        }
        Ok(())
    }
}

impl AudioInput {
    fn validate(&self) -> Result<(), String> {
        for (field, value) in [("window", self.window), ("hop", self.hop)] {
            if value == Some(0) {
                return Err(format!("{field} is 0: it is a number of samples"));
            }
            within(field, value, 1, MOST_SAMPLES)?;
        }
        within("context", Some(self.context), 0, MOST_SAMPLES)?;
        within("sample_rate", self.sample_rate, 1, MOST_SAMPLE_RATE)
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
        for (field, values) in [("scale", &vec![self.scale]), ("mean", &self.mean), ("std", &self.std)] {
            if let Some(wrong) = values.iter().find(|value| !value.is_finite() || value.abs() > MOST_LEVEL) {
                return Err(format!("{field} holds {wrong}: expected -{MOST_LEVEL:e} to {MOST_LEVEL:e}"));
            }
        }
        Ok(())
    }
}

impl TextInput {
    fn validate(&self) -> Result<(), String> {
        if self.max_length == Some(0) {
            return Err("max_length is 0: expected a number of tokens".into());
        }
        within("max_length", self.max_length, 1, MOST_TOKENS)?;
        if let Some(Padding::Length(length @ 1..)) = self.padding {
            within("padding", Some(length), 1, MOST_TOKENS)?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
            (
                r#"{"inputs":[{"name":"x","text":{},"image":{}}]}"#,
                "more than one of `image`, `audio` and `text`",
            ),
            (r#"{"outputs":[{"name":"x","pooling":"men"}]}"#, "did you mean `mean`"),
            (r#"{"instance_group":{"count":0}}"#, "at least one worker"),
            (r#"{"name":"a/b"}"#, "letters, digits"),
            (r#"{"url":"https://example.org/model.onnx"}"#, "`sha256sum FILE` prints it"),
            (r#"{"url":"https://example.org/model.onnx","sha256":"ab"}"#, "64 hexadecimal digits"),
            (r#"{"sha256":"ab"}"#, "there is no url"),
        ] {
            let error = Manifest::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn every_number_has_a_bound_that_the_error_names() {
        for (text, field, most) in [
            (r#"{"instance_group":{"count":100000}}"#, "instance_group.count", "1024"),
            (r#"{"intra_op_threads":100000}"#, "intra_op_threads", "256"),
            (r#"{"warmup":4000000000}"#, "warmup", "10000"),
            (r#"{"max_batch_size":4611686018427387904}"#, "max_batch_size", "65536"),
            (
                r#"{"max_batch_size":2,"dynamic_batching":{"max_queue_delay_microseconds":18446744073709551615}}"#,
                "max_queue_delay_microseconds",
                "3600000000",
            ),
            (
                r#"{"inputs":[{"name":"x","shape":[4611686018427387904,3]}]}"#,
                "inputs[`x`].shape",
                "2147483647",
            ),
            (r#"{"shapes":[{"x":[1,4611686018427387904]}]}"#, "shapes[`x`]", "2147483647"),
            (
                r#"{"sequence":{"states":[{"input":"a","output":"b"}],"max_sequences":99999999}}"#,
                "sequence.max_sequences",
                "1048576",
            ),
            (
                r#"{"sequence":{"states":[{"input":"a","output":"b"}],"max_sequence_idle_microseconds":18446744073709551615}}"#,
                "sequence.max_sequence_idle_microseconds",
                "2592000000000",
            ),
            (
                r#"{"sequence":{"states":[{"input":"a","output":"b","batch_axis":99}]}}"#,
                "sequence.states[`a`].batch_axis",
                "15",
            ),
            (r#"{"inputs":[{"name":"x","audio":{"window":99999999999}}]}"#, "audio.window", "16777216"),
            (r#"{"inputs":[{"name":"x","audio":{"hop":99999999999}}]}"#, "audio.hop", "16777216"),
            (
                r#"{"inputs":[{"name":"x","audio":{"context":18446744073709551615}}]}"#,
                "audio.context",
                "16777216",
            ),
            (r#"{"inputs":[{"name":"x","audio":{"sample_rate":0}}]}"#, "audio.sample_rate", "10000000"),
            (r#"{"inputs":[{"name":"x","text":{"max_length":99999999999}}]}"#, "text.max_length", "1048576"),
            (r#"{"inputs":[{"name":"x","text":{"padding":99999999999}}]}"#, "text.padding", "1048576"),
            (r#"{"inputs":[{"name":"x","image":{"scale":1e39}}]}"#, "image.scale", "1e6"),
            (r#"{"inputs":[{"name":"x","image":{"mean":[1e39]}}]}"#, "image.mean", "1e6"),
            (r#"{"inputs":[{"name":"x","image":{"std":[1e39]}}]}"#, "image.std", "1e6"),
            (
                r#"{"outputs":[{"name":"y","classification":99999999999}]}"#,
                "outputs[`y`].classification",
                "1048576",
            ),
            (r#"{"version_policy":{"latest":{"num_versions":99999999}}}"#, "num_versions", "65536"),
            (
                r#"{"version_policy":{"specific":{"versions":[18446744073709551615]}}}"#,
                "versions",
                "9223372036854775807",
            ),
        ] {
            let error = Manifest::parse(text).unwrap_err();
            assert!(error.contains(field) && error.contains(most), "{text}: {error}");
        }
    }
}
