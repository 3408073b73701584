//! Models from elsewhere: what a `url` gives is downloaded, checked against its `sha256`, kept in a cache, and
//! found there the next time. This happens before the server listens; whoever connects is served.
//!
//! ```text
//! model.json ─► address ─► cache ─(not there)─► download ─► web ─► cache ─► archive (.tar.gz) ─► model::ModelFiles
//!                            └────────────────────(there, and whole)──────────────────────────────────┘
//! ```
//!
//! Nothing is used that was not checked. A secret (a query, an Authorization header) is never in a log line, an
//! error or the cache.

mod address;
mod archive;
mod cache;
mod download;
mod web;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use address::Address;
use cache::{Content, Place};
use download::{Download, stored};

use crate::config::Fetching;
use crate::model::manifest::{check_name, check_sha256};
use crate::model::repository::{self, Broken, DEFAULT_FILE, MANIFEST, RepositoryError, below};
use crate::model::{Manifest, ModelFiles, ModelSource, Store};
use crate::transfer::Digest;
use crate::transfer::progress::{Lines, Progress};

/// Why models are not there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error("model `{model}` was not fetched: {message}")]
    Failed { model: String, message: String },
    #[error("{0}")]
    Argument(String),
}

/// What stopped a step.
#[derive(Debug)]
enum Failure {
    /// It may be better next time; the server may have said when that is.
    Again { message: String, wait: Option<Duration> },
    /// It will not; what has come is kept.
    Final(String),
    /// It will not, and what has come is of no use, or in the way.
    Spoilt(String),
}

impl Failure {
    fn again(message: String) -> Failure {
        Failure::Again { message, wait: None }
    }
}

/// What is to be fetched.
struct Source {
    address: Address,
    sha256: Digest,
}

impl Source {
    /// Of a manifest with a `url`.
    fn of(manifest: &Manifest, fetching: &Fetching) -> Result<Option<Source>, String> {
        let (Some(url), Some(sha256)) = (&manifest.url, &manifest.sha256) else { return Ok(None) };
        let address = Address::parse(url, fetching.allow_http)?;
        let sha256 = Digest::from_hex(sha256).ok_or("sha256 is no digest: expected 64 hexadecimal digits")?;
        Ok(Some(Source { address, sha256 }))
    }
}

/// Finds models, and fetches those that are elsewhere.
#[derive(Debug)]
pub struct Fetcher {
    fetching: Fetching,
    progress: Progress,
}

impl Fetcher {
    pub fn new(fetching: Fetching, lines: Lines) -> Fetcher {
        Fetcher { fetching, progress: Progress::with(lines) }
    }

    /// Every model of a source, with its files in place.
    pub fn models(&self, source: &ModelSource) -> Result<Vec<ModelFiles>, FetchError> {
        let found = self.find(source)?.into_iter();
        found
            .map(|files| files.map_err(|broken| (*broken.error).into()).and_then(|files| self.bring(files)))
            .collect()
    }

    /// Every model of a source; what is elsewhere is not fetched yet ([`Fetcher::bring`]).
    pub fn find(&self, source: &ModelSource) -> Result<Vec<Result<ModelFiles, Broken>>, FetchError> {
        let argument = match source {
            ModelSource::Named(argument) => argument,
            ModelSource::Program if self.fetching.sha256.is_none() => {
                return Ok(vec![Ok(ModelFiles::embedded())]);
            }
            ModelSource::Program => {
                return Err(FetchError::Argument(
                    "--sha256 (ONNXD_SHA256) is for a model that is named by its URL, and no model is named"
                        .into(),
                ));
            }
        };
        let url = argument.to_str().filter(|text| text.contains("://"));
        match (url, &self.fetching.sha256) {
            (Some(url), sha256) => {
                let files = self.named(url, sha256.as_deref()).map_err(FetchError::Argument)?;
                Ok(vec![Ok(files)])
            }
            (None, None) => Ok(repository::find(argument)?),
            (None, Some(_)) => {
                let path = argument.display();
                Err(FetchError::Argument(format!(
                    "--sha256 (ONNXD_SHA256) is for a model that is named by its URL, and {path} is none"
                )))
            }
        }
    }

    /// A model that has no manifest but its URL.
    fn named(&self, url: &str, sha256: Option<&str>) -> Result<ModelFiles, String> {
        let address = Address::parse(url, self.fetching.allow_http)?;
        let sha256 = sha256.ok_or_else(|| {
            format!(
                "{address} needs --sha256 HEX (ONNXD_SHA256), so that what is fetched is known to be what was meant: \
                 `sha256sum FILE` prints it"
            )
        })?;
        check_sha256("--sha256", sha256)?;
        let last = address.last_part();
        let stem = [".onnx", ".tar.gz", ".tgz"].iter().find_map(|suffix| last.strip_suffix(suffix));
        let name = stem.unwrap_or(&last).to_owned();
        check_name("the name", &name).map_err(|error| {
            format!("{address}: {error}; or put `name`, `url` and `sha256` into a model.json")
        })?;
        let manifest = Manifest { url: Some(url.into()), sha256: Some(sha256.into()), ..Manifest::default() };
        let (onnx, folder, home) = (PathBuf::new(), PathBuf::new(), PathBuf::from(url));
        let (version, manifest_file, version_folder, store) = ("1".into(), None, None, Store::Disk);
        Ok(ModelFiles { name, version, onnx, folder, manifest, manifest_file, version_folder, store, home })
    }

    /// Puts a model's files in place, when they are elsewhere.
    pub fn bring(&self, files: ModelFiles) -> Result<ModelFiles, FetchError> {
        let model = files.name.clone();
        let failed = |message: String| FetchError::Failed { model: model.clone(), message };
        match Source::of(&files.manifest, &self.fetching) {
            Ok(None) => Ok(files),
            Ok(Some(source)) => {
                let content = self.content(&source, &files.name).map_err(&failed)?;
                placed(files, content).map_err(failed)
            }
            Err(message) => Err(failed(message)),
        }
    }

    /// From the cache, or by way of the cache.
    fn content(&self, source: &Source, model: &str) -> Result<Content, String> {
        let cache = self.fetching.cache.clone().ok_or(
            "there is no place to keep it, as neither XDG_CACHE_HOME nor HOME is set: name a folder by --cache \
             (ONNXD_CACHE)",
        )?;
        let what = format!("model {model}");
        let place = Place::new(cache, source.sha256.clone());
        let begun = Instant::now();
        // Without the lock, so that a cache that is there may be one that cannot be written.
        if let Ok(Some(content)) = place.content() {
            self.progress
                .say(&format!("{what}: in the cache, checked in {} ms", begun.elapsed().as_millis()));
            return Ok(content);
        }
        let _lock = place.lock(self.fetching.patience, || {
            self.progress.say(&format!("{what}: another process fetches it, waiting"));
        })?;
        match place.content() {
            Ok(Some(content)) => return Ok(content),
            Ok(None) => {}
            Err(error) => {
                self.progress.warn(&format!("{what}: {error}; fetching it again"));
                place.clear().map_err(|error| format!("it cannot be removed: {error}"))?;
            }
        }
        self.fetch(source, &place, &what)?;
        place.content()?.ok_or_else(|| "it was put into the cache, and is not there".into())
    }

    /// Downloads into the cache.
    fn fetch(&self, source: &Source, place: &Place, what: &str) -> Result<(), String> {
        let begun = Instant::now();
        self.progress.say(&format!("{what}: fetching {}", source.address));
        match self.fetched(source, place, what) {
            Ok(()) => {
                self.progress.say(&format!("{what}: fetched and checked in {:.1?}", begun.elapsed()));
                Ok(())
            }
            Err(Failure::Again { message, .. } | Failure::Final(message)) => Err(message),
            Err(Failure::Spoilt(message)) => {
                // When it cannot be removed, the next start finds that it does not fit.
                let _ = std::fs::remove_file(place.part());
                Err(message)
            }
        }
    }

    fn fetched(&self, source: &Source, place: &Place, what: &str) -> Result<(), Failure> {
        Download::open(source, &self.fetching, &self.progress, what, &place.part()).map_err(stored)?.run()?;
        let mut part = std::fs::File::open(place.part()).map_err(stored)?;
        let draft = place.begin().map_err(stored)?;
        if archive::is_gzip(&mut part).map_err(stored)? {
            let sums = archive::unpack(part, &draft.files(), &self.fetching)?;
            return draft.finish_archive(&sums).map_err(stored);
        }
        draft.finish_model().map_err(stored)
    }
}

/// A model's files, with what was fetched in place.
fn placed(files: ModelFiles, content: Content) -> Result<ModelFiles, String> {
    match content {
        Content::Model(_) if files.manifest.file.is_some() => {
            Err("`file` names the ONNX file in an archive, but `url` gives a single file: leave `file` out"
                .into())
        }
        Content::Model(onnx) => Ok(ModelFiles { onnx, ..files }),
        Content::Archive(folder) => unpacked(files, &folder),
    }
}

/// A model in an archive. When that has a model.json, it says everything but name and version, which may be
/// known before it is fetched.
fn unpacked(mut files: ModelFiles, archive: &Path) -> Result<ModelFiles, String> {
    let outer = files.manifest.clone();
    let said = outer.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    files.folder = root(archive, &said)?;
    let own = files.folder.join(MANIFEST);
    if own.is_file() {
        let inner = Manifest::read(&own).map_err(|error| error.message);
        let inner = inner.map_err(|error| format!("the archive's model.json: {error}"))?;
        if inner.url.is_some() {
            return Err(
                "the archive's model.json has a `url` of its own: it must hold the model itself".into()
            );
        }
        let Manifest { name, version, url, sha256, .. } = outer.clone();
        if outer != (Manifest { name, version, url, sha256, ..Manifest::default() }) {
            return Err(
                "the archive has a model.json, so the outer one may hold `name`, `version`, `url` and \
                        `sha256` only: leave the rest to the archive's"
                    .into(),
            );
        }
        if outer.version.is_none() {
            files.version = inner.version.clone().unwrap_or(files.version);
        }
        if files.manifest_file.is_none() {
            files.name = inner.name.clone().unwrap_or(files.name);
        }
        files.manifest = Manifest {
            name: outer.name,
            version: outer.version,
            url: outer.url,
            sha256: outer.sha256,
            ..inner
        };
    }
    let file = files.manifest.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let labels = files.manifest.outputs.iter().filter_map(|output| output.labels.as_deref());
    for part in labels.chain([file.as_str()]) {
        let path =
            below(Path::new(part)).ok_or_else(|| format!("`{part}` is not in the archive's folder"))?;
        if !files.folder.join(path).is_file() {
            return Err(format!(
                "the archive holds no `{part}`, which model.json names (or means by default)"
            ));
        }
    }
    files.onnx = files.folder.join(file);
    Ok(files)
}

/// Where the model is in an archive: at its root, or in the one folder at its root that holds one.
fn root(archive: &Path, file: &str) -> Result<PathBuf, String> {
    let holds = |folder: &Path| folder.join(MANIFEST).is_file() || folder.join(file).is_file();
    if holds(archive) {
        return Ok(archive.into());
    }
    let entries = std::fs::read_dir(archive).map_err(|error| error.to_string())?;
    let folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| holds(path)).collect();
    match folders.as_slice() {
        [folder] => Ok(folder.clone()),
        _ => Err(format!(
            "the archive holds {} folders with a model.json or `{file}`: expected one, or those at its root",
            folders.len()
        )),
    }
}
