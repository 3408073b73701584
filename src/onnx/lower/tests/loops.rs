//! `Loop`.

use super::functions::int;
use super::*;

/// A loop over `v`, which ends when its iterations are done.
fn counted(trips: &str, first: &str, mut nodes: Vec<NodeProto>, outputs: &[&str]) -> NodeProto {
    nodes.push(node("Identity", &["go"], &["go2"]));
    let names: Vec<&str> = ["go2"].into_iter().chain(outputs.iter().copied()).collect();
    let body = body("body", inner(&["at", "go", "v"], nodes, &names));
    let results: Vec<String> = (0..outputs.len()).map(|at| format!("out{at}")).collect();
    let results: Vec<&str> = results.iter().map(String::as_str).collect();
    node_with("Loop", &[trips, "", first], &results, vec![body])
}

#[test]
fn a_value_grows_until_the_condition_ends_the_loop_and_the_next_run_begins_anew() {
    let nodes = vec![
        numbers("one", &[], &[1]),
        node("Add", &["at", "one"], &["next"]),
        node("Less", &["next", "n"], &["again"]),
        node("Concat", &["v", "x"], &["w"]),
        node("Size", &["w"], &["size"]),
    ];
    let mut nodes = nodes;
    nodes[3] = node_with("Concat", &["v", "x"], &["w"], vec![int("axis", 0)]);
    let body = body("body", inner(&["at", "go", "v"], nodes, &["again", "w", "size"]));
    let model = Model::new(
        &["x: float[N]", "n: int64[]"],
        vec![node_with("Loop", &["", "", "x"], &["y", "sizes"], vec![body])],
        &["y", "sizes"],
    );
    let session = model.load().unwrap();
    for (count, sizes) in [(3, vec![4, 6, 8]), (1, vec![4]), (2, vec![4, 6])] {
        let made = run(&session, &[f(&[2], &[1., 2.]), i(&[], &[count])], &Budget::unbounded()).unwrap();
        assert_eq!(made[0].shape(), [2 * (count as usize + 1)]);
        assert_eq!(made[1], i(&[sizes.len()], &sizes));
    }
}

#[test]
fn without_an_iteration_the_first_values_are_the_last_ones() {
    let nodes = vec![node("Add", &["v", "v"], &["w"]), node("Transpose", &["w"], &["t"])];
    let model = Model::new(
        &["x: float[1,2]", "n: int64[]"],
        vec![counted("n", "x", nodes, &["w", "t"])],
        &["out0", "out1"],
    );
    let x = f(&[1, 2], &[1., 2.]);
    for none in [0, -3] {
        let made = model.run(&[x.clone(), i(&[], &[none])]).unwrap();
        assert_eq!(made, [x.clone(), f(&[0, 2, 1], &[])]);
    }
    let made = model.run(&[x, i(&[], &[2])]).unwrap();
    assert_eq!(made, [f(&[1, 2], &[4., 8.]), f(&[2, 2, 1], &[2., 4., 4., 8.])]);
}

#[test]
fn a_loop_that_does_not_end_is_an_error() {
    let nodes = vec![node("Identity", &["v"], &["w"])];
    let body = body("body", inner(&["at", "go", "v"], nodes, &["c", "w"]));
    let model = Model::new(
        &["x: float[1]", "c: bool[]"],
        vec![node_with("Loop", &["", "c", "x"], &["y"], vec![body])],
        &["y"],
    );
    assert_eq!(model.run(&[f(&[1], &[1.]), b(false)]).unwrap()[0], f(&[1], &[1.]));
    let error = model.run(&[f(&[1], &[1.]), b(true)]).unwrap_err();
    assert!(error.contains("node `y` is not finished after 1000000 iterations"), "{error}");
}

/// A loop that doubles its value in each iteration.
fn doubling() -> Model {
    let nodes = vec![node_with("Concat", &["v", "v"], &["w"], vec![int("axis", 0)])];
    Model::new(&["x: float[8]", "n: int64[]"], vec![counted("n", "x", nodes, &["w"])], &["out0"])
}

#[test]
fn a_value_that_grows_above_the_limit_is_an_error_and_is_never_made() {
    assert_eq!(doubling().run(&[f(&[8], &[0.; 8]), i(&[], &[10])]).unwrap()[0].shape(), [8192]);
    let error = doubling().run(&[f(&[8], &[0.; 8]), i(&[], &[60])]).unwrap_err();
    assert!(error.contains("would make 2097152 bytes of this input: the limit is 1048576"), "{error}");
}

#[test]
fn the_memory_of_a_body_is_taken_from_the_budget_and_returned() {
    let session = doubling().load().unwrap();
    let budget = Budget::new(100_000);
    let inputs = |count| [f(&[8], &[0.; 8]), i(&[], &[count])];
    assert!(run(&session, &inputs(8), &budget).is_ok());
    assert_eq!(budget.used(), 0);
    let error = run(&session, &inputs(14), &budget).unwrap_err();
    assert!(error.contains("of memory"), "{error}");
    assert_eq!(budget.used(), 0);
}

#[test]
fn joined_results_must_have_one_shape() {
    let axis = vec![int("axis", 0)];
    let nodes = vec![node_with("Concat", &["v", "x"], &["w"], axis), node("Identity", &["w"], &["row"])];
    let model = Model::new(
        &["x: float[2]", "n: int64[]"],
        vec![counted("n", "x", nodes, &["w", "row"])],
        &["out0", "out1"],
    );
    let error = model.run(&[f(&[2], &[1., 2.]), i(&[], &[2])]).unwrap_err();
    assert!(error.contains("one has the shape [4] and one [6]"), "{error}");
    assert_eq!(model.run(&[f(&[2], &[1., 2.]), i(&[], &[1])]).unwrap()[1].shape(), [1, 4]);
}

#[test]
fn an_inner_loop_reads_values_of_all_graphs_around_it() {
    let innermost = vec![
        node("Add", &["q", "x"], &["r1"]),
        node("Mul", &["r1", "outer"], &["r"]),
        node("Identity", &["go"], &["go3"]),
    ];
    let innermost = body("body", inner(&["at2", "go", "q"], innermost, &["go3", "r"]));
    let nodes = vec![
        node_with("Cast", &["at"], &["outer"], vec![int("to", 1)]),
        node_with("Loop", &["k", "", "v"], &["w"], vec![innermost]),
    ];
    let model = Model::new(
        &["x: float[N]", "n: int64[]", "k: int64[]"],
        vec![counted("n", "x", nodes, &["w"])],
        &["out0"],
    );
    // ((((1 + 1) · 0 + 1) · 0) + 1) · 1 + 1) · 1
    let made = model.run(&[f(&[1], &[1.]), i(&[], &[2]), i(&[], &[2])]).unwrap();
    assert_eq!(made[0], f(&[1], &[2.]));
}

#[test]
fn a_carried_sequence_needs_a_number_of_iterations_that_is_known() {
    let nodes = vec![node("SequenceInsert", &["v", "x"], &["w"])];
    let model = |trips: &str| {
        let nodes = vec![
            numbers("three", &[], &[3]),
            node("SequenceEmpty", &[], &["none"]),
            counted(trips, "none", nodes.clone(), &["w"]),
            node_with("ConcatFromSequence", &["out0"], &["y"], vec![int("axis", 0)]),
        ];
        Model::new(&["x: float[2]", "n: int64[]"], nodes, &["y"])
    };
    let made = model("three").run(&[f(&[2], &[1., 2.]), i(&[], &[0])]).unwrap();
    assert_eq!(made[0], f(&[6], &[1., 2., 1., 2., 1., 2.]));
    let error = model("n").refused();
    assert!(error.contains("`Loop` (node `out0`)") && error.contains("carries a sequence"), "{error}");
}

#[test]
fn a_value_with_one_axis_more_in_each_iteration_needs_a_known_number_too() {
    let nodes = vec![numbers("first", &[1], &[0]), node("Unsqueeze", &["v", "first"], &["w"])];
    let model = |trips: &str| {
        let nodes = vec![numbers("two", &[], &[2]), counted(trips, "x", nodes.clone(), &["w"])];
        Model::new(&["x: float[2]", "n: int64[]"], nodes, &["out0"])
    };
    let made = model("two").run(&[f(&[2], &[1., 2.]), i(&[], &[0])]).unwrap();
    assert_eq!(made[0].shape(), [1, 1, 2]);
    let error = model("n").refused();
    assert!(error.contains("the same type and number of axes in each iteration"), "{error}");
}
