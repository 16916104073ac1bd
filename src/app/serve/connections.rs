//! [`Connections`]: who is connected, how many may be, and who has to leave when more come.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderValue, header};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::Sleep;

use super::locked::lock;
use super::telemetry::Telemetry;

/// How long requests may be on their way when the server ends, and the last bytes of an answer.
pub(super) const ON_ITS_WAY: Duration = Duration::from_millis(300);
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
    /// Whether its client has yet to read what was written.
    is_writing: AtomicBool,
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
            is_writing: AtomicBool::new(false),
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

impl Connection {
    /// Whether an answer is on its way, or will be.
    fn is_answered(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0 || self.is_writing.load(Ordering::Relaxed)
    }
}

/// Asks the connection that was idle longest to leave; whether there is one.
fn ask_idlest(open: &HashMap<u64, Arc<Connection>>, telemetry: &Telemetry) -> bool {
    let idle = open
        .values()
        .filter(|one| !one.is_answered() && !one.is_leaving.load(Ordering::Relaxed));
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

/// A connection that fails where its client reads nothing for too long.
struct Timed<I> {
    io: I,
    connection: Arc<Connection>,
    most: Duration,
    /// When the bytes that can't be written now fail.
    due: Option<Pin<Box<Sleep>>>,
}

impl<I> Timed<I> {
    fn new(io: I, connection: &Arc<Connection>, most: Duration) -> Self {
        Self {
            io,
            connection: Arc::clone(connection),
            most,
            due: None,
        }
    }

    fn timed<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        let is_writing = written.is_pending();
        self.connection
            .is_writing
            .store(is_writing, Ordering::Relaxed);
        if !is_writing {
            self.due = None;
            return written;
        }
        let most = self.most;
        let due = self
            .due
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(most)));
        due.as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Timed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Timed<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.timed(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.timed(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.timed(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.io).poll_shutdown(context);
        self.timed(ended, context)
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
    let ending = end.clone();
    let service = service_fn(|request| {
        let busy = Busy::new(&connection);
        let answer = inner.call(request);
        let ending = &ending;
        async move {
            let mut answer = answer.await?;
            if *ending.borrow() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            drop(busy);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(times.idle)
        .max_buf_size(HEAD_BYTES);
    let mut conversation = pin!(http.serve_connection(
        TokioIo::new(Timed::new(io, &connection, times.idle)),
        service
    ));
    let mut ends = false;
    let asked = async {
        let over = async {
            let _ = end.wait_for(|over| *over).await;
        };
        ends = until(place.connection.leave.notified(), over)
            .await
            .is_none();
    };
    // A client that is gone, or doesn't speak HTTP, is no matter of ours.
    if until(conversation.as_mut(), asked).await.is_some() {
        return;
    }
    // What is on its way is answered, with the word that it was the last.
    if ends
        && until(conversation.as_mut(), tokio::time::sleep(ON_ITS_WAY))
            .await
            .is_some()
    {
        return;
    }
    conversation.as_mut().graceful_shutdown();
    // What is under way is answered; half a head is nothing.
    if place.connection.is_answered() {
        let _ = tokio::time::timeout(times.drain, conversation).await;
    } else if ends {
        let _ = tokio::time::timeout(ON_ITS_WAY, conversation).await;
    }
}
