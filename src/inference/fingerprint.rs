//! Whether a model's files are still what was loaded: by what the file system says of each, which costs a look.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::model::repository::MANIFEST;
use crate::model::{ModelFiles, Store};

/// What a model is made of. Equal when nothing has changed since.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fingerprint {
    /// What is fetched is known by its digest.
    sha256: Option<String>,
    /// The manifest, labels and tokenizers.
    files: Vec<Seen>,
    onnx: Option<Seen>,
    /// The files that the ONNX file keeps tensors in; `None` when nobody has read yet which those are.
    data: Option<Vec<Seen>>,
}

/// A file, and how it was.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    path: PathBuf,
    /// `None` when it cannot be looked at.
    state: Option<FileState>,
}

#[derive(Debug, Clone, PartialEq)]
struct FileState {
    length: u64,
    modified: SystemTime,
    /// Of the file's metadata: a copy may bring its old time of modification along.
    changed: (i64, i64),
    /// Another file under the same name has another number.
    inode: u64,
}

impl Fingerprint {
    /// Of files as they were found, before anything is fetched. Which data files belong to an ONNX file is taken from one
    /// of `known` that saw the same ONNX file.
    pub fn of<'k>(files: &ModelFiles, known: impl IntoIterator<Item = &'k Fingerprint>) -> Fingerprint {
        let manifest = &files.manifest;
        let mut paths: Vec<PathBuf> = files.manifest_file.iter().cloned().collect();
        // A fetched model is known by its digest, and the one in the program never changes.
        let is_elsewhere = manifest.url.is_some() || files.store == Store::Program;
        if !is_elsewhere {
            let labels = manifest.outputs.iter().filter_map(|output| output.labels.as_ref());
            let texts = manifest.inputs.iter().filter_map(|input| Some(&input.text.as_ref()?.tokenizer));
            paths.extend(labels.chain(texts).map(|file| files.folder.join(file)));
        }
        let onnx = (!is_elsewhere).then(|| Seen::at(files.onnx.clone()));
        let data = match &onnx {
            // It has none, or they are fetched with it.
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

    /// Of a folder, and a version's folder in it, of whose content nobody could make sense.
    pub fn of_folder(home: &Path, version: &str) -> Fingerprint {
        let paths = [home.to_path_buf(), home.join(MANIFEST), home.join(version).join(MANIFEST)];
        Fingerprint { files: paths.into_iter().map(Seen::at).collect(), ..Fingerprint::default() }
    }

    /// True when the ONNX file has not been asked yet which data files it has.
    pub fn lacks_data(&self) -> bool {
        self.data.is_none()
    }

    /// Looks at the data files that the ONNX file names: paths below its folder.
    pub fn add_data(&mut self, onnx: &Path, names: &[String]) {
        let folder = onnx.parent().unwrap_or(Path::new(""));
        self.data = Some(names.iter().map(|name| Seen::at(folder.join(name))).collect());
    }

    /// The first file that is not as it was.
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
