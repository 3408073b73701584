//! `OneHotEncoder`, `CategoryMapper` and `FeatureVectorizer`, with results of onnxruntime 1.31; and rows of a wrong width.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, TensorProto};
use tract_onnx::prelude::*;

use super::super::entry::Domain;
use super::super::trial::{self, Trial, floats, int, ints, string, strings};
use crate::error::{Code, RequestError};

fn words(shape: &[usize], all: &[&str]) -> Tensor {
    trial::words(all).into_shape(shape).unwrap()
}

/// The only output, for a single input.
fn output(trial: &Trial, input: Tensor) -> Tensor {
    trial.run(&[Some(input)]).unwrap().remove(0)
}

fn is_of_request(error: &TractError) -> bool {
    error.downcast_ref::<RequestError>().is_some_and(|error| error.code == Code::InvalidRequest)
}

#[test]
fn a_category_is_a_one_in_its_column_and_an_unknown_one_is_all_zeros() {
    let trial = Trial::new(Domain::Ml, "OneHotEncoder", &[ints("cats_int64s", &[0, 1, 5])]);
    assert_eq!(output(&trial, tensor2(&[[5_i64, 1]])), tensor3(&[[[0.0_f32, 0.0, 1.0], [0.0, 1.0, 0.0]]]),);
    // The fraction is cut off; NaN and what is too large for an integer is no category.
    let expected = tensor2(&[[0.0_f32, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0; 3], [0.0; 3], [0.0; 3]]);
    assert_eq!(output(&trial, tensor1(&[1.7_f32, -0.5, f32::NAN, 3e20, 7.0])), expected);
    assert_eq!(output(&trial, tensor1(&[1.7_f64, -0.5, f64::NAN, -3e20, 7.0])), expected);
    assert_eq!(output(&trial, tensor0(1_i32)), tensor1(&[0.0_f32, 1.0, 0.0]));
    assert_eq!(output(&trial, Tensor::zero::<i64>(&[0, 2]).unwrap()).shape(), [0, 2, 3]);
    let smallest = Trial::new(Domain::Ml, "OneHotEncoder", &[ints("cats_int64s", &[i64::MIN, 0, i64::MAX])]);
    assert_eq!(
        output(&smallest, tensor1(&[f64::NAN, f64::NEG_INFINITY, 9.3e18, -9_223_372_036_854_775_808.0])),
        tensor2(&[[0.0_f32; 3], [0.0; 3], [0.0; 3], [1.0, 0.0, 0.0]]),
    );
    let trial =
        Trial::new(Domain::Ml, "OneHotEncoder", &[strings("cats_strings", &["a", "Ä"]), int("zeros", 1)]);
    assert_eq!(
        output(&trial, words(&[3], &["Ä", "A", "a"])),
        tensor2(&[[0.0_f32, 1.0], [0.0, 0.0], [1.0, 0.0]])
    );
}

#[test]
fn an_unknown_category_is_an_error_of_the_request_when_zeros_is_0() {
    let trial =
        Trial::new(Domain::Ml, "OneHotEncoder", &[strings("cats_strings", &["a", "b"]), int("zeros", 0)]);
    assert_eq!(output(&trial, words(&[1], &["b"])), tensor2(&[[0.0_f32, 1.0]]));
    let error = trial.run(&[Some(words(&[2], &["b", "c"]))]).unwrap_err();
    assert!(is_of_request(&error), "{error:?}");
    let numbers = Trial::new(Domain::Ml, "OneHotEncoder", &[ints("cats_int64s", &[1]), int("zeros", 0)]);
    for input in [tensor1(&[1_i64, 2]), tensor1(&[f32::NAN]), tensor1(&[1e300])] {
        assert!(is_of_request(&numbers.run(&[Some(input)]).unwrap_err()));
    }
}

#[test]
fn categories_of_another_type_or_listed_twice_or_in_both_lists_are_refused() {
    let refused = |attributes: &[_], input: Tensor| {
        assert!(Trial::new(Domain::Ml, "OneHotEncoder", attributes).run(&[Some(input)]).is_err());
    };
    refused(&[strings("cats_strings", &["1"])], tensor1(&[1_i64]));
    refused(&[ints("cats_int64s", &[1])], words(&[1], &["1"]));
    refused(&[ints("cats_int64s", &[1, 2, 1])], tensor1(&[1_i64]));
    refused(&[ints("cats_int64s", &[1]), strings("cats_strings", &["1"])], tensor1(&[1_i64]));
    refused(&[], tensor1(&[1_i64]));
}

#[test]
fn categories_are_mapped_in_both_directions_with_the_default_for_others() {
    let both = [ints("cats_int64s", &[1, 2]), strings("cats_strings", &["a", "b"])];
    let trial = Trial::new(Domain::Ml, "CategoryMapper", &both);
    assert_eq!(output(&trial, tensor2(&[[1_i64, 2, 9]])), words(&[1, 3], &["a", "b", "_Unused"]));
    assert_eq!(output(&trial, words(&[2], &["b", "A"])), tensor1(&[2_i64, -1]));
    let [first, second] = both;
    let trial = Trial::new(
        Domain::Ml,
        "CategoryMapper",
        &[first.clone(), second, int("default_int64", 7), string("default_string", "?")],
    );
    assert_eq!(output(&trial, tensor0(0_i64)), words(&[], &["?"]));
    assert_eq!(output(&trial, words(&[1], &[""])), tensor1(&[7_i64]));
    // Of equal keys the last counts.
    let twice = [ints("cats_int64s", &[1, 1, 2]), strings("cats_strings", &["a", "b", "b"])];
    let twice = Trial::new(Domain::Ml, "CategoryMapper", &twice);
    assert_eq!(output(&twice, tensor1(&[1_i64])), words(&[1], &["b"]));
    assert_eq!(output(&twice, words(&[1], &["b"])), tensor1(&[2_i64]));
    let unequal = Trial::new(Domain::Ml, "CategoryMapper", &[first, strings("cats_strings", &["a"])]);
    assert!(unequal.run(&[Some(tensor1(&[1_i64]))]).is_err());
    assert!(trial.run(&[Some(tensor1(&[1_i32]))]).is_err());
}

#[test]
fn features_are_joined_and_cut_or_filled_to_their_widths() {
    let (a, b) =
        (tensor2(&[[0.0_f32, 1.0, 2.0], [3.0, 4.0, 5.0]]), tensor2(&[[10.0_f32, 11.0], [12.0, 13.0]]));
    let joined = |widths: &[i64], inputs: &[&Tensor]| {
        let inputs: Vec<_> = inputs.iter().map(|input| Some((*input).clone())).collect();
        let trial = Trial::new(Domain::Ml, "FeatureVectorizer", &[ints("inputdimensions", widths)]);
        trial.run(&inputs).map(|mut outputs| outputs.remove(0))
    };
    assert_eq!(
        joined(&[3, 2], &[&a, &b]).unwrap(),
        tensor2(&[[0.0_f32, 1.0, 2.0, 10.0, 11.0], [3.0, 4.0, 5.0, 12.0, 13.0]])
    );
    assert_eq!(
        joined(&[2, 3], &[&a, &b]).unwrap(),
        tensor2(&[[0.0_f32, 1.0, 10.0, 11.0, 0.0], [3.0, 4.0, 12.0, 13.0, 0.0]])
    );
    let whole = a.cast_to::<i64>().unwrap().into_owned();
    assert_eq!(joined(&[3], &[&whole]).unwrap(), a);
    // A list is one row.
    let list = tensor1(&[7.0_f64, 8.0]);
    assert_eq!(joined(&[2, 1], &[&list, &list]).unwrap(), tensor2(&[[7.0_f32, 8.0, 7.0]]));
    assert!(is_of_request(&joined(&[3, 2], &[&a, &list.cast_to::<f32>().unwrap()]).unwrap_err()));
    assert!(joined(&[3], &[&a, &b]).is_err());
    assert!(joined(&[3, 0], &[&a, &b]).is_err());
    assert!(joined(&[i64::MAX, i64::MAX], &[&a, &b]).is_err());
    assert!(joined(&[3], &[&tensor3(&[[[1.0_f32]]])]).is_err());
}

#[test]
fn a_row_with_another_number_of_features_is_an_error_of_the_request() {
    let twos = |name: &str| floats(name, &[1.0, 2.0]);
    for (name, attributes) in [
        ("Scaler", vec![twos("offset"), twos("scale")]),
        ("Imputer", vec![twos("imputed_value_floats")]),
        ("LinearRegressor", vec![twos("coefficients")]),
        ("LinearClassifier", vec![floats("coefficients", &[1.0; 6]), ints("classlabels_ints", &[1, 2, 3])]),
    ] {
        let trial = Trial::new(Domain::Ml, name, &attributes);
        assert!(trial.run(&[Some(tensor2(&[[0.0_f32, 1.0]]))]).is_ok(), "{name}");
        for width in [0, 1, 3, 4] {
            let error = trial.run(&[Some(Tensor::zero::<f32>(&[2, width]).unwrap())]).unwrap_err();
            assert!(is_of_request(&error), "{name} with {width}: {error:?}");
        }
    }
    // One number serves any features.
    let trial = Trial::new(Domain::Ml, "Scaler", &[floats("offset", &[1.0]), floats("scale", &[2.0])]);
    assert_eq!(output(&trial, tensor2(&[[0.0_f32, 1.0, 2.0]])), tensor2(&[[-2.0_f32, 0.0, 2.0]]));
}

#[test]
fn a_label_encoder_keeps_the_type_of_its_values_and_has_one_list_of_them() {
    let tensor = |name: &str, values: &[i32]| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Tensor.into(),
        t: Some(TensorProto {
            dims: vec![values.len() as i64],
            data_type: DataType::Int16.into(),
            int32_data: values.to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let keys = strings("keys_strings", &["a", "b"]);
    let values = [keys, tensor("values_tensor", &[7, 8]), tensor("default_tensor", &[42])];
    let trial = |attributes: &[AttributeProto]| Trial::new(Domain::Ml, "LabelEncoder", attributes);
    let input = words(&[3], &["b", "x", "a"]);
    assert_eq!(output(&trial(&values), input.clone()), tensor1(&[8_i16, 42, 7]));
    let both = [&values[..], &[ints("values_int64s", &[1, 2])]].concat();
    let error = trial(&both).run(&[Some(input.clone())]).unwrap_err();
    assert!(error.to_string().contains("not several"), "{error}");
    let other = [values[0].clone(), ints("values_int64s", &[1, 2]), values[2].clone()];
    let error = trial(&other).run(&[Some(input)]).unwrap_err();
    assert!(error.to_string().contains("`default_tensor` is of type I16"), "{error}");
}
