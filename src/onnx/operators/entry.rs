//! What an entry of a family's table says about an operator: what is honoured, and what serves it.
//!
//! What belongs here: the form of an entry, and the checks of a node against it. What does not: the tables (in the
//! families' modules), the search in them (`table`) and the making of the graph ([`lower`](super::super::lower)).
//!
//! Invariant: no attribute is ignored. An attribute that an entry does not name is an error, and an entry names only
//! attributes that are honoured with every value that passes its checks.

use std::fmt;
use std::sync::Arc;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::attributes::Attributes;
use super::operator::{Inputs, Kind, Operator};

/// Makes our operator for a node.
pub type Build = fn(&Attributes) -> TractResult<Arc<dyn Operator>>;

/// A condition on a node and its inputs. The error says which part is not honoured.
pub type Condition = fn(&Attributes, &Inputs<Kind>) -> Result<(), String>;

/// A set of operators with its own version numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Domain {
    /// `ai.onnx`, which files write as an empty string.
    Onnx,
    /// `ai.onnx.ml`: what scikit-learn and others export.
    Ml,
    /// `ai.onnx.preview`: operators that may still change.
    Preview,
    /// `com.microsoft`: what onnxruntime's tools write.
    Microsoft,
}

impl Domain {
    /// The domain with this name in a file. `None` for a domain that is not served.
    pub fn named(name: &str) -> Option<Domain> {
        match name {
            "" | "ai.onnx" => Some(Domain::Onnx),
            "ai.onnx.ml" => Some(Domain::Ml),
            "ai.onnx.preview" => Some(Domain::Preview),
            "com.microsoft" => Some(Domain::Microsoft),
            _ => None,
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Domain::Onnx => "ai.onnx",
            Domain::Ml => "ai.onnx.ml",
            Domain::Preview => "ai.onnx.preview",
            Domain::Microsoft => "com.microsoft",
        })
    }
}

/// The form of a node that tract's operator computes correctly.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// The attributes that tract honours. `None`: all those of the entry.
    attributes: Option<&'static [&'static str]>,
    /// The datatypes that the first input may have. Empty: all.
    types: &'static [DatumType],
    /// The inputs that must be constant if they are there, counted from 0.
    constants: &'static [usize],
    /// The same, but the constants may be sizes that contain symbols.
    sizes: &'static [usize],
    /// True when an input may hold text.
    takes_text: bool,
    condition: Option<Condition>,
}

impl Form {
    /// Every form of the node, with numbers and truth values.
    pub const ALL: Form =
        Form { attributes: None, types: &[], constants: &[], sizes: &[], takes_text: false, condition: None };

    /// With text too.
    pub const fn with_text(self) -> Form {
        Form { takes_text: true, ..self }
    }

    /// Only these attributes.
    pub const fn attributes(self, attributes: &'static [&'static str]) -> Form {
        Form { attributes: Some(attributes), ..self }
    }

    /// Only these datatypes of the first input.
    pub const fn types(self, types: &'static [DatumType]) -> Form {
        Form { types, ..self }
    }

    /// Only if these inputs are constant or left out.
    pub const fn constants(self, constants: &'static [usize]) -> Form {
        Form { constants, ..self }
    }

    /// Only if these inputs are left out, or constant integers that may contain symbols.
    pub const fn sizes(self, sizes: &'static [usize]) -> Form {
        Form { sizes, ..self }
    }

    /// Only if this holds.
    pub const fn when(self, condition: Condition) -> Form {
        Form { condition: Some(condition), ..self }
    }

    /// The limits of this form, for the documentation. Empty when there are none.
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if let Some(attributes) = self.attributes {
            limits.push(match attributes {
                [] => "no attributes".to_owned(),
                _ => format!("attributes {}", attributes.join(", ")),
            });
        }
        if !self.types.is_empty() {
            let types: Vec<String> = self.types.iter().map(|datum_type| format!("{datum_type:?}")).collect();
            limits.push(format!("first input {}", types.join(", ")));
        }
        if !self.constants.is_empty() || !self.sizes.is_empty() {
            let constants = self.constants.iter().chain(self.sizes);
            let inputs: Vec<String> = constants.map(usize::to_string).collect();
            limits.push(format!("constant inputs {} (counted from 0)", inputs.join(", ")));
        }
        if self.condition.is_some() {
            limits.push("further conditions".to_owned());
        }
        limits
    }

    /// Checks a node. The error says which part tract does not honour.
    fn check(&self, attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
        if let Some(honoured) = self.attributes {
            let mut names = attributes.node.attribute.iter().map(|attribute| &*attribute.name);
            if let Some(name) = names.find(|name| !honoured.contains(name)) {
                return Err(format!("the attribute `{name}` is not supported"));
            }
        }
        if let Some(first) = inputs.optional(0)
            && !self.types.is_empty()
            && !self.types.contains(&first.datum_type)
        {
            return Err(format!(
                "its first input is of type {:?}: expected one of {:?}",
                first.datum_type, self.types
            ));
        }
        let is_text = |input: &&Kind| input.datum_type == DatumType::String;
        if !self.takes_text && inputs.0.iter().flatten().any(is_text) {
            return Err("an input is text: expected numbers or truth values".into());
        }
        for at in self.constants {
            if inputs.optional(*at).is_some_and(|input| input.value.is_none()) {
                return Err(format!("its input {at} (counted from 0) must be constant"));
            }
        }
        for at in self.sizes {
            if inputs.optional(*at).is_some_and(|input| input.value.is_none() && input.sizes.is_none()) {
                return Err(format!("its input {at} (counted from 0) must be constant"));
            }
        }
        self.condition.map_or(Ok(()), |holds| holds(attributes, inputs))
    }
}

/// One operator: what is honoured, and what serves it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The domain of the operator.
    pub domain: Domain,
    /// The name in the standard.
    pub name: &'static str,
    /// All attributes that are honoured.
    pub attributes: &'static [&'static str],
    /// The form that tract serves. `None`: no form.
    pub engine: Option<Form>,
    /// Our operator, for what tract does not serve.
    pub own: Option<Build>,
    /// True when the node is not one operator of the typed graph: [`rewrite`](super::super::lower::rewrite) puts it there.
    pub is_rewritten: bool,
}

impl Entry {
    const fn new(domain: Domain, name: &'static str, attributes: &'static [&'static str]) -> Entry {
        Entry { domain, name, attributes, engine: None, own: None, is_rewritten: false }
    }

    /// An operator of `ai.onnx`, with the attributes that are honoured.
    pub const fn onnx(name: &'static str, attributes: &'static [&'static str]) -> Entry {
        Entry::new(Domain::Onnx, name, attributes)
    }

    /// An operator of `ai.onnx.ml`, with the attributes that are honoured.
    pub const fn ml(name: &'static str, attributes: &'static [&'static str]) -> Entry {
        Entry::new(Domain::Ml, name, attributes)
    }

    /// An operator of `ai.onnx.preview`, with the attributes that are honoured.
    pub const fn preview(name: &'static str, attributes: &'static [&'static str]) -> Entry {
        Entry::new(Domain::Preview, name, attributes)
    }

    /// An operator of `com.microsoft`, with the attributes that are honoured.
    pub const fn microsoft(name: &'static str, attributes: &'static [&'static str]) -> Entry {
        Entry::new(Domain::Microsoft, name, attributes)
    }

    /// tract serves this form.
    pub const fn engine(self, form: Form) -> Entry {
        Entry { engine: Some(form), ..self }
    }

    /// Our operator serves what tract does not serve.
    pub const fn own(self, build: Build) -> Entry {
        Entry { own: Some(build), ..self }
    }

    /// The node is not one operator of the typed graph.
    pub const fn rewritten(self) -> Entry {
        Entry { is_rewritten: true, ..self }
    }

    /// Checks that every attribute of the node is honoured.
    pub fn check_attributes(&self, node: &NodeProto) -> TractResult<()> {
        let unknown = node.attribute.iter().find(|attribute| !self.attributes.contains(&&*attribute.name));
        match unknown {
            Some(attribute) => Err(super::wrong(
                node,
                format!(
                    "the attribute `{}` is not supported; supported: {}",
                    attribute.name,
                    if self.attributes.is_empty() { "none".into() } else { self.attributes.join(", ") }
                ),
            )),
            None => Ok(()),
        }
    }

    /// Checks whether tract serves this node. The error says what it does not honour.
    pub fn check_engine(&self, attributes: &Attributes, inputs: &Inputs<Kind>) -> Result<(), String> {
        match &self.engine {
            Some(form) => form.check(attributes, inputs),
            None => Err("the engine does not have it".into()),
        }
    }
}
