//! Reading a whole file, up to a bound. The errors do not name the file: who reads it knows it.

use std::fs::File;
use std::io::{Read, Take};
use std::path::Path;

/// The file's content, when it is a file and has at most `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    open(path, most)?.read_to_end(&mut content).map_err(|error| error.to_string())?;
    Ok(content)
}

/// The same, of a text.
pub fn read_text(path: &Path, most: u64) -> Result<String, String> {
    String::from_utf8(read(path, most)?).map_err(|_| "this is no text in UTF-8".into())
}

/// The same, to be read. Should it grow meanwhile, what is beyond the bound is not read. What is no plain file is never
/// opened: a pipe would be waited for.
pub fn open(path: &Path, most: u64) -> Result<Take<File>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("this is not a file".into());
    }
    if metadata.len() > most {
        return Err(format!("it has {} bytes: expected at most {most}", metadata.len()));
    }
    Ok(File::open(path).map_err(|error| error.to_string())?.take(most))
}
