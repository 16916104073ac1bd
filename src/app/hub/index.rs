//! Python's package index: one wheel by its project and version, without Python.
//!
//! Which index: `PIP_INDEX_URL`, `UV_DEFAULT_INDEX`, `UV_INDEX_URL`, else `index-url` in pip's configuration files, else the public
//! one. `PIP_NO_INDEX` forbids to ask it. Servers answer in the simple repository API, as JSON or HTML.

use std::env;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::app::datasets::place::named;
use crate::app::hub::address::{host, plain};
use crate::app::hub::cache;
use crate::app::hub::download::hexadecimal;
use crate::app::hub::network::{Answer, Failure, Network, patiently};
use crate::app::hub::progress::Bar;
use trajformer_core::error::{Error, Result};

/// The index that Python's own tools ask unless they are told otherwise.
const PUBLIC: &str = "https://pypi.org/simple";
/// Variables that name another one.
const VARIABLES: [&str; 3] = ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"];
/// What a list of files may come as.
const LISTS: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";
/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most that is read of a list, and of a wheel, in bytes.
const LIST: u64 = 32 << 20;
const WHEEL: u64 = 64 << 20;

/// A package index.
pub struct Index {
    network: Network,
    /// Where its address comes from.
    origin: String,
    /// Its address, without a login.
    address: String,
}

/// A file that an index lists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Listed {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

#[derive(Debug, Deserialize)]
struct List {
    files: Vec<Listed>,
}

impl Index {
    /// The index that variables and configuration files name, else the public one.
    ///
    /// # Errors
    /// If `PIP_NO_INDEX` is set, the address is none, or `SSL_CERT_FILE` has no certificates.
    pub fn from_environment() -> Result<Self> {
        let (address, origin) = address();
        let fail = |problem| Error::Hub {
            what: format!("package index {}", plain(&address)),
            problem,
        };
        if cache::is_on("PIP_NO_INDEX") {
            return Err(fail(
                "PIP_NO_INDEX is set: unset it to ask the index".to_owned(),
            ));
        }
        let is_one = address.starts_with("https://") || address.starts_with("http://");
        if !is_one {
            return Err(fail(format!(
                "{origin} is no address of a server: it starts with https:// or http://"
            )));
        }
        let (address, login) = without_login(address.trim_end_matches('/'));
        let shown = address.clone();
        let network = Network::of(address, login, PATIENCE);
        let network =
            network.map_err(|failure| fail(words("the certificates", &origin, &failure)))?;
        Ok(Self {
            network,
            origin,
            address: shown,
        })
    }

    /// Its address, without a login.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The wheel of a project whose file name starts with `PROJECT-VERSION-` and `fits`: its name and content.
    ///
    /// # Errors
    /// If the index can't be reached, refuses, has no such wheel, or sends something else than it lists.
    pub fn wheel(
        &self,
        project: &str,
        version: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<(String, Vec<u8>)> {
        let address = self.network.endpoint();
        let what = format!("{project} {version}");
        let fail = |problem| Error::Hub {
            what: format!("package index {}", plain(address)),
            problem,
        };
        let failed = |failure: Failure| fail(words(&what, &self.origin, &failure));
        let listed = patiently(|| self.list(&format!("{address}/{project}/"))).map_err(failed)?;
        let start = format!("{project}-{version}-");
        let wheels = listed.into_iter().filter(|file| {
            let name = &file.filename;
            name.starts_with(&start) && name.ends_with(".whl") && fits(name)
        });
        let Some(wheel) = wheels.min_by(|a, b| a.filename.cmp(&b.filename)) else {
            return Err(fail(format!("it has no wheel of {what} for this system")));
        };
        let bar = Bar::new();
        bar.name(&wheel.filename);
        let content = patiently(|| self.fetch(&wheel, &bar));
        bar.end();
        Ok((wheel.filename.clone(), content.map_err(failed)?))
    }

    fn list(&self, url: &str) -> std::result::Result<Vec<Listed>, Failure> {
        let mut answer = self.network.get_as(url, LISTS)?;
        let kind = answer.header("Content-Type").unwrap_or_default();
        let is_json = kind.contains("json");
        let content = whole(&mut answer, LIST, None)?;
        let odd = |why: String| Failure::Odd(format!("{}: {why}", plain(&answer.url)));
        let mut files = if is_json {
            let list: List =
                serde_json::from_slice(&content).map_err(|error| odd(error.to_string()))?;
            list.files
        } else {
            links(&String::from_utf8_lossy(&content))
        };
        for file in &mut files {
            file.url = resolved(&answer.url, &file.url);
        }
        Ok(files)
    }

    fn fetch(&self, wheel: &Listed, bar: &Bar) -> std::result::Result<Vec<u8>, Failure> {
        let mut answer = self.network.get(&wheel.url, None)?;
        bar.length(answer.length());
        let content = whole(&mut answer, WHEEL, Some(bar))?;
        let mut hash = Sha256::new();
        hash.update(&content);
        let found = hexadecimal(hash);
        match &wheel.hashes.sha256 {
            Some(listed) if !listed.eq_ignore_ascii_case(&found) => Err(Failure::Wrong(format!(
                "{} is not what the index lists (another SHA-256): run the same command again",
                wheel.filename
            ))),
            _ => Ok(content),
        }
    }
}

/// The content of an answer.
fn whole(
    answer: &mut Answer,
    most: u64,
    bar: Option<&Bar>,
) -> std::result::Result<Vec<u8>, Failure> {
    let (url, announced) = (answer.url.clone(), answer.length());
    let mut content = Vec::new();
    let mut reader = answer.reader().take(most + 1);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = reader.read(&mut buffer);
        let count = count.map_err(|error| Failure::reading(error, &url))?;
        if count == 0 {
            break;
        }
        content.extend_from_slice(&buffer[..count]);
        if let Some(bar) = bar {
            bar.position(content.len() as u64);
        }
    }
    let found = content.len() as u64;
    if found > most {
        return Err(Failure::Odd(format!(
            "{} has more than {most} bytes",
            plain(&url)
        )));
    }
    match announced {
        Some(announced) if announced != found => {
            let why = format!("{found} of {announced} bytes of {} came", plain(&url));
            Err(Failure::Broken {
                host: host(&url),
                why,
            })
        }
        _ => Ok(content),
    }
}

/// What went wrong, and what to do.
fn words(what: &str, origin: &str, failure: &Failure) -> String {
    match failure {
        Failure::Refused(refusal) if refusal.status == 404 => {
            format!("it has no {what} (404 for {}); check {origin}", refusal.url)
        }
        Failure::Refused(refusal) => format!(
            "it answered {} ({}) for {}; check {origin}, or try again later",
            refusal.status, refusal.word, refusal.url
        ),
        Failure::Unreachable { host, why } => format!(
            "{host} can't be reached ({why}); check the connection, {origin}, proxies and SSL_CERT_FILE"
        ),
        Failure::Broken { host, why } => {
            format!("the connection to {host} broke ({why}); run the same command again")
        }
        Failure::Odd(what) => {
            format!("it does not answer as a package index does ({what}); check {origin}")
        }
        Failure::Wrong(problem) => problem.clone(),
        Failure::Locked(path) => format!("another process holds {}", path.display()),
        Failure::Disk(source) => source.to_string(),
    }
}

/// The index's address, and what named it.
fn address() -> (String, String) {
    for name in VARIABLES {
        if let Some(value) = env::var(name).ok().filter(|v| !v.trim().is_empty()) {
            return (value.trim().to_owned(), name.to_owned());
        }
    }
    for file in configurations() {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some(value) = index_url(&text) {
            return (value, format!("`index-url` in {}", file.display()));
        }
    }
    (PUBLIC.to_owned(), VARIABLES[0].to_owned())
}

/// pip's configuration files, those that win first.
fn configurations() -> Vec<PathBuf> {
    if let Some(file) = named("PIP_CONFIG_FILE") {
        return vec![file];
    }
    let home = named("HOME").unwrap_or_default();
    let own = named("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let mut files = vec![own.join("pip/pip.conf"), home.join(".pip/pip.conf")];
    if cfg!(target_os = "macos") {
        files.insert(0, home.join("Library/Application Support/pip/pip.conf"));
    }
    files.push(PathBuf::from("/etc/pip.conf"));
    files
}

/// `index-url` of a configuration file of pip's.
fn index_url(text: &str) -> Option<String> {
    let mut is_read = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']').trim();
            is_read = ["global", "install", "download"].contains(&section);
        } else if let Some((key, value)) = line.split_once(['=', ':']).filter(|_| is_read) {
            let is_it = ["index-url", "index_url"].contains(&key.trim());
            if is_it && !value.trim().is_empty() {
                found = Some(value.trim().to_owned());
            }
        }
    }
    found
}

/// An address without the name and password in it, and the header that they are sent as.
fn without_login(address: &str) -> (String, Option<String>) {
    let parts = address.split_once("://").and_then(|(scheme, rest)| {
        let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, _) = authority.rsplit_once('@')?;
        Some((format!("{scheme}://{}", &rest[login.len() + 1..]), login))
    });
    match parts {
        Some((address, login)) => {
            let end = if login.contains(':') { "" } else { ":" };
            let login = format!("{}{end}", decoded(login));
            let header = format!("Basic {}", BASE64_STANDARD.encode(login));
            (address, Some(header))
        }
        None => (address.to_owned(), None),
    }
}

/// A part of an address with `%40` and the like as what they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte.filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The files that a page in HTML links to.
fn links(page: &str) -> Vec<Listed> {
    let mut found = Vec::new();
    for part in page.split("href=").skip(1) {
        let quote = part.chars().next().filter(|c| "\"'".contains(*c));
        let Some((url, _)) = quote.and_then(|quote| part[1..].split_once(quote)) else {
            continue;
        };
        let url = url.replace("&amp;", "&");
        let (url, fragment) = url.split_once('#').unwrap_or((&url, ""));
        let path = url.split('?').next().unwrap_or_default();
        found.push(Listed {
            filename: decoded(path.rsplit('/').next().unwrap_or_default()),
            url: url.to_owned(),
            hashes: Hashes {
                sha256: fragment.strip_prefix("sha256=").map(str::to_owned),
            },
        });
    }
    found
}

/// An address that stands on the page at `base`.
fn resolved(base: &str, address: &str) -> String {
    let base = base.split(['?', '#']).next().unwrap_or(base);
    let Some((scheme, rest)) = base.split_once("://") else {
        return address.to_owned();
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if address.starts_with("https://") || address.starts_with("http://") {
        address.to_owned()
    } else if address.starts_with("//") {
        format!("{scheme}:{address}")
    } else if address.starts_with('/') {
        format!("{scheme}://{authority}{address}")
    } else {
        let mut parts: Vec<&str> = path.split('/').collect();
        parts.pop();
        for part in address.split('/') {
            match part {
                ".." => drop(parts.pop()),
                "." => {}
                _ => parts.push(part),
            }
        }
        format!("{scheme}://{authority}/{}", parts.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_on_a_page_lead_from_the_page() {
        let base = "https://mirror.example/pypi/simple/mujoco/?a=b";
        for (address, expected) in [
            ("https://files.example/a.whl", "https://files.example/a.whl"),
            ("//files.example/a.whl", "https://files.example/a.whl"),
            ("/f/a.whl", "https://mirror.example/f/a.whl"),
            ("a.whl", "https://mirror.example/pypi/simple/mujoco/a.whl"),
            ("../../f/./a.whl", "https://mirror.example/pypi/f/a.whl"),
        ] {
            assert_eq!(resolved(base, address), expected, "{address}");
        }
    }

    #[test]
    fn a_page_in_html_lists_its_links() {
        let page = "<a href=\"../a-1%2B2.whl?x=1&amp;y=2#sha256=0af\" data-x=\"1\">a</a><a HREF='b'><a href='b.tar.gz'>";
        let found = links(page);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].filename, "a-1+2.whl");
        assert_eq!(found[0].url, "../a-1%2B2.whl?x=1&y=2");
        assert_eq!(found[0].hashes.sha256.as_deref(), Some("0af"));
        assert_eq!(found[1].filename, "b.tar.gz");
        assert_eq!(found[1].hashes.sha256, None);
    }

    #[test]
    fn a_name_and_password_are_sent_apart_from_the_address() {
        let (address, login) = without_login("https://me:p%40ss@mirror.example/simple");
        assert_eq!(address, "https://mirror.example/simple");
        assert_eq!(login.as_deref(), Some("Basic bWU6cEBzcw=="));
        let (address, login) = without_login("https://mirror.example/a@b");
        assert_eq!(address, "https://mirror.example/a@b");
        assert_eq!(login, None);
    }

    #[test]
    fn pips_files_name_the_index_in_sections_that_fetching_reads() {
        let text = "[search]\nindex-url = https://no.example\n[global]\ncert = a\nindex_url: https://yes.example/simple\n";
        assert_eq!(
            index_url(text).as_deref(),
            Some("https://yes.example/simple")
        );
        assert_eq!(index_url("[global]\nindex-url =\n"), None);
        assert_eq!(index_url("index-url = https://no.example"), None);
    }
}
