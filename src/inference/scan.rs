//! A scan of the repository: the models that it holds, and the state of their files. It loads nothing.

use std::path::PathBuf;

use super::Fingerprint;
use crate::fetch::{FetchError, Fetcher};
use crate::model::repository::Broken;
use crate::model::{ModelFiles, ModelSource};
use crate::onnx::external::data_files;

/// The versions that one scan found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    pub found: Vec<Found>,
}

/// One version of a model in a scan.
#[derive(Debug, Clone)]
pub struct Found {
    pub name: String,
    pub version: String,
    /// The folder of the model; see [`ModelFiles::home`].
    pub home: PathBuf,
    pub fingerprint: Fingerprint,
    pub files: Result<ModelFiles, Unusable>,
}

/// The reason why a found model cannot be loaded.
#[derive(Debug, Clone, PartialEq)]
pub enum Unusable {
    Broken(String),
    /// The folder cannot be read, so it is unknown whether it holds a model.
    Unreadable(String),
}

impl PartialEq for Found {
    fn eq(&self, other: &Found) -> bool {
        (&self.name, &self.version, &self.home, &self.fingerprint, self.files.as_ref().err())
            == (&other.name, &other.version, &other.home, &other.fingerprint, other.files.as_ref().err())
    }
}

impl Scan {
    /// Scans the repository. For an ONNX file that has not changed since `before`, the names of its data files are
    /// taken from there.
    pub fn of(source: &ModelSource, fetcher: &Fetcher, before: &Scan) -> Result<Scan, FetchError> {
        let known = || before.found.iter().map(|found| &found.fingerprint);
        let found = fetcher.find(source)?.into_iter().map(|found| match found {
            Ok(files) => Found {
                name: files.name.clone(),
                version: files.version.clone(),
                home: files.home.clone(),
                fingerprint: Fingerprint::of(&files, known()),
                files: Ok(files),
            },
            Err(broken) => Found::of_broken(broken),
        });
        Ok(Scan { found: found.collect() })
    }

    /// Reads the names of the data files from new ONNX files.
    pub fn complete(&mut self) {
        for found in &mut self.found {
            let Ok(files) = &found.files else { continue };
            if found.fingerprint.lacks_data() {
                // An error is ignored here: the load of the file reports it.
                let names = data_files(&files.onnx).unwrap_or_default();
                found.fingerprint.add_data(&files.onnx, &names);
            }
        }
    }

    /// True when the scan found this version of this model.
    pub fn has(&self, name: &str, version: &str) -> bool {
        self.found.iter().any(|found| found.name == name && found.version == version)
    }
}

impl Found {
    fn of_broken(broken: Broken) -> Found {
        let is_unreadable = broken.is_unreadable();
        let Broken { name, version, home, error } = broken;
        let why = if is_unreadable { Unusable::Unreadable } else { Unusable::Broken };
        let fingerprint = Fingerprint::of_folder(&home, &version);
        Found { name, version, home, fingerprint, files: Err(why(error.to_string())) }
    }
}
