//! The default model, digits, which is part of the program: `onnxd` alone serves something wherever it is started, and
//! needs no disk for it.

use std::io;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::reading;
use super::repository::{DEFAULT_FILE, ModelFiles};

const ONNX: &[u8] = include_bytes!("../../model/digits/model.onnx");
const MANIFEST: &str = include_str!("../../model/digits/model.json");
const LABELS: &str = include_str!("../../model/digits/labels.txt");

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A model, a folder of models, or a model's URL.
    Named(PathBuf),
    /// The default model in the program.
    Program,
}

/// Where a model's files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Disk,
    Program,
}

impl ModelSource {
    /// What is named, or the folder `model` where the program is started, or the default model.
    pub fn chosen(named: Option<&Path>) -> ModelSource {
        let usual = Path::new("model");
        // A folder that is there and cannot be read is an error later, and no reason to serve something else.
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
    /// The default model.
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

    /// The ONNX file of a model that is part of the program.
    pub fn embedded_onnx(&self) -> Option<&'static [u8]> {
        (self.store == Store::Program).then_some(ONNX)
    }

    /// Reads a file that the manifest names, of at most so many bytes.
    pub fn read(&self, file: &str, most: u64) -> Result<Vec<u8>, String> {
        if self.store == Store::Disk {
            let path = self.folder.join(file);
            return reading::read(&path, most).map_err(|error| format!("{}: {error}", path.display()));
        }
        match file {
            "labels.txt" => Ok(LABELS.into()),
            _ => Err(format!("`{file}` is no part of the program")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn the_model_in_the_program_loads_with_all_that_it_names() {
        let files = ModelFiles::embedded();
        assert_eq!((files.name.as_str(), files.version.as_str()), ("digits", "1"));
        let loaded = crate::inference::load(files, &Limits::default()).unwrap();
        assert_eq!(loaded.warmup_error, None);
    }
}
