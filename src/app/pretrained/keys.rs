//! Typed reading of a `config.json` that another library wrote.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use trajformer_core::error::{Error, Result};
use trajformer_core::stand_in;

/// The object in a `config.json`.
#[derive(Debug, Clone)]
pub struct JsonConfig {
    path: PathBuf,
    keys: Map<String, Value>,
}

impl JsonConfig {
    /// Reads `config.json` in `folder`; `None` if there is none.
    ///
    /// # Errors
    /// If it can't be read or holds no JSON object.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("config.json");
        if !path.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        match stand_in::json(&path, &bytes)? {
            Value::Object(keys) => Ok(Some(Self { path, keys })),
            _ => Err(Error::data(&path, "expected a JSON object")),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `model_type`, else the one of the class that `architectures` names: `decision_transformer` for
    /// `DecisionTransformerModel`.
    pub fn model_type(&self) -> Option<String> {
        let named = self.value("model_type").and_then(Value::as_str);
        let named = named.map(|name| name.to_ascii_lowercase().replace('-', "_"));
        named.or_else(|| {
            let class = self.value("architectures")?.get(0)?.as_str()?;
            let known = [
                ("DecisionTransformer", "decision_transformer"),
                ("TrajectoryTransformer", "trajectory_transformer"),
                ("GPT2", "gpt2"),
            ];
            let found = known.iter().find(|(start, _)| class.starts_with(start));
            found.map(|(_, name)| (*name).to_owned())
        })
    }

    /// Refuses quantized weights.
    ///
    /// # Errors
    /// If the file says that they are.
    pub fn refuse_quantized(&self) -> Result<()> {
        let Some(found) = self.value("quantization_config") else {
            return Ok(());
        };
        let method = found
            .get("quant_method")
            .and_then(Value::as_str)
            .unwrap_or("some method");
        Err(Error::data(
            &self.path,
            format!(
                "its weights are quantized (`quantization_config`: {method}), which is not computed here: take the \
                 model that it was made from, or `model.dequantize()` in Python and save that"
            ),
        ))
    }

    /// Where the model was loaded from when it was saved, if the file says so.
    pub fn name_or_path(&self) -> Option<&str> {
        self.keys.get("_name_or_path")?.as_str()
    }

    /// A key's value, unless it is missing or null: then the class's default counts.
    fn value(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, found: &Value, expected: &str) -> Error {
        Error::data(
            &self.path,
            format!("`{key}` is {found}, expected {expected}"),
        )
    }

    /// A count of at least 1, if the key is there.
    ///
    /// # Errors
    /// If it is something else.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        let count = |value: &Value| match value.as_u64() {
            Some(count) if (1..=1 << 32).contains(&count) => Ok(count as usize),
            _ => Err(self.wrong(key, value, "a whole number of at least 1")),
        };
        self.value(key).map(count).transpose()
    }

    /// Refuses a number that is not `only`.
    ///
    /// # Errors
    /// If the key is there with another value; `why` says what to do.
    pub fn require_number(&self, key: &str, only: f64, why: &str) -> Result<()> {
        match self.value(key) {
            Some(found) if found.as_f64() != Some(only) => {
                Err(self.wrong(key, found, &format!("{only}: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a truth value that is not `only`.
    ///
    /// # Errors
    /// As [`Self::require_number`].
    pub fn require_flag(&self, key: &str, only: bool, why: &str) -> Result<()> {
        match self.value(key) {
            Some(found) if found.as_bool() != Some(only) => {
                Err(self.wrong(key, found, &format!("{only}: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// What `parse` makes of a text, if the key is there.
    ///
    /// # Errors
    /// If it is no text or `parse` makes nothing of it; `expected` says what could be.
    pub fn text<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>> {
        let parsed = |value: &Value| {
            let text = value.as_str().and_then(&parse);
            text.ok_or_else(|| self.wrong(key, value, expected))
        };
        self.value(key).map(parsed).transpose()
    }
}
