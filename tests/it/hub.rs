//! `trajformer hub` and `hf://` against a Hub on the loopback device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::cli::isolated;
use crate::hub_server::{Fault, Files, Hub, Request};

pub const ID: &str = "someone/pendulum-dt";
pub const TOKEN: [(&str, &str); 1] = [("HF_TOKEN", "hf_secret")];

/// A machine with an empty cache, and the Hub that it knows.
pub struct Machine {
    pub hub: Hub,
    pub folder: tempfile::TempDir,
}

impl Machine {
    pub fn new(hub: &Hub) -> Self {
        Self {
            hub: hub.clone(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn cache(&self) -> PathBuf {
        self.path().join("home/hub")
    }

    pub fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = isolated(self.path(), arguments);
        command
            .env("HF_ENDPOINT", &self.hub.endpoint)
            .envs(variables.iter().copied());
        command.output().unwrap()
    }

    pub fn succeeds_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> String {
        let found = self.command(arguments, variables);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(found.stdout).unwrap()
    }

    pub fn succeeds(&self, arguments: &[&str]) -> String {
        self.succeeds_with(&[], arguments)
    }

    pub fn fails_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> String {
        let found = self.command(arguments, variables);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert_eq!(found.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
        errors
    }

    pub fn fails(&self, arguments: &[&str]) -> String {
        self.fails_with(&[], arguments)
    }

    /// Where content of a file is in the cache.
    pub fn blob(&self, name: &str) -> PathBuf {
        let repository = self.cache().join("models--someone--pendulum-dt");
        repository.join("blobs").join(name)
    }

    pub fn pull(&self) -> Value {
        let printed = self.succeeds(&["hub", "pull", ID, "--json"]);
        serde_json::from_str(printed.lines().last().unwrap()).unwrap()
    }

    /// Scores `run` on two short episodes' worth of pendulum; the returns.
    pub fn returns(&self, run: &str, further: &[&str]) -> Value {
        let arguments = [
            "evaluate",
            run,
            "--env",
            "pendulum-v1",
            "--episodes",
            "2",
            "--json",
        ];
        let printed = self.succeeds(&[&arguments[..], further].concat());
        let found: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        found["returns"].clone()
    }

    pub fn collect(&self) {
        let arguments = [
            "data",
            "collect",
            "--env",
            "pendulum-v1",
            "--policy",
            "random",
        ];
        self.succeeds(&[&arguments[..], &["--steps", "400", "data.npz"]].concat());
    }
}

pub fn fixture(names: &[&str]) -> Files {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hub/decision_transformer");
    let file = |name: &&str| ((*name).to_owned(), fs::read(folder.join(name)).unwrap());
    names.iter().map(file).collect()
}

pub fn whole() -> Files {
    fixture(&["config.json", "model.safetensors"])
}

/// Paths of the requests of a method that have a word in them.
pub fn paths(requests: &[Request], method: &str, word: &str) -> Vec<String> {
    let fits = |r: &&Request| r.method == method && r.path.contains(word);
    requests
        .iter()
        .filter(fits)
        .map(|r| r.path.clone())
        .collect()
}

pub fn names(pulled: &Value) -> Vec<&str> {
    let files = pulled["files"].as_array().unwrap();
    files.iter().map(|file| file[0].as_str().unwrap()).collect()
}

#[test]
fn a_model_is_fetched_once_and_found_in_the_cache_from_then_on() {
    let hub = Hub::start();
    let commit = hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    let pulled = machine.pull();
    assert_eq!(pulled["commit"], commit.as_str());
    assert_eq!(names(&pulled), ["config.json", "model.safetensors"]);
    let folder = PathBuf::from(pulled["folder"].as_str().unwrap());
    assert_eq!(
        folder,
        machine
            .cache()
            .join(format!("models--someone--pendulum-dt/snapshots/{commit}"))
    );
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        whole()["model.safetensors"]
    );
    assert!(!hub.requests().is_empty());

    machine.collect();
    let url = format!("hf://{ID}");
    let first = machine.returns(&url, &["--data", "data.npz"]);
    assert_eq!(first, machine.returns(&url, &[]));
    assert_eq!(first, machine.returns(&format!("{url}@{commit}"), &[]));
    assert!(
        hub.requests().is_empty(),
        "what is in the cache needs no network"
    );
    // Asked for again, only the commit is compared.
    machine.pull();
    let paths = paths(&hub.requests(), "GET", "");
    assert_eq!(paths, [format!("/api/models/{ID}/revision/main")]);
}

#[test]
fn hf_urls_fetch_what_the_cache_lacks() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    machine.collect();
    machine.returns(&format!("hf://{ID}"), &["--data", "data.npz"]);
    let policy = format!("hf://{ID}");
    let arguments = [
        "data",
        "collect",
        "--env",
        "pendulum-v1",
        "--policy",
        &policy,
    ];
    machine.succeeds(&[&arguments[..], &["--steps", "50", "more.npz"]].concat());
    let error = machine.fails(&["evaluate", "hf://a/b/c"]);
    assert!(error.contains("expected OWNER/NAME"), "{error}");
}

#[test]
fn a_revision_is_a_branch_or_a_commit() {
    let hub = Hub::start();
    let old = hub.commit(ID, "main", whole());
    let mut files = whole();
    files.insert("README.md".into(), b"newer".to_vec());
    let new = hub.commit(ID, "v2", files);
    let machine = Machine::new(&hub);
    for (revision, commit) in [("main", &old), ("v2", &new), (&old, &old), (&new, &new)] {
        let printed = machine.succeeds(&["hub", "pull", ID, "--revision", revision, "--json"]);
        let pulled: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        assert_eq!(pulled["commit"], commit.as_str(), "{revision}");
        assert_eq!(
            names(&pulled).contains(&"README.md"),
            *commit == new,
            "{revision}"
        );
    }
    let error = machine.fails(&["hub", "pull", ID, "--revision", "v3"]);
    let message = format!("has no model `{ID}` with a revision `v3`; check both names");
    assert!(
        error.contains("not found (404)") && error.contains(&message),
        "{error}"
    );
    // The branch moves on: a pull follows it, even if the first files have not changed; the pinned commit stays.
    let moved = hub.commit(ID, "main", whole());
    assert_eq!(machine.pull()["commit"], moved.as_str());
    machine.succeeds_with(
        &[("HF_HUB_OFFLINE", "1")],
        &["hub", "pull", &format!("{ID}@{old}")],
    );
}

#[test]
fn offline_only_the_cache_counts() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    let offline = [("HF_HUB_OFFLINE", "1")];
    let error = machine.fails_with(&offline, &["hub", "pull", ID]);
    assert!(
        error.contains("not in the cache") && error.contains("HF_HUB_OFFLINE is set"),
        "{error}"
    );
    assert!(hub.requests().is_empty());
    machine.pull();
    hub.requests();
    machine.succeeds_with(&offline, &["hub", "pull", ID]);
    assert!(hub.requests().is_empty());
    // Another place of the cache is another cache.
    let elsewhere = machine.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    let variables = [("HF_HUB_OFFLINE", "true"), ("HF_HUB_CACHE", elsewhere)];
    let error = machine.fails_with(&variables, &["hub", "pull", ID]);
    assert!(error.contains(elsewhere), "{error}");
}

#[test]
fn without_safetensors_the_pickle_is_fetched() {
    let hub = Hub::start();
    hub.commit(ID, "main", fixture(&["config.json", "pytorch_model.bin"]));
    let machine = Machine::new(&hub);
    assert_eq!(names(&machine.pull()), ["config.json", "pytorch_model.bin"]);
    let commit = format!("{:040x}", 0xabc0);
    let marker = format!("models--someone--pendulum-dt/.no_exist/{commit}/model.safetensors");
    assert!(machine.cache().join(marker).exists());
    machine.collect();
    machine.returns(&format!("hf://{ID}"), &["--data", "data.npz"]);

    hub.commit("someone/odd", "main", fixture(&["config.json"]));
    let error = machine.fails(&["hub", "pull", "someone/odd"]);
    assert!(
        error.contains("neither model.safetensors nor pytorch_model.bin"),
        "{error}"
    );
    let error = machine.fails(&["hub", "pull", "someone/nothing"]);
    assert!(error.contains("not found (404)"), "{error}");
}

/// All files of a fixture's folder.
pub fn folder_of(name: &str) -> Files {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/hub")
        .join(name);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

#[test]
fn split_weights_are_fetched_by_their_index_and_found_in_the_cache() {
    let hub = Hub::start();
    let machine = Machine::new(&hub);
    machine.collect();
    hub.commit(ID, "main", whole());
    let expected = machine.returns(&format!("hf://{ID}"), &["--data", "data.npz"]);
    for (name, part) in [
        (
            "decision_transformer_split",
            "model-00002-of-00003.safetensors",
        ),
        (
            "decision_transformer_split_pickles",
            "pytorch_model-00002-of-00002.bin",
        ),
    ] {
        let files = folder_of(name);
        let id = format!("someone/{}", name.replace('_', "-"));
        let url = format!("hf://{id}");
        let commit = hub.commit(&id, "main", files.clone());
        let printed = machine.succeeds(&["hub", "pull", &id, "--json"]);
        let pulled: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        assert!(names(&pulled).into_iter().eq(files.keys()), "{pulled}");
        assert_eq!(machine.returns(&url, &["--data", "data.npz"]), expected);
        hub.requests();
        assert_eq!(machine.returns(&url, &[]), expected);
        assert!(
            hub.requests().is_empty(),
            "what is in the cache needs no network"
        );
        // A part that is gone is fetched again, or named where nothing can be fetched.
        let folder = PathBuf::from(pulled["folder"].as_str().unwrap());
        fs::remove_file(folder.join(part)).unwrap();
        let offline = [("HF_HUB_OFFLINE", "1")];
        let error = machine.fails_with(&offline, &["evaluate", &url]);
        assert!(
            error.contains(&format!("without `{part}` in the cache")),
            "{error}"
        );
        assert_eq!(machine.returns(&url, &[]), expected);
        assert!(folder.join(part).exists() && folder.ends_with(&commit));

        // An index that leads outside, or nowhere.
        let index = files.keys().find(|name| name.ends_with("index.json"));
        let index = index.unwrap();
        let text = String::from_utf8(files[index].clone()).unwrap();
        for (instead, words) in [
            ("../../secret.bin", "expected a file beside the index"),
            ("missing.bin", "which the repository does not have"),
        ] {
            let mut changed = files.clone();
            changed.insert(index.clone(), text.replace(part, instead).into_bytes());
            let branch = "odd/".to_owned() + &instead.replace(['.', '/'], "");
            hub.commit(&id, &branch, changed);
            hub.requests();
            let error = machine.fails(&["hub", "pull", &format!("{id}@{branch}")]);
            assert!(
                error.contains(words) && error.contains(instead) && error.contains(index),
                "{error}"
            );
            let asked = paths(&hub.requests(), "GET", "secret.bin");
            assert!(asked.is_empty(), "{asked:?}");
        }
    }
}

#[test]
fn repositories_with_other_files_than_those_that_are_read_say_which() {
    let hub = Hub::start();
    let machine = Machine::new(&hub);
    let config = fixture(&["config.json"]);
    for (name, words) in [
        ("tf_model.h5", "from_tf=True"),
        ("flax_model.msgpack", "from_flax=True"),
        ("adapter_model.safetensors", "merge_and_unload"),
        ("q4.gguf", "llama.cpp"),
        ("seed-0/model.safetensors", "in the folder `seed-0`"),
    ] {
        for with_config in [true, false] {
            let mut files = config.clone();
            if !with_config {
                files.clear();
            }
            files.insert(name.to_owned(), b"x".to_vec());
            hub.commit("someone/other", "main", files);
            let error = machine.fails(&["hub", "pull", "someone/other"]);
            assert!(error.contains(name) && error.contains(words), "{error}");
        }
    }
}

#[test]
fn a_branch_may_have_slashes_in_its_name() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let mut files = whole();
    files.insert("README.md".into(), b"newer".to_vec());
    let commit = hub.commit(ID, "feature/new/weights", files);
    let machine = Machine::new(&hub);
    let id = format!("{ID}@feature/new/weights");
    let printed = machine.succeeds(&["hub", "pull", &id, "--json"]);
    let pulled: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(pulled["commit"], commit.as_str());
    let offline = [("HF_HUB_OFFLINE", "1")];
    machine.succeeds_with(&offline, &["hub", "pull", &id]);
}

#[test]
fn refusals_say_what_to_do() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    hub.set_fault(Fault::Status(401));
    let error = machine.fails(&["hub", "pull", ID]);
    assert!(
        error.contains("(401)") && error.contains("set HF_TOKEN to a token of yours"),
        "{error}"
    );
    hub.requests();
    let token = [("HF_TOKEN", "hf_secret")];
    let error = machine.fails_with(&token, &["hub", "pull", ID]);
    assert!(
        error.contains("the token in HF_TOKEN is not valid"),
        "{error}"
    );
    assert!(!error.contains("hf_secret"), "{error}");
    let sent = hub.requests().swap_remove(0);
    assert_eq!(sent.token.as_deref(), Some("Bearer hf_secret"));
    hub.set_fault(Fault::Status(403));
    let error = machine.fails(&["hub", "pull", ID]);
    let page = format!("accept its conditions at {}/{ID}", hub.endpoint);
    assert!(error.contains("(403") && error.contains(&page), "{error}");
    hub.set_fault(Fault::Status(418));
    let error = machine.fails(&["hub", "pull", ID]);
    assert!(
        error.contains("answered 418") || error.contains("does not answer as a Hub does"),
        "{error}"
    );
}

#[test]
fn a_broken_download_leaves_nothing_behind_that_looks_whole() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    for fault in [
        Fault::Breaks("model.safetensors"),
        Fault::Shrinks("model.safetensors"),
    ] {
        let machine = Machine::new(&hub);
        hub.set_fault(fault);
        let error = machine.fails(&["hub", "pull", ID]);
        let message = match fault {
            Fault::Breaks(_) => "run the same command again: files that are whole stay",
            _ => "model.safetensors has 17950 bytes, the server announced 35900",
        };
        assert!(error.contains(message), "{fault:?}: {error}");
        let offline = [("HF_HUB_OFFLINE", "1")];
        machine.fails_with(&offline, &["hub", "pull", ID]);
        hub.set_fault(Fault::None);
        hub.requests();
        let pulled = machine.pull();
        let folder = PathBuf::from(pulled["folder"].as_str().unwrap());
        assert_eq!(
            fs::read(folder.join("model.safetensors")).unwrap(),
            whole()["model.safetensors"]
        );
        // What was whole before is not fetched again.
        let gets = paths(&hub.requests(), "GET", "/resolve/");
        assert!(
            gets.len() == 1 && gets[0].ends_with("model.safetensors"),
            "{gets:?}"
        );
    }
    let machine = Machine::new(&hub);
    let variables = [("HF_ENDPOINT", "http://127.0.0.1:1")];
    let error = machine.fails_with(&variables, &["hub", "pull", ID]);
    assert!(
        error.contains("http://127.0.0.1:1 can't be reached") && error.contains("HF_HUB_OFFLINE=1"),
        "{error}"
    );
}
