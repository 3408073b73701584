//! Models that are fetched from a `url`. A fetched file is downloaded, checked against its `sha256` and kept in a
//! cache, where the next start finds it. The server fetches before it listens, so each client that can connect is
//! served. Reading `model.json` and finding models on disk belong to `model`; loading them belongs to `inference`.
//!
//! ```text
//! model.json ─► address ─► cache ──(missing)──► download ─► web ─► cache ─► archive (.tar.gz) ─► model::ModelFiles
//!                            └────────────────────(there and complete)────────────────────────────────┘
//! ```
//!
//! Invariants: only checked files are used. A secret (a query or an Authorization header) is never in a log line, an
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

/// Why models could not be found or fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A folder or a `model.json` on this machine cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The content of a `url` could not be downloaded, checked, kept or unpacked.
    #[error("model `{model}` was not fetched: {message}")]
    Failed { model: String, message: String },
    /// The URL on the command line, or its `--sha256`, is wrong or missing.
    #[error("{0}")]
    Argument(String),
}

/// Why a step of a download failed.
#[derive(Debug)]
enum Failure {
    /// Another attempt may succeed. `wait` is the time that the server asked for.
    Again { message: String, wait: Option<Duration> },
    /// Another attempt would fail too. The received bytes are kept for the next start.
    Final(String),
    /// Another attempt would fail too. The received bytes are removed, because they are useless or fill the disk.
    Spoilt(String),
}

impl Failure {
    fn again(message: String) -> Failure {
        Failure::Again { message, wait: None }
    }
}

/// An address, and the digest that its content must have.
struct Source {
    address: Address,
    sha256: Digest,
}

impl Source {
    /// The source that a manifest names, or `None` without a `url`.
    fn of(manifest: &Manifest, fetching: &Fetching) -> Result<Option<Source>, String> {
        let (Some(url), Some(sha256)) = (&manifest.url, &manifest.sha256) else { return Ok(None) };
        let address = Address::parse(url, fetching.allow_http)?;
        let sha256 = Digest::from_hex(sha256).ok_or("sha256 is no digest: expected 64 hexadecimal digits")?;
        Ok(Some(Source { address, sha256 }))
    }
}

/// Finds models, and fetches those that have a `url`.
#[derive(Debug)]
pub struct Fetcher {
    fetching: Fetching,
    progress: Progress,
}

impl Fetcher {
    /// `lines` says where messages about progress go.
    pub fn new(fetching: Fetching, lines: Lines) -> Fetcher {
        Fetcher { fetching, progress: Progress::with(lines) }
    }

    /// All models of a source, with all their files on this machine. Fails when one of them fails.
    pub fn models(&self, source: &ModelSource) -> Result<Vec<ModelFiles>, FetchError> {
        let found = self.find(source)?.into_iter();
        found
            .map(|files| files.map_err(|broken| (*broken.error).into()).and_then(|files| self.bring(files)))
            .collect()
    }

    /// All models of a source. Models with a `url` are not fetched yet: pass each to [`Fetcher::bring`]. A broken model
    /// is an error in the list and does not hide the others.
    ///
    /// Fails when the source itself cannot be read, or when its URL or `--sha256` is wrong.
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
                    "--sha256 (ONNXD_SHA256) is for a model that is named by its URL, and {path} is not a URL"
                )))
            }
        }
    }

    /// A model that is named on the command line by its URL. Its `model.json`, if any, is in the archive.
    fn named(&self, url: &str, sha256: Option<&str>) -> Result<ModelFiles, String> {
        let address = Address::parse(url, self.fetching.allow_http)?;
        let sha256 = sha256.ok_or_else(|| {
            format!(
                "{address} needs --sha256 HEX (ONNXD_SHA256), so that another file is not used by mistake: \
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

    /// Fetches a model that has a `url`, and returns it with the paths of its files in the cache. Returns other models
    /// unchanged.
    ///
    /// Fails with [`FetchError::Failed`]. Takes as long as the download, with its repeated attempts.
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

    /// The content from the cache. Downloads it into the cache first, if it is not there.
    fn content(&self, source: &Source, model: &str) -> Result<Content, String> {
        let cache = self.fetching.cache.clone().ok_or(
            "there is no place to keep it, as neither XDG_CACHE_HOME nor HOME is set: name a folder by --cache \
             (ONNXD_CACHE)",
        )?;
        let what = format!("model {model}");
        let place = Place::new(cache, source.sha256.clone());
        let begun = Instant::now();
        // The first look takes no lock, so that a filled cache may be read-only.
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
        place.content()?.ok_or_else(|| {
            "it was put into the cache, but is not there: does another program remove files there?".into()
        })
    }

    /// Downloads into the cache and reports the progress. The caller holds the lock of `place`.
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
                // If this fails, the next start finds that the digest does not match.
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

/// The files of a model, with the paths of the fetched content.
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

/// The files of a model in an unpacked archive. If the archive has a model.json, that one describes the model. The
/// outer model.json then may only give the name and the version, which may be needed before the archive is fetched.
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
                "the archive holds no `{part}`, which model.json names (or which is the default)"
            ));
        }
    }
    files.onnx = files.folder.join(file);
    Ok(files)
}

/// The folder of the model in an archive: the root, or the only folder at the root that holds a model.
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
            "the archive holds {} folders with a model.json or `{file}`: expected exactly one, or the model at the \
             archive's root",
            folders.len()
        )),
    }
}
