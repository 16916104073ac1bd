//! Publishes files as one commit of a model's repository.
//!
//! 1. The repository and the branch are made, if they are not there.
//! 2. The Hub says of each file whether it is to be in the commit itself or in Git LFS (`preupload`).
//! 3. Files for Git LFS go where its batch API says, whole or in parts, unless the Hub has their content.
//! 4. The commit names all of them. Before this step nothing can be seen.
//!
//! Where the Hub keeps large files in Xet, it takes them in this way too, and moves them there itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::app::hub::address::encoded;
use crate::app::hub::cache;
use crate::app::hub::download::{hexadecimal, sha256};
use crate::app::hub::explain::{Task, explain, words};
use crate::app::hub::lfs::{Actions, Batch, Object, Refused};
use crate::app::hub::network::{Answer, Failure, Network, patiently};
use crate::app::hub::progress::Bar;
use crate::app::hub::reference::Reference;
use trajformer_core::error::Result;

/// How long a server may be silent: commits take their time.
const PATIENCE: Duration = Duration::from_secs(120);
const JSON: &str = "application/json";
const LFS: &str = "application/vnd.git-lfs+json";
const LINES: &str = "application/x-ndjson";
/// As much of a file's beginning as the Hub looks at, in bytes.
const SAMPLE: u64 = 512;
const MESSAGE: &str = "Upload with trajformer";

type Outcome<T> = std::result::Result<T, Failure>;

/// Makes the repository if need be, and commits `files` and the card to it; the new commit's number.
pub(super) fn push(
    reference: &Reference,
    files: &[PathBuf],
    card: &str,
    private: bool,
) -> Result<Option<String>> {
    let fail = |failure| explain(reference, Task::Publish, &failure);
    let network = Network::new(PATIENCE).map_err(fail)?;
    let bar = Bar::new();
    let publication = Publication {
        network: &network,
        reference,
        bar: &bar,
    };
    let result = publication.all(files, card, private);
    bar.end();
    result.map_err(fail)
}

/// What is published under a name.
struct Piece {
    name: String,
    content: Content,
    /// In bytes, when it was looked at first.
    size: u64,
}

enum Content {
    Text(String),
    File(PathBuf),
}

trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

impl Piece {
    fn of_text(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            size: text.len() as u64,
            content: Content::Text(text.to_owned()),
        }
    }

    fn of_file(path: &PathBuf) -> Outcome<Self> {
        let name = path.file_name().unwrap_or_default();
        let mut piece = Self {
            name: name.to_string_lossy().into_owned(),
            size: 0,
            content: Content::File(path.clone()),
        };
        let size = std::fs::metadata(path).map(|found| found.len());
        piece.size = size.map_err(|error| piece.unreadable(&error))?;
        Ok(piece)
    }

    fn open(&self) -> Outcome<Box<dyn ReadSeek + '_>> {
        match &self.content {
            Content::Text(text) => Ok(Box::new(Cursor::new(text.as_bytes()))),
            Content::File(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(error) => Err(self.unreadable(&error)),
            },
        }
    }

    /// Up to `most` bytes from its beginning.
    fn beginning(&self, most: u64) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.open()?.take(most).read_to_end(&mut bytes);
        read.map_err(|error| self.unreadable(&error))?;
        Ok(bytes)
    }

    /// All of it, if it still has its size.
    fn bytes(&self) -> Outcome<Vec<u8>> {
        let bytes = self.beginning(self.size.saturating_add(1))?;
        if bytes.len() as u64 == self.size {
            Ok(bytes)
        } else {
            Err(self.changed())
        }
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        Failure::Wrong(format!("{} can't be read: {error}", self.name))
    }

    fn changed(&self) -> Failure {
        Failure::Wrong(format!(
            "{} changed while it was uploaded, and nothing was published: wait until the run is not being trained",
            self.name
        ))
    }
}

#[derive(Deserialize)]
struct Modes {
    files: Vec<Mode>,
}

/// What the Hub wants to be done with a file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_oid: Option<String>,
}

struct Publication<'a> {
    network: &'a Network,
    reference: &'a Reference,
    bar: &'a Bar,
}

impl Publication<'_> {
    fn all(&self, files: &[PathBuf], card: &str, private: bool) -> Outcome<Option<String>> {
        let mut pieces = vec![Piece::of_text("README.md", card)];
        for path in files {
            pieces.push(Piece::of_file(path)?);
        }
        self.make_repository(private)?;
        if self.reference.revision() != "main" {
            self.make_branch()?;
        }
        let (large, small) = self.sorted(pieces)?;
        let large = self.upload_all(large)?;
        self.commit(&small, &large)
    }

    fn post(&self, path: &str, value: &Value) -> Outcome<Answer> {
        let url = format!("{}/{path}", self.network.endpoint());
        let body = value.to_string();
        patiently(|| self.network.post(&url, JSON, &[], body.as_bytes()))
    }

    /// Makes the repository. One that is there already is fine, also for a token that may write to it but make none.
    fn make_repository(&self, private: bool) -> Outcome<()> {
        let id = self.reference.id();
        let value = match id.split_once('/') {
            Some((owner, name)) => {
                json!({"type": "model", "name": name, "organization": owner, "private": private})
            }
            None => json!({"type": "model", "name": id, "private": private}),
        };
        match self.post("api/repos/create", &value) {
            Err(Failure::Refused(refusal)) if refusal.status == 409 => Ok(()),
            Err(Failure::Refused(refusal)) if refusal.status == 403 => {
                let url = format!("{}/api/models/{id}", self.network.endpoint());
                let there = patiently(|| self.network.get(&url, None));
                there.map(drop).map_err(|_| Failure::Refused(refusal))
            }
            other => other.map(drop),
        }
    }

    fn make_branch(&self) -> Outcome<()> {
        match self.post(&self.path("branch"), &json!({})) {
            Err(Failure::Refused(refusal)) if refusal.status == 409 => Ok(()),
            other => other.map(drop),
        }
    }

    /// Where the Hub does something with the branch.
    fn path(&self, what: &str) -> String {
        let branch = encoded(self.reference.revision(), "");
        format!("api/models/{}/{what}/{branch}", self.reference.id())
    }

    /// Files for Git LFS, and files for the commit itself, as the Hub says; S3 takes no empty ones.
    fn sorted(&self, pieces: Vec<Piece>) -> Outcome<(Vec<Piece>, Vec<Piece>)> {
        let mut asked = Vec::new();
        for piece in &pieces {
            let sample = BASE64_STANDARD.encode(piece.beginning(SAMPLE)?);
            asked.push(json!({"path": piece.name, "size": piece.size, "sample": sample}));
        }
        let url = format!("{}/{}", self.network.endpoint(), self.path("preupload"));
        let body = json!({"files": asked}).to_string();
        let modes: Modes =
            patiently(|| self.network.post(&url, JSON, &[], body.as_bytes())?.json())?;
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mode = modes.files.iter().find(|mode| mode.path == piece.name);
            if mode.is_some_and(|mode| mode.should_ignore) {
                return Err(Failure::Wrong(format!(
                    "the repository's .gitignore keeps {} out, and nothing was published: change it there",
                    piece.name
                )));
            }
            match mode.map(|mode| mode.upload_mode.as_str()) {
                Some("lfs") if piece.size > 0 => large.push(piece),
                Some("lfs" | "regular") => small.push(piece),
                other => {
                    return Err(Failure::Odd(format!(
                        "`{}` as the way of {}",
                        other.unwrap_or_default(),
                        piece.name
                    )));
                }
            }
        }
        Ok((large, small))
    }

    /// Uploads what the Hub does not have; the pieces with their SHA-256.
    fn upload_all(&self, pieces: Vec<Piece>) -> Outcome<Vec<(Piece, String)>> {
        let mut large = Vec::new();
        for piece in pieces {
            self.bar.name(&piece.name);
            // What is added to a file meanwhile is not of it.
            let hash = sha256(&mut piece.open()?.take(piece.size));
            let hash = hash.map_err(|error| piece.unreadable(&error))?;
            large.push((piece, hash));
        }
        if large.is_empty() {
            return Ok(large);
        }
        let mut batch = self.batch(&large)?;
        for (piece, hash) in &large {
            let object = batch.remove(hash);
            // The same content under two names is uploaded once.
            let Some(actions) = object.and_then(|object| object.actions) else {
                continue;
            };
            self.upload(piece, hash, &actions)
                .map_err(|failure| match failure {
                    Failure::Wrong(_) => failure,
                    other => Failure::Wrong(format!(
                        "{} was not uploaded, and nothing was published: {}",
                        piece.name,
                        words(self.reference, Task::Publish, &other)
                    )),
                })?;
        }
        Ok(large)
    }

    /// Asks Git LFS what to do with content; what it says of each, by SHA-256.
    fn batch(&self, large: &[(Piece, String)]) -> Outcome<BTreeMap<String, Object>> {
        let objects: BTreeMap<&String, u64> =
            large.iter().map(|(p, hash)| (hash, p.size)).collect();
        let objects: Vec<Value> = objects
            .iter()
            .map(|(oid, size)| json!({"oid": oid, "size": size}))
            .collect();
        let value = json!({
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "objects": objects,
            "hash_algo": "sha256",
            "ref": {"name": self.reference.revision()},
        });
        let (endpoint, id) = (self.network.endpoint(), self.reference.id());
        let url = format!("{endpoint}/{id}.git/info/lfs/objects/batch");
        let body = value.to_string();
        let batch: Batch =
            patiently(|| self.network.post(&url, LFS, &[], body.as_bytes())?.json())?;
        let said = batch.objects.into_iter().map(|o| (o.oid.clone(), o));
        let said: BTreeMap<String, Object> = said.collect();
        for (piece, hash) in large {
            let object = said.get(hash);
            let object =
                object.ok_or_else(|| Failure::Odd(format!("no word on {}", piece.name)))?;
            if let Some(Refused { code, message }) = &object.error {
                return Err(Failure::Wrong(format!(
                    "{endpoint} does not take {} ({}: {}), and nothing was published",
                    piece.name,
                    code.unwrap_or_default(),
                    message.as_deref().unwrap_or("no reason given")
                )));
            }
        }
        Ok(said)
    }

    /// Sends content where the Hub wants it, and has it checked there.
    fn upload(&self, piece: &Piece, oid: &str, actions: &Actions) -> Outcome<()> {
        self.bar.name(&piece.name);
        self.bar.length(Some(piece.size));
        if let Some(action) = &actions.upload {
            let url = self.address(&action.href);
            match action.parts(piece.size)? {
                None => {
                    let whole = Slice {
                        start: 0,
                        length: piece.size,
                    };
                    let headers = action.headers();
                    self.put((piece, oid), &url, &headers, whole, &Sha256::new())?;
                }
                Some((chunk, urls)) => {
                    let mut hash = Sha256::new();
                    let mut parts = Vec::new();
                    for (number, part) in (1..).zip(urls) {
                        let start = (number - 1) * chunk;
                        let length = chunk.min(piece.size - start);
                        let slice = Slice { start, length };
                        let (answer, next) = self.put((piece, oid), &part, &[], slice, &hash)?;
                        let tag = answer.header("ETag").filter(|tag| !tag.is_empty());
                        let tag = tag.ok_or_else(|| {
                            Failure::Odd(format!("part {number} of {} without an ETag", piece.name))
                        })?;
                        parts.push(json!({"partNumber": number, "etag": tag}));
                        hash = next;
                    }
                    let whole = json!({"oid": oid, "parts": parts}).to_string();
                    patiently(|| self.network.post(&url, LFS, &[], whole.as_bytes()))?;
                }
            }
        }
        if let Some(action) = &actions.verify {
            let url = self.address(&action.href);
            let value = json!({"oid": oid, "size": piece.size}).to_string();
            let headers = action.headers();
            patiently(|| self.network.post(&url, LFS, &headers, value.as_bytes()))?;
        }
        Ok(())
    }

    /// Sends a slice of a file from the disk. `before` is the hash of what comes before it; returned is the hash up to
    /// its end. Where that is the file's, it has to be the one that it had.
    fn put(
        &self,
        (piece, oid): (&Piece, &str),
        url: &str,
        headers: &[(String, String)],
        slice: Slice,
        before: &Sha256,
    ) -> Outcome<(Answer, Sha256)> {
        patiently(|| {
            let mut source = piece.open()?;
            let sought = source.seek(SeekFrom::Start(slice.start));
            sought.map_err(|error| piece.unreadable(&error))?;
            let mut body = Sent {
                source,
                left: slice.length,
                position: slice.start,
                hash: before.clone(),
                is_short: false,
                bar: self.bar,
            };
            let answer = self.network.put(url, headers, &mut body, slice.length);
            let is_whole = body.left == 0 && body.position == piece.size;
            // Said before what the server says, which may have seen it too.
            if body.is_short || is_whole && hexadecimal(body.hash.clone()) != oid {
                return Err(piece.changed());
            }
            Ok((answer?, body.hash))
        })
    }

    /// An address that the Hub gave. One behind another address than its own names itself nevertheless.
    fn address(&self, href: &str) -> String {
        match href.strip_prefix(cache::ENDPOINT) {
            Some(rest) if rest.starts_with('/') => format!("{}{rest}", self.network.endpoint()),
            _ => href.to_owned(),
        }
    }

    /// Makes the commit; its number. It is asked for once: whether one whose answer got lost was made, nobody knows.
    fn commit(&self, small: &[Piece], large: &[(Piece, String)]) -> Outcome<Option<String>> {
        let header = json!({"summary": MESSAGE, "description": ""});
        let mut body = json!({"key": "header", "value": header}).to_string();
        for piece in small {
            let content = BASE64_STANDARD.encode(piece.bytes()?);
            let value = json!({"path": piece.name, "encoding": "base64", "content": content});
            body.push('\n');
            body.push_str(&json!({"key": "file", "value": value}).to_string());
        }
        for (piece, oid) in large {
            let value =
                json!({"path": piece.name, "algo": "sha256", "oid": oid, "size": piece.size});
            body.push('\n');
            body.push_str(&json!({"key": "lfsFile", "value": value}).to_string());
        }
        body.push('\n');
        let url = format!("{}/{}", self.network.endpoint(), self.path("commit"));
        let mut answer = self.network.post(&url, LINES, &[], body.as_bytes())?;
        let committed: Committed = answer.json()?;
        Ok(committed.commit_oid)
    }
}

#[derive(Clone, Copy)]
struct Slice {
    start: u64,
    length: u64,
}

/// A slice of a file on its way.
struct Sent<'a> {
    source: Box<dyn ReadSeek + 'a>,
    left: u64,
    position: u64,
    hash: Sha256,
    /// Whether the file ended before the slice did.
    is_short: bool,
    bar: &'a Bar,
}

impl Read for Sent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.left.min(buffer.len() as u64) as usize;
        let count = self.source.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            self.is_short = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hash.update(&buffer[..count]);
        self.left -= count as u64;
        self.position += count as u64;
        self.bar.position(self.position);
        Ok(count)
    }
}
