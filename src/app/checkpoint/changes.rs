//! [`Change`]: what a run changed on its way, so that its past was trained with something else than its configuration says now.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::app::checkpoint::fingerprint::Difference;

/// A key that learning rates go by, and that has another value from some update on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Updates that were done before.
    pub update: u64,
    /// The key.
    pub key: String,
    /// Its value until then, as TOML.
    pub before: String,
    /// Its value from then on.
    pub now: String,
}

impl Change {
    /// What differs after `update` updates.
    pub fn after(update: u64, Difference { key, before, now }: Difference) -> Self {
        Self {
            update,
            key,
            before,
            now,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            update,
            key,
            before,
            now,
        } = self;
        write!(f, "`{key}` was {before}, is {now} from update {update} on")
    }
}

/// Those that are known with new ones: nothing was trained between two at the same update.
pub(super) fn with(mut known: Vec<Change>, new: Vec<Change>) -> Vec<Change> {
    for change in new {
        let same = |one: &Change| (one.update, &one.key) == (change.update, &change.key);
        match known.iter_mut().find(|one| same(one)) {
            Some(one) => one.now = change.now,
            None => known.push(change),
        }
    }
    known.retain(|one| one.before != one.now);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_twice_at_one_update_changes_once_and_back_not_at_all() {
        let change = |update, before: &str, now: &str| Change {
            update,
            key: "train.updates".to_owned(),
            before: before.to_owned(),
            now: now.to_owned(),
        };
        let known = with(Vec::new(), vec![change(4, "4", "8")]);
        let later = with(known.clone(), vec![change(6, "8", "9")]);
        assert_eq!(later.len(), 2);
        let twice = with(known.clone(), vec![change(4, "8", "9")]);
        assert_eq!(twice, [change(4, "4", "9")]);
        assert_eq!(with(known, vec![change(4, "8", "4")]), []);
    }
}
