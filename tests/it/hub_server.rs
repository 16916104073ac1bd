//! A Hub of our own on the loopback device: the requests that the client makes, answered as the real one does.
//!
//! Large files (by their names' ends, as there) lie on another host: the store, which is this server too, under the name
//! `localhost` and another port. Small ones are behind a redirect to a path of the Hub itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Files of a commit.
pub type Files = BTreeMap<String, Vec<u8>>;

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// Every request gets this status, and an error that repeats the token.
    Status(u16),
    /// So many requests get this status, then it is over.
    Times(u16, usize),
    /// Requests to paths with this word in them get this status, as a store of files says it.
    At(&'static str, u16),
    /// The connection ends in the middle of this file's content.
    Breaks(&'static str),
    /// The content of this file is shorter than was announced when it was asked about.
    Shrinks(&'static str),
    /// Asked for the rest of a file, it sends the whole.
    IgnoresRanges,
    /// Nothing is answered.
    Silent,
    /// Files are behind a redirect with this as its head.
    Redirect(&'static str),
    /// Files have this as their ETag.
    Tag(&'static str),
    /// The answer to every request are these bytes.
    Bytes(&'static str),
}

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Without its query.
    pub path: String,
    /// The header `Authorization`.
    pub token: Option<String>,
    pub range: Option<String>,
}

#[derive(Default)]
struct State {
    /// `http://127.0.0.1:PORT`, and `http://localhost:PORT` with another port.
    endpoint: String,
    store: String,
    /// By repository, then commit.
    commits: BTreeMap<String, BTreeMap<String, Files>>,
    /// By repository, then branch.
    branches: BTreeMap<String, BTreeMap<String, String>>,
    /// Content of large files by its SHA-256.
    objects: Files,
    /// Parts of such content, by `SHA-256/NUMBER`.
    parts: Files,
    /// Content of more bytes is uploaded in parts of so many.
    part_bytes: Option<usize>,
    requests: Vec<Request>,
    fault: Fault,
    /// Done when Git LFS is asked where to put files.
    on_batch: Option<Box<dyn FnOnce() + Send>>,
}

/// The server; it answers until the process ends.
#[derive(Clone)]
pub struct Hub {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

/// What a request is answered by.
struct Asked<'a> {
    request: &'a Request,
    body: &'a [u8],
    header: &'a dyn Fn(&str) -> Option<String>,
}

impl Hub {
    pub fn start() -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = listeners.each_ref().map(|listener| {
            let address = listener.local_addr().expect("an address");
            address.port()
        });
        let endpoint = format!("http://127.0.0.1:{}", ports[0]);
        let state = State {
            endpoint: endpoint.clone(),
            store: format!("http://localhost:{}", ports[1]),
            ..State::default()
        };
        let hub = Self {
            endpoint,
            state: Arc::new(Mutex::new(state)),
        };
        for listener in listeners {
            let shared = hub.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let hub = shared.clone();
                    std::thread::spawn(move || hub.serve(stream));
                }
            });
        }
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

    /// Files at the head of a branch; none if there is no such branch.
    pub fn head(&self, id: &str, branch: &str) -> Files {
        let state = self.state.lock().expect("the state");
        let commit = state.branches.get(id).and_then(|all| all.get(branch));
        commit.map_or_else(Files::new, |commit| state.commits[id][commit].clone())
    }

    pub fn set_fault(&self, fault: Fault) {
        self.state.lock().expect("the state").fault = fault;
    }

    pub fn set_part_bytes(&self, bytes: usize) {
        self.state.lock().expect("the state").part_bytes = Some(bytes);
    }

    /// Does something, once, when Git LFS is asked where to put files.
    pub fn on_batch(&self, what: impl FnOnce() + Send + 'static) {
        self.state.lock().expect("the state").on_batch = Some(Box::new(what));
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().expect("the state").requests)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a connection"));
        let mut lines: Vec<String> = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => {
                    // Asked to be a proxy, it is the other end too.
                    if !lines[0].starts_with("CONNECT ") {
                        break;
                    }
                    self.note(&lines);
                    lines.clear();
                    let _ = stream.write_all(b"HTTP/1.1 200 Go on\r\n\r\n");
                }
                Ok(_) => lines.push(line.trim_end().to_owned()),
            }
        }
        let header = |name: &str| value(&lines, name);
        let length = header("content-length").map_or(0, |text| text.parse().expect("a length"));
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let request = self.note(&lines);
        let mut state = self.state.lock().expect("the state");
        match state.fault {
            Fault::Silent => {
                std::mem::forget(stream);
                return;
            }
            Fault::Bytes(bytes) => {
                let _ = stream.write_all(bytes.as_bytes());
                return;
            }
            _ => {}
        }
        let asked = Asked {
            request: &request,
            body: &body,
            header: &header,
        };
        let answer = state.answer(&asked);
        let fault = state.fault;
        drop(state);
        answer.send(stream, &request, fault);
    }

    fn note(&self, lines: &[String]) -> Request {
        let mut words = lines[0].split(' ');
        let method = words.next().expect("a method").to_owned();
        let path = words.next().expect("a path");
        let path = path.split('?').next().expect("a path").replace("%2F", "/");
        let request = Request {
            method,
            path,
            token: value(lines, "authorization"),
            range: value(lines, "range"),
        };
        let mut state = self.state.lock().expect("the state");
        state.requests.push(request.clone());
        request
    }
}

/// A header's value.
fn value(lines: &[String], name: &str) -> Option<String> {
    lines.iter().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
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

    /// What a store of files says.
    fn xml(status: u16, word: &str) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", "application/xml".into())],
            body: format!("<Error><Code>X</Code><Message>{word}</Message></Error>").into_bytes(),
        }
    }

    fn empty() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Content, or what a range asks for of it.
    fn content(content: &[u8], range: Option<&str>) -> Self {
        let start = range.and_then(|text| text.strip_prefix("bytes=")?.split('-').next());
        let start: Option<usize> = start.and_then(|text| text.parse().ok());
        let Some(start) = start else {
            return Self {
                status: 200,
                headers: Vec::new(),
                body: content.to_vec(),
            };
        };
        let length = content.len();
        if start >= length {
            let mut answer = Self::xml(416, "not satisfiable");
            let range = format!("bytes */{length}");
            answer.headers.push(("Content-Range", range));
            return answer;
        }
        let range = format!("bytes {start}-{}/{length}", length - 1);
        Self {
            status: 206,
            headers: vec![("Content-Range", range)],
            body: content[start..].to_vec(),
        }
    }

    fn send(self, mut stream: TcpStream, request: &Request, fault: Fault) {
        let (mut announced, mut body) = (self.body.len(), self.body);
        // Not redirects to it.
        let is_content = request.method == "GET" && [200, 206].contains(&self.status);
        match fault {
            Fault::Breaks(file) if is_content && request.path.ends_with(file) => {
                body.truncate(announced / 2);
            }
            Fault::Shrinks(file) if is_content && request.path.ends_with(file) => {
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
        // A client that has gone is not this server's trouble.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&body));
    }
}

fn missing() -> Answer {
    Answer::json(404, &json!({"error": "not found"}))
}

impl State {
    fn answer(&mut self, asked: &Asked<'_>) -> Answer {
        let Request {
            method,
            path,
            token,
            range,
        } = asked.request;
        match self.fault {
            Fault::Status(status) => {
                let word = format!("the test says no to {}", token.as_deref().unwrap_or("all"));
                return Answer::json(status, &json!({"error": word}));
            }
            Fault::Times(status, times) if times > 0 => {
                self.fault = Fault::Times(status, times - 1);
                return Answer::json(status, &json!({"error": "not now"}));
            }
            Fault::At(word, status) if path.contains(word) => {
                return Answer::xml(status, "the store says no");
            }
            _ => {}
        }
        if let Some(rest) = path.strip_prefix("/store/") {
            let oid = rest.split('/').next().expect("an object");
            return match method.as_str() {
                "PUT" => self.keep(oid, asked),
                _ => {
                    let range = range
                        .as_deref()
                        .filter(|_| self.fault != Fault::IgnoresRanges);
                    let found = self.objects.get(oid);
                    found.map_or_else(missing, |content| Answer::content(content, range))
                }
            };
        }
        if let Some(part) = path.strip_prefix("/part/") {
            self.parts.insert(part.to_owned(), asked.body.to_vec());
            let tag = format!("\"tag-{}\"", part.rsplit('/').next().expect("a number"));
            let headers = vec![("ETag", tag)];
            return Answer {
                headers,
                ..Answer::empty()
            };
        }
        if let Some(rest) = path.strip_prefix("/api/resolve-cache/models/") {
            let (id, rest) = rest.split_once("/at/").expect("an ID");
            let (commit, file) = rest.split_once('/').expect("a commit");
            return Answer::content(&self.commits[id][commit][file], range.as_deref());
        }
        if let Some((id, rest)) = path[1..].split_once("/resolve/") {
            return self.resolve(id, rest).unwrap_or_else(missing);
        }
        self.published(asked)
    }

    /// Answers what publishing asks.
    fn published(&mut self, asked: &Asked<'_>) -> Answer {
        let path = asked.request.path.as_str();
        let value: Value = serde_json::from_slice(asked.body).unwrap_or_default();
        if let Some(id) = path.strip_suffix(".git/info/lfs/objects/batch") {
            return self.batch(&id[1..], &value, asked);
        }
        if path == "/complete" {
            return self.complete(&value);
        }
        if path == "/verify" {
            let oid = value["oid"].as_str().expect("an object");
            let size = self.objects.get(oid).map(Vec::len);
            let fits = size.is_some_and(|size| value["size"] == json!(size));
            let known = (asked.header)("x-verify").as_deref() == Some("7");
            return if fits && known && asked.request.token.is_some() {
                Answer::empty()
            } else {
                Answer::json(404, &json!({"message": "no such object"}))
            };
        }
        if path == "/api/repos/create" {
            let owner = value["organization"].as_str();
            let name = value["name"].as_str().expect("a name");
            let id = owner.map_or_else(|| name.to_owned(), |owner| format!("{owner}/{name}"));
            assert_eq!(value["type"], "model");
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
        // Of data sets the kind is a part of the ID here.
        let data = || {
            path.strip_prefix("/api/")
                .filter(|rest| rest.starts_with("datasets/"))
        };
        let Some(rest) = path.strip_prefix("/api/models/").or_else(data) else {
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
            let mode = |file: &Value| {
                let path = file["path"].as_str().expect("a path");
                let sample = base64(file["sample"].as_str().expect("a sample"));
                let size = file["size"].as_u64().expect("a size");
                assert_eq!(sample.len() as u64, size.min(512), "{path}");
                let mode = if is_large(path) { "lfs" } else { "regular" };
                json!({"path": path, "uploadMode": mode, "shouldIgnore": false})
            };
            let modes: Vec<Value> = files.iter().map(mode).collect();
            return Answer::json(200, &json!({"files": modes}));
        }
        if let Some((id, branch)) = rest.split_once("/branch/") {
            let branches = self.branches.entry(id.to_owned()).or_default();
            if branches.contains_key(branch) {
                return Answer::json(409, &json!({"error": "it exists already"}));
            }
            let main = branches["main"].clone();
            branches.insert(branch.to_owned(), main);
            return Answer::json(200, &json!({}));
        }
        match rest.split_once("/commit/") {
            Some((id, branch)) => self.committed(id, branch, asked).unwrap_or_else(missing),
            None => self
                .branches
                .get(rest)
                .map_or_else(missing, |_| Answer::json(200, &json!({"id": rest}))),
        }
    }

    fn resolve(&mut self, id: &str, rest: &str) -> Option<Answer> {
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
        let Some(content) = commits[&commit].get(file).cloned() else {
            let mut answer = Answer::json(404, &json!({"error": "Entry not found"}));
            answer
                .headers
                .extend([commit_header, ("X-Error-Code", "EntryNotFound".into())]);
            return Some(answer);
        };
        let (oid, size) = (sha256(&content), content.len());
        let (tag, location) = if is_large(file) {
            let location = format!("{}/store/{oid}/{file}?X-Signature=secret", self.store);
            self.objects.insert(oid.clone(), content);
            (oid, location)
        } else {
            let tag = format!("{:08x}{size:08x}", crc32fast::hash(&content));
            let location = format!("/api/resolve-cache/models/{id}/at/{commit}/{file}?etag={tag}");
            (tag, location)
        };
        let mut headers = vec![
            commit_header,
            ("X-Linked-ETag", format!("\"{tag}\"")),
            ("X-Linked-Size", size.to_string()),
        ];
        match self.fault {
            Fault::Tag(tag) => headers[1].1 = tag.to_owned(),
            Fault::Redirect("") => {}
            Fault::Redirect(location) => headers.push(("Location", location.to_owned())),
            _ => {}
        }
        if !matches!(self.fault, Fault::Redirect(_)) {
            headers.push(("Location", location));
        }
        Some(Answer {
            status: if is_large(file) { 302 } else { 307 },
            headers,
            body: b"Redirecting".to_vec(),
        })
    }

    /// Says where to put large files, if they are not here.
    fn batch(&mut self, id: &str, value: &Value, asked: &Asked<'_>) -> Answer {
        if let Some(what) = self.on_batch.take() {
            what();
        }
        let kind = "application/vnd.git-lfs+json";
        for name in ["accept", "content-type"] {
            assert_eq!((asked.header)(name).as_deref(), Some(kind), "{name}");
        }
        if !self.branches.contains_key(id) || asked.request.token.is_none() {
            return missing();
        }
        assert_eq!(value["operation"], "upload");
        assert_eq!(value["hash_algo"], "sha256");
        assert_eq!(value["transfers"], json!(["basic", "multipart"]));
        let objects = value["objects"].as_array().expect("objects");
        let objects = objects.iter().map(|object| {
            let oid = object["oid"].as_str().expect("an object");
            let size = object["size"].as_u64().expect("a size") as usize;
            if self.objects.contains_key(oid) {
                return object.clone();
            }
            let upload = match self.part_bytes.filter(|&bytes| size > bytes) {
                Some(bytes) => {
                    let mut header = json!({"chunk_size": bytes.to_string()});
                    for number in 1..=size.div_ceil(bytes) {
                        let url = format!("{}/part/{oid}/{number}?X-Signature=s", self.store);
                        header[format!("{number:05}")] = json!(url);
                    }
                    json!({"href": format!("{}/complete?id=1", self.endpoint), "header": header})
                }
                None => {
                    let href = format!("{}/store/{oid}?X-Signature=secret", self.store);
                    json!({"href": href, "header": {"x-upload": "yes"}})
                }
            };
            let verify =
                json!({"href": format!("{}/verify", self.endpoint), "header": {"x-verify": 7}});
            json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
        });
        let objects: Vec<Value> = objects.collect();
        Answer::json(200, &json!({"transfer": "basic", "objects": objects}))
    }

    fn keep(&mut self, oid: &str, asked: &Asked<'_>) -> Answer {
        assert_eq!((asked.header)("x-upload").as_deref(), Some("yes"));
        if sha256(asked.body) != oid {
            return Answer::xml(400, "the content has another hash");
        }
        self.objects.insert(oid.to_owned(), asked.body.to_vec());
        Answer::empty()
    }

    fn complete(&mut self, value: &Value) -> Answer {
        let oid = value["oid"].as_str().expect("an object");
        let mut content = Vec::new();
        for (number, part) in (1..).zip(value["parts"].as_array().expect("parts")) {
            assert_eq!(part["partNumber"], number);
            assert_eq!(part["etag"], format!("\"tag-{number}\""));
            content.extend(
                self.parts
                    .remove(&format!("{oid}/{number}"))
                    .expect("a part"),
            );
        }
        assert_eq!(sha256(&content), oid);
        self.objects.insert(oid.to_owned(), content);
        Answer::empty()
    }

    fn committed(&mut self, id: &str, branch: &str, asked: &Asked<'_>) -> Option<Answer> {
        let kind = (asked.header)("content-type");
        assert_eq!(kind.as_deref(), Some("application/x-ndjson"));
        let head = self.branches.get(id)?.get(branch)?.clone();
        let mut files = self.commits[id][&head].clone();
        let lines = asked.body.split(|&byte| byte == b'\n');
        for (number, line) in lines.filter(|line| !line.is_empty()).enumerate() {
            let entry: Value = serde_json::from_slice(line).expect("a line of JSON");
            let value = &entry["value"];
            let text = |key: &str| value[key].as_str().expect("a text");
            match entry["key"].as_str().expect("a key") {
                "header" => assert!(number == 0 && !text("summary").is_empty()),
                "file" => {
                    assert_eq!(text("encoding"), "base64");
                    files.insert(text("path").to_owned(), base64(text("content")));
                }
                "lfsFile" => {
                    assert_eq!(text("algo"), "sha256");
                    let content = self.objects.get(text("oid"))?;
                    assert_eq!(value["size"], content.len());
                    files.insert(text("path").to_owned(), content.clone());
                }
                other => panic!("a line `{other}`"),
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

/// Whether a file is in Git LFS.
fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", ".h5", ".msgpack", ".gguf"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

pub fn sha256(content: &[u8]) -> String {
    let digits = |byte: &u8| format!("{byte:02x}");
    Sha256::digest(content).iter().map(digits).collect()
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
