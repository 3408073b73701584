//! Unpacks a .tar.gz archive that may be malicious. Finding the model in the unpacked folder belongs to `fetch`.
//!
//! Invariants: only files and folders are made, and only below the target folder. Their number, their total size and
//! the size of each header are limited. Owners, modes and times of the archive are ignored.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::Failure;
use super::cache::Sums;
use super::download::stored;
use crate::config::Fetching;
use crate::model::repository::below;
use crate::transfer::digest::Hashing;

/// Limit in bytes for what precedes the content of one entry: its header, a long name, extended attributes. The tar
/// crate reads them into memory.
const LONGEST_HEAD: u64 = 1 << 20;

/// Whether a file begins with the two magic bytes of gzip. An ONNX file never does: read as protobuf, 0x1f would be a
/// field with a wire type that does not exist.
pub fn is_gzip(file: &mut File) -> io::Result<bool> {
    let mut magic = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(2).read_to_end(&mut magic)?;
    Ok(magic == [0x1f, 0x8b])
}

/// Unpacks an archive into `folder`, which must not exist yet. Returns the digests of the files by their paths in the
/// archive.
///
/// The error is [`Failure::Final`] when the archive is broken, exceeds a limit of `fetching`, or holds a link, a
/// device, a path outside the folder or no file. It is an error of [`stored`] when the disk fails.
pub fn unpack(mut archive: File, folder: &Path, fetching: &Fetching) -> Result<Sums, Failure> {
    archive.seek(SeekFrom::Start(0)).map_err(stored)?;
    fs::create_dir(folder).map_err(stored)?;
    let next = Rc::new(Cell::new(0));
    let content = MultiGzDecoder::new(BufReader::new(archive));
    let metered = Metered {
        content,
        most: fetching.max_unpacked_bytes,
        left: fetching.max_unpacked_bytes,
        next: next.clone(),
    };
    let mut archive = Archive::new(metered);
    let mut sums = Sums::new();
    let mut entries = archive.entries().map_err(broken)?;
    for count in 0.. {
        next.set(LONGEST_HEAD);
        let Some(entry) = entries.next() else { break };
        if count == fetching.max_entries {
            return Err(Failure::Final(format!("the archive holds more than {count} files and folders")));
        }
        next.set(u64::MAX);
        unpack_entry(entry.map_err(broken)?, folder, &mut sums)?;
    }
    if sums.is_empty() {
        return Err(Failure::Final("the archive holds no file".into()));
    }
    Ok(sums)
}

fn unpack_entry(mut entry: Entry<'_, impl Read>, folder: &Path, sums: &mut Sums) -> Result<(), Failure> {
    let kind = entry.header().entry_type();
    // `git archive` writes a comment about the whole archive as such an entry.
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let path = path(&entry).map_err(Failure::Final)?;
    let place = folder.join(&path);
    // In the oldest tar format, a folder is a file entry whose name ends in a slash.
    let is_folder = kind.is_dir() || (kind.is_file() && entry.path_bytes().ends_with(b"/"));
    if is_folder {
        return fs::create_dir_all(place).map_err(stored);
    }
    if !kind.is_file() {
        return Err(Failure::Final(format!(
            "the archive's `{}` is neither a file nor a folder: links and devices are not unpacked; pack what they \
             point at (`tar --dereference`)",
            path.display()
        )));
    }
    fs::create_dir_all(place.parent().unwrap_or(folder)).map_err(stored)?;
    let file = File::create_new(&place).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::Final(format!("the archive holds `{}` twice", path.display()))
        }
        _ => stored(error),
    })?;
    let mut hashing = Hashing::new(file);
    copy(&mut entry, &mut hashing)?;
    let (file, digest, _) = hashing.finish();
    file.sync_all().map_err(stored)?;
    sums.insert(path.to_string_lossy().into_owned(), digest);
    Ok(())
}

/// Copies one file. `io::copy` would not do: its error does not say whether the archive or the disk failed.
fn copy(content: &mut impl Read, file: &mut impl io::Write) -> Result<(), Failure> {
    let mut piece = vec![0; 64 << 10];
    loop {
        match content.read(&mut piece).map_err(broken)? {
            0 => return Ok(()),
            length => file.write_all(&piece[..length]).map_err(stored)?,
        }
    }
}

/// The path of an entry. It must stay below the target folder, be UTF-8 and have no control characters.
fn path(entry: &Entry<'_, impl Read>) -> Result<PathBuf, String> {
    let path = entry.path().map_err(|error| format!("the archive is broken: {error}"))?;
    let is_text = path.to_str().is_some_and(|path| !path.contains(char::is_control));
    if !is_text {
        return Err(format!("the archive holds a file whose name is no line of text: {path:?}"));
    }
    below(&path).ok_or_else(|| format!("the archive's `{}` would lie outside its folder", path.display()))
}

fn broken(error: io::Error) -> Failure {
    Failure::Final(format!("the archive is broken: {error}"))
}

/// A reader of the unpacked archive that fails when one of two limits is exceeded.
struct Metered<R> {
    content: R,
    /// Limit in bytes for the whole unpacked archive; for the message.
    most: u64,
    /// Bytes that may still be read of the whole archive.
    left: u64,
    /// Bytes that may still be read before the content of the next file. `u64::MAX` while content is read.
    next: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.content.read(buffer)? as u64;
        let left = self.left.checked_sub(length).ok_or_else(|| {
            io::Error::other(format!(
                "it is more than {} bytes when it is unpacked: raise --max-unpacked-bytes, if that is intended",
                self.most
            ))
        })?;
        let next = self.next.get().checked_sub(length);
        self.next.set(next.ok_or_else(|| io::Error::other("a head of more than a megabyte"))?);
        self.left = left;
        Ok(length as usize)
    }
}
