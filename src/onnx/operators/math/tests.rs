//! Tests of operators on elements, products and casts, with expected values of NumPy, onnxruntime, or the standard's text.

use tract_onnx::pb::AttributeProto;
use tract_onnx::prelude::*;

use super::super::entry::Domain;
use super::super::trial::{Trial, float, int, string};

fn run(name: &str, attributes: &[AttributeProto], inputs: &[Tensor]) -> TractResult<Tensor> {
    let inputs: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
    Ok(Trial::new(Domain::Onnx, name, attributes).run(&inputs)?.remove(0))
}

fn of(name: &str, inputs: &[Tensor]) -> Tensor {
    run(name, &[], inputs).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

fn halves(values: &[f32]) -> Tensor {
    tensor1(&values.iter().map(|x| f16::from_f32(*x)).collect::<Vec<f16>>())
}

#[test]
fn integers_are_divided_toward_0_and_a_division_by_0_is_an_error() {
    assert_eq!(
        of("Div", &[tensor1(&[-7_i32, 7, i32::MIN]), tensor1(&[2, -2, -1])]),
        tensor1(&[-3, -3, i32::MIN])
    );
    assert_eq!(of("Mod", &[tensor1(&[-7_i64, 7]), tensor1(&[3_i64, -3])]), tensor1(&[2_i64, -2]));
    for (name, fmod) in [("Div", None), ("Mod", Some(0)), ("Mod", Some(1))] {
        let attributes: Vec<_> = fmod.iter().map(|fmod| int("fmod", *fmod)).collect();
        let error = run(name, &attributes, &[tensor1(&[1_i32, 5]), tensor1(&[1_i32, 0])]).unwrap_err();
        assert!(error.to_string().contains("element 1 of the divisor is 0"), "{error}");
    }
    assert_eq!(of("Div", &[tensor0(1_f32), tensor0(0_f32)]), tensor0(f32::INFINITY));
    let fmod = |inputs: &[Tensor]| run("Mod", &[int("fmod", 1)], inputs).unwrap();
    assert_eq!(fmod(&[tensor1(&[-7_i8, 7]), tensor1(&[3_i8, -3])]), tensor1(&[-1_i8, 1]));
    assert_eq!(fmod(&[tensor1(&[-4.5_f32, 4.5]), tensor1(&[2_f32, -2.0])]), tensor1(&[-0.5_f32, 0.5]));
    assert_eq!(of("Add", &[tensor1(&[250_u8]), tensor1(&[10_u8])]), tensor1(&[4_u8]));
}

#[test]
fn a_quotient_of_floats_is_exact() {
    assert_eq!(of("Div", &[tensor0(49_f32), tensor0(49_f32)]), tensor0(1_f32));
}

#[test]
fn operands_of_old_versions_begin_at_an_axis() {
    let a = Tensor::from_shape(&[2, 3, 2], &[0_f32; 12]).unwrap();
    let trial = Trial::new(Domain::Onnx, "Add", &[int("broadcast", 1), int("axis", 1)]).version(6);
    let result = trial.run(&[Some(a.clone()), Some(tensor1(&[1_f32, 2.0, 3.0]))]).unwrap().remove(0);
    assert_eq!(floats(&result)[..6], [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
    let beyond = Trial::new(Domain::Onnx, "Add", &[int("axis", 2)]).version(6);
    assert!(beyond.run(&[Some(a), Some(Tensor::from_shape(&[2, 2], &[0_f32; 4]).unwrap())]).is_err());
}

#[test]
fn shifts_beyond_the_width_leave_the_sign() {
    let shift = |direction: &str, a: Tensor, b: Tensor| {
        run("BitShift", &[string("direction", direction)], &[a, b]).unwrap()
    };
    assert_eq!(shift("LEFT", tensor1(&[1_i8, -1, 3]), tensor1(&[8_i8, -1, 2])), tensor1(&[0_i8, 0, 12]));
    assert_eq!(shift("RIGHT", tensor1(&[64_i32, -64, -1]), tensor1(&[32, 40, -1])), tensor1(&[0, -1, -1]));
    assert_eq!(shift("RIGHT", tensor1(&[200_u8, 200]), tensor1(&[3_u8, 255])), tensor1(&[25_u8, 0]));
    assert!(run("BitShift", &[string("direction", "UP")], &[tensor0(1_u8), tensor0(1_u8)]).is_err());
}

#[test]
fn bits_are_kept_by_a_bit_cast() {
    assert_eq!(run("BitCast", &[int("to", 6)], &[tensor1(&[1_f32])]).unwrap(), tensor1(&[0x3f80_0000]));
    assert_eq!(run("BitCast", &[int("to", 9)], &[tensor1(&[2_u8, 0])]).unwrap(), tensor1(&[true, false]));
    assert!(run("BitCast", &[int("to", 7)], &[tensor1(&[1_f32])]).is_err());
    assert_eq!(of("BitwiseNot", &[tensor1(&[0_u16, 1])]), tensor1(&[u16::MAX, u16::MAX - 1]));
    assert_eq!(of("BitwiseXor", &[tensor1(&[6_i64]), tensor1(&[3_i64])]), tensor1(&[5_i64]));
}

#[test]
fn comparisons_take_text_and_truth_values() {
    let text = |all: &[&str]| tensor1(&all.iter().map(ToString::to_string).collect::<Vec<String>>());
    assert_eq!(of("Equal", &[text(&["a", "b"]), text(&["a", "c"])]), tensor1(&[true, false]));
    assert_eq!(of("Equal", &[tensor1(&[true, false]), tensor0(true)]), tensor1(&[true, false]));
    assert_eq!(
        of("LessOrEqual", &[tensor1(&[1.0_f32, f32::NAN]), tensor1(&[1.0_f32])]),
        tensor1(&[true, false])
    );
    assert!(run("Less", &[], &[text(&["a"]), text(&["b"])]).is_err());
    assert!(run("Equal", &[], &[tensor0(1_i32), tensor0(1_i64)]).is_err());
    assert_eq!(of("Where", &[tensor1(&[true, false]), text(&["a"]), text(&["b"])]), text(&["a", "b"]));
}

#[test]
fn powers_have_the_type_of_the_base() {
    assert_eq!(
        of("Pow", &[tensor1(&[2_i32, -1, 0, 1, 3]), tensor1(&[-1_i64, -3, 0, -5, 21])]),
        tensor1(&[0, -1, 1, 1, 1_870_418_611])
    );
    assert_eq!(of("Pow", &[tensor1(&[2_f32, 9.0]), tensor1(&[3_i64, -1])]), tensor1(&[8_f32, 1.0 / 9.0]));
    assert_eq!(of("Pow", &[tensor1(&[9_i64]), tensor1(&[0.5_f32])]), tensor1(&[3_i64]));
    assert_eq!(of("Pow", &[halves(&[3.0]), halves(&[2.0])]), halves(&[9.0]));
    let large = of("Pow", &[tensor1(&[-1_i32, -1, 2]), tensor1(&[u64::MAX, u64::MAX - 1, u64::MAX])]);
    assert_eq!(large, tensor1(&[-1, 1, 0]));
}

#[test]
fn extremes_and_clips_keep_nan() {
    let nan = tensor1(&[f32::NAN, 5.0, -5.0]);
    for name in ["Max", "Min"] {
        assert!(floats(&of(name, &[nan.clone(), tensor0(0_f32)]))[0].is_nan());
        assert!(floats(&of(name, &[tensor0(0_f32), nan.clone()]))[0].is_nan());
    }
    let clipped = floats(&of("Clip", &[nan, tensor0(-1_f32), tensor0(1_f32)]));
    assert!(clipped[0].is_nan() && clipped[1..] == [1.0, -1.0]);
    assert_eq!(of("Clip", &[tensor1(&[-5_i8, 5]), tensor0(2_i8), tensor0(-2_i8)]), tensor1(&[-2_i8, -2]));
    let old = Trial::new(Domain::Onnx, "Clip", &[float("max", 1.0)]).version(6);
    assert_eq!(old.run(&[Some(tensor1(&[-5_f32, 5.0]))]).unwrap()[0], tensor1(&[-5_f32, 1.0]));
    assert_eq!(of("Mean", &[tensor1(&[1_f32, 2.0]), tensor0(3_f32)]), tensor1(&[2_f32, 2.5]));
}

#[test]
fn functions_follow_the_standard_at_the_edges() {
    assert_eq!(of("Round", &[tensor1(&[0.5_f64, 1.5, -2.5])]), tensor1(&[0_f64, 2.0, -2.0]));
    assert_eq!(of("Sign", &[tensor1(&[-0.0_f32, 3.0, -2.0])]), tensor1(&[0_f32, 1.0, -1.0]));
    assert_eq!(of("Abs", &[tensor1(&[i8::MIN, -3])]), tensor1(&[i8::MIN, 3]));
    assert_eq!(of("Neg", &[tensor1(&[3_i16])]), tensor1(&[-3_i16]));
    assert_eq!(
        run("IsInf", &[int("detect_negative", 0)], &[tensor1(&[f32::INFINITY, f32::NEG_INFINITY])]).unwrap(),
        tensor1(&[true, false])
    );
    assert_eq!(of("IsNaN", &[tensor1(&[f64::NAN, 1.0])]), tensor1(&[true, false]));
    assert!(run("Exp", &[], &[tensor1(&[1_i32])]).is_err());
}

#[test]
fn softmax_is_computed_over_any_axis_and_with_a_shift() {
    let input = tensor2(&[[1000_f32, 0.0], [1000.0, f32::NEG_INFINITY]]);
    let columns = floats(&run("Softmax", &[int("axis", 0)], std::slice::from_ref(&input)).unwrap());
    assert_eq!(columns, [0.5, 1.0, 0.5, 0.0]);
    let logs = floats(&run("LogSoftmax", &[int("axis", 1)], std::slice::from_ref(&input)).unwrap());
    assert_eq!(logs, [0.0, -1000.0, 0.0, f32::NEG_INFINITY]);
    let old = Trial::new(Domain::Onnx, "Softmax", &[int("axis", 0)]).version(11);
    assert_eq!(
        old.run(&[Some(tensor2(&[[0_f64, 0.0], [0.0, 0.0]]))]).unwrap()[0],
        tensor2(&[[0.25_f64; 2]; 2])
    );
    let hard = run("Hardmax", &[int("axis", 0)], &[tensor2(&[[1_f32, 2.0], [1.0, 3.0]])]).unwrap();
    assert_eq!(hard, tensor2(&[[1_f32, 0.0], [0.0, 1.0]]));
}

#[test]
fn products_of_integers_and_of_vectors() {
    let (a, b) = (tensor2(&[[1_i32, 2], [3, 4]]), tensor2(&[[5_i32, 6], [7, 8]]));
    assert_eq!(of("MatMul", &[a.clone(), b.clone()]), tensor2(&[[19, 22], [43, 50]]));
    assert_eq!(of("MatMul", &[tensor1(&[1_f32, 2.0]), tensor1(&[3_f32, 4.0])]), tensor0(11_f32));
    assert_eq!(of("MatMul", &[tensor1(&[1_i32, 2]), b.clone()]), tensor1(&[19, 22]));
    let stack = Tensor::from_shape(&[2, 1, 2, 2], &[1_i32, 0, 0, 1, 0, 1, 1, 0]).unwrap();
    let result = of("MatMul", &[stack, Tensor::from_shape(&[3, 2, 1], &[1_i32, 2, 3, 4, 5, 6]).unwrap()]);
    assert_eq!(result, Tensor::from_shape(&[2, 3, 2, 1], &[1, 2, 3, 4, 5, 6, 2, 1, 4, 3, 6, 5]).unwrap());
    assert_eq!(
        of("MatMul", &[Tensor::zero::<f64>(&[2, 0]).unwrap(), Tensor::zero::<f64>(&[0, 1]).unwrap()]),
        tensor2(&[[0_f64], [0.0]])
    );
    assert!(run("MatMul", &[], &[tensor0(1_f32), tensor1(&[1_f32])]).is_err());
    let attributes = [float("alpha", 0.5), float("beta", 2.0), int("transA", 1)];
    let gemm = run("Gemm", &attributes, &[a.clone(), b.clone(), tensor1(&[1_i32, 10])]).unwrap();
    assert_eq!(gemm, tensor2(&[[15, 35], [21, 42]]));
    assert!(run("Gemm", &[], &[a, b, Tensor::zero::<i32>(&[3, 2]).unwrap()]).is_err());
}

#[test]
fn einsum_takes_an_ellipsis_diagonals_and_several_operands() {
    let einsum = |equation: &str, inputs: &[Tensor]| run("Einsum", &[string("equation", equation)], inputs);
    let values: Vec<f64> = (0..12).map(f64::from).collect();
    let stack = Tensor::from_shape(&[3, 2, 2], &values).unwrap();
    let matrix = tensor2(&[[1_f64, 2.0], [3.0, 4.0]]);
    assert_eq!(
        einsum("...ij,jk->...ik", &[stack.clone(), matrix.clone()]).unwrap(),
        of("MatMul", &[stack.clone(), matrix.clone()])
    );
    assert_eq!(einsum("bii->b", std::slice::from_ref(&stack)).unwrap(), tensor1(&[3_f64, 11.0, 19.0]));
    assert_eq!(einsum("ij->", std::slice::from_ref(&matrix)).unwrap(), tensor0(10_f64));
    assert_eq!(
        einsum("ij->ji", std::slice::from_ref(&matrix)).unwrap(),
        tensor2(&[[1_f64, 3.0], [2.0, 4.0]])
    );
    assert_eq!(
        einsum("i,j,ij", &[tensor1(&[1_f64, 2.0]), tensor1(&[3_f64, 4.0]), matrix.clone()]).unwrap(),
        tensor0(61_f64)
    );
    // Axes of length 1 are repeated.
    assert_eq!(
        einsum("ij,ij->i", &[matrix.clone(), tensor2(&[[10_f64, 1.0]])]).unwrap(),
        tensor1(&[12_f64, 34.0])
    );
    assert_eq!(einsum("ij,ij->", &[tensor2(&[[10_f64]]), matrix.clone()]).unwrap(), tensor0(100_f64));
    assert!(einsum("ij,jk->ik", &[matrix.clone(), Tensor::zero::<f64>(&[3, 2]).unwrap()]).is_err());
    assert!(einsum("ij,jk->ik", &[matrix]).is_err());
}

#[test]
fn determinants_are_exact_for_small_integers() {
    let matrix = Tensor::from_shape(
        &[2, 3, 3],
        &[0_f32, 2.0, 1.0, 1.0, 0.0, 3.0, 2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 0.0, 1.0, 1.0],
    )
    .unwrap();
    let result = floats(&of("Det", &[matrix]));
    assert!((result[0] - 13.0).abs() < 1e-5 && result[1].abs() < 1e-5, "{result:?}");
    assert_eq!(of("Det", &[Tensor::zero::<f64>(&[0, 0]).unwrap()]), tensor0(1_f64));
    assert!(run("Det", &[], &[tensor2(&[[1_f32, 2.0]])]).is_err());
}

#[test]
fn topk_is_stable_and_checks_k() {
    let input = tensor2(&[[3_i64, 1, 3, 2], [0, 9, 9, 9]]);
    let topk = |attributes: &[AttributeProto], k: i64| {
        Trial::new(Domain::Onnx, "TopK", attributes).run(&[Some(input.clone()), Some(tensor1(&[k]))])
    };
    let largest = topk(&[], 3).unwrap();
    assert_eq!(largest[0], tensor2(&[[3_i64, 3, 2], [9, 9, 9]]));
    assert_eq!(largest[1], tensor2(&[[0_i64, 2, 3], [1, 2, 3]]));
    let smallest = topk(&[int("largest", 0), int("axis", 0)], 1).unwrap();
    assert_eq!(smallest[0], tensor2(&[[0_i64, 1, 3, 2]]));
    assert_eq!(smallest[1], tensor2(&[[1_i64, 0, 0, 0]]));
    assert_eq!(topk(&[], 0).unwrap()[0].shape(), [2, 0]);
    assert!(topk(&[], 5).unwrap_err().to_string().contains("expected 0 to 4"));
    assert!(topk(&[], -1).is_err());
    let old = Trial::new(Domain::Onnx, "TopK", &[int("k", 1)]).version(1);
    assert_eq!(old.run(&[Some(tensor1(&[1_f32, f32::NAN]))]).unwrap()[1], tensor1(&[1_i64]));
}

#[test]
fn casts_of_numbers_that_do_not_fit_are_those_of_onnxruntime() {
    let cast = |input: Tensor, to: i64| run("Cast", &[int("to", to)], &[input]).unwrap();
    let wild = || tensor1(&[300_f32, -1.0, 3e9, 1e19, f32::NAN, f32::NEG_INFINITY, -2.9]);
    assert_eq!(cast(wild(), 3), tensor1(&[44_i8, -1, 0, 0, 0, 0, -2]));
    assert_eq!(cast(wild(), 2), tensor1(&[44_u8, 255, 0, 0, 0, 0, 254]));
    assert_eq!(cast(wild(), 6), tensor1(&[300, -1, i32::MIN, i32::MIN, i32::MIN, i32::MIN, -2]));
    assert_eq!(
        cast(wild(), 12),
        tensor1(&[300_u32, u32::MAX, 3_000_000_000, 0, 1 << 31, 1 << 31, u32::MAX - 1])
    );
    assert_eq!(
        cast(wild(), 13),
        tensor1(&[
            300_u64,
            u64::MAX,
            3_000_000_000,
            9_999_999_980_506_447_872,
            1 << 63,
            1 << 63,
            u64::MAX - 1
        ])
    );
    assert_eq!(cast(tensor1(&[200_i16]), 3), tensor1(&[-56_i8]));
    assert_eq!(cast(tensor1(&[0.5_f32, 0.0, f32::NAN]), 9), tensor1(&[true, false, true]));
    assert_eq!(cast(tensor1(&[1e6_f64, 0.1]), 10), halves(&[f32::INFINITY, 0.1]));
    assert_eq!(cast(tensor1(&[true]), 8), tensor1(&["True".to_owned()]));
    assert_eq!(of("CastLike", &[tensor1(&[1.5_f32]), tensor0(0_i64)]), tensor1(&[1_i64]));
    assert!(run("Cast", &[int("to", 17)], &[tensor0(1_f32)]).unwrap_err().to_string().contains("`to` is 17"));
}

#[test]
fn random_numbers_have_the_type_and_shape_that_are_asked_for() {
    let uniform = run(
        "RandomUniformLike",
        &[int("dtype", 11), float("low", 2.0), float("high", 3.0)],
        &[tensor1(&[0_i32; 50])],
    );
    let uniform = uniform.unwrap();
    let plain = uniform.try_as_plain_ram().unwrap();
    assert!(plain.as_slice::<f64>().unwrap().iter().all(|x| (2.0..3.0).contains(x)));
    let seeded = |seed| run("RandomNormalLike", &[float("seed", seed)], &[tensor1(&[0_f32; 5])]).unwrap();
    assert_eq!(seeded(1.0), seeded(1.0));
    assert_ne!(seeded(1.0), seeded(2.0));
    assert_eq!(
        run("Bernoulli", &[int("dtype", 9)], &[tensor1(&[0_f32, 1.0])]).unwrap(),
        tensor1(&[false, true])
    );
    let drawn =
        run("Multinomial", &[int("sample_size", 3)], &[tensor2(&[[0_f32, f32::NEG_INFINITY], [-1e9, 0.0]])])
            .unwrap();
    assert_eq!(drawn, tensor2(&[[0, 0, 0], [1, 1, 1]]));
}
