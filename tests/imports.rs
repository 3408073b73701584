//! Which module may import which: `src/lib.rs` says it in a table, and the `use` lines are held against that table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::root;

/// Libraries that one part of the program wraps for all others.
const WRAPPED: [(&str, &[&str]); 4] =
    [("tract_onnx", &["onnx"]), ("tungstenite", &["net"]), ("tiny_http", &["ops"]), ("rustls", &["net"])];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// The code of a source file: without comments, and without its unit tests, which may import more.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every source file that is no test, with its path of modules: `net/tls/mod.rs` is `["net", "tls"]`.
fn sources() -> Vec<(Vec<String>, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if stem == "tests" {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(root().join("src")).unwrap().with_extension("");
                let mut modules: Vec<String> =
                    relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                if matches!(modules.last().map(String::as_str), Some("mod" | "lib" | "main")) {
                    modules.pop();
                }
                found.push((modules, path));
            }
        }
    }
    found
}

/// The names that follow `prefix` in the code: `crate::{a::b, c}` gives `a` and `c`.
fn names_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let name = |text: &str| -> Option<String> {
        let name: String =
            text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit()).collect();
        let is_module = !name.is_empty()
            && !text[name.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '(' || c == '!');
        is_module.then_some(name)
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.extend(name(rest));
            continue;
        };
        let mut depth = 0;
        for part in list.split_inclusive([',', '{', '}']) {
            if depth == 0 {
                names.extend(name(part.trim_start()));
            }
            match part.chars().next_back() {
                Some('{') => depth += 1,
                Some('}') if depth == 0 => break,
                Some('}') => depth -= 1,
                _ => {}
            }
        }
    }
    names
}

/// What each module of the crate imports of the others.
fn imports() -> Graph {
    let mut graph = Graph::new();
    for (modules, path) in sources() {
        let Some(module) = modules.first() else { continue };
        let mut names = names_after(&code(&path), "crate::");
        names.remove(module);
        graph.entry(module.clone()).or_default().extend(names);
    }
    graph
}

/// The rows of the table in `src/lib.rs`: a module, and what it may import. In the table's order.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`")?.strip_suffix(" |"));
    rows.map(|row| {
        let (module, row) = row.split_once("`]").unwrap();
        let allowed = row.rsplit(" | ").next().unwrap();
        (module.to_owned(), allowed.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    })
    .collect()
}

#[test]
fn modules_import_what_the_table_in_lib_rs_says_and_nothing_else() {
    let (table, imports) = (table(), imports());
    assert!(imports["engine"].contains("onnx"), "this reads the imports: {imports:?}");
    let described: Vec<&String> = table.iter().map(|(module, _)| module).collect();
    for (module, imports) in &imports {
        let row = table.iter().find(|(name, _)| name == module);
        let (_, allowed) =
            row.unwrap_or_else(|| panic!("src/lib.rs has no row for `{module}`: {described:?}"));
        assert_eq!(imports, allowed, "what `{module}` imports (left), and what src/lib.rs says (right)");
    }
    assert_eq!(imports.len(), table.len(), "src/lib.rs describes a module that is not there: {described:?}");
}

#[test]
fn modules_import_only_those_below_them_so_there_is_no_cycle() {
    let table = table();
    for (at, (module, allowed)) in table.iter().enumerate() {
        let below: BTreeSet<&String> = table[at + 1..].iter().map(|(name, _)| name).collect();
        for import in allowed {
            assert!(
                below.contains(import),
                "`{module}` imports `{import}`, which is not below it in src/lib.rs"
            );
        }
    }
}

#[test]
fn files_of_one_folder_do_not_import_each_other_in_a_circle() {
    // By folder: a file of it, and the neighbours that it imports.
    let mut folders: BTreeMap<Vec<String>, Graph> = BTreeMap::new();
    for (modules, path) in sources() {
        let code = code(&path);
        for depth in 1..modules.len() {
            let (folder, file) = (&modules[..depth], &modules[depth]);
            // From a file in a folder below, its own folder's neighbours are one `super` further away.
            let up = "super::".repeat(modules.len() - depth);
            let mut names = names_after(&code, &up);
            names.extend(names_after(&code, &format!("crate::{}::", folder.join("::"))));
            names.remove(file);
            folders.entry(folder.to_vec()).or_default().entry(file.clone()).or_default().extend(names);
        }
    }
    for (folder, graph) in &folders {
        for start in graph.keys() {
            let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
            while let Some(file) = open.pop() {
                for next in graph.get(file).into_iter().flatten() {
                    assert!(
                        next != start,
                        "`{}`: `{start}` imports itself by way of `{file}`",
                        folder.join("::")
                    );
                    if seen.insert(next) {
                        open.push(next);
                    }
                }
            }
        }
    }
}

#[test]
fn a_library_is_wrapped_by_one_part_of_the_program() {
    for (library, allowed) in WRAPPED {
        let mut users = BTreeSet::new();
        for (modules, path) in sources() {
            if code(&path).contains(&format!("{library}::")) {
                users.extend(modules.first().cloned());
            }
        }
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(users, allowed, "the modules that use {library} (left), and those that should (right)");
    }
}
