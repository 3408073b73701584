//! The tables of operators as a document, `docs/operators.md`.

use super::entry::{Domain, Entry};
use super::table;

/// The document: for each domain, every operator with its attributes and what serves it.
///
/// `cargo run --release --example operators > docs/operators.md` writes it, and a test compares it with the tables.
pub fn document() -> String {
    let mut text = String::from(
        "# Operators\n\n\
         A model is served only if every node has a form that this table lists. Anything else is refused when the model is \
         loaded, and the error names the node. This file is made from the tables in `src/onnx/operators` by \
         `cargo run --release --example operators`.\n\n\
         \"tract\" is the engine's operator, \"ours\" is one of onnxd. Where both are there, tract serves the form in \
         brackets and ours serves the rest. \"the graph\" means that the node is resolved when the model is loaded.\n",
    );
    for domain in [Domain::Onnx, Domain::Ml, Domain::Preview, Domain::Microsoft] {
        text.push_str(&format!("\n## {domain}\n\n| operator | attributes | served by |\n|---|---|---|\n"));
        let mut entries: Vec<&Entry> = table::all().filter(|entry| entry.domain == domain).collect();
        entries.sort_by_key(|entry| entry.name);
        for entry in entries {
            let attributes: Vec<String> =
                entry.attributes.iter().map(|attribute| format!("`{attribute}`")).collect();
            text.push_str(&format!(
                "| `{}` | {} | {} |\n",
                entry.name,
                attributes.join(", "),
                served_by(entry)
            ));
        }
    }
    text
}

fn served_by(entry: &Entry) -> String {
    let mut servers = Vec::new();
    if entry.is_rewritten {
        servers.push("the graph".to_owned());
    }
    if let Some(form) = &entry.engine {
        let limits = form.limits();
        servers.push(match limits.is_empty() {
            true => "tract".to_owned(),
            false => format!("tract ({})", limits.join("; ")),
        });
    }
    if entry.own.is_some() {
        servers.push("ours".to_owned());
    }
    match servers.is_empty() {
        true => "nothing: it is refused".to_owned(),
        false => servers.join(", else "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_operators_md_is_what_the_tables_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operators.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == document(),
            "docs/operators.md differs from the tables: run `cargo run --release --example operators > docs/operators.md`"
        );
    }
}
