//! Mathematics: operators on each element, comparisons, casts, products of matrices, softmax, random numbers.
//!
//! tract serves FP32 and INT64 where it is right (it joins such operators with others, and it computes with sizes that are
//! not known). Ours serve the other types, and what tract does not have. They follow the standard; where it leaves something
//! open (division by 0, values that do not fit), they follow the reference evaluator.
//!
//! What tract does otherwise, so that ours serve it: it multiplies by the reciprocal of a divisor, so that 49 ÷ 49 is less
//! than 1; maxima and minima lose a NaN; `LogSoftmax` is not computed with a shift; shifts wrap.

mod arithmetic;
mod binary;
mod bits;
mod cast;
mod conversion;
mod det;
mod einsum;
mod equation;
mod labelled;
mod linear;
mod logic;
mod matmul;
mod power;
mod product;
mod random;
mod served;
mod softmax;
#[cfg(test)]
mod tests;
mod text;
mod topk;
mod unary;
mod variadic;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::attributes::Attributes;
use super::entry::{Entry, Form};
use super::operator::Operator;

pub use cast::{converted, is_bfloat, named_type as cast_type};

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

/// The types that tract serves where it serves an operator at all.
const COMMON: &[DatumType] = &[DatumType::F32, DatumType::I64];
const F32: &[DatumType] = &[DatumType::F32];
const I64: &[DatumType] = &[DatumType::I64];

/// Attributes of versions before 7. `consumed_inputs` is about memory and changes no result, and `broadcast` without `axis`
/// is what later versions always do.
const OLD: &[&str] = &["axis", "broadcast", "consumed_inputs"];
const OLD_WITHOUT_AXIS: &[&str] = &["broadcast", "consumed_inputs"];

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("Abs", &["consumed_inputs"]).engine(Form::ALL.types(F32)).own(unary::signed),
    Entry::onnx("Acos", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Acosh", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Add", OLD).engine(COMMON_FORM).own(arithmetic::arithmetic),
    Entry::onnx("And", OLD).own(logic::connection),
    Entry::onnx("Asin", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Asinh", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Atan", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Atanh", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Bernoulli", &["dtype", "seed"]).own(random::random),
    Entry::onnx("BitCast", &["to"]).own(bits::cast),
    Entry::onnx("BitShift", &["direction"]).own(bits::shift),
    Entry::onnx("BitwiseAnd", &[]).own(bits::bitwise),
    Entry::onnx("BitwiseNot", &[]).own(bits::not),
    Entry::onnx("BitwiseOr", &[]).own(bits::bitwise),
    Entry::onnx("BitwiseXor", &[]).own(bits::bitwise),
    // `saturate` and `round_mode` are only about float8, which is refused.
    Entry::onnx("Cast", &["to", "saturate", "round_mode"]).own(cast::cast).rewritten(),
    Entry::onnx("CastLike", &["saturate", "round_mode"]).own(cast::cast_like).rewritten(),
    Entry::onnx("Ceil", &["consumed_inputs"]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Cos", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Cosh", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Det", &[]).own(det::det),
    Entry::onnx("Div", OLD).engine(COMMON_FORM.when(served::quotient)).own(arithmetic::arithmetic),
    Entry::onnx("Einsum", &["equation"])
        .engine(Form::ALL.types(F32).when(einsum::is_plain_product))
        .own(einsum::einsum),
    Entry::onnx("Equal", OLD).engine(COMMON_FORM).own(logic::comparison),
    Entry::onnx("Erf", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Exp", &["consumed_inputs"]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Floor", &["consumed_inputs"]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Gemm", &["alpha", "beta", "broadcast", "transA", "transB"])
        .engine(Form::ALL.types(F32).when(matmul::has_common_form))
        .own(matmul::gemm),
    Entry::onnx("Greater", OLD).engine(COMMON_FORM).own(logic::comparison),
    Entry::onnx("GreaterOrEqual", &[]).engine(COMMON_FORM).own(logic::comparison),
    Entry::onnx("Hardmax", &["axis"]).own(softmax::softmax),
    Entry::onnx("IsInf", &["detect_negative", "detect_positive"]).own(logic::is_inf),
    Entry::onnx("IsNaN", &[]).own(logic::is_nan),
    Entry::onnx("Less", OLD).engine(COMMON_FORM).own(logic::comparison),
    Entry::onnx("LessOrEqual", &[]).engine(COMMON_FORM).own(logic::comparison),
    Entry::onnx("Log", &["consumed_inputs"]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("LogSoftmax", &["axis"]).own(softmax::softmax),
    Entry::onnx("MatMul", &[]).engine(Form::ALL.types(F32).when(matmul::has_matrix)).own(matmul::matmul),
    Entry::onnx("Max", &["consumed_inputs"]).engine(Form::ALL.types(I64)).own(variadic::variadic),
    Entry::onnx("Mean", &["consumed_inputs"]).own(variadic::variadic),
    Entry::onnx("Min", &["consumed_inputs"]).engine(Form::ALL.types(I64)).own(variadic::variadic),
    Entry::onnx("Mod", &["fmod"]).engine(Form::ALL.types(I64).when(served::quotient)).own(arithmetic::modulo),
    Entry::onnx("Mul", OLD).engine(COMMON_FORM.when(served::times)).own(arithmetic::arithmetic),
    Entry::onnx("Multinomial", &["dtype", "sample_size", "seed"]).own(random::multinomial),
    Entry::onnx("Neg", &["consumed_inputs"]).engine(Form::ALL.types(COMMON)).own(unary::signed),
    Entry::onnx("Not", &[]).own(logic::not),
    Entry::onnx("Or", OLD).own(logic::connection),
    Entry::onnx("Pow", OLD).engine(Form::ALL.types(F32).when(served::power)).own(power::power),
    Entry::onnx("RandomNormal", &["dtype", "mean", "scale", "seed", "shape"]).own(random::random),
    Entry::onnx("RandomNormalLike", &["dtype", "mean", "scale", "seed"]).own(random::random),
    Entry::onnx("RandomUniform", &["dtype", "high", "low", "seed", "shape"]).own(random::random),
    Entry::onnx("RandomUniformLike", &["dtype", "high", "low", "seed"]).own(random::random),
    Entry::onnx("Reciprocal", &["consumed_inputs"]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Round", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Sign", &[]).engine(Form::ALL.types(F32)).own(unary::signed),
    Entry::onnx("Sin", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Sinh", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Softmax", &["axis"])
        .engine(Form::ALL.types(F32).when(softmax::is_over_rows))
        .own(softmax::softmax),
    Entry::onnx("Sqrt", &["consumed_inputs"]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("Sub", OLD).engine(COMMON_FORM).own(arithmetic::arithmetic),
    Entry::onnx("Sum", &["consumed_inputs"]).engine(Form::ALL.types(F32)).own(variadic::variadic),
    Entry::onnx("Tan", &[]).engine(Form::ALL.types(F32)).own(unary::real),
    Entry::onnx("TopK", &["axis", "k", "largest", "sorted"]).own(topk::topk),
    Entry::onnx("Where", &[]).engine(Form::ALL.when(served::choice)).own(logic::choice),
    Entry::onnx("Xor", OLD).own(logic::connection),
];

/// FP32 and INT64, without the `axis` of versions before 7.
const COMMON_FORM: Form = Form::ALL.types(COMMON).attributes(OLD_WITHOUT_AXIS).when(served::same_types);

/// The name of a node's operator, as the table has it.
fn own_name(attributes: &Attributes) -> TractResult<&'static str> {
    let entry = TABLE.iter().find(|entry| entry.name == attributes.node.op_type);
    entry.map(|entry| entry.name).ok_or_else(|| attributes.wrong("it has no entry"))
}

/// The elements that an operator takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elements {
    /// FP16, FP32, FP64.
    Floats,
    /// Signed and unsigned integers of 8 to 64 bits.
    Integers,
    /// Floats and integers.
    Numbers,
    /// BOOL.
    Truths,
    /// Numbers, BOOL and text.
    Any,
}

impl Elements {
    /// Errors: the operator does not take this type.
    pub fn check(self, datum_type: DatumType) -> TractResult<()> {
        let is_integer = datum_type.is_integer() && !datum_type.is_quantized();
        let (is_taken, expected) = match self {
            Elements::Floats => (datum_type.is_float(), "FP16, FP32 or FP64"),
            Elements::Integers => (is_integer, "integers"),
            Elements::Numbers => (datum_type.is_float() || is_integer, "numbers"),
            Elements::Truths => (datum_type == DatumType::Bool, "BOOL"),
            Elements::Any => (
                datum_type.is_float()
                    || is_integer
                    || matches!(datum_type, DatumType::Bool | DatumType::String),
                "numbers, BOOL or BYTES",
            ),
        };
        if is_taken {
            return Ok(());
        }
        Err(TractError::msg(format!("an input is of type {datum_type:?}: expected {expected}")))
    }
}
