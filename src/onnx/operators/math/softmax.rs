//! `Softmax`, `LogSoftmax` and `Hardmax`.
//!
//! Before version 13 the axes from `axis` on are one axis. FP16 is computed in FP32.

use std::sync::Arc;

use onnxd_kernels::softmax;
use onnxd_kernels::tensor::written;
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::axes::{Split, axis};
use super::super::curves::Curves;
use super::super::numbers::{Number, filled, on_floats};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};

use super::{Built, Elements, own_name};

/// Which axes belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Only the axis.
    One,
    /// The axis and all that follow.
    Rest,
}

/// One of the three operators.
#[derive(Debug)]
struct Softmax {
    name: &'static str,
    axis: i64,
    over: Over,
}

/// Builds a `Softmax`, `LogSoftmax` or `Hardmax`.
pub fn softmax(attributes: &Attributes) -> Built {
    let name = own_name(attributes)?;
    let (over, default) = if attributes.version() < 13 { (Over::Rest, 1) } else { (Over::One, -1) };
    Ok(Arc::new(Softmax { name, axis: attributes.int("axis", default)?, over }))
}

/// Whether tract serves a `Softmax`: the elements of a row must be neighbours.
pub fn is_over_rows(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let rank = inputs.optional(0).map_or(0, Kind::rank);
    let default = if attributes.version() < 13 { 1 } else { -1 };
    let given = attributes.int("axis", default).map_err(|error| error.to_string())?;
    let at = axis(given, rank).map_err(|error| error.to_string())?;
    let is_served = attributes.version() < 13 || at + 1 == rank;
    if is_served { Ok(()) } else { Err("the axis is not the last".into()) }
}

impl Softmax {
    fn split(&self, shape: &[usize]) -> TractResult<Split> {
        match self.over {
            Over::One => Ok(Split::at(shape, axis(self.axis, shape.len())?)),
            Over::Rest => {
                // The rank itself was allowed: then each element is a row.
                let is_end = self.axis == shape.len() as i64;
                let at = if is_end { shape.len() } else { axis(self.axis, shape.len())? };
                let (outer, length) = (shape[..at].iter().product(), shape[at..].iter().product());
                Ok(Split { outer, length, inner: 1 })
            }
        }
    }
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.single()?;
        Elements::Floats.check(input.datum_type)?;
        self.split(&vec![1; input.rank()])?;
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.single()?;
        let split = self.split(input.shape())?;
        let kind = match self.name {
            "Softmax" => Some(softmax::Softmax::Plain),
            "LogSoftmax" => Some(softmax::Softmax::Log),
            _ => None,
        };
        if let (Some(kind), DatumType::F32) = (kind, input.datum_type()) {
            let from = elements::<f32>(input)?;
            let Split { length, inner, .. } = split;
            return Ok(tvec![written(input.shape(), |to| softmax::columns(kind, from, to, length, inner))?]);
        }
        on_floats!(input.datum_type(), T => {
            let from = elements::<T>(input)?;
            let output = filled::<T>(input.shape(), |to| {
                if split.count() != 0 {
                    self.fill(from, to, split);
                }
                Ok(())
            })?;
            Ok(tvec![output])
        })
    }
}

impl Softmax {
    fn fill<T: Number + Curves>(&self, from: &[T], to: &mut [T], split: Split) {
        let mut rows = Rows { largest: vec![T::ZERO; split.inner], sums: vec![T::ZERO; split.inner] };
        let plane = split.length * split.inner;
        for (from, to) in from.chunks_exact(plane).zip(to.chunks_exact_mut(plane)) {
            match self.name {
                "Hardmax" => rows.hardmax(from, to),
                "LogSoftmax" => rows.log_softmax(from, to),
                _ => rows.softmax(from, to),
            }
        }
    }
}

/// One value for each place in a row: a softmax goes down all columns of a plane at once.
struct Rows<T> {
    largest: Vec<T>,
    sums: Vec<T>,
}

impl<T: Number + Curves> Rows<T> {
    /// Finds the largest element of each column.
    fn find_largest(&mut self, from: &[T]) {
        let inner = self.largest.len();
        if inner == 1 {
            self.largest[0] = from.iter().copied().fold(T::LEAST, T::larger);
            return;
        }
        self.largest.fill(T::LEAST);
        for row in from.chunks_exact(inner) {
            self.largest.iter_mut().zip(row).for_each(|(largest, x)| *largest = largest.larger(*x));
        }
    }

    /// Writes exp(x − largest), and the sums of the columns.
    fn exponents(&mut self, from: &[T], to: &mut [T]) {
        self.find_largest(from);
        let inner = self.largest.len();
        if inner == 1 {
            let largest = self.largest[0];
            to.iter_mut().zip(from).for_each(|(to, x)| *to = x.minus(largest).power_of_e());
            self.sums[0] = sum(to);
            return;
        }
        self.sums.fill(T::ZERO);
        for (to, from) in to.chunks_exact_mut(inner).zip(from.chunks_exact(inner)) {
            for (((to, x), largest), sum) in to.iter_mut().zip(from).zip(&self.largest).zip(&mut self.sums) {
                *to = x.minus(*largest).power_of_e();
                *sum = sum.plus(*to);
            }
        }
    }

    fn softmax(&mut self, from: &[T], to: &mut [T]) {
        self.exponents(from, to);
        self.sums.iter_mut().for_each(|sum| *sum = T::ONE.over(*sum));
        for row in to.chunks_exact_mut(self.sums.len()) {
            row.iter_mut().zip(&self.sums).for_each(|(to, factor)| *to = to.times(*factor));
        }
    }

    fn log_softmax(&mut self, from: &[T], to: &mut [T]) {
        self.exponents(from, to);
        let logs: Vec<T> = self.sums.iter().map(|sum| T::of_f64(Number::to_f64(*sum).ln())).collect();
        for (to, from) in to.chunks_exact_mut(logs.len()).zip(from.chunks_exact(logs.len())) {
            for (((to, x), largest), log) in to.iter_mut().zip(from).zip(&self.largest).zip(&logs) {
                *to = x.minus(*largest).minus(*log);
            }
        }
    }

    /// Writes 1 at the first of the largest elements of each column.
    fn hardmax(&mut self, from: &[T], to: &mut [T]) {
        self.find_largest(from);
        let inner = self.largest.len();
        // 1 for a column that has no 1 yet.
        self.sums.fill(T::ONE);
        for (to, from) in to.chunks_exact_mut(inner).zip(from.chunks_exact(inner)) {
            for (((to, x), largest), left) in to.iter_mut().zip(from).zip(&self.largest).zip(&mut self.sums) {
                if *x == *largest || Number::is_nan(*x) && Number::is_nan(*largest) {
                    *to = *left;
                    *left = T::ZERO;
                }
            }
        }
    }
}

/// The sum of a row, in several parts that are added at the end.
fn sum<T: Number>(row: &[T]) -> T {
    let mut lanes = [T::ZERO; 16];
    for chunk in row.chunks(16) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane = lane.plus(*x));
    }
    lanes.into_iter().fold(T::ZERO, T::plus)
}
