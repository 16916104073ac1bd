//! The routes: what can be asked for, and who may.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::body::{Rows, json_response, starts, step_answer};
use super::connections::Connections;
use super::model::{Acted, Ask, Generation, Model, unpanicked};
use super::problem::{Answer, Problem};
use super::sessions::{Sessions, Step};
use super::telemetry::{Gauges, Telemetry};

/// What the server does, for programs.
const OPENAPI: &str = include_str!("openapi.json");

/// Bytes that are read of a body that is too long, so that who sends it gets to know.
const READ_BEYOND: usize = 1 << 20;

/// How a token is sent.
const SCHEME: &[u8] = b"Bearer ";

/// Every route and its methods.
pub(super) const ROUTES: [(&str, &[&str]); 9] = [
    ("/health", &["get"]),
    ("/metrics", &["get"]),
    ("/openapi.json", &["get"]),
    ("/v1/models", &["get"]),
    ("/v1/models/{model}", &["get"]),
    ("/v1/models/{model}/act", &["post"]),
    ("/v1/models/{model}/reload", &["post"]),
    ("/v1/models/{model}/sessions", &["post"]),
    ("/v1/models/{model}/sessions/{session}", &["post", "delete"]),
];

/// What all requests share.
pub(super) struct App {
    pub models: BTreeMap<String, Arc<Model>>,
    pub sessions: Sessions,
    pub telemetry: Telemetry,
    pub connections: Arc<Connections>,
    pub pool: rayon::ThreadPool,
    /// Who may ask; `None`: everybody who can reach the server.
    pub token: Option<String>,
    /// Largest body, in bytes.
    pub body: usize,
    /// How long a body may take to come.
    pub body_time: Duration,
    /// KiB that all bodies may have together.
    pub bodies: Arc<Semaphore>,
}

type Shared = State<Arc<App>>;

/// The router of all routes.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/v1/models/{model}/act", post(act))
        .route("/v1/models/{model}/reload", post(reload))
        .route("/v1/models/{model}/sessions", post(open))
        .route(
            "/v1/models/{model}/sessions/{session}",
            delete(close).post(step),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(other_method)
        // The limit of bodies is `guard`'s.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app)
}

/// Lets in who may ask, and counts.
async fn guard(State(app): Shared, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_owned();
    let response = match app.admitted(&route, request).await {
        Ok((request, _held)) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let response = in_our_words(response);
    let status = response.status().as_u16();
    app.telemetry.request(&route, status, begin.elapsed());
    response
}

/// What the router refuses by itself is a problem as all others are.
fn in_our_words(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !is_text || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem =
        "the address of the request can't be read; GET /openapi.json says what can be asked for";
    Problem::new(status, problem).into_response()
}

/// The host of a `Host` header is this machine by its name, or an address: no name that somebody else's server may have given it.
fn is_plain_host(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = without_port.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || address.eq_ignore_ascii_case("localhost")
        || address.is_empty()
}

impl App {
    /// The request with all of its body, which is read before anything else, since a connection is closed where some is left; and what it
    /// takes of the bytes that all bodies may have together.
    async fn admitted(
        &self,
        route: &str,
        request: Request,
    ) -> Answer<(Request, Option<OwnedSemaphorePermit>)> {
        if route == "/health" {
            return Ok((request, None));
        }
        if !self.is_allowed(request.headers()) {
            let problem = "the header Authorization is not `Bearer` and the server's token";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, problem));
        }
        if self.token.is_none() {
            refuse_pages(request.headers())?;
        }
        let (parts, body) = request.into_parts();
        let (body, held) = self.body(&parts.headers, body).await?;
        Ok((Request::from_parts(parts, body.into()), held))
    }

    /// Opens a run's newest checkpoint in the place of the one that acts, and counts.
    pub(super) async fn reload(&self, model: &Arc<Model>) -> Answer<Arc<Generation>> {
        let before = model.current().update;
        let opened = Arc::clone(model);
        let opened = tokio::task::spawn_blocking(move || opened.reload()).await;
        let (name, conflict) = (&model.name, StatusCode::CONFLICT);
        let opened = match opened {
            Ok(opened) => opened.map_err(|error| Problem::new(conflict, error.to_string())),
            Err(_) => Err(lost()),
        };
        match &opened {
            Ok(now) => {
                self.telemetry.reload(name, "done");
                tracing::info!(
                    "{name}: update {} acts now, {before} did before",
                    now.update
                );
            }
            Err(_) => self.telemetry.reload(name, "failed"),
        }
        opened
    }

    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let given = headers
            .get(header::AUTHORIZATION)
            .map(|value| value.as_bytes());
        let given = given.and_then(|value| value.split_at_checked(SCHEME.len()));
        // As long whatever is wrong about it.
        given.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case(SCHEME) && given.ct_eq(token.as_bytes()).into()
        })
    }

    fn model(&self, name: &str) -> Answer<Arc<Model>> {
        self.models.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.models.keys().map(String::as_str).collect();
            Problem::new(
                StatusCode::NOT_FOUND,
                format!(
                    "no model `{}` is served, but {}",
                    name.escape_default(),
                    names.join(", ")
                ),
            )
        })
    }

    /// A request's body. Of one that is too long some is still read, so that its client comes to reading the answer.
    async fn body(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Answer<(Vec<u8>, Option<OwnedSemaphorePermit>)> {
        let given = headers.get(header::CONTENT_LENGTH);
        let length: Option<u64> = given.and_then(|value| value.to_str().ok()?.parse().ok());
        let most = self.body + READ_BEYOND;
        if length.is_some_and(|length| length > most as u64) {
            return Err(self.too_long());
        }
        // One that does not say how long it is may be as long as one can be.
        let held = match length.unwrap_or(if body.is_end_stream() { 0 } else { most as u64 }) {
            0 => None,
            bytes => Some(self.room(bytes)?),
        };
        let slow = |_| {
            Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body took longer than {} s", self.body_time.as_secs()),
            )
        };
        let read = read(body, self.body, most);
        let read = tokio::time::timeout(self.body_time, read).await;
        match read.map_err(slow)? {
            Ok(Some(bytes)) => Ok((bytes, held)),
            Ok(None) => Err(self.too_long()),
            Err(error) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                format!("the body: {error}"),
            )),
        }
    }

    fn room(&self, bytes: u64) -> Answer<OwnedSemaphorePermit> {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.bodies).try_acquire_many_owned(kibibytes);
        room.map_err(|_| {
            Problem::busy(
                "the bodies of other requests fill the memory that is for them: try again later",
            )
        })
    }

    fn too_long(&self) -> Problem {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the body is longer than {} bytes: send fewer observations at a time",
                self.body
            ),
        )
    }

    /// The result of work on the pool's threads.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        self.pool.spawn(move || {
            let _ = reply.send(unpanicked(work));
        });
        answer.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// A body of at most `keep` bytes, or `None` after `most` of one that is longer.
async fn read(body: Body, keep: usize, most: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut body = pin!(body);
    let (mut bytes, mut count) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        count += data.len();
        if count > most {
            return Ok(None);
        }
        if count <= keep {
            bytes.extend_from_slice(&data);
        }
    }
    Ok((count <= keep).then_some(bytes))
}

/// Fails if a page in a browser asks, or might: without a token whoever leads somebody's browser to a page could use the server with it.
fn refuse_pages(headers: &HeaderMap) -> Answer<()> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_typed = text("sec-fetch-site").is_none_or(|site| site == "none");
    let is_here = text("host").is_none_or(is_plain_host);
    if is_typed && is_here && text("origin").is_none() {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "without a token the server answers neither pages in a browser nor requests for another host than localhost or an address: give it \
         a token",
    ))
}

fn lost() -> Problem {
    Problem::internal("the work ended without an answer: the server's log says why")
}

async fn health(State(app): Shared) -> Response {
    json_response(&json!({"status": "ok", "models": app.models.len()}))
}

async fn metrics(State(app): Shared) -> Response {
    let now = Gauges {
        sessions: app.sessions.count(),
        connections: app.connections.count(),
        models: app
            .models
            .values()
            .map(|model| (model.name.clone(), model.current().update, model.waiting()))
            .collect(),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.telemetry.text(&now)).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn models(State(app): Shared) -> Response {
    let all: Vec<_> = app.models.values().map(|model| model.described()).collect();
    json_response(&json!({"models": all}))
}

async fn model(State(app): Shared, Path(name): Path<String>) -> Answer<Response> {
    Ok(json_response(&app.model(&name)?.described()))
}

async fn act(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let model = app.model(&name)?;
    let now = model.current();
    if !now.is_stateless() {
        let needs = if now.traits.needs_goal {
            "with a goal"
        } else if now.traits.needs_instruction {
            "by an instruction"
        } else {
            "by what was seen, done and rewarded before in its episode"
        };
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!(
                "`{name}` ({}) acts {needs}: open a session with POST /v1/models/{name}/sessions and act in that",
                now.algorithm
            ),
        ));
    }
    let dim = now.spec.observation_dim;
    let mut rows = Rows::parse(&headers, &body, dim)?;
    let (reply, answer) = oneshot::channel();
    let is_first = model.ask(Ask {
        observations: std::mem::take(&mut rows.observations),
        rows: rows.rows,
        seed: rows.seed,
        reply,
    })?;
    if is_first {
        let wait = model.wait();
        if wait.is_zero() {
            serve_batches(app, model);
        } else {
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                serve_batches(app, model);
            });
        }
    }
    let acted: Acted = answer.await.unwrap_or_else(|_| Err(lost()))?;
    Ok(rows.answer(&acted))
}

/// Answers what waits for a model, batch by batch, between the work of others.
fn serve_batches(app: Arc<App>, model: Arc<Model>) {
    let shared = Arc::clone(&app);
    shared.pool.spawn(move || {
        if model.serve_batch(&app.telemetry) {
            serve_batches(app, model);
        }
    });
}

async fn reload(State(app): Shared, Path(name): Path<String>) -> Answer<Response> {
    let model = app.model(&name)?;
    let before = model.current().update;
    let now = app.reload(&model).await?;
    Ok(json_response(
        &json!({"model": name, "update": now.update, "before": before}),
    ))
}

async fn open(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let model = app.model(&name)?;
    let now = model.current();
    let starts = starts(&headers, &body, now.spec.observation_dim)?;
    app.sessions.check_room()?;
    let (update, shared) = (now.update, Arc::clone(&app));
    let id = app
        .compute(move || shared.sessions.open(&model.name, now, &starts))
        .await?;
    app.telemetry.sessions_begun.fetch_add(1, Ordering::Relaxed);
    let answer = json!({
        "session": id,
        "model": name,
        "update": update,
        "idle_seconds": app.sessions.limits().idle.as_secs(),
    });
    Ok((StatusCode::CREATED, json_response(&answer)).into_response())
}

async fn step(
    State(app): Shared,
    Path((name, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    app.model(&name)?;
    let turn = app.sessions.turn(&name, &id)?;
    let now = turn.generation();
    let (update, dim) = (now.update, now.spec.observation_dim);
    let (step, form) = Step::parse(&headers, &body, dim)?;
    let (action, number) = app.compute(move || turn.act(&step)).await?;
    Ok(step_answer(form, &action, number, update))
}

async fn close(State(app): Shared, Path((name, id)): Path<(String, String)>) -> Answer<StatusCode> {
    app.model(&name)?;
    if app.sessions.close(&name, &id) {
        return Ok(StatusCode::NO_CONTENT);
    }
    let problem = format!("`{name}` has no such session: it has ended");
    Err(Problem::new(StatusCode::NOT_FOUND, problem))
}

async fn unknown() -> Problem {
    let routes: Vec<&str> = ROUTES.iter().map(|(route, _)| *route).collect();
    let problem = format!("there is nothing here; there are {}", routes.join(", "));
    Problem::new(StatusCode::NOT_FOUND, problem)
}

async fn other_method() -> Problem {
    let problem = "this can't be done here with this method; GET /openapi.json says what can";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, problem)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_description_names_every_route_and_method() {
        let described: Value = serde_json::from_str(OPENAPI).expect("JSON");
        let paths = described["paths"].as_object().expect("paths");
        let sorted = |mut methods: Vec<&str>| {
            methods.sort_unstable();
            methods.join(" ")
        };
        let found = paths.iter().map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            let methods = methods.map(String::as_str);
            let methods = methods.filter(|name| *name != "parameters");
            (path.as_str(), sorted(methods.collect()))
        });
        let found: BTreeMap<&str, String> = found.collect();
        let expected = ROUTES
            .iter()
            .map(|(route, methods)| (*route, sorted(methods.to_vec())));
        let expected: BTreeMap<&str, String> = expected.collect();
        assert_eq!(found, expected);
        assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
