//! What follows a product or a convolution, done while its result is in the first cache.

use super::functions::{self, Function};
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

/// Does to a part of the result what comes after the sums. It is in the first cache. `place` is where it begins.
#[inline(always)]
pub(crate) fn finish<V: Simd>(after: &After, place: usize, to: &mut [f32]) {
    for function in after.first {
        functions::apply_in::<V>(*function, to);
    }
    if let Some(other) = after.add {
        let other = &other[place..][..to.len()];
        for (to, other) in to.chunks_mut(V::LANES).zip(other.chunks(V::LANES)) {
            V::load_part(to).add(V::load_part(other)).store_part(to);
        }
    }
    for function in after.then {
        functions::apply_in::<V>(*function, to);
    }
}
