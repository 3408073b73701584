//! The default model, `digits`. It is part of the program, so `onnxd` without arguments serves a model in any folder and
//! without any file on disk.

use std::io;
use std::path::{Path, PathBuf};

use super::files::{DEFAULT_FILE, ModelFiles, Store};
use super::manifest::Manifest;
use super::reading;

const ONNX: &[u8] = include_bytes!("../../model/digits/model.onnx");
const MANIFEST: &str = include_str!("../../model/digits/model.json");
const LABELS: &str = include_str!("../../model/digits/labels.txt");

/// Where the served models come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// What the user named: a model, a folder of models, or the URL of a model.
    Named(PathBuf),
    /// The default model, which is part of the program.
    Program,
}

impl ModelSource {
    /// The model that the user named; else the folder `model` in the working directory; else the default model.
    pub fn chosen(named: Option<&Path>) -> ModelSource {
        let usual = Path::new("model");
        // A folder that exists but cannot be read is an error later. The default model must not replace it silently.
        let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        match named {
            Some(path) => ModelSource::Named(path.into()),
            None if usual.symlink_metadata().is_err_and(is_missing) => ModelSource::Program,
            None => ModelSource::Named(usual.into()),
        }
    }
}

impl From<PathBuf> for ModelSource {
    fn from(path: PathBuf) -> ModelSource {
        ModelSource::Named(path)
    }
}

impl ModelFiles {
    /// The files of the default model.
    pub fn embedded() -> ModelFiles {
        let manifest = Manifest::parse(MANIFEST).expect("a test parses it");
        ModelFiles {
            name: manifest.name.clone().expect("a test reads it"),
            version: manifest.version.clone().expect("a test reads it"),
            onnx: DEFAULT_FILE.into(),
            folder: PathBuf::new(),
            manifest,
            manifest_file: None,
            version_folder: None,
            store: Store::Program,
            home: PathBuf::new(),
        }
    }

    /// The bytes of the ONNX file, if the model is part of the program.
    pub fn embedded_onnx(&self) -> Option<&'static [u8]> {
        (self.store == Store::Program).then_some(ONNX)
    }

    /// Reads a file that the manifest names, of at most `most` bytes. The error names the file.
    pub fn read(&self, file: &str, most: u64) -> Result<Vec<u8>, String> {
        if self.store == Store::Disk {
            let path = self.folder.join(file);
            return reading::read(&path, most).map_err(|error| format!("{}: {error}", path.display()));
        }
        match file {
            "labels.txt" => Ok(LABELS.into()),
            _ => Err(format!("`{file}` is not part of the program: the default model has `labels.txt` only")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn the_default_model_loads_with_its_labels() {
        let files = ModelFiles::embedded();
        assert_eq!((files.name.as_str(), files.version.as_str()), ("digits", "1"));
        let loaded = crate::inference::load(files, &Limits::default()).unwrap();
        assert!(loaded.warm_up.notes.is_empty(), "{:?}", loaded.warm_up.notes);
    }
}
