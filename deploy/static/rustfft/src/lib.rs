//! What tract uses of rustfft 6, over rustfft 5: see Cargo.toml.
//!
//! The two speak of complex numbers in two versions of num-complex, so a transform copies its buffer there and back.

use std::sync::Arc;

pub use num_complex;
pub use scalar::{FftDirection, FftNum, num_traits};

use num_complex::Complex;
use scalar::num_complex::Complex as OldComplex;

/// Plans transforms of any length.
pub struct FftPlanner<T: FftNum>(scalar::FftPlanner<T>);

impl<T: FftNum> FftPlanner<T> {
    #[allow(clippy::new_without_default)]
    pub fn new() -> FftPlanner<T> {
        FftPlanner(scalar::FftPlanner::new())
    }

    pub fn plan_fft(&mut self, length: usize, direction: FftDirection) -> Arc<Fft<T>> {
        Arc::new(Fft(self.0.plan_fft(length, direction)))
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
