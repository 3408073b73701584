//! Recurrent operators as nodes: attributes, inputs, directions, layouts, and the walk over time.

mod weights;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::floats::{Real, expect_float, in_reals};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements, ints};
use super::activation::{self, Activation};
use super::cell::{self, Step};
use super::product::Recurring;
use weights::Weights;

/// Which way the sequence is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Reverse,
    Both,
}

/// A recurrent operator.
#[derive(Debug, Clone)]
struct Recurrent {
    cell: cell::Kind,
    direction: Direction,
    /// The activations of all directions.
    activations: Vec<Activation>,
    clip: Option<f32>,
    hidden: Option<usize>,
    /// Whether the batch is the first axis of inputs and outputs.
    is_batch_first: bool,
    resets_after_product: bool,
    couples_input_and_forget: bool,
    /// Whether weights have eight bits, and inputs are rounded to eight bits in each run (`DynamicQuantizeLSTM`).
    is_quantized: bool,
    /// The weights of all directions if they are constant and in FP32: the others are made in each run.
    packed: Option<Arc<Vec<Weights<f32>>>>,
}

/// The lengths of a run.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    time: usize,
    batch: usize,
    hidden: usize,
}

/// Builds a recurrent operator from its node.
pub fn recurrent(
    attributes: &Attributes,
    cell: cell::Kind,
    is_quantized: bool,
) -> TractResult<Arc<dyn Operator>> {
    let direction = match attributes.string("direction", "forward")? {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Both,
        other => {
            return Err(attributes
                .wrong(format!("`direction` is {other}: expected forward, reverse or bidirectional")));
        }
    };
    let directions = if direction == Direction::Both { 2 } else { 1 };
    let hidden = attributes.has("hidden_size").then(|| attributes.int("hidden_size", 0)).transpose()?;
    let hidden = hidden.map(|size| {
        usize::try_from(size)
            .map_err(|_| attributes.wrong(format!("`hidden_size` is {size}: expected 1 or more")))
    });
    Ok(Arc::new(Recurrent {
        cell,
        direction,
        activations: activation::read(attributes, cell.activations(), directions)?,
        clip: activation::clip(attributes)?,
        hidden: hidden.transpose()?,
        is_batch_first: attributes.flag("layout", false)?,
        resets_after_product: attributes.flag("linear_before_reset", false)?,
        couples_input_and_forget: attributes.flag("input_forget", false)?,
        is_quantized,
        packed: None,
    }))
}

/// The inputs by their names in the standard; those behind the states only exist for an LSTM.
struct Places;

impl Places {
    const X: usize = 0;
    const W: usize = 1;
    const R: usize = 2;
    const B: usize = 3;
    const LENGTHS: usize = 4;
    const HIDDEN: usize = 5;
    const CELL: usize = 6;
    const PEEPHOLES: usize = 7;
    /// Of a quantized LSTM: scale and zero point of W, then of R.
    const SCALES: usize = 8;
}

impl Recurrent {
    fn directions(&self) -> usize {
        if self.direction == Direction::Both { 2 } else { 1 }
    }

    /// Runs all directions. Everything is in the order [time, batch, …] here.
    fn compute<T: Recurring>(
        &self,
        inputs: &Inputs<Tensor>,
        packed: &[Weights<T>],
    ) -> TractResult<TVec<Tensor>> {
        let x = self.time_first(inputs.required(Places::X, "X")?)?;
        let &[time, batch, input] = x.shape() else {
            return Err(TractError::msg(format!("its input `X` has {} axes: expected 3", x.rank())));
        };
        let rows = packed[0].bias.len();
        let sizes = Sizes { time, batch, hidden: rows / self.cell.gates() };
        if packed[0].features != input {
            return Err(TractError::msg(format!("its input `X` has {input} features, which do not fit `W`")));
        }
        let lengths = self.lengths(inputs, sizes)?;
        let mut x = elements::<T>(&x)?.to_vec();
        if self.is_quantized {
            round_to_eight_bits(&mut x);
        }
        let directions = self.directions();
        let mut states =
            [self.state(inputs, Places::HIDDEN, sizes)?, self.state(inputs, Places::CELL, sizes)?];
        let mut all = vec![T::zero(); time * directions * batch * sizes.hidden];
        for (at, weights) in packed.iter().enumerate() {
            let is_reverse = at == 1 || self.direction == Direction::Reverse;
            let block = batch * sizes.hidden;
            let [hidden, cell] = &mut states;
            let state = (&mut hidden[at * block..][..block], &mut cell[at * block..][..block]);
            let walk = Walk { sizes, lengths: &lengths, is_reverse, directions, at };
            self.walk(&walk, weights, &x, state, &mut all);
        }
        let [hidden, cell] = states;
        let shape = [directions, batch, sizes.hidden];
        let mut outputs = tvec![
            self.outward(Tensor::from_shape(&[time, directions, batch, sizes.hidden], &all)?, &[2, 0, 1, 3])?,
            self.outward(Tensor::from_shape(&shape, &hidden)?, &[1, 0, 2])?
        ];
        if self.cell == cell::Kind::Lstm {
            outputs.push(self.outward(Tensor::from_shape(&shape, &cell)?, &[1, 0, 2])?);
        }
        Ok(outputs)
    }

    /// X as [time, batch, features].
    fn time_first(&self, x: &Tensor) -> TractResult<Tensor> {
        match self.is_batch_first && x.rank() == 3 {
            true => x.clone().permute_axes(&[1, 0, 2]),
            false => Ok(x.clone()),
        }
    }

    /// An output in the node's layout.
    fn outward(&self, tensor: Tensor, batch_first: &[usize]) -> TractResult<Tensor> {
        if self.is_batch_first { tensor.permute_axes(batch_first) } else { Ok(tensor) }
    }

    /// The length of each sequence.
    fn lengths(&self, inputs: &Inputs<Tensor>, sizes: Sizes) -> TractResult<Vec<usize>> {
        let Some(lengths) = inputs.optional(Places::LENGTHS) else {
            return Ok(vec![sizes.time; sizes.batch]);
        };
        let lengths = ints(lengths)?;
        let fit = |length: &i64| usize::try_from(*length).ok().filter(|length| *length <= sizes.time);
        let checked: Option<Vec<usize>> = lengths.iter().map(fit).collect();
        checked.filter(|lengths| lengths.len() == sizes.batch).ok_or_else(|| {
            TractError::msg(format!(
                "`sequence_lens` is {lengths:?}: expected {} lengths from 0 to {}",
                sizes.batch, sizes.time
            ))
        })
    }

    /// The initial state `[directions, batch, hidden]`; zeros when there is none.
    fn state<T: Real>(&self, inputs: &Inputs<Tensor>, at: usize, sizes: Sizes) -> TractResult<Vec<T>> {
        let shape = [self.directions(), sizes.batch, sizes.hidden];
        let Some(state) =
            inputs.optional(at).filter(|_| at == Places::HIDDEN || self.cell == cell::Kind::Lstm)
        else {
            return Ok(vec![T::zero(); shape.iter().product()]);
        };
        let state = match self.is_batch_first && state.rank() == 3 {
            true => state.clone().permute_axes(&[1, 0, 2])?,
            false => state.clone(),
        };
        if state.shape() != shape {
            return Err(TractError::msg(format!(
                "an initial state has the shape {:?}: expected {shape:?}",
                state.shape()
            )));
        }
        Ok(elements::<T>(&state)?.to_vec())
    }

    /// Walks over the time in one direction. `all` receives the states of each step.
    fn walk<T: Recurring>(
        &self,
        walk: &Walk,
        weights: &Weights<T>,
        x: &[T],
        state: (&mut [T], &mut [T]),
        all: &mut [T],
    ) {
        let Sizes { time, batch, hidden: size } = walk.sizes;
        let (hidden, cell) = state;
        let rows = weights.bias.len();
        let mut gates: Vec<T> = weights.bias.repeat(time * batch);
        T::add_product(x, &weights.input, &mut gates);
        let activations = self.cell.activations().len();
        let step = Step {
            activations: &self.activations[walk.at * activations..(walk.at + 1) * activations],
            clip: self.clip.map(|clip| T::of(clip.into())),
            peepholes: weights.peepholes.as_deref(),
            couples_input_and_forget: self.couples_input_and_forget,
        };
        let is_gru = self.cell == cell::Kind::Gru;
        let width = if is_gru { rows - size } else { rows };
        let mut products = vec![T::zero(); batch * width];
        let mut late = vec![T::zero(); if is_gru { batch * size } else { 0 }];
        let mut previous = hidden.to_vec();
        for turn in 0..time {
            previous.copy_from_slice(hidden);
            if self.is_quantized {
                round_to_eight_bits(&mut previous);
            }
            // All rows at once, also those that have ended, because this is faster than row by row.
            products.fill(T::zero());
            T::add_product(&previous, &weights.recurrent, &mut products);
            if let Some(candidate) = weights.candidate.as_ref().filter(|_| self.resets_after_product) {
                late.fill(T::zero());
                T::add_product(&previous, candidate, &mut late);
            }
            for row in 0..batch {
                let length = walk.lengths[row];
                if turn >= length {
                    continue;
                }
                let at = if walk.is_reverse { length - 1 - turn } else { turn };
                let gates = &mut gates[(at * batch + row) * rows..][..rows];
                let products = &products[row * width..][..width];
                gates.iter_mut().zip(products).for_each(|(gate, product)| *gate += *product);
                let (here, cell) = (&mut hidden[row * size..][..size], &mut cell[row * size..][..size]);
                match self.cell {
                    cell::Kind::Rnn => step.rnn(gates, here),
                    cell::Kind::Lstm => step.lstm(gates, here, cell),
                    cell::Kind::Gru => {
                        let late = &mut late[row * size..][..size];
                        self.gru(&step, weights, gates, here, late);
                    }
                }
                let place = ((at * walk.directions + walk.at) * batch + row) * size;
                all[place..place + size].copy_from_slice(here);
            }
        }
    }

    /// One step of one row of a GRU. `late` is the product of the last gate if the reset comes after it, else free.
    fn gru<T: Recurring>(
        &self,
        step: &Step<T>,
        weights: &Weights<T>,
        gates: &mut [T],
        hidden: &mut [T],
        late: &mut [T],
    ) {
        let (first, candidate) = gates.split_at_mut(2 * hidden.len());
        step.gru_gates(first);
        let (update, reset) = first.split_at(hidden.len());
        match (self.resets_after_product, &weights.candidate) {
            (false, Some(matrix)) => {
                for ((gated, state), reset) in late.iter_mut().zip(&*hidden).zip(reset) {
                    *gated = *state * *reset;
                }
                T::add_product(late, matrix, candidate);
            }
            _ => {
                let late = late.iter().zip(&weights.late_bias);
                for ((candidate, reset), (product, bias)) in candidate.iter_mut().zip(reset).zip(late) {
                    *candidate += *reset * (*product + *bias);
                }
            }
        }
        step.gru(update, candidate, hidden);
    }
}

/// One direction's way over the time.
struct Walk<'a> {
    sizes: Sizes,
    lengths: &'a [usize],
    is_reverse: bool,
    directions: usize,
    /// The number of this direction.
    at: usize,
}

/// Rounds to 256 steps between the smallest and the largest value, as onnxruntime's dynamic quantization does.
fn round_to_eight_bits<T: Real>(values: &mut [T]) {
    let (zero, most) = (T::zero(), T::of(255.0));
    let least = values.iter().copied().fold(zero, T::min);
    let largest = values.iter().copied().fold(zero, T::max);
    if largest == least {
        return;
    }
    let scale = (largest - least) / most;
    let offset = round_even(-least / scale).max(zero).min(most);
    for value in values {
        let step = (round_even(*value / scale) + offset).max(zero).min(most);
        *value = (step - offset) * scale;
    }
}

/// Rounds halves to the even neighbour.
fn round_even<T: Real>(value: T) -> T {
    let rounded = value.round();
    let is_half = (value - value.trunc()).abs() == T::of(0.5);
    match is_half && rounded % T::of(2.0) != T::zero() {
        true => rounded - value.signum(),
        false => rounded,
    }
}

impl Operator for Recurrent {
    fn name(&self) -> &'static str {
        match self.cell {
            cell::Kind::Rnn => "RNN",
            cell::Kind::Gru => "GRU",
            cell::Kind::Lstm if self.is_quantized => "DynamicQuantizeLSTM",
            cell::Kind::Lstm => "LSTM",
        }
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let (x, r) = (inputs.required(Places::X, "X")?, inputs.required(Places::R, "R")?);
        inputs.required(Places::W, "W")?;
        expect_float(x, "X")?;
        super::expect_one_type(inputs, self.is_quantized)?;
        if x.rank() != 3 || r.rank() != 3 {
            return Err(TractError::msg(format!(
                "its inputs `X` and `R` have {} and {} axes: expected 3",
                x.rank(),
                r.rank()
            )));
        }
        let hidden = if self.is_quantized { r.shape[1].clone() } else { r.shape[2].clone() };
        let directions = TDim::from(self.directions());
        let (time, batch) = if self.is_batch_first { (1, 0) } else { (0, 1) };
        let (time, batch) = (x.shape[time].clone(), x.shape[batch].clone());
        let (all, last) = match self.is_batch_first {
            true => (
                vec![batch.clone(), time, directions.clone(), hidden.clone()],
                vec![batch, directions, hidden],
            ),
            false => (
                vec![time, directions.clone(), batch.clone(), hidden.clone()],
                vec![directions, batch, hidden],
            ),
        };
        let mut outputs = tvec![Kind::new(x.datum_type, all), Kind::new(x.datum_type, last.clone())];
        if self.cell == cell::Kind::Lstm {
            outputs.push(Kind::new(x.datum_type, last));
        }
        Ok(outputs)
    }

    fn prepared(&self, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        super::expect_one_type(inputs, self.is_quantized)?;
        let is_single = inputs.required(Places::X, "X")?.datum_type == DatumType::F32;
        let weights = [Places::W, Places::R, Places::B, Places::PEEPHOLES];
        let scales = (Places::SCALES..inputs.len()).collect::<Vec<_>>();
        let mut needed = weights.iter().chain(&scales).filter_map(|at| inputs.optional(*at));
        if !is_single || needed.any(|kind| kind.value.is_none()) {
            return Ok(None);
        }
        let values: Vec<Option<Arc<Tensor>>> =
            inputs.0.iter().map(|kind| kind.and_then(|kind| kind.value.clone())).collect();
        let packed = self.pack::<f32>(&Inputs(values.iter().map(Option::as_deref).collect()))?;
        Ok(Some(Arc::new(Recurrent { packed: Some(Arc::new(packed)), ..self.clone() })))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        if let Some(packed) = &self.packed {
            return self.compute(inputs, packed);
        }
        in_reals(
            inputs,
            |inputs| self.compute(inputs, &self.pack::<f32>(inputs)?),
            |inputs| self.compute(inputs, &self.pack::<f64>(inputs)?),
        )
    }
}
