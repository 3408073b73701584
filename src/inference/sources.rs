//! Reads all files of a model before the model is made. Later changes to the files do not affect the load.

use std::collections::BTreeMap;

use super::{Fingerprint, LoadError, recognised};
use crate::model::ModelFiles;
use crate::onnx::Graph;
use crate::onnx::external::OnnxFile;

/// The most bytes of a tokenizer file or a labels file. The largest known tokenizers have about 30 MB.
const MOST_BYTES: u64 = 256 << 20;

/// A model's files and their contents.
#[derive(Debug)]
pub struct Sources {
    pub files: ModelFiles,
    pub graph: Graph,
    /// The contents of tokenizer and labels files, by the names in the manifest.
    named: BTreeMap<String, Vec<u8>>,
}

impl Sources {
    /// Reads the files. It adds the data files that the ONNX file names to `fingerprint`, also when reading fails,
    /// so that a reload notices when a missing file appears. A file that changes during the read is an error,
    /// because its content may be mixed.
    pub fn read(mut files: ModelFiles, fingerprint: &mut Fingerprint) -> Result<Sources, LoadError> {
        let model = files.name.clone();
        let failed = |message: String| LoadError { model: model.clone(), message };
        let onnx = match files.embedded_onnx() {
            Some(bytes) => OnnxFile::parse(bytes),
            None => OnnxFile::read(&files.onnx),
        };
        let onnx = onnx.map_err(|error| failed(error.to_string()))?;
        if fingerprint.lacks_data() {
            fingerprint.add_data(&files.onnx, &onnx.data_files());
        }
        let graph = Graph::of(onnx).map_err(|error| failed(error.to_string()))?;
        recognised::declare_image(&mut files, &graph);
        let mut named = BTreeMap::new();
        for name in files.manifest.named_files() {
            let content = files.read(name, MOST_BYTES).map_err(&failed)?;
            named.insert(name.to_owned(), content);
        }
        if let Some(path) = fingerprint.changed_since() {
            return Err(failed(format!(
                "{} changed while the model was read: put files in place by renaming, and load again",
                path.display()
            )));
        }
        Ok(Sources { files, graph, named })
    }

    /// The content of a file that the manifest names; empty when the manifest does not name it.
    pub fn named(&self, name: &str) -> &[u8] {
        self.named.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}
