//! [`Server`]: trained runs over HTTP, observations in and actions out.
//!
//! Requests for policies that look at the present observation alone are joined into batches. Policies that remember act in sessions, one
//! episode each, and several side by side. Everything that a client can make the server hold is bounded: bodies, waiting rows, sessions,
//! connections, and the time that each may take.

mod body;
mod connections;
mod listen;
mod locked;
mod model;
mod problem;
mod routes;
mod sessions;
mod telemetry;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use connections::{Connections, Times};
pub use listen::Address;
use listen::{Listener, connections_allowed};
use model::{BatchLimits, Model};
use routes::App;
use sessions::{SessionLimits, Sessions};
use telemetry::Telemetry;
use trajformer_core::error::{Error, Result, shell_quoted};
use trajformer_core::interrupt::Interrupt;

/// How often it is looked whether the server is to end.
const LOOK: Duration = Duration::from_millis(50);
/// How often sessions are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// After the system gave no further connection.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes that the bodies of all requests under way may have together; more where one may be long.
const BODIES: usize = 256 << 20;
/// Shortest token: 16 characters at random are beyond guessing.
const SHORTEST_TOKEN: usize = 16;

/// A run, and the name that it is served under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Run directory, `RUN@NAME`, folder of a model of another library, or `hf://ID`.
    pub run: PathBuf,
}

impl Source {
    /// `NAME=RUN`, or `RUN`, which is then named as its folder.
    ///
    /// # Errors
    /// If the name is empty or has other characters.
    pub fn parse(text: &str) -> Result<Self> {
        let is_plain = |name: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !name.is_empty() && !name.starts_with('.') && name.chars().all(fits)
        };
        if let Some((name, run)) = text.split_once('=')
            && is_plain(name)
            && !Path::new(text).exists()
        {
            return Ok(Self {
                name: name.to_owned(),
                run: run.into(),
            });
        }
        let run = PathBuf::from(text);
        let whole = run.canonicalize().unwrap_or_else(|_| run.clone());
        let last = whole.file_name().map_or(String::new(), |name| {
            name.to_string_lossy().replace('@', "-")
        });
        if is_plain(&last) {
            return Ok(Self { name: last, run });
        }
        Err(Error::settings(format!(
            "`{text}`: a name of letters, digits, `.`, `_` and `-` can't be made of this folder's: give it one, e.g. {}",
            shell_quoted(Path::new(&format!("policy={text}")))
        )))
    }
}

/// What is served, where, to whom, and within which bounds.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The runs.
    pub sources: Vec<Source>,
    /// Changed keys of their configurations, as for [`open`](crate::run::open).
    pub overrides: Vec<String>,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Who may ask: those who send it as `Authorization: Bearer TOKEN`. Needed wherever it listens beyond this machine.
    pub token: Option<String>,
    /// How long the first request of a batch waits for others; 0: batches are what has come while the one before was computed.
    pub batch_wait: Duration,
    /// Most observations of a batch.
    pub batch_rows: usize,
    /// Most observations that wait for each run; more are refused with status 503.
    pub queue_rows: usize,
    /// Most sessions.
    pub sessions: usize,
    /// How long a session stays that nobody uses.
    pub session_idle: Duration,
    /// Memory of the process, in bytes, above which no session is opened.
    pub memory: Option<u64>,
    /// Largest body of a request, in bytes; those of all requests under way are held to 256 MiB, or four times this.
    pub body: usize,
    /// How long a body may take to come.
    pub body_time: Duration,
    /// Most connections; fewer where the system allows fewer open files.
    pub connections: usize,
    /// How long a connection may be idle, and how long the head of a request may take.
    pub idle: Duration,
    /// How long requests under way have once the server is to end.
    pub drain: Duration,
    /// How often it looks for new checkpoints of its runs, if at all.
    pub follow: Option<Duration>,
    /// Threads that compute; 0: as many as the pool of threads that it is opened in.
    pub threads: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            overrides: Vec::new(),
            addresses: vec![Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 8000)))],
            token: None,
            batch_wait: Duration::ZERO,
            batch_rows: 1024,
            queue_rows: 65_536,
            sessions: 1000,
            session_idle: Duration::from_secs(600),
            memory: None,
            body: 16 << 20,
            body_time: Duration::from_secs(30),
            connections: 10_000,
            idle: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            follow: None,
            threads: 0,
        }
    }
}

impl ServeOptions {
    fn check(&self) -> Result<()> {
        let wrong = |problem: String| Err(Error::settings(problem));
        if self.sources.is_empty() {
            return wrong("no run is named".to_owned());
        }
        let mut names: Vec<&str> = self.sources.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
            return wrong(format!(
                "two runs would be served as `{}`: give them names, NAME=RUN",
                twice[0]
            ));
        }
        if let Some(token) = &self.token {
            let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
            if token.len() < SHORTEST_TOKEN || !is_plain {
                return wrong(format!(
                    "the token has {} characters, expected at least {SHORTEST_TOKEN}, without spaces, of ASCII: e.g. what `openssl rand \
                     -hex 32` prints",
                    token.chars().count()
                ));
            }
        }
        for address in &self.addresses {
            if let Address::Tcp(address) = address
                && !address.ip().is_loopback()
                && self.token.is_none()
            {
                return wrong(format!(
                    "{address} can be reached from other machines, and without a token everybody there could use and reload the runs: give \
                     the server a token, or let it listen at 127.0.0.1"
                ));
            }
        }
        let numbers = [
            ("batch rows", self.batch_rows),
            ("waiting rows", self.queue_rows),
            ("sessions", self.sessions),
            ("connections", self.connections),
            ("bytes of a body", self.body),
            ("addresses", self.addresses.len()),
        ];
        match numbers.iter().find(|(_, number)| *number == 0) {
            Some((what, _)) => wrong(format!("0 {what}: expected at least 1")),
            None => Ok(()),
        }
    }
}

/// Runs that are open, at addresses that are bound: connections wait until it [runs](Self::run).
pub struct Server {
    app: Arc<App>,
    listeners: Vec<Listener>,
    times: Times,
    follow: Option<Duration>,
}

impl Server {
    /// Opens the runs and binds the addresses.
    ///
    /// # Errors
    /// If a run can't be opened, an address can't be bound, a setting is wrong, or it would listen beyond this machine without a token.
    pub fn open(options: &ServeOptions) -> Result<Self> {
        options.check()?;
        let limits = BatchLimits {
            wait: options.batch_wait,
            rows: options.batch_rows,
            queue: options.queue_rows,
        };
        let mut models = BTreeMap::new();
        for Source { name, run } in &options.sources {
            let model = Model::open(name.clone(), run, &options.overrides, limits)?;
            models.insert(name.clone(), Arc::new(model));
        }
        let listeners = options.addresses.iter().map(Listener::bind);
        let listeners = listeners.collect::<Result<Vec<Listener>>>()?;
        let threads = match options.threads {
            0 => rayon::current_num_threads(),
            threads => threads,
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("act-{number}"))
            .build();
        let pool = pool.map_err(|error| Error::settings(format!("no threads: {error}")))?;
        let app = App {
            models,
            sessions: Sessions::new(SessionLimits {
                count: options.sessions,
                idle: options.session_idle,
                memory: options.memory,
            }),
            telemetry: Telemetry::default(),
            connections: Arc::new(Connections::new(connections_allowed(options.connections))),
            pool,
            token: options.token.clone(),
            body: options.body,
            body_time: options.body_time,
            bodies: Arc::new(Semaphore::new(
                (BODIES.max(4 * options.body) >> 10).min(Semaphore::MAX_PERMITS),
            )),
        };
        Ok(Self {
            app: Arc::new(app),
            listeners,
            times: Times {
                idle: options.idle,
                drain: options.drain,
            },
            follow: options.follow,
        })
    }

    /// Where it listens, with the ports that the system chose.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn addresses(&self) -> Result<Vec<Address>> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// What is served, a line for each run.
    pub fn described(&self) -> Vec<String> {
        let line = |model: &Arc<Model>| {
            let now = model.current();
            let (o, a) = now.spec.dims();
            let how = if now.is_stateless() {
                "any request"
            } else {
                "in sessions"
            };
            format!(
                "{}: {}, update {}, {o} observations, {}; acts {how}",
                model.name,
                now.algorithm,
                now.update,
                now.spec.action_kind().said(a)
            )
        };
        self.app.models.values().map(line).collect()
    }

    /// Serves until `interrupt` is set, and what is under way then to its end.
    ///
    /// # Errors
    /// If there are no threads.
    pub fn run(self, interrupt: &Interrupt) -> Result<()> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers.min(4))
            .enable_io()
            .enable_time()
            .build();
        let runtime = runtime.map_err(|error| Error::settings(format!("no threads: {error}")))?;
        let drain = self.times.drain;
        let ended = runtime.block_on(self.serve(interrupt.clone()));
        runtime.shutdown_timeout(drain);
        ended
    }

    async fn serve(self, interrupt: Interrupt) -> Result<()> {
        let (over, end) = watch::channel(false);
        let router = routes::router(Arc::clone(&self.app));
        let (mut sockets, mut accepting) = (Vec::new(), Vec::new());
        for listener in self.listeners {
            let (app, router, end) = (Arc::clone(&self.app), router.clone(), end.clone());
            let failed = |error: std::io::Error| Error::settings(error.to_string());
            match listener {
                Listener::Tcp(listener) => {
                    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
                    let accept = async move || {
                        let (stream, _) = listener.accept().await?;
                        // Actions are small and somebody waits for them.
                        stream.set_nodelay(true)?;
                        Ok(stream)
                    };
                    accepting.push(tokio::spawn(accept_all(
                        app, accept, router, self.times, end,
                    )));
                }
                #[cfg(unix)]
                Listener::Unix(listener, path) => {
                    let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
                    let accept = async move || Ok(listener.accept().await?.0);
                    accepting.push(tokio::spawn(accept_all(
                        app, accept, router, self.times, end,
                    )));
                    sockets.push(path);
                }
            }
        }
        tokio::spawn(expire(Arc::clone(&self.app)));
        if let Some(every) = self.follow {
            tokio::spawn(follow(Arc::clone(&self.app), every));
        }
        while !interrupt.is_set() {
            tokio::time::sleep(LOOK).await;
        }
        let _ = over.send(true);
        for socket in sockets {
            listen::remove(&socket);
        }
        for one in accepting {
            let _ = one.await;
        }
        let begin = tokio::time::Instant::now();
        while self.app.connections.count() > 0 && begin.elapsed() < self.times.drain {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Takes connections until the end, and those that were on their way then.
async fn accept_all<I>(
    app: Arc<App>,
    accept: impl AsyncFn() -> std::io::Result<I>,
    router: axum::Router,
    times: Times,
    mut end: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let given = end.clone();
    let ends = async {
        let _ = end.wait_for(|over| *over).await;
        tokio::time::sleep(connections::ON_ITS_WAY).await;
    };
    let mut ends = std::pin::pin!(ends);
    loop {
        let Some(accepted) = connections::until(accept(), ends.as_mut()).await else {
            return;
        };
        match accepted {
            Ok(stream) => {
                if let Some(place) = app.connections.enter(&app.telemetry) {
                    let conversation =
                        connections::serve(stream, router.clone(), place, times, given.clone());
                    tokio::spawn(conversation);
                }
            }
            Err(error) => {
                tracing::warn!("a connection can't be taken: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Ends sessions that nobody uses.
async fn expire(app: Arc<App>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let count = app.sessions.sweep() as u64;
        app.telemetry
            .sessions_expired
            .fetch_add(count, Ordering::Relaxed);
    }
}

/// Opens new checkpoints.
async fn follow(app: Arc<App>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        for model in app.models.values() {
            if !model.has_changed() {
                continue;
            }
            // The one that can't be opened is not tried again.
            if let Err(problem) = app.reload(model).await {
                tracing::warn!(
                    "{}: the new checkpoint can't be opened, the one before goes on: {}",
                    model.name,
                    problem.detail
                );
            }
        }
    }
}
