//! `Col2Im`: adds the columns of blocks back to an image.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, ToDim};

use super::super::attributes::Attributes;
use super::super::numbers::{Number, on_numbers};
use super::super::operator::{Inputs, Kind, LateLengths, Operator, elements};
use super::Built;
use super::axes::{Ints, invalid, late, lengths_of, strides};

#[derive(Debug)]
struct Col2Im {
    dilations: Vec<i64>,
    pads: Vec<i64>,
    strides: Vec<i64>,
}

/// Builds a `Col2Im` from its node.
pub fn col2im(attributes: &Attributes) -> Built {
    let ints = |name: &str| Ok::<Vec<i64>, TractError>(attributes.ints(name)?.to_vec());
    let (dilations, pads, strides) = (ints("dilations")?, ints("pads")?, ints("strides")?);
    if dilations.iter().chain(&strides).any(|number| *number < 1) || pads.iter().any(|pad| *pad < 0) {
        return Err(
            attributes.wrong("expected 1 or more in `dilations` and `strides`, and 0 or more in `pads`")
        );
    }
    if [&dilations, &pads, &strides].into_iter().flatten().any(|number| *number > 1 << 30) {
        return Err(attributes.wrong("a number in `dilations`, `pads` or `strides` is too large"));
    }
    Ok(Arc::new(Col2Im { dilations, pads, strides }))
}

/// The blocks along one axis of the image.
#[derive(Debug, Clone, Copy)]
struct Line {
    image: usize,
    block: usize,
    dilation: usize,
    /// The number of elements before the image.
    before: usize,
    stride: usize,
    /// The number of blocks.
    count: usize,
}

impl Line {
    /// The place in the image of element `inside` of block `at`. `None` outside of the image.
    fn place(&self, at: usize, inside: usize) -> Option<usize> {
        (at * self.stride + inside * self.dilation)
            .checked_sub(self.before)
            .filter(|place| *place < self.image)
    }
}

impl Col2Im {
    fn lines(&self, image: &[usize], block: &[usize]) -> TractResult<Vec<Line>> {
        let axes = image.len();
        let fits = |list: &[i64], count: usize| list.is_empty() || list.len() == count;
        let do_fit = fits(&self.dilations, axes) && fits(&self.strides, axes) && fits(&self.pads, 2 * axes);
        if block.len() != axes || !do_fit || image.iter().chain(block).any(|length| *length > 1 << 30) {
            return Err(invalid(format!(
                "`image_shape` {image:?}, `block_shape` {block:?}, `dilations` {:?}, `pads` {:?} and `strides` {:?} do \
                 not fit together",
                self.dilations, self.pads, self.strides
            )));
        }
        let number =
            |list: &[i64], at: usize, default: i64| list.get(at).copied().unwrap_or(default) as usize;
        let line = |at: usize| -> TractResult<Line> {
            let (dilation, stride) = (number(&self.dilations, at, 1), number(&self.strides, at, 1));
            let (before, after) = (number(&self.pads, at, 0), number(&self.pads, at + axes, 0));
            let covered = block[at].checked_sub(1).map(|last| last * dilation + 1);
            let free = covered.and_then(|covered| (image[at] + before + after).checked_sub(covered));
            let free = free.ok_or_else(|| invalid("a block is empty, or larger than the image"))?;
            let count = free / stride + 1;
            Ok(Line { image: image[at], block: block[at], dilation, before, stride, count })
        };
        (0..axes).map(line).collect()
    }

    /// The places in the image for each element of a channel of the input, in its order. `None` outside of the image.
    fn places(lines: &[Line], channel: usize) -> Vec<Option<usize>> {
        let strides = strides(&lines.iter().map(|line| line.image).collect::<Vec<_>>());
        let blocks: usize = lines.iter().map(|line| line.count).product();
        let of = |at: usize| {
            let (mut inside, mut block, mut place) = (at / blocks, at % blocks, Some(0));
            for (line, stride) in lines.iter().zip(&strides).rev() {
                let along = line.place(block % line.count, inside % line.block);
                place = place.zip(along).map(|(place, along)| place + along * stride);
                (inside, block) = (inside / line.block, block / line.count);
            }
            place
        };
        (0..channel).map(of).collect()
    }
}

impl Operator for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn outputs(&self, inputs: &Inputs<Kind>, late_lengths: &LateLengths) -> TractResult<TVec<Kind>> {
        let input = inputs.required(0, "input")?;
        if input.rank() != 3 {
            return Err(TractError::msg(format!("its input has {} axes: expected 3", input.rank())));
        }
        let (image, block) = (Ints::input("image_shape", 1), Ints::input("block_shape", 2));
        let axes = image.count(inputs)?.ok_or_else(|| TractError::msg("`image_shape` is missing"))?;
        let channels = match block.known(inputs)? {
            Some(block) => {
                let block = lengths_of("block_shape", &block)?
                    .iter()
                    .try_fold(1_usize, |all, length| all.checked_mul(*length));
                let block = block.filter(|block| *block > 0);
                let block = block.ok_or_else(|| invalid("`block_shape` is not possible"))?;
                match input.shape[1].to_usize() {
                    Ok(channels) if !channels.is_multiple_of(block) => {
                        return Err(invalid(format!(
                            "its input has {channels} rows, which cannot be divided by blocks of {block}"
                        )));
                    }
                    Ok(channels) => (channels / block).to_dim(),
                    Err(_) => input.shape[1].clone() / block,
                }
            }
            None => late_lengths.length(axes),
        };
        let image = image.sizes(inputs)?.unwrap_or_else(|| late(late_lengths, 0, axes));
        Ok(tvec![Kind::new(input.datum_type, [input.shape[0].clone(), channels].into_iter().chain(image))])
    }

    fn run(&self, inputs: &Inputs<Tensor>) -> TractResult<TVec<Tensor>> {
        let input = inputs.required(0, "input")?;
        let image = lengths_of("image_shape", &Ints::input("image_shape", 1).required(inputs)?)?;
        let block = lengths_of("block_shape", &Ints::input("block_shape", 2).required(inputs)?)?;
        let lines = self.lines(&image, &block)?;
        let [batch, rows, columns] = input.shape()[..] else {
            return Err(TractError::msg(format!("its input has {} axes: expected 3", input.rank())));
        };
        let size: usize = block.iter().product();
        let blocks: usize = lines.iter().map(|line| line.count).product();
        if size == 0 || !rows.is_multiple_of(size) || columns != blocks {
            return Err(invalid(format!(
                "its input has the shape {:?}: expected a multiple of {size} rows and {blocks} columns",
                input.shape()
            )));
        }
        let mut shape: TVec<usize> = tvec![batch, rows / size];
        shape.extend(image.iter().copied());
        let places = Col2Im::places(&lines, size * columns);
        // FP16 has no arithmetic.
        let wide = if input.datum_type() == DatumType::F16 { DatumType::F32 } else { input.datum_type() };
        let wide = input.cast_to_dt(wide)?;
        let output = on_numbers!(wide.datum_type(), T => summed::<T>(&wide, &shape, &places))?;
        Ok(tvec![output.cast_to_dt(input.datum_type())?.into_owned()])
    }
}

/// Adds the elements of each channel to the image at their places.
fn summed<T: Number>(input: &Tensor, shape: &[usize], places: &[Option<usize>]) -> TractResult<Tensor> {
    let image: usize = shape[2..].iter().product();
    let mut output = vec![T::default(); shape.iter().product()];
    if image > 0 && !places.is_empty() {
        let channels = elements::<T>(input)?.chunks_exact(places.len());
        for (image, channel) in output.chunks_exact_mut(image).zip(channels) {
            for (element, place) in channel.iter().zip(places) {
                if let Some(place) = place {
                    image[*place] = image[*place].plus(*element);
                }
            }
        }
    }
    Tensor::from_shape(shape, &output)
}
