//! The order of the steps of one sequence. A sequence is a list of requests that share states: each step begins
//! with the states that the step before produced.
//!
//! Invariants: at most one step of a sequence is with the workers. The next step waits here until that one has
//! ended, so the steps keep their order with any number of workers. A failed step changes no state: the next step
//! begins with the same states as the failed one.
//!
//! The names of sequences and their limits do not belong here: see `inference::sequences`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Tensor;

/// One sequence and its waiting steps. `J` is the type of a job. The number of waiting steps is bounded by the
/// number of requests that a connection may have in flight.
#[derive(Debug)]
pub struct Sequence<J> {
    initial: Arc<Vec<Tensor>>,
    progress: Mutex<Progress<J>>,
}

#[derive(Debug)]
struct Progress<J> {
    states: Vec<Tensor>,
    /// A step is with the workers.
    running: bool,
    waiting: VecDeque<J>,
}

impl<J> Sequence<J> {
    /// Creates a sequence that begins with the states `initial`.
    pub fn new(initial: Arc<Vec<Tensor>>) -> Sequence<J> {
        let states = initial.as_ref().clone();
        Sequence {
            initial,
            progress: Mutex::new(Progress { states, running: false, waiting: VecDeque::new() }),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress<J>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a step. When another step is running, the new one waits here; else `put` gives it to the workers. When
    /// `put` refuses the step, it has not begun. `put` must not wait, because it runs under the lock: the lock
    /// prevents other steps from waiting behind a refused one.
    pub fn submit<E>(&self, job: J, put: impl FnOnce(J) -> Result<(), E>) -> Result<(), E> {
        let mut progress = self.progress();
        if progress.running {
            progress.waiting.push_back(job);
            return Ok(());
        }
        put(job)?;
        progress.running = true;
        Ok(())
    }

    /// The states with which the current step begins; with `restart`, the initial states.
    pub fn states(&self, restart: bool) -> Vec<Tensor> {
        if restart { self.initial.as_ref().clone() } else { self.progress().states.clone() }
    }

    /// Ends the running step. `states` are the new states, or `None` when the step failed. Returns the next step,
    /// which then counts as begun.
    pub fn end_step(&self, states: Option<Vec<Tensor>>) -> Option<J> {
        let mut progress = self.progress();
        if let Some(states) = states {
            progress.states = states;
        }
        let next = progress.waiting.pop_front();
        progress.running = next.is_some();
        next
    }

    /// No step is under way or waiting.
    pub fn is_idle(&self) -> bool {
        !self.progress().running
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Elements;

    fn state(value: i8) -> Vec<Tensor> {
        vec![Tensor::new(vec![1], Elements::Int8(vec![value])).unwrap()]
    }

    #[test]
    fn steps_run_in_order_and_pass_their_state_on() {
        let sequence: Sequence<u8> = Sequence::new(Arc::new(state(0)));
        let mut begun = Vec::new();
        for step in 1..=3 {
            let put = |step| {
                begun.push(step);
                Ok::<(), ()>(())
            };
            sequence.submit(step, put).unwrap();
        }
        assert_eq!(begun, [1], "the others wait");
        assert_eq!(sequence.end_step(Some(state(5))), Some(2));
        assert_eq!(sequence.states(false), state(5));
        assert_eq!(sequence.end_step(None), Some(3), "a step that failed is over as well");
        assert_eq!(sequence.states(false), state(5), "and has changed nothing");
        assert!(!sequence.is_idle());
        assert_eq!(sequence.end_step(None), None);
        assert!(sequence.is_idle());
        assert_eq!(sequence.states(true), state(0));
    }

    #[test]
    fn a_step_that_is_refused_has_not_begun() {
        let sequence: Sequence<u8> = Sequence::new(Arc::new(state(0)));
        assert_eq!(sequence.submit(1, Err), Err(1));
        assert!(sequence.is_idle(), "so the next one does not wait for it");
    }
}
