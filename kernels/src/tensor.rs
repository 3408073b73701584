//! Tensors whose numbers are written once.

use tract_data::prelude::{Tensor, TractResult};

/// A tensor of this shape whose numbers `write` writes. They are not set to 0 first, which takes longer than many
/// operators do.
///
/// `write` must write every number, and must not read one before. What it is given are numbers of an earlier use of the
/// memory.
pub fn written(shape: &[usize], write: impl FnOnce(&mut [f32])) -> TractResult<Tensor> {
    // SAFETY: every pattern of bits is a number of this type, and `write` writes all of them before they are read.
    let mut tensor = unsafe { Tensor::uninitialized::<f32>(shape)? };
    write(tensor.try_as_plain_ram_mut()?.as_slice_mut()?);
    Ok(tensor)
}
