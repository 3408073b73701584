//! The default values of the attributes of functions in the file.
//!
//! tract's reader does not know this part of the format: it skips it. So these parts of the file are found here, and put into a
//! small file that tract's reader does know. The format is Protocol Buffers: a message is a list of fields, each with its number.

use tract_onnx::pb::AttributeProto;
use tract_onnx::prelude::*;

use super::LoadError;
use super::convert::chain;

/// The numbers of fields in onnx.proto.
const MODEL_GRAPH: u64 = 7;
const MODEL_FUNCTIONS: u64 = 25;
const FUNCTION_DEFAULTS: u64 = 11;
const GRAPH_NODE: u64 = 1;
const NODE_ATTRIBUTE: u64 = 5;

/// The default values of the attributes of each function, in the order of the file.
///
/// Errors: the file is cut short, or is not an ONNX file.
pub(super) fn defaults_of(file: &[u8]) -> Result<Vec<Vec<AttributeProto>>, LoadError> {
    let wrong = || LoadError::unreadable("a function in the file cannot be read".into());
    let functions = messages(file, MODEL_FUNCTIONS).ok_or_else(wrong)?;
    let attributes = |function: &[u8]| parsed(&messages(function, FUNCTION_DEFAULTS).ok_or_else(wrong)?);
    functions.into_iter().map(attributes).collect()
}

/// Parses attributes, as attributes of a node in a model.
fn parsed(attributes: &[&[u8]]) -> Result<Vec<AttributeProto>, LoadError> {
    let node: Vec<u8> = attributes.iter().flat_map(|attribute| field(NODE_ATTRIBUTE, attribute)).collect();
    let file = field(MODEL_GRAPH, &field(GRAPH_NODE, &node));
    let model = tract_onnx::Onnx::default()
        .proto_model_for_read(&mut file.as_slice())
        .map_err(|error| LoadError::unreadable(chain(&error)))?;
    let nodes = model.graph.map(|graph| graph.node).unwrap_or_default();
    Ok(nodes.into_iter().flat_map(|node| node.attribute).collect())
}

/// The contents of all fields with this number that are messages. `None` if the message is not well formed.
fn messages(mut message: &[u8], wanted: u64) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = number(&mut message)?;
        let length = match tag & 7 {
            0 => {
                number(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(number(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = message.split_at_checked(length)?;
        if tag == wanted << 3 | 2 {
            found.push(content);
        }
        message = rest;
    }
    Some(found)
}

/// Takes a number from the front: seven bits in each byte, the lowest first. The last byte has no highest bit.
fn number(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A field that is a message.
fn field(wanted: u64, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(content.len() + 12);
    for mut number in [wanted << 3 | 2, content.len() as u64] {
        while number > 0x7f {
            field.push(number as u8 | 0x80);
            number >>= 7;
        }
        field.push(number as u8);
    }
    field.extend_from_slice(content);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `axis`, an integer attribute with the value 300.
    fn axis() -> Vec<u8> {
        [field(1, b"axis"), vec![0x18, 0xac, 0x02, 0xa0, 0x01, 0x02]].concat()
    }

    #[test]
    fn the_defaults_of_each_function_are_found_among_other_fields() {
        let first = [field(1, b"First"), field(FUNCTION_DEFAULTS, &axis()), field(4, b"x")].concat();
        let second = field(1, b"Second");
        let model = [
            vec![0x08, 0x09],
            field(MODEL_FUNCTIONS, &first),
            field(2, &[0xff; 300]),
            field(MODEL_FUNCTIONS, &second),
        ]
        .concat();
        let defaults = defaults_of(&model).unwrap();
        assert_eq!(defaults.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
        assert_eq!((&*defaults[0][0].name, defaults[0][0].i), ("axis", 300));
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error() {
        let model = field(MODEL_FUNCTIONS, &field(FUNCTION_DEFAULTS, &axis()));
        for end in 1..model.len() {
            assert!(defaults_of(&model[..end]).is_err(), "{end}");
        }
    }
}
