//! Which sequence a request is a step of: the conversation's own, one of several that it names, or one that is named
//! over HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::engine::{Job, Queue, Sequence, Step};
use crate::model::Tensor;
use crate::wire::error::shorten;
use crate::wire::{Code, RequestError, SequenceParameters};

type JobSequence = Arc<Sequence<Job>>;

/// How a model's sequences begin, and how many there may be.
#[derive(Debug)]
pub struct SequenceRules {
    pub initial: Arc<Vec<Tensor>>,
    pub most: usize,
    pub idle: Duration,
    pub queue: Queue,
}

impl SequenceRules {
    fn begin(&self) -> JobSequence {
        Arc::new(Sequence::new(self.initial.clone()))
    }

    fn step(&self, sequence: JobSequence, restart: bool, last: bool) -> Step {
        Step { sequence, queue: self.queue.clone(), restart, last }
    }
}

/// The sequences of one conversation. Nobody else can reach them.
#[derive(Debug, Default)]
pub struct ConversationSequences {
    own: Option<JobSequence>,
    named: BTreeMap<String, JobSequence>,
}

impl ConversationSequences {
    pub fn step(
        &mut self,
        parameters: SequenceParameters,
        rules: &SequenceRules,
    ) -> Result<Step, RequestError> {
        let SequenceParameters { id, start, end } = parameters;
        let Some(id) = id else {
            let sequence = self.own.get_or_insert_with(|| rules.begin()).clone();
            return Ok(rules.step(sequence, start, end));
        };
        let sequence = match self.named.get(&id) {
            Some(sequence) => sequence.clone(),
            None if !start => return Err(not_begun(&id)),
            None if self.named.len() >= rules.most => return Err(too_many(rules.most)),
            None => rules.begin(),
        };
        if end {
            self.named.remove(&id);
        } else {
            self.named.insert(id, sequence.clone());
        }
        Ok(rules.step(sequence, start, end))
    }
}

/// A model's sequences over HTTP, where there is no conversation that could end: they are forgotten when no step comes.
#[derive(Debug)]
pub struct SharedSequences {
    clock: Clock,
    named: Mutex<BTreeMap<String, (JobSequence, Instant)>>,
}

impl SharedSequences {
    pub fn new(clock: Clock) -> SharedSequences {
        SharedSequences { clock, named: Mutex::default() }
    }

    /// Without an id a request is a sequence of one step.
    pub fn step(&self, parameters: SequenceParameters, rules: &SequenceRules) -> Result<Step, RequestError> {
        let SequenceParameters { id, start, end } = parameters;
        let Some(id) = id else {
            return Ok(rules.step(rules.begin(), true, true));
        };
        let now = self.clock.now();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive =
            |sequence: &Sequence<Job>, used: Instant| !sequence.is_idle() || now < used + rules.idle;
        let known = named.remove(&id).filter(|(sequence, used)| is_alive(sequence, *used));
        let sequence = match known {
            Some((sequence, _)) => sequence,
            None if !start => return Err(not_begun(&id)),
            None => {
                if named.len() >= rules.most {
                    named.retain(|_, (sequence, used)| is_alive(sequence, *used));
                }
                if named.len() >= rules.most {
                    return Err(too_many(rules.most));
                }
                rules.begin()
            }
        };
        if !end {
            named.insert(id, (sequence.clone(), now));
        }
        Ok(rules.step(sequence, start, end))
    }
}

fn not_begun(id: &str) -> RequestError {
    RequestError::invalid(format!(
        "sequence `{}` has not begun, or was forgotten: begin it with the parameter sequence_start",
        shorten(id)
    ))
}

fn too_many(most: usize) -> RequestError {
    RequestError::new(
        Code::Overloaded,
        format!("there are {most} sequences already: end one with the parameter sequence_end"),
    )
}
