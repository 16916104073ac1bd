//! [`CsvTable`]: a growing table of numbers in a file, one row per update that was logged.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

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
    /// Opens `path`, keeping rows up to and including `update`; makes it if it is not there.
    ///
    /// # Errors
    /// If it can't be read or written, or a row has no update number.
    pub fn open(path: &Path, update: u64) -> Result<Self> {
        let mut table = Self {
            path: path.to_path_buf(),
            columns: vec!["update".to_owned()],
        };
        if !path.exists() {
            return Ok(table);
        }
        let (columns, rows) = read(path)?;
        let kept: Vec<Vec<String>> = rows
            .into_iter()
            .filter(|row| row_update(row) <= update)
            .collect();
        table.columns = columns;
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
            let mut rows = if self.path.exists() {
                read(&self.path)?.1
            } else {
                Vec::new()
            };
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

fn row_update(row: &[String]) -> u64 {
    row.first()
        .and_then(|cell| cell.parse().ok())
        .unwrap_or(u64::MAX)
}

/// Columns and rows of a table that [`CsvTable`] wrote.
///
/// # Errors
/// If it can't be read or is empty.
pub fn read(path: &Path) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let mut lines = text
        .lines()
        .map(|line| line.split(',').map(str::to_owned).collect());
    let columns: Vec<String> = lines.next().unwrap_or_else(|| vec!["update".to_owned()]);
    let width = columns.len();
    // A row that was cut by a kill has too few cells: it is not a row.
    let rows = lines
        .filter(|row: &Vec<String>| row.len() == width)
        .collect();
    Ok((columns, rows))
}

/// The named columns of a table, row by row; NaN where a cell is empty.
///
/// # Errors
/// If it can't be read or has no such column.
pub fn numbers<const N: usize>(path: &Path, names: [&str; N]) -> Result<Vec<[f64; N]>> {
    let (columns, rows) = read(path)?;
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(names) {
        let found = columns.iter().position(|column| column == name);
        *place = found.ok_or_else(|| {
            Error::Unsuitable(format!("{} has no column `{name}`", path.display()))
        })?;
    }
    let number = |row: &[String], at: usize| row[at].parse().unwrap_or(f64::NAN);
    Ok(rows
        .iter()
        .map(|row| places.map(|at| number(row, at)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_past_the_checkpoint_are_cut_and_new_columns_fill_backwards() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.csv");
        let mut table = CsvTable::open(&path, 0).expect("new");
        table.append(10, &[("loss", "1".to_owned())]).expect("row");
        table
            .append(20, &[("loss", "2".to_owned()), ("q_mean", "5".to_owned())])
            .expect("row");
        let mut table = CsvTable::open(&path, 10).expect("again");
        table
            .append(30, &[("q_mean", "6".to_owned())])
            .expect("row");
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(text, "update,loss,q_mean\n10,1,\n30,,6\n");
    }
}
