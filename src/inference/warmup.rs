//! The trial runs of a model that was loaded. They show whether the model can answer at all, and with which lengths of its
//! open dimensions, before a client finds out.
//!
//! A model that fails on every sample is not served. One that fails only on zeros, or only with some lengths, is served
//! with a note for its owner. So is one that refuses the values of every sample, if it has inputs of integers or of texts:
//! such inputs can be shapes, axes, places or names of categories, and no sample can guess them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::engine::executor::Workload;
use crate::error::{Code, RequestError};
use crate::memory::{Budget, Share};
use crate::model::{Datatype, TensorMetadata};
use crate::onnx::{Fill, Item};
use crate::panics::panic_message;

/// The lengths that are tried for open dimensions, until two of them work. 1 is too small for some models, and others
/// need a multiple of a power of two.
const LENGTHS: [usize; 4] = [1, 2, 16, 128];

/// What the trial runs have shown.
#[derive(Debug, Default)]
pub struct WarmUp {
    /// The time of each run on the first sample that works. Empty when `warmup` in model.json is 0.
    pub times: Vec<Duration>,
    /// What the owner of the model should know: which samples failed.
    pub notes: Vec<String>,
    /// The first sample that works; `None` when nothing was tried.
    pub sample: Option<Sample>,
}

/// A sample that works.
#[derive(Debug)]
pub struct Sample {
    /// The family of plans that it belongs to.
    pub family: usize,
    /// Its tensors.
    pub item: Item,
    /// What it is, for the report of `onnxd check`: `zeros`, or the sentence that the report ends with.
    pub name: &'static str,
}

/// Runs samples through each family of plans, and the first that works `runs` times. With 0 runs nothing is tried.
///
/// Errors: every sample failed; the message is that of the first one.
pub fn warm_up(workload: &Workload, runs: u32) -> Result<WarmUp, String> {
    let mut result = WarmUp::default();
    if runs == 0 {
        return Ok(result);
    }
    let mut error = None;
    for family in 0..workload.session.families() {
        match prove(workload, family, &mut result.notes) {
            Ok(sample) if result.sample.is_none() => {
                result.times = timed(workload, &sample, runs).map_err(|error| error.message)?;
                result.sample = Some(sample);
            }
            Ok(_) => {}
            Err(cause) if cause.code == Code::InvalidRequest && takes_names_or_integers(workload) => {
                result.notes.push(format!(
                    "no trial run: the model refuses the values of every sample: {}",
                    cause.message
                ));
            }
            Err(cause) => error = error.or(Some(cause.message)),
        }
    }
    // Several families of plans can have the same to say.
    result.notes.dedup();
    match error {
        Some(error) if result.times.is_empty() => Err(error),
        Some(error) => {
            result.notes.push(format!("some shapes that the model admits fail on every sample: {error}"));
            Ok(result)
        }
        None => Ok(result),
    }
}

/// Tries samples of a family until one works; with open dimensions, until samples of two lengths work. Returns the first
/// sample that worked.
fn prove(workload: &Workload, family: usize, notes: &mut Vec<String>) -> Result<Sample, RequestError> {
    let session = &workload.session;
    let lengths: &[usize] = match session.is_open(family) && !session.signature().has_state {
        true if !workload.preprocessor.takes_text() => &LENGTHS,
        _ => &LENGTHS[..1],
    };
    let (mut first, mut works, mut error) = (None, 0, None);
    for length in lengths {
        match fitting(workload, family, *length, notes, works == 0) {
            Ok(sample) => {
                first = first.or(Some(sample));
                works += 1;
                if works == 2 {
                    break;
                }
            }
            Err(cause) => {
                let message = format!("{} (open dimensions of length {length})", cause.message);
                error = worse(error, RequestError { message, ..cause });
            }
        }
    }
    match (first, error) {
        (Some(sample), Some(error)) if works < 2 => {
            notes.push(format!("only one length of the open dimensions works: {}", error.message));
            Ok(sample)
        }
        (Some(sample), _) => Ok(sample),
        (None, error) => Err(error.expect("every sample failed")),
    }
}

/// The error that says more about the model: the first that is not about the values of the sample, else the first.
fn worse(first: Option<RequestError>, next: RequestError) -> Option<RequestError> {
    match first {
        Some(first) if first.code != Code::InvalidRequest || next.code == Code::InvalidRequest => Some(first),
        _ => Some(next),
    }
}

/// Whether an input has integers, which can be parameters of the model's operators, or texts, which can be names that
/// the model knows.
fn takes_names_or_integers(workload: &Workload) -> bool {
    let can_be = |datatype: Datatype| !datatype.is_float() && datatype != Datatype::Bool;
    workload.session.signature().inputs.iter().any(|input| can_be(input.datatype))
}

/// Whether the elements of an input are texts.
fn is_text(input: &TensorMetadata) -> bool {
    input.datatype == Datatype::Bytes
}

/// The values of samples and their names, in the order in which they are tried. A sentence says more about a model of
/// texts than an empty text.
fn fills(workload: &Workload) -> [(Fill, &'static str); 4] {
    let inputs = &workload.session.signature().inputs;
    let named = |fill: Fill| (fill, fill.name());
    match inputs.iter().any(is_text) {
        true => [(Fill::Ramp, "a sentence"), named(Fill::Zeros), named(Fill::Ones), named(Fill::Random)],
        false => Fill::ALL.map(named),
    }
}

/// The first sample with this length that works. Whether others failed is noted if `is_first`.
fn fitting(
    workload: &Workload,
    family: usize,
    length: usize,
    notes: &mut Vec<String>,
    is_first: bool,
) -> Result<Sample, RequestError> {
    let takes_text = workload.preprocessor.takes_text();
    let mut error = None;
    let fills = fills(workload);
    for (fill, name) in fills {
        let item = sample(workload, family, fill, length)?;
        match run(workload, family, &item) {
            Ok(_) => {
                if let Some(RequestError { message, .. }) = error.filter(|_| is_first) {
                    notes.push(format!("a run on {} fails, one on {name} works: {message}", fills[0].1));
                }
                let name = if takes_text { "the sentence below" } else { name };
                return Ok(Sample { family, item, name });
            }
            Err(cause) => error = worse(error, cause),
        }
        if takes_text {
            // The sample is a sentence, whatever the values are.
            break;
        }
    }
    Err(error.expect("there is a sample at least"))
}

/// The times of several runs.
fn timed(workload: &Workload, sample: &Sample, runs: u32) -> Result<Vec<Duration>, RequestError> {
    (0..runs).map(|_| run(workload, sample.family, &sample.item)).collect()
}

/// One run in a new runner, because a runner may not be used again after an error.
fn run(workload: &Workload, family: usize, item: &Item) -> Result<Duration, RequestError> {
    let mut runner = workload.session.runner();
    let begun = Instant::now();
    let mut memory = Share::none(&Budget::unbounded());
    match catch_unwind(AssertUnwindSafe(|| runner.run(family, item, &mut memory))) {
        Ok(Ok(_)) => Ok(begun.elapsed()),
        Ok(Err(error)) => Err(error),
        Err(panic) => Err(RequestError::new(Code::InferenceFailed, panic_message(panic.as_ref()))),
    }
}

/// The inputs for a trial run: numbers, and a sentence for an input that takes text.
///
/// Errors: an input would be larger than a request may bring, or the sentence cannot be encoded.
pub fn sample(workload: &Workload, family: usize, fill: Fill, length: usize) -> Result<Item, RequestError> {
    let sample = workload.session.sample(family, fill, length);
    let Item { tensors, states } = sample.map_err(|message| RequestError::new(Code::TooLarge, message))?;
    let tensors = workload.preprocessor.sample(tensors, workload.session.signature())?;
    Ok(Item { tensors, states })
}
