//! The numbers that a request can change, such as thresholds, and the bounds that model.json sets for them.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Number;

use crate::model::choices::Choices;
use crate::model::manifest::Bounded;

/// The settings of one kind of result, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    numbers: Vec<Setting<f32>>,
    counts: Vec<Setting<usize>>,
    switches: Vec<&'static str>,
}

/// A setting with its value for requests that give none, and its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting<T> {
    pub name: &'static str,
    pub default: T,
    pub least: T,
    pub most: T,
}

/// The settings of one request, in the order of its `Wish`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settled {
    pub numbers: Vec<f32>,
    pub counts: Vec<usize>,
    pub switches: Vec<bool>,
}

impl Wish {
    /// Begins without settings.
    pub fn new() -> Wish {
        Wish::default()
    }

    /// Adds a number that is never outside `least` to `most`.
    pub fn number(mut self, name: &'static str, said: Bounded<f32>, least: f32, most: f32) -> Wish {
        let (least, most) = (said.least.unwrap_or(least), said.most.unwrap_or(most));
        self.numbers.push(Setting { name, default: said.default, least, most });
        self
    }

    /// Adds a count from 1. If model.json does not say how large it may be, its default is also its bound.
    pub fn count(mut self, name: &'static str, said: Bounded<usize>) -> Wish {
        let (least, most) = (said.least.unwrap_or(1), said.most.unwrap_or(said.default));
        self.counts.push(Setting { name, default: said.default, least, most });
        self
    }

    /// Adds a switch that is off by default.
    pub fn switch(mut self, name: &'static str) -> Wish {
        self.switches.push(name);
        self
    }

    /// The settings of a request.
    ///
    /// Errors: the request gives a value that is not within the bounds, or a setting that this kind of result does not
    /// have.
    pub fn settle(&self, choices: &Choices) -> Result<Settled, String> {
        let numbers = self.numbers.iter().map(|setting| setting.settle(choices, "a number"));
        let counts = self.counts.iter().map(|setting| setting.settle(choices, "a whole number"));
        let switches = self.switches.iter().map(|name| match choices.get(name) {
            None => Ok(false),
            Some(text) => text.parse().map_err(|_| format!("{name} is `{text}`: expected true or false")),
        });
        let settled = Settled {
            numbers: numbers.collect::<Result<_, _>>()?,
            counts: counts.collect::<Result<_, _>>()?,
            switches: switches.collect::<Result<_, String>>()?,
        };
        match choices.names().find(|name| !self.names().any(|known| known == *name)) {
            Some(name) => {
                let known: Vec<String> = self.names().map(|name| format!("`{name}`")).collect();
                Err(format!("the result of this model has no `{name}`: it has {}", known.join(", ")))
            }
            None => Ok(settled),
        }
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        let numbers = self.numbers.iter().map(|setting| setting.name);
        numbers.chain(self.counts.iter().map(|setting| setting.name)).chain(self.switches.iter().copied())
    }

    /// Name, default, least and most of each setting with bounds, for metadata.
    pub fn describe(&self) -> Vec<(&'static str, [Number; 3])> {
        let numbers = self.numbers.iter().map(Setting::describe);
        numbers.chain(self.counts.iter().map(Setting::describe)).collect()
    }
}

impl<T: Copy + PartialOrd + Display + FromStr> Setting<T> {
    fn describe(&self) -> (&'static str, [Number; 3]) {
        // By its text: as FP64, 0.45 of FP32 would have many more digits.
        let number = |value: T| value.to_string().parse().unwrap_or_else(|_| Number::from(0));
        (self.name, [self.default, self.least, self.most].map(number))
    }

    fn settle(&self, choices: &Choices, what: &str) -> Result<T, String> {
        let Some(text) = choices.get(self.name) else { return Ok(self.default) };
        let value = text.parse().ok().filter(|value| *value >= self.least && *value <= self.most);
        value.ok_or_else(|| {
            format!("{} is `{text}`: this model takes {what} from {} to {}", self.name, self.least, self.most)
        })
    }
}
