//! Makes foreign text safe to show. Text from a registry, a server, a client or a file can contain control characters,
//! and could use them to move the cursor, to change earlier output or to add lines to a log.
//!
//! [`line()`] is for text that must stay on one line; the logger uses it for every line. [`block`] keeps line breaks, for
//! the reports of commands. A character that is not printable is shown as an escape such as `\u{1b}`. It is not removed,
//! because readers must see that it was there.

use std::fmt::{self, Display, Write};

/// Shows `text` on one line: line breaks and tabs become escapes too.
pub fn line<T: Display>(text: T) -> impl Display {
    Plain { text, breaks: Breaks::Escaped }
}

/// Shows `text` with its line breaks and tabs.
pub fn block<T: Display>(text: T) -> impl Display {
    Plain { text, breaks: Breaks::Kept }
}

/// Removes the byte order mark that some editors write at the start of a file.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// The byte order mark.
const MARK: char = '\u{feff}';

/// What happens to line breaks and tabs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Breaks {
    Kept,
    Escaped,
}

struct Plain<T> {
    text: T,
    breaks: Breaks,
}

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { to: f, breaks: self.breaks }, "{}", self.text)
    }
}

struct Escaping<'a, 'b> {
    to: &'a mut fmt::Formatter<'b>,
    breaks: Breaks,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut shown = 0;
        for (at, character) in text.char_indices().filter(|(_, character)| is_unsafe(*character)) {
            if self.breaks == Breaks::Kept && matches!(character, '\n' | '\t') {
                continue;
            }
            self.to.write_str(&text[shown..at])?;
            write!(self.to, "{}", character.escape_default())?;
            shown = at + character.len_utf8();
        }
        self.to.write_str(&text[shown..])
    }
}

/// True for control characters (C0, DEL and C1), for characters that end a line, and for those that change the direction
/// of writing.
fn is_unsafe(character: char) -> bool {
    let turns =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns || matches!(character, '\u{2028}' | '\u{2029}' | MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_could_control_a_terminal_or_add_a_line_are_shown_as_escapes() {
        for (text, shown) in [
            ("plain, größer, 数字 🙂 \\ \"", "plain, größer, 数字 🙂 \\ \""),
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}"),
            ("a\r\nb\tc", r"a\r\nb\tc"),
            ("\u{9b}2J\u{7f}\0", r"\u{9b}2J\u{7f}\u{0}"),
            ("\u{202e}gnp.exe\u{2028}\u{feff}", r"\u{202e}gnp.exe\u{2028}\u{feff}"),
        ] {
            assert_eq!(line(text).to_string(), shown);
        }
        assert_eq!(block("a\n\tb\u{1b}[1m\r").to_string(), "a\n\tb\\u{1b}[1m\\r");
    }

    #[test]
    fn a_byte_order_mark_is_removed_only_at_the_start_of_a_text() {
        assert_eq!(without_mark("\u{feff}a\u{feff}"), "a\u{feff}");
        assert_eq!(without_mark("a"), "a");
    }
}
