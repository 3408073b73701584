//! A look at the repository: which models are there, and in which state their files are.

use std::path::PathBuf;

use super::Fingerprint;
use crate::fetch::{FetchError, Fetcher};
use crate::model::repository::Broken;
use crate::model::{ModelFiles, ModelSource};
use crate::onnx::external::data_files;

/// What was found at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    pub found: Vec<Found>,
}

/// A version of a model as it was found.
#[derive(Debug, Clone)]
pub struct Found {
    pub name: String,
    pub version: String,
    /// As [`ModelFiles::home`].
    pub home: PathBuf,
    pub fingerprint: Fingerprint,
    pub files: Result<ModelFiles, Unusable>,
}

/// Why nothing can be loaded from where a model was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Unusable {
    Broken(String),
    /// Nobody can tell whether there is a model at all.
    Unreadable(String),
}

impl PartialEq for Found {
    fn eq(&self, other: &Found) -> bool {
        (&self.name, &self.version, &self.home, &self.fingerprint, self.files.as_ref().err())
            == (&other.name, &other.version, &other.home, &other.fingerprint, other.files.as_ref().err())
    }
}

impl Scan {
    /// Looks what is there. Of ONNX files that `before` saw as they are now, the data files are known from there.
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

    /// Reads of new ONNX files which data files they have.
    pub fn complete(&mut self) {
        for found in &mut self.found {
            let Ok(files) = &found.files else { continue };
            if found.fingerprint.lacks_data() {
                // Whoever loads it says what is wrong with it.
                let names = data_files(&files.onnx).unwrap_or_default();
                found.fingerprint.add_data(&files.onnx, &names);
            }
        }
    }

    /// True when this version of this model is there.
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
