//! [`Evaluations`]: the table `evaluations.csv` of a run directory, one row per evaluation. Nothing else reads or writes it.

use std::path::Path;

use crate::app::checkpoint::RunDir;
use crate::app::evaluate::Evaluation;
use crate::app::table::{self, CsvTable, Table};
use trajformer_core::error::{Error, Result};

/// The table's file in a run directory.
const FILE: &str = "evaluations.csv";

/// The evaluations of a run that is trained: rows are appended.
#[derive(Debug)]
pub struct Evaluations {
    table: CsvTable,
}

/// What a table that may be being written has of evaluations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settled {
    /// Whether they are normalised scores: returns where there are none.
    pub normalized: bool,
    /// (update, mean score) of every evaluation.
    pub scores: Vec<(f64, f64)>,
    /// Rows that hold something else than finite numbers: which, and what.
    pub left_out: Vec<String>,
}

/// One evaluation as the table keeps it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvaluationRow {
    /// Updates that were done.
    pub update: u64,
    /// Seconds of training until then, evaluations included.
    pub seconds: f64,
    /// How many episodes.
    pub episodes: usize,
    /// Mean undiscounted return, and its standard deviation over the episodes.
    pub returns: (f64, f64),
    /// Mean normalized score, and its standard deviation; `None` where the environment has no reference returns.
    pub scores: Option<(f64, f64)>,
}

/// Evaluations of a policy that aims at this return.
#[derive(Debug, Clone, PartialEq)]
pub struct Aim {
    /// The return that is asked for.
    pub asked: f64,
    /// Mean return and its standard deviation over the episodes, of each row; `None` where it was not asked for.
    pub returns: Vec<Option<(f64, f64)>>,
}

/// Columns that every table of evaluations has.
const NEEDED: [&str; 4] = ["seconds", "episodes", "return_mean", "return_std"];

impl Evaluations {
    /// What the table of `run` holds, to be gone on with; `None` where there is none yet.
    ///
    /// # Errors
    /// As [`table::to_resume`].
    pub fn to_resume(run: &RunDir) -> Result<Option<Table>> {
        table::to_resume(&run.file(FILE), &NEEDED)
    }

    /// The table of `run`, of which `found` was read, with the rows up to and including `update`; later ones are cut.
    ///
    /// # Errors
    /// As [`CsvTable::resumed`].
    pub fn resumed(run: &RunDir, found: Option<Table>, update: u64) -> Result<Self> {
        let table = CsvTable::resumed(&run.file(FILE), found, update)?;
        Ok(Self { table })
    }

    /// Appends what was found after `update` updates and `seconds` of training.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn append(&mut self, update: u64, seconds: f64, found: &Evaluation) -> Result<()> {
        let mut cells = vec![
            ("seconds".to_owned(), format!("{seconds:.3}")),
            ("episodes".to_owned(), found.episodes.to_string()),
        ];
        let mut put = |name: &str, value: f64| cells.push((name.to_owned(), value.to_string()));
        put("return_mean", found.return_mean);
        put("return_std", found.return_std);
        if let (Some(mean), Some(std)) = (found.score_mean, found.score_std) {
            put("score_mean", mean);
            put("score_std", std);
        }
        // The first target's numbers are those above.
        for target in found.by_target.iter().skip(1) {
            let aim = target.target_return;
            put(&format!("return_mean_aiming_at_{aim}"), target.return_mean);
            put(&format!("return_std_aiming_at_{aim}"), target.return_std);
            if let (Some(mean), Some(std)) = (target.score_mean, target.score_std) {
                put(&format!("score_mean_aiming_at_{aim}"), mean);
                put(&format!("score_std_aiming_at_{aim}"), std);
            }
        }
        let cells: Vec<(&str, String)> = cells
            .iter()
            .map(|(name, text)| (name.as_str(), text.clone()))
            .collect();
        self.table.append(update, &cells)
    }

    /// All rows of the run directory `folder`; none if nothing was evaluated there yet.
    ///
    /// # Errors
    /// If the table is there and can't be read, lacks a column, or holds something that is no number.
    pub fn rows(folder: &Path) -> Result<Vec<EvaluationRow>> {
        match Table::read_if_present(&folder.join(FILE))? {
            Some(table) => rows_of(&table),
            None => Ok(Vec::new()),
        }
    }

    /// Every evaluation of the run directory `folder`, which may be being written.
    ///
    /// # Errors
    /// If the table is there and can't be read, or is none of evaluations.
    pub fn settled(folder: &Path) -> Result<Settled> {
        let path = folder.join(FILE);
        let Some(table) = Table::read_if_present(&path)? else {
            return Ok(Settled::default());
        };
        let place = |name: &str| table.columns.iter().position(|column| column == name);
        let (score, found) = (place("score_mean"), place("return_mean"));
        let Some(column) = score.or(found) else {
            let problem = "no column `return_mean`: no table of evaluations";
            return Err(Error::data(&path, problem));
        };
        let number = |cell: &String| cell.trim().parse().ok().filter(|x: &f64| x.is_finite());
        let point = |row: &Vec<String>| Some((number(&row[0])?, number(&row[column])?));
        let mut settled = Settled {
            normalized: score.is_some(),
            ..Settled::default()
        };
        for (at, row) in table.rows.iter().enumerate() {
            match point(row) {
                Some(point) => settled.scores.push(point),
                None => settled.left_out.push(format!(
                    "line {}: update `{}` has `{}` as `{}`, which is no finite number, and is left out",
                    at + 2, // the first line has the names
                    row[0].trim(),
                    row[column].trim(),
                    table.columns[column]
                )),
            }
        }
        Ok(settled)
    }

    /// What the evaluations of the run directory `folder`, the [`rows`](Self::rows), found for each further return that its
    /// policy aims at.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn aims(folder: &Path) -> Result<Vec<Aim>> {
        let Some(table) = Table::read_if_present(&folder.join(FILE))? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for mean in &table.columns {
            let Some(aim) = mean.strip_prefix("return_mean_aiming_at_") else {
                continue;
            };
            let Ok(asked) = aim.parse() else {
                continue;
            };
            let rows = table.numbers([mean, &format!("return_std_aiming_at_{aim}")])?;
            let row = |[mean, std]: [f64; 2]| mean.is_finite().then_some((mean, std));
            let returns = rows.into_iter().map(row).collect();
            found.push(Aim { asked, returns });
        }
        Ok(found)
    }

    /// As [`rows`](Self::rows), but a number that is written down and is not finite is an error.
    ///
    /// # Errors
    /// Besides those of [`rows`](Self::rows): if a return or score is NaN or infinite; names the file and the line.
    pub fn finite_rows(folder: &Path) -> Result<Vec<EvaluationRow>> {
        let path = folder.join(FILE);
        let Some(table) = Table::read_if_present(&path)? else {
            return Ok(Vec::new());
        };
        let rows = rows_of(&table)?;
        let numbers = ["return_mean", "return_std", "score_mean", "score_std"];
        for (at, row) in table.rows.iter().enumerate() {
            for (column, cell) in table.columns.iter().zip(row) {
                let is_number = numbers.contains(&column.as_str()) && !cell.trim().is_empty();
                if is_number && !cell.trim().parse().is_ok_and(f64::is_finite) {
                    let line = at + 2; // the first line has the names
                    let problem = format!(
                        "line {line}: `{column}` is `{cell}`, which can be neither averaged nor drawn; find out why the \
                         policy was scored so, or remove the line"
                    );
                    return Err(Error::data(&path, problem));
                }
            }
        }
        Ok(rows)
    }

    /// The last evaluation of the run directory `folder`, made in the environment `env`, without the numbers of single
    /// episodes; `None` if nothing was evaluated yet.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn last(folder: &Path, env: &str) -> Result<Option<Evaluation>> {
        Ok(Self::rows(folder)?.last().map(|row| Evaluation {
            env: env.to_owned(),
            episodes: row.episodes,
            returns: Vec::new(),
            lengths: Vec::new(),
            return_mean: row.returns.0,
            return_std: row.returns.1,
            score_mean: row.scores.map(|scores| scores.0),
            score_std: row.scores.map(|scores| scores.1),
            by_target: Vec::new(),
            planning: None,
        }))
    }
}

/// The rows of a table of evaluations.
///
/// # Errors
/// If it lacks a column, or holds something that is no number.
pub fn rows_of(table: &Table) -> Result<Vec<EvaluationRow>> {
    let names = ["seconds", "episodes", "return_mean", "return_std"];
    let (updates, returns) = (table.updates()?, table.numbers(names)?);
    let scores = if table.has("score_mean") {
        table.numbers(["score_mean", "score_std"])?
    } else {
        vec![[f64::NAN; 2]; returns.len()]
    };
    let row = |((update, numbers), [mean, std]): ((u64, [f64; 4]), [f64; 2])| {
        let [seconds, episodes, return_mean, return_std] = numbers;
        EvaluationRow {
            update,
            seconds,
            episodes: episodes as usize,
            returns: (return_mean, return_std),
            scores: (mean.is_finite() && std.is_finite()).then_some((mean, std)),
        }
    };
    let rows = updates.into_iter().zip(returns).zip(scores);
    Ok(rows.map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "update,seconds,episodes,return_mean,return_std";

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(FILE), text).expect("written");
        folder
    }

    fn error(text: &str) -> String {
        let folder = folder(text);
        let error = Evaluations::rows(folder.path()).expect_err(text);
        let last = Evaluations::last(folder.path(), "hopper-v4").expect_err(text);
        assert_eq!(error.to_string(), last.to_string());
        error.to_string()
    }

    #[test]
    fn what_is_appended_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let mut table = Evaluations {
            table: CsvTable::resumed(&path, None, 0).expect("new"),
        };
        for (update, env) in [(10, "pendulum-v1"), (20, "hopper-v4")] {
            let found = Evaluation::new(env, vec![100.0, 300.0], vec![5, 6]);
            table.append(update, 1.5, &found).expect("a row");
        }
        let rows = Evaluations::rows(folder.path()).expect("rows");
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].update, rows[0].seconds, rows[0].episodes),
            (10, 1.5, 2)
        );
        assert_eq!((rows[0].returns, rows[0].scores), ((200.0, 100.0), None));
        let found = Evaluation::new("hopper-v4", vec![100.0, 300.0], vec![5, 6]);
        let last = Evaluations::last(folder.path(), "hopper-v4").expect("a table");
        let expected = Evaluation {
            returns: Vec::new(),
            lengths: Vec::new(),
            ..found
        };
        assert_eq!(last, Some(expected));
    }

    #[test]
    fn numbers_that_are_not_finite_are_an_error_where_they_are_to_be_compared() {
        let check = |text: &str| {
            let folder = folder(text);
            let error = Evaluations::finite_rows(folder.path()).expect_err(text);
            error.to_string()
        };
        let problem = check(&format!("{HEAD}\n1,2,3,4,5\n2,2,3,NaN,5\n"));
        assert!(problem.contains(FILE), "{problem}");
        assert!(
            problem.contains("line 3: `return_mean` is `NaN`"),
            "{problem}"
        );
        let problem = check(&format!("{HEAD},score_mean,score_std\n1,2,3,4,5,inf,0\n"));
        assert!(
            problem.contains("line 2: `score_mean` is `inf`"),
            "{problem}"
        );
        // A cell that is empty is no number: its row has no score.
        let folder = folder(&format!("{HEAD},score_mean,score_std\n1,2,3,4,5,,\n"));
        let rows = Evaluations::finite_rows(folder.path()).expect("rows");
        assert_eq!(rows[0].scores, None);
    }

    #[test]
    fn updates_that_go_back_are_an_error_that_names_the_line() {
        let problem = error(&format!("{HEAD}\n20,2,3,4,5\n10,2,3,4,5\n"));
        let expected = "line 3: `update` is `10`, expected 20 or more";
        assert!(
            problem.contains(FILE) && problem.contains(expected),
            "{problem}"
        );
        let folder = folder(&format!("{HEAD}\n20,2,3,4,5\n20,2,3,4,5\n"));
        assert_eq!(Evaluations::rows(folder.path()).expect("rows").len(), 2);
    }

    #[test]
    fn a_run_without_evaluations_has_no_rows() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Evaluations::rows(folder.path()).expect("rows"), []);
        assert_eq!(Evaluations::last(folder.path(), "a").expect("none"), None);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_an_error_that_names_it_and_the_place() {
        // A folder in the table's place can't be read as a file.
        let place = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(place.path().join(FILE)).expect("made");
        let problem = Evaluations::rows(place.path()).expect_err("a folder");
        assert!(problem.to_string().contains(FILE), "{problem}");

        let problem = error("update,seconds,episodes\n1,2,3\n");
        assert!(problem.contains("no column `return_mean`"), "{problem}");
        let problem = error(&format!("{HEAD},score_mean\n1,2,3,4,5,6\n"));
        assert!(problem.contains("no column `score_std`"), "{problem}");
        let scores = format!("{HEAD},score_mean,score_std\n1,2,3,4,5,6,7\n2,2,3,4,5,6,x7\n");
        for (text, row, column, found) in [
            (format!("{HEAD}\n1,2,3,4o,5\n"), 2, "return_mean", "4o"),
            (format!("{HEAD}\none,2,3,4,5\n"), 2, "update", "one"),
            (format!("{HEAD}\n1.5,2,3,4,5\n"), 2, "update", "1.5"),
            (format!("{HEAD}\n-1,2,3,4,5\n"), 2, "update", "-1"),
            (format!("{HEAD}\n,2,3,4,5\n"), 2, "update", ""),
            (format!("{HEAD}\nNaN,2,3,4,5\n"), 2, "update", "NaN"),
            (scores, 3, "score_std", "x7"),
        ] {
            let problem = error(&text);
            let expected = format!("line {row}: `{column}` is `{found}`, expected a ");
            assert!(
                problem.contains(FILE) && problem.contains(&expected),
                "{problem}"
            );
        }
    }
}
