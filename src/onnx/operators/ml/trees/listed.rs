//! Trees in the form of ai.onnx.ml 1 and 3. Nodes, leaves among them, are in lists, and are named by the number of their
//! tree and their own number. The weights of leaves are in lists of their own. A tree starts at its first node.

use std::collections::HashMap;

use tract_onnx::prelude::*;

use super::super::super::attributes::Attributes;
use super::forest::{Node, Test, Trees};
use super::nodes::{Branches, same_length, target};

/// Where each node is in the lists.
struct Places<'a> {
    attributes: &'a Attributes<'a>,
    /// By the numbers of tree and node.
    by_id: HashMap<(i64, i64), usize>,
    /// The first node of each tree.
    roots: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(attributes: &'a Attributes<'a>, trees: &[i64], nodes: &[i64]) -> TractResult<Places<'a>> {
        let mut by_id = HashMap::with_capacity(trees.len());
        let mut roots = Vec::new();
        for (at, (tree, node)) in trees.iter().zip(nodes).enumerate() {
            if by_id.insert((*tree, *node), at).is_some() {
                return Err(attributes.wrong(format!("tree {tree} has two nodes with the number {node}")));
            }
            if at == 0 || trees[at - 1] != *tree {
                roots.push(at);
            }
        }
        Ok(Places { attributes, by_id, roots })
    }

    fn find(&self, tree: i64, node: i64) -> TractResult<usize> {
        self.by_id.get(&(tree, node)).copied().ok_or_else(|| {
            let cause = format!("tree {tree} has no node {node}, but a branch or a weight names it");
            self.attributes.wrong(cause)
        })
    }
}

/// Reads the trees of a node. `prefix` starts the names of the weights' lists: `class` or `target`.
pub fn trees(attributes: &Attributes, prefix: &str, targets: usize) -> TractResult<Trees> {
    let tree_ids = attributes.ints("nodes_treeids")?;
    let node_ids = attributes.ints("nodes_nodeids")?;
    let modes = attributes.strings("nodes_modes")?;
    let values = attributes.numbers("nodes_values")?;
    let own = [
        ("nodes_treeids", tree_ids.len()),
        ("nodes_nodeids", node_ids.len()),
        ("nodes_modes", modes.len()),
        ("nodes_values", values.len()),
    ];
    let branches = Branches::read(attributes, &own)?;
    let places = Places::new(attributes, tree_ids, node_ids)?;
    let mut nodes = Vec::with_capacity(branches.len());
    for at in 0..branches.len() {
        nodes.push(match test(attributes, &modes[at], values[at])? {
            Some(test) => branches.node(at, test, |_, node| places.find(tree_ids[at], node))?,
            None => Node::Leaf(Vec::new()),
        });
    }
    add_votes(attributes, prefix, targets, &places, &mut nodes)?;
    Ok(Trees { nodes, roots: places.roots, targets })
}

/// The test of a node with this mode; `None` for a leaf.
fn test(attributes: &Attributes, mode: &str, value: f64) -> TractResult<Option<Test>> {
    Ok(Some(match mode {
        "LEAF" => return Ok(None),
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
    }))
}

/// Gives the leaves their weights.
fn add_votes(
    attributes: &Attributes,
    prefix: &str,
    targets: usize,
    places: &Places,
    nodes: &mut [Node],
) -> TractResult<()> {
    let names = ["ids", "treeids", "nodeids", "weights"].map(|name| format!("{prefix}_{name}"));
    let [ids, treeids, nodeids, weights] = &names;
    let target_ids = attributes.ints(ids)?;
    let tree_ids = attributes.ints(treeids)?;
    let node_ids = attributes.ints(nodeids)?;
    let values = attributes.numbers(weights)?;
    let lists = [
        (ids.as_str(), target_ids.len()),
        (treeids.as_str(), tree_ids.len()),
        (nodeids.as_str(), node_ids.len()),
        (weights.as_str(), values.len()),
    ];
    for at in 0..same_length(attributes, &lists)? {
        let target = target(attributes, target_ids[at], targets)?;
        let place = places.find(tree_ids[at], node_ids[at])?;
        // Old exporters give weights to branches too. These never count.
        if let Node::Leaf(votes) = &mut nodes[place] {
            votes.push((target, values[at]));
        }
    }
    Ok(())
}
