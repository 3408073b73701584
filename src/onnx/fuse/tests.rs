//! Which nodes become one, and that their results stay the same.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::SymbolScope;

use super::super::Graph;
use super::super::external::OnnxFile;
use super::super::lower::lower;
use super::super::lower::tests::functions::int;
use super::super::lower::tests::{Model, bytes, f, floats, node, node_with};
use super::*;

/// The names of the operators of a model with the input `x` of the shape [1, 2, 3], without constants.
fn operators(nodes: &[NodeProto], outputs: &[&str]) -> Vec<String> {
    let model = Model::new(&["x: float[1,2,3]"], nodes.to_vec(), outputs);
    let file = OnnxFile { proto: model.0, folder: Default::default(), defaults: vec![] };
    let graph = Graph::of(file).unwrap();
    let inputs = [("x".to_owned(), TypedFact::dt_shape(DatumType::F32, [1, 2, 3]))];
    let mut typed = lower(&graph.source, &SymbolScope::default(), &inputs, &[], 1 << 20).unwrap();
    fuse(&mut typed).unwrap();
    let typed = typed.into_decluttered().unwrap();
    let names = typed.nodes().iter().map(|node| node.op.name().into_owned());
    names.filter(|name| !["Source", "Const"].contains(&&**name)).collect()
}

/// The numbers of the first output.
fn run(nodes: &[NodeProto], numbers: &[f32]) -> Vec<f32> {
    let model = Model::new(&["x: float[1,2,3]"], nodes.to_vec(), &["y"]);
    let outputs = model.run(&[f(&[1, 2, 3], numbers)]).unwrap();
    let crate::model::Elements::Fp32(numbers) = outputs[0].elements() else { panic!("expected FP32") };
    numbers.to_vec()
}

/// A convolution by 1, so that its result is `scale` · x + `bias`.
fn conv(input: &str, output: &str, scale: f32, bias: f32) -> Vec<NodeProto> {
    let (weights, offset) = (format!("{output}.w"), format!("{output}.b"));
    vec![
        floats(&weights, &[2, 2, 1], &[scale, 0.0, 0.0, scale]),
        floats(&offset, &[2], &[bias; 2]),
        node("Conv", &[input, &weights, &offset], &[output]),
    ]
}

const X: [f32; 6] = [-3.0, -1.0, 0.0, 0.5, 2.0, 7.0];

#[test]
fn what_follows_a_convolution_is_done_by_it() {
    let constants = |name: &str, numbers: &[f32]| floats(name, &[2], numbers);
    let nodes = [
        conv("x", "c", 2.0, 1.0),
        vec![
            constants("scale", &[3.0, 0.5]),
            constants("offset", &[1.0, -1.0]),
            constants("mean", &[2.0, 0.0]),
            constants("variance", &[1.0 - 1e-5, 4.0 - 1e-5]),
            node("BatchNormalization", &["c", "scale", "offset", "mean", "variance"], &["n"]),
            node("Add", &["n", "x"], &["s"]),
            node("Relu", &["s"], &["y"]),
        ],
    ]
    .concat();
    assert_eq!(operators(&nodes, &["y"]), ["Conv"]);
    let expected = |(at, x): (usize, &f32)| {
        let (scale, offset, mean, deviation) =
            if at < 3 { (3.0, 1.0, 2.0, 1.0) } else { (0.5, -1.0, 0.0, 2.0) };
        ((2.0 * x + 1.0 - mean) / deviation * scale + offset + x).max(0.0)
    };
    let expected: Vec<f32> = X.iter().enumerate().map(expected).collect();
    let found = run(&nodes, &X);
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {expected:?}");
}

#[test]
fn a_result_that_something_else_reads_stays() {
    let nodes = [conv("x", "c", 2.0, 1.0), vec![node("Relu", &["c"], &["y"])]].concat();
    assert_eq!(operators(&nodes, &["y"]), ["Conv"]);
    assert_eq!(operators(&nodes, &["y", "c"]), ["Conv", "Relu"], "an output of the model");
    let nodes = [nodes, vec![node("Exp", &["c"], &["z"])]].concat();
    assert_eq!(operators(&nodes, &["y", "z"]), ["Conv", "Relu", "Exp"], "another node");
}

#[test]
fn a_sum_with_the_own_result_is_not_a_step() {
    let nodes = [conv("x", "c", 2.0, 1.0), vec![node("Add", &["c", "c"], &["y"])]].concat();
    assert_eq!(run(&nodes, &X), X.map(|x| 4.0 * x + 2.0));
}

#[test]
fn exported_gates_are_one_operator_and_the_convolution_does_it() {
    let gate = |input: &str| vec![node("Sigmoid", &[input], &["g"]), node("Mul", &["g", input], &["y"])];
    assert_eq!(operators(&gate("x"), &["y"]), ["Swish"]);
    let nodes = [conv("x", "c", 1.0, 0.0), gate("c")].concat();
    assert_eq!(operators(&nodes, &["y"]), ["Conv"]);
    let expected = X.map(|x| x / (1.0 + (-x).exp()));
    assert!(run(&nodes, &X).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
    // The product with another tensor is no gate.
    let nodes =
        [node("Sigmoid", &["x"], &["g"]), node("Exp", &["x"], &["e"]), node("Mul", &["g", "e"], &["y"])];
    assert!(!operators(&nodes, &["y"]).contains(&"Swish".to_owned()));
}

#[test]
fn numbers_that_become_integers_and_numbers_again_are_rounded_alike() {
    let pair = |scale: &str, other: &str| {
        let scales = [floats("scale", &[], &[0.5]), floats("other", &[], &[0.25])];
        let nodes =
            [node("QuantizeLinear", &["x", scale], &["q"]), node("DequantizeLinear", &["q", other], &["y"])];
        [&scales[..], &nodes[..]].concat()
    };
    assert_eq!(operators(&pair("scale", "scale"), &["y"]), ["QuantizeLinear"]);
    // Halves go to even steps, numbers below the range of UINT8 to its end.
    assert_eq!(
        run(&pair("scale", "scale"), &[0.25, 0.75, 1.3, -1.0, f32::NAN, 1e9]),
        [0.0, 1.0, 1.5, 0.0, 0.0, 127.5]
    );
    assert_eq!(operators(&pair("scale", "other"), &["y"]).len(), 2, "another scale");
    assert_eq!(run(&pair("scale", "other"), &[1.0; 6]), [0.5; 6]);
    assert_eq!(operators(&pair("scale", "scale"), &["y", "q"]).len(), 2, "the integers are an output");
}

/// A product with a constant matrix, so that its result is `scale` · x with the places of the last axis turned around.
fn layer(input: &str, output: &str, scale: f32) -> Vec<NodeProto> {
    let weights = format!("{output}.w");
    let turned = [0.0, 0.0, scale, 0.0, scale, 0.0, scale, 0.0, 0.0];
    vec![floats(&weights, &[3, 3], &turned), node("MatMul", &[input, &weights], &[output])]
}

/// x · Φ(x), by the series of the error function's integral.
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    let step = x / 2000.0;
    let density = |at: f64| (-at * at / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let area: f64 = (0..2000).map(|at| density((f64::from(at) + 0.5) * step) * step).sum();
    (x * (0.5 + area)) as f32
}

#[test]
fn what_follows_a_product_is_done_by_it() {
    let nodes = [
        layer("x", "m", 2.0),
        vec![
            floats("b", &[3], &[1.0, 10.0, 100.0]),
            floats("f", &[1], &[0.5]),
            node("Add", &["b", "m"], &["s"]),
            node("Mul", &["s", "f"], &["h"]),
            node("LeakyRelu", &["h"], &["r"]),
            node("Add", &["x", "r"], &["y"]),
        ],
    ]
    .concat();
    assert_eq!(operators(&nodes, &["y"]), ["MatMul"]);
    let leaky = |x: f32| if x < 0.0 { 0.01 * x } else { x };
    let expected: [f32; 6] = std::array::from_fn(|at| {
        let turned = X[at / 3 * 3 + 2 - at % 3];
        X[at] + leaky((2.0 * turned + [1.0, 10.0, 100.0][at % 3]) * 0.5)
    });
    let found = run(&nodes, &X);
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {expected:?}");
}

#[test]
fn numbers_along_another_axis_than_the_columns_are_not_the_bias_of_a_product() {
    // One number for each of the two rows, not for the three columns.
    let rows = floats("b", &[2, 1], &[1.0, -1.0]);
    let nodes = [layer("x", "m", 1.0), vec![rows, node("Add", &["m", "b"], &["y"])]].concat();
    assert_eq!(operators(&nodes, &["y"]), ["MatMul", "Add"]);
    let expected: [f32; 6] = std::array::from_fn(|at| X[at / 3 * 3 + 2 - at % 3] + [1.0, -1.0][at / 3]);
    assert_eq!(run(&nodes, &X), expected);
}

#[test]
fn gelu_as_exporters_write_it_is_one_operator_and_the_product_does_it() {
    let constants = vec![
        floats("root", &[], &[2.0_f32.sqrt()]),
        floats("inverse", &[1], &[0.707_106_77]),
        floats("one", &[1], &[1.0]),
        floats("half", &[], &[0.5]),
    ];
    let last = |input: &str| {
        vec![
            node("Div", &[input, "root"], &["d"]),
            node("Erf", &["d"], &["e"]),
            node("Add", &["e", "one"], &["s"]),
            node("Mul", &[input, "s"], &["p"]),
            node("Mul", &["p", "half"], &["y"]),
        ]
    };
    let first = |input: &str| {
        vec![
            node("Mul", &[input, "half"], &["h"]),
            node("Mul", &["inverse", input], &["d"]),
            node("Erf", &["d"], &["e"]),
            node("Add", &["one", "e"], &["s"]),
            node("Mul", &["h", "s"], &["y"]),
        ]
    };
    for form in [last, first] {
        let nodes = [constants.clone(), form("x")].concat();
        assert_eq!(operators(&nodes, &["y"]), ["Gelu"]);
        let found = run(&nodes, &X);
        assert!(found.iter().zip(X).all(|(a, x)| (a - gelu(x)).abs() < 1e-5), "{found:?}");
        let nodes = [constants.clone(), layer("x", "m", 1.0), form("m")].concat();
        assert_eq!(operators(&nodes, &["y"]), ["MatMul"]);
        // A part of it that is read elsewhere stays.
        assert!(operators(&[constants.clone(), form("x")].concat(), &["y", "s"]).len() > 1);
    }
    // Another factor is another function.
    let mut nodes = [constants, last("x")].concat();
    nodes[0] = floats("root", &[], &[1.4]);
    assert!(!operators(&nodes, &["y"]).contains(&"Gelu".to_owned()));
}

#[test]
fn what_quantize_dynamic_makes_of_a_layer_is_one_product() {
    let layer = |factor: &str| {
        vec![
            node("DynamicQuantizeLinear", &["x"], &["q", "scale", "zero"]),
            bytes("w", &[3, 2], &[1, -2, 3, 4, -5, 127]),
            floats("w.scale", &[1], &[0.5]),
            node("MatMulInteger", &["q", "w", "zero"], &["sums"]),
            node_with("Cast", &["sums"], &["numbers"], vec![int("to", 1)]),
            node("Mul", &["scale", "w.scale"], &["both"]),
            node("Mul", &["numbers", factor], &["product"]),
            floats("bias", &[2], &[10.0, -10.0]),
            node("Add", &["product", "bias"], &["layer"]),
            node("Relu", &["layer"], &["y"]),
        ]
    };
    let nodes = layer("both");
    let without_axes = |outputs: &[&str]| -> Vec<String> {
        operators(&nodes, outputs).into_iter().filter(|name| name != "AddAxis").collect()
    };
    assert_eq!(without_axes(&["y"]), ["DynamicQuantizeLinear", "Mul", "MatMulInteger"]);
    // Steps of a twentieth, so the numbers are multiples of it.
    let x = [-3.0, -1.0, 0.0, 0.6, 2.0, 7.2];
    let found = run(&nodes, &x);
    for (at, found) in found.iter().enumerate() {
        let (row, column) = (at / 2 * 3, at % 2);
        let weights = [[1.0, 3.0, -5.0], [-2.0, 4.0, 127.0]][column];
        let product: f32 = (0..3).map(|at| 0.5 * x[row + at] * weights[at]).sum();
        let expected = (product + [10.0, -10.0][column]).max(0.0);
        assert!((found - expected).abs() < 2.0, "{found}, expected about {expected}");
    }
    // The same in single nodes, because something else reads each of them.
    let all = ["y", "sums", "numbers", "product", "layer"];
    assert_eq!(without_axes(&all).len(), 7, "nothing is left out");
    let model = Model::new(&["x: float[1,2,3]"], nodes.clone(), &all);
    let apart = model.run(&[f(&[1, 2, 3], &x)]).unwrap();
    let crate::model::Elements::Fp32(apart) = apart[0].elements() else { panic!("expected FP32") };
    assert!(found.iter().zip(apart).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {apart:?}");
}

#[test]
fn hard_swish_as_exporters_write_it_is_one_operator() {
    let constants = [("three", 3.0), ("zero", 0.0), ("six", 6.0)];
    let begin = |limit: &str| {
        let mut nodes = conv("x", "c", 1.0, 0.0);
        nodes.extend(constants.map(|(name, number)| floats(name, &[], &[number])));
        nodes.push(node("Add", &["c", "three"], &["s"]));
        nodes.push(node("Clip", &["s", "zero", limit], &["l"]));
        nodes
    };
    let product_first = [node("Mul", &["c", "l"], &["p"]), node("Div", &["p", "six"], &["y"])].to_vec();
    let product_last = [node("Div", &["l", "six"], &["p"]), node("Mul", &["p", "c"], &["y"])].to_vec();
    for end in [product_first, product_last] {
        let nodes = [begin("six"), end.clone()].concat();
        assert_eq!(operators(&nodes, &["y"]), ["Conv"]);
        for (found, x) in run(&nodes, &X).iter().zip(X) {
            assert!((found - x * (x + 3.0).clamp(0.0, 6.0) / 6.0).abs() < 1e-5, "{x}: {found}");
        }
        let other = [begin("three"), end.clone()].concat();
        assert!(operators(&other, &["y"]).contains(&"Clip".to_owned()), "another limit");
        assert!(operators(&nodes, &["y", "l"]).contains(&"Clip".to_owned()), "an output of the model");
    }
}
