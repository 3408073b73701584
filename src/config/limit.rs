//! What a limit is: a name, a unit, a default and a reason. The macro `limits!` turns the list in `limits.rs` into
//! the fields of `Limits`, the flags and the environment variables.
//!
//! The list itself does not belong here; this file knows no single limit.

use std::time::Duration;

use clap::{Arg, ArgAction, value_parser};

use super::duration::{duration, duration_or_never};

/// Bytes, written as a plain number.
pub type Bytes = usize;
/// A number of things: connections, requests, files.
pub type Count = usize;
/// Pixels of an image: width × height.
pub type Pixels = u64;

/// What the number of a limit counts. Each variant has the name of a type, which the field in `Limits` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Count,
    Pixels,
    /// Counted in milliseconds; written with a unit of time, for example `30s`.
    Duration,
}

/// Whether the user may set a limit to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    /// 0 has a meaning of its own, for example "never". The help says which.
    Allowed,
    /// With 0 the server could not work.
    Refused,
}

/// A limit as the user meets it: in `onnxd serve --help` and in `docs/operations.md`.
#[derive(Debug)]
pub struct Limit {
    /// The name of the field in `Limits`, and of the argument: `max_files`.
    pub field: &'static str,
    /// The flag without its dashes: `max-files`.
    pub flag: String,
    /// The placeholder for the value in the help: `MAX_FILES`.
    pub placeholder: String,
    /// The environment variable: `ONNXD_MAX_FILES`.
    pub variable: String,
    /// One sentence for the help: the first paragraph of the field's documentation, and a described default.
    pub help: String,
    /// Why the limit has this default: the rest of the field's documentation.
    pub reason: String,
    pub unit: Unit,
    pub zero: Zero,
    /// The default as a flag has it: `65536` or `30s`. For a described default, the one on this machine.
    pub default: String,
    /// The default in the documentation: `64 KiB` or `30 s`; or in words, when it depends on something else.
    pub documented_default: String,
    is_described: bool,
}

/// A limit as the list declares it.
#[derive(Debug)]
pub struct Declared {
    pub field: &'static str,
    /// The documentation of the field, one line after the other.
    pub documentation: &'static str,
    pub unit: Unit,
    pub zero: Zero,
    /// The default in words when it depends on the memory or on another limit; otherwise empty.
    pub described: &'static str,
}

impl Limit {
    /// `default` is counted in the unit of the limit.
    pub fn new(declared: &Declared, default: u64) -> Limit {
        let (help, reason) = declared.documentation.split_once("\n\n").unwrap_or_default();
        let mut help = one_line(help);
        let is_described = !declared.described.is_empty();
        if is_described {
            help.push_str(&format!(" [default: {}]", declared.described));
        }
        let placeholder = declared.field.to_uppercase();
        Limit {
            field: declared.field,
            flag: declared.field.replace('_', "-"),
            variable: format!("ONNXD_{placeholder}"),
            placeholder,
            help,
            reason: one_line(reason),
            unit: declared.unit,
            zero: declared.zero,
            default: declared.unit.as_flag(default),
            documented_default: if is_described {
                declared.described.to_owned()
            } else {
                declared.unit.as_documented(default)
            },
            is_described,
        }
    }

    /// The flag for clap. A described default is not given to clap: [`super::Limits`] computes it after parsing.
    pub fn arg(&'static self) -> Arg {
        let arg = Arg::new(self.field)
            .long(self.flag.as_str())
            .env(self.variable.as_str())
            .value_name(self.placeholder.as_str())
            .help(self.help.as_str())
            .action(ArgAction::Set);
        let arg = match (self.unit, self.zero) {
            (Unit::Duration, Zero::Allowed) => arg.value_parser(duration_or_never),
            (Unit::Duration, Zero::Refused) => arg.value_parser(duration),
            (Unit::Bytes | Unit::Count, _) => arg.value_parser(value_parser!(usize)),
            (Unit::Pixels, _) => arg.value_parser(value_parser!(u64)),
        };
        if self.is_described { arg } else { arg.default_value(self.default.as_str()) }
    }
}

impl Unit {
    /// As the user writes it in a flag: `65536`, `30s`, `500ms`, `0`.
    fn as_flag(self, amount: u64) -> String {
        match self {
            Unit::Duration if amount == 0 => "0".to_owned(),
            Unit::Duration if amount.is_multiple_of(1000) => format!("{}s", amount / 1000),
            Unit::Duration => format!("{amount}ms"),
            Unit::Bytes | Unit::Count | Unit::Pixels => amount.to_string(),
        }
    }

    /// As the documentation writes it: `64 KiB`, `1,024`, `25,000,000 pixels`, `30 s`, `0`.
    pub fn as_documented(self, amount: u64) -> String {
        match self {
            Unit::Bytes => {
                let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
                let unit = units.iter().find(|(size, _)| amount > 0 && amount.is_multiple_of(*size));
                unit.map_or_else(
                    || format!("{amount} bytes"),
                    |(size, unit)| format!("{} {unit}", amount / size),
                )
            }
            Unit::Count => thousands(amount),
            Unit::Pixels => format!("{} pixels", thousands(amount)),
            Unit::Duration if amount == 0 => "0".to_owned(),
            Unit::Duration if amount.is_multiple_of(1000) => format!("{} s", amount / 1000),
            Unit::Duration => format!("{amount} ms"),
        }
    }
}

/// A value of a limit as a number: a duration in milliseconds, everything else as it is.
pub trait Amount {
    fn amount(self) -> u64;
}

impl Amount for usize {
    fn amount(self) -> u64 {
        self as u64
    }
}

impl Amount for u64 {
    fn amount(self) -> u64 {
        self
    }
}

impl Amount for Duration {
    fn amount(self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
}

/// `1024` as `1,024`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// The lines of a paragraph as one line, without the full stop at its end.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_suffix('.').map(str::to_owned).unwrap_or(line)
}

/// Declares the limits. Each has this form:
///
/// ```text
/// /// The help, one sentence.
/// ///
/// /// The reason for the default.
/// name: Unit, zero Refused, default 1 << 20;
/// ```
///
/// A default that depends on `memory` (the bytes that the process may have) or on a limit above it also has words that
/// describe it, for the help and the documentation: `default max_memory.min(1 << 20), "1 MiB, or …";`
///
/// This makes the struct `Limits`, its defaults, its flags, and the table of all limits.
macro_rules! limits {
    ($memory:ident; $(
        $(#[doc = $doc:literal])+
        $field:ident: $unit:ident, zero $zero:ident, default $default:expr $(, $described:literal)?;
    )+) => {
        /// Every limit of the server. Cheap to clone; `server` hands it to those who need it.
        #[derive(Debug, Clone)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $field: $unit,)+
        }

        impl Limits {
            /// The defaults for a process that may have so many bytes of memory.
            pub fn within(memory: u64) -> Limits {
                Limits::set(memory, None)
            }

            /// The values that were `given` as flags or variables, and the defaults for the rest.
            fn set(memory: u64, given: Option<&ArgMatches>) -> Limits {
                let $memory = usize::try_from(memory).unwrap_or(usize::MAX);
                $(
                    let value = given.and_then(|flags| flags.get_one::<$unit>(stringify!($field)));
                    let $field: $unit = value.copied().unwrap_or_else(|| $default);
                )+
                Limits { $($field),+ }
            }

            /// The values in the order of the declarations, each counted in its unit.
            fn amounts(&self) -> Vec<u64> {
                vec![$(self.$field.amount()),+]
            }
        }

        /// The declarations, in the order of the help.
        const DECLARED: &[Declared] = &[$(Declared {
            field: stringify!($field),
            documentation: concat!($($doc, "\n"),+),
            unit: Unit::$unit,
            zero: Zero::$zero,
            described: concat!($($described)?),
        }),+];
    };
}
pub(super) use limits;
