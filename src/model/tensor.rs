//! Tensors, as `wire`, `processing` and `engine` pass them to each other: an owned, typed, row-major buffer and its shape.
//! No JSON, no tract and no I/O here.
//!
//! Invariant: a [`Tensor`] has exactly as many elements as its shape says.

use std::ops::Range;

use half::f16;

pub use super::datatype::Datatype;

/// The bytes of memory that a BYTES element uses beside its content: the `Vec`, and the rounding of the allocator.
pub const ELEMENT_BYTES: usize = 48;

/// The elements of a tensor, flat and row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<Vec<u8>>),
}

/// Evaluates the same expression for the vector of any datatype.
#[macro_export]
#[doc(hidden)]
macro_rules! for_elements {
    ($elements:expr, $v:ident => $body:expr) => {
        match $elements {
            $crate::model::tensor::Elements::Bool($v) => $body,
            $crate::model::tensor::Elements::Uint8($v) => $body,
            $crate::model::tensor::Elements::Uint16($v) => $body,
            $crate::model::tensor::Elements::Uint32($v) => $body,
            $crate::model::tensor::Elements::Uint64($v) => $body,
            $crate::model::tensor::Elements::Int8($v) => $body,
            $crate::model::tensor::Elements::Int16($v) => $body,
            $crate::model::tensor::Elements::Int32($v) => $body,
            $crate::model::tensor::Elements::Int64($v) => $body,
            $crate::model::tensor::Elements::Fp16($v) => $body,
            $crate::model::tensor::Elements::Fp32($v) => $body,
            $crate::model::tensor::Elements::Fp64($v) => $body,
            $crate::model::tensor::Elements::Bytes($v) => $body,
        }
    };
}

impl Elements {
    /// No elements of a datatype.
    pub fn empty(datatype: Datatype) -> Elements {
        Elements::with_capacity(datatype, 0)
    }

    /// No elements of a datatype, with memory for `count`.
    pub fn with_capacity(datatype: Datatype, count: usize) -> Elements {
        match datatype {
            Datatype::Bool => Elements::Bool(Vec::with_capacity(count)),
            Datatype::Uint8 => Elements::Uint8(Vec::with_capacity(count)),
            Datatype::Uint16 => Elements::Uint16(Vec::with_capacity(count)),
            Datatype::Uint32 => Elements::Uint32(Vec::with_capacity(count)),
            Datatype::Uint64 => Elements::Uint64(Vec::with_capacity(count)),
            Datatype::Int8 => Elements::Int8(Vec::with_capacity(count)),
            Datatype::Int16 => Elements::Int16(Vec::with_capacity(count)),
            Datatype::Int32 => Elements::Int32(Vec::with_capacity(count)),
            Datatype::Int64 => Elements::Int64(Vec::with_capacity(count)),
            Datatype::Fp16 => Elements::Fp16(Vec::with_capacity(count)),
            Datatype::Fp32 => Elements::Fp32(Vec::with_capacity(count)),
            Datatype::Fp64 => Elements::Fp64(Vec::with_capacity(count)),
            Datatype::Bytes => Elements::Bytes(Vec::with_capacity(count)),
        }
    }

    /// The type of the elements.
    pub fn datatype(&self) -> Datatype {
        match self {
            Elements::Bool(_) => Datatype::Bool,
            Elements::Uint8(_) => Datatype::Uint8,
            Elements::Uint16(_) => Datatype::Uint16,
            Elements::Uint32(_) => Datatype::Uint32,
            Elements::Uint64(_) => Datatype::Uint64,
            Elements::Int8(_) => Datatype::Int8,
            Elements::Int16(_) => Datatype::Int16,
            Elements::Int32(_) => Datatype::Int32,
            Elements::Int64(_) => Datatype::Int64,
            Elements::Fp16(_) => Datatype::Fp16,
            Elements::Fp32(_) => Datatype::Fp32,
            Elements::Fp64(_) => Datatype::Fp64,
            Elements::Bytes(_) => Datatype::Bytes,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        for_elements!(self, v => v.len())
    }

    /// True when there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of memory that the elements use.
    pub fn memory(&self) -> usize {
        match self {
            Elements::Bytes(v) => ELEMENT_BYTES * v.len() + self.text_bytes(),
            numbers => numbers.len() * numbers.datatype().size().unwrap_or(1),
        }
    }

    /// The bytes inside the elements of BYTES. 0 for numbers.
    pub fn text_bytes(&self) -> usize {
        match self {
            Elements::Bytes(v) => v.iter().map(Vec::len).sum(),
            _ => 0,
        }
    }

    /// Reads elements in the binary form of the Open Inference Protocol (binary tensor extension): little-endian,
    /// without gaps. A BOOL is one byte, 0 or 1. A BYTES element is a `u32` length and that many bytes.
    ///
    /// Never allocates more elements than `bytes` contains.
    pub fn from_le_bytes(datatype: Datatype, bytes: &[u8]) -> Result<Elements, String> {
        if let Some(size) = datatype.size()
            && !bytes.len().is_multiple_of(size)
        {
            return Err(format!(
                "{} bytes are no whole number of {datatype} elements of {size} bytes",
                bytes.len()
            ));
        }
        macro_rules! numbers {
            ($variant:ident, $t:ty) => {
                Elements::$variant(
                    bytes
                        .as_chunks::<{ size_of::<$t>() }>()
                        .0
                        .iter()
                        .map(|chunk| <$t>::from_le_bytes(*chunk))
                        .collect(),
                )
            };
        }
        Ok(match datatype {
            Datatype::Bool => {
                if let Some(at) = bytes.iter().position(|byte| *byte > 1) {
                    return Err(format!("a BOOL is the byte 0 or 1, but element {at} is {}", bytes[at]));
                }
                Elements::Bool(bytes.iter().map(|byte| *byte == 1).collect())
            }
            Datatype::Uint8 => Elements::Uint8(bytes.to_vec()),
            Datatype::Uint16 => numbers!(Uint16, u16),
            Datatype::Uint32 => numbers!(Uint32, u32),
            Datatype::Uint64 => numbers!(Uint64, u64),
            Datatype::Int8 => numbers!(Int8, i8),
            Datatype::Int16 => numbers!(Int16, i16),
            Datatype::Int32 => numbers!(Int32, i32),
            Datatype::Int64 => numbers!(Int64, i64),
            Datatype::Fp16 => numbers!(Fp16, f16),
            Datatype::Fp32 => numbers!(Fp32, f32),
            Datatype::Fp64 => numbers!(Fp64, f64),
            Datatype::Bytes => Elements::Bytes(read_length_prefixed(bytes)?),
        })
    }

    /// Appends the binary form that [`Elements::from_le_bytes`] reads.
    pub fn write_le_bytes(&self, out: &mut Vec<u8>) {
        macro_rules! numbers {
            ($v:expr) => {
                for element in $v {
                    out.extend_from_slice(&element.to_le_bytes());
                }
            };
        }
        match self {
            Elements::Bool(v) => out.extend(v.iter().map(|b| u8::from(*b))),
            Elements::Uint8(v) => out.extend_from_slice(v),
            Elements::Uint16(v) => numbers!(v),
            Elements::Uint32(v) => numbers!(v),
            Elements::Uint64(v) => numbers!(v),
            Elements::Int8(v) => numbers!(v),
            Elements::Int16(v) => numbers!(v),
            Elements::Int32(v) => numbers!(v),
            Elements::Int64(v) => numbers!(v),
            Elements::Fp16(v) => numbers!(v),
            Elements::Fp32(v) => numbers!(v),
            Elements::Fp64(v) => numbers!(v),
            Elements::Bytes(v) => {
                for element in v {
                    out.extend_from_slice(&(element.len() as u32).to_le_bytes());
                    out.extend_from_slice(element);
                }
            }
        }
    }
}

/// Counts the BYTES elements in binary form. The error names the element that declares more bytes than follow.
pub fn count_length_prefixed(bytes: &[u8]) -> Result<usize, String> {
    let (mut rest, mut count) = (bytes, 0);
    while !rest.is_empty() {
        let Some((length, after)) = rest.split_first_chunk::<4>() else {
            return Err(format!("BYTES element {count} lacks its 4-byte length"));
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some((_, after)) = after.split_at_checked(length) else {
            return Err(format!("BYTES element {count} declares {length} bytes, but {} follow", after.len()));
        };
        count += 1;
        rest = after;
    }
    Ok(count)
}

fn read_length_prefixed(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut elements = Vec::with_capacity(count_length_prefixed(bytes)?);
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (element, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        elements.push(element.to_vec());
        bytes = rest;
    }
    Ok(elements)
}

/// The number of elements in a shape; `None` when it does not fit a `usize`.
pub fn volume(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))
}

/// Elements and their shape. Their numbers always agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    elements: Elements,
}

impl Tensor {
    /// Combines elements and a shape. The error gives both numbers of elements when they differ.
    pub fn new(shape: Vec<usize>, elements: Elements) -> Result<Tensor, String> {
        match volume(&shape) {
            Some(expected) if expected == elements.len() => Ok(Tensor { shape, elements }),
            Some(expected) => {
                Err(format!("shape {shape:?} holds {expected} elements, but the data has {}", elements.len()))
            }
            None => Err(format!("shape {shape:?} holds more elements than a machine can address")),
        }
    }

    /// A tensor of zeros, `false` or (for BYTES) empty elements.
    pub fn zeros(datatype: Datatype, shape: Vec<usize>) -> Result<Tensor, String> {
        let count = volume(&shape).ok_or_else(|| format!("shape {shape:?} is too large"))?;
        let mut elements = Elements::empty(datatype);
        for_elements!(&mut elements, v => v.resize(count, Default::default()));
        Tensor::new(shape, elements)
    }

    /// The length of each axis, the outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    pub fn elements(&self) -> &Elements {
        &self.elements
    }

    /// The type of the elements.
    pub fn datatype(&self) -> Datatype {
        self.elements.datatype()
    }

    /// The bytes of memory that the elements use.
    pub fn memory(&self) -> usize {
        self.elements.memory()
    }

    /// The elements, without the shape.
    pub fn into_elements(self) -> Elements {
        self.elements
    }

    /// Copies the part `range` of an axis. The result has as many axes as before.
    ///
    /// # Panics
    /// If the axis does not exist or is shorter than the range. Callers take both from the shape.
    pub fn slice(&self, axis: usize, range: Range<usize>) -> Tensor {
        let (length, inner) = (self.shape[axis], self.shape[axis + 1..].iter().product::<usize>());
        let outer: usize = self.shape[..axis].iter().product();
        macro_rules! cut {
            ($($variant:ident)*) => {
                match &self.elements {
                    $(Elements::$variant(v) => {
                        let mut part = Vec::with_capacity(outer * range.len() * inner);
                        for block in 0..outer {
                            let begin = block * length * inner;
                            let wanted = begin + range.start * inner..begin + range.end * inner;
                            part.extend_from_slice(&v[wanted]);
                        }
                        Elements::$variant(part)
                    })*
                }
            };
        }
        let elements = cut!(Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Fp32 Fp64 Bytes);
        let mut shape = self.shape.clone();
        shape[axis] = range.len();
        Tensor { shape, elements }
    }

    /// Joins tensors along an axis. Their datatypes, and their shapes without this axis, must be equal.
    pub fn concat(axis: usize, parts: &[&Tensor]) -> Result<Tensor, String> {
        let Some((first, others)) = parts.split_first() else { return Err("nothing to join".into()) };
        for other in others {
            let (a, b) = (&first.shape, &other.shape);
            let alike = a.len() == b.len() && (0..a.len()).all(|at| at == axis || a[at] == b[at]);
            if !alike || axis >= a.len() || other.datatype() != first.datatype() {
                return Err(format!(
                    "{} {b:?} cannot be joined to {} {a:?} along axis {axis}",
                    other.datatype(),
                    first.datatype()
                ));
            }
        }
        let inner: usize = first.shape.get(axis + 1..).unwrap_or_default().iter().product();
        let outer: usize = first.shape.get(..axis).unwrap_or_default().iter().product();
        let total: usize = parts.iter().map(|part| part.shape[axis]).sum();
        macro_rules! join {
            ($($variant:ident)*) => {
                match &first.elements {
                    $(Elements::$variant(_) => {
                        let mut whole = Vec::with_capacity(outer * total * inner);
                        for block in 0..outer {
                            for part in parts {
                                let Elements::$variant(v) = &part.elements else { continue };
                                let length = part.shape[axis] * inner;
                                whole.extend_from_slice(&v[block * length..(block + 1) * length]);
                            }
                        }
                        Elements::$variant(whole)
                    })*
                }
            };
        }
        let elements = join!(Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Fp32 Fp64 Bytes);
        let mut shape = first.shape.clone();
        shape[axis] = total;
        Tensor::new(shape, elements)
    }

    /// Releases the memory that [`Tensor::append`] reserved for more rows.
    pub fn shrink_to_fit(&mut self) {
        for_elements!(&mut self.elements, v => v.shrink_to_fit());
    }

    /// Appends the rows of `other`. Its datatype, and its shape without the first axis, must be equal.
    pub fn append(&mut self, other: Tensor) -> Result<(), String> {
        if self.shape.is_empty() || self.shape.get(1..) != other.shape.get(1..) {
            return Err(format!(
                "rows of shape {:?} do not go with {:?}: expected the same lengths after the first",
                other.shape, self.shape
            ));
        }
        macro_rules! extend {
            ($($variant:ident)*) => {
                match (&mut self.elements, other.elements) {
                    $((Elements::$variant(a), Elements::$variant(b)) => a.extend(b),)*
                    (a, b) => return Err(format!("{} rows do not go with {}: expected the same datatype", b.datatype(), a.datatype())),
                }
            };
        }
        extend!(Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Fp32 Fp64 Bytes);
        self.shape[0] += other.shape[0];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_form_of_every_datatype_is_read_as_it_was_written() {
        for datatype in Datatype::ALL {
            let tensor = Tensor::zeros(datatype, vec![2, 3]).unwrap();
            let mut bytes = Vec::new();
            tensor.elements().write_le_bytes(&mut bytes);
            assert_eq!(&Elements::from_le_bytes(datatype, &bytes).unwrap(), tensor.elements());
            assert_eq!(Datatype::from_name(datatype.name()), Some(datatype));
        }
    }

    #[test]
    fn a_bytes_element_with_a_wrong_length_is_refused_before_memory_is_allocated() {
        let lie = [0xff, 0xff, 0xff, 0xff, 1, 2];
        let error = Elements::from_le_bytes(Datatype::Bytes, &lie).unwrap_err();
        assert_eq!(error, "BYTES element 0 declares 4294967295 bytes, but 2 follow");
    }

    #[test]
    fn a_shape_that_is_too_large_to_address_is_an_error() {
        let error = Tensor::new(vec![usize::MAX, 2], Elements::Fp32(vec![])).unwrap_err();
        assert!(error.contains("more elements than a machine can address"), "{error}");
    }

    #[test]
    fn slices_along_any_axis_join_to_the_whole_tensor() {
        let whole = Tensor::new(vec![3, 4, 2], Elements::Int32((0..24).collect())).unwrap();
        for axis in 0..3 {
            let length = whole.shape()[axis];
            let (a, b) = (whole.slice(axis, 0..1), whole.slice(axis, 1..length));
            assert_eq!(Tensor::concat(axis, &[&a, &b]).unwrap(), whole, "axis {axis}");
        }
        let column = whole.slice(1, 2..3);
        assert_eq!(column.elements(), &Elements::Int32(vec![4, 5, 12, 13, 20, 21]));
        let mut rows = whole.slice(0, 0..1);
        rows.append(whole.slice(0, 1..3)).unwrap();
        assert_eq!(rows, whole);
    }

    #[test]
    fn tensors_that_differ_in_another_axis_or_in_datatype_are_not_joined() {
        let tensor = |shape: [usize; 2], elements| Tensor::new(shape.to_vec(), elements).unwrap();
        let a = tensor([1, 2], Elements::Int32(vec![1, 2]));
        for b in [tensor([1, 1], Elements::Int32(vec![3])), tensor([1, 2], Elements::Int64(vec![3, 4]))] {
            assert!(Tensor::concat(0, &[&a, &b]).unwrap_err().contains("cannot be joined"));
        }
        assert!(Tensor::concat(2, &[&a, &a]).is_err());
    }
}
