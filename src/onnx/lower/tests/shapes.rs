//! Shapes that depend on the request: computed from symbols when the model is loaded, or from values in the run.

use super::super::super::operators::trial::{int, ints};
use super::{Model, f, i, node, node_with, numbers};

#[test]
fn an_open_axis_may_be_shorter_than_the_end_of_a_slice() {
    let nodes = vec![
        numbers("start", &[1], &[0]),
        numbers("end", &[1], &[3]),
        numbers("axis", &[1], &[1]),
        node("Slice", &["x", "start", "end", "axis"], &["y"]),
    ];
    let model = Model::new(&["x: float[N,T]"], nodes, &["y"]);
    let short = model.run(&[f(&[1, 2], &[1., 2.])]).unwrap();
    assert_eq!(short, [f(&[1, 2], &[1., 2.])]);
    let long = model.run(&[f(&[1, 4], &[1., 2., 3., 4.])]).unwrap();
    assert_eq!(long, [f(&[1, 3], &[1., 2., 3.])]);
}

#[test]
fn a_shape_in_reverse_keeps_its_symbols() {
    let nodes = vec![
        node("Shape", &["x"], &["shape"]),
        numbers("last", &[1], &[-1]),
        numbers("before", &[1], &[i64::MIN]),
        numbers("axis", &[1], &[0]),
        numbers("step", &[1], &[-1]),
        node("Slice", &["shape", "last", "before", "axis", "step"], &["reversed"]),
        node("Reshape", &["x", "reversed"], &["y"]),
        node("Transpose", &["x"], &["turned"]),
        // tract adds only tensors whose lengths it knows to be equal.
        node("Add", &["y", "turned"], &["sum"]),
    ];
    let model = Model::new(&["x: float[N,T]"], nodes, &["sum"]);
    let sum = model.run(&[f(&[2, 3], &[0., 1., 2., 3., 4., 5.])]).unwrap();
    assert_eq!(sum, [f(&[3, 2], &[0., 4., 3., 7., 6., 10.])]);
}

#[test]
fn an_image_is_resized_to_the_shape_of_another_one() {
    let nodes = vec![
        node("Shape", &["other"], &["sizes"]),
        node("Resize", &["x", "", "", "sizes"], &["y"]),
        node("Add", &["y", "other"], &["sum"]),
    ];
    let model = Model::new(&["x: float[H,W]", "other: float[A,B]"], nodes, &["sum"]);
    let sum = model.run(&[f(&[1, 2], &[1., 2.]), f(&[2, 4], &[0.; 8])]).unwrap();
    assert_eq!(sum, [f(&[2, 4], &[1., 1., 2., 2., 1., 1., 2., 2.])]);
}

#[test]
fn lengths_that_are_values_of_a_request_go_on_into_a_product() {
    let nodes = vec![
        node("ConstantOfShape", &["lengths"], &["zeros"]),
        numbers("flat", &[2], &[-1, 2]),
        node("Reshape", &["zeros", "flat"], &["rows"]),
        node("Add", &["rows", "x"], &["sum"]),
        node("MatMul", &["sum", "weights"], &["y"]),
    ];
    let inputs = ["x: float[1,2]", "lengths: int64[3]", "weights: float[2,2]"];
    let model = Model::new(&inputs, nodes, &["y"]);
    let (x, weights) = (f(&[1, 2], &[1., 2.]), f(&[2, 2], &[0., 1., 1., 0.]));
    let y = model.run(&[x.clone(), i(&[3], &[1, 2, 2]), weights.clone()]).unwrap();
    assert_eq!(y, [f(&[2, 2], &[2., 1., 2., 1.])]);
    let huge = model.run(&[x, i(&[3], &[1 << 20, 1 << 20, 2]), weights]).unwrap_err();
    assert!(huge.contains("the limit is"), "{huge}");
}

#[test]
fn an_index_out_of_range_is_an_error_of_the_request() {
    let gather = vec![node_with("Gather", &["x", "at"], &["y"], vec![int("axis", 1)])];
    let model = Model::new(&["x: float[N,3]", "at: int64[1]"], gather, &["y"]);
    let row = f(&[1, 3], &[1., 2., 3.]);
    assert_eq!(model.run(&[row.clone(), i(&[1], &[-1])]).unwrap(), [f(&[1, 1], &[3.])]);
    assert!(model.run(&[row, i(&[1], &[3])]).unwrap_err().contains("out of range"));
}

#[test]
fn an_open_length_is_fixed_where_the_number_of_axes_depends_on_it() {
    let squeeze = Model::new(&["x: float[N,1]"], vec![node("Squeeze", &["x"], &["y"])], &["y"]);
    assert_eq!(squeeze.run(&[f(&[1, 1], &[5.])]).unwrap(), [f(&[], &[5.])]);
    assert!(squeeze.run(&[f(&[2, 1], &[5., 6.])]).is_err());
}

#[test]
fn the_parts_of_an_open_axis_must_add_up() {
    let parts = vec![node_with("Split", &["x"], &["a", "b"], vec![int("axis", 0), ints("split", &[1, 1])])];
    let mut old = Model::new(&["x: float[N,1]"], parts, &["a", "b"]);
    old.0.opset_import[0].version = 11;
    assert_eq!(old.run(&[f(&[2, 1], &[1., 2.])]).unwrap(), [f(&[1, 1], &[1.]), f(&[1, 1], &[2.])]);
    assert!(old.run(&[f(&[3, 1], &[1., 2., 3.])]).unwrap_err().contains("add up"));
}

#[test]
fn an_axis_that_does_not_exist_is_named_although_tract_panics() {
    let axes = |op: &str| vec![numbers("axes", &[1], &[9]), node(op, &["x", "axes"], &["y"])];
    let cases = [
        ("`axis` is 9: expected -2 to 2", vec![node_with("Flatten", &["x"], &["y"], vec![int("axis", 9)])]),
        ("there is no axis 9", axes("Squeeze")),
        ("there is no axis 9", axes("Unsqueeze")),
        ("axis 9", vec![node_with("Transpose", &["x"], &["y"], vec![ints("perm", &[9, 0])])]),
    ];
    for (expected, nodes) in cases {
        let title = format!("`{}` (node", nodes.last().unwrap().op_type);
        let error = Model::new(&["x: float[2,3]"], nodes, &["y"]).refused();
        assert!(error.contains(expected) && error.contains(&title), "{error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
fn a_negative_length_is_an_error_that_names_the_node() {
    let nodes = vec![numbers("shape", &[2], &[-3, 3]), node("Expand", &["x", "shape"], &["y"])];
    let error = Model::new(&["x: float[1,3]"], nodes, &["y"]).refused();
    assert!(error.contains("`Expand` (node") && error.contains("-3"), "{error}");
    assert!(!error.contains("panicked"), "{error}");
}
