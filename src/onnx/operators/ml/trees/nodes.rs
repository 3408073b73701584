//! What both forms of the standard say about nodes in the same attributes, and the checks of it.

use tract_onnx::prelude::*;

use super::super::super::attributes::Attributes;
use super::forest::{Node, Test};

/// The attributes that both forms have for branches: one value for each node.
pub struct Branches<'a> {
    attributes: &'a Attributes<'a>,
    features: &'a [i64],
    yes: &'a [i64],
    no: &'a [i64],
    /// Empty when no node says where a missing feature goes.
    missing: &'a [i64],
}

/// One of a node's two branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Yes,
    No,
}

impl Side {
    /// The attribute that holds the node at the end of this branch.
    pub fn attribute(self) -> &'static str {
        match self {
            Side::Yes => "nodes_truenodeids",
            Side::No => "nodes_falsenodeids",
        }
    }
}

impl<'a> Branches<'a> {
    /// Reads them. They must be as long as the form's `own` lists, each given by its name and length.
    pub fn read(attributes: &'a Attributes<'a>, own: &[(&str, usize)]) -> TractResult<Branches<'a>> {
        let branches = Branches {
            attributes,
            features: attributes.ints("nodes_featureids")?,
            yes: attributes.ints(Side::Yes.attribute())?,
            no: attributes.ints(Side::No.attribute())?,
            missing: attributes.ints("nodes_missing_value_tracks_true")?,
        };
        let mut lists = own.to_vec();
        lists.extend([
            ("nodes_featureids", branches.features.len()),
            (Side::Yes.attribute(), branches.yes.len()),
            (Side::No.attribute(), branches.no.len()),
        ]);
        if !branches.missing.is_empty() {
            lists.push(("nodes_missing_value_tracks_true", branches.missing.len()));
        }
        same_length(attributes, &lists)?;
        Ok(branches)
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// The branch of node `at`. `place` finds the node that one of its sides names by an id.
    pub fn node(
        &self,
        at: usize,
        test: Test,
        place: impl Fn(Side, i64) -> TractResult<usize>,
    ) -> TractResult<Node> {
        Ok(Node::Branch {
            feature: self.feature(at)?,
            test,
            missing: self.missing.get(at).is_some_and(|missing| *missing != 0),
            yes: place(Side::Yes, self.yes[at])?,
            no: place(Side::No, self.no[at])?,
        })
    }

    fn feature(&self, at: usize) -> TractResult<u32> {
        let id = self.features[at];
        u32::try_from(id).ok().filter(|id| *id < 1 << 31).ok_or_else(|| {
            self.attributes.wrong(format!("`nodes_featureids` holds {id}: expected 0 to 2147483647"))
        })
    }
}

/// The length of all `lists`, each given by its name and length. Refuses lists of different lengths.
pub fn same_length(attributes: &Attributes, lists: &[(&str, usize)]) -> TractResult<usize> {
    let (first, length) = lists[0];
    match lists.iter().find(|(_, other)| *other != length) {
        None => Ok(length),
        Some((name, other)) => {
            Err(attributes.wrong(format!("`{name}` has {other} values, but `{first}` has {length}")))
        }
    }
}

/// The target `id` of a leaf, if it is one of the `targets`.
pub fn target(attributes: &Attributes, id: i64, targets: usize) -> TractResult<u32> {
    match u32::try_from(id) {
        Ok(id) if (id as usize) < targets => Ok(id),
        _ => Err(attributes.wrong(format!("a leaf votes for {id}: expected 0 to {}", targets - 1))),
    }
}
