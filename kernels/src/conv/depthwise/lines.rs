//! A few rows of a depthwise convolution's result, computed together, for the filters that nearly all models have: 3 or 5
//! numbers high, with a stride of 1 or 2.
//!
//! The height and the stride are known to the compiler, so that all sums stay in registers: which rows of the result a row
//! of the input belongs to is then no question at run time.

use super::super::padded::Padded;
use super::super::{AXES, Axis};
use crate::simd::Simd;

/// The rows that are computed together.
pub const LINES: usize = 4;

/// The most vectors of a row that are computed together.
const MOST_VECTORS: usize = 4;

/// The windows of a result in the padded plane.
pub struct Windows {
    /// From one row of the plane to the next one.
    line: usize,
    /// Where the tap of each column of the filter begins in a row.
    columns: Vec<usize>,
    /// The largest of these.
    last: usize,
    /// The numbers of a row of the result.
    row: usize,
    kernel: usize,
    stride: usize,
}

impl Windows {
    /// Whether rows are computed together for these axes and vectors of so many lanes.
    pub fn are_usual(axes: &[Axis; AXES], lanes: usize) -> bool {
        let [depth, height, row] = axes;
        let is_usual =
            matches!(height.kernel, 3 | 5) && matches!(height.stride, 1 | 2) && height.dilation == 1;
        // At least 5 of 8 lanes are used. The last rows and vectors of a plane are moved back, so that there are enough.
        is_usual
            && depth.output * depth.kernel == 1
            && height.output >= LINES
            && row.output >= lanes * 5 / 8
            && row.output * 8 >= row.output.next_multiple_of(lanes) * 5
    }

    /// The windows in a plane that is split by the stride of its last axis only.
    pub fn new(axes: &[Axis; AXES], padded: &Padded) -> Windows {
        let [_, height, row] = axes;
        let columns: Vec<_> = (0..row.kernel).map(|at| padded.place([0, 0, at * row.dilation])).collect();
        let last = columns.iter().max().copied().unwrap_or(0);
        let (kernel, stride) = (height.kernel, height.stride);
        Windows { line: padded.lengths[2], columns, last, row: row.output, kernel, stride }
    }
}

/// `LINES` rows of the result of one channel.
pub struct Lines<'a> {
    pub windows: &'a Windows,
    /// The padded plane from the first row under the windows on, and a vector behind it.
    pub plane: &'a [f32],
    pub weights: &'a [f32],
    pub bias: f32,
}

impl Lines<'_> {
    /// Computes the rows.
    #[inline(always)]
    pub fn run<V: Simd>(&self, to: &mut [f32]) {
        match (self.windows.kernel, self.windows.stride) {
            (3, 1) => self.rows::<V, 3, 1>(to),
            (3, _) => self.rows::<V, 3, 2>(to),
            (_, 1) => self.rows::<V, 5, 1>(to),
            _ => self.rows::<V, 5, 2>(to),
        }
    }

    #[inline(always)]
    fn rows<V: Simd, const KERNEL: usize, const STRIDE: usize>(&self, to: &mut [f32]) {
        let row = self.windows.row;
        let mut first = 0;
        while first < row {
            // As many sums as there are registers for.
            first += match (row - first).div_ceil(V::LANES) {
                1 => self.block::<V, KERNEL, STRIDE, 1>(first, to),
                4.. if V::REGISTERS == 32 => self.block::<V, KERNEL, STRIDE, MOST_VECTORS>(first, to),
                _ => self.block::<V, KERNEL, STRIDE, 2>(first, to),
            };
        }
    }

    /// Computes `N` vectors of each row, from column `first` on, and returns the numbers of a row.
    #[inline(always)]
    fn block<V: Simd, const KERNEL: usize, const STRIDE: usize, const N: usize>(
        &self,
        first: usize,
        to: &mut [f32],
    ) -> usize {
        let mut sums = [[V::splat(self.bias); N]; LINES];
        macro_rules! under {
            ($($row:literal)*) => {
                $(if $row < (LINES - 1) * STRIDE + KERNEL {
                    sums = self.under::<V, KERNEL, STRIDE, N, $row>(first, sums);
                })*
            };
        }
        under!(0 1 2 3 4 5 6 7 8 9 10);
        let row = self.windows.row;
        for (sums, to) in sums.iter().zip(to.chunks_exact_mut(row)) {
            for (sum, to) in sums.iter().zip(to[first..].chunks_mut(V::LANES)) {
                sum.store_part(to);
            }
        }
        N * V::LANES
    }

    /// Adds what the row `ROW` under the windows gives.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "iterators keep the sums in memory and not in registers")]
    fn under<V: Simd, const KERNEL: usize, const STRIDE: usize, const N: usize, const ROW: usize>(
        &self,
        first: usize,
        mut sums: [[V; N]; LINES],
    ) -> [[V; N]; LINES] {
        let columns = self.windows.columns.as_slice();
        let plane = &self.plane[ROW * self.windows.line + first..];
        assert!(
            plane.len() >= self.windows.last + N * V::LANES && self.weights.len() >= KERNEL * columns.len()
        );
        for (column, place) in columns.iter().enumerate() {
            let mut vectors = [V::splat(0.0); N];
            for (at, vector) in vectors.iter_mut().enumerate() {
                // SAFETY: there are `N` vectors behind the last column, by the assertion.
                *vector = unsafe { V::load(plane.as_ptr().add(place + at * V::LANES)) };
            }
            for line in 0..LINES {
                if ROW < line * STRIDE || ROW >= line * STRIDE + KERNEL {
                    continue;
                }
                let place = (ROW - line * STRIDE) * columns.len() + column;
                // SAFETY: the row is one of the filter's, whose numbers are there by the assertion.
                let factor = V::splat(unsafe { *self.weights.as_ptr().add(place) });
                for at in 0..N {
                    sums[line][at] = vectors[at].mul_add(factor, sums[line][at]);
                }
            }
        }
        sums
    }
}
