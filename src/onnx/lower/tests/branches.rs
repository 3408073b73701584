//! `If`, and names in graphs inside graphs.

use super::functions::int;
use super::*;

fn branch(condition: &str, yes: GraphProto, no: GraphProto, outputs: &[&str]) -> NodeProto {
    node_with("If", &[condition], outputs, vec![body("then_branch", yes), body("else_branch", no)])
}

#[test]
fn branches_with_unequal_lengths_are_served() {
    let double = node_with("Concat", &["x", "x"], &["a"], vec![int("axis", 0)]);
    let shape = node("Shape", &["x"], &["n"]);
    let yes = inner(&[], vec![double, shape], &["a", "n"]);
    let no = inner(&[], vec![node("Neg", &["x"], &["d"]), numbers("m", &[1], &[7])], &["d", "m"]);
    let nodes = vec![
        floats("one", &[], &[1.]),
        branch("c", yes, no, &["y", "n"]),
        node("Add", &["y", "one"], &["z"]),
    ];
    let model = Model::new(&["x: float[N]", "c: bool[]"], nodes, &["z", "n"]);
    let x = f(&[3], &[1., 2., 3.]);
    let made = model.run(&[x.clone(), b(true)]).unwrap();
    assert_eq!(made, [f(&[6], &[2., 3., 4., 2., 3., 4.]), i(&[1], &[3])]);
    assert_eq!(model.run(&[x, b(false)]).unwrap(), [f(&[3], &[0., -1., -2.]), i(&[1], &[7])]);
}

#[test]
fn branches_with_unequal_axes_or_types_are_refused_unless_the_condition_is_known() {
    let flat = inner(&[], vec![node("Neg", &["x"], &["a"])], &["a"]);
    let deep = inner(&[], vec![numbers("at", &[1], &[0]), node("Unsqueeze", &["x", "at"], &["d"])], &["d"]);
    let whole = inner(&[], vec![node("Shape", &["x"], &["s"])], &["s"]);
    let model = |condition: &str, no: &GraphProto| {
        let nodes = vec![
            numbers("two", &[], &[2]),
            node("Size", &["x"], &["size"]),
            node("Equal", &["size", "two"], &["known"]),
            branch(condition, flat.clone(), no.clone(), &["y"]),
        ];
        Model::new(&["x: float[2]", "c: bool[]"], nodes, &["y"])
    };
    let error = model("c", &deep).refused();
    assert!(error.contains("`If` (node `y`)") && error.contains("output 0 1 and 2 axes"), "{error}");
    assert!(model("c", &whole).refused().contains("the types F32 and I64"));
    for no in [&deep, &whole] {
        let made = model("known", no).run(&[f(&[2], &[1., 2.]), b(false)]).unwrap();
        assert_eq!(made[0], f(&[2], &[-1., -2.]));
    }
}

#[test]
fn names_inside_a_branch_hide_those_around_it_and_nodes_may_share_a_name() {
    let same = |node: NodeProto| NodeProto { name: "same".into(), ..node };
    let yes =
        inner(&[], vec![same(node("Abs", &["x"], &["a"])), same(node("Add", &["a", "a"], &["d"]))], &["d"]);
    let no = inner(&[], vec![same(node("Add", &["a", "x"], &["d"]))], &["d"]);
    let nodes = vec![
        same(node("Neg", &["x"], &["a"])),
        same(branch("c", yes, no, &["d"])),
        node("Mul", &["a", "d"], &["y"]),
    ];
    let model = Model::new(&["x: float[1]", "c: bool[]"], nodes, &["y", "x"]);
    let x = f(&[1], &[-3.]);
    assert_eq!(model.run(&[x.clone(), b(true)]).unwrap(), [f(&[1], &[18.]), x.clone()]);
    assert_eq!(model.run(&[x.clone(), b(false)]).unwrap(), [f(&[1], &[0.]), x]);
}
