//! What a build says of itself, and what it gives to shells and to `man`.

use std::fs;
use std::process::Command;

use crate::cli::{fails, succeeds};

/// The commands that `--help` lists.
fn commands(folder: &std::path::Path) -> Vec<String> {
    let help = succeeds(folder, &["--help"]);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(names.contains(&"train".to_owned()), "{help}");
    names.into_iter().filter(|name| name != "help").collect()
}

#[test]
fn the_version_names_commit_features_and_kernels() {
    let folder = tempfile::tempdir().unwrap();
    let short = succeeds(folder.path(), &["-V"]);
    assert_eq!(short, format!("trajformer {}\n", env!("CARGO_PKG_VERSION")));
    let long = succeeds(folder.path(), &["--version"]);
    let line = |name: &str| {
        let found = long.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("{name}: {long}")).to_owned()
    };
    assert!(long.starts_with(short.trim_end()), "{long}");
    assert!(!line("commit: ").is_empty());
    assert!(line("features: ").starts_with("cli, "), "{long}");
    assert!(line("platform: ").contains(std::env::consts::ARCH));
    assert!(line("kernels: ").starts_with("all, with "), "{long}");
    let without = Command::new(env!("CARGO_BIN_EXE_trajformer"))
        .arg("--version")
        .env("TRAJFORMER_KERNELS_OFF", "adam,polyak")
        .output()
        .unwrap();
    let without = String::from_utf8(without.stdout).unwrap();
    assert!(
        without.contains("kernels: all but adam, polyak, with "),
        "{without}"
    );
}

#[test]
fn shells_complete_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = succeeds(folder, &["completions", shell]);
        for name in commands(folder) {
            assert!(script.contains(&name), "{shell}: {name}");
        }
        assert!(script.contains("--off-policy"), "{shell}");
    }
    let script = succeeds(folder, &["completions", "bash"]);
    fs::write(folder.join("completions"), script).unwrap();
    let completed = Command::new("bash")
        .args(["-c", "source ./completions && COMP_WORDS=(trajformer ev) COMP_CWORD=1 && _trajformer trajformer ev trajformer && echo \"${COMPREPLY[@]}\""])
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&completed.stdout).trim(),
        "evaluate"
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let said = succeeds(folder, &["man", "share/man1"]);
    let pages = fs::read_dir(folder.join("share/man1")).unwrap().count();
    assert!(
        said.starts_with(&format!("wrote {pages} pages into ")),
        "{said}"
    );
    for name in commands(folder) {
        let page = folder.join(format!("share/man1/trajformer-{name}.1"));
        let page = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".TH "), "{name}");
    }
    let train = fs::read_to_string(folder.join("share/man1/trajformer-train.1")).unwrap();
    assert!(train.contains("seeds"), "{train}");
    assert!(folder.join("share/man1/trajformer-data-info.1").is_file());
    fs::write(folder.join("file"), "").unwrap();
    let errors = fails(folder, &["man", "file/man1"]);
    assert!(errors.contains("the folder can't be made"), "{errors}");
}
