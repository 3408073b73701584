//! What is there when a path names no model: models that may have been meant.

use std::path::Path;

use super::repository::of_folder;
use super::signature::quoted;

/// Names that an error lists.
const MOST_NAMES: usize = 5;
/// Entries of a folder that are looked at.
const MOST_ENTRIES: usize = 1000;

/// The models that lie where a path leads as far as it exists, in words.
pub fn models_near(path: &Path) -> String {
    let mut folders = path.ancestors().map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    match folders.find(|folder| folder.is_dir()) {
        Some(folder) => format!("in `{}` there is {}", folder.display(), models_in(folder)),
        None => "there is no such folder".into(),
    }
}

fn models_in(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(MOST_ENTRIES);
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_string_lossy().into_owned();
            let is_onnx = path.extension().is_some_and(|extension| extension == "onnx") && path.is_file();
            let is_folder = || path.is_dir() && !of_folder(&path).is_empty();
            (is_onnx || is_folder()).then_some(name)
        })
        .collect();
    if names.is_empty() {
        return "no .onnx file and no folder with a model".into();
    }
    names.sort();
    let more = names.len().saturating_sub(MOST_NAMES);
    let shown = quoted(names.iter().take(MOST_NAMES).map(String::as_str));
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
