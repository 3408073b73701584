//! Trees in the form of ai.onnx.ml 5. Branches and leaves are in separate lists, and are named by their place there.

use tract_onnx::prelude::*;

use super::super::super::attributes::Attributes;
use super::forest::{Node, Test, Trees};
use super::nodes::{Branches, Side, same_length, target};

/// The numbers of branches and leaves. In [`Trees::nodes`] the branches come first.
struct Counts<'a> {
    attributes: &'a Attributes<'a>,
    branches: usize,
    leaves: usize,
}

impl Counts<'_> {
    /// The place of the leaf or branch `id`, which the attribute `list` names.
    fn place(&self, list: &str, id: i64, is_leaf: bool) -> TractResult<usize> {
        let (from, count, kind) =
            if is_leaf { (self.branches, self.leaves, "leaves") } else { (0, self.branches, "nodes") };
        match usize::try_from(id) {
            Ok(id) if id < count => Ok(from + id),
            _ => Err(self.attributes.wrong(format!("`{list}` holds {id}: expected one of {count} {kind}"))),
        }
    }
}

/// Reads the trees of a node.
pub fn trees(attributes: &Attributes, targets: usize) -> TractResult<Trees> {
    let modes = attributes.tensor::<u8>("nodes_modes")?;
    let splits = attributes.tensor::<f64>("nodes_splits")?;
    let (yes_is_leaf, no_is_leaf) =
        (attributes.ints("nodes_trueleafs")?, attributes.ints("nodes_falseleafs")?);
    let own = [
        ("nodes_modes", modes.len()),
        ("nodes_splits", splits.len()),
        ("nodes_trueleafs", yes_is_leaf.len()),
        ("nodes_falseleafs", no_is_leaf.len()),
    ];
    let branches = Branches::read(attributes, &own)?;
    let leaves = leaves(attributes, targets)?;
    let counts = Counts { attributes, branches: branches.len(), leaves: leaves.len() };
    let tests = tests(attributes, &modes, &splits)?;
    let mut nodes = Vec::with_capacity(counts.branches + counts.leaves);
    for (at, test) in tests.into_iter().enumerate() {
        nodes.push(branches.node(at, test, |side, id| {
            let flags = if side == Side::Yes { yes_is_leaf } else { no_is_leaf };
            counts.place(side.attribute(), id, flags[at] != 0)
        })?);
    }
    nodes.extend(leaves);
    let roots = attributes.ints("tree_roots")?;
    let roots = roots.iter().map(|root| counts.place("tree_roots", *root, false));
    Ok(Trees { nodes, roots: roots.collect::<TractResult<_>>()?, targets })
}

/// The test of each branch.
fn tests(attributes: &Attributes, modes: &[u8], splits: &[f64]) -> TractResult<Vec<Test>> {
    // One set for each node with the mode "member", in the order of these nodes. NaN ends a set.
    let members = attributes.tensor::<f64>("membership_values")?;
    let mut sets = members.split(|member| member.is_nan());
    let mut tests = Vec::with_capacity(modes.len());
    for (at, (mode, split)) in modes.iter().zip(splits).enumerate() {
        tests.push(match mode {
            0 => Test::LessOrEqual(*split),
            1 => Test::Less(*split),
            2 => Test::GreaterOrEqual(*split),
            3 => Test::Greater(*split),
            4 => Test::Equal(*split),
            5 => Test::NotEqual(*split),
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
        });
    }
    Ok(tests)
}

fn leaves(attributes: &Attributes, targets: usize) -> TractResult<Vec<Node>> {
    let ids = attributes.ints("leaf_targetids")?;
    let weights = attributes.tensor::<f64>("leaf_weights")?;
    same_length(attributes, &[("leaf_targetids", ids.len()), ("leaf_weights", weights.len())])?;
    let leaf = |(id, weight): (&i64, f64)| Ok(Node::Leaf(vec![(target(attributes, *id, targets)?, weight)]));
    ids.iter().zip(weights).map(leaf).collect()
}
