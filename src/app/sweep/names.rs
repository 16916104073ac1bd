//! Names of lines, and what may have been meant by a name that there is none of.

/// The one of `known` that `name` is a slip of the keyboard away from, if there is one.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let near = known
        .into_iter()
        .map(|other| (distance(name, other), other));
    let near = near.filter(|(distance, _)| *distance <= limit);
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// Letters to insert, remove, replace, or exchange with their neighbour, to make one name of the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            let exchanged =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if exchanged {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

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
    fn slips_are_found_and_other_names_are_not() {
        let known = ["configs", "datasets", "seeds", "grid"];
        assert_eq!(nearest("sedes", known), Some("seeds"));
        assert_eq!(nearest("config", known), Some("configs"));
        assert_eq!(nearest("gird", known), Some("grid"));
        assert_eq!(nearest("threads", known), None);
        assert_eq!((distance("", "abc"), distance("abc", "abc")), (3, 0));
    }

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
