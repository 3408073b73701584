//! Exact products of integers of 16 bits, such as 8-bit numbers without their zero points, with a matrix that is used again
//! and again. Sums have 32 bits and wrap.
//!
//! Processors multiply pairs: two neighbours of a row with two numbers of a column, and add both products to one sum. So the
//! matrix is kept in pairs of rows, in panels of a few columns, as in [`product`](super::product).

use super::level::Level;

/// The columns of a panel.
const PANEL: usize = 64;

/// A matrix `[depth, width]` of integers in panels.
#[derive(Debug, Clone)]
pub struct Matrix {
    depth: usize,
    width: usize,
    /// `[panels, pairs of rows, PANEL, 2]`. What is outside of the matrix is 0.
    panels: Vec<i16>,
}

impl Matrix {
    /// Packs a matrix whose element `[row, column]` is `element(row, column)`.
    pub fn new(depth: usize, width: usize, element: impl Fn(usize, usize) -> i16) -> Matrix {
        let mut panels = Vec::with_capacity(width.div_ceil(PANEL) * depth.next_multiple_of(2) * PANEL);
        for first in (0..width).step_by(PANEL) {
            for pair in (0..depth).step_by(2) {
                for column in first..first + PANEL {
                    let at =
                        |row: usize| if row < depth && column < width { element(row, column) } else { 0 };
                    panels.extend([at(pair), at(pair + 1)]);
                }
            }
        }
        Matrix { depth, width, panels }
    }

    /// The number of its columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The bytes of the packed matrix.
    pub fn bytes(&self) -> usize {
        self.panels.len() * size_of::<i16>()
    }

    /// `rows` · this matrix: `rows` is `[n, depth]`, the result `[n, width]`, both row-major.
    ///
    /// Panics: the lengths do not fit.
    pub fn product(&self, rows: &[i16]) -> Vec<i32> {
        self.product_at(Level::best(), rows)
    }

    fn product_at(&self, level: Level, rows: &[i16]) -> Vec<i32> {
        let count = rows.len().checked_div(self.depth).unwrap_or(0);
        assert_eq!(rows.len(), count * self.depth, "the lengths do not fit");
        let mut sums = vec![0; count * self.width];
        if self.depth.is_multiple_of(2) {
            product(level, self, rows, &mut sums);
        } else {
            // Pairs need an even number.
            let pairs = rows.chunks_exact(self.depth).flat_map(|row| row.iter().copied().chain([0]));
            product(level, self, &pairs.collect::<Vec<i16>>(), &mut sums);
        }
        sums
    }
}

/// A vector of sums. All functions work lane by lane.
trait Sums: Copy {
    const LANES: usize;
    /// How many vector registers the processor has.
    const REGISTERS: usize;

    fn zero() -> Self;

    /// Two numbers in all lanes.
    fn splat(pair: [i16; 2]) -> Self;

    /// # Safety
    /// `LANES` pairs can be read from `from`.
    unsafe fn load(from: *const i16) -> Self;

    /// `self` + the products of the pairs of `a` and `b`, both added.
    fn add_products(self, a: Self, b: Self) -> Self;

    /// # Safety
    /// `LANES` sums can be written to `to`.
    unsafe fn store(self, to: *mut i32);
}

fn product(level: Level, matrix: &Matrix, rows: &[i16], sums: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::level::Kind;

        #[target_feature(enable = "avx2")]
        fn avx2(matrix: &Matrix, rows: &[i16], sums: &mut [i32]) {
            product_in::<x86::Avx2>(matrix, rows, sums);
        }
        #[target_feature(enable = "avx512f,avx512bw")]
        fn avx512(matrix: &Matrix, rows: &[i16], sums: &mut [i32]) {
            product_in::<x86::Avx512>(matrix, rows, sums);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn vnni(matrix: &Matrix, rows: &[i16], sums: &mut [i32]) {
            product_in::<x86::Vnni>(matrix, rows, sums);
        }
        match level.0 {
            Kind::Baseline => {}
            // SAFETY: a `Level` is only made for instructions that the processor has.
            Kind::Avx2 => return unsafe { avx2(matrix, rows, sums) },
            Kind::Avx512 if is_x86_feature_detected!("avx512vnni") => {
                // SAFETY: as above, and VNNI was looked for.
                return unsafe { vnni(matrix, rows, sums) };
            }
            // SAFETY: as above.
            Kind::Avx512 => return unsafe { avx512(matrix, rows, sums) },
        }
    }
    let _ = level;
    product_in::<Baseline>(matrix, rows, sums);
}

#[inline(always)]
fn product_in<S: Sums>(matrix: &Matrix, rows: &[i16], sums: &mut [i32]) {
    let (pairs, width) = (matrix.depth.div_ceil(2), matrix.width);
    if pairs == 0 || width == 0 {
        return;
    }
    for (at, panel) in matrix.panels.chunks_exact(pairs * PANEL * 2).enumerate() {
        let first = at * PANEL;
        let columns = PANEL.min(width - first);
        let mut rows = rows;
        let mut sums = &mut sums[..];
        while sums.len() >= 4 * width {
            let (some, others) = sums.split_at_mut(4 * width);
            tiles::<S, 4>(rows, panel, some, width, first, columns);
            (rows, sums) = (&rows[4 * pairs * 2..], others);
        }
        while !sums.is_empty() {
            let (some, others) = sums.split_at_mut(width);
            tiles::<S, 1>(rows, panel, some, width, first, columns);
            (rows, sums) = (&rows[pairs * 2..], others);
        }
    }
}

/// The tiles of one panel for `ROWS` rows.
#[inline(always)]
fn tiles<S: Sums, const ROWS: usize>(
    rows: &[i16],
    panel: &[i16],
    sums: &mut [i32],
    width: usize,
    first: usize,
    columns: usize,
) {
    if S::REGISTERS == 32 || ROWS == 1 {
        tiles_of::<S, ROWS, 4>(rows, panel, sums, width, first, columns);
    } else {
        tiles_of::<S, ROWS, 2>(rows, panel, sums, width, first, columns);
    }
}

#[inline(always)]
fn tiles_of<S: Sums, const ROWS: usize, const VECTORS: usize>(
    rows: &[i16],
    panel: &[i16],
    sums: &mut [i32],
    width: usize,
    first: usize,
    columns: usize,
) {
    for start in (0..columns).step_by(VECTORS * S::LANES) {
        let tile = tile::<S, ROWS, VECTORS>(rows, &panel[start * 2..], panel.len() / PANEL / 2);
        for (row, vectors) in tile.into_iter().enumerate() {
            let mut all = [0; PANEL];
            for (vector, to) in vectors.into_iter().zip(all.chunks_exact_mut(S::LANES)) {
                // SAFETY: the chunk has `LANES` sums.
                unsafe { vector.store(to.as_mut_ptr()) };
            }
            let count = (columns - start).min(VECTORS * S::LANES);
            sums[row * width + first + start..][..count].copy_from_slice(&all[..count]);
        }
    }
}

/// The products of `ROWS` rows with `VECTORS` vectors of columns. `panel` begins at the first of these columns.
#[inline(always)]
fn tile<S: Sums, const ROWS: usize, const VECTORS: usize>(
    rows: &[i16],
    panel: &[i16],
    pairs: usize,
) -> [[S; VECTORS]; ROWS] {
    assert!(rows.len() >= ROWS * pairs * 2 && panel.len() >= ((pairs - 1) * PANEL + VECTORS * S::LANES) * 2);
    let mut sums = [[S::zero(); VECTORS]; ROWS];
    let (rows, panel) = (rows.as_ptr(), panel.as_ptr());
    for pair in 0..pairs {
        // SAFETY: `pair` is below `pairs`, so by the assertion all these numbers are in the slices.
        unsafe {
            let mut weights = [S::zero(); VECTORS];
            for (vector, weight) in weights.iter_mut().enumerate() {
                *weight = S::load(panel.add((pair * PANEL + vector * S::LANES) * 2));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let numbers =
                    S::splat(rows.add((row * pairs + pair) * 2).cast::<[i16; 2]>().read_unaligned());
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = sum.add_products(numbers, weight);
                }
            }
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Invariant: `Avx2`, `Avx512` and `Vnni` are only named in code that runs when the processor has these instructions.

    use std::arch::x86_64::*;

    use super::Sums;

    /// Two numbers as one lane.
    #[inline(always)]
    fn lane(pair: [i16; 2]) -> i32 {
        i32::from(pair[0] as u16) | i32::from(pair[1]) << 16
    }

    /// Writes a type of sums: its name, vector, lanes and registers, and its intrinsics.
    macro_rules! sums {
        ($(#[$meta:meta])* $name:ident($vector:ty), $lanes:literal, $registers:literal, $zero:ident, $splat:ident, $load:ident,
         $store:ident, |$sum:ident, $a:ident, $b:ident| $add_products:expr) => {
            $(#[$meta])*
            #[derive(Clone, Copy)]
            pub struct $name($vector);

            impl Sums for $name {
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;

                #[inline(always)]
                fn zero() -> Self {
                    // SAFETY: the invariant of this module.
                    Self(unsafe { $zero() })
                }

                #[inline(always)]
                fn splat(pair: [i16; 2]) -> Self {
                    // SAFETY: the invariant of this module.
                    Self(unsafe { $splat(lane(pair)) })
                }

                #[inline(always)]
                unsafe fn load(from: *const i16) -> Self {
                    // SAFETY: the invariant of this module, and the caller's promise.
                    Self(unsafe { $load(from.cast()) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut i32) {
                    // SAFETY: the invariant of this module, and the caller's promise.
                    unsafe { $store(to.cast(), self.0) }
                }

                #[inline(always)]
                fn add_products(self, a: Self, b: Self) -> Self {
                    let ($sum, $a, $b) = (self.0, a.0, b.0);
                    // SAFETY: the invariant of this module.
                    Self(unsafe { $add_products })
                }
            }
        };
    }

    sums!(
        /// Four sums in SSE2, which every x86-64 processor has.
        Sse2(__m128i), 4, 16, _mm_setzero_si128, _mm_set1_epi32, _mm_loadu_si128, _mm_storeu_si128,
        |sum, a, b| _mm_add_epi32(sum, _mm_madd_epi16(a, b))
    );
    sums!(
        /// Eight sums in AVX2.
        Avx2(__m256i), 8, 16, _mm256_setzero_si256, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256,
        |sum, a, b| _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
    );
    sums!(
        /// Sixteen sums in AVX-512 (F and BW).
        Avx512(__m512i), 16, 32, _mm512_setzero_si512, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
        |sum, a, b| _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
    );
    sums!(
        /// Sixteen sums in AVX-512 with VNNI, which adds the products in the same instruction.
        Vnni(__m512i), 16, 32, _mm512_setzero_si512, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
        |sum, a, b| _mm512_dpwssd_epi32(sum, a, b)
    );
}

#[cfg(target_arch = "x86_64")]
use x86::Sse2 as Baseline;

/// Four plain sums: the compiler makes vectors of them where it can.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
struct Baseline([[i16; 2]; 4], [i32; 4]);

#[cfg(not(target_arch = "x86_64"))]
impl Sums for Baseline {
    const LANES: usize = 4;
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 32 } else { 16 };

    #[inline(always)]
    fn zero() -> Self {
        Self([[0; 2]; 4], [0; 4])
    }

    #[inline(always)]
    fn splat(pair: [i16; 2]) -> Self {
        Self([pair; 4], [0; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[[i16; 2]; 4]>().read_unaligned() }, [0; 4])
    }

    #[inline(always)]
    fn add_products(self, a: Self, b: Self) -> Self {
        let products = |at: usize| {
            let product = |place: usize| i32::from(a.0[at][place]) * i32::from(b.0[at][place]);
            self.1[at].wrapping_add(product(0)).wrapping_add(product(1))
        };
        Self(self.0, std::array::from_fn(products))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[i32; 4]>().write_unaligned(self.1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn products_are_exact() {
        let mut random = Random::new(13);
        for turn in 0..400 {
            let (count, depth, width) = (random.size(0, 9), random.size(0, 70), random.size(0, 150));
            // Also the largest distances of 8-bit numbers, and numbers whose sums wrap.
            let most = [255, 300, 32767][turn % 3];
            let mut numbers = |count: usize| -> Vec<i16> {
                (0..count).map(|_| (random.size(0, 2 * most) as i32 - most as i32) as i16).collect()
            };
            let (rows, weights) = (numbers(count * depth), numbers(depth * width));
            let matrix = Matrix::new(depth, width, |row, column| weights[row * width + column]);
            for level in Level::all() {
                let sums = matrix.product_at(level, &rows);
                for (at, sum) in sums.iter().enumerate() {
                    let (row, column) = (at / width, at % width);
                    let product = |at: usize| {
                        i32::from(rows[row * depth + at]) * i32::from(weights[at * width + column])
                    };
                    let plain = (0..depth).map(product).fold(0_i32, i32::wrapping_add);
                    assert_eq!(*sum, plain, "{level:?} {count}×{depth}×{width}");
                }
            }
        }
    }
}
