//! The logger: lines to standard output, as text or as JSON.
//!
//! ERROR: the server or an operator must act. WARN: a peer or a model is off, the server copes. INFO:
//! what happens to the server and to conversations; never payloads, query strings or tokens. DEBUG:
//! each connection and request. tract and the libraries of HTTP and WebSocket speak at WARN and above
//! unless they are named.

use std::io::Write;

use env_logger::{Builder, Target};
use log::{LevelFilter, Record};
use serde::Serialize;

use crate::config::{LogFlags, LogFormat};

/// Sets the logger up, and sends panics to it.
pub fn start(flags: &LogFlags) -> Result<(), String> {
    let mut builder = Builder::new();
    // tract says much; the others would say requests whole, with their secrets.
    for library in ["tract", "ureq", "ureq_proto", "tungstenite"] {
        builder.filter_module(library, LevelFilter::Warn);
    }
    // It reports as an error that its port was closed, which is how it is used here (ops::relay).
    builder.filter_module("tiny_http", LevelFilter::Off);
    // parse_filters prints what it does not understand and goes on; a wrong setting is an error here.
    let known = |level: &str| level.parse::<LevelFilter>().is_ok();
    for directive in flags.log.split(',').filter(|directive| !directive.is_empty()) {
        let level = directive.split_once('=').map_or(directive, |(_, level)| level);
        if !known(level) {
            return Err(format!(
                "--log: `{level}` is no level: expected error, warn, info, debug, trace or off"
            ));
        }
    }
    builder.parse_filters(&flags.log).target(Target::Stdout);
    match flags.log_format {
        LogFormat::Text => builder.format(|out, record| {
            let time = out.timestamp_millis();
            writeln!(out, "{time} {:5} {} {}", record.level(), thread().as_str(), record.args())
        }),
        LogFormat::Json => builder.format(|out, record| {
            let line = json(&out.timestamp_millis().to_string(), record)?;
            writeln!(out, "{line}")
        }),
    };
    builder.try_init().map_err(|error| error.to_string())?;
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(())
}

fn json(time: &str, record: &Record<'_>) -> std::io::Result<String> {
    #[derive(Serialize)]
    struct Line<'a> {
        time: &'a str,
        level: &'a str,
        thread: String,
        target: &'a str,
        message: String,
    }
    let line = Line {
        time,
        level: record.level().as_str(),
        thread: thread(),
        target: record.target(),
        message: record.args().to_string(),
    };
    serde_json::to_string(&line).map_err(std::io::Error::other)
}

fn thread() -> String {
    std::thread::current().name().unwrap_or("-").to_owned()
}
