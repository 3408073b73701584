//! Prints `docs/operators.md`: which operators are served, in which form.

fn main() {
    print!("{}", onnxd::onnx::operators_document());
}
