//! One file from the Hub into the cache, in the layout that Hub libraries share.
//!
//! ```text
//! CACHE/models--OWNER--NAME/blobs/ETAG        content
//!                          /blobs/ETAG.part   content that is on its way
//!                          /snapshots/COMMIT/FILE  a link into blobs
//! CACHE/.locks/models--OWNER--NAME/ETAG.lock  locked while a process fetches it
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::app::hub::address::encoded;
use crate::app::hub::network::{Answer, Failure, Found, Network};
use crate::app::hub::progress::Bar;
use crate::app::locks::lock_within;

/// How long another process that fetches the same file is waited for.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A model's repository at one commit, there and in the cache.
pub(super) struct Snapshot<'a> {
    pub(super) network: &'a Network,
    pub(super) repository: hf_hub::Repo,
    pub(super) cache: hf_hub::Cache,
    pub(super) commit: &'a str,
    pub(super) bar: &'a Bar,
}

impl Snapshot<'_> {
    fn layout(&self) -> hf_hub::CacheRepo {
        self.cache.repo(self.repository.clone())
    }

    /// Where a file of the commit is in the cache.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.layout().pointer_path(self.commit).join(name)
    }

    /// Fetches a file: its content, unless that is there already, and the link to it.
    pub(super) fn fetch(&self, name: &str) -> Result<(), Failure> {
        let url = format!(
            "{}/{}/resolve/{}/{}",
            self.network.endpoint(),
            self.repository.url(),
            self.repository.url_revision(),
            encoded(name, "/")
        );
        let found = self.network.find(&url)?;
        let tag = tag(&found.tag)?;
        let blob = self.layout().blob_path(&tag);
        create_parent(&blob)?;
        let _lock = self.lock(&tag)?;
        let is_whole = |len: u64| found.size.is_none_or(|size| size == len);
        if !std::fs::metadata(&blob).is_ok_and(|there| there.is_file() && is_whole(there.len())) {
            let came = self.download(name, &tag, &blob, found);
            let part = blob.with_file_name(format!("{tag}.part"));
            if came.is_err() && std::fs::metadata(&part).is_ok_and(|part| part.len() == 0) {
                // Nothing has come: there is nothing to go on with.
                let _ = std::fs::remove_file(&part);
            }
            came?;
        }
        link(&blob, &self.place(name), name)
    }

    /// Keeps other processes from the same content until what is returned is dropped.
    fn lock(&self, tag: &str) -> Result<File, Failure> {
        let locks = self.cache.path().join(".locks");
        let path = locks
            .join(self.repository.folder_name())
            .join(format!("{tag}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).map_err(Failure::Disk)?;
        match lock_within(&file, LOCK_WAIT) {
            Err(TryLockError::WouldBlock) => Err(Failure::Locked(path)),
            // On a file system without locks, what two processes would spoil is found by its size and hash.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        }
    }

    /// Brings content into the cache by way of a file beside it. What is there of a former try is gone on from if the
    /// whole can be checked, which it can where the ETag is a SHA-256 (files in Git LFS or Xet).
    fn download(&self, name: &str, tag: &str, blob: &Path, found: Found) -> Result<(), Failure> {
        let part = blob.with_file_name(format!("{tag}.part"));
        let hash = is_sha256(tag).then_some(tag);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&part)
            .map_err(Failure::Disk)?;
        let mut start = file.metadata().map_err(Failure::Disk)?.len();
        if hash.is_none() || found.size.is_none_or(|size| start > size) {
            start = 0;
        }
        let mut announced = found.size;
        if start == 0 || announced != Some(start) {
            let mut answer = match found.answer {
                Some(answer) if start == 0 => answer,
                _ => self
                    .network
                    .get(&found.url, Some(start).filter(|&start| start > 0))?,
            };
            if !continues(&answer, start)? {
                start = 0;
            }
            announced = announced.or_else(|| answer.length().map(|rest| start + rest));
            self.bar.length(announced);
            self.receive(&mut answer, &mut file, start, announced)?;
        }
        let checked = check(name, &part, announced, hash);
        if checked.is_err() {
            std::fs::remove_file(&part).map_err(Failure::Disk)?;
        }
        checked?;
        file.sync_all().map_err(Failure::Disk)?;
        std::fs::rename(&part, blob).map_err(Failure::Disk)
    }

    /// Writes what comes into `file` from byte `start` on. A server that does not end has sent one byte too many.
    fn receive(
        &self,
        answer: &mut Answer,
        file: &mut File,
        start: u64,
        announced: Option<u64>,
    ) -> Result<(), Failure> {
        file.set_len(start).map_err(Failure::Disk)?;
        file.seek(std::io::SeekFrom::Start(start))
            .map_err(Failure::Disk)?;
        let url = answer.url.clone();
        let most = announced.map_or(u64::MAX, |size| size.saturating_add(1) - start);
        let mut reader = answer.reader().take(most);
        let mut buffer = vec![0; 1 << 16];
        let mut position = start;
        loop {
            let count = reader.read(&mut buffer);
            let count = count.map_err(|error| Failure::reading(error, &url))?;
            if count == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..count]).map_err(Failure::Disk)?;
            position += count as u64;
            self.bar.position(position);
        }
    }
}

/// Whether an answer begins at byte `start`; one from the beginning is fine too.
pub(super) fn continues(answer: &Answer, start: u64) -> Result<bool, Failure> {
    if answer.status() != 206 {
        return Ok(start == 0);
    }
    let range = answer.header("Content-Range").unwrap_or_default();
    let first = range
        .strip_prefix("bytes ")
        .and_then(|rest| rest.split('-').next())
        .and_then(|text| text.trim().parse::<u64>().ok());
    if first == Some(start) {
        Ok(true)
    } else {
        Err(Failure::Odd(format!(
            "asked for what follows byte {start}, it sent `{range}`"
        )))
    }
}

/// Content that is not what the server announced is named.
fn check(
    name: &str,
    part: &Path,
    announced: Option<u64>,
    hash: Option<&str>,
) -> Result<(), Failure> {
    let found = std::fs::metadata(part).map_err(Failure::Disk)?.len();
    if let Some(announced) = announced.filter(|&announced| announced != found) {
        // One byte more than announced is where reading stopped.
        let found = if found > announced {
            format!("more than {announced}")
        } else {
            found.to_string()
        };
        return Err(Failure::Wrong(format!(
            "{name} has {found} bytes, the server announced {announced}: the connection broke, or the copy there is \
             damaged; it is removed, run the same command again"
        )));
    }
    let Some(hash) = hash else { return Ok(()) };
    let content = sha256(&mut File::open(part).map_err(Failure::Disk)?);
    if content.map_err(Failure::Disk)? == hash {
        Ok(())
    } else {
        Err(Failure::Wrong(format!(
            "{name} is not what the server announced (another SHA-256): what came of it before or now is damaged; it \
             is removed, run the same command again"
        )))
    }
}

/// The SHA-256 of what is left to read, as hexadecimal digits.
pub(super) fn sha256(reader: &mut impl Read) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hexadecimal(hash)),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// A finished hash as hexadecimal digits.
pub(super) fn hexadecimal(hash: Sha256) -> String {
    let digits = |byte: &u8| format!("{byte:02x}");
    hash.finalize().iter().map(digits).collect()
}

pub(super) fn is_sha256(tag: &str) -> bool {
    tag.len() == 64 && tag.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

/// The name of content in the cache by its ETag, which may not lead out of there.
fn tag(etag: &str) -> Result<String, Failure> {
    let tag = etag.trim().trim_start_matches("W/").trim_matches('"');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !tag.is_empty() && tag.len() <= 128 && tag.chars().all(plain) {
        Ok(tag.to_owned())
    } else {
        Err(Failure::Odd(format!("an ETag `{etag}`")))
    }
}

fn create_parent(path: &Path) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(Failure::Disk)
}

/// Makes `place`, the file `name` of a snapshot, lead to `blob`.
fn link(blob: &Path, place: &Path, name: &str) -> Result<(), Failure> {
    // Another process was faster.
    if place.is_file() {
        return Ok(());
    }
    create_parent(place)?;
    // A link to content that is gone.
    if place.symlink_metadata().is_ok() {
        std::fs::remove_file(place).map_err(Failure::Disk)?;
    }
    #[cfg(unix)]
    {
        let mut target = PathBuf::new();
        // Out of the folders of the name, of the commit, and of the snapshots.
        for _ in 0..name.split('/').count() + 1 {
            target.push("..");
        }
        target.push("blobs");
        target.push(blob.file_name().unwrap_or_default());
        std::os::unix::fs::symlink(target, place).map_err(Failure::Disk)
    }
    #[cfg(not(unix))]
    {
        // Links need a permission there.
        let _ = name;
        std::fs::hard_link(blob, place)
            .or_else(|_| std::fs::copy(blob, place).map(drop))
            .map_err(Failure::Disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_a_name_and_nothing_else() {
        assert_eq!(tag("\"0af-3\"").expect("a name"), "0af-3");
        assert_eq!(tag("W/\"0af\"").expect("a name"), "0af");
        for odd in ["", "\"\"", "../0af", "/etc/x", "a.b", "a b", "..", "a\\b"] {
            assert!(tag(odd).is_err(), "{odd}");
        }
    }
}
