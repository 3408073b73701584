//! What a model takes and gives: names, datatypes and shapes. Learned from the file, narrowed by
//! `model.json`; everything that arrives is held against it before it may cost anything.

use super::tensor::Datatype;

/// The text in example requests, and in the warm-up of a model that takes text.
pub const EXAMPLE_TEXT: &str = "The quick brown fox jumps over the lazy dog.";

/// One dimension of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    /// Any length; the name is what the file calls it (`N`, `batch_size`), if anything.
    Open(Option<String>),
}

impl Dim {
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(length) => Some(*length),
            Dim::Open(_) => None,
        }
    }

    /// The protocol's form: the length, or -1 for an open dimension.
    pub fn as_i64(&self) -> i64 {
        self.fixed().map_or(-1, |length| length as i64)
    }
}

/// One input or output, in the protocol's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMetadata {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<Dim>,
    /// Media types of files that may come in the tensor's place, one file a row, as BYTES of shape
    /// `[n]`. Empty for a plain tensor, and for every output.
    pub accepts: &'static [&'static str],
    /// The place of the input that takes text, when this one is made of the same text. It may be left
    /// out then, and must be.
    pub filled_by: Option<usize>,
}

impl TensorMetadata {
    /// True when the files that may come in the tensor's place are text, which JSON holds as it is.
    pub fn takes_text(&self) -> bool {
        self.accepts.iter().any(|media_type| media_type.starts_with("text/"))
    }

    /// True when they are sound, which is better given as a stream.
    pub fn takes_sound(&self) -> bool {
        self.accepts.iter().any(|media_type| media_type.starts_with("audio/"))
    }

    pub fn shape_i64(&self) -> Vec<i64> {
        self.shape.iter().map(Dim::as_i64).collect()
    }

    /// True when a tensor of this shape may be given here.
    pub fn admits(&self, shape: &[usize]) -> bool {
        shape.len() == self.shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(dim, length)| dim.fixed().is_none_or(|fixed| fixed == *length))
    }

    /// The shape with every open dimension set to `length`.
    pub fn shape_with_open(&self, length: usize) -> Vec<usize> {
        self.shape.iter().map(|dim| dim.fixed().unwrap_or(length)).collect()
    }
}

/// The inputs and outputs of a model, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<TensorMetadata>,
    pub outputs: Vec<TensorMetadata>,
    /// The most rows that one request may bring along the first axis of the inputs that leave it
    /// open; `None` when the model has no batch axis or any length will do.
    pub max_batch_size: Option<usize>,
    /// A request is a step of a sequence, and its answer depends on the steps before.
    pub has_state: bool,
}

impl Signature {
    pub fn input(&self, name: &str) -> Option<(usize, &TensorMetadata)> {
        self.inputs.iter().enumerate().find(|(_, input)| input.name == name)
    }

    /// The inputs that a request has to give when files or text come where they may: all but those that
    /// are made of another's text.
    pub fn asked(&self) -> impl Iterator<Item = (usize, &TensorMetadata)> {
        self.inputs.iter().enumerate().filter(|(_, input)| input.filled_by.is_none())
    }

    /// The only input that a request has to give, if it is only one.
    pub fn single(&self) -> Option<(usize, &TensorMetadata)> {
        let mut asked = self.asked();
        asked.next().filter(|_| asked.next().is_none())
    }

    pub fn output(&self, name: &str) -> Option<(usize, &TensorMetadata)> {
        self.outputs.iter().enumerate().find(|(_, output)| output.name == name)
    }
}

/// Names joined as a sentence has them: `` `a`, `b` ``.
pub fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The known name nearest to an unknown one, when one is near enough to have been meant.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The input or output of the file that `name` in model.json's `field` means. The error lists the names that the file has.
pub fn declared<'a>(
    field: &str,
    name: &str,
    known: &'a [TensorMetadata],
) -> Result<&'a TensorMetadata, String> {
    known.iter().find(|metadata| metadata.name == name).ok_or_else(|| {
        let names = || known.iter().map(|metadata| metadata.name.as_str());
        let meant =
            nearest(name, names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("model.json's {field} name `{name}`, but the file has {}{meant}", quoted(names()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_admitted_when_rank_and_fixed_dimensions_agree() {
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
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("optputs", ["inputs", "outputs"]), Some("outputs"));
        assert_eq!(nearest("zzz", ["inputs", "outputs"]), None);
    }
}
