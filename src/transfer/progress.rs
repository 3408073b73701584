//! Shows the progress of a transfer: a bar on a terminal, lines elsewhere. Results and errors of a command are printed
//! by
//! `cli`, not here.
//!
//! Invariant: text from outside is made safe for the terminal before it is shown.

use std::io::{self, IsTerminal, Read};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::plain;

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// For a command that a person started.
    StandardError,
    /// For the server.
    Log,
}

/// The shortest time between two lines about one transfer, when there is no bar.
const EVERY: Duration = Duration::from_secs(10);

/// Where progress is shown. Bars go to standard error, if that is a terminal; lines go to `lines`.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    lines: Lines,
}

impl Progress {
    /// Progress with lines on standard error.
    pub fn new() -> Progress {
        Progress::with(Lines::StandardError)
    }

    /// Progress with lines to `lines`.
    pub fn with(lines: Lines) -> Progress {
        Progress { terminal: io::stderr().is_terminal(), lines }
    }

    /// Starts to show a transfer of `total` bytes. `what` names it.
    pub fn begin(&self, what: &str, total: u64) -> Transfer {
        self.show(what, Some(total), 0)
    }

    /// Starts to show a transfer of which `done` bytes were moved earlier. `total` is the size of the whole in bytes,
    /// or
    /// `None` when it is not known.
    pub fn show(&self, what: &str, total: Option<u64>, done: u64) -> Transfer {
        let bar = match total {
            _ if !self.terminal => ProgressBar::hidden(),
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let style = match total {
            Some(_) => "{msg:28} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
            None => "{msg:28} {bytes} {binary_bytes_per_sec}",
        };
        bar.set_style(
            ProgressStyle::with_template(style).expect("the template is a constant").progress_chars("=> "),
        );
        bar.set_message(plain::line(what).to_string());
        bar.set_position(done);
        // Without this, the bytes that were moved earlier would count as speed.
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(200));
        let watch = (!self.terminal).then(|| Watch { what: what.into(), total, told: Instant::now() });
        Transfer { bar, watch, lines: self.lines }
    }

    /// Reports a finished step.
    pub fn say(&self, line: &str) {
        self.lines.say(line);
    }

    /// Reports a problem that does not stop the transfer.
    pub fn warn(&self, line: &str) {
        match self.lines {
            Lines::StandardError => eprintln!("{}", plain::line(line)),
            Lines::Log => log::warn!("{line}"),
        }
    }
}

impl Lines {
    fn say(self, line: &str) {
        match self {
            Lines::StandardError => eprintln!("{}", plain::line(line)),
            Lines::Log => log::info!("{line}"),
        }
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

/// One transfer that is shown. Dropping it removes its bar.
#[derive(Debug)]
pub struct Transfer {
    bar: ProgressBar,
    /// The state for lines; `None` when there is a bar.
    watch: Option<Watch>,
    lines: Lines,
}

#[derive(Debug)]
struct Watch {
    what: String,
    total: Option<u64>,
    told: Instant,
}

impl Transfer {
    /// Sets the bar to `done` bytes. Prints no line.
    pub fn at(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Sets the bar to `done` bytes. Without a bar, prints a line at most every 10 seconds.
    pub fn tell(&mut self, done: u64) {
        self.at(done);
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.told.elapsed() >= EVERY) {
            watch.told = Instant::now();
            self.lines.say(&watch.line(done));
        }
    }

    /// A reader that moves the bar by each byte that is read from `inner`.
    pub fn reading<R: Read>(&self, inner: R) -> impl Read + use<R> {
        self.bar.wrap_read(inner)
    }
}

impl Watch {
    fn line(&self, done: u64) -> String {
        let (what, bytes) = (&self.what, HumanBytes(done));
        match self.total.filter(|total| *total > 0) {
            Some(total) => {
                // 128 bits, so that the product cannot overflow.
                let percent = u128::from(done) * 100 / u128::from(total);
                format!("{what}: {bytes} of {} ({percent} %)", HumanBytes(total))
            }
            None => format!("{what}: {bytes}"),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_much_is_there_and_how_much_there_is_when_that_is_known() {
        let watch = |total| Watch { what: "digits".into(), total, told: Instant::now() };
        assert_eq!(watch(Some(4 << 20)).line(1 << 20), "digits: 1.00 MiB of 4.00 MiB (25 %)");
        assert_eq!(watch(Some(0)).line(0), "digits: 0 B");
        assert_eq!(watch(None).line(1 << 20), "digits: 1.00 MiB");
    }
}
