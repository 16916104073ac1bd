//! Tables of scores in the place of runs: early stops, names that can't be told apart, names that no terminal may obey, and very many of them.

#[cfg(unix)]
use std::fmt::Write;
use std::fs;
#[cfg(unix)]
use std::path::Path;
#[cfg(unix)]
use std::process::Command;

use serde_json::Value;

use crate::cli::{fails, output, succeeds, trained};

fn notes(printed: &str) -> Vec<String> {
    let found: Value = serde_json::from_str(printed.lines().last().expect("a line")).unwrap();
    let notes = found["notes"].as_array().unwrap().iter();
    notes
        .map(|note| note.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_early_stop_is_in_the_table_of_scores_and_is_no_unfinished_run() {
    let folder = trained();
    let folder = folder.path();
    let keys = "--set train.updates=400 --set evaluate.every_updates=1 --set evaluate.episodes=1 --set train.patience_evaluations=1";
    let train = format!("train run.toml --out early --seeds 0..2 {keys}");
    succeeds(folder, &train.split(' ').collect::<Vec<_>>());
    let from_runs = ["compare", "early", "--evaluations", "early.csv", "--json"];
    let from_runs = notes(&succeeds(folder, &from_runs));
    let from_table = notes(&succeeds(folder, &["compare", "early.csv", "--json"]));
    let stops = from_runs
        .iter()
        .filter(|note| note.contains("stopped early"));
    assert_eq!(stops.count(), 1, "{from_runs:?}");
    assert!(
        from_runs.iter().all(|note| !note.contains("not finished")),
        "{from_runs:?}"
    );
    assert_eq!(from_table, from_runs);
    // One that stopped early beside one that is finished leaves none that is not.
    let head = "name,task,seed,update,updates,score_mean,stopped_early,stopped_by\n";
    let table = format!("{head}a,t,0,10,40,1,20,held_out\na,t,1,40,40,2,,\n");
    fs::write(folder.join("mixed.csv"), table).unwrap();
    let mixed = notes(&succeeds(folder, &["compare", "mixed.csv", "--json"]));
    let said = "stopped early, after 20 of 40 updates (1 of 2 runs), chosen by losses on held-out episodes";
    assert!(mixed.iter().any(|note| note.contains(said)), "{mixed:?}");
    assert!(
        mixed.iter().all(|note| !note.contains("not finished")),
        "{mixed:?}"
    );
    for (line, said) in [
        (
            "a,t,0,10,40,1,20,boredom",
            "`stopped_by` is `boredom`, expected scores or held_out",
        ),
        (
            "a,t,0,5,40,1,30,scores\na,t,0,10,40,1,20,scores",
            "line 3: `stopped_early` is `20`, and `30` on a line before",
        ),
    ] {
        fs::write(folder.join("wrong.csv"), format!("{head}{line}\n")).unwrap();
        let errors = fails(folder, &["compare", "wrong.csv"]);
        assert!(errors.contains(said), "{errors}");
    }
}

#[test]
fn two_algorithms_of_one_name_and_seed_are_not_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table =
        "name,algorithm,task,seed,update,score_mean\nours,iql,t,0,10,1\nours,cql,t,0,20,2\n";
    fs::write(folder.join("a.csv"), table).unwrap();
    let errors = fails(folder, &["compare", "a.csv"]);
    let said = "a.csv: line 3: `algorithm` is `cql`, and `iql` on a line before with the same name, task and seed";
    assert!(errors.contains(said), "{errors}");
    fs::write(
        folder.join("a.csv"),
        table.replace("ours,cql,t,0", "ours,cql,t,1"),
    )
    .unwrap();
    succeeds(folder, &["compare", "a.csv"]);
}

#[test]
fn names_reach_a_terminal_without_what_it_would_obey() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table = "\"a\u{1b}[31m\nb\",t\u{9b}2J,0,1\nc,t\u{7},0,x\n";
    let head = "name,task,seed,score_mean\n";
    let first = table.rsplit_once("c,").unwrap().0;
    fs::write(folder.join("a.csv"), format!("{head}{first}")).unwrap();
    fs::write(folder.join("b.csv"), format!("{head}{table}")).unwrap();
    fs::write(folder.join("c\u{1b}[2J.csv"), "").unwrap();
    for command in [
        "compare a.csv --json",
        "compare a.csv --markdown",
        "compare a.csv --latex",
        "compare a.csv --csv -",
        "compare b.csv",
        "compare c\u{1b}[2J.csv",
    ] {
        let found = output(folder, &command.split(' ').collect::<Vec<_>>());
        let text = String::from_utf8([found.stdout, found.stderr].concat()).unwrap();
        let obeyed = |letter: char| letter.is_control() && !"\n\t".contains(letter);
        assert!(!text.contains(obeyed), "{command}: {text:?}");
    }
    let printed = succeeds(folder, &["compare", "a.csv", "--json"]);
    assert!(printed.contains("a\\u001b[31m b"), "{printed}");
    let json: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(json["runs"][0]["name"], "a\u{1b}[31m\nb");
}

/// Seconds of the processor that the program takes to compare a table of so many names, whatever else runs on this machine.
#[cfg(unix)]
fn processor_seconds(folder: &Path, names: usize, form: &str) -> f64 {
    let mut table = "name,task,seed,seconds,score_mean\n".to_owned();
    for name in 0..names {
        for seed in 0..2 {
            let _ = writeln!(table, "name-{name},t,{seed},{name}.5,{}", name % 97 + seed);
        }
    }
    fs::write(folder.join("many.csv"), table).unwrap();
    let script = format!("\"$0\" compare many.csv --resamples 1 {form} > found && times");
    let found = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_trajformer")])
        .current_dir(folder)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    let of_children = text.lines().nth(1).expect("times of children");
    let user = of_children.split_whitespace().next().unwrap();
    let (minutes, seconds) = user.trim_end_matches('s').split_once('m').unwrap();
    60.0 * minutes.parse::<f64>().unwrap() + seconds.parse::<f64>().unwrap()
}

#[test]
#[cfg(unix)]
fn sixteen_times_as_many_names_take_about_sixteen_times_as_long() {
    let folder = tempfile::tempdir().unwrap();
    // Where each is looked for among all it is about 50 times, and more with more.
    const MOST: f64 = 32.0;
    for form in ["", "--by name --markdown"] {
        let few = processor_seconds(folder.path(), 1_000, form);
        let many = processor_seconds(folder.path(), 16_000, form);
        assert!(
            few > 0.0 && many < MOST * few,
            "{form}: {few} s and {many} s"
        );
    }
}
