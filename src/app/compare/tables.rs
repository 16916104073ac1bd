//! [`Table`]: cells under names, as aligned text, CSV, Markdown or LaTeX. It knows nothing of runs.

use std::collections::HashMap;
use std::fmt::Write;

use trajformer_core::printable::printable;

/// Letters of a cell that text has room for; other forms have all of them.
const LONGEST_CELL: usize = 48;

/// Where a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words: to the left; what has a meaning in Markdown or LaTeX is escaped.
    Words,
    /// Numbers: to the right.
    Numbers,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// One sentence on what the numbers are.
    pub caption: String,
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(caption: impl Into<String>, columns: Vec<(String, Align)>) -> Self {
        Self {
            caption: caption.into(),
            columns,
            rows: Vec::new(),
        }
    }

    /// Appends a row of as many cells as there are columns; missing ones are empty.
    pub fn push(&mut self, mut row: Vec<String>) {
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Without the column `name`.
    pub fn without(mut self, name: &str) -> Self {
        while let Some(at) = self.columns.iter().position(|(column, _)| column == name) {
            self.columns.remove(at);
            self.rows.iter_mut().for_each(|row| drop(row.remove(at)));
        }
        self
    }

    /// Letters of the longest line that [`text`](Self::text) makes of the cells.
    fn width(&self) -> usize {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| &row[at]);
            let all = cells.chain([&self.columns[at].0]);
            all.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: usize = (0..self.columns.len()).map(width).sum();
        widths + 2 * self.columns.len().saturating_sub(1)
    }

    /// The table in lines of at most `width` letters, as far as columns go without which that is, and what is said of those that went: the
    /// ones whose cells are all the same first, then others, each time from the last one on. `may_go` says of a column's name, and of whether
    /// its cells are all the same, if it may.
    pub fn folded(
        mut self,
        width: usize,
        may_go: impl Fn(&str, bool) -> bool,
    ) -> (Self, Vec<String>) {
        let mut notes = Vec::new();
        for same_only in [true, false] {
            for at in (1..self.columns.len()).rev() {
                let name = self.columns[at].0.clone();
                let first = self
                    .rows
                    .first()
                    .map(|row| row[at].clone())
                    .unwrap_or_default();
                let is_same = self.rows.len() > 1 && self.rows.iter().all(|row| row[at] == first);
                if self.width() <= width || same_only != is_same || !may_go(&name, is_same) {
                    continue;
                }
                notes.push(if is_same {
                    format!("{name}: {first} in all lines")
                } else {
                    format!("{name}: {}", self.values_of(at).join(", "))
                });
                self.columns.remove(at);
                self.rows.iter_mut().for_each(|row| drop(row.remove(at)));
            }
        }
        (self, notes)
    }

    /// The different values of a column, each with the rows that have it, by their first cells; without those that have none.
    fn values_of(&self, at: usize) -> Vec<String> {
        let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for row in &self.rows {
            let (name, value) = (row[0].as_str(), row[at].as_str());
            if value.is_empty() || value == "-" {
                continue;
            }
            let place = *places.entry(value).or_insert(found.len());
            match found.get_mut(place) {
                Some((_, names)) => names.push(name),
                None => found.push((value, vec![name])),
            }
        }
        let said = |(value, names): (&str, Vec<&str>)| format!("{value} ({})", names.join(", "));
        found.into_iter().map(said).collect()
    }

    fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Columns of equal width, two spaces apart, the middle of very long cells left out; the caption below in lines of at most `width` letters.
    pub fn text(&self, width: usize) -> String {
        let caption_width = width;
        let short = |row: &Vec<String>| -> Vec<String> {
            let line = |cell: &String| cell.replace(['\n', '\r', '\t'], " ");
            let cells = row.iter().map(line);
            let cell = |cell: String| shortened(&printable(&cell), LONGEST_CELL);
            cells.map(cell).collect()
        };
        let names = short(&self.names());
        let rows: Vec<Vec<String>> = self.rows.iter().map(short).collect();
        let lines = || std::iter::once(&names).chain(&rows);
        let length = |cell: &String| cell.chars().count();
        let width = |at: usize| lines().map(|row| length(&row[at])).max().unwrap_or(0);
        let widths: Vec<usize> = (0..names.len()).map(width).collect();
        let mut text = String::new();
        for row in lines() {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.columns) {
                let space = " ".repeat(width - length(cell));
                match align {
                    Align::Words => line += &format!("{cell}{space}  "),
                    Align::Numbers => line += &format!("{space}{cell}  "),
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        if !self.caption.is_empty() {
            text += &wrapped(&self.caption, caption_width, "");
        }
        text
    }

    /// Comma-separated values, the names first (RFC 4180, but for the line ends).
    pub fn csv(&self) -> String {
        let cell = |cell: &String| {
            if cell.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.clone()
            }
        };
        let line = |row: &Vec<String>| row.iter().map(cell).collect::<Vec<_>>().join(",") + "\n";
        std::iter::once(&self.names())
            .chain(&self.rows)
            .map(line)
            .collect()
    }

    /// A table of GitHub's Markdown, the caption below.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(
            self.names()
                .iter()
                .map(|name| escaped_for_markdown(name))
                .collect(),
        );
        let rule = |(_, align): &(String, Align)| match align {
            Align::Words => "---",
            Align::Numbers => "---:",
        };
        text += &line(
            self.columns
                .iter()
                .map(|column| rule(column).to_owned())
                .collect(),
        );
        for row in &self.rows {
            text += &line(row.iter().map(|cell| escaped_for_markdown(cell)).collect());
        }
        if !self.caption.is_empty() {
            text += &format!("\n{}\n", escaped_for_markdown(&self.caption));
        }
        text
    }

    /// A `table` with `booktabs` rules.
    pub fn latex(&self) -> String {
        let letter = |(_, align): &(String, Align)| match align {
            Align::Words => 'l',
            Align::Numbers => 'r',
        };
        let letters: String = self.columns.iter().map(letter).collect();
        let line = |cells: Vec<String>| {
            let text = cells.join(" & ");
            // After the end of a row a bracket or star would belong to it.
            let guard = if text.starts_with(['[', '*']) {
                "{}"
            } else {
                ""
            };
            format!("{guard}{text} \\\\\n")
        };
        let cells = |row: &[String]| {
            let columns = row.iter().zip(&self.columns);
            let cell = |(cell, (_, align)): (&String, &(String, Align))| match align {
                Align::Words => escaped_for_latex(cell),
                Align::Numbers => escaped_for_latex(cell).replace('-', "$-$"),
            };
            line(columns.map(cell).collect())
        };
        let names = line(
            self.names()
                .iter()
                .map(|name| escaped_for_latex(name))
                .collect(),
        );
        let rows: String = self.rows.iter().map(|row| cells(row)).collect();
        let mut text = String::from("\\begin{table}\n\\centering\n");
        if !self.caption.is_empty() {
            let _ = writeln!(text, "\\caption{{{}}}", escaped_for_latex(&self.caption));
        }
        let _ = write!(
            text,
            "\\begin{{tabular}}{{{letters}}}\n\\toprule\n{names}\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
        );
        text
    }
}

/// A text of at most `most` letters: the middle of a longer one is left out.
pub fn shortened(text: &str, most: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= most {
        return text.to_owned();
    }
    let end = most.saturating_sub(1) / 2;
    let start = most.saturating_sub(1) - end;
    let (first, last) = (&letters[..start], &letters[letters.len() - end..]);
    first.iter().chain(&['…']).chain(last).collect()
}

/// `text` in lines of at most `width` letters, where words allow it; lines after the first begin with `indent`.
pub fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        let length = line.chars().count() + 1 + word.chars().count();
        if !line.trim().is_empty() && length > width {
            lines += &format!("{line}\n");
            line = indent.to_owned();
        }
        if !line.is_empty() && !line.ends_with(' ') {
            line.push(' ');
        }
        line += word;
    }
    lines + &line + "\n"
}

/// Text as Markdown prints it, in a cell or a line of its own: what has a meaning there is escaped, and words between backquotes that are keys stay
/// code.
pub fn escaped_for_markdown(text: &str) -> String {
    // Whatever is between a pair of backquotes, if it can't be anything but a key or an option.
    let is_code = |part: &str| {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        !part.is_empty() && part.chars().all(plain)
    };
    let parts: Vec<&str> = text.split('`').collect();
    let is_paired =
        parts.len() % 2 == 1 && parts.iter().skip(1).step_by(2).all(|part| is_code(part));
    if !is_paired {
        return escaped_words(text);
    }
    let part = |(at, part): (usize, &&str)| {
        if at % 2 == 1 {
            format!("`{part}`")
        } else {
            escaped_words(part)
        }
    };
    parts.iter().enumerate().map(part).collect()
}

fn escaped_words(text: &str) -> String {
    let mut escaped = String::new();
    // Brackets are a link's only where a parenthesis follows.
    for letter in text.replace("](", "]\u{0}(").chars() {
        match letter {
            '\\' | '|' | '*' | '_' | '`' | '<' | '>' | '~' | '#' | '&' => {
                escaped.extend(['\\', letter]);
            }
            '\u{0}' => escaped.push('\\'),
            letter if letter.is_control() => escaped.push(' '),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// Text as LaTeX prints it.
pub fn escaped_for_latex(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', letter]),
            '\\' => escaped += "\\textbackslash{}",
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '<' => escaped += "\\textless{}",
            '>' => escaped += "\\textgreater{}",
            '|' => escaped += "\\textbar{}",
            letter if letter.is_control() => escaped.push(' '),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// A number for other programs; nothing if it is not known (NaN).
pub fn known(value: f64) -> String {
    if value.is_nan() {
        String::new()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = vec![
            ("run".to_owned(), Align::Words),
            ("last".to_owned(), Align::Numbers),
        ];
        let mut table = Table::new("95 % of a_b", columns);
        table.push(vec!["a_b|c".to_owned(), "-1.5 [-2.0, 3.0]".to_owned()]);
        table.push(vec!["[x], \"y\"".to_owned(), "12.0".to_owned()]);
        table
    }

    #[test]
    fn text_is_aligned_words_to_the_left_and_numbers_to_the_right() {
        let expected = "run                   last\n\
                        a_b|c     -1.5 [-2.0, 3.0]\n\
                        [x], \"y\"              12.0\n\
                        95 % of a_b\n";
        assert_eq!(table().text(80), expected);
    }

    #[test]
    fn sentences_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7, "  "), "one two\n  three\n");
        assert_eq!(wrapped("one twenty", 3, ""), "one\ntwenty\n");
    }

    #[test]
    fn csv_quotes_cells_with_commas_and_quotes() {
        let expected = "run,last\na_b|c,\"-1.5 [-2.0, 3.0]\"\n\"[x], \"\"y\"\"\",12.0\n";
        assert_eq!(table().csv(), expected);
        assert_eq!(
            table().without("last").csv(),
            "run\na_b|c\n\"[x], \"\"y\"\"\"\n"
        );
    }

    #[test]
    fn markdown_escapes_what_would_end_a_cell_or_mark_words() {
        let expected = "| run | last |\n| --- | ---: |\n| a\\_b\\|c | -1.5 [-2.0, 3.0] |\n\
                        | [x], \"y\" | 12.0 |\n\n95 % of a\\_b\n";
        assert_eq!(table().markdown(), expected);
    }

    #[test]
    fn what_people_call_their_runs_stays_text_in_markdown() {
        for (text, expected) in [
            ("a `train.updates` b_c", "a `train.updates` b\\_c"),
            ("a `b|c` d", "a \\`b\\|c\\` d"),
            ("a ` b", "a \\` b"),
            ("[x](http://y)", "[x]\\(http://y)"),
            ("<img src=x> &amp;", "\\<img src=x\\> \\&amp;"),
            ("two\nlines", "two lines"),
        ] {
            assert_eq!(escaped_for_markdown(text), expected);
        }
    }

    #[test]
    fn long_names_lose_their_middle_in_text_alone() {
        assert_eq!(shortened("abcdefgh", 5), "ab…gh");
        assert_eq!(shortened("abcde", 5), "abcde");
        let name = format!("first-{}-last", "x".repeat(200));
        let mut table = Table::new("", vec![("run".to_owned(), Align::Words)]);
        table.push(vec![name.clone()]);
        let text = table.text(80);
        assert!(
            text.contains("first-x") && text.contains("x-last"),
            "{text}"
        );
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= LONGEST_CELL),
            "{text}"
        );
        assert!(table.csv().contains(&name) && table.markdown().contains(&name));
        assert!(table.latex().contains(&name));
    }

    #[test]
    fn latex_has_booktabs_rules_and_every_special_letter_escaped() {
        let expected = "\\begin{table}\n\\centering\n\\caption{95 \\% of a\\_b}\n\\begin{tabular}{lr}\n\\toprule\n\
                        run & last \\\\\n\\midrule\na\\_b\\textbar{}c & $-$1.5 [$-$2.0, 3.0] \\\\\n\
                        {}[x], \"y\" & 12.0 \\\\\n\\bottomrule\n\\end{tabular}\n\\end{table}\n";
        assert_eq!(table().latex(), expected);
        let special = r"\ & % $ # _ { } ~ ^ < >";
        let expected = r"\textbackslash{} \& \% \$ \# \_ \{ \} \textasciitilde{} \textasciicircum{} \textless{} \textgreater{}";
        assert_eq!(escaped_for_latex(special), expected);
    }

    #[test]
    fn tables_fold_columns_that_are_the_same_and_then_the_last_into_sentences() {
        let columns = ["run", "seeds", "last", "task", "rate", "decay"];
        let columns = columns.map(|name| (name.to_owned(), Align::Words));
        let mut table = Table::new("", columns.to_vec());
        let rows = [
            ["a", "2", "1.5", "maze", "0.1", "-"],
            ["b", "2", "2.5", "maze", "0.2", "cosine"],
            ["c", "2", "3.5", "room", "0.1", "cosine"],
        ];
        for row in rows {
            table.push(row.map(str::to_owned).to_vec());
        }
        let folded = |width: usize| {
            let (table, notes) = table.clone().folded(width, |name, _| name != "last");
            (
                table.text(80).lines().next().unwrap_or_default().to_owned(),
                notes,
            )
        };
        assert_eq!(folded(80).1, [""; 0]);
        let (names, notes) = folded(29);
        assert_eq!(names, "run  last  task  rate  decay");
        assert_eq!(notes, ["seeds: 2 in all lines"]);
        let (names, notes) = folded(16);
        assert_eq!(names, "run  last  task");
        assert_eq!(
            notes[1..],
            ["decay: cosine (b, c)", "rate: 0.1 (a, c), 0.2 (b)"]
        );
        assert_eq!(folded(1).0, "run  last");
    }
}
