//! The queue of log lines, and the thread that writes them to standard output. How a line looks is decided in
//! `logging`.
//!
//! When nobody reads standard output, a write to it blocks without end. So no other thread writes to it.
//!
//! Invariants: logging never waits for the output. The queue is bounded. When it is full, new lines are dropped and
//! counted, and the next write that succeeds reports their number.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// The queue of the lines of all threads. The lines of one thread stay in order.
pub struct Queue {
    state: Mutex<State>,
    /// Notified after each line and after each write.
    changed: Condvar,
    /// The limit in bytes for all lines, including those that are being written.
    most: usize,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that the thread is writing. At least 1 during a write.
    writing: usize,
    /// Lines that were dropped since the last report.
    dropped: u64,
}

impl Queue {
    /// Makes a queue of at most `most` bytes and starts its thread, which writes to `out`. `report` makes the line that
    /// says how many lines were dropped.
    ///
    /// Fails when the thread cannot be started.
    pub fn start(
        most: usize,
        out: impl Write + Send + 'static,
        report: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Arc<Queue>> {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), most });
        let own = queue.clone();
        Builder::new().name("log".into()).spawn(move || own.write_to(out, report))?;
        Ok(queue)
    }

    /// Adds a line, which must end in a line break. Drops and counts it when there is no room. Never waits for the
    /// output.
    pub fn push(&self, line: &str) {
        let mut state = self.state();
        if state.waiting.len() + state.writing + line.len() > self.most {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(line.as_bytes());
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all lines are written, at most for `patience`.
    pub fn flush(&self, patience: Duration) {
        let is_left = |state: &mut State| state.writing > 0 || state.has_work();
        let waited = self.changed.wait_timeout_while(self.state(), patience, is_left);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn write_to(&self, mut out: impl Write, report: impl Fn(u64) -> String) {
        // The number of lines whose write failed, for example because the reader is gone.
        let mut lost = 0;
        loop {
            let (lines, dropped) = self.next();
            let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            let missing = lost + dropped;
            let told = if missing > 0 { report(missing) } else { String::new() };
            let written = out.write_all(&lines).and_then(|()| out.write_all(told.as_bytes()));
            lost = if written.and_then(|()| out.flush()).is_ok() { 0 } else { missing + count };
            self.state().writing = 0;
            self.changed.notify_all();
        }
    }

    /// Waits for lines, and takes all of them. The number is that of the lines that were dropped after them.
    fn next(&self) -> (Vec<u8>, u64) {
        let waited = self.changed.wait_while(self.state(), |state| !state.has_work());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut state.waiting);
        // At least 1, so that `flush` also waits when only a report is written.
        state.writing = lines.len().max(1);
        (lines, std::mem::take(&mut state.dropped))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.dropped > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// An output that takes a write only when the test takes it out at the other end.
    struct Slow(SyncSender<String>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue(most: usize) -> (Arc<Queue>, Receiver<String>) {
        let (sender, receiver) = sync_channel(0);
        (Queue::start(most, Slow(sender), |count| format!("dropped {count}\n")).unwrap(), receiver)
    }

    #[test]
    fn lines_beyond_the_bound_are_dropped_and_their_number_is_told_after_those_that_were_kept() {
        let (queue, output) = queue(20);
        for number in 0..100 {
            queue.push(&format!("line {number}\n"));
        }
        // The thread may or may not have taken the first line when the second one is added.
        let mut all = output.recv().unwrap();
        while !all.contains("dropped") {
            all += &output.recv().unwrap();
        }
        assert_eq!(all, "line 0\nline 1\ndropped 98\n");
        queue.push("more\n");
        assert_eq!(output.recv().unwrap(), "more\n");
    }

    #[test]
    fn a_flush_waits_for_what_is_written_and_not_for_ever() {
        let (queue, output) = queue(100);
        queue.push("a\n");
        // Nobody reads: this returns all the same.
        queue.flush(Duration::from_millis(1));
        let reader = std::thread::spawn(move || output.recv().map(|line| (line, output)).unwrap());
        queue.flush(Duration::from_secs(60));
        let (line, output) = reader.join().unwrap();
        assert_eq!(line, "a\n");
        drop(output);
        // The reader is gone: nothing is left to wait for.
        queue.push("b\n");
        queue.flush(Duration::from_secs(60));
    }
}
