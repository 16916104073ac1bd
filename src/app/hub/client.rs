//! The network side, through `hf-hub`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::repository::{AddSource, CommitOperation};
use hf_hub::{HFClientSync, HFError, HFRepositorySync, RepoTypeModel, split_id};

use crate::app::hub::cache;
use crate::app::hub::cache::Cache;
use crate::app::hub::explain::{Task, explain, not_found};
use crate::app::hub::model::{Pulled, WANTED, WEIGHTS};
use crate::app::hub::progress::Bars;
use crate::app::hub::reference::Reference;
use crate::app::pretrained::weights;
use crate::app::pretrained::weights::Index;
use trajformer_core::error::{Error, Result};

/// Tries after the first, each after twice the wait of the one before.
const RETRIES: usize = 3;
const FIRST_WAIT: Duration = Duration::from_millis(100);

fn client(cache: &Cache, reference: &Reference, task: Task) -> Result<HFClientSync> {
    let client = hf_hub::HFClientBuilder::new()
        .endpoint(cache::endpoint())
        .cache_dir(cache.root())
        .retry_max_attempts(RETRIES)
        .retry_base_delay(FIRST_WAIT)
        .build_sync();
    client.map_err(|error| explain(reference, task, &error))
}

type Repository = HFRepositorySync<RepoTypeModel>;

/// Fetches what is missing of a model, all files of one commit; then the cache knows it by its branch.
pub(super) fn pull(cache: &Cache, reference: &Reference) -> Result<Pulled> {
    let client = client(cache, reference, Task::Fetch)?;
    let (owner, name) = split_id(reference.id());
    let repository = client.model(owner, name);
    // The commit is asked for first: a file's own answer may name an older one in which it was the same.
    let (commit, names) = commit(&repository, reference)?;
    let download = Download {
        commit,
        names,
        repository,
        reference,
        cache,
        bars: Bars::new(),
    };
    let result = download.all();
    download.bars.end();
    let folder = result?;
    cache.remember(reference, &download.commit)?;
    cache::describe(folder)
}

/// The commit that a reference is at now, and the names of its files, where the Hub was asked and says them.
fn commit(repository: &Repository, reference: &Reference) -> Result<(String, Vec<String>)> {
    if reference.is_pinned() {
        return Ok((reference.revision().to_owned(), Vec::new()));
    }
    let asked = repository.info().revision(reference.revision()).send();
    let info = asked.map_err(|error| explain(reference, Task::Fetch, &error))?;
    let files = info.siblings.unwrap_or_default();
    let names = files.into_iter().map(|file| file.rfilename).collect();
    let commit = info.sha.ok_or_else(|| {
        let missing = HFError::malformed_response("no commit of the model");
        explain(reference, Task::Fetch, &missing)
    })?;
    Ok((commit, names))
}

struct Download<'a> {
    repository: Repository,
    reference: &'a Reference,
    commit: String,
    /// Names of the repository's files, as far as they are known.
    names: Vec<String>,
    cache: &'a Cache,
    bars: Bars,
}

impl Download<'_> {
    /// The snapshot's folder.
    fn all(&self) -> Result<PathBuf> {
        let mut any = false;
        for name in WANTED {
            any |= self.one(name)?;
        }
        let weights = self.weights()?;
        let Some(folder) = self
            .cache
            .commit(self.reference, &self.commit)
            .filter(|_| any || weights)
        else {
            return Err(self.fail(if self.names.is_empty() {
                not_found(self.reference)
            } else {
                weights::missing(&self.names)
            }));
        };
        let has = |name: &str| folder.join(name).is_file();
        if !weights && (has("config.json") || !has("tokenizer.json")) {
            return Err(self.fail(weights::missing(&self.names)));
        }
        Ok(folder)
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
            let folder = self.cache.commit(self.reference, &self.commit);
            let path = folder.unwrap_or_default().join(&index);
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

    /// Fetches a file, if the repository has it.
    fn one(&self, name: &str) -> Result<bool> {
        if self
            .cache
            .is_known_missing(self.reference, &self.commit, name)
        {
            return Ok(false);
        }
        self.bars.name(name);
        let found = self
            .repository
            .download_file()
            .filename(name)
            .revision(&self.commit)
            .progress(self.bars.clone())
            .send();
        let path = match found {
            Ok(path) => path,
            Err(HFError::EntryNotFound { .. }) => return Ok(false),
            Err(error) => return Err(explain(self.reference, Task::Fetch, &error)),
        };
        self.check_size(name, &path)?;
        Ok(true)
    }

    /// Removes a file that is not as long as the server said, so that the next try fetches it anew.
    fn check_size(&self, name: &str, path: &Path) -> Result<()> {
        let found = std::fs::metadata(path).map_err(Error::io(path))?.len();
        match self.bars.announced(name) {
            Some(announced) if announced != found => {
                if let Ok(blob) = path.canonicalize() {
                    std::fs::remove_file(&blob).map_err(Error::io(&blob))?;
                }
                // A link to the blob; gone already where links are copies.
                let _ = std::fs::remove_file(path);
                Err(self.fail(format!(
                    "{name} has {found} bytes, the server announced {announced}: the connection broke, or the \
                     cached copy was damaged; it is removed, run the same command again"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Makes the repository if need be, and commits `files` and the card to it; the new commit's number.
///
/// `hf-hub` asks the server which files are large (`preupload`). Those go through Xet's storage, by `hf-hub`'s own
/// code, and the commit names their SHA-256; the others, and all files where the server offers no Xet, are in the
/// commit itself.
pub(super) fn push(
    reference: &Reference,
    files: &[PathBuf],
    card: &str,
    private: bool,
) -> Result<Option<String>> {
    let fail = |error: HFError| explain(reference, Task::Publish, &error);
    let client = client(&Cache::from_environment(), reference, Task::Publish)?;
    client
        .create_repository()
        .repo_id(reference.id())
        .repo_type(RepoTypeModel)
        .private(private)
        .exist_ok(true)
        .send()
        .map_err(fail)?;
    let (owner, name) = split_id(reference.id());
    let repository = client.model(owner, name);
    if reference.revision() != "main" {
        match repository
            .create_branch()
            .branch(reference.revision())
            .send()
        {
            Ok(()) | Err(HFError::Conflict { .. }) => {}
            Err(error) => return Err(fail(error)),
        }
    }
    let mut operations = vec![CommitOperation::Add {
        path_in_repo: "README.md".to_owned(),
        source: AddSource::bytes(card.as_bytes().to_vec()),
    }];
    for path in files {
        let name = path.file_name().unwrap_or_default();
        operations.push(CommitOperation::Add {
            path_in_repo: name.to_string_lossy().into_owned(),
            source: AddSource::File(path.clone()),
        });
    }
    let bars = Bars::new();
    bars.name(reference.id());
    let commit = repository
        .create_commit()
        .operations(operations)
        .commit_message("Upload with trajformer")
        .revision(reference.revision())
        .progress(bars.clone())
        .send();
    bars.end();
    Ok(commit.map_err(fail)?.commit_oid)
}
