//! The models of a server, by name and version, and their worker threads. A reload replaces the whole catalogue; a
//! model lives as long as someone holds it. How models are loaded does not belong here: see `loader`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::{Fingerprint, ServedModel};
use crate::engine::worker::WorkerThread;
use crate::error::shorten;
use crate::error::{Code, RequestError};
use crate::model::signature::quoted;

/// What is served now.
#[derive(Debug)]
pub struct Models {
    /// The current catalogue. A reload replaces it.
    catalogue: RwLock<Arc<Catalogue>>,
}

/// The models and versions that a server has between two reloads.
#[derive(Debug, Default)]
pub struct Catalogue {
    by_name: BTreeMap<String, Vec<Entry>>,
    /// The name of the model that answers at the path `/`.
    pub(super) default: Option<String>,
}

/// One version of a model. In a catalogue, the versions of a model are sorted from oldest to newest.
#[derive(Debug, Clone)]
pub struct Entry {
    pub version: String,
    /// The model, or the reason why it could not be loaded.
    pub model: Result<Arc<ServedModel>, Failure>,
}

/// The reason why a version could not be loaded, and when that happened.
#[derive(Debug, Clone)]
pub struct Failure {
    pub reason: String,
    pub when: FailedAt,
}

/// When a version failed to load. This decides whether the server counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedAt {
    /// At the start: the server is not ready until the model is repaired.
    Start,
    /// In a reload: the server stays ready, because a new model that fails to load must not take every replica out
    /// of service.
    Reload,
}

/// A version that is served. It holds only a weak reference, so it does not keep the model alive.
#[derive(Debug)]
pub struct Known {
    pub name: String,
    pub version: String,
    pub home: PathBuf,
    pub fingerprint: Fingerprint,
    pub model: Weak<ServedModel>,
}

impl Catalogue {
    /// Creates a catalogue. `default` names the model that answers at `/`; without it, that is the only model, if
    /// there is exactly one. Returns an error when `default` is not among the entries.
    pub fn new(entries: Vec<(String, Entry)>, default: Option<&str>) -> Result<Catalogue, String> {
        let mut by_name: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for (name, entry) in entries {
            by_name.entry(name).or_default().push(entry);
        }
        for versions in by_name.values_mut() {
            versions.sort_by(|a, b| order(&a.version, &b.version));
        }
        if let Some(name) = default.filter(|name| !by_name.contains_key(*name)) {
            let known = quoted(by_name.keys().map(String::as_str));
            return Err(format!("the default model `{name}` is not there: the repository has {known}"));
        }
        let mut public = by_name.iter().filter(|(_, versions)| is_public(versions)).map(|(name, _)| name);
        let only = public.next().filter(|_| public.next().is_none());
        let default = default.map(str::to_owned).or(only.cloned());
        Ok(Catalogue { by_name, default })
    }

    /// Every version that is served.
    pub fn served(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.by_name.values().flatten().filter_map(|entry| entry.model.as_ref().ok())
    }

    /// All served versions, as weak references: a reload must not delay the end of the server.
    pub fn known(&self) -> Vec<Known> {
        let known = |model: &Arc<ServedModel>| Known {
            name: model.name.clone(),
            version: model.version.clone(),
            home: model.home.clone(),
            fingerprint: model.fingerprint.clone(),
            model: Arc::downgrade(model),
        };
        self.served().map(known).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.by_name.iter().flat_map(|(name, versions)| versions.iter().map(move |entry| (name, entry)))
    }

    /// Names and versions that failed to load at the start and have not been loaded since.
    pub fn failed_at_start(&self) -> Vec<(String, String)> {
        let is_failed =
            |entry: &Entry| entry.model.as_ref().is_err_and(|failure| failure.when == FailedAt::Start);
        let failed = self.all().filter(|(_, entry)| is_failed(entry));
        failed.map(|(name, entry)| (name.clone(), entry.version.clone())).collect()
    }

    /// Names and versions that make the server not ready: they failed to load at the start, or have no running
    /// worker.
    pub fn unready(&self) -> Vec<String> {
        let is_unready = |entry: &Entry| match &entry.model {
            Ok(model) => !model.is_ready(),
            Err(failure) => failure.when == FailedAt::Start,
        };
        let unready = self.all().filter(|(_, entry)| is_unready(entry));
        unready.map(|(name, entry)| format!("{name} version {}", entry.version)).collect()
    }

    /// The newest version of each model that is served.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.by_name
            .values()
            .filter_map(|versions| versions.iter().rev().find_map(|entry| entry.model.as_ref().ok()))
    }

    /// The versions of a model, oldest first.
    pub fn versions(&self, name: &str) -> Vec<&str> {
        self.by_name.get(name).into_iter().flatten().map(|entry| entry.version.as_str()).collect()
    }

    /// Finds a model for a step of a chain, which may be hidden from clients.
    pub fn find_step(&self, name: &str, version: Option<&str>) -> Result<Arc<ServedModel>, String> {
        let known = || quoted(self.by_name.keys().map(String::as_str));
        let versions = self.by_name.get(name);
        let versions =
            versions.ok_or_else(|| format!("the repository has no such model: it has {}", known()))?;
        let mut wanted =
            versions.iter().rev().filter(|entry| version.is_none_or(|version| version == entry.version));
        match (wanted.find_map(|entry| entry.model.as_ref().ok()), version) {
            (Some(model), _) => Ok(model.clone()),
            (None, Some(version)) => Err(format!(
                "its version {version} is not served: there are {}",
                self.versions(name).join(", ")
            )),
            (None, None) => Err("it could not be loaded".into()),
        }
    }

    /// Finds the model for a path. Without a name, it is the default model; without a version, it is the newest
    /// version that is served. A model that is not public is not found. Returns an error when no such version is served.
    pub fn find(&self, name: Option<&str>, version: Option<&str>) -> Result<&Arc<ServedModel>, RequestError> {
        let unknown = |message: String| RequestError::new(Code::UnknownModel, message);
        let public = || self.by_name.iter().filter(|(_, versions)| is_public(versions));
        let known = || quoted(public().map(|(name, _)| name.as_str()));
        let Some(name) = name.or(self.default.as_deref()) else {
            return Err(unknown(format!(
                "no default model is set: name one of {} in the path, as /v2/models/<name>",
                known()
            )));
        };
        let versions = self.by_name.get(name).filter(|versions| is_public(versions)).ok_or_else(|| {
            unknown(format!("unknown model `{}`: this server has {}", shorten(name), known()))
        })?;
        let wanted =
            versions.iter().rev().filter(|entry| version.is_none_or(|version| version == entry.version));
        let mut failed = None;
        for entry in wanted {
            match &entry.model {
                Ok(model) => return Ok(model),
                Err(_) => failed = failed.or(Some(&entry.version)),
            }
        }
        Err(match (failed, version) {
            // The reason is only in the log for the operator, because it may contain paths.
            (Some(version), _) => RequestError::new(
                Code::Unavailable,
                format!("version {version} of model `{name}` could not be loaded: see the server's log"),
            ),
            (None, version) => unknown(format!(
                "unknown version `{}` of model `{name}`: this server has {}",
                shorten(version.unwrap_or_default()),
                self.versions(name).join(", ")
            )),
        })
    }
}

/// Whether clients can use a model with these versions. A model that failed to load is not hidden.
fn is_public(versions: &[Entry]) -> bool {
    versions.iter().any(|entry| entry.model.as_ref().map_or(true, |model| model.is_public))
}

/// Compares versions: numbers come before names and are compared by value.
pub fn order(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

impl Models {
    /// Begins with `catalogue` as the current one.
    pub fn new(catalogue: Catalogue) -> Models {
        Models { catalogue: RwLock::new(Arc::new(catalogue)) }
    }

    /// The current catalogue. A reload does not change the returned one.
    pub fn now(&self) -> Arc<Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the current catalogue, and returns the previous one.
    pub fn replace(&self, catalogue: Catalogue) -> Arc<Catalogue> {
        let mut now = self.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, Arc::new(catalogue))
    }
}

/// The worker threads of all models. The threads of a model end when its [`ServedModel`] is dropped and its queue
/// is empty.
#[derive(Debug, Default)]
pub struct Workers(Mutex<Vec<WorkerThread>>);

impl Workers {
    /// Adds threads, and removes those that have ended.
    pub fn add(&self, workers: Vec<WorkerThread>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The threads of replaced models are removed here once they have ended; the others are removed by a later
        // call.
        let (ended, running): (Vec<_>, Vec<_>) = all.drain(..).partition(WorkerThread::has_ended);
        *all = running;
        all.extend(workers);
        drop(all);
        ended.into_iter().for_each(join);
    }

    /// Moves the threads of `others` into this list.
    pub fn absorb(&self, others: Workers) {
        self.add(others.0.into_inner().unwrap_or_else(PoisonError::into_inner));
    }

    /// The number of threads in this list.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The thread that has been busy with one piece of work for the longest time, and that time.
    pub fn busiest(&self) -> Option<(String, Duration)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = all.iter().filter_map(|worker| worker.pulse.busy());
        let (busy, thread) = busy.max_by_key(|(busy, _)| *busy)?;
        Some((thread.name().unwrap_or_default().to_owned(), busy))
    }

    /// Waits until the workers end, at most until `deadline`. Returns the number of workers that have not ended.
    pub fn join(&self, deadline: Instant) -> usize {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut stuck = 0;
        for worker in all {
            match worker.alive.recv_deadline(deadline) {
                Err(RecvTimeoutError::Disconnected) => join(worker),
                _ => stuck += 1,
            }
        }
        stuck
    }
}

fn join(worker: WorkerThread) {
    if worker.handle.join().is_err() {
        log::error!("a worker had panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number_and_names_come_last() {
        let mut versions = ["10", "b", "9", "a", "2"];
        versions.sort_by(|a, b| order(a, b));
        assert_eq!(versions, ["2", "9", "10", "a", "b"]);
    }

    #[test]
    fn a_failed_version_and_an_unknown_version_give_different_errors() {
        let catalogue = failed(FailedAt::Start);
        let failed = catalogue.find(None, None).unwrap_err();
        assert_eq!(failed.code, Code::Unavailable);
        assert!(!failed.message.contains("secret"), "{failed}");
        assert_eq!(catalogue.find(Some("m"), Some("2")).unwrap_err().code, Code::UnknownModel);
    }

    #[test]
    fn only_a_failure_at_the_start_makes_the_server_not_ready() {
        assert_eq!(failed(FailedAt::Start).unready(), ["m version 1"]);
        assert!(failed(FailedAt::Reload).unready().is_empty());
    }

    fn failed(when: FailedAt) -> Catalogue {
        let entry = Entry { version: "1".into(), model: Err(Failure { reason: "secret path".into(), when }) };
        Catalogue::new(vec![("m".into(), entry)], None).unwrap()
    }
}
