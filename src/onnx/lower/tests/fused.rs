//! Nodes that are put into the graph in parts: `FusedConv` and `FlexAttention`.

use super::functions::int;
use super::*;

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::String.into(),
        s: value.into(),
        ..Default::default()
    }
}

fn of_domain(domain: &str, node: NodeProto) -> NodeProto {
    NodeProto { domain: domain.into(), ..node }
}

#[test]
fn a_fused_convolution_adds_and_activates() {
    let slope = AttributeProto {
        name: "activation_params".into(),
        r#type: AttributeType::Floats.into(),
        floats: vec![0.5],
        ..Default::default()
    };
    let model = |activation: &str| {
        let attributes = vec![text("activation", activation), slope.clone(), int("group", 1)];
        let conv = node_with("FusedConv", &["x", "w", "b", "z"], &["y"], attributes);
        let nodes = vec![
            floats("w", &[1, 1, 1, 1], &[2.]),
            floats("b", &[1], &[1.]),
            of_domain("com.microsoft", conv),
        ];
        Model::new(&["x: float[1,1,1,2]", "z: float[1,1,1,2]"], nodes, &["y"])
    };
    let (x, z) = (f(&[1, 1, 1, 2], &[1., -2.]), f(&[1, 1, 1, 2], &[10., 1.]));
    assert_eq!(model("LeakyRelu").run(&[x, z]).unwrap(), [f(&[1, 1, 1, 2], &[13., -1.])]);
    assert!(model("Sine").refused().contains("`activation` is `Sine`"));
}

#[test]
fn graphs_change_the_scores_and_the_probabilities_of_attention() {
    let double = |from: &str, to: &str| node("Add", &[from, from], &[to]);
    let model = |score: GraphProto| {
        let prob = inner(&["p"], vec![double("p", "p2")], &["p2"]);
        let attributes = vec![body("score_mod", score), body("prob_mod", prob)];
        let flex = node_with("FlexAttention", &["q", "k", "v"], &["y"], attributes);
        let inputs = ["q: float[1,1,1,1]", "k: float[1,1,2,1]", "v: float[1,1,2,1]"];
        Model::new(&inputs, vec![of_domain("ai.onnx.preview", flex)], &["y"])
    };
    let inputs =
        [f(&[1, 1, 1, 1], &[1.]), f(&[1, 1, 2, 1], &[0., 3_f32.sqrt().ln()]), f(&[1, 1, 2, 1], &[1., 5.])];
    // The scores are 0 and ln 3 after the graph, so the probabilities are 1/4 and 3/4.
    let made = model(inner(&["s"], vec![double("s", "s2")], &["s2"])).run(&inputs).unwrap();
    let Elements::Fp32(values) = made[0].elements() else { panic!("floats") };
    assert!((values[0] - 8.).abs() < 1e-5);
    let shape = inner(&["s"], vec![node("Shape", &["s"], &["n"])], &["n"]);
    assert!(model(shape).refused().contains("the same type and shape"));
}
