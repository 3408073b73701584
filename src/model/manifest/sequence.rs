//! Models that keep a state from one request to the next.

use serde::Deserialize;

use super::checks::{MOST_AXES, within};

/// Sequences at the same time; each keeps a state in memory.
const MOST_SEQUENCES: usize = 1 << 20;
/// Thirty days, in microseconds.
const MOST_IDLE: u64 = 30 * 24 * 3600 * 1_000_000;

/// The part of Triton's `sequence_batching` that applies here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceManifest {
    /// The states, at least one.
    pub states: Vec<StateManifest>,
    /// The most sequences at the same time: over HTTP in all, and in each conversation. Default: 1,024.
    #[serde(default = "max_sequences")]
    pub max_sequences: usize,
    /// A sequence over HTTP is forgotten after this time without a step, in microseconds. Default: 60 s.
    #[serde(default = "max_sequence_idle")]
    pub max_sequence_idle_microseconds: u64,
}

fn max_sequences() -> usize {
    1024
}

fn max_sequence_idle() -> u64 {
    60_000_000
}

/// An output whose value is an input of the next step. Clients see neither of the two.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateManifest {
    /// The name of the input that takes the state.
    pub input: String,
    /// The name of the output that gives the next state.
    pub output: String,
    /// The state at the start of a sequence: one number for all elements, or nested lists. Default: 0.
    #[serde(default)]
    pub initial: Option<serde_json::Value>,
    /// The axis along which the states of several sequences can be joined into a batch. Default: they are not joined.
    #[serde(default)]
    pub batch_axis: Option<usize>,
}

impl SequenceManifest {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.states.is_empty() {
            return Err("sequence.states is empty: name the inputs and outputs that carry the state".into());
        }
        if self.max_sequences == 0 {
            return Err("sequence.max_sequences is 0, so no sequence could start: expected at least 1".into());
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
