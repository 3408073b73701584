//! `ConvTranspose` in FP32 with constant weights, whose windows neither overlap nor leave gaps: two axes, strides as long as the
//! filter, no padding. Each number of the input becomes a block of the result.
//!
//! So it is a product of the weights with all places of the input, by the kernels of convolutions, whose rows are then put
//! between each other. The operators after it are done before that.

use std::sync::Arc;

use onnxd_kernels::after::After;
use onnxd_kernels::conv::{Axis, Filters};
use onnxd_kernels::functions::Function;
use onnxd_kernels::rows::interleave;
use onnxd_kernels::tensor::written;
use tract_onnx::prelude::*;

use super::super::attributes::Attributes;
use super::super::operator::{Inputs, Kind, LateLengths, Operator, Step, elements};
use super::window::{Padding, Window};

/// The operator.
#[derive(Debug, Clone)]
struct Spread {
    /// A channel for each row of a block, channel of the result, and place in the row, in this order.
    filters: Arc<Filters>,
    /// The channels of the result.
    made: usize,
    /// The height and width of a block.
    block: [usize; 2],
    then: TVec<Function>,
}

/// Whether a `ConvTranspose` has this form.
pub fn is_spread(attributes: &Attributes, inputs: &Inputs<Kind>) -> bool {
    let is_plain = !attributes.has("output_padding") && !attributes.has("output_shape");
    let is_one_group = attributes.int("group", 1).is_ok_and(|group| group == 1);
    let window = Window::read(attributes);
    is_plain && is_one_group && window.is_ok_and(|window| weights(&window, inputs).is_some())
}

/// The constant weights `[channels of the input, channels of the result, height, width]`, if the form fits.
fn weights<'a>(window: &Window, inputs: &Inputs<'a, Kind>) -> Option<&'a Tensor> {
    let are_single = inputs.0.iter().flatten().all(|kind| kind.datum_type == DatumType::F32);
    let is_bias_open = inputs.optional(2).is_some_and(|bias| bias.value.is_none());
    let weights = inputs.optional(1)?.value.as_deref()?;
    let [_, _, lengths @ ..] = weights.shape() else { return None };
    let is_block = |axis: usize| {
        let is_covered = window.stride(axis) as usize == lengths[axis] && window.dilation(axis) == 1;
        is_covered && window.explicit(axis) == (0, 0)
    };
    let is_written = matches!(window.padding, Padding::Explicit(_));
    let fits = lengths.len() == 2 && weights.len() > 0 && is_written && (0..2).all(is_block);
    let has_batch_and_channels = inputs.optional(0)?.rank() == 4;
    Some(weights).filter(|_| fits && are_single && !is_bias_open && has_batch_and_channels)
}

/// The operator with packed weights. The inputs are checked. `None`: the form does not fit.
pub fn prepared(window: &Window, inputs: &Inputs<Kind>) -> TractResult<Option<Arc<dyn Operator>>> {
    let Some(value) = weights(window, inputs) else { return Ok(None) };
    let &[read, made, height, width] = value.shape() else { return Ok(None) };
    let numbers = elements::<f32>(value)?;
    let mut turned = Vec::with_capacity(numbers.len());
    for y in 0..height {
        for (channel, x) in (0..made).flat_map(|channel| (0..width).map(move |x| (channel, x))) {
            let first = (channel * height + y) * width + x;
            turned.extend(numbers[first..].iter().step_by(made * height * width));
        }
    }
    let block = [height, width];
    let bias = inputs.optional(2).and_then(|bias| bias.value.as_ref());
    let bias = bias.map(|bias| TractResult::Ok(of_filters(elements::<f32>(bias)?, block))).transpose()?;
    let filters = Filters::new(1, made * height * width, read, &turned, bias.as_deref());
    Ok(Some(Arc::new(Spread { filters: Arc::new(filters), made, block, then: tvec![] })))
}

/// Numbers of the channels, for each filter.
fn of_filters(channels: &[f32], [height, width]: [usize; 2]) -> Vec<f32> {
    let row = channels.iter().flat_map(|number| std::iter::repeat_n(*number, width));
    std::iter::repeat_n(row, height).flatten().collect()
}

impl Operator for Spread {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, _: &LateLengths) -> TractResult<TVec<Kind>> {
        let [batch, _, height, width] = &inputs.required(0, "X")?.shape[..] else {
            return Err(TractError::msg("its input has other axes: expected 4"));
        };
        let (height, width) = (height.clone() * self.block[0], width.clone() * self.block[1]);
        Ok(tvec![Kind::new(DatumType::F32, [batch.clone(), self.made.into(), height, width])])
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
                if self.then.is_empty() && factors.len() == self.made =>
            {
                let (factors, offsets) = (of_filters(factors, self.block), of_filters(offsets, self.block));
                more.filters = Arc::new(self.filters.scaled(&factors, &offsets));
            }
            Step::Function(function) => more.then.push(*function),
            _ => return None,
        }
        Some(Arc::new(more))
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "X")?;
        let &[batch, channels, height, width] = input.shape() else {
            return Err(TractError::msg("its input has other axes: expected 4"));
        };
        if channels != self.filters.input_channels() {
            return Err(TractError::msg(format!(
                "its input has {channels} channels, but its weights are for {}",
                self.filters.input_channels()
            )));
        }
        let [block_height, block_width] = self.block;
        let size = height * width;
        let axis = Axis { input: size, output: size, kernel: 1, stride: 1, dilation: 1, before: 0 };
        let numbers = elements::<f32>(input)?;
        let after = After { first: &self.then, ..After::default() };
        let product = written(&[batch, self.filters.output_channels(), size], |to| {
            self.filters.run(&[axis], numbers, to, after);
        })?;
        let product = elements::<f32>(&product)?;
        let shape = [batch, self.made, height * block_height, width * block_width];
        let output = written(&shape, |to| {
            for (row, to) in to.chunks_exact_mut((width * block_width).max(1)).enumerate() {
                let (plane, y) = (row / (height * block_height), row % (height * block_height));
                let (item, channel) = (plane / self.made, plane % self.made);
                let filter = ((item * block_height + y % block_height) * self.made + channel) * block_width;
                interleave(&product[filter * size + y / block_height * width..], size, block_width, to);
            }
        })?;
        Ok(tvec![output])
    }
}
