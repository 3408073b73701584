//! Tree ensembles: `TreeEnsembleClassifier` and `TreeEnsembleRegressor` (ai.onnx.ml 1 and 3), and
//! `TreeEnsemble` (ai.onnx.ml 5).
//!
//! tract has the first of them only. It is hundreds of times slower than need be, and it takes every
//! `BRANCH_GTE` node for a leaf, so that models with that comparison get wrong answers without an
//! error (0.23.9, tried: one answer for every row; its reader of comparisons stops one short of the last).
//!
//! What is here reads attributes; [`forest`] lays trees out and walks them, [`scores`] makes outputs of what
//! they say.
//!
//! # Where this follows the standard and onnxruntime does not
//! onnxruntime 1.31 is the measure for all that the standard leaves open (one column of weights for two
//! classes, the order of sums), and outputs are equal to its bit by bit. It departs from the standard
//! in what trainers do not export, and there the standard is followed:
//!
//! - NaN goes to the "false" branch of `BRANCH_NEQ` too, unless `nodes_missing_value_tracks_true` says
//!   otherwise (onnxruntime: always to "true").
//! - `LOGISTIC`, `SOFTMAX` and `SOFTMAX_ZERO` are applied to a single target (onnxruntime: left out).
//! - Base values are added to targets that no leaf votes for, and one for each of two classes to its own
//!   class (onnxruntime: left out, and mixed up).
//! - With weights for both of two classes the higher score decides, and the answer is its label
//!   (onnxruntime: 1 if the second score is above zero, else 0, whatever the labels are).
//! - A leaf's weights all count (onnxruntime: only the first, with a single target).
//! - In ai.onnx.ml 5 the numbers of `SOFTMAX` and `LOGISTIC` are the standard's (onnxruntime: exchanged),
//!   and a set holds its members only (onnxruntime: all that is cut down to one of them).
//! - The one label of a classifier with a single class is its answer (onnxruntime: 0 or 1).

mod forest;
mod scores;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::attributes::Attributes;
use super::transform::Transform;
use super::{Built, Kind, Labels, Operator, built};
use forest::{Aggregate, Forest, Node, Real, Test, Trees};
use scores::{Base, Decision};

/// What becomes of the scores.
#[derive(Debug, Clone)]
enum Task {
    /// Outputs a label and the scores in single precision.
    Classify { labels: Labels, decision: Decision },
    /// Outputs the targets; in the input's precision, or always in single precision.
    Targets { aggregate: Aggregate, keeps_precision: bool },
}

/// An ensemble as the file has it.
#[derive(Debug)]
struct Ensemble {
    name: &'static str,
    trees: Trees,
    base: Vec<f64>,
    transform: Transform,
    task: Task,
    /// How many features a row must have.
    width: usize,
    /// The layouts, each made when first needed and shared by all plans.
    single: OnceLock<Arc<Prepared<f32>>>,
    double: OnceLock<Arc<Prepared<f64>>>,
}

/// An ensemble laid out for its input's precision.
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

/// An entry of tract's register.
pub fn classifier(context: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes { context, node };
    let labels = Labels::read(&attributes, "classlabels_int64s", "classlabels_strings")?;
    let trees = listed_nodes(&attributes, "class", labels.len())?;
    let base = attributes.numbers("base_values")?;
    let decision = decision(&trees);
    // One value for the one column of weights that two classes may have, else one for each.
    let alone = base.len() == 1 && matches!(decision, Decision::Binary { column: 0, .. });
    let decision = match decision {
        Decision::Binary { .. } if base.len() == 2 => Decision::Highest,
        decision => decision,
    };
    if !base.is_empty() && !alone && base.len() != labels.len() {
        return Err(attributes.wrong(format!(
            "`base_values` has {} values for {} classes",
            base.len(),
            labels.len()
        )));
    }
    let task = Task::Classify { labels, decision };
    let transform = Transform::read(&attributes)?;
    built(node, Ensemble::new(&attributes, "TreeEnsembleClassifier", trees, base, transform, task)?)
}

/// An entry of tract's register.
pub fn regressor(context: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes { context, node };
    let trees = listed_nodes(&attributes, "target", targets(&attributes)?)?;
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
    let task = Task::Targets { aggregate, keeps_precision: false };
    let transform = Transform::read(&attributes)?;
    built(node, Ensemble::new(&attributes, "TreeEnsembleRegressor", trees, base, transform, task)?)
}

/// An entry of tract's register.
pub fn ensemble(context: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes { context, node };
    let trees = indexed_nodes(&attributes, targets(&attributes)?)?;
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
    let task = Task::Targets { aggregate, keeps_precision: true };
    built(node, Ensemble::new(&attributes, "TreeEnsemble", trees, Vec::new(), transform, task)?)
}

fn targets(attributes: &Attributes) -> TractResult<usize> {
    let targets = attributes.int("n_targets", 0)?;
    match usize::try_from(targets) {
        Ok(targets) if (1..1 << 24).contains(&targets) => Ok(targets),
        _ => Err(attributes.wrong(format!("`n_targets` is {targets}: expected 1 or more"))),
    }
}

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

/// Lists that should be as long as the first.
fn same_length(attributes: &Attributes, lists: &[(&str, usize)]) -> TractResult<usize> {
    let (first, length) = lists[0];
    match lists.iter().find(|(_, other)| *other != length) {
        None => Ok(length),
        Some((name, other)) => {
            Err(attributes.wrong(format!("`{name}` has {other} values, but `{first}` has {length}")))
        }
    }
}

fn feature(attributes: &Attributes, id: i64) -> TractResult<u32> {
    match u32::try_from(id) {
        Ok(id) if id < 1 << 31 => Ok(id),
        _ => Err(attributes.wrong(format!("`nodes_featureids` holds {id}: expected 0 to 2147483647"))),
    }
}

/// Nodes as ai.onnx.ml 1 and 3 list them: by the numbers of their tree and their own, leaves among
/// them, and the leaves' weights in lists of their own. A tree starts at its first node.
fn listed_nodes(attributes: &Attributes, prefix: &str, targets: usize) -> TractResult<Trees> {
    let tree_ids = attributes.ints("nodes_treeids")?;
    let node_ids = attributes.ints("nodes_nodeids")?;
    let features = attributes.ints("nodes_featureids")?;
    let yes = attributes.ints("nodes_truenodeids")?;
    let no = attributes.ints("nodes_falsenodeids")?;
    let modes = attributes.strings("nodes_modes")?;
    let values = attributes.numbers("nodes_values")?;
    let missing = attributes.ints("nodes_missing_value_tracks_true")?;
    let count = same_length(
        attributes,
        &[
            ("nodes_treeids", tree_ids.len()),
            ("nodes_nodeids", node_ids.len()),
            ("nodes_featureids", features.len()),
            ("nodes_truenodeids", yes.len()),
            ("nodes_falsenodeids", no.len()),
            ("nodes_modes", modes.len()),
            ("nodes_values", values.len()),
        ],
    )?;
    if !missing.is_empty() {
        let lists = [("nodes_treeids", count), ("nodes_missing_value_tracks_true", missing.len())];
        same_length(attributes, &lists)?;
    }
    let mut places = HashMap::with_capacity(count);
    let mut roots = Vec::new();
    for (at, id) in tree_ids.iter().zip(node_ids).enumerate() {
        if places.insert(id, at).is_some() {
            return Err(attributes.wrong(format!("tree {} has two nodes with the number {}", id.0, id.1)));
        }
        if at == 0 || tree_ids[at - 1] != *id.0 {
            roots.push(at);
        }
    }
    let place = |tree: &i64, node: &i64| {
        places.get(&(tree, node)).copied().ok_or_else(|| {
            attributes.wrong(format!("tree {tree} has no node {node}, but a branch or a weight names it"))
        })
    };
    let mut nodes = Vec::with_capacity(count);
    for at in 0..count {
        let value = values[at];
        let test = match modes[at].as_str() {
            "LEAF" => {
                nodes.push(Node::Leaf(Vec::new()));
                continue;
            }
            "BRANCH_LEQ" => Test::LessOrEqual(value),
            "BRANCH_LT" => Test::Less(value),
            "BRANCH_GTE" => Test::GreaterOrEqual(value),
            "BRANCH_GT" => Test::Greater(value),
            "BRANCH_EQ" => Test::Equal(value),
            "BRANCH_NEQ" => Test::NotEqual(value),
            other => {
                return Err(attributes.wrong(format!(
                    "`nodes_modes` holds {other}: expected LEAF, or BRANCH_ with LEQ, LT, GTE, GT, EQ or NEQ"
                )));
            }
        };
        nodes.push(Node::Branch {
            feature: feature(attributes, features[at])?,
            test,
            missing: missing.get(at).is_some_and(|missing| *missing != 0),
            yes: place(&tree_ids[at], &yes[at])?,
            no: place(&tree_ids[at], &no[at])?,
        });
    }
    let list = |name: &str| format!("{prefix}_{name}");
    let vote_trees = attributes.ints(&list("treeids"))?;
    let vote_nodes = attributes.ints(&list("nodeids"))?;
    let vote_targets = attributes.ints(&list("ids"))?;
    let weights = attributes.numbers(&list("weights"))?;
    let votes = same_length(
        attributes,
        &[
            (&list("ids"), vote_targets.len()),
            (&list("treeids"), vote_trees.len()),
            (&list("nodeids"), vote_nodes.len()),
            (&list("weights"), weights.len()),
        ],
    )?;
    for at in 0..votes {
        let target = target(attributes, vote_targets[at], targets)?;
        let place = place(&vote_trees[at], &vote_nodes[at])?;
        // Old exporters give weights to branches too: they never count.
        if let Node::Leaf(votes) = &mut nodes[place] {
            votes.push((target, weights[at]));
        }
    }
    Ok(Trees { nodes, roots, targets })
}

fn target(attributes: &Attributes, id: i64, targets: usize) -> TractResult<u32> {
    match u32::try_from(id) {
        Ok(id) if (id as usize) < targets => Ok(id),
        _ => Err(attributes.wrong(format!("a leaf votes for {id}: expected 0 to {}", targets - 1))),
    }
}

/// Nodes as ai.onnx.ml 5 lists them: branches and leaves apart, each by its place.
fn indexed_nodes(attributes: &Attributes, targets: usize) -> TractResult<Trees> {
    let features = attributes.ints("nodes_featureids")?;
    let modes = attributes.tensor::<u8>("nodes_modes")?;
    let splits = attributes.tensor::<f64>("nodes_splits")?;
    let (yes, yes_is_leaf) = (attributes.ints("nodes_truenodeids")?, attributes.ints("nodes_trueleafs")?);
    let (no, no_is_leaf) = (attributes.ints("nodes_falsenodeids")?, attributes.ints("nodes_falseleafs")?);
    let missing = attributes.ints("nodes_missing_value_tracks_true")?;
    let leaf_targets = attributes.ints("leaf_targetids")?;
    let weights = attributes.tensor::<f64>("leaf_weights")?;
    let branches = same_length(
        attributes,
        &[
            ("nodes_featureids", features.len()),
            ("nodes_modes", modes.len()),
            ("nodes_splits", splits.len()),
            ("nodes_truenodeids", yes.len()),
            ("nodes_trueleafs", yes_is_leaf.len()),
            ("nodes_falsenodeids", no.len()),
            ("nodes_falseleafs", no_is_leaf.len()),
        ],
    )?;
    if !missing.is_empty() {
        let lists = [("nodes_featureids", branches), ("nodes_missing_value_tracks_true", missing.len())];
        same_length(attributes, &lists)?;
    }
    same_length(attributes, &[("leaf_targetids", leaf_targets.len()), ("leaf_weights", weights.len())])?;
    // Branches first, then leaves.
    let place = |list: &str, id: i64, is_leaf: bool| {
        let (from, count) = if is_leaf { (branches, leaf_targets.len()) } else { (0, branches) };
        match usize::try_from(id) {
            Ok(id) if id < count => Ok(from + id),
            _ => Err(attributes.wrong(format!(
                "`{list}` holds {id}: expected one of {count} {}",
                if is_leaf { "leaves" } else { "nodes" }
            ))),
        }
    };
    // Sets in the order of the nodes that ask for one, NaN after each.
    let members = attributes.tensor::<f64>("membership_values")?;
    let mut sets = members.split(|member| member.is_nan());
    let mut nodes = Vec::with_capacity(branches + leaf_targets.len());
    for at in 0..branches {
        let split = splits[at];
        let test = match modes[at] {
            0 => Test::LessOrEqual(split),
            1 => Test::Less(split),
            2 => Test::GreaterOrEqual(split),
            3 => Test::Greater(split),
            4 => Test::Equal(split),
            5 => Test::NotEqual(split),
            6 => {
                let mut set = sets.next().unwrap_or_default().to_vec();
                if set.is_empty() {
                    return Err(attributes.wrong(format!(
                        "`membership_values` holds no set for node {at}: expected one for each BRANCH_MEMBER"
                    )));
                }
                set.sort_by(f64::total_cmp);
                Test::Member(set)
            }
            other => return Err(attributes.wrong(format!("`nodes_modes` holds {other}: expected 0 to 6"))),
        };
        nodes.push(Node::Branch {
            feature: feature(attributes, features[at])?,
            test,
            missing: missing.get(at).is_some_and(|missing| *missing != 0),
            yes: place("nodes_truenodeids", yes[at], yes_is_leaf[at] != 0)?,
            no: place("nodes_falsenodeids", no[at], no_is_leaf[at] != 0)?,
        });
    }
    for (id, weight) in leaf_targets.iter().zip(weights) {
        nodes.push(Node::Leaf(vec![(target(attributes, *id, targets)?, weight)]));
    }
    let roots = attributes.ints("tree_roots")?;
    let roots = roots.iter().map(|root| place("tree_roots", *root, false)).collect::<TractResult<_>>()?;
    Ok(Trees { nodes, roots, targets })
}

impl Ensemble {
    fn new(
        attributes: &Attributes,
        name: &'static str,
        trees: Trees,
        base: Vec<f64>,
        transform: Transform,
        task: Task,
    ) -> TractResult<Ensemble> {
        if trees.roots.is_empty() {
            return Err(attributes.wrong("it has no tree: expected one or more"));
        }
        let (single, double) = (OnceLock::new(), OnceLock::new());
        let mut ensemble = Ensemble { name, trees, base, transform, task, width: 0, single, double };
        // Laid out at once, so that a tree which is none is told while the file is read.
        let prepared = ensemble.prepare::<f32>().map_err(|cause| attributes.wrong(cause))?;
        ensemble.width = prepared.width;
        ensemble.single = OnceLock::from(Arc::new(prepared));
        Ok(ensemble)
    }

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

/// One input of two dimensions, numbers, wide enough.
fn check(inputs: &[Kind], width: usize) -> TractResult<&Kind> {
    let [input] = inputs else {
        return Err(TractError::msg(format!("{} inputs came: expected 1", inputs.len())));
    };
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

fn outputs(task: &Task, targets: usize, input: &Kind) -> TractResult<TVec<Kind>> {
    let (rows, columns) = (input.shape[0].clone(), TDim::from(targets));
    let scores = |datum_type| Kind { datum_type, shape: tvec![rows.clone(), columns.clone()] };
    Ok(match task {
        Task::Classify { labels, .. } => {
            let label = Kind { datum_type: labels.datum_type(), shape: tvec![rows.clone()] };
            tvec![label, scores(f32::datum_type())]
        }
        Task::Targets { keeps_precision, .. } => match input.datum_type {
            DatumType::F64 | DatumType::F16 if *keeps_precision => tvec![scores(input.datum_type)],
            _ => tvec![scores(f32::datum_type())],
        },
    })
}

impl Operator for Ensemble {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &[Kind]) -> TractResult<TVec<Kind>> {
        outputs(&self.task, self.trees.targets, check(inputs, self.width)?)
    }

    fn prepared(&self, inputs: &[Kind]) -> TractResult<Option<Arc<dyn Operator>>> {
        fn shared<T: Real>(
            ensemble: &Ensemble,
            place: &OnceLock<Arc<Prepared<T>>>,
        ) -> TractResult<Arc<Prepared<T>>> {
            if let Some(prepared) = place.get() {
                return Ok(prepared.clone());
            }
            let prepared = Arc::new(ensemble.prepare().map_err(TractError::msg)?);
            Ok(place.get_or_init(|| prepared).clone())
        }
        Ok(Some(match check(inputs, self.width)?.datum_type {
            DatumType::F64 => shared(self, &self.double)?,
            _ => shared(self, &self.single)?,
        }))
    }

    fn run(&self, _: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        Err(TractError::msg("an ensemble is run after it was prepared for its input"))
    }
}

impl<T: Real + Datum> Operator for Prepared<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &[Kind]) -> TractResult<TVec<Kind>> {
        outputs(&self.task, self.targets, check(inputs, self.width)?)
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let shape: TVec<TDim> = inputs[0].shape().iter().map(|dim| dim.to_dim()).collect();
        let kind = Kind { datum_type: inputs[0].datum_type(), shape };
        check(std::slice::from_ref(&kind), self.width)?;
        // Integers are compared in single precision, as onnxruntime does.
        let input = inputs[0].cast_to::<T>()?;
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
