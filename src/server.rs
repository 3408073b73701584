//! Starts and stops a server: fetch, load, warm up, listen, serve, drain, end. This file builds all parts and connects
//! them; it is the only one that knows all of them. Signals and the command line belong to `cli`.
//!
//! Invariant: a client can connect only after all models are loaded and warmed up.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::clock::Clock;
use crate::config::{AccessFlags, Fetching, Limits, ReloadFlags, ServeFlags, TlsFlags};
use crate::engine::places::Places;
use crate::fetch::Fetcher;
use crate::inference::{Before, Catalogue, Loader, Models, Scan, Workers};
use crate::memory::Budget;
use crate::metrics::Counters;
use crate::model::ModelSource;
use crate::net::connections::{Connections, Shared};
use crate::net::listener::Listener;
use crate::net::tls::{Identity, IdentityFiles};
use crate::ops::listener::OpsListener;
use crate::readiness::{Readiness, State};
use crate::reload::Reloader;
use crate::service::InferenceService;
use crate::service::access::Access;
use crate::stuck::StuckWatch;
use crate::transfer::progress::Lines;

/// All settings of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the models come from.
    pub model: ModelSource,
    /// The address for clients. With port 0 the system chooses a port.
    pub listen: SocketAddr,
    /// The private address for operators; `None`: no private listener.
    pub ops_listen: Option<SocketAddr>,
    /// The model for the path `/`, when there are several.
    pub default_model: Option<String>,
    /// The number of workers per model. It overrides `model.json`.
    pub workers: Option<usize>,
    /// The certificate and its key. Without both, the server speaks plain HTTP.
    pub tls: TlsFlags,
    /// Who may connect, and the prefix of the paths.
    pub access: AccessFlags,
    /// The limits on sizes, numbers and times.
    pub limits: Limits,
    /// How models are fetched, and where they are cached.
    pub fetching: Fetching,
    /// When models are loaded again.
    pub reload: ReloadFlags,
    /// The clock of deadlines at the sockets and the queues.
    pub clock: Clock,
}

impl TryFrom<&ServeFlags> for Settings {
    type Error = String;

    fn try_from(flags: &ServeFlags) -> Result<Settings, String> {
        Ok(Settings {
            model: ModelSource::chosen(flags.model.as_deref()),
            listen: flags.listen,
            ops_listen: flags.ops_listen,
            default_model: flags.default_model.clone(),
            workers: flags.workers.map(usize::from),
            tls: flags.tls.clone(),
            access: flags.access.clone(),
            limits: flags.limits.checked()?,
            fetching: flags.fetch.fetching()?,
            reload: flags.reload.clone(),
            clock: Clock::system(),
        })
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is wrong, or a file or model that it names.
    #[error("{0}")]
    Setting(String),
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// A running server. [`Server::drain`] stops it.
pub struct Server {
    listener: Listener,
    ops: Option<OpsListener>,
    parts: Parts,
    limits: Limits,
    /// A message here makes the `reload` thread load the models again.
    reloads: Sender<()>,
}

/// The result of a drain.
#[derive(Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open at the deadline.
    pub cut: usize,
    /// Workers that were still running at the deadline.
    pub stuck: usize,
}

impl Drained {
    /// True when every connection and every worker ended in time.
    pub fn is_clean(&self) -> bool {
        self.cut == 0 && self.stuck == 0
    }
}

/// Reads the certificate and the key, when both are set.
fn identity(tls: &TlsFlags) -> Result<Option<Arc<Identity>>, StartError> {
    let (Some(certificate), Some(key)) = (tls.tls_cert.clone(), tls.tls_key.clone()) else { return Ok(None) };
    let identity = Identity::read(IdentityFiles { certificate, key }).map_err(StartError::Setting)?;
    Ok(Some(Arc::new(identity)))
}

/// Reads the tokens and takes the origins.
fn access(access: &AccessFlags) -> Result<Arc<Access>, StartError> {
    let access = Access::new(access.tokens.as_deref(), access.allow_origin.clone());
    Ok(Arc::new(access.map_err(StartError::Setting)?))
}

fn loader(settings: &Settings, memory: &Arc<Budget>) -> Loader {
    Loader {
        model: settings.model.clone(),
        fetcher: Fetcher::new(settings.fetching.clone(), Lines::Log),
        default_model: settings.default_model.clone(),
        workers: settings.workers,
        limits: settings.limits.clone(),
        memory: memory.clone(),
        places: Places::default(),
        clock: settings.clock.clone(),
    }
}

/// Loads every model, at least one; also returns what they were loaded from.
fn load_all(loader: &Loader, workers: &Workers) -> Result<(Catalogue, Scan), StartError> {
    let mut scan = loader.scan(&Scan::default()).map_err(|error| StartError::Setting(error.to_string()))?;
    let nothing = || StartError::Setting("no model could be loaded".into());
    let loaded = loader.load(&mut scan, &Before::default(), workers, || true);
    let (catalogue, changes) = loaded.ok_or_else(nothing)?.map_err(StartError::Setting)?;
    if changes.loaded == 0 {
        return Err(nothing());
    }
    Ok((catalogue, scan))
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| StartError::Bind { address, source })
}

/// What the threads of a server share, without the models. Only connections keep those: the workers end when the last
/// connection has dropped their queues.
struct Parts {
    readiness: Arc<Readiness>,
    connections: Arc<Connections>,
    workers: Arc<Workers>,
    access: Arc<Access>,
    identity: Option<Arc<Identity>>,
    counters: Arc<Counters>,
    memory: Arc<Budget>,
}

impl Parts {
    fn start_ops(
        &self,
        models: &Arc<Models>,
        settings: &Settings,
    ) -> Result<Option<OpsListener>, StartError> {
        let Some(address) = settings.ops_listen else { return Ok(None) };
        let ops = OpsListener::start(
            bind(address)?,
            models.clone(),
            self.readiness.clone(),
            &settings.limits,
            self.memory.clone(),
            settings.clock.clone(),
        )?;
        Ok(Some(ops))
    }

    fn reloader(&self, models: &Arc<Models>, loader: Loader, loaded: Scan, flags: &ReloadFlags) -> Reloader {
        Reloader {
            loader,
            loaded,
            models: Arc::downgrade(models),
            workers: self.workers.clone(),
            connections: self.connections.clone(),
            watch: Some(flags.watch).filter(|watch| !watch.is_zero()),
            drain: Some(flags.reload_drain).filter(|drain| !drain.is_zero()),
        }
    }

    /// What every connection gets.
    fn shared(&self, models: Arc<Models>, settings: &Settings) -> Shared<InferenceService> {
        Shared {
            service: InferenceService {
                models,
                readiness: self.readiness.clone(),
                access: self.access.clone(),
                path_prefix: settings.access.path_prefix.clone(),
                max_json_depth: settings.limits.max_json_depth,
                max_files: settings.limits.max_files,
            },
            identity: self.identity.clone(),
            limits: settings.limits.clone(),
            readiness: self.readiness.clone(),
            connections: self.connections.clone(),
            counters: self.counters.clone(),
            memory: self.memory.clone(),
            clock: settings.clock.clone(),
        }
    }
}

impl Server {
    /// Fetches, loads and warms up every model, and only then listens: every client that can connect is served.
    pub fn start(settings: Settings) -> Result<Server, StartError> {
        Server::start_after(settings, || ())
    }

    /// As [`Server::start`], and calls `loaded` when all models are loaded and no client can connect yet.
    pub fn start_after(settings: Settings, loaded: impl FnOnce()) -> Result<Server, StartError> {
        let access = access(&settings.access)?;
        let identity = identity(&settings.tls)?;
        let memory = Budget::new(settings.limits.max_memory);
        let loader = loader(&settings, &memory);
        let workers = Arc::new(Workers::default());
        let (catalogue, scan) = load_all(&loader, &workers)?;
        loaded();
        let models = Arc::new(Models::new(catalogue));
        let parts = Parts {
            readiness: Arc::default(),
            connections: Arc::new(Connections::new()?),
            workers,
            access,
            identity,
            counters: Arc::default(),
            memory,
        };
        let public = bind(settings.listen)?;
        let ops = parts.start_ops(&models, &settings)?;
        let reloads = parts.reloader(&models, loader, scan, &settings.reload).start()?;
        let listener = Listener::start(public, Arc::new(parts.shared(models, &settings)))?;
        parts.readiness.set(State::Ready);
        if let Some(ops) = &ops {
            log::info!("operators on http://{}", ops.address);
        }
        log::info!("ready on {}", listener.address);
        Ok(Server { listener, ops, parts, limits: settings.limits, reloads })
    }

    /// The address of the public listener, with the port that the system chose if it was 0.
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// The address of the private listener.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops.as_ref().map(|ops| ops.address)
    }

    /// The counters of the public listener.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.parts.counters
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.parts.connections.count()
    }

    /// Reads the tokens and the certificate again, and in the background the models. What cannot be read stays as it
    /// was, with an error in the log. Conversations whose token was removed are closed.
    pub fn reload(&self) {
        let mut is_complete = true;
        if let Err(error) = self.parts.access.reload() {
            is_complete = false;
            log::error!("not reloaded, the old tokens stay: {error}");
        }
        if let Some(Err(error)) = self.parts.identity.as_ref().map(|identity| identity.reload()) {
            is_complete = false;
            log::error!("not reloaded, the old certificate stays: {error}");
        }
        self.parts.connections.ring_all();
        if is_complete {
            log::info!("reloaded");
        }
        // If this fails, a reload is already requested, and it will see the same files.
        let _ = self.reloads.try_send(());
    }

    /// Watches the workers, if `--stuck-timeout` is set. When a worker has been busy for longer, the server is no longer
    /// ready, and `stuck` is called once.
    pub fn watch_for_stuck_runs(&self, stuck: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let limit = self.limits.stuck_timeout;
        if limit.is_zero() {
            return Ok(());
        }
        let (workers, readiness) = (Arc::downgrade(&self.parts.workers), self.parts.readiness.clone());
        StuckWatch { workers, readiness, limit }.start(stuck)
    }

    /// Reports "not ready" to probes, so that routers stop sending requests here. The server still serves.
    pub fn leave(&self, why: &str) {
        self.parts.readiness.set(State::Leaving);
        log::info!("{why}: leaving, serving on for {:?}", self.limits.drain_delay);
    }

    /// The time between [`Server::leave`] and [`Server::drain`].
    pub fn drain_delay(&self) -> Duration {
        self.limits.drain_delay
    }

    /// Stops the server: accepts no more work, answers every accepted request, closes the conversations and ends every
    /// thread. Returns after `drain_spread` and `drain_timeout` at the latest.
    pub fn drain(self, why: &str) -> Drained {
        let deadline = Instant::now() + self.limits.drain_spread + self.limits.drain_timeout;
        self.parts.readiness.set(State::Draining);
        self.listener.stop();
        self.parts.connections.ring_all();
        log::info!("{why}: draining {} connections", self.parts.connections.count());
        let cut = self.parts.connections.wait_until_gone(deadline);
        let counted = &self.parts.counters;
        log::info!(
            "served {} conversations: {} requests accepted, {} answered; {} HTTP requests",
            counted.conversations.get(),
            counted.requests.get(),
            counted.answers.get(),
            counted.exchanges.get()
        );
        if let Some(ops) = self.ops {
            ops.stop(deadline);
        }
        // Connections that are still open hold the queues, and so the workers cannot end.
        let stuck = if cut == 0 { self.parts.workers.join(deadline) } else { 0 };
        Drained { cut, stuck }
    }
}
