//! [`Process`]: a Python interpreter that steps copies of an environment, spoken to in frames. What the frames mean stands in
//! worker.py, which it runs.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::envs::gym::options::{GymOptions, TIMEOUT, TIMEOUT_VARIABLE};
use trajformer_core::error::{Error, Result, shell_quoted};

const SCRIPT: &str = include_str!("worker.py");
/// What the first frame says: the name, and the version of what follows.
const GREETING: &[u8] = b"trajformer-gym\x01\x00\x00\x00";
/// Standard error is kept as far as this, for messages.
const LAST_BYTES: usize = 8 << 10;
const LAST_LINES: usize = 20;
/// What is asked of a channel at once.
const FRAME_BYTES: usize = 1 << 14;
/// Larger frames are none: something else speaks.
const MOST_BYTES: usize = 1 << 30;
/// How long the last words of a process that has ended may take.
const LISTENING: Duration = Duration::from_secs(3);
/// How long an environment may take to close.
const CLOSING: Duration = Duration::from_secs(10);

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// The greeting, which comes without a request.
    Start = 0,
    /// Make copies and describe them.
    Make = 1,
    /// Make more copies, or close some.
    Resize = 2,
    /// Start episodes.
    Reset = 3,
    /// Act.
    Step = 4,
    /// Show a copy.
    Render = 5,
}

impl Call {
    /// How messages name it.
    fn word(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Make => "gymnasium.make",
            Self::Resize => "gymnasium.make or close",
            Self::Reset => "reset",
            Self::Step => "step",
            Self::Render => "render",
        }
    }
}

/// Why a request failed.
#[derive(Debug, Deserialize)]
struct Failure {
    kind: String,
    text: String,
    #[serde(default)]
    traceback: String,
    #[serde(default)]
    package: String,
}

/// The last words on standard error.
type LastWords = Arc<Mutex<Vec<u8>>>;

/// A running interpreter. It ends when this is dropped, or when this process does.
pub(super) struct Process {
    /// Name of the environment, for messages.
    name: String,
    python: String,
    child: Child,
    channel: Option<UnixStream>,
    /// What a step may take.
    timeout: Duration,
    /// What the channel waits for now.
    limit: Duration,
    words: LastWords,
    listener: Option<JoinHandle<()>>,
    frame: Vec<u8>,
    /// What came behind it: the reply to the first request may follow the greeting at once.
    behind: Vec<u8>,
    /// The call whose reply is due.
    due: Option<Call>,
    has_copies: bool,
}

impl Process {
    /// Starts an interpreter for the environment `name`; its greeting is due.
    ///
    /// # Errors
    /// If there is none.
    pub fn start(name: &str, options: &GymOptions) -> Result<Self> {
        let python = options.interpreter();
        let failed = |problem: String| Error::Env {
            name: name.to_owned(),
            problem,
        };
        let timeout = options.patience().map_err(failed)?;
        let limit = timeout.max(TIMEOUT);
        let (channel, [input, output]) =
            channel(limit).map_err(|error| failed(format!("no channel to Python: {error}")))?;
        // The command holds the interpreter's ends, which must be closed here for its end to be seen.
        let child = Command::new(&python)
            .args(["-X", "faulthandler", "-u", "-c", SCRIPT])
            .envs(options.variables.iter().cloned())
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| failed(not_started(&python, &error)))?;
        let words = LastWords::default();
        let listener = child.stderr.take().map(|source| {
            let (words, name) = (Arc::clone(&words), name.to_owned());
            std::thread::spawn(move || listen(source, &words, &name))
        });
        Ok(Self {
            name: name.to_owned(),
            python: shell_quoted(&python),
            child,
            channel: Some(channel),
            timeout,
            limit,
            words,
            listener,
            frame: Vec::new(),
            behind: Vec::new(),
            due: Some(Call::Start),
            has_copies: false,
        })
    }

    fn failed(&self, problem: String) -> Error {
        Error::Env {
            name: self.name.clone(),
            problem,
        }
    }

    /// Sends a request; its reply is due then, unless another was before.
    ///
    /// # Errors
    /// If the interpreter has ended, or takes nothing.
    pub fn send(&mut self, call: Call, body: &[u8]) -> Result<()> {
        let Some(channel) = &mut self.channel else {
            return Err(self.failed("its Python process has ended before".to_owned()));
        };
        let limit = match call {
            Call::Start | Call::Make | Call::Resize => self.timeout.max(TIMEOUT),
            Call::Reset | Call::Step | Call::Render => self.timeout,
        };
        // Where it can't be set the former one stays.
        if limit != self.limit && limit_waiting(channel, limit).is_ok() {
            self.limit = limit;
        }
        let length = (body.len() + 1) as u32;
        let mut frame = Vec::with_capacity(body.len() + 5);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.push(call as u8);
        frame.extend_from_slice(body);
        match channel.write_all(&frame) {
            Ok(()) => {
                self.due = self.due.or(Some(call));
                Ok(())
            }
            Err(error) => Err(self.lost(self.due.unwrap_or(call), &error)),
        }
    }

    /// Waits for the greeting, which precedes the reply to the first request, `next`.
    ///
    /// # Errors
    /// If the interpreter has ended, or speaks in another way.
    pub fn receive_greeting(&mut self, next: Call) -> Result<()> {
        let greeting = self.receive()?;
        if greeting != GREETING {
            let python = self.python.clone();
            return Err(self.failed(format!(
                "{python} does not speak as a Python interpreter would here"
            )));
        }
        self.due = Some(next);
        Ok(())
    }

    /// Waits for the reply that is due.
    ///
    /// # Errors
    /// If none is due, the environment failed, the interpreter has ended, or nothing comes in time.
    pub fn receive(&mut self) -> Result<&[u8]> {
        let Some(call) = self.due.take() else {
            return Err(self.failed("no reply is due".to_owned()));
        };
        let read = self.read_frame();
        let is_alone = call == Call::Start || self.behind.is_empty();
        if let Err(error) = read.and(is_alone.then_some(()).ok_or(ErrorKind::InvalidData.into())) {
            return Err(self.lost(call, &error));
        }
        if self.frame[4] == 0 {
            self.has_copies |= call == Call::Make;
            return Ok(&self.frame[5..]);
        }
        let problem = match serde_json::from_slice::<Failure>(&self.frame[5..]) {
            Ok(failure) => self.explain(call, &failure),
            Err(error) => format!("`{}` failed, and how can't be read: {error}", call.word()),
        };
        Err(self.failed(problem))
    }

    /// Reads one frame.
    fn read_frame(&mut self) -> std::io::Result<()> {
        let Some(channel) = &mut self.channel else {
            return Err(ErrorKind::NotConnected.into());
        };
        self.frame.clear();
        self.frame.append(&mut self.behind);
        let mut filled = self.frame.len();
        loop {
            let mut length = 5;
            if let Some(header) = self.frame[..filled].first_chunk::<4>() {
                let body = u32::from_le_bytes(*header) as usize;
                if body == 0 || body > MOST_BYTES {
                    return Err(ErrorKind::InvalidData.into());
                }
                length = 4 + body;
            }
            if filled >= length {
                self.behind = self.frame[length..filled].to_vec();
                self.frame.truncate(length);
                return Ok(());
            }
            // More than is needed at first, so that most frames come in one piece; then as much again as has come, whatever a
            // header claims.
            let room = length.min(2 * filled).max(FRAME_BYTES);
            self.frame.resize(room, 0);
            match channel.read(&mut self.frame[filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What the interpreter says of a request that failed.
    fn explain(&self, call: Call, failure: &Failure) -> String {
        let Failure { kind, text, .. } = failure;
        match kind.as_str() {
            "missing" => format!(
                "{text}: {} -m pip install '{}'",
                self.python, failure.package
            ),
            "unknown" => format!(
                "{text} Where a module of its own registers it, name that too: `gym:MODULE:ID`, with MODULE as Python \
                 imports it"
            ),
            "raised" => {
                let Failure { traceback, .. } = failure;
                format!("`{}` raised {text}\n{traceback}", call.word())
            }
            _ => text.clone(),
        }
    }

    /// What is to be said of an interpreter that failed in `call`, which is ended if it hasn't.
    fn lost(&mut self, call: Call, error: &std::io::Error) -> Error {
        self.channel = None;
        self.due = None;
        let call = call.word();
        let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        let what = if is_late {
            let seconds = self.limit.as_secs_f64();
            self.end();
            format!(
                "`{call}` has not come back for {seconds} s, and its Python process was ended; {TIMEOUT_VARIABLE} sets \
                 another number of seconds"
            )
        } else {
            match self.end_within(CLOSING) {
                Some(status) => format!("its Python process ended in `{call}` ({status})"),
                None => format!("its Python process failed in `{call}`: {error}"),
            }
        };
        let words = self.last_words();
        self.failed(what + &words)
    }

    /// Waits for the process to end, and ends it if it takes too long. How it ended by itself.
    fn end_within(&mut self, most: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        let mut pause = Duration::from_micros(200);
        while start.elapsed() < most {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        self.end();
        None
    }

    fn end(&mut self) {
        // It may have ended by itself; then there is only its status to fetch.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The last lines on standard error, as the end of a message.
    fn last_words(&mut self) -> String {
        if let Some(listener) = self.listener.take() {
            // Its own children may hold standard error open.
            let start = Instant::now();
            while !listener.is_finished() && start.elapsed() < LISTENING {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let words = self.words.lock();
        let text = words.map_or_else(
            |_| String::new(),
            |words| String::from_utf8_lossy(&words).into_owned(),
        );
        let lines: Vec<&str> = text.lines().collect();
        match lines.len() {
            0 => String::new(),
            count => format!(
                "; its last words:\n{}",
                lines[count.saturating_sub(LAST_LINES)..].join("\n")
            ),
        }
    }

    /// Tells the process to end, without waiting for it.
    pub fn hang_up(&mut self) {
        self.channel = None;
        if !self.has_copies {
            self.end(); // It imports packages perhaps, and there is nothing to close.
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.hang_up();
        self.end_within(CLOSING);
    }
}

/// Our end of a channel with a time limit, and what is to be the interpreter's standard input and output.
fn channel(limit: Duration) -> std::io::Result<(UnixStream, [OwnedFd; 2])> {
    let (ours, theirs) = UnixStream::pair()?;
    limit_waiting(&ours, limit)?;
    let input = theirs.try_clone()?;
    Ok((ours, [OwnedFd::from(input), OwnedFd::from(theirs)]))
}

fn limit_waiting(channel: &UnixStream, limit: Duration) -> std::io::Result<()> {
    channel.set_read_timeout(Some(limit))?;
    channel.set_write_timeout(Some(limit))
}

fn not_started(python: &Path, error: &std::io::Error) -> String {
    format!(
        "no Python interpreter: {}: {error}; `evaluate.python` names the one that has gymnasium",
        shell_quoted(python)
    )
}

/// Keeps the last of what the interpreter writes to standard error, until nobody writes there any more.
fn listen(mut source: impl Read, words: &Mutex<Vec<u8>>, name: &str) {
    let mut part = [0; 1 << 12];
    loop {
        let count = match source.read(&mut part) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let text = String::from_utf8_lossy(&part[..count]);
        tracing::debug!("{name}: {}", text.trim_end());
        if let Ok(mut words) = words.lock() {
            words.extend_from_slice(&part[..count]);
            let more = words.len().saturating_sub(LAST_BYTES);
            words.drain(..more);
        }
    }
}
