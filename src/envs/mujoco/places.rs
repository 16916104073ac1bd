//! Where libmujoco and the robots' models are looked for: the first of several folders that has them.

use std::env;
use std::path::{Path, PathBuf};

/// The one version of MuJoCo that is taken.
pub const VERSION: &str = "3.3.7";
/// Environment variable that names the library, or the folder that holds it.
pub const LIBRARY_VARIABLE: &str = "TRAJFORMER_MUJOCO_LIB";
/// Environment variable that names the folder of the model files.
pub const MODELS_VARIABLE: &str = "TRAJFORMER_MUJOCO_MODELS";

/// File name of the library in its wheel, then the one that development packages have.
const LIBRARY: [&str; 2] = if cfg!(target_os = "macos") {
    ["libmujoco.3.3.7.dylib", "libmujoco.dylib"]
} else if cfg!(windows) {
    ["mujoco.dll", "mujoco.dll"]
} else {
    ["libmujoco.so.3.3.7", "libmujoco.so"]
};

/// Name of a folder with `lib` and `models` of this version.
const FOLDER: &str = "mujoco-3.3.7";

/// Where [`user_folder`] is without a home.
const NO_HOME: &str = "no user's data folder: neither HOME nor XDG_DATA_HOME is set";

/// File name of the library on this system.
pub fn library_file() -> &'static str {
    LIBRARY[0]
}

/// The user's own folder for library and models: in `XDG_DATA_HOME`, else in `~/.local/share` (macOS: `~/Library/Application
/// Support`).
///
/// # Errors
/// If neither that variable nor `HOME` is an absolute path.
pub fn user_folder() -> Result<PathBuf, String> {
    let absolute = |name| named(name).filter(|path| path.is_absolute());
    let usual = if cfg!(target_os = "macos") {
        "Library/Application Support"
    } else {
        ".local/share"
    };
    let home = || absolute("HOME").map(|home| home.join(usual));
    let data = absolute("XDG_DATA_HOME").or_else(home);
    let data = data.or_else(|| absolute("LOCALAPPDATA"));
    Ok(data.ok_or(NO_HOME)?.join("trajformer").join(FOLDER))
}

fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Where the library is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In this file.
    File(PathBuf),
    /// Nowhere here; the system's loader may know one of these names.
    System([&'static str; 2]),
}

/// Where to look.
#[derive(Debug)]
pub(super) struct Places {
    /// What [`LIBRARY_VARIABLE`] says.
    library: Option<PathBuf>,
    /// What [`MODELS_VARIABLE`] says.
    models: Option<PathBuf>,
    /// Folders that may hold `lib` and `models`, in order.
    folders: Vec<PathBuf>,
}

impl Places {
    pub(super) fn from_environment() -> Self {
        let mut folders: Vec<PathBuf> = user_folder().into_iter().collect();
        if let Ok(program) = env::current_exe() {
            // A program that was replaced while it runs has no file any more, but its folder.
            let whole = program.canonicalize().unwrap_or(program);
            folders.extend(beside(&whole));
        }
        // Tests of a build that keeps its target folder elsewhere.
        if cfg!(debug_assertions) {
            folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join(".mujoco"));
        }
        folders.dedup();
        Self {
            library: named(LIBRARY_VARIABLE),
            models: named(MODELS_VARIABLE),
            folders,
        }
    }

    /// The library.
    ///
    /// # Errors
    /// If [`LIBRARY_VARIABLE`] names a place that has none.
    pub(super) fn library(&self) -> Result<Place, String> {
        if let Some(named) = &self.library {
            // A bare name would be the system's loader's.
            let path = std::path::absolute(named).unwrap_or_else(|_| named.clone());
            let inside = LIBRARY.iter().flat_map(|name| {
                let folders = [path.clone(), path.join("lib")];
                folders.map(|folder| folder.join(name))
            });
            let mut candidates = std::iter::once(path.clone()).chain(inside);
            return match candidates.find(|candidate| candidate.is_file()) {
                Some(file) => Ok(Place::File(file)),
                None => Err(format!(
                    "no {} in {}, which {LIBRARY_VARIABLE} names",
                    LIBRARY[0],
                    named.display()
                )),
            };
        }
        let mut candidates = self.libraries();
        let found = candidates.find(|candidate| candidate.is_file());
        Ok(found.map_or(Place::System(LIBRARY), Place::File))
    }

    fn libraries(&self) -> impl Iterator<Item = PathBuf> {
        let folders = self.folders.iter();
        folders.map(|folder| folder.join("lib").join(LIBRARY[0]))
    }

    /// What to say where there is no library; `failures` are the system's loader's.
    pub(super) fn missing(&self, failures: &[String]) -> String {
        let looked: Vec<String> = self.libraries().map(|p| p.display().to_string()).collect();
        format!(
            "MuJoCo's library ({}) is not on this machine: it is in none of {}, and the system has none ({}); \
             {LIBRARY_VARIABLE} names another place",
            LIBRARY[0],
            looked.join(", "),
            failures.join("; ")
        )
    }

    /// The file of a model.
    ///
    /// # Errors
    /// If it isn't there: where it was looked for.
    pub(super) fn model(&self, file: &str) -> Result<PathBuf, String> {
        let folders: Vec<PathBuf> = match &self.models {
            Some(named) => vec![named.clone()],
            None => {
                let near = self.library.iter().flat_map(|named| {
                    let above = named.parent().unwrap_or(named);
                    [named.as_path(), above, above.parent().unwrap_or(above)]
                });
                let all = near.chain(self.folders.iter().map(PathBuf::as_path));
                all.map(|folder| folder.join("models")).collect()
            }
        };
        let mut candidates = folders.iter().map(|folder| folder.join(file));
        candidates.find(|path| path.is_file()).ok_or_else(|| {
            let looked: Vec<String> = folders.iter().map(|p| p.display().to_string()).collect();
            format!(
                "the model file {file} is not on this machine: it is in none of {}; {MODELS_VARIABLE} names another folder",
                looked.join(", ")
            )
        })
    }
}

/// Folders that belong to a program: beside it, in `lib` beside its folder, and in the checkout that it was built in.
fn beside(program: &Path) -> Vec<PathBuf> {
    let Some(folder) = program.parent() else {
        return Vec::new();
    };
    let mut found = vec![folder.join(FOLDER)];
    if let Some(prefix) = folder.parent() {
        found.push(prefix.join("lib").join(FOLDER));
        found.push(prefix.to_path_buf());
    }
    let mut above = folder.ancestors();
    let target = above.find(|folder| folder.ends_with("target"));
    if let Some(checkout) = target.and_then(Path::parent) {
        found.push(checkout.join(".mujoco"));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn put(path: &Path) -> PathBuf {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, "library").expect("written");
        path.to_path_buf()
    }

    fn places(library: Option<&Path>, folders: &[&Path]) -> Places {
        Places {
            library: library.map(Path::to_path_buf),
            models: None,
            folders: folders.iter().map(|path| path.to_path_buf()).collect(),
        }
    }

    #[test]
    fn the_variable_wins_and_folders_are_taken_in_order() {
        let root = tempfile::tempdir().expect("a folder");
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        let folders = [first.as_path(), second.as_path()];
        assert_eq!(places(None, &folders).library(), Ok(Place::System(LIBRARY)));
        let late = put(&second.join("lib").join(LIBRARY[0]));
        assert_eq!(places(None, &folders).library(), Ok(Place::File(late)));
        let early = put(&first.join("lib").join(LIBRARY[0]));
        assert_eq!(places(None, &folders).library(), Ok(Place::File(early)));
        // As a folder of either kind, and as a file of any name.
        let flat = put(&root.path().join("flat").join(LIBRARY[1]));
        let nested = put(&root.path().join("nested/lib").join(LIBRARY[0]));
        let odd = put(&root.path().join("odd.bin"));
        for (named, expected) in [
            (flat.parent().expect("flat"), &flat),
            (&root.path().join("nested"), &nested),
            (&odd, &odd),
        ] {
            let found = places(Some(named), &folders).library();
            assert_eq!(found, Ok(Place::File(expected.clone())));
        }
        let nowhere = root.path().join("nowhere");
        let problem = places(Some(&nowhere), &folders).library().unwrap_err();
        assert!(problem.contains("nowhere") && problem.contains(LIBRARY_VARIABLE));
    }

    #[test]
    fn what_is_missing_is_said_with_every_place_and_the_variable() {
        let root = tempfile::tempdir().expect("a folder");
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        let places = places(None, &[&first, &second]);
        let library = places.missing(&["not installed".to_owned()]);
        let model = places.model("ant.xml").expect_err("no models");
        for (problem, variable) in [(&library, LIBRARY_VARIABLE), (&model, MODELS_VARIABLE)] {
            for word in [
                first.to_str().expect("text"),
                second.to_str().expect("text"),
                variable,
            ] {
                assert!(problem.contains(word), "{word}: {problem}");
            }
        }
        assert!(library.contains("not installed"), "{library}");
        let ant = put(&second.join("models/ant.xml"));
        assert_eq!(places.model("ant.xml"), Ok(ant));
    }

    #[test]
    fn a_program_finds_what_was_installed_with_it_and_what_its_checkout_has() {
        let found = beside(Path::new("/opt/bin/trajformer"));
        let expected = ["/opt/bin/mujoco-3.3.7", "/opt/lib/mujoco-3.3.7", "/opt"];
        assert_eq!(found, expected.map(PathBuf::from));
        let found = beside(Path::new("/src/t/target/debug/deps/it-1"));
        assert_eq!(found.last(), Some(&PathBuf::from("/src/t/.mujoco")));
    }
}
