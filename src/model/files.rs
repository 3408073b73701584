//! The files of one model: which they are and where they are read. Nothing is loaded here, and nothing is searched:
//! `repository` finds models on disk, `embedded` has the one in the program.

use std::path::PathBuf;

use super::manifest::Manifest;

/// The name of a manifest's file.
pub const MANIFEST: &str = "model.json";
/// The name of the ONNX file, when the manifest gives no other.
pub const DEFAULT_FILE: &str = "model.onnx";

/// Where the files of a model are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// From disk.
    Disk,
    /// From the program, which contains the default model.
    Program,
}

/// One version of a model as it was found. Nothing is loaded yet.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// The name in paths and responses.
    pub name: String,
    /// The version in paths and responses.
    pub version: String,
    /// The path of the ONNX file. With a `url` in the manifest, the file is there only after it was fetched.
    pub onnx: PathBuf,
    /// The folder for the manifest's relative paths (labels, tokenizers). For an archive it is in the cache.
    pub folder: PathBuf,
    /// The content of `model.json`, or the defaults for an ONNX file without one.
    pub manifest: Manifest,
    /// The path of `model.json`; `None` for an ONNX file without one.
    pub manifest_file: Option<PathBuf>,
    /// The version's folder, relative to the model's folder, when versions are folders.
    pub version_folder: Option<PathBuf>,
    /// Where the files are read.
    pub store: Store,
    /// Where the model was found: the folder of all its versions, or the ONNX file itself. It does not depend on the
    /// name in the manifest.
    pub home: PathBuf,
}
