//! Trial runs: they measure single rows, and compare the results and the time of a plan for several rows with these.
//!
//! Trials run at low priority, at the same time as the workers. So the time is the thread's own CPU time
//! (`CLOCK_THREAD_CPUTIME_ID`): the time in which workers have the core does not count.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::layout::{Layout, Place};
use super::plan::{Plan, PlanState};
use super::runner::Item;
use super::{failed, guarded};
use crate::error::RequestError;
use crate::memory::{Budget, Share};
use crate::model::{Elements, Tensor, TensorMetadata};

/// The shortest total time of the timed runs of one plan.
const MEASURE: Duration = Duration::from_millis(50);
/// The fewest timed runs of one plan.
const ROUNDS: usize = 5;

/// Why a plan cannot be used.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A run failed.
    Failed(String),
    /// A row's result differs from the result of the same row alone.
    Differs(String),
}

/// Artificial rows, and the result of each alone.
pub(super) struct Trial<'l> {
    layout: &'l Layout,
    items: Vec<Item>,
    /// The outputs of each row alone.
    expected: Vec<Vec<Tensor>>,
    /// The CPU time of one row alone, in seconds.
    pub single: f64,
}

impl<'l> Trial<'l> {
    /// Runs `count` rows one by one. All integers are 0 at first, which is safe for indices. If a run fails, they are 1,
    /// which is safe for divisors too.
    pub fn of(plan: &Plan, layout: &'l Layout, count: usize) -> Result<Trial<'l>, String> {
        let attempt = |integers: i8| {
            guarded("a trial", || Ok(Trial::with(plan, layout, count, integers)))
                .unwrap_or_else(|error| Err(error.cause))
        };
        attempt(0).or_else(|_| attempt(1))
    }

    fn with(plan: &Plan, layout: &'l Layout, count: usize, integers: i8) -> Result<Trial<'l>, String> {
        let items = samples(layout, &plan.inputs, count, integers)?;
        let mut state = PlanState::new(plan);
        let mut run = |item: &Item| joined(layout, &mut state, std::slice::from_ref(item));
        let expected =
            items.iter().map(|item| run(item).map_err(|error| error.message)).collect::<Result<_, _>>()?;
        let single = least(|| run(&items[0]).is_ok())
            .ok_or("a run failed while it was timed, after one that did not")?;
        Ok(Trial { layout, items, expected, single })
    }

    /// Runs `rows` rows at once and compares each with the same row alone. Returns the CPU time of the run, in seconds.
    pub fn run(&self, plan: &Plan, rows: usize) -> Result<f64, Trouble> {
        let items = &self.items[..rows];
        let mut state = PlanState::new(plan);
        let outputs =
            joined(self.layout, &mut state, items).map_err(|error| Trouble::Failed(error.message))?;
        for (row, expected) in self.expected.iter().take(rows).enumerate() {
            for ((whole, single), axis) in outputs.iter().zip(expected).zip(&self.layout.output_axes) {
                if let Some(difference) = difference(&whole.slice(*axis, row..row + 1), single) {
                    let message =
                        format!("row {row} of the batch differs by {difference} from the same row alone");
                    return Err(Trouble::Differs(message));
                }
            }
        }
        least(|| joined(self.layout, &mut state, items).is_ok())
            .ok_or_else(|| Trouble::Failed("a run failed while it was timed, after one that did not".into()))
    }
}

/// Runs a plan with these items as its rows.
fn joined(layout: &Layout, plan: &mut PlanState, items: &[Item]) -> Result<Vec<Tensor>, RequestError> {
    let inputs = layout.join(items).map_err(failed)?;
    plan.run(&inputs.iter().collect::<Vec<_>>(), &mut Share::none(&Budget::unbounded()))
}

/// The shortest of several runs, in seconds of this thread's CPU time; `None` when a run fails.
fn least(mut run: impl FnMut() -> bool) -> Option<f64> {
    let (mut least, mut total) = (f64::INFINITY, 0.0);
    let mut rounds = 0;
    while rounds < ROUNDS || total < MEASURE.as_secs_f64() && rounds < 1000 {
        let begun = thread_time();
        if !run() {
            return None;
        }
        let took = thread_time() - begun;
        (least, total, rounds) = (took.min(least), total + took, rounds + 1);
    }
    Some(least)
}

/// The shortest of several runs, in milliseconds of elapsed time, for runs that use several threads; `None` when a run
/// fails.
pub(super) fn least_of_clock(mut run: impl FnMut() -> bool) -> Option<f64> {
    let mut least = f64::INFINITY;
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS || begun.elapsed() < MEASURE * 2 {
        let once = Instant::now();
        if !run() {
            return None;
        }
        least = least.min(once.elapsed().as_secs_f64() * 1e3);
        rounds += 1;
    }
    Some(least)
}

/// The CPU time of this thread in seconds.
fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The largest relative difference of two tensors of one shape. `None` when it is so small that another order of the
/// sums explains it.
fn difference(a: &Tensor, b: &Tensor) -> Option<f64> {
    let floats = |tensor: &Tensor| -> Option<Vec<f64>> {
        match tensor.elements() {
            Elements::Fp16(v) => Some(v.iter().map(|v| v.to_f64()).collect()),
            Elements::Fp32(v) => Some(v.iter().map(|v| f64::from(*v)).collect()),
            Elements::Fp64(v) => Some(v.clone()),
            _ => None,
        }
    };
    let tolerance = if matches!(a.elements(), Elements::Fp16(_)) { 2e-2 } else { 1e-3 };
    match (floats(a), floats(b)) {
        (Some(a), Some(b)) => {
            let apart = a.iter().zip(&b).map(|(a, b)| {
                let is_same = a == b || a.is_nan() && b.is_nan();
                if is_same { 0.0 } else { (a - b).abs() / (1.0 + b.abs()) }
            });
            let most = apart
                .fold(0.0, |most: f64, apart| if apart.is_nan() { f64::INFINITY } else { most.max(apart) });
            (most > tolerance).then_some(most)
        }
        // Integers are not compared. Most are the index of the highest score, and with random input the scores are
        // nearly equal.
        _ => None,
    }
}

/// Inputs for trial runs, one row per item. Rows of floats differ from each other.
fn samples(
    layout: &Layout,
    inputs: &[TensorMetadata],
    count: usize,
    integers: i8,
) -> Result<Vec<Item>, String> {
    let items = (0..count).map(|row| {
        let mut item = Item::default();
        for (at, (input, place)) in inputs.iter().zip(&layout.inputs).enumerate() {
            // An input without a batch axis must be the same for all rows.
            let row = if layout.input_axes[at].is_some() { row } else { 0 };
            let tensor = sample(input, (row * inputs.len() + at + 1) as u64, integers)?;
            match place {
                Place::Tensor(_) => item.tensors.push(tensor),
                Place::State(_) => item.states.push(tensor),
            }
        }
        Ok(item)
    });
    items.collect()
}

/// A tensor for an input: floats are pseudo-random from −1 to 1, integers are `integers`.
fn sample(input: &TensorMetadata, seed: u64, integers: i8) -> Result<Tensor, String> {
    let tensor = Tensor::zeros(input.datatype, input.shape_with_open(1))?;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // xorshift64. Any numbers are good enough, if the rows differ.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let shape = tensor.shape().to_vec();
    let elements = match tensor.into_elements() {
        Elements::Fp32(mut v) => {
            v.iter_mut().for_each(|v| *v = next());
            Elements::Fp32(v)
        }
        Elements::Fp64(mut v) => {
            v.iter_mut().for_each(|v| *v = f64::from(next()));
            Elements::Fp64(v)
        }
        Elements::Fp16(mut v) => {
            v.iter_mut().for_each(|v| *v = half::f16::from_f32(next()));
            Elements::Fp16(v)
        }
        other if integers == 0 => other,
        Elements::Int32(mut v) => {
            v.fill(integers.into());
            Elements::Int32(v)
        }
        Elements::Int64(mut v) => {
            v.fill(integers.into());
            Elements::Int64(v)
        }
        other => other,
    };
    Tensor::new(shape, elements)
}
