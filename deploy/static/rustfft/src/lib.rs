//! The part of rustfft 6 that tract uses, on top of rustfft 5. Cargo.toml says why. Nothing else belongs here.
//!
//! The two versions use complex numbers of different versions of num-complex, so each transform copies its buffer to
//! the old type and back.
//!
//! Lengths that are powers of two use Radix-4. Other lengths use Bluestein's algorithm on top of Radix-4. The planner
//! of rustfft, with mixed radices and two dozen butterflies for two number types, would add 300 KB.

use std::marker::PhantomData;
use std::sync::Arc;

pub use num_complex;
pub use scalar::{FftDirection, FftNum, num_traits};

use num_complex::Complex;
use scalar::algorithm::{BluesteinsAlgorithm, Radix4};
use scalar::num_complex::Complex as OldComplex;

/// Makes transforms of any length. It has no state.
pub struct FftPlanner<T: FftNum>(PhantomData<T>);

impl<T: FftNum> FftPlanner<T> {
    #[allow(clippy::new_without_default)]
    pub fn new() -> FftPlanner<T> {
        FftPlanner(PhantomData)
    }

    /// A transform of `length` complex numbers in one direction.
    pub fn plan_fft(&mut self, length: usize, direction: FftDirection) -> Arc<Fft<T>> {
        let radix4 = |length| Arc::new(Radix4::new(length, direction));
        if length.is_power_of_two() {
            return Arc::new(Fft(radix4(length)));
        }
        let inner = radix4((2 * length.max(1) - 1).next_power_of_two());
        Arc::new(Fft(Arc::new(BluesteinsAlgorithm::new(length, inner))))
    }

    /// A forward transform of `length` complex numbers.
    pub fn plan_fft_forward(&mut self, length: usize) -> Arc<Fft<T>> {
        self.plan_fft(length, FftDirection::Forward)
    }
}

/// A discrete Fourier transform of a fixed length. Neither direction scales its result.
pub struct Fft<T: FftNum>(Arc<dyn scalar::Fft<T>>);

impl<T: FftNum> Fft<T> {
    /// Transforms each chunk of the planned length in place. Panics when the length of `buffer` is not a multiple of
    /// it.
    pub fn process(&self, buffer: &mut [Complex<T>]) {
        let mut old: Vec<OldComplex<T>> =
            buffer.iter().map(|value| OldComplex::new(value.re, value.im)).collect();
        self.0.process(&mut old);
        for (new, old) in buffer.iter_mut().zip(old) {
            *new = Complex::new(old.re, old.im);
        }
    }
}
