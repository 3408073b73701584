//! From an address to a file with the right digest, however often the line breaks.
//!
//! What came stays in a file that the next attempt goes on with, and the next start of the program too.
//! A range is asked for without `If-Range`: the digest says whether the pieces belong together, which is
//! more than a validator of the server could, and holds for mirrors whose validators differ as well. When it
//! says no, everything is fetched once more from the first byte, and the second no is final.

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

/// What is read at once.
const PIECE: usize = 64 << 10;

/// A download under way.
pub struct Download<'a> {
    source: &'a Source,
    fetching: &'a Fetching,
    progress: &'a Progress,
    /// For people: whose content it is.
    what: &'a str,
    file: File,
    /// Of what is in the file, and how much that is.
    hashing: Hashing<io::Sink>,
    /// Whether what is in the file came in more than one piece, or in one whose end nobody told.
    doubtful: bool,
}

impl<'a> Download<'a> {
    /// Takes up what an earlier download left in `part`.
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

    /// Downloads to the end, with as many attempts as it takes. The file is whole then, and on the disk.
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
                    self.warn("what came in pieces does not fit sha256; once more from the beginning");
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

    /// Doubles with each fruitless attempt, and varies by half, so that a crowd does not come back as one.
    fn back_off(&self, fruitless: u32) -> Duration {
        let doubled = self.fetching.first_wait.saturating_mul(1 << (fruitless - 1).min(16));
        let mut random = [0; 1];
        // Without randomness the wait is the longer one, and nothing else.
        let share =
            SystemRandom::new().fill(&mut random).map_or(1.0, |()| 0.5 + f64::from(random[0]) / 510.0);
        doubled.min(self.fetching.longest_wait).mul_f64(share)
    }

    fn wrong(&self) -> Failure {
        Failure::Spoilt(format!(
            "what {} gives is not what sha256 says: expected {}, but {} came ({} bytes). Is it another version? \
             Then set sha256 to what came, when that is what you want",
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
        // The last start may have ended between the last byte and the next step.
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
                    self.warn("the server does not go on where it ended; from the beginning");
                }
                self.start_over()?;
                response.body().content_length()
            }
            // It has less than we have, or sends what was not asked for.
            (status, _) => {
                self.start_over()?;
                let message = format!("{}: HTTP {status} does not fit what is here", self.source.address);
                return Err(Failure::again(message));
            }
        };
        self.receive(response.into_body().into_with_config().limit(u64::MAX).reader(), total)
    }

    /// Writes what comes behind what is there.
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
            "{} {how_large}, but {} is the most: raise --max-download-bytes, if it is meant to be so large",
            self.source.address, self.fetching.max_download_bytes
        ))
    }
}

/// The wait that a server asked for: a server that says "now" each time is asked ever less often all the same.
fn not_at_once(said: Duration, fruitless: u32) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(100);
    said.max(SHORTEST * (1 << (fruitless - 1).min(6)))
}

/// An error of the place where things are kept.
pub fn stored(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Failure::Spoilt(
            format!("there is no room for it ({error}): free some, or name another folder by --cache"),
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
