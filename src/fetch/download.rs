//! Downloads a file until its digest is right, also when the connection breaks. One HTTP request is in `web`; the place
//! of the finished file is in `cache`.
//!
//! The received bytes stay in a file. The next attempt continues that file, also after a restart of the program.
//! A range is requested without `If-Range`, because the digest shows whether the pieces belong together. That is more
//! reliable than a validator of the server, and also works for mirrors whose validators differ. If the digest is wrong,
//! the download starts again from the first byte. If it is wrong again, the download fails.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use http::{StatusCode, Uri};
use indicatif::HumanBytes;
use ring::rand::{SecureRandom, SystemRandom};

use super::address::Address;
use super::web::{Web, content_range};
use super::{Failure, Source};
use crate::config::Fetching;
use crate::transfer::Progress;
use crate::transfer::digest::Hashing;

/// Bytes of one read.
const PIECE: usize = 64 << 10;

/// A download that is in progress or about to start.
pub struct Download<'a> {
    source: &'a Source,
    fetching: &'a Fetching,
    progress: &'a Progress,
    /// Names the content in messages, for example `model digits`.
    what: &'a str,
    file: File,
    /// Digest and number of the bytes that are in the file.
    hashing: Hashing<io::Sink>,
    /// Whether a wrong digest may be the fault of the transfer: the file came in several pieces, or in one piece of
    /// unknown length.
    doubtful: bool,
}

impl<'a> Download<'a> {
    /// Opens `part`, or creates it, and reads what an earlier download left in it. `what` names the content in
    /// messages.
    ///
    /// Fails when the file cannot be read or written.
    pub fn open(
        source: &'a Source,
        fetching: &'a Fetching,
        progress: &'a Progress,
        what: &'a str,
        part: &Path,
    ) -> io::Result<Download<'a>> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(part)?;
        let mut hashing = Hashing::new(io::sink());
        let length = file.metadata()?.len();
        io::copy(&mut Read::by_ref(&mut file).take(length), &mut hashing)?;
        Ok(Download { source, fetching, progress, what, file, hashing, doubtful: length > 0 })
    }

    /// Downloads until the file is complete, has the right digest and is written to the disk.
    ///
    /// Repeats failed attempts. Gives up after [`Fetching::attempts`] attempts in a row that brought nothing, or after
    /// [`Fetching::patience`]. The error is never [`Failure::Again`]. After [`Failure::Spoilt`] the caller should
    /// remove the file.
    pub fn run(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        let (mut best, mut fruitless, mut anew, mut attempts) = (self.have(), 0, false, 0);
        loop {
            attempts += 1;
            let (message, wait) = match self.attempt() {
                Ok(()) if self.is_right() => return self.file.sync_all().map_err(stored),
                Ok(()) if self.doubtful && !anew => {
                    anew = true;
                    self.start_over()?;
                    best = 0;
                    self.warn("the pieces do not match sha256; downloading again from the beginning");
                    continue;
                }
                Ok(()) => return Err(self.wrong()),
                Err(Failure::Again { message, wait }) => (message, wait),
                Err(lasting) => return Err(lasting),
            };
            fruitless = if self.have() > best { 1 } else { fruitless + 1 };
            best = best.max(self.have());
            if fruitless >= self.fetching.attempts || begun.elapsed() >= self.fetching.patience {
                let kept = match self.have() {
                    0 => String::new(),
                    have => format!(", {} are kept for the next start", HumanBytes(have)),
                };
                return Err(Failure::Final(format!("{message}; given up after {attempts} attempts{kept}")));
            }
            let wait = wait.map_or_else(|| self.back_off(fruitless), |said| not_at_once(said, fruitless));
            let then = match self.have() {
                0 => "again".to_owned(),
                have => format!("going on from {}", HumanBytes(have)),
            };
            self.warn(&format!("{message}; {then} in {} ms", wait.as_millis()));
            std::thread::sleep(wait);
        }
    }

    fn have(&self) -> u64 {
        self.hashing.written()
    }

    fn is_right(&self) -> bool {
        self.hashing.digest() == self.source.sha256
    }

    fn warn(&self, line: &str) {
        self.progress.warn(&format!("{}: {line}", self.what));
    }

    /// The wait before the next attempt. It doubles after each attempt that brought nothing. A random factor between
    /// 0.5 and 1 prevents many servers from asking at the same moment.
    fn back_off(&self, fruitless: u32) -> Duration {
        let doubled = self.fetching.first_wait.saturating_mul(1 << (fruitless - 1).min(16));
        let mut random = [0; 1];
        // Without random numbers the factor is 1.
        let share =
            SystemRandom::new().fill(&mut random).map_or(1.0, |()| 0.5 + f64::from(random[0]) / 510.0);
        doubled.min(self.fetching.longest_wait).mul_f64(share)
    }

    fn wrong(&self) -> Failure {
        Failure::Spoilt(format!(
            "the content of {} is not what sha256 says: expected {}, but {} came ({} bytes). Is it another version? \
             If you want this one, set sha256 to its digest",
            self.source.address,
            self.source.sha256.hex(),
            self.hashing.digest().hex(),
            self.have()
        ))
    }

    fn start_over(&mut self) -> Result<(), Failure> {
        if self.have() > 0 {
            self.file.set_len(0).map_err(stored)?;
            self.file.seek(SeekFrom::Start(0)).map_err(stored)?;
            self.hashing = Hashing::new(io::sink());
        }
        self.doubtful = false;
        Ok(())
    }

    fn attempt(&mut self) -> Result<(), Failure> {
        // An earlier start may have received everything and ended before the file was moved.
        if self.have() > 0 && self.is_right() {
            return Ok(());
        }
        match &self.source.address {
            Address::File(path) => self.copy(path),
            Address::Web(uri) => self.ask(uri),
        }
    }

    fn copy(&mut self, path: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::Final(format!("{}: {error}", path.display()));
        self.start_over()?;
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Failure::Final(format!("{}: expected a file", path.display())));
        }
        self.receive(file, Some(metadata.len()))
    }

    fn ask(&mut self, uri: &Uri) -> Result<(), Failure> {
        let response = Web::new(self.fetching).map_err(Failure::Final)?.get(uri, self.have())?;
        let range = content_range(response.headers());
        let total = match (response.status(), range) {
            (StatusCode::PARTIAL_CONTENT, Some((begin, total))) if begin == self.have() => {
                self.doubtful = begin > 0;
                total.or_else(|| response.body().content_length().map(|length| begin + length))
            }
            (StatusCode::OK, _) => {
                if self.have() > 0 {
                    self.warn("the server does not continue the download; starting again from the beginning");
                }
                self.start_over()?;
                response.body().content_length()
            }
            // The server's file is shorter than what is here, or the range is not the requested one.
            (status, _) => {
                self.start_over()?;
                let message =
                    format!("{}: HTTP {status} does not continue what is here", self.source.address);
                return Err(Failure::again(message));
            }
        };
        self.receive(response.into_body().into_with_config().limit(u64::MAX).reader(), total)
    }

    /// Appends the content to the file. `total` is the size of the whole file in bytes, if it is known.
    fn receive(&mut self, mut content: impl Read, total: Option<u64>) -> Result<(), Failure> {
        let most = self.fetching.max_download_bytes;
        if let Some(total) = total.filter(|total| *total > most) {
            return Err(self.too_large(&format!("has {total} bytes")));
        }
        self.doubtful |= total.is_none();
        let mut transfer = self.progress.show(self.what, total, self.have());
        let mut piece = vec![0; PIECE];
        loop {
            let length = match content.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.cut(&error.to_string(), total)),
            };
            if self.have() + length as u64 > most {
                return Err(self.too_large("has more"));
            }
            self.file.write_all(&piece[..length]).map_err(stored)?;
            self.hashing.write_all(&piece[..length]).map_err(stored)?;
            transfer.tell(self.have());
        }
        match total {
            Some(total) if self.have() < total => Err(self.cut("it ended early", Some(total))),
            _ => Ok(()),
        }
    }

    fn cut(&self, why: &str, total: Option<u64>) -> Failure {
        let of = total.map(|total| format!(" of {}", HumanBytes(total))).unwrap_or_default();
        let silence = if why.contains("timeout") {
            format!(" (nothing came for {:?})", self.fetching.silence)
        } else {
            String::new()
        };
        Failure::again(format!(
            "{} was cut after {}{of}: {why}{silence}",
            self.source.address,
            HumanBytes(self.have())
        ))
    }

    fn too_large(&self, how_large: &str) -> Failure {
        Failure::Spoilt(format!(
            "{} {how_large}, but {} is the most: raise --max-download-bytes, if that is intended",
            self.source.address, self.fetching.max_download_bytes
        ))
    }
}

/// The wait that a server asked for, but at least 100 ms. The minimum doubles with each attempt that brought nothing,
/// so a server that always answers "now" is asked less and less often.
fn not_at_once(said: Duration, fruitless: u32) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(100);
    said.max(SHORTEST * (1 << (fruitless - 1).min(6)))
}

/// The failure for an error of the cache's disk. When the disk is full, the download is removed.
pub fn stored(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Failure::Spoilt(
            format!("there is no room for it ({error}): free some space, or name another folder by --cache"),
        ),
        _ => Failure::Final(format!("it cannot be kept: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_now_each_time_is_asked_ever_less_often() {
        let waits: Vec<u128> =
            (1..=8).map(|fruitless| not_at_once(Duration::ZERO, fruitless).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 6400]);
        assert_eq!(not_at_once(Duration::from_secs(7), 3), Duration::from_secs(7));
    }
}
