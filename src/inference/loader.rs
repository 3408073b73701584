//! From a repository to a catalogue: finds models, fetches and loads what is new, keeps what has not changed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::catalogue::Known;
use super::load::load_read;
use super::scan::{Found, Unusable};
use super::sources::Sources;
use super::{Catalogue, Entry, FailedAt, Failure, Fingerprint, LoadError, Scan, ServedModel, Workers};
use crate::clock::Clock;
use crate::config::Limits;
use crate::engine::worker::Places;
use crate::fetch::{FetchError, Fetcher};
use crate::memory::Budget;
use crate::model::{ModelFiles, ModelSource};
use crate::panic::panic_message;

/// Loads the models of one repository, again and again.
#[derive(Debug)]
pub struct Loader {
    pub model: ModelSource,
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

/// What was served before a load, held by nothing: a load must not hold up the end of the server.
#[derive(Debug, Default)]
pub struct Before {
    pub known: Vec<Known>,
    /// Names and versions that could not be loaded at the start, nor since.
    pub failed_at_start: Vec<(String, String)>,
    /// What lay in the repository before; `None` at the start.
    pub scan: Option<Scan>,
}

/// What a repository holds now, in comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub loaded: usize,
    pub kept: usize,
    pub failed: usize,
    /// Served on, though they were not there for the first time.
    pub missing: usize,
}

/// What becomes of a version.
enum Outcome {
    /// One of [`Before::known`] is served on, by its index, and why.
    Kept(usize, Why),
    Loaded(Arc<ServedModel>),
    Failed(Failure),
}

#[derive(Debug, Clone, Copy)]
enum Why {
    Unchanged,
    /// What is there now cannot be loaded.
    Failed,
    Missing,
}

impl Loader {
    /// What lies in the repository, to be loaded.
    pub fn scan(&self, before: &Scan) -> Result<Scan, FetchError> {
        Scan::of(&self.model, &self.fetcher, before)
    }

    /// The same, to be compared: whether a reload is worth it.
    pub fn look(&self, before: &Scan) -> Result<Scan, FetchError> {
        let mut scan = self.scan(before)?;
        scan.complete();
        Ok(scan)
    }

    /// Loads of a scan what is not known, several models at a time, and completes the scan by what the models were in
    /// fact loaded from. A version that cannot be loaded is an entry that says so; one that was served before is served
    /// on. `None` when `is_wanted` said no meanwhile.
    pub fn load(
        &self,
        scan: &mut Scan,
        before: &Before,
        workers: &Workers,
        is_wanted: impl Fn() -> bool + Sync,
    ) -> Option<Result<(Catalogue, Changes), String>> {
        let next = AtomicUsize::new(0);
        let names: Vec<(String, String)> =
            scan.found.iter().map(|found| (found.name.clone(), found.version.clone())).collect();
        let found: Vec<Mutex<&mut Found>> = scan.found.iter_mut().map(Mutex::new).collect();
        let outcomes: Mutex<Vec<(String, String, Outcome)>> = Mutex::default();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(found.len());
        std::thread::scope(|scope| {
            let work = || {
                while let Some(found) =
                    found.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| is_wanted())
                {
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    let made = self.version(&mut found, before, &names, workers);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
                }
            };
            for _ in 1..threads {
                // Where there is no thread to be had this one does all of it.
                if std::thread::Builder::new().name("load".into()).spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        drop(found);
        scan.complete();
        if !is_wanted() {
            return None;
        }
        let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcomes.extend(missing(scan, before, &outcomes));
        catalogue(outcomes, before, self.default_model.as_deref())
    }

    /// What becomes of what was found; nothing where there may be no model.
    fn version(
        &self,
        found: &mut Found,
        before: &Before,
        names: &[(String, String)],
        workers: &Workers,
    ) -> Vec<(String, String, Outcome)> {
        let (name, version) = (found.name.clone(), found.version.clone());
        let known = |at: &usize| &before.known[*at];
        let same = before.known.iter().position(|known| known.name == name && known.version == version);
        let error = match &found.files {
            Ok(files) => {
                if let Some(at) = same.filter(|at| known(at).fingerprint == found.fingerprint) {
                    return vec![(name, version, Outcome::Kept(at, Why::Unchanged))];
                }
                match self.serve(files.clone(), &mut found.fingerprint, workers) {
                    Ok(model) => return vec![(name, version, Outcome::Loaded(model))],
                    Err(error) => error,
                }
            }
            Err(Unusable::Broken(error) | Unusable::Unreadable(error)) => error.clone(),
        };
        // What cannot be read may go by another name, and may hold several versions.
        let is_hidden = |known: &Known| {
            let is_found =
                names.iter().any(|(name, version)| (name, version) == (&known.name, &known.version));
            found.files.is_err() && known.home == found.home && !is_found
        };
        let all = before.known.iter().enumerate();
        let stay: Vec<usize> =
            all.filter(|(at, known)| same == Some(*at) || is_hidden(known)).map(|(at, _)| at).collect();
        if stay.is_empty() && matches!(found.files, Err(Unusable::Unreadable(_))) {
            log::warn!("{}: what is there is not served: {error}", found.home.display());
            return Vec::new();
        }
        let stays = if stay.is_empty() { "" } else { "; what was served before stays" };
        log::error!("model {name} version {version} is not loaded{stays}: {error}");
        if stay.is_empty() {
            let at_start =
                before.scan.is_none() || before.failed_at_start.contains(&(name.clone(), version.clone()));
            let when = if at_start { FailedAt::Start } else { FailedAt::Reload };
            return vec![(name, version, Outcome::Failed(Failure { reason: error, when }))];
        }
        let kept = stay.into_iter().map(|at| {
            let Known { name, version, .. } = known(&at);
            (name.clone(), version.clone(), Outcome::Kept(at, Why::Failed))
        });
        kept.collect()
    }

    /// Fetches, loads, warms up and starts workers. Whatever panics is an error of this model.
    fn serve(
        &self,
        files: ModelFiles,
        fingerprint: &mut Fingerprint,
        workers: &Workers,
    ) -> Result<Arc<ServedModel>, String> {
        catch_unwind(AssertUnwindSafe(|| self.try_serve(files, fingerprint, workers)))
            .unwrap_or_else(|panic| Err(format!("loading it panicked: {}", panic_message(panic.as_ref()))))
    }

    fn try_serve(
        &self,
        mut files: ModelFiles,
        fingerprint: &mut Fingerprint,
        workers: &Workers,
    ) -> Result<Arc<ServedModel>, String> {
        if self.workers.is_some() {
            files.manifest.instance_group.count = self.workers;
        }
        let files = self.fetcher.bring(files).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let message = |LoadError { message, .. }| message;
        let sources = Sources::read(files, fingerprint).map_err(message)?;
        let loaded = load_read(sources, &self.limits).map_err(message)?;
        let own = Workers::default();
        let model = loaded.start(&self.limits, &self.clock, &own, &self.places, fingerprint.clone());
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

/// What was served and is not there. It is gone when it was not there the last time either: whoever replaces a file may
/// have taken the old one away a moment ago.
fn missing(
    scan: &Scan,
    before: &Before,
    outcomes: &[(String, String, Outcome)],
) -> Vec<(String, String, Outcome)> {
    let mut missing = Vec::new();
    for (at, Known { name, version, .. }) in before.known.iter().enumerate() {
        if outcomes.iter().any(|(known, number, _)| known == name && number == version) {
            continue;
        }
        let was_there = |before: &Scan| before.has(name, version);
        if before.scan.as_ref().is_some_and(was_there) && !scan.has(name, version) {
            log::warn!(
                "model {name} version {version} is not in the repository: it is served until it is missing again"
            );
            missing.push((name.clone(), version.clone(), Outcome::Kept(at, Why::Missing)));
        } else {
            log::warn!("model {name} version {version} is withdrawn: it is not in the repository any more");
        }
    }
    missing
}

/// Puts together what is served from now on; `None` when what was served is gone, and the server with it.
fn catalogue(
    outcomes: Vec<(String, String, Outcome)>,
    before: &Before,
    default: Option<&str>,
) -> Option<Result<(Catalogue, Changes), String>> {
    let mut changes = Changes::default();
    let mut entries: Vec<(String, Entry)> = Vec::new();
    for (name, version, outcome) in outcomes {
        // Several versions that cannot be read may each have kept it.
        if entries.iter().any(|(known, entry)| *known == name && entry.version == version) {
            continue;
        }
        let count = match &outcome {
            Outcome::Loaded(_) => &mut changes.loaded,
            Outcome::Kept(_, Why::Unchanged) => &mut changes.kept,
            Outcome::Kept(_, Why::Missing) => &mut changes.missing,
            Outcome::Kept(_, Why::Failed) | Outcome::Failed(_) => &mut changes.failed,
        };
        *count += 1;
        let model = match outcome {
            Outcome::Loaded(model) => Ok(model),
            Outcome::Kept(at, _) => Ok(before.known[at].model.upgrade()?),
            Outcome::Failed(failure) => Err(failure),
        };
        entries.push((name, Entry { version, model }));
    }
    Some(Catalogue::new(entries, default).map(|catalogue| (catalogue, changes)))
}
