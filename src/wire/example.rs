//! Example requests made from a model's own signature.

use crate::model::signature::EXAMPLE_TEXT;
use crate::model::tensor::volume;
use crate::model::{Datatype, Signature};

/// The smallest PNG there is, one gray pixel: what an example has for a file.
const EXAMPLE_PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg==";

/// A request that the model takes, with zeros: in errors, so that a client sees the form.
///
/// Data longer than a line is cut with an ellipsis; [`whole_example`] can be sent as it is.
pub fn example(signature: &Signature) -> String {
    example_of(signature, 16)
}

/// An example that can be pasted into a client, whatever its length.
pub fn whole_example(signature: &Signature) -> String {
    example_of(signature, usize::MAX)
}

fn example_of(signature: &Signature, most: usize) -> String {
    let inputs: Vec<String> = signature
        .asked()
        .map(|(_, input)| {
            let name = serde_json::to_string(&input.name).expect("a string always serializes");
            // Sound is a stream, and JSON is better given its tensor.
            if !input.accepts.is_empty() && !input.takes_sound() {
                let content = if input.takes_text() { EXAMPLE_TEXT } else { EXAMPLE_PNG };
                return format!(r#"{{"name":{name},"shape":[1],"datatype":"BYTES","data":["{content}"]}}"#);
            }
            let shape = input.shape_with_open(1);
            let count = volume(&shape).unwrap_or(0);
            let zero = if input.datatype == Datatype::Bool { "false" } else { "0" };
            let mut data = vec![zero; count.min(most)].join(",");
            if count > most {
                data.push_str(&format!(",… {count} values"));
            }
            format!(r#"{{"name":{name},"shape":{shape:?},"datatype":"{}","data":[{data}]}}"#, input.datatype)
        })
        .collect();
    format!(r#"{{"id":"1","inputs":[{}]}}"#, inputs.join(","))
}
