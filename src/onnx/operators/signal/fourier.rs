//! The discrete Fourier transform of one signal, for any length, in FP64.
//!
//! Lengths that are powers of two are transformed by halves (Cooley–Tukey). Other lengths become a convolution of such a
//! length (Bluestein). Both take n × log n steps.

use std::f64::consts::PI;

/// A complex number: its real and its imaginary part.
pub type Complex = [f64; 2];

fn times([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a * c - b * d, a * d + b * c]
}

fn plus([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a + c, b + d]
}

fn minus([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a - c, b - d]
}

/// e to the power of −2πi × `part` ÷ `whole`. `part` is less than `whole`, so that no digits are lost.
fn root(part: usize, whole: usize) -> Complex {
    let angle = -2.0 * PI * part as f64 / whole as f64;
    let (sine, cosine) = angle.sin_cos();
    [cosine, sine]
}

/// A transform of signals of one length.
#[derive(Debug)]
pub struct Fourier {
    length: usize,
    /// The transform of a power of two.
    halves: Halves,
    /// For other lengths.
    chirp: Option<Chirp>,
}

/// The parts of Bluestein's algorithm that depend only on the length.
#[derive(Debug)]
struct Chirp {
    /// e to the power of −πi × n² ÷ length, for each n.
    factors: Vec<Complex>,
    /// The transform of the inverse factors, in the length of the convolution.
    filter: Vec<Complex>,
}

impl Fourier {
    /// A transform of signals of this length.
    pub fn new(length: usize) -> Fourier {
        if length.is_power_of_two() || length == 0 {
            return Fourier { length, halves: Halves::new(length.max(1)), chirp: None };
        }
        let halves = Halves::new((2 * length - 1).next_power_of_two());
        // n² modulo twice the length: the angle stays small, and exact.
        let square = |n: usize| (n as u128 * n as u128 % (2 * length as u128)) as usize;
        let factors: Vec<Complex> = (0..length).map(|n| root(square(n), 2 * length)).collect();
        let mut filter = vec![[0.0; 2]; halves.length];
        for (n, [real, imaginary]) in factors.iter().copied().enumerate() {
            filter[n] = [real, -imaginary];
            if n > 0 {
                filter[halves.length - n] = [real, -imaginary];
            }
        }
        halves.transform(&mut filter);
        Fourier { length, halves, chirp: Some(Chirp { factors, filter }) }
    }

    /// Transforms a signal in place. It has the length of this transform.
    pub fn transform(&self, signal: &mut [Complex]) {
        let Some(chirp) = &self.chirp else {
            if self.length > 1 {
                self.halves.transform(signal);
            }
            return;
        };
        let mut work = vec![[0.0; 2]; self.halves.length];
        for (to, (from, factor)) in work.iter_mut().zip(signal.iter().zip(&chirp.factors)) {
            *to = times(*from, *factor);
        }
        self.halves.transform(&mut work);
        // The inverse transform is the transform of the conjugate, conjugated.
        for (value, filter) in work.iter_mut().zip(&chirp.filter) {
            let [real, imaginary] = times(*value, *filter);
            *value = [real, -imaginary];
        }
        self.halves.transform(&mut work);
        let scale = 1.0 / self.halves.length as f64;
        for (to, ([real, imaginary], factor)) in signal.iter_mut().zip(work.into_iter().zip(&chirp.factors)) {
            *to = times([real * scale, -imaginary * scale], *factor);
        }
    }

    /// The inverse of [`Self::transform`], with its factor of 1 ÷ length.
    pub fn invert(&self, signal: &mut [Complex]) {
        signal.iter_mut().for_each(|[_, imaginary]| *imaginary = -*imaginary);
        self.transform(signal);
        let scale = 1.0 / self.length.max(1) as f64;
        signal.iter_mut().for_each(|value| *value = [value[0] * scale, -value[1] * scale]);
    }
}

/// The transform of a power of two.
#[derive(Debug)]
struct Halves {
    length: usize,
    /// e to the power of −2πi × n ÷ length, for n below half of the length.
    roots: Vec<Complex>,
}

impl Halves {
    fn new(length: usize) -> Halves {
        Halves { length, roots: (0..length / 2).map(|n| root(n, length)).collect() }
    }

    fn transform(&self, signal: &mut [Complex]) {
        if self.length < 2 {
            return;
        }
        let bits = self.length.trailing_zeros();
        for at in 0..self.length {
            let other = at.reverse_bits() >> (usize::BITS - bits);
            if at < other {
                signal.swap(at, other);
            }
        }
        let mut half = 1;
        while half < self.length {
            let step = self.length / (2 * half);
            for block in signal.chunks_exact_mut(2 * half) {
                let (first, second) = block.split_at_mut(half);
                for ((a, b), root) in first.iter_mut().zip(second).zip(self.roots.iter().step_by(step)) {
                    let turned = times(*b, *root);
                    (*a, *b) = (plus(*a, turned), minus(*a, turned));
                }
            }
            half *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_transformed_as_by_the_definition_and_back() {
        for length in [1_usize, 2, 3, 4, 5, 7, 8, 12, 31, 64, 100, 257] {
            let signal: Vec<Complex> =
                (0..length).map(|n| [(n as f64 * 0.7).sin(), (n as f64 * 1.3).cos()]).collect();
            let mut found = signal.clone();
            let fourier = Fourier::new(length);
            fourier.transform(&mut found);
            for (k, found) in found.iter().enumerate() {
                let terms =
                    signal.iter().enumerate().map(|(n, value)| times(*value, root(n * k % length, length)));
                let expected = terms.fold([0.0; 2], plus);
                let [real, imaginary] = minus(*found, expected);
                assert!(real.abs() + imaginary.abs() < 1e-11, "{length}: {k}");
            }
            fourier.invert(&mut found);
            for (found, expected) in found.iter().zip(&signal) {
                let [real, imaginary] = minus(*found, *expected);
                assert!(real.abs() + imaginary.abs() < 1e-12, "{length} back");
            }
        }
    }
}
