//! What a folder is by the names of its files alone: a run that has lost its configuration, or a place inside of another run.

use std::fs;
use std::path::Path;

use crate::app::checkpoint::lost::{Fault, lost, remedy, said};
use crate::app::checkpoint::seal::Seal;
use crate::app::checkpoint::tensors::GROUPS;
use trajformer_core::error::{Error, Result};

const CONFIG: &str = "config.toml";
/// What is written to see whether anything can be.
const PROBE_BYTES: usize = 1 << 12;

/// What is wrong with a folder that was a run and is one no longer: it holds what only runs have, and no file `config.toml`. `None` for all other
/// folders, models of other libraries among them.
pub fn lost_configuration(folder: &Path) -> Option<String> {
    let fault = match Fault::at(&folder.join(CONFIG))? {
        fault @ (Fault::Missing | Fault::Folder) => fault,
        Fault::Empty | Fault::Damaged => return None,
    };
    // Other libraries' models have these two names too, and describe themselves.
    let described = || {
        let text = fs::read_to_string(folder.join("config.json")).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        value.is_object() && value.get("trajformer").is_none()
    };
    let is_theirs =
        |name: &str| ["model.safetensors", "policy.safetensors"].contains(&name) && described();
    let tensors = GROUPS.iter().map(|group| format!("{group}.safetensors"));
    let found = std::iter::once("state.toml".to_owned())
        .chain(tensors)
        .find(|name| folder.join(name).is_file() && !is_theirs(name))?;
    Some(format!(
        "a damaged run: {found} is there, but {CONFIG} {}; {}",
        fault.said(),
        remedy(folder, CONFIG, fault)
    ))
}

/// The text of a run's file `name` in `folder`.
///
/// # Errors
/// If it is not there or a folder, holds nothing or no text, or can't be read.
pub(super) fn text_of(folder: &Path, name: &str) -> Result<String> {
    let fail = |problem: String| Error::Run {
        path: folder.to_path_buf(),
        problem,
    };
    let bytes = bytes_of(folder, name)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        let remedy = remedy(folder, name, Fault::Damaged);
        fail(format!("{name}: it is no text; it is damaged: {remedy}"))
    })?;
    if text.trim().is_empty() {
        return Err(fail(said(folder, name, Fault::Empty)));
    }
    Ok(text)
}

/// Fails if a file `name` of the run in `folder`, whose content is `text`, has a seal and was changed since it was written. What can't be
/// read at all has its own error, which says where.
///
/// # Errors
/// [`Error::Run`]: what to do.
pub(super) fn check_seal(folder: &Path, name: &str, text: &str) -> Result<()> {
    if Seal::of(text.as_bytes()) != Seal::Broken {
        return Ok(());
    }
    Err(Error::Run {
        path: folder.to_path_buf(),
        problem: format!(
            "{name}: it is not what the run wrote (its checksum is another): it is damaged or was changed by hand: {}",
            remedy(folder, name, Fault::Damaged)
        ),
    })
}

/// The content of a run's file `name` in `folder`.
///
/// # Errors
/// If it is not there or a folder, or can't be read.
pub(super) fn bytes_of(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    fs::read(&path).map_err(|error| match lost(folder, name) {
        Some(problem) => Error::Run {
            path: folder.to_path_buf(),
            problem,
        },
        None => Error::io(&path)(error),
    })
}

/// Fails if the configuration of the run in `folder` is no TOML.
///
/// # Errors
/// [`Error::Run`]: in which line, and what to do.
pub(super) fn check_toml(folder: &Path) -> Result<()> {
    let text = text_of(folder, CONFIG)?;
    match toml::from_str::<toml::Table>(&text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Run {
            path: folder.to_path_buf(),
            problem: toml_problem(folder, CONFIG, &text, &error),
        }),
    }
}

/// What to say of a TOML file `name` of the run in `folder` that can't be read, `text`.
pub(super) fn toml_problem(
    folder: &Path,
    name: &str,
    text: &str,
    error: &toml::de::Error,
) -> String {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.as_bytes()[..start]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    let what = error.message().trim().replace('\n', ", ");
    let remedy = remedy(folder, name, Fault::Damaged);
    format!("{name}, line {line}: {what}; it is damaged or was changed by hand: {remedy}")
}

/// Fails if `path` can't become a run directory, because it, or what it would lie in, is a file or a link that leads nowhere.
///
/// # Errors
/// [`Error::Run`]: what is in the way.
pub fn check_place(path: &Path) -> Result<()> {
    let fail = |what: String| {
        Err(Error::Run {
            path: path.to_path_buf(),
            problem: format!("{what}, where a run directory is to be; move it away"),
        })
    };
    for place in path
        .ancestors()
        .filter(|place| !place.as_os_str().is_empty())
    {
        let Ok(there) = fs::symlink_metadata(place) else {
            continue;
        };
        let name = place.display();
        return match fs::metadata(place) {
            Ok(there) if there.is_dir() => Ok(()),
            Ok(_) => fail(format!("{name} is a file")),
            Err(_) if there.is_symlink() => fail(format!("{name} is a link that leads nowhere")),
            Err(error) => Err(Error::io(place)(error)),
        };
    }
    Ok(())
}

/// Fails if `path` was a run and is one no longer.
///
/// # Errors
/// [`Error::Run`]: what is there and what is missing.
pub fn check_configured(path: &Path) -> Result<()> {
    match lost_configuration(path) {
        None => Ok(()),
        Some(problem) => Err(Error::Run {
            path: path.to_path_buf(),
            problem,
        }),
    }
}

/// Fails if a new run's folder `out` would lie in another run's directory, whose files it would mix with: among its kept checkpoints, say.
///
/// # Errors
/// [`Error::Occupied`]: which run.
pub fn refuse_inside_of_a_run(out: &Path) -> Result<()> {
    // Links and `..` lead elsewhere than they look; folders that are not there yet lead nowhere else.
    let there = out.ancestors().find(|folder| folder.exists());
    let real = there.and_then(|folder| fs::canonicalize(folder).ok());
    let current = || fs::canonicalize(".").ok();
    let Some(real) = real.or_else(current) else {
        return Ok(());
    };
    let is_own = |run: &Path| out.exists() && fs::canonicalize(out).is_ok_and(|out| out == run);
    let has = |folder: &Path, name: &str| folder.join(name).is_file();
    let is_run = |folder: &&Path| {
        let is_begun = has(folder, "config.json") || has(folder, "state.toml");
        has(folder, "config.toml") && is_begun
    };
    match real.ancestors().find(is_run) {
        Some(run) if !is_own(run) => Err(Error::Occupied {
            path: out.to_path_buf(),
            problem: format!(
                "it lies inside of the run {}, whose files are its own; choose a folder beside it",
                run.display()
            ),
        }),
        _ => Ok(()),
    }
}

/// Fails if a file that is made to be looked at, a report, a picture or a table, can't come to be at `path`, or would take the place of
/// something else: for commands, before they work long. A folder that is not there is made, and that is said.
///
/// # Errors
/// If there is a file of a run directory, or what is no regular file: a folder, a device, a link. If the folder can't be made, or nothing
/// can be written there.
pub fn check_output(path: &Path) -> Result<()> {
    let fail = |problem: &str| Err(Error::data(path, problem));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if let Ok(there) = fs::symlink_metadata(path) {
        if there.is_dir() {
            return fail("a folder: name the file to write");
        }
        if !there.is_file() {
            return fail("no regular file, but a link or a device: name another file");
        }
        if folder.join("config.toml").is_file() {
            return fail("a file of a run directory, which would be lost: name another file");
        }
    }
    if path.file_name().is_none() {
        return fail("no name of a file");
    }
    if !folder.is_dir() {
        fs::create_dir_all(folder).map_err(|error| {
            let problem = format!("its folder {} can't be made: {error}", folder.display());
            Error::data(path, problem)
        })?;
        tracing::info!("made the folder {}", folder.display());
    }
    let probe = folder.join(format!(".trajformer-{}.tmp", std::process::id()));
    let tried = fs::write(&probe, [0; PROBE_BYTES]);
    let _ = fs::remove_file(&probe);
    tried.map_err(|error| {
        let problem =
            format!("can't be written: {error}; free space there, or choose another place");
        Error::data(path, problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_runs_have_tells_a_run_that_lost_its_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).expect("written");
        assert_eq!(lost_configuration(folder.path()), None);
        write("metrics.csv", "update\n");
        assert_eq!(lost_configuration(folder.path()), None);
        write("model.safetensors", "");
        let said = lost_configuration(folder.path()).expect("weights");
        assert!(said.contains("model.safetensors"), "{said}");
        write("config.json", "{\"trajformer\": {}}");
        assert!(lost_configuration(folder.path()).is_some());
        // Another library's.
        write("config.json", "{\"model_type\": \"gpt2\"}");
        assert_eq!(lost_configuration(folder.path()), None);
        write("training.safetensors", "");
        assert!(lost_configuration(folder.path()).is_some());
        fs::remove_file(path("training.safetensors")).expect("removed");
        write("state.toml", "");
        let said = lost_configuration(folder.path()).expect("a state");
        assert!(said.contains("state.toml"), "{said}");
        write("config.toml", "");
        assert_eq!(lost_configuration(folder.path()), None);
    }

    #[test]
    fn an_output_has_a_folder_that_can_be_written_to_or_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("new/below/x.svg");
        check_output(&inside).expect("made");
        let left = fs::read_dir(folder.path().join("new/below")).expect("made");
        assert_eq!(left.count(), 0, "nothing but the folder is left");
        fs::write(&inside, "mine").expect("written");
        check_output(&inside).expect("replaceable");
        assert_eq!(fs::read(&inside).expect("read"), b"mine");
        let refused = |path: &Path, words: &str| {
            let problem = check_output(path).expect_err(words).to_string();
            assert!(problem.contains(words), "{problem}");
        };
        refused(folder.path(), "a folder");
        refused(&inside.join("below.svg"), "can't be made");
        #[cfg(target_os = "linux")]
        refused(Path::new("/proc/x.svg"), "can't be written");
    }

    #[test]
    fn a_place_inside_of_a_run_is_none_for_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path().join("runs/a");
        fs::create_dir_all(run.join("checkpoints/00000010")).expect("made");
        // A configuration alone is no run: projects have files of this name.
        fs::write(run.join("config.toml"), "").expect("written");
        let inside = run.join("checkpoints/new/below");
        refuse_inside_of_a_run(&inside).expect("no run");
        fs::write(run.join("state.toml"), "").expect("written");
        let beside = folder.path().join("runs/b/c");
        for path in [&inside, &run.join("x"), &run.join("checkpoints/00000010")] {
            let problem = refuse_inside_of_a_run(path)
                .expect_err("inside")
                .to_string();
            assert!(problem.contains("runs/a"), "{problem}");
        }
        for path in [&beside, &run] {
            refuse_inside_of_a_run(path).expect("beside");
        }
    }
}
