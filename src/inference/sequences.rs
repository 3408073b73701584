//! Finds the sequence to which a request belongs: the unnamed sequence of its conversation, a named sequence of
//! its conversation, or a named sequence over HTTP. It enforces the limits on their number. The order of the steps
//! is kept in [`engine::sequence`](crate::engine::sequence).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::chain::{Chain, ChainSequence};
use crate::clock::Clock;
use crate::engine::{JobSequence, Queue, SequenceStep};
use crate::error::shorten;
use crate::error::{Code, RequestError};
use crate::model::Tensor;
use crate::wire::SequenceParameters;

/// How a model's sequences begin, and their limits.
#[derive(Debug)]
pub struct SequenceRules {
    pub initial: Arc<Vec<Tensor>>,
    /// The most named sequences of one conversation; for HTTP, of all clients together.
    pub most: usize,
    /// Over HTTP, an idle sequence is removed after this time.
    pub idle: Duration,
    /// The queue that receives the steps.
    pub queue: Queue,
}

impl SequenceRules {
    fn begin(&self) -> Arc<JobSequence> {
        JobSequence::new(self.initial.clone(), self.queue.clone())
    }
}

/// Where the server looks for a request's sequence.
#[derive(Debug)]
pub enum Sequences<'c> {
    Conversation(&'c mut ConversationSequences),
    /// The sequences over HTTP. All clients share them.
    Shared,
}

impl Sequences<'_> {
    /// Whether the request belongs to a conversation.
    pub fn are_of_conversation(&self) -> bool {
        matches!(self, Sequences::Conversation(_))
    }
}

/// A request's step, before the queue has accepted it. Nothing has changed so far: only [`Turn::take`] begins or
/// ends a sequence, so a client may send a refused request again.
#[derive(Debug)]
pub struct Turn<'s> {
    sequence: Arc<JobSequence>,
    restart: bool,
    last: bool,
    named: Option<Named<'s>>,
}

/// The table that holds the sequence under its name.
#[derive(Debug)]
enum Named<'s> {
    Conversation(String, &'s mut BTreeMap<String, Arc<JobSequence>>),
    /// The lock is held until the step is taken, so that no other step comes first.
    Shared(String, MutexGuard<'s, SharedTable>, Instant),
}

type SharedTable = BTreeMap<String, (Arc<JobSequence>, Instant)>;

impl Turn<'_> {
    /// The step for the queue. Making it changes nothing in the sequence.
    pub fn step(&self) -> SequenceStep {
        SequenceStep::new(self.sequence.clone(), self.restart, self.last)
    }

    /// Call this when the queue has accepted the step. It adds the sequence to its table, or removes it when the
    /// step is the last one.
    pub fn take(self) {
        match (self.named, self.last) {
            (None, _) => {}
            (Some(Named::Conversation(id, named)), true) => _ = named.remove(&id),
            (Some(Named::Conversation(id, named)), false) => _ = named.insert(id, self.sequence),
            (Some(Named::Shared(id, mut named, _)), true) => _ = named.remove(&id),
            (Some(Named::Shared(id, mut named, now)), false) => _ = named.insert(id, (self.sequence, now)),
        }
    }
}

/// The sequences of one conversation. No other client can use them.
#[derive(Debug, Default)]
pub struct ConversationSequences {
    own: Option<Arc<JobSequence>>,
    named: BTreeMap<String, Arc<JobSequence>>,
    /// The windows of a chain.
    windows: Option<Arc<ChainSequence>>,
}

impl ConversationSequences {
    /// Ends the unnamed sequence. The next request without an id begins a new one.
    pub fn end_own(&mut self) {
        (self.own, self.windows) = (None, None);
    }

    /// The windows of a chain for the next request. With `start` it begins without any, and with `end` the one after it does.
    pub fn windows(&mut self, chain: &Chain, start: bool, end: bool) -> Arc<ChainSequence> {
        let windows = self.windows.take().filter(|_| !start).unwrap_or_else(|| ChainSequence::new(chain));
        self.windows = (!end).then(|| windows.clone());
        windows
    }

    /// Finds the request's step. Returns an error when the named sequence does not exist and the request does not
    /// start it, or when there are too many sequences.
    pub fn turn(
        &mut self,
        parameters: SequenceParameters,
        rules: &SequenceRules,
    ) -> Result<Turn<'_>, RequestError> {
        let SequenceParameters { id, start, end } = parameters;
        let Some(id) = id else {
            let sequence = self.own.get_or_insert_with(|| rules.begin()).clone();
            return Ok(Turn { sequence, restart: start, last: end, named: None });
        };
        let sequence = match self.named.get(&id) {
            Some(sequence) => sequence.clone(),
            None if !start => return Err(not_begun(&id)),
            None if self.named.len() >= rules.most => return Err(too_many(rules.most)),
            None => rules.begin(),
        };
        let named = Some(Named::Conversation(id, &mut self.named));
        Ok(Turn { sequence, restart: start, last: end, named })
    }
}

/// A model's sequences over HTTP. HTTP has no conversation whose end could end them, so a sequence is removed when
/// no step comes for [`SequenceRules::idle`].
#[derive(Debug)]
pub struct SharedSequences {
    clock: Clock,
    named: Mutex<SharedTable>,
}

impl SharedSequences {
    /// Creates an empty table. `clock` measures the idle time.
    pub fn new(clock: Clock) -> SharedSequences {
        SharedSequences { clock, named: Mutex::default() }
    }

    /// Finds the request's step. A request without an id is a sequence of one step. The turn of a named sequence
    /// holds a lock, and the named steps of other clients wait for it: do not hold it for long. The errors are
    /// those of [`ConversationSequences::turn`].
    pub fn turn(
        &self,
        parameters: SequenceParameters,
        rules: &SequenceRules,
    ) -> Result<Turn<'_>, RequestError> {
        let SequenceParameters { id, start, end } = parameters;
        let Some(id) = id else {
            return Ok(Turn { sequence: rules.begin(), restart: true, last: true, named: None });
        };
        let now = self.clock.now();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive = |sequence: &JobSequence, used: Instant| !sequence.is_idle() || now < used + rules.idle;
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
        Ok(Turn { sequence, restart: start, last: end, named: Some(Named::Shared(id, named, now)) })
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

    /// Takes the step, or refuses it as a full queue does.
    fn finish(turn: Result<Turn<'_>, RequestError>, takes: bool) -> Result<(), RequestError> {
        let turn = turn?;
        if !takes {
            return Err(RequestError::new(Code::Overloaded, "try again later"));
        }
        turn.take();
        Ok(())
    }

    /// Checks the rules that both kinds of sequences must keep.
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
        a_refused_step_changes_nothing(|parameters, takes| finish(sequences.turn(parameters, &rules), takes));
    }

    #[test]
    fn over_http_a_refused_step_neither_begins_nor_ends_a_sequence() {
        let (sequences, rules) = (SharedSequences::new(Clock::system()), rules(1));
        a_refused_step_changes_nothing(|parameters, takes| finish(sequences.turn(parameters, &rules), takes));
    }
}
