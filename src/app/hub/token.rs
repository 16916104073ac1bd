//! The user's token, and where it was found.

use std::env;
use std::fmt;
use std::path::PathBuf;

use crate::app::datasets::place::named;
use crate::app::hub::cache;

/// Who the user is for the Hub.
pub(super) struct Token {
    text: String,
    origin: Origin,
}

/// Where a token was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Variable(&'static str),
    /// What `hf auth login` wrote.
    File(PathBuf),
}

impl Token {
    /// The token in `HF_TOKEN` or `HUGGING_FACE_HUB_TOKEN`, else in the file `HF_TOKEN_PATH`, else in `token` in the
    /// Hub libraries' folder; none where `HF_HUB_DISABLE_IMPLICIT_TOKEN` forbids to send one unasked.
    pub(super) fn find() -> Option<Self> {
        if cache::is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return None;
        }
        let clean = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let Some(text) = env::var(name).ok().and_then(clean) {
                let origin = Origin::Variable(name);
                return Some(Self { text, origin });
            }
        }
        let file = named("HF_TOKEN_PATH").unwrap_or_else(|| cache::home().join("token"));
        let text = std::fs::read_to_string(&file).ok().and_then(clean)?;
        let origin = Origin::File(file);
        Some(Self { text, origin })
    }

    /// The secret itself.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether it can be sent in a header.
    pub(super) fn is_plain(&self) -> bool {
        self.text.chars().all(|c| c.is_ascii_graphic())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
