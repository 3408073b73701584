//! Makes a catalogue from a repository: it finds models, fetches and loads new ones, and keeps unchanged ones. How
//! one model is loaded is in `load`.
//!
//! Invariant: a model that is served continues to be served when its new files cannot be loaded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::catalogue::Known;
use super::chain::serve;
use super::load::load_read;
use super::scan::{Found, Unusable};
use super::sources::Sources;
use super::{Catalogue, Entry, FailedAt, Failure, Fingerprint, LoadError, Scan, ServedModel, Workers};
use crate::clock::Clock;
use crate::config::Limits;
use crate::engine::places::Places;
use crate::fetch::{FetchError, Fetcher};
use crate::memory::Budget;
use crate::model::{ModelFiles, ModelSource};
use crate::panics::panic_message;

/// Loads the models of one repository, at the start and for each reload.
#[derive(Debug)]
pub struct Loader {
    pub model: ModelSource,
    pub fetcher: Fetcher,
    pub default_model: Option<String>,
    /// The number of workers for each model. It replaces the number in the manifest.
    pub workers: Option<usize>,
    pub limits: Limits,
    /// The memory that all clients together may use on the server, in bytes.
    pub memory: Arc<Budget>,
    /// Counts the workers of all models.
    pub places: Places,
    pub clock: Clock,
}

/// The models that were served before a load, as weak references: a load must not delay the end of the server.
#[derive(Debug, Default)]
pub struct Before {
    pub known: Vec<Known>,
    /// Names and versions that failed to load at the start and have not been loaded since.
    pub failed_at_start: Vec<(String, String)>,
    /// The previous scan of the repository; `None` at the start.
    pub scan: Option<Scan>,
}

/// The number of versions that a load changed or kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub loaded: usize,
    pub kept: usize,
    pub failed: usize,
    /// Versions that were not found for the first time. They are still served.
    pub missing: usize,
}

/// The result of a load for one version.
enum Outcome {
    /// A version of [`Before::known`] stays in service: its index there, and the reason.
    Kept(usize, Why),
    Loaded(Arc<ServedModel>),
    /// A chain, which is made when all models are there.
    Chain(Box<NewChain>),
    Failed(Failure),
}

/// A chain that was found.
struct NewChain {
    files: ModelFiles,
    fingerprint: Fingerprint,
    /// The chain that is served now: its index in [`Before::known`].
    before: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Why {
    Unchanged,
    /// The version's current files cannot be loaded.
    Failed,
    Missing,
}

impl Loader {
    /// Scans the repository before a load. The names of new data files are read later, by the load.
    pub fn scan(&self, before: &Scan) -> Result<Scan, FetchError> {
        Scan::of(&self.model, &self.fetcher, before)
    }

    /// Scans the repository and reads the names of all data files. The result is compared with the scan before, to
    /// decide whether a reload is needed.
    pub fn look(&self, before: &Scan) -> Result<Scan, FetchError> {
        let mut scan = self.scan(before)?;
        scan.complete();
        Ok(scan)
    }

    /// Loads the new and changed versions of a scan, several models at a time, and completes the scan with the
    /// files from which the models were loaded. A version that fails to load gets an entry with the reason; when
    /// it was served before, the old model stays in service. Returns `None` when `is_wanted` returned false during
    /// the load.
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
                // When no thread can be started, this thread does all the work.
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
        catalogue(self, outcomes, before)
    }

    /// Makes a chain of the models in `catalogue`, or keeps the one that is served when nothing has changed. `None` when that
    /// one has been dropped, which means that the server is stopping.
    fn chain(
        &self,
        chain: NewChain,
        catalogue: &Catalogue,
        before: &Before,
    ) -> Option<Result<Arc<ServedModel>, String>> {
        let NewChain { files, fingerprint, before: now } = chain;
        let find = |name: &str, version: Option<&str>| catalogue.find_step(name, version);
        let old = now.map(|at| &before.known[at]);
        let old = match old {
            Some(known) => Some((known, known.model.upgrade()?)),
            None => None,
        };
        let surroundings =
            serve::Surroundings { limits: &self.limits, clock: &self.clock, places: &self.places };
        let made = serve::serve(&files, fingerprint.clone(), surroundings, find);
        let is_same = |old: &ServedModel, new: &ServedModel| match (old.chain(), new.chain()) {
            (Some(old), Some(new)) => old.models().map(Arc::as_ptr).eq(new.models().map(Arc::as_ptr)),
            _ => false,
        };
        Some(match (made, old) {
            (Ok(new), Some((known, old))) if known.fingerprint == fingerprint && is_same(&old, &new) => {
                Ok(old)
            }
            (Ok(new), _) => Ok(Arc::new(new)),
            (Err(error), Some((known, old))) => {
                let Known { name, version, .. } = known;
                log::error!(
                    "model {name} version {version} is not loaded; what was served before stays: {error}"
                );
                Ok(old)
            }
            (Err(error), None) => Err(error),
        })
    }

    /// Loads or keeps one found version. The result is empty when the folder may hold no model at all.
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
                if files.manifest.ensemble_scheduling.is_some() {
                    let (files, fingerprint) = (files.clone(), found.fingerprint.clone());
                    let chain = NewChain { files, fingerprint, before: same };
                    return vec![(name, version, Outcome::Chain(Box::new(chain)))];
                }
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
        // Files that cannot be read may belong to a model with another name, or to several versions.
        let is_hidden = |known: &Known| {
            let is_found =
                names.iter().any(|(name, version)| (name, version) == (&known.name, &known.version));
            found.files.is_err() && known.home == found.home && !is_found
        };
        let all = before.known.iter().enumerate();
        let stay: Vec<usize> =
            all.filter(|(at, known)| same == Some(*at) || is_hidden(known)).map(|(at, _)| at).collect();
        if stay.is_empty() && matches!(found.files, Err(Unusable::Unreadable(_))) {
            log::warn!("{}: its files are not served: {error}", found.home.display());
            return Vec::new();
        }
        let stays = if stay.is_empty() { "" } else { "; what was served before stays" };
        log::error!("model {name} version {version} is not loaded{stays}: {error}");
        if stay.is_empty() {
            let when = failed_when(before, &name, &version);
            return vec![(name, version, Outcome::Failed(Failure { reason: error, when }))];
        }
        let kept = stay.into_iter().map(|at| {
            let Known { name, version, .. } = known(&at);
            (name.clone(), version.clone(), Outcome::Kept(at, Why::Failed))
        });
        kept.collect()
    }

    /// Fetches and loads a model, warms it up, and starts its workers. A panic becomes an error of this model.
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

/// The versions that were served and are not found now. A version is removed only when it is missing in two scans
/// in a row: a person who replaces a file may have removed the old one a moment ago.
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

/// Makes the new catalogue. Returns `None` when a model to keep has been dropped, which means that the server is
/// stopping.
fn catalogue(
    loader: &Loader,
    outcomes: Vec<(String, String, Outcome)>,
    before: &Before,
) -> Option<Result<(Catalogue, Changes), String>> {
    let mut changes = Changes::default();
    let mut entries: Vec<(String, Entry)> = Vec::new();
    let mut chains = Vec::new();
    for (name, version, outcome) in outcomes {
        // Several unreadable versions may each have kept the same model.
        if entries.iter().any(|(known, entry)| *known == name && entry.version == version) {
            continue;
        }
        let model = match outcome {
            Outcome::Loaded(model) => {
                changes.loaded += 1;
                Ok(model)
            }
            Outcome::Kept(at, why) => {
                *match why {
                    Why::Unchanged => &mut changes.kept,
                    Why::Missing => &mut changes.missing,
                    Why::Failed => &mut changes.failed,
                } += 1;
                Ok(before.known[at].model.upgrade()?)
            }
            Outcome::Failed(failure) => {
                changes.failed += 1;
                Err(failure)
            }
            Outcome::Chain(chain) => {
                chains.push((name, version, *chain));
                continue;
            }
        };
        entries.push((name, Entry { version, model }));
    }
    let default = loader.default_model.as_deref();
    if chains.is_empty() {
        return Some(Catalogue::new(entries, default).map(|catalogue| (catalogue, changes)));
    }
    let models = match Catalogue::new(entries.clone(), None) {
        Ok(models) => models,
        Err(error) => return Some(Err(error)),
    };
    for (name, version, chain) in chains {
        let old = chain.before.and_then(|at| before.known[at].model.upgrade());
        let model = match loader.chain(chain, &models, before)? {
            Ok(model) => {
                let is_kept = old.is_some_and(|old| Arc::ptr_eq(&old, &model));
                *(if is_kept { &mut changes.kept } else { &mut changes.loaded }) += 1;
                if !is_kept {
                    log::info!(
                        "model {name} version {version}: a chain of {} steps",
                        model.chain().map_or(0, |chain| chain.models().count())
                    );
                }
                Ok(model)
            }
            Err(reason) => {
                changes.failed += 1;
                log::error!("model {name} version {version} is not loaded: {reason}");
                let when = failed_when(before, &name, &version);
                Err(Failure { reason, when })
            }
        };
        entries.push((name, Entry { version, model }));
    }
    Some(Catalogue::new(entries, default).map(|catalogue| (catalogue, changes)))
}

/// Whether a version that fails to load makes the server not ready.
fn failed_when(before: &Before, name: &str, version: &str) -> FailedAt {
    let failed_before =
        before.failed_at_start.iter().any(|failed| (failed.0.as_str(), failed.1.as_str()) == (name, version));
    if before.scan.is_none() || failed_before { FailedAt::Start } else { FailedAt::Reload }
}
