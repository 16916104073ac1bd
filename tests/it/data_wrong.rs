//! `data pull` where a server sends something else, or less, or nothing; and names that are no data set's.

use std::fs;

use crate::data_names::Machine;
use crate::data_pull::{Manners, Server, good};
use crate::hub_server::{Files, Hub};

/// No checksum of it is published.
const SET: &str = "maze2d-umaze-v1";
const PATH: &str = "/datasets/offline_rl/maze2d/maze2d-umaze-sparse-v1.hdf5";
const PLACE: &str = "d4rl/maze2d-umaze-v1.hdf5";

const PAGE: &[u8] = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n";

/// The file, its part and the record of it.
fn nothing_counts(machine: &Machine, errors: &str) {
    for back in ["", ".part", ".part.from", ".fetched.json"] {
        let path = machine.cached(&format!("{PLACE}{back}"));
        assert!(!path.exists(), "{}: {errors}", path.display());
    }
}

#[test]
fn whatever_is_no_data_file_is_named_and_counts_as_nothing() {
    let machine = Machine::new();
    let content = machine.collect("data.hdf5");
    machine.collect("data.npz");
    let other = fs::read(machine.path().join("data.npz")).unwrap();
    let server = Server::start(good(), PAGE);
    let half = content.len() / 2;
    let mut scrambled = content.clone();
    scrambled[..8].copy_from_slice(b"\x00\x01scramb");
    let cases: [(&[u8], &str); 6] = [
        (PAGE, "HTML"),
        (b"", "is empty"),
        (b"{\"error\":\"gone\"}", "gone"),
        (&content[..half], "cut off"),
        (&scrambled, "begins with `\\x00\\x01scramb"),
        (&other[..other.len() / 2], "cut off"),
    ];
    for no_length in [false, true] {
        server.set(Manners {
            no_length,
            ..good()
        });
        for (sent, words) in cases {
            server.put(PATH, sent);
            let errors = machine.fails(&["data", "pull", SET], &server.variables());
            assert!(errors.contains(words), "{words}: {errors}");
            nothing_counts(&machine, &errors);
        }
    }
    // Once the server has it, it comes.
    server.put(PATH, &content);
    machine.succeeds(&["data", "pull", SET], &server.variables());
    assert_eq!(fs::read(machine.cached(PLACE)).unwrap(), content);

    // A page that was taken for the file once is found out, and forgotten.
    fs::write(machine.cached(PLACE), PAGE).unwrap();
    let record = machine.cached(&format!("{PLACE}.fetched.json"));
    let noted = fs::read_to_string(&record).unwrap();
    let sums = [&content[..], PAGE].map(crate::hub_server::sha256);
    fs::write(&record, noted.replace(&sums[0], &sums[1])).unwrap();
    let errors = machine.fails(&["data", "pull", SET], &server.variables());
    assert!(
        errors.contains("HTML") && errors.contains("remove it"),
        "{errors}"
    );
    fs::remove_file(machine.cached(PLACE)).unwrap();
    machine.succeeds(&["data", "pull", SET], &server.variables());
}

#[test]
fn an_archive_of_the_wrong_kind_and_a_page_of_the_hub_are_refused_too() {
    // Published files of OGBench are npz; no reader here opens them, and a page is none.
    let machine = Machine::new();
    machine.collect("data.npz");
    let npz = fs::read(machine.path().join("data.npz")).unwrap();
    let server = Server::start(good(), PAGE);
    let known = machine.succeeds(
        &["data", "list", "antmaze-large-navigate-v0", "--json"],
        &[],
    );
    let known: serde_json::Value = serde_json::from_str(&known).unwrap();
    for address in known[0]["addresses"].as_array().unwrap() {
        let path = address.as_str().unwrap().splitn(4, '/').nth(3).unwrap();
        server.put(&format!("/{path}"), PAGE);
    }
    let pull = ["data", "pull", "antmaze-large-navigate-v0"];
    let errors = machine.fails(&pull, &server.variables());
    assert!(errors.contains("HTML"), "{errors}");
    let cached = machine.cached("ogbench");
    let left: Vec<_> = fs::read_dir(cached).unwrap().flatten().collect();
    assert!(
        left.iter()
            .all(|file| file.file_name().to_string_lossy().ends_with(".lock")),
        "{left:?}"
    );

    // The Hub's files, one of them cut off.
    let hub = Hub::start();
    let endpoint = [("HF_ENDPOINT", hub.endpoint.as_str())];
    for (name, sent) in [("page", PAGE), ("cut", &npz[..npz.len() - 30])] {
        let files = Files::from([("train.npz".to_owned(), sent.to_vec())]);
        hub.commit(&format!("datasets/someone/{name}"), "main", files);
        let address = format!("hf://datasets/someone/{name}");
        let errors = machine.fails(&["data", "pull", &address], &endpoint);
        assert!(errors.contains("train.npz: what came"), "{errors}");
        assert!(
            !machine.cached(&format!("hub/someone/{name}")).exists(),
            "{errors}"
        );
    }
}

#[test]
fn a_server_that_ends_early_or_says_nothing_is_given_up_and_can_be_gone_on_from() {
    let machine = Machine::new();
    let content = machine.collect("data.hdf5");
    let patience = ("HF_HUB_DOWNLOAD_TIMEOUT", "1");
    // A byte at a time, for ever; a piece and then silence; the same piece again and again.
    let ends = |piece, parts| Manners {
        breaks_after: Some(piece),
        parts,
        ..good()
    };
    let hangs = |piece, parts| Manners {
        hangs: true,
        ..ends(piece, parts)
    };
    let cases = [
        (ends(1, true), "broke"),
        (ends(0, true), "broke"),
        (ends(3000, false), "broke"),
        (hangs(0, true), "does not answer in time"),
        (hangs(3000, false), "does not answer in time"),
    ];
    for (manners, words) in cases {
        let shown = format!("{manners:?}");
        let comes = manners.breaks_after > Some(0);
        let server = Server::start(manners, &content);
        let variables = [server.variables()[0], patience];
        let errors = machine.fails(&["data", "pull", SET], &variables);
        let tries = server.asked().len();
        assert!(tries <= 6, "{tries} tries: {shown}");
        assert!(errors.contains(words), "{shown}: {errors}");
        assert!(
            errors.contains("run the same command again"),
            "{shown}: {errors}"
        );
        assert!(!machine.cached(PLACE).exists(), "{shown}");
        // What came stays; nothing that is empty does.
        let part = machine.cached(&format!("{PLACE}.part"));
        assert_eq!(part.exists(), comes, "{shown}");
        let _ = fs::remove_file(part);
    }
    // What came is gone on from.
    let first = Manners {
        dies_after: Some(1),
        ..hangs(3000, true)
    };
    let server = Server::start(first, &content);
    machine.fails(&["data", "pull", SET], &[server.variables()[0], patience]);
    server.set(good());
    server.asked();
    machine.succeeds(&["data", "pull", SET], &server.variables());
    let range = server.asked()[0].headers.get("range").cloned();
    assert_eq!(range.as_deref(), Some("bytes=3000-"));
    assert_eq!(fs::read(machine.cached(PLACE)).unwrap(), content);
}

#[test]
fn names_that_are_no_data_sets_are_answered_with_those_that_are() {
    let machine = Machine::new();
    let errors = machine.fails(&["data", "pull", "antmaze"], &[]);
    assert!(
        errors.contains("`antmaze-umaze-v") && errors.contains(" more"),
        "{errors}"
    );
    let errors = machine.fails(&["data", "pull", "medium-expert"], &[]);
    assert!(errors.contains("hopper-medium-expert"), "{errors}");
    for empty in ["", "  "] {
        let errors = machine.fails(&["data", "pull", empty], &[]);
        assert!(errors.contains("name of a data set is empty"), "{errors}");
    }
    let errors = machine.fails(&["data", "pull", "qqqq"], &[]);
    assert!(errors.contains("`trajformer data list`"), "{errors}");

    // A file in a folder's place.
    let file = machine.path().join("a-file");
    fs::write(&file, b"mine").unwrap();
    for to in ["a-file", "a-file/below"] {
        let errors = machine.fails(&["data", "pull", SET, "--to", to], &[]);
        assert!(
            errors.contains("a-file: is a file") && errors.contains("name a folder"),
            "{errors}"
        );
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}
