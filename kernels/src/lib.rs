//! Loops over numbers: matrix products, convolutions, functions of many numbers at once.
//!
//! The only crate of onnxd with `unsafe` code. Kernels know slices and sizes, not graphs or ONNX; [`tensor`] makes the
//! tensors into which they write.
//!
//! - `simd` is a vector of FP32 numbers; there is one type for each set of vector instructions.
//! - `level` finds out once which instructions the processor has. A kernel is generic code over `simd`; the macro
//!   `for_levels` compiles it for each level and calls the best one.
//! - The other modules are the kernels. Their public functions are safe: they check the lengths of the slices that they
//!   are given.
//!
//! Tests compare each kernel, at each level that the machine has, with a plain loop.

mod level;
mod simd;

pub mod after;
pub mod blend;
pub mod bytes;
pub mod conv;
pub mod crew;
pub mod functions;
pub mod integer;
pub mod pool;
pub mod product;
pub mod quantize;
pub mod reduce;
pub mod rows;
pub mod softmax;
pub mod tensor;

#[cfg(test)]
mod random;

pub use level::Level;
