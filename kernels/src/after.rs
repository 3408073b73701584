//! What follows a product or a convolution, done while its result is in the first cache.

use super::functions::{self, Function};
use super::level::for_levels;
use super::simd::Simd;

/// What happens to each number of the result before it is stored: some functions, the sum with another tensor, and some
/// more functions.
#[derive(Debug, Clone, Copy, Default)]
pub struct After<'a> {
    pub first: &'a [Function],
    /// A tensor of the shape of the result.
    pub add: Option<&'a [f32]>,
    pub then: &'a [Function],
}

impl After<'_> {
    /// The same for a part of the result.
    pub(crate) fn part(&self, place: usize, count: usize) -> Self {
        After { add: self.add.map(|other| &other[place..][..count]), ..*self }
    }

    fn is_nothing(&self) -> bool {
        self.first.is_empty() && self.add.is_none() && self.then.is_empty()
    }
}

/// A rectangle of a tensor: `count` neighbours in each of its rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Where the first row begins.
    pub place: usize,
    pub rows: usize,
    /// From one row to the next one.
    pub distance: usize,
    pub count: usize,
}

impl Block {
    /// Neighbours.
    pub fn line(place: usize, count: usize) -> Block {
        Block { place, rows: 1, distance: 0, count }
    }

    /// Where each row begins.
    #[inline(always)]
    pub fn places(self) -> impl Iterator<Item = usize> {
        (0..self.rows).map(move |row| self.place + row * self.distance)
    }
}

/// Does to a part of the result what comes after the sums. It is in the first cache.
#[inline(always)]
pub(crate) fn finish<V: Simd>(after: &After, block: Block, to: &mut [f32]) {
    if !after.is_nothing() {
        finish_at(V::LEVEL, after, block, to);
    }
}

for_levels! {
    /// One function for all kernels, which would be much larger with the code of all functions in each of their loops.
    fn finish_at(after: &After, block: Block, to: &mut [f32]) = finish_in;
}

#[inline(always)]
fn finish_in<V: Simd>(after: &After, block: Block, to: &mut [f32]) {
    for (functions, add) in [(after.first, after.add), (after.then, None)] {
        for function in functions {
            functions::apply_in::<V>(*function, block, to);
        }
        let Some(other) = add else { continue };
        for place in block.places() {
            let (to, other) = (&mut to[place..][..block.count], &other[place..][..block.count]);
            for (to, other) in to.chunks_mut(V::LANES).zip(other.chunks(V::LANES)) {
                V::load_part(to).add(V::load_part(other)).store_part(to);
            }
        }
    }
}
