//! The models of a server, by name and version. A reload puts another catalogue in this one's place; whoever holds a
//! model keeps it until he lets go.

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
    catalogue: RwLock<Arc<Catalogue>>,
}

/// What was served at one time.
#[derive(Debug, Default)]
pub struct Catalogue {
    by_name: BTreeMap<String, Vec<Entry>>,
    /// The model that `/` means.
    default: Option<String>,
}

/// A version of a model, oldest first among its like.
#[derive(Debug, Clone)]
pub struct Entry {
    pub version: String,
    /// Why it is not there, if it could not be loaded.
    pub model: Result<Arc<ServedModel>, Failure>,
}

/// Why a version could not be loaded.
#[derive(Debug, Clone)]
pub struct Failure {
    pub reason: String,
    pub when: FailedAt,
}

/// Whether the server is the worse for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedAt {
    /// The server does not do what it was started for: it is not ready until the model is mended.
    Start,
    /// What was served is served on: a new model that does not load must not take every replica out of service.
    Reload,
}

/// A version that is served, held by nothing.
#[derive(Debug)]
pub struct Known {
    pub name: String,
    pub version: String,
    pub home: PathBuf,
    pub fingerprint: Fingerprint,
    pub model: Weak<ServedModel>,
}

impl Catalogue {
    /// `default` is the model that `/` means; without one it is the only model, if there is just one.
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
        let only = by_name.keys().next().filter(|_| by_name.len() == 1);
        let default = default.map(str::to_owned).or(only.cloned());
        Ok(Catalogue { by_name, default })
    }

    /// Every version that is served.
    pub fn served(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.by_name.values().flatten().filter_map(|entry| entry.model.as_ref().ok())
    }

    /// What is served, without keeping it: a reload must not hold up the end of the server.
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

    /// Names and versions that could not be loaded at the start, nor since.
    pub fn failed_at_start(&self) -> Vec<(String, String)> {
        let is_failed =
            |entry: &Entry| entry.model.as_ref().is_err_and(|failure| failure.when == FailedAt::Start);
        let failed = self.all().filter(|(_, entry)| is_failed(entry));
        failed.map(|(name, entry)| (name.clone(), entry.version.clone())).collect()
    }

    /// Names and versions for which the server is not ready: they could not be loaded at the start, or have no worker.
    pub fn unready(&self) -> Vec<String> {
        let is_unready = |entry: &Entry| match &entry.model {
            Ok(model) => !model.is_ready(),
            Err(failure) => failure.when == FailedAt::Start,
        };
        let unready = self.all().filter(|(_, entry)| is_unready(entry));
        unready.map(|(name, entry)| format!("{name} version {}", entry.version)).collect()
    }

    /// The versions of a model, oldest first.
    pub fn versions(&self, name: &str) -> Vec<&str> {
        self.by_name.get(name).into_iter().flatten().map(|entry| entry.version.as_str()).collect()
    }

    /// The model that a path names; `None` for the name means the default model, for the version the newest that is
    /// served.
    pub fn find(&self, name: Option<&str>, version: Option<&str>) -> Result<&Arc<ServedModel>, RequestError> {
        let unknown = |message: String| RequestError::new(Code::UnknownModel, message);
        let known = || quoted(self.by_name.keys().map(String::as_str));
        let Some(name) = name.or(self.default.as_deref()) else {
            return Err(unknown(format!(
                "no default model is set: name one of {} in the path, as /v2/models/<name>",
                known()
            )));
        };
        let versions = self.by_name.get(name).ok_or_else(|| {
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
            // Why is for the operator, in the log: it may name paths.
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

/// Numbers by their value, before names.
fn order(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

impl Models {
    pub fn new(catalogue: Catalogue) -> Models {
        Models { catalogue: RwLock::new(Arc::new(catalogue)) }
    }

    /// What is served now.
    pub fn now(&self) -> Arc<Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves another catalogue from now on; the one before.
    pub fn replace(&self, catalogue: Catalogue) -> Arc<Catalogue> {
        let mut now = self.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, Arc::new(catalogue))
    }
}

/// The worker threads of all models. They end when every [`ServedModel`] is gone and their queues are
/// empty.
#[derive(Debug, Default)]
pub struct Workers(Mutex<Vec<WorkerThread>>);

impl Workers {
    pub fn add(&self, workers: Vec<WorkerThread>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of models that were replaced have ended by now, or will have the next time.
        let (ended, running): (Vec<_>, Vec<_>) = all.drain(..).partition(WorkerThread::has_ended);
        *all = running;
        all.extend(workers);
        drop(all);
        ended.into_iter().for_each(join);
    }

    /// Takes over those of another.
    pub fn absorb(&self, others: Workers) {
        self.add(others.0.into_inner().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The worker that has been busy with one thing for longest, and how long.
    pub fn busiest(&self) -> Option<(String, Duration)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = all.iter().filter_map(|worker| Some((worker, worker.pulse.busy()?)));
        let (worker, busy) = busy.max_by_key(|(_, busy)| *busy)?;
        Some((worker.handle.thread().name().unwrap_or_default().to_owned(), busy))
    }

    /// Waits for the workers to end, at most until `deadline`; says how many did not.
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
    fn a_version_that_could_not_be_loaded_is_told_from_one_that_nobody_knows() {
        let catalogue = failed(FailedAt::Start);
        let failed = catalogue.find(None, None).unwrap_err();
        assert_eq!(failed.code, Code::Unavailable);
        assert!(!failed.message.contains("secret"), "{failed}");
        assert_eq!(catalogue.find(Some("m"), Some("2")).unwrap_err().code, Code::UnknownModel);
    }

    #[test]
    fn a_model_that_fails_at_the_start_holds_up_readiness_and_a_new_one_at_a_reload_does_not() {
        assert_eq!(failed(FailedAt::Start).unready(), ["m version 1"]);
        assert!(failed(FailedAt::Reload).unready().is_empty());
    }

    fn failed(when: FailedAt) -> Catalogue {
        let entry = Entry { version: "1".into(), model: Err(Failure { reason: "secret path".into(), when }) };
        Catalogue::new(vec![("m".into(), entry)], None).unwrap()
    }
}
