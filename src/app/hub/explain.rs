//! What went wrong on the network, in words that say what to do.

use crate::app::hub::address::host;
use crate::app::hub::cache;
use crate::app::hub::network::{Failure, Refusal};
use crate::app::hub::reference::Reference;
use crate::app::hub::token::{Origin, Token};
use trajformer_core::error::Error;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Fetch,
    Publish,
}

/// The error for a user: what, where, what to do.
pub(super) fn explain(reference: &Reference, task: Task, failure: &Failure) -> Error {
    Error::Hub {
        what: reference.to_string(),
        problem: words(reference, task, failure),
    }
}

/// What went wrong and what to do.
pub(super) fn words(reference: &Reference, task: Task, failure: &Failure) -> String {
    let endpoint = cache::endpoint();
    match failure {
        Failure::Refused(refusal) => refused(reference, task, refusal),
        Failure::Unreachable { host, why } => format!(
            "{host} can't be reached ({why}); check the connection, HF_ENDPOINT and proxies{}",
            match task {
                Task::Fetch => ", or work offline from the cache with HF_HUB_OFFLINE=1",
                Task::Publish => "",
            }
        ),
        Failure::Broken { host, why } => format!(
            "the connection to {host} broke ({why}); run the same command again{}",
            match task {
                Task::Fetch => ": files that are whole stay",
                Task::Publish => "",
            }
        ),
        Failure::Odd(what) => {
            format!("{endpoint} does not answer as a Hub does ({what}); check HF_ENDPOINT")
        }
        Failure::Wrong(problem) => problem.clone(),
        Failure::Locked(path) => format!(
            "another process holds {}; wait for its end and try again",
            path.display()
        ),
        Failure::Disk(source) => format!(
            "the cache {} can't be written to ({source}); free space there, or name another place with HF_HUB_CACHE",
            cache::Cache::from_environment().root().display()
        ),
    }
}

fn refused(reference: &Reference, task: Task, refusal: &Refusal) -> String {
    let endpoint = cache::endpoint();
    let id = reference.id();
    let Refusal {
        status, word, url, ..
    } = refusal;
    // Where the Hub keeps files, permissions and names are other ones.
    let is_hub = url.starts_with(&format!("{endpoint}/"));
    match status {
        401 if is_hub => unauthorized(&endpoint, id, task),
        403 if is_hub => {
            let what = match task {
                Task::Fetch => format!(
                    "the repository may be gated: accept its conditions at {endpoint}/{id} with the account of \
                     your token, or use a token that may read it"
                ),
                Task::Publish => format!(
                    "your token may not write to it: use one with write permission for `{}`",
                    id.split('/').next().unwrap_or(id)
                ),
            };
            format!("{endpoint} refuses access (403: {word}); {what}")
        }
        404 if is_hub => not_found(reference),
        409 if is_hub => format!(
            "{endpoint} reports a conflict (409: {word}): somebody else changed the repository; try again"
        ),
        429 => {
            let wait = refusal.retry_after.map_or_else(
                || "wait a few minutes".to_owned(),
                |wait| format!("wait {wait} seconds"),
            );
            format!("{endpoint} was asked too often (429): {wait}, or set HF_TOKEN, and try again")
        }
        _ => {
            let host = if is_hub { endpoint } else { host(url) };
            format!("{host} answered {status} ({word}) for {url}; try again later")
        }
    }
}

fn unauthorized(endpoint: &str, id: &str, task: Task) -> String {
    let token = match Token::find().map(|token| token.origin().clone()) {
        Some(origin @ Origin::Variable(_)) => {
            format!("the token in {origin} is not valid there: make a new one")
        }
        Some(origin @ Origin::File(_)) => {
            format!("the token in {origin} is not valid there: `hf auth login` makes a new one")
        }
        None => "set HF_TOKEN to a token of yours".to_owned(),
    };
    match task {
        Task::Fetch => format!(
            "{endpoint} asks who you are (401): `{id}` is private or gated, or there is no such repository; \
             check the name, and {token}"
        ),
        Task::Publish => {
            format!("{endpoint} asks who you are (401): {token}, with write permission")
        }
    }
}

/// There is no such repository, revision, or nothing in it.
pub(super) fn not_found(reference: &Reference) -> String {
    format!(
        "not found (404): {} has no model `{}` with a revision `{}`; check both names",
        cache::endpoint(),
        reference.id(),
        reference.revision()
    )
}
