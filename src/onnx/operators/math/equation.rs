//! The equation of an `Einsum`, for example `bij,bjk->bik` or `...ij->...ji`.

use std::fmt;

/// The name of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// A letter of the equation.
    Letter(char),
    /// An axis of the ellipsis, counted from its last axis.
    Ellipsis(usize),
}

impl fmt::Display for Label {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::Letter(letter) => write!(to, "label `{letter}`"),
            Label::Ellipsis(at) => write!(to, "axis {at} of the ellipsis, counted from its last axis,"),
        }
    }
}

/// The labels of an operand or of the result: those before the ellipsis, and, if there is one, those after it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    before: Vec<char>,
    after: Option<Vec<char>>,
}

impl Term {
    fn read(text: &str) -> Result<Term, String> {
        let letters = |text: &str| -> Result<Vec<char>, String> {
            match text.chars().find(|letter| !letter.is_ascii_alphabetic()) {
                Some(other) => {
                    Err(format!("`equation` has `{other}`: expected letters, `,`, `...` and `->`"))
                }
                None => Ok(text.chars().collect()),
            }
        };
        match text.split_once("...") {
            Some((before, after)) => Ok(Term { before: letters(before)?, after: Some(letters(after)?) }),
            None => Ok(Term { before: letters(text)?, after: None }),
        }
    }

    fn letters(&self) -> impl Iterator<Item = char> + '_ {
        self.before.iter().chain(self.after.iter().flatten()).copied()
    }

    /// The labels, where the ellipsis stands for `ellipsis` axes.
    fn labels(&self, ellipsis: usize) -> Vec<Label> {
        let letter = |letter: &char| Label::Letter(*letter);
        let before = self.before.iter().map(letter);
        let middle = (0..ellipsis).rev().filter(|_| self.after.is_some()).map(Label::Ellipsis);
        before.chain(middle).chain(self.after.iter().flatten().map(letter)).collect()
    }
}

/// An equation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equation {
    operands: Vec<Term>,
    /// `None`: the axes of the ellipsis, and then the letters that are there once, in alphabetical order.
    result: Option<Term>,
}

impl Equation {
    /// Reads an equation. Blanks do not matter.
    pub fn read(text: &str) -> Result<Equation, String> {
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let (operands, result) = match text.split_once("->") {
            Some((operands, result)) => (operands, Some(Term::read(result)?)),
            None => (&*text, None),
        };
        let operands: Vec<Term> = operands.split(',').map(Term::read).collect::<Result<_, _>>()?;
        let equation = Equation { operands, result };
        if let Some(result) = &equation.result {
            let letters: Vec<char> = result.letters().collect();
            for (at, letter) in letters.iter().enumerate() {
                if letters[..at].contains(letter) {
                    return Err(format!("`equation` has `{letter}` twice in its result: expected once"));
                }
                if !equation.operands.iter().any(|term| term.letters().any(|own| own == *letter)) {
                    return Err(format!(
                        "`equation` has `{letter}` only in its result: expected it in an operand"
                    ));
                }
            }
        }
        Ok(equation)
    }

    /// The labels of the operands' axes, and of the result's. `ranks` are the operands' numbers of axes.
    pub fn labels(&self, ranks: &[usize]) -> Result<(Vec<Vec<Label>>, Vec<Label>), String> {
        if ranks.len() != self.operands.len() {
            return Err(format!(
                "`equation` has {} operands, and the node {} inputs: expected the same number",
                self.operands.len(),
                ranks.len()
            ));
        }
        let mut terms = Vec::new();
        let mut longest = 0;
        for (term, rank) in self.operands.iter().zip(ranks) {
            let named = term.letters().count();
            let ellipsis = match (rank.checked_sub(named), &term.after) {
                (Some(left), Some(_)) => left,
                (Some(0), None) => 0,
                _ => {
                    return Err(format!(
                        "an input has {rank} axes, and its term in `equation` {named} letters"
                    ));
                }
            };
            longest = longest.max(ellipsis);
            terms.push(term.labels(ellipsis));
        }
        let result = match &self.result {
            Some(result) => result.labels(longest),
            None => self.implied(longest),
        };
        Ok((terms, result))
    }

    /// The labels of a result that the equation does not name.
    fn implied(&self, ellipsis: usize) -> Vec<Label> {
        let all: Vec<char> = self.operands.iter().flat_map(Term::letters).collect();
        let is_single = |letter: &char| all.iter().filter(|other| *other == letter).count() == 1;
        let mut letters: Vec<char> = all.iter().copied().filter(is_single).collect();
        letters.sort_unstable();
        (0..ellipsis).rev().map(Label::Ellipsis).chain(letters.into_iter().map(Label::Letter)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_stands_for_the_axes_that_have_no_letter() {
        let (terms, result) = Equation::read("...ij, jk -> ...ik").unwrap().labels(&[4, 2]).unwrap();
        let [i, j, k] = ['i', 'j', 'k'].map(Label::Letter);
        assert_eq!(terms, [vec![Label::Ellipsis(1), Label::Ellipsis(0), i, j], vec![j, k]]);
        assert_eq!(result, [Label::Ellipsis(1), Label::Ellipsis(0), i, k]);
    }

    #[test]
    fn a_result_that_is_not_named_has_the_letters_that_are_there_once() {
        let (_, result) = Equation::read("b...a,bc").unwrap().labels(&[3, 2]).unwrap();
        assert_eq!(result, [Label::Ellipsis(0), Label::Letter('a'), Label::Letter('c')]);
    }

    #[test]
    fn wrong_equations_are_errors() {
        assert!(Equation::read("ij->ii").unwrap_err().contains("twice"));
        assert!(Equation::read("ij->k").unwrap_err().contains("only in its result"));
        assert!(Equation::read("i1").unwrap_err().contains("`1`"));
        assert!(Equation::read("ij,jk").unwrap().labels(&[2]).is_err());
        assert!(Equation::read("ij").unwrap().labels(&[3]).is_err());
        assert!(Equation::read("i...j").unwrap().labels(&[1]).is_err());
    }
}
