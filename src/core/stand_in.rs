//! What lies in a file's place when the file itself was never fetched: pointers of version control, pages of
//! servers. A clone without Git LFS and a download without an account leave such files under the right names.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// Longest answer of a server that is quoted.
const LONGEST_ANSWER: usize = 200;

/// What a file with these bytes is instead of a model, a data set or a configuration, and what to do; `None` for
/// everything else. The first few hundred bytes are enough.
pub fn problem(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return Some("is empty: cut off at its start, fetch it again".to_owned());
    }
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).into_owned();
    let text = start.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with("version https://") && text.contains("oid sha256:") {
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        let of = size.map_or_else(String::new, |size| format!(" of {} bytes", size.trim()));
        return Some(format!(
            "is a Git LFS pointer, not the file{of} itself: run `git lfs install` and `git lfs pull` in the folder \
             that was cloned, or download the file"
        ));
    }
    if text.starts_with("# xet version") {
        return Some(
            "is a Xet pointer, not the file itself: run `git xet install` and `git lfs pull` in the folder that was \
             cloned, or download the file (`hf download ID`)"
                .to_owned(),
        );
    }
    let lower = text.to_ascii_lowercase();
    if ["<!doctype html", "<html", "<head", "<?xml", "<error>"]
        .iter()
        .any(|tag| lower.starts_with(tag))
    {
        return Some(
            "is a page for browsers (HTML or XML), not the file itself: a server's error, a login, or the Hub's page \
             about the file; download from `.../resolve/main/FILE`, not `.../blob/main/FILE`, and with a token where \
             the repository is private or gated"
                .to_owned(),
        );
    }
    let answer = lower.starts_with("{\"error\"") || lower.starts_with("{\"message\"");
    answer.then(|| quoted_answer(text))
}

/// Like [`problem`], for a file of numbers, which no short plain text can be.
pub fn problem_of_binary(bytes: &[u8]) -> Option<String> {
    problem(bytes).or_else(|| {
        let text = std::str::from_utf8(bytes).ok()?.trim();
        let words = text.chars().all(|c| !c.is_control() || c.is_whitespace());
        (bytes.len() <= LONGEST_ANSWER && words && text.contains(' ') && !text.starts_with('{'))
            .then(|| quoted_answer(text))
    })
}

fn quoted_answer(text: &str) -> String {
    let quote: String = text.chars().take(LONGEST_ANSWER).collect();
    format!(
        "is a server's answer, not the file itself: `{}`; check address and token, and fetch it again",
        quote.trim()
    )
}

/// The text in `bytes`, without the byte order mark that some editors put in front.
///
/// # Errors
/// If it stands in for the file, or is not UTF-8: names `path`.
pub fn text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    if let Some(problem) = problem(bytes) {
        return Err(Error::data(path, problem));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Error::data(path, "is UTF-16 text: save it as UTF-8"));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::data(path, format!("is no UTF-8 text: {error}")))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The JSON in `bytes`, of the file `path`.
///
/// # Errors
/// As [`text`], and if it is no JSON.
pub fn json(path: &Path, bytes: &[u8]) -> Result<Value> {
    serde_json::from_str(text(path, bytes)?)
        .map_err(|error| Error::data(path, format!("not JSON, or cut off: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_and_pages_are_told_from_files() {
        let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 149620\n";
        let cases = [
            ("", "is empty"),
            (lfs, "`git lfs pull`"),
            (lfs, "of 149620 bytes"),
            ("# xet version 0\nfilename = \"a\"\n", "Xet pointer"),
            ("\n<!DOCTYPE html><html>", "/resolve/"),
            ("\u{feff}<HTML>", "/resolve/"),
            ("<?xml version=\"1.0\"?><Error>", "page for browsers"),
            (
                "{\"error\":\"Repository not found\"}",
                "Repository not found",
            ),
        ];
        for (content, words) in cases {
            let found = problem(content.as_bytes()).unwrap_or_default();
            assert!(found.contains(words), "{content:?}: {found}");
        }
        for content in ["{\"model_type\": \"gpt2\"}", "version = 1", "PK\u{3}\u{4}"] {
            assert_eq!(problem(content.as_bytes()), None, "{content:?}");
        }
        let short = problem_of_binary(b"Entry not found").unwrap_or_default();
        assert!(short.contains("`Entry not found`"), "{short}");
        assert_eq!(problem(b"Entry not found"), None);
        assert_eq!(problem_of_binary(b"\x80\x02}q\x00."), None);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let path = Path::new("config.json");
        let found = json(path, b"\xef\xbb\xbf{\"a\": 1}").expect("JSON");
        assert_eq!(found["a"], 1);
        let error = json(path, b"\xff\xfe{\0").expect_err("UTF-16").to_string();
        assert!(error.contains("config.json: is UTF-16"), "{error}");
        assert!(json(path, b"{").is_err());
    }
}
