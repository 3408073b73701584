//! Operators of `ai.onnx.ml`: classic models and the steps before them, as scikit-learn and others export them.
//!
//! They follow the ONNX standard, and onnxruntime where the standard leaves something open.

mod categories;
mod features;
mod linear;
mod lookup;
mod svm;
#[cfg(test)]
mod tests;
mod transform;
mod trees;
mod vectorizer;

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::attributes::Attributes;
use super::entry::Entry;
use super::operator::Operator;

/// What is served.
pub const TABLE: &[Entry] = &[
    Entry::ml("ArrayFeatureExtractor", &[]).own(lookup::extractor),
    Entry::ml(
        "LabelEncoder",
        &[
            "keys_int64s",
            "keys_floats",
            "keys_strings",
            "keys_tensor",
            "values_int64s",
            "values_floats",
            "values_strings",
            "values_tensor",
            "default_int64",
            "default_float",
            "default_string",
            "default_tensor",
        ],
    )
    .own(lookup::encoder),
    Entry::ml("Binarizer", &["threshold"]).own(features::binarizer),
    Entry::ml(
        "Imputer",
        &["imputed_value_floats", "imputed_value_int64s", "replaced_value_float", "replaced_value_int64"],
    )
    .own(features::imputer),
    Entry::ml("Normalizer", &["norm"]).own(features::normalizer),
    Entry::ml("Scaler", &["offset", "scale"]).own(features::scaler),
    Entry::ml(
        "LinearClassifier",
        &[
            "classlabels_ints",
            "classlabels_strings",
            "coefficients",
            "intercepts",
            "multi_class",
            "post_transform",
        ],
    )
    .own(linear::classifier),
    Entry::ml("LinearRegressor", &["coefficients", "intercepts", "post_transform", "targets"])
        .own(linear::regressor),
    Entry::ml(
        "SVMClassifier",
        &[
            "classlabels_ints",
            "classlabels_strings",
            "coefficients",
            "kernel_params",
            "kernel_type",
            "post_transform",
            "prob_a",
            "prob_b",
            "rho",
            "support_vectors",
            "vectors_per_class",
        ],
    )
    .own(svm::classifier),
    Entry::ml(
        "SVMRegressor",
        &[
            "coefficients",
            "kernel_params",
            "kernel_type",
            "n_supports",
            "one_class",
            "post_transform",
            "rho",
            "support_vectors",
        ],
    )
    .own(svm::regressor),
    Entry::ml("OneHotEncoder", &["cats_int64s", "cats_strings", "zeros"]).own(categories::one_hot),
    Entry::ml("CategoryMapper", &["cats_int64s", "cats_strings", "default_int64", "default_string"])
        .own(categories::mapper),
    Entry::ml("FeatureVectorizer", &["inputdimensions"]).own(vectorizer::vectorizer),
    Entry::ml("TreeEnsembleClassifier", trees::CLASSIFIER_ATTRIBUTES).own(trees::classifier),
    Entry::ml("TreeEnsembleRegressor", trees::REGRESSOR_ATTRIBUTES).own(trees::regressor),
    Entry::ml("TreeEnsemble", trees::ENSEMBLE_ATTRIBUTES).own(trees::ensemble),
];

/// What the functions that build an operator return.
type Built = TractResult<Arc<dyn Operator>>;

fn built(operator: impl Operator) -> Built {
    Ok(Arc::new(operator))
}

/// The labels of a classifier's classes.
#[derive(Debug, Clone)]
pub enum Labels {
    /// Integers.
    Numbers(Vec<i64>),
    /// Strings.
    Words(Vec<String>),
}

impl Labels {
    /// Reads the labels from one of two attributes. It is an error when both are there, or none.
    pub fn read(attributes: &Attributes, numbers: &str, words: &str) -> TractResult<Labels> {
        let (ints, strings) = (attributes.ints(numbers)?, attributes.strings(words)?);
        match (ints.is_empty(), strings.is_empty()) {
            (false, true) => Ok(Labels::Numbers(ints.to_vec())),
            (true, false) => Ok(Labels::Words(strings)),
            _ => Err(attributes.wrong(format!("expected one of `{numbers}` and `{words}`"))),
        }
    }

    /// The number of classes.
    pub fn len(&self) -> usize {
        match self {
            Labels::Numbers(all) => all.len(),
            Labels::Words(all) => all.len(),
        }
    }

    /// The bytes of the longest label. 0 for integers.
    pub fn longest_text(&self) -> usize {
        match self {
            Labels::Numbers(_) => 0,
            Labels::Words(all) => all.iter().map(String::len).max().unwrap_or(0),
        }
    }

    /// The type of the tensor that [`Labels::of`] makes.
    pub fn datum_type(&self) -> DatumType {
        match self {
            Labels::Numbers(_) => DatumType::I64,
            Labels::Words(_) => DatumType::String,
        }
    }

    /// The labels of the given classes, `[classes.len()]`. A class is an index in the list of labels.
    pub fn of(&self, classes: &[usize]) -> TractResult<Tensor> {
        let missing = || TractError::msg("a class has no label");
        Ok(match self {
            Labels::Numbers(all) => {
                let labels: Option<Vec<i64>> = classes.iter().map(|class| all.get(*class).copied()).collect();
                tensor1(&labels.ok_or_else(missing)?)
            }
            Labels::Words(all) => {
                let labels: Option<Vec<String>> =
                    classes.iter().map(|class| all.get(*class).cloned()).collect();
                tensor1(&labels.ok_or_else(missing)?)
            }
        })
    }
}
