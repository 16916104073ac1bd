//! The network around `hub pull`: where files lie, tokens, interruptions, odd answers, proxies.

use std::fs;
use std::path::PathBuf;

use crate::hub::{ID, Machine, TOKEN, paths, whole};
use crate::hub_server::{Fault, Hub, sha256};

const WEIGHTS: &str = "model.safetensors";

#[test]
fn large_files_come_from_where_they_lie_and_the_token_stays_with_the_hub() {
    let hub = Hub::start();
    let commit = hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    machine.succeeds_with(&TOKEN, &["hub", "pull", ID]);
    let requests = hub.requests();
    assert_eq!(paths(&requests, "GET", "/store/").len(), 1);
    for request in &requests {
        let expected = (!request.path.starts_with("/store/")).then_some("Bearer hf_secret");
        assert_eq!(request.token.as_deref(), expected, "{request:?}");
    }
    // The layout that Hub libraries share: content by its hash, and links to it.
    let blob = machine.blob(&sha256(&whole()[WEIGHTS]));
    assert_eq!(fs::read(&blob).unwrap(), whole()[WEIGHTS]);
    let link = blob.parent().unwrap().with_file_name("snapshots");
    let link = link.join(&commit).join(WEIGHTS);
    assert_eq!(link.canonicalize().unwrap(), blob.canonicalize().unwrap());
    assert!(fs::read_link(link).unwrap().starts_with("../../blobs"));

    // The same content in another commit, in a folder too, is there already; an empty file is one as well.
    let mut files = whole();
    files.insert("README.md".into(), Vec::new());
    files.insert("1_Pooling/config.json".into(), b"{}".to_vec());
    hub.commit(ID, "main", files);
    let pulled = machine.pull();
    assert!(paths(&hub.requests(), "GET", "/store/").is_empty());
    let folder = PathBuf::from(pulled["folder"].as_str().unwrap());
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), whole()[WEIGHTS]);
    assert_eq!(fs::read(folder.join("README.md")).unwrap(), b"");
    assert_eq!(
        fs::read(folder.join("1_Pooling/config.json")).unwrap(),
        b"{}"
    );
}

#[test]
fn an_interrupted_download_goes_on_where_it_was_and_gives_no_wrong_file() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let expected = &whole()[WEIGHTS];
    let starts = |hub: &Hub| -> Vec<Option<String>> {
        let requests = hub.requests().into_iter();
        let store = requests.filter(|request| request.path.starts_with("/store/"));
        store.map(|request| request.range).collect()
    };
    let interrupted = || {
        let machine = Machine::new(&hub);
        hub.set_fault(Fault::Breaks(WEIGHTS));
        machine.fails(&["hub", "pull", ID]);
        hub.set_fault(Fault::None);
        let part = machine.blob(&format!("{}.part", sha256(expected)));
        let size = fs::metadata(&part).unwrap().len();
        // Each of four tries went on from the one before, and got half of the rest.
        let tries = starts(&hub);
        assert_eq!(tries.len(), 4, "{tries:?}");
        assert_eq!(tries[..2], [None, Some("bytes=17950-".to_owned())]);
        assert!(size > 33_000, "{size}");
        (machine, part, size)
    };
    let fetched = |machine: &Machine| {
        let pulled = machine.pull();
        let folder = PathBuf::from(pulled["folder"].as_str().unwrap());
        assert_eq!(&fs::read(folder.join(WEIGHTS)).unwrap(), expected);
    };

    let (machine, part, size) = interrupted();
    fetched(&machine);
    assert_eq!(starts(&hub), [Some(format!("bytes={size}-"))]);
    assert!(!part.exists());

    // What is there is not what the server has.
    let (machine, part, _) = interrupted();
    let mut bytes = fs::read(&part).unwrap();
    bytes[100] ^= 1;
    fs::write(&part, bytes).unwrap();
    let error = machine.fails(&["hub", "pull", ID]);
    assert!(
        error.contains("another SHA-256") && error.contains("it is removed"),
        "{error}"
    );
    assert!(!part.exists());
    hub.requests();
    fetched(&machine);
    assert_eq!(starts(&hub), [None]);

    // It is all there, or too much.
    for (more, asked) in [(&b""[..], 0), (b"x", 1)] {
        let (machine, part, _) = interrupted();
        fs::write(&part, [expected, more].concat()).unwrap();
        fetched(&machine);
        assert_eq!(starts(&hub), vec![None; asked]);
    }

    // The server does not know of ranges.
    let (machine, ..) = interrupted();
    hub.set_fault(Fault::IgnoresRanges);
    fetched(&machine);
}

#[test]
fn processes_that_fetch_the_same_model_at_once_all_get_it() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let pulled = machine.pull();
                let folder = PathBuf::from(pulled["folder"].as_str().unwrap());
                assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), whole()[WEIGHTS]);
            });
        }
    });
    // Those that waited for the first found it there.
    let asked = paths(&hub.requests(), "GET", "/store/");
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_one_that_is_silent_given_up() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    hub.set_fault(Fault::Times(503, 3));
    machine.pull();
    let machine = Machine::new(&hub);
    hub.set_fault(Fault::Times(500, 9));
    let error = machine.fails(&["hub", "pull", ID]);
    assert!(error.contains("answered 500 (not now)"), "{error}");
    hub.set_fault(Fault::Times(429, 9));
    let error = machine.fails(&["hub", "pull", ID]);
    assert!(
        error.contains("asked too often (429): wait a few minutes"),
        "{error}"
    );

    hub.set_fault(Fault::Silent);
    hub.requests();
    let short = [("HF_HUB_DOWNLOAD_TIMEOUT", "1")];
    let error = machine.fails_with(&short, &["hub", "pull", ID]);
    let message = format!(
        "{} can't be reached (it does not answer in time)",
        hub.endpoint
    );
    assert!(error.contains(&message), "{error}");
    assert_eq!(hub.requests().len(), 4);
}

#[test]
fn answers_that_no_hub_gives_are_named_and_lead_nowhere() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    let outside = machine.path().join("evil");
    let absolute: &'static str = format!("\"{}\"", outside.display()).leak();
    for (fault, words) in [
        (Fault::Redirect(""), "leads to ``"),
        (Fault::Redirect("config.json"), "leads to `config.json`"),
        (Fault::Redirect("ftp://a/b"), "leads to `ftp://a/b`"),
        (Fault::Redirect("http://:0/%"), "leads to `http://:0/%`"),
        (Fault::Tag("\"../../../../evil\""), "an ETag `"),
        (Fault::Tag(absolute), "an ETag `"),
        (Fault::Tag("\"\""), "an ETag `"),
        (
            Fault::Bytes("SSH-2.0-OpenSSH\r\n\r\n"),
            "does not answer as a Hub does",
        ),
        (
            Fault::Bytes("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
            "does not answer",
        ),
        (
            Fault::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"),
            "does not answer",
        ),
        (
            Fault::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
            "missing field",
        ),
        (
            Fault::Bytes("HTTP/1.1 200 OK\r\n\r\n{\"sha\":\"../../x\",\"siblings\":[]}"),
            "`../../x` as a commit",
        ),
        (
            Fault::Bytes("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
            "leads to ``",
        ),
        (
            Fault::Bytes("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
            "leads on and on",
        ),
    ] {
        hub.set_fault(fault);
        let error = machine.fails_with(&TOKEN, &["hub", "pull", ID]);
        assert!(error.contains(words), "{fault:?}: {error}");
        assert!(!error.contains("hf_secret"), "{error}");
    }
    assert!(
        !outside.exists()
            && !machine
                .cache()
                .join("models--someone--pendulum-dt/refs")
                .exists()
    );
    for odd in ["not an address", "ftp://127.0.0.1", "http://"] {
        machine.fails_with(&[("HF_ENDPOINT", odd)], &["hub", "pull", ID]);
    }
}

#[test]
fn a_store_that_refuses_is_named_without_what_signs_its_addresses() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    for status in [403, 404] {
        hub.set_fault(Fault::At("/store/", status));
        let error = machine.fails(&["hub", "pull", ID]);
        let words = format!("answered {status} (the store says no) for http://localhost:");
        assert!(
            error.contains(&words) && !error.contains("secret"),
            "{error}"
        );
    }
}

#[test]
fn the_token_is_found_where_hub_users_keep_it() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    let sent = |variables: &[(&str, &str)]| {
        hub.requests();
        machine.succeeds_with(variables, &["hub", "pull", ID]);
        hub.requests().swap_remove(0).token
    };
    assert_eq!(sent(&[]), None);
    let file = machine.path().join("home/token");
    fs::write(&file, "hf_file\n").unwrap();
    assert_eq!(sent(&[]).as_deref(), Some("Bearer hf_file"));
    assert_eq!(sent(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    let other = machine.path().join("other");
    fs::write(&other, "hf_other").unwrap();
    let path = ("HF_TOKEN_PATH", other.to_str().unwrap());
    assert_eq!(sent(&[path]).as_deref(), Some("Bearer hf_other"));
    let old = ("HUGGING_FACE_HUB_TOKEN", "hf_old");
    assert_eq!(sent(&[path, old]).as_deref(), Some("Bearer hf_old"));
    let variables = [path, old, TOKEN[0]];
    assert_eq!(sent(&variables).as_deref(), Some("Bearer hf_secret"));

    hub.set_fault(Fault::Status(401));
    let error = machine.fails(&["hub", "pull", ID]);
    let words = format!("the token in {} is not valid there", file.display());
    assert!(
        error.contains(&words) && !error.contains("hf_file"),
        "{error}"
    );
    let error = machine.fails_with(&[("HF_TOKEN", "hf secret")], &["hub", "pull", ID]);
    assert!(
        error.contains("HF_TOKEN has characters that no token has") && !error.contains("hf secret"),
        "{error}"
    );
}

#[test]
fn the_token_is_in_no_log() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    let token = "s".repeat(64);
    let variables = [("HF_TOKEN", token.as_str()), ("TRAJFORMER_LOG", "trace")];
    let found = machine.command(&["hub", "pull", ID], &variables);
    let log = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success() && log.contains("GET"), "{log}");
    assert!(!log.contains(&token[..16]), "the token is in the log");
}

#[test]
fn proxies_of_the_environment_are_used() {
    let hub = Hub::start();
    hub.commit(ID, "main", whole());
    let machine = Machine::new(&hub);
    let variables = [
        ("HF_ENDPOINT", "http://hub.invalid"),
        ("ALL_PROXY", hub.endpoint.as_str()),
    ];
    machine.succeeds_with(&variables, &["hub", "pull", ID]);
    let asked = paths(&hub.requests(), "CONNECT", "hub.invalid:80");
    assert!(!asked.is_empty());
    // And certificates.
    fs::write(machine.path().join("ca.pem"), "none").unwrap();
    for (file, words) in [
        ("ca.pem", "it has no certificates"),
        ("gone.pem", "No such file"),
    ] {
        let error = machine.fails_with(&[("SSL_CERT_FILE", file)], &["hub", "pull", ID]);
        assert!(error.contains(file) && error.contains(words), "{error}");
    }
}
