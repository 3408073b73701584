//! Detects whether a model's files have changed since they were loaded. It compares what the file system reports
//! about each file and does not read the contents.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::model::repository::MANIFEST;
use crate::model::{ModelFiles, Store};

/// The state of a model's files. Two fingerprints are equal when no file has changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fingerprint {
    /// The digest of a fetched model.
    sha256: Option<String>,
    /// The manifest, labels and tokenizers.
    files: Vec<Seen>,
    onnx: Option<Seen>,
    /// The data files in which the ONNX file stores tensors; `None` while their names are not read yet.
    data: Option<Vec<Seen>>,
}

/// A file and its state when it was checked.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    path: PathBuf,
    /// `None` when the state cannot be read.
    state: Option<FileState>,
}

#[derive(Debug, Clone, PartialEq)]
struct FileState {
    length: u64,
    modified: SystemTime,
    /// The time of the last metadata change, in seconds and nanoseconds. A copy may keep an old modification time,
    /// but not this one.
    changed: (i64, i64),
    /// The inode number: another file with the same name has another number.
    inode: u64,
}

impl Fingerprint {
    /// Makes the fingerprint of a model's files before anything is fetched. The names of the data files are taken
    /// from a fingerprint in `known` that has the same ONNX file.
    pub fn of<'k>(files: &ModelFiles, known: impl IntoIterator<Item = &'k Fingerprint>) -> Fingerprint {
        let manifest = &files.manifest;
        let mut paths: Vec<PathBuf> = files.manifest_file.iter().cloned().collect();
        // A fetched model is identified by its digest, and the model inside the program never changes.
        let is_elsewhere = manifest.url.is_some() || files.store == Store::Program;
        if !is_elsewhere {
            paths.extend(manifest.named_files().into_iter().map(|file| files.folder.join(file)));
        }
        let has_onnx = !is_elsewhere && manifest.ensemble_scheduling.is_none();
        let onnx = has_onnx.then(|| Seen::at(files.onnx.clone()));
        let data = match &onnx {
            // The model has no data files, they are fetched with it, or it is a chain.
            None => Some(Vec::new()),
            Some(onnx) => {
                known.into_iter().find(|known| known.onnx.as_ref() == Some(onnx)).and_then(|known| {
                    let data = known.data.as_ref()?.iter();
                    Some(data.map(|seen| Seen::at(seen.path.clone())).collect())
                })
            }
        };
        Fingerprint {
            sha256: manifest.sha256.clone(),
            files: paths.into_iter().map(Seen::at).collect(),
            onnx,
            data,
        }
    }

    /// Makes the fingerprint of a model folder, and of a version's folder in it, when their content is not a valid
    /// model.
    pub fn of_folder(home: &Path, version: &str) -> Fingerprint {
        let paths = [home.to_path_buf(), home.join(MANIFEST), home.join(version).join(MANIFEST)];
        Fingerprint { files: paths.into_iter().map(Seen::at).collect(), ..Fingerprint::default() }
    }

    /// True while the names of the data files are not read yet.
    pub fn lacks_data(&self) -> bool {
        self.data.is_none()
    }

    /// Adds the state of the data files that the ONNX file names. `names` are paths relative to its folder.
    pub fn add_data(&mut self, onnx: &Path, names: &[String]) {
        let folder = onnx.parent().unwrap_or(Path::new(""));
        self.data = Some(names.iter().map(|name| Seen::at(folder.join(name))).collect());
    }

    /// The path of the first file that has changed since; `None` when there is none.
    pub fn changed_since(&self) -> Option<&Path> {
        let data = self.data.iter().flatten();
        let mut all = self.files.iter().chain(&self.onnx).chain(data);
        all.find(|seen| Seen::at(seen.path.clone()) != **seen).map(|seen| seen.path.as_path())
    }
}

impl Seen {
    fn at(path: PathBuf) -> Seen {
        let state = std::fs::metadata(&path).ok().and_then(|metadata| {
            Some(FileState {
                length: metadata.len(),
                modified: metadata.modified().ok()?,
                changed: (metadata.ctime(), metadata.ctime_nsec()),
                inode: metadata.ino(),
            })
        });
        Seen { path, state }
    }
}
