//! `trajformer hub push` against a Hub on the loopback device.

use std::fs;

use crate::hub::{ID, Machine, TOKEN, paths};
use crate::hub_server::{Fault, Hub, sha256};

/// Trains a small Decision Transformer in `run`.
fn train(machine: &Machine) {
    machine.collect();
    let text = format!(
        "[data]\npath = \"data.npz\"\n[train]\nupdates = 5\n[evaluate]\nenv = \"pendulum-v1\"\nepisodes = 2\n\
         [algorithm.decision_transformer]\n{}\n",
        crate::runs::small("decision_transformer")
    );
    fs::write(machine.path().join("run.toml"), text).unwrap();
    machine.succeeds(&["train", "run.toml", "--out", "run"]);
}

#[test]
fn a_run_that_is_published_acts_the_same_where_it_is_fetched() {
    let hub = Hub::start();
    let machine = Machine::new(&hub);
    train(&machine);
    let card = machine.succeeds(&["hub", "push", "run", ID, "--dry-run"]);
    assert!(card.contains("dry run: nothing was published") && hub.requests().is_empty());
    for part in [
        "library_name: transformers",
        "- \"decision-transformer\"",
        "- \"pendulum-v1\"",
        "datasets:\n- \"data\"",
        "type: mean_reward",
        "Decision Transformer](https://arxiv.org/abs/2106.01345)",
        "`data`: 400 steps in 2 episodes",
        "| `pendulum-v1` |",
        &format!("from_pretrained(\"{ID}\")"),
        &format!("trajformer evaluate hf://{ID} --env pendulum-v1"),
    ] {
        assert!(card.contains(part), "{part}\n{card}");
    }
    let token = [("HF_TOKEN", "hf_secret")];
    machine.succeeds_with(&token, &["hub", "push", "run", ID, "--private"]);
    let published = hub.head(ID, "main");
    let names: Vec<&str> = published.keys().map(String::as_str).collect();
    let expected = [
        "README.md",
        "config.json",
        "config.toml",
        "evaluations.csv",
        "model.safetensors",
        "policy.safetensors",
        "state.toml",
    ];
    assert_eq!(names, expected);
    for name in &expected[1..] {
        assert_eq!(
            published[*name],
            fs::read(machine.path().join("run").join(name)).unwrap(),
            "{name}"
        );
    }
    let other = Machine::new(&hub);
    let url = format!("hf://{ID}");
    assert_eq!(other.returns(&url, &[]), machine.returns("run", &[]));
    let table = other.succeeds(&["compare", &url]);
    assert!(table.contains("return "), "{table}");

    // A branch of its own, and a card of its own.
    fs::write(machine.path().join("run/README.md"), "mine").unwrap();
    machine.succeeds_with(&token, &["hub", "push", "run", ID, "--revision", "v2"]);
    assert_eq!(hub.head(ID, "v2")["README.md"], b"mine");
    assert_ne!(hub.head(ID, "main")["README.md"], b"mine");
}

#[test]
fn what_can_not_be_published_is_said() {
    let hub = Hub::start();
    let machine = Machine::new(&hub);
    let error = machine.fails(&["hub", "push", ".", ID]);
    assert!(error.contains("not a run directory"), "{error}");
    train(&machine);
    for (status, message) in [
        (
            401,
            "set HF_TOKEN to a token of yours, with write permission",
        ),
        (403, "use one with write permission for `someone`"),
    ] {
        hub.set_fault(Fault::Status(status));
        let error = machine.fails(&["hub", "push", "run", ID]);
        assert!(error.contains(message), "{error}");
    }
    hub.set_fault(Fault::None);
    let error = machine.fails_with(&[("HF_HUB_OFFLINE", "1")], &["hub", "push", "run", ID]);
    assert!(error.contains("HF_HUB_OFFLINE is set"), "{error}");
    let file = machine.path().join("run/policy.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    bytes.push(0);
    fs::write(&file, bytes).unwrap();
    let error = machine.fails(&["hub", "push", "run", ID]);
    assert!(
        error.contains("is not the one that state.toml names"),
        "{error}"
    );
}

const NETWORKS: [&str; 2] = ["model.safetensors", "policy.safetensors"];

/// That what is published is what is in the run.
fn check_published(hub: &Hub, machine: &Machine, branch: &str) {
    let published = hub.head(ID, branch);
    for name in NETWORKS.iter().chain(&["config.toml", "state.toml"]) {
        let file = fs::read(machine.path().join("run").join(name)).unwrap();
        assert_eq!(published[*name], file, "{name}");
    }
}

#[test]
fn large_files_are_published_through_git_lfs_whole_or_in_parts() {
    let hub = Hub::start();
    let machine = Machine::new(&hub);
    train(&machine);
    let push = |branch: &str| {
        hub.requests();
        let arguments = ["hub", "push", "run", ID, "--revision", branch];
        machine.succeeds_with(&TOKEN, &arguments);
        check_published(&hub, &machine, branch);
        let requests = hub.requests();
        for request in &requests {
            let is_elsewhere = ["/store/", "/part/"]
                .iter()
                .any(|s| request.path.starts_with(s));
            let expected = (!is_elsewhere).then_some("Bearer hf_secret");
            assert_eq!(request.token.as_deref(), expected, "{request:?}");
        }
        requests
    };
    let requests = push("main");
    assert_eq!(paths(&requests, "PUT", "/store/").len(), NETWORKS.len());
    assert_eq!(paths(&requests, "POST", "/verify").len(), NETWORKS.len());
    // What the Hub has is not sent again, not even to a new branch.
    let requests = push("v2");
    assert!(paths(&requests, "PUT", "").is_empty());
    assert_eq!(paths(&requests, "POST", "/branch/").len(), 1);
    // A branch that is there; and a Hub that wants parts.
    let other = Hub::start();
    other.set_part_bytes(1000);
    let machine = Machine {
        hub: other.clone(),
        ..machine
    };
    machine.succeeds_with(&TOKEN, &["hub", "push", "run", ID]);
    check_published(&other, &machine, "main");
    let requests = other.requests();
    let bytes = fs::read(machine.path().join("run/model.safetensors")).unwrap();
    let parts = paths(&requests, "PUT", &format!("/part/{}/", sha256(&bytes)));
    assert!(
        parts.len() > 2 && parts.len() == bytes.len().div_ceil(1000),
        "{parts:?}"
    );
    assert!(!paths(&requests, "POST", "/complete").is_empty());
    assert!(
        requests
            .iter()
            .all(|r| !r.path.starts_with("/part/") || r.token.is_none())
    );
}

#[test]
fn what_fails_on_the_way_publishes_nothing() {
    let hub = Hub::start();
    let machine = Machine::new(&hub);
    train(&machine);
    let arguments = ["hub", "push", "run", ID];
    let nothing = "was not uploaded, and nothing was published";
    for (fault, words) in [
        (
            Fault::At("/store/", 403),
            "answered 403 (the store says no) for http://localhost:",
        ),
        (Fault::At("/store/", 500), nothing),
        (Fault::At("/verify", 404), nothing),
        (Fault::At("/objects/batch", 404), "not found (404)"),
        (
            Fault::At("/preupload/", 400),
            "answered 400 (the store says no)",
        ),
        (
            Fault::At("/commit/", 409),
            "somebody else changed the repository",
        ),
        (Fault::At("/commit/", 500), "answered 500"),
    ] {
        hub.set_fault(fault);
        let error = machine.fails_with(&TOKEN, &arguments);
        assert!(
            error.contains(words) && !error.contains("secret"),
            "{fault:?}: {error}"
        );
        assert!(hub.head(ID, "main").is_empty(), "{fault:?}");
    }
    // Each was tried again where that can help, but for the commit.
    let asked = hub.requests();
    assert_eq!(paths(&asked, "POST", "/commit/").len(), 2);
    let fresh = Hub::start();
    let machine = Machine {
        hub: fresh.clone(),
        ..machine
    };
    fresh.set_part_bytes(1000);
    fresh.set_fault(Fault::At("/complete", 500));
    let error = machine.fails_with(&TOKEN, &arguments);
    assert!(
        error.contains(nothing) && fresh.head(ID, "main").is_empty(),
        "{error}"
    );

    // A file that changes after its hash was taken.
    fresh.set_fault(Fault::None);
    let file = machine.path().join("run/model.safetensors");
    let whole = fs::read(&file).unwrap();
    let mut other = whole.clone();
    other[100] ^= 1;
    for parts in [1000, 1 << 30] {
        fresh.set_part_bytes(parts);
        for bytes in [other.clone(), whole[..whole.len() / 2].to_vec()] {
            let place = file.clone();
            fresh.on_batch(move || fs::write(place, bytes).unwrap());
            let error = machine.fails_with(&TOKEN, &arguments);
            assert!(
                error.contains("model.safetensors changed while it was uploaded"),
                "{parts}: {error}"
            );
            assert!(fresh.head(ID, "main").is_empty());
            fs::write(&file, &whole).unwrap();
        }
    }
    fresh.set_fault(Fault::Times(503, 3));
    machine.succeeds_with(&TOKEN, &arguments);
    check_published(&fresh, &machine, "main");
    // A token that may write to the repository and not make one.
    fresh.set_fault(Fault::At("/repos/create", 403));
    machine.succeeds_with(&TOKEN, &arguments);
}
