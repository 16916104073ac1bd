//! Fetches models: which commit, which of its files, in which order.

use std::path::PathBuf;
use std::time::Duration;

use hf_hub::api::RepoInfo;
use hf_hub::{Repo, RepoType};

use crate::app::hub::address::encoded;
use crate::app::hub::cache::{self, Cache};
use crate::app::hub::download::Snapshot;
use crate::app::hub::explain::{Task, explain, not_found};
use crate::app::hub::model::{Pulled, WANTED, WEIGHTS};
use crate::app::hub::network::{Failure, Network, patiently};
use crate::app::hub::progress::Bar;
use crate::app::hub::reference::Reference;
use crate::app::pretrained::weights;
use crate::app::pretrained::weights::Index;
use trajformer_core::error::{Error, Result};

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetches what is missing of a model, all files of one commit; then the cache knows it by its branch.
pub(super) fn pull(cache: &Cache, reference: &Reference) -> Result<Pulled> {
    let fail = |failure| explain(reference, Task::Fetch, &failure);
    let network = Network::new(PATIENCE).map_err(fail)?;
    // The commit is asked for first: a file's own answer may name an older one in which it was the same.
    let (commit, names) = commit(&network, reference).map_err(fail)?;
    let bar = Bar::new();
    let id = reference.id().to_owned();
    let download = Download {
        names: &names,
        snapshot: Snapshot {
            network: &network,
            repository: Repo::with_revision(id, RepoType::Model, commit.clone()),
            cache: hf_hub::Cache::new(cache.root().to_path_buf()),
            commit: &commit,
            bar: &bar,
        },
        reference,
        cache,
    };
    let result = download.all();
    bar.end();
    let folder = result?;
    cache.remember(reference, &commit)?;
    cache::describe(folder)
}

/// The commit that a reference is at now, and the names of its files, where the Hub was asked and says them.
fn commit(
    network: &Network,
    reference: &Reference,
) -> std::result::Result<(String, Vec<String>), Failure> {
    if reference.is_pinned() {
        return Ok((reference.revision().to_owned(), Vec::new()));
    }
    let revision = encoded(reference.revision(), "");
    let repository = Repo::with_revision(reference.id().to_owned(), RepoType::Model, revision);
    let url = format!("{}/api/{}", network.endpoint(), repository.api_url());
    let info: RepoInfo = patiently(|| network.get(&url, None)?.json())?;
    let is_commit = info.sha.len() == 40 && info.sha.chars().all(|c| c.is_ascii_hexdigit());
    if !is_commit {
        return Err(Failure::Odd(format!("`{}` as a commit", info.sha)));
    }
    let names = info.siblings.into_iter().map(|file| file.rfilename);
    Ok((info.sha, names.collect()))
}

struct Download<'a> {
    snapshot: Snapshot<'a>,
    reference: &'a Reference,
    /// Names of the repository's files, as far as they are known.
    names: &'a [String],
    cache: &'a Cache,
}

impl Download<'_> {
    /// The snapshot's folder.
    fn all(&self) -> Result<PathBuf> {
        let mut any = false;
        for name in WANTED {
            any |= self.one(name)?;
        }
        let weights = self.weights()?;
        let Some(folder) = self.folder().filter(|_| any || weights) else {
            return Err(self.fail(if self.names.is_empty() {
                not_found(self.reference)
            } else {
                weights::missing(self.names)
            }));
        };
        let has = |name: &str| folder.join(name).is_file();
        if !weights && (has("config.json") || !has("tokenizer.json")) {
            return Err(self.fail(weights::missing(self.names)));
        }
        Ok(folder)
    }

    fn folder(&self) -> Option<PathBuf> {
        self.cache.commit(self.reference, self.snapshot.commit)
    }

    /// Fetches the weights, in one file or in those that an index names; whether there are any.
    fn weights(&self) -> Result<bool> {
        for name in WEIGHTS {
            if self.one(name)? {
                return Ok(true);
            }
            let index = weights::index_name(name);
            if !self.one(&index)? {
                continue;
            }
            let path = self.folder().unwrap_or_default().join(&index);
            for part in Index::read(&path)?.files() {
                if !self.one(part)? {
                    return Err(self.fail(format!(
                        "{index} names `{part}`, which the repository does not have: tell its owner, or name an \
                         older revision"
                    )));
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn fail(&self, problem: String) -> Error {
        Error::Hub {
            what: self.reference.to_string(),
            problem,
        }
    }

    /// Fetches a file, if the repository has it; what it is known to lack is not asked for again.
    fn one(&self, name: &str) -> Result<bool> {
        let commit = self.snapshot.commit;
        if self.cache.is_known_missing(self.reference, commit, name) {
            return Ok(false);
        }
        if self.snapshot.place(name).is_file() {
            return Ok(true);
        }
        let is_listed = self.names.is_empty() || self.names.iter().any(|listed| listed == name);
        if !is_listed {
            self.cache.mark_missing(self.reference, commit, name)?;
            return Ok(false);
        }
        self.snapshot.bar.name(name);
        match patiently(|| self.snapshot.fetch(name)) {
            Ok(()) => Ok(true),
            Err(Failure::Refused(refusal)) if refusal.status == 404 => {
                match refusal.code.as_deref() {
                    Some("EntryNotFound") => {
                        self.cache.mark_missing(self.reference, commit, name)?;
                        Ok(false)
                    }
                    Some("RepoNotFound" | "RevisionNotFound") => {
                        Err(self.fail(not_found(self.reference)))
                    }
                    // Not every mirror of the Hub says what it is that is missing.
                    _ if self.snapshot.network.is_ours(&refusal.url) => Ok(false),
                    _ => {
                        let failure = Failure::Refused(refusal);
                        Err(explain(self.reference, Task::Fetch, &failure))
                    }
                }
            }
            Err(failure) => Err(explain(self.reference, Task::Fetch, &failure)),
        }
    }
}
