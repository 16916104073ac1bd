//! `trajformer serve`: what policies do over HTTP is what they do here, and no client takes anything from another.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trajformer::config::RunConfig;
use trajformer::data;
use trajformer::evaluate::Evaluator;
use trajformer::interrupt::Interrupt;
use trajformer::policy::simple::RandomPolicy;
use trajformer::serve::{Address, ServeOptions, Server, Source};
use trajformer::{Dataset, envs, fit, run};

const ALGORITHMS: [(&str, &str); 6] = [
    ("bc", "hidden = [8]\nbatch_size = 8"),
    // Draws its actions.
    (
        "crr",
        "hidden = [8]\nbatch_size = 8\nsamples = 3\nweighted_acting = true",
    ),
    (
        "decision_transformer",
        "embedding = 8\nlayers = 1\nbatch_size = 4\ncontext_steps = 4\ntarget_returns = [-300.0]",
    ),
    (
        "trajectory_transformer",
        "bins = 7\nlayers = 1\nheads = 1\nembedding_per_head = 8\nbatch_size = 4\nwindow_transitions = 3\nplanner.horizon = 2\n\
         planner.beam_width = 3\nplanner.n_expand = 2\nplanner.k_act = 3\nplanner.max_context_transitions = 2\n\
         planner.plan_every_steps = 2",
    ),
    (
        "fast",
        "chunk_steps = 4\nexecute_steps = 2\nlayers = 1\nheads = 1\nembedding = 8\nbatch_size = 4",
    ),
    (
        "tap",
        "codes = 8\ncode_width = 4\nlayers = 1\nheads = 1\nembedding_per_head = 8\nbatch_size = 4\nwindow_transitions = 6\n\
         autoencoder_updates = 2\nplanner.horizon = 6\nplanner.beam_width = 3\nplanner.plan_every_steps = 2",
    ),
];

fn pendulum(steps: usize) -> Dataset {
    let mut env = envs::make("pendulum-v1").unwrap();
    let mut policy = RandomPolicy::new(env.spec());
    data::collect::collect(&mut *env, &mut policy, steps, 3).unwrap()
}

fn trained(folder: &Path, name: &str, settings: &str, updates: usize) -> PathBuf {
    let text = format!(
        "[train]\nupdates = {updates}\n[evaluate]\nenv = \"pendulum-v1\"\nepisodes = 2\nevery_updates = 1000\n[algorithm.{name}]\n{settings}\n"
    );
    let config = RunConfig::parse(&text).unwrap();
    let path = folder.join(format!("{name}-{updates}"));
    fit(&pendulum(600), &config).unwrap().save(&path).unwrap();
    path
}

fn bc(folder: &Path, updates: usize) -> PathBuf {
    trained(folder, ALGORITHMS[0].0, ALGORITHMS[0].1, updates)
}

/// A server that runs until this is dropped.
struct Running {
    address: SocketAddr,
    interrupt: Interrupt,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn of(runs: &[(&str, &Path)], change: impl FnOnce(&mut ServeOptions)) -> Self {
        let source = |(name, run): &(&str, &Path)| Source {
            name: (*name).to_owned(),
            run: run.to_path_buf(),
        };
        let mut options = ServeOptions {
            sources: runs.iter().map(source).collect(),
            addresses: vec![Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))],
            threads: 2,
            ..ServeOptions::default()
        };
        change(&mut options);
        let server = Server::open(&options).unwrap();
        let address = match &server.addresses().unwrap()[0] {
            Address::Tcp(address) => *address,
            Address::Unix(_) => SocketAddr::from(([127, 0, 0, 1], 1)),
        };
        let interrupt = Interrupt::new();
        let token = interrupt.clone();
        let thread = thread::spawn(move || server.run(&token).unwrap());
        Self {
            address,
            interrupt,
            thread: Some(thread),
        }
    }

    fn client(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Client(BufReader::new(stream))
    }

    fn metric(&self, line: &str) -> f64 {
        let text = self.client().ask("GET", "/metrics", "", b"").text();
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        let found = found.unwrap_or_else(|| panic!("{line} in\n{text}"));
        found.trim().parse().unwrap()
    }

    fn stop(&mut self) {
        self.interrupt.set();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.interrupt.set();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

/// One connection.
struct Client<S: Read>(BufReader<S>);

#[derive(Debug)]
struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Response {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn numbers(&self, key: &str) -> Vec<f32> {
        let value = self.json();
        let list = value[key].as_array().unwrap_or_else(|| panic!("{self:?}"));
        list.iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    fn floats(&self) -> Vec<f32> {
        assert_eq!(self.headers["content-type"], "application/octet-stream");
        let numbers = self.body.as_chunks::<4>().0;
        numbers.iter().map(|x| f32::from_le_bytes(*x)).collect()
    }

    fn detail(&self) -> String {
        assert_eq!(
            self.headers["content-type"], "application/problem+json",
            "{self:?}"
        );
        let value = self.json();
        assert_eq!(value["status"], self.status);
        value["detail"].as_str().unwrap().to_owned()
    }
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        let stream = self.0.get_mut();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
    }

    fn receive(&mut self) -> std::io::Result<Response> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length");
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body)?;
        Ok(Response {
            status,
            headers,
            body,
        })
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Response {
        self.send(method, path, headers, body);
        self.receive().unwrap()
    }

    fn post(&mut self, path: &str, body: &Value) -> Response {
        let body = body.to_string();
        self.ask(
            "POST",
            path,
            "Content-Type: application/json\r\n",
            body.as_bytes(),
        )
    }

    fn binary(&mut self, path: &str, headers: &str, numbers: &[f32]) -> Response {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let headers = format!("Content-Type: application/octet-stream\r\n{headers}");
        self.ask("POST", path, &headers, &bytes)
    }

    fn session(&mut self, model: &str) -> String {
        let opened = self.post(&format!("/v1/models/{model}/sessions"), &json!({}));
        assert_eq!(opened.status, 201, "{opened:?}");
        let id = opened.json()["session"].as_str().unwrap().to_owned();
        format!("/v1/models/{model}/sessions/{id}")
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_policy_acts_over_http_as_in_its_evaluation_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = ALGORITHMS
        .iter()
        .map(|(name, settings)| trained(folder.path(), name, settings, 4))
        .collect();
    let runs = ALGORITHMS.iter().zip(&paths);
    let runs: Vec<(&str, &Path)> = runs.map(|((name, _), path)| (*name, &**path)).collect();
    let server = Running::of(&runs, |_| {});
    let mut client = server.client();
    for (name, path) in runs {
        let trained = run::open(path, &[]).unwrap();
        let mut evaluator = Evaluator::new(&trained.config.evaluate).unwrap().unwrap();
        let mut policy = trained.policy().unwrap();
        let (_, rollouts) = evaluator.run_recorded(&mut *policy).unwrap();
        // Both episodes side by side, in the two ways of speaking.
        let places = [client.session(name), client.session(name)];
        for step in 0..60 {
            for (episode, place) in places.iter().enumerate() {
                let row = rollouts.episodes[episode].start + step;
                let observation = rollouts.observation(row);
                let reward = (step > 0).then(|| rollouts.rewards[row - 1]);
                let action = if episode == 0 {
                    let body = json!({"observation": observation, "reward": reward, "step": step});
                    client.post(place, &body).numbers("action")
                } else {
                    let headers = reward.map(|reward| format!("Trajformer-Reward: {reward}\r\n"));
                    let headers = headers.unwrap_or_default();
                    client.binary(place, &headers, observation).floats()
                };
                let expected = &rollouts.actions[row..=row];
                assert_eq!(bits(&action), bits(expected), "{name}, {step}, {episode}");
            }
        }
        let described = client
            .ask("GET", &format!("/v1/models/{name}"), "", b"")
            .json();
        assert_eq!(described["algorithm"], *name);
        assert_eq!(described["update"], trained.state.update);
        // Where the past doesn't count each row can be asked for by itself.
        let rows = rollouts.observation(0).repeat(16);
        let seed = format!("Trajformer-Seed: {}\r\n", trained.config.evaluate.seed);
        let answer = client.binary(&format!("/v1/models/{name}/act"), &seed, &rows);
        if described["needs_session"] == false {
            let found = answer.floats();
            assert_eq!(found.len(), 16);
            assert_eq!(found[0].to_bits(), rollouts.actions[0].to_bits(), "{name}");
            let streams = found.iter().any(|action| *action != found[0]);
            assert_eq!(streams, name == "crr", "each its own");
        } else {
            assert_eq!(answer.status, 409);
            assert!(answer.detail().contains("/sessions"), "{answer:?}");
        }
    }
    assert!(server.metric("trajformer_sessions ") == 12.0);
}

#[test]
fn requests_that_come_together_are_one_batch_and_each_gets_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = bc(folder.path(), 4);
    let server = Running::of(&[("bc", &path)], |options| {
        options.batch_wait = Duration::from_millis(300);
    });
    let observation = |number: usize| [number as f32 / 10.0, 0.5, -(number as f32)];
    let answers: Vec<(usize, Vec<f32>)> = thread::scope(|scope| {
        let asks = (0..6).map(|number| {
            let server = &server;
            scope.spawn(move || {
                let body = json!({"observation": observation(number)});
                let found = server.client().post("/v1/models/bc/act", &body);
                (number, found.numbers("action"))
            })
        });
        let asks: Vec<_> = asks.collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    let batches = server.metric("trajformer_batch_rows_count{model=\"bc\"} ");
    assert!(batches < 6.0, "{batches}");
    for (number, action) in &answers {
        let body = json!({"observations": [observation(*number)]});
        let alone = server.client().post("/v1/models/bc/act", &body).json();
        let alone = alone["actions"][0][0].as_f64().unwrap() as f32;
        assert_eq!(bits(action), bits(&[alone]), "{number}");
    }
    assert!(answers.iter().any(|(_, action)| action != &answers[0].1));
}

/// The client of docs/serving.md.
#[test]
fn the_client_of_the_documents_acts() {
    let text = fs::read_to_string("docs/serving.md").unwrap();
    let code = text.split("```python\n").nth(1).unwrap();
    let code = code.split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (name, settings) = ALGORITHMS[2];
    let path = trained(folder.path(), name, settings, 4);
    let server = Running::of(&[("walker", &path)], |_| {});
    let program = format!(
        "{code}\npolicy = Policy(\"{}\", \"walker\")\npolicy.reset(target_return=-200)\nobservation = (1, 0, 0.5)\n\
         first = policy.act(observation)\nsecond = policy.act(observation, reward=-1.0)\nassert len(first) == len(second) == 1\n\
         try: policy.act(observation)\nexcept RuntimeError as error: print(error)\n",
        server.address
    );
    let ran = Command::new("python3")
        .args(["-c", &program])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("`reward` is missing"), "{said}");
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = bc(folder.path(), 4);
    let server = Running::of(&[("bc", &path)], |options| options.body = 4096);
    let mut client = server.client();
    let cases: [(&str, &str, &str, u16, &[&str]); 16] = [
        (
            "POST",
            "/v1/models/bc/act",
            "{\"observation\": [1, 2]}",
            422,
            &["2 numbers", "expected 3"],
        ),
        (
            "POST",
            "/v1/models/bc/act",
            "{\"observations\": [[1, 2, 3], [1, 2]]}",
            422,
            &["row 1", "2 numbers"],
        ),
        (
            "POST",
            "/v1/models/bc/act",
            "{\"observation\": [1, 2, 1e39]}",
            422,
            &["number 2", "finite"],
        ),
        (
            "POST",
            "/v1/models/bc/act",
            "{\"observation\": [1, 2, \"a\"]}",
            422,
            &["observation[2]", "f32"],
        ),
        (
            "POST",
            "/v1/models/bc/act",
            "{\"observaton\": [1, 2, 3]}",
            422,
            &["observaton", "observation"],
        ),
        (
            "POST",
            "/v1/models/bc/act",
            "{\"observations\": []}",
            422,
            &["empty"],
        ),
        (
            "POST",
            "/v1/models/bc/act",
            "{}",
            422,
            &["either `observation`"],
        ),
        (
            "POST",
            "/v1/models/bc/act",
            "{\"observation\": [1, 2",
            400,
            &["EOF"],
        ),
        (
            "POST",
            "/v1/models/bc/act",
            "{\"observation\": [1, 2, 3]} x",
            400,
            &["trailing"],
        ),
        (
            "POST",
            "/v1/models/b/act",
            "{}",
            404,
            &["no model `b`", "bc"],
        ),
        ("GET", "/v1/models/bc/act", "", 405, &["openapi"]),
        ("GET", "/v2", "", 404, &["/v1/models"]),
        (
            "POST",
            "/v1/models/bc/sessions",
            "{\"goal\": [1, 2, 3]}",
            422,
            &["`goal`", "without goals"],
        ),
        (
            "POST",
            "/v1/models/bc/sessions",
            "{\"target_return\": 1}",
            422,
            &["aims at no return"],
        ),
        (
            "POST",
            "/v1/models/bc/sessions/0123",
            "{\"observation\": [1, 2, 3]}",
            404,
            &["no such session"],
        ),
        (
            "DELETE",
            "/v1/models/bc/sessions/0123",
            "",
            404,
            &["no such session"],
        ),
    ];
    for (method, path, body, status, words) in cases {
        let headers = "Content-Type: application/json\r\n";
        let found = client.ask(method, path, headers, body.as_bytes());
        assert_eq!(found.status, status, "{body}: {found:?}");
        let detail = found.detail();
        for word in words {
            assert!(detail.contains(word), "{body}: {word} in {detail}");
        }
    }
    let found = client.binary("/v1/models/bc/act", "", &[1.0, f32::NAN, 2.0]);
    assert_eq!(found.status, 422);
    assert!(found.detail().contains("number 1: NaN"), "{found:?}");
    let found = client.binary("/v1/models/bc/act", "", &[1.0; 4]);
    assert!(found.detail().contains("rows of 3"), "{found:?}");
    let found = client.ask(
        "POST",
        "/v1/models/bc/act",
        "Content-Type: application/octet-stream\r\n",
        &[0; 13],
    );
    assert!(found.detail().contains("multiple of 4"), "{found:?}");
    // A page in a browser can't send either kind without asking first.
    let found = client.ask(
        "POST",
        "/v1/models/bc/act",
        "Content-Type: text/plain\r\n",
        b"{}",
    );
    assert_eq!(found.status, 415);
    // Numbers that networks have no answer for.
    let found = client.post(
        "/v1/models/bc/act",
        &json!({"observation": [1e38, -1e38, 1e38]}),
    );
    assert!(
        found.status == 200 || found.detail().contains("no answer"),
        "{found:?}"
    );
    let numbers = vec![0.0f32; 3000];
    let found = client.binary("/v1/models/bc/act", "", &numbers);
    assert_eq!(found.status, 413);
    assert!(found.detail().contains("4096 bytes"), "{found:?}");
    // Without a length, in pieces.
    let mut client = server.client();
    let head = "POST /v1/models/bc/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let stream = client.0.get_mut();
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..3 {
        let mut piece = String::from("800\r\n");
        let _ = write!(piece, "{}\r\n", "a".repeat(0x800));
        stream.write_all(piece.as_bytes()).unwrap();
    }
    client.0.get_mut().write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().status, 413);
    assert_eq!(server.client().ask("GET", "/health", "", b"").status, 200);
}

#[test]
fn sessions_are_one_step_after_the_other_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (name, settings) = ALGORITHMS[2];
    let path = trained(folder.path(), name, settings, 4);
    let server = Running::of(&[("dt", &path)], |options| {
        options.sessions = 2;
        options.session_idle = Duration::from_secs(2);
    });
    let mut client = server.client();
    let place = client.session("dt");
    let observation = [0.5, 0.5, 1.0];
    let first = json!({"observation": observation, "step": 0});
    let early = client.post(&place, &json!({"observation": observation, "reward": 1.0}));
    assert!(early.detail().contains("first step"), "{early:?}");
    let action = client.post(&place, &first).numbers("action");
    // Again, since an answer may be lost: the same, and nothing is remembered twice.
    assert_eq!(client.post(&place, &first).numbers("action"), action);
    let missing = client.post(&place, &json!({"observation": observation}));
    assert!(
        missing.detail().contains("`reward` is missing"),
        "{missing:?}"
    );
    let last = json!({"observation": observation, "reward": 1.0, "step": u64::MAX});
    assert_eq!(client.post(&place, &last).status, 409);
    let ahead = json!({"observation": observation, "reward": 1.0, "step": 2});
    let ahead = client.post(&place, &ahead);
    assert_eq!(ahead.status, 409);
    assert!(ahead.detail().contains("at step 1"), "{ahead:?}");
    let next = json!({"observation": observation, "reward": 1.0, "step": 1, "action": [0.1]});
    let taken = client.post(&place, &next).numbers("action");
    // The same episode without the other action that was taken is another one.
    let other = client.session("dt");
    client.post(&other, &first);
    let next = json!({"observation": observation, "reward": 1.0, "step": 1});
    assert_ne!(client.post(&other, &next).numbers("action"), taken);
    let full = client.post("/v1/models/dt/sessions", &json!({}));
    assert_eq!(full.status, 503, "{full:?}");
    assert!(full.headers.contains_key("retry-after"));
    assert!(full.detail().contains("2 sessions are open"), "{full:?}");
    assert_eq!(client.ask("DELETE", &other, "", b"").status, 204);
    assert_eq!(client.ask("DELETE", &other, "", b"").status, 404);
    client.session("dt");
    let begin = Instant::now();
    while server.metric("trajformer_sessions ") > 0.0 {
        assert!(begin.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(server.metric("trajformer_sessions_expired_total "), 2.0);
    assert_eq!(client.post(&place, &next).status, 404);
}

/// A client's seed is its own matter: others' sessions draw what they would have drawn. A reload begins no stream anew.
#[test]
fn a_seed_is_one_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let (name, settings) = ALGORITHMS[1];
    let path = trained(folder.path(), name, settings, 4);
    let actions = |between: fn(&mut Client<TcpStream>)| {
        let server = Running::of(&[("crr", &path)], |_| {});
        let mut client = server.client();
        let mut found = Vec::new();
        for number in 0..12 {
            if number % 3 == 0 {
                between(&mut client);
            }
            let place = client.session("crr");
            let body = json!({"observation": [0.1, 0.2, 0.3]});
            found.push(client.post(&place, &body).numbers("action"));
            let rows = [0.1, 0.2, 0.3].repeat(4);
            found.push(client.binary("/v1/models/crr/act", "", &rows).floats());
        }
        found
    };
    let alone = actions(|_| {});
    assert!(alone.iter().step_by(2).any(|action| action != &alone[0]));
    let with_seeds = actions(|client| {
        client.post("/v1/models/crr/sessions", &json!({"seed": 7}));
        client.post(
            "/v1/models/crr/act",
            &json!({"observation": [0.1, 0.2, 0.3], "seed": 7}),
        );
    });
    assert_eq!(with_seeds, alone);
    let reloaded = actions(|client| {
        let found = client.ask("POST", "/v1/models/crr/reload", "", b"");
        assert_eq!(found.status, 200, "{found:?}");
    });
    assert_eq!(reloaded, alone);
}

/// Bodies up to the limit, and answers that their clients are still reading when the server ends.
#[test]
fn long_bodies_are_taken_and_long_answers_sent_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = bc(folder.path(), 4);
    let mut server = Running::of(&[("bc", &path)], |_| {});
    let rows = [0.1f32, 0.2, 0.3].repeat(1 << 18);
    let found = server.client().binary("/v1/models/bc/act", "", &rows);
    assert_eq!(found.floats().len(), 1 << 18);
    let count = 600_000;
    let mut body = String::from("{\"observations\":[[1,0,0]");
    body.push_str(&",[1,0,0]".repeat(count - 1));
    body.push_str("]}");
    let mut client = server.client();
    let json = "Content-Type: application/json\r\n";
    client.send("POST", "/v1/models/bc/act", json, body.as_bytes());
    // The first bytes of the answer: the rest waits for who reads it.
    let mut line = String::new();
    client.0.read_line(&mut line).unwrap();
    assert!(line.contains("200"), "{line}");
    let reading = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1500));
        let mut rest = Vec::new();
        let read = client.0.read_to_end(&mut rest);
        (read.is_ok(), rest)
    });
    server.stop();
    let (is_whole, rest) = reading.join().unwrap();
    let head = rest
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let answer: Value = serde_json::from_slice(&rest[head + 4..]).unwrap();
    assert_eq!(answer["actions"].as_array().unwrap().len(), count);
    assert!(is_whole);
}

/// Without a token pages that somebody's browser is led to could use the server in his place.
#[test]
fn pages_in_a_browser_are_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = bc(folder.path(), 4);
    let server = Running::of(&[("bc", &path)], |_| {});
    let ask = |headers: &str| {
        let mut client = server.client();
        let head =
            format!("POST /v1/models/bc/reload HTTP/1.1\r\nContent-Length: 0\r\n{headers}\r\n");
        client.0.get_mut().write_all(head.as_bytes()).unwrap();
        client.receive().unwrap()
    };
    for wrong in [
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: 127.0.0.1:8000\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: evil.example\r\n",
        "Host: evil.example:8000\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
    ] {
        let found = ask(wrong);
        assert_eq!(found.status, 403, "{wrong}");
        assert!(found.detail().contains("token"), "{found:?}");
    }
    for right in [
        "Host: localhost:8000\r\n",
        "Host: 127.0.0.1\r\n",
        "Host: [::1]:8000\r\n",
        "Host: LOCALHOST\r\nSec-Fetch-Site: none\r\n",
    ] {
        assert_eq!(ask(right).status, 200, "{right}");
    }
}

#[test]
fn a_new_checkpoint_acts_without_a_lost_request_and_sessions_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (bc(folder.path(), 4), bc(folder.path(), 8));
    let run = folder.path().join("run");
    let copy = |from: &Path| {
        let _ = fs::remove_dir_all(&run);
        fs::create_dir(&run).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), run.join(file.file_name())).unwrap();
        }
    };
    copy(&old);
    let server = Running::of(&[("run", &run)], |_| {});
    let mut client = server.client();
    let body = json!({"observation": [0.1, 0.2, 0.3]});
    let place = client.session("run");
    let before = client.post(&place, &body);
    let over = Interrupt::new();
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = server.client();
            let mut updates = Vec::new();
            while !over.is_set() {
                let found = client.post("/v1/models/run/act", &body);
                assert_eq!(found.status, 200, "{found:?}");
                updates.push(found.json()["update"].as_u64().unwrap());
            }
            updates
        });
        thread::sleep(Duration::from_millis(100));
        copy(&new);
        let found = client.ask("POST", "/v1/models/run/reload", "", b"");
        assert_eq!(
            found.json(),
            json!({"model": "run", "update": 8, "before": 4})
        );
        thread::sleep(Duration::from_millis(100));
        over.set();
        let updates = asking.join().unwrap();
        assert!(updates.is_sorted());
        assert_eq!([updates[0], *updates.last().unwrap()], [4, 8]);
    });
    let after = client.post(
        &place,
        &json!({"observation": [0.1, 0.2, 0.3], "reward": 0.0}),
    );
    assert_eq!(after.numbers("action"), before.numbers("action"));
    assert_eq!(after.headers["trajformer-update"], "4");
    assert_ne!(
        client.post("/v1/models/run/act", &body).numbers("action"),
        before.numbers("action")
    );
    // What can't be opened changes nothing.
    fs::write(run.join("state.toml"), "update = ").unwrap();
    let found = client.ask("POST", "/v1/models/run/reload", "", b"");
    assert_eq!(found.status, 409);
    assert!(found.detail().contains("state.toml"), "{found:?}");
    assert_eq!(client.post("/v1/models/run/act", &body).json()["update"], 8);
}

#[test]
fn new_checkpoints_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (run, new) = (bc(folder.path(), 4), bc(folder.path(), 8));
    // As its name says now, which may be another folder later.
    let named = PathBuf::from(format!("{}@last", run.display()));
    let server = Running::of(&[("run", &named)], |options| {
        options.follow = Some(Duration::from_millis(50));
    });
    for file in [
        "policy.safetensors",
        "model.safetensors",
        "training.safetensors",
        "state.toml",
    ] {
        let from = new.join(file);
        if from.exists() {
            fs::copy(from, run.join(file)).unwrap();
        }
    }
    let begin = Instant::now();
    while server.metric("trajformer_model_update{model=\"run\"} ") != 8.0 {
        assert!(begin.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn only_who_has_the_token_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = bc(folder.path(), 4);
    let token = "0123456789abcdef";
    let server = Running::of(&[("bc", &path)], |options| {
        options.token = Some(token.to_owned());
    });
    let mut client = server.client();
    let mut with = |header: &str| client.ask("GET", "/v1/models", header, b"");
    for wrong in [
        "",
        "Authorization: Bearer 0123456789abcdeg\r\n",
        "Authorization: Bearer 0123456789abcde\r\n",
        "Authorization: Basic 0123456789abcdef\r\n",
        "Authorization: 0123456789abcdef\r\n",
    ] {
        let found = with(wrong);
        assert_eq!(found.status, 401, "{wrong}");
        assert_eq!(found.headers["www-authenticate"], "Bearer");
        assert!(!found.text().contains(token));
    }
    assert_eq!(
        with(&format!("Authorization: Bearer {token}\r\n")).status,
        200
    );
    assert_eq!(server.client().ask("GET", "/health", "", b"").status, 200);
    let refused = |change: fn(&mut ServeOptions)| {
        let mut options = ServeOptions {
            sources: vec![Source::parse(&path.display().to_string()).unwrap()],
            ..ServeOptions::default()
        };
        change(&mut options);
        Server::open(&options).err().unwrap().to_string()
    };
    let open = refused(|options| options.addresses = vec!["0.0.0.0:0".parse().unwrap()]);
    assert!(open.contains("token"), "{open}");
    let short = refused(|options| options.token = Some("short".to_owned()));
    assert!(short.contains("16"), "{short}");
    assert!(!short.contains("short"), "{short}");
    let twice = refused(|options| options.sources.push(options.sources[0].clone()));
    assert!(twice.contains("NAME="), "{twice}");
}

#[test]
fn idle_slow_and_endless_clients_take_nothing_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = bc(folder.path(), 4);
    let server = Running::of(&[("bc", &path)], |options| {
        options.connections = 20;
        options.idle = Duration::from_secs(2);
        options.body_time = Duration::from_secs(1);
    });
    let ask = || {
        let body = json!({"observation": [0.1, 0.2, 0.3]});
        let found = server.client().post("/v1/models/bc/act", &body);
        assert_eq!(found.status, 200, "{found:?}");
    };
    // Five times as many as there may be, half of them in the midst of a head.
    let mut idle: Vec<TcpStream> = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /health HT").unwrap();
        }
        idle.push(stream);
        if number % 10 == 9 {
            ask();
        }
    }
    assert!(server.metric("trajformer_connections ") <= 22.0);
    assert!(server.metric("trajformer_connections_evicted_total ") >= 70.0);
    let closed = |stream: &mut TcpStream| {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    };
    let last = idle.last_mut().unwrap();
    let begin = Instant::now();
    closed(last);
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "idle for too long"
    );
    // A body that never comes to its end.
    let mut slow = server.client();
    let head = "POST /v1/models/bc/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"obs";
    slow.0.get_mut().write_all(head.as_bytes()).unwrap();
    ask();
    let found = slow.receive().unwrap();
    assert_eq!(found.status, 408);
    assert!(found.detail().contains("1 s"), "{found:?}");
    // One that says that it has a gigabyte is refused before it sends it.
    let mut long = server.client();
    let head = "POST /v1/models/bc/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n";
    long.0.get_mut().write_all(head.as_bytes()).unwrap();
    assert_eq!(long.receive().unwrap().status, 413);
    ask();
}

#[test]
fn what_is_under_way_is_answered_when_the_server_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = bc(folder.path(), 4);
    // A batch that takes some time.
    let mut server = Running::of(&[("bc", &path)], |options| {
        options.batch_wait = Duration::from_secs(2);
    });
    let mut clients: Vec<Client<TcpStream>> = (0..12).map(|_| server.client()).collect();
    for client in &mut clients {
        let body = b"{\"observation\": [0.1, 0.2, 0.3]}";
        let json = "Content-Type: application/json\r\n";
        client.send("POST", "/v1/models/bc/act", json, body);
    }
    let begin = Instant::now();
    server.stop();
    let took = begin.elapsed();
    for client in &mut clients {
        let found = client.receive().unwrap();
        assert_eq!(found.status, 200, "{found:?}");
        assert_eq!(found.headers["connection"], "close");
        assert!(
            took > Duration::from_secs(1),
            "it waited for nothing: {took:?}, {found:?}"
        );
    }
    assert!(TcpStream::connect(server.address).is_err());
}

#[cfg(unix)]
#[test]
fn a_socket_in_the_file_system_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    let folder = tempfile::tempdir().unwrap();
    let path = bc(folder.path(), 4);
    let socket = folder.path().join("policy.sock");
    // What a killed server has left.
    drop(UnixListener::bind(&socket).unwrap());
    let mut server = Running::of(&[("bc", &path)], |options| {
        options.addresses = vec![Address::Unix(socket.clone())];
    });
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut client = Client(BufReader::new(UnixStream::connect(&socket).unwrap()));
    let found = client.post(
        "/v1/models/bc/act",
        &json!({"observation": [0.1, 0.2, 0.3]}),
    );
    assert_eq!(found.status, 200);
    let options = ServeOptions {
        sources: vec![Source::parse(&format!("bc={}", path.display())).unwrap()],
        addresses: vec![Address::Unix(socket.clone())],
        ..ServeOptions::default()
    };
    let taken = Server::open(&options).err().unwrap().to_string();
    assert!(taken.contains("another program listens"), "{taken}");
    server.stop();
    assert!(!socket.exists());
}

#[cfg(unix)]
#[test]
fn the_command_says_where_it_listens_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = bc(folder.path(), 4);
    let mut child = Command::new(env!("CARGO_BIN_EXE_trajformer"))
        .args(["serve", "--listen", "127.0.0.1:0", "--threads", "1"])
        .arg(format!("arm={}", path.display()))
        .env_remove("TRAJFORMER_TOKEN")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let described = lines.next().unwrap().unwrap();
    assert!(
        described.starts_with("arm: bc, update 4, 3 observations"),
        "{described}"
    );
    let listening = lines.next().unwrap().unwrap();
    let address = listening.strip_prefix("listening at http://").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    let mut client = Client(BufReader::new(stream));
    let found = client.post(
        "/v1/models/arm/act",
        &json!({"observation": [0.1, 0.2, 0.3]}),
    );
    assert_eq!(found.status, 200);
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(killed.success());
    assert!(child.wait().unwrap().success());
    assert_eq!(lines.next().unwrap().unwrap(), "ended");
}
