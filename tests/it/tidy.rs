//! The architecture's rules, checked on the source text.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file under `folder`, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("source text");
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

/// Lines of code: comments are left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_code = |line: &str| !line.trim_start().starts_with("//");
    text.lines()
        .enumerate()
        .filter(move |(_, line)| is_code(line))
        .map(|(i, line)| (i + 1, line))
}

/// Fails with every line of `folder` (but for `except`) that contains one of `words`.
fn check_absent(folder: &str, words: &[&str], except: &[&str]) {
    let mut bad = Vec::new();
    for (path, text) in sources(folder) {
        let shown = path
            .strip_prefix(root())
            .expect("inside")
            .display()
            .to_string();
        if except
            .iter()
            .any(|e| shown.ends_with(e) || shown.starts_with(e))
        {
            continue;
        }
        for (number, line) in code(&text) {
            if words.iter().any(|word| line.contains(word)) {
                bad.push(format!("{shown}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(
        bad.is_empty(),
        "not allowed here: {words:?}\n{}",
        bad.join("\n")
    );
}

#[test]
fn the_models_crate_knows_no_reinforcement_learning() {
    let manifest = fs::read_to_string(root().join("models/Cargo.toml")).expect("manifest");
    for word in ["trajformer = ", "hdf5", "arrow", "clap", "serde", "toml"] {
        assert!(
            !manifest.contains(word),
            "models/Cargo.toml depends on {word}"
        );
    }
    check_absent(
        "models/src",
        &["struct Dataset", "trait Environment", "trait Policy"],
        &[],
    );
}

#[test]
fn algorithms_use_no_trainer_environment_file_system_or_clock() {
    let words = [
        "crate::trainer",
        "crate::evaluate",
        "crate::envs",
        "crate::cli",
        "crate::checkpoint",
        "crate::run",
        "std::fs",
        "std::time",
        "std::net",
        "println!",
    ];
    check_absent("src/algorithms", &words, &[]);
}

#[test]
fn no_algorithm_uses_another() {
    for (path, text) in sources("src/algorithms") {
        if path.ends_with("mod.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            let uses = line.contains("super::") || line.contains("crate::algorithms::");
            let allowed = [
                "super::{Algorithm",
                "super::*",
                "crate::algorithms::{Algorithm",
            ];
            let fine = !uses || allowed.iter().any(|a| line.contains(a));
            assert!(fine, "{}:{number}: {line}", path.display());
        }
    }
}

#[test]
fn trainer_and_evaluation_name_no_algorithm() {
    for file in ["src/trainer.rs", "src/evaluate.rs"] {
        let text = fs::read_to_string(root().join(file)).expect(file);
        for algorithm in trajformer::algorithms::ALGORITHMS {
            let name = format!("{}::", algorithm.name);
            assert!(!text.contains(&name), "{file} names {}", algorithm.name);
        }
    }
}

#[test]
fn only_the_formats_open_data_files() {
    let words = ["hdf5_pure", "arrow_ipc", "zip::"];
    check_absent("src", &words, &["src/data/formats"]);
}

#[test]
fn only_the_command_line_uses_clap_and_only_main_prints_or_exits() {
    check_absent("src", &["clap::"], &["src/cli.rs", "src/main.rs"]);
    check_absent(
        "src",
        &["println!", "print!", "process::exit"],
        &["src/main.rs"],
    );
    check_absent("models/src", &["println!", "print!", "process::exit"], &[]);
}

#[test]
fn randomness_comes_from_our_streams_only() {
    let words = [
        "thread_rng",
        "rand::rng()",
        "Tensor::rand(",
        "Tensor::randn(",
        "rand_like(",
    ];
    check_absent("src", &words, &[]);
    check_absent("models/src", &words, &[]);
}

#[test]
fn unsafe_code_is_in_the_kernels_only() {
    let words = ["allow(unsafe_code)"];
    check_absent("models/src", &words, &["models/src/kernels"]);
    check_absent("src", &words, &["src/envs/mujoco", "src/main.rs"]);
}

#[test]
fn every_algorithm_has_a_paper_a_config_and_a_readme_row() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    for algorithm in trajformer::algorithms::ALGORITHMS {
        assert!(
            algorithm.paper.starts_with("https://"),
            "{}: no paper",
            algorithm.name
        );
        let folder = root().join("configs").join(algorithm.name);
        let configs = fs::read_dir(&folder).map(Iterator::count).unwrap_or(0);
        assert!(
            configs > 0,
            "{}: no configuration in {}",
            algorithm.name,
            folder.display()
        );
        assert!(
            readme.contains(algorithm.title),
            "README.md does not name {}",
            algorithm.title
        );
    }
}

#[test]
fn every_configuration_parses() {
    let mut count = 0;
    for folder in fs::read_dir(root().join("configs")).expect("configs") {
        for file in fs::read_dir(folder.expect("entry").path()).expect("a folder per algorithm") {
            let path = file.expect("entry").path();
            let parsed = trajformer::config::RunConfig::load(&path, &[]);
            assert!(parsed.is_ok(), "{}", parsed.expect_err("an error"));
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn links_between_documents_lead_somewhere() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        let text = fs::read_to_string(root().join(name)).expect(name);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file: &Path = Path::new(target.split('#').next().unwrap_or(target));
            assert!(
                root().join(file).exists(),
                "{name} links to {target}, which is not there"
            );
        }
    }
}
