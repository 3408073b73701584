//! Regular expressions with the syntax and meaning of RE2, which ONNX and onnxruntime use.
//!
//! The library's syntax is almost that of RE2. A difference is a character class like `\w`, which has only ASCII characters
//! in RE2: it is written out. What has another meaning, or does not exist in RE2, is refused.

use regex_automata::nfa::thompson::pikevm::{Cache, PikeVM};
use regex_automata::nfa::thompson::{Config, NFA};
use regex_automata::{Anchored, Input, Match, MatchKind};
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{self, AssertionKind, Ast, ClassPerlKind, ClassSetItem, Flag, FlagsItemKind, Span};

/// The most bytes of a compiled expression. `(\pL{100}){100}` would need a gigabyte.
const MOST_BYTES: usize = 10 << 20;

/// A compiled regular expression.
#[derive(Debug)]
pub struct Regex {
    /// Finds the first match.
    first: PikeVM,
    /// Finds the end of the longest match that begins at a given place.
    longest: PikeVM,
}

impl Regex {
    /// Compiles an expression.
    ///
    /// Errors: it is malformed, too large, or has a part that RE2 does not have or that is not supported.
    pub fn new(pattern: &str) -> Result<Regex, String> {
        let wrong = |cause: String| format!("the regular expression `{pattern}`: {cause}");
        let pattern = to_library(pattern).map_err(wrong)?;
        let hir = regex_syntax::parse(&pattern).map_err(|error| wrong(one_line(&error)))?;
        let nfa = NFA::compiler()
            .configure(Config::new().nfa_size_limit(Some(MOST_BYTES)))
            .build_from_hir(&hir)
            .map_err(|error| wrong(one_line(&error)))?;
        let machine = |kind: MatchKind| {
            PikeVM::builder()
                .configure(PikeVM::config().match_kind(kind))
                .build_from_nfa(nfa.clone())
                .map_err(|error| wrong(one_line(&error)))
        };
        Ok(Regex { first: machine(MatchKind::LeftmostFirst)?, longest: machine(MatchKind::All)? })
    }

    /// What searches with this expression. It keeps memory between searches.
    pub fn searcher(&self) -> Searcher<'_> {
        Searcher { regex: self, first: self.first.create_cache(), longest: self.longest.create_cache() }
    }
}

/// The memory of searches with an expression.
#[derive(Debug)]
pub struct Searcher<'r> {
    regex: &'r Regex,
    first: Cache,
    longest: Cache,
}

impl Searcher<'_> {
    /// True when the expression matches all of the text.
    pub fn is_full_match(&mut self, text: &str) -> bool {
        self.longest_at(text, 0).is_some_and(|found| found.end() == text.len())
    }

    /// The leftmost match from the byte `from` on; of several that begin there, the longest. What is before `from` counts for
    /// `^` and `\b`.
    pub fn find(&mut self, text: &str, from: usize) -> Option<Match> {
        let first = self.regex.first.find(&mut self.first, Input::new(text).range(from..))?;
        self.longest_at(text, first.start())
    }

    fn longest_at(&mut self, text: &str, start: usize) -> Option<Match> {
        let input = Input::new(text).range(start..).anchored(Anchored::Yes);
        self.regex.longest.find(&mut self.longest, input)
    }
}

/// Writes an expression of RE2 as one of the library.
fn to_library(pattern: &str) -> Result<String, String> {
    let ast = Parser::new().parse(pattern).map_err(|error| one_line(&error))?;
    let mut changes = ast::visit(&ast, Changes(Vec::new()))?;
    changes.sort_unstable_by_key(|(span, _)| span.start.offset);
    let (mut written, mut at) = (String::new(), 0);
    for (span, text) in changes {
        written.push_str(&pattern[at..span.start.offset]);
        written.push_str(text);
        at = span.end.offset;
    }
    written.push_str(&pattern[at..]);
    Ok(written)
}

/// The parts of an expression that the library must get in another form.
struct Changes(Vec<(Span, &'static str)>);

impl Changes {
    fn class(&mut self, class: &ast::ClassPerl) {
        let written = match (&class.kind, class.negated) {
            (ClassPerlKind::Digit, false) => "[0-9]",
            (ClassPerlKind::Digit, true) => "[^0-9]",
            (ClassPerlKind::Space, false) => r"[\t\n\f\r ]",
            (ClassPerlKind::Space, true) => r"[^\t\n\f\r ]",
            (ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
        };
        self.0.push((class.span, written));
    }

    fn flags(flags: &ast::Flags) -> Result<(), String> {
        let unknown = flags.items.iter().any(|item| {
            matches!(item.kind, FlagsItemKind::Flag(Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace))
        });
        if unknown { Err("expected only the flags i, m, s and U of RE2".into()) } else { Ok(()) }
    }
}

impl ast::Visitor for Changes {
    type Output = Vec<(Span, &'static str)>;
    type Err = String;

    fn finish(self) -> Result<Self::Output, String> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        match ast {
            Ast::Flags(set) => Changes::flags(&set.flags),
            Ast::Group(group) => group.flags().map_or(Ok(()), Changes::flags),
            Ast::ClassPerl(class) => {
                self.class(class);
                Ok(())
            }
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::WordBoundary => {
                    self.0.push((assertion.span, r"(?-u:\b)"));
                    Ok(())
                }
                AssertionKind::NotWordBoundary => {
                    // The library allows this only where it cannot split a character.
                    Err(r"`\B` is not supported".into())
                }
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText => Ok(()),
                _ => Err(r"RE2 has no word boundaries but `\b` and `\B`".into()),
            },
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Perl(class) => {
                self.class(class);
                Ok(())
            }
            ClassSetItem::Bracketed(_) => {
                Err(r"`[` inside a class: write `\[`, which has the same meaning in RE2".into())
            }
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), String> {
        Err("`&&`, `--` and `~~` inside a class: write them with a backslash, which RE2 reads the same"
            .into())
    }
}

/// The last line of the library's error: the others draw the expression.
fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}
