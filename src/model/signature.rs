//! The inputs and outputs of a model: their names, datatypes and shapes. They come from the ONNX file and are narrowed by
//! `model.json`. Every request is checked against them before it uses memory or time.

use super::tensor::Datatype;

/// The text of example requests, and of the warm-up of a model that takes text.
pub const EXAMPLE_TEXT: &str = "The quick brown fox jumps over the lazy dog.";

/// One dimension of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Exactly this length.
    Fixed(usize),
    /// Any length. The name is the one in the ONNX file (`N`, `batch_size`), if it has one.
    Open(Option<String>),
}

impl Dim {
    /// The length; `None` for an open dimension.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(length) => Some(*length),
            Dim::Open(_) => None,
        }
    }

    /// The form of the Open Inference Protocol: the length, or -1 for an open dimension.
    pub fn as_i64(&self) -> i64 {
        self.fixed().map_or(-1, |length| length as i64)
    }
}

/// One input or output, as in the metadata of the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMetadata {
    /// The name in the ONNX file.
    pub name: String,
    /// The type of the elements.
    pub datatype: Datatype,
    /// The dimensions, the outermost first.
    pub shape: Vec<Dim>,
    /// The media types of files that a request can give in place of the tensor: one file per row, as BYTES of shape
    /// `[rows]`. Empty for an input that takes only tensors, and for every output.
    pub accepts: &'static [&'static str],
    /// The index of the input that takes text, when this input is made from the same text. A request with text must not
    /// give this input.
    pub filled_by: Option<usize>,
}

impl TensorMetadata {
    /// True when the input takes text. Text stands in JSON as a string, without an encoding.
    pub fn takes_text(&self) -> bool {
        self.accepts.iter().any(|media_type| media_type.starts_with("text/"))
    }

    /// True when a message of text can be the input's whole value: it takes text, or its own elements are texts.
    pub fn takes_text_messages(&self) -> bool {
        self.takes_text() || self.datatype == Datatype::Bytes
    }

    /// True when the input takes image files.
    pub fn takes_images(&self) -> bool {
        self.accepts.iter().any(|media_type| media_type.starts_with("image/"))
    }

    /// True when the input takes sound, for which a stream is the better form.
    pub fn takes_sound(&self) -> bool {
        self.accepts.iter().any(|media_type| media_type.starts_with("audio/"))
    }

    /// The shape in the form of the Open Inference Protocol: -1 for an open dimension.
    pub fn shape_i64(&self) -> Vec<i64> {
        self.shape.iter().map(Dim::as_i64).collect()
    }

    /// True when a tensor of this shape fits: the same number of dimensions, and the fixed ones are equal.
    pub fn admits(&self, shape: &[usize]) -> bool {
        shape.len() == self.shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(dim, length)| dim.fixed().is_none_or(|fixed| fixed == *length))
    }

    /// The shape in which every open dimension has `length`.
    pub fn shape_with_open(&self, length: usize) -> Vec<usize> {
        self.shape.iter().map(|dim| dim.fixed().unwrap_or(length)).collect()
    }
}

/// The inputs and outputs of a model, in the order of the ONNX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The inputs, without those that `model.json` gives a value and those that hold a state.
    pub inputs: Vec<TensorMetadata>,
    /// The outputs, without those that hold a state.
    pub outputs: Vec<TensorMetadata>,
    /// The most rows of one request, along the first axis of the inputs where it is open. `None` when the model has no
    /// batch axis, or takes any number of rows.
    pub max_batch_size: Option<usize>,
    /// True when a request is a step of a sequence: the response depends on the steps before.
    pub has_state: bool,
}

impl Signature {
    /// The index and metadata of the input `name`.
    pub fn input(&self, name: &str) -> Option<(usize, &TensorMetadata)> {
        self.inputs.iter().enumerate().find(|(_, input)| input.name == name)
    }

    /// The inputs that a request must give when it uses files and text wherever it can: all inputs but those that are
    /// made from the text of another input.
    pub fn asked(&self) -> impl Iterator<Item = (usize, &TensorMetadata)> {
        self.inputs.iter().enumerate().filter(|(_, input)| input.filled_by.is_none())
    }

    /// The single input that a request must give; `None` if there are several.
    pub fn single(&self) -> Option<(usize, &TensorMetadata)> {
        let mut asked = self.asked();
        asked.next().filter(|_| asked.next().is_none())
    }

    /// The index and metadata of the output `name`.
    pub fn output(&self, name: &str) -> Option<(usize, &TensorMetadata)> {
        self.outputs.iter().enumerate().find(|(_, output)| output.name == name)
    }
}

/// Joins names for a sentence: `` `a`, `b` ``.
pub fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The known name that is most similar to an unknown one. `None` when no name is similar enough to suggest it.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The input or output that `field` of model.json calls `name`, among those of the ONNX file (`known`). The error lists
/// the names in the file.
pub fn declared<'a>(
    field: &str,
    name: &str,
    known: &'a [TensorMetadata],
) -> Result<&'a TensorMetadata, String> {
    known.iter().find(|metadata| metadata.name == name).ok_or_else(|| {
        format!("model.json's {field} name `{name}`, but the file has {}", choice(name, known))
    })
}

/// All known names, and the one that an unknown name is nearest to: `` `a`, `b`; did you mean `b`? ``
pub fn choice(unknown: &str, known: &[TensorMetadata]) -> String {
    let names = || known.iter().map(|metadata| metadata.name.as_str());
    let meant = nearest(unknown, names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("{}{meant}", quoted(names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_fits_when_its_rank_and_its_fixed_dimensions_agree() {
        let image = TensorMetadata {
            name: "image".into(),
            datatype: Datatype::Fp32,
            shape: vec![Dim::Open(None), Dim::Fixed(1), Dim::Fixed(28), Dim::Fixed(28)],
            accepts: &[],
            filled_by: None,
        };
        assert!(image.admits(&[7, 1, 28, 28]));
        assert!(!image.admits(&[7, 3, 28, 28]));
        assert!(!image.admits(&[1, 28, 28]));
    }

    #[test]
    fn the_nearest_name_is_suggested_only_when_it_is_similar() {
        assert_eq!(nearest("optputs", ["inputs", "outputs"]), Some("outputs"));
        assert_eq!(nearest("zzz", ["inputs", "outputs"]), None);
    }
}
