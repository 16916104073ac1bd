//! [`HubName`]: a data set of the Hugging Face Hub by its address.

use std::fmt;
use std::path::PathBuf;

use trajformer_core::error::{Error, Result};

/// `hf://datasets/OWNER/NAME[/FOLDER][@REVISION]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// `OWNER/NAME`.
    pub repository: String,
    /// The folder of the repository that is meant; empty for all of it.
    pub folder: String,
    /// A branch, a tag or a commit; `None` is the main branch.
    pub revision: Option<String>,
}

const SCHEME: &str = "hf://datasets/";

impl HubName {
    /// What such an address names; `None` for text that begins otherwise.
    pub fn parse(text: &str) -> Option<Result<Self>> {
        let rest = text.strip_prefix(SCHEME)?;
        let (path, revision) = match rest.split_once('@') {
            Some((path, revision)) => (path, Some(revision.to_owned())),
            None => (rest, None),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let part = |part: &&str| {
            !part.is_empty()
                && !part.contains("--")
                && part.chars().all(plain)
                && !part.contains("..")
                && *part != "."
        };
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        let fine = parts.len() >= 2 && parts.iter().all(part);
        let fine = fine && revision.as_deref().is_none_or(|revision| part(&revision));
        if !fine {
            return Some(Err(Error::Hub {
                what: text.to_owned(),
                problem: format!(
                    "expected {SCHEME}OWNER/NAME, {SCHEME}OWNER/NAME/FOLDER, or one of them with @REVISION"
                ),
            }));
        }
        Some(Ok(Self {
            repository: parts[..2].join("/"),
            folder: parts[2..].join("/"),
            revision,
        }))
    }

    /// Its folder below one of data sets, inside of no other's: names on the Hub have no `--`.
    pub fn local(&self) -> PathBuf {
        let mut name = self.repository.clone();
        for part in self.folder.split('/').filter(|part| !part.is_empty()) {
            name.push_str("--");
            name.push_str(part);
        }
        if let Some(revision) = &self.revision {
            name.push('@');
            name.push_str(revision);
        }
        PathBuf::from(name)
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repository)?;
        if !self.folder.is_empty() {
            write!(f, "/{}", self.folder)?;
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_put_together() {
        for text in [
            "hf://datasets/a/b",
            "hf://datasets/a/b/c/d-v0",
            "hf://datasets/a/b.c@v1",
        ] {
            let name = HubName::parse(text).expect("an address").expect("a name");
            assert_eq!(name.to_string(), text);
        }
        let name = HubName::parse("hf://datasets/a/b/c/d-v0@v1").expect("an address");
        let name = name.expect("a name");
        assert_eq!(
            (name.repository.as_str(), name.folder.as_str()),
            ("a/b", "c/d-v0")
        );
        assert_eq!(name.local(), PathBuf::from("a/b--c--d-v0@v1"));
        assert!(HubName::parse("hopper-medium-v2").is_none());
        assert!(HubName::parse("hf://a/b").is_none());
    }

    #[test]
    fn addresses_that_lead_elsewhere_are_refused() {
        for rest in [
            "",
            "a",
            "a/..",
            "../b",
            "a//b",
            "a/b/../../../c",
            "a/b@../c",
            "a/b@",
            "a/b c",
        ] {
            let text = format!("hf://datasets/{rest}");
            assert!(
                HubName::parse(&text).expect("an address").is_err(),
                "{text}"
            );
        }
    }
}
