//! The command line: one file for each subcommand, and what only commands need (logging, the allocator). The flags of
//! `serve` and their defaults are in `config`.
//!
//! Invariant: everything that a command prints is made safe for the terminal by [`crate::plain`].

// Printed text may come from a file, a registry or a server. In this module, these two macros replace the standard ones
// of the same names, so that no line is printed without `plain`. They ignore write errors instead of panicking, because
// the reader of the output may be gone.
macro_rules! println {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "{}", $crate::plain::block(format_args!($($text)*)));
    }};
}
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{}", $crate::plain::block(format_args!($($text)*)));
    }};
}

mod allocator;
mod check;
mod healthcheck;
mod logging;
mod pack;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::ServeFlags;

/// The ONNX daemon: a model behind a WebSocket.
#[derive(Debug, Parser)]
#[command(
    name = "onnxd",
    version,
    about,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve models (what onnxd does without a subcommand)
    Serve(Box<ServeFlags>),
    /// Load a model, warm it up, and print its inputs, its outputs and its speed
    Check(check::CheckFlags),
    /// Ask a running server whether it is ready: exit 0 when it is, 1 when not
    Healthcheck(healthcheck::HealthcheckFlags),
    /// Make a container image of a model and this program, without Docker; write it or push it
    Pack(Box<pack::PackFlags>),
}

/// Reads the command line, runs the command and writes the last log lines. The exit code is 0 for success, 1 for
/// failure, 2 for a wrong command line, and 3 when `serve` ended because of `--stuck-timeout`.
pub fn run() -> ExitCode {
    let Arguments { command, serve } = Arguments::parse();
    let code = match command {
        None => serve::run(&serve),
        Some(Command::Serve(flags)) => serve::run(&flags),
        Some(Command::Check(flags)) => check::run(&flags),
        Some(Command::Healthcheck(flags)) => healthcheck::run(&flags),
        Some(Command::Pack(flags)) => pack::run(&flags),
    };
    log::logger().flush();
    code
}
