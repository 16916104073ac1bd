//! Weights files as people have them: every way in which PyTorch and safetensors store tensors, split files, wrapped
//! names, and what lies in a file's place.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use trajformer::pretrained::{Request, weights};
use trajformer::run;
use trajformer_models::pretrained::{self, Tensors};

use crate::golden::{Golden, copy_of};
use crate::runs::pendulum_data;

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(name)
}

fn file(name: &str) -> PathBuf {
    golden("weights").join(name)
}

fn copy(name: &str) -> tempfile::TempDir {
    copy_of(&golden("hub").join(name))
}

/// All numbers, row-major, as they are stored: nothing may change on the way.
fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all());
    flat.and_then(|flat| flat.to_vec1()).unwrap()
}

fn check_same(name: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims(), "{name}");
    assert_eq!(numbers(found), numbers(expected), "{name}");
}

/// Fails unless the file holds exactly the tensors that Python said it does.
fn check_file(name: &str, prefix: &str, expected: &Golden) {
    let found = weights::read(&file(name)).unwrap_or_else(|error| panic!("{error}"));
    let expected: Vec<(&str, &Tensor)> = expected.under(prefix).collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    for (key, expected) in expected {
        // A scalar has the shape [1] in the file of what is expected.
        let shape = match found[key].dims() {
            [] => Vec::new(),
            _ => expected.dims().to_vec(),
        };
        let expected = expected.reshape(shape).unwrap();
        check_same(&format!("{name}, {key}"), &found[key], &expected);
    }
}

/// Wherever a file is damaged: an error or other numbers, never a panic.
#[test]
fn damaged_files_are_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["old_views.bin", "views.bin", "small.safetensors"] {
        let whole = fs::read(file(name)).unwrap();
        let path = folder.path().join(name);
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] = !damaged[place];
            fs::write(&path, damaged).unwrap();
            let _ = weights::read(&path);
        }
    }
}

#[test]
fn tensors_are_what_pytorch_saved_in_every_protocol_and_format() {
    let expected = Golden::load("weights_files");
    for protocol in 1..=5 {
        check_file(&format!("protocol_{protocol}.bin"), "plain.", &expected);
    }
    for name in [
        "old_protocol_2.bin",
        "old_protocol_4.bin",
        "plain.safetensors",
    ] {
        check_file(name, "plain.", &expected);
    }
    for name in ["small.bin", "small.safetensors"] {
        check_file(name, "small.", &expected);
    }
}

#[test]
fn tensors_that_share_their_storage_or_lie_in_it_in_strides_are_whole() {
    let expected = Golden::load("weights_files");
    check_file("views.bin", "views.", &expected);
    check_file("old_views.bin", "views.", &expected);
    check_file("tied.safetensors", "tied.", &expected);
}

#[test]
fn files_are_known_by_their_content_whatever_they_are_called() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("plain.safetensors", "pytorch_model.bin"),
        ("protocol_4.bin", "model.safetensors"),
    ] {
        let path = folder.path().join(to);
        fs::copy(file(from), &path).unwrap();
        let expected = weights::read(&file("protocol_2.bin")).unwrap();
        assert_eq!(weights::read(&path).unwrap().len(), expected.len());
    }
}

#[test]
fn what_is_not_read_is_named_and_masks_are_never_looked_at() {
    for (name, words) in [
        ("module.bin", &["`__main__.Net`", "model.state_dict()"][..]),
        (
            "sparse.bin",
            &["`w` is a sparse tensor", "only dense tensors"],
        ),
        ("complex.bin", &["`w`", "`ComplexFloatStorage`", ".float()"]),
        ("complex.safetensors", &["`w` [2]", "C64", ".float()"]),
        ("nothing.bin", &["`epoch`, `optimizer`", "state_dict"]),
        ("script.bin", &["TorchScript", "state_dict()"]),
        (
            "tensorflow.safetensors",
            &["`format` is `tf`", "from_tf=True"],
        ),
    ] {
        let error = weights::read(&file(name)).unwrap_err().to_string();
        for words in words {
            assert!(error.contains(words), "{name}: {error}");
        }
        assert!(
            error.contains(name) && !error.contains("fetch it again"),
            "{error}"
        );
    }
    for name in ["masks.safetensors", "masks.bin"] {
        let found = weights::read(&file(name)).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["w"], "{name}");
    }
}

/// The tensors of the tiny model, as the model's class names them.
fn tiny(folder: &Path) -> Tensors {
    pretrained::decision_transformer(weights::read_folder(folder).unwrap()).unwrap()
}

#[test]
fn split_wrapped_and_masked_models_are_the_model() {
    let expected = tiny(&golden("hub/decision_transformer"));
    for name in ["split", "split_pickles", "masks", "checkpoint"] {
        let found = tiny(&golden(&format!("hub/decision_transformer_{name}")));
        assert!(found.keys().eq(expected.keys()), "{name}");
        for (key, tensor) in &found {
            check_same(&format!("{name}, {key}"), tensor, &expected[key]);
        }
        // And they act.
        let folder = copy(&format!("decision_transformer_{name}"));
        let data = pendulum_data();
        let request = Request {
            data: Some(&data),
            ..Request::default()
        };
        run::open_with(folder.path(), &request).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn problem(folder: &Path) -> String {
    weights::read_folder(folder).unwrap_err().to_string()
}

#[test]
fn indexes_that_lead_nowhere_or_outside_are_said_to_be_so() {
    for (folder, index, part) in [
        (
            "decision_transformer_split",
            "model.safetensors.index.json",
            "model-00002-of-00003.safetensors",
        ),
        (
            "decision_transformer_split_pickles",
            "pytorch_model.bin.index.json",
            "pytorch_model-00002-of-00002.bin",
        ),
    ] {
        let folder = copy(folder);
        let path = |name: &str| folder.path().join(name);
        let text = fs::read_to_string(path(index)).unwrap();
        // The part is not there.
        let bytes = fs::read(path(part)).unwrap();
        fs::remove_file(path(part)).unwrap();
        let error = problem(folder.path());
        assert!(
            error.contains(index) && error.contains(&format!("one is not here: `{part}`")),
            "{error}"
        );
        // It is a pointer.
        fs::write(
            path(part),
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        )
        .unwrap();
        let error = problem(folder.path());
        assert!(
            error.contains(part) && error.contains("`git lfs pull`"),
            "{error}"
        );
        fs::write(path(part), bytes).unwrap();
        // A tensor is said to be where it is not.
        fs::write(
            path(index),
            text.replacen(
                "\"weight_map\": {",
                "\"weight_map\": {\"nowhere\": \"PART\",",
                1,
            )
            .replace("PART", part),
        )
        .unwrap();
        let error = problem(folder.path());
        assert!(
            error.contains(part) && error.contains("it lacks `nowhere`"),
            "{error}"
        );
        for outside in [
            "../secret.safetensors",
            "/etc/passwd",
            "a/../../b",
            "",
            "c:\\x",
        ] {
            let outside = outside.replace('\\', "\\\\");
            fs::write(path(index), text.replace(part, &outside)).unwrap();
            let error = problem(folder.path());
            assert!(
                error.contains(index) && error.contains("expected a file beside the index"),
                "{error}"
            );
        }
        for (content, words) in [
            ("{}", "no `weight_map`"),
            ("{\"weight_map\": {}}", "no `weight_map`"),
            ("{\"weight", "not JSON"),
        ] {
            fs::write(path(index), content).unwrap();
            let error = problem(folder.path());
            assert!(error.contains(index) && error.contains(words), "{error}");
        }
    }
}

#[test]
fn a_tensor_in_two_parts_is_read_from_the_one_that_the_index_names() {
    let folder = copy("decision_transformer_split");
    let expected = tiny(folder.path());
    let path = |number: u32| {
        folder
            .path()
            .join(format!("model-0000{number}-of-00003.safetensors"))
    };
    let first = weights::read(&path(1)).unwrap();
    let mut last = weights::read(&path(3)).unwrap();
    for (name, tensor) in first {
        last.insert(name, tensor.zeros_like().unwrap());
    }
    candle_core::safetensors::save(&last.into_iter().collect(), path(3)).unwrap();
    for (name, tensor) in tiny(folder.path()) {
        check_same(&name, &tensor, &expected[&name]);
    }
}

#[test]
fn pointers_and_pages_in_place_of_files_are_named() {
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 35900\n";
    let page = "<!DOCTYPE html><html><body>Sign in</body></html>";
    for (content, words) in [
        (lfs, "`git lfs pull`"),
        (page, "a page for browsers"),
        ("Entry not found", "`Entry not found`"),
        ("", "is empty"),
        (
            "{\"error\":\"Repository not found\"}",
            "Repository not found",
        ),
    ] {
        for name in ["model.safetensors", "pytorch_model.bin"] {
            let folder = copy("decision_transformer");
            fs::remove_file(folder.path().join("model.safetensors")).unwrap();
            fs::remove_file(folder.path().join("pytorch_model.bin")).unwrap();
            fs::write(folder.path().join(name), content).unwrap();
            let error = problem(folder.path());
            assert!(error.contains(name) && error.contains(words), "{error}");
        }
    }
    let data = pendulum_data();
    let request = Request {
        data: Some(&data),
        ..Request::default()
    };
    let folder = copy("decision_transformer");
    let opened = |folder: &Path| {
        run::open_with(folder, &request)
            .err()
            .map(|error| error.to_string())
    };
    for content in [lfs, page] {
        fs::write(folder.path().join("config.json"), content).unwrap();
        let error = opened(folder.path()).unwrap();
        assert!(error.contains("config.json: is a"), "{error}");
    }
    // What stands beside the weights, and data.
    let folder = copy("decision_transformer");
    fs::write(folder.path().join("policy.safetensors"), lfs).unwrap();
    let error = run::open(folder.path(), &[]).err().unwrap().to_string();
    assert!(
        error.contains("policy.safetensors: is a Git LFS pointer"),
        "{error}"
    );
    let path = folder.path().join("data.hdf5");
    fs::write(&path, lfs).unwrap();
    let error = trajformer::data::load_one(&path).unwrap_err().to_string();
    assert!(error.contains("data.hdf5: is a Git LFS pointer"), "{error}");
}

#[test]
fn configurations_are_read_as_editors_and_older_programs_leave_them() {
    let data = pendulum_data();
    let request = Request {
        data: Some(&data),
        ..Request::default()
    };
    let folder = copy("decision_transformer");
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let opens = |content: &str| {
        fs::write(&path, content).unwrap();
        run::open_with(folder.path(), &request)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(opens(&format!("\u{feff}{text}")), Ok(()));
    json["model_type"] = serde_json::Value::Null;
    assert_eq!(opens(&json.to_string()), Ok(()), "the class is known");
    json["architectures"] = serde_json::Value::Null;
    let error = opens(&json.to_string()).unwrap_err();
    assert!(
        error.contains("no `model_type`") && error.contains("decision_transformer"),
        "{error}"
    );
    json["model_type"] = "Decision-Transformer".into();
    assert_eq!(opens(&json.to_string()), Ok(()));
    json["quantization_config"] = serde_json::json!({"quant_method": "bitsandbytes"});
    let error = opens(&json.to_string()).unwrap_err();
    assert!(
        error.contains("quantized") && error.contains("bitsandbytes"),
        "{error}"
    );
}

#[test]
fn folders_with_other_files_than_those_that_are_read_say_which() {
    let open = |folder: &Path| run::open(folder, &[]).err().unwrap().to_string();
    let named = ["pretrained.statistics=hopper-medium".to_owned()];
    for (name, words) in [
        ("tf_model.h5", "from_tf=True"),
        ("flax_model.msgpack", "from_flax=True"),
        ("adapter_config.json", "merge_and_unload"),
        ("model.gguf", "llama.cpp"),
        ("last.ckpt", "rename it to pytorch_model.bin"),
        ("Model.safetensors", "lower case"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), "x").unwrap();
        let error = open(folder.path());
        assert!(
            error.contains(name) && error.contains(words),
            "{name}: {error}"
        );
        // The same with a configuration.
        fs::copy(
            golden("hub/decision_transformer/config.json"),
            folder.path().join("config.json"),
        )
        .unwrap();
        let error = run::open(folder.path(), &named).err().unwrap().to_string();
        assert!(
            error.contains(name) && error.contains(words),
            "{name}: {error}"
        );
    }
    let folder = copy("decision_transformer");
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let error = open(folder.path());
    assert!(
        error.contains("no config.json, which says what they are of"),
        "{error}"
    );
    let inside = tempfile::tempdir().unwrap();
    fs::rename(folder.path(), inside.path().join("checkpoint-500")).unwrap();
    let error = open(inside.path());
    assert!(error.contains("folder `checkpoint-500`"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_to_nothing_are_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("../../blobs/0123", folder.path().join("model.safetensors"))
        .unwrap();
    let error = problem(folder.path());
    assert!(
        error.contains("is a link to ../../blobs/0123, which is not there"),
        "{error}"
    );
}
