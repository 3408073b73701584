//! Graphs of texts: what moves them, and the memory that they take.

use super::super::super::operators::trial::int;
use super::*;

fn text_model(inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> Model {
    let mut model = Model::new(inputs, nodes, outputs);
    model.0.opset_import[0].version = 21;
    model
}

/// `x` joined with itself, `times` times.
fn doubled(times: usize) -> Model {
    let name = |at: usize| format!("x{at}");
    let node = |at: usize| node("StringConcat", &[&name(at), &name(at)], &[&name(at + 1)]);
    text_model(&["x0: string[N]"], (0..times).map(node).collect(), &[&name(times)])
}

#[test]
fn texts_are_moved_compared_and_counted_like_numbers() {
    let nodes = vec![
        node("Transpose", &["x"], &["turned"]),
        numbers("flat", &[1], &[-1]),
        node("Reshape", &["turned", "flat"], &["list"]),
        numbers("places", &[2], &[0, -1]),
        node("Gather", &["list", "places"], &["ends"]),
        node_with("Concat", &["ends", "list"], &["all"], vec![int("axis", 0)]),
        node("Equal", &["x", "x"], &["equal"]),
        node("Shape", &["x"], &["shape"]),
        node("Size", &["x"], &["size"]),
    ];
    let model = text_model(&["x: string[N,2]"], nodes, &["all", "equal", "shape", "size"]);
    let texts = s(&[2, 2], &["a", "", "é", "d"]);
    let outputs = model.run(&[texts]).unwrap();
    assert_eq!(outputs[0], s(&[6], &["a", "d", "a", "é", "", "d"]));
    assert_eq!(outputs[1].elements(), &Elements::Bool(vec![true; 4]));
    assert_eq!(outputs[2..], [i(&[2], &[2, 2]), i(&[], &[4])]);
}

#[test]
fn a_text_that_grows_is_refused_before_it_takes_more_than_a_tensor_may() {
    let model = doubled(16);
    let outputs = model.run(&[s(&[1], &["abcd"])]).unwrap();
    assert_eq!(outputs[0].elements().text_bytes(), 4 << 16);
    // The limit in these tests is one MiB.
    let error = doubled(40).run(&[s(&[1], &["abcd"])]).unwrap_err();
    assert!(error.contains("the limit is 1048576"), "{error}");
    // One long text and many short ones together are only as large as they are.
    let mut texts = vec!["a"; 300];
    let long = "b".repeat(100_000);
    texts.push(&long);
    assert!(doubled(2).run(&[s(&[301], &texts)]).is_ok());
}

#[test]
fn the_memory_of_texts_is_taken_from_the_budget_of_the_request() {
    let session = doubled(4).load().unwrap();
    let long = "x".repeat(10_000);
    let input = [s(&[1], &[&long])];
    // The copy of the input, and results of 20, 40, 80 and 160 kB, of which the last is copied to the reply.
    assert!(run(&session, &input, &Budget::new(500_000)).is_ok());
    let budget = Budget::new(200_000);
    assert!(run(&session, &input, &budget).is_err());
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_text_that_a_loop_carries_takes_memory_too() {
    let inner = inner(
        &["at", "go", "text"],
        vec![node("Identity", &["go"], &["on"]), node("StringConcat", &["text", "text"], &["longer"])],
        &["on", "longer", "longer"],
    );
    let nodes = vec![node_with("Loop", &["times", "", "x"], &["last", "all"], vec![body("body", inner)])];
    let model = text_model(&["times: int64[]", "x: string[1]"], nodes, &["last", "all"]);
    let session = model.load().unwrap();
    let run = |times: i64, bytes: usize| {
        let inputs = [i(&[], &[times]), s(&[1], &["abcd"])];
        run(&session, &inputs, &Budget::new(bytes))
    };
    let outputs = run(3, 1 << 20).unwrap();
    assert_eq!(outputs[0].elements().text_bytes(), 32);
    assert_eq!((outputs[1].shape(), outputs[1].elements().text_bytes()), (&[3, 1][..], 8 + 16 + 32));
    assert!(run(16, 300_000).is_err());
    assert!(run(60, 1 << 30).unwrap_err().contains("the limit is"));
}

#[test]
fn bytes_that_are_no_utf8_are_an_error_of_the_request() {
    let model = text_model(&["x: string[1]"], vec![node("Identity", &["x"], &["y"])], &["y"]);
    let wrong = Tensor::new(vec![1], Elements::Bytes(vec![vec![0xff]])).unwrap();
    assert!(model.run(&[wrong]).unwrap_err().contains("element 0 is not UTF-8"));
}
