//! [`nearest`]: what may be meant by a word that is none of those that are known.

/// The one of `known` that `word` is probably a slip of: a letter too many, missing, other or exchanged with its neighbour, one in
/// words of up to five letters, two in longer ones, a third of long ones; case, hyphens and underscores apart. `None` if none is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let most = match word.len() {
        0..=2 => 0,
        3..=5 => 1,
        6..=8 => 2,
        long => long / 3,
    };
    let near = known
        .into_iter()
        .map(|other| (slips(&word, &plain(other)), other));
    let near = near.filter(|(slips, _)| *slips <= most);
    near.min_by_key(|(slips, _)| *slips).map(|(_, other)| other)
}

/// `; did you mean `NEAREST`?`, or nothing.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

fn plain(word: &str) -> Vec<char> {
    let letters = word.chars().filter(|letter| !"-_ ".contains(*letter));
    letters.flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, changes and exchanges of neighbours that lead from one word to another (optimal string alignment).
pub fn slips(left: &[char], right: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let change = rows[i][j] + usize::from(a != b);
            let mut least = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_find_what_was_meant_and_other_words_do_not() {
        let keys = [
            "updates",
            "checkpoint_every_updates",
            "log_every_updates",
            "path",
            "env",
        ];
        for (word, meant) in [
            ("update", Some("updates")),
            ("upadtes", Some("updates")),
            ("Updates", Some("updates")),
            ("log-every-update", Some("log_every_updates")),
            ("checkpoints_every_update", Some("checkpoint_every_updates")),
            ("paht", Some("path")),
            ("evn", Some("env")),
            ("seed", None),
            ("episodes", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        let names = ["td3", "td3_bc", "bc", "sac", "sac_n"];
        assert_eq!(nearest("td3bc", names), Some("td3_bc"));
        assert_eq!(did_you_mean("td3bc", names), "; did you mean `td3_bc`?");
        assert_eq!(did_you_mean("iql", names), "");
    }
}
