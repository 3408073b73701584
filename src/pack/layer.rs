//! One image layer: a tar archive of files. The other parts of an image are in `image`.
//!
//! Invariants: the same files and the same time give the same bytes. A layer is never held in memory, because it may be
//! larger than memory: each use reads the files again and compares the digest with the first one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::PackError;
use crate::transfer::digest::{Digest, Hashing};

/// The files of a layer, by their paths in the image (relative to `/`).
#[derive(Debug, Default)]
pub struct Files {
    files: BTreeMap<PathBuf, Source>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    mode: u32,
}

impl Files {
    /// Adds the file `source` as `path`, with mode 0644.
    pub fn add(&mut self, path: impl Into<PathBuf>, source: impl Into<PathBuf>) {
        self.files.insert(path.into(), Source { path: source.into(), mode: 0o644 });
    }

    /// Adds the file `source` as `path`, with mode 0755.
    pub fn add_program(&mut self, path: impl Into<PathBuf>, source: impl Into<PathBuf>) {
        self.files.insert(path.into(), Source { path: source.into(), mode: 0o755 });
    }
}

/// A layer. The size and the digest of its archive are known.
#[derive(Debug)]
pub struct Layer {
    files: Files,
    /// The modification time of each entry, in seconds since 1970.
    time: u64,
    /// SHA-256 of the uncompressed archive (`diff_ids` in the image configuration).
    pub diff_id: Digest,
    /// Size of the uncompressed archive in bytes.
    pub size: u64,
    compressed: OnceLock<Compressed>,
}

/// The gzip form of a layer, in a temporary file without a name. `size` is in bytes; `digest` is of the gzip form.
#[derive(Debug)]
pub struct Compressed {
    file: File,
    pub digest: Digest,
    pub size: u64,
}

impl Layer {
    /// Reads all files once, to find the size and the digest. `time` is in seconds since 1970. Stores no content.
    ///
    /// Fails when a file cannot be read.
    pub fn new(files: Files, time: u64) -> Result<Layer, PackError> {
        let mut hashing = Hashing::new(io::sink());
        archive(&files, time, &mut hashing, Path::new("the layer"))?;
        let (_, diff_id, size) = hashing.finish();
        Ok(Layer { files, time, diff_id, size, compressed: OnceLock::new() })
    }

    /// Writes the uncompressed archive, [`Layer::size`] bytes. Errors of writing name the path `name`.
    ///
    /// Fails when a file cannot be read, or when it changed since [`Layer::new`].
    pub fn write(&self, to: impl Write, name: &Path) -> Result<(), PackError> {
        let mut hashing = Hashing::new(to);
        archive(&self.files, self.time, &mut hashing, name)?;
        let (_, diff_id, _) = hashing.finish();
        if diff_id == self.diff_id {
            Ok(())
        } else {
            let names: Vec<String> =
                self.files.files.values().map(|file| file.path.display().to_string()).collect();
            Err(PackError::Input(format!("a file was changed while it was packed: {}", names.join(", "))))
        }
    }

    /// The gzip form. The first call compresses the layer; later calls return the same result.
    ///
    /// Fails when a file cannot be read or has changed, or when the temporary folder cannot be written.
    pub fn compressed(&self) -> Result<&Compressed, PackError> {
        if let Some(compressed) = self.compressed.get() {
            return Ok(compressed);
        }
        let failed = || PackError::io(std::env::temp_dir());
        let file = tempfile::tempfile().map_err(failed())?;
        // GzBuilder writes time 0 into the gzip header, so the bytes do not depend on the clock.
        let mut gzip = GzBuilder::new().write(Hashing::new(file), Compression::default());
        self.write(&mut gzip, &std::env::temp_dir())?;
        let (file, digest, size) = gzip.finish().map_err(failed())?.finish();
        Ok(self.compressed.get_or_init(|| Compressed { file, digest, size }))
    }
}

impl Compressed {
    /// A reader that starts at byte `offset` of the gzip form.
    pub fn from(&self, offset: u64) -> io::Result<impl Read> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(file)
    }
}

/// Writes `files` as a tar archive. Each folder has an entry before its first file.
fn archive(files: &Files, time: u64, to: &mut impl Write, name: &Path) -> Result<(), PackError> {
    let failed = || PackError::io(name);
    let mut builder = Builder::new(to);
    let mut folders: Vec<&Path> = Vec::new();
    for (path, file) in &files.files {
        let above: Vec<&Path> =
            path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
        for folder in above.into_iter().rev() {
            if !folders.contains(&folder) {
                folders.push(folder);
                let mut header = header(EntryType::Directory, 0o755, 0, time);
                builder.append_data(&mut header, folder, io::empty()).map_err(failed())?;
            }
        }
        let mut source =
            Reading { file: File::open(&file.path).map_err(PackError::io(&file.path))?, error: None };
        let length = source.file.metadata().map_err(PackError::io(&file.path))?.len();
        let mut header = header(EntryType::Regular, file.mode, length, time);
        let appended = builder.append_data(&mut header, path, (&mut source).take(length));
        if let Some(error) = source.error {
            return Err(PackError::io(&file.path)(error));
        }
        appended.map_err(failed())?;
    }
    builder.finish().map_err(failed())
}

/// Keeps a read error of the source file, so that it is not reported as a write error of the archive.
struct Reading {
    file: File,
    error: Option<io::Error>,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }
}

/// A tar header for an entry that belongs to root. `size` is in bytes, `time` in seconds since 1970.
fn header(kind: EntryType, mode: u32, size: u64, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header
}
