//! `Conv` in FP32 with constant weights, by the kernels. The operators after it are done while it stores its result: batch
//! normalization, an activation, and the sum with another tensor.
//!
//! Measured on one core with AVX-512, tract's operator and then this one, as multiples of onnxruntime's time: a network of
//! small convolutions 7.0 and 1.7, a U-Net 3.5 and 1.4, a ResNet-18 1.8 and 1.4.

use std::sync::Arc;

use onnxd_kernels::conv::{AXES, Axis, Filters};
use onnxd_kernels::tensor::written;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::DimLike;

use super::super::attributes::Attributes;
use super::super::following::Following;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Step, elements};
use super::window::{self, Window, kernel};

/// The operator.
#[derive(Debug, Clone)]
struct Fast {
    window: Window,
    /// The lengths of a filter.
    kernel: TVec<usize>,
    filters: Arc<Filters>,
    following: Following,
    /// The windows, if the input has no open lengths.
    axes: Option<TVec<Axis>>,
}

/// Whether a `Conv` has the form that the kernels compute.
pub fn is_fast(attributes: &Attributes, inputs: &Inputs<Kind>) -> bool {
    Window::read(attributes).is_ok_and(|window| weights(&window, inputs).is_some())
}

/// The constant weights of a `Conv` in FP32 that cuts nothing off, has a constant bias or none, and not too many axes.
fn weights<'a>(window: &Window, inputs: &Inputs<'a, Kind>) -> Option<&'a Tensor> {
    let are_single = inputs.0.iter().flatten().all(|kind| kind.datum_type == DatumType::F32);
    let is_bias_open = inputs.optional(2).is_some_and(|bias| bias.value.is_none());
    let weights = inputs.optional(1)?.value.as_deref()?;
    let fits = (3..=2 + AXES).contains(&weights.rank()) && weights.len() > 0;
    Some(weights).filter(|_| fits && are_single && !is_bias_open && !is_cut(window))
}

/// The operator with packed weights. `None`: it does not have the form that the kernels compute. The inputs are checked.
pub fn prepared(
    window: &Window,
    group: usize,
    inputs: &Inputs<Kind>,
) -> TractResult<Option<Arc<dyn Operator>>> {
    let Some(value) = weights(window, inputs) else { return Ok(None) };
    let (input, weights, bias) = (inputs.required(0, "X")?, inputs.required(1, "W")?, inputs.optional(2));
    let (made, read) = (value.shape()[0], value.shape()[1]);
    let bias = bias.and_then(|bias| bias.value.as_ref()).map(|bias| elements::<f32>(bias)).transpose()?;
    let kernel = kernel(window, &weights.shape)?;
    let lengths: Option<TVec<usize>> = input.shape[2..].iter().map(|length| length.to_usize().ok()).collect();
    let axes =
        lengths.map(|lengths| Ok::<_, TractError>(axes(&window.axes(&kernel, &lengths)?))).transpose()?;
    let filters = Filters::new(group, made, read, elements(value)?, bias);
    let fits = axes.as_ref().is_none_or(|axes| filters.fits(axes));
    let (filters, following) = (Arc::new(filters), Following::default());
    let fast = Fast { window: window.clone(), kernel, filters, following, axes };
    Ok(if fits { Some(Arc::new(fast)) } else { None })
}

/// The windows in the form that the kernels take. There are at most [`AXES`], and nothing is cut off.
pub fn axes(axes: &[window::Axis]) -> TVec<Axis> {
    let axis = |axis: &window::Axis| Axis {
        input: axis.input,
        output: axis.output,
        kernel: axis.kernel,
        stride: axis.stride,
        dilation: axis.dilation,
        before: axis.before as usize,
    };
    axes.iter().map(axis).collect()
}

/// Checks that the kernels said that the memory which they need is in proportion to the input.
pub fn expect_fitting(fits: bool) -> TractResult<()> {
    match fits {
        true => Ok(()),
        false => Err(TractError::msg(
            "its strides, dilations or padding are much longer than its input: expected a longer input",
        )),
    }
}

/// Whether windows cut off the beginning of the input, which the kernels do not compute.
pub fn is_cut(window: &Window) -> bool {
    (0..AXES).any(|axis| window.explicit(axis).0 < 0)
}

impl Fast {
    /// The windows for an input of these lengths.
    fn axes(&self, lengths: &[usize]) -> TractResult<TVec<Axis>> {
        Ok(axes(&self.window.axes(&self.kernel, lengths)?))
    }

    fn check_channels(&self, channels: usize) -> TractResult<()> {
        match self.filters.input_channels() {
            read if read == channels => Ok(()),
            read => Err(TractError::msg(format!(
                "its input has {channels} channels, but its weights are for {read}"
            ))),
        }
    }
}

impl Operator for Fast {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "X")?;
        let [batch, channels, lengths @ ..] = &input.shape[..] else {
            return Err(TractError::msg("its input has less than 3 axes: expected 3 or more"));
        };
        if let Ok(channels) = channels.to_usize() {
            self.check_channels(channels)?;
        }
        let lengths = self.window.lengths(&self.kernel, lengths)?;
        let shape = [batch.clone(), self.filters.output_channels().to_dim()].into_iter().chain(lengths);
        Ok(tvec![Kind::new(DatumType::F32, shape)])
    }

    fn needs(&self, input: usize) -> bool {
        input == 0
    }

    fn weight_bytes(&self) -> usize {
        self.filters.bytes()
    }

    fn then(&self, step: &Step) -> Option<Arc<dyn Operator>> {
        let mut more = self.clone();
        match step {
            Step::Scale { axis: 1, factors, offsets }
                if self.following.is_nothing() && factors.len() == self.filters.output_channels() =>
            {
                more.filters = Arc::new(self.filters.scaled(factors, offsets));
            }
            other => more.following = self.following.with(other)?,
        }
        Some(Arc::new(more))
    }

    fn faster(&self) -> Option<Arc<dyn Operator>> {
        let filters = Arc::new(self.filters.faster(self.axes.as_ref()?)?);
        Some(Arc::new(Fast { filters, ..self.clone() }))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "X")?;
        let [batch, channels, lengths @ ..] = input.shape() else {
            return Err(TractError::msg("its input has less than 3 axes: expected 3 or more"));
        };
        self.check_channels(*channels)?;
        let axes = match &self.axes {
            Some(axes) if axes.iter().zip(lengths).all(|(axis, length)| axis.input == *length) => {
                axes.clone()
            }
            _ => self.axes(lengths)?,
        };
        expect_fitting(self.filters.fits(&axes))?;
        let made = axes.iter().map(|axis| axis.output);
        let shape: TVec<usize> = [*batch, self.filters.output_channels()].into_iter().chain(made).collect();
        let after = self.following.after(inputs, &shape)?;
        let input = elements(input)?;
        Ok(tvec![written(&shape, |output| self.filters.run(&axes, input, output, after))?])
    }
}
