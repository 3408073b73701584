//! Makes plans for several rows at once, and keeps those that save time.
//!
//! On a CPU batches make some models faster (dense layers, LSTMs) and others slower (convolutions, where gathering the
//! input takes longer per row). So every plan is measured: it is prepared, its results are compared with those of single
//! rows, it is timed, and it is kept only when its time per row is shorter than that of the best plan so far.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::batches::Cost;
use super::family::Family;
use super::guarded;
use super::layout::{Layout, with_rows};
use super::plan::{Plan, Template};
use super::trial::{Trial, Trouble};
use crate::model::TensorMetadata;
use crate::model::tensor::volume;

/// A plan is kept when its time per row is less than this fraction of the best plan's.
const WORTHWHILE: f64 = 0.95;

/// After this many successive sizes that save no time, larger sizes are not tried.
const PATIENCE: usize = 2;

/// Makes the plans for several rows of one session, once. It holds the graph in memory, so it is dropped afterwards.
#[derive(Debug)]
pub struct Planner {
    pub(super) template: Template,
    pub(super) layout: Arc<Layout>,
    /// The plans of the session. They are dropped with the session, and then the planner stops.
    pub(super) families: Vec<Weak<Family>>,
    /// The most rows of a plan.
    pub(super) max_batch_size: usize,
    /// The sizes of `preferred_batch_size`. They are used without measuring.
    pub(super) preferred: Option<Vec<usize>>,
    /// The most bytes of weights in the plans for several rows.
    pub(super) max_plan_bytes: usize,
    /// The most bytes of one tensor.
    pub(super) max_tensor_bytes: usize,
}

/// The result for one batch size.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The rows of the batch.
    pub rows: usize,
    /// The CPU time per row; `None` when it was not measured.
    pub per_row: Option<Duration>,
    /// Whether the size is used, and if not, why.
    pub verdict: Verdict,
}

/// Whether a batch size is used.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The plan for a single row, with which the others are compared.
    Single,
    /// The size is used.
    Used,
    /// The time per row is not shorter than with a smaller plan.
    Slower,
    /// The packed weights of the plans would use more memory than allowed.
    TooLarge {
        /// The bytes that the plans would use.
        bytes: usize,
    },
    /// The plan could not be made or run.
    Failed(String),
    /// A row's result differs from the result of the same row alone.
    Differs(String),
}

impl From<Trouble> for Verdict {
    fn from(trouble: Trouble) -> Verdict {
        match trouble {
            Trouble::Failed(error) => Verdict::Failed(error),
            Trouble::Differs(error) => Verdict::Differs(error),
        }
    }
}

impl Planner {
    /// Makes the plans, one size after the other, and passes each result to `tell`. Stops when the session is dropped.
    pub fn run(self, mut tell: impl FnMut(&Finding)) {
        for family in &self.families {
            let findings = guarded("measuring", || {
                match &self.preferred {
                    Some(sizes) => self.pin(family, sizes, &mut tell),
                    None => self.measure(family, &mut tell),
                }
                Ok(())
            });
            if let Err(error) = findings {
                log::warn!("batches are not used: {error}");
            }
        }
    }

    /// Makes plans for the preferred sizes, without a trial.
    fn pin(&self, family: &Weak<Family>, sizes: &[usize], tell: &mut impl FnMut(&Finding)) {
        let mut sizes: Vec<usize> = sizes.iter().copied().filter(|rows| *rows > 1).collect();
        sizes.sort_unstable();
        sizes.dedup();
        // Not measured. A run costs half a row more than its rows, so that few runs are preferred to many.
        let cost = |rows: usize| Cost { rows, run: rows as f64 + 0.5 };
        let mut bytes = 0;
        for rows in sizes {
            let Some(family) = family.upgrade() else { return };
            let verdict = match self.plan(&family, rows, &mut bytes) {
                Ok(plan) => {
                    family.add(plan, cost(1), cost(rows));
                    Verdict::Used
                }
                Err(verdict) => verdict,
            };
            tell(&Finding { rows, per_row: None, verdict });
        }
    }

    /// Makes and measures plans for powers of two, and for the largest batch.
    fn measure(&self, family: &Weak<Family>, tell: &mut impl FnMut(&Finding)) {
        let Some(single) = family.upgrade().map(|family| family.single.clone()) else { return };
        let most = self.most_rows(&single);
        let trial = match Trial::of(&single, &self.layout, most) {
            Ok(trial) => trial,
            Err(error) => return log::warn!("batches are not used: a trial run failed: {error}"),
        };
        let per_row = Some(Duration::from_secs_f64(trial.single));
        tell(&Finding { rows: 1, per_row, verdict: Verdict::Single });
        let (mut best, mut bytes, mut misses) = (trial.single, 0, 0);
        let powers = (1..).map(|power| 1_usize << power).take_while(|rows| *rows < most);
        for rows in powers.chain([most]).filter(|rows| *rows > 1) {
            let Some(family) = family.upgrade() else { return };
            let finding = self.size(&family, rows, &trial, &mut best, &mut bytes);
            misses = if finding.verdict == Verdict::Used { 0 } else { misses + 1 };
            tell(&finding);
            let is_hopeless = matches!(finding.verdict, Verdict::TooLarge { .. } | Verdict::Differs(_));
            if is_hopeless || misses == PATIENCE {
                return;
            }
        }
    }

    /// The most rows of a plan: no input of a trial run can be larger than a tensor may be.
    fn most_rows(&self, single: &Plan) -> usize {
        let bytes = |input: &TensorMetadata| {
            let count = volume(&input.shape_with_open(1))?;
            count.checked_mul(input.datatype.size().unwrap_or(1))
        };
        let largest = single.inputs.iter().map(|input| bytes(input).unwrap_or(usize::MAX)).max();
        let fit = self.max_tensor_bytes / largest.unwrap_or(1).max(1);
        self.max_batch_size.min(fit).max(1)
    }

    /// Makes a plan for `rows` rows, tries it, and uses it when it saves time. `best` is the shortest time per row so
    /// far in seconds, `bytes` the weights of the plans so far.
    fn size(
        &self,
        family: &Family,
        rows: usize,
        trial: &Trial,
        best: &mut f64,
        bytes: &mut usize,
    ) -> Finding {
        let before = *bytes;
        let measured = self.plan(family, rows, bytes).and_then(|plan| Ok((trial.run(&plan, rows)?, plan)));
        match measured {
            Ok((run, plan)) => {
                let per_row = run / rows as f64;
                let pays = per_row < *best * WORTHWHILE;
                if pays {
                    *best = per_row;
                    family.add(plan, Cost { rows: 1, run: trial.single }, Cost { rows, run });
                } else {
                    *bytes = before;
                }
                let verdict = if pays { Verdict::Used } else { Verdict::Slower };
                Finding { rows, per_row: Some(Duration::from_secs_f64(per_row)), verdict }
            }
            Err(verdict) => {
                *bytes = before;
                Finding { rows, per_row: None, verdict }
            }
        }
    }

    /// Makes a plan for `rows` rows, and checks that its outputs have as many rows. Adds its weights to `bytes`.
    fn plan(&self, family: &Family, rows: usize, bytes: &mut usize) -> Result<Plan, Verdict> {
        *bytes += family.single.weight_bytes;
        if *bytes > self.max_plan_bytes {
            return Err(Verdict::TooLarge { bytes: *bytes });
        }
        let inputs = with_rows(&family.single.inputs, &self.layout.input_axes, rows);
        let plan = guarded("planning a batch", || Plan::new(&self.template, &inputs, self.max_tensor_bytes));
        let plan = plan.map_err(|error| Verdict::Failed(error.cause))?;
        let shapes = plan.output_shapes().map_err(|error| Verdict::Failed(error.cause))?;
        let alone = family.single.output_shapes().map_err(|error| Verdict::Failed(error.cause))?;
        for ((shape, alone), axis) in shapes.iter().zip(&alone).zip(&self.layout.output_axes) {
            let (Some(length), Some(one)) = (shape.get(*axis), alone.get(*axis)) else { continue };
            if one.fixed() != Some(1) || length.fixed() != Some(rows) {
                let message = format!(
                    "its output has the shape {shape:?}, that of a single row {alone:?}: expected {rows} rows"
                );
                return Err(Verdict::Differs(message));
            }
        }
        Ok(plan)
    }
}
