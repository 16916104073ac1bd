//! A build without the feature `hub`: the cache can be read, nothing can be fetched.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn command(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    command
        .args(arguments)
        .current_dir(home)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HUGGINGFACE_HUB_CACHE")
        .env("HF_HOME", home)
        .output()
        .unwrap()
}

#[test]
fn what_is_in_the_cache_opens_and_the_rest_is_explained() {
    let home = tempfile::tempdir().unwrap();
    let url = "hf://someone/model";
    for arguments in [&["hub", "pull", "someone/model"][..], &["evaluate", url]] {
        let found = command(home.path(), arguments);
        let errors = String::from_utf8_lossy(&found.stderr).into_owned();
        assert_eq!(found.status.code(), Some(1), "{errors}");
        assert!(errors.contains("build with the feature `hub`"), "{errors}");
    }
    let model = home.path().join("hub/models--someone--model");
    let snapshot = model.join("snapshots/0123");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), "0123").unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for file in [
        "hub/decision_transformer/config.json",
        "hub/decision_transformer/model.safetensors",
        "onnx/policy.safetensors",
    ] {
        let file = golden.join(file);
        fs::copy(&file, snapshot.join(file.file_name().unwrap())).unwrap();
    }
    let found = command(
        home.path(),
        &["evaluate", url, "--env", "pendulum-v1", "--episodes", "1"],
    );
    let errors = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success(), "{errors}");
}
