//! The folder that keeps fetched models. Each name starts with the SHA-256 of the fetched file. Downloading and
//! unpacking belong to `download` and `archive`.
//!
//! ```text
//! <sha256>/model.onnx      a single file, unchanged
//! <sha256>/files/…         the files of an unpacked archive
//! <sha256>/SHA256SUMS      the digests of these files, in the format of `sha256sum -c`
//! <sha256>.part            the received part of a download
//! <sha256>.new/            a folder that is not complete yet
//! <sha256>.lock            locked by the process that writes one of the two
//! ```
//!
//! Invariants:
//!
//! - A folder gets its final name by a rename, when it is complete.
//! - Content is checked against its digests before each use. This costs a second or two for each gigabyte, and finds
//!   content that was damaged or only half written.
//! - Only content that does not match its digest is removed.

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

/// The digests of the files of an archive, by their paths in the archive.
pub type Sums = BTreeMap<String, Digest>;

/// Checked content of the cache.
#[derive(Debug)]
pub enum Content {
    /// The path of an ONNX file.
    Model(PathBuf),
    /// The folder with the files of an unpacked archive.
    Archive(PathBuf),
}

/// The place of one fetched file or archive in the cache. It may be empty.
#[derive(Debug)]
pub struct Place {
    cache: PathBuf,
    digest: Digest,
}

impl Place {
    /// The place for content with this digest below the folder `cache`. Touches no file.
    pub fn new(cache: PathBuf, digest: Digest) -> Place {
        Place { cache, digest }
    }

    /// The file that a download is written to.
    pub fn part(&self) -> PathBuf {
        self.beside("part")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.cache.join(format!("{}.{suffix}", self.digest.hex()))
    }

    fn folder(&self) -> PathBuf {
        self.cache.join(self.digest.hex())
    }

    /// Reads and checks the content. `None` when the place is empty.
    ///
    /// Fails when the content does not match its digests, is incomplete or cannot be read. After an error,
    /// [`Place::clear`] makes room for a new download.
    pub fn content(&self) -> Result<Option<Content>, String> {
        let folder = self.folder();
        let failed = |error: io::Error| format!("{}: {error}", folder.display());
        let (model, sums) = (folder.join(DEFAULT_FILE), folder.join(SUMS));
        if model.is_file() {
            let found = File::open(&model).and_then(Digest::of_reader).map_err(failed)?;
            return match found == self.digest {
                true => Ok(Some(Content::Model(model))),
                false => Err(format!("{}: its content does not match its digest", model.display())),
            };
        }
        if sums.is_file() {
            let expected = fs::read_to_string(&sums).map_err(failed)?;
            let found = written(&sums_below(&folder.join(FILES)).map_err(failed)?);
            return match found == expected {
                true => Ok(Some(Content::Archive(folder.join(FILES)))),
                false => Err(format!("{}: its files do not match SHA256SUMS", folder.display())),
            };
        }
        if folder.exists() { Err(format!("{}: it is not complete", folder.display())) } else { Ok(None) }
    }

    /// Locks the place against other processes until the returned file is dropped. Creates the cache folder if needed.
    /// Calls `waits` first if another process holds the lock.
    ///
    /// Fails when the cache cannot be written, when its file system has no locks, or after `patience`.
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

    /// Removes the content. A download that is not complete stays.
    pub fn clear(&self) -> io::Result<()> {
        remove(&self.folder())
    }

    /// Makes an empty folder in which new content is built. The caller must hold the lock.
    pub fn begin(&self) -> io::Result<Draft<'_>> {
        let folder = self.beside("new");
        remove(&folder)?;
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Draft { place: self, folder })
    }
}

/// New content that is not complete. Dropping it removes its folder.
#[derive(Debug)]
pub struct Draft<'a> {
    place: &'a Place,
    folder: PathBuf,
}

impl Draft<'_> {
    /// Moves the downloaded file into the place, as the model.
    pub fn finish_model(self) -> io::Result<()> {
        fs::rename(self.place.part(), self.folder.join(DEFAULT_FILE))?;
        self.finish()
    }

    /// The folder to unpack an archive into. It does not exist yet.
    pub fn files(&self) -> PathBuf {
        self.folder.join(FILES)
    }

    /// Moves the unpacked files and their digests into the place, and removes the downloaded archive.
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
        // After `finish` the folder has another name, and there is nothing to remove here.
        let _ = remove(&self.folder);
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The text of SHA256SUMS, sorted by path, in the format of `sha256sum -c`.
fn written(sums: &Sums) -> String {
    sums.iter().map(|(path, digest)| format!("{}  {FILES}/{path}\n", digest.hex())).collect()
}

/// Reads all files below a folder and returns their digests.
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
