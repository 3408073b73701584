//! Finding models on disk. A model is an `.onnx` file, or a folder with a `model.json` or a
//! `model.onnx`; a repository is a folder of such folders.
//!
//! A model's versions may be folders in its own, called by numbers: `<model>/<version>/model.onnx`. Then `model.json`
//! beside them speaks for all that have none of their own.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::embedded::Store;
use super::manifest::{Manifest, ManifestError, VersionPolicy, check_name};
use super::nearby::models_near;

pub const MANIFEST: &str = "model.json";
pub const DEFAULT_FILE: &str = "model.onnx";

/// A model as found on disk: nothing is loaded yet.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    pub name: String,
    pub version: String,
    /// The ONNX file. Of a model with a `url` it is there once it was fetched.
    pub onnx: PathBuf,
    /// Where the manifest's relative paths (labels, tokenizers) begin; of an archive, in the cache.
    pub folder: PathBuf,
    pub manifest: Manifest,
    /// Where the manifest was read; a bare ONNX file has none.
    pub manifest_file: Option<PathBuf>,
    /// The version's folder below the model's, where versions are folders.
    pub version_folder: Option<PathBuf>,
    pub store: Store,
    /// The model's own folder, of all its versions; or its file. Where it was found, whatever it is called.
    pub home: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: No such file or directory; {instead}")]
    Missing { path: PathBuf, instead: String },
    #[error(
        "{path} holds no model: expected an .onnx file, a folder with `model.onnx` or `model.json`, or a folder of such folders; {instead}"
    )]
    NoModel { path: PathBuf, instead: String },
    #[error("{path}: the manifest's file `{file}` is not there; {instead}")]
    NoFile { path: PathBuf, file: String, instead: Box<str> },
    #[error("{path}: {message}; set `name` in model.json")]
    BadName { path: PathBuf, message: String },
    #[error("{model}: `{part}` is not below the model's folder; copy it there and name it so")]
    Outside { model: PathBuf, part: PathBuf },
    #[error(
        "{folder}: version_policy wants version {missing}, but there is no folder of that name with a model"
    )]
    NoVersion { folder: PathBuf, missing: u64 },
    #[error("{path}: `{field}` is said of a model whose versions are folders: leave it out")]
    OfVersions { path: PathBuf, field: &'static str },
    #[error("two models are called `{name}`: {first} and {second}")]
    SameName { name: String, first: PathBuf, second: PathBuf },
}

/// A model that was found and cannot be read.
#[derive(Debug)]
pub struct Broken {
    pub name: String,
    pub version: String,
    /// As [`ModelFiles::home`].
    pub home: PathBuf,
    pub error: Box<RepositoryError>,
}

impl Broken {
    /// True when nobody can tell what is there, for it cannot be looked at.
    pub fn is_unreadable(&self) -> bool {
        matches!(*self.error, RepositoryError::Io { .. })
    }
}

/// What file systems put at their root, for nobody but root to read.
const LOST_AND_FOUND: &str = "lost+found";

/// Every model at `path` and each of its versions, sorted by name; at least one. What is wrong with one stands in
/// nobody else's way.
pub fn find(path: &Path) -> Result<Vec<Result<ModelFiles, Broken>>, RepositoryError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => RepositoryError::Missing { path: path.into(), instead: models_near(path) },
        _ => RepositoryError::Io { path: path.into(), source },
    };
    if std::fs::metadata(path).map_err(failed)?.is_file() {
        return Ok(vec![Ok(ModelFiles::of_file(path)?)]);
    }
    let mut found = of_folder(path);
    if found.is_empty() {
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != LOST_AND_FOUND {
                found.extend(of_folder(&entry.path()));
            }
        }
    }
    if found.is_empty() {
        return Err(RepositoryError::NoModel { path: path.into(), instead: models_near(path) });
    }
    found.sort_by(|a, b| place(a).cmp(&place(b)));
    for pair in found.windows(2) {
        if let [Ok(first), Ok(second)] = pair
            && (&first.name, &first.version) == (&second.name, &second.version)
        {
            let (first, second) = (first.folder.clone(), second.folder.clone());
            return Err(RepositoryError::SameName { name: place(&pair[0]).0.into(), first, second });
        }
    }
    Ok(found)
}

fn place(found: &Result<ModelFiles, Broken>) -> (&str, &str) {
    match found {
        Ok(files) => (&files.name, &files.version),
        Err(broken) => (&broken.name, &broken.version),
    }
}

/// The model in a folder, in all its versions; nothing when there is none.
pub(super) fn of_folder(folder: &Path) -> Vec<Result<ModelFiles, Broken>> {
    let name = || name_of(folder, folder).unwrap_or_default();
    let broken = |version: &str, error: RepositoryError| {
        Err(Broken { name: name(), version: version.into(), home: folder.into(), error: error.into() })
    };
    let manifest = folder.join(MANIFEST);
    let shared = match has_file(&manifest) {
        Ok(true) => Manifest::read(&manifest).map(Some).map_err(RepositoryError::from),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    let shared = match shared {
        Ok(shared) => shared,
        Err(error) => return vec![broken("1", error)],
    };
    let versions = match version_folders(folder, shared.as_ref()) {
        Ok(versions) => versions,
        Err(error) => return vec![broken("1", error)],
    };
    if versions.is_empty() {
        return match ModelFiles::of_folder(folder) {
            Ok(files) => files.map(Ok).into_iter().collect(),
            Err(error) => vec![broken("1", error)],
        };
    }
    let of_version = |(number, version): &(u64, PathBuf)| {
        let number = number.to_string();
        let files = ModelFiles::of_version(folder, shared.as_ref(), &number, version);
        files.or_else(|error| broken(&number, error))
    };
    versions.iter().map(of_version).collect()
}

/// The folders below a model's that are called by a number and hold a model, as far as the policy wants them; newest
/// first.
fn version_folders(folder: &Path, shared: Option<&Manifest>) -> Result<Vec<(u64, PathBuf)>, RepositoryError> {
    let file = shared.and_then(|manifest| manifest.file.as_deref()).unwrap_or(DEFAULT_FILE);
    // Without a manifest a folder that holds a model is one, whatever lies beside that.
    if has_file(&folder.join(file))? || shared.is_some_and(|manifest| manifest.url.is_some()) {
        return Ok(Vec::new());
    }
    let failed = |source| RepositoryError::Io { path: folder.into(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut versions = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let number = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
        let Some(number) = number else { continue };
        // One that cannot be looked at is a version all the same: reading it says what is wrong.
        let holds_model =
            has_file(&path.join(file)).and_then(|has| Ok(has || has_file(&path.join(MANIFEST))?));
        if holds_model.unwrap_or(true) {
            versions.push((number, path));
        }
    }
    versions.sort_by(|a, b| b.cmp(a));
    if versions.is_empty() {
        return Ok(versions);
    }
    let policy = shared.map(|manifest| &manifest.version_policy);
    match policy {
        None | Some(VersionPolicy::All {}) => {}
        Some(VersionPolicy::Latest { num_versions }) => versions.truncate(*num_versions),
        Some(VersionPolicy::Specific { versions: wanted }) => {
            if let Some(missing) =
                wanted.iter().find(|wanted| versions.iter().all(|(number, _)| number != *wanted))
            {
                return Err(RepositoryError::NoVersion { folder: folder.into(), missing: *missing });
            }
            versions.retain(|(number, _)| wanted.contains(number));
        }
    }
    Ok(versions)
}

/// Whether there is a file. What cannot be looked at is an error, and not the same as nothing.
fn has_file(path: &Path) -> Result<bool, RepositoryError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if is_absence(&error) => Ok(false),
        Err(source) => Err(RepositoryError::Io { path: path.into(), source }),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl ModelFiles {
    /// A bare `.onnx` file, or a manifest named directly.
    fn of_file(path: &Path) -> Result<ModelFiles, RepositoryError> {
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        if path.file_name().is_some_and(|name| name == MANIFEST) {
            return Self::with_manifest(folder, path);
        }
        // A file called model.onnx says nothing by its name; its folder does.
        let named_by = if path.file_name().is_some_and(|name| name == DEFAULT_FILE) { &folder } else { path };
        let name = name_of(named_by, path)?;
        let manifest = Manifest::default();
        let (version, onnx, home) = ("1".into(), path.into(), path.into());
        let (manifest_file, version_folder, store) = (None, None, Store::Disk);
        Ok(ModelFiles { name, version, onnx, folder, manifest, manifest_file, version_folder, store, home })
    }

    /// A version in a folder of its own: by its own manifest, if it has one, else by the model's.
    fn of_version(
        model: &Path,
        shared: Option<&Manifest>,
        number: &str,
        folder: &Path,
    ) -> Result<ModelFiles, RepositoryError> {
        let own = folder.join(MANIFEST);
        let has_own = has_file(&own)?;
        let named = shared.and_then(|manifest| manifest.name.clone());
        let name = named.map_or_else(|| name_of(model, model), Ok)?;
        let mut files = match shared {
            _ if has_own => ModelFiles::with_manifest(folder.into(), &own)?,
            None => ModelFiles::of_file(&folder.join(DEFAULT_FILE))?,
            Some(manifest) => {
                let file = manifest.file.as_deref().unwrap_or(DEFAULT_FILE);
                ModelFiles {
                    name: String::new(),
                    version: String::new(),
                    onnx: folder.join(file),
                    folder: model.into(),
                    manifest: manifest.clone(),
                    manifest_file: Some(model.join(MANIFEST)),
                    version_folder: None,
                    store: Store::Disk,
                    home: PathBuf::new(),
                }
            }
        };
        let said = if files.manifest.version.is_some() { Some("version") } else { None };
        if let Some(field) = said {
            return Err(RepositoryError::OfVersions { path: folder.into(), field });
        }
        (files.name, files.version, files.home) = (name, number.into(), model.into());
        files.version_folder = Some(number.into());
        Ok(files)
    }

    fn of_folder(folder: &Path) -> Result<Option<ModelFiles>, RepositoryError> {
        let manifest = folder.join(MANIFEST);
        if has_file(&manifest)? {
            return Self::with_manifest(folder.into(), &manifest).map(Some);
        }
        let onnx = folder.join(DEFAULT_FILE);
        if !has_file(&onnx)? {
            return Ok(None);
        }
        Self::of_file(&onnx).map(|files| Some(ModelFiles { home: folder.into(), ..files }))
    }

    /// Every file that serving the model reads, with its path below a folder of its own: the manifest and
    /// what it names, the ONNX file, and its `data` (paths beside that file). A file that nothing names
    /// is none of them, nor is what is fetched.
    pub fn parts(&self, data: &[String]) -> Result<Vec<(PathBuf, PathBuf)>, RepositoryError> {
        let mut parts = Vec::new();
        if self.store == Store::Program {
            return Ok(parts);
        }
        let version = self.version_folder.clone().unwrap_or_default();
        let mut onnx = version.join(DEFAULT_FILE);
        if let Some(manifest) = &self.manifest_file {
            // A version's own manifest lies in its folder, one for all versions above.
            let is_own = self.version_folder.is_some() && beside(manifest).ends_with(&version);
            let base = if is_own { version.clone() } else { PathBuf::new() };
            parts.push((base.join(MANIFEST), manifest.clone()));
            // An archive brings its labels along.
            if self.folder != beside(manifest) {
                return Ok(parts);
            }
            onnx = version.join(self.manifest.file.as_deref().unwrap_or(DEFAULT_FILE));
            for labels in self.manifest.outputs.iter().filter_map(|output| output.labels.as_deref()) {
                parts.push((base.join(labels), self.folder.join(labels)));
            }
            for text in self.manifest.inputs.iter().filter_map(|input| input.text.as_ref()) {
                parts.push(((&text.tokenizer).into(), self.folder.join(&text.tokenizer)));
            }
        }
        if self.manifest.url.is_none() {
            parts.extend(data.iter().map(|data| (beside(&onnx).join(data), beside(&self.onnx).join(data))));
            parts.push((onnx, self.onnx.clone()));
        }
        for (path, _) in &mut parts {
            let outside = || RepositoryError::Outside { model: self.folder.clone(), part: path.clone() };
            *path = below(path).ok_or_else(outside)?;
        }
        Ok(parts)
    }

    fn with_manifest(folder: PathBuf, path: &Path) -> Result<ModelFiles, RepositoryError> {
        let manifest = Manifest::read(path)?;
        let file = manifest.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let onnx = folder.join(&file);
        if manifest.url.is_none() && !has_file(&onnx)? {
            return Err(RepositoryError::NoFile {
                path: path.into(),
                file,
                instead: models_near(&folder).into(),
            });
        }
        let name = match &manifest.name {
            Some(name) => name.clone(),
            None => name_of(&folder, path)?,
        };
        let version = manifest.version.clone().unwrap_or_else(|| "1".into());
        let (manifest_file, version_folder, home) = (Some(path.into()), None, folder.clone());
        let store = Store::Disk;
        Ok(ModelFiles { name, version, onnx, folder, manifest, manifest_file, version_folder, store, home })
    }
}

fn beside(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_path_buf()
}

/// A path that stays below where it begins, without its `.`; none when it does not.
pub fn below(path: &Path) -> Option<PathBuf> {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .map(|component| matches!(component, Component::Normal(_)).then_some(component))
        .collect()
}

/// The stem of the path's last part, when it can stand in a URL's path.
fn name_of(named_by: &Path, path: &Path) -> Result<String, RepositoryError> {
    let absolute = named_by.canonicalize().unwrap_or_else(|_| named_by.into());
    let stem = if absolute.is_dir() { absolute.file_name() } else { absolute.file_stem() };
    let name = stem.unwrap_or_default().to_string_lossy().into_owned();
    check_name("the name", &name)
        .map_err(|message| RepositoryError::BadName { path: path.into(), message })?;
    Ok(name)
}
