//! Which module may name which: a table, held against every path in the source.
//!
//! A room is a file or folder of `src`, as [`TABLE`] names it. The borders between the crates `core`, `data` and `algorithms` are the
//! compiler's as well; those inside of a crate, and of the application, are only here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A room, and the rooms that its files may name: `core/*` is every room of `core`.
const TABLE: &[(&str, &str)] = &[
    // The contract.
    ("core/error", ""),
    ("core/fast_files", ""),
    ("core/interrupt", ""),
    ("core/mixing", ""),
    ("core/clock", ""),
    ("core/nearest", ""),
    ("core/planning", ""),
    ("core/printable", ""),
    ("core/schedules", ""),
    ("core/statistics", ""),
    ("core/held_out", ""),
    ("core/atomic", "core/error"),
    ("core/dataset", "core/error"),
    ("core/device", "core/error"),
    ("core/environment", "core/dataset core/error"),
    ("core/keys", "core/error"),
    ("core/metrics", "core/error"),
    ("core/policy", "core/error core/planning"),
    ("core/watched", "core/error core/planning core/policy"),
    ("core/stand_in", "core/error"),
    ("core/corpus", "core/error core/keys"),
    ("core/dataset_checks", "core/dataset core/error"),
    ("core/epochs", "core/error core/keys"),
    ("core/instructions", "core/error core/keys"),
    ("core/source", "core/dataset core/error"),
    ("core/normalizer", "core/dataset core/error core/source"),
    (
        "core/instructed_episodes",
        "core/dataset core/error core/instructions",
    ),
    (
        "core/algorithm",
        "core/clock core/corpus core/dataset core/error core/fast_files core/instructed_episodes core/metrics core/mixing core/normalizer \
         core/policy core/source",
    ),
    // Views of a data set.
    ("data/returns", ""),
    ("data/termination_penalty", ""),
    ("data/transitions_config", "core/*"),
    ("data/batch", "core/*"),
    ("data/discretizer", "core/*"),
    ("data/info", "core/*"),
    ("data/kept_steps", "core/* data/transitions_config"),
    ("data/replay", "core/* data/batch data/returns"),
    ("data/resident", "core/* data/batch"),
    ("data/token_options", "data/discretizer"),
    ("data/tokenizers", "core/* data/discretizer"),
    ("data/action_chunks", "core/* data/tokenizers"),
    (
        "data/return_sequences",
        "core/* data/batch data/resident data/returns",
    ),
    ("data/step_windows", "core/*"),
    ("data/return_view", "core/* data/return_sequences"),
    (
        "data/reward_windows",
        "core/* data/batch data/return_sequences",
    ),
    (
        "data/tokens",
        "core/* data/discretizer data/resident data/token_options",
    ),
    (
        "data/transitions",
        "core/* data/batch data/kept_steps data/replay data/returns data/transitions_config",
    ),
    (
        "data/sequences",
        "core/* data/discretizer data/resident data/token_options data/tokens",
    ),
    // Learning rules: each names what is shared, none names another.
    ("algorithms/policies", "core/*"),
    ("algorithms/offpolicy", "core/* data/* algorithms/policies"),
    ("algorithms/planning", "core/* data/* algorithms/policies"),
    (
        "algorithms/RULE",
        "core/* data/* algorithms/policies algorithms/offpolicy algorithms/planning",
    ),
    ("algorithms/registry", "core/* algorithms/RULE"),
    // Files, environments, pictures.
    ("formats", "core/* data/tokenizers"),
    (
        "envs",
        "core/dataset core/environment core/error core/nearest",
    ),
    ("report", "core/atomic core/error"),
    // The application, from the ground up.
    ("app/about", ""),
    ("app/locks", ""),
    ("app/progress", ""),
    ("app/system_clock", "core/clock"),
    ("app/memory", "core/* app/config"),
    ("app/table", "core/* app/checkpoint"),
    ("app/collect", "core/* app/progress envs"),
    (
        "app/act",
        "core/* algorithms/registry app/instruct app/progress app/run formats",
    ),
    (
        "app/serve",
        "core/* app/act app/checkpoint app/hub app/memory app/run",
    ),
    ("app/behaviors", "core/* envs formats"),
    ("app/token_report", "core/* data/* app/progress report"),
    ("app/fqe", "core/* data/* algorithms/offpolicy app/progress"),
    ("app/config", "core/* algorithms/registry envs formats"),
    ("app/datasets", "core/*"),
    ("app/action_range", "core/* app/config envs formats"),
    (
        "app/bench",
        "core/* data/* algorithms/planning algorithms/registry algorithms/RULE app/config app/system_clock envs",
    ),
    ("app/checkpoint", "core/* app/about app/config app/locks"),
    (
        "app/evaluate",
        "core/* app/collect app/config app/progress envs",
    ),
    (
        "app/evaluations",
        "core/* app/checkpoint app/evaluate app/table",
    ),
    (
        "app/lost_rows",
        "core/* app/checkpoint app/config app/evaluations app/table",
    ),
    (
        "app/from_data",
        "core/* data/return_sequences algorithms/registry app/config",
    ),
    (
        "app/choose",
        "core/* data/transitions data/transitions_config algorithms/registry app/act app/checkpoint app/compare app/config app/datasets \
         app/evaluations app/fqe app/progress app/run formats",
    ),
    ("app/online", "core/* app/config"),
    (
        "app/compare",
        "core/* app/checkpoint app/evaluate app/evaluations app/lost_rows app/table report",
    ),
    (
        "app/logger",
        "core/* app/checkpoint app/evaluate app/evaluations app/progress app/table",
    ),
    ("app/pretrained", "core/*"),
    (
        "app/preview",
        "core/* app/config app/evaluate app/progress envs report",
    ),
    (
        "app/hub",
        "core/* app/datasets app/locks app/pretrained formats",
    ),
    ("app/setup", "core/* app/hub envs"),
    (
        "app/report",
        "core/* data/info app/about app/checkpoint app/compare app/config app/datasets app/evaluate app/evaluations app/held_out app/prepare app/run app/scoring \
         app/table algorithms/registry algorithms/RULE envs formats report",
    ),
    (
        "app/render",
        "core/* app/checkpoint app/progress app/report app/run envs report",
    ),
    (
        "app/trainer",
        "core/* app/checkpoint app/config app/evaluate app/logger app/online envs",
    ),
    ("app/ranks", "core/* app/config"),
    ("app/mpi", "core/*"),
    (
        "app/publish",
        "core/* algorithms/registry app/checkpoint app/config app/evaluate app/evaluations app/hub",
    ),
    ("app/text", "core/* app/hub app/pretrained"),
    (
        "app/prepare",
        "core/* app/checkpoint app/config app/datasets app/evaluate app/hub app/memory app/online app/pretrained app/system_clock app/text envs formats",
    ),
    (
        "app/imported",
        "core/* data/return_sequences algorithms/registry algorithms/RULE app/action_range app/checkpoint app/config app/prepare \
         app/pretrained",
    ),
    ("app/held_out", "core/* app/config"),
    (
        "app/asked",
        "core/* app/checkpoint app/config app/from_data app/prepare",
    ),
    (
        "app/critic",
        "core/* data/transitions_config algorithms/planning algorithms/registry algorithms/RULE app/checkpoint app/config app/prepare",
    ),
    (
        "app/run",
        "core/* app/ranks app/action_range app/asked app/checkpoint app/config app/critic app/datasets app/evaluate app/evaluations app/fqe app/from_data app/held_out app/imported app/logger \
         app/lost_rows app/online app/prepare app/trainer app/whole envs formats",
    ),
    (
        "app/whole",
        "core/* app/checkpoint app/logger app/lost_rows",
    ),
    (
        "app/series",
        "core/* app/asked app/checkpoint app/compare app/config app/run app/trainer",
    ),
    (
        "app/sweep",
        "core/* app/asked app/checkpoint app/config app/datasets app/evaluations app/series app/table app/whole envs",
    ),
    (
        "app/reproduce",
        "core/* app/checkpoint app/compare app/config app/datasets app/sweep",
    ),
    (
        "app/fitted",
        "core/* app/checkpoint app/config app/evaluate app/run app/scoring",
    ),
    (
        "app/watch",
        "core/* app/checkpoint app/compare app/config app/evaluations app/lost_rows app/table",
    ),
    (
        "app/demo",
        "core/* app/behaviors app/checkpoint app/collect app/config app/evaluate app/run app/table envs formats report",
    ),
    (
        "app/diagnose",
        "core/* data/discretizer algorithms/planning algorithms/registry algorithms/RULE app/checkpoint app/compare app/datasets app/evaluate app/held_out \
         app/prepare app/progress app/run envs formats report",
    ),
    (
        "app/export",
        "core/* algorithms/registry algorithms/RULE app/checkpoint app/config app/imported app/run envs",
    ),
    (
        "app/instruct",
        "core/* app/config app/evaluate app/run app/text envs report",
    ),
    (
        "app/scoring",
        "core/* app/config app/evaluate app/instruct app/prepare app/run",
    ),
    // The Python module stands above the facade.
    ("python", ""),
];

/// Arrows that should not be, and are: none.
const KNOWN: &[(&str, &str)] = &[];

/// A module as the parts of its path below `src`: `["core", "error"]`.
type Module = Vec<String>;

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The library's modules with their source, tests cut off.
fn modules() -> BTreeMap<Module, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(src()).unwrap().with_extension("");
            let mut module: Module = inside
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            let is_rust = path.extension().is_some_and(|ending| ending == "rs");
            // The binary and the facade stand above everything.
            if !is_rust || module.len() == 1 || module[0] == "commands" {
                continue;
            }
            if module
                .last()
                .is_some_and(|last| last == "mod" || last == "lib")
            {
                module.pop();
            }
            let text = fs::read_to_string(&path).unwrap();
            let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let code: Vec<&str> = shipped
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            found.insert(module, code.join("\n"));
        }
    }
    assert!(found.len() > 150, "{} modules", found.len());
    found
}

/// The paths that a `use` tree names: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str, prefix: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        if !path.is_empty() {
            found.push(format!("{prefix}{path}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let inside = &tree[open + 1..tree.rfind('}').expect("a closed brace")];
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&inside[start..at], &prefix, found);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&inside[start..], &prefix, found);
}

/// Every path that the code of a module names, in imports and elsewhere.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut statements = code.split_inclusive('\n').peekable();
    while let Some(line) = statements.next() {
        let bare = line.trim_start();
        let bare = bare.strip_prefix("pub ").unwrap_or(bare);
        let bare = bare.strip_prefix("pub(crate) ").unwrap_or(bare);
        let Some(tree) = bare.strip_prefix("use ") else {
            rest.push_str(line);
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            tree.push_str(statements.next().expect("the end of an import"));
        }
        expand(tree.split(';').next().unwrap_or_default(), "", &mut found);
    }
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let words = rest.split(|letter: char| !is_part(letter));
    found.extend(words.filter(|word| word.contains("::")).map(str::to_owned));
    found
}

/// The module of ours that a path in `module` leads to.
fn target(module: &Module, path: &str, modules: &BTreeMap<Module, String>) -> Option<Module> {
    let parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
    let member = |name: &str| ["core", "data", "algorithms"].contains(&name);
    let base: Module = match *parts.first()? {
        "crate" => module
            .iter()
            .take(1)
            .filter(|name| member(name))
            .cloned()
            .collect(),
        "trajformer_core" => vec!["core".to_owned()],
        "trajformer_data" => vec!["data".to_owned()],
        "trajformer_algorithms" => vec!["algorithms".to_owned()],
        "super" => {
            let up = parts.iter().take_while(|part| **part == "super").count();
            module[..module.len().saturating_sub(up)].to_vec()
        }
        "self" => module.clone(),
        _ => {
            // A module inside of this one, or a name that was imported.
            let mut inside = module.clone();
            inside.push(parts[0].to_owned());
            return modules.contains_key(&inside).then_some(inside);
        }
    };
    let names = parts.iter().skip_while(|part| {
        ["crate", "super", "self"].contains(part) || part.starts_with("trajformer_")
    });
    let full: Module = base
        .into_iter()
        .chain(names.map(|name| (*name).to_owned()))
        .collect();
    (1..=full.len())
        .rev()
        .map(|length| full[..length].to_vec())
        .find(|module| modules.contains_key(module))
}

/// The row of the table that a module belongs to.
fn room(module: &Module) -> String {
    let rows = || TABLE.iter().map(|(name, _)| *name);
    for length in (1..=module.len().min(2)).rev() {
        let name = module[..length].join("/");
        if rows().any(|row| row == name) {
            return name;
        }
    }
    let is_rule = |name: &String| {
        trajformer::algorithms::ALGORITHMS
            .iter()
            .any(|rule| rule.name == name)
    };
    match module.get(1) {
        Some(name) if module[0] == "algorithms" && is_rule(name) => "algorithms/RULE".to_owned(),
        _ => module.join("/"),
    }
}

/// Arrows between modules, with what each names.
fn arrows(modules: &BTreeMap<Module, String>) -> BTreeMap<(Module, Module), String> {
    let mut found = BTreeMap::new();
    for (module, code) in modules {
        for path in paths(code) {
            if let Some(target) = target(module, &path, modules)
                && target != *module
            {
                found.entry((module.clone(), target)).or_insert(path);
            }
        }
    }
    found
}

#[test]
fn every_module_names_only_what_the_table_lets_it() {
    let modules = modules();
    let rooms: BTreeSet<String> = modules
        .keys()
        // `lib.rs` of a member and `app/mod.rs` only list what is inside.
        .filter(|module| {
            !["core", "data", "algorithms", "app"].contains(&module.join("/").as_str())
        })
        .map(room)
        .collect();
    let rows: BTreeSet<String> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(rooms, rows, "the table has one row per room");
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    let mut wrong = Vec::new();
    for ((from, to), path) in arrows(&modules) {
        let (here, there) = (room(&from), room(&to));
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == here) else {
            continue;
        };
        let other_rule = here == "algorithms/RULE" && there == here && from[1] != to[1];
        if here == there && !other_rule {
            continue;
        }
        let folder = there.split('/').next().unwrap_or_default();
        let fits = |name: &&str| *name == there || *name == format!("{folder}/*");
        match allowed.split_whitespace().find(fits) {
            Some(name) => {
                used.insert((here, name.to_owned()));
            }
            None if KNOWN.contains(&(here.as_str(), there.as_str())) => {}
            None => wrong.push(format!("{} names {path}, of {there}", from.join("/"))),
        }
    }
    assert!(wrong.is_empty(), "not in the table:\n{}", wrong.join("\n"));
    let unused: Vec<String> = TABLE
        .iter()
        .flat_map(|(here, allowed)| allowed.split_whitespace().map(move |there| (here, there)))
        .filter(|(here, there)| !used.contains(&((**here).to_owned(), (*there).to_owned())))
        .map(|(here, there)| format!("{here} may name {there}, and does not"))
        .collect();
    assert!(unused.is_empty(), "{}", unused.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let modules = modules();
    let mut below: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for ((from, to), _) in arrows(&modules) {
        below.entry(from).or_default().insert(to);
    }
    // What names nothing that is left, or is named by nothing that is left, is in no circle.
    let mut left: BTreeSet<Module> = modules.keys().cloned().collect();
    loop {
        let named: BTreeSet<Module> = left
            .iter()
            .flat_map(|module| below.get(module).into_iter().flatten())
            .cloned()
            .collect();
        let is_free = |module: &&Module| {
            let names_none = below
                .get(*module)
                .is_none_or(|names| names.is_disjoint(&left));
            names_none || !named.contains(*module)
        };
        let free: Vec<Module> = left.iter().filter(is_free).cloned().collect();
        if free.is_empty() {
            break;
        }
        for module in &free {
            left.remove(module);
        }
    }
    let names: Vec<String> = left.iter().map(|module| module.join("/")).collect();
    assert!(left.is_empty(), "a circle is among {}", names.join(", "));
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let code = "use crate::a::{self, b::{C, D as E}};\npub use trajformer_core::error::Error;\n\
                fn f() -> crate::x::Y {\n    super::g(&trajformer_data::h::I)\n}\n";
    let found = paths(code);
    for path in [
        "crate::a::self",
        "crate::a::b::C",
        "crate::a::b::D",
        "trajformer_core::error::Error",
        "crate::x::Y",
        "super::g",
        "trajformer_data::h::I",
    ] {
        assert!(found.iter().any(|found| found == path), "{path}: {found:?}");
    }
    let modules = modules();
    let iql = vec!["algorithms".to_owned(), "iql".to_owned()];
    let leads = |path: &str| target(&iql, path, &modules).map(|module| module.join("/"));
    assert_eq!(
        leads("crate::cql::CqlConfig").as_deref(),
        Some("algorithms/cql")
    );
    assert_eq!(
        leads("super::offpolicy::Trained").as_deref(),
        Some("algorithms/offpolicy")
    );
    assert_eq!(
        leads("trajformer_core::error::Error").as_deref(),
        Some("core/error")
    );
    assert_eq!(leads("candle_core::Tensor"), None);
}
