//! `Dropout` as models are served: its output is its input, and its mask is true everywhere.
//!
//! A node that would drop elements at random is refused: the training mode with a ratio above 0.

use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator};
use super::{Built, built};

/// The remedy for a node in training mode.
const REMEDY: &str = "export the model in inference mode (in PyTorch: `model.eval()`)";

/// The operator.
#[derive(Debug)]
struct Dropout {
    /// Whether the mask has the type of the input (before version 10), and not BOOL.
    typed_mask: bool,
    /// The ratio if the inputs do not say it.
    has_mode: bool,
}

/// Builds a `Dropout` from its node.
pub fn dropout(attributes: &Attributes) -> Built {
    let version = attributes.version();
    if (1..7).contains(&version)
        && !attributes.flag("is_test", false)?
        && attributes.float("ratio", 0.5)? != 0.0
    {
        return Err(attributes.wrong(format!("`is_test` is 0, so it drops elements at random: {REMEDY}")));
    }
    built(Dropout { typed_mask: (1..10).contains(&version), has_mode: version >= 12 || version == 0 })
}

/// Whether the node is one that tract removes: it has one output, and does not depend on other inputs.
pub fn is_plain(attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
    let outputs = attributes.node.output.iter().filter(|name| !name.is_empty()).count();
    match inputs.len() == 1 && outputs == 1 && attributes.version() >= 7 {
        true => Ok(()),
        false => Err("it has a mask, a ratio or a training mode".into()),
    }
}

impl Operator for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "data")?;
        if inputs.len() > 1 && !self.has_mode {
            return Err(TractError::msg(format!("it has {} inputs: expected 1", inputs.len())));
        }
        if let Some(mode) = inputs.optional(2) {
            let Some(mode) = &mode.value else {
                return Err(TractError::msg(format!(
                    "its input `training_mode` is not constant, so it may drop elements at random: {REMEDY}"
                )));
            };
            let ratio = match inputs.optional(1) {
                None => Some(0.5),
                Some(ratio) => ratio.value.as_ref().map(|ratio| ratio.cast_to_scalar::<f32>()).transpose()?,
            };
            if mode.cast_to_scalar::<bool>()? && ratio != Some(0.0) {
                return Err(TractError::msg(format!(
                    "its input `training_mode` is true, so it drops elements at random: {REMEDY}"
                )));
            }
        }
        let mask = if self.typed_mask { input.datum_type } else { bool::datum_type() };
        Ok(tvec![Kind::new(input.datum_type, input.shape.clone()), Kind::new(mask, input.shape.clone())])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "data")?;
        let mask = Tensor::from_shape(input.shape(), &vec![true; input.len()])?;
        let mask = if self.typed_mask { mask.cast_to_dt(input.datum_type())?.into_owned() } else { mask };
        Ok(tvec![input.clone(), mask])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Domain;
    use super::super::super::operator::elements;
    use super::super::super::trial::{Trial, int};
    use super::*;

    #[test]
    fn the_mask_is_true_everywhere() {
        let trial = Trial::new(Domain::Onnx, "Dropout", &[]).outputs(2);
        let output = trial.run(&[Some(tensor1(&[1_f32, 2.0])), Some(tensor0(0.9_f32))]).unwrap();
        assert_eq!(elements::<f32>(&output[0]).unwrap(), [1.0, 2.0]);
        assert_eq!(elements::<bool>(&output[1]).unwrap(), [true, true]);
        let output = trial.version(7).run(&[Some(tensor1(&[1_f32, 2.0]))]).unwrap();
        assert_eq!(elements::<f32>(&output[1]).unwrap(), [1.0, 1.0]);
    }

    #[test]
    fn the_training_mode_is_refused() {
        let late = LateLengths::new(Default::default());
        let operator = Dropout { typed_mask: false, has_mode: true };
        let kind = |tensor: Tensor| Kind::of(tensor.into_arc_tensor());
        let (data, yes) = (kind(tensor1(&[1_f32])), kind(tensor0(true)));
        let (half, none) = (kind(tensor0(0.5_f32)), kind(tensor0(0_f32)));
        let outputs = |ratio, mode| operator.outputs(&Inputs(tvec![Some(&data), ratio, Some(mode)]), &late);
        assert!(outputs(Some(&half), &yes).unwrap_err().to_string().contains("model.eval()"));
        assert!(outputs(None, &yes).is_err());
        assert!(outputs(Some(&none), &yes).is_ok());
        let open = Kind { value: None, ..yes.clone() };
        assert!(outputs(Some(&half), &open).unwrap_err().to_string().contains("not constant"));
    }

    #[test]
    #[should_panic(expected = "is_test")]
    fn an_old_node_that_is_not_in_test_mode_is_refused() {
        let trial = Trial::new(Domain::Onnx, "Dropout", &[int("is_test", 0)]).version(6);
        trial.run(&[Some(tensor1(&[1_f32]))]).unwrap();
    }
}
