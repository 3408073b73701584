//! Finding models on disk. A model is an `.onnx` file, or a folder with a `model.json` or a
//! `model.onnx`; a repository is a folder of such folders.

use std::path::{Component, Path, PathBuf};

use super::manifest::{Manifest, ManifestError, check_name};

const MANIFEST: &str = "model.json";
const DEFAULT_FILE: &str = "model.onnx";

/// A model as found on disk: nothing is loaded yet.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    pub name: String,
    pub version: String,
    /// The ONNX file.
    pub onnx: PathBuf,
    /// Where the manifest's relative paths (labels, tokenizers) begin.
    pub folder: PathBuf,
    pub manifest: Manifest,
    /// Where the manifest was read; a bare ONNX file has none.
    pub manifest_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "{0} holds no model: expected an .onnx file, a folder with `model.onnx` or `model.json`, or a folder of such folders"
    )]
    NoModel(PathBuf),
    #[error("{path}: the manifest's file `{file}` is not there")]
    NoFile { path: PathBuf, file: String },
    #[error("{path}: {message}; set `name` in model.json")]
    BadName { path: PathBuf, message: String },
    #[error("{model}: `{part}` is not below the model's folder; copy it there and name it so")]
    Outside { model: PathBuf, part: PathBuf },
    #[error("two models are called `{name}`: {first} and {second}")]
    SameName { name: String, first: PathBuf, second: PathBuf },
}

/// Every model at `path`, sorted by name; at least one.
pub fn find(path: &Path) -> Result<Vec<ModelFiles>, RepositoryError> {
    let metadata =
        std::fs::metadata(path).map_err(|source| RepositoryError::Io { path: path.into(), source })?;
    if metadata.is_file() {
        return Ok(vec![ModelFiles::of_file(path)?]);
    }
    if let Some(model) = ModelFiles::of_folder(path)? {
        return Ok(vec![model]);
    }
    let mut models: Vec<ModelFiles> = Vec::new();
    let entries =
        std::fs::read_dir(path).map_err(|source| RepositoryError::Io { path: path.into(), source })?;
    for entry in entries {
        let folder = entry.map_err(|source| RepositoryError::Io { path: path.into(), source })?.path();
        if folder.is_dir()
            && let Some(model) = ModelFiles::of_folder(&folder)?
        {
            if let Some(same) = models.iter().find(|other| other.name == model.name) {
                return Err(RepositoryError::SameName {
                    name: model.name,
                    first: same.folder.clone(),
                    second: model.folder,
                });
            }
            models.push(model);
        }
    }
    if models.is_empty() {
        return Err(RepositoryError::NoModel(path.into()));
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(models)
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
        Ok(ModelFiles { name, version: "1".into(), onnx: path.into(), folder, manifest, manifest_file: None })
    }

    fn of_folder(folder: &Path) -> Result<Option<ModelFiles>, RepositoryError> {
        let manifest = folder.join(MANIFEST);
        if manifest.is_file() {
            return Self::with_manifest(folder.into(), &manifest).map(Some);
        }
        let onnx = folder.join(DEFAULT_FILE);
        if onnx.is_file() { Self::of_file(&onnx).map(Some) } else { Ok(None) }
    }

    /// Every file that serving the model reads, with its path below a folder of its own: the manifest and
    /// what it names, the ONNX file, and its `data` (paths beside that file). A file that nothing names
    /// is none of them.
    pub fn parts(&self, data: &[String]) -> Result<Vec<(PathBuf, PathBuf)>, RepositoryError> {
        let mut parts = Vec::new();
        let mut onnx = PathBuf::from(DEFAULT_FILE);
        if let Some(manifest) = &self.manifest_file {
            parts.push((PathBuf::from(MANIFEST), manifest.clone()));
            onnx = PathBuf::from(self.manifest.file.as_deref().unwrap_or(DEFAULT_FILE));
            for labels in self.manifest.outputs.iter().filter_map(|output| output.labels.as_deref()) {
                parts.push((labels.into(), self.folder.join(labels)));
            }
            for text in self.manifest.inputs.iter().filter_map(|input| input.text.as_ref()) {
                parts.push(((&text.tokenizer).into(), self.folder.join(&text.tokenizer)));
            }
        }
        let beside = |path: &Path| path.parent().unwrap_or(Path::new("")).to_path_buf();
        parts.extend(data.iter().map(|data| (beside(&onnx).join(data), beside(&self.onnx).join(data))));
        parts.push((onnx, self.onnx.clone()));
        for (path, _) in &mut parts {
            let below: Option<PathBuf> = path
                .components()
                .filter(|component| *component != Component::CurDir)
                .map(|component| matches!(component, Component::Normal(_)).then_some(component))
                .collect();
            let outside = || RepositoryError::Outside { model: self.folder.clone(), part: path.clone() };
            *path = below.ok_or_else(outside)?;
        }
        Ok(parts)
    }

    fn with_manifest(folder: PathBuf, path: &Path) -> Result<ModelFiles, RepositoryError> {
        let manifest = Manifest::read(path)?;
        let file = manifest.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let onnx = folder.join(&file);
        if !onnx.is_file() {
            return Err(RepositoryError::NoFile { path: path.into(), file });
        }
        let name = match &manifest.name {
            Some(name) => name.clone(),
            None => name_of(&folder, path)?,
        };
        let version = manifest.version.clone().unwrap_or_else(|| "1".into());
        Ok(ModelFiles { name, version, onnx, folder, manifest, manifest_file: Some(path.into()) })
    }
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
