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

/// What is shipped: a file up to its tests.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Fails with every line of `folder` (but for `except`) that contains one of `words`.
fn check_absent(folder: &str, words: &[&str], except: &[&str]) {
    check_absent_in(|text| text, folder, words, except);
}

/// The same for the part of each file that `view` leaves.
fn check_absent_in(view: fn(&str) -> &str, folder: &str, words: &[&str], except: &[&str]) {
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
        for (number, line) in code(view(&text)) {
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
fn the_contract_data_and_algorithms_use_no_clock_network_or_output() {
    let words = ["std::time", "std::net", "ureq::", "println!"];
    for folder in ["src/core", "src/data", "src/algorithms"] {
        check_absent(folder, &words, &[]);
    }
    for folder in ["src/data", "src/algorithms"] {
        check_absent(folder, &["std::fs"], &[]);
    }
}

#[test]
fn no_update_of_a_value_based_method_reads_numbers_back() {
    for (path, text) in sources("src/algorithms") {
        let Some((_, learner)) = text.split_once("impl Learner for") else {
            continue;
        };
        for (number, line) in code(learner) {
            let reads = ["to_scalar", "to_vec", "values()?"];
            let reads = reads.iter().any(|word| line.contains(word));
            assert!(!reads, "{}, {number} lines on: {line}", path.display());
        }
    }
}

#[test]
fn only_the_formats_open_data_files() {
    check_absent("src", &["hdf5_pure", "arrow_ipc"], &["src/formats"]);
    // Weights of PyTorch are zip archives too.
    let archives = [
        "src/formats",
        "src/app/pretrained/torch_file.rs",
        "src/app/setup/given.rs", // wheels of Python
    ];
    check_absent("src", &["zip::"], &archives);
    let reads = ["File::open", "fs::File", "fs::read(", "fs::read_to_string("];
    let others = [
        "src/core/atomic.rs",
        "src/app/publish", // a model card
        "src/formats",
        "src/app/checkpoint",
        "src/app/table.rs",
        "src/app/compare/score_tables.rs",
        "src/app/logger",
        "src/report",
        "src/app/config",            // configurations
        "src/app/behaviors/file.rs", // the manifest beside a policy
        "src/app/text",              // language models
        "src/app/bench",             // the system's word on memory
        "src/app/memory.rs",         // the same
        "src/app/pretrained",        // models of other libraries
        "src/app/hub",               // the Hub's cache
        "src/app/sweep",             // a sweep's own file
        "src/commands/sweep",        // the ends of logs
        "src/commands/probe.rs",     // times that it has kept
        "src/app/setup",             // wheels of Python
        "src/commands/serve.rs",     // the token
    ];
    check_absent_in(shipped, "src", &reads, &others);
    check_absent("models/src", &["std::fs"], &[]);
}

#[test]
fn only_checkpoint_metrics_and_report_write_a_runs_files() {
    let writes = [
        "File::create",
        "OpenOptions",
        "fs::write(",
        "fs::copy(",
        "fs::rename(",
        "fs::remove_",
        "fs::create_dir",
    ];
    let others = [
        "src/core/atomic.rs",
        "src/app/checkpoint",
        "src/app/table.rs",
        "src/app/logger",
        "src/report",
        "src/formats",             // data files,
        "src/formats/files.rs",    // which it puts in place
        "src/app/demo/mod.rs",     // its folder
        "src/app/hub",             // the Hub's cache
        "src/commands/shell.rs",   // manual pages
        "src/app/sweep",           // resolved configurations, tables
        "src/commands/sweep",      // logs
        "src/commands/probe.rs",   // times that it keeps
        "src/app/setup/mod.rs",    // MuJoCo's folder
        "src/app/serve/listen.rs", // its socket
    ];
    check_absent_in(shipped, "src", &writes, &others);
}

#[test]
fn only_the_hub_and_the_server_use_the_network() {
    let clients = ["hf_hub::", "ureq::", "std::net"];
    let words = [&clients[..], &["HF_", "huggingface.co", "models--"]].concat();
    // The command line's help says what the variables mean.
    check_absent_in(
        shipped,
        "src",
        &words,
        &[
            "src/app/hub",
            "src/commands/hub.rs",
            "src/app/pretrained",
            "src/app/imported",
            "src/app/serve",
        ],
    );
    let calls = [&clients[..], &["HF_", "huggingface.co"]].concat();
    check_absent_in(shipped, "src/app/pretrained", &calls, &[]);
    check_absent_in(shipped, "src/app/imported", &calls, &[]);
    check_absent("models/src", &words, &[]);
}

#[test]
fn only_environments_of_gymnasium_and_sweeps_start_processes() {
    let starts = ["src/envs/gym", "src/commands/sweep"];
    check_absent("src", &["Command::new("], &starts);
    check_absent("models/src", &["Command::new("], &[]);
}

#[test]
fn only_the_command_uses_its_crates_prints_or_exits() {
    let command = ["src/main.rs", "src/cli.rs", "src/commands"];
    let of_command =
        ["clap", "anyhow", "ctrlc", "tracing_subscriber"].map(|name| format!("{name}::"));
    let of_command = of_command.each_ref().map(String::as_str);
    check_absent(
        "src",
        &of_command,
        &[
            &command[..],
            &["src/output.rs", "src/process.rs", "src/repeated.rs"],
        ]
        .concat(),
    );
    check_absent(
        "src",
        &["println!", "print!", "process::exit"],
        &["src/process.rs"],
    );
    check_absent("models/src", &["println!", "print!", "process::exit"], &[]);
}

#[test]
fn only_the_command_names_its_flags() {
    let command = ["src/main.rs", "src/cli.rs", "src/commands"];
    // The text of a model card shows what to type.
    let others = ["src/app/publish/card.rs"];
    let mut bad = Vec::new();
    for (path, text) in sources("src") {
        let shown = path.strip_prefix(root()).expect("inside");
        let shown = shown.display().to_string();
        let fits = |front: &&str| shown.starts_with(front);
        if command.iter().chain(&others).any(fits) {
            continue;
        }
        for (number, line) in code(shipped(&text)) {
            let line = line.split(" // ").next().unwrap_or(line);
            if names_a_flag(line) {
                bad.push(format!("{shown}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(
        bad.is_empty(),
        "src/commands/hints.rs says which flags mend an error:\n{}",
        bad.join("\n")
    );
}

/// Whether a line of code has a text in it like `--set`; cargo's own flag is none of the command's.
fn names_a_flag(line: &str) -> bool {
    line.match_indices("--").any(|(at, _)| {
        let is_part = |letter: char| letter.is_alphanumeric() || "-_".contains(letter);
        let (before, word) = (&line[..at], &line[at + 2..]);
        let is_word = word.starts_with(|letter: char| letter.is_ascii_lowercase());
        is_word && !before.ends_with(is_part) && !word.starts_with("features ")
    })
}

#[test]
fn a_flag_is_found_wherever_it_stands_in_a_line() {
    for line in [
        "\"--set\"",
        "\"give it with --data FILE\"",
        "\"leave `--sample` out\"",
        "with `--out`\",",
    ] {
        assert!(names_a_flag(line), "{line}");
    }
    for line in [
        "\"models--{owner}\"",
        "\"build with `--features {kind}`\"",
        "a - -b",
        "\"----\"",
    ] {
        assert!(!names_a_flag(line), "{line}");
    }
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
    check_absent(
        "src",
        &words,
        &[
            "src/envs/mujoco/library.rs",
            "src/envs/mujoco/offscreen.rs",
            "src/process.rs",
        ],
    );
}

#[test]
fn every_algorithm_has_a_paper_a_config_golden_numbers_and_a_readme_row() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let main = fs::read_to_string(root().join("tests/it/main.rs")).expect("main.rs");
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
        let cell = format!("| `{}` |", algorithm.name);
        let row = readme.lines().find(|line| line.starts_with(&cell));
        let row = row.unwrap_or_else(|| panic!("README.md has no row {cell}"));
        for word in [algorithm.title, algorithm.paper] {
            assert!(row.contains(word), "README.md, row {cell}: no `{word}`");
        }
        let test = format!("parity_{}", algorithm.name);
        for file in [
            format!("tests/golden/{}.py", algorithm.name),
            format!("tests/it/{test}.rs"),
        ] {
            assert!(root().join(&file).is_file(), "{file} is missing");
        }
        let runs = main.lines().any(|line| line == format!("mod {test};"));
        assert!(runs, "tests/it/main.rs does not run {test}");
    }
}

#[test]
fn every_configuration_parses() {
    let mut folders = vec![root().join("configs")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let parsed = trajformer::config::RunConfig::load(&path, &[]);
                assert!(parsed.is_ok(), "{}", parsed.expect_err("an error"));
                count += 1;
            }
        }
    }
    assert!(count > 400, "{count} configurations");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = |folder: &Path| -> Vec<PathBuf> {
        let files = fs::read_dir(folder).expect("a folder");
        let paths = files.map(|file| file.expect("a file").path());
        paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
            .collect()
    };
    let mut links = 0;
    for document in [root(), root().join("docs")]
        .iter()
        .flat_map(|folder| documents(folder))
    {
        let text = fs::read_to_string(&document).expect("text");
        let targets = text.split("](").skip(1);
        for target in targets.filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => document.clone(),
                _ => document.parent().expect("a folder").join(file),
            };
            let shown = document.display();
            assert!(
                path.exists(),
                "{shown} links to {target}, which is not there"
            );
            if !heading.is_empty() {
                let there = fs::read_to_string(&path).expect("text");
                let found = there
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{shown} links to {target}: no such heading");
            }
            links += 1;
        }
    }
    assert!(links > 60, "{links} links");
}

/// The anchor of a heading, as it is made of its text where Markdown is shown.
pub fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn the_readme_can_be_read_in_one_go() {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(
        text.lines().count() <= 120,
        "{} lines",
        text.lines().count()
    );
}
