//! Loads models again while they are served: at SIGHUP, or when their files have changed.
//!
//! A new model is loaded and warmed up while the old one is served, and then replaces it in one step. No request waits
//! for this. A conversation keeps the version that it started with until it ends, or until `--reload-drain` has passed:
//! then it is closed with 1012 (service restart) after its last response.
//!
//! Invariants: a model that cannot be loaded changes nothing. A model that is missing in the repository is served until
//! a second look finds it missing too.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::inference::{Before, Changes, Loader, Models, Scan, Workers};
use crate::net::connections::Connections;
use crate::panics::panic_message;

/// The time until the second look for missing models, when files are not watched.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Loads models again, on a thread of its own.
pub struct Reloader {
    /// Loads the models of the repository.
    pub loader: Loader,
    /// The state of the repository from which the served models were loaded.
    pub loaded: Scan,
    /// The served models. They are dropped when the server ends.
    pub models: Weak<Models>,
    /// All workers of the server; those of new models are added.
    pub workers: Arc<Workers>,
    /// The open connections, which are woken when a model was replaced.
    pub connections: Arc<Connections>,
    /// The time between two looks for changed files; `None`: only a request reloads.
    pub watch: Option<Duration>,
    /// How long conversations can go on with a version that was replaced; `None`: without a limit.
    pub drain: Option<Duration>,
}

impl Reloader {
    /// Starts the thread. Each message to the returned sender requests a reload. The thread ends after the sender is
    /// dropped. Nothing waits for its end, because it may be in the middle of a download.
    pub fn start(self) -> io::Result<Sender<()>> {
        // One request can wait while a reload runs. More are not needed: the next reload sees all changes.
        let (requests, receiver) = bounded(1);
        std::thread::Builder::new().name("reload".into()).spawn(move || self.run(&receiver))?;
        Ok(requests)
    }

    fn run(self, requests: &Receiver<()>) {
        let mut plan = Plan {
            last: self.loaded.clone(),
            loaded: self.loaded.clone(),
            look: self.watch.map(|interval| Instant::now() + interval),
            second_look: None,
            ends: VecDeque::new(),
        };
        loop {
            let asked = match plan.due() {
                Some(due) => requests.recv_deadline(due),
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            if asked == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            // A panic over one model's files must not end the thread: the next reload needs it.
            let step = catch_unwind(AssertUnwindSafe(|| self.step(&mut plan, asked.is_ok())));
            if let Err(panic) = step {
                let panic = panic_message(panic.as_ref());
                log::error!("models are not reloaded, the old ones stay: reloading panicked: {panic}");
            }
        }
    }

    /// Does everything whose time has come.
    fn step(&self, plan: &mut Plan, is_asked: bool) {
        let now = Instant::now();
        let is_past = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if is_past(plan.ends.front().copied()) {
            plan.ends.pop_front();
            self.connections.ring_all();
        }
        let mut is_wanted = is_asked;
        if is_past(plan.second_look) {
            plan.second_look = None;
            is_wanted = true;
        }
        if is_past(plan.look) {
            plan.look = self.watch.map(|interval| now + interval);
            is_wanted |= !is_wanted && self.has_changed(plan);
        }
        if is_wanted {
            self.reload(plan);
        }
    }

    /// True when the files differ from those that the models were loaded from, and did not change since the last look.
    fn has_changed(&self, plan: &mut Plan) -> bool {
        let Ok(seen) = self.loader.look(&plan.last) else { return false };
        let is_still = seen == plan.last;
        plan.last = seen;
        is_still && plan.last != plan.loaded
    }

    /// Loads what has changed and replaces the served models.
    fn reload(&self, plan: &mut Plan) {
        let Some(models) = self.models.upgrade() else { return };
        let now = models.now();
        let (known, failed_at_start) = (now.known(), now.failed_at_start());
        // The models must not be held while loading, because the end of the server would wait for that.
        drop((now, models));
        let mut scan = match self.loader.scan(&plan.last) {
            Ok(scan) => scan,
            Err(error) => return log::error!("models are not reloaded, the old ones stay: {error}"),
        };
        let before = Before { known, failed_at_start, scan: Some(plan.last.clone()) };
        // Not among the server's workers until they serve. If the server ends before, they end by themselves.
        let workers = Workers::default();
        let is_wanted = || self.models.strong_count() > 0;
        let Some(loaded) = self.loader.load(&mut scan, &before, &workers, is_wanted) else { return };
        (plan.last, plan.loaded) = (scan.clone(), scan);
        let (catalogue, changes) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return log::error!("models are not reloaded, the old ones stay: {error}"),
        };
        let Some(models) = self.models.upgrade() else { return };
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
        let Changes { loaded, kept, failed, missing } = changes;
        log::info!(
            "models reloaded: {loaded} loaded, {replaced} replaced or gone, {kept} unchanged, {failed} failed"
        );
        plan.second_look = (missing > 0).then(|| Instant::now() + self.watch.unwrap_or(SECOND_LOOK));
        plan.ends.extend(self.drain.filter(|_| replaced > 0).map(|drain| Instant::now() + drain));
    }
}

/// What the thread remembers and waits for.
struct Plan {
    /// The repository at the last look. Files that have changed since then may still be written, and are not loaded.
    last: Scan,
    /// The repository at the last load, whether it succeeded or not.
    loaded: Scan,
    /// The time of the next look for changed files.
    look: Option<Instant>,
    /// The time of the second look for missing models.
    second_look: Option<Instant>,
    /// The times at which conversations with a replaced model must end, in order.
    ends: VecDeque<Instant>,
}

impl Plan {
    /// The time of the next step; `None` when only a request can cause one.
    fn due(&self) -> Option<Instant> {
        self.ends.front().copied().into_iter().chain(self.look).chain(self.second_look).min()
    }
}
