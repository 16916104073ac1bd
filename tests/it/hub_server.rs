//! A Hub of our own on the loopback device: the requests that the client makes, answered as the real one does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// Files of a commit.
pub type Files = BTreeMap<String, Vec<u8>>;

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// Every request gets this status.
    Status(u16),
    /// The connection ends in the middle of this file's content.
    Breaks(&'static str),
    /// The content of this file is shorter than was announced when it was asked about.
    Shrinks(&'static str),
}

#[derive(Default)]
struct State {
    /// By repository, then commit.
    commits: BTreeMap<String, BTreeMap<String, Files>>,
    /// By repository, then branch.
    branches: BTreeMap<String, BTreeMap<String, String>>,
    /// Method, path and token of every request.
    requests: Vec<(String, String, Option<String>)>,
    fault: Fault,
}

/// The server; it answers until the process ends.
#[derive(Clone)]
pub struct Hub {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let hub = Self {
            endpoint,
            state: Arc::default(),
        };
        let shared = hub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = shared.clone();
                std::thread::spawn(move || hub.serve(stream));
            }
        });
        hub
    }

    /// Makes `files` the head of a branch; the commit's number.
    pub fn commit(&self, id: &str, branch: &str, files: Files) -> String {
        let mut state = self.state.lock().expect("the state");
        let commits = state.commits.entry(id.to_owned()).or_default();
        let number = format!("{:040x}", 0xabc0 + commits.len());
        commits.insert(number.clone(), files);
        let branches = state.branches.entry(id.to_owned()).or_default();
        branches.insert(branch.to_owned(), number.clone());
        number
    }

    /// Files at the head of a branch.
    pub fn head(&self, id: &str, branch: &str) -> Files {
        let state = self.state.lock().expect("the state");
        let commit = &state.branches[id][branch];
        state.commits[id][commit].clone()
    }

    pub fn set_fault(&self, fault: Fault) {
        self.state.lock().expect("the state").fault = fault;
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<(String, String, Option<String>)> {
        std::mem::take(&mut self.state.lock().expect("the state").requests)
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a connection"));
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => lines.push(line.trim_end().to_owned()),
            }
        }
        let header = |name: &str| {
            lines.iter().skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let length = header("content-length").map_or(0, |text| text.parse().expect("a length"));
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut words = lines[0].split(' ');
        let (method, path) = (
            words.next().expect("a method"),
            words.next().expect("a path"),
        );
        let path = path.split('?').next().expect("a path").replace("%2F", "/");
        let token = header("authorization");
        let known = header("if-none-match");
        let mut state = self.state.lock().expect("the state");
        state
            .requests
            .push((method.to_owned(), path.clone(), token));
        let answer = state.answer(method, &path, &body, known.as_deref());
        let fault = state.fault;
        drop(state);
        answer.send(stream, method, fault, &path);
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn json(status: u16, value: &Value) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", "application/json".into())],
            body: value.to_string().into_bytes(),
        }
    }

    fn send(self, mut stream: TcpStream, method: &str, fault: Fault, path: &str) {
        let (mut announced, mut body) = (self.body.len(), self.body);
        match fault {
            Fault::Breaks(file) if method == "GET" && path.ends_with(file) => {
                body.truncate(announced / 2);
            }
            Fault::Shrinks(file) if method == "GET" && path.ends_with(file) => {
                body.truncate(announced / 2);
                announced = body.len();
            }
            _ => {}
        }
        let mut head = format!("HTTP/1.1 {} Answer\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {announced}\r\n\r\n"));
        let body = if method == "HEAD" { &[][..] } else { &body[..] };
        // A client that has gone is not this server's trouble.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body));
    }
}

impl State {
    fn answer(&mut self, method: &str, path: &str, body: &[u8], known: Option<&str>) -> Answer {
        if let Fault::Status(status) = self.fault {
            return Answer::json(status, &json!({"error": "the test says no"}));
        }
        let missing = || Answer::json(404, &json!({"error": "not found"}));
        if let Some((id, rest)) = path[1..].split_once("/resolve/") {
            return self.resolve(id, rest, known).unwrap_or_else(missing);
        }
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        if method == "POST" && path == "/api/repos/create" {
            let owner = value["organization"].as_str();
            let name = value["name"].as_str().expect("a name");
            let id = owner.map_or_else(|| name.to_owned(), |owner| format!("{owner}/{name}"));
            if self.branches.contains_key(&id) {
                return Answer::json(409, &json!({"error": "it exists already"}));
            }
            self.commits
                .entry(id.clone())
                .or_default()
                .insert("0".repeat(40), Files::new());
            let main = ("main".to_owned(), "0".repeat(40));
            self.branches.entry(id.clone()).or_default().extend([main]);
            return Answer::json(200, &json!({"url": format!("http://hub/{id}")}));
        }
        let Some(rest) = path.strip_prefix("/api/models/") else {
            return missing();
        };
        if let Some((id, branch)) = rest.split_once("/revision/") {
            let commit = self
                .branches
                .get(id)
                .and_then(|branches| branches.get(branch));
            return commit.map_or_else(missing, |commit| {
                let files = self.commits[id][commit].keys();
                let siblings: Vec<Value> = files.map(|name| json!({"rfilename": name})).collect();
                let answer = json!({"_id": "0", "id": id, "sha": commit, "siblings": siblings});
                Answer::json(200, &answer)
            });
        }
        if rest.contains("/preupload/") {
            let files = value["files"].as_array().expect("files");
            let modes: Vec<Value> = files
                .iter()
                .map(|file| json!({"path": file["path"], "uploadMode": "regular"}))
                .collect();
            return Answer::json(200, &json!({"files": modes}));
        }
        if let Some((id, branch)) = rest.split_once("/branch/") {
            let branches = self.branches.entry(id.to_owned()).or_default();
            let main = branches["main"].clone();
            branches.insert(branch.to_owned(), main);
            return Answer::json(200, &json!({}));
        }
        match rest.split_once("/commit/") {
            Some((id, branch)) => self.commit(id, branch, body).unwrap_or_else(missing),
            None => missing(),
        }
    }

    fn resolve(&self, id: &str, rest: &str, known: Option<&str>) -> Option<Answer> {
        let branches = self.branches.get(id)?;
        let commits = &self.commits[id];
        let named = branches.iter().find_map(|(branch, commit)| {
            let file = rest.strip_prefix(branch.as_str())?.strip_prefix('/')?;
            Some((commit.clone(), file))
        });
        let (commit, file) = match named {
            Some(found) => found,
            None => {
                let (commit, file) = rest.split_once('/')?;
                commits
                    .contains_key(commit)
                    .then(|| (commit.to_owned(), file))?
            }
        };
        let commit_header = ("X-Repo-Commit", commit.clone());
        let Some(content) = commits[&commit].get(file) else {
            let mut answer = Answer::json(404, &json!({"error": "Entry not found"}));
            answer
                .headers
                .extend([commit_header, ("X-Error-Code", "EntryNotFound".into())]);
            return Some(answer);
        };
        let etag = format!("\"{:08x}{:08x}\"", crc32fast::hash(content), content.len());
        let fresh = known == Some(&etag);
        Some(Answer {
            status: if fresh { 304 } else { 200 },
            headers: vec![("ETag", etag), commit_header],
            body: if fresh { Vec::new() } else { content.clone() },
        })
    }

    fn commit(&mut self, id: &str, branch: &str, body: &[u8]) -> Option<Answer> {
        let head = self.branches.get(id)?.get(branch)?.clone();
        let mut files = self.commits[id][&head].clone();
        for line in body
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let entry: Value = serde_json::from_slice(line).expect("a line of JSON");
            if entry["key"] == "file" {
                let value = &entry["value"];
                let text = |key: &str| value[key].as_str().expect("a text");
                assert_eq!(text("encoding"), "base64");
                files.insert(text("path").to_owned(), base64(text("content")));
            }
        }
        let number = format!("{:040x}", 0xdef0 + self.commits[id].len());
        self.commits.get_mut(id)?.insert(number.clone(), files);
        self.branches
            .get_mut(id)?
            .insert(branch.to_owned(), number.clone());
        Some(Answer::json(
            200,
            &json!({"success": true, "commitOid": number}),
        ))
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for digit in text.bytes().filter(|&byte| byte != b'=') {
        let value = DIGITS.iter().position(|&d| d == digit).expect("a digit");
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
