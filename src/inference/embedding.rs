//! Applies the text and embedding settings of `model.json` to a model, and checks them against its signature. The
//! computations are in [`processing`](crate::processing).

use crate::config::Limits;
use crate::model::manifest::TextInput;
use crate::model::signature::declared;
use crate::model::{Dim, Manifest, Signature, TensorMetadata};
use crate::processing::embedding::{Embedding, Embeddings, Mask};
use crate::processing::text::{MEDIA_TYPES, Part, TextEncoder};

use super::sources::Sources;

/// The usual names of the input that marks real tokens, and of the input that gives each token's segment.
const ATTENTION_MASK: &str = "attention_mask";
const TOKEN_TYPE_IDS: &str = "token_type_ids";

/// Makes an encoder for each input that takes text, and marks these inputs in the signature.
pub fn texts(
    signature: &mut Signature,
    sources: &Sources,
    limits: &Limits,
) -> Result<Vec<TextEncoder>, String> {
    let mut encoders = Vec::new();
    for said in &sources.files.manifest.inputs {
        let Some(text) = &said.text else { continue };
        let wrong = |error: String| format!("inputs[`{}`].text: {error}", said.name);
        let parts = parts(text, &said.name, signature).map_err(wrong)?;
        let file = sources.named(&text.tokenizer);
        let source = parts[0].0;
        for (index, part) in &parts {
            let input = &mut signature.inputs[*index];
            if input.filled_by.is_some() || !input.accepts.is_empty() {
                return Err(wrong(format!("input `{}` is made of something else already", input.name)));
            }
            match part {
                Part::Ids => input.accepts = MEDIA_TYPES,
                _ => input.filled_by = Some(source),
            }
        }
        encoders.push(TextEncoder::new(text, file, parts, signature, limits).map_err(wrong)?);
    }
    Ok(encoders)
}

/// The inputs that one text fills; the first is the one that takes the text. Inputs with the usual names are found
/// without a setting.
fn parts(text: &TextInput, source: &str, signature: &Signature) -> Result<Vec<(usize, Part)>, String> {
    let inputs = &signature.inputs;
    let known = |name: &str| declared("inputs", name, inputs).map(|_| place(name, inputs));
    let mut parts: Vec<(usize, Part)> = known(source)?.map(|index| (index, Part::Ids)).into_iter().collect();
    let others = [
        (&text.attention_mask, ATTENTION_MASK, Part::AttentionMask),
        (&text.token_type_ids, TOKEN_TYPE_IDS, Part::TokenTypeIds),
    ];
    for (said, usual, part) in others {
        let index = match said {
            Some(name) => known(name)?,
            None => place(usual, inputs),
        };
        parts.extend(index.map(|index| (index, part)));
    }
    Ok(parts)
}

fn place(name: &str, tensors: &[TensorMetadata]) -> Option<usize> {
    tensors.iter().position(|tensor| tensor.name == name)
}

/// Makes the pooling and normalisation of the outputs, and changes the signature to the resulting shapes.
pub fn embeddings(
    signature: &mut Signature,
    manifest: &Manifest,
    texts: &[TextEncoder],
) -> Result<Embeddings, String> {
    let mut embeddings = vec![Embedding::default(); signature.outputs.len()];
    for said in &manifest.outputs {
        let (pooling, normalize) = (said.pooling, said.normalize);
        // An unknown output name is reported with the other errors about outputs.
        let Some(index) = place(&said.name, &signature.outputs) else { continue };
        let output = &mut signature.outputs[index];
        if (pooling.is_some() || normalize.is_some()) && !output.datatype.is_float() {
            return Err(format!(
                "output `{}` is {}: pooling and normalize need floats",
                said.name, output.datatype
            ));
        }
        if pooling.is_some() {
            output.shape = pooled(output)?;
        }
        embeddings[index] = Embedding { pooling, normalize };
    }
    Ok(Embeddings::new(mask(signature, manifest, texts), embeddings))
}

fn pooled(output: &TensorMetadata) -> Result<Vec<Dim>, String> {
    match output.shape.as_slice() {
        [batch, _, hidden] => Ok(vec![batch.clone(), hidden.clone()]),
        _ => Err(format!(
            "output `{}` has shape {:?}, but pooling needs [batch, sequence, hidden]",
            output.name,
            output.shape_i64()
        )),
    }
}

/// Chooses the mask. An attention mask among the inputs is preferred. Without one, the token ids are used: one id
/// means padding.
fn mask(signature: &Signature, manifest: &Manifest, texts: &[TextEncoder]) -> Mask {
    let said = manifest.inputs.iter().filter_map(|input| input.text.as_ref()?.attention_mask.as_deref());
    let name = said.chain([ATTENTION_MASK]).find_map(|name| place(name, &signature.inputs));
    match (name, texts.first()) {
        (Some(input), _) => Mask::Input(input),
        (None, Some(text)) => Mask::Filling { input: text.source(), id: text.filling() },
        (None, None) => Mask::Absent,
    }
}
