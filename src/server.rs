//! The composition root, and the only file that knows every room: fetch, load, warm up, bind, serve, drain,
//! join.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::clock::Clock;
use crate::config::{AccessFlags, Fetching, Limits, ReloadFlags, ServeFlags, TlsFlags};
use crate::engine::worker::Places;
use crate::fetch::Fetcher;
use crate::inference::{Before, Loader, Models, Scan, Workers};
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

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub model: ModelSource,
    pub listen: SocketAddr,
    pub ops_listen: Option<SocketAddr>,
    pub default_model: Option<String>,
    /// Workers a model, over what its manifest says.
    pub workers: Option<usize>,
    pub tls: TlsFlags,
    pub access: AccessFlags,
    pub limits: Limits,
    pub fetching: Fetching,
    pub reload: ReloadFlags,
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
    #[error("{0}")]
    Setting(String),
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// A running server.
pub struct Server {
    listener: Listener,
    ops: Option<OpsListener>,
    readiness: Arc<Readiness>,
    connections: Arc<Connections>,
    workers: Arc<Workers>,
    access: Arc<Access>,
    identity: Option<Arc<Identity>>,
    counters: Arc<Counters>,
    limits: Limits,
    /// Asks for the models to be loaded again.
    reloads: Sender<()>,
}

/// How a drain went.
#[derive(Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open when the time was over.
    pub cut: usize,
    /// Workers that were still running then.
    pub stuck: usize,
}

impl Drained {
    pub fn is_clean(&self) -> bool {
        self.cut == 0 && self.stuck == 0
    }
}

fn identity(tls: TlsFlags) -> Result<Option<Arc<Identity>>, String> {
    let (Some(certificate), Some(key)) = (tls.tls_cert, tls.tls_key) else { return Ok(None) };
    Ok(Some(Arc::new(Identity::read(IdentityFiles { certificate, key })?)))
}

impl Server {
    /// Fetches and loads every model, warms them up, and only then listens: whoever connects is served.
    pub fn start(settings: Settings) -> Result<Server, StartError> {
        Server::start_after(settings, || ())
    }

    /// The same; calls back when all is loaded and nobody can connect yet.
    pub fn start_after(settings: Settings, loaded: impl FnOnce()) -> Result<Server, StartError> {
        let Settings {
            model,
            listen,
            ops_listen,
            default_model,
            workers: count,
            tls,
            access,
            limits,
            fetching,
            reload,
            clock,
        } = settings;
        let AccessFlags { tokens, allow_origin, path_prefix } = access;
        let access = Access::new(tokens.as_deref(), allow_origin).map_err(StartError::Setting)?;
        let access = Arc::new(access);
        let identity = identity(tls).map_err(StartError::Setting)?;
        let memory = Budget::new(limits.max_memory);
        let loader = Loader {
            model,
            fetcher: Fetcher::new(fetching, Lines::Log),
            default_model,
            workers: count,
            limits: limits.clone(),
            memory: memory.clone(),
            places: Places::default(),
            clock: clock.clone(),
        };
        let workers = Arc::new(Workers::default());
        let mut scan =
            loader.scan(&Scan::default()).map_err(|error| StartError::Setting(error.to_string()))?;
        let loaded_models = loader.load(&mut scan, &Before::default(), &workers, || true);
        let nothing = || StartError::Setting("no model could be loaded".into());
        let (catalogue, changes) = loaded_models.ok_or_else(nothing)?.map_err(StartError::Setting)?;
        if changes.loaded == 0 {
            return Err(nothing());
        }
        loaded();
        let models = Arc::new(Models::new(catalogue));
        let readiness = Arc::new(Readiness::default());
        let connections = Arc::new(Connections::new()?);
        let bind =
            |address| TcpListener::bind(address).map_err(|source| StartError::Bind { address, source });
        let counters = Arc::new(Counters::default());
        let public = bind(listen)?;
        let ops = match ops_listen {
            Some(address) => Some(OpsListener::start(
                bind(address)?,
                models.clone(),
                readiness.clone(),
                &limits,
                memory.clone(),
                clock.clone(),
            )?),
            None => None,
        };
        let reloader = Reloader {
            loader,
            loaded: scan,
            models: Arc::downgrade(&models),
            workers: workers.clone(),
            connections: connections.clone(),
            watch: Some(reload.watch).filter(|watch| !watch.is_zero()),
            drain: Some(reload.reload_drain).filter(|drain| !drain.is_zero()),
        };
        let reloads = reloader.start()?;
        // The service holds the models' queues: when the last connection lets go of it, the workers end.
        let shared = Shared {
            service: InferenceService {
                models,
                readiness: readiness.clone(),
                access: access.clone(),
                path_prefix,
                max_json_depth: limits.max_json_depth,
                max_files: limits.max_files,
            },
            identity: identity.clone(),
            limits: limits.clone(),
            readiness: readiness.clone(),
            connections: connections.clone(),
            counters: counters.clone(),
            memory,
            clock,
        };
        let listener = Listener::start(public, Arc::new(shared))?;
        readiness.set(State::Ready);
        if let Some(ops) = &ops {
            log::info!("operators on http://{}", ops.address);
        }
        log::info!("ready on {}", listener.address);
        Ok(Server {
            listener,
            ops,
            readiness,
            connections,
            workers,
            access,
            identity,
            counters,
            limits,
            reloads,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops.as_ref().map(|ops| ops.address)
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub fn connections(&self) -> usize {
        self.connections.count()
    }

    /// Reads again what may change while the server runs: the tokens, the certificate, and, in the background, the
    /// models. What cannot be read stays as it was. Conversations whose token is gone are closed.
    pub fn reload(&self) {
        let mut whole = true;
        if let Err(error) = self.access.reload() {
            whole = false;
            log::error!("not reloaded, the old tokens stay: {error}");
        }
        if let Some(Err(error)) = self.identity.as_ref().map(|identity| identity.reload()) {
            whole = false;
            log::error!("not reloaded, the old certificate stays: {error}");
        }
        self.connections.ring_all();
        if whole {
            log::info!("reloaded");
        }
        // When one is under way already, another follows it.
        let _ = self.reloads.try_send(());
    }

    /// Calls `stuck` once, when a worker has been busy for longer than `--stuck-timeout`; the server is then not ready.
    pub fn watch_for_stuck_runs(&self, stuck: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let limit = self.limits.stuck_timeout;
        if limit.is_zero() {
            return Ok(());
        }
        let (workers, readiness) = (Arc::downgrade(&self.workers), self.readiness.clone());
        StuckWatch { workers, readiness, limit }.start(stuck)
    }

    /// Tells the probes that the server goes, and serves on.
    pub fn leave(&self, why: &str) {
        self.readiness.set(State::Leaving);
        log::info!("{why}: leaving, serving on for {:?}", self.limits.drain_delay);
    }

    pub fn drain_delay(&self) -> Duration {
        self.limits.drain_delay
    }

    /// Takes no more work, answers what is accepted, says goodbye, and ends every thread; at most
    /// until the drain's time is over.
    pub fn drain(self, why: &str) -> Drained {
        let deadline = Instant::now() + self.limits.drain_timeout;
        self.readiness.set(State::Draining);
        self.listener.stop();
        self.connections.ring_all();
        log::info!("{why}: draining {} connections", self.connections.count());
        let cut = self.connections.wait_until_gone(deadline);
        let counted = &self.counters;
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
        // With connections left the queues stay open, and the workers with them.
        let stuck = if cut == 0 { self.workers.join(deadline) } else { 0 };
        Drained { cut, stuck }
    }
}
