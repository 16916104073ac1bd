//! Data sets by name: which files they are made of, what is known of these, and the record of what came.
//!
//! ```text
//! DATA/d4rl/NAME.hdf5             a file of D4RL
//!     /ogbench/NAME.npz           OGBench's, with NAME-val.npz beside it
//!     /minari/NAME/data/...       a folder of Minari
//!     /hub/OWNER/NAME/...         a data set of the Hub
//! .../NAME.fetched.json           beside it: its files with their checksums
//! .../NAME.COMMIT.part            a folder that is on its way
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::RepoInfo;
use hf_hub::{Repo, RepoType};
use serde::{Deserialize, Serialize};

use crate::app::datasets::place::{self, READABLE};
use crate::app::datasets::{DataSet, HubName, Layout, Named};
use crate::app::hub::address::{encoded, host, plain};
use crate::app::hub::cache;
use crate::app::hub::download::sha256;
use crate::app::hub::fetch::{Content, Server, Wanted, beside, disk, lock, unlock};
use crate::app::hub::model::{Checked, DataFile, PulledData};
use crate::app::hub::network::{Failure, Network, patiently};
use crate::app::hub::progress::Bar;
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names the server to ask in place of D4RL's and OGBench's.
const MIRROR: &str = "TRAJFORMER_DATA_MIRROR";

/// The files of a data set as they were when they came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    name: String,
    /// The commit of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    files: Vec<DataFile>,
}

/// Fetches a data set to `place`, or compares what is there with what is known of it.
pub(super) fn pull(named: &Named, place: &Path) -> Result<PulledData> {
    let bar = Bar::new();
    let work = Work {
        name: named.name(),
        place,
        bar: &bar,
    };
    let found = work.all(named);
    bar.end();
    let (record, checked, is_new) = found?;
    Ok(PulledData {
        path: named.opened(place),
        place: place.to_path_buf(),
        readable: place::files(place),
        name: record.name,
        files: record.files,
        checked,
        is_new,
    })
}

struct Work<'a> {
    name: String,
    place: &'a Path,
    bar: &'a Bar,
}

/// A folder of a repository.
struct Folder<'a> {
    repository: &'a str,
    folder: &'a str,
    revision: &'a str,
}

impl Work<'_> {
    fn all(&self, named: &Named) -> Result<(Record, Checked, bool)> {
        match named {
            Named::Known(set) => match (&set.repository, &set.repository_folder) {
                (Some(repository), Some(folder)) => self.repository_files(&Folder {
                    repository,
                    folder,
                    revision: "main",
                }),
                _ => self.addressed_files(set),
            },
            Named::Hub(HubName {
                repository,
                folder,
                revision,
            }) => self.repository_files(&Folder {
                repository,
                folder,
                revision: revision.as_deref().unwrap_or("main"),
            }),
        }
    }

    fn record_path(&self) -> PathBuf {
        beside(self.place, "", ".fetched.json")
    }

    /// What came before; `None` if nothing did, or what is noted of it can't be read.
    fn record(&self) -> Option<Record> {
        let bytes = fs::read(self.record_path()).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn write(&self, record: &Record) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(record).map_err(Error::internal)?;
        bytes.push(b'\n');
        write_atomically(&self.record_path(), &bytes)
    }

    fn addressed_files(&self, set: &DataSet) -> Result<(Record, Checked, bool)> {
        let fail = |address: &str, failure: &Failure| self.explain(address, failure);
        let first = set.addresses.first().map_or("", String::as_str);
        let lock = lock(self.place).map_err(|failure| fail(first, &failure))?;
        let before = self.record();
        let network = Network::anonymous(PATIENCE).map_err(|failure| fail(first, &failure))?;
        let (mut files, mut is_new) = (Vec::new(), false);
        let mut checked = Checked::First;
        for (index, address) in set.addresses.iter().enumerate() {
            let place = match index {
                0 => self.place.to_path_buf(),
                _ => self.place.with_file_name(last(address)),
            };
            let name = last(&place.to_string_lossy()).to_owned();
            let noted = before
                .as_ref()
                .and_then(|record| record.files.iter().find(|file| file.name == name));
            let published = set.sha256.as_deref().filter(|_| index == 0);
            let expected = published.or(noted.map(|file| file.sha256.as_str()));
            if index == 0 {
                checked = match (published, expected) {
                    (Some(_), _) => Checked::Published,
                    (None, Some(_)) => Checked::AsBefore,
                    (None, None) => Checked::First,
                };
            }
            let content = Content::Arrays(match set.layout {
                Layout::Hdf5 => &["observations", "actions", "rewards"],
                Layout::Ogbench => &["observations", "actions"],
                Layout::Minari => &[],
            });
            let sum = if place.exists() {
                let sum = self.compare(&place, expected)?;
                if published.is_none() {
                    self.recognised(&place, content)?;
                }
                sum
            } else {
                is_new = true;
                let address = mirrored(address);
                let wanted = Wanted {
                    server: Server::Plain,
                    address: &address,
                    place: &place,
                    name: &name,
                    size: set.size.filter(|_| index == 0),
                    sha256: expected,
                    content,
                };
                wanted.fetch(&network, self.bar).map_err(|failure| {
                    let is_noted = published.is_none() && expected.is_some();
                    match failure {
                        Failure::Wrong(problem) if is_noted => fail(
                            &address,
                            &Failure::Wrong(format!(
                                "{problem}; the checksum was noted when it first came, in {}: if that was something else, remove this \
                                 note",
                                self.record_path().display()
                            )),
                        ),
                        failure => fail(&address, &failure),
                    }
                })?
            };
            let size = fs::metadata(&place).map_err(Error::io(&place))?.len();
            files.push(DataFile {
                name,
                size,
                sha256: sum,
            });
        }
        let record = Record {
            name: self.name.clone(),
            commit: None,
            files,
        };
        self.write(&record)?;
        unlock(self.place, lock);
        Ok((record, checked, is_new))
    }

    /// The SHA-256 of a file that is there, if it is the expected one.
    fn compare(&self, path: &Path, expected: Option<&str>) -> Result<String> {
        let sum = File::open(path).and_then(|mut file| sha256(&mut file));
        let sum = sum.map_err(Error::io(path))?;
        match expected {
            Some(expected) if expected != sum => Err(Error::data(
                path,
                format!(
                    "is not {}: its SHA-256 is {sum}, expected {expected}; remove it and run the same command again",
                    self.name
                ),
            )),
            _ => Ok(sum),
        }
    }

    /// Fails if a file that is there is something else, and forgets what was noted of it: its checksum names nothing that is wanted.
    fn recognised(&self, path: &Path, content: Content<'_>) -> Result<()> {
        content.check(path).map_err(|error| match error {
            Error::Data { path, problem } => {
                let _ = fs::remove_file(self.record_path());
                let problem = format!("{problem}; remove it, and run the same command again");
                Error::data(&path, problem)
            }
            other => other,
        })
    }

    fn repository_files(&self, folder: &Folder<'_>) -> Result<(Record, Checked, bool)> {
        let page = format!("{}/datasets/{}", cache::endpoint(), folder.repository);
        let fail = |failure: &Failure| self.explain(&page, failure);
        let lock = lock(self.place).map_err(|failure| fail(&failure))?;
        let before = self.record();
        if self.place.exists() {
            let (record, checked) = self.there(before)?;
            self.write(&record)?;
            unlock(self.place, lock);
            return Ok((record, checked, false));
        }
        if cache::offline() {
            return Err(Error::Hub {
                what: self.name.clone(),
                problem: format!(
                    "not in {}, and HF_HUB_OFFLINE is set: unset it to reach the Hub",
                    self.place.display()
                ),
            });
        }
        let network = Network::new(PATIENCE).map_err(|failure| fail(&failure))?;
        let (commit, names) = listed(&network, folder).map_err(|failure| fail(&failure))?;
        let names = self.chosen(folder, &names)?;
        let part = beside(self.place, "", &format!(".{:.8}.part", commit));
        let mut files = Vec::new();
        for (name, below) in &names {
            let address = format!(
                "{}/datasets/{}/resolve/{commit}/{}",
                network.endpoint(),
                folder.repository,
                encoded(name, "/")
            );
            let place = part.join(below);
            let noted = before.as_ref().and_then(|record| {
                // Another commit may have other files.
                let same = record.commit.as_deref() == Some(&commit);
                record.files.iter().find(|file| same && file.name == *below)
            });
            let sum = if place.is_file() {
                self.compare(&place, noted.map(|file| file.sha256.as_str()))?
            } else {
                let wanted = Wanted {
                    server: Server::Hub,
                    address: &address,
                    place: &place,
                    name: below,
                    size: None,
                    sha256: noted.map(|file| file.sha256.as_str()),
                    content: Content::by_name(below),
                };
                let fetched = wanted.fetch(&network, self.bar);
                fetched.map_err(|failure| self.explain(&address, &failure))?
            };
            if *below == METADATA {
                self.check_storage(&place)?;
            }
            let size = fs::metadata(&place).map_err(Error::io(&place))?.len();
            files.push(DataFile {
                name: below.clone(),
                size,
                sha256: sum,
            });
        }
        let record = Record {
            name: self.name.clone(),
            commit: Some(commit),
            files,
        };
        self.write(&record)?;
        fs::rename(&part, self.place).map_err(|error| fail(&disk(self.place)(error)))?;
        unlock(self.place, lock);
        Ok((record, Checked::First, true))
    }

    /// The record of a folder that is there, which it is compared with if there was one.
    fn there(&self, before: Option<Record>) -> Result<(Record, Checked)> {
        if let Some(record) = before {
            for file in &record.files {
                let path = self.place.join(&file.name);
                self.compare(&path, Some(&file.sha256))?;
                self.recognised(&path, Content::by_name(&file.name))?;
            }
            return Ok((record, Checked::AsBefore));
        }
        let mut files = Vec::new();
        for path in place::files(self.place) {
            let name = path.strip_prefix(self.place).unwrap_or(&path);
            self.recognised(&path, Content::by_name(&name.to_string_lossy()))?;
            files.push(DataFile {
                name: name.to_string_lossy().into_owned(),
                size: fs::metadata(&path).map_err(Error::io(&path))?.len(),
                sha256: self.compare(&path, None)?,
            });
        }
        let record = Record {
            name: self.name.clone(),
            commit: None,
            files,
        };
        Ok((record, Checked::First))
    }

    /// The files to fetch, as they are called in the repository and below the folder; metadata first, because it says
    /// whether the rest can be read.
    fn chosen(&self, folder: &Folder<'_>, names: &[String]) -> Result<Vec<(String, String)>> {
        let front = match folder.folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let safe = |below: &&str| {
            below
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\\'))
        };
        let inside = names.iter().filter_map(|name| {
            let below = name.strip_prefix(&front)?;
            Some((name.clone(), below)).filter(|(_, below)| safe(below))
        });
        let inside: Vec<(String, String)> = inside
            .map(|(name, below)| (name, below.to_owned()))
            .collect();
        let ending = |name: &str| {
            name.rsplit_once('.')
                .map_or("", |(_, ending)| ending)
                .to_owned()
        };
        let is_minari = inside.iter().any(|(_, below)| below == METADATA);
        let is_data = |below: &str| READABLE.contains(&ending(below).as_str());
        let mut chosen: Vec<_> = inside
            .iter()
            .filter(|(_, below)| is_data(below) || is_minari && below.starts_with("data/"))
            .cloned()
            .collect();
        chosen.sort_by_key(|(_, below)| (below != METADATA, below.clone()));
        if !chosen.is_empty() {
            return Ok(chosen);
        }
        let problem = if inside.is_empty() {
            let mut folders: Vec<&str> = names
                .iter()
                .filter_map(|name| name.rsplit_once('/'))
                .map(|(folder, _)| folder.trim_end_matches("/data"))
                .collect();
            folders.sort_unstable();
            folders.dedup();
            folders.truncate(12);
            format!(
                "{} has no folder `{}`; among its folders are {}",
                folder.repository,
                folder.folder,
                folders.join(", ")
            )
        } else {
            let mut endings: Vec<String> = inside.iter().map(|(_, below)| ending(below)).collect();
            endings.sort_unstable();
            endings.dedup();
            format!(
                "none of its files is of a format that is read here (HDF5, npz, Minari's folders): it has {}",
                endings.join(", ")
            )
        };
        Err(Error::Hub {
            what: self.name.clone(),
            problem,
        })
    }

    /// Fails for Minari's storage that no reader takes, before the large files come.
    fn check_storage(&self, metadata: &Path) -> Result<()> {
        let bytes = fs::read(metadata).map_err(Error::io(metadata))?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match value["data_format"].as_str() {
            Some("parquet") => Err(Error::Hub {
                what: self.name.clone(),
                problem: "it is stored as parquet, which no reader here takes yet: fetch it with minari, and save it in its \
                          storage `hdf5`"
                    .to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The error for a user: what, where, what to do.
    fn explain(&self, address: &str, failure: &Failure) -> Error {
        let shown = plain(address);
        let by_hand = format!(
            "or fetch it on another machine and put it at {}, where this command then checks it",
            self.place.display()
        );
        let problem = match failure {
            Failure::Unreachable { host, why } => format!(
                "{host} can't be reached ({why}); asked for {shown}. Check the connection and the proxies of HTTP_PROXY and \
                 HTTPS_PROXY and run the same command again, which goes on with what has come, {by_hand}"
            ),
            Failure::Broken { host, why } => format!(
                "the connection to {host} broke ({why}); run the same command again, it goes on where it stopped"
            ),
            Failure::Refused(refusal) => match refusal.status {
                404 | 410 => format!(
                    "{} is not there ({}: {}): its publisher has moved it; find its new place, {by_hand}",
                    refusal.url, refusal.status, refusal.word
                ),
                401 | 403 => format!(
                    "{} may not be fetched ({}: {}); for data sets of the Hub that are private or gated, set HF_TOKEN",
                    refusal.url, refusal.status, refusal.word
                ),
                status => format!(
                    "{} answered {status} ({}) for {}; try again later, {by_hand}",
                    host(&refusal.url),
                    refusal.word,
                    refusal.url
                ),
            },
            Failure::Odd(what) => format!("{} does not answer as expected ({what})", host(address)),
            Failure::Wrong(problem) => problem.clone(),
            Failure::Locked(path) => format!(
                "another process fetches it (it holds {}): wait for its end",
                path.display()
            ),
            Failure::Disk(source) => format!("{}: {source}", self.place.display()),
        };
        Error::Hub {
            what: self.name.clone(),
            problem,
        }
    }
}

/// What a data set of Minari has always.
const METADATA: &str = "data/metadata.json";

/// The last part of an address or a path.
fn last(address: &str) -> &str {
    address.rsplit('/').next().unwrap_or(address)
}

/// An address on the server that the user names in place of the publisher's.
fn mirrored(address: &str) -> String {
    let mirror = std::env::var(MIRROR).ok().filter(|text| !text.is_empty());
    match (mirror, address.splitn(4, '/').nth(3)) {
        (Some(mirror), Some(path)) => format!("{}/{path}", mirror.trim_end_matches('/')),
        _ => address.to_owned(),
    }
}

/// The commit that a repository is at, and the names of its files.
fn listed(
    network: &Network,
    folder: &Folder<'_>,
) -> std::result::Result<(String, Vec<String>), Failure> {
    let revision = encoded(folder.revision, "");
    let repository = Repo::with_revision(folder.repository.to_owned(), RepoType::Dataset, revision);
    let url = format!("{}/api/{}", network.endpoint(), repository.api_url());
    let info: RepoInfo = patiently(|| network.get(&url, None)?.json())?;
    let is_commit = info.sha.len() == 40 && info.sha.chars().all(|c| c.is_ascii_hexdigit());
    if !is_commit {
        return Err(Failure::Odd(format!("`{}` as a commit", info.sha)));
    }
    let names = info.siblings.into_iter().map(|file| file.rfilename);
    Ok((info.sha, names.collect()))
}
