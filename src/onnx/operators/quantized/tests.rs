//! Tests of the operators of quantized models. Expected values are from the ONNX standard's formulas, and from onnxruntime
//! for com.microsoft.

use half::f16;
use tract_onnx::pb::AttributeProto;
use tract_onnx::prelude::*;

use super::super::entry::Domain;
use super::super::operator::elements;
use super::super::trial::{Trial, float, int, ints};

fn onnx(name: &str, attributes: &[AttributeProto], inputs: &[Option<Tensor>]) -> TractResult<Vec<Tensor>> {
    Trial::new(Domain::Onnx, name, attributes).run(inputs)
}

fn microsoft(
    name: &str,
    attributes: &[AttributeProto],
    inputs: &[Option<Tensor>],
) -> TractResult<Vec<Tensor>> {
    Trial::new(Domain::Microsoft, name, attributes).run(inputs)
}

fn t<T: Datum + Copy>(shape: &[usize], elements: &[T]) -> Option<Tensor> {
    Some(Tensor::from_shape(shape, elements).unwrap())
}

fn one<T: Datum + Copy>(element: T) -> Option<Tensor> {
    t(&[], &[element])
}

#[track_caller]
fn assert_is<T: Datum + Copy + PartialEq>(made: TractResult<Vec<Tensor>>, shape: &[usize], expected: &[T]) {
    let made = made.unwrap();
    assert_eq!(made[0].shape(), shape);
    assert_eq!(elements::<T>(&made[0]).unwrap(), expected);
}

#[test]
fn each_index_of_an_axis_has_its_scale_and_zero_point() {
    let x = t(&[2, 2], &[1.0_f32, 1.0, 10.0, 10.0]);
    let (scale, zero) = (t(&[2], &[0.5_f32, 2.0]), t(&[2], &[10_u8, 20]));
    let made = onnx("QuantizeLinear", &[int("axis", 0)], &[x, scale.clone(), zero.clone()]);
    assert_is(made, &[2, 2], &[12_u8, 12, 25, 25]);
    let x = t(&[2, 2], &[12_u8, 12, 25, 25]);
    assert_is(
        onnx("DequantizeLinear", &[int("axis", -2)], &[x, scale, zero]),
        &[2, 2],
        &[1.0_f32, 1.0, 10.0, 10.0],
    );
}

#[test]
fn each_block_has_its_scale() {
    let x = t(&[1, 3], &[4_i8, 4, 4]);
    let scale = t(&[1, 2], &[0.5_f32, 2.0]);
    let attributes = [int("axis", 1), int("block_size", 2)];
    assert_is(onnx("DequantizeLinear", &attributes, &[x, scale]), &[1, 3], &[2.0_f32, 2.0, 8.0]);
}

#[test]
fn the_result_has_the_type_of_the_zero_point_or_of_the_attribute() {
    let x = || t(&[2], &[40_000.0_f32, -40_000.0]);
    let made = onnx("QuantizeLinear", &[], &[x(), one(1.0_f32), one(0_i16)]);
    assert_is(made, &[2], &[32_767_i16, -32_768]);
    let made = onnx("QuantizeLinear", &[int("output_dtype", 4)], &[x(), one(1.0_f32)]);
    assert_is(made, &[2], &[40_000_u16, 0]);
    let made = onnx("QuantizeLinear", &[int("output_dtype", 22)], &[x(), one(1.0_f32)]);
    assert_is(made, &[2], &[7_i8, -8]);
    assert!(onnx("QuantizeLinear", &[int("output_dtype", 17)], &[x(), one(1.0_f32)]).is_err());
    assert!(onnx("QuantizeLinear", &[int("output_dtype", 2)], &[x(), one(1.0_f32), one(0_i8)]).is_err());
}

#[test]
fn half_precision_is_divided_in_half_precision() {
    // 130.5 + 1/32 is 130.5 in FP16, and is rounded to the even integer.
    let x = one(f16::from_f32(0.765));
    let scale = one(f16::from_f32(0.005_863));
    let quotient = f16::from_f32(0.765).to_f32() / f16::from_f32(0.005_863).to_f32();
    let expected = f16::from_f32(quotient).to_f32().round_ties_even() as u8;
    let made = onnx("QuantizeLinear", &[], &[x.clone(), scale.clone()]);
    assert_is(made, &[], &[expected]);
    let made = onnx("DequantizeLinear", &[], &[one(3_u8), one(f16::from_f32(0.5))]);
    assert_is(made, &[], &[f16::from_f32(1.5)]);
    let made = onnx("DequantizeLinear", &[int("output_dtype", 1)], &[one(3_u8), one(f16::from_f32(0.5))]);
    assert_is(made, &[], &[1.5_f32]);
}

#[test]
fn a_dynamic_range_contains_zero() {
    let made = onnx("DynamicQuantizeLinear", &[], &[t(&[3], &[1.0_f32, 2.0, 5.1])]).unwrap();
    assert_eq!(elements::<u8>(&made[0]).unwrap(), [50, 100, 255]);
    assert_eq!(elements::<f32>(&made[1]).unwrap(), [5.1 / 255.0]);
    assert_eq!(elements::<u8>(&made[2]).unwrap(), [0]);
    let made = onnx("DynamicQuantizeLinear", &[], &[t(&[2], &[0.0_f32, -2.55])]).unwrap();
    assert_eq!(elements::<u8>(&made[0]).unwrap(), [255, 0]);
}

#[test]
fn sums_of_products_are_without_zero_points() {
    let (a, b) = (t(&[1, 2, 2], &[11_u8, 7, 3, 10]), t(&[2, 2], &[1_i8, 4, 2, 5]));
    let made = onnx("MatMulInteger", &[], &[a.clone(), b.clone(), one(12_u8), t(&[2], &[0_i8, 1])]);
    assert_is(made, &[1, 2, 2], &[-11, -23, -13, -35]);
    let made = onnx("MatMulInteger", &[], &[a.clone(), b.clone()]);
    assert_is(made, &[1, 2, 2], &[25, 79, 23, 62]);
    let bias = t(&[2], &[0.5_f32, -0.5]);
    let inputs = [a, b, one(0.5_f32), one(2.0_f32), one(12_u8), None, bias];
    assert_is(microsoft("MatMulIntegerToFloat", &[], &inputs), &[1, 2, 2], &[-10.5_f32, -29.5, -12.5, -46.5]);
}

#[test]
fn stacks_of_matrices_are_broadcast() {
    let a = t(&[2, 1, 1, 2], &[1_u8, 2, 3, 4]);
    let b = t(&[3, 2, 1], &[1_u8, 1, 2, 2, 3, 3]);
    assert_is(onnx("MatMulInteger", &[], &[a, b]), &[2, 3, 1, 1], &[3, 6, 9, 7, 14, 21]);
    let (a, b) = (t(&[2], &[1_u8, 2]), t(&[2], &[3_u8, 4]));
    assert_is(onnx("MatMulInteger", &[], &[a, b]), &[], &[11]);
    assert!(onnx("MatMulInteger", &[], &[t(&[1, 2], &[1_u8, 2]), t(&[3, 1], &[1_u8, 2, 3])]).is_err());
}

#[test]
fn a_quantized_product_is_rounded_before_the_zero_point_is_added() {
    let inputs = |scale: f32| {
        let (a, b) = (t(&[1, 1], &[5_u8]), t(&[1, 2], &[1_u8, 3]));
        let zero = one(0_u8);
        [a, one(1.0_f32), zero.clone(), b, one(1.0_f32), zero, one(scale), one(3_u8)]
    };
    // 2.5 becomes 2, and 7.5 becomes 8.
    assert_is(onnx("QLinearMatMul", &[], &inputs(2.0)), &[1, 2], &[5_u8, 11]);
    assert_is(onnx("QLinearMatMul", &[], &inputs(0.01)), &[1, 2], &[255_u8, 255]);
}

#[test]
fn a_matrix_that_is_quantized_during_the_run() {
    let (a, b) = (t(&[1, 2], &[0.0_f32, 2.55]), t(&[2, 2], &[1_i8, 2, 3, 4]));
    let made =
        microsoft("DynamicQuantizeMatMul", &[], &[a, b, t(&[2], &[1.0_f32, 2.0]), None, None]).unwrap();
    let made = elements::<f32>(&made[0]).unwrap();
    assert!((made[0] - 7.65).abs() < 1e-5 && (made[1] - 20.4).abs() < 1e-5, "{made:?}");
}

#[test]
fn a_gemm_is_transposed_scaled_and_biased() {
    let (a, b) = (t(&[2, 1], &[1_u8, 2]), t(&[2, 2], &[1_u8, 2, 3, 4]));
    let attributes = [int("transA", 1), int("transB", 1), float("alpha", 2.0)];
    let inputs = [a, one(0.5_f32), one(0_u8), b, one(1.0_f32), one(0_u8), t(&[2], &[10_i32, 20])];
    assert_is(microsoft("QGemm", &attributes, &inputs), &[1, 2], &[15.0_f32, 31.0]);
    let quantized = [inputs.to_vec(), vec![one(10.0_f32), one(1_u8)]].concat();
    assert_is(microsoft("QGemm", &attributes, &quantized), &[1, 2], &[3_u8, 4]);
}

#[test]
fn a_convolution_is_padded_with_the_zero_point() {
    let x = t(&[1, 1, 3], &[2_u8, 3, 4]);
    let w = t(&[1, 1, 2], &[1_u8, 1]);
    let made = onnx("ConvInteger", &[ints("pads", &[1, 1])], &[x.clone(), w.clone(), one(1_u8)]);
    assert_is(made, &[1, 1, 4], &[1, 3, 5, 3]);
    let attributes = [ints("strides", &[2]), ints("dilations", &[2])];
    assert_is(onnx("ConvInteger", &attributes, &[x, w]), &[1, 1, 1], &[6]);
}

#[test]
fn groups_and_planes_of_a_quantized_convolution() {
    let x = t(&[1, 2, 2, 2], &[1_u8, 2, 3, 4, 5, 6, 7, 8]);
    let w = t(&[2, 1, 1, 2], &[1_i8, 1, 1, -1]);
    let zero = one(0_u8);
    let inputs = [
        x,
        one(1.0_f32),
        zero.clone(),
        w,
        t(&[2], &[1.0_f32, 2.0]),
        one(0_i8),
        one(1.0_f32),
        one(10_u8),
        t(&[2], &[1_i32, 0]),
    ];
    let made = onnx("QLinearConv", &[int("group", 2)], &inputs);
    assert_is(made, &[1, 2, 2, 1], &[14_u8, 18, 8, 8]);
    assert!(onnx("QLinearConv", &[int("group", 1)], &inputs).is_err(), "the channels do not fit");
}

#[test]
fn sums_and_products_of_quantized_tensors_are_broadcast() {
    let u = |scale: f32, zero: u8| [one(scale), one(zero)];
    let inputs = [
        vec![t(&[2, 1], &[10_u8, 20])],
        u(0.5, 0).to_vec(),
        vec![t(&[2], &[1_u8, 2])],
        u(1.0, 1).to_vec(),
        u(1.0, 3).to_vec(),
    ]
    .concat();
    assert_is(microsoft("QLinearAdd", &[], &inputs), &[2, 2], &[8_u8, 9, 13, 14]);
    assert_is(microsoft("QLinearMul", &[], &inputs), &[2, 2], &[3_u8, 8, 3, 13]);
}

#[test]
fn functions_of_quantized_elements() {
    let x = || t(&[2], &[0_i8, -10]);
    let inputs = [x(), one(0.1_f32), one(0_i8), one(0.1_f32), one(0_i8)];
    assert_is(microsoft("QLinearLeakyRelu", &[float("alpha", 0.5)], &inputs), &[2], &[0_i8, -5]);
    let inputs = [x(), one(0.1_f32), one(0_i8), one(0.01_f32), one(0_i8)];
    assert_is(microsoft("QLinearSigmoid", &[], &inputs), &[2], &[50_i8, 27]);
    let condition = t(&[2, 1], &[true, false]);
    let unit = || vec![one(1.0_f32), one(0_i8)];
    let inputs = [vec![condition, x()], unit(), vec![one(4_i8), one(2.0_f32), one(0_i8)], unit()].concat();
    assert_is(microsoft("QLinearWhere", &[], &inputs), &[2, 2], &[0_i8, -10, 8, 8]);
    let inputs = [unit(), vec![x()], unit(), vec![x(), one(0.5_f32), one(0_i8)]].concat();
    assert_is(microsoft("QLinearConcat", &[int("axis", 0)], &inputs), &[4], &[0_i8, -10, 0, -5]);
}

#[test]
fn means_and_softmax_of_quantized_tensors() {
    let x = t(&[1, 1, 2, 2], &[1_u8, 2, 3, 5]);
    let inputs = [x, one(1.0_f32), one(1_u8), one(0.5_f32), one(1_u8)];
    assert_is(microsoft("QLinearGlobalAveragePool", &[], &inputs), &[1, 1, 1, 1], &[5_u8]);
    let attributes =
        [ints("kernel_shape", &[2, 1]), ints("pads", &[0, 0, 1, 0]), int("count_include_pad", 1)];
    let made = microsoft("QLinearAveragePool", &attributes, &inputs);
    assert_is(made, &[1, 1, 2, 2], &[3_u8, 6, 3, 5]);
    assert!(microsoft("QLinearGlobalAveragePool", &[int("channels_last", 1)], &inputs).is_err());
    let row = [t(&[1, 1, 1, 3], &[2_u8, 4, 10]), one(1.0_f32), one(0_u8), one(0.5_f32), one(0_u8)];
    for (is_counted, last) in [(0, 20), (1, 10)] {
        let windows = [ints("kernel_shape", &[1, 2]), ints("strides", &[1, 2]), int("ceil_mode", 1)];
        let attributes = [windows.to_vec(), vec![int("count_include_pad", is_counted)]].concat();
        let made = microsoft("QLinearAveragePool", &attributes, &row);
        assert_is(made, &[1, 1, 1, 2], &[6_u8, last]);
    }
    let x = t(&[2, 2], &[0_u8, 0, 7, 7]);
    let inputs = [x, one(0.1_f32), one(0_u8), one(1.0_f32 / 256.0), one(0_u8)];
    let made = microsoft("QLinearSoftmax", &[int("opset", 13)], &inputs);
    assert_is(made, &[2, 2], &[128_u8; 4]);
    let made = microsoft("QLinearSoftmax", &[int("opset", 12), int("axis", 0)], &inputs);
    assert_is(made, &[2, 2], &[42_u8, 42, 86, 86]);
}

#[test]
fn weights_in_blocks_are_unpacked_from_the_low_bits_on() {
    // One column of three weights in two blocks of two: 1, 2 and 3, with the zero points 8 and 0.
    let attributes = [int("K", 3), int("N", 1), int("block_size", 2), int("bits", 4)];
    let (b, scales) = (t(&[1, 2, 1], &[0x21_u8, 0x03]), t(&[2], &[1.0_f32, 10.0]));
    let a = t(&[1, 3], &[1.0_f32, 1.0, 1.0]);
    let inputs = [a, b, scales, t(&[1], &[0x08_u8]), None, t(&[1], &[0.5_f32])];
    assert_is(microsoft("MatMulNBits", &attributes, &inputs), &[1, 1], &[17.5_f32]);
    let table = t(&[2, 8], &[0x98_u8; 16]);
    let inputs = [table, t(&[1], &[-1_i64]), t(&[2, 1], &[1.0_f32, 2.0])];
    let made = microsoft("GatherBlockQuantized", &[int("block_size", 16)], &inputs);
    assert_is(made, &[1, 16], &[0.0_f32, 2.0].repeat(8));
    let table = t(&[2, 8], &[0x98_u8; 16]);
    let inputs = [table, t(&[1], &[2_i64]), t(&[2, 1], &[1.0_f32, 2.0])];
    assert!(microsoft("GatherBlockQuantized", &[int("block_size", 16)], &inputs).is_err());
}
