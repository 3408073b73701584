//! Exact products of integers of 16 bits, such as 8-bit numbers without their zero points, with a matrix that is used again
//! and again. Sums have 32 bits and wrap.
//!
//! Processors multiply several neighbours of a row with as many numbers of a column, and add all products to one sum: two of 16
//! bits, or with VNNI four of 8 bits. So the matrix is kept in such groups of rows, in panels of a few columns, as in
//! [`product`](super::product).

use super::crew;
use super::level::Level;

/// The columns of a panel.
const PANEL: usize = 64;

/// Numbers of a row or a column that are multiplied together: two of 16 bits, or four of 8 bits.
type Group = [u8; 4];

/// A matrix `[depth, width]` of integers in panels.
#[derive(Debug, Clone)]
pub struct Matrix {
    depth: usize,
    width: usize,
    /// `[panels, groups of rows, PANEL]`. What is outside of the matrix is 0.
    panels: Vec<Group>,
    packing: Packing,
}

/// What is in a group.
#[derive(Debug, Clone)]
enum Packing {
    Pairs,
    /// Four numbers with a sign. Those of a row that they are multiplied with have none: their least number is subtracted
    /// first. So the sum of each column, times this number, is added afterwards.
    Fours {
        sums: Vec<i32>,
    },
}

impl Matrix {
    /// Packs a matrix whose element `[row, column]` is `element(row, column)`.
    pub fn new(depth: usize, width: usize, element: impl Fn(usize, usize) -> i16) -> Matrix {
        Matrix::packed(depth, width, Packing::Pairs, |row, column| element(row, column).to_le_bytes())
    }

    /// The same, for products with rows of 8-bit numbers: in each row, the largest number is at most 255 more than the least
    /// one.
    pub fn for_bytes(depth: usize, width: usize, element: impl Fn(usize, usize) -> i16) -> Matrix {
        let mut sums = vec![0; width];
        let mut are_bytes = has_fours();
        for row in 0..depth {
            for (column, sum) in sums.iter_mut().enumerate() {
                let number = element(row, column);
                *sum += i32::from(number);
                are_bytes &= i8::try_from(number).is_ok();
            }
        }
        match are_bytes {
            true => Matrix::packed(depth, width, Packing::Fours { sums }, |row, column| {
                (element(row, column) as i8).to_le_bytes()
            }),
            false => Matrix::new(depth, width, element),
        }
    }

    /// Packs a matrix whose elements have `BYTES` bytes.
    fn packed<const BYTES: usize>(
        depth: usize,
        width: usize,
        packing: Packing,
        element: impl Fn(usize, usize) -> [u8; BYTES],
    ) -> Matrix {
        let together = size_of::<Group>() / BYTES;
        let mut panels = Vec::with_capacity(width.div_ceil(PANEL) * depth.div_ceil(together) * PANEL);
        for first in (0..width).step_by(PANEL) {
            for begin in (0..depth).step_by(together) {
                for column in first..first + PANEL {
                    let mut group = Group::default();
                    for (row, to) in (begin..depth).zip(group.chunks_exact_mut(BYTES)) {
                        if column < width {
                            to.copy_from_slice(&element(row, column));
                        }
                    }
                    panels.push(group);
                }
            }
        }
        Matrix { depth, width, panels, packing }
    }

    /// The number of its rows.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The number of its columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The bytes of the packed matrix.
    pub fn bytes(&self) -> usize {
        self.panels.len() * size_of::<Group>()
    }

    /// `rows` · this matrix: `rows` is `[n, depth]`, the result `[n, width]`, both row-major.
    ///
    /// Panics: the lengths do not fit, or the matrix is [for bytes](Matrix::for_bytes) and a row has other numbers.
    pub fn product(&self, rows: &[i16]) -> Vec<i32> {
        self.product_at(Level::best(), rows)
    }

    fn product_at(&self, level: Level, rows: &[i16]) -> Vec<i32> {
        let count = rows.len().checked_div(self.depth).unwrap_or(0);
        assert_eq!(rows.len(), count * self.depth, "the lengths do not fit");
        let mut made = vec![0; count * self.width];
        if made.is_empty() || self.depth == 0 {
            return made;
        }
        let some = crew::rows(count, self.depth, self.width);
        crew::split_chunks(&mut made, some * self.width, &|part, made| {
            let rows = &rows[part * some * self.depth..][..made.len() / self.width * self.depth];
            self.product_to(level, rows, made);
        });
        made
    }

    /// Computes some rows. There are some, and the depth is not 0.
    fn product_to(&self, level: Level, rows: &[i16], made: &mut [i32]) {
        match &self.packing {
            Packing::Pairs => {
                let groups = groups(rows, self.depth, |_, number| number.to_le_bytes());
                product(level, self, &groups, made);
            }
            Packing::Fours { sums } => {
                let least = |row: &[i16]| row.iter().copied().min().unwrap_or(0);
                let first: Vec<i16> = rows.chunks_exact(self.depth).map(least).collect();
                let byte = |row: usize, number: i16| {
                    let distance = i32::from(number) - i32::from(first[row]);
                    [u8::try_from(distance).expect("the numbers of a row are within 8 bits")]
                };
                product(level, self, &groups(rows, self.depth, byte), made);
                for (row, least) in made.chunks_exact_mut(self.width).zip(&first) {
                    let least = i32::from(*least);
                    row.iter_mut()
                        .zip(sums)
                        .for_each(|(to, sum)| *to = to.wrapping_add(least.wrapping_mul(*sum)));
                }
            }
        }
    }
}

/// Whether the processor multiplies groups of four numbers of 8 bits.
pub(crate) fn has_fours() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        Level::best().0 == super::level::Kind::Avx512 && is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The groups of rows of this depth, whose numbers become `BYTES` bytes. What is behind the end of a row is 0.
fn groups<const BYTES: usize>(
    rows: &[i16],
    depth: usize,
    bytes: impl Fn(usize, i16) -> [u8; BYTES],
) -> Vec<Group> {
    let together = size_of::<Group>() / BYTES;
    let mut made = vec![Group::default(); rows.len() / depth * depth.div_ceil(together)];
    let lines = made.chunks_exact_mut(depth.div_ceil(together)).zip(rows.chunks_exact(depth));
    for (row, (to, from)) in lines.enumerate() {
        let to = to.as_flattened_mut().chunks_exact_mut(BYTES);
        to.zip(from).for_each(|(to, number)| to.copy_from_slice(&bytes(row, *number)));
    }
    made
}

/// A vector of sums. All functions work lane by lane.
trait Sums: Copy {
    const LANES: usize;
    /// How many vector registers the processor has.
    const REGISTERS: usize;

    fn zero() -> Self;

    /// A group in all lanes.
    fn splat(group: Group) -> Self;

    /// # Safety
    /// `LANES` groups can be read from `from`.
    unsafe fn load(from: *const Group) -> Self;

    /// `self` + the products of the groups of a row, `a`, and of columns, `b`, all added.
    fn add_products(self, a: Self, b: Self) -> Self;

    /// # Safety
    /// `LANES` sums can be written to `to`.
    unsafe fn store(self, to: *mut i32);
}

/// Multiplies rows of groups. A matrix that has groups of four is only made for a processor that multiplies them.
fn product(level: Level, matrix: &Matrix, rows: &[Group], sums: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::level::Kind;

        #[target_feature(enable = "avx2")]
        fn avx2(matrix: &Matrix, rows: &[Group], sums: &mut [i32]) {
            product_in::<x86::Avx2>(matrix, rows, sums);
        }
        #[target_feature(enable = "avx512f,avx512bw")]
        fn avx512(matrix: &Matrix, rows: &[Group], sums: &mut [i32]) {
            product_in::<x86::Avx512>(matrix, rows, sums);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn vnni(matrix: &Matrix, rows: &[Group], sums: &mut [i32]) {
            product_in::<x86::Vnni>(matrix, rows, sums);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn fours(matrix: &Matrix, rows: &[Group], sums: &mut [i32]) {
            product_in::<x86::Fours>(matrix, rows, sums);
        }
        match level.0 {
            _ if matches!(matrix.packing, Packing::Fours { .. }) => {
                assert!(has_fours(), "the matrix is packed for another processor");
                // SAFETY: VNNI was looked for, and the rest of AVX-512.
                return unsafe { fours(matrix, rows, sums) };
            }
            Kind::Baseline => {}
            // SAFETY: a `Level` is only made for instructions that the processor has.
            Kind::Avx2 => return unsafe { avx2(matrix, rows, sums) },
            Kind::Avx512 if has_fours() => {
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

/// The rows of a tile.
const ROWS: usize = 4;

#[inline(always)]
fn product_in<S: Sums>(matrix: &Matrix, rows: &[Group], sums: &mut [i32]) {
    let width = matrix.width;
    let count = sums.len() / width;
    let depth = rows.len() / count;
    for first in (0..width).step_by(PANEL) {
        let panel = &matrix.panels[first * depth..][..depth * PANEL];
        let columns = PANEL.min(width - first);
        for row in (0..count).step_by(ROWS) {
            let end = count.min(row + ROWS);
            let (rows, sums) = (&rows[row * depth..end * depth], &mut sums[row * width..end * width]);
            match end - row {
                1 => tiles::<S, 1>(rows, panel, sums, width, first, columns),
                2 => tiles::<S, 2>(rows, panel, sums, width, first, columns),
                3 => tiles::<S, 3>(rows, panel, sums, width, first, columns),
                _ => tiles::<S, ROWS>(rows, panel, sums, width, first, columns),
            }
        }
    }
}

/// The tiles of one panel for `ROWS` rows.
#[inline(always)]
fn tiles<S: Sums, const ROWS: usize>(
    rows: &[Group],
    panel: &[Group],
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
    rows: &[Group],
    panel: &[Group],
    sums: &mut [i32],
    width: usize,
    first: usize,
    columns: usize,
) {
    for start in (0..columns).step_by(VECTORS * S::LANES) {
        let tile = tile::<S, ROWS, VECTORS>(rows, &panel[start..], rows.len() / ROWS);
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
    rows: &[Group],
    panel: &[Group],
    depth: usize,
) -> [[S; VECTORS]; ROWS] {
    assert!(rows.len() >= ROWS * depth && panel.len() >= (depth - 1) * PANEL + VECTORS * S::LANES);
    let mut sums = [[S::zero(); VECTORS]; ROWS];
    let (rows, panel) = (rows.as_ptr(), panel.as_ptr());
    for at in 0..depth {
        // SAFETY: `at` is below `depth`, so by the assertion all these groups are in the slices.
        unsafe {
            let mut weights = [S::zero(); VECTORS];
            for (vector, weight) in weights.iter_mut().enumerate() {
                *weight = S::load(panel.add(at * PANEL + vector * S::LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let numbers = S::splat(*rows.add(row * depth + at));
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
    //! Invariant: `Avx2`, `Avx512`, `Vnni` and `Fours` are only named in code that runs when the processor has these instructions.

    use std::arch::x86_64::*;

    use super::{Group, Sums};

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
                fn splat(group: Group) -> Self {
                    // SAFETY: the invariant of this module.
                    Self(unsafe { $splat(i32::from_le_bytes(group)) })
                }

                #[inline(always)]
                unsafe fn load(from: *const Group) -> Self {
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
    sums!(
        /// The same for groups of four: numbers without a sign times numbers with one.
        Fours(__m512i), 16, 32, _mm512_setzero_si512, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
        |sum, a, b| _mm512_dpbusd_epi32(sum, a, b)
    );
}

#[cfg(target_arch = "x86_64")]
use x86::Sse2 as Baseline;

/// Four plain sums: the compiler makes vectors of them where it can.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
struct Baseline([Group; 4], [i32; 4]);

#[cfg(not(target_arch = "x86_64"))]
impl Sums for Baseline {
    const LANES: usize = 4;
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 32 } else { 16 };

    #[inline(always)]
    fn zero() -> Self {
        Self([Group::default(); 4], [0; 4])
    }

    #[inline(always)]
    fn splat(group: Group) -> Self {
        Self([group; 4], [0; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const Group) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[Group; 4]>().read_unaligned() }, [0; 4])
    }

    #[inline(always)]
    fn add_products(self, a: Self, b: Self) -> Self {
        let products = |at: usize| {
            let number = |group: Group, place: usize| {
                i32::from(i16::from_le_bytes([group[2 * place], group[2 * place + 1]]))
            };
            let product = |place: usize| number(a.0[at], place) * number(b.0[at], place);
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
mod tests;
