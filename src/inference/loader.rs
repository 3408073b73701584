//! From a repository to a catalogue: finds models, fetches and loads what is new, keeps what has not changed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::{Catalogue, Entry, Fingerprint, LoadError, ServedModel, Workers, load};
use crate::clock::Clock;
use crate::config::Limits;
use crate::engine::worker::Places;
use crate::fetch::{FetchError, Fetcher};
use crate::memory::Budget;
use crate::model::ModelFiles;
use crate::model::repository::Broken;

/// Loads the models of one repository, again and again.
#[derive(Debug)]
pub struct Loader {
    /// A model, a folder of models, or a model's URL.
    pub model: PathBuf,
    pub fetcher: Fetcher,
    pub default_model: Option<String>,
    /// Workers a model, over what its manifest says.
    pub workers: Option<usize>,
    pub limits: Limits,
    /// What all clients together may make the server hold.
    pub memory: Arc<Budget>,
    /// The workers that there are.
    pub places: Places,
    pub clock: Clock,
}

/// What a repository holds now, in comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub loaded: usize,
    pub kept: usize,
    pub failed: usize,
}

/// A model as it was found, and what is to become of it.
type Found = Result<(ModelFiles, Fingerprint), Broken>;

impl Loader {
    /// What lies in the repository: to be asked before a reload, whether it is worth it.
    pub fn look(&self) -> Result<Vec<Fingerprint>, FetchError> {
        let found = self.fetcher.find(&self.model)?.into_iter().flatten();
        Ok(found.map(|files| Fingerprint::of(&files)).collect())
    }

    /// Loads what is not known, several models at a time. A version that cannot be loaded is an entry that says so;
    /// one that was served before is served on.
    pub fn load(
        &self,
        known: &[Weak<ServedModel>],
        workers: &Workers,
    ) -> Result<(Catalogue, Changes), String> {
        let found: Vec<Found> = self
            .fetcher
            .find(&self.model)
            .map_err(|error| error.to_string())?
            .into_iter()
            .map(|found| {
                found.map(|files| {
                    let fingerprint = Fingerprint::of(&files);
                    (files, fingerprint)
                })
            })
            .collect();
        let next = AtomicUsize::new(0);
        let entries: Mutex<Vec<(String, Entry)>> = Mutex::default();
        let changes = Mutex::new(Changes::default());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(found.len());
        std::thread::scope(|scope| {
            let work = || {
                while let Some(found) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let entry = self.entry(found, known, workers, &changes);
                    entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                }
            };
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let entries = entries.into_inner().unwrap_or_else(PoisonError::into_inner);
        let catalogue = Catalogue::new(entries, self.default_model.as_deref())?;
        Ok((catalogue, changes.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    fn entry(
        &self,
        found: &Found,
        known: &[Weak<ServedModel>],
        workers: &Workers,
        changes: &Mutex<Changes>,
    ) -> (String, Entry) {
        let count =
            |count: fn(&mut Changes)| count(&mut changes.lock().unwrap_or_else(PoisonError::into_inner));
        let (name, version) = match found {
            Ok((files, _)) => (&files.name, &files.version),
            Err(broken) => (&broken.name, &broken.version),
        };
        let find = || {
            let mut models = known.iter().filter_map(Weak::upgrade);
            models.find(|model| (&model.name, &model.version) == (name, version))
        };
        let unchanged = |fingerprint: &Fingerprint| find().filter(|model| model.fingerprint == *fingerprint);
        let model = match found {
            Ok((files, fingerprint)) => match unchanged(fingerprint) {
                Some(model) => {
                    count(|changes| changes.kept += 1);
                    Ok(model)
                }
                None => {
                    let model = self.serve(files.clone(), fingerprint.clone(), workers);
                    if model.is_ok() {
                        count(|changes| changes.loaded += 1);
                    }
                    model
                }
            },
            Err(broken) => Err(broken.error.to_string()),
        };
        let model = model.or_else(|error| {
            count(|changes| changes.failed += 1);
            let before = find();
            let stays = if before.is_some() { "; what was served before stays" } else { "" };
            log::error!("model {name} version {version} is not loaded{stays}: {error}");
            before.ok_or(error)
        });
        (name.clone(), Entry { version: version.clone(), model })
    }

    /// Fetches, loads, warms up and starts workers.
    fn serve(
        &self,
        mut files: ModelFiles,
        fingerprint: Fingerprint,
        workers: &Workers,
    ) -> Result<Arc<ServedModel>, String> {
        if self.workers.is_some() {
            files.manifest.instance_group.count = self.workers;
        }
        let files = self.fetcher.bring(files).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let loaded = load(files, &self.limits).map_err(|LoadError { message, .. }| message)?;
        let own = Workers::default();
        let model = loaded.serve(&self.limits, &self.clock, &own, &self.places, fingerprint);
        let model = model.map_err(|error| format!("its threads cannot be started: {error}"))?;
        let took = begun.elapsed().as_millis();
        log::info!(
            "model {} version {}: loaded in {took} ms, {} workers",
            model.name,
            model.version,
            own.count()
        );
        workers.absorb(own);
        Ok(Arc::new(model))
    }
}
