//! `data pull` against servers on the loopback device: whole, in pieces, changed, damaged, elsewhere, not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::data_names::Machine;
use crate::hub_server::{Fault, Files, Hub, sha256};

const SET: &str = "maze2d-umaze-v1";
const PATH: &str = "/datasets/offline_rl/maze2d/maze2d-umaze-sparse-v1.hdf5";
const PLACE: &str = "d4rl/maze2d-umaze-v1.hdf5";

/// How the server answers.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// The ETag; none if it is empty.
    pub tag: &'static str,
    /// Whether it knows `Range`.
    pub parts: bool,
    /// Whether it knows `If-Range`.
    pub conditions: bool,
    /// After so many bytes of a body the connection ends.
    pub breaks_after: Option<usize>,
    /// After so many requests it says 503 to all others.
    pub dies_after: Option<usize>,
    /// Nothing but this status.
    pub status: Option<u16>,
    /// Where it leads instead.
    pub elsewhere: Option<String>,
    /// Keeps the connection open where it would end.
    pub hangs: bool,
    /// Says nothing of the length.
    pub no_length: bool,
}

#[derive(Debug, Clone)]
pub struct Asked {
    path: String,
    pub headers: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    manners: Manners,
    asked: Vec<Asked>,
}

/// A server of files; it answers until the process ends.
#[derive(Clone)]
pub struct Server {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start(manners: Manners, content: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            files: BTreeMap::from([(PATH.to_owned(), content.to_vec())]),
            manners,
            asked: Vec::new(),
        };
        let server = Self {
            endpoint,
            state: Arc::new(Mutex::new(state)),
        };
        let shared = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = shared.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    pub fn variables(&self) -> [(&str, &str); 1] {
        [("TRAJFORMER_DATA_MIRROR", &self.endpoint)]
    }

    pub fn set(&self, manners: Manners) {
        self.state.lock().unwrap().manners = manners;
    }

    pub fn put(&self, path: &str, content: &[u8]) {
        self.state
            .lock()
            .unwrap()
            .files
            .insert(path.to_owned(), content.to_vec());
    }

    /// The requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut lines = Vec::new();
        for line in BufReader::new(stream.try_clone().unwrap()).lines() {
            match line {
                Ok(line) if !line.is_empty() => lines.push(line),
                _ => break,
            }
        }
        let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)) else {
            return;
        };
        let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let asked = Asked {
            path: path.to_owned(),
            headers: headers.collect(),
        };
        let mut state = self.state.lock().unwrap();
        state.asked.push(asked.clone());
        let manners = state.manners.clone();
        let content = state.files.get(path).cloned();
        let count = state.asked.len();
        drop(state);
        // A client that has gone is not this server's trouble.
        let _ = stream.write_all(&answer(&manners, &asked, content, count));
        if manners.hangs {
            // Until the client has gone.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    }
}

fn answer(manners: &Manners, asked: &Asked, content: Option<Vec<u8>>, count: usize) -> Vec<u8> {
    let dead = manners.dies_after.is_some_and(|most| count > most);
    let plain = |status: u16, head: &str| {
        format!("HTTP/1.1 {status} Answer\r\nConnection: close\r\n{head}Content-Length: 0\r\n\r\n")
            .into_bytes()
    };
    match (manners.status, &manners.elsewhere, content) {
        _ if dead => plain(503, ""),
        (Some(status), ..) => plain(status, ""),
        (None, Some(target), _) => plain(302, &format!("Location: {target}\r\n")),
        (None, None, None) => plain(404, ""),
        (None, None, Some(content)) => {
            let start = asked
                .headers
                .get("range")
                .filter(|_| manners.parts)
                .map(|range| {
                    let start = range.strip_prefix("bytes=").unwrap().trim_end_matches('-');
                    start.parse::<usize>().unwrap()
                });
            let same = |condition: &String| !manners.conditions || condition == manners.tag;
            let start = start.filter(|_| asked.headers.get("if-range").is_none_or(same));
            let (head, body) = match start {
                Some(start) if start >= content.len() => return plain(416, ""),
                Some(start) => {
                    let whole = content.len();
                    let range = format!("Content-Range: bytes {start}-{}/{whole}\r\n", whole - 1);
                    (format!("HTTP/1.1 206 Part\r\n{range}"), &content[start..])
                }
                None => ("HTTP/1.1 200 Whole\r\n".to_owned(), &content[..]),
            };
            let tag = match manners.tag {
                "" => String::new(),
                tag => format!("ETag: {tag}\r\n"),
            };
            let length = if manners.no_length {
                String::new()
            } else {
                format!("Content-Length: {}\r\n", body.len())
            };
            let mut bytes = format!("{head}{tag}{length}Connection: close\r\n\r\n").into_bytes();
            let sent = manners.breaks_after.unwrap_or(body.len()).min(body.len());
            bytes.extend_from_slice(&body[..sent]);
            bytes
        }
    }
}

pub fn good() -> Manners {
    Manners {
        tag: "\"one\"",
        parts: true,
        conditions: true,
        ..Manners::default()
    }
}

/// Manners of a server that sends a piece and then is gone.
fn dying(piece: usize) -> Manners {
    Manners {
        breaks_after: Some(piece),
        dies_after: Some(1),
        ..good()
    }
}

/// A machine that has a piece of `content`, and the server that it came from.
fn interrupted(machine: &Machine, content: &[u8], piece: usize) -> Server {
    let server = Server::start(dying(piece), content);
    let errors = machine.fails(&["data", "pull", SET], &server.variables());
    assert!(errors.contains("503"), "{errors}");
    let part = machine.cached(&format!("{PLACE}.part"));
    assert_eq!(fs::read(part).unwrap(), content[..piece]);
    assert!(!machine.cached(PLACE).exists());
    server.asked();
    server
}

/// Pulls, and checks what is there then; the ranges that were asked for.
fn pulled(machine: &Machine, server: &Server, content: &[u8]) -> Vec<Option<String>> {
    server.asked();
    machine.succeeds(&["data", "pull", SET], &server.variables());
    assert_eq!(fs::read(machine.cached(PLACE)).unwrap(), content);
    let inside = fs::read_dir(machine.cached("d4rl")).unwrap();
    let mut names: Vec<String> = inside
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // Nothing is left beside it but the record.
    assert_eq!(
        names,
        ["maze2d-umaze-v1.hdf5", "maze2d-umaze-v1.hdf5.fetched.json"]
    );
    server
        .asked()
        .iter()
        .map(|asked| asked.headers.get("range").cloned())
        .collect()
}

#[test]
fn a_data_set_comes_whole_opens_and_is_used_by_its_name() {
    let machine = Machine::new();
    let content = machine.collect("data.hdf5");
    let server = Server::start(good(), &content);
    let token = [("HF_TOKEN", "hf_secret"), server.variables()[0]];
    let printed = machine.succeeds(&["data", "pull", SET], &token);
    assert!(printed.contains(&sha256(&content)), "{printed}");
    assert!(printed.contains("600"), "its steps are shown: {printed}");
    assert!(
        printed.contains("--set data.path=maze2d-umaze-v1"),
        "{printed}"
    );
    assert_eq!(fs::read(machine.cached(PLACE)).unwrap(), content);
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, PATH);
    assert!(
        !asked[0].headers.contains_key("authorization"),
        "the token is the Hub's"
    );
    machine.succeeds(&["data", "info", SET], &[]);

    // Once more: nothing is asked for, the content is compared.
    let printed = machine.succeeds(&["data", "pull", SET, "--json"], &server.variables());
    let found: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&found["is_new"], &found["checked"]),
        (&Value::Bool(false), &"as_before".into())
    );
    assert!(server.asked().is_empty());
    let mut damaged = content.clone();
    damaged[100] ^= 1;
    fs::write(machine.cached(PLACE), &damaged).unwrap();
    let errors = machine.fails(&["data", "pull", SET], &server.variables());
    assert!(
        errors.contains(&sha256(&content)) && errors.contains(&sha256(&damaged)),
        "{errors}"
    );
    assert_eq!(
        fs::read(machine.cached(PLACE)).unwrap(),
        damaged,
        "it is the user's to remove"
    );

    // Into a folder of the user's.
    let printed = machine.succeeds(&["data", "pull", SET, "--to", "mine"], &server.variables());
    assert!(
        printed.contains("--set data.path=mine/maze2d-umaze-v1.hdf5"),
        "{printed}"
    );
    assert_eq!(
        fs::read(machine.path().join("mine/maze2d-umaze-v1.hdf5")).unwrap(),
        content
    );
}

#[test]
fn what_was_interrupted_goes_on_if_the_server_still_has_the_same() {
    let machine = Machine::new();
    let content = machine.collect("data.hdf5");
    let server = interrupted(&machine, &content, 5000);
    server.set(good());
    assert_eq!(
        pulled(&machine, &server, &content),
        [Some("bytes=5000-".to_owned())]
    );

    // A connection that ends early, again and again, costs requests and nothing else.
    let machine = Machine::new();
    let server = Server::start(
        Manners {
            breaks_after: Some(content.len() / 6),
            ..good()
        },
        &content,
    );
    let ranges = pulled(&machine, &server, &content);
    assert!(ranges.len() > 5, "{ranges:?}");

    // Servers without parts, and without a name for their content, start anew.
    for manners in [
        Manners {
            parts: false,
            ..good()
        },
        Manners { tag: "", ..good() },
    ] {
        let machine = Machine::new();
        let first = Manners {
            breaks_after: Some(5000),
            dies_after: Some(1),
            ..manners.clone()
        };
        let server = Server::start(first, &content);
        machine.fails(&["data", "pull", SET], &server.variables());
        server.set(manners);
        pulled(&machine, &server, &content);
    }
}

#[test]
fn content_that_changed_in_between_is_never_mixed() {
    let other = {
        let machine = Machine::new();
        machine.collect("first.hdf5");
        let arguments = [
            "data",
            "collect",
            "--env",
            "pendulum-v1",
            "--policy",
            "zero",
            "--steps",
            "900",
            "other.hdf5",
        ];
        machine.succeeds(&arguments, &[]);
        fs::read(machine.path().join("other.hdf5")).unwrap()
    };
    // With If-Range, and on a server that does not know it.
    for conditions in [true, false] {
        let machine = Machine::new();
        let content = machine.collect("data.hdf5");
        let server = interrupted(&machine, &content, 5000);
        server.put(PATH, &other);
        server.set(Manners {
            tag: "\"two\"",
            conditions,
            ..good()
        });
        let ranges = pulled(&machine, &server, &other);
        assert_eq!(ranges[0].as_deref(), Some("bytes=5000-"));
    }
}

#[test]
fn wrong_content_is_refused_and_never_stands_under_the_name() {
    let machine = Machine::new();
    let content = machine.collect("data.hdf5");
    // Published size and checksum.
    let server = Server::start(good(), &content);
    let path = "/datasets/offline_rl/gym_mujoco_v2/hopper_medium-v2.hdf5";
    server.put(path, &content);
    let place = machine.cached("d4rl/hopper-medium-v2.hdf5");
    for no_length in [false, true] {
        server.set(Manners {
            no_length,
            ..good()
        });
        let errors = machine.fails(&["data", "pull", "hopper-medium-v2"], &server.variables());
        assert!(errors.contains("152756557"), "{errors}");
        assert!(!place.exists(), "{errors}");
    }
    // A page in place of the file is called one, though its size says already that it is another file, and nothing of it stays.
    server.put(path, b"<!DOCTYPE html><html><title>Sign in</title></html>");
    for no_length in [false, true] {
        server.set(Manners {
            no_length,
            ..good()
        });
        let errors = machine.fails(&["data", "pull", "hopper-medium-v2"], &server.variables());
        for words in ["152756557", "HTML", "hopper_medium-v2.hdf5"] {
            assert!(errors.contains(words), "{words}: {errors}");
        }
        let left = place.with_file_name("hopper-medium-v2.hdf5.part");
        assert!(!place.exists() && !left.exists(), "{errors}");
        assert!(!left.with_extension("part.from").exists(), "{errors}");
    }
    server.put(path, &content);
    fs::write(&place, &content).unwrap();
    let errors = machine.fails(&["data", "pull", "hopper-medium-v2"], &server.variables());
    assert!(
        errors.contains("5bdf1bc4a713c829") && errors.contains(&sha256(&content)),
        "{errors}"
    );

    // A checksum that was noted when it first came.
    server.set(good());
    machine.succeeds(&["data", "pull", SET], &server.variables());
    fs::remove_file(machine.cached(PLACE)).unwrap();
    let mut damaged = content.clone();
    damaged[100] ^= 1;
    server.put(PATH, &damaged);
    let errors = machine.fails(&["data", "pull", SET], &server.variables());
    assert!(
        errors.contains(&sha256(&content)) && errors.contains(&sha256(&damaged)),
        "{errors}"
    );
    assert!(!machine.cached(PLACE).exists() && !machine.cached(&format!("{PLACE}.part")).exists());
    server.put(PATH, &content);
    machine.succeeds(&["data", "pull", SET], &server.variables());
}

#[test]
fn what_is_not_there_or_not_reached_is_explained() {
    let machine = Machine::new();
    let content = machine.collect("data.hdf5");
    let server = Server::start(
        Manners {
            status: Some(404),
            ..good()
        },
        &content,
    );
    let errors = machine.fails(&["data", "pull", SET], &server.variables());
    assert!(errors.contains("404") && errors.contains(PATH), "{errors}");
    assert!(
        errors.contains(&machine.cached(PLACE).display().to_string()),
        "{errors}"
    );
    // Nothing has come, and nothing stays.
    assert!(!machine.cached(&format!("{PLACE}.part")).exists());

    // Nothing answers: which address, and what to do by hand, which then works.
    let errors = machine.fails(&["data", "pull", SET], &[]);
    assert!(
        errors.contains(&format!("http://127.0.0.1:9{PATH}")),
        "{errors}"
    );
    assert!(
        errors.contains("can't be reached") && errors.contains("HTTPS_PROXY"),
        "{errors}"
    );
    assert!(
        errors.contains(&machine.cached(PLACE).display().to_string()),
        "{errors}"
    );
    fs::write(machine.cached(PLACE), &content).unwrap();
    let printed = machine.succeeds(&["data", "pull", SET], &[]);
    assert!(printed.contains("there already"), "{printed}");

    // In a circle, and to nowhere.
    let machine = Machine::new();
    for target in [format!("{}{PATH}", server.endpoint), "nowhere".to_owned()] {
        server.set(Manners {
            elsewhere: Some(target),
            ..good()
        });
        let errors = machine.fails(&["data", "pull", SET], &server.variables());
        assert!(errors.contains("leads"), "{errors}");
    }
    // To another server, which sees no token.
    let other = Server::start(good(), &content);
    other.put("/moved.hdf5", &content);
    server.set(Manners {
        elsewhere: Some(format!("{}/moved.hdf5", other.endpoint)),
        ..good()
    });
    let token = [
        ("HF_TOKEN", "hf_secret"),
        server.variables()[0],
        ("HF_ENDPOINT", &server.endpoint),
    ];
    machine.succeeds(&["data", "pull", SET], &token);
    for asked in server.asked().iter().chain(&other.asked()) {
        assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
    }
}

#[test]
fn a_place_that_cant_be_written_to_is_named() {
    let machine = Machine::new();
    let content = machine.collect("data.hdf5");
    let server = Server::start(good(), &content);
    fs::write(machine.path().join("a-file"), b"mine").unwrap();
    let errors = machine.fails(
        &["data", "pull", SET, "--to", "a-file"],
        &server.variables(),
    );
    assert!(errors.contains("a-file"), "{errors}");
    assert_eq!(fs::read(machine.path().join("a-file")).unwrap(), b"mine");
    // A full disk: what is written into the part goes nowhere.
    #[cfg(target_os = "linux")]
    {
        let folder = machine.path().join("full");
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.join("maze2d-umaze-v1.hdf5.part")).unwrap();
        let errors = machine.fails(&["data", "pull", SET, "--to", "full"], &server.variables());
        assert!(errors.contains("maze2d-umaze-v1.hdf5.part"), "{errors}");
        assert!(!folder.join("maze2d-umaze-v1.hdf5").exists());
    }
}

#[test]
fn two_at_the_same_time_give_one_whole_file() {
    let machine = Machine::new();
    let content = machine.collect("data.hdf5");
    let server = Server::start(
        Manners {
            breaks_after: Some(content.len() / 4),
            ..good()
        },
        &content,
    );
    let start = || {
        let mut command = machine.command(&["data", "pull", SET], &server.variables());
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let both = [start(), start()];
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(fs::read(machine.cached(PLACE)).unwrap(), content);
    let whole = server
        .asked()
        .iter()
        .filter(|asked| !asked.headers.contains_key("range"))
        .count();
    assert_eq!(whole, 1, "one of them fetched it");
}

/// A repository of Minari's on the Hub, with a data set in `storage`.
fn minari(machine: &Machine, storage: &str) -> (Hub, Files) {
    machine.collect("first.hdf5");
    machine.succeeds(&["data", "convert", "first.hdf5", "medium-v0"], &[]);
    let read = |name: &str| fs::read(machine.path().join("medium-v0/data").join(name)).unwrap();
    let metadata = String::from_utf8(read("metadata.json")).unwrap();
    let mut metadata: Value = serde_json::from_str(&metadata).unwrap();
    metadata["data_format"] = storage.into();
    let mut files = Files::new();
    files.insert("namespace_metadata.json".into(), b"{}".to_vec());
    files.insert(
        "hopper/medium-v0/data/metadata.json".into(),
        metadata.to_string().into_bytes(),
    );
    files.insert(
        "hopper/medium-v0/data/main_data.hdf5".into(),
        read("main_data.hdf5"),
    );
    files.insert("hopper/expert-v0/data/metadata.json".into(), b"{}".to_vec());
    let hub = Hub::start();
    hub.commit("datasets/farama-minari/mujoco", "main", files.clone());
    (hub, files)
}

#[test]
fn minaris_data_sets_come_from_the_hub_as_folders() {
    const NAME: &str = "mujoco/hopper/medium-v0";
    let machine = Machine::new();
    let (hub, files) = minari(&machine, "hdf5");
    let endpoint = [("HF_ENDPOINT", hub.endpoint.as_str())];
    // Interrupted: nothing stands under the name.
    hub.set_fault(Fault::At("main_data.hdf5", 503));
    let errors = machine.fails(&["data", "pull", NAME], &endpoint);
    assert!(errors.contains("503"), "{errors}");
    assert!(!machine.cached("minari/mujoco/hopper/medium-v0").exists());
    let errors = machine.fails(&["data", "info", NAME], &endpoint);
    assert!(errors.contains("data pull"), "{errors}");

    hub.set_fault(Fault::None);
    let token = [endpoint[0], ("HF_TOKEN", "hf_secret")];
    let printed = machine.succeeds(&["data", "pull", NAME], &token);
    assert!(
        printed.contains("--set data.path=mujoco/hopper/medium-v0"),
        "{printed}"
    );
    let place = machine.cached("minari/mujoco/hopper/medium-v0");
    let main = files["hopper/medium-v0/data/main_data.hdf5"].clone();
    assert_eq!(fs::read(place.join("data/main_data.hdf5")).unwrap(), main);
    assert!(!place.join("../expert-v0").exists());
    machine.succeeds(&["data", "info", NAME], &[]);
    hub.requests();
    machine.succeeds(&["data", "pull", NAME], &endpoint);
    assert!(
        hub.requests().is_empty(),
        "what is there is not asked for again"
    );
    fs::write(place.join("data/main_data.hdf5"), b"damaged").unwrap();
    let errors = machine.fails(&["data", "pull", NAME], &endpoint);
    assert!(errors.contains(&sha256(&main)), "{errors}");

    // The same by its address, and what can't be read.
    let address = format!("hf://datasets/farama-minari/{NAME}");
    let printed = machine.succeeds(&["data", "pull", &address], &endpoint);
    assert!(printed.contains(&address), "{printed}");
    machine.succeeds(&["data", "info", &address], &[]);
    let machine = Machine::new();
    let (hub, _) = minari(&machine, "parquet");
    let endpoint = [("HF_ENDPOINT", hub.endpoint.as_str())];
    let errors = machine.fails(&["data", "pull", NAME], &endpoint);
    assert!(errors.contains("parquet"), "{errors}");
    let errors = machine.fails(&["data", "pull", "mujoco/hopper/simple-v0"], &endpoint);
    assert!(
        errors.contains("hopper/medium-v0"),
        "it says which there are: {errors}"
    );
}

#[test]
fn other_data_sets_of_the_hub_come_by_their_address() {
    let machine = Machine::new();
    machine.collect("data.npz");
    let content = fs::read(machine.path().join("data.npz")).unwrap();
    let hub = Hub::start();
    let mut files = Files::new();
    files.insert("README.md".into(), b"# mine".to_vec());
    files.insert("train.npz".into(), content.clone());
    hub.commit("datasets/someone/pendulum", "main", files.clone());
    files.insert("test.npz".into(), content.clone());
    hub.commit("datasets/someone/pendulum", "two", files);
    hub.commit(
        "datasets/someone/robots",
        "main",
        Files::from([("data/a.parquet".to_owned(), vec![1])]),
    );
    let endpoint = [("HF_ENDPOINT", hub.endpoint.as_str())];
    let name = "hf://datasets/someone/pendulum";
    let printed = machine.succeeds(&["data", "pull", name], &endpoint);
    assert!(
        printed.contains(&format!("--set data.path={name}")),
        "{printed}"
    );
    machine.succeeds(&["data", "info", name], &[]);
    // Two files: each is named.
    let printed = machine.succeeds(
        &["data", "pull", "hf://datasets/someone/pendulum@two"],
        &endpoint,
    );
    assert!(
        printed.contains("train.npz") && printed.contains("test.npz"),
        "{printed}"
    );
    let errors = machine.fails(&["data", "info", "hf://datasets/someone/pendulum@two"], &[]);
    assert!(
        errors.contains("name one of them") && errors.contains("test.npz"),
        "{errors}"
    );
    let errors = machine.fails(&["data", "pull", "hf://datasets/someone/robots"], &endpoint);
    assert!(errors.contains("parquet"), "{errors}");
    let errors = machine.fails(
        &["data", "pull", "hf://datasets/someone/nothing"],
        &endpoint,
    );
    assert!(errors.contains("404"), "{errors}");
    let offline = [endpoint[0], ("HF_HUB_OFFLINE", "1")];
    let errors = machine.fails(&["data", "pull", "hf://datasets/someone/other"], &offline);
    assert!(errors.contains("HF_HUB_OFFLINE"), "{errors}");
}
