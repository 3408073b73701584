//! Loading models again while they are served: at SIGHUP, or when their files have changed.
//!
//! What is new is loaded and warmed up beside the old, and then put in its place at once; no request waits for it.
//! A conversation keeps the version that it began with until it ends, or until `--reload-drain` has passed, when it is
//! closed with 1012 (service restart) behind its last answer. What cannot be loaded changes nothing.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::inference::{Changes, Fingerprint, Loader, Models, Workers};
use crate::net::connections::Connections;

/// What a reload needs.
pub struct Reloader {
    pub loader: Loader,
    /// Gone when the server is.
    pub models: Weak<Models>,
    pub workers: Arc<Workers>,
    pub connections: Arc<Connections>,
    /// How often to look for changed files.
    pub watch: Option<Duration>,
    /// How long conversations may go on with a version that was replaced.
    pub drain: Option<Duration>,
}

impl Reloader {
    /// Starts its thread; what is sent to it asks for a reload. It ends when the sender is dropped, and is not waited
    /// for: a download may be under way.
    pub fn start(self) -> io::Result<Sender<()>> {
        // One may wait while one is under way: it sees all that has changed until it begins.
        let (requests, receiver) = bounded(1);
        std::thread::Builder::new().name("reload".into()).spawn(move || self.run(&receiver))?;
        Ok(requests)
    }

    fn run(self, requests: &Receiver<()>) {
        let mut files = self.watch.and_then(|interval| Files::new(&self.loader, interval));
        // When conversations with a replaced model are told to end.
        let mut ends: VecDeque<Instant> = VecDeque::new();
        loop {
            let due = ends.front().copied().into_iter().chain(files.as_ref().map(|files| files.next)).min();
            let asked = match due {
                Some(due) => requests.recv_deadline(due),
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let wanted = match asked {
                Ok(()) => true,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    files.as_mut().is_some_and(|files| files.is_due() && files.have_changed(&self.loader))
                }
            };
            if ends.front().is_some_and(|end| *end <= Instant::now()) {
                ends.pop_front();
                self.connections.ring_all();
            }
            if wanted {
                ends.extend(self.reload());
                if let Some(files) = &mut files {
                    files.taken(&self.loader);
                }
            }
        }
    }

    /// Loads and replaces; when conversations with what was replaced are to end.
    fn reload(&self) -> Option<Instant> {
        let known = self.models.upgrade()?.now().known();
        // Kept apart until they serve: when the server ends meanwhile, they end by themselves.
        let workers = Workers::default();
        let (catalogue, changes) = match self.loader.load(&known, &workers) {
            Ok(loaded) => loaded,
            Err(error) => {
                log::error!("models are not reloaded, the old ones stay: {error}");
                return None;
            }
        };
        let models = self.models.upgrade()?;
        self.workers.absorb(workers);
        let old = models.replace(catalogue);
        let now = models.now();
        let gone = old.served().filter(|model| !now.served().any(|other| Arc::ptr_eq(model, other)));
        let mut replaced = 0;
        for model in gone {
            replaced += 1;
            if let Some(drain) = self.drain {
                model.retire(drain);
            }
        }
        let Changes { loaded, kept, failed } = changes;
        log::info!(
            "models reloaded: {loaded} loaded, {replaced} replaced or gone, {kept} unchanged, {failed} failed"
        );
        self.drain.filter(|_| replaced > 0).map(|drain| Instant::now() + drain)
    }
}

/// The models' files as they were seen.
struct Files {
    interval: Duration,
    next: Instant,
    /// As they were loaded.
    loaded: Vec<Fingerprint>,
    /// As they were the last time: what is still being written is not loaded.
    last: Vec<Fingerprint>,
}

impl Files {
    fn new(loader: &Loader, interval: Duration) -> Option<Files> {
        let loaded = loader.look().ok()?;
        Some(Files { interval, next: Instant::now() + interval, last: loaded.clone(), loaded })
    }

    fn is_due(&self) -> bool {
        self.next <= Instant::now()
    }

    /// True when they are others than were loaded, and the same as the last time.
    fn have_changed(&mut self, loader: &Loader) -> bool {
        self.next = Instant::now() + self.interval;
        let Ok(seen) = loader.look() else { return false };
        let is_still = seen == self.last;
        self.last = seen;
        is_still && self.last != self.loaded
    }

    fn taken(&mut self, loader: &Loader) {
        if let Ok(seen) = loader.look() {
            self.loaded = seen.clone();
            self.last = seen;
        }
    }
}
