//! [`Reference`]: which repository, and which revision of it.

use std::fmt;

use trajformer_core::error::{Error, Result};

/// `ID[@REVISION]`: a model repository of the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    id: String,
    revision: String,
}

/// The branch that is meant where none is named.
const MAIN: &str = "main";
const SCHEME: &str = "hf://";
/// Longest ID or revision.
const LONGEST: usize = 200;

impl Reference {
    /// The repository `id`, `OWNER/NAME` or `NAME`, at a branch, tag or commit; without one `main`.
    ///
    /// # Errors
    /// If they are not of that form.
    pub fn new(id: &str, revision: Option<&str>) -> Result<Self> {
        let wrong = |problem: &str| {
            Err(Error::Hub {
                what: format!("{SCHEME}{id}"),
                problem: problem.to_owned(),
            })
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let part = |part: &str| {
            !part.is_empty()
                && part.chars().all(plain)
                && !part.contains("..")
                && !part.contains("--")
        };
        if id.len() > LONGEST || id.split('/').count() > 2 || !id.split('/').all(part) {
            return wrong(
                "expected OWNER/NAME of a model repository, e.g. \
                 hf://edbeeching/decision-transformer-gym-hopper-medium, or hf://OWNER/NAME@REVISION",
            );
        }
        let revision = revision.unwrap_or(MAIN);
        let fine = revision
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
        let plain = |c: char| c.is_ascii_graphic() && !"\\~^:?*[%#@".contains(c);
        if revision.len() > LONGEST || !fine || !revision.chars().all(plain) {
            return wrong(&format!(
                "`{revision}` is no revision: expected a branch, a tag, or a commit of 40 hexadecimal digits"
            ));
        }
        Ok(Self {
            id: id.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// What `hf://ID[@REVISION]` names; `None` for text that starts otherwise.
    pub fn of_url(text: &str) -> Option<Result<Self>> {
        let rest = text.strip_prefix(SCHEME)?;
        Some(match rest.split_once('@') {
            Some((id, revision)) => Self::new(id, Some(revision)),
            None => Self::new(rest, None),
        })
    }

    /// Reads a reference with or without `hf://` in front; `revision` counts where the text names none.
    ///
    /// # Errors
    /// As [`Self::new`], and if both name a revision.
    pub fn parse(text: &str, revision: Option<&str>) -> Result<Self> {
        let text = text.strip_prefix(SCHEME).unwrap_or(text);
        match (text.split_once('@'), revision) {
            (Some((id, named)), None) => Self::new(id, Some(named)),
            (None, revision) => Self::new(text, revision),
            (Some(_), Some(_)) => Err(Error::Hub {
                what: format!("{SCHEME}{text}"),
                problem: "two revisions are named, after the `@` and beside it: give one of them"
                    .to_owned(),
            }),
        }
    }

    /// `OWNER/NAME` or `NAME`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether the revision is a commit's full number, which never changes.
    pub fn is_pinned(&self) -> bool {
        self.revision.len() == 40 && self.revision.chars().all(|c| c.is_ascii_hexdigit())
    }
}

/// The error for an address of a web page, where a folder or `hf://ID` is expected; `None` for other text.
pub(super) fn address(text: &str) -> Option<Error> {
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))?;
    let mut parts = rest.split('/').skip(1).filter(|part| !part.is_empty());
    let id = match (parts.next(), parts.next()) {
        (Some(owner), Some(name)) => format!("{SCHEME}{owner}/{name}"),
        (Some(name), None) => format!("{SCHEME}{name}"),
        _ => format!("{SCHEME}OWNER/NAME"),
    };
    Some(Error::Hub {
        what: text.to_owned(),
        problem: format!("the address of a page: name a model of the Hub as {id}"),
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.id)?;
        match self.revision.as_str() {
            MAIN => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_shown() {
        let read = |text| Reference::of_url(text).and_then(Result::ok);
        let reference = read("hf://a/b-1.0").expect("a reference");
        assert_eq!((reference.id(), reference.revision()), ("a/b-1.0", "main"));
        assert_eq!(reference.to_string(), "hf://a/b-1.0");
        let reference = read("hf://gpt2@refs/pr/1").expect("a reference");
        assert_eq!(
            (reference.id(), reference.revision()),
            ("gpt2", "refs/pr/1")
        );
        assert_eq!(reference.to_string(), "hf://gpt2@refs/pr/1");
        assert!(!reference.is_pinned());
        let commit = format!("hf://a/b@{}", "0f".repeat(20));
        assert!(read(&commit).expect("a reference").is_pinned());
        assert!(Reference::of_url("runs/a").is_none());
    }

    #[test]
    fn addresses_of_pages_are_told_apart() {
        let problem = address("https://hub/a/b/tree/main").expect("an address");
        assert!(problem.to_string().contains("hf://a/b"), "{problem}");
        assert!(address("runs/a").is_none() && address("hf://a/b").is_none());
    }

    #[test]
    fn odd_ids_and_revisions_are_refused() {
        for text in [
            "",
            "a/b/c",
            "/b",
            "a/",
            "../b",
            "a/b c",
            "a--b/c",
            "a/b@",
            "a/b@..",
            "a/b@x/../y",
        ] {
            let url = format!("hf://{text}");
            assert!(Reference::of_url(&url).expect("a URL").is_err(), "{url}");
        }
        assert!(Reference::parse("a/b@c", Some("d")).is_err());
    }
}
