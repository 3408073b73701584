//! `onnxd serve`: runs the server until a signal arrives, and handles signals and process limits. The parts of the
//! server are built and drained in `server`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};
use signal_hook::iterator::Signals;

use super::{allocator, logging};
use crate::config::ServeFlags;
use crate::model::ModelSource;
use crate::server::{Server, Settings};

/// Serves until a signal or a stuck run. The exit code is 0 after a signal and a complete drain, 3 ([`STUCK`]) after a
/// stuck run, and 1 after an error, which also includes a drain that took too long.
pub fn run(flags: &ServeFlags) -> ExitCode {
    allocator::settle();
    if let Err(error) = logging::start(&flags.log, flags.limits.max_log_bytes) {
        eprintln!("onnxd: {error}");
        return ExitCode::FAILURE;
    }
    match serve(flags) {
        Ok(Ended::BySignal) => ExitCode::SUCCESS,
        Ok(Ended::ByStuckRun) => ExitCode::from(STUCK),
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a server that ended because a run took longer than `--stuck-timeout`.
const STUCK: u8 = 3;

/// Why a server ended without an error.
enum Ended {
    BySignal,
    ByStuckRun,
}

fn serve(flags: &ServeFlags) -> Result<Ended, String> {
    let settings = Settings::try_from(flags)?;
    // This comes first, because signals have no default action for a process with PID 1, as in a container.
    let starting = Arc::new(AtomicBool::new(true));
    let mut signals = signals(&starting).map_err(|error| format!("cannot listen for signals: {error}"))?;
    raise_file_limit(&settings);
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        log::warn!("RUST_BACKTRACE is set: every failed inference will cost a backtrace");
    }
    if settings.model == ModelSource::Program {
        log::info!(
            "no model is named, and there is no folder `model` here: serving digits, which is part of this program; \
             to serve your own: onnxd serve PATH, with the path of an .onnx file or of a folder that holds one"
        );
    }
    let loaded = || starting.store(false, Ordering::SeqCst);
    let server = Server::start_after(settings, loaded).map_err(|error| error.to_string())?;
    // A closed list of signals ends the wait for one.
    let handle = signals.handle();
    server
        .watch_for_stuck_runs(move || handle.close())
        .map_err(|error| format!("cannot watch for stuck runs: {error}"))?;
    let Some(signal) = wait(&mut signals, &server) else {
        // No --drain-delay here: perhaps all workers are stuck, and nothing could be served during the delay.
        server.drain("a run that does not end");
        return Ok(Ended::ByStuckRun);
    };
    if !server.drain_delay().is_zero() {
        server.leave(signal);
        serve_on(&mut signals, &server);
    }
    let drained = server.drain(signal);
    if !drained.is_clean() {
        return Err(format!(
            "the drain took longer than --drain-timeout: {} connections were cut, {} workers were still running",
            drained.cut, drained.stuck
        ));
    }
    log::info!("stopped");
    Ok(Ended::BySignal)
}

/// Registers the signals. `starting` is true while models are fetched and loaded.
///
/// While starting, SIGTERM and SIGINT end the program at once with code 0: no connection was accepted, a download
/// continues at the next start, and a slow network cannot delay the stop. Later, the first of them starts the drain,
/// and a second one ends the program with 128 plus the signal's number, as shells report it.
fn signals(starting: &Arc<AtomicBool>) -> std::io::Result<Signals> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 0, starting.clone())?;
        register_conditional_shutdown(signal, 128 + signal, stopping.clone())?;
        register(signal, stopping.clone())?;
    }
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}

/// Waits for SIGTERM or SIGINT, and returns its name. `None` when a stuck run ended the wait. SIGHUP reloads.
fn wait(signals: &mut Signals, server: &Server) -> Option<&'static str> {
    for signal in signals.forever() {
        if signal == SIGHUP {
            server.reload();
        } else {
            return Some(signal_hook::low_level::signal_name(signal).unwrap_or("a signal"));
        }
    }
    None
}

/// Continues to serve for `--drain-delay`. SIGHUP still reloads. A second SIGTERM or SIGINT ends the program.
fn serve_on(signals: &mut Signals, server: &Server) {
    const LOOK: Duration = Duration::from_millis(100);
    let end = Instant::now() + server.drain_delay();
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::sleep(left.min(LOOK));
        if signals.pending().any(|signal| signal == SIGHUP) {
            server.reload();
        }
    }
}

/// Raises the soft limit of file descriptors to what is needed, or to the hard limit. Warns when that is not enough.
fn raise_file_limit(settings: &Settings) {
    let needed = descriptors(settings);
    let limit = getrlimit(Resource::Nofile);
    let (Some(current), most) = (limit.current, limit.maximum.unwrap_or(u64::MAX)) else { return };
    if current >= needed {
        return;
    }
    let raised = Rlimit { current: Some(needed.min(most)), maximum: limit.maximum };
    let allowed = if setrlimit(Resource::Nofile, raised).is_ok() { needed.min(most) } else { current };
    if allowed < needed {
        log::warn!(
            "{} connections need {needed} file descriptors when all of them wait for replies, but {allowed} are \
             allowed: raise `ulimit -n`, or lower --max-connections",
            settings.limits.max_connections
        );
    }
}

/// The number of file descriptors that the server needs at most. Each connection has one, and one more (its bell) while
/// it waits for a reply. Without its bell, a connection would poll for the reply a thousand times a second.
fn descriptors(settings: &Settings) -> u64 {
    /// Descriptors for models, logs, listeners and the program itself.
    const OTHERS: u64 = 256;
    let private = if settings.ops_listen.is_some() { settings.limits.max_ops_connections as u64 } else { 0 };
    2 * settings.limits.max_connections as u64 + private + OTHERS
}
