//! Plans for several rows at once, and whether they pay.
//!
//! On a CPU a batch helps some models (dense layers, LSTMs) and harms others (convolutions, whose input is gathered more
//! slowly for several rows than for one). So it is not assumed: each plan is prepared, held against the plan for a single
//! row on the same values, timed, and kept only when a row of it takes less than a row of the best plan so far.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tract_onnx::tract_hir::internal::InferenceModel;

use super::batches::Cost;
use super::family::Family;
use super::guarded;
use super::layout::{Layout, with_rows};
use super::plan::Plan;
use super::trial::{Trial, Trouble};
use crate::model::TensorMetadata;
use crate::model::tensor::volume;

/// A plan must save so much of a row's time to be kept.
const WORTHWHILE: f64 = 0.95;

/// After so many sizes in a row that do not pay, larger ones are not tried.
const PATIENCE: usize = 2;

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

impl From<Trouble> for Verdict {
    fn from(trouble: Trouble) -> Verdict {
        match trouble {
            Trouble::Failed(error) => Verdict::Failed(error),
            Trouble::Differs(error) => Verdict::Differs(error),
        }
    }
}

impl Planner {
    /// Prepares and measures, size by size, and tells each finding; stops when the session is gone.
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

    /// Plans for the sizes that were asked for, without a trial.
    fn pin(&self, family: &Weak<Family>, sizes: &[usize], tell: &mut impl FnMut(&Finding)) {
        let mut sizes: Vec<usize> = sizes.iter().copied().filter(|rows| *rows > 1).collect();
        sizes.sort_unstable();
        sizes.dedup();
        // Half a row for each run beside its rows: few runs are better than many.
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

    /// So many rows at once as a single tensor may have bytes: trial runs make them all.
    fn most_rows(&self, single: &Plan) -> usize {
        let bytes = |input: &TensorMetadata| {
            let count = volume(&input.shape_with_open(1))?;
            count.checked_mul(input.datatype.size().unwrap_or(1))
        };
        let largest = single.inputs.iter().map(|input| bytes(input).unwrap_or(usize::MAX)).max();
        let fit = self.max_tensor_bytes / largest.unwrap_or(1).max(1);
        self.max_batch_size.min(fit).max(1)
    }

    /// Prepares a size, tries it and puts it into service when it pays.
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

    /// A plan for `rows` rows, whose outputs have as many.
    fn plan(&self, family: &Family, rows: usize, bytes: &mut usize) -> Result<Plan, Verdict> {
        *bytes += family.single.weight_bytes;
        if *bytes > self.max_plan_bytes {
            return Err(Verdict::TooLarge { bytes: *bytes });
        }
        let inputs = with_rows(&family.single.inputs, &self.layout.input_axes, rows);
        let plan = guarded("planning a batch", || Plan::new(&self.model, &inputs, self.max_tensor_bytes));
        let plan = plan.map_err(|error| Verdict::Failed(error.cause))?;
        let shapes = plan.output_shapes().map_err(|error| Verdict::Failed(error.cause))?;
        let alone = family.single.output_shapes().map_err(|error| Verdict::Failed(error.cause))?;
        for ((shape, alone), axis) in shapes.iter().zip(&alone).zip(&self.layout.output_axes) {
            let (Some(length), Some(one)) = (shape.get(*axis), alone.get(*axis)) else { continue };
            if one.fixed() != Some(1) || length.fixed() != Some(rows) {
                let message = format!("its output has the shape {shape:?}, a single row's {alone:?}");
                return Err(Verdict::Differs(message));
            }
        }
        Ok(plan)
    }
}
