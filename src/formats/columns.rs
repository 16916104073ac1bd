//! [`ColumnChoice`]: which numbers of an observation are kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// Columns of observations to keep, as text: `0..27`, or `0..27,30` with numbers and ranges in rising order. Ant's 111
/// observations are often cut down to the first 27, without contact forces, as the Trajectory Transformer's authors do
/// (`ant_preprocess_fn`, trajectory/datasets/preprocessing.py).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ColumnChoice {
    text: String,
    columns: Vec<usize>,
}

/// More columns than an observation has.
const MOST_COLUMNS: usize = 1 << 20;

impl FromStr for ColumnChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("`{text}` names no columns, expected e.g. 0..27 or 0..27,30");
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let mut columns = Vec::new();
        for part in text.split(',') {
            let range = match part.split_once("..") {
                Some((first, end)) => number(first)?..number(end)?,
                None => number(part)?..number(part)?.saturating_add(1),
            };
            if range.is_empty() || range.end > MOST_COLUMNS {
                return Err(wrong());
            }
            columns.extend(range);
        }
        if columns.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(format!("`{text}`: columns must rise, each named once"));
        }
        Ok(Self {
            text: text.to_owned(),
            columns,
        })
    }
}

impl TryFrom<String> for ColumnChoice {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<ColumnChoice> for String {
    fn from(choice: ColumnChoice) -> Self {
        choice.text
    }
}

impl fmt::Display for ColumnChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ColumnChoice {
    /// Keeps only these columns of the observations.
    ///
    /// # Errors
    /// If the observations have fewer columns: names the file and how many there are.
    pub(super) fn keep_in(&self, data: &mut Dataset) -> Result<()> {
        let (dim, kept) = (data.observation_dim, self.columns.len());
        if self.columns.last().is_some_and(|&last| last >= dim) {
            return Err(Error::Unsuitable(format!(
                "{}: `data.observation_columns` is {self}, but observations have only {dim} \
                 numbers (0..{dim})",
                data.source_names()
            )));
        }
        // In place: a kept number never moves to the right.
        for step in 0..data.steps() {
            for (place, &column) in self.columns.iter().enumerate() {
                data.observations[step * kept + place] = data.observations[step * dim + column];
            }
        }
        data.observations.truncate(data.steps() * kept);
        data.observations.shrink_to_fit();
        data.observation_dim = kept;
        for episode in &mut data.episodes {
            if let Some(last) = &mut episode.final_observation {
                *last = self.columns.iter().map(|&column| last[column]).collect();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_numbers_and_ranges_in_rising_order() {
        let columns = |text: &str| text.parse::<ColumnChoice>().map(|choice| choice.columns);
        assert_eq!(columns("0..3"), Ok(vec![0, 1, 2]));
        assert_eq!(columns("1, 4..6"), Ok(vec![1, 4, 5]));
        for wrong in ["", "3..3", "2,1", "0..4,3", "a", "-1", "0..9999999999"] {
            assert!(columns(wrong).is_err(), "{wrong}");
        }
    }
}
