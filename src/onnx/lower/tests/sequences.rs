//! Sequences, optionals and sparse tensors.

use tract_onnx::pb::SparseTensorProto;

use super::functions::int;
use super::*;

#[test]
fn positions_count_from_the_end_too_and_must_be_within_the_sequence() {
    let model = |at: i64| {
        let nodes = vec![
            numbers("at", &[], &[at]),
            numbers("minus1", &[], &[-1]),
            node("SequenceConstruct", &["x", "w"], &["two"]),
            node("SequenceInsert", &["two", "x", "minus1"], &["three"]),
            node("SequenceErase", &["three"], &["less"]),
            node("SequenceLength", &["less"], &["n"]),
            node("SequenceAt", &["three", "at"], &["y"]),
        ];
        Model::new(&["x: float[1]", "w: float[2]"], nodes, &["y", "n"])
    };
    let (x, w) = (f(&[1], &[1.]), f(&[2], &[2., 3.]));
    let made = |at| model(at).run(&[x.clone(), w.clone()]).unwrap();
    assert_eq!(made(-1), [w.clone(), i(&[], &[2])]);
    assert_eq!(made(1)[0], x);
    let error = model(3).refused();
    assert!(error.contains("`SequenceAt` (node `y`)") && error.contains("has 3 elements"), "{error}");
    let nodes = vec![node("SequenceConstruct", &["x"], &["s"]), node("SequenceAt", &["s", "n"], &["y"])];
    let error = Model::new(&["x: float[1]", "n: int64[]"], nodes, &["y"]).refused();
    assert!(error.contains("positions in a sequence must be constant"), "{error}");
}

#[test]
fn a_tensor_is_split_into_parts_of_known_and_of_late_lengths() {
    let nodes = vec![
        numbers("four", &[], &[4]),
        numbers("last", &[], &[-1]),
        node_with("SplitToSequence", &["x", "four"], &["s"], vec![int("axis", 1)]),
        node("SequenceAt", &["s", "last"], &["rest"]),
        node_with("SplitToSequence", &["x", "split"], &["t"], vec![int("axis", -1)]),
        node("SequenceAt", &["t", "last"], &["late"]),
    ];
    let model = Model::new(&["x: float[1,6]", "split: int64[2]"], nodes, &["rest", "late"]);
    let x = f(&[1, 6], &[1., 2., 3., 4., 5., 6.]);
    let made = model.run(&[x.clone(), i(&[2], &[5, 1])]).unwrap();
    assert_eq!(made, [f(&[1, 2], &[5., 6.]), f(&[1, 1], &[6.])]);
    assert_eq!(model.run(&[x.clone(), i(&[2], &[6, 0])]).unwrap()[1], f(&[1, 0], &[]));
    for wrong in [[5, 2], [-1, 7], [i64::MAX, i64::MAX]] {
        let error = model.run(&[x.clone(), i(&[2], &wrong)]).unwrap_err();
        assert!(error.contains("expected lengths whose sum is 6"), "{error}");
    }
}

#[test]
fn a_body_is_mapped_over_a_sequence() {
    let add = inner(&["one", "all"], vec![node("Add", &["one", "all"], &["sum"])], &["sum"]);
    let nodes = vec![
        node_with("SplitToSequence", &["x"], &["rows"], vec![int("keepdims", 0)]),
        node_with("SequenceMap", &["rows", "w"], &["sums"], vec![body("body", add)]),
        node_with("ConcatFromSequence", &["sums"], &["y"], vec![int("axis", -1), int("new_axis", 1)]),
    ];
    let model = Model::new(&["x: float[2,2]", "w: float[2]"], nodes, &["y"]);
    let made = model.run(&[f(&[2, 2], &[1., 2., 3., 4.]), f(&[2], &[10., 20.])]).unwrap();
    assert_eq!(made[0], f(&[2, 2], &[11., 13., 22., 24.]));
}

#[test]
fn optionals_are_resolved() {
    let nodes = vec![
        node("Optional", &["x"], &["some"]),
        node("Identity", &["some"], &["same"]),
        node("OptionalHasElement", &["same"], &["yes"]),
        node("Optional", &[], &["none"]),
        node("Identity", &["none"], &["still"]),
        node("OptionalHasElement", &["still"], &["no"]),
        node("OptionalGetElement", &["same"], &["y"]),
    ];
    let model = Model::new(&["x: float[1]"], nodes.clone(), &["yes", "no", "y"]);
    assert_eq!(model.run(&[f(&[1], &[5.])]).unwrap(), [b(true), b(false), f(&[1], &[5.])]);
    let nodes = [nodes, vec![node("OptionalGetElement", &["still"], &["z"])]].concat();
    let error = Model::new(&["x: float[1]"], nodes, &["z"]).refused();
    assert!(error.contains("optional that is absent"), "{error}");
}

fn sparse(name: &str, indices: &[i64], shape: &[i64]) -> SparseTensorProto {
    let values = TensorProto { name: name.into(), ..float_tensor(&[2], &[5., 6.]) };
    let indices = TensorProto {
        dims: shape.to_vec(),
        data_type: DataType::Int64.into(),
        int64_data: indices.to_vec(),
        ..Default::default()
    };
    SparseTensorProto { values: Some(values), indices: Some(indices), dims: vec![2, 2] }
}

#[test]
fn sparse_tensors_become_dense() {
    let attribute = AttributeProto {
        name: "sparse_value".into(),
        r#type: AttributeType::SparseTensor.into(),
        sparse_tensor: Some(sparse("", &[0, 1, 1, 0], &[2, 2])),
        ..Default::default()
    };
    let nodes = vec![
        node_with("Constant", &[], &["c"], vec![attribute]),
        node("Sub", &["w", "c"], &["d"]),
        node("Add", &["x", "d"], &["y"]),
    ];
    let mut model = Model::new(&["x: float[2,2]"], nodes, &["y"]);
    let graph = model.0.graph.as_mut().unwrap();
    graph.sparse_initializer.push(sparse("w", &[0, 3], &[2]));
    assert_eq!(model.run(&[f(&[2, 2], &[0.; 4])]).unwrap()[0], f(&[2, 2], &[5., -5., -6., 6.]));
    for wrong in [[0, 4], [-1, 0]] {
        model.0.graph.as_mut().unwrap().sparse_initializer[0] = sparse("w", &wrong, &[2]);
        let error = model.refused();
        assert!(error.contains("`w`") && error.contains("outside of its shape"), "{error}");
    }
    model.0.graph.as_mut().unwrap().sparse_initializer[0].dims = vec![1 << 40, 1 << 40];
    assert!(model.refused().contains("has more than"), "a huge tensor is never made");
}
