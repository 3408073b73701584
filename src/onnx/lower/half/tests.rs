//! Which casts are in the plan of an FP16 model, and where a value is rounded.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, TensorProto};
use tract_onnx::tract_hir::internal::SymbolScope;

use super::super::super::Graph;
use super::super::super::external::OnnxFile;
use super::super::lower;
use super::super::tests::{Model, b, body, f, i, inner, node, node_with, numbers};
use super::*;
use crate::model::{self, Elements};

fn halves(numbers: &[f32]) -> model::Tensor {
    let halves = numbers.iter().map(|number| f16::from_f32(*number)).collect();
    model::Tensor::new(vec![numbers.len()], Elements::Fp16(halves)).unwrap()
}

/// Runs a model whose input `x` and output `y` are FP16.
fn run(nodes: Vec<NodeProto>, numbers: &[f32]) -> Vec<f32> {
    let output = Model::new(&["x: half[N]"], nodes, &["y"]).run(&[halves(numbers)]).unwrap().remove(0);
    let Elements::Fp16(halves) = output.elements() else { panic!("expected FP16") };
    halves.iter().map(|half| half.to_f32()).collect()
}

fn cast_to(to: DataType, input: &str, output: &str) -> NodeProto {
    let to = AttributeProto { name: "to".into(), i: i64::from(i32::from(to)), ..Default::default() };
    node_with("Cast", &[input], &[output], vec![AttributeProto { r#type: 2, ..to }])
}

/// An FP16 tensor of a file.
fn half_tensor(name: &str, numbers: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![numbers.len() as i64],
        data_type: DataType::Float16.into(),
        raw_data: numbers.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// A model with one input of four numbers and with FP16 weights.
fn model(input: &str, weights: &[TensorProto], nodes: Vec<NodeProto>) -> Model {
    let mut model = Model::new(&[input], nodes, &["y"]);
    model.0.graph.as_mut().unwrap().initializer = weights.to_vec();
    model
}

/// The plan of a model. `fact` is that of its input `x`.
fn plan(model: &Model, datum_type: DatumType) -> TypedModel {
    let file = OnnxFile { proto: model.0.clone(), folder: Default::default(), defaults: vec![] };
    let graph = Graph::of(file).unwrap();
    let inputs = [("x".to_owned(), TypedFact::dt_shape(datum_type, [4]))];
    let typed = lower(&graph.source, &SymbolScope::default(), &inputs, &[], 1 << 20).unwrap();
    typed.into_decluttered().unwrap().into_optimized().unwrap()
}

/// The names of the casts of a graph, without the numbers that make them unlike.
fn casts(plan: &TypedModel) -> Vec<&str> {
    let casts = plan.nodes().iter().filter(|node| node.op.name() == "Cast");
    casts.map(|node| node.name.split('.').next().unwrap()).collect()
}

#[test]
fn two_nodes_have_no_cast_between_them() {
    let nodes = vec![
        node("Sigmoid", &["x"], &["a"]),
        node("Transpose", &["a"], &["b"]),
        node("Softmax", &["b"], &["c"]),
        node("Exp", &["c"], &["y"]),
    ];
    let plan = plan(&model("x: half[4]", &[], nodes), DatumType::F16);
    assert_eq!(casts(&plan), ["widened", "narrowed"], "only the input and the output");
}

#[test]
fn constants_are_widened_at_load() {
    let weights = [half_tensor("w", &[0.1; 4]), half_tensor("v", &[0.2; 4])];
    let nodes = vec![
        node("Unsqueeze", &["w", "axes"], &["row"]),
        cast_to(DataType::Float, "v", "wide"),
        cast_to(DataType::Float16, "wide", "half"),
        cast_to(DataType::Float, "x", "exact"),
        node("Mul", &["x", "row"], &["a"]),
        node("Add", &["a", "half"], &["y"]),
    ];
    let nodes = [vec![numbers("axes", &[1], &[0])], nodes].concat();
    let plan = plan(&model("x: half[4]", &weights, nodes), DatumType::F16);
    assert_eq!(casts(&plan), ["widened", "narrowed"], "only the input and the output");
    let constants = plan.nodes().iter().flat_map(|node| &node.outputs).filter_map(|o| o.fact.konst.as_ref());
    let types: Vec<DatumType> = constants.map(|constant| constant.datum_type()).collect();
    assert_eq!(types, [DatumType::F32; 2], "FP16 is not kept beside FP32");
}

#[test]
fn a_weight_behind_a_cast_costs_nothing() {
    let nodes = vec![cast_to(DataType::Float, "w", "wide"), node("Mul", &["x", "wide"], &["y"])];
    let plan = plan(&model("x: float[4]", &[half_tensor("w", &[0.1; 4])], nodes), DatumType::F32);
    assert!(casts(&plan).is_empty(), "{:?}", casts(&plan));
}

#[test]
fn a_table_of_which_rows_are_taken_stays_small() {
    let nodes = vec![
        cast_to(DataType::Int64, "x", "rows"),
        node("Gather", &["table", "rows"], &["taken"]),
        node("Exp", &["taken"], &["y"]),
    ];
    let plan = plan(&model("x: float[4]", &[half_tensor("table", &[0.0; 1000])], nodes), DatumType::F32);
    let constants = plan.nodes().iter().flat_map(|node| &node.outputs).filter_map(|o| o.fact.konst.as_ref());
    assert!(constants.map(|constant| constant.datum_type()).eq([DatumType::F16]));
}

#[test]
fn casts_around_a_node_between_two_with_fp16_are_not_in_the_plan() {
    let nodes = vec![
        node("Sigmoid", &["x"], &["a"]),
        cast_to(DataType::Float, "a", "wide"),
        node("Exp", &["wide"], &["b"]),
        cast_to(DataType::Float16, "b", "half"),
        node("Sigmoid", &["half"], &["c"]),
        cast_to(DataType::Float, "c", "y"),
    ];
    let plan = plan(&model("x: half[4]", &[], nodes), DatumType::F16);
    assert_eq!(casts(&plan), ["widened"], "only the input");
}

#[test]
fn a_cast_to_fp16_rounds_other_values() {
    let nodes = vec![
        cast_to(DataType::Float16, "x", "half"),
        node("Sub", &["half", "zero"], &["a"]),
        cast_to(DataType::Float, "a", "y"),
    ];
    let model = model("x: float[4]", &[half_tensor("zero", &[0.0])], nodes);
    let outputs = model.run(&[f(&[4], &[2048.6, 2051.0, 1e-8, 70000.0])]).unwrap();
    assert_eq!(outputs[0], f(&[4], &[2048.0, 2052.0, 0.0, f32::INFINITY]));
    let whole = |to| vec![cast_to(DataType::Float16, "x", "half"), cast_to(to, "half", "y")];
    let model = Model::new(&["x: int64[N]"], whole(DataType::Float), &["y"]);
    let outputs = model.run(&[i(&[3], &[2049, 65519, -65520])]).unwrap();
    assert_eq!(outputs[0], f(&[3], &[2048.0, 65504.0, f32::NEG_INFINITY]));
}

#[test]
fn an_output_is_rounded_once() {
    let nodes = vec![node("Mul", &["x", "x"], &["a"]), node("Mul", &["a", "x"], &["y"])];
    // 1.0009765625² = 1.0019540787, which FP16 rounds to 1.0019531; the cube is 1.0029325, between 1.0029297 and 1.0039063.
    assert_eq!(run(nodes, &[1.000_976_6, 3.0]), [1.002_929_7, 27.0]);
}

#[test]
fn numbers_that_are_too_large_stay_finite_between_nodes() {
    let nodes = vec![
        node("Mul", &["x", "x"], &["square"]),
        node("Identity", &["square"], &["moved"]),
        node("Sqrt", &["moved"], &["y"]),
    ];
    assert_eq!(run(nodes, &[300.0, -2.0]), [300.0, 2.0]);
    let nodes = vec![node("Mul", &["x", "x"], &["y"])];
    assert_eq!(run(nodes, &[300.0, -2.0]), [f32::INFINITY, 4.0], "an output has the range of FP16");
}

#[test]
fn a_sum_does_not_overflow_and_a_small_divisor_is_not_0() {
    let nodes = vec![node("ReduceMean", &["x"], &["y"])];
    assert_eq!(run(nodes, &[60.0; 4000]), [60.0]);
    let nodes = vec![node("Mul", &["x", "x"], &["square"]), node("Div", &["square", "square"], &["y"])];
    assert_eq!(run(nodes, &[1e-5]), [1.0], "the square is 1e-10, for which FP16 has only 0");
}

#[test]
fn a_node_that_jumps_is_given_rounded_values() {
    // 2049 is between 2048 and 2050 of FP16, and it becomes 2048.
    let sum = || node("Add", &["x", "x"], &["a"]);
    let half_more = |output: &str| node("Sub", &["a", "x"], &[output]);
    let nodes = vec![sum(), half_more("b"), node("Mul", &["b", "b"], &["c"]), node("Floor", &["c"], &["y"])];
    // 45.28125² is 2050.39: 2050 in FP16.
    assert_eq!(run(nodes, &[45.281_25]), [2050.0]);
    // 1000.5 + 1048.5 is 2049, and 2048 in FP16.
    let nodes = vec![
        node("Add", &["x", "more"], &["a"]),
        node("Equal", &["a", "sum"], &["equal"]),
        cast_to(DataType::Float16, "equal", "y"),
    ];
    let mut model = Model::new(&["x: half[N]"], nodes, &["y"]);
    model.0.graph.as_mut().unwrap().initializer =
        vec![half_tensor("more", &[1048.5]), half_tensor("sum", &[2048.0])];
    let output = model.run(&[halves(&[1000.5, 900.0])]).unwrap().remove(0);
    assert_eq!(output, halves(&[1.0, 0.0]));
}

#[test]
fn a_gelu_of_fp16_is_known_as_one() {
    let constants = [half_tensor("root", &[SQRT_2]), half_tensor("one", &[1.0]), half_tensor("half", &[0.5])];
    let nodes = vec![
        node("Div", &["x", "root"], &["a"]),
        node("Erf", &["a"], &["e"]),
        node("Add", &["e", "one"], &["p"]),
        node("Mul", &["x", "p"], &["m"]),
        node("Mul", &["m", "half"], &["y"]),
    ];
    let plan = plan(&model("x: half[4]", &constants, nodes), DatumType::F16);
    assert!(plan.nodes().iter().any(|node| node.op.name() == "GeluExact"), "{plan}");
}

#[test]
fn bodies_take_and_give_fp32() {
    // Each of two iterations multiplies `v` by `a`, which is outside, and gives what a branch makes of `a`.
    let branch = |op: &str| inner(&[], vec![node(op, &["a"], &["r"])], &["r"]);
    let mut step = inner(
        &["at", "go", "v"],
        vec![
            node("Identity", &["go"], &["on"]),
            node("Mul", &["v", "a"], &["next"]),
            node("If", &["c"], &["each"]),
        ],
        &["on", "next", "each"],
    );
    step.node[2].attribute = vec![body("then_branch", branch("Exp")), body("else_branch", branch("Neg"))];
    let nodes = vec![
        numbers("trips", &[], &[2]),
        node("Add", &["x", "x"], &["a"]),
        node_with("Loop", &["trips", "", "x"], &["last", "all"], vec![body("body", step)]),
        node("ReduceSum", &["all"], &["sum"]),
        node("Add", &["last", "sum"], &["y"]),
    ];
    let model = Model::new(&["x: half[N]", "c: bool[]"], nodes, &["y"]);
    let output = model.run(&[halves(&[0.5, 3.0]), b(false)]).unwrap().remove(0);
    // `a` is 1 and 6. Each iteration gives -1 and -6: the sum is -14.
    assert_eq!(output.elements(), halves(&[0.5 - 14.0, 108.0 - 14.0]).elements());
    let output = model.run(&[halves(&[0.5]), b(true)]).unwrap().remove(0);
    assert_eq!(output.elements(), halves(&[0.5 + 2.0 * 1_f32.exp()]).elements());
}
