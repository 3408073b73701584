//! The outputs of a model by name, and those that a decoder reads.

use crate::model::signature::quoted;

/// An output as the model declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    pub name: String,
    /// The lengths of the axes; `None` where a length is open.
    pub shape: Vec<Option<usize>>,
}

/// Collects the outputs that a decoder reads. A decoder knows them by the places in which it asked for them.
#[derive(Debug)]
pub struct Sources<'a> {
    outputs: &'a [Declared],
    places: Vec<usize>,
}

impl<'a> Sources<'a> {
    /// Begins with the outputs of the model.
    pub fn new(outputs: &'a [Declared]) -> Sources<'a> {
        Sources { outputs, places: Vec::new() }
    }

    /// Takes the output that model.json names, or the only one.
    pub fn one(&mut self, name: Option<&str>) -> Result<usize, String> {
        match (name, self.outputs) {
            (Some(name), _) => self.named(name),
            (None, [only]) => self.named(&only.name),
            (None, _) => {
                Err(format!("output is not given, but the model has {}: expected one of them", self.known()))
            }
        }
    }

    /// Takes the output with this name. Returns its place among those that were taken.
    pub fn named(&mut self, name: &str) -> Result<usize, String> {
        let place = self.outputs.iter().position(|output| output.name == name);
        let place = place.ok_or_else(|| {
            format!("it names the output `{name}`, which the model does not have: it has {}", self.known())
        })?;
        if let Some(taken) = self.places.iter().position(|taken| *taken == place) {
            return Ok(taken);
        }
        self.places.push(place);
        Ok(self.places.len() - 1)
    }

    fn known(&self) -> String {
        quoted(self.outputs.iter().map(|output| output.name.as_str()))
    }

    /// The name of an output that was taken.
    pub fn name(&self, taken: usize) -> &str {
        &self.outputs[self.places[taken]].name
    }

    /// The shape of an output that was taken.
    pub fn shape(&self, taken: usize) -> &'a [Option<usize>] {
        &self.outputs[self.places[taken]].shape
    }

    /// Checks the shape of an output that was taken. The error names the output.
    pub fn checked(
        &self,
        taken: usize,
        check: impl FnOnce(&[Option<usize>]) -> Result<(), String>,
    ) -> Result<(), String> {
        check(self.shape(taken)).map_err(|error| format!("output `{}`: {error}", self.name(taken)))
    }

    /// The places in the signature of the outputs that were taken.
    pub fn into_places(self) -> Vec<usize> {
        self.places
    }
}
