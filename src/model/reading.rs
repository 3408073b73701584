//! Reading files up to a size limit. The errors do not name the file: the caller adds its path.

use std::fs::File;
use std::io::{Read, Take};
use std::path::Path;

/// The content of a plain file of at most `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    open(path, most)?.read_to_end(&mut content).map_err(|error| error.to_string())?;
    Ok(content)
}

/// The content of a plain text file in UTF-8 of at most `most` bytes.
pub fn read_text(path: &Path, most: u64) -> Result<String, String> {
    String::from_utf8(read(path, most)?).map_err(|_| "this is not text in UTF-8".into())
}

/// Opens a plain file of at most `most` bytes. If the file grows afterwards, the reader still ends after `most` bytes.
/// Anything but a plain file is refused before it is opened: opening a pipe would wait for its writer.
pub fn open(path: &Path, most: u64) -> Result<Take<File>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("this is not a plain file".into());
    }
    if metadata.len() > most {
        return Err(format!("it has {} bytes: expected at most {most}", metadata.len()));
    }
    Ok(File::open(path).map_err(|error| error.to_string())?.take(most))
}
