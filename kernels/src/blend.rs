//! Weighted sums of numbers along an axis, such as in resized images.

use crate::level::{Level, for_levels};
use crate::simd::Simd;

/// Which numbers of an axis make each number of the result, and their weights.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// How many numbers make one.
    pub width: usize,
    /// For each number of the result, the places of `width` numbers.
    pub places: &'a [usize],
    pub weights: &'a [f32],
}

/// Sums along an axis of `input` places with `inner` numbers behind each place: `from` is outer × `input` × `inner`, and
/// `to` outer × results × `inner`.
///
/// Panics: the lengths do not fit, or a place is outside of the axis.
pub fn blend(weights: Weights, from: &[f32], to: &mut [f32], input: usize, inner: usize) {
    blend_at(Level::best(), weights, from, to, input, inner);
}

for_levels! {
    fn blend_at(weights: Weights, from: &[f32], to: &mut [f32], input: usize, inner: usize) = blend_in;
}

#[inline(always)]
fn blend_in<V: Simd>(weights: Weights, from: &[f32], to: &mut [f32], input: usize, inner: usize) {
    let Weights { width, places, weights } = weights;
    assert!(width > 0 && places.len() == weights.len() && places.len().is_multiple_of(width));
    assert!(places.iter().all(|place| *place < input), "a place is outside of the axis");
    let output = places.len() / width;
    if input * inner == 0 || output == 0 {
        return;
    }
    assert_eq!(from.len() / (input * inner) * output * inner, to.len(), "the lengths do not fit");
    // The run of results that are made in pairs from neighbours, if there is one.
    let doubled = if inner == 1 { Doubled::find(width, places, weights) } else { None };
    for (from, to) in from.chunks_exact(input * inner).zip(to.chunks_exact_mut(output * inner)) {
        if inner > 1 {
            rows(width, places, weights, from, to, inner);
        } else if let Some(doubled) = &doubled {
            let (begin, end) = (doubled.begin, doubled.end);
            pairs(&places[..2 * begin], &weights[..2 * begin], from, &mut to[..begin]);
            doubled.run(from, &mut to[begin..end]);
            pairs(&places[2 * end..], &weights[2 * end..], from, &mut to[end..]);
        } else if width == 2 {
            pairs(places, weights, from, to);
        } else {
            for (at, result) in to.iter_mut().enumerate() {
                let mut sum = 0.0;
                for (place, weight) in places[at * width..][..width].iter().zip(&weights[at * width..]) {
                    sum += from[*place] * weight;
                }
                *result = sum;
            }
        }
    }
}

/// Each row is a sum of rows.
#[inline(always)]
fn rows(width: usize, places: &[usize], weights: &[f32], from: &[f32], to: &mut [f32], inner: usize) {
    let each = places.chunks_exact(width).zip(weights.chunks_exact(width));
    for ((places, weights), to) in each.zip(to.chunks_exact_mut(inner)) {
        if let ([first, second], [a, b]) = (places, weights) {
            let (first, second) = (&from[first * inner..][..inner], &from[second * inner..][..inner]);
            for ((to, first), second) in to.iter_mut().zip(first).zip(second) {
                *to = first * a + second * b;
            }
            continue;
        }
        to.fill(0.0);
        for (place, weight) in places.iter().zip(weights) {
            for (to, from) in to.iter_mut().zip(&from[place * inner..][..inner]) {
                *to += from * weight;
            }
        }
    }
}

/// Each result is a sum of two numbers.
#[inline(always)]
fn pairs(places: &[usize], weights: &[f32], from: &[f32], to: &mut [f32]) {
    let each = places.as_chunks::<2>().0.iter().zip(weights.as_chunks::<2>().0);
    for (to, ([left, right], [a, b])) in to.iter_mut().zip(each) {
        *to = from[*left] * a + from[*right] * b;
    }
}

/// Two results for each number of the input: both are sums of two neighbours, with the same weights for all pairs. It is
/// so where an image becomes twice as large.
#[derive(Debug)]
struct Doubled {
    /// The results from the first pair to behind the last.
    begin: usize,
    end: usize,
    /// Where the left neighbours of the first pair are.
    lefts: [usize; 2],
    weights: [[f32; 2]; 2],
}

impl Doubled {
    fn find(width: usize, places: &[usize], weights: &[f32]) -> Option<Doubled> {
        if width != 2 {
            return None;
        }
        let (places, weights) = (places.as_chunks::<2>().0, weights.as_chunks::<2>().0);
        let count = places.len();
        let begin = 2.min(count);
        let (lefts, first) =
            ([places.get(begin)?[0], places.get(begin + 1)?[0]], weights.get(begin..begin + 2)?);
        let is_pair = |at: usize| {
            (0..2).all(|n| {
                let left = lefts[n] + (at - begin) / 2;
                places[at + n] == [left, left + 1] && weights[at + n] == first[n]
            })
        };
        let pairs = (begin..count - 1).step_by(2).take_while(|at| is_pair(*at)).count();
        (pairs > 1).then(|| Doubled { begin, end: begin + 2 * pairs, lefts, weights: [first[0], first[1]] })
    }

    #[inline(always)]
    fn run(&self, from: &[f32], to: &mut [f32]) {
        let [[a, b], [c, d]] = self.weights;
        let count = to.len() / 2;
        let (first, second) = (&from[self.lefts[0]..][..count + 1], &from[self.lefts[1]..][..count + 1]);
        let both = first.iter().zip(&first[1..]).zip(second.iter().zip(&second[1..]));
        for (to, ((left, right), (other_left, other_right))) in to.as_chunks_mut::<2>().0.iter_mut().zip(both)
        {
            *to = [left * a + right * b, other_left * c + other_right * d];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn check(width: usize, places: &[usize], weights: &[f32], input: usize, inner: usize, outer: usize) {
        let from = Random::new(input as u64).numbers(outer * input * inner);
        let output = places.len() / width;
        for level in Level::all() {
            let mut to = vec![9.0; outer * output * inner];
            blend_at(level, Weights { width, places, weights }, &from, &mut to, input, inner);
            for (at, result) in to.iter().enumerate() {
                let (plane, place, column) = (at / (output * inner), at / inner % output, at % inner);
                let number = |n: usize| {
                    from[(plane * input + places[place * width + n]) * inner + column]
                        * weights[place * width + n]
                };
                let expected: f32 = (0..width).map(number).sum();
                assert!((result - expected).abs() < 1e-5, "{level:?} {result} {expected}");
            }
        }
    }

    #[test]
    fn sums_are_those_of_plain_loops() {
        let mut random = Random::new(3);
        for round in 0..500 {
            let (width, input, output) = (random.size(1, 5), random.size(1, 20), random.size(1, 40));
            let inner = if round % 2 == 0 { 1 } else { random.size(1, 40) };
            let places: Vec<usize> = (0..output * width).map(|_| random.size(0, input - 1)).collect();
            let weights = random.numbers(output * width);
            check(width, &places, &weights, input, inner, random.size(0, 3));
        }
    }

    #[test]
    fn an_axis_of_twice_the_length_is_the_same_at_its_ends_and_inside() {
        for input in 1..40_usize {
            let last = input as i64 - 1;
            let mut places = Vec::new();
            let mut weights = Vec::new();
            for at in 0..2 * input as i64 {
                let left = (at - 1).div_euclid(2);
                places.extend([left, left + 1].map(|place| place.clamp(0, last) as usize));
                weights.extend(if at % 2 == 0 { [0.25, 0.75] } else { [0.75, 0.25] });
            }
            let found = Doubled::find(2, &places, &weights);
            assert_eq!(found.is_some(), input > 3, "{input} {found:?}");
            check(2, &places, &weights, input, 1, 2);
        }
    }

    #[test]
    #[should_panic(expected = "outside of the axis")]
    fn a_place_outside_of_the_axis_is_not_read() {
        blend(Weights { width: 1, places: &[3], weights: &[1.0] }, &[0.0; 3], &mut [0.0], 3, 1);
    }
}
