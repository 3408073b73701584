//! Tests of the reductions, with expected values of NumPy, the reference evaluator, or the standard's text.

use tract_onnx::pb::AttributeProto;
use tract_onnx::prelude::*;

use super::super::entry::Domain;
use super::super::trial::{Trial, int, ints};

fn run(name: &str, attributes: &[AttributeProto], inputs: &[Tensor]) -> TractResult<Tensor> {
    let inputs: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
    Ok(Trial::new(Domain::Onnx, name, attributes).run(&inputs)?.remove(0))
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.cast_to::<f32>().unwrap().try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

#[test]
fn axes_can_be_neighbours_or_apart_and_are_kept_or_not() {
    let values: Vec<i32> = (0..24).collect();
    let input = Tensor::from_shape(&[2, 3, 4], &values).unwrap();
    let apart = run("ReduceSum", &[int("keepdims", 0)], &[input.clone(), tensor1(&[0_i64, -1])]).unwrap();
    assert_eq!(apart, tensor1(&[60, 92, 124]));
    let kept = run("ReduceSum", &[], &[input.clone(), tensor1(&[1_i64])]).unwrap();
    assert_eq!(kept.shape(), [2, 1, 4]);
    assert_eq!(kept.into_shape(&[2, 4]).unwrap(), tensor2(&[[12, 15, 18, 21], [48, 51, 54, 57]]));
    let all = run("ReduceMax", &[int("keepdims", 0)], std::slice::from_ref(&input)).unwrap();
    assert_eq!(all, tensor0(23));
    let attribute =
        Trial::new(Domain::Onnx, "ReduceMin", &[ints("axes", &[2]), int("keepdims", 0)]).version(11);
    assert_eq!(attribute.run(&[Some(input)]).unwrap()[0], tensor2(&[[0, 4, 8], [12, 16, 20]]));
}

#[test]
fn no_axes_mean_all_or_none() {
    let input = tensor2(&[[-1_f32, 2.0], [3.0, -4.0]]);
    let none = Tensor::zero::<i64>(&[0]).unwrap();
    let all = run("ReduceL1", &[], &[input.clone(), none.clone()]).unwrap();
    assert_eq!(all, tensor2(&[[10_f32]]));
    let each = run("ReduceL1", &[int("noop_with_empty_axes", 1)], &[input.clone(), none]).unwrap();
    assert_eq!(each, tensor2(&[[1_f32, 2.0], [3.0, 4.0]]));
    let left_out = run("ReduceSumSquare", &[int("noop_with_empty_axes", 1)], &[input]).unwrap();
    assert_eq!(left_out, tensor2(&[[1_f32, 4.0], [9.0, 16.0]]));
}

#[test]
fn sets_without_elements_give_the_neutral_element() {
    let empty = Tensor::zero::<f32>(&[2, 0]).unwrap();
    let of = |name: &str| floats(&run(name, &[], &[empty.clone(), tensor1(&[1_i64])]).unwrap());
    assert_eq!(of("ReduceMax"), [f32::NEG_INFINITY; 2]);
    assert_eq!(of("ReduceMin"), [f32::INFINITY; 2]);
    assert_eq!(of("ReduceSum"), [0.0; 2]);
    assert_eq!(of("ReduceProd"), [1.0; 2]);
    assert_eq!(of("ReduceLogSumExp"), [f32::NEG_INFINITY; 2]);
    let booleans = Tensor::zero_dt(DatumType::Bool, &[0]).unwrap();
    assert_eq!(
        run("ReduceMin", &[int("keepdims", 0)], std::slice::from_ref(&booleans)).unwrap(),
        tensor0(true)
    );
    assert_eq!(run("ReduceMax", &[int("keepdims", 0)], &[booleans]).unwrap(), tensor0(false));
}

#[test]
fn log_sum_exp_is_shifted() {
    let input = tensor2(&[[1000_f32, 1000.0], [-1000.0, -1000.0], [f32::NEG_INFINITY, f32::NEG_INFINITY]]);
    let result = floats(&run("ReduceLogSumExp", &[], &[input, tensor1(&[1_i64])]).unwrap());
    assert!((result[0] - 1000.6931).abs() < 1e-4 && (result[1] + 999.3069).abs() < 1e-4, "{result:?}");
    assert_eq!(result[2], f32::NEG_INFINITY);
    let over_rows = run(
        "ReduceLogSumExp",
        &[int("keepdims", 0)],
        &[tensor2(&[[500_f32, 1.0], [500.0, f32::INFINITY]]), tensor1(&[0_i64])],
    );
    let over_rows = floats(&over_rows.unwrap());
    assert!((over_rows[0] - 500.69315).abs() < 1e-4 && over_rows[1] == f32::INFINITY, "{over_rows:?}");
}

#[test]
fn extremes_keep_nan_and_means_of_integers_round_toward_0() {
    let input = tensor1(&[1_f32, f32::NAN, 3.0]);
    assert!(floats(&run("ReduceMax", &[], std::slice::from_ref(&input)).unwrap())[0].is_nan());
    assert!(floats(&run("ReduceMin", &[], &[input]).unwrap())[0].is_nan());
    assert_eq!(run("ReduceMean", &[], &[tensor1(&[-1_i64, -2, -4])]).unwrap(), tensor1(&[-2_i64]));
}

#[test]
fn wrong_axes_are_errors() {
    let input = tensor1(&[1_f32]);
    assert!(run("ReduceSum", &[], &[input.clone(), tensor1(&[1_i64])]).is_err());
    assert!(run("ReduceSum", &[], &[input.clone(), tensor1(&[0_i64, 0])]).is_err());
    assert!(run("ReduceSum", &[], &[input, tensor1(&[0.5_f32])]).is_err());
    assert!(run("ReduceSum", &[], &[tensor1(&[true])]).is_err());
}

#[test]
fn arg_max_takes_the_first_or_last_of_equal_elements_and_nan_first() {
    let input = tensor2(&[[2_f32, 2.0, 1.0], [0.0, f32::NAN, 5.0]]);
    let arg = |name: &str, attributes: &[AttributeProto]| {
        run(name, attributes, std::slice::from_ref(&input)).unwrap()
    };
    assert_eq!(arg("ArgMax", &[int("axis", 1), int("keepdims", 0)]), tensor1(&[0_i64, 1]));
    assert_eq!(
        arg("ArgMax", &[int("axis", -1), int("keepdims", 0), int("select_last_index", 1)]),
        tensor1(&[1_i64, 1])
    );
    assert_eq!(arg("ArgMin", &[]), tensor2(&[[1_i64, 1, 0]]));
    let lowest = tensor1(&[f32::NEG_INFINITY, f32::NEG_INFINITY]);
    assert_eq!(run("ArgMax", &[], &[lowest]).unwrap(), tensor1(&[0_i64]));
    assert!(run("ArgMax", &[], &[Tensor::zero::<f32>(&[0]).unwrap()]).is_err());
}

#[test]
fn cumulative_sums_and_products_go_both_ways() {
    let input = tensor2(&[[1_i32, 2, 3], [4, 5, 6]]);
    let of = |name: &str, attributes: &[AttributeProto], axis: i64| {
        run(name, attributes, &[input.clone(), tensor0(axis)]).unwrap()
    };
    assert_eq!(of("CumSum", &[], 1), tensor2(&[[1, 3, 6], [4, 9, 15]]));
    assert_eq!(of("CumSum", &[], -2), tensor2(&[[1, 2, 3], [5, 7, 9]]));
    assert_eq!(of("CumSum", &[int("exclusive", 1), int("reverse", 1)], 1), tensor2(&[[5, 3, 0], [11, 6, 0]]));
    assert_eq!(of("CumProd", &[int("exclusive", 1)], 1), tensor2(&[[1, 1, 2], [1, 4, 20]]));
    assert_eq!(of("CumProd", &[int("reverse", 1)], 0), tensor2(&[[4, 10, 18], [4, 5, 6]]));
    assert!(run("CumSum", &[], &[input.clone(), tensor0(2_i64)]).is_err());
    assert!(run("CumSum", &[], &[input.clone(), tensor1(&[0_i64, 1])]).is_err());
}
