//! One step of a recurrent operator: the new state of one row from its gates.

use super::super::floats::Real;
use super::activation::{Activation, between};

/// Which operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rnn,
    Gru,
    Lstm,
}

impl Kind {
    /// The number of gates.
    pub fn gates(self) -> usize {
        match self {
            Kind::Rnn => 1,
            Kind::Gru => 3,
            Kind::Lstm => 4,
        }
    }

    /// The activations of one direction when the node names none.
    pub fn activations(self) -> &'static [&'static str] {
        match self {
            Kind::Rnn => &["Tanh"],
            Kind::Gru => &["Sigmoid", "Tanh"],
            Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// What a step needs beside the gates.
#[derive(Debug)]
pub struct Step<'a, T> {
    /// Those of this direction.
    pub activations: &'a [Activation],
    /// The inputs of activations are kept between −clip and clip.
    pub clip: Option<T>,
    /// Of an LSTM: weights of the cell `[3 · hidden]` in the order input, output, forget; or none.
    pub peepholes: Option<&'a [T]>,
    /// Of an LSTM: the forget gate is 1 − the input gate.
    pub couples_input_and_forget: bool,
}

impl<T: Real> Step<'_, T> {
    fn activate(&self, which: usize, values: &mut [T]) {
        if let Some(clip) = self.clip {
            values.iter_mut().for_each(|value| *value = between(-clip, *value, clip));
        }
        self.activations[which].apply(values);
    }

    /// RNN: `gates` becomes the new state.
    pub fn rnn(&self, gates: &mut [T], hidden: &mut [T]) {
        self.activate(0, gates);
        hidden.copy_from_slice(gates);
    }

    /// LSTM: `gates` has input, output, forget, cell.
    pub fn lstm(&self, gates: &mut [T], hidden: &mut [T], cell: &mut [T]) {
        let size = hidden.len();
        let (input, rest) = gates.split_at_mut(size);
        let (output, rest) = rest.split_at_mut(size);
        let (forget, candidate) = rest.split_at_mut(size);
        let peep = |gate: &mut [T], cell: &[T], which: usize| {
            if let Some(peepholes) = self.peepholes {
                let weights = &peepholes[which * size..(which + 1) * size];
                for ((gate, cell), weight) in gate.iter_mut().zip(cell).zip(weights) {
                    *gate += *weight * *cell;
                }
            }
        };
        peep(input, cell, 0);
        self.activate(0, input);
        if self.couples_input_and_forget {
            for (forget, input) in forget.iter_mut().zip(&*input) {
                *forget = T::one() - *input;
            }
        } else {
            peep(forget, cell, 2);
            self.activate(0, forget);
        }
        self.activate(1, candidate);
        for (((cell, forget), input), candidate) in
            cell.iter_mut().zip(&*forget).zip(&*input).zip(&*candidate)
        {
            *cell = *forget * *cell + *input * *candidate;
        }
        peep(output, cell, 1);
        self.activate(0, output);
        hidden.copy_from_slice(cell);
        self.activations[2].apply(hidden);
        for (hidden, output) in hidden.iter_mut().zip(&*output) {
            *hidden *= *output;
        }
    }

    /// GRU, the gates `update` and `reset` in that order: activates them.
    pub fn gru_gates(&self, gates: &mut [T]) {
        self.activate(0, gates);
    }

    /// GRU, the end of a step: `candidate` is the input of its activation.
    pub fn gru(&self, update: &[T], candidate: &mut [T], hidden: &mut [T]) {
        self.activate(1, candidate);
        for ((hidden, update), candidate) in hidden.iter_mut().zip(update).zip(&*candidate) {
            *hidden = (T::one() - *update) * *candidate + *update * *hidden;
        }
    }
}
