//! How far a transfer is: a bar on a terminal, lines elsewhere.

use std::io::{self, IsTerminal, Read};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::plain;

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// Of a command that somebody waits for.
    StandardError,
    /// Of a server.
    Log,
}

/// How often a transfer that is watched tells how far it is, where there is no bar.
const EVERY: Duration = Duration::from_secs(10);

/// Shows transfers on standard error, or tells of them in the log.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    lines: Lines,
}

impl Progress {
    /// For a command that somebody waits for.
    pub fn new() -> Progress {
        Progress::with(Lines::StandardError)
    }

    pub fn with(lines: Lines) -> Progress {
        Progress { terminal: io::stderr().is_terminal(), lines }
    }

    /// Begins to show a transfer of `total` bytes.
    pub fn begin(&self, what: &str, total: u64) -> Transfer {
        self.show(what, Some(total), 0)
    }

    /// Begins to show a transfer of which some bytes are done already, and the size may not be known.
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
        // What was done before says nothing about the speed.
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(200));
        let watch = (!self.terminal).then(|| Watch { what: what.into(), total, told: Instant::now() });
        Transfer { bar, watch, lines: self.lines }
    }

    /// A step is done.
    pub fn say(&self, line: &str) {
        self.lines.say(line);
    }

    /// Something is off, and is coped with.
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

/// One transfer; what it shows goes away with it.
#[derive(Debug)]
pub struct Transfer {
    bar: ProgressBar,
    /// What to tell in lines, where there is no bar.
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
    /// So many bytes are done.
    pub fn at(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// So many bytes are done; without a bar a line says so now and then.
    pub fn tell(&mut self, done: u64) {
        self.at(done);
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.told.elapsed() >= EVERY) {
            watch.told = Instant::now();
            self.lines.say(&watch.line(done));
        }
    }

    /// Counts what is read on.
    pub fn reading<R: Read>(&self, inner: R) -> impl Read + use<R> {
        self.bar.wrap_read(inner)
    }
}

impl Watch {
    fn line(&self, done: u64) -> String {
        let (what, bytes) = (&self.what, HumanBytes(done));
        match self.total.filter(|total| *total > 0) {
            Some(total) => {
                // In 128 bits, so that no size overflows.
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
