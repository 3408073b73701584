//! Convolutions of one, two or three axes, in FP32, with channels before the axes (NCHW).
//!
//! A convolution is a matrix product: the weights `[channels of the result, taps]` with the input's numbers under each tap
//! `[taps, places of the result]`. The second matrix is never made as a whole: for a few places at a time, its columns are
//! gathered into a buffer that fits in the cache (`gather`), and multiplied with all weights (`multiply`).
//!
//! When each channel has a filter of its own, there is no such product: see `depthwise`. Filters of 3 by 3 numbers may need fewer
//! multiplications: see `winograd`.

pub mod bytes;
mod depthwise;
mod gather;
mod multiply;
mod padded;
mod winograd;

use std::cell::RefCell;

use super::after::After;
use super::crew;
use super::functions;
use super::level::Level;
use multiply::Part;

/// The most axes of an input, without batch and channels.
pub const AXES: usize = 3;

/// Numbers that always fit into the memory for gathered numbers.
const SMALL: usize = 1 << 20;

/// The windows along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// The input's length.
    pub input: usize,
    /// The result's length.
    pub output: usize,
    /// The filter's length.
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Zeros before the first number of the input.
    pub before: usize,
}

impl Axis {
    /// An axis of length 1 that changes nothing.
    const ONE: Axis = Axis { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, before: 0 };

    /// Whether each number of the result has one number of the input under it, at the same place.
    fn is_plain(self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.before == 0 && self.input == self.output
    }
}

/// The weights of a convolution, in the form in which they are multiplied.
#[derive(Debug, Clone)]
pub struct Filters {
    /// Channels of the input of a group.
    read: usize,
    /// Channels of the result of a group.
    made: usize,
    groups: usize,
    /// Numbers of a filter for one channel of the input.
    taps: usize,
    /// Of each group, `[blocks, read · taps, rows]`, or `[blocks, 16, read, rows]` if they are transformed; of a depthwise
    /// convolution, `[made, taps]`.
    weights: Vec<f32>,
    /// Whether they are in the form of `winograd`.
    are_transformed: bool,
    /// The channels that are computed together.
    rows: usize,
    bias: Vec<f32>,
    level: Level,
}

thread_local! {
    /// Memory for gathered numbers. It is kept from run to run.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    /// The input with its last axis split by the stride, or planes with padding.
    planes: Vec<f32>,
    /// The numbers under the taps for a few places.
    columns: Vec<f32>,
    /// Products before they become numbers of the result.
    sums: Vec<f32>,
    spans: gather::Spans,
}

impl Filters {
    /// Packs the weights `[made, read, taps]` and the bias, which has a number for each channel of the result, or none.
    ///
    /// Panics: the lengths do not fit.
    pub fn new(groups: usize, made: usize, read: usize, weights: &[f32], bias: Option<&[f32]>) -> Filters {
        Filters::at(Level::best(), groups, made, read, weights, bias)
    }

    fn at(
        level: Level,
        groups: usize,
        made: usize,
        read: usize,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Filters {
        assert!(
            groups > 0 && made.is_multiple_of(groups) && made > 0 && read > 0,
            "groups and channels do not fit"
        );
        let taps = weights.len() / (made * read);
        assert_eq!(weights.len(), made * read * taps, "the weights do not fit their channels");
        let bias = bias.map_or_else(|| vec![0.0; made], <[f32]>::to_vec);
        assert_eq!(bias.len(), made, "the bias does not fit the channels");
        let made = made / groups;
        let are_transformed = false;
        let mut filters =
            Filters { read, made, groups, taps, weights: Vec::new(), are_transformed, rows: 1, bias, level };
        if !filters.is_depthwise() {
            filters.rows = multiply::rows(level, made);
        }
        filters.pack(weights);
        filters
    }

    /// The form that is faster for windows along these axes, if there is one. It rounds in another way: sums of whole numbers
    /// are not exact, for example.
    ///
    /// Panics: there are no axes, or too many.
    pub fn faster(&self, axes: &[Axis]) -> Option<Filters> {
        let is_direct = !self.are_transformed && !self.is_depthwise();
        let is_faster = is_direct && winograd::is_faster(&all_axes(axes), self.read, self.made);
        is_faster.then(|| self.transformed())
    }

    /// Filters of 3 by 3 numbers in the form of `winograd`.
    fn transformed(&self) -> Filters {
        let mut filters = Filters { weights: Vec::new(), are_transformed: true, ..self.clone() };
        filters.pack(&winograd::transformed(&self.unpacked(), self.read));
        filters
    }

    /// Packs the weights `[channels of the result, depth]`.
    fn pack(&mut self, weights: &[f32]) {
        let (depth, rows) = (self.depth(), self.rows);
        for group in weights.chunks_exact(self.made * depth) {
            for first in (0..self.made).step_by(rows) {
                for at in 0..depth {
                    let rows = first..first + rows;
                    self.weights
                        .extend(rows.map(|row| if row < self.made { group[row * depth + at] } else { 0.0 }));
                }
            }
        }
    }

    /// The weights before they were packed.
    fn unpacked(&self) -> Vec<f32> {
        let (depth, rows, blocks) = (self.depth(), self.rows, self.made.div_ceil(self.rows));
        let mut weights = Vec::with_capacity(self.output_channels() * depth);
        for channel in 0..self.output_channels() {
            let (group, row) = (channel / self.made, channel % self.made);
            let block = &self.weights[(group * blocks + row / rows) * depth * rows..][..depth * rows];
            weights.extend(block.iter().skip(row % rows).step_by(rows));
        }
        weights
    }

    /// The packed weights for one channel of the result.
    fn depth(&self) -> usize {
        self.read * if self.are_transformed { winograd::PRODUCTS } else { self.taps }
    }

    /// Whether each channel has a filter of its own.
    fn is_depthwise(&self) -> bool {
        self.read == 1 && self.made == 1 && self.groups > 1
    }

    /// The channels of the input.
    pub fn input_channels(&self) -> usize {
        self.read * self.groups
    }

    /// The channels of the result.
    pub fn output_channels(&self) -> usize {
        self.made * self.groups
    }

    /// The bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.weights.len() * size_of::<f32>()
    }

    /// The same, with each channel of the result multiplied by its factor and then increased by its offset.
    ///
    /// Panics: there is not one factor and one offset for each channel.
    pub fn scaled(&self, factors: &[f32], offsets: &[f32]) -> Filters {
        assert_eq!(
            (factors.len(), offsets.len()),
            (self.bias.len(), self.bias.len()),
            "one for each channel is needed"
        );
        let mut scaled = self.clone();
        for ((bias, factor), offset) in scaled.bias.iter_mut().zip(factors).zip(offsets) {
            *bias = *bias * factor + offset;
        }
        let blocks = self.made.div_ceil(self.rows);
        let depth = self.depth();
        for (at, block) in scaled.weights.chunks_exact_mut(depth * self.rows).enumerate() {
            let first = at / blocks * self.made + at % blocks * self.rows;
            let end = (first + self.rows).min((at / blocks + 1) * self.made);
            for weights in block.chunks_exact_mut(self.rows) {
                weights.iter_mut().zip(&factors[first..end]).for_each(|(weight, factor)| *weight *= factor);
            }
        }
        scaled
    }

    /// Whether the memory for gathered numbers is in proportion to the input. It is not where strides or padding are much
    /// longer than the input.
    ///
    /// Panics: there are no axes, or too many.
    pub fn fits(&self, axes: &[Axis]) -> bool {
        let all = all_axes(axes);
        let plane: usize = axes.iter().map(|axis| axis.input).product();
        let input = plane * self.input_channels();
        let is_empty = all.iter().any(|axis| axis.output == 0);
        let needed = match self.is_depthwise() {
            true => depthwise::plane(&all),
            // The windows are known then, and their memory is in proportion.
            false if self.are_transformed => return true,
            false => gather::split(&all, input / self.groups),
        };
        is_empty || needed <= input.saturating_mul(4).saturating_add(SMALL)
    }

    /// Computes a convolution. `axes` has one to three axes; `input` is `[batch, channels, axes]` and so is `output`.
    ///
    /// Panics: the lengths do not fit.
    pub fn run(&self, axes: &[Axis], input: &[f32], output: &mut [f32], after: After) {
        let mut all = all_axes(axes);
        let lengths = |length: fn(&Axis) -> usize| -> usize { all.iter().map(length).product() };
        let (from, to) = (lengths(|axis| axis.input), lengths(|axis| axis.output));
        assert_eq!(lengths(|axis| axis.kernel), self.taps, "the filters have another shape");
        let (input_size, output_size) = (from * self.input_channels(), to * self.output_channels());
        if output_size == 0 || output.is_empty() {
            return;
        }
        let batch = output.len() / output_size;
        assert_eq!(
            (input.len(), output.len()),
            (batch * input_size, batch * output_size),
            "the lengths do not fit"
        );
        assert!(
            after.add.is_none_or(|other| other.len() == output.len()),
            "the added tensor has another length"
        );
        for axis in &all {
            assert!(axis.stride > 0 && axis.dilation > 0, "strides and dilations are 1 or more");
        }
        if all.iter().all(|axis| axis.is_plain()) {
            // One long row.
            all = [Axis::ONE, Axis::ONE, Axis { input: from, output: to, ..Axis::ONE }];
        }
        if input_size == 0 {
            return self.without_input(to, output, after);
        }
        let items = input.chunks_exact(input_size).zip(output.chunks_exact_mut(output_size));
        for (at, (input, output)) in items.enumerate() {
            self.item(&all, input, output, after.part(at * output_size, output_size));
        }
    }

    /// The result of an input of length 0: only padding is under the taps.
    fn without_input(&self, to: usize, output: &mut [f32], after: After) {
        for (channel, plane) in output.chunks_exact_mut(to).enumerate() {
            plane.fill(self.bias[channel % self.bias.len()]);
        }
        after.first.iter().for_each(|function| functions::apply(*function, output));
        for (number, other) in output.iter_mut().zip(after.add.unwrap_or_default()) {
            *number += other;
        }
        after.then.iter().for_each(|function| functions::apply(*function, output));
    }

    /// One item of a batch. All threads that help take some channels of the result.
    fn item(&self, axes: &[Axis; AXES], input: &[f32], output: &mut [f32], after: After) {
        let plane = output.len() / self.output_channels();
        let parts = crew::parts(output.len() * self.read * self.taps);
        // Channels that are computed together stay together, and so do those of a group.
        let unit = if self.groups == 1 { self.rows } else { self.made };
        let channels = self.output_channels().div_ceil(unit).div_ceil(parts) * unit;
        crew::split_chunks(output, channels * plane, &|part, output| {
            let first = part * channels;
            let after = after.part(first * plane, output.len());
            SCRATCH.with_borrow_mut(|scratch| self.channels(axes, first, input, output, after, scratch));
        });
    }

    /// Some channels of the result, from `first` on: whole groups, or some of the only group.
    fn channels(
        &self,
        axes: &[Axis; AXES],
        first: usize,
        input: &[f32],
        output: &mut [f32],
        after: After,
        scratch: &mut Scratch,
    ) {
        let from = input.len() / self.groups;
        let plane: usize = axes.iter().map(|axis| axis.output).product();
        let Filters { read, taps, rows, .. } = *self;
        if self.is_depthwise() {
            let count = output.len() / plane;
            let weights = &self.weights[first * taps..][..count * taps];
            let (bias, input) = (&self.bias[first..][..count], &input[first * from..][..count * from]);
            let part = Part { axes, read, made: count, taps, rows, weights, bias, input, after };
            return depthwise::run(self.level, &part, output, scratch);
        }
        let size = self.weights.len() / self.groups;
        for (at, output) in output.chunks_mut(self.made * plane).enumerate() {
            let (group, before) = ((first + at * self.made) / self.made, first % self.made);
            let made = output.len() / plane;
            let weights = &self.weights[group * size + before * self.depth()..(group + 1) * size];
            let bias = &self.bias[group * self.made + before..][..made];
            let input = &input[group * from..][..from];
            let after = after.part(at * self.made * plane, output.len());
            let part = Part { axes, read, made, taps, rows, weights, bias, input, after };
            match self.are_transformed {
                true => winograd::run(self.level, &part, output, scratch),
                false => multiply::run(self.level, &part, output, scratch),
            }
        }
    }
}

/// The axes, with axes of length 1 before them.
fn all_axes(axes: &[Axis]) -> [Axis; AXES] {
    assert!((1..=AXES).contains(&axes.len()), "{} axes: expected 1 to {AXES}", axes.len());
    let mut all = [Axis::ONE; AXES];
    all[AXES - axes.len()..].copy_from_slice(axes);
    all
}

#[cfg(test)]
mod tests;
