//! What tract uses of rustfft 6, over rustfft 5: see Cargo.toml.
//!
//! The two speak of complex numbers in two versions of num-complex, so a transform copies its buffer there and back.
//! Powers of two go by Radix-4, other lengths by Bluestein's algorithm over those: the planner's mixed radices and
//! two dozen butterflies, for two types of number, would be 300 KB more.

use std::marker::PhantomData;
use std::sync::Arc;

pub use num_complex;
pub use scalar::{FftDirection, FftNum, num_traits};

use num_complex::Complex;
use scalar::algorithm::{BluesteinsAlgorithm, Radix4};
use scalar::num_complex::Complex as OldComplex;

/// Plans transforms of any length.
pub struct FftPlanner<T: FftNum>(PhantomData<T>);

impl<T: FftNum> FftPlanner<T> {
    #[allow(clippy::new_without_default)]
    pub fn new() -> FftPlanner<T> {
        FftPlanner(PhantomData)
    }

    pub fn plan_fft(&mut self, length: usize, direction: FftDirection) -> Arc<Fft<T>> {
        let radix4 = |length| Arc::new(Radix4::new(length, direction));
        if length.is_power_of_two() {
            return Arc::new(Fft(radix4(length)));
        }
        let inner = radix4((2 * length.max(1) - 1).next_power_of_two());
        Arc::new(Fft(Arc::new(BluesteinsAlgorithm::new(length, inner))))
    }

    pub fn plan_fft_forward(&mut self, length: usize) -> Arc<Fft<T>> {
        self.plan_fft(length, FftDirection::Forward)
    }
}

/// A transform, neither direction scaled.
pub struct Fft<T: FftNum>(Arc<dyn scalar::Fft<T>>);

impl<T: FftNum> Fft<T> {
    /// Transforms each stretch of the planned length in place.
    pub fn process(&self, buffer: &mut [Complex<T>]) {
        let mut old: Vec<OldComplex<T>> =
            buffer.iter().map(|value| OldComplex::new(value.re, value.im)).collect();
        self.0.process(&mut old);
        for (new, old) in buffer.iter_mut().zip(old) {
            *new = Complex::new(old.re, old.im);
        }
    }
}
