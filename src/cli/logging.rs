//! The logger: lines to standard output, as text or as JSON, written by a thread of their own.
//!
//! ERROR: the server or an operator must act. WARN: a peer or a model is off, the server copes. INFO:
//! what happens to the server and to conversations; never payloads, query strings or tokens. DEBUG:
//! each connection and request. tract and the libraries of HTTP and WebSocket speak at WARN and above
//! unless they are named.
//!
//! A record is one line, whatever is in it: control characters are shown as escapes.

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

/// How long the end of the program waits for lines that are not written yet.
const LAST_LINES: Duration = Duration::from_secs(1);

struct Logger {
    filter: Filter,
    format: LogFormat,
    queue: Arc<Queue>,
}

/// Sets the logger up, with room for so many bytes of lines, and sends panics to it. Before the program ends,
/// `log::logger().flush()` lets the last lines out.
pub fn start(flags: &LogFlags, max_log_bytes: usize) -> Result<(), String> {
    if max_log_bytes == 0 {
        return Err("--max-log-bytes is 0, which would let nothing through".into());
    }
    let filter = filter(&flags.log)?;
    let format = flags.log_format;
    let failed = |error: io::Error| format!("the log cannot be written: {error}");
    // A descriptor of its own: no lock that a blocked write would hold, and no buffer.
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
    // What the parser does not understand it leaves out; a wrong setting is an error here.
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
    // tract says much; the others would say requests whole, with their secrets.
    for library in ["tract", "ureq", "ureq_proto", "tungstenite"] {
        builder.filter_module(library, LevelFilter::Warn);
    }
    // It reports as an error that its port was closed, which is how it is used here (ops::relay).
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

/// One line, with its break.
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
