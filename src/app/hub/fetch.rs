//! One file from a server to a place on the disk: in pieces if need be, checked, and there as a whole or not at all.
//!
//! ```text
//! PLACE            the file, once it is whole and what was asked for
//! PLACE.part       what has come of it
//! PLACE.part.from  its address and what names its content there, so that it can be gone on with
//! .PLACE.lock      locked while a process fetches it
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::app::datasets::place::READABLE;
use crate::app::hub::address::plain;
use crate::app::hub::download::LOCK_WAIT;
use crate::app::hub::download::{continues, is_sha256, sha256};
use crate::app::hub::network::{Answer, FIRST_WAIT, Failure, Network, RETRIES};
use crate::app::hub::progress::Bar;
use crate::app::locks::lock_within;
use crate::formats::whole::check_arrays;
use trajformer_core::error::Error;
use trajformer_core::stand_in::{json, problem};

/// Bytes by which a page or a pointer is told from a file.
const LONGEST_START: u64 = 1 << 11;
/// Where there is no bar, how far a file has come is logged this often.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// How a server names the content of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// By an ETag or a date with the content.
    Plain,
    /// As the Hub does, before it leads to the content.
    Hub,
}

/// A file that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) server: Server,
    pub(super) address: &'a str,
    /// Where it is to be; its folder is made.
    pub(super) place: &'a Path,
    /// How it is called while it is fetched.
    pub(super) name: &'a str,
    /// Its bytes, if they are known beforehand.
    pub(super) size: Option<u64>,
    /// Its SHA-256, if it is known beforehand.
    pub(super) sha256: Option<&'a str>,
    /// What kind of file it is, which what came must be.
    pub(super) content: Content<'a>,
}

/// What a file is, as far as what comes can be told from something else.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    /// HDF5 or npz, with these arrays and maybe others.
    Arrays(&'a [&'a str]),
    /// Text in JSON.
    Json,
    /// Anything that is not a page, a pointer or nothing.
    Any,
}

impl Content<'_> {
    /// What a file with this name is.
    pub(super) fn by_name(name: &str) -> Self {
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some(ending) if READABLE.contains(&ending) => Self::Arrays(&[]),
            Some("json") => Self::Json,
            _ => Self::Any,
        }
    }

    /// Fails if the file is something else: says what.
    pub(super) fn check(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Arrays(names) => check_arrays(path, names),
            Self::Json => {
                let bytes = fs::read(path).map_err(Error::io(path))?;
                json(path, &bytes).map(drop)
            }
            Self::Any => {
                let mut start = Vec::new();
                let file = File::open(path).map_err(Error::io(path))?;
                let read = file.take(LONGEST_START).read_to_end(&mut start);
                read.map_err(Error::io(path))?;
                match problem(&start) {
                    Some(problem) => Err(Error::data(path, problem)),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What is about to come.
struct Coming {
    answer: Answer,
    /// The byte that it starts at.
    start: u64,
    /// The bytes of the whole file.
    total: Option<u64>,
    /// What names the content, if anything does.
    validator: Option<String>,
}

/// A file's place beside which others are.
pub(super) fn beside(place: &Path, front: &str, back: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!("{front}{name}{back}"))
}

/// The failure of a disk at a path.
pub(super) fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    move |error| {
        Failure::Wrong(format!(
            "{}: {error}; free space there, make it writable, or choose another folder",
            path.display()
        ))
    }
}

/// Keeps other processes from a place until what is returned is dropped.
pub(super) fn lock(place: &Path) -> Result<File, Failure> {
    let folder = place.parent().unwrap_or(place);
    fs::create_dir_all(folder).map_err(disk(folder))?;
    let path = beside(place, ".", ".lock");
    let file = File::create(&path).map_err(disk(&path))?;
    match lock_within(&file, LOCK_WAIT) {
        Err(TryLockError::WouldBlock) => Err(Failure::Locked(path)),
        // On a file system without locks, what two processes would spoil is found by its checksum.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Removes the lock's file, once nobody needs it any more: its place is filled.
pub(super) fn unlock(place: &Path, lock: File) {
    let _ = fs::remove_file(beside(place, ".", ".lock"));
    drop(lock);
}

impl Wanted<'_> {
    /// Fetches the file; its SHA-256. What is there of a former try is gone on from, if the server still has the same
    /// content. While much more of it comes with each try, it is tried again: at most 64 times and once a mebibyte.
    pub(super) fn fetch(&self, network: &Network, bar: &Bar) -> Result<String, Failure> {
        bar.name(self.name);
        let mut failures = 0;
        let mut wait = FIRST_WAIT;
        let mut most = self.have();
        let mut total = self.size;
        loop {
            match self.attempt(network, bar, &mut total) {
                Err(failure) if failure.may_pass() => {
                    // A server that knows no parts begins anew each time, and one may send a byte a time for ever.
                    let step = total.map_or(1 << 16, |total| (total / 64).clamp(1, 1 << 20));
                    if self.have() >= most.saturating_add(step) {
                        most = self.have();
                        (failures, wait) = (0, FIRST_WAIT);
                    }
                    failures += if failure.is_silence() { 2 } else { 1 };
                    if failures > RETRIES {
                        return Err(failure);
                    }
                    tracing::warn!(
                        "{}: {}; it is asked again, {} bytes have come",
                        self.name,
                        failure.why(),
                        self.have()
                    );
                    std::thread::sleep(wait);
                    wait *= 2;
                }
                other => return other,
            }
        }
    }

    fn part(&self) -> PathBuf {
        beside(self.place, "", ".part")
    }

    fn note(&self) -> PathBuf {
        beside(self.place, "", ".part.from")
    }

    /// Bytes that have come.
    fn have(&self) -> u64 {
        fs::metadata(self.part()).map_or(0, |part| part.len())
    }

    /// What named the content that has come, if it came from the same address.
    fn noted(&self) -> Option<String> {
        let text = fs::read_to_string(self.note()).ok()?;
        let (address, validator) = text.split_once('\n')?;
        (address == self.address && !validator.is_empty()).then(|| validator.to_owned())
    }

    /// One try; `total` becomes the bytes of the whole file, once a server says them.
    fn attempt(
        &self,
        network: &Network,
        bar: &Bar,
        total: &mut Option<u64>,
    ) -> Result<String, Failure> {
        let folder = self.place.parent().unwrap_or(self.place);
        fs::create_dir_all(folder).map_err(disk(folder))?;
        let tried = self.attempt_in(network, bar, total);
        if tried.is_err() && self.have() == 0 {
            // Nothing has come: there is nothing to go on with.
            self.remove();
        }
        tried
    }

    /// [`attempt`](Self::attempt), in a folder that is there.
    fn attempt_in(
        &self,
        network: &Network,
        bar: &Bar,
        total: &mut Option<u64>,
    ) -> Result<String, Failure> {
        let part = self.part();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&part)
            .map_err(disk(&part))?;
        let have = self.have();
        let mut expected = self.sha256.map(str::to_owned);
        // What is whole already is only checked.
        if expected.is_none() || self.size != Some(have) {
            let mut coming = match self.server {
                Server::Plain => self.ask(network, have)?,
                Server::Hub => self.ask_hub(network, have)?,
            };
            if let (Some(size), Some(found)) = (self.size, coming.total)
                && size != found
            {
                let what = match coming.stand_in() {
                    Some(problem) => format!("what is there {problem}"),
                    None => "it is another file".to_owned(),
                };
                return Err(Failure::Wrong(format!(
                    "{} has {found} bytes there, the published file has {size}: {what}; look what {} is",
                    self.name,
                    plain(self.address)
                )));
            }
            *total = coming.total.or(self.size);
            if self.server == Server::Hub && expected.is_none() {
                expected = coming.validator.clone().filter(|tag| is_sha256(tag));
            }
            if coming.start == 0 {
                let note = self.note();
                let text = format!(
                    "{}\n{}",
                    self.address,
                    coming.validator.as_deref().unwrap_or_default()
                );
                // The content that was there is another one's from here on.
                file.set_len(0).map_err(disk(&part))?;
                fs::write(&note, text).map_err(disk(&note))?;
            }
            bar.length(*total);
            self.receive(&mut coming, &mut file, bar)?;
        }
        file.sync_all().map_err(disk(&part))?;
        let checked = self.check(&part, *total, expected.as_deref());
        if matches!(checked, Err(Failure::Wrong(_))) {
            self.remove();
        }
        let sum = checked?;
        fs::rename(&part, self.place).map_err(disk(self.place))?;
        let _ = fs::remove_file(self.note());
        Ok(sum)
    }

    fn remove(&self) {
        let _ = fs::remove_file(self.part());
        let _ = fs::remove_file(self.note());
    }

    /// Asks for what is missing; for all of it, if it can't be told whether the server has the same content still.
    fn ask(&self, network: &Network, have: u64) -> Result<Coming, Failure> {
        let noted = self.noted().filter(|_| have > 0);
        if let Some(noted) = &noted {
            match network.get_if(self.address, Some(have), Some(noted)) {
                Ok(answer) if answer.status() == 206 => {
                    let is_same = validator(&answer).is_none_or(|found| found == *noted);
                    if is_same && continues(&answer, have)? {
                        let total = answer.length().map(|rest| have + rest);
                        return Ok(Coming {
                            answer,
                            start: have,
                            total,
                            validator: Some(noted.clone()),
                        });
                    }
                }
                // The server sends all of it, because it sends no parts or has other content now.
                Ok(answer) => return Ok(Coming::whole(answer)),
                Err(Failure::Refused(refusal)) if refusal.status == 416 => {}
                Err(other) => return Err(other),
            }
        }
        Ok(Coming::whole(network.get(self.address, None)?))
    }

    /// The same of the Hub, which says first what the content is and where it lies.
    fn ask_hub(&self, network: &Network, have: u64) -> Result<Coming, Failure> {
        let found = network.find(self.address)?;
        let tag = found.tag.trim().trim_start_matches("W/").trim_matches('"');
        let tag = tag.to_owned();
        let fits = found.size.is_none_or(|size| have < size);
        let start = if have > 0 && fits && self.noted().as_ref() == Some(&tag) {
            have
        } else {
            0
        };
        let answer = match found.answer {
            Some(answer) if start == 0 => answer,
            _ => match network.get(&found.url, Some(start).filter(|&start| start > 0)) {
                Err(Failure::Refused(refusal)) if refusal.status == 416 => {
                    network.get(&found.url, None)?
                }
                other => other?,
            },
        };
        let start = if continues(&answer, start)? { start } else { 0 };
        let total = found.size.or_else(|| Some(start + answer.length()?));
        Ok(Coming {
            answer,
            start,
            total,
            validator: Some(tag),
        })
    }

    /// Writes what comes. A server that does not end has sent one byte too many.
    fn receive(&self, coming: &mut Coming, file: &mut File, bar: &Bar) -> Result<(), Failure> {
        let part = self.part();
        file.set_len(coming.start).map_err(disk(&part))?;
        file.seek(SeekFrom::Start(coming.start))
            .map_err(disk(&part))?;
        let url = coming.answer.url.clone();
        let total = coming.total;
        let most = total.map_or(u64::MAX, |size| {
            size.saturating_add(1).saturating_sub(coming.start)
        });
        let mut reader = coming.answer.reader().take(most);
        let mut buffer = vec![0; 1 << 16];
        let mut position = coming.start;
        let mut said = Instant::now();
        loop {
            let count = reader.read(&mut buffer);
            let count = count.map_err(|error| Failure::reading(error, &url))?;
            if count == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..count]).map_err(disk(&part))?;
            position += count as u64;
            bar.position(position);
            if bar.is_hidden() && said.elapsed() >= SAID_EVERY {
                said = Instant::now();
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                match total {
                    Some(total) => {
                        tracing::info!(
                            "{}: {:.0} of {:.0} MiB",
                            self.name,
                            mib(position),
                            mib(total)
                        );
                    }
                    None => tracing::info!("{}: {:.0} MiB", self.name, mib(position)),
                }
            }
        }
    }

    /// Content that is not what was announced or published is named; else its SHA-256.
    fn check(
        &self,
        part: &Path,
        total: Option<u64>,
        expected: Option<&str>,
    ) -> Result<String, Failure> {
        let name = self.name;
        let found = fs::metadata(part).map_err(disk(part))?.len();
        if let Some(total) = total.filter(|&total| total != found) {
            let found = if found > total {
                format!("more than {total}")
            } else {
                found.to_string()
            };
            let mut start = Vec::new();
            let file = File::open(part).map_err(disk(part))?;
            let read = file.take(LONGEST_START).read_to_end(&mut start);
            read.map_err(disk(part))?;
            let what = match problem(&start).filter(|_| !start.is_empty()) {
                Some(problem) => {
                    format!(", and what came {problem}; it is {}", plain(self.address))
                }
                None => String::new(),
            };
            return Err(Failure::Wrong(format!(
                "{name}: {found} bytes came, {total} were announced{what}; what came is removed, run the same command again"
            )));
        }
        let odd = match self.content.check(part) {
            Ok(()) => None,
            Err(Error::Data { problem, .. }) => Some(problem),
            Err(Error::Io { source, .. }) => return Err(disk(part)(source)),
            Err(other) => Some(other.to_string()),
        };
        let sum = File::open(part).and_then(|mut file| sha256(&mut file));
        let sum = sum.map_err(disk(part))?;
        let other_sum = expected
            .filter(|expected| *expected != sum)
            .map(|expected| {
                format!("has another checksum than it should: SHA-256 {sum}, expected {expected}")
            });
        let problems: Vec<String> = odd.into_iter().chain(other_sum).collect();
        if problems.is_empty() {
            return Ok(sum);
        }
        Err(Failure::Wrong(format!(
            "{name}: what came {}; it is removed, look what {} is and run the same command again: if that is the same, do not \
             trust that server",
            problems.join(", and "),
            plain(self.address)
        )))
    }
}

impl Coming {
    /// What an answer that begins with the file's first byte is in place of a file, if that can be told from how it begins.
    fn stand_in(&mut self) -> Option<String> {
        if self.start > 0 {
            return None;
        }
        let mut start = Vec::new();
        let reader = self.answer.reader();
        reader.take(LONGEST_START).read_to_end(&mut start).ok()?;
        problem(&start)
    }

    fn whole(answer: Answer) -> Self {
        Self {
            start: 0,
            total: answer.length(),
            validator: validator(&answer),
            answer,
        }
    }
}

/// What names an answer's content byte for byte: a strong ETag, else when it was last changed.
fn validator(answer: &Answer) -> Option<String> {
    let tag = answer.header("ETag").filter(|tag| tag.starts_with('"'));
    let named = tag.or_else(|| answer.header("Last-Modified"))?.trim();
    (!named.is_empty() && !named.contains('\n')).then(|| named.to_owned())
}
