//! `key.sub=value` as changes of a TOML table.

use trajformer_core::error::{Error, Origin, Result};

/// Sets one `key.sub=value` in a table. The value is TOML, or a bare word taken as a string.
pub fn apply_override(table: &mut toml::Table, text: &str) -> Result<()> {
    let (key, value) = key_and_value(text)?;
    let value = match toml::from_str::<toml::Table>(&format!("value = {value}")) {
        Ok(mut parsed) => parsed
            .remove("value")
            .unwrap_or(toml::Value::String(String::new())),
        Err(_) if value.parse::<i128>().is_ok() => {
            let most = i64::MAX;
            let problem = format!("expected a whole number within ±{most}");
            return Err(wrong(text, problem));
        }
        Err(_) => toml::Value::String(value.to_owned()),
    };
    set(table, text, key, value)
}

/// Sets one `key.sub=value` whose value is text, whatever it looks like.
pub fn set_words(table: &mut toml::Table, text: &str) -> Result<()> {
    let (key, value) = key_and_value(text)?;
    set(table, text, key, toml::Value::String(value.to_owned()))
}

fn key_and_value(text: &str) -> Result<(&str, &str)> {
    let malformed = || wrong(text, "expected KEY=VALUE, e.g. train.updates=1000");
    let (key, value) = text.split_once('=').ok_or_else(malformed)?;
    Ok((key.trim(), value.trim()))
}

fn wrong(text: &str, problem: impl Into<String>) -> Error {
    Error::settings(problem).said_by(Some(Origin::of_override(text)))
}

/// Sets `key` to `value`; `text` is what was asked for.
fn set(table: &mut toml::Table, text: &str, key: &str, value: toml::Value) -> Result<()> {
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    if last.is_empty() || parts.iter().any(|part| part.is_empty()) {
        return Err(wrong(text, "the key has an empty part"));
    }
    let mut place = table;
    for part in parts {
        let entry = place
            .entry(part.to_owned())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let no_table = || wrong(text, format!("`{part}` is a value, not a table"));
        place = entry.as_table_mut().ok_or_else(no_table)?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}
