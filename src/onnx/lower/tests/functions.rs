//! Functions of the file, and domains.

use tract_onnx::pb::FunctionProto;

use super::*;

/// An integer attribute.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int.into(), i: value, ..Default::default() }
}

/// An attribute with several integers.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints.into(),
        ints: values.to_vec(),
        ..Default::default()
    }
}

/// An attribute that has the value of an attribute of the call.
fn refers(name: &str, to: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ref_attr_name: to.into(),
        r#type: AttributeType::Int.into(),
        ..Default::default()
    }
}

fn function(name: &str, inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> FunctionProto {
    FunctionProto {
        name: Some(name.into()),
        domain: Some("local".into()),
        input: strings(inputs),
        output: strings(outputs),
        node: nodes,
        ..Default::default()
    }
}

fn call(name: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto { domain: "local".into(), ..node_with(name, inputs, outputs, attributes) }
}

#[test]
fn calls_are_replaced_with_their_attributes_and_with_names_of_their_own() {
    // The sum along an axis, by way of a function inside the function. `t` is also a name in the graph.
    let mut total = function(
        "Total",
        &["x"],
        vec![node_with("CumSum", &["x", "at"], &["t"], vec![refers("reverse", "back")])],
        &["t"],
    );
    total.node.insert(0, numbers("at", &[], &[0]));
    total.attribute = vec!["back".into()];
    let twice = function(
        "Twice",
        &["x", "unused"],
        vec![call("Total", &["x"], &["t"], vec![refers("back", "order")]), node("Add", &["t", "t"], &["y"])],
        &["y", "x"],
    );
    let nodes = vec![
        node("Neg", &["x"], &["t"]),
        call("Twice", &["x"], &["a", "copy"], vec![int("order", 0)]),
        call("Twice", &["t", "x"], &["b"], vec![int("order", 1)]),
        call("Total", &["x"], &["c"], vec![]),
    ];
    let mut model = Model::new(&["x: float[3]"], nodes, &["a", "b", "c", "copy", "t"]);
    model.0.functions = vec![total, FunctionProto { attribute: vec!["order".into()], ..twice }];
    let x = f(&[3], &[1., 2., 3.]);
    let made = model.run(std::slice::from_ref(&x)).unwrap();
    assert_eq!(made[0], f(&[3], &[2., 6., 12.]));
    assert_eq!(made[1], f(&[3], &[-12., -10., -6.]));
    assert_eq!(made[2], f(&[3], &[1., 3., 6.]), "an attribute that the call leaves out has its default");
    assert_eq!(made[3..], [x, f(&[3], &[-1., -2., -3.])]);
}

#[test]
fn a_graph_inside_a_function_reads_the_values_of_the_call() {
    let yes = inner(&[], vec![node("Add", &["x", "h"], &["r"])], &["r"]);
    let no = inner(&[], vec![node("Neg", &["x"], &["r"])], &["r"]);
    let nodes = vec![
        floats("h", &[], &[0.5]),
        node_with("If", &["c"], &["y"], vec![body("then_branch", yes), body("else_branch", no)]),
    ];
    let calls = vec![
        floats("h", &[], &[100.]),
        call("Choose", &["x", "c"], &["a"], vec![]),
        call("Choose", &["a", "c"], &["b"], vec![]),
        node("Mul", &["b", "h"], &["z"]),
    ];
    let mut model = Model::new(&["x: float[1]", "c: bool[]"], calls, &["z"]);
    model.0.functions = vec![function("Choose", &["x", "c"], nodes, &["y"])];
    assert_eq!(model.run(&[f(&[1], &[1.]), b(true)]).unwrap()[0], f(&[1], &[200.]));
    assert_eq!(model.run(&[f(&[1], &[1.]), b(false)]).unwrap()[0], f(&[1], &[100.]));
}

#[test]
fn functions_that_cannot_be_replaced_are_refused() {
    let mut model = Model::new(&["x: float[1]"], vec![call("A", &["x"], &["y"], vec![])], &["y"]);
    model.0.functions = vec![
        function("A", &["x"], vec![call("B", &["x"], &["y"], vec![])], &["y"]),
        function("B", &["x"], vec![call("A", &["x"], &["y"], vec![])], &["y"]),
    ];
    let error = model.refused();
    assert!(error.contains("`A` (node") && error.contains("the function calls itself"), "{error}");
    let soft = node_with("Softmax", &["x"], &["y"], vec![refers("axis", "axis")]);
    model.0.functions = vec![function("A", &["x"], vec![soft], &["y"])];
    assert!(model.refused().contains("the attribute `axis` is not there"));
    let file = |defaults| OnnxFile { proto: model.0.clone(), folder: Default::default(), defaults };
    assert!(Graph::of(file(vec![vec![int("axis", 0)]])).is_ok(), "the function has a default");
    model.0.functions[0].input.clear();
    assert!(model.refused().contains("has 1 inputs and 1 outputs, but the function has 0 and 1"));
}

#[test]
fn a_node_of_a_domain_that_is_not_served_is_refused_although_the_engine_has_its_name() {
    let mut model = Model::new(&["x: float[1]"], vec![call("Relu", &["x"], &["y"], vec![])], &["y"]);
    let error = model.refused();
    assert!(error.contains("`Relu` (node `y`) is of the domain `local`"), "{error}");
    model.0.graph.as_mut().unwrap().node[0].domain = "ai.onnx".into();
    assert_eq!(model.run(&[f(&[1], &[-1.])]).unwrap()[0], f(&[1], &[0.]));
}
