//! What went wrong on the network, in words that say what to do.

use std::env;

use hf_hub::HFError;

use crate::app::hub::cache;
use crate::app::hub::reference::Reference;
use trajformer_core::error::Error;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Fetch,
    Publish,
}

/// The error for a user: what, where, what to do.
pub(super) fn explain(reference: &Reference, task: Task, error: &HFError) -> Error {
    let endpoint = cache::endpoint();
    let id = reference.id();
    let problem = match error {
        HFError::AuthRequired { .. } => unauthorized(&endpoint, id, task),
        HFError::Forbidden { context } => {
            let word = context
                .server_message
                .as_deref()
                .unwrap_or("no reason given");
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
        HFError::RepoNotFound { .. }
        | HFError::RevisionNotFound { .. }
        | HFError::EntryNotFound { .. } => not_found(reference),
        HFError::RateLimited { retry_after, .. } => {
            let wait = retry_after.map_or_else(
                || "wait a few minutes".to_owned(),
                |wait| format!("wait {} seconds", wait.as_secs()),
            );
            format!("{endpoint} was asked too often (429): {wait}, or set HF_TOKEN, and try again")
        }
        HFError::Conflict { context } => {
            let word = context
                .server_message
                .as_deref()
                .unwrap_or("no reason given");
            format!(
                "{endpoint} reports a conflict (409: {word}): somebody else changed the repository; try again"
            )
        }
        HFError::Http { context } => {
            let word = context
                .server_message
                .as_deref()
                .unwrap_or("no reason given");
            format!(
                "{endpoint} answered {} ({word}) for {}; try again later",
                context.status.as_u16(),
                context.url
            )
        }
        HFError::Request { source, .. } if source.is_connect() || source.is_timeout() => format!(
            "{endpoint} can't be reached ({}); check the connection, HF_ENDPOINT and proxies, or work offline \
             from the cache with HF_HUB_OFFLINE=1",
            innermost(source)
        ),
        HFError::Request { source, .. } => format!(
            "the connection to {endpoint} broke ({}); run the same command again: files that are whole stay",
            innermost(source)
        ),
        HFError::MalformedResponse { what, .. } => {
            format!("{endpoint} does not answer as a Hub does ({what}); check HF_ENDPOINT")
        }
        HFError::CacheLockTimeout { path } => format!(
            "another process holds {}; wait for its end and try again",
            path.display()
        ),
        HFError::Io(source) => format!(
            "the cache {} can't be written to ({source}); free space there, or name another place with HF_HUB_CACHE",
            cache::Cache::from_environment().root().display()
        ),
        other => other.to_string(),
    };
    Error::Hub {
        what: reference.to_string(),
        problem,
    }
}

fn unauthorized(endpoint: &str, id: &str, task: Task) -> String {
    let token = if env::var("HF_TOKEN").is_ok_and(|token| !token.is_empty()) {
        "the token in HF_TOKEN is not valid there: make a new one"
    } else {
        "set HF_TOKEN to a token of yours"
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

/// The last word in a chain of errors.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
