//! How far a transfer is: a bar on a terminal, a line at its end elsewhere.

use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows transfers on standard error.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { terminal: io::stderr().is_terminal() }
    }

    /// Begins to show a transfer of `total` bytes.
    pub fn begin(&self, what: &str, total: u64) -> Transfer {
        let bar = if self.terminal { ProgressBar::new(total) } else { ProgressBar::hidden() };
        let style = "{msg:28} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        bar.set_style(
            ProgressStyle::with_template(style).expect("the template is a constant").progress_chars("=> "),
        );
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Transfer { bar }
    }

    /// A step is done.
    pub fn say(&self, line: &str) {
        eprintln!("{line}");
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
}

impl Transfer {
    /// So many bytes are done.
    pub fn at(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Counts what is read on.
    pub fn reading<R: Read>(&self, inner: R) -> impl Read + use<R> {
        self.bar.wrap_read(inner)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
