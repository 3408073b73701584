//! New shapes, parts, repetitions, pads, and tensors from lengths.

use tract_onnx::prelude::*;

use super::super::super::entry::Domain;
use super::super::super::trial::{Trial, float, int, ints, string};
use super::{error, floats, ramp, run, run_some, words};

#[test]
fn reshape_copies_and_infers_lengths() {
    let input = ramp(&[2, 3, 4]);
    let shape = |shape: &[i64]| run("Reshape", &[], &[input.clone(), tensor1(shape)]);
    assert_eq!(shape(&[0, -1]).unwrap().shape(), [2, 12]);
    assert_eq!(shape(&[4, 0, 2]).unwrap().shape(), [4, 3, 2]);
    assert!(shape(&[5, -1]).unwrap_err().to_string().contains("cannot be divided"));
    assert!(shape(&[-1, -1]).unwrap_err().to_string().contains("expected one -1"));
    assert!(shape(&[2, 3]).unwrap_err().to_string().contains("another number"));
    assert!(shape(&[0, 0, 0, 0]).unwrap_err().to_string().contains("no length to copy"));
    let empty = Tensor::zero::<f32>(&[0, 3]).unwrap();
    let zero = run("Reshape", &[int("allowzero", 1)], &[empty.clone(), tensor1(&[3_i64, 0])]).unwrap();
    assert_eq!(zero.shape(), [3, 0]);
    assert!(error("Reshape", &[], &[empty, tensor1(&[0_i64, -1])]).contains("beside a 0"));
    let scalar = run("Reshape", &[], &[tensor1(&[7_i32]), Tensor::zero::<i64>(&[0]).unwrap()]).unwrap();
    assert_eq!(scalar, tensor0(7));
}

#[test]
fn lengths_whose_product_overflows_are_an_error() {
    let huge = tensor1(&[1_i64 << 32, 1 << 32]);
    assert!(run("Reshape", &[], &[ramp(&[2]), huge]).is_err());
    assert!(run("Tile", &[], &[ramp(&[4]), tensor1(&[1_i64 << 62])]).is_err());
    assert!(run("Pad", &[], &[ramp(&[2]), tensor1(&[i64::MAX, 1])]).is_err());
}

#[test]
fn axes_of_length_one_come_and_go() {
    let input = ramp(&[1, 3, 1]);
    let squeeze = |axes: &[i64]| run("Squeeze", &[], &[input.clone(), tensor1(axes)]);
    assert_eq!(squeeze(&[-1]).unwrap().shape(), [1, 3]);
    assert!(squeeze(&[1]).unwrap_err().to_string().contains("expected 1"));
    let unsqueezed = run("Unsqueeze", &[], &[input, tensor1(&[-1_i64, 0])]).unwrap();
    assert_eq!(unsqueezed.shape(), [1, 1, 3, 1, 1]);
    let old = Trial::new(Domain::Onnx, "Unsqueeze", &[ints("axes", &[1])]).version(11);
    assert_eq!(old.run(&[Some(words(&["a", "b"]))]).unwrap()[0].shape(), [2, 1]);
    assert_eq!(run("Flatten", &[int("axis", -1)], &[ramp(&[2, 3, 4])]).unwrap().shape(), [6, 4]);
    assert_eq!(run("Flatten", &[int("axis", 0)], &[ramp(&[2, 0])]).unwrap().shape(), [1, 0]);
}

#[test]
fn expand_works_in_both_directions() {
    let expanded =
        run("Expand", &[], &[words(&["a", "b"]).into_shape(&[2, 1]).unwrap(), tensor1(&[3_i64, 1, 2])]);
    let row = ["a", "a", "b", "b"];
    let all: Vec<&str> = row.iter().copied().cycle().take(12).collect();
    assert_eq!(expanded.unwrap(), words(&all).into_shape(&[3, 2, 2]).unwrap());
    assert_eq!(run("Expand", &[], &[ramp(&[2, 3]), tensor1(&[1_i64])]).unwrap(), ramp(&[2, 3]));
    assert_eq!(run("Expand", &[], &[ramp(&[1, 3]), tensor1(&[0_i64, 1])]).unwrap().shape(), [0, 3]);
    assert!(error("Expand", &[], &[ramp(&[2]), tensor1(&[3_i64])]).contains("cannot be repeated"));
}

#[test]
fn tile_repeats_each_axis() {
    let tiled = run("Tile", &[], &[tensor2(&[[1_u8, 2]]), tensor1(&[2_i64, 2])]).unwrap();
    assert_eq!(tiled, tensor2(&[[1_u8, 2, 1, 2], [1, 2, 1, 2]]));
    assert_eq!(run("Tile", &[], &[ramp(&[2]), tensor1(&[0_i64])]).unwrap().shape(), [0]);
    assert!(error("Tile", &[], &[ramp(&[2]), tensor1(&[-1_i64])]).contains("0 or more"));
}

#[test]
fn slice_takes_steps_in_both_directions_and_bounds_outside() {
    let slice = |start: i64, end: i64, step: i64| {
        let inputs = [ramp(&[5]), tensor1(&[start]), tensor1(&[end]), tensor1(&[0_i64]), tensor1(&[step])];
        run("Slice", &[], &inputs).map(|tensor| floats(&tensor))
    };
    assert_eq!(slice(1, i64::MAX, 2).unwrap(), [1., 3.]);
    assert_eq!(slice(-2, 100, 1).unwrap(), [3., 4.]);
    assert_eq!(slice(i64::MAX, i64::MIN, -2).unwrap(), [4., 2., 0.]);
    assert_eq!(slice(-1, 1, -3).unwrap(), [4.]);
    assert_eq!(slice(3, 1, 1).unwrap(), [] as [f32; 0]);
    assert_eq!(slice(0, 5, i64::MAX).unwrap(), [0.]);
    assert_eq!(slice(4, 0, i64::MIN).unwrap(), [4.]);
    assert!(slice(0, 1, 0).unwrap_err().to_string().contains("step is 0"));
    let old =
        Trial::new(Domain::Onnx, "Slice", &[ints("starts", &[-1]), ints("ends", &[9]), ints("axes", &[1])]);
    assert_eq!(floats(&old.version(1).run(&[Some(ramp(&[2, 3]))]).unwrap()[0]), [2., 5.]);
}

#[test]
fn concat_joins_strings_and_empty_tensors() {
    let joined = run("Concat", &[int("axis", -1)], &[words(&["a"]), words(&[]), words(&["b", "c"])]).unwrap();
    assert_eq!(joined, words(&["a", "b", "c"]));
    assert!(error("Concat", &[int("axis", 0)], &[ramp(&[1, 2]), ramp(&[1, 3])]).contains("equal lengths"));
    assert!(error("Concat", &[int("axis", 0)], &[ramp(&[1]), tensor1(&[1_i64])]).contains("one type"));
}

/// A `Split` with two outputs.
fn split(attributes: &[tract_onnx::pb::AttributeProto], inputs: &[Tensor]) -> Result<Vec<Vec<f32>>, String> {
    let trial = Trial::new(Domain::Onnx, "Split", attributes).outputs(2);
    let inputs: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
    trial.run(&inputs).map(|outputs| outputs.iter().map(floats).collect()).map_err(|error| error.to_string())
}

#[test]
fn split_cuts_into_given_equal_or_uneven_parts() {
    let uneven = split(&[int("num_outputs", 2)], &[ramp(&[5])]).unwrap();
    assert_eq!(uneven, [vec![0., 1., 2.], vec![3., 4.]]);
    let given = split(&[int("axis", 1)], &[ramp(&[2, 3]), tensor1(&[0_i64, 3])]).unwrap();
    assert_eq!(given, [vec![], vec![0., 1., 2., 3., 4., 5.]]);
    assert!(split(&[], &[ramp(&[5])]).unwrap_err().contains("equal parts"));
    assert!(split(&[], &[ramp(&[5]), tensor1(&[2_i64, 2])]).unwrap_err().contains("add up"));
}

#[test]
fn transpose_and_blocks_change_the_order() {
    assert_eq!(
        run("Transpose", &[], &[words(&["a", "b"]).into_shape(&[1, 2]).unwrap()]).unwrap().shape(),
        [2, 1]
    );
    assert!(error("Transpose", &[ints("perm", &[0, 0])], &[ramp(&[2, 2])]).contains("twice"));
    let depth = |mode: &str, input: Tensor| {
        run("DepthToSpace", &[int("blocksize", 2), string("mode", mode)], &[input])
    };
    let space = |mode: &str, input: Tensor| {
        run("SpaceToDepth", &[int("blocksize", 2), string("mode", mode)], &[input])
    };
    let input = ramp(&[1, 8, 1, 1]);
    let dcr = depth("DCR", input.clone()).unwrap();
    assert_eq!((dcr.shape(), floats(&dcr)), (&[1, 2, 2, 2][..], vec![0., 2., 4., 6., 1., 3., 5., 7.]));
    let crd = depth("CRD", input.clone()).unwrap();
    assert_eq!(floats(&crd), [0., 1., 2., 3., 4., 5., 6., 7.]);
    assert_eq!(space("DCR", dcr).unwrap(), input);
    assert_eq!(space("CRD", crd).unwrap(), input);
    assert!(space("DCR", ramp(&[1, 1, 3, 2])).unwrap_err().to_string().contains("blocks of 2"));
}

#[test]
fn pad_has_four_modes_and_can_cut() {
    let pad = |mode: &str, before: i64, after: i64| {
        run("Pad", &[string("mode", mode)], &[ramp(&[3]), tensor1(&[before, after])])
            .map(|padded| floats(&padded))
    };
    assert_eq!(pad("constant", 1, 2).unwrap(), [0., 0., 1., 2., 0., 0.]);
    assert_eq!(pad("edge", 2, 1).unwrap(), [0., 0., 0., 1., 2., 2.]);
    assert_eq!(pad("reflect", 3, 1).unwrap(), [1., 2., 1., 0., 1., 2., 1.]);
    assert_eq!(pad("wrap", 1, 4).unwrap(), [2., 0., 1., 2., 0., 1., 2., 0.]);
    assert_eq!(pad("edge", -1, 1).unwrap(), [1., 2., 2.]);
    assert_eq!(pad("constant", -2, -1).unwrap(), [] as [f32; 0]);
    assert!(pad("constant", -2, -2).is_err());
    let on_axis = [ramp(&[1, 2]), tensor1(&[1_i64, 0]), tensor0(9_f32), tensor1(&[-1_i64])];
    assert_eq!(floats(&run("Pad", &[], &on_axis).unwrap()), [9., 0., 1.]);
    let text = run("Pad", &[], &[words(&["a"]), tensor1(&[1_i64, 0]), tensor0("x".to_owned())]).unwrap();
    assert_eq!(text, words(&["x", "a"]));
    let old = Trial::new(Domain::Onnx, "Pad", &[ints("pads", &[1, 0]), float("value", 2.5)]).version(2);
    assert_eq!(floats(&old.run(&[Some(ramp(&[1]))]).unwrap()[0]), [2.5, 0.]);
}

#[test]
fn a_pad_beside_an_axis_without_elements_allocates_nothing() {
    let pads = tensor1(&[0_i64, 1 << 40, 0, 1 << 40]);
    let padded = run("Pad", &[], &[Tensor::zero::<f32>(&[0, 3]).unwrap(), pads]).unwrap();
    assert_eq!(padded.shape()[0], 0);
}

#[test]
fn center_crop_pad_keeps_the_middle() {
    let center = |length: i64| {
        floats(&run("CenterCropPad", &[ints("axes", &[-1])], &[ramp(&[1, 4]), tensor1(&[length])]).unwrap())
    };
    assert_eq!(center(2), [1., 2.]);
    assert_eq!(center(1), [1.]);
    assert_eq!(center(7), [0., 0., 1., 2., 3., 0., 0.]);
}

#[test]
fn range_counts_up_and_down() {
    let range = |all: [Tensor; 3]| run("Range", &[], &all);
    assert_eq!(range([tensor0(10_i64), tensor0(4_i64), tensor0(-3_i64)]).unwrap(), tensor1(&[10_i64, 7]));
    assert_eq!(range([tensor0(1_i32), tensor0(5_i32), tensor0(2_i32)]).unwrap(), tensor1(&[1, 3]));
    assert_eq!(range([tensor0(1_i32), tensor0(0_i32), tensor0(2_i32)]).unwrap().len(), 0);
    assert_eq!(floats(&range([tensor0(0_f32), tensor0(1_f32), tensor0(0.4_f32)]).unwrap()), [0., 0.4, 0.8]);
    assert!(range([tensor0(0_i64), tensor0(1_i64), tensor0(0_i64)]).is_err());
    assert!(range([tensor0(0_f32), tensor0(f32::INFINITY), tensor0(1_f32)]).is_err());
}

#[test]
fn tensors_are_made_from_lengths() {
    assert_eq!(run("ConstantOfShape", &[], &[tensor1(&[2_i64, 1])]).unwrap(), tensor2(&[[0_f32], [0.]]));
    assert!(error("ConstantOfShape", &[], &[tensor1(&[-2_i64])]).contains("0 or more"));
    let eye = run("EyeLike", &[int("k", 1), int("dtype", 7)], &[ramp(&[2, 3])]).unwrap();
    assert_eq!(eye, tensor2(&[[0_i64, 1, 0], [0, 0, 1]]));
    assert_eq!(floats(&run("EyeLike", &[int("k", -9)], &[ramp(&[2, 2])]).unwrap()), [0.; 4]);
}

#[test]
fn one_hot_ignores_indices_out_of_range() {
    let indices = tensor1(&[1_i64, -1, 3, -4]);
    let hot = run("OneHot", &[], &[indices.clone(), tensor0(3_i64), tensor1(&[0_i32, 5])]).unwrap();
    assert_eq!(hot, tensor2(&[[0, 5, 0], [0, 0, 5], [0, 0, 0], [0, 0, 0]]));
    let first =
        run("OneHot", &[int("axis", 0)], &[indices, tensor1(&[3_f32]), tensor1(&[0_i32, 5])]).unwrap();
    assert_eq!(first, tensor2(&[[0, 0, 0, 0], [5, 0, 0, 0], [0, 5, 0, 0]]));
    let cut = run("OneHot", &[], &[tensor1(&[1_i64]), tensor0(2.9_f32), tensor1(&[0_i32, 5])]).unwrap();
    assert_eq!(cut, tensor2(&[[0, 5]]));
    assert!(error("OneHot", &[], &[tensor1(&[0_i64]), tensor0(-1_i64), tensor1(&[0, 1])]).contains("depth"));
}

#[test]
fn trilu_keeps_one_side() {
    let input = tensor2(&[[1_i64, 2, 3], [4, 5, 6]]);
    let upper = run("Trilu", &[], &[input.clone(), tensor0(1_i64)]).unwrap();
    assert_eq!(upper, tensor2(&[[0_i64, 2, 3], [0, 0, 6]]));
    let lower = run_some("Trilu", &[int("upper", 0)], &[Some(input.clone()), None]).unwrap();
    assert_eq!(lower, tensor2(&[[1_i64, 0, 0], [4, 5, 0]]));
    assert_eq!(run("Trilu", &[], &[input.clone(), tensor0(i64::MIN)]).unwrap(), input);
}
