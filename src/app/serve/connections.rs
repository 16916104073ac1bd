//! [`Connections`]: who is connected, how many may be, and who has to leave when more come.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};

use super::locked::lock;
use super::telemetry::Telemetry;

/// Largest head of a request.
const HEAD_BYTES: usize = 64 << 10;

/// The connections that are open.
pub(super) struct Connections {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    /// Most that may be open.
    most: usize,
}

struct Connection {
    used: Mutex<Instant>,
    /// Requests under way.
    busy: AtomicUsize,
    /// Asks it to end.
    leave: Notify,
    /// Whether it was asked already.
    is_leaving: AtomicBool,
}

/// A place among them.
pub(super) struct Place {
    all: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.all.open).remove(&self.number);
    }
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            most,
        }
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    /// A place for one more. Where there are too many the one that was idle longest is asked to leave; `None` if all are busy.
    pub(super) fn enter(self: &Arc<Self>, telemetry: &Telemetry) -> Option<Place> {
        telemetry.connections.fetch_add(1, Ordering::Relaxed);
        let mut open = lock(&self.open);
        if open.len() >= self.most {
            let is_leaving = |one: &&Arc<Connection>| one.is_leaving.load(Ordering::Relaxed);
            let leaving = open.values().filter(is_leaving).count();
            if open.len() - leaving >= self.most && !ask_idlest(&open, telemetry) {
                telemetry
                    .connections_refused
                    .fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            used: Mutex::new(Instant::now()),
            busy: AtomicUsize::new(0),
            leave: Notify::new(),
            is_leaving: AtomicBool::new(false),
        });
        open.insert(number, Arc::clone(&connection));
        Some(Place {
            all: Arc::clone(self),
            number,
            connection,
        })
    }
}

/// Asks the connection that was idle longest to leave; whether there is one.
fn ask_idlest(open: &HashMap<u64, Arc<Connection>>, telemetry: &Telemetry) -> bool {
    let idle = open.values().filter(|one| {
        one.busy.load(Ordering::Relaxed) == 0 && !one.is_leaving.load(Ordering::Relaxed)
    });
    let Some(one) = idle.min_by_key(|one| *lock(&one.used)) else {
        return false;
    };
    one.is_leaving.store(true, Ordering::Relaxed);
    one.leave.notify_one();
    telemetry
        .connections_evicted
        .fetch_add(1, Ordering::Relaxed);
    true
}

/// A request under way.
struct Busy(Arc<Connection>);

impl Busy {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *lock(&self.0.used) = Instant::now();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What `work` comes to, or `None` if `end` comes first.
pub(super) async fn until<T>(
    work: impl Future<Output = T>,
    end: impl Future<Output = ()>,
) -> Option<T> {
    let (mut work, mut end) = (pin!(work), pin!(end));
    poll_fn(|context| {
        if let Poll::Ready(found) = work.as_mut().poll(context) {
            return Poll::Ready(Some(found));
        }
        end.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// How long connections live.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Between requests, and from the first byte of a request's head to its last.
    pub idle: Duration,
    /// From the server's end on, for requests under way.
    pub drain: Duration,
}

/// Answers the requests of one connection until it ends, nobody uses it, it has to leave, or `end` is true.
pub(super) async fn serve<I>(
    io: I,
    router: Router,
    place: Place,
    times: Times,
    mut end: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::clone(&place.connection);
    let inner = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        let busy = Busy::new(&connection);
        let answer = inner.call(request);
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(times.idle)
        .max_buf_size(HEAD_BYTES);
    let mut conversation = pin!(http.serve_connection(TokioIo::new(io), service));
    let asked = async {
        let ends = async {
            let _ = end.wait_for(|over| *over).await;
        };
        until(place.connection.leave.notified(), ends).await;
    };
    // A client that is gone, or doesn't speak HTTP, is no matter of ours.
    if until(conversation.as_mut(), asked).await.is_some() {
        return;
    }
    conversation.as_mut().graceful_shutdown();
    // What is under way is answered; half a head is nothing.
    if place.connection.busy.load(Ordering::Relaxed) > 0 {
        let _ = tokio::time::timeout(times.drain, conversation).await;
    }
}
