//! The folder in which fetched models are kept, each by the SHA-256 of what was fetched:
//!
//! ```text
//! <sha256>/model.onnx      a file, as it came
//! <sha256>/files/…         an archive, unpacked
//! <sha256>/SHA256SUMS      its files' digests, as `sha256sum -c` reads them
//! <sha256>.part            what has come of a download
//! <sha256>.new/            what is being put together
//! <sha256>.lock            held by the process that does either
//! ```
//!
//! A folder appears whole, by a rename, and is checked at every start: reading a model twice costs a second or
//! two for each gigabyte, and what rots or is half written is found. Nothing is ever removed but what does
//! not fit its digest.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::model::repository::DEFAULT_FILE;
use crate::transfer::Digest;

const FILES: &str = "files";
const SUMS: &str = "SHA256SUMS";

/// The digests of an archive's files, by their paths.
pub type Sums = BTreeMap<String, Digest>;

/// What a place in the cache holds.
#[derive(Debug)]
pub enum Content {
    /// An ONNX file.
    Model(PathBuf),
    /// The folder that an archive was unpacked to.
    Archive(PathBuf),
}

/// Where one content is, or will be.
#[derive(Debug)]
pub struct Place {
    cache: PathBuf,
    digest: Digest,
}

impl Place {
    pub fn new(cache: PathBuf, digest: Digest) -> Place {
        Place { cache, digest }
    }

    /// Where a download is written.
    pub fn part(&self) -> PathBuf {
        self.beside("part")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.cache.join(format!("{}.{suffix}", self.digest.hex()))
    }

    fn folder(&self) -> PathBuf {
        self.cache.join(self.digest.hex())
    }

    /// What is there, checked; an error says what is wrong with it.
    pub fn content(&self) -> Result<Option<Content>, String> {
        let folder = self.folder();
        let failed = |error: io::Error| format!("{}: {error}", folder.display());
        let (model, sums) = (folder.join(DEFAULT_FILE), folder.join(SUMS));
        if model.is_file() {
            let found = File::open(&model).and_then(Digest::of_reader).map_err(failed)?;
            return match found == self.digest {
                true => Ok(Some(Content::Model(model))),
                false => Err(format!("{}: its content is not what it was", model.display())),
            };
        }
        if sums.is_file() {
            let expected = fs::read_to_string(&sums).map_err(failed)?;
            let found = written(&sums_below(&folder.join(FILES)).map_err(failed)?);
            return match found == expected {
                true => Ok(Some(Content::Archive(folder.join(FILES)))),
                false => Err(format!("{}: its files are not what they were", folder.display())),
            };
        }
        if folder.exists() { Err(format!("{}: it is not whole", folder.display())) } else { Ok(None) }
    }

    /// Waits until no other process works at this place.
    pub fn lock(&self, patience: Duration, mut waits: impl FnMut()) -> Result<File, String> {
        const LOOK: Duration = Duration::from_millis(100);
        let path = self.beside("lock");
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.cache)
            .map_err(|error| self.unusable(&error))?;
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| self.unusable(&error))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => {
                    return Err(format!("{}: name a folder on a local disk by --cache", failed(error)));
                }
                Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => {
                    return Err(format!("{}: another process has held it for {patience:?}", path.display()));
                }
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOOK => waits(),
                Err(TryLockError::WouldBlock) => {}
            }
            std::thread::sleep(LOOK);
        }
    }

    fn unusable(&self, error: &io::Error) -> String {
        format!(
            "what is fetched cannot be kept in {}: {error}; name a folder that may be written by --cache (ONNXD_CACHE)",
            self.cache.display()
        )
    }

    /// Forgets what is there.
    pub fn clear(&self) -> io::Result<()> {
        remove(&self.folder())
    }

    /// An empty folder to put a content together in, and where an archive is unpacked to.
    pub fn begin(&self) -> io::Result<Draft<'_>> {
        let folder = self.beside("new");
        remove(&folder)?;
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Draft { place: self, folder })
    }
}

/// A content that is put together; gone when it is not finished.
#[derive(Debug)]
pub struct Draft<'a> {
    place: &'a Place,
    folder: PathBuf,
}

impl Draft<'_> {
    /// The download is the model.
    pub fn finish_model(self) -> io::Result<()> {
        fs::rename(self.place.part(), self.folder.join(DEFAULT_FILE))?;
        self.finish()
    }

    /// Where the archive is to be unpacked.
    pub fn files(&self) -> PathBuf {
        self.folder.join(FILES)
    }

    /// The archive is unpacked; it is not needed any more.
    pub fn finish_archive(self, sums: &Sums) -> io::Result<()> {
        fs::write(self.folder.join(SUMS), written(sums))?;
        let part = self.place.part();
        self.finish()?;
        fs::remove_file(part)
    }

    fn finish(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()?;
        fs::rename(&self.folder, self.place.folder())?;
        File::open(&self.place.cache)?.sync_all()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // It has its name by now, or is of no use.
        let _ = remove(&self.folder);
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The form of `sha256sum`.
fn written(sums: &Sums) -> String {
    sums.iter().map(|(path, digest)| format!("{}  {FILES}/{path}\n", digest.hex())).collect()
}

/// The digests of all files below a folder.
fn sums_below(folder: &Path) -> io::Result<Sums> {
    let mut sums = Sums::new();
    let mut folders = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), format!("{path}/")));
            } else {
                sums.insert(path, Digest::of_reader(File::open(entry.path())?)?);
            }
        }
    }
    Ok(sums)
}
