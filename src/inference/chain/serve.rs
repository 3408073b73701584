//! Makes a served model of a chain: its signature, its stream of sound and its result.

use std::sync::{Arc, OnceLock};

use super::{Chain, Checked, Source};
use crate::clock::Clock;
use crate::config::Limits;
use crate::engine::Guests;
use crate::engine::places::Places;
use crate::inference::results::given_labels;
use crate::inference::{Backend, Fingerprint, ModelResult, ServedModel};
use crate::model::ModelFiles;
use crate::processing::audio::AudioStream;

/// The most bytes of a file with labels.
const MOST_BYTES: u64 = 256 << 20;

/// The parts of the server that a chain needs.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    pub limits: &'a Limits,
    pub clock: &'a Clock,
    pub places: &'a Places,
}

/// Serves the chain of `files`. `find` finds the models of its steps by name and version.
///
/// Errors: a sentence with the step or field and what fits.
pub fn serve(
    files: &ModelFiles,
    fingerprint: Fingerprint,
    surroundings: Surroundings<'_>,
    find: impl Fn(&str, Option<&str>) -> Result<Arc<ServedModel>, String>,
) -> Result<ServedModel, String> {
    let manifest = &files.manifest;
    let said = manifest.ensemble_scheduling.as_ref().ok_or("it is no chain")?;
    let Checked { chain, signature, postprocessors } = Chain::check(said, find)?;
    let audio = stream(&chain, signature.inputs.len());
    let result = match &manifest.result {
        None => None,
        Some(spec) => {
            let labels = given_labels(spec, |file| files.read(file, MOST_BYTES))
                .map_err(|error| format!("result: {error}"))?
                .unwrap_or_default();
            let pace = audio.as_ref().and_then(AudioStream::pace);
            Some(ModelResult::declared(spec, &signature, labels, manifest, pace)?)
        }
    };
    if result.is_some() && chain.has_answer() {
        return Err("result is declared here, and a step has a `result` too: leave one of them out".into());
    }
    let chain = chain.with_max_pixels(surroundings.limits.max_image_pixels);
    let chain = chain.with_result(result.as_ref().map(|result| result.maker().clone()));
    let Surroundings { limits, clock, places } = surroundings;
    Ok(ServedModel {
        name: files.name.clone(),
        version: files.version.clone(),
        signature,
        postprocessors,
        result,
        backend: Backend::Chain(Arc::new(chain)),
        guests: Guests::none(places),
        sequences: None,
        audio,
        alive: Vec::new(),
        request_timeout: limits.request_timeout,
        clock: clock.clone(),
        is_public: manifest.is_public(),
        fingerprint,
        home: files.home.clone(),
        over: OnceLock::new(),
    })
}

/// The stream of sound of a chain whose only input is sound for a step.
fn stream(chain: &Chain, inputs: usize) -> Option<AudioStream> {
    let takes_input =
        |source: &Source| matches!(source, Source::Tensor { at: 0, mapping, .. } if mapping.is_plain());
    let mut streams = chain.steps.iter().filter(|step| step.inputs.iter().any(takes_input));
    let only = streams.next().filter(|_| inputs == 1 && streams.next().is_none())?;
    only.model.audio.clone()
}
