//! The sums of a convolution of 8-bit integers with weights of any form. They are exact.
//!
//! Where the processor multiplies 8-bit integers, a kernel does that. A sum of integers in FP32 is exact as long as no partial sum
//! exceeds 2²⁴. So elsewhere the float kernels compute the sums where the weights keep them that small, a part of the channels
//! at a time if necessary. What is left are products of matrices (`copies`).

use std::borrow::Cow;
use std::ops::Range;

use onnxd_kernels::after::After;
use onnxd_kernels::conv::Filters;
use onnxd_kernels::conv::bytes::ByteFilters;
use onnxd_kernels::integer::Matrix;
use onnxd_kernels::quantize::{Stored, add_whole};
use onnxd_kernels::tensor::written;
use tract_onnx::prelude::*;

use super::super::convolution::fast::{axes, expect_fitting};
use super::super::convolution::window::Axis;
use super::super::operator::elements;
use super::copies::products;
use super::product::distances;
use super::steps::with_bytes;

/// Integers up to this size, and sums of them, are exact in FP32.
const EXACT: i64 = 1 << 24;

/// The largest distance of a number of 8 bits from its zero point.
const FARTHEST: i64 = 255;

/// The weights, without their zero points.
#[derive(Debug)]
pub enum Weights {
    /// Filters for parts of the channels of the input, whose sums are exact in FP32.
    Floats(Vec<(Range<usize>, Filters)>),
    /// Filters of bytes.
    Bytes(ByteFilters),
    /// For each group, a matrix with a column for each channel of the output.
    Integers(Vec<Matrix>),
}

/// The sums of some neighbours of a channel.
pub enum Line<'a> {
    /// Whole numbers.
    Whole(&'a [f32]),
    Integers(&'a [i32]),
}

impl Line<'_> {
    /// The number of sums.
    pub fn len(&self) -> usize {
        match self {
            Line::Whole(line) => line.len(),
            Line::Integers(line) => line.len(),
        }
    }
}

impl Weights {
    /// The weights without their zero points, `[made, read, …]`. The windows are not `is_dense` if they have too many axes, or cut
    /// off parts of the input.
    pub fn new(numbers: &[i16], [made, read]: [usize; 2], groups: usize, is_dense: bool) -> Weights {
        let width = numbers.len() / made.max(1);
        let has_elements = !numbers.is_empty();
        if groups == 1
            && is_dense
            && has_elements
            && let Some(filters) = ByteFilters::new(made, read, numbers)
        {
            return Weights::Bytes(filters);
        }
        if is_dense
            && let Some(parts) = exact_parts(numbers, made, read)
            && (parts.len() == 1 || groups == 1)
        {
            let taps = width / read;
            let part = |part: Range<usize>| {
                let lines = numbers.chunks_exact(width);
                let lines = lines.flat_map(|line| &line[part.start * taps..part.end * taps]);
                let weights: Vec<f32> = lines.map(|number| f32::from(*number)).collect();
                let filters = Filters::new(groups, made, part.len(), &weights, None);
                (part, filters)
            };
            return Weights::Floats(parts.into_iter().map(part).collect());
        }
        let rows = made / groups;
        let group = |at: usize| {
            let numbers = &numbers[at * rows * width..(at + 1) * rows * width];
            Matrix::for_bytes(width, rows, |k, row| numbers[row * width + k])
        };
        Weights::Integers((0..groups).map(group).collect())
    }

    /// The channels of the result.
    pub fn channels(&self) -> usize {
        match self {
            Weights::Floats(parts) => parts.first().map_or(0, |(_, filters)| filters.output_channels()),
            Weights::Bytes(filters) => filters.output_channels(),
            Weights::Integers(matrices) => matrices.iter().map(Matrix::width).sum(),
        }
    }

    /// The filters, if they compute all sums as whole numbers.
    pub fn single(&self) -> Option<&Filters> {
        match self {
            Weights::Floats(parts) => match &parts[..] {
                [(_, filters)] => Some(filters),
                _ => None,
            },
            _ => None,
        }
    }

    /// Checks that the memory which the kernels need is in proportion to the input.
    pub fn expect_fitting(&self, along: &[Axis]) -> TractResult<()> {
        match self {
            Weights::Floats(parts) => {
                parts.iter().try_for_each(|(_, filters)| expect_fitting(filters.fits(&axes(along))))
            }
            Weights::Bytes(filters) => expect_fitting(filters.fits(&axes(along))),
            Weights::Integers(_) => Ok(()),
        }
    }

    /// Calls `done` with a channel of the output, where a part of it begins in the output, and the sums of this part, until
    /// all are computed. There are positions.
    pub fn run(
        &self,
        x: &Tensor,
        x_zero: i32,
        along: &[Axis],
        [made, read, groups]: [usize; 3],
        done: &mut dyn FnMut(usize, usize, Line),
    ) -> TractResult<()> {
        let plane = x.shape()[2..].iter().product::<usize>();
        let image = (plane * read * groups).max(1);
        let positions: usize = along.iter().map(|along| along.output).product();
        match self {
            Weights::Floats(parts) => {
                let numbers = whole_distances(x, x_zero)?;
                let images = elements::<f32>(&numbers)?.chunks_exact(image).take(x.shape()[0]);
                for (image, numbers) in images.enumerate() {
                    let mut each = |channel: usize, line: Line| {
                        done(channel, (image * made + channel) * positions, line);
                    };
                    lines_of_parts(parts, along, numbers, [plane, made, positions], &mut each)?;
                }
            }
            Weights::Bytes(filters) => {
                let (bytes, zero) = unsigned(x, x_zero)?;
                let mut sums = vec![0; made * positions];
                for (image, bytes) in bytes.chunks_exact(image).take(x.shape()[0]).enumerate() {
                    filters.run(&axes(along), bytes, zero, &mut sums);
                    for (channel, line) in sums.chunks(positions).enumerate() {
                        done(channel, (image * made + channel) * positions, Line::Integers(line));
                    }
                }
            }
            Weights::Integers(matrices) => {
                let numbers = distances(x, x.len(), |_| x_zero)?;
                let (size, channels) = (plane * read, made / groups);
                for (at, numbers) in numbers.chunks(size.max(1)).take(x.shape()[0] * groups).enumerate() {
                    products(numbers, along, &matrices[at % groups], &mut |part, sums| {
                        for (row, line) in sums.chunks(part.len()).enumerate() {
                            let channel = at % groups * channels + row;
                            let first = (at * channels + row) * positions + part.start;
                            done(channel, first, Line::Integers(line));
                        }
                    });
                }
            }
        }
        Ok(())
    }
}

/// Integers without a sign that have the same distances from their zero point.
fn unsigned(x: &Tensor, zero: i32) -> TractResult<(Cow<'_, [u8]>, u8)> {
    Ok(match x.datum_type() {
        DatumType::U8 => (Cow::Borrowed(elements::<u8>(x)?), zero as u8),
        _ => {
            let numbers = elements::<i8>(x)?.iter().map(|number| (*number as u8) ^ 128);
            (Cow::Owned(numbers.collect()), (zero + 128) as u8)
        }
    })
}

/// Divides the channels of the input into parts whose sums in FP32 are exact. `None`: one channel alone has sums that are
/// too large.
fn exact_parts(numbers: &[i16], made: usize, read: usize) -> Option<Vec<Range<usize>>> {
    let width = numbers.len() / made.max(1);
    let taps = width / read.max(1);
    let (mut parts, mut start) = (Vec::new(), 0);
    let mut sums = vec![0_i64; made];
    for channel in 0..read {
        let size = |row: usize| -> i64 {
            let taps = &numbers[row * width + channel * taps..][..taps];
            taps.iter().map(|number| i64::from(*number).abs()).sum()
        };
        let sizes: Vec<i64> = (0..made).map(size).collect();
        let most = |sums: &[i64]| sums.iter().max().copied().unwrap_or(0) * FARTHEST;
        if most(&sizes) > EXACT {
            return None;
        }
        sums.iter_mut().zip(&sizes).for_each(|(sum, size)| *sum += size);
        if most(&sums) > EXACT {
            parts.push(start..channel);
            (start, sums) = (channel, sizes);
        }
    }
    parts.push(start..read);
    Some(parts)
}

/// The distances of integers from their zero point, as FP32.
pub fn whole_distances(x: &Tensor, zero: i32) -> TractResult<Tensor> {
    with_bytes!(x.datum_type(), T, {
        let integers = elements::<T>(x)?;
        written(x.shape(), |to| T::dequantize(integers, to, &[1.0], &[zero]))
    })
}

/// Calls `done` with each channel of one image and its sums. Those of several parts of the channels are added as integers.
fn lines_of_parts(
    parts: &[(Range<usize>, Filters)],
    along: &[Axis],
    numbers: &[f32],
    [plane, made, positions]: [usize; 3],
    done: &mut dyn FnMut(usize, Line),
) -> TractResult<()> {
    let sums_of = |filters: &Filters, numbers: &[f32]| {
        written(&[made * positions], |sums| filters.run(&axes(along), numbers, sums, After::default()))
    };
    if let [(_, filters)] = parts {
        let sums = sums_of(filters, numbers)?;
        let lines = elements::<f32>(&sums)?.chunks(positions).enumerate();
        lines.for_each(|(channel, line)| done(channel, Line::Whole(line)));
        return Ok(());
    }
    let mut all = vec![0; made * positions];
    for (channels, filters) in parts {
        let sums = sums_of(filters, &numbers[channels.start * plane..channels.end * plane])?;
        add_whole(elements::<f32>(&sums)?, &mut all);
    }
    let lines = all.chunks(positions).enumerate();
    lines.for_each(|(channel, line)| done(channel, Line::Integers(line)));
    Ok(())
}
