//! Loading models again while they are served: at SIGHUP, or when their files have changed.
//!
//! What is new is loaded and warmed up beside the old, and then put in its place at once; no request waits for it.
//! A conversation keeps the version that it began with until it ends, or until `--reload-drain` has passed, when it is
//! closed with 1012 (service restart) behind its last answer. What cannot be loaded changes nothing, and what is gone from
//! the repository is served until a second look finds it gone as well.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::inference::{Before, Changes, Loader, Models, Scan, Workers};
use crate::net::connections::Connections;
use crate::panic::panic_message;

/// When there is a second look for what was gone, where files are not watched.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// What a reload needs.
pub struct Reloader {
    pub loader: Loader,
    /// What the models were loaded from at the start.
    pub loaded: Scan,
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
            // Whatever goes wrong with one model's files, the next reload must find somebody.
            let step = catch_unwind(AssertUnwindSafe(|| self.step(&mut plan, asked.is_ok())));
            if let Err(panic) = step {
                let panic = panic_message(panic.as_ref());
                log::error!("models are not reloaded, the old ones stay: reloading panicked: {panic}");
            }
        }
    }

    /// Does what is due.
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

    /// True when the files are others than the models were loaded from, and lie still since the last look.
    fn has_changed(&self, plan: &mut Plan) -> bool {
        let Ok(seen) = self.loader.look(&plan.last) else { return false };
        let is_still = seen == plan.last;
        plan.last = seen;
        is_still && plan.last != plan.loaded
    }

    /// Loads and replaces.
    fn reload(&self, plan: &mut Plan) {
        let Some(models) = self.models.upgrade() else { return };
        let now = models.now();
        let (known, failed_at_start) = (now.known(), now.failed_at_start());
        // From here on nothing is held that the end of the server would have to wait for.
        drop((now, models));
        let mut scan = match self.loader.scan(&plan.last) {
            Ok(scan) => scan,
            Err(error) => return log::error!("models are not reloaded, the old ones stay: {error}"),
        };
        let before = Before { known, failed_at_start, scan: Some(plan.last.clone()) };
        // Kept apart until they serve: when the server ends meanwhile, they end by themselves.
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

/// What the thread knows and waits for.
struct Plan {
    /// What lay in the repository the last time: what is still being written is not loaded.
    last: Scan,
    /// What the models that are served were loaded from, or were to be.
    loaded: Scan,
    /// When to look whether files have changed.
    look: Option<Instant>,
    /// When to look whether what was gone is still gone.
    second_look: Option<Instant>,
    /// When conversations with a replaced model are told to end.
    ends: VecDeque<Instant>,
}

impl Plan {
    fn due(&self) -> Option<Instant> {
        self.ends.front().copied().into_iter().chain(self.look).chain(self.second_look).min()
    }
}
