//! Puts the nodes of a file into an order in which each value is made before it is used.
//!
//! The standard demands this order, but onnxruntime does not, and its own converter to FP16 adds nodes at the end of the list.
//!
//! # Invariants
//! - The nodes of a graph that is in order stay as they are.
//! - A graph without such an order (a node needs its own output) stays as it is: the first node that lacks a value is
//!   named when plans are made.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto};

/// Sorts the nodes of a graph and of the graphs inside it. Returns the names that they take from the graphs around it.
pub(super) fn sort(graph: &mut GraphProto) -> Vec<String> {
    let needs: Vec<Vec<String>> = graph.node.iter_mut().map(needs).collect();
    let makers: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        // Of several makers of a name the first counts: the graph is invalid, and stays so.
        .rev()
        .flat_map(|(at, node)| node.output.iter().map(move |name| (name.as_str(), at)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let before: Vec<Vec<usize>> = needs
        .iter()
        .map(|names| names.iter().filter_map(|name| makers.get(&**name).copied()).collect())
        .collect();
    let is_sorted = before.iter().enumerate().all(|(at, before)| before.iter().all(|maker| *maker < at));
    if !is_sorted && let Some(order) = order(&before) {
        let mut nodes: Vec<Option<NodeProto>> =
            std::mem::take(&mut graph.node).into_iter().map(Some).collect();
        graph.node = order.into_iter().filter_map(|at| nodes[at].take()).collect();
    }
    captured(graph, needs)
}

/// The values that a node takes from its graph, or from a graph around it. Sorts the graphs inside the node.
fn needs(node: &mut NodeProto) -> Vec<String> {
    let mut names = node.input.clone();
    for attribute in &mut node.attribute {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            names.extend(sort(graph));
        }
    }
    names
}

/// Those values that a graph takes from the graphs around it, of all that its nodes need.
fn captured(graph: &GraphProto, needs: Vec<Vec<String>>) -> Vec<String> {
    let inputs = graph.input.iter().map(|input| &input.name);
    let weights = graph.initializer.iter().map(|tensor| &tensor.name);
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| Some(&tensor.values.as_ref()?.name));
    let made = graph.node.iter().flat_map(|node| &node.output);
    let own: HashSet<&String> = inputs.chain(weights).chain(sparse).chain(made).collect();
    let outputs = graph.output.iter().map(|output| output.name.clone());
    let used = needs.into_iter().flatten().chain(outputs);
    used.filter(|name| !name.is_empty() && !own.contains(name)).collect()
}

/// All nodes, each after those that must be `before` it, and otherwise in their order. `None` when there is a circle.
fn order(before: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Waiting,
        Done,
    }
    let mut states = vec![State::New; before.len()];
    let mut all = Vec::with_capacity(before.len());
    // The nodes that wait for another one, and how many of those before them are done. A list instead of a recursion,
    // because a chain can be as long as the graph.
    let mut waiting: Vec<(usize, usize)> = Vec::new();
    for first in 0..before.len() {
        if states[first] == State::New {
            states[first] = State::Waiting;
            waiting.push((first, 0));
        }
        while let Some((node, done)) = waiting.last_mut() {
            let Some(next) = before[*node].get(*done).copied() else {
                states[*node] = State::Done;
                all.push(*node);
                waiting.pop();
                continue;
            };
            *done += 1;
            match states[next] {
                State::Done => {}
                State::Waiting => return None,
                State::New => {
                    states[next] = State::Waiting;
                    waiting.push((next, 0));
                }
            }
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{AttributeProto, ValueInfoProto};

    fn node(inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        NodeProto {
            op_type: "Add".into(),
            input: owned(inputs),
            output: owned(outputs),
            ..Default::default()
        }
    }

    fn graph(nodes: Vec<NodeProto>) -> GraphProto {
        GraphProto { node: nodes, ..Default::default() }
    }

    fn made(graph: &GraphProto) -> Vec<&str> {
        graph.node.iter().map(|node| &*node.output[0]).collect()
    }

    #[test]
    fn a_node_moves_behind_those_that_make_its_inputs_and_no_other_moves() {
        let mut late = graph(vec![
            node(&["cast", "x"], &["a"]),
            node(&["x"], &["b"]),
            node(&["a", "b", ""], &["c"]),
            node(&["deep"], &["cast"]),
            node(&["x"], &["deep"]),
        ]);
        sort(&mut late);
        assert_eq!(made(&late), ["deep", "cast", "a", "b", "c"]);
        let mut sorted = graph(vec![node(&["x"], &["b"]), node(&["x"], &["a"]), node(&["b"], &["c"])]);
        sort(&mut sorted);
        assert_eq!(made(&sorted), ["b", "a", "c"]);
    }

    #[test]
    fn a_graph_in_a_node_is_sorted_and_its_node_comes_behind_what_it_captures() {
        let inner = GraphProto {
            node: vec![node(&["late", "outer"], &["own"]), node(&["own_input"], &["late"])],
            input: vec![ValueInfoProto { name: "own_input".into(), ..Default::default() }],
            output: vec![ValueInfoProto { name: "result".into(), ..Default::default() }],
            ..Default::default()
        };
        let mut branch = node(&["x"], &["a"]);
        branch.attribute.push(AttributeProto { g: Some(inner), ..Default::default() });
        // The outer `own` is not the one of the graph in the node.
        let mut all =
            graph(vec![branch, node(&["a"], &["own"]), node(&["x"], &["outer"]), node(&["x"], &["result"])]);
        sort(&mut all);
        assert_eq!(made(&all), ["outer", "result", "a", "own"]);
        assert_eq!(made(all.node[2].attribute[0].g.as_ref().unwrap()), ["late", "own"]);
    }

    #[test]
    fn a_circle_stays_as_it_is_and_a_long_chain_needs_no_deep_stack() {
        let mut circle = graph(vec![node(&["b"], &["a"]), node(&["a"], &["b"])]);
        sort(&mut circle);
        assert_eq!(made(&circle), ["a", "b"]);
        let name = |at: usize| format!("v{at}");
        let mut chain = graph((0..200_000).rev().map(|at| node(&[&name(at)], &[&name(at + 1)])).collect());
        sort(&mut chain);
        assert_eq!((&*chain.node[0].output[0], &*chain.node[199_999].output[0]), ("v1", "v200000"));
    }
}
