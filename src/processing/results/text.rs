//! The result kind `text`: a line of text from the scores of characters at each step (connectionist temporal
//! classification, CTC). At each step the class with the best score counts; a class that repeats counts once, and the
//! blank not at all.

use serde::Serialize;

use super::activation::softmax;
use super::settings::Wish;
use super::view::{View, show};
use super::{Declared, Made, Sources};
use crate::model::manifest::{Blank, ScoreActivation, TextManifest};

/// One line of text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    pub text: String,
    /// The mean score of the characters; 0 for an empty text.
    pub score: f32,
    /// The characters one by one, if the request asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<Step>>,
}

/// One character of a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub character: String,
    pub score: f32,
    /// The step at which it begins, from 0.
    pub at: usize,
}

/// Makes lines of text of an output.
#[derive(Debug)]
pub struct Lines {
    /// The character of each class; empty for the blank.
    classes: Vec<String>,
    blank: usize,
    is_time_major: bool,
    activation: ScoreActivation,
    wish: Wish,
}

impl Lines {
    /// Makes the decoder that `spec` describes. Returns also the place of its output in `outputs`.
    ///
    /// Errors: the output has a shape or a number of classes that does not fit the characters.
    pub fn new(
        spec: &TextManifest,
        outputs: &[Declared],
        mut characters: Vec<String>,
    ) -> Result<(Lines, Vec<usize>), String> {
        if characters.is_empty() {
            return Err("characters is not given, and the file's metadata has no `character`: expected a text file with \
                        one character in each line, or a list"
                .into());
        }
        let mut sources = Sources::new(outputs);
        let output = sources.one(spec.output.as_deref())?;
        let (count, name) = (characters.len(), sources.name(output).to_owned());
        let known = match sources.shape(output) {
            [_, _, classes] => *classes,
            shape => {
                return Err(format!(
                    "output `{name}`: the shape is {}: expected [N, steps, classes]",
                    show(shape)
                ));
            }
        };
        let space = match (spec.space, known) {
            (Some(space), _) => space,
            (None, Some(classes)) => classes == count + 2,
            (None, None) => {
                return Err(format!(
                    "space is not given, and output `{name}` does not say how many classes it has: expected true or false"
                ));
            }
        };
        characters.extend(space.then(|| " ".to_owned()));
        if let Some(classes) = known.filter(|classes| *classes != characters.len() + 1) {
            return Err(format!(
                "output `{name}` has {classes} classes, but there are {count} characters{} and a blank: expected {}",
                if space { ", a space" } else { "" },
                characters.len() + 1
            ));
        }
        let blank = match spec.blank {
            Blank::First => 0,
            Blank::Last => characters.len(),
        };
        characters.insert(blank, String::new());
        let lines = Lines {
            classes: characters,
            blank,
            is_time_major: spec.time_major,
            activation: spec.activation.unwrap_or(ScoreActivation::None),
            wish: Wish::new().switch("steps"),
        };
        Ok((lines, sources.into_places()))
    }

    /// What a request can set.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// The number of rows of the output.
    pub fn rows(&self, output: View<'_>) -> Result<usize, String> {
        match output.shape() {
            [steps, rows, classes] if *classes == self.classes.len() => {
                Ok(if self.is_time_major { *rows } else { *steps })
            }
            _ => Err(format!(
                "the output's shape is {}: expected 3 axes, and {} classes at the end",
                show(&output.known_shape()),
                self.classes.len()
            )),
        }
    }

    /// The line of one row.
    pub fn of_row(&self, output: View<'_>, row: usize, with_steps: bool) -> Result<Made<Line>, String> {
        let rows = self.rows(output)?;
        let width = self.classes.len();
        let length = if self.is_time_major { output.shape()[0] } else { output.shape()[1] };
        let (mut found, mut non_finite) = (Vec::new(), 0);
        let (mut before, mut probabilities) = (self.blank, Vec::new());
        for at in 0..length {
            let start = if self.is_time_major { at * rows + row } else { row * length + at } * width;
            let scores = output.values().get(start..start + width).unwrap_or_default();
            let scores = match self.activation {
                ScoreActivation::Softmax => {
                    softmax(scores, &mut probabilities);
                    &probabilities
                }
                _ => scores,
            };
            non_finite += scores.iter().filter(|score| score.is_nan()).count();
            let (class, score) = best(scores).unwrap_or((self.blank, 0.0));
            if class != self.blank && class != before {
                found.push(Step { character: self.classes[class].clone(), score, at });
            }
            before = class;
        }
        let sum: f32 = found.iter().map(|step| step.score).sum();
        let line = Line {
            text: found.iter().map(|step| step.character.as_str()).collect(),
            score: if found.is_empty() { 0.0 } else { sum / found.len() as f32 },
            steps: with_steps.then_some(found),
        };
        Ok(Made { answer: line, non_finite })
    }
}

/// The class with the best score; of equal ones the first. `None` if no score is a number.
fn best(scores: &[f32]) -> Option<(usize, f32)> {
    let numbers = scores.iter().copied().enumerate().filter(|(_, score)| score.is_finite());
    numbers.reduce(|best, next| if next.1 > best.1 { next } else { best })
}
