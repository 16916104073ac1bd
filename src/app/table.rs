//! [`CsvTable`]: a growing table of numbers in a file, one row per update that was logged; [`Table`]: what such a file holds.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::app::checkpoint::lost::{Fault, remedy};
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};

/// A CSV file whose first column is `update`. New columns may appear at any row; earlier rows are
/// empty there.
#[derive(Debug)]
pub struct CsvTable {
    path: PathBuf,
    columns: Vec<String>,
}

impl CsvTable {
    /// Goes on with the table at `path`, of which `found` was read, `None` where it is not there yet: keeps rows up to and including
    /// `update`.
    ///
    /// # Errors
    /// If a row has no update number, or it can't be written.
    pub fn resumed(path: &Path, found: Option<Table>, update: u64) -> Result<Self> {
        let mut table = Self {
            path: path.to_path_buf(),
            columns: vec!["update".to_owned()],
        };
        let Some(found) = found else {
            return Ok(table);
        };
        let mut kept = Vec::with_capacity(found.rows.len());
        for (at, row) in found.rows.into_iter().enumerate() {
            if row_update(path, at, &row)? <= update {
                kept.push(row);
            }
        }
        table.columns = found.columns;
        table.rewrite(&kept)?;
        Ok(table)
    }

    /// Appends a row; cells are (column, text).
    ///
    /// # Errors
    /// If the disk fails.
    pub fn append(&mut self, update: u64, cells: &[(&str, String)]) -> Result<()> {
        let is_new = |name: &&str| !self.columns.iter().any(|column| column == name);
        let new: Vec<String> = cells
            .iter()
            .map(|(name, _)| *name)
            .filter(is_new)
            .map(str::to_owned)
            .collect();
        if !new.is_empty() || !self.path.exists() {
            let found = Table::read_if_present(&self.path)?;
            let mut rows = found.map_or_else(Vec::new, |table| table.rows);
            self.columns.extend(new);
            rows.iter_mut()
                .for_each(|row| row.resize(self.columns.len(), String::new()));
            self.rewrite(&rows)?;
        }
        let find = |name: &String| cells.iter().find(|(column, _)| column == name);
        let mut row = vec![update.to_string()];
        row.extend(
            self.columns[1..]
                .iter()
                .map(|c| find(c).map_or(String::new(), |x| x.1.clone())),
        );
        let mut file = OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(Error::io(&self.path))?;
        writeln!(file, "{}", row.join(",")).map_err(Error::io(&self.path))
    }

    fn rewrite(&self, rows: &[Vec<String>]) -> Result<()> {
        let mut text = self.columns.join(",") + "\n";
        for row in rows {
            text += &(row.join(",") + "\n");
        }
        write_atomically(&self.path, text.as_bytes())
    }
}

/// The table at `path` that a run goes on with; `None` where there is none.
///
/// # Errors
/// If it can't be read, a line has another number of cells than the first, a row has no update number, or there is none of the `needed`
/// columns.
pub fn to_resume(path: &Path, needed: &[&str]) -> Result<Option<Table>> {
    let Some(table) = Table::read_if_present(path)? else {
        return Ok(None);
    };
    if let Some(missing) = needed.iter().find(|name| !table.has(name)) {
        let problem = format!(
            "line 1: no column `{missing}`, which this table has from its start: its names were changed; restore the line from a copy, or move \
             the file away"
        );
        return Err(Error::data(path, problem));
    }
    for (at, row) in table.rows.iter().enumerate() {
        row_update(path, at, row)?;
    }
    Ok(Some(table))
}

fn row_update(path: &Path, at: usize, row: &[String]) -> Result<u64> {
    let cell = row.first().map_or("", String::as_str);
    cell.parse()
        .map_err(|_| bad_cell(path, at, "update", cell, "a whole number"))
}

/// The error about a cell of the row number `at`, counted from 0.
fn bad_cell(path: &Path, at: usize, column: &str, cell: &str, expected: &str) -> Error {
    let line = at + 2; // the first line has the names
    let problem = format!(
        "line {line}: `{column}` is `{cell}`, expected {expected}; correct the line or remove it"
    );
    Error::data(path, problem)
}

/// What a file holds that [`CsvTable`] wrote: read once, asked for as many columns as one likes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    path: PathBuf,
    /// Names of columns, `update` first.
    pub columns: Vec<String>,
    /// Rows of cells, as many as there are columns. A last line without its end is none: its last number may be cut.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads the table at `path`.
    ///
    /// # Errors
    /// If it can't be read, its first line has no names of columns, or a line has more or fewer cells than that.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(useless(path, Fault::Folder));
        }
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            let problem = "holds something that is no text; restore it from a copy, or move it away, and it is begun anew";
            Error::data(path, problem)
        })?;
        parsed(path, &text)
    }

    /// [`read`](Self::read), or `None` where there is no such file.
    ///
    /// # Errors
    /// If there is one that can't be read.
    pub fn read_if_present(path: &Path) -> Result<Option<Self>> {
        match Self::read(path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Whether there is a column of this name.
    pub fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|name| name == column)
    }

    /// The named columns, row by row; NaN where a cell is empty.
    ///
    /// # Errors
    /// If there is no such column, or a cell holds something that is no number.
    pub fn numbers<const N: usize>(&self, names: [&str; N]) -> Result<Vec<[f64; N]>> {
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            let found = self.columns.iter().position(|column| column == name);
            *place = found.ok_or_else(|| Error::Unknown {
                name: (*name).to_owned(),
                problem: format!("{} has no column `{name}`", self.path.display()),
            })?;
        }
        let row = |(at, row): (usize, &Vec<String>)| {
            let mut numbers = [f64::NAN; N];
            for (number, (place, name)) in numbers.iter_mut().zip(places.iter().zip(names)) {
                *number = cell_number(&self.path, at, name, &row[*place])?;
            }
            Ok(numbers)
        };
        self.rows.iter().enumerate().map(row).collect()
    }

    /// All columns, row by row; NaN where a cell is empty.
    ///
    /// # Errors
    /// If a cell holds something that is no number.
    pub fn all_numbers(&self) -> Result<Vec<Vec<f64>>> {
        let row = |(at, row): (usize, &Vec<String>)| {
            let cells = self.columns.iter().zip(row);
            cells
                .map(|(name, cell)| cell_number(&self.path, at, name, cell))
                .collect()
        };
        self.rows.iter().enumerate().map(row).collect()
    }

    /// The numbers of updates, row by row.
    ///
    /// # Errors
    /// If a row's is no whole number or smaller than that of the row before: names file and line.
    pub fn updates(&self) -> Result<Vec<u64>> {
        let mut found: Vec<u64> = Vec::with_capacity(self.rows.len());
        for (at, row) in self.rows.iter().enumerate() {
            let update = row_update(&self.path, at, row)?;
            if let Some(before) = found.last().filter(|before| **before > update) {
                let expected = format!("{before} or more, as in the line before");
                return Err(bad_cell(&self.path, at, "update", &row[0], &expected));
            }
            found.push(update);
        }
        Ok(found)
    }
}

fn parsed(path: &Path, text: &str) -> Result<Table> {
    // What a kill has cut off is no line: its last number may be cut too.
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<String>>();
    let mut lines = whole.lines().map(cells).enumerate();
    let Some((_, columns)) = lines.next() else {
        return Err(useless(path, Fault::Empty));
    };
    check_names(path, &columns)?;
    let mut rows = Vec::new();
    for (at, row) in lines {
        if row.len() != columns.len() {
            let problem = format!(
                "line {}: {} cells, but the first line names {} columns; correct the line or remove it",
                at + 1,
                row.len(),
                columns.len()
            );
            return Err(Error::data(path, problem));
        }
        rows.push(row);
    }
    Ok(Table {
        path: path.to_path_buf(),
        columns,
        rows,
    })
}

/// The error about a table of a run that holds nothing.
fn useless(path: &Path, fault: Fault) -> Error {
    let what = match fault {
        Fault::Empty => "is empty or has no whole line",
        other => other.said(),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new(""));
    Error::data(path, format!("{what}; {}", remedy(folder, &name, fault)))
}

/// Fails if these are not names of columns: `update` first, none empty, none twice.
fn check_names(path: &Path, columns: &[String]) -> Result<()> {
    let twice = |at: usize| columns[..at].contains(&columns[at]);
    let wrong = (0..columns.len()).find(|at| {
        let name = columns[*at].trim();
        let is_update = name == "update";
        name.is_empty() || is_update != (*at == 0) || twice(*at)
    });
    let Some(at) = wrong else {
        return Ok(());
    };
    let problem = format!(
        "line 1: column {} is called `{}`, expected names of columns, `update` first and each once; restore the line from a copy, or \
         move the file away",
        at + 1,
        columns[at]
    );
    Err(Error::data(path, problem))
}

/// The named columns of the table at `path`, row by row; NaN where a cell is empty.
///
/// # Errors
/// As [`Table::read`] and [`Table::numbers`].
pub fn numbers<const N: usize>(path: &Path, names: [&str; N]) -> Result<Vec<[f64; N]>> {
    Table::read(path)?.numbers(names)
}

/// The number in a cell of the row number `at`, counted from 0; NaN if it is empty.
fn cell_number(path: &Path, at: usize, column: &str, cell: &str) -> Result<f64> {
    match cell.trim() {
        "" => Ok(f64::NAN),
        cell => cell
            .parse()
            .map_err(|_| bad_cell(path, at, column, cell, "a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_past_the_checkpoint_are_cut_and_new_columns_fill_backwards() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.csv");
        let open = |update, needed: &[&str]| {
            CsvTable::resumed(&path, to_resume(&path, needed).expect("a table"), update)
        };
        let mut table = open(0, &[]).expect("new");
        table.append(10, &[("loss", "1".to_owned())]).expect("row");
        table
            .append(20, &[("loss", "2".to_owned()), ("q_mean", "5".to_owned())])
            .expect("row");
        let mut table = open(10, &["loss"]).expect("again");
        table
            .append(30, &[("q_mean", "6".to_owned())])
            .expect("row");
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(text, "update,loss,q_mean\n10,1,\n30,,6\n");
    }

    #[test]
    fn only_a_last_line_that_was_cut_is_left_out_and_everything_else_is_named_by_its_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.csv");
        let found = |text: &str| {
            std::fs::write(&path, text).expect("written");
            match (Table::read(&path), to_resume(&path, &[])) {
                (Ok(table), Ok(_)) => format!("{} rows", table.rows.len()),
                (Err(first), Err(second)) => {
                    assert_eq!(first.to_string(), second.to_string());
                    first.to_string()
                }
                (one, other) => panic!("read {one:?}, opened {other:?}"),
            }
        };
        assert_eq!(found("update,loss\n10,1\n20,2\n"), "2 rows");
        assert_eq!(found("update,loss\n10,1\n20"), "1 rows");
        assert!(found("").contains("metrics.csv: is empty"), "{}", found(""));
        assert!(found("update,lo").contains("metrics.csv: is empty"));
        // The last number may be cut: 25 of 257.
        assert_eq!(found("update,loss\n10,1\n20,25"), "1 rows");
        std::fs::write(&path, "update,los\n10,1\n").expect("written");
        let renamed = to_resume(&path, &["loss"]);
        let renamed = renamed.expect_err("renamed").to_string();
        assert!(renamed.contains("line 1: no column `loss`"), "{renamed}");
        for (text, expected) in [
            (
                "update,loss\n10\n20,2\n",
                "line 2: 1 cells, but the first line names 2",
            ),
            ("update,loss\n10\n20", "line 2: 1 cells"),
            ("update,loss\n10,1\n20\n", "line 3: 1 cells"),
            ("update,loss\n10,1,5\n", "line 2: 3 cells"),
            ("loss,update\n10,1\n", "column 1 is called `loss`"),
            ("update,loss,loss\n10,1,1\n", "column 3 is called `loss`"),
            ("update,,loss\n10,1,1\n", "column 2 is called ``"),
            ("10,1\n20,2\n", "column 1 is called `10`"),
        ] {
            let said = found(text);
            assert!(said.contains(expected), "{text:?}: {said}");
        }
    }

    #[test]
    fn a_row_without_an_update_number_is_an_error_and_stays_in_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.csv");
        let text = "update,loss\n10,1\nten,2\n";
        std::fs::write(&path, text).expect("written");
        let problem = to_resume(&path, &[]).expect_err("no number").to_string();
        let expected = "metrics.csv: line 3: `update` is `ten`, expected a whole number";
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), text);
    }
}
