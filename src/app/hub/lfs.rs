//! What Git LFS's batch API answers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::app::hub::network::Failure;

#[derive(Deserialize)]
pub(super) struct Batch {
    pub(super) objects: Vec<Object>,
}

/// Content that Git LFS was asked about.
#[derive(Deserialize)]
pub(super) struct Object {
    pub(super) oid: String,
    /// None if the Hub has it.
    pub(super) actions: Option<Actions>,
    pub(super) error: Option<Refused>,
}

#[derive(Deserialize)]
pub(super) struct Refused {
    pub(super) code: Option<u16>,
    pub(super) message: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Actions {
    pub(super) upload: Option<Action>,
    pub(super) verify: Option<Action>,
}

/// A request to make.
#[derive(Deserialize)]
pub(super) struct Action {
    pub(super) href: String,
    header: Option<Map<String, Value>>,
}

impl Action {
    /// Its headers, but for those that say how a body is sent; numbers are headers too.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let text = |(name, value): (&String, &Value)| match value {
            Value::String(text) => Some((name.clone(), text.clone())),
            Value::Number(number) => Some((name.clone(), number.to_string())),
            _ => None,
        };
        let of_body = ["content-length", "transfer-encoding"];
        let is_ours = |name: &str| of_body.iter().any(|own| name.eq_ignore_ascii_case(own));
        let headers = self.header.iter().flatten().filter_map(text);
        headers.filter(|(name, _)| !is_ours(name)).collect()
    }

    /// The size of parts in bytes and their addresses in order, if `size` bytes are to be sent in parts: then they are
    /// among the headers.
    pub(super) fn parts(&self, size: u64) -> Result<Option<(u64, Vec<String>)>, Failure> {
        let headers = self.headers();
        let chunk = headers.iter().find(|(name, _)| name == "chunk_size");
        let Some((_, chunk)) = chunk else {
            return Ok(None);
        };
        let numbered = headers.iter().filter_map(|(name, url)| {
            let number: u64 = name.parse().ok()?;
            Some((number, url.clone()))
        });
        let urls: Vec<String> = numbered.collect::<BTreeMap<_, _>>().into_values().collect();
        match chunk.parse::<u64>() {
            Ok(chunk) if chunk > 0 && urls.len() as u64 == size.div_ceil(chunk) => {
                Ok(Some((chunk, urls)))
            }
            _ => Err(Failure::Odd(format!(
                "{} parts of {chunk} bytes for {size} bytes",
                urls.len()
            ))),
        }
    }
}
