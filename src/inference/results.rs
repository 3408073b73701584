//! Applies `result` of `model.json` to a model: it checks it against the model's signature, and the settings of requests
//! against its bounds. Workers make the results; the computations are in [`processing`](crate::processing::results).

use std::sync::Arc;

use super::recognised;
use super::sources::Sources;
use crate::error::RequestError;
use crate::model::choices::Choices;
use crate::model::manifest::{Labels, Layout, ResultManifest};
use crate::model::{Dim, Input, Manifest, Signature};
use crate::processing::results::{Canvas, Declared, Pace, ResultMaker, Settled};
use crate::processing::scores::parse_labels;

/// The result of a model.
#[derive(Debug)]
pub struct ModelResult {
    maker: Arc<ResultMaker>,
    image: Option<ImagePlace>,
    /// The metadata of the ONNX file that the result was chosen by; `None` when model.json declares it.
    pub recognised: Option<&'static str>,
}

impl ModelResult {
    /// Makes the result that model.json declares, or the one that the metadata of the ONNX file names. `None` when there
    /// is neither.
    /// `pace` is that of the input for sound, if there is one.
    pub fn new(
        signature: &Signature,
        sources: &Sources,
        pace: Option<Pace>,
    ) -> Result<Option<ModelResult>, String> {
        let declared = sources.files.manifest.result.clone().map(|spec| (spec, None));
        let found = || {
            recognised::result(&sources.files, &sources.graph, signature).map(|(spec, by)| (spec, Some(by)))
        };
        let Some((spec, recognised)) = declared.or_else(found) else { return Ok(None) };
        let labels = labels(&spec, sources).map_err(|error| format!("result: {error}"))?;
        ModelResult::declared(&spec, signature, labels, &sources.files.manifest, pace)
            .map(|result| Some(ModelResult { recognised, ..result }))
    }

    /// Makes the result that `spec` describes. `manifest` is that of the model.
    pub fn declared(
        spec: &ResultManifest,
        signature: &Signature,
        labels: Vec<String>,
        manifest: &Manifest,
        pace: Option<Pace>,
    ) -> Result<ModelResult, String> {
        let outputs: Vec<Declared> = signature
            .outputs
            .iter()
            .map(|output| Declared {
                name: output.name.clone(),
                shape: output.shape.iter().map(Dim::fixed).collect(),
            })
            .collect();
        let image = ImagePlace::of(signature, manifest);
        let canvas = image.map_or(Canvas::Unknown, |image| image.canvas(signature, manifest));
        let maker = ResultMaker::new(spec, &outputs, labels, canvas, pace)?;
        for at in maker.outputs() {
            let output = &signature.outputs[*at];
            if !output.datatype.is_number() {
                let (name, datatype) = (&output.name, output.datatype);
                return Err(format!("result: output `{name}` is {datatype}: expected numbers"));
            }
        }
        Ok(ModelResult { maker: Arc::new(maker), image, recognised: None })
    }

    /// The width and height of the images of a request that brings a tensor of them.
    pub fn canvas_of(&self, inputs: &[Input]) -> Option<[usize; 2]> {
        let image = self.image?;
        match inputs.get(image.input)? {
            Input::Tensor(tensor) => image.sides(tensor.shape()),
            _ => None,
        }
    }

    /// What the workers make the results with.
    pub fn maker(&self) -> &Arc<ResultMaker> {
        &self.maker
    }

    /// The settings of a request.
    ///
    /// Errors: a choice is not within the model's bounds.
    pub fn settle(&self, choices: &Choices) -> Result<Settled, RequestError> {
        self.maker.settle(choices).map_err(RequestError::invalid)
    }

    /// Whether the answers are made from this output of the signature.
    pub fn reads(&self, output: usize) -> bool {
        self.maker.outputs().contains(&output)
    }

    /// The kind, the labels and the settings, for metadata.
    pub fn metadata(&self) -> serde_json::Value {
        let mut fields = serde_json::Map::new();
        fields.insert("kind".into(), self.maker.kind().into());
        if !self.maker.labels().is_empty() {
            fields.insert("labels".into(), self.maker.labels().into());
        }
        let settings = self.maker.settings();
        if !settings.is_empty() {
            let described = settings.into_iter().map(|(name, [default, least, most])| {
                (name.to_owned(), serde_json::json!({"default": default, "least": least, "most": most}))
            });
            fields.insert("parameters".into(), described.collect::<serde_json::Map<_, _>>().into());
        }
        fields.into()
    }

    /// A sentence for the report of `onnxd check`. `signature` is the model's.
    pub fn describe(&self, signature: &Signature) -> String {
        let outputs: Vec<&str> =
            self.maker.outputs().iter().map(|at| signature.outputs[*at].name.as_str()).collect();
        let mut text = format!("{} from {}", self.maker.kind(), outputs.join(", "));
        match self.maker.labels() {
            [] => {}
            [only] => text.push_str(&format!("; label {only}")),
            [first, .., last] => {
                text.push_str(&format!("; {} labels, {first} to {last}", self.maker.labels().len()))
            }
        }
        for (name, [default, least, most]) in self.maker.settings() {
            text.push_str(&format!("; {name} {default} ({least} to {most})"));
        }
        if let Some(by) = self.recognised {
            text.push_str(&format!("; recognised by the file's metadata ({by})"));
        }
        text
    }
}

/// The labels or characters: those that model.json gives, or those in the metadata of the ONNX file.
fn labels(spec: &ResultManifest, sources: &Sources) -> Result<Vec<String>, String> {
    let is_text = matches!(spec, ResultManifest::Text(_));
    if let Some(labels) = given_labels(spec, |file| Ok(sources.named(file).to_vec()))? {
        return Ok(labels);
    }
    match spec.labels() {
        None if is_text => {
            Ok(sources.graph.metadata("character").map(recognised::characters).unwrap_or_default())
        }
        _ => Ok(recognised::names(&sources.graph).unwrap_or_default()),
    }
}

/// The labels or characters that model.json gives, if it does. `read` reads a file beside it.
pub fn given_labels(
    spec: &ResultManifest,
    read: impl FnOnce(&str) -> Result<Vec<u8>, String>,
) -> Result<Option<Vec<String>>, String> {
    Ok(match spec.labels() {
        None => None,
        Some(Labels::Listed(labels)) => Some(labels.clone()),
        Some(Labels::File(file)) => {
            let bytes = read(file)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| format!("{file} is no text in UTF-8"))?;
            let is_text = matches!(spec, ResultManifest::Text(_));
            // A character may be a space, so the lines of characters stay as they are.
            Some(if is_text { recognised::characters(text) } else { parse_labels(text) })
        }
    })
}

/// The input for images: the one that model.json declares an image, or the only input, if it has the shape of images.
#[derive(Debug, Clone, Copy)]
struct ImagePlace {
    /// Its place in the signature.
    input: usize,
    layout: Layout,
}

impl ImagePlace {
    fn of(signature: &Signature, manifest: &Manifest) -> Option<ImagePlace> {
        let image = |name: &str| manifest.input(name).and_then(|said| said.image.as_ref());
        let mut inputs = signature.inputs.iter().enumerate();
        let declared =
            inputs.find_map(|(input, known)| Some(ImagePlace { input, layout: image(&known.name)?.layout }));
        match (declared, signature.inputs.as_slice()) {
            (None, [only]) if only.shape.len() == 4 => {
                let channels = |at: usize| matches!(only.shape[at].fixed(), Some(1 | 3));
                let layout = if channels(3) && !channels(1) { Layout::Nhwc } else { Layout::Nchw };
                Some(ImagePlace { input: 0, layout })
            }
            (declared, _) => declared,
        }
    }

    /// Width and height among the lengths of a shape.
    fn sides<T: Copy>(self, shape: &[T]) -> Option<[T; 2]> {
        match (self.layout, shape) {
            (Layout::Nchw, [_, _, height, width]) | (Layout::Nhwc, [_, height, width, _]) => {
                Some([*width, *height])
            }
            _ => None,
        }
    }

    /// What is known of its width and height at load.
    fn canvas(self, signature: &Signature, manifest: &Manifest) -> Canvas {
        let input = &signature.inputs[self.input];
        let known = |sides: [Option<usize>; 2]| Some([sides[0]?, sides[1]?]);
        let lengths: Vec<Option<usize>> = input.shape.iter().map(Dim::fixed).collect();
        let Some(sides) = self.sides(&lengths) else { return Canvas::Unknown };
        if let Some(size) = known(sides) {
            return Canvas::Fixed(size);
        }
        let listed = manifest.shapes.iter().find_map(|shapes| {
            let lengths: Vec<Option<usize>> =
                shapes.get(&input.name)?.iter().map(|length| usize::try_from(*length).ok()).collect();
            known(self.sides(&lengths)?)
        });
        Canvas::Open { like: listed.unwrap_or(LARGE) }
    }
}

/// Width and height of a large image, with which outputs are checked when the sizes of images are not listed.
const LARGE: [usize; 2] = [4096; 2];
