//! What a request says about the result that it wants: thresholds and the like, as texts. What they mean, and their
//! bounds, depend on the model.

/// The names of parameters that concern results.
const NAMES: [&str; 6] = ["score_threshold", "iou_threshold", "max", "threshold", "unclip_ratio", "steps"];

/// The most bytes of a value that are kept. Every valid value is much shorter.
const LONGEST: usize = 64;

/// The choices of one request: the name of each parameter, and its value as JSON or as in a query string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// Whether the request wants the result, or the outputs that it is made from. `None` when the request does not say.
    pub results: Option<bool>,
    values: Vec<(&'static str, String)>,
}

impl Choices {
    /// Takes a parameter. Returns false when its name does not concern results.
    pub fn take(&mut self, name: &str, value: &str) -> bool {
        let Some(known) = NAMES.iter().find(|known| **known == name) else { return false };
        self.values.retain(|(other, _)| other != known);
        self.values.push((*known, value[..value.floor_char_boundary(LONGEST)].to_owned()));
        true
    }

    /// The choices of a request. What it leaves open is as in `defaults`.
    pub fn or(mut self, defaults: &Choices) -> Choices {
        self.results = self.results.or(defaults.results);
        for (name, value) in &defaults.values {
            if self.get(name).is_none() {
                self.values.push((*name, value.clone()));
            }
        }
        self
    }

    /// The value of a parameter, if the request gives it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The names of the parameters that the request gives.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.values.iter().map(|(name, _)| *name)
    }
}
