//! `Scan`.

use super::functions::{int, ints};
use super::*;

/// A body that adds the rows to a sum, and gives the sum and its product with the row.
fn sums() -> AttributeProto {
    let nodes = vec![
        node("Add", &["sum", "row"], &["next"]),
        node("Mul", &["next", "row"], &["product"]),
        node("Identity", &["next"], &["copy"]),
    ];
    body("body", inner(&["sum", "row"], nodes, &["next", "copy", "product"]))
}

#[test]
fn axes_and_directions_of_inputs_and_outputs_are_followed() {
    let attributes = vec![
        sums(),
        int("num_scan_inputs", 1),
        ints("scan_input_axes", &[-1]),
        ints("scan_input_directions", &[1]),
        ints("scan_output_axes", &[-1, 0]),
        ints("scan_output_directions", &[0, 1]),
    ];
    let scan = node_with("Scan", &["h", "x"], &["last", "all", "products"], attributes);
    let model = Model::new(&["h: float[2]", "x: float[2,N]"], vec![scan], &["last", "all", "products"]);
    let made = model.run(&[f(&[2], &[10., 20.]), f(&[2, 3], &[1., 2., 3., 4., 5., 6.])]).unwrap();
    // The rows are [3, 6], [2, 5], [1, 4], and the sums [13, 26], [15, 31], [16, 35].
    assert_eq!(made[0], f(&[2], &[16., 35.]));
    assert_eq!(made[1], f(&[2, 3], &[13., 15., 16., 26., 31., 35.]));
    assert_eq!(made[2], f(&[3, 2], &[16., 140., 30., 155., 39., 156.]));
}

#[test]
fn version_8_walks_through_each_element_of_the_batch() {
    let scan = node_with(
        "Scan",
        &["", "h", "x"],
        &["last", "", "products"],
        vec![sums(), int("num_scan_inputs", 1), ints("directions", &[1])],
    );
    let mut model =
        Model::new(&["h: float[B,1]", "x: float[B,L,1]"], vec![scan.clone()], &["last", "products"]);
    model.0.opset_import[0].version = 8;
    let made = model.run(&[f(&[2, 1], &[0., 10.]), f(&[2, 2, 1], &[1., 2., 3., 4.])]).unwrap();
    assert_eq!(made[0], f(&[2, 1], &[3., 17.]));
    assert_eq!(made[1], f(&[2, 2, 1], &[4., 3., 56., 51.]));
    model.0.graph.as_mut().unwrap().node[0].input[0] = "h".into();
    assert!(model.refused().contains("`sequence_lens` is not supported"));
}

#[test]
fn inputs_of_unequal_lengths_are_refused() {
    let nodes = vec![node("Add", &["a", "b"], &["c"])];
    let body = body("body", inner(&["a", "b"], nodes, &["c"]));
    let scan = node_with("Scan", &["x", "y"], &["z"], vec![body, int("num_scan_inputs", 2)]);
    let fixed = Model::new(&["x: float[2]", "y: float[3]"], vec![scan.clone()], &["z"]);
    let error = fixed.refused();
    assert!(error.contains("inputs of 2 and 3 elements"), "{error}");
    let open = Model::new(&["x: float[N]", "y: float[M]"], vec![scan], &["z"]);
    let error = open.run(&[f(&[2], &[1.; 2]), f(&[3], &[1.; 3])]).unwrap_err();
    assert!(error.contains("inputs of 2 and 3 elements"), "{error}");
}
