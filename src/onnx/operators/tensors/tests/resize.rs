//! `Resize` and `Upsample`.

use tract_onnx::pb::AttributeProto;
use tract_onnx::prelude::*;

use super::super::super::entry::Domain;
use super::super::super::trial::{Trial, float, floats as float_list, int, ints, string};
use super::{floats, ramp, run, run_some, words};

/// A list that is resized to `length` elements by its scale or its size.
fn line(attributes: &[AttributeProto], input: Tensor, scale: Option<f32>, length: i64) -> Vec<f32> {
    let (scales, sizes) = match scale {
        Some(scale) => (Some(tensor1(&[scale])), None),
        None => (None, Some(tensor1(&[length]))),
    };
    let output = run_some("Resize", attributes, &[Some(input), None, scales, sizes]).unwrap();
    assert_eq!(output.shape(), [length as usize]);
    floats(&output)
}

fn near(found: &[f32], expected: &[f32]) {
    let is_near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5);
    assert!(found.len() == expected.len() && is_near, "{found:?}: expected {expected:?}");
}

#[test]
fn nearest_rounds_in_four_ways() {
    let nearest = |rule: &str| {
        let attributes =
            [string("nearest_mode", rule), string("coordinate_transformation_mode", "asymmetric")];
        line(&attributes, ramp(&[3]), Some(2.0), 6)
    };
    assert_eq!(nearest("floor"), [0., 0., 1., 1., 2., 2.]);
    assert_eq!(nearest("ceil"), [0., 1., 1., 2., 2., 2.]);
    assert_eq!(nearest("round_prefer_floor"), [0., 0., 1., 1., 2., 2.]);
    assert_eq!(nearest("round_prefer_ceil"), [0., 1., 1., 2., 2., 2.]);
    let text = run_some("Resize", &[], &[Some(words(&["a", "b"])), None, Some(tensor1(&[2_f32]))]).unwrap();
    assert_eq!(text, words(&["a", "a", "b", "b"]));
}

#[test]
fn before_opset_11_smaller_outputs_round_up() {
    let old = Trial::new(Domain::Onnx, "Resize", &[]).version(10);
    let smaller = old.run(&[Some(ramp(&[4])), Some(tensor1(&[0.6_f32]))]).unwrap();
    assert_eq!(floats(&smaller[0]), [0., 2.]);
    let attribute = Trial::new(Domain::Onnx, "Upsample", &[float_list("scales", &[2.0])]).version(7);
    assert_eq!(floats(&attribute.run(&[Some(ramp(&[2]))]).unwrap()[0]), [0., 0., 1., 1.]);
}

#[test]
fn linear_follows_each_coordinate_rule() {
    let linear = |rule: &str, scale: f32, length: i64| {
        let attributes = [string("mode", "linear"), string("coordinate_transformation_mode", rule)];
        line(&attributes, ramp(&[4]), Some(scale), length)
    };
    near(&linear("half_pixel", 2.0, 8), &[0., 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.]);
    near(&linear("asymmetric", 2.0, 8), &[0., 0.5, 1., 1.5, 2., 2.5, 3., 3.]);
    // The length by scale is 2.4, as in the reference evaluator.
    near(&linear("align_corners", 0.6, 2), &[0., 3. / 1.4]);
    near(&linear("pytorch_half_pixel", 0.25, 1), &[0.]);
    near(&linear("half_pixel", 0.25, 1), &[1.5]);
    near(
        &linear("half_pixel_symmetric", 0.6, 2),
        &[2. * (1. - 2. / 2.4) + 1. / 3., 2. * (1. - 2. / 2.4) + 2.],
    );
}

#[test]
fn a_crop_outside_of_the_input_has_the_extrapolation_value() {
    let attributes = [
        string("mode", "linear"),
        string("coordinate_transformation_mode", "tf_crop_and_resize"),
        float("extrapolation_value", 9.0),
    ];
    let resized = |roi: Option<[f32; 2]>| {
        let inputs = [Some(ramp(&[4])), roi.map(|roi| tensor1(&roi)), None, Some(tensor1(&[3_i64]))];
        run_some("Resize", &attributes, &inputs)
    };
    near(&floats(&resized(Some([0.5, 1.5])).unwrap()), &[1.5, 3., 9.]);
    assert!(resized(None).unwrap_err().to_string().contains("`roi` is missing"));
}

#[test]
fn cubic_and_antialias_weigh_more_elements() {
    let cubic = line(&[string("mode", "cubic")], ramp(&[4]), Some(2.0), 8);
    near(
        &cubic,
        &[-0.10546875, 0.19140625, 0.66796875, 1.296875, 1.703125, 2.332_031_3, 2.808_593_8, 3.105_468_8],
    );
    let excluded = line(&[string("mode", "cubic"), int("exclude_outside", 1)], ramp(&[4]), Some(2.0), 8);
    assert!(excluded[0] != cubic[0] && (excluded[3] - cubic[3]).abs() < 1e-6);
    let wide = line(&[string("mode", "linear"), int("antialias", 1)], ramp(&[4]), Some(0.5), 2);
    near(&wide, &[0.625, 2.375]);
}

#[test]
fn all_axes_can_keep_one_scale() {
    let shape = |policy: &str| {
        let attributes = [string("keep_aspect_ratio_policy", policy), ints("axes", &[1, -1])];
        let inputs = [Some(ramp(&[2, 4, 2])), None, None, Some(tensor1(&[8_i64, 3]))];
        run_some("Resize", &attributes, &inputs).unwrap().shape().to_vec()
    };
    assert_eq!(shape("not_larger"), [2, 6, 3]);
    assert_eq!(shape("not_smaller"), [2, 8, 4]);
    assert_eq!(shape("stretch"), [2, 8, 3]);
}

#[test]
fn integers_are_rounded_and_limited() {
    let cubic = |scale: f32| {
        let inputs = [Some(tensor1(&[0_u8, 255, 0, 255])), None, Some(tensor1(&[scale]))];
        run_some("Resize", &[string("mode", "cubic")], &inputs).unwrap()
    };
    let output = cubic(2.0);
    assert_eq!(output.datum_type(), DatumType::U8);
    assert_eq!((floats(&output)[0], floats(&output)[7]), (0., 255.));
    let linear = line(&[string("mode", "linear")], tensor1(&[1_i16, 2, 3, 4]), Some(0.6), 2);
    // 1.33 and 3.
    assert_eq!(linear, [1., 3.]);
}

#[test]
fn wrong_scales_are_errors() {
    let scaled = |scales: &[f32]| run("Resize", &[], &[ramp(&[2, 2]), ramp(&[0]), tensor1(scales)]);
    assert!(scaled(&[1.0]).unwrap_err().to_string().contains("expected one for each"));
    assert!(scaled(&[1.0, -1.0]).unwrap_err().to_string().contains("above 0"));
    assert!(scaled(&[1.0, f32::NAN]).is_err());
    assert_eq!(scaled(&[0.1, 1.0]).unwrap().shape(), [0, 2]);
}
