//! The operator that runs an ensemble: it checks the input, lays the trees out for the input's precision, and makes the
//! outputs.

use std::sync::{Arc, OnceLock};

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::super::attributes::Attributes;
use super::super::super::invalid;
use super::super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::super::Labels;
use super::super::transform::Transform;
use super::forest::{Aggregate, Forest, Real, Trees};
use super::scores::{self, Base, Decision};

/// What the operator makes of the scores.
#[derive(Debug, Clone)]
pub enum Task {
    /// Outputs labels `[rows]`, and scores `[rows, classes]` in single precision.
    Classify { labels: Labels, decision: Decision },
    /// Outputs `[rows, targets]`, in the input's precision or always in single precision.
    Targets { aggregate: Aggregate, precision: Precision },
}

/// The precision of a regression's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// That of the input, if the input is of floats; else single.
    OfInput,
    /// Always single.
    Single,
}

/// What a node's attributes say about an ensemble.
#[derive(Debug)]
pub struct Description {
    /// The standard's name of the operator.
    pub name: &'static str,
    /// The trees, at least one.
    pub trees: Trees,
    /// What the scores start from: a value for each target, or none.
    pub base: Vec<f64>,
    /// Applied to the scores of each row.
    pub transform: Transform,
    /// What the outputs are.
    pub task: Task,
}

/// An ensemble before the precision of its input is known.
#[derive(Debug)]
pub struct Ensemble {
    description: Description,
    /// The fewest features of a row.
    width: usize,
    /// The layouts. Each is made when it is first needed, and shared by all plans.
    single: OnceLock<Arc<Prepared<f32>>>,
    double: OnceLock<Arc<Prepared<f64>>>,
}

/// An ensemble that is laid out for its input's precision.
#[derive(Debug)]
struct Prepared<T> {
    name: &'static str,
    forest: Forest<T>,
    base: Base<T>,
    transform: Transform,
    task: Task,
    targets: usize,
    trees: usize,
    width: usize,
}

impl Ensemble {
    /// Lays the trees out in single precision at once, so that an error in them is reported while the file is read.
    pub fn new(attributes: &Attributes, description: Description) -> TractResult<Ensemble> {
        if description.trees.roots.is_empty() {
            return Err(attributes.wrong("it has no tree: expected one or more"));
        }
        let prepared: Prepared<f32> = description.prepare().map_err(|cause| attributes.wrong(cause))?;
        let (width, single) = (prepared.width, OnceLock::from(Arc::new(prepared)));
        Ok(Ensemble { description, width, single, double: OnceLock::new() })
    }

    /// The layout at `place`, which is made if it is not there yet.
    fn layout<T: Real>(&self, place: &OnceLock<Arc<Prepared<T>>>) -> TractResult<Arc<Prepared<T>>> {
        if let Some(prepared) = place.get() {
            return Ok(prepared.clone());
        }
        let prepared = Arc::new(self.description.prepare().map_err(TractError::msg)?);
        Ok(place.get_or_init(|| prepared).clone())
    }
}

impl Description {
    fn prepare<T: Real>(&self) -> Result<Prepared<T>, String> {
        let forest = Forest::new(&self.trees)?;
        Ok(Prepared {
            name: self.name,
            width: forest.width().max(1),
            forest,
            base: Base::new(&self.base),
            transform: self.transform,
            task: self.task.clone(),
            targets: self.trees.targets,
            trees: self.trees.roots.len(),
        })
    }
}

/// Checks that there is one input `[rows, features]` with enough features.
fn check<'a>(inputs: &Inputs<'a, Kind>, width: usize) -> TractResult<&'a Kind> {
    let input = inputs.single()?;
    if input.shape.len() != 2 {
        return Err(TractError::msg(format!(
            "the input has {} dimensions: expected 2, rows of features",
            input.shape.len()
        )));
    }
    if input.shape[1].to_usize().is_ok_and(|features| features < width) {
        return Err(TractError::msg(format!(
            "the trees read feature {}, but a row of the input has {} (counted from 0)",
            width - 1,
            input.shape[1]
        )));
    }
    Ok(input)
}

/// The datatypes and shapes of the outputs for such an input.
fn outputs(task: &Task, targets: usize, input: &Kind) -> TractResult<TVec<Kind>> {
    let (rows, columns) = (input.shape[0].clone(), TDim::from(targets));
    let scores = |datum_type| Kind::new(datum_type, tvec![rows.clone(), columns.clone()]);
    Ok(match task {
        Task::Classify { labels, .. } => {
            let label = Kind::new(labels.datum_type(), tvec![rows.clone()]);
            tvec![label, scores(f32::datum_type())]
        }
        Task::Targets { precision, .. } => match input.datum_type {
            DatumType::F64 | DatumType::F16 if *precision == Precision::OfInput => {
                tvec![scores(input.datum_type)]
            }
            _ => tvec![scores(f32::datum_type())],
        },
    })
}

impl Operator for Ensemble {
    fn name(&self) -> &'static str {
        self.description.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let Description { task, trees, .. } = &self.description;
        outputs(task, trees.targets, check(inputs, self.width)?)
    }

    fn prepared(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        Ok(Some(match check(inputs, self.width)?.datum_type {
            DatumType::F64 => self.layout(&self.double)?,
            _ => self.layout(&self.single)?,
        }))
    }

    fn run(&self, _: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        Err(TractError::msg("an ensemble must be prepared for its input before it is run"))
    }
}

impl<T: Real + Datum> Operator for Prepared<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        outputs(&self.task, self.targets, check(inputs, self.width)?)
    }

    fn longest_text(&self) -> usize {
        match &self.task {
            Task::Classify { labels, .. } => labels.longest_text(),
            Task::Targets { .. } => 0,
        }
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let kind = Kind::new(input.datum_type(), input.shape().iter().map(|dim| dim.to_dim()));
        check(&Inputs::all(std::slice::from_ref(&kind)), self.width)
            .map_err(|error| invalid(error.to_string()))?;
        // Integers are compared in single precision, as onnxruntime does.
        let input = input.cast_to::<T>()?;
        let rows = input.shape()[0];
        let input = input.try_as_plain_ram()?;
        let shape = [rows, self.targets];
        match &self.task {
            Task::Classify { labels, decision } => {
                let scores = self.forest.scores(input.as_slice::<T>()?, rows, Aggregate::Sum);
                let mut outputs = vec![0.0; scores.len()];
                let classes: Vec<usize> = scores
                    .chunks_exact(self.targets)
                    .zip(outputs.chunks_exact_mut(self.targets))
                    .map(|(row, outputs)| {
                        scores::classify(row, &self.base, *decision, self.transform, outputs)
                    })
                    .collect();
                Ok(tvec![labels.of(&classes)?, Tensor::from_shape(&shape, &outputs)?])
            }
            Task::Targets { aggregate, .. } => {
                let scores = self.forest.scores(input.as_slice::<T>()?, rows, *aggregate);
                let average_of = (*aggregate == Aggregate::Average).then_some(self.trees);
                let all = scores::targets(&scores, self.targets, &self.base, average_of, self.transform);
                let all = Tensor::from_shape(&shape, &all)?;
                let output = outputs(&self.task, self.targets, &kind)?.remove(0);
                Ok(tvec![all.cast_to_dt(output.datum_type)?.into_owned()])
            }
        }
    }
}
