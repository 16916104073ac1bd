//! Whether a training fits into the machine's memory, before anything of it is made.

use crate::app::config::RunConfig;
use trajformer_core::dataset::ActionKind;
use trajformer_core::error::{Error, Result};

/// Most memory that a training may ask for, whatever the machine has.
const MOST: u64 = 64 << 30;

/// This machine's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// All of it.
    pub total: u64,
    /// What is free, or can be made free.
    pub available: u64,
}

impl Memory {
    /// What the system says, where it does.
    pub(super) fn of_machine() -> Option<Self> {
        Self::parsed(&std::fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parsed(text: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
            kilobytes.checked_mul(1024)
        };
        Some(Self {
            total: bytes("MemTotal:")?,
            available: bytes("MemAvailable:")?,
        })
    }
}

/// Memory that this process holds, in bytes, where the system says so.
#[cfg(feature = "serve")]
pub(super) fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Fails if training on data of these sizes needs more memory than there is; `machine` is where the networks are, if that is known. Warns if it needs
/// more than is free.
///
/// # Errors
/// [`Error::Unsuitable`]: how much of what, and what to do.
pub(super) fn check(
    config: &RunConfig,
    (observation_dim, action_dim): (usize, usize),
    kind: ActionKind,
    machine: Option<Memory>,
) -> Result<()> {
    let choices = kind.choices();
    let algorithm = &config.algorithm;
    let needed = algorithm.least_memory(observation_dim, action_dim, choices)? as u64;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let said = |limit: &str| {
        let doubt = match choices {
            Some(_) => "is the number of choices right (`action_choices` of the data file)",
            None => "are these the right columns of the data",
        };
        format!(
            "training `algorithm.{}` on data with {observation_dim} observations and {} needs {:.1} GiB of memory or more, {limit}: {doubt}? \
             Else lower the sizes of its networks or `batch_size`",
            algorithm.name(),
            kind.said(action_dim),
            gib(needed)
        )
    };
    let most = machine.map_or(MOST, |machine| machine.total.min(MOST));
    if needed > most {
        let limit = if most == MOST {
            format!("expected {:.0} at most", gib(MOST))
        } else {
            format!("this machine has {:.1}", gib(most))
        };
        return Err(Error::Unsuitable(said(&limit)));
    }
    if let Some(machine) = machine.filter(|machine| needed > machine.available) {
        let limit = format!(
            "{:.1} of this machine's are free now",
            gib(machine.available)
        );
        tracing::warn!("{}", said(&limit));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_word_is_read() {
        let text = "MemTotal:       24000000 kB\nMemFree:  7 kB\nMemAvailable:   12000000 kB\n";
        let found = Memory::parsed(text).expect("two numbers");
        assert_eq!(
            (found.total, found.available),
            (24_000_000 << 10, 12_000_000 << 10)
        );
        assert_eq!(Memory::parsed("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_sizes() {
        let config = RunConfig::parse("[algorithm.iql]\n").expect("a configuration");
        let gib = |total: u64| {
            Some(Memory {
                total: total << 30,
                available: 1 << 30,
            })
        };
        let many = ActionKind::of_choices(Some(1 << 20));
        let few = ActionKind::of_choices(Some(2));
        check(&config, (4, 1), few, gib(2)).expect("small");
        check(&config, (4, 1), many, gib(32)).expect("a warning at most");
        let refused = |dims: (usize, usize), kind, machine, words: [&str; 3]| {
            let said = check(&config, dims, kind, machine)
                .expect_err("too much")
                .to_string();
            for words in words {
                assert!(said.contains(words), "{words}: {said}");
            }
        };
        refused(
            (4, 1),
            many,
            gib(2),
            ["1048576", "this machine has 2.0", "`action_choices`"],
        );
        let numbers = ActionKind::Continuous;
        refused(
            (1 << 30, 1),
            numbers,
            None,
            [
                "expected 64 at most",
                "`batch_size`",
                "1073741824 observations",
            ],
        );
    }
}
