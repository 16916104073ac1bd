//! Requests to the Hub, and to the hosts that its files lie on, over `ureq`: timeouts, proxies of the environment
//! (`ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`), redirects, the user's token, and tries.
//!
//! `hf-hub` 0.5 could make the requests of a download too. They are made here because it sends the token on to
//! whatever host a file lies on, waits without an end for a server that does not answer, names files in the cache by
//! headers that it does not look at, and panics on a redirect to nowhere.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody, Timeout};

use crate::app::datasets::place::named;
use crate::app::hub::address::{host, origin, plain};
use crate::app::hub::cache;
use crate::app::hub::token::Token;

/// Tries after the first, each after twice the wait of the one before.
pub(super) const RETRIES: usize = 3;
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How long finding a host, and then connecting to it, may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Redirects that are followed one after the other.
const REDIRECTS: usize = 10;
/// The most that is read of an answer that says what went wrong, in bytes, and the most that is shown of it.
const WORDS: u64 = 1 << 16;
const SHOWN: usize = 200;

/// What is said of a server that sends nothing.
const SILENCE: &str = "it does not answer in time";

/// What can go wrong with a request, or with what it brought.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered that it won't or can't.
    Refused(Box<Refusal>),
    /// No connection to a host came about, or nothing came over it in time.
    Unreachable { host: String, why: String },
    /// The connection to a host ended before everything was sent or received.
    Broken { host: String, why: String },
    /// No Hub answers like this.
    Odd(String),
    /// What came is not what was announced, or a file is not what it was: what and what to do.
    Wrong(String),
    /// Another process holds a file of the cache.
    Locked(PathBuf),
    /// The cache can't be written to.
    Disk(io::Error),
}

/// An answer with a status from 400 on.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The Hub's name for it (`X-Error-Code`), such as `EntryNotFound`.
    pub(super) code: Option<String>,
    /// What the server says.
    pub(super) word: String,
    /// The address without what may be secret in it.
    pub(super) url: String,
    /// After how many seconds to ask again, if the server says so.
    pub(super) retry_after: Option<u64>,
}

impl Failure {
    fn of(error: &ureq::Error, url: &str) -> Self {
        use io::ErrorKind as Kind;
        let host = host(url);
        match error {
            ureq::Error::Io(source) => {
                // Errors of finding the host and connecting to it are of many other kinds.
                let ended = [
                    Kind::BrokenPipe,
                    Kind::ConnectionAborted,
                    Kind::ConnectionReset,
                    Kind::UnexpectedEof,
                ];
                let why = source.to_string();
                if ended.contains(&source.kind()) {
                    Self::Broken { host, why }
                } else {
                    Self::Unreachable { host, why }
                }
            }
            ureq::Error::Timeout(Timeout::PerRead | Timeout::PerWrite) => {
                let why = SILENCE.to_owned();
                Self::Unreachable { host, why }
            }
            ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::InvalidProxyUrl
            | ureq::Error::Tls(_)
            | ureq::Error::Rustls(_) => {
                let why = error.to_string();
                Self::Unreachable { host, why }
            }
            _ => Self::Odd(error.to_string()),
        }
    }

    /// What a reader of a body from `url` met: errors of `ureq` are inside those of input and output.
    pub(super) fn reading(error: io::Error, url: &str) -> Self {
        Self::of(&ureq::Error::from(error), url)
    }

    /// Whether a server was waited for in vain.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { why, .. } if why == SILENCE)
    }

    /// What went wrong with a connection, in a few words.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Unreachable { host, why } | Self::Broken { host, why } => {
                format!("{host}: {why}")
            }
            Self::Refused(refusal) => format!("{} ({})", refusal.status, refusal.word),
            Self::Odd(what) | Self::Wrong(what) => what.clone(),
            Self::Locked(path) => path.display().to_string(),
            Self::Disk(error) => error.to_string(),
        }
    }

    /// Whether it may be otherwise a moment later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Refused(refusal) => [408, 429, 500, 502, 503, 504].contains(&refusal.status),
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            _ => false,
        }
    }
}

/// Does something until it succeeds, fails for good, or has failed often enough.
pub(super) fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut wait = FIRST_WAIT;
    for _ in 0..RETRIES {
        match attempt() {
            Err(failure) if failure.may_pass() => {
                // A server that says when to come back, and soon, is waited for.
                let asked = match &failure {
                    Failure::Refused(refusal) => refusal.retry_after.unwrap_or(0).min(5),
                    _ => 0,
                };
                std::thread::sleep(wait.max(Duration::from_secs(asked)));
                wait *= 2;
            }
            other => return other,
        }
    }
    attempt()
}

/// A good answer.
pub(super) struct Answer {
    /// Where it came from.
    pub(super) url: String,
    response: ureq::http::Response<Body>,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The bytes that follow, if the server says how many.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.body().content_length()
    }

    pub(super) fn reader(&mut self) -> impl io::Read + '_ {
        self.response.body_mut().as_reader()
    }

    /// The whole body, of at most 10 MiB.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Failure> {
        let bytes = self.response.body_mut().read_to_vec();
        bytes.map_err(|error| Failure::of(&error, &self.url))
    }

    /// The body's JSON.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let bytes = self.bytes()?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Odd(format!("{}: {error}", plain(&self.url))))
    }

    /// Where the content is instead; `None` if it is here.
    fn elsewhere(&self) -> Result<Option<String>, Failure> {
        if !(300..400).contains(&self.status()) {
            return Ok(None);
        }
        let here = plain(&self.url);
        let target = self.header("Location").unwrap_or_default();
        let odd = || Failure::Odd(format!("{here} leads to `{target}`"));
        let scheme = self.url.split("://").next().unwrap_or_default();
        let absolute = if target.starts_with("http://") || target.starts_with("https://") {
            target.to_owned()
        } else if target.starts_with("//") {
            format!("{scheme}:{target}")
        } else if target.starts_with('/') {
            let uri: Uri = self.url.parse().map_err(|_| odd())?;
            let authority = uri.authority().ok_or_else(odd)?;
            format!("{scheme}://{authority}{target}")
        } else {
            return Err(odd());
        };
        if origin(&absolute).is_none() {
            return Err(odd());
        }
        Ok(Some(absolute))
    }
}

/// A file as the Hub describes it before it is fetched.
pub(super) struct Found {
    /// Names the content; unchecked.
    pub(super) tag: String,
    /// In bytes, if the server says it.
    pub(super) size: Option<u64>,
    /// Where the content is.
    pub(super) url: String,
    /// The content, if it is on the Hub itself.
    pub(super) answer: Option<Answer>,
}

/// What of an address is asked for.
struct Wish<'a> {
    /// The content from this byte on.
    start: Option<u64>,
    /// An ETag or a date: of other content, all of it.
    validator: Option<&'a str>,
    /// Types of content, as in `Accept`.
    accepted: Option<&'a str>,
}

impl Wish<'_> {
    /// Content of any kind, from byte `start` on if it is given.
    fn from(start: Option<u64>) -> Self {
        Self {
            start,
            validator: None,
            accepted: None,
        }
    }
}

/// The Hub and who asks it.
pub(super) struct Network {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    /// Name and password for the endpoint's own addresses, as the header that opens them; in place of a token.
    login: Option<String>,
}

impl Network {
    /// A client that gives up a server from which nothing comes, or to which nothing goes, for
    /// `HF_HUB_DOWNLOAD_TIMEOUT` seconds, else `patience`.
    ///
    /// # Errors
    /// If the token that was found can't be one, or `SSL_CERT_FILE` has no certificates.
    pub(super) fn new(patience: Duration) -> Result<Self, Failure> {
        let mut network = Self::anonymous(patience)?;
        let token = Token::find();
        if let Some(token) = token.as_ref().filter(|token| !token.is_plain()) {
            return Err(Failure::Wrong(format!(
                "the token in {} has characters that no token has: copy it again",
                token.origin()
            )));
        }
        network.token = token;
        Ok(network)
    }

    /// The same for servers that are not the Hub: it knows no token.
    ///
    /// # Errors
    /// If `SSL_CERT_FILE` has no certificates.
    pub(super) fn anonymous(patience: Duration) -> Result<Self, Failure> {
        let set = std::env::var("HF_HUB_DOWNLOAD_TIMEOUT").ok();
        let set = set.and_then(|text| text.trim().parse().ok());
        let patience = set.filter(|&s| s > 0).map_or(patience, Duration::from_secs);
        Self::of(cache::endpoint(), None, patience)
    }

    /// A client of another server than the Hub, which gets no token.
    ///
    /// # Errors
    /// If `SSL_CERT_FILE` has no certificates.
    pub(super) fn of(
        endpoint: String,
        login: Option<String>,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let tls = TlsConfig::builder().root_certs(roots()?).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .accept_encoding("identity")
            .user_agent(concat!("trajformer/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience))
            .build();
        Ok(Self {
            agent: Agent::new_with_config(config),
            endpoint,
            token: None,
            login,
        })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What a file is and where, from the Hub's answer and, where that leads elsewhere without a word, from there.
    pub(super) fn find(&self, url: &str) -> Result<Found, Failure> {
        let (mut tag, mut size) = (None, None);
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let answer = self.step(&url, &Wish::from(None))?;
            let linked = |name: &str| answer.header(name).map(str::to_owned);
            tag = tag.or_else(|| linked("X-Linked-ETag"));
            size = size.or_else(|| linked("X-Linked-Size").and_then(|text| text.parse().ok()));
            let elsewhere = answer.elsewhere()?;
            match (elsewhere, &tag) {
                (Some(target), Some(tag)) if !self.is_ours(&target) => {
                    let (tag, url) = (tag.clone(), target);
                    let answer = None;
                    return Ok(Found {
                        tag,
                        size,
                        url,
                        answer,
                    });
                }
                (Some(target), _) => url = target,
                (None, _) => {
                    let tag = tag.or_else(|| linked("ETag"));
                    let tag = tag.ok_or_else(|| {
                        Failure::Odd(format!("no ETag of {}", plain(&answer.url)))
                    })?;
                    let size = size.or_else(|| answer.length());
                    let answer = Some(answer);
                    return Ok(Found {
                        tag,
                        size,
                        url,
                        answer,
                    });
                }
            }
        }
        Err(Failure::Odd(format!("{} leads on and on", plain(&url))))
    }

    /// The content of an address, from byte `start` on if it is given.
    pub(super) fn get(&self, url: &str, start: Option<u64>) -> Result<Answer, Failure> {
        self.follow(url, &Wish::from(start))
    }

    /// The same; of an address whose content has another `validator` (an ETag or a date) than before, all of it.
    pub(super) fn get_if(
        &self,
        url: &str,
        start: Option<u64>,
        validator: Option<&str>,
    ) -> Result<Answer, Failure> {
        let wish = Wish {
            validator,
            ..Wish::from(start)
        };
        self.follow(url, &wish)
    }

    /// The content of an address as one of the types `accepted`.
    pub(super) fn get_as(&self, url: &str, accepted: &str) -> Result<Answer, Failure> {
        let wish = Wish {
            accepted: Some(accepted),
            ..Wish::from(None)
        };
        self.follow(url, &wish)
    }

    fn follow(&self, url: &str, wish: &Wish<'_>) -> Result<Answer, Failure> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let answer = self.step(&url, wish)?;
            match answer.elsewhere()? {
                Some(target) => url = target,
                None => return Ok(answer),
            }
        }
        Err(Failure::Odd(format!("{} leads on and on", plain(&url))))
    }

    fn step(&self, url: &str, wish: &Wish<'_>) -> Result<Answer, Failure> {
        tracing::debug!("GET {}", plain(url));
        let mut request = self.agent.get(url);
        if let Some(accepted) = wish.accepted {
            request = request.header("Accept", accepted);
        }
        if let Some(secret) = self.secret_for(url) {
            request = request.header("Authorization", secret);
        }
        if let Some(start) = wish.start {
            request = request.header("Range", format!("bytes={start}-"));
            if let Some(validator) = wish.validator {
                request = request.header("If-Range", validator);
            }
        }
        self.answer(url, request.call())
    }

    /// Sends `body` by POST, as `kind`, with `headers`.
    pub(super) fn post(
        &self,
        url: &str,
        kind: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let mut request = self.agent.post(url).header("Content-Type", kind);
        // Servers of Git LFS answer in its own type.
        request = request.header(
            "Accept",
            if kind.contains("git-lfs") {
                kind
            } else {
                "*/*"
            },
        );
        if let Some(secret) = self.secret_for(url).filter(|_| !authorizes(headers)) {
            request = request.header("Authorization", secret);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.settled(self.answer(url, request.send(body)))
    }

    /// Sends `length` bytes of `body` by PUT, with `headers`.
    pub(super) fn put(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: &mut dyn io::Read,
        length: u64,
    ) -> Result<Answer, Failure> {
        let mut request = self.agent.put(url);
        if let Some(secret) = self.secret_for(url).filter(|_| !authorizes(headers)) {
            request = request.header("Authorization", secret);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.header("Content-Length", length.to_string());
        self.settled(self.answer(url, request.send(SendBody::from_reader(body))))
    }

    /// Something that was sent is not sent on to another address.
    fn settled(&self, answer: Result<Answer, Failure>) -> Result<Answer, Failure> {
        let answer = answer?;
        match answer.elsewhere()? {
            Some(target) => Err(Failure::Wrong(format!(
                "{} has moved to {}: name the repository as it is called now",
                plain(&answer.url),
                plain(&target)
            ))),
            None => Ok(answer),
        }
    }

    fn answer(
        &self,
        url: &str,
        found: Result<ureq::http::Response<Body>, ureq::Error>,
    ) -> Result<Answer, Failure> {
        let response = found.map_err(|error| Failure::of(&error, url))?;
        let url = url.to_owned();
        let mut answer = Answer { url, response };
        if answer.status() < 400 {
            return Ok(answer);
        }
        let word = said(&mut answer);
        // Whatever a server repeats, the token is not shown.
        let word = match &self.token {
            Some(token) => word.replace(token.text(), "***"),
            None => word,
        };
        Err(Failure::Refused(Box::new(Refusal {
            status: answer.status(),
            code: answer.header("X-Error-Code").map(str::to_owned),
            word,
            url: plain(&answer.url),
            retry_after: answer
                .header("Retry-After")
                .and_then(|t| t.trim().parse().ok()),
        })))
    }

    /// Whether an address is the Hub's own.
    pub(super) fn is_ours(&self, url: &str) -> bool {
        origin(url).is_some_and(|found| Some(found) == origin(&self.endpoint))
    }

    /// What opens the Hub's own addresses. Other hosts never see it.
    fn secret_for(&self, url: &str) -> Option<String> {
        if !self.is_ours(url) {
            return None;
        }
        let token = self.token.as_ref();
        let token = token.map(|token| format!("Bearer {}", token.text()));
        token.or_else(|| self.login.clone())
    }
}

/// The certificates in the file that `SSL_CERT_FILE` names, else Mozilla's, which are built in.
fn roots() -> Result<RootCerts, Failure> {
    let Some(path) = named("SSL_CERT_FILE") else {
        return Ok(RootCerts::WebPki);
    };
    let problem = |why: &str| {
        let path = path.display();
        Failure::Wrong(format!("{path}, which SSL_CERT_FILE names: {why}"))
    };
    let text = std::fs::read(&path).map_err(|error| problem(&error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(found) = item.map_err(|error| problem(&error.to_string()))? {
            certificates.push(found);
        }
    }
    if certificates.is_empty() {
        return Err(problem("it has no certificates"));
    }
    Ok(RootCerts::from(certificates))
}

fn authorizes(headers: &[(String, String)]) -> bool {
    let is_it = |(name, _): &(String, String)| name.eq_ignore_ascii_case("authorization");
    headers.iter().any(is_it)
}

/// What a server says of why it refuses: the Hub in JSON or a header, stores of files in XML.
fn said(answer: &mut Answer) -> String {
    let header = answer.header("X-Error-Message").map(str::to_owned);
    let body = answer.response.body_mut().with_config().limit(WORDS);
    let body = body.lossy_utf8(true).read_to_string().unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let named = ["error", "message"]
        .iter()
        .find_map(|&key| json[key].as_str());
    let marked = || {
        let (_, rest) = body.split_once("<Message>")?;
        Some(rest.split_once("</Message>")?.0)
    };
    let found = header.as_deref().or(named).or_else(marked);
    let found = found.map(str::trim).filter(|text| !text.is_empty());
    let shown: String = found
        .unwrap_or("no reason given")
        .chars()
        .take(SHOWN)
        .collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}
