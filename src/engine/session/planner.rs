//! Plans for several rows at once, and whether they pay.
//!
//! On a CPU a batch helps some models (dense layers, LSTMs) and harms others (convolutions, whose input is gathered more
//! slowly for several rows than for one). So it is not assumed: each plan is prepared, held against the plan for a single
//! row on the same values, timed, and kept only when a row of it takes less than a row of the best plan so far.
//!
//! The time is the thread's own (`CLOCK_THREAD_CPUTIME_ID`): this runs at low priority beside the workers, and what they
//! take from it must not count.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tract_onnx::tract_hir::internal::InferenceModel;

use super::batches::Cost;
use super::plan::{Plan, PlanState};
use super::runner::{Item, Runner};
use super::{Family, Layout, guarded, samples, with_rows};
use crate::model::{Elements, Tensor, TensorMetadata};

/// A plan must save so much of a row's time to be kept.
const WORTHWHILE: f64 = 0.95;

/// After so many sizes in a row that do not pay, larger ones are not tried.
const PATIENCE: usize = 2;

/// How long one size is timed, and the fewest rounds.
const MEASURE: Duration = Duration::from_millis(50);
const ROUNDS: usize = 5;

/// What makes a session's plans for several rows, once. It keeps the graph, so it is not kept longer than that.
#[derive(Debug)]
pub struct Planner {
    pub(super) model: InferenceModel,
    pub(super) layout: Arc<Layout>,
    /// Gone when the session is: then there is nothing more to plan.
    pub(super) families: Vec<Weak<Family>>,
    pub(super) max_batch_size: usize,
    /// Taken as they are.
    pub(super) preferred: Option<Vec<usize>>,
    pub(super) max_plan_bytes: usize,
    pub(super) max_tensor_bytes: usize,
}

/// What was found out about one size of batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub rows: usize,
    /// Of the thread's time; `None` when it was not measured.
    pub per_row: Option<Duration>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The plan for a single row, which others are held against.
    Single,
    Used,
    /// A row takes no less than with a smaller plan.
    Slower,
    /// The packed weights would take more memory than the plans may.
    TooLarge {
        bytes: usize,
    },
    Failed(String),
    /// The rows' results are not those of single rows.
    Differs(String),
}

impl Planner {
    /// Prepares and measures, size by size, and tells each finding; stops when the session is gone.
    pub fn run(self, mut tell: impl FnMut(&Finding)) {
        for family in &self.families {
            // Without a measurement of single rows there is nothing to compare.
            let measured = guarded("measuring", || {
                self.family(family, &mut tell);
                Ok(())
            });
            if let Err(error) = measured {
                log::warn!("batches are not used: {error}");
            }
        }
    }

    fn family(&self, family: &Weak<Family>, tell: &mut impl FnMut(&Finding)) {
        let Some(single) = family.upgrade().map(|family| family.single.clone()) else { return };
        let most = self.preferred.iter().flatten().copied().max().unwrap_or(self.max_batch_size);
        let items = match samples(&self.layout, &single.inputs, most.min(self.max_batch_size)) {
            Ok(items) => items,
            Err(error) => return log::warn!("batches are not measured: {error}"),
        };
        let Some((expected, best)) = self.single(&single, &items, tell) else { return };
        let mut best = best;
        let (mut misses, mut bytes) = (0, 0);
        for rows in self.sizes() {
            let Some(family) = family.upgrade() else { return };
            let finding = self.size(&family, &items[..rows], &expected, &mut best, &mut bytes);
            misses = if finding.verdict == Verdict::Used { 0 } else { misses + 1 };
            tell(&finding);
            if matches!(finding.verdict, Verdict::TooLarge { .. } | Verdict::Differs(_))
                || misses == PATIENCE && self.preferred.is_none()
            {
                return;
            }
        }
    }

    /// The sizes that are tried: powers of two, and the largest that was declared.
    fn sizes(&self) -> Vec<usize> {
        if let Some(preferred) = &self.preferred {
            let mut sizes: Vec<usize> = preferred.iter().copied().filter(|rows| *rows > 1).collect();
            sizes.sort_unstable();
            sizes.dedup();
            return sizes;
        }
        let powers = (1..).map(|power| 1_usize << power).take_while(|rows| *rows < self.max_batch_size);
        powers.chain([self.max_batch_size]).filter(|rows| *rows > 1).collect()
    }

    /// What single rows give, and take in seconds.
    fn single(
        &self,
        plan: &Plan,
        items: &[Item],
        tell: &mut impl FnMut(&Finding),
    ) -> Option<(Vec<Vec<Tensor>>, f64)> {
        let mut state = super::runner::state_of(plan);
        let mut run = |item: &Item| Runner::run_plan(&self.layout, &mut state, std::slice::from_ref(item));
        let expected: Result<Vec<_>, _> = items.iter().map(&mut run).collect();
        let expected = match expected {
            Ok(expected) => expected,
            Err(error) => {
                log::warn!("batches are not used: a trial run failed: {error}");
                return None;
            }
        };
        let time = if self.preferred.is_some() { 1.5 } else { least(|| run(&items[0]).is_ok())? };
        let per_row = self.preferred.is_none().then(|| Duration::from_secs_f64(time));
        tell(&Finding { rows: 1, per_row, verdict: Verdict::Single });
        Some((expected, time))
    }

    fn size(
        &self,
        family: &Family,
        items: &[Item],
        expected: &[Vec<Tensor>],
        best: &mut f64,
        bytes: &mut usize,
    ) -> Finding {
        let rows = items.len();
        let finding = |verdict| Finding { rows, per_row: None, verdict };
        if *bytes + family.single.weight_bytes > self.max_plan_bytes {
            return finding(Verdict::TooLarge { bytes: *bytes + family.single.weight_bytes });
        }
        let inputs = with_rows(&family.single.inputs, &self.layout.input_axes, rows);
        let plan =
            match guarded("planning a batch", || Plan::new(&self.model, &inputs, self.max_tensor_bytes)) {
                Ok(plan) => plan,
                Err(error) => return finding(Verdict::Failed(error.cause)),
            };
        let mut state = super::runner::state_of(&plan);
        match self.try_out(&mut state, items, expected) {
            Ok(()) => {}
            Err(verdict) => return finding(verdict),
        }
        // A pinned plan's cost is not measured: half a row for each run beside its rows makes few runs of them.
        let run = match self.preferred {
            Some(_) => Some(rows as f64 + 0.5),
            None => least(|| Runner::run_plan(&self.layout, &mut state, items).is_ok()),
        };
        let Some(run) = run else { return finding(Verdict::Failed("it failed when it was timed".into())) };
        let single = Cost { rows: 1, run: family.batches().single_cost().unwrap_or(*best) };
        let per_row = self.preferred.is_none().then(|| Duration::from_secs_f64(run / rows as f64));
        if run / rows as f64 >= *best * WORTHWHILE && self.preferred.is_none() {
            return Finding { rows, per_row, verdict: Verdict::Slower };
        }
        *best = run / rows as f64;
        *bytes += plan.weight_bytes;
        family.add(plan, single, Cost { rows, run });
        Finding { rows, per_row, verdict: Verdict::Used }
    }

    /// Runs the batch once and holds each row against the single one's.
    fn try_out(
        &self,
        state: &mut PlanState,
        items: &[Item],
        expected: &[Vec<Tensor>],
    ) -> Result<(), Verdict> {
        let outputs =
            Runner::run_plan(&self.layout, state, items).map_err(|error| Verdict::Failed(error.message))?;
        for (output, axis) in self.layout.output_axes.iter().enumerate() {
            for (row, expected) in expected.iter().take(items.len()).enumerate() {
                let (whole, single) = (&outputs[output], &expected[output]);
                let length = single.shape().get(*axis).copied().unwrap_or(0);
                if whole.shape().get(*axis) != Some(&(length * items.len())) || length != 1 {
                    let message = format!(
                        "its output has the shape {:?}, a single one's {:?}",
                        whole.shape(),
                        single.shape()
                    );
                    return Err(Verdict::Differs(message));
                }
                if let Some(difference) = difference(&whole.slice(*axis, row..row + 1), single) {
                    return Err(Verdict::Differs(format!(
                        "row {row} of it is {difference} off what it is alone"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// The least time of some runs, in seconds of this thread; `None` when a run fails.
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

fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// How far two tensors of one shape are apart, when it is further than sums in another order explain.
fn difference(a: &Tensor, b: &Tensor) -> Option<f64> {
    let floats = |tensor: &Tensor| -> Option<Vec<f64>> {
        match tensor.elements() {
            Elements::Fp16(v) => Some(v.iter().map(|v| v.to_f64()).collect()),
            Elements::Fp32(v) => Some(v.iter().map(|v| f64::from(*v)).collect()),
            Elements::Fp64(v) => Some(v.clone()),
            _ => None,
        }
    };
    let coarse = if matches!(a.elements(), Elements::Fp16(_)) { 2e-2 } else { 1e-3 };
    match (floats(a), floats(b)) {
        (Some(a), Some(b)) => {
            let apart = a.iter().zip(&b).map(|(a, b)| {
                let both_odd = a == b || a.is_nan() && b.is_nan();
                if both_odd { 0.0 } else { (a - b).abs() / (1.0 + b.abs()) }
            });
            let most = apart
                .fold(0.0, |most: f64, apart| if apart.is_nan() { f64::INFINITY } else { most.max(apart) });
            (most > coarse).then_some(most)
        }
        // Integers are mostly chosen by scores that are close at random input: not held against it.
        _ => None,
    }
}

/// The inputs for a trial; used by [`samples`].
pub(super) fn sample(input: &TensorMetadata, seed: u64) -> Result<Tensor, String> {
    let mut tensor = Tensor::zeros(input.datatype, input.shape_with_open(1))?;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // xorshift64: any numbers do, as long as rows differ.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let shape = tensor.shape().to_vec();
    // Integers are often indices, for which zero alone is safe.
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
        other => other,
    };
    tensor = Tensor::new(shape, elements)?;
    Ok(tensor)
}
