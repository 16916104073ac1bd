//! [`Origin`]: what made something, where and when. Nothing that is learned or scored depends on it.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::app::about::commit;
use crate::app::checkpoint::RunDir;
use crate::app::checkpoint::folders::text_of;
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};

/// The file in a run directory.
const FILE: &str = "origin.json";

/// Program, machine, time and command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Version of this library.
    pub version: String,
    /// Commit that it was built from; only of optimised builds from a repository.
    #[serde(default)]
    pub commit: Option<String>,
    /// Seconds since 1970, UTC.
    pub at: u64,
    /// The command line of the process, or that of the one that has started it ([`STARTED_BY`]).
    #[serde(default)]
    pub command: Option<String>,
    /// Where it ran.
    pub machine: Machine,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// Instruction set, e.g. `x86_64`.
    pub arch: String,
    /// The processor's name, where the system says it.
    #[serde(default)]
    pub processor: Option<String>,
    /// Threads that were used.
    pub threads: usize,
}

/// Environment variable with the command that a person typed, of a process that another one has started for it.
pub const STARTED_BY: &str = "TRAJFORMER_STARTED_BY";

impl Origin {
    /// Of what is made now.
    pub fn now() -> Self {
        let arguments: Vec<String> = std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .enumerate()
            // The program's folder says nothing that helps.
            .map(
                |(place, text)| match (place, Path::new(&text).file_name()) {
                    (0, Some(name)) => name.to_string_lossy().into_owned(),
                    _ => quoted(&text),
                },
            )
            .collect();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit().map(str::to_owned),
            at: since.map(|time| time.as_secs()).unwrap_or_default(),
            command: std::env::var(STARTED_BY)
                .ok()
                .or_else(|| (!arguments.is_empty()).then(|| arguments.join(" ")))
                .map(|command| without_secrets(&command)),
            machine: Machine {
                os: std::env::consts::OS.to_owned(),
                arch: std::env::consts::ARCH.to_owned(),
                processor: processor(),
                threads: rayon::current_num_threads(),
            },
        }
    }
}

/// An argument as a shell takes it.
fn quoted(text: &str) -> String {
    trajformer_core::error::shell_quoted(Path::new(text))
}

/// A command without names and passwords in addresses, and without tokens of the Hub: runs are published with it.
fn without_secrets(command: &str) -> String {
    let mut shown = String::with_capacity(command.len());
    let mut rest = command;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(&without_tokens(before));
        shown.push_str("://");
        let end = after.find(|c: char| c.is_whitespace() || "/'\"?#".contains(c));
        let authority = &after[..end.unwrap_or(after.len())];
        let host = match authority.rsplit_once('@') {
            Some((login, _)) => {
                shown.push_str("***");
                login.len()
            }
            None => 0,
        };
        rest = &after[host..];
    }
    shown + &without_tokens(rest)
}

/// `text` with `hf_***` in place of what looks like a token.
fn without_tokens(text: &str) -> String {
    const MARK: &str = "hf_";
    /// Tokens have some 34 letters and digits behind the mark; words of people have fewer.
    const LEAST: usize = 20;
    let mut parts = text.split(MARK);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric());
        let end = end.unwrap_or(part.len());
        shown.push_str(MARK);
        if end >= LEAST {
            shown.push_str("***");
            shown.push_str(&part[end..]);
        } else {
            shown.push_str(part);
        }
    }
    shown
}

/// What Linux calls the processor.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

impl RunDir {
    /// Keeps where the run is begun.
    pub(super) fn save_origin(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&Origin::now());
        let text = text.map_err(Error::internal)?;
        write_atomically(&self.file(FILE), (text + "\n").as_bytes())
    }

    /// Where the run was begun; `None` of runs that earlier versions made.
    ///
    /// # Errors
    /// If the file is there and can't be read.
    pub fn origin(&self) -> Result<Option<Origin>> {
        let path = self.file(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = text_of(self.path(), FILE)?;
        let found = serde_json::from_str(&text);
        let found = found.map_err(|error| Error::data(&path, error.to_string()))?;
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_kept_without_its_secrets() {
        let token = format!("hf_{}", "aB3".repeat(11));
        for (command, expected) in [
            (
                "trajformer train a.toml --set data.path=https://me:pass@host.co/a?b",
                "trajformer train a.toml --set data.path=https://***@host.co/a?b",
            ),
            (
                "trajformer x 'https://p@ss:w@host' http://host/me@x hf://a/b@v1",
                "trajformer x 'https://***@host' http://host/me@x hf://a/b@v1",
            ),
            (
                "trajformer train --out hf_runs hf_short.toml",
                "trajformer train --out hf_runs hf_short.toml",
            ),
        ] {
            assert_eq!(without_secrets(command), expected);
        }
        let shown = without_secrets(&format!(
            "trajformer publish --token {token} https://{token}"
        ));
        assert_eq!(shown, "trajformer publish --token hf_*** https://hf_***");
    }
}
