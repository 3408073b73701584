//! For the error when a path leads to no model: the models near that path, which the user may have meant.

use std::path::Path;

use super::signature::quoted;

/// Names that an error lists.
const MOST_NAMES: usize = 5;
/// Entries of a folder that are examined.
const MOST_ENTRIES: usize = 1000;

/// Lists in words the models in the deepest folder of `path` that exists. `holds_model` tells whether a folder is a
/// model.
pub fn models_near(path: &Path, holds_model: impl Fn(&Path) -> bool) -> String {
    let mut folders = path.ancestors().map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    match folders.find(|folder| folder.is_dir()) {
        Some(folder) => format!("in `{}` there is {}", folder.display(), models_in(folder, holds_model)),
        None => "there is no such folder".into(),
    }
}

fn models_in(folder: &Path, holds_model: impl Fn(&Path) -> bool) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(MOST_ENTRIES);
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_string_lossy().into_owned();
            let is_onnx = path.extension().is_some_and(|extension| extension == "onnx") && path.is_file();
            let is_folder = || path.is_dir() && holds_model(&path);
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
