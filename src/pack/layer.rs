//! One layer: a tar archive of files, the same bytes whenever it is made from the same files.
//!
//! A layer may be larger than memory. It is never held: its archive is made anew from the files each
//! time it is wanted, and each time held against the digest of the first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::PackError;
use crate::transfer::digest::{Digest, Hashing};

/// Files in an image, by their paths in it (relative to the root).
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
    /// A file that everyone may read.
    pub fn add(&mut self, path: impl Into<PathBuf>, source: impl Into<PathBuf>) {
        self.files.insert(path.into(), Source { path: source.into(), mode: 0o644 });
    }

    /// A file that everyone may run.
    pub fn add_program(&mut self, path: impl Into<PathBuf>, source: impl Into<PathBuf>) {
        self.files.insert(path.into(), Source { path: source.into(), mode: 0o755 });
    }
}

/// A layer, its archive measured.
#[derive(Debug)]
pub struct Layer {
    files: Files,
    /// Seconds since 1970 that each of its files says it was changed.
    time: u64,
    /// The archive's digest.
    pub diff_id: Digest,
    /// The archive's bytes.
    pub size: u64,
    compressed: OnceLock<Compressed>,
}

/// A layer's archive, gzipped, in a file without a name.
#[derive(Debug)]
pub struct Compressed {
    file: File,
    pub digest: Digest,
    pub size: u64,
}

impl Layer {
    pub fn new(files: Files, time: u64) -> Result<Layer, PackError> {
        let mut hashing = Hashing::new(io::sink());
        archive(&files, time, &mut hashing, Path::new("the layer"))?;
        let (_, diff_id, size) = hashing.finish();
        Ok(Layer { files, time, diff_id, size, compressed: OnceLock::new() })
    }

    /// Writes the archive, [`Layer::size`] bytes, to what is called `name` in errors.
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

    /// The archive, gzipped; made when it is first asked for.
    pub fn compressed(&self) -> Result<&Compressed, PackError> {
        if let Some(compressed) = self.compressed.get() {
            return Ok(compressed);
        }
        let failed = || PackError::io(std::env::temp_dir());
        let file = tempfile::tempfile().map_err(failed())?;
        // The header's time is nought.
        let mut gzip = GzBuilder::new().write(Hashing::new(file), Compression::default());
        self.write(&mut gzip, &std::env::temp_dir())?;
        let (file, digest, size) = gzip.finish().map_err(failed())?.finish();
        Ok(self.compressed.get_or_init(|| Compressed { file, digest, size }))
    }
}

impl Compressed {
    /// Its bytes from `offset` on.
    pub fn from(&self, offset: u64) -> io::Result<impl Read> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(file)
    }
}

/// Writes `files` as a tar archive, the folders they lie in before them.
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

/// A file whose errors are told from those of where it is copied to.
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

/// Of a file of root's.
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
