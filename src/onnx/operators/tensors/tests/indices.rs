//! Operators with indices, and those that choose elements by their values.

use tract_onnx::prelude::*;

use super::super::super::entry::Domain;
use super::super::super::trial::{Trial, int, ints, string};
use super::{error, floats, ramp, run, words};

#[test]
fn gather_takes_parts_and_counts_from_the_end() {
    let data = ramp(&[2, 3]);
    let columns = run("Gather", &[int("axis", 1)], &[data.clone(), tensor2(&[[2_i64, -3]])]).unwrap();
    assert_eq!((columns.shape(), floats(&columns)), (&[2, 1, 2][..], vec![2., 0., 5., 3.]));
    assert_eq!(run("Gather", &[], &[words(&["a", "b"]), tensor0(-1_i32)]).unwrap(), tensor0("b".to_owned()));
    assert!(error("Gather", &[], &[data.clone(), tensor1(&[2_i64])]).contains("out of range"));
    assert!(error("Gather", &[], &[data, tensor1(&[i64::MIN])]).contains("out of range"));
    let empty =
        run("Gather", &[], &[Tensor::zero::<f32>(&[0, 2]).unwrap(), Tensor::zero::<i64>(&[0]).unwrap()]);
    assert_eq!(empty.unwrap().shape(), [0, 2]);
}

#[test]
fn gather_elements_takes_one_element_for_each_index() {
    let data = ramp(&[3, 2]);
    let rows = run("GatherElements", &[], &[data.clone(), tensor2(&[[2_i64, -1], [0, 1]])]).unwrap();
    assert_eq!(rows, tensor2(&[[4_f32, 5.], [0., 3.]]));
    let columns =
        run("GatherElements", &[int("axis", 1)], &[data.clone(), tensor2(&[[1_i64, 1, 0]])]).unwrap();
    assert_eq!(columns, tensor2(&[[1_f32, 1., 0.]]));
    assert!(error("GatherElements", &[], &[data.clone(), tensor2(&[[3_i64]])]).contains("out of range"));
    assert!(error("GatherElements", &[], &[data, tensor2(&[[0_i64, 0, 0]])]).contains("too long"));
}

#[test]
fn gather_nd_takes_a_part_for_each_row() {
    let data = ramp(&[2, 2, 2]);
    let blocks = run("GatherND", &[], &[data.clone(), tensor2(&[[1_i64, 0], [-1, -1]])]).unwrap();
    assert_eq!(blocks, tensor2(&[[4_f32, 5.], [6., 7.]]));
    let batches =
        run("GatherND", &[int("batch_dims", 1)], &[data.clone(), tensor2(&[[1_i64], [0]])]).unwrap();
    assert_eq!(batches, tensor2(&[[2_f32, 3.], [4., 5.]]));
    assert!(error("GatherND", &[], &[data.clone(), tensor2(&[[0_i64, 2]])]).contains("out of range"));
    assert!(run("GatherND", &[], &[data, tensor2(&[[0_i64, 0, 0, 0]])]).is_err());
}

#[test]
fn scatter_elements_reduces_in_order() {
    let (data, indices) = (tensor1(&[1_f32, 2., 3.]), tensor1(&[1_i64, 1, -1]));
    let scatter = |reduction: &str| {
        let inputs = [data.clone(), indices.clone(), tensor1(&[5_f32, f32::NAN, 4.])];
        floats(&run("ScatterElements", &[string("reduction", reduction)], &inputs).unwrap())
    };
    assert_eq!(scatter("mul")[2], 12.);
    assert_eq!(scatter("min")[2], 3.);
    assert!(scatter("max")[1].is_nan() && scatter("none")[1].is_nan());
    let wrapped = run(
        "ScatterElements",
        &[string("reduction", "add")],
        &[tensor1(&[250_u8]), tensor1(&[0_i64, 0]).into_shape(&[2]).unwrap(), tensor1(&[5_u8, 5])],
    );
    // Two indices on an axis of one element: the axis itself may be longer in the indices.
    assert_eq!(wrapped.unwrap(), tensor1(&[4_u8]));
    let flags = [tensor1(&[true, false]), tensor1(&[0_i64, 1]), tensor1(&[false, true])];
    assert_eq!(
        run("ScatterElements", &[string("reduction", "mul")], &flags).unwrap(),
        tensor1(&[false, false])
    );
    let text = [words(&["a", "b"]), tensor1(&[1_i64]), words(&["c"])];
    assert_eq!(run("Scatter", &[], &text).unwrap(), words(&["a", "c"]));
    assert!(
        error("ScatterElements", &[], &[data, tensor1(&[3_i64]), tensor1(&[0_f32])]).contains("out of range")
    );
}

#[test]
fn scatter_nd_writes_blocks() {
    let inputs = [ramp(&[2, 2]), tensor2(&[[1_i64], [1]]), tensor2(&[[1_f32, 1.], [2., 2.]])];
    let added = run("ScatterND", &[string("reduction", "add")], &inputs).unwrap();
    assert_eq!(added, tensor2(&[[0_f32, 1.], [5., 6.]]));
    assert_eq!(run("ScatterND", &[], &inputs).unwrap(), tensor2(&[[0_f32, 1.], [2., 2.]]));
    let wrong = [ramp(&[2, 2]), tensor2(&[[1_i64]]), tensor2(&[[1_f32]])];
    assert!(error("ScatterND", &[], &wrong).contains("`updates` has the shape"));
}

#[test]
fn tensor_scatter_stops_or_wraps_at_the_end() {
    let (cache, update) = (Tensor::zero::<f32>(&[1, 3, 1]).unwrap(), tensor3(&[[[1_f32], [2.]]]));
    let inputs = [cache, update, tensor1(&[2_i64])];
    assert_eq!(floats(&run("TensorScatter", &[string("mode", "circular")], &inputs).unwrap()), [2., 0., 1.]);
    assert!(error("TensorScatter", &[], &inputs).contains("outside of a cache"));
}

#[test]
fn compress_and_non_zero_choose_by_value() {
    let condition = tensor1(&[false, true]);
    assert_eq!(floats(&run("Compress", &[], &[ramp(&[2, 2]), condition.clone()]).unwrap()), [1.]);
    let columns = run("Compress", &[int("axis", -1)], &[ramp(&[2, 3]), condition.clone()]).unwrap();
    assert_eq!(columns, tensor2(&[[1_f32], [4.]]));
    assert!(
        error("Compress", &[int("axis", 0)], &[ramp(&[1, 2]), condition]).contains("there are 1 elements")
    );
    let places = run("NonZero", &[], &[tensor2(&[[0_u8, 200], [1, 0]])]).unwrap();
    assert_eq!(places, tensor2(&[[0_i64, 1], [1, 0]]));
    assert_eq!(run("NonZero", &[], &[words(&["", "a"])]).unwrap(), tensor2(&[[1_i64]]));
    assert_eq!(run("NonZero", &[], &[tensor0(3_f32)]).unwrap(), tensor2(&[[0_i64]]));
}

#[test]
fn unique_has_four_outputs_in_two_orders() {
    let unique = |sorted: i64, input: Tensor| {
        Trial::new(Domain::Onnx, "Unique", &[int("sorted", sorted)]).run(&[Some(input)]).unwrap()
    };
    let input = tensor1(&[2_f32, 1., 1., 3., 2.]);
    let indices = |all: &[i64]| tensor1(all);
    let sorted = unique(1, input.clone());
    assert_eq!(floats(&sorted[0]), [1., 2., 3.]);
    assert_eq!(sorted[1..], [indices(&[1, 0, 3]), indices(&[1, 0, 0, 2, 1]), indices(&[2, 2, 1])]);
    let unsorted = unique(0, input);
    assert_eq!(floats(&unsorted[0]), [2., 1., 3.]);
    assert_eq!(unsorted[1..], [indices(&[0, 1, 3]), indices(&[0, 1, 1, 2, 0]), indices(&[2, 2, 1])]);
    assert_eq!(unique(1, words(&["b", "a", "b"]))[0], words(&["a", "b"]));
    assert_eq!(unique(1, Tensor::zero::<f32>(&[0]).unwrap())[0].len(), 0);
}

#[test]
fn unique_compares_whole_parts_along_an_axis() {
    let rows = tensor2(&[[1_i64, 0], [1, 0], [0, 3]]);
    let unique = Trial::new(Domain::Onnx, "Unique", &[int("axis", 0)]).run(&[Some(rows)]).unwrap();
    assert_eq!(unique[0], tensor2(&[[0_i64, 3], [1, 0]]));
    assert_eq!(unique[2], tensor1(&[1_i64, 1, 0]));
}

#[test]
fn sequences_are_reversed_up_to_their_length() {
    let time = [ramp(&[3, 2]), tensor1(&[3_i64, 2])];
    assert_eq!(floats(&run("ReverseSequence", &[], &time).unwrap()), [4., 3., 2., 1., 0., 5.]);
    let batch = [ramp(&[2, 3]), tensor1(&[1_i64, 3])];
    let axes = [int("time_axis", 1), int("batch_axis", 0)];
    assert_eq!(floats(&run("ReverseSequence", &axes, &batch).unwrap()), [0., 1., 2., 5., 4., 3.]);
    assert!(
        error("ReverseSequence", &axes, &[ramp(&[2, 3]), tensor1(&[4_i64, 1])]).contains("sequence_lens")
    );
}

#[test]
fn col2im_adds_overlapping_blocks() {
    // Two blocks of two elements on an image of three: the middle is in both.
    let inputs = [tensor3(&[[[1_f32, 2.], [3., 4.]]]), tensor1(&[1_i64, 3]), tensor1(&[1_i64, 2])];
    let image = run("Col2Im", &[], &inputs).unwrap();
    assert_eq!((image.shape(), floats(&image)), (&[1, 1, 1, 3][..], vec![1., 5., 4.]));
    let spread = run(
        "Col2Im",
        &[ints("pads", &[0, 1, 0, 1]), ints("dilations", &[1, 2]), ints("strides", &[1, 1])],
        &[ramp(&[1, 2, 1]), tensor1(&[1_i64, 1]), tensor1(&[1_i64, 2])],
    );
    assert_eq!(floats(&spread.unwrap()), [0.]);
    let large = [ramp(&[1, 2, 1]), tensor1(&[1_i64, 1]), tensor1(&[1_i64, 2])];
    assert!(error("Col2Im", &[], &large).contains("larger than the image"));
}
