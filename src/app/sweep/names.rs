//! Names of lines, and what may have been meant by a name that there is none of.

/// Keys as short as tells them apart: `expectile` for `algorithm.iql.expectile`.
pub(super) fn short_keys(keys: &[&str]) -> Vec<String> {
    let end = |key: &str, parts: usize| {
        let all: Vec<&str> = key.split('.').collect();
        all[all.len().saturating_sub(parts)..].join(".")
    };
    let short = |key: &&str| {
        let count = key.split('.').count();
        let is_alone = |parts: &usize| {
            let same = keys
                .iter()
                .filter(|other| end(other, *parts) == end(key, *parts));
            same.count() == 1
        };
        end(key, (1..=count).find(is_alone).unwrap_or(count))
    };
    keys.iter().map(short).collect()
}

/// A value as a part of a folder's name: `0.7`, `256x256`, `max`.
pub(super) fn value_word(value: &toml::Value) -> String {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => {
            let words: Vec<String> = values.iter().map(value_word).collect();
            words.join("x")
        }
        other => other.to_string(),
    };
    let plain = |c: char| {
        if c.is_alphanumeric() || "._+-".contains(c) {
            c
        } else {
            '_'
        }
    };
    text.trim().chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_to_what_tells_them_apart() {
        let keys = ["algorithm.iql.beta", "train.updates", "algorithm.awac.beta"];
        assert_eq!(short_keys(&keys), ["iql.beta", "updates", "awac.beta"]);
        assert_eq!(short_keys(&["seed"]), ["seed"]);
    }

    #[test]
    fn values_are_words_of_a_folders_name() {
        let word = |text: &str| {
            let table: toml::Table = toml::from_str(&format!("v = {text}")).expect("a value");
            value_word(&table["v"])
        };
        assert_eq!(word("0.7"), "0.7");
        assert_eq!(word("[256, 256]"), "256x256");
        assert_eq!(word("'a/b c'"), "a_b_c");
        assert_eq!(word("true"), "true");
    }
}
