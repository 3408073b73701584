//! Whether a model's files are still what was loaded: by their lengths and times, which costs a look at each.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::model::ModelFiles;

/// What a model was loaded from. Equal when nothing has changed since.
#[derive(Debug, Clone, PartialEq)]
pub struct Fingerprint {
    /// What is fetched is known by its digest.
    sha256: Option<String>,
    files: Vec<(PathBuf, Option<(u64, SystemTime)>)>,
}

impl Fingerprint {
    /// Of files as they were found, before anything is fetched.
    pub fn of(files: &ModelFiles) -> Fingerprint {
        let named = files.parts(&[]).unwrap_or_default();
        let mut paths: Vec<PathBuf> = named.into_iter().map(|(_, source)| source).collect();
        // Large tensors may lie in files beside the model, under any name.
        if files.manifest_file.is_some() && files.manifest.url.is_none() {
            let beside = files.onnx.parent().and_then(|folder| std::fs::read_dir(folder).ok());
            let entries = beside.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
            paths.extend(entries.filter(|path| path.is_file()));
        }
        paths.sort();
        paths.dedup();
        let files_seen = paths.into_iter().map(|path| {
            let state = state(&path);
            (path, state)
        });
        Fingerprint { sha256: files.manifest.sha256.clone(), files: files_seen.collect() }
    }
}

fn state(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
