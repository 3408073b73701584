//! What an operator of ours is: the datatypes and shapes of its outputs, and their computation.
//!
//! What belongs here: the trait [`Operator`] and the types of its arguments. What does not: the connection to tract
//! (`own`), and which node uses which operator (`table`).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use onnxd_kernels::functions::Function;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, SymbolScope};

/// What is known about a tensor before the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// The type of the elements. Never `TDim`: an operator sees sizes as `I64`.
    pub datum_type: DatumType,
    /// The lengths of the axes; open ones are symbols.
    pub shape: TVec<TDim>,
    /// The value, for an input that is constant. Outputs have none.
    pub value: Option<Arc<Tensor>>,
    /// The elements, flat, for integers that are constant but contain symbols, such as the shape of a tensor with open
    /// dimensions. Such an input has no `value`.
    pub sizes: Option<TVec<TDim>>,
}

impl Kind {
    /// A tensor with an unknown value.
    pub fn new(datum_type: DatumType, shape: impl IntoIterator<Item = TDim>) -> Kind {
        Kind { datum_type, shape: shape.into_iter().collect(), value: None, sizes: None }
    }

    /// A tensor whose value is known.
    pub fn of(tensor: Arc<Tensor>) -> Kind {
        let shape = tensor.shape().iter().map(|length| length.to_dim()).collect();
        Kind { datum_type: tensor.datum_type(), shape, value: Some(tensor), sizes: None }
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The elements as integers, flat. `None` when the value is not known.
    ///
    /// Errors: the elements are not integers.
    pub fn ints(&self) -> TractResult<Option<Vec<i64>>> {
        self.value.as_ref().map(|value| ints(value)).transpose()
    }

    /// The elements as integers, flat, that may contain symbols. `None` when they are not known.
    ///
    /// Errors: the elements are not integers.
    pub fn sizes(&self) -> TractResult<Option<TVec<TDim>>> {
        match &self.sizes {
            Some(sizes) => Ok(Some(sizes.clone())),
            None => Ok(self.ints()?.map(|ints| ints.iter().map(|int| int.to_dim()).collect())),
        }
    }

    /// The number of elements, at most `usize::MAX`. `None` when it is open.
    pub fn count(&self) -> Option<usize> {
        self.shape
            .iter()
            .try_fold(1_usize, |count, length| Some(count.saturating_mul(length.to_usize().ok()?)))
    }
}

/// The integers of a tensor, flat.
///
/// Errors: the elements are not integers.
pub fn ints(tensor: &Tensor) -> TractResult<Vec<i64>> {
    if !tensor.datum_type().is_integer() {
        return Err(TractError::msg(format!("a tensor of {:?}: expected integers", tensor.datum_type())));
    }
    let cast = tensor.cast_to::<i64>()?;
    Ok(cast.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// The elements of a tensor, flat, in row-major order.
///
/// Errors: the tensor has another datatype.
pub fn elements<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice::<T>()
}

/// The texts of a tensor, flat. Empty for a tensor of another type.
pub fn texts(tensor: &Tensor) -> &[String] {
    elements::<String>(tensor).unwrap_or_default()
}

/// A tensor of texts.
pub fn text_tensor(shape: &[usize], texts: Vec<String>) -> TractResult<Tensor> {
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, texts)?.into_tensor())
}

/// The bytes of a tensor's texts. 0 for a tensor of another type.
pub fn text_bytes(tensor: &Tensor) -> usize {
    texts(tensor).iter().map(String::len).sum()
}

/// The bytes of a tensor's longest text. 0 for a tensor of another type.
pub fn longest_text(tensor: &Tensor) -> usize {
    texts(tensor).iter().map(String::len).max().unwrap_or(0)
}

/// The bytes of all texts of all inputs: the most text of an operator that keeps every text or leaves it out.
pub fn kept_text(inputs: &Inputs<Tensor>) -> u128 {
    inputs.0.iter().flatten().map(|input| text_bytes(input) as u128).sum()
}

/// The inputs of a node, in the order of the standard. An optional input that the node leaves out is `None`.
#[derive(Debug)]
pub struct Inputs<'a, T>(pub TVec<Option<&'a T>>);

impl<'a, T> Inputs<'a, T> {
    /// All of `inputs`, in order; none is left out.
    pub fn all(inputs: &'a [T]) -> Inputs<'a, T> {
        Inputs(inputs.iter().map(Some).collect())
    }

    /// The number of inputs, with those that are left out before the last one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// An input that may be left out. `at` counts from 0.
    pub fn optional(&self, at: usize) -> Option<&'a T> {
        self.0.get(at).copied().flatten()
    }

    /// An input that must be there. `name` is its name in the standard.
    pub fn required(&self, at: usize, name: &str) -> TractResult<&'a T> {
        self.optional(at)
            .ok_or_else(|| TractError::msg(format!("its input {at} (`{name}`, counted from 0) is missing")))
    }

    /// The only input.
    ///
    /// Errors: there are none or several.
    pub fn single(&self) -> TractResult<&'a T> {
        match self.0[..] {
            [Some(input)] => Ok(input),
            _ => Err(TractError::msg(format!("it has {} inputs: expected 1", self.len()))),
        }
    }

    /// All inputs of an operator that takes any number of them.
    ///
    /// Errors: one is left out.
    pub fn each(&self) -> TractResult<TVec<&'a T>> {
        let all: Option<TVec<&'a T>> = self.0.iter().copied().collect();
        all.ok_or_else(|| TractError::msg("an input is left out: expected all"))
    }
}

/// Lengths of axes that only the run determines ("late" lengths). Each is a symbol, and the same number always gives
/// the same symbol.
#[derive(Debug)]
pub struct LateLengths {
    scope: SymbolScope,
    symbols: Mutex<Vec<Symbol>>,
}

impl LateLengths {
    /// No lengths yet. The symbols belong to `scope`.
    pub fn new(scope: SymbolScope) -> LateLengths {
        LateLengths { scope, symbols: Mutex::new(Vec::new()) }
    }

    /// The late length number `at`. An operator counts its late lengths from 0.
    pub fn length(&self, at: usize) -> TDim {
        let mut symbols = self.symbols.lock().unwrap_or_else(PoisonError::into_inner);
        while symbols.len() <= at {
            symbols.push(self.scope.new_with_prefix("late"));
        }
        symbols[at].to_dim()
    }

    /// True when no length was asked for.
    pub fn is_empty(&self) -> bool {
        self.symbols.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// What an operator can do with its result before it stores it, so that no other operator has to.
#[derive(Debug, Clone)]
pub enum Step {
    /// A function of each element.
    Function(Function),
    /// Elements are multiplied by the factor of their channel, their place along an axis, and then its offset is added.
    Scale { axis: usize, factors: Arc<[f32]>, offsets: Arc<[f32]> },
    /// A tensor of the same shape is added. It becomes the last input.
    Add,
    /// Integers of 32 bits become FP32.
    Singles,
    /// Elements are multiplied by the only element of another tensor, which becomes the last input.
    Times,
}

/// How an operator converts between numbers and integers, if there is one scale for all of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    pub scale: f32,
    /// The integer of the number 0.
    pub zero: i32,
    /// The least and the largest integer that numbers become. `None`: the operator makes numbers of integers.
    pub limits: Option<(i32, i32)>,
}

/// An operator that keeps nothing from one run to the next.
pub trait Operator: fmt::Debug + Send + Sync + 'static {
    /// The name in the ONNX standard.
    fn name(&self) -> &'static str;

    /// The datatypes and shapes of all outputs, also of those that the node does not name. A length that depends on the
    /// value of an input is computed when the value is known, and is a late length otherwise. The number of axes must be
    /// known.
    ///
    /// Errors say what is wrong with the inputs and what was expected.
    fn outputs(&self, inputs: &Inputs<Kind>, late: &LateLengths) -> TractResult<TVec<Kind>>;

    /// True when two runs with the same inputs differ. Then it is not computed before the run.
    fn is_random(&self) -> bool {
        false
    }

    /// True when the operator only moves elements of its input 0, so that it also works on sizes that contain symbols.
    fn keeps_symbols(&self) -> bool {
        false
    }

    /// The same operator, prepared for inputs of these kinds. `None`: this operator runs as it is.
    fn prepared(&self, _inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
        Ok(None)
    }

    /// False for an input that a prepared operator does not read any more. Then it gets `None`, and the graph does not keep
    /// the input for it.
    fn needs(&self, _input: usize) -> bool {
        true
    }

    /// The bytes of weights that the operator itself holds.
    fn weight_bytes(&self) -> usize {
        0
    }

    /// What this operator does, if it is nothing but a step on its input 0 and could be done by the operator before it.
    fn as_step(&self, _inputs: &Inputs<Kind>) -> Option<Step> {
        None
    }

    /// A faster form, whose results differ in the last bits. It is asked for when this operator does all its steps, and only if
    /// nothing in the graph rounds to steps: there, numbers near the middle of two steps would become the other one.
    fn faster(&self) -> Option<Arc<dyn Operator>> {
        None
    }

    /// How this operator converts FP32 to integers or integers to FP32, if it does only that.
    fn quantization(&self, _inputs: &Inputs<Kind>) -> Option<Quantization> {
        None
    }

    /// The axis of the result for whose places this operator can do [`Step::Scale`].
    fn channel_axis(&self) -> usize {
        1
    }

    /// This operator with a step after it. `None`: it cannot do the step.
    fn then(&self, _step: &Step) -> Option<Arc<dyn Operator>> {
        None
    }

    /// The most bytes that the outputs can have, for an operator whose lengths stay late even when all values are
    /// known (it counts elements).
    fn most_bytes(&self, _inputs: &Inputs<Tensor>) -> TractResult<u128> {
        Err(TractError::msg("the size of the result cannot be computed before it is made"))
    }

    /// The bytes of the longest text that the operator writes itself, such as a label.
    fn longest_text(&self) -> usize {
        0
    }

    /// The most bytes of text in `count` elements of type String that the operator makes. As long as this method is not
    /// overridden, each of them may hold one text of every input, as in `Gather` and `StringConcat`, and one of its own.
    fn most_text(&self, inputs: &Inputs<Tensor>, count: u128) -> u128 {
        let of_inputs: usize = inputs.0.iter().flatten().map(|input| longest_text(input)).sum();
        count.saturating_mul((of_inputs + self.longest_text()) as u128)
    }

    /// Computes all outputs, with the datatypes and shapes that `outputs` gave. A wrong input is an error, never a panic.
    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>>;
}
