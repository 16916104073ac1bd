//! What a report says of a run's numbers: an update that ended it, steps that were left out, gradients that jumped.

use crate::app::checkpoint::RunDir;
use crate::app::checkpoint::nonfinite::{NONFINITE, Told};
use trajformer_core::statistics::quantile;

/// A norm so many times the median of the rows before it is a jump.
const JUMP: f64 = 10.0;
/// Rows before it that it is held against, at most and at least.
const BEFORE: usize = 20;
const FEWEST_BEFORE: usize = 5;
/// Jumps of a column that are told, the largest ones.
const MOST: usize = 3;

/// Names of a table's columns, and its rows.
pub(super) type Numbers = (Vec<String>, Vec<Vec<f64>>);

/// What is to be said of a run that has come to update `done`, by its folder and its `metrics.csv`.
pub(super) fn about(run: &RunDir, done: u64, metrics: Option<&Numbers>) -> Vec<String> {
    let mut notes = Vec::new();
    // One that went on past it was mended.
    if let Some(told) = Told::read(&run.file(NONFINITE)).filter(|told| told.update > done) {
        notes.push(format!(
            "stopped at update {}: {}",
            told.update, told.problem
        ));
    }
    let Some((names, rows)) = metrics else {
        return notes;
    };
    let column = |at: usize| -> Vec<(u64, f64)> {
        let cells = rows.iter().map(|row| (row[0] as u64, row[at]));
        cells.filter(|(_, value)| value.is_finite()).collect()
    };
    for (at, name) in names.iter().enumerate() {
        if name == "skipped_share" {
            let skipped = column(at).into_iter().filter(|(_, share)| *share > 0.0);
            let skipped: Vec<(u64, f64)> = skipped.collect();
            if let (Some((first, _)), Some((last, _))) = (skipped.first(), skipped.last()) {
                notes.push(format!(
                    "steps were left out because losses or gradients were not finite (`skipped_share`), in {} of {} rows of metrics.csv, from \
                     update {first} to {last}",
                    skipped.len(),
                    rows.len()
                ));
            }
        }
        if name.ends_with("gradient_norm") {
            let jumps = jumps(&column(at));
            if !jumps.is_empty() {
                let said = jumps
                    .iter()
                    .map(|(update, times)| format!("{update} ({times:.0} times)"));
                let said: Vec<String> = said.collect();
                notes.push(format!(
                    "`{name}` jumps at update {}: so far above the median of up to {BEFORE} rows before",
                    said.join(", ")
                ));
            }
        }
    }
    notes
}

/// Updates whose value is [`JUMP`] times the median of those before or more, with how many times: the largest, in their order.
fn jumps(column: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let mut found = Vec::new();
    for at in FEWEST_BEFORE..column.len() {
        let mut before: Vec<f64> = column[at.saturating_sub(BEFORE)..at]
            .iter()
            .map(|(_, value)| *value)
            .collect();
        before.sort_by(f64::total_cmp);
        let (update, value) = column[at];
        let times = value / quantile(&before, 0.5);
        if times.is_finite() && times >= JUMP {
            found.push((update, times));
        }
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found.truncate(MOST);
    found.sort_by_key(|(update, _)| *update);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_held_against_the_rows_before_it() {
        let mut column: Vec<(u64, f64)> = (1..=40).map(|row| (10 * row, 2.0)).collect();
        assert_eq!(jumps(&column), []);
        // Too early to be known, high enough, a little too low.
        (column[3].1, column[20].1, column[30].1) = (90.0, 30.0, 19.0);
        assert_eq!(jumps(&column), [(210, 15.0)]);
        // A rise that stays is told until it is usual: the three largest.
        column[25..].iter_mut().for_each(|(_, value)| *value = 44.0);
        (column[33].1, column[39].1) = (1e3, 1e5);
        let found = jumps(&column);
        assert_eq!(found.len(), MOST);
        assert_eq!(found[1], (340, 500.0));
        assert_eq!(found[2].0, 400);
    }
}
