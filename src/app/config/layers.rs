//! Configuration files that extend others, with the place that each key comes from.
//!
//! `extends = "../hopper-medium.toml"` at the top of a file takes everything that the other file says (which may extend a
//! third) and puts this file's own keys over it:
//!
//! * a `[table]` goes key by key; numbers, words, arrays and inline tables (`{ ... }`) replace what was there;
//! * the path starts at the folder of the file that names it;
//! * the algorithm stays: another `[algorithm.NAME]` than the extended file's is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::app::config::moved::{Moved, current, current_override, move_keys, warning};
use trajformer_core::error::{Error, Origin, Result};

/// The key that names the file below.
pub(super) const EXTENDS: &str = "extends";

/// Letters of a line that is shown with what is wrong in it.
const LONGEST_LINE: usize = 300;
/// Longest chain of files.
const MOST_FILES: usize = 100;

/// What a configuration's files say together, and where each key stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    /// All keys, without `extends`.
    pub table: toml::Table,
    /// From keys, e.g. `train.updates`, to what they are set by.
    origins: BTreeMap<String, Origin>,
    /// Keys that are spelled as before, with what spells them so.
    moved: Vec<(String, Vec<Moved>)>,
    /// The files: first the one that was asked for, last the one that extends none.
    pub files: Vec<PathBuf>,
}

/// One file.
struct Layer {
    path: PathBuf,
    table: toml::Table,
    /// Keys whose values are inline tables.
    inline: BTreeSet<String>,
    /// Keys that are spelled as before.
    moved: Vec<Moved>,
    extends: Option<String>,
}

impl Layers {
    /// Reads a file and all that it extends.
    ///
    /// # Errors
    /// If one can't be read or is not TOML, they extend each other in a circle, or change the algorithm.
    pub fn read(path: &Path) -> Result<Self> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut seen: Vec<PathBuf> = Vec::new();
        let mut next = path.to_path_buf();
        loop {
            let layer = match layers.last() {
                None => Layer::read(&next)?,
                Some(above) => Layer::read(&next).map_err(|error| not_found(error, above))?,
            };
            let place = std::fs::canonicalize(&next).map_err(Error::io(&next))?;
            if seen.contains(&place) || layers.len() == MOST_FILES {
                let files = layers.iter().map(|layer| &layer.path).chain([&layer.path]);
                let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
                let origin = layers.last().map_or(&layer.path, |above| &above.path);
                let problem = format!("`extends` leads in a circle: {}", files.join(" extends "));
                return Err(in_file(origin, problem));
            }
            seen.push(place);
            let below = layer.extends.as_ref().map(|name| {
                let folder = layer.path.parent().unwrap_or(Path::new(""));
                without_parents(&folder.join(name))
            });
            layers.push(layer);
            match below {
                Some(below) => next = below,
                None => break,
            }
        }
        Self::merge(layers)
    }

    /// What a text says that is no file's.
    ///
    /// # Errors
    /// If it is not TOML, or extends a file.
    pub fn parse(text: &str) -> Result<Self> {
        let mut table: toml::Table =
            toml::from_str(text).map_err(|error| Error::settings(not_toml(&error)))?;
        let moved = move_keys(&mut table)?;
        if table.contains_key(EXTENDS) {
            Err(Error::settings(
                "`extends` starts at the folder of the file that it stands in, and this is no file",
            ))
        } else {
            Ok(Self {
                moved: vec![("configuration".to_owned(), moved)],
                ..Self::from(table)
            })
        }
    }

    fn merge(mut layers: Vec<Layer>) -> Result<Self> {
        let mut merged = Self {
            files: layers.iter().map(|layer| layer.path.clone()).collect(),
            ..Self::default()
        };
        let mut below: Option<PathBuf> = None;
        while let Some(layer) = layers.pop() {
            if let Some(below) = &below {
                same_algorithm(&merged.table, below, &layer)?;
            }
            let name = layer.path.display().to_string();
            merged.moved.push((name.clone(), layer.moved));
            let origin = Origin::File(name);
            let mut table = std::mem::take(&mut merged.table);
            merged.overlay(&mut table, layer.table, "", &layer.inline, &origin);
            merged.table = table;
            below = Some(layer.path);
        }
        Ok(merged)
    }

    fn overlay(
        &mut self,
        below: &mut toml::Table,
        above: toml::Table,
        prefix: &str,
        inline: &BTreeSet<String>,
        origin: &Origin,
    ) {
        for (name, value) in above {
            let key = join(prefix, &name);
            match (below.get_mut(&name), value) {
                (Some(toml::Value::Table(below)), toml::Value::Table(above))
                    if !inline.contains(&key) =>
                {
                    self.overlay(below, above, &key, inline, origin);
                }
                (_, value) => {
                    self.came_from(&key, &value, origin);
                    below.insert(name, value);
                }
            }
        }
    }

    /// Applies one override, `KEY=VALUE`.
    ///
    /// # Errors
    /// If it is malformed, or goes through a value that is not a table.
    pub fn set(&mut self, text: &str) -> Result<()> {
        super::overrides::apply_override(&mut self.table, text)?;
        // Keys inside of an inline table.
        let moved = move_keys(&mut self.table)?;
        let origin = Origin::of_override(text);
        self.moved.push((origin.to_string(), moved));
        let key = text.split('=').next().unwrap_or_default().trim();
        if key == EXTENDS {
            let problem = "only a configuration file can extend another";
            return Err(Error::settings(problem).said_by(Some(origin)));
        }
        if let Some(value) = lookup(&self.table, key).cloned() {
            self.came_from(key, &value, &origin);
        }
        Ok(())
    }

    /// An override, `KEY=VALUE`, with the key as it is spelled now.
    pub fn spelled(&mut self, text: &str) -> String {
        let (now, moved) = current_override(text);
        self.moved.push((
            Origin::of_override(text).to_string(),
            moved.into_iter().collect(),
        ));
        now
    }

    /// Says which keys are spelled as before, once for every file and override.
    pub fn warn_of_moved(&self) {
        let said = self
            .moved
            .iter()
            .filter_map(|(place, moved)| warning(place, moved));
        said.for_each(|text| tracing::warn!("{text}"));
    }

    fn came_from(&mut self, key: &str, value: &toml::Value, origin: &Origin) {
        let inside = format!("{key}.");
        self.origins
            .retain(|other, _| other != key && !other.starts_with(&inside));
        self.origins.insert(key.to_owned(), origin.clone());
        if let toml::Value::Table(table) = value {
            for (name, value) in table {
                self.came_from(&join(key, name), value, origin);
            }
        }
    }

    /// What set a key, or the table that it stands in.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return Some(origin);
            }
            key = &key[..key.rfind('.')?];
        }
    }

    /// The place that an error about `keys` points at: what set the first of them that is set at all; else the file
    /// that was asked for.
    pub fn place(&self, keys: &[&str]) -> Option<Origin> {
        let exact = keys.iter().find_map(|key| self.origins.get(*key));
        match exact.or_else(|| keys.iter().find_map(|key| self.origin(key))) {
            Some(origin) => Some(origin.clone()),
            None => Some(Origin::File(self.files.first()?.display().to_string())),
        }
    }
}

impl From<toml::Table> for Layers {
    fn from(table: toml::Table) -> Self {
        Self {
            table,
            ..Self::default()
        }
    }
}

impl Layer {
    fn read(path: &Path) -> Result<Self> {
        let fail = |message: String| in_file(path, message);
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => fail(
                "it is no text, expected a configuration: is this the file that was meant?"
                    .to_owned(),
            ),
            _ => Error::io(path)(error),
        })?;
        let mut table: toml::Table = toml::from_str(&text).map_err(|e| fail(not_toml(&e)))?;
        let spans = DeTable::parse(&text).map_err(|e| fail(not_toml(&e)))?;
        let mut inline = BTreeSet::new();
        inline_tables(spans.get_ref(), "", &text, &mut inline);
        let inline = inline.iter().map(|key| current(key)).collect();
        let origin = Origin::File(path.display().to_string());
        let moved = move_keys(&mut table).map_err(|error| error.said_by(Some(origin)))?;
        let extends = match table.remove(EXTENDS) {
            None => None,
            Some(toml::Value::String(name)) if !name.trim().is_empty() => Some(name),
            Some(other) => {
                return Err(fail(format!(
                    "`extends` is {other}, expected the path of another configuration, e.g. \
                     \"../hopper-medium.toml\""
                )));
            }
        };
        Ok(Self {
            path: path.to_path_buf(),
            table,
            inline,
            moved,
            extends,
        })
    }
}

/// Collects the keys whose values are written `{ ... }`.
fn inline_tables(table: &DeTable<'_>, prefix: &str, text: &str, found: &mut BTreeSet<String>) {
    for (name, value) in table {
        let DeValue::Table(inner) = value.get_ref() else {
            continue;
        };
        let key = join(prefix, name.get_ref());
        if text.as_bytes().get(value.span().start) == Some(&b'{') {
            found.insert(key.clone());
        }
        inline_tables(inner, &key, text, found);
    }
}

fn lookup<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((name, rest)) => lookup(table.get(name)?.as_table()?, rest),
    }
}

pub(super) fn join(prefix: &str, name: &str) -> String {
    match prefix {
        "" => name.to_owned(),
        _ => format!("{prefix}.{name}"),
    }
}

/// An extended file that can't be read is the fault of the one that names it.
fn not_found(error: Error, above: &Layer) -> Error {
    let Error::Io { path, source } = error else {
        return error;
    };
    let problem = match (path.is_dir(), source.kind()) {
        (true, _) => "is a folder, expected a file, e.g. \"../hopper-medium.toml\"".to_owned(),
        (false, ErrorKind::NotFound) => {
            "is not there; the path starts at the folder of the file that it stands in".to_owned()
        }
        (false, ErrorKind::InvalidData) => "is no text, expected a configuration".to_owned(),
        _ => format!("can't be read: {source}"),
    };
    let name = above.extends.as_deref().unwrap_or_default();
    let problem = format!("`extends = \"{name}\"`: {} {problem}", path.display());
    in_file(&above.path, problem)
}

/// What is wrong with a text that is no TOML: with the line that it stands in, if this is one that people write.
pub(crate) fn not_toml(error: &toml::de::Error) -> String {
    let shown = error.to_string();
    let is_plain = |line: &str| {
        let is_strange = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        line.chars().count() <= LONGEST_LINE && !line.chars().any(|c| is_strange(c) && c != '\t')
    };
    if shown.lines().all(is_plain) {
        return shown;
    }
    let place = shown.lines().next().filter(|line| is_plain(line));
    let what = error.message().trim().replace('\n', ", ");
    format!(
        "{}: {what}; the line holds what no configuration does: is this the file that was meant?",
        place.unwrap_or("no TOML")
    )
}

/// What is wrong in a file.
fn in_file(path: &Path, problem: String) -> Error {
    let origin = Origin::File(path.display().to_string());
    Error::settings(problem).said_by(Some(origin))
}

fn same_algorithm(below: &toml::Table, file: &Path, layer: &Layer) -> Result<()> {
    let name = |table: &toml::Table| {
        let algorithms = table.get("algorithm")?.as_table()?;
        algorithms.keys().next().cloned()
    };
    let (Some(kept), Some(table)) = (name(below), layer.table.get("algorithm")) else {
        return Ok(());
    };
    let others = table.as_table().map(|table| table.keys()).into_iter();
    match others.flatten().find(|other| **other != kept) {
        None => Ok(()),
        Some(other) => Err(in_file(
            &layer.path,
            format!(
                "[algorithm.{other}], but {} has [algorithm.{kept}], and what extends a file keeps its \
                 algorithm; leave `extends` out, or extend a file with [algorithm.{other}]",
                file.display()
            ),
        )),
    }
}

/// `a/b/../c` as `a/c`, to be read by people too.
fn without_parents(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        let inside = matches!(plain.components().next_back(), Some(Component::Normal(_)));
        match part {
            Component::ParentDir if inside => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    if plain.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::app::config::run_config::RunConfig;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        folder
    }

    fn load(folder: &tempfile::TempDir, name: &str, set: &[&str]) -> Result<RunConfig> {
        let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
        RunConfig::load(&folder.path().join(name), &set)
    }

    const BASE: &str = "[data]\npath = [\"a\", \"b\"]\n[train]\nupdates = 1_000_000\n[evaluate]\nepisodes = 7\n\
                        [algorithm.td3_bc]\nalpha = 1.0\ndata.rewards = { shift = -1.0 }\n";

    #[test]
    fn what_is_no_toml_is_shown_unless_it_is_no_line_that_people_write() {
        let said = |text: &[u8]| {
            let folder = folder(&[]);
            fs::write(folder.path().join("a.toml"), text).expect("a file");
            let error = load(&folder, "a.toml", &[]).expect_err("no TOML");
            error.to_string()
        };
        let typed = said(b"[algorithm.bc]\nhidden = [8\n");
        assert!(typed.contains("2 | hidden = [8"), "{typed}");
        let long = [b"a".repeat(5_000), b"\n[b".to_vec()].concat();
        for junk in [
            &b"\x07\x01[[".repeat(2_000)[..],
            &b"\xff\xfe".repeat(2_000),
            &long,
        ] {
            let found = said(junk);
            let is_plain = found.len() < 400 && !found.contains('\u{7}');
            assert!(is_plain && found.contains("a.toml"), "{found}");
            assert!(
                found.contains("is this the file that was meant?"),
                "{found}"
            );
        }
    }

    #[test]
    fn tables_go_key_by_key_and_arrays_numbers_and_inline_tables_replace() {
        let child = "extends = \"../base.toml\"\n[data]\npath = \"c\"\n[train]\nupdates = 5\n[algorithm.td3_bc]\n\
                     data.rewards = { scale = 2.0 }\n";
        let folder = folder(&[("base.toml", BASE), ("short/child.toml", child)]);
        let found = load(&folder, "short/child.toml", &[]).expect("a configuration");
        let whole = "[data]\npath = \"c\"\n[train]\nupdates = 5\n[evaluate]\nepisodes = 7\n\
                     [algorithm.td3_bc]\nalpha = 1.0\nrewards = { scale = 2.0 }\n";
        assert_eq!(found, RunConfig::parse(whole).expect("a configuration"));
        let stored = found.to_toml().expect("text");
        assert!(!stored.contains("extends"), "{stored}");
        assert_eq!(RunConfig::parse(&stored).expect("as stored"), found);
    }

    #[test]
    fn a_planner_keeps_what_the_child_does_not_name() {
        let base = "[algorithm.trajectory_transformer.planner]\nhorizon = 5\nbeam_width = 32\n";
        let child =
            "extends = \"base.toml\"\nalgorithm.trajectory_transformer.planner.beam_width = 4\n";
        let folder = folder(&[("base.toml", base), ("child.toml", child)]);
        let found = load(&folder, "child.toml", &[]).expect("a configuration");
        let whole = "[algorithm.trajectory_transformer.planner]\nhorizon = 5\nbeam_width = 4\n";
        assert_eq!(found, RunConfig::parse(whole).expect("a configuration"));
    }

    #[test]
    fn the_command_line_lies_over_files_that_extend_files() {
        let folder = folder(&[
            ("base.toml", BASE),
            (
                "middle.toml",
                "extends = \"base.toml\"\nseed = 1\n[train]\nupdates = 2\n",
            ),
            ("child.toml", "extends = \"middle.toml\"\nseed = 3\n"),
        ]);
        let found = load(&folder, "child.toml", &["evaluate.episodes=4"]).expect("a configuration");
        let numbers = (found.seed, found.train.updates, found.evaluate.episodes);
        assert_eq!(numbers, (3, 2, 4));
    }

    #[test]
    fn an_error_names_the_file_that_the_key_stands_in() {
        let check = |base: &str, child: &str, set: &[&str], words: &[&str], never: &str| {
            let folder = folder(&[("base.toml", base), ("sub/child.toml", child)]);
            let error = load(&folder, "sub/child.toml", set)
                .expect_err(child)
                .to_string();
            let missing = words.iter().find(|word| !error.contains(**word));
            assert_eq!(missing, None, "{error}");
            assert!(!error.contains(never), "{error}");
        };
        let child = "extends = \"../base.toml\"\n";
        let wrong = "[train]\nupdates = \"many\"\n[algorithm.bc]\n";
        check(
            wrong,
            child,
            &[],
            &["base.toml", "`train.updates`"],
            "child.toml",
        );
        let unknown = "[algorithm.bc]\nfractoin = 0.5\n";
        check(
            unknown,
            child,
            &[],
            &["base.toml", "fractoin"],
            "child.toml",
        );
        let out_of_range = "[algorithm.bc]\nfraction = 2.0\n";
        check(
            out_of_range,
            child,
            &[],
            &["base.toml", "fraction"],
            "child.toml",
        );

        let good = "[train]\nupdates = 4\n[algorithm.bc]\n";
        for (own, word) in [
            ("[train]\nupdates = 0\n", "`train.updates` is 0"),
            ("[train]\nupdate = 3\n", "unknown field `update`"),
            (
                "[algorithm.bc]\nbatch_size = \"a\"\n",
                "`algorithm.bc.batch_size`",
            ),
            ("[trian]\n", "trian"),
        ] {
            let own = format!("{child}{own}");
            check(good, &own, &[], &["child.toml", word], "base.toml");
        }
        let set = ["train.updates=0"];
        check(good, child, &set, &["`train.updates=0`", "is 0"], ".toml");
        let set = ["extends=other.toml"];
        check(good, child, &set, &["`extends=other.toml`"], ".toml:");
        check("[train\n", child, &[], &["base.toml"], "child.toml");
        let none = "extends = \"../base.toml\"\nseed = 1\n";
        check(
            "seed = 2\n",
            none,
            &[],
            &["child.toml", "`algorithm` is missing"],
            "base.toml",
        );
    }

    #[test]
    fn circles_missing_files_and_other_algorithms_are_refused_in_words() {
        let check = |files: &[(&str, &str)], words: &[&str]| {
            let folder = folder(files);
            let error = load(&folder, "a.toml", &[])
                .expect_err("refused")
                .to_string();
            let missing = words.iter().find(|word| !error.contains(**word));
            assert_eq!(missing, None, "{error}");
        };
        let circle = [
            ("a.toml", "extends = \"sub/b.toml\"\n[algorithm.bc]\n"),
            ("sub/b.toml", "extends = \"../a.toml\"\n"),
        ];
        check(&circle, &["circle", "a.toml extends", "b.toml extends"]);
        check(
            &[("a.toml", "extends = \"a.toml\"\n")],
            &["a.toml: `extends` leads in a circle", "a.toml extends"],
        );
        for (name, shown) in [(".", ""), ("sub", "sub"), ("./sub/", "sub"), ("sub/..", "")] {
            let text = format!("extends = \"{name}\"\n");
            let files = [("a.toml", text.as_str()), ("sub/b.toml", "")];
            let folder = format!("{shown} is a folder, expected a file");
            check(&files, &["a.toml: `extends = ", name, &folder]);
        }
        for value in [
            "true",
            "[\"b.toml\"]",
            "{ file = \"b.toml\" }",
            "\" \"",
            "0.5",
        ] {
            let text = format!("extends = {value}\n");
            check(
                &[("a.toml", &text)],
                &["a.toml", "`extends` is ", "expected the path"],
            );
        }
        let missing = [("a.toml", "extends = \"no/such.toml\"\n")];
        check(
            &missing,
            &[
                "a.toml",
                "extends = \"no/such.toml\"",
                "no/such.toml is not there",
                "the folder of the file",
            ],
        );
        check(
            &[("a.toml", "extends = 3\n")],
            &["a.toml", "`extends` is 3", "expected the path"],
        );
        check(&[("a.toml", "extends = \"\"\n")], &["`extends` is \"\""]);
        for own in ["[algorithm.iql]\n", "algorithm = { iql = {} }\n"] {
            let child = format!("extends = \"b.toml\"\n{own}");
            let files = [("a.toml", child.as_str()), ("b.toml", "[algorithm.bc]\n")];
            check(
                &files,
                &["a.toml", "[algorithm.iql]", "b.toml has [algorithm.bc]"],
            );
        }
        let below = [("a.toml", "[algorithm.bc]\n[train]\nextends = \"b.toml\"\n")];
        check(
            &below,
            &["a.toml", "at the top of a file", "`train.extends`"],
        );
        let text = RunConfig::parse("extends = \"a.toml\"\n[algorithm.bc]");
        assert!(text.expect_err("no file").to_string().contains("no file"));
    }

    #[test]
    fn paths_are_shown_without_detours() {
        let shown = |text: &str| without_parents(Path::new(text)).display().to_string();
        assert_eq!(
            shown("configs/td3_bc/short/../a.toml"),
            "configs/td3_bc/a.toml"
        );
        assert_eq!(shown("../../a.toml"), "../../a.toml");
        assert_eq!(shown("/../a/./b.toml"), "/../a/b.toml");
        assert_eq!(shown("a/.."), ".");
        assert_eq!(shown("."), ".");
    }
}
