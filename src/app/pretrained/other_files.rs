//! Files that people have in place of the weights that are read: what they are, and what to do with them.

use std::path::Path;

/// How many files of a folder are looked at.
const MOST_FILES: usize = 10_000;

/// Names of the files in a folder, and of those in its subfolders with a slash between.
pub fn names_in(folder: &Path) -> Vec<String> {
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.flatten().map(|entry| {
            (
                entry.path(),
                entry.file_name().to_string_lossy().into_owned(),
            )
        })
    };
    let mut names = Vec::new();
    for (path, name) in list(folder).take(MOST_FILES) {
        if path.is_dir() {
            names.extend(
                list(&path)
                    .take(MOST_FILES)
                    .map(|(_, inner)| format!("{name}/{inner}")),
            )
        } else {
            names.push(name)
        }
    }
    names.sort();
    names
}

/// What a weights file is by its first bytes, if it is of a format that is not read.
pub fn told_by_content(bytes: &[u8]) -> Option<String> {
    let formats: [(&[u8], &str); 7] = [
        (b"GGUF", "GGUF (llama.cpp's)"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 (TensorFlow's and Keras's)"),
        (b"\x93NUMPY", "NumPy's npy"),
        (b"\x1f\x8b", "gzip: unpack it"),
        (b"BZh", "bzip2: unpack it"),
        (b"\xfd7zXZ\0", "xz: unpack it"),
        (b"\x28\xb5\x2f\xfd", "zstd: unpack it"),
    ];
    let found = formats.iter().find(|(start, _)| bytes.starts_with(start));
    found.map(|(_, format)| {
        format!("its content is {format}, which is not read: expected safetensors, or what `torch.save` writes")
    })
}

/// What files with these names are instead of weights that are read, and what to do; `None` if there are none.
pub fn said(names: &[String]) -> Option<String> {
    let end = |name: &str| {
        name.rsplit('/')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let first = |fits: &dyn Fn(&str) -> bool| names.iter().find(|name| fits(&end(name)));
    let whole = |name: &str| ["model.safetensors", "pytorch_model.bin"].contains(&name);
    if let Some(name) = first(&|end| whole(end) || end.ends_with(".index.json")) {
        return Some(match name.rsplit_once('/') {
            Some((folder, _)) => format!(
                "`{name}` is in the folder `{folder}`: name that folder, of a copy on this machine"
            ),
            None => format!("`{name}` is written otherwise: names are in lower case, rename it"),
        });
    }
    if let Some(name) =
        first(&|end| end.starts_with("adapter_model") || end == "adapter_config.json")
    {
        return Some(adapter(name));
    }
    let others = [
        (
            ".h5",
            "TensorFlow's, which is not read: open it in Python with `from_pretrained(..., from_tf=True)`, then \
                 `save_pretrained`",
        ),
        (
            ".msgpack",
            "Flax's, which is not read: open it in Python with `from_pretrained(..., from_flax=True)`, then \
                      `save_pretrained`",
        ),
        (
            ".gguf",
            "llama.cpp's, which is not read: take the repository that it was made from",
        ),
        (
            ".safetensors",
            "not a name that is looked for: if it holds all of the model's tensors, rename it to \
                          model.safetensors",
        ),
        (
            ".bin",
            "not a name that is looked for: if it holds all of the model's tensors, rename it to \
                  pytorch_model.bin",
        ),
        (
            ".ckpt",
            "not a name that is looked for: if it holds the model's tensors, rename it to pytorch_model.bin",
        ),
        (
            ".pt",
            "not a name that is looked for: if it holds the model's tensors, rename it to pytorch_model.bin",
        ),
        (
            ".pth",
            "not a name that is looked for: if it holds the model's tensors, rename it to pytorch_model.bin",
        ),
        (".onnx", "a graph for other runtimes, which is not read"),
    ];
    // Files that training programs leave beside models.
    let beside = [
        "training_args.bin",
        "optimizer.bin",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
    ];
    others.iter().find_map(|(ending, what)| {
        let name = first(&|end| {
            end.ends_with(ending) && !beside.contains(&end) && end != "policy.safetensors"
        })?;
        Some(format!("`{name}` is {what}"))
    })
}

/// What is said of an adapter.
pub fn adapter(name: &str) -> String {
    format!(
        "`{name}` is of an adapter (LoRA), which changes another model's weights: join them in Python with \
         `PeftModel.from_pretrained(MODEL, ADAPTER).merge_and_unload().save_pretrained(FOLDER)`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_instead_of_weights_is_named() {
        let cases = [
            (&["config.json", "tf_model.h5"][..], Some("from_tf=True")),
            (&["flax_model.msgpack"], Some("from_flax=True")),
            (
                &["adapter_config.json", "adapter_model.safetensors"],
                Some("merge_and_unload"),
            ),
            (&["model-q4.gguf"], Some("llama.cpp")),
            (&["Model.safetensors"], Some("lower case")),
            (
                &["model.fp16.safetensors"],
                Some("rename it to model.safetensors"),
            ),
            (
                &["checkpoint-500/model.safetensors"],
                Some("folder `checkpoint-500`"),
            ),
            (&["last.ckpt", "training_args.bin"], Some("`last.ckpt`")),
            (
                &["training_args.bin", "optimizer.pt", "policy.safetensors"],
                None,
            ),
            (&["README.md"], None),
        ];
        for (names, words) in cases {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let found = said(&names);
            match words {
                Some(words) => assert!(
                    found.as_deref().is_some_and(|found| found.contains(words)),
                    "{names:?}: {found:?}"
                ),
                None => assert_eq!(found, None),
            }
        }
    }
}
