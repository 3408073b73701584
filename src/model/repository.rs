//! Finding models on disk. A model is an `.onnx` file, or a folder with a `model.json` or a `model.onnx`. A repository is
//! a folder of such folders.
//!
//! The versions of a model can be folders inside the model's folder, named by numbers: `<model>/<version>/model.onnx`.
//! The `model.json` of the model's folder then applies to every version that has no `model.json` of its own.
//!
//! An error in one model never hides the other models: it is an entry of the result.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::files::{ModelFiles, Store};
use super::manifest::{Manifest, ManifestError, VersionPolicy, check_name};
use super::nearby::models_near;

pub use super::files::{DEFAULT_FILE, MANIFEST};

/// A repository, a model or a version that cannot be read.
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
    #[error(
        "{model}: `{part}` is not below the model's folder; copy it there and name its new path in model.json"
    )]
    Outside { model: PathBuf, part: PathBuf },
    #[error(
        "{folder}: version_policy names version {missing}, but there is no folder of that name with a model"
    )]
    NoVersion { folder: PathBuf, missing: u64 },
    #[error(
        "{path}: `version` is in the model.json of a model whose versions are folders, and the folders name the versions: leave it out"
    )]
    OfVersions { path: PathBuf },
    #[error("two models are called `{name}`: {first} and {second}")]
    SameName { name: String, first: PathBuf, second: PathBuf },
}

/// A model that was found but cannot be read.
#[derive(Debug)]
pub struct Broken {
    /// The name of its folder, or empty if that cannot be a name.
    pub name: String,
    /// The version's folder; `"1"` when the version is not known.
    pub version: String,
    /// Where it was found, as [`ModelFiles::home`].
    pub home: PathBuf,
    /// Why it cannot be read.
    pub error: Box<RepositoryError>,
}

impl Broken {
    /// True when the file system refused to show the files, so the model may be there and correct.
    pub fn is_unreadable(&self) -> bool {
        matches!(*self.error, RepositoryError::Io { .. })
    }
}

/// A folder at the root of some file systems, which only root can read. It is never a model.
const LOST_AND_FOUND: &str = "lost+found";

/// Finds every version of every model at `path`, sorted by name. At least one entry is returned; a model that cannot be
/// read is an entry with its error.
pub fn find(path: &Path) -> Result<Vec<Result<ModelFiles, Broken>>, RepositoryError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => {
            RepositoryError::Missing { path: path.into(), instead: models_beside(path) }
        }
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
        return Err(RepositoryError::NoModel { path: path.into(), instead: models_beside(path) });
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

/// Finds every model below a folder: model folders, and `.onnx` files that belong to none. Sorted by path. Folders inside a
/// model's folder are not searched.
pub fn find_all(folder: &Path) -> Result<Vec<Result<ModelFiles, Broken>>, RepositoryError> {
    let failed = |source| RepositoryError::Io { path: folder.into(), source };
    let found = of_folder(folder);
    if !found.is_empty() {
        return Ok(found);
    }
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed)?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() && path.file_name() != Some(OsStr::new(LOST_AND_FOUND)) {
            found.extend(find_all(&path)?);
        } else if path.extension() == Some(OsStr::new("onnx")) {
            found.push(ModelFiles::of_file(&path).map_err(|error| Broken {
                name: String::new(),
                version: "1".into(),
                home: path,
                error: error.into(),
            }));
        }
    }
    Ok(found)
}

/// The models near a path that leads to none, in words.
fn models_beside(path: &Path) -> String {
    models_near(path, |folder| !of_folder(folder).is_empty())
}

/// Name and version, by which models are sorted and must differ.
fn place(found: &Result<ModelFiles, Broken>) -> (&str, &str) {
    match found {
        Ok(files) => (&files.name, &files.version),
        Err(broken) => (&broken.name, &broken.version),
    }
}

/// Every version of the model in a folder. Empty when the folder is not a model.
fn of_folder(folder: &Path) -> Vec<Result<ModelFiles, Broken>> {
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

/// The version folders in a model's folder: those that are named by a number, hold a model and are wanted by the policy.
/// The newest is first. Empty when the model's folder itself holds the ONNX file, or a manifest with a `url`.
fn version_folders(folder: &Path, shared: Option<&Manifest>) -> Result<Vec<(u64, PathBuf)>, RepositoryError> {
    let file = shared.and_then(|manifest| manifest.file.as_deref()).unwrap_or(DEFAULT_FILE);
    // A folder with an ONNX file is a model. Numbered folders beside that file are then not versions.
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
        // A folder that cannot be examined counts as a version, so that reading it reports the error.
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

/// Whether `path` is a file. A path that cannot be examined is an error: the file may be there.
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
    /// The model of an `.onnx` file, or of a `model.json` that the user named directly.
    fn of_file(path: &Path) -> Result<ModelFiles, RepositoryError> {
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        if path.file_name().is_some_and(|name| name == MANIFEST) {
            return Self::with_manifest(folder, path);
        }
        // The name `model.onnx` says nothing about the model, so the folder's name is used.
        let named_by = if path.file_name().is_some_and(|name| name == DEFAULT_FILE) { &folder } else { path };
        let name = name_of(named_by, path)?;
        let manifest = Manifest::default();
        let (version, onnx, home) = ("1".into(), path.into(), path.into());
        let (manifest_file, version_folder, store) = (None, None, Store::Disk);
        Ok(ModelFiles { name, version, onnx, folder, manifest, manifest_file, version_folder, store, home })
    }

    /// A version in a folder of its own. Its own manifest applies if it has one, else the model's (`shared`).
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
        if files.manifest.version.is_some() {
            return Err(RepositoryError::OfVersions { path: folder.into() });
        }
        (files.name, files.version, files.home) = (name, number.into(), model.into());
        files.version_folder = Some(number.into());
        Ok(files)
    }

    /// The model of a folder without version folders; `None` when the folder is not a model.
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

    /// Every local file that serving the model reads: the manifest and the files that it names, the ONNX file, and its
    /// `data` (paths relative to that file). Each is a pair: its path relative to the model's folder, and its path on
    /// disk. Files that nothing names and files that are fetched are not listed.
    pub fn parts(&self, data: &[String]) -> Result<Vec<(PathBuf, PathBuf)>, RepositoryError> {
        let mut parts = Vec::new();
        if self.store == Store::Program {
            return Ok(parts);
        }
        let version = self.version_folder.clone().unwrap_or_default();
        let mut onnx = version.join(DEFAULT_FILE);
        if let Some(manifest) = &self.manifest_file {
            // A version's own manifest is in the version's folder, a shared one in the model's folder.
            let is_own = self.version_folder.is_some() && beside(manifest).ends_with(&version);
            let base = if is_own { version.clone() } else { PathBuf::new() };
            parts.push((base.join(MANIFEST), manifest.clone()));
            // The files of an archive are in the cache: the archive contains its labels and tokenizers.
            if self.folder != beside(manifest) {
                return Ok(parts);
            }
            onnx = version.join(self.manifest.file.as_deref().unwrap_or(DEFAULT_FILE));
            for file in self.manifest.named_files() {
                parts.push((base.join(file), self.folder.join(file)));
            }
        }
        if self.manifest.url.is_none() && self.manifest.ensemble_scheduling.is_none() {
            parts.extend(data.iter().map(|data| (beside(&onnx).join(data), beside(&self.onnx).join(data))));
            parts.push((onnx, self.onnx.clone()));
        }
        for (path, _) in &mut parts {
            let outside = || RepositoryError::Outside { model: self.folder.clone(), part: path.clone() };
            *path = below(path).ok_or_else(outside)?;
        }
        Ok(parts)
    }

    /// The model that a `model.json` describes.
    fn with_manifest(folder: PathBuf, path: &Path) -> Result<ModelFiles, RepositoryError> {
        let manifest = Manifest::read(path)?;
        let file = manifest.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let onnx = folder.join(&file);
        if manifest.url.is_none() && manifest.ensemble_scheduling.is_none() && !has_file(&onnx)? {
            return Err(RepositoryError::NoFile {
                path: path.into(),
                file,
                instead: models_beside(&folder).into(),
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

/// The folder that holds `path`.
fn beside(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_path_buf()
}

/// The relative path without its `.` parts. `None` when it is absolute or has a `..`, so that it could lead outside its
/// folder.
pub fn below(path: &Path) -> Option<PathBuf> {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .map(|component| matches!(component, Component::Normal(_)).then_some(component))
        .collect()
}

/// The model's name from a path: the name of the folder, or of the file without its extension. It is an error, reported
/// for `path`, when the name cannot be a segment of a URL's path.
fn name_of(named_by: &Path, path: &Path) -> Result<String, RepositoryError> {
    let absolute = named_by.canonicalize().unwrap_or_else(|_| named_by.into());
    let stem = if absolute.is_dir() { absolute.file_name() } else { absolute.file_stem() };
    let name = stem.unwrap_or_default().to_string_lossy().into_owned();
    check_name("the name", &name)
        .map_err(|message| RepositoryError::BadName { path: path.into(), message })?;
    Ok(name)
}
