//! A tensor of a chain becomes the input of a step: scaled, cut into windows, with another shape.

use crate::model::manifest::{MappedInput, WindowManifest};
use crate::model::{Elements, Tensor};

/// The most windows that one request may complete.
const MOST_WINDOWS: usize = 1024;

/// How a tensor is changed for an input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping {
    scale: Option<f32>,
    offset: Option<f32>,
    window: Option<WindowManifest>,
    reshape: Option<Vec<i64>>,
}

/// What a piece has completed.
#[derive(Debug, PartialEq)]
pub struct Cut {
    pub windows: Vec<Tensor>,
    /// What later windows need.
    pub rest: Tensor,
}

impl Mapping {
    /// Makes the mapping that `said` describes.
    pub fn new(said: &MappedInput) -> Mapping {
        match said {
            MappedInput::Name(_) => Mapping::default(),
            MappedInput::Changed(changed) => Mapping {
                scale: changed.scale,
                offset: changed.offset,
                window: changed.window.clone(),
                reshape: changed.reshape.clone(),
            },
        }
    }

    /// Whether the tensor stays as it is.
    pub fn is_plain(&self) -> bool {
        *self == Mapping::default()
    }

    /// Whether the elements change, which only floats can.
    pub fn changes_values(&self) -> bool {
        self.scale.is_some() || self.offset.is_some() || self.initial().is_some()
    }

    fn initial(&self) -> Option<f32> {
        self.window.as_ref().and_then(|window| window.initial)
    }

    /// Whether the tensors of several requests are joined.
    pub fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// The shape that comes of this one, and whether it can be: `None` stands for an open length.
    ///
    /// Errors: the axis of the window does not exist, or the elements do not fit the new shape.
    pub fn shape(&self, shape: &[Option<usize>]) -> Result<Vec<Option<usize>>, String> {
        let mut shape = shape.to_vec();
        if let Some(window) = &self.window {
            let rank = shape.len();
            let length = shape.get_mut(window.axis).ok_or_else(|| {
                format!("window.axis is {}, but the tensor has {rank} axes: expected less", window.axis)
            })?;
            *length = Some(window.size);
        }
        let Some(wanted) = &self.reshape else { return Ok(shape) };
        let whole = |shape: &[Option<usize>]| shape.iter().copied().product::<Option<usize>>();
        let known: Vec<Option<usize>> = wanted.iter().map(|dim| usize::try_from(*dim).ok()).collect();
        let fits = match (whole(&shape), whole(&known)) {
            (Some(count), Some(other)) => count == other,
            (Some(count), None) => {
                let others: usize = known.iter().flatten().product();
                others > 0 && count.is_multiple_of(others)
            }
            _ => true,
        };
        if !fits {
            return Err(format!("reshape is {wanted:?}, which cannot hold the elements of {shape:?}"));
        }
        Ok(known)
    }

    /// Scales the elements.
    ///
    /// Errors: they are no FP32.
    pub fn leveled(&self, tensor: Tensor) -> Result<Tensor, String> {
        if self.scale.is_none() && self.offset.is_none() {
            return Ok(tensor);
        }
        let (scale, offset) = (self.scale.unwrap_or(1.0), self.offset.unwrap_or(0.0));
        let shape = tensor.shape().to_vec();
        match tensor.into_elements() {
            Elements::Fp32(mut values) => {
                values.iter_mut().for_each(|value| *value = *value * scale + offset);
                Tensor::new(shape, Elements::Fp32(values))
            }
            other => Err(format!("scale and offset need FP32, but the tensor is {}", other.datatype())),
        }
    }

    /// Joins `piece` to what came `before`, and cuts off the windows that are complete. Without a window, the piece itself
    /// is the only one.
    ///
    /// Errors: the piece does not fit what came before, or completes too many windows.
    pub fn cut(&self, before: Option<Tensor>, piece: Tensor) -> Result<Option<Cut>, String> {
        let Some(window) = &self.window else { return Ok(None) };
        let WindowManifest { axis, size, .. } = *window;
        let hop = window.hop.unwrap_or(size);
        let before = match before {
            Some(before) => before,
            None => self.beginning(&piece, size.saturating_sub(hop))?,
        };
        let joined = Tensor::concat(axis, &[&before, &piece])?;
        let length = joined.shape()[axis];
        let count = (length + hop).saturating_sub(size) / hop;
        if count > MOST_WINDOWS {
            return Err(format!(
                "a request completes {count} windows: at most {MOST_WINDOWS} fit, so send less at once"
            ));
        }
        let windows = (0..count).map(|at| joined.slice(axis, at * hop..at * hop + size)).collect();
        Ok(Some(Cut { windows, rest: joined.slice(axis, count * hop..length) }))
    }

    /// What lies before the first piece.
    fn beginning(&self, piece: &Tensor, length: usize) -> Result<Tensor, String> {
        let axis = self.window.as_ref().map_or(0, |window| window.axis);
        let mut shape = piece.shape().to_vec();
        let along = shape.get_mut(axis).ok_or("the tensor has too few axes for its window")?;
        *along = if self.initial().is_some() { length } else { 0 };
        match self.initial() {
            None => Tensor::zeros(piece.datatype(), shape),
            Some(value) => {
                let count = shape.iter().product();
                Tensor::new(shape, Elements::Fp32(vec![value; count]))
            }
        }
    }

    /// Gives a window, or the tensor, its new shape.
    ///
    /// Errors: it has another number of elements.
    pub fn shaped(&self, tensor: Tensor) -> Result<Tensor, String> {
        let Some(wanted) = &self.reshape else { return Ok(tensor) };
        let count = tensor.elements().len();
        let others: usize = wanted.iter().filter_map(|dim| usize::try_from(*dim).ok()).product();
        let length = |dim: &i64| usize::try_from(*dim).unwrap_or(count / others.max(1));
        let shape: Vec<usize> = wanted.iter().map(length).collect();
        let had = format!("{:?}", tensor.shape());
        Tensor::new(shape, tensor.into_elements())
            .map_err(|_| format!("{had} cannot be reshaped to {wanted:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(json: &str) -> Mapping {
        Mapping::new(&serde_json::from_str(json).unwrap())
    }

    fn floats(shape: &[usize], from: f32) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::new(shape.to_vec(), Elements::Fp32((0..count).map(|at| from + at as f32).collect())).unwrap()
    }

    #[test]
    fn windows_go_on_from_piece_to_piece_whatever_their_lengths() {
        let mapping = mapping(r#"{"tensor": "x", "window": {"axis": 1, "size": 3, "hop": 2}}"#);
        let (mut rest, mut cut) = (None, Vec::new());
        let whole = floats(&[1, 9], 0.0);
        let mut at = 0;
        for length in [1, 1, 2, 0, 4, 1] {
            let piece = whole.slice(1, at..at + length);
            at += length;
            let Cut { windows, rest: left } = mapping.cut(rest.take(), piece).unwrap().unwrap();
            cut.extend(windows);
            rest = Some(left);
        }
        let expected: Vec<Tensor> = (0..4).map(|at| whole.slice(1, at * 2..at * 2 + 3)).collect();
        assert_eq!(cut, expected);
        assert_eq!(rest.unwrap(), whole.slice(1, 8..9));
    }

    #[test]
    fn with_an_initial_value_the_first_hop_completes_a_window() {
        let mapping = mapping(r#"{"tensor": "x", "window": {"axis": 0, "size": 3, "hop": 1, "initial": 7}}"#);
        let Cut { windows, .. } = mapping.cut(None, floats(&[1, 1], 1.0)).unwrap().unwrap();
        assert_eq!(windows[0].elements(), &Elements::Fp32(vec![7.0, 7.0, 1.0]));
    }

    #[test]
    fn values_are_scaled_and_shapes_are_changed_only_where_they_fit() {
        let mapping = mapping(r#"{"tensor": "x", "scale": 0.5, "offset": 2, "reshape": [-1, 2]}"#);
        let tensor = mapping.shaped(mapping.leveled(floats(&[4], 0.0)).unwrap()).unwrap();
        assert_eq!(
            (tensor.shape(), tensor.elements()),
            (&[2, 2][..], &Elements::Fp32(vec![2.0, 2.5, 3.0, 3.5]))
        );
        assert!(mapping.shaped(floats(&[3], 0.0)).unwrap_err().contains("cannot be reshaped to [-1, 2]"));
        assert_eq!(mapping.shape(&[Some(6)]).unwrap(), [None, Some(2)]);
        assert!(mapping.shape(&[Some(3)]).is_err());
        let whole = Tensor::new(vec![1], Elements::Int64(vec![1])).unwrap();
        assert!(mapping.leveled(whole).unwrap_err().contains("need FP32, but the tensor is INT64"));
    }

    #[test]
    fn a_request_cannot_complete_endless_windows() {
        let mapping = mapping(r#"{"tensor": "x", "window": {"axis": 0, "size": 1}}"#);
        assert!(mapping.cut(None, floats(&[MOST_WINDOWS], 0.0)).is_ok());
        assert!(
            mapping.cut(None, floats(&[MOST_WINDOWS + 1], 0.0)).unwrap_err().contains("send less at once")
        );
    }
}
