//! Which operators are served, and by what. Each family of operators has a table of [`Entry`]s. A node that no entry honours
//! is refused when the model is loaded.

use std::collections::HashMap;
use std::sync::LazyLock;

use tract_onnx::pb::NodeProto;

use super::entry::{Domain, Entry};

/// The tables of all families.
const TABLES: &[&[Entry]] = &[
    super::activation::TABLE,
    super::attention::TABLE,
    super::control::TABLE,
    super::convolution::TABLE,
    super::fused::TABLE,
    super::image::TABLE,
    super::losses::TABLE,
    super::math::TABLE,
    super::ml::TABLE,
    super::normalization::TABLE,
    super::quantized::TABLE,
    super::recurrent::TABLE,
    super::reductions::TABLE,
    super::signal::TABLE,
    super::tensors::TABLE,
    super::text::TABLE,
];

/// All entries.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// The entry of an operator.
pub fn find(domain: Domain, name: &str) -> Option<&'static Entry> {
    static ALL: LazyLock<HashMap<(Domain, &str), &Entry>> =
        LazyLock::new(|| all().map(|entry| ((entry.domain, entry.name), entry)).collect());
    ALL.get(&(domain, name)).copied()
}

/// The entry of a node's operator.
pub fn of(node: &NodeProto) -> Option<&'static Entry> {
    Domain::named(&node.domain).and_then(|domain| find(domain, &node.op_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_has_two_entries() {
        let mut names: Vec<(String, &str)> =
            all().map(|entry| (entry.domain.to_string(), entry.name)).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
