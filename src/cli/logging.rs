//! The logger: makes each record a line of text or JSON and puts it into the queue of the thread that writes to
//! standard output. That thread is in `queue`.
//!
//! | level | what it is for |
//! |---|---|
//! | ERROR | somebody must act |
//! | WARN | something is wrong with a client or a model, and the server continues |
//! | INFO | events of the server and of conversations |
//! | DEBUG | each connection and request |
//!
//! tract and the libraries for HTTP and WebSocket log only at WARN and above, unless `--log` names them.
//!
//! Invariants: a record is one line, because control characters are written as escapes. No line has a payload, a query
//! string or a token.

mod queue;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use env_filter::Filter;
use jiff::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Serialize;

use crate::config::{LogFlags, LogFormat};
use crate::panics::panic_message;
use crate::plain;
use queue::Queue;

/// The longest time that the end of the program waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

struct Logger {
    filter: Filter,
    format: LogFormat,
    queue: Arc<Queue>,
}

/// Starts the logger, and logs panics as errors. `max_log_bytes` limits the lines that wait to be written; lines above
/// that are dropped and counted. Call `log::logger().flush()` before the program ends, to write the last lines.
///
/// Fails when `--log` has an unknown level, when `max_log_bytes` is 0, when standard output is closed, or at the second
/// call.
pub fn start(flags: &LogFlags, max_log_bytes: usize) -> Result<(), String> {
    if max_log_bytes == 0 {
        return Err("--max-log-bytes is 0, which would let nothing through".into());
    }
    let filter = filter(&flags.log)?;
    let format = flags.log_format;
    let failed = |error: io::Error| format!("the log cannot be written: {error}");
    // An own descriptor instead of `io::stdout()`: that has a buffer, and a lock that a blocked write would hold.
    let out = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
    let report = move |count| {
        let message = format!("{count} lines of the log were dropped: standard output was not read in time");
        line(format, Level::Warn, module_path!(), &message)
    };
    let queue = Queue::start(max_log_bytes, out, report).map_err(failed)?;
    log::set_max_level(filter.filter());
    log::set_boxed_logger(Box::new(Logger { filter, format, queue })).map_err(|error| error.to_string())?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        log::error!("panicked at {place}: {}", panic_message(panic.payload()));
    }));
    Ok(())
}

fn filter(directives: &str) -> Result<Filter, String> {
    // env_filter ignores a level that it does not know. Here it is an error.
    let known = |level: &str| level.parse::<LevelFilter>().is_ok();
    for directive in directives.split(',').filter(|directive| !directive.is_empty()) {
        let level = directive.split_once('=').map_or(directive, |(_, level)| level);
        if !known(level) {
            return Err(format!(
                "--log: `{level}` is no level: expected error, warn, info, debug, trace or off"
            ));
        }
    }
    let mut builder = env_filter::Builder::new();
    // tract logs very much. The others log whole requests, with their secrets.
    for library in ["tract", "ureq", "ureq_proto", "tungstenite"] {
        builder.filter_module(library, LevelFilter::Warn);
    }
    // tiny_http logs an error when its port closes, which is normal here (ops::relay).
    builder.filter_module("tiny_http", LevelFilter::Off);
    Ok(builder.parse(directives).build())
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter.matches(record) {
            let message = record.args().to_string();
            self.queue.push(&line(self.format, record.level(), record.target(), &message));
        }
    }

    fn flush(&self) {
        self.queue.flush(LAST_LINES);
    }
}

/// One line of the log, with its line break.
fn line(format: LogFormat, level: Level, target: &str, message: &str) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: &'a str,
        level: &'a str,
        thread: &'a str,
        target: &'a str,
        message: &'a str,
    }
    let time = format!("{:.3}", Timestamp::now());
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("-");
    let message = plain::line(message).to_string();
    let text = match format {
        LogFormat::Text => format!("{time} {level:5} {thread} {message}"),
        LogFormat::Json => {
            let line = Line { time: &time, level: level.as_str(), thread, target, message: &message };
            serde_json::to_string(&line).unwrap_or_default()
        }
    };
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_in_both_forms_whatever_is_in_it() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = line(format, Level::Info, "t", "a\nERROR b\u{1b}[2J\u{9b}");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(!line.trim_end().contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn libraries_that_would_say_too_much_are_quiet_unless_they_are_named() {
        let enabled = |directives: &str, target: &str| {
            let metadata = Metadata::builder().level(Level::Debug).target(target).build();
            filter(directives).unwrap().enabled(&metadata)
        };
        assert!(enabled("debug", "onnxd::net") && !enabled("debug", "tungstenite::protocol"));
        assert!(enabled("info,tungstenite=debug", "tungstenite::protocol"));
        assert!(filter("info,x=loud").err().unwrap().contains("`loud` is no level"));
    }
}
