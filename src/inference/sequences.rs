//! Which sequence a request is a step of: the conversation's own, one of several that it names, or one that is named
//! over HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::engine::{Job, Queue, Sequence, Step};
use crate::error::shorten;
use crate::error::{Code, RequestError};
use crate::model::Tensor;
use crate::wire::SequenceParameters;

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
        Step::new(sequence, self.queue.clone(), restart, last)
    }
}

/// Where a request's sequence is looked for.
#[derive(Debug)]
pub enum Sequences<'c> {
    Conversation(&'c mut ConversationSequences),
    /// Over HTTP: those that all clients share.
    Shared,
}

/// The sequences of one conversation. Nobody else can reach them.
#[derive(Debug, Default)]
pub struct ConversationSequences {
    own: Option<JobSequence>,
    named: BTreeMap<String, JobSequence>,
}

impl ConversationSequences {
    /// Makes the request's step and hands it to `submit`. Only when that has taken it is a sequence begun or ended: a
    /// refused step changes nothing, and may be sent again.
    pub fn step(
        &mut self,
        parameters: SequenceParameters,
        rules: &SequenceRules,
        submit: impl FnOnce(Step) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let SequenceParameters { id, start, end } = parameters;
        let Some(id) = id else {
            let sequence = self.own.get_or_insert_with(|| rules.begin()).clone();
            return submit(rules.step(sequence, start, end));
        };
        let sequence = match self.named.get(&id) {
            Some(sequence) => sequence.clone(),
            None if !start => return Err(not_begun(&id)),
            None if self.named.len() >= rules.most => return Err(too_many(rules.most)),
            None => rules.begin(),
        };
        submit(rules.step(sequence.clone(), start, end))?;
        if end {
            self.named.remove(&id);
        } else {
            self.named.insert(id, sequence);
        }
        Ok(())
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

    /// As [`ConversationSequences::step`]. Without an id a request is a sequence of one step. `submit` must not wait: the
    /// other clients' steps wait for it, so that none comes between a step and what it changes.
    pub fn step(
        &self,
        parameters: SequenceParameters,
        rules: &SequenceRules,
        submit: impl FnOnce(Step) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let SequenceParameters { id, start, end } = parameters;
        let Some(id) = id else {
            return submit(rules.step(rules.begin(), true, true));
        };
        let now = self.clock.now();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive =
            |sequence: &Sequence<Job>, used: Instant| !sequence.is_idle() || now < used + rules.idle;
        let known = named.get(&id).filter(|(sequence, used)| is_alive(sequence, *used));
        let sequence = match known {
            Some((sequence, _)) => sequence.clone(),
            None if !start => {
                named.remove(&id);
                return Err(not_begun(&id));
            }
            None => {
                named.remove(&id);
                if named.len() >= rules.most {
                    named.retain(|_, (sequence, used)| is_alive(sequence, *used));
                }
                if named.len() >= rules.most {
                    return Err(too_many(rules.most));
                }
                rules.begin()
            }
        };
        submit(rules.step(sequence.clone(), start, end))?;
        if end {
            named.remove(&id);
        } else {
            named.insert(id, (sequence, now));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(most: usize) -> SequenceRules {
        let (queue, _) = Queue::new(1);
        SequenceRules { initial: Arc::default(), most, idle: Duration::from_secs(60), queue }
    }

    fn named(start: bool, end: bool) -> SequenceParameters {
        SequenceParameters { id: Some("7".into()), start, end }
    }

    fn refused(_: Step) -> Result<(), RequestError> {
        Err(RequestError::new(Code::Overloaded, "try again later"))
    }

    fn taken(_: Step) -> Result<(), RequestError> {
        Ok(())
    }

    /// What must hold for both kinds of sequences.
    fn a_refused_step_changes_nothing(
        mut step: impl FnMut(SequenceParameters, bool) -> Result<(), RequestError>,
    ) {
        assert_eq!(step(named(true, false), false).unwrap_err().code, Code::Overloaded);
        let error = step(named(false, false), true).unwrap_err();
        assert!(error.message.contains("has not begun"), "a refused start begins nothing: {error}");
        step(named(true, false), true).expect("and does not count among those that may be");
        assert_eq!(step(named(false, true), false).unwrap_err().code, Code::Overloaded);
        step(named(false, true), true).expect("a refused end ends nothing: it may be sent again");
        assert!(step(named(false, false), true).is_err(), "then it has ended");
    }

    #[test]
    fn in_a_conversation_a_refused_step_neither_begins_nor_ends_a_sequence() {
        let (mut sequences, rules) = (ConversationSequences::default(), rules(1));
        a_refused_step_changes_nothing(|parameters, takes| {
            sequences.step(parameters, &rules, if takes { taken } else { refused })
        });
    }

    #[test]
    fn over_http_a_refused_step_neither_begins_nor_ends_a_sequence() {
        let (sequences, rules) = (SharedSequences::new(Clock::system()), rules(1));
        a_refused_step_changes_nothing(|parameters, takes| {
            sequences.step(parameters, &rules, if takes { taken } else { refused })
        });
    }
}
