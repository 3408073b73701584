//! Machines with all kernels, with results of onnxruntime 1.31.

use tract_onnx::pb::AttributeProto;
use tract_onnx::prelude::*;

use super::super::super::entry::Domain;
use super::super::super::trial::{Trial, float, floats, int, ints, string, strings};
use crate::error::{Code, RequestError};

const VECTORS: [f32; 10] = [1.0, 0.0, -0.5, 1.0, 0.25, -1.0, -1.0, 0.5, 0.0, 2.0];
const COEFFICIENTS: [f32; 10] = [0.5, -0.25, 0.75, -0.5, -0.5, -1.0, 0.25, 0.5, 0.75, -0.5];

/// What onnxruntime gives for [`rows`] with a kernel.
struct ByKernel {
    kernel: &'static str,
    labels: [i64; 3],
    scores: [f32; 9],
    probabilities: [f32; 9],
    of_two: [&'static str; 3],
    of_two_scores: [f32; 6],
    of_two_logistic: [f32; 6],
    of_two_probabilities: [f32; 6],
    values: [f32; 3],
}

const BY_ONNXRUNTIME: [ByKernel; 4] = [
    ByKernel {
        kernel: "LINEAR",
        labels: [4, 9, 5],
        scores: [1.53125, 0.4375, 0.875, 1.5, -1.75, -1.46875, -1.84375, -0.0625, 0.15625],
        probabilities: [
            0.59885246, 0.20554462, 0.19560295, 0.09380179, 0.2077893, 0.69840914, 0.13837472, 0.5220042,
            0.33962116,
        ],
        of_two: ["no", "no", "yes"],
        of_two_scores: [-3.03125, 3.03125, -2.1875, 2.1875, 3.53125, -3.53125],
        of_two_logistic: [0.04603392, 0.9539661, 0.100878656, 0.89912134, 0.971564, 0.028436005],
        of_two_probabilities: [0.93906546, 0.060934484, 0.87407684, 0.12592302, 0.022278022, 0.9777219],
        values: [2.78125, 1.9375, -3.78125],
    },
    ByKernel {
        kernel: "POLY",
        labels: [4, 9, 5],
        scores: [
            0.6029663,
            -0.1694336,
            0.5299072,
            1.1416016,
            -2.1036377,
            -0.21734619,
            -0.21038818,
            -1.2122803,
            0.8031616,
        ],
        probabilities: [
            0.33483937, 0.3374744, 0.32768622, 0.12873429, 0.3086976, 0.5625682, 0.13694161, 0.49354395,
            0.3695145,
        ],
        of_two: ["no", "no", "yes"],
        of_two_scores: [-0.8217163, 0.8217163, -1.2415771, 1.2415771, 1.5476685, -1.5476685],
        of_two_logistic: [0.30539948, 0.6946005, 0.22416157, 0.77583843, 0.82457674, 0.17542326],
        of_two_probabilities: [0.63734955, 0.36265036, 0.72939926, 0.27060074, 0.14200611, 0.85799384],
        values: [0.5717163, 0.99157715, -1.7976685],
    },
    ByKernel {
        kernel: "RBF",
        labels: [4, 4, 4],
        scores: [
            1.0990344,
            -0.8223416,
            0.6212642,
            0.48490354,
            -0.8495961,
            0.105447955,
            0.029693224,
            -0.63818896,
            0.65307593,
        ],
        probabilities: [
            0.23705152, 0.33012977, 0.43281862, 0.19320439, 0.35994023, 0.44685534, 0.20097016, 0.43489474,
            0.36413518,
        ],
        of_two: ["no", "no", "yes"],
        of_two_scores: [-1.041433, 1.041433, -0.46488577, 0.46488577, 0.4722978, -0.4722978],
        of_two_logistic: [0.26087362, 0.7391264, 0.38582742, 0.6141726, 0.61592746, 0.38407254],
        of_two_probabilities: [0.688139, 0.31186104, 0.55345845, 0.4465415, 0.32688716, 0.67311287],
        values: [0.7914329, 0.21488577, -0.7222978],
    },
    ByKernel {
        kernel: "SIGMOID",
        labels: [4, 9, 5],
        scores: [
            0.9488733,
            -0.3616727,
            0.53186905,
            0.8489981,
            -1.0622437,
            -0.43666005,
            -0.5234894,
            -0.39318237,
            0.15269952,
        ],
        probabilities: [
            0.3169806, 0.30986643, 0.37315294, 0.16823746, 0.3000206, 0.5317419, 0.18589962, 0.44107345,
            0.37302694,
        ],
        of_two: ["no", "no", "yes"],
        of_two_scores: [-1.3889071, 1.3889071, -0.9161263, 0.9161263, 1.3191875, -1.3191875],
        of_two_logistic: [0.19958228, 0.8004177, 0.28574783, 0.7142522, 0.78904647, 0.21095353],
        of_two_probabilities: [0.75747883, 0.24252117, 0.6578029, 0.3421971, 0.17225716, 0.8277429],
        values: [1.1389072, 0.66612625, -1.5691874],
    },
];

const LINEAR_LABELS: [i64; 3] = [9, 4, 5];
const LINEAR_SCORES: [f32; 9] = [-1.0, -0.5, 2.625, 3.0, -1.375, 0.5, 0.5, 2.375, -1.375];
const LINEAR_SOFTMAX: [f32; 9] = [
    0.024892064,
    0.041040078,
    0.9340678,
    0.9135147,
    0.011499453,
    0.074985854,
    0.13030718,
    0.8497096,
    0.019983254,
];

fn rows() -> Tensor {
    tensor2(&[[0.5_f32, -1.0], [2.0, 0.25], [-1.5, 0.75]])
}

/// The attributes of all machines here, with those of one of them.
fn with(kernel: &str, more: &[AttributeProto]) -> Vec<AttributeProto> {
    let mut all = vec![
        floats("support_vectors", &VECTORS),
        string("kernel_type", kernel),
        floats("kernel_params", &[0.5, 0.25, 3.0]),
    ];
    all.extend_from_slice(more);
    all
}

fn of_three(kernel: &str, more: &[AttributeProto]) -> Vec<AttributeProto> {
    let mut all = with(kernel, more);
    all.push(ints("classlabels_ints", &[4, 5, 9]));
    all.push(ints("vectors_per_class", &[2, 1, 2]));
    all.push(floats("coefficients", &COEFFICIENTS));
    all.push(floats("rho", &[0.125, -0.25, 0.0625]));
    all
}

fn of_two(kernel: &str, more: &[AttributeProto]) -> Vec<AttributeProto> {
    let mut all = with(kernel, more);
    all.push(strings("classlabels_strings", &["no", "yes"]));
    all.push(ints("vectors_per_class", &[2, 3]));
    all.push(floats("coefficients", &COEFFICIENTS[..5]));
    all.push(floats("rho", &[0.125]));
    all
}

fn regressor(kernel: &str, more: &[AttributeProto]) -> Vec<AttributeProto> {
    let mut all = with(kernel, more);
    all.push(int("n_supports", 5));
    all.push(floats("coefficients", &COEFFICIENTS[..5]));
    all.push(floats("rho", &[-0.125]));
    all
}

fn run(name: &str, attributes: &[AttributeProto], input: Tensor) -> TractResult<Vec<Tensor>> {
    Trial::new(Domain::Ml, name, attributes).run(&[Some(input)])
}

/// Runs a classifier on [`rows`]; the labels and the scores.
fn classes(attributes: &[AttributeProto]) -> (Tensor, Tensor) {
    let outputs = run("SVMClassifier", attributes, rows()).unwrap();
    let [labels, scores] = outputs.try_into().unwrap();
    (labels, scores)
}

#[track_caller]
fn near(made: &Tensor, expected: &[f32]) {
    let plain = made.try_as_plain_ram().unwrap();
    let made = plain.as_slice::<f32>().unwrap();
    assert_eq!(made.len(), expected.len());
    for (made, expected) in made.iter().zip(expected) {
        assert!((made - expected).abs() <= 2e-6 * expected.abs().max(1.0), "{made}: expected {expected}");
    }
}

fn words(all: &[&str]) -> Tensor {
    tensor1(&all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

#[test]
fn three_classes_get_the_votes_and_scores_of_their_pairs_or_coupled_probabilities() {
    let sigmoids = [floats("prob_a", &[-1.0, -2.0, -0.5]), floats("prob_b", &[0.25, 0.0, -0.125])];
    for expected in &BY_ONNXRUNTIME {
        let (labels, scores) = classes(&of_three(expected.kernel, &[]));
        assert_eq!(labels, tensor1(&expected.labels), "{}", expected.kernel);
        near(&scores, &expected.scores);
        let (labels, scores) = classes(&of_three(expected.kernel, &sigmoids));
        assert_eq!(labels, tensor1(&expected.labels), "{}", expected.kernel);
        near(&scores, &expected.probabilities);
    }
}

#[test]
fn two_classes_get_a_score_and_its_negative_or_probabilities() {
    let sigmoids = [floats("prob_a", &[-1.0]), floats("prob_b", &[0.25])];
    for expected in &BY_ONNXRUNTIME {
        for (more, scores) in [
            (&[][..], &expected.of_two_scores),
            (&[string("post_transform", "LOGISTIC")], &expected.of_two_logistic),
            (&sigmoids, &expected.of_two_probabilities),
        ] {
            let (labels, made) = classes(&of_two(expected.kernel, more));
            assert_eq!(labels, words(&expected.of_two), "{}", expected.kernel);
            assert_eq!(made.shape(), [3, 2]);
            near(&made, scores);
        }
    }
}

#[test]
fn a_regressor_gives_a_score_and_one_class_its_sign() {
    for expected in &BY_ONNXRUNTIME {
        let values = run("SVMRegressor", &regressor(expected.kernel, &[]), rows()).unwrap();
        assert_eq!(values[0].shape(), [3, 1]);
        near(&values[0], &expected.values);
        let signs = run("SVMRegressor", &regressor(expected.kernel, &[int("one_class", 1)]), rows()).unwrap();
        assert_eq!(signs[0], tensor2(&expected.values.map(|value| [value.signum()])));
    }
    let linear = [floats("coefficients", &[1.0, -2.0]), floats("rho", &[0.25])];
    let values = run("SVMRegressor", &linear, rows()).unwrap();
    assert_eq!(values[0], tensor2(&[[2.75_f32], [1.75], [-2.75]]));
    // A score of 0 is not positive.
    let none = [floats("coefficients", &[1.0, 1.0]), floats("rho", &[0.0]), int("one_class", 1)];
    assert_eq!(run("SVMRegressor", &none, tensor1(&[1.0_f32, -1.0])).unwrap()[0], tensor2(&[[-1.0_f32]]));
}

#[test]
fn three_classes_without_support_vectors_have_a_score_each() {
    let attributes = |more: &[AttributeProto]| {
        let mut all = more.to_vec();
        all.push(floats("coefficients", &[1.0, 2.0, -1.0, 0.5, 0.25, -2.0]));
        all.push(ints("classlabels_ints", &[4, 5, 9]));
        all.push(floats("rho", &[0.5]));
        all
    };
    let (labels, scores) = classes(&attributes(&[]));
    assert_eq!(labels, tensor1(&LINEAR_LABELS));
    near(&scores, &LINEAR_SCORES);
    let (labels, scores) = classes(&attributes(&[string("post_transform", "SOFTMAX")]));
    assert_eq!(labels, tensor1(&LINEAR_LABELS));
    near(&scores, &LINEAR_SOFTMAX);
}

#[test]
fn a_list_is_one_row_and_other_numbers_are_as_fp32() {
    let expected = run("SVMRegressor", &regressor("RBF", &[]), tensor2(&[[2.0_f32, -1.0]])).unwrap();
    for input in [
        tensor1(&[2.0_f32, -1.0]),
        tensor2(&[[2.0_f64, -1.0]]),
        tensor2(&[[2_i64, -1]]),
        tensor2(&[[2_i32, -1]]),
    ] {
        assert_eq!(run("SVMRegressor", &regressor("RBF", &[]), input).unwrap(), expected);
    }
    assert!(run("SVMRegressor", &regressor("RBF", &[]), tensor2(&[[true, false]])).is_err());
    let none = run("SVMClassifier", &of_two("RBF", &[]), Tensor::zero::<f32>(&[0, 2]).unwrap()).unwrap();
    assert_eq!((none[0].shape(), none[1].shape()), (&[0][..], &[0, 2][..]));
}

#[test]
fn a_row_of_another_width_is_an_error_of_the_request() {
    for (name, attributes) in
        [("SVMClassifier", of_three("RBF", &[])), ("SVMRegressor", regressor("POLY", &[]))]
    {
        for width in [0, 1, 3] {
            let error = run(name, &attributes, Tensor::zero::<f32>(&[2, width]).unwrap()).unwrap_err();
            let error = error.downcast_ref::<RequestError>();
            assert!(error.is_some_and(|error| error.code == Code::InvalidRequest));
        }
    }
}

#[test]
fn attributes_that_do_not_fit_together_are_refused() {
    // Replaces an attribute of a machine that is accepted.
    let refused = |name: &str, attributes: Vec<AttributeProto>, other: AttributeProto| {
        assert!(run(name, &attributes, rows()).is_ok());
        let mut attributes = attributes;
        attributes.retain(|attribute| attribute.name != other.name);
        attributes.push(other.clone());
        assert!(run(name, &attributes, rows()).is_err(), "{name} {other:?}");
    };
    for other in [
        ints("classlabels_ints", &[4, 5]),
        ints("vectors_per_class", &[2, 1]),
        ints("vectors_per_class", &[2, -1, 4]),
        ints("vectors_per_class", &[i64::MAX, i64::MAX, 7]),
        floats("coefficients", &COEFFICIENTS[..9]),
        floats("rho", &[0.125, -0.25]),
        floats("prob_a", &[1.0; 3]),
        floats("support_vectors", &VECTORS[..9]),
        floats("support_vectors", &[]),
        floats("kernel_params", &[0.5, 0.25]),
        floats("kernel_params", &[0.5, 0.25, 2.5]),
        string("kernel_type", "COSINE"),
        string("post_transform", "TANH"),
        strings("classlabels_strings", &["a", "b", "c"]),
    ] {
        refused("SVMClassifier", of_three("POLY", &[]), other);
    }
    for transform in ["SOFTMAX", "SOFTMAX_ZERO", "PROBIT"] {
        refused("SVMClassifier", of_two("RBF", &[]), string("post_transform", transform));
    }
    for other in [
        int("n_supports", 4),
        int("n_supports", 0),
        int("n_supports", -1),
        floats("rho", &[]),
        string("post_transform", "LOGISTIC"),
        floats("support_vectors", &VECTORS[..8]),
    ] {
        refused("SVMRegressor", regressor("RBF", &[]), other);
    }
    // Two labels without support vectors, and a single label.
    for labels in [&[1][..], &[1, 2]] {
        let linear =
            [floats("coefficients", &[1.0; 4]), floats("rho", &[0.0]), ints("classlabels_ints", labels)];
        assert!(run("SVMClassifier", &linear, rows()).is_err());
    }
    assert!(run("SVMRegressor", &[float("rho", 1.0)], rows()).is_err());
}
