//! Makes example requests from a model's signature.
//!
//! What belongs here: requests in OIP JSON that the model would accept. What does not: the text of errors around
//! them. Invariant: [`whole_example`] always returns a valid request.

use crate::model::signature::EXAMPLE_TEXT;
use crate::model::tensor::volume;
use crate::model::{Datatype, Signature};

/// The example for a file: the smallest possible PNG, with one gray pixel, in base64.
const EXAMPLE_PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg==";

/// Returns an OIP request with zeros or a sentence, for error messages, so that a client sees the expected form.
///
/// Data that is longer than one line is cut and ends with an ellipsis, so the result may not be valid JSON. Use
/// [`whole_example`] for a request that can be sent.
pub fn example(signature: &Signature) -> String {
    example_of(signature, 16)
}

/// Returns an OIP request with zeros or a sentence that can be sent as it is. It is as long as the shapes of the inputs demand.
pub fn whole_example(signature: &Signature) -> String {
    example_of(signature, usize::MAX)
}

fn example_of(signature: &Signature, most: usize) -> String {
    let inputs: Vec<String> = signature
        .asked()
        .map(|(_, input)| {
            let name = serde_json::to_string(&input.name).expect("a string always serializes");
            // Sound normally comes as a stream; a JSON request should hold its tensor.
            if !input.accepts.is_empty() && !input.takes_sound() {
                let content = if input.takes_text() { EXAMPLE_TEXT } else { EXAMPLE_PNG };
                return format!(r#"{{"name":{name},"shape":[1],"datatype":"BYTES","data":["{content}"]}}"#);
            }
            let shape = input.shape_with_open(1);
            let count = volume(&shape).unwrap_or(0);
            let text = format!("\"{EXAMPLE_TEXT}\"");
            let zero = match input.datatype {
                Datatype::Bool => "false",
                Datatype::Bytes => &text,
                _ => "0",
            };
            let mut data = vec![zero; count.min(most)].join(",");
            if count > most {
                data.push_str(&format!(",… {count} values"));
            }
            format!(r#"{{"name":{name},"shape":{shape:?},"datatype":"{}","data":[{data}]}}"#, input.datatype)
        })
        .collect();
    format!(r#"{{"id":"1","inputs":[{}]}}"#, inputs.join(","))
}
