//! Values that are computed while the graph is made ("folding").
//!
//! What belongs here: which values of constants are computed now. What does not: that they become constants of the graph.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, EvalOp, TypedOp};

use super::super::operators::operator::Kind;
use super::super::operators::own::Own;

/// A constant is computed while the graph is made if it has at most so many bytes, or not more than
/// [`FOLD_GROWTH`] times its inputs. So weights that are stored in eight bits are widened once.
const FOLD_BYTES: usize = 1 << 20;
const FOLD_GROWTH: usize = 8;

/// An operator on sizes with symbols is computed while the graph is made if it has at most so many elements.
const MOST_SIZES: usize = 1 << 10;

/// The outputs of an operator, if all its inputs are constant and the outputs are not too large.
pub(super) fn folded(op: &dyn TypedOp, facts: &[&TypedFact]) -> TractResult<Option<TVec<TValue>>> {
    let constants: Option<TVec<TValue>> =
        facts.iter().map(|fact| fact.konst.clone().map(IntoTValue::into_tvalue)).collect();
    let Some(constants) = constants.filter(|constants| !constants.is_empty()) else { return Ok(None) };
    let bytes: Option<usize> =
        op.output_facts(facts)?.iter().map(|fact| fact.mem_size().to_usize().ok()).sum();
    if bytes.is_none_or(|bytes| bytes > most_folded(&constants)) {
        return Ok(None);
    }
    // A constant with a symbol has no value before the run, and that is an error of the operator.
    Ok(op.eval_out_of_plan(constants).unwrap_or(None))
}

/// The outputs for constant inputs. `None` when they are computed in each run.
pub(super) fn of_constants(
    own: &Own,
    kinds: &[Kind],
    constants: TVec<TValue>,
) -> TractResult<Option<TVec<TValue>>> {
    if kinds.iter().all(|kind| kind.value.is_some()) {
        return if is_small(own, &constants) { own.eval_out_of_plan(constants) } else { Ok(None) };
    }
    let counts: Option<Vec<usize>> = own.kinds(kinds)?.iter().map(Kind::count).collect();
    let are_few = counts.is_some_and(|counts| counts.iter().all(|count| *count <= MOST_SIZES));
    if are_few && kinds.iter().skip(1).all(|kind| kind.value.is_some()) {
        return own.of_sizes(&constants);
    }
    Ok(None)
}

/// Whether the result of these constants is small enough to be computed now.
fn is_small(own: &Own, constants: &[TValue]) -> bool {
    own.bytes(&Default::default(), constants).is_ok_and(|bytes| bytes <= most_folded(constants) as u128)
}

/// The most bytes of a result of these constants that is computed while the graph is made.
fn most_folded(constants: &[TValue]) -> usize {
    let bytes: usize = constants.iter().map(|value| value.len() * value.datum_type().size_of()).sum();
    bytes.saturating_mul(FOLD_GROWTH).max(FOLD_BYTES)
}
