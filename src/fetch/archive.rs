//! Unpacking a .tar.gz that may mean harm: files and folders only, below the folder that they are unpacked to,
//! so many at most and so large. Owners, modes and times are not taken over.

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

/// Bytes in front of one entry: its header, a long name, extended attributes. They are read to memory.
const LONGEST_HEAD: u64 = 1 << 20;

/// Whether a file begins as gzip does. An ONNX file never does: its first byte would be a field that there is not.
pub fn is_gzip(file: &mut File) -> io::Result<bool> {
    let mut magic = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(2).read_to_end(&mut magic)?;
    Ok(magic == [0x1f, 0x8b])
}

/// Unpacks an archive into a new folder; the digests of its files.
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
    // A comment of git's on the whole archive.
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let path = path(&entry).map_err(Failure::Final)?;
    let place = folder.join(&path);
    // In archives of the oldest form a folder is a file whose name ends in a slash.
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

/// Tells what goes wrong with the archive from what goes wrong with the disk.
fn copy(content: &mut impl Read, file: &mut impl io::Write) -> Result<(), Failure> {
    let mut piece = vec![0; 64 << 10];
    loop {
        match content.read(&mut piece).map_err(broken)? {
            0 => return Ok(()),
            length => file.write_all(&piece[..length]).map_err(stored)?,
        }
    }
}

/// An entry's path, which must stay in its folder and be a line of text.
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

/// What an archive says, as long as it does not say too much.
struct Metered<R> {
    content: R,
    most: u64,
    left: u64,
    /// What may still come before the next file's content.
    next: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.content.read(buffer)? as u64;
        let left = self.left.checked_sub(length).ok_or_else(|| {
            io::Error::other(format!(
                "it is more than {} bytes when it is unpacked: raise --max-unpacked-bytes, if it is meant to be",
                self.most
            ))
        })?;
        let next = self.next.get().checked_sub(length);
        self.next.set(next.ok_or_else(|| io::Error::other("a head of more than a megabyte"))?);
        self.left = left;
        Ok(length as usize)
    }
}
