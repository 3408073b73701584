//! Trees compared with sums made by hand, and trees that no exporter writes.

use super::*;
use crate::onnx::operators::trial::{floats, int, ints, strings};
use forest::{Forest, Real, Score, Test};
use scores::Base;
use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};

/// A tree of one test on feature 0: it gives 1 for yes, 2 for no.
fn stump(test: Test, missing: bool) -> Trees {
    let branch = Node::Branch { feature: 0, test, missing, yes: 1, no: 2 };
    Trees {
        nodes: vec![branch, Node::Leaf(vec![(0, 1.0)]), Node::Leaf(vec![(0, 2.0)])],
        roots: vec![0],
        targets: 1,
    }
}

fn says_yes<T: Real + PartialEq>(trees: &Trees, value: T) -> bool {
    let forest = Forest::<T>::new(trees).unwrap();
    let all: Vec<T> = vec![value; 9];
    let scores = forest.scores(&all, 9, Aggregate::Sum);
    assert!(scores.iter().all(|score| score.value == scores[0].value), "rows differ: {scores:?}");
    scores[0].value == T::from_f64(1.0)
}

#[test]
fn each_comparison_is_exact_at_its_threshold_beside_it_and_at_the_largest_and_smallest_numbers() {
    let ends = [f32::NEG_INFINITY, f32::MIN, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, f32::MAX, f32::INFINITY];
    for threshold in ends.into_iter().chain([f32::NAN]) {
        for value in ends.into_iter().chain([threshold.next_down(), threshold.next_up()]) {
            if value.is_nan() {
                continue;
            }
            let t = f64::from(threshold);
            for (test, yes) in [
                (Test::LessOrEqual(t), value <= threshold),
                (Test::Less(t), value < threshold),
                (Test::GreaterOrEqual(t), value >= threshold),
                (Test::Greater(t), value > threshold),
                (Test::Equal(t), value == threshold),
                (Test::NotEqual(t), value != threshold),
            ] {
                for missing in [false, true] {
                    let trees = stump(test.clone(), missing);
                    assert_eq!(says_yes(&trees, value), yes, "{value} {test:?} {missing}");
                    assert_eq!(says_yes(&trees, f64::from(value)), yes, "{value} {test:?} in double");
                }
            }
        }
    }
}

#[test]
fn a_missing_feature_goes_where_its_node_says_for_every_comparison() {
    let tests = [
        Test::LessOrEqual(0.0),
        Test::Less(f64::NEG_INFINITY),
        Test::GreaterOrEqual(0.0),
        Test::GreaterOrEqual(f64::NEG_INFINITY),
        Test::Greater(0.0),
        Test::Greater(f64::NAN),
        Test::Equal(0.0),
        Test::NotEqual(0.0),
        Test::Member(vec![1.0, 2.0, 7.0]),
    ];
    for test in tests {
        for missing in [false, true] {
            assert_eq!(says_yes(&stump(test.clone(), missing), f32::NAN), missing, "{test:?}");
        }
    }
}

#[test]
fn a_set_contains_its_members_and_no_value_between_them() {
    for size in 1..20 {
        let set: Vec<f64> = (0..size).map(|at| f64::from(at * 3)).collect();
        let trees = stump(Test::Member(set.clone()), false);
        for value in -2..65 {
            assert_eq!(says_yes(&trees, value as f32), set.contains(&f64::from(value)), "{value} in {set:?}");
        }
        assert!(!says_yes(&trees, 0.5_f32));
    }
}

#[test]
fn a_row_gets_the_same_sums_alone_and_among_other_rows() {
    // Trees of different depths, more than are walked at the same time.
    let (mut nodes, mut roots) = (Vec::new(), Vec::new());
    for tree in 0..21 {
        roots.push(nodes.len());
        for level in 0..tree % 5 {
            let at = nodes.len();
            let test = Test::LessOrEqual(f64::from(level) / 3.0 - f64::from(tree) / 9.0);
            nodes.push(Node::Branch {
                feature: (tree + level) as u32 % 3,
                test,
                missing: level == 1,
                yes: at + 1,
                no: at + 2,
            });
            nodes.push(Node::Leaf(vec![(level as u32 % 2, 0.1 * f64::from(tree)), (1, 1.0 / 3.0)]));
        }
        nodes.push(Node::Leaf(vec![(1, 0.7)]));
    }
    let forest = Forest::<f32>::new(&Trees { nodes, roots, targets: 2 }).unwrap();
    let rows = 300;
    let input: Vec<f32> = (0..rows * 3)
        .map(|at| if at % 17 == 0 { f32::NAN } else { (at * 31 % 71) as f32 / 20.0 - 1.7 })
        .collect();
    for aggregate in [Aggregate::Sum, Aggregate::Min, Aggregate::Max] {
        let together = forest.scores(&input, rows, aggregate);
        for row in 0..rows {
            let alone = forest.scores(&input[row * 3..][..3], 1, aggregate);
            for (a, b) in alone.iter().zip(&together[row * 2..]) {
                assert_eq!((a.value.to_bits(), a.voted), (b.value.to_bits(), b.voted), "row {row}");
            }
        }
    }
}

#[test]
fn two_branches_can_share_the_nodes_that_follow() {
    let branch = |test, yes, no| Node::Branch { feature: 0, test, missing: false, yes, no };
    let nodes = vec![
        branch(Test::Less(0.0), 1, 2),
        branch(Test::Less(-5.0), 3, 4),
        branch(Test::Greater(5.0), 3, 4),
        Node::Leaf(vec![(0, 1.0)]),
        Node::Leaf(vec![(0, 2.0)]),
    ];
    let trees = Trees { nodes, roots: vec![0], targets: 1 };
    let said: Vec<bool> = [-6.0, -1.0, 1.0, 6.0].map(|value: f32| says_yes(&trees, value)).to_vec();
    assert_eq!(said, [true, false, false, true]);
}

#[test]
fn a_graph_that_is_not_a_tree_is_refused_and_a_deep_tree_is_not() {
    let branch = |yes, no| Node::Branch { feature: 0, test: Test::Less(0.0), missing: false, yes, no };
    let refused = |nodes| Forest::<f32>::new(&Trees { nodes, roots: vec![0], targets: 1 }).unwrap_err();
    assert!(refused(vec![branch(0, 1), Node::Leaf(vec![])]).contains("expected a tree"));
    let circle = refused(vec![branch(1, 2), branch(2, 3), branch(1, 3), Node::Leaf(vec![])]);
    assert!(circle.contains("is reached again from its own branches"), "{circle}");
    assert!(refused(vec![branch(1, 7), Node::Leaf(vec![])]).contains("leads to node 7"));
    assert!(refused(vec![Node::Leaf(vec![(1, 1.0)])]).contains("votes for target 1"));
    let deep = 1_000_000;
    let mut nodes: Vec<Node> = (0..deep).map(|at| branch(at + 1, deep)).collect();
    nodes.push(Node::Leaf(vec![(0, 1.0)]));
    assert!(says_yes(&Trees { nodes, roots: vec![0], targets: 1 }, 3.0_f32));
}

#[test]
fn rows_with_too_few_features_get_no_scores() {
    let forest = Forest::<f32>::new(&stump(Test::Less(0.0), false)).unwrap();
    assert!(!forest.scores(&[], 3, Aggregate::Sum)[0].voted);
}

#[test]
fn the_higher_of_two_columns_decides_and_a_single_column_is_the_score_of_the_second_class() {
    let score = |value| Score { value, voted: true };
    let base = Base::<f32>::new(&[]);
    let mut outputs = [0.0; 2];
    let two = [score(0.7), score(0.3)];
    assert_eq!(scores::classify(&two, &base, Decision::Highest, Transform::None, &mut outputs), 0);
    assert_eq!(outputs, [0.7, 0.3]);
    let one = [score(0.75), Score::default()];
    let decision = Decision::Binary { column: 0, probabilities: true };
    assert_eq!(scores::classify(&one, &base, decision, Transform::None, &mut outputs), 1);
    assert_eq!(outputs, [0.25, 0.75]);
    let decision = Decision::Binary { column: 0, probabilities: false };
    let base = Base::new(&[-1.0]);
    assert_eq!(scores::classify(&one, &base, decision, Transform::None, &mut outputs), 0);
    assert_eq!(outputs, [0.25, -0.25]);
}

#[test]
fn transforms_apply_to_a_single_target_and_base_values_to_a_target_without_votes() {
    let one = [Score { value: 0.0_f32, voted: true }, Score::default()];
    assert_eq!(scores::targets(&one, 1, &Base::new(&[]), None, Transform::Logistic), [0.5, 0.5]);
    assert_eq!(scores::targets(&one, 2, &Base::new(&[1.0, 2.0]), Some(3), Transform::None), [1.0, 2.0]);
}

/// Why a regressor of one small tree is refused when some of its attributes are replaced; empty when it is not.
fn refused(replaced: &[AttributeProto]) -> String {
    let mut attribute = vec![
        ints("nodes_treeids", &[0, 0, 0]),
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_featureids", &[0, 0, 0]),
        ints("nodes_truenodeids", &[1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0]),
        strings("nodes_modes", &["BRANCH_LT", "LEAF", "LEAF"]),
        floats("nodes_values", &[0.0, 0.0, 0.0]),
        ints("target_treeids", &[0, 0]),
        ints("target_nodeids", &[1, 2]),
        ints("target_ids", &[0, 0]),
        floats("target_weights", &[1.0, 2.0]),
        int("n_targets", 1),
    ];
    for attribute in &mut attribute {
        if let Some(other) = replaced.iter().find(|other| other.name == attribute.name) {
            *attribute = other.clone();
        }
    }
    let node = NodeProto {
        op_type: "TreeEnsembleRegressor".into(),
        name: "trees".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        attribute,
        ..Default::default()
    };
    let (framework, model) = (Onnx::default(), ModelProto::default());
    let context = ParsingContext {
        onnx_operator_set_version: 17,
        framework: &framework,
        model: &model,
        parent_graphs: Vec::new(),
        model_dir: None,
        template: Default::default(),
    };
    regressor(&Attributes { context: &context, node: &node })
        .map(|_| String::new())
        .unwrap_or_else(|error| error.to_string())
}

#[test]
fn attributes_that_do_not_fit_together_are_refused_with_the_name_of_the_node() {
    assert_eq!(refused(&[]), "");
    for (replaced, part) in [
        (ints("nodes_truenodeids", &[9, 0, 0]), "tree 0 has no node 9"),
        (ints("nodes_truenodeids", &[0, 0, 0]), "expected a tree"),
        (ints("nodes_nodeids", &[0, 1, 1]), "tree 0 has two nodes with the number 1"),
        (ints("nodes_falsenodeids", &[2, 0]), "`nodes_falsenodeids` has 2 values, but `nodes_treeids` has 3"),
        (ints("nodes_featureids", &[-1, 0, 0]), "`nodes_featureids` holds -1"),
        (ints("target_nodeids", &[1, 5]), "tree 0 has no node 5"),
        (ints("target_ids", &[0, 3]), "a leaf votes for 3: expected 0 to 0"),
        (ints("target_treeids", &[0]), "`target_treeids` has 1 values"),
    ] {
        let said = refused(std::slice::from_ref(&replaced));
        assert!(said.starts_with("`TreeEnsembleRegressor` (node `trees`): "), "{said}");
        assert!(said.contains(part), "{}: {said}", replaced.name);
    }
}
