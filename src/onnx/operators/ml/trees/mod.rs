//! Tree ensembles: `TreeEnsembleClassifier` and `TreeEnsembleRegressor` (ai.onnx.ml 1 and 3), and
//! `TreeEnsemble` (ai.onnx.ml 5).
//!
//! tract has only the first of these. Its version is hundreds of times slower than ours. It also treats every
//! `BRANCH_GTE` node as a leaf, so that models with this comparison give wrong answers without an error (tract 0.23.9:
//! its reader of comparisons stops before the last one, and a test got one answer for every row).
//!
//! This file reads the attributes of the three operators. `listed` and `indexed` read the two forms of trees, with the
//! checks in `nodes`. `forest` lays the trees out and walks them, `scores` makes outputs of the walks' results, and
//! `ensemble` is the operator.
//!
//! # Where this follows the standard and onnxruntime does not
//! Where the standard leaves something open (one column of weights for two classes, the order of sums), this does what
//! onnxruntime 1.31 does, and the outputs are equal bit by bit. onnxruntime deviates from the standard in cases that
//! trainers do not export. There this follows the standard:
//!
//! - NaN goes to the "false" branch of `BRANCH_NEQ` too, unless `nodes_missing_value_tracks_true` says
//!   otherwise (onnxruntime: always to "true").
//! - `LOGISTIC`, `SOFTMAX` and `SOFTMAX_ZERO` are applied to a single target (onnxruntime: not applied).
//! - Base values are added to targets without votes, and each of two classes gets its own base value (onnxruntime: not
//!   added, and exchanged).
//! - With weights for both of two classes the class with the higher score is the answer, by its label
//!   (onnxruntime: 1 if the second score is above zero, else 0, for any labels).
//! - All weights of a leaf count (onnxruntime: only the first, with a single target).
//! - In ai.onnx.ml 5 the numbers of `SOFTMAX` and `LOGISTIC` are those of the standard (onnxruntime: exchanged),
//!   and a set contains exactly its members (onnxruntime: every value that becomes a member when its fraction is cut
//!   off).
//! - A classifier with a single class answers with the label of this class (onnxruntime: 0 or 1).

mod ensemble;
mod forest;
mod indexed;
mod listed;
mod nodes;
mod scores;
#[cfg(test)]
mod tests;

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::transform::Transform;
use super::{Built, Labels, built};
use ensemble::{Description, Ensemble, Precision, Task};
use forest::{Aggregate, Node, Trees};
use scores::Decision;

/// The attributes of a `TreeEnsembleClassifier`. `nodes_hitrates` has no effect by the standard.
pub const CLASSIFIER_ATTRIBUTES: &[&str] = &[
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_hitrates_as_tensor",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "nodes_values_as_tensor",
    "post_transform",
    "base_values",
    "base_values_as_tensor",
    "class_ids",
    "class_nodeids",
    "class_treeids",
    "class_weights",
    "class_weights_as_tensor",
    "classlabels_int64s",
    "classlabels_strings",
];

/// The attributes of a `TreeEnsembleRegressor`.
pub const REGRESSOR_ATTRIBUTES: &[&str] = &[
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_hitrates_as_tensor",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "nodes_values_as_tensor",
    "post_transform",
    "base_values",
    "base_values_as_tensor",
    "aggregate_function",
    "n_targets",
    "target_ids",
    "target_nodeids",
    "target_treeids",
    "target_weights",
    "target_weights_as_tensor",
];

/// The attributes of a `TreeEnsemble`.
pub const ENSEMBLE_ATTRIBUTES: &[&str] = &[
    "aggregate_function",
    "leaf_targetids",
    "leaf_weights",
    "membership_values",
    "n_targets",
    "nodes_falseleafs",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_splits",
    "nodes_trueleafs",
    "nodes_truenodeids",
    "post_transform",
    "tree_roots",
];

/// Builds a `TreeEnsembleClassifier` from its node.
pub fn classifier(attributes: &Attributes) -> Built {
    let labels = Labels::read(attributes, "classlabels_int64s", "classlabels_strings")?;
    let trees = listed::trees(attributes, "class", labels.len())?;
    let base = attributes.numbers("base_values")?;
    let decision = decision(&trees);
    // Two classes can share one column of weights, and then one base value. Else there is one per class.
    let is_shared = base.len() == 1 && matches!(decision, Decision::Binary { column: 0, .. });
    let decision = match decision {
        Decision::Binary { .. } if base.len() == 2 => Decision::Highest,
        decision => decision,
    };
    if !base.is_empty() && !is_shared && base.len() != labels.len() {
        return Err(attributes.wrong(format!(
            "`base_values` has {} values for {} classes",
            base.len(),
            labels.len()
        )));
    }
    let (name, transform) = ("TreeEnsembleClassifier", Transform::read(attributes)?);
    let task = Task::Classify { labels, decision };
    built(Ensemble::new(attributes, Description { name, trees, base, transform, task })?)
}

/// Builds a `TreeEnsembleRegressor` from its node.
pub fn regressor(attributes: &Attributes) -> Built {
    let trees = listed::trees(attributes, "target", targets(attributes)?)?;
    let base = attributes.numbers("base_values")?;
    if !base.is_empty() && base.len() != trees.targets {
        return Err(attributes.wrong(format!(
            "`base_values` has {} values for {} targets",
            base.len(),
            trees.targets
        )));
    }
    let aggregate = match attributes.string("aggregate_function", "SUM")? {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => {
            return Err(attributes
                .wrong(format!("`aggregate_function` is {other}: expected SUM, AVERAGE, MIN or MAX")));
        }
    };
    let (name, transform) = ("TreeEnsembleRegressor", Transform::read(attributes)?);
    let task = Task::Targets { aggregate, precision: Precision::Single };
    built(Ensemble::new(attributes, Description { name, trees, base, transform, task })?)
}

/// Builds a `TreeEnsemble` from its node.
pub fn ensemble(attributes: &Attributes) -> Built {
    let trees = indexed::trees(attributes, targets(attributes)?)?;
    let aggregate = match attributes.int("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => {
            return Err(attributes.wrong(format!("`aggregate_function` is {other}: expected 0 to 3")));
        }
    };
    let transform = match attributes.int("post_transform", 0)? {
        0 => Transform::None,
        1 => Transform::Softmax,
        2 => Transform::Logistic,
        3 => Transform::SoftmaxZero,
        4 => Transform::Probit,
        other => return Err(attributes.wrong(format!("`post_transform` is {other}: expected 0 to 4"))),
    };
    let (name, base) = ("TreeEnsemble", Vec::new());
    let task = Task::Targets { aggregate, precision: Precision::OfInput };
    built(Ensemble::new(attributes, Description { name, trees, base, transform, task })?)
}

fn targets(attributes: &Attributes) -> TractResult<usize> {
    let targets = attributes.int("n_targets", 0)?;
    match usize::try_from(targets) {
        Ok(targets) if (1..1 << 24).contains(&targets) => Ok(targets),
        _ => Err(attributes.wrong(format!("`n_targets` is {targets}: expected 1 to 16777215"))),
    }
}

/// How the scores of these trees become a class: by one score when only one of two classes has weights.
fn decision(trees: &Trees) -> Decision {
    let votes = trees.nodes.iter().flat_map(|node| match node {
        Node::Leaf(votes) => votes.as_slice(),
        Node::Branch { .. } => &[],
    });
    let first = votes.clone().next().map(|(class, _)| *class);
    match first {
        Some(column) if trees.targets == 2 && votes.clone().all(|(class, _)| *class == column) => {
            let probabilities = votes.clone().all(|(_, weight)| *weight >= 0.0);
            Decision::Binary { column: column as usize, probabilities }
        }
        _ => Decision::Highest,
    }
}
