//! Operators that contain graphs, or that are known before the run. They are not operators of the typed graph:
//! [`lower`](super::super::lower) has the code that puts them there.
//!
//! A number of iterations, a condition and the lengths of carried values may be known only during a run. The numbers of axes,
//! the lengths of sequences and positions in them must be known when the model is loaded.

use super::entry::Entry;

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::onnx("If", &["then_branch", "else_branch"]).rewritten(),
    Entry::onnx("Loop", &["body"]).rewritten(),
    Entry::onnx(
        "Scan",
        &[
            "body",
            "num_scan_inputs",
            "directions",
            "scan_input_axes",
            "scan_input_directions",
            "scan_output_axes",
            "scan_output_directions",
        ],
    )
    .rewritten(),
    Entry::onnx("SequenceAt", &[]).rewritten(),
    Entry::onnx("SequenceConstruct", &[]).rewritten(),
    // The type of the elements is that of the tensors that are put into the sequence.
    Entry::onnx("SequenceEmpty", &["dtype"]).rewritten(),
    Entry::onnx("SequenceErase", &[]).rewritten(),
    Entry::onnx("SequenceInsert", &[]).rewritten(),
    Entry::onnx("SequenceLength", &[]).rewritten(),
    Entry::onnx("SequenceMap", &["body"]).rewritten(),
    Entry::onnx("SplitToSequence", &["axis", "keepdims"]).rewritten(),
    Entry::onnx("ConcatFromSequence", &["axis", "new_axis"]).rewritten(),
    // The type is that of the value, if there is one.
    Entry::onnx("Optional", &["type"]).rewritten(),
    Entry::onnx("OptionalHasElement", &[]).rewritten(),
    Entry::onnx("OptionalGetElement", &[]).rewritten(),
];
