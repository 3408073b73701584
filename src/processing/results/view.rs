//! An output of the model as its shape and its numbers.

/// A tensor of f32 that belongs to someone else, row-major.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl<'a> View<'a> {
    /// Makes a view. `None` when the number of values is not the one that the shape says.
    pub fn new(shape: &'a [usize], values: &'a [f32]) -> Option<View<'a>> {
        (shape.iter().product::<usize>() == values.len()).then_some(View { shape, values })
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// All numbers.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The shape in the form of a declaration, in which every length is known.
    pub fn known_shape(&self) -> Vec<Option<usize>> {
        self.shape.iter().map(|length| Some(*length)).collect()
    }

    /// The entry `index` of the first axis. It is empty when there is no such entry.
    pub fn row(&self, index: usize) -> View<'a> {
        let shape = self.shape.get(1..).unwrap_or_default();
        let length = shape.iter().product::<usize>();
        let values = self.values.get(index * length..(index + 1) * length).unwrap_or_default();
        if values.is_empty() { View { shape: &[0], values } } else { View { shape, values } }
    }
}

/// Shows a declared shape in a sentence: `[1, ?, 84]`.
pub fn show(shape: &[Option<usize>]) -> String {
    let lengths: Vec<String> =
        shape.iter().map(|length| length.map_or("?".into(), |length| length.to_string())).collect();
    format!("[{}]", lengths.join(", "))
}
