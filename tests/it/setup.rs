//! `trajformer setup mujoco` against a package index on the loopback device and wheels on disk, and what is said where MuJoCo is missing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[cfg(feature = "hub")]
use serde_json::Value;

/// Projects and the beginnings of their wheels' names, with what is in them by the place where it is installed.
const MODELS: &str = "gymnasium/envs/mujoco/assets";
const VERSION_4: [&str; 4] = ["hopper.xml", "half_cheetah.xml", "walker2d.xml", "ant.xml"];
const VERSION_5: [&str; 1] = ["walker2d_v5.xml"];

fn library() -> &'static str {
    trajformer::envs::mujoco::places::library_file()
}

/// What tests/setup-mujoco has put there.
fn installed() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".mujoco");
    let named = std::env::var_os("TRAJFORMER_MUJOCO_MODELS").map(PathBuf::from);
    let named = named.and_then(|models| Some(models.parent()?.to_path_buf()));
    let mut folders = std::iter::once(own).chain(named);
    let found = folders.find(|folder| folder.join("lib").join(library()).is_file());
    found.expect("tests/setup-mujoco has run")
}

fn model(name: &str) -> Vec<u8> {
    fs::read(installed().join("models").join(name)).unwrap()
}

fn zip_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        archive.start_file(name.as_str(), stored).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The name of a wheel for this system.
fn mujoco_wheel() -> String {
    let arch = std::env::consts::ARCH;
    let system = if cfg!(target_os = "macos") {
        format!("macosx_11_0_{}", arch.replace("aarch64", "arm64"))
    } else {
        format!("manylinux_2_28_{arch}")
    };
    format!("mujoco-3.3.7-cp312-cp312-{system}.whl")
}

/// The three wheels, as far as they matter, by their names; `library` is the content of the one file that is run.
fn wheels(library_content: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let license = |project: &str, version: &str| {
        (
            format!("{project}-{version}.dist-info/licenses/LICENSE"),
            format!("{project}'s licence").into_bytes(),
        )
    };
    let models = |names: &[&str]| -> Vec<(String, Vec<u8>)> {
        let file = |name: &&str| (format!("{MODELS}/{name}"), model(name));
        names.iter().map(file).collect()
    };
    let mujoco = vec![
        (format!("mujoco/{}", library()), library_content),
        license("mujoco", "3.3.7"),
    ];
    let mut version_4 = models(&VERSION_4);
    version_4.push(license("gymnasium", "0.29.1"));
    vec![
        (mujoco_wheel(), zip_of(&mujoco)),
        (
            "gymnasium-0.29.1-py3-none-any.whl".to_owned(),
            zip_of(&version_4),
        ),
        (
            "gymnasium-1.4.0-py3-none-any.whl".to_owned(),
            zip_of(&models(&VERSION_5)),
        ),
    ]
}

fn real_library() -> Vec<u8> {
    fs::read(installed().join("lib").join(library())).unwrap()
}

/// A machine with an empty home.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where the library belongs.
    fn user_folder(&self) -> PathBuf {
        self.path().join("data/trajformer/mujoco-3.3.7")
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
        let names = std::env::vars().map(|(name, _)| name);
        for name in names.filter(|name| {
            let name = name.to_ascii_lowercase();
            ["pip_", "uv_", "hf_", "trajformer_", "ssl_"]
                .iter()
                .any(|start| name.starts_with(start))
                || name.ends_with("_proxy")
                || name.ends_with("library_path")
        }) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(self.path())
            .env("HOME", self.path())
            .env("XDG_DATA_HOME", self.path().join("data"))
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env("NO_PROXY", "127.0.0.1")
            .env("RAYON_NUM_THREADS", "1")
            .envs(variables.iter().copied());
        command.output().unwrap()
    }

    fn succeeds(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let found = self.command(arguments, variables);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(found.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let found = self.command(arguments, variables);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert_eq!(found.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
        errors
    }

    /// Checks that every file is in `folder` as it should be.
    fn is_complete(&self, folder: &Path) {
        assert_eq!(
            fs::read(folder.join("lib").join(library())).unwrap(),
            real_library()
        );
        for name in VERSION_4.iter().chain(&VERSION_5) {
            let found = fs::read(folder.join("models").join(name)).unwrap();
            assert_eq!(found, model(name), "{name}");
        }
    }
}

const SETUP: [&str; 2] = ["setup", "mujoco"];
const STEPS: [&str; 9] = [
    "data",
    "collect",
    "--env",
    "hopper-v4",
    "--policy",
    "random",
    "--steps",
    "5",
    "steps.npz",
];

#[cfg(feature = "hub")]
mod from_an_index {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use sha2::{Digest, Sha256};

    use super::*;

    /// What a path is answered by, in this order, the last one again and again: type and content; `None` for half of it.
    type Pages = BTreeMap<String, Vec<(String, Option<Vec<u8>>)>>;

    #[derive(Default)]
    struct State {
        pages: Pages,
        requests: Vec<(String, Option<String>)>,
    }

    /// A package index.
    struct Index {
        port: u16,
        state: Arc<Mutex<State>>,
    }

    impl Index {
        fn start(pages: Pages) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let state = Arc::new(Mutex::new(State {
                pages,
                ..State::default()
            }));
            let shared = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || serve(stream, &shared));
                }
            });
            Self { port, state }
        }

        /// One whose lists are JSON, as the public index answers.
        fn of(wheels: &[(String, Vec<u8>)]) -> Self {
            let mut pages = Pages::new();
            for project in ["mujoco", "gymnasium"] {
                let list = list(wheels, project, |_| {});
                pages.insert(format!("/index/simple/{project}/"), vec![list]);
            }
            for (name, content) in wheels {
                let page = ("application/zip".to_owned(), Some(content.clone()));
                pages.insert(format!("/files/{name}"), vec![page]);
            }
            Self::start(pages)
        }

        fn put_first(&self, path: &str, page: (String, Option<Vec<u8>>)) {
            let mut state = self.state.lock().unwrap();
            state.pages.get_mut(path).expect("a page").insert(0, page);
        }

        fn address(&self) -> String {
            format!("http://127.0.0.1:{}/index/simple", self.port)
        }

        fn requests(&self) -> Vec<(String, Option<String>)> {
            std::mem::take(&mut self.state.lock().unwrap().requests)
        }
    }

    fn list(
        wheels: &[(String, Vec<u8>)],
        project: &str,
        change: fn(&mut Value),
    ) -> (String, Option<Vec<u8>>) {
        let files = wheels.iter().filter(|(name, _)| name.starts_with(project));
        let files: Vec<Value> = files
            .map(|(name, content)| {
                let digits = |byte: &u8| format!("{byte:02x}");
                let sha256: String = Sha256::digest(content).iter().map(digits).collect();
                let mut file = json!({
                    "filename": name,
                    "url": format!("/files/{name}"),
                    "hashes": {"sha256": sha256},
                    "yanked": false,
                });
                change(&mut file);
                file
            })
            .collect();
        let list = json!({"meta": {"api-version": "1.1"}, "name": project, "files": files});
        let kind = "application/vnd.pypi.simple.v1+json";
        (kind.to_owned(), Some(list.to_string().into_bytes()))
    }

    fn serve(mut stream: TcpStream, state: &Mutex<State>) {
        let mut lines = Vec::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let path = lines[0].split(' ').nth(1).unwrap().to_owned();
        let login = lines[1..].iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("authorization");
            is_it.then(|| value.trim().to_owned())
        });
        let page = {
            let mut state = state.lock().unwrap();
            state.requests.push((path.clone(), login));
            state.pages.get_mut(&path).map(|pages| {
                if pages.len() > 1 {
                    pages.remove(0)
                } else {
                    pages[0].clone()
                }
            })
        };
        let (status, kind, content, length) = match page {
            Some((kind, Some(content))) => {
                let length = content.len();
                ("200 OK", kind, content, length)
            }
            Some((kind, None)) => ("200 OK", kind, vec![0; 10], 1000),
            None => ("404 Not Found", "text/plain".to_owned(), Vec::new(), 0),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&content);
    }

    #[test]
    fn what_the_index_has_is_installed_once_and_robots_move() {
        let index = Index::of(&wheels(real_library()));
        let machine = Machine::new();
        // The name and password of a mirror go with every request to it.
        let address = index.address().replace("://", "://me:pass@");
        let variables = [("PIP_INDEX_URL", address.as_str())];
        let arguments = [&SETUP[..], &["--json"]].concat();
        let printed = machine.succeeds(&arguments, &variables);
        let found: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        assert_eq!(found["is_found"], true);
        let folder = machine.user_folder();
        assert_eq!(found["folder"], folder.to_str().unwrap());
        machine.is_complete(&folder);
        let license = fs::read_to_string(folder.join("licenses/mujoco-LICENSE")).unwrap();
        assert_eq!(license, "mujoco's licence");
        assert!(folder.join("licenses/gymnasium-LICENSE").is_file());
        let requests = index.requests();
        assert_eq!(requests.len(), 6, "{requests:?}");
        for (path, login) in &requests {
            assert_eq!(login.as_deref(), Some("Basic bWU6cGFzcw=="), "{path}");
        }
        machine.succeeds(&STEPS, &[]);

        // Nothing is missing: nobody is asked.
        let printed = machine.succeeds(&SETUP, &variables);
        assert!(printed.contains("already"), "{printed}");
        assert!(index.requests().is_empty());
        // One file is: its wheel is fetched, and the others stay.
        fs::write(folder.join("models/walker2d_v5.xml"), "damaged").unwrap();
        machine.succeeds(&SETUP, &variables);
        machine.is_complete(&folder);
        let requests = index.requests();
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert!(requests[1].0.ends_with("gymnasium-1.4.0-py3-none-any.whl"));
    }

    #[test]
    fn pages_in_html_and_addresses_in_pips_file_do_as_well() {
        let all = wheels(real_library());
        let mut pages = Pages::new();
        for project in ["mujoco", "gymnasium"] {
            let mut page = format!("<a href=\"{project}-0.0.1.tar.gz\">source</a>");
            for (name, _) in all.iter().filter(|(name, _)| name.starts_with(project)) {
                page.push_str(&format!("<a href=\"../../files/{name}?a=1&amp;b=2\">x</a>"));
            }
            page.push_str("<a href=\"mujoco-3.3.7-cp311-cp311-win_amd64.whl\">x</a>");
            let page = ("text/html".to_owned(), Some(page.into_bytes()));
            pages.insert(format!("/simple/{project}/"), vec![page]);
        }
        for (name, content) in &all {
            let page = ("application/zip".to_owned(), Some(content.clone()));
            pages.insert(format!("/files/{name}?a=1&b=2"), vec![page]);
        }
        let index = Index::start(pages);
        let machine = Machine::new();
        let folder = machine.path().join("config/pip");
        fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "[global]\nindex-url = http://127.0.0.1:{}/simple/\n",
            index.port
        );
        fs::write(folder.join("pip.conf"), text).unwrap();
        let printed = machine.succeeds(&[&SETUP[..], &["--to", "elsewhere"]].concat(), &[]);
        assert!(
            printed.contains("TRAJFORMER_MUJOCO_LIB=") && printed.contains("elsewhere"),
            "{printed}"
        );
        machine.is_complete(&machine.path().join("elsewhere"));
        assert!(!machine.user_folder().exists());
    }

    #[test]
    fn what_is_not_the_original_is_refused_and_nothing_is_written() {
        let mut changed = real_library();
        changed[5000] ^= 1;
        let index = Index::of(&wheels(changed));
        let machine = Machine::new();
        let variables = [("UV_INDEX_URL", index.address())];
        let variables = variables
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let error = machine.fails(&SETUP, &variables);
        assert!(
            error.contains("SHA-256") && error.contains(library()),
            "{error}"
        );
        // What came is not what the list says.
        let all = wheels(real_library());
        let index = Index::of(&all);
        let wrong = list(&all, "mujoco", |file| {
            file["hashes"]["sha256"] = json!("0".repeat(64));
        });
        index.put_first("/index/simple/mujoco/", wrong);
        let error = machine.fails(&SETUP, &[("PIP_INDEX_URL", &index.address())]);
        assert!(error.contains("not what the index lists"), "{error}");
        assert!(!machine.user_folder().exists());
    }

    #[test]
    fn a_broken_connection_is_tried_again() {
        let all = wheels(real_library());
        let index = Index::of(&all);
        for path in [
            "/index/simple/mujoco/".to_owned(),
            format!("/files/{}", all[0].0),
        ] {
            index.put_first(&path, ("application/json".to_owned(), None));
        }
        let machine = Machine::new();
        machine.succeeds(&SETUP, &[("PIP_INDEX_URL", &index.address())]);
        machine.is_complete(&machine.user_folder());
        assert_eq!(index.requests().len(), 8);
    }

    #[test]
    fn an_index_that_does_not_help_is_named_with_what_to_do() {
        let machine = Machine::new();
        let all = wheels(real_library());
        let odd = |kind: &str, content: &str| {
            let index = Index::of(&all);
            let page = (kind.to_owned(), Some(content.as_bytes().to_vec()));
            index.put_first("/index/simple/mujoco/", page);
            index.address()
        };
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let unreachable = format!(
            "http://127.0.0.1:{}/simple",
            silent.local_addr().unwrap().port()
        );
        drop(silent);
        let nothing = Index::start(Pages::new()).address();
        let other = Index::of(&[("mujoco-3.3.7-cp311-cp311-win_amd64.whl".to_owned(), vec![])]);
        for (address, words) in [
            (unreachable, "can't be reached"),
            (nothing, "404"),
            (
                odd("application/json", "{"),
                "does not answer as a package index",
            ),
            (odd("text/html", "<html>hello"), "no wheel of mujoco 3.3.7"),
            (other.address(), "no wheel of mujoco 3.3.7"),
            ("mirror.example/simple".to_owned(), "no address of a server"),
        ] {
            let error = machine.fails(&SETUP, &[("PIP_INDEX_URL", &address)]);
            for word in [words, "--from", &address] {
                assert!(error.contains(word), "{word}: {error}");
            }
        }
        let error = machine.fails(&SETUP, &[("PIP_NO_INDEX", "1")]);
        assert!(error.contains("PIP_NO_INDEX"), "{error}");
        assert!(!machine.user_folder().exists());
    }
}

#[test]
fn wheels_and_folders_do_without_an_index() {
    let machine = Machine::new();
    let folder = machine.path().join("wheels");
    fs::create_dir_all(&folder).unwrap();
    for (name, content) in wheels(real_library()) {
        fs::write(folder.join(name), content).unwrap();
    }
    let said = machine.succeeds(&[&SETUP[..], &["--from", "wheels"]].concat(), &[]);
    assert!(
        said.contains(&format!("from wheels/{}\n", mujoco_wheel())),
        "{said}"
    );
    machine.is_complete(&machine.user_folder());
    // What one machine has, another takes.
    let from = machine.user_folder();
    let from = from.to_str().unwrap();
    machine.succeeds(
        &[&SETUP[..], &["--from", from, "--to", "copy"]].concat(),
        &[],
    );
    machine.is_complete(&machine.path().join("copy"));
    assert!(
        machine
            .path()
            .join("copy/licenses/mujoco-LICENSE")
            .is_file()
    );

    let other = Machine::new();
    let wheel = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (whole, models) = (
        wheel(&mujoco_wheel()),
        wheel("gymnasium-0.29.1-py3-none-any.whl"),
    );
    let broken = other.path().join(mujoco_wheel());
    fs::write(&broken, &fs::read(&whole).unwrap()[..1000]).unwrap();
    let broken = broken.to_str().unwrap();
    for (given, words) in [
        (vec![models.as_str()], "neither"),
        (vec![whole.as_str(), models.as_str()], "gymnasium-1.4.0"),
        (vec![broken], "damaged"),
        (vec!["nowhere"], "neither a wheel"),
    ] {
        let arguments = [&SETUP[..], &["--from"], &given].concat();
        let error = other.fails(&arguments, &[]);
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(!other.user_folder().exists());
}

#[cfg(not(feature = "hub"))]
#[test]
fn a_build_that_reaches_no_index_says_what_to_give_it() {
    let error = Machine::new().fails(&SETUP, &[]);
    for word in ["feature `hub`", "gymnasium 0.29.1", "--from"] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn a_library_that_is_missing_damaged_or_another_version_is_named_with_what_to_do() {
    let machine = Machine::new();
    let nowhere = [("TRAJFORMER_MUJOCO_LIB", "nowhere")];
    let error = machine.fails(&STEPS, &nowhere);
    for word in ["hopper-v4", "nowhere", "trajformer setup mujoco"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    // The user's own folder comes before the checkout's.
    let place = machine.user_folder().join("lib").join(library());
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, "no library").unwrap();
    let error = machine.fails(&STEPS, &[]);
    for word in [place.to_str().unwrap(), "can't be opened"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    // A library that says it is a later one.
    let source = machine.path().join("later.rs");
    let text = "#[unsafe(no_mangle)] pub extern \"C\" fn mj_version() -> i32 { 350 }\n\
                #[unsafe(no_mangle)] pub extern \"C\" fn mj_versionString() -> *const u8 { c\"3.5.0\".as_ptr().cast() }\n";
    fs::write(&source, text).unwrap();
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let later = machine.path().join("later.so");
    let built = Command::new(compiler)
        .args(["--edition", "2024", "--crate-type", "cdylib", "-o"])
        .args([&later, &source])
        .status();
    assert!(built.unwrap().success());
    let error = machine.fails(
        &STEPS,
        &[("TRAJFORMER_MUJOCO_LIB", later.to_str().unwrap())],
    );
    assert!(
        error.contains("later.so is MuJoCo 3.5.0, and only 3.3.7 will do"),
        "{error}"
    );
    // A right one beside a model that is not there.
    let right = installed();
    let variables = [
        ("TRAJFORMER_MUJOCO_LIB", right.to_str().unwrap()),
        ("TRAJFORMER_MUJOCO_MODELS", "nowhere"),
    ];
    let error = machine.fails(&STEPS, &variables);
    assert!(
        error.contains("hopper.xml") && error.contains("nowhere"),
        "{error}"
    );
    machine.succeeds(&STEPS, &variables[..1]);
}

#[test]
fn training_without_mujoco_is_told_how_to_train_without_scores() {
    let machine = Machine::new();
    let mut steps = STEPS;
    steps[3] = "pendulum-v1";
    machine.succeeds(&steps, &[]);
    let text = "[data]\npath = 'steps.npz'\n[train]\nupdates = 2\n[evaluate]\nenv = 'hopper-v4'\n[algorithm.bc]\nhidden = [8]\n";
    fs::write(machine.path().join("bc.toml"), text).unwrap();
    let variables = [("TRAJFORMER_MUJOCO_LIB", "nowhere")];
    let error = machine.fails(&["train", "bc.toml"], &variables);
    assert!(error.contains("--set evaluate.episodes=0"), "{error}");
    machine.succeeds(
        &["train", "bc.toml", "--set", "evaluate.episodes=0"],
        &variables,
    );
}

#[test]
fn tests_set_up_mujoco_with_the_same_models() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = fs::read_to_string(root.join("tests/setup-mujoco")).unwrap();
    let files = fs::read_to_string(root.join("src/app/setup/files.rs")).unwrap();
    let mut digests = 0;
    for word in script.split('"').filter(|word| word.len() == 64) {
        assert!(files.contains(word), "{word}");
        digests += 1;
    }
    assert_eq!(digests, VERSION_4.len() + VERSION_5.len());
}
