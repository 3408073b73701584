//! The command line: one file a subcommand.

/// What commands print may hold text from a file, a registry or a server. In this room these two take the place of the
/// standard macros of the same names, so that no line can be printed that was not made safe by [`crate::plain`].
/// A reader that is gone is no reason to panic.
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
    /// Load a model, warm it up, and tell what it takes and gives
    Check(check::CheckFlags),
    /// Ask a running server whether it is ready: exit 0 when it is, 1 when not
    Healthcheck(healthcheck::HealthcheckFlags),
    /// Make a container image of a model and this program, without Docker; write it or push it
    Pack(Box<pack::PackFlags>),
}

/// Runs the command; the exit code is 0 for success, 1 for failure, and clap's 2 for wrong usage.
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
