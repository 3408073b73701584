//! Reads an ONNX file, and the files that hold its large tensors (ONNX, "external data"), into memory.
//!
//! What belongs here: reading these files. What does not: parsing the graph (`graph`). Invariant: no file is mapped
//! into memory, although tract would do that. If another program overwrites or shortens a mapped file, the server is
//! ended by SIGBUS; for a file that is read, the worst result is an error.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tract_onnx::data_resolver::ModelDataResolver;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{bail, ensure};

use super::convert::chain;
use super::defaults::defaults_of;
use super::{LoadError, guarded};
use crate::model::reading;

/// The largest size of an ONNX file in bytes. It is the limit of Protocol Buffers.
const MOST_BYTES: u64 = 2 << 30;

/// An ONNX file that was read. Its external data is not read yet.
pub struct OnnxFile {
    /// The content of the ONNX file.
    pub(super) proto: pb::ModelProto,
    /// The folder of the ONNX file. Paths of external data are relative to it.
    pub(super) folder: PathBuf,
    /// For each function in the file: the default values of its attributes.
    pub(super) defaults: Vec<Vec<pb::AttributeProto>>,
}

impl OnnxFile {
    /// Reads an ONNX file.
    ///
    /// Errors: the file cannot be read, is too large, or is not an ONNX file.
    pub fn read(path: &Path) -> Result<OnnxFile, LoadError> {
        let file = reading::open(path, MOST_BYTES);
        let mut file = file.map_err(|error| LoadError::unreadable(format!("{}: {error}", path.display())))?;
        let mut read = OnnxFile::from(&mut file, path.parent().unwrap_or(Path::new("")))?;
        if !read.proto.functions.is_empty() {
            // Few files have functions. So the file is read again rather than kept in memory while it is parsed.
            let bytes = reading::read(path, MOST_BYTES)
                .map_err(|error| LoadError::unreadable(format!("{}: {error}", path.display())))?;
            read.defaults = defaults_of(&bytes)?;
        }
        Ok(read)
    }

    /// Parses an ONNX file that is in memory. Its external data, if it has any, is looked for in the working
    /// directory.
    pub fn parse(file: &[u8]) -> Result<OnnxFile, LoadError> {
        let mut content = file;
        let mut read = OnnxFile::from(&mut content, Path::new(""))?;
        if !read.proto.functions.is_empty() {
            read.defaults = defaults_of(file)?;
        }
        Ok(read)
    }

    fn from(content: &mut dyn Read, folder: &Path) -> Result<OnnxFile, LoadError> {
        guarded("reading the model", || {
            let proto = tract_onnx::Onnx::default()
                .proto_model_for_read(content)
                .map_err(|error| LoadError::unreadable(chain(&error)))?;
            Ok(OnnxFile { proto, folder: folder.into(), defaults: Vec::new() })
        })
    }

    /// Returns the files that hold the model's large tensors outside the ONNX file (ONNX, "external data"). They are
    /// paths relative to the folder of the ONNX file, and each is listed once.
    pub fn data_files(&self) -> Vec<String> {
        let mut locations = Vec::new();
        for graph in graphs(self.proto.graph.as_ref()) {
            let constants = graph.node.iter().flat_map(|node| &node.attribute);
            let constants = constants.flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
            for tensor in graph.initializer.iter().chain(constants) {
                let location = tensor.external_data.iter().find(|entry| entry.key == "location");
                locations.extend(location.map(|entry| entry.value.clone()));
            }
        }
        locations.sort();
        locations.dedup();
        locations
    }

    /// Checks that all files of external data exist, so that the error is clearer than tract's error.
    pub(super) fn check_data_files(&self) -> Result<(), LoadError> {
        for location in self.data_files() {
            let path = self.folder.join(&location);
            let missing = |cause: String| LoadError {
                what: "reading the model's external data",
                cause,
                advice: Some(format!(
                    "the ONNX file keeps tensors in `{location}`: put that file where its path says, seen from the \
                     ONNX file's folder, or export the model as one file"
                )),
            };
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {}
                Ok(_) => return Err(missing(format!("{} is not a file", path.display()))),
                Err(error) => return Err(missing(format!("{}: {error}", path.display()))),
            }
        }
        Ok(())
    }
}

/// Returns the files of external data of the ONNX file at `path`.
///
/// Errors: as in [`OnnxFile::read`].
pub fn data_files(path: &Path) -> Result<Vec<String>, LoadError> {
    OnnxFile::read(path).map(|file| file.data_files())
}

/// Returns a graph and all graphs inside its nodes.
pub(super) fn graphs(graph: Option<&pb::GraphProto>) -> Vec<&pb::GraphProto> {
    let mut all: Vec<&pb::GraphProto> = graph.into_iter().collect();
    let mut at = 0;
    while let Some(graph) = all.get(at).copied() {
        let attributes = graph.node.iter().flat_map(|node| &node.attribute);
        all.extend(attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)));
        at += 1;
    }
    all
}

/// Reads external data for tract. It reads only the requested part, and never more than the file has.
pub(super) struct DataReader;

impl ModelDataResolver for DataReader {
    fn read_bytes_from_path(
        &self,
        buffer: &mut Vec<u8>,
        path: &Path,
        offset: usize,
        length: Option<usize>,
    ) -> TractResult<()> {
        let name = path.display();
        let mut file = File::open(path).map_err(|error| TractError::msg(format!("{name}: {error}")))?;
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "{name} is not a file");
        let size = usize::try_from(metadata.len())?;
        let end = length.map_or(Some(size), |length| offset.checked_add(length));
        let Some(end) = end.filter(|end| offset <= *end && *end <= size) else {
            let wanted = length.map_or("all".into(), |length| length.to_string());
            bail!("{name} has {size} bytes, but {wanted} bytes from {offset} on are wanted: it is cut short")
        };
        buffer.try_reserve_exact(end - offset)?;
        file.seek(SeekFrom::Start(offset as u64))?;
        let read = file.take((end - offset) as u64).read_to_end(buffer)?;
        ensure!(read == end - offset, "{name} became shorter while it was read");
        Ok(())
    }
}
