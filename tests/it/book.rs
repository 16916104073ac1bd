//! The book (docs/book): its commands run in the order in which they stand, its configuration keys and their defaults are the program's,
//! every algorithm has a page, and links lead somewhere.
//!
//! A comment in front of a block says what is different here: `<!-- test: train.updates=4 --steps=600 -->` sets keys of `train` and values of
//! flags, `<!-- test: skip (reason) -->` leaves the block out but for its flags, and `<!-- file: bc.toml -->` keeps a block as a file, with
//! `(test: 5_000 => 4; ...)` after the name with other words in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use trajformer::algorithms::ALGORITHMS;
use trajformer::config::RunConfig;

use crate::tidy::anchor;

/// Blocks that can't run in a test.
const MOST_SKIPPED: usize = 3;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn source() -> PathBuf {
    root().join("docs/book/src")
}

/// A page of the book.
struct Chapter {
    /// From the book's `src` on.
    name: String,
    text: String,
}

/// The pages of docs/SUMMARY.md in its order, from `docs` on.
fn listed() -> Vec<String> {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let names = summary.split("](").skip(1);
    names
        .filter_map(|rest| rest.split(')').next())
        .map(str::to_owned)
        .collect()
}

/// The book's own pages in the order of the summary, named from the book's `src` on.
fn chapters() -> Vec<Chapter> {
    let names = listed();
    let names = names
        .iter()
        .filter_map(|name| name.strip_prefix("book/src/"));
    let chapter = |name: &str| Chapter {
        name: name.to_owned(),
        text: fs::read_to_string(source().join(name)).unwrap_or_else(|e| panic!("{name}: {e}")),
    };
    names.map(chapter).collect()
}

/// A fenced block.
#[derive(Debug, Default)]
struct Block {
    language: String,
    /// What the comment in front of it says.
    mark: String,
    text: String,
    line: usize,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let (mut open, mut before) = (None::<Block>, "");
    for (i, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let mark = before
                    .strip_prefix("<!--")
                    .and_then(|m| m.strip_suffix("-->"));
                open = Some(Block {
                    language: language.to_owned(),
                    mark: mark.unwrap_or_default().trim().to_owned(),
                    text: String::new(),
                    line: i + 1,
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "a block has no end");
    found
}

/// The words of each command, as a shell splits them.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let commands = joined.lines().map(words);
    commands.filter(|words| !words.is_empty()).collect()
}

fn words(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut word, mut quote) = (None::<String>, None::<char>);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(end), _) if letter == end => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ') => found.extend(word.take()),
            (None, '|' | '>' | '<' | ';' | '&' | '$' | '*') => {
                panic!("`{line}`: a command of the book is one program with plain arguments")
            }
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    assert!(quote.is_none(), "`{line}`: a quote has no end");
    found.extend(word);
    found
}

#[test]
fn commands_are_split_as_a_shell_does() {
    let found = commands("a 'b c' \\\n  --d=\"[1, 2]\"  # e\n\nf");
    assert_eq!(found, [vec!["a", "b c", "--d=[1, 2]"], vec!["f"]]);
}

/// The command with what `mark` changes; what it used of it goes into `used`.
fn shortened(command: &[String], mark: &str, used: &mut BTreeSet<String>) -> Vec<String> {
    let mut command = command.to_vec();
    for change in mark.split_whitespace() {
        let (key, value) = change.split_once('=').expect("KEY=VALUE");
        if !key.starts_with("--") {
            if command.get(1).is_some_and(|name| name == "train") {
                command.extend(["--set".to_owned(), change.to_owned()]);
                used.insert(change.to_owned());
            }
        } else if let Some(at) = command.iter().position(|word| word == key) {
            value.clone_into(&mut command[at + 1]);
            used.insert(change.to_owned());
        }
    }
    command
}

/// Runs `command` in `folder`, and fails if it does.
fn run(folder: &Path, command: &[String], place: &str) {
    let found = Command::new(env!("CARGO_BIN_EXE_trajformer"))
        .args(&command[1..])
        .current_dir(folder)
        .env("TRAJFORMER_LOG", "error")
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    assert!(
        found.status.success(),
        "{place}: `{}`: {}{}",
        command.join(" "),
        String::from_utf8_lossy(&found.stdout),
        String::from_utf8_lossy(&found.stderr)
    );
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn every_command_of_the_book_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    copy(&root().join("configs"), &folder.join("configs"));
    let (mut ran, mut skipped) = (0, 0);
    for chapter in chapters() {
        for span in spans(&chapter.text) {
            if span.starts_with("trajformer ") {
                // Arguments that don't exist are refused before the help.
                run(folder, &words(&format!("{span} --help")), &chapter.name);
            }
        }
        for block in blocks(&chapter.text) {
            let place = format!("{}:{}", chapter.name, block.line);
            if let Some(file) = block.mark.strip_prefix("file: ") {
                keep(folder, file, &block.text, &place);
            }
            if block.language != "sh" {
                continue;
            }
            let mark = block.mark.strip_prefix("test: ").unwrap_or_default();
            let skip = mark.strip_prefix("skip");
            if let Some(reason) = skip {
                assert!(reason.len() > 10, "{place}: skipped without a reason");
                skipped += 1;
            }
            let mut used = BTreeSet::new();
            for command in commands(&block.text) {
                let ours = command[0] == "trajformer";
                if skip.is_none() {
                    assert!(ours, "{place}: {command:?} is another program");
                    run(folder, &shortened(&command, mark, &mut used), &place);
                    ran += 1;
                } else if ours {
                    // Arguments that don't exist are refused before the help.
                    run(
                        folder,
                        &[command, vec!["--help".to_owned()]].concat(),
                        &place,
                    );
                }
            }
            for change in mark.split_whitespace().filter(|_| skip.is_none()) {
                assert!(used.contains(change), "{place}: `{change}` changes nothing");
            }
        }
    }
    assert!(ran > 30, "{ran} commands");
    assert!(skipped <= MOST_SKIPPED, "{skipped} blocks are skipped");
}

/// Writes a block to the file that its mark names, with what the mark changes in it.
fn keep(folder: &Path, mark: &str, text: &str, place: &str) {
    let (name, changes) = mark.split_once(" (test: ").unwrap_or((mark, ""));
    let mut text = text.to_owned();
    let changes = changes.trim_end_matches(')').split("; ");
    for change in changes.filter(|change| !change.is_empty()) {
        let (old, new) = change.split_once(" => ").expect("OLD => NEW");
        assert!(text.contains(old), "{place}: there is no `{old}`");
        text = text.replace(old, new);
    }
    fs::write(folder.join(name), text).unwrap();
}

#[test]
fn the_summary_lists_every_page_and_every_algorithm_has_one() {
    let listed = listed();
    for folder in ["", "book/src/", "book/src/algorithms/"] {
        for entry in fs::read_dir(root().join("docs").join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let page = format!("{folder}{name}");
            if name.ends_with(".md") && name != "SUMMARY.md" {
                let times = listed.iter().filter(|&listed| *listed == page).count();
                assert_eq!(times, 1, "SUMMARY.md lists {page} {times} times");
            }
        }
    }
    for algorithm in ALGORITHMS {
        let page = format!("algorithms/{}.md", algorithm.name);
        let chapter = chapters().into_iter().find(|c| c.name == page);
        let chapter = chapter.unwrap_or_else(|| panic!("there is no {page}"));
        for word in [
            algorithm.paper,
            "## Equations",
            "## One update",
            "## What differs between code bases",
            "## Settings",
            "## Scores",
            "## Run it",
        ] {
            assert!(chapter.text.contains(word), "{page}: no `{word}`");
        }
    }
}

#[test]
fn links_of_the_book_lead_somewhere() {
    let mut links = 0;
    let mut pictures = BTreeSet::new();
    for chapter in chapters() {
        let path = source().join(&chapter.name);
        let folder = path.parent().unwrap();
        let targets = chapter.text.split("](").skip(1);
        for target in targets.filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let shown = &chapter.name;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                path.clone()
            } else {
                folder.join(file)
            };
            assert!(
                file.exists(),
                "{shown} links to {target}, which is not there"
            );
            if !heading.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line) == heading);
                assert!(found, "{shown} links to {target}: no such heading");
            }
            pictures.extend(file.file_name().map(|name| name.to_owned()));
            links += 1;
        }
    }
    assert!(links > 150, "{links} links");
    for picture in fs::read_dir(source().join("pictures")).unwrap() {
        let name = picture.unwrap().file_name();
        assert!(pictures.contains(&name), "{name:?} is shown nowhere");
    }
}

/// The algorithm that keys of a page are about, where it doesn't say.
fn subject(chapter: &Chapter) -> &str {
    let name = chapter.name.strip_prefix("algorithms/");
    let name = name.and_then(|name| name.strip_suffix(".md"));
    match name {
        Some(name) if name != "index" => name,
        _ if chapter.name == "planner.md" => "trajectory_transformer",
        _ => "td3_bc",
    }
}

/// The configuration with the algorithm's defaults, after `KEY=VALUE`: what is wrong with it.
fn problem(algorithm: &str, change: &str) -> Option<String> {
    let config = RunConfig::parse(&format!("[algorithm.{algorithm}]")).unwrap();
    let changed = config.with_overrides(&[change.to_owned()]);
    changed.err().map(|error| error.to_string())
}

fn exists(algorithm: &str, key: &str) -> bool {
    // A table is wrong for almost every key, but in another way than one that there is not.
    problem(algorithm, &format!("{key}={{}}")).is_none_or(|text| !text.contains("unknown field"))
}

/// Whether the key exists and knows the value; other keys may not go with it.
fn takes(algorithm: &str, change: &str) -> bool {
    let wrong = [
        "unknown field",
        "unknown word",
        "invalid type",
        "is not a table",
    ];
    problem(algorithm, change).is_none_or(|text| !wrong.iter().any(|word| text.contains(word)))
}

/// Code in running text: what stands between single backquotes outside of blocks and comments.
fn spans(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside && !line.starts_with("<!--") {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Whether a piece of code is a key of a configuration, e.g. `train.updates`.
fn is_key(word: &str) -> bool {
    let tables = ["algorithm.", "data.", "train.", "online.", "evaluate."];
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
    tables.iter().any(|table| word.starts_with(table)) && word.chars().all(letters)
}

/// The ways to read a key on a page about `algorithm`: as it stands, or inside of the algorithm's table.
fn readings(algorithm: &str, key: &str) -> Vec<(String, String)> {
    if let Some(rest) = key.strip_prefix("algorithm.") {
        let name = rest.split('.').next().unwrap_or_default();
        return vec![(name.to_owned(), key.to_owned())];
    }
    ["", "planner."]
        .iter()
        .map(|table| format!("algorithm.{algorithm}.{table}{key}"))
        .chain([key.to_owned()])
        .map(|key| (algorithm.to_owned(), key))
        .collect()
}

#[test]
fn every_key_of_the_book_exists() {
    let mut keys = 0;
    for chapter in chapters() {
        let algorithm = subject(&chapter);
        for span in spans(&chapter.text) {
            let span = span.strip_prefix("--set ").unwrap_or(&span);
            // Spaces around it are TOML's; Python's arguments have none.
            let parts = span.split_once(" = ").or_else(|| {
                let parts = span.split_once('=');
                parts.filter(|(key, _)| is_key(key))
            });
            let (key, value) = match parts {
                Some((key, value)) => (key, Some(value)),
                None => (span, None),
            };
            let plain = key
                .chars()
                .all(|c| c.is_ascii_lowercase() || "._".contains(c));
            let of_page = value.is_some() && plain && !["device", "seed"].contains(&key);
            if !is_key(key) && !of_page {
                continue;
            }
            let mut readings = readings(algorithm, key).into_iter();
            let fits = readings.any(|(name, key)| match value {
                Some(value) => takes(&name, &format!("{key}={value}")),
                None => exists(&name, &key),
            });
            assert!(fits, "{}: `{span}`: no such key, or value", chapter.name);
            keys += 1;
        }
    }
    assert!(keys > 100, "{keys} keys");
}

#[test]
fn keys_that_do_not_exist_are_found() {
    assert!(exists("td3_bc", "algorithm.td3_bc.data.rewards"));
    assert!(exists("cql", "algorithm.cql.lagrange_gap"));
    for key in [
        "algorithm.td3_bc.alhpa",
        "train.update",
        "algorithm.td3_bc.data.x",
    ] {
        assert!(!exists("td3_bc", key), "{key}");
    }
    assert!(takes("iql", "algorithm.iql.actor=\"deterministic\""));
    assert!(!takes("iql", "algorithm.iql.actor=\"normal\""));
    assert!(!takes("iql", "algorithm.iql.beta=\"large\""));
}

/// Names and values of a table and the tables inside of it.
fn leaves(table: &toml::Table, prefix: &str, found: &mut Vec<(String, toml::Value)>) {
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) => leaves(inner, &format!("{prefix}{name}."), found),
            value => found.push((format!("{prefix}{name}"), value.clone())),
        }
    }
}

#[test]
fn settings_of_the_pages_are_the_defaults() {
    for algorithm in ALGORITHMS {
        let name = algorithm.name;
        let page = source().join(format!("algorithms/{name}.md"));
        let text = fs::read_to_string(page).unwrap();
        let section = text.split("## Settings").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let mut shown = BTreeSet::new();
        let config = RunConfig::parse(&format!("[algorithm.{name}]")).unwrap();
        let config = toml::Table::try_from(&config).unwrap();
        let table = config["algorithm"][name].as_table().unwrap();
        let mut defaults = Vec::new();
        leaves(table, "", &mut defaults);
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let mut cells = row.split(" | ");
            let key = cells
                .next()
                .unwrap()
                .trim_start_matches("| ")
                .trim_matches('`');
            let cell = cells.next().unwrap();
            assert!(shown.insert(key), "{name}: `{key}` is there twice");
            let default = defaults.iter().find(|(name, _)| name == key);
            if cell == "not set" {
                assert!(default.is_none(), "{name}: `{key}` has a default");
                let key = format!("algorithm.{name}.{key}");
                assert!(exists(name, &key), "there is no `{key}`");
            } else {
                let (_, default) = default.unwrap_or_else(|| panic!("{name}: no `{key}`"));
                let cell = cell.trim_matches('`');
                let value: toml::Table = toml::from_str(&format!("x = {cell}")).unwrap();
                assert_eq!(&value["x"], default, "{name}: `{key}`");
            }
        }
        for (key, _) in &defaults {
            assert!(shown.contains(key.as_str()), "{name}: `{key}` is not there");
        }
        // Keys without a default: the refusal of an unknown one lists all.
        let refusal = problem(name, &format!("algorithm.{name}.no_such_key=1")).unwrap();
        let listed = refusal.split("expected one of").nth(1).unwrap();
        let listed = listed.split("; did you mean").next().unwrap();
        for key in listed.split('`').skip(1).step_by(2) {
            let inside = format!("{key}.");
            let found = shown
                .iter()
                .any(|shown| *shown == key || shown.starts_with(&inside));
            assert!(found, "{name}: `{key}` is not there");
        }
    }
}

/// Markdown reads an underscore after punctuation as the start of emphasis, and takes a backslash before punctuation away.
#[test]
fn equations_come_through_markdown() {
    for chapter in chapters() {
        let mut equations = 0;
        for (open, close) in [("\\\\[", "\\\\]"), ("\\\\(", "\\\\)")] {
            for rest in chapter.text.split(open).skip(1) {
                let equation = rest.split(close).next().unwrap();
                let before = |at: usize| equation[..at].chars().next_back();
                for (at, _) in equation.match_indices('_') {
                    let front = before(at).unwrap_or(' ');
                    let fits = front.is_alphanumeric() || front == '\\';
                    assert!(fits, "{}: `{front}_` in {equation}", chapter.name);
                }
                assert!(!equation.contains('*'), "{}: {equation}", chapter.name);
                for (at, _) in equation.match_indices('\\') {
                    let next = equation[at + 1..].chars().next().unwrap_or(' ');
                    let doubled = next == '\\' || before(at) == Some('\\');
                    let fits = next.is_alphanumeric() || " _".contains(next) || doubled;
                    assert!(fits, "{}: `\\{next}` in {equation}", chapter.name);
                }
                equations += 1;
            }
        }
        let page = chapter.name.strip_prefix("algorithms/");
        if page.is_some_and(|page| page != "index.md") {
            assert!(equations > 0, "{} has no equation", chapter.name);
        }
    }
}
