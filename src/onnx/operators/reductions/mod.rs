//! Reductions: operators that join the elements of axes, and `CumSum` and `CumProd`, which keep what they have so far.
//!
//! All are ours, in all versions of the standard, for all its datatypes, and with axes that only the run knows. tract's
//! begin maxima at the least finite number, do not shift log-sum-exp, and are slow over other axes than the last. They
//! follow the standard, and the reference evaluator where it leaves something open (NaN, sets without elements).

mod arg;
mod cumulative;
mod fold;
mod reduce;
#[cfg(test)]
mod tests;

use super::entry::Entry;

/// What is served.
pub const TABLE: &[Entry] = &[
    reduction("ReduceL1"),
    reduction("ReduceL2"),
    reduction("ReduceLogSum"),
    reduction("ReduceLogSumExp"),
    reduction("ReduceMax"),
    reduction("ReduceMean"),
    reduction("ReduceMin"),
    reduction("ReduceProd"),
    reduction("ReduceSum"),
    reduction("ReduceSumSquare"),
    Entry::onnx("ArgMax", &["axis", "keepdims", "select_last_index"]).own(arg::arg),
    Entry::onnx("ArgMin", &["axis", "keepdims", "select_last_index"]).own(arg::arg),
    Entry::onnx("CumProd", &["exclusive", "reverse"]).own(cumulative::cumulative),
    Entry::onnx("CumSum", &["exclusive", "reverse"]).own(cumulative::cumulative),
];

const fn reduction(name: &'static str) -> Entry {
    Entry::onnx(name, &["axes", "keepdims", "noop_with_empty_axes"]).own(reduce::reduction)
}
