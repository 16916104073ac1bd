//! Public data sets that have a name: which there are, and where they lie on this machine. Fetching them is the work of
//! [`hub`](crate::app::hub).
//!
//! A name stands wherever a data file does (`data.path = "hopper-medium-v2"`): it is the file or folder that was fetched
//! under that name. Nothing is fetched in passing.

pub mod hub_name;
pub mod known;
pub mod place;

use std::path::{Path, PathBuf};

pub use hub_name::HubName;
pub use known::{DataSet, Known, Layout};
pub use place::root;
use trajformer_core::error::{Error, Result};

/// A data set that is named: one of the table, or one of the Hub.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// A row of the table.
    Known(&'static DataSet),
    /// `hf://datasets/OWNER/NAME`.
    Hub(HubName),
}

impl Named {
    /// The data set of this name.
    ///
    /// # Errors
    /// If there is none, with the names that are like it; or if it begins as one of the Hub does and goes on otherwise.
    pub fn find(name: &str) -> Result<Self> {
        if let Some(named) = HubName::parse(name).transpose()? {
            return Ok(Self::Hub(named));
        }
        match known::all()?.find(name) {
            Some(set) => Ok(Self::Known(set)),
            None => Err(unknown(name, known::all()?)),
        }
    }

    /// As it is written.
    pub fn name(&self) -> String {
        match self {
            Self::Known(set) => set.name.clone(),
            Self::Hub(name) => name.to_string(),
        }
    }

    /// Its file or folder below a folder of data sets, which [`place::root`] or the user names.
    pub fn below(&self, folder: &Path) -> PathBuf {
        match self {
            Self::Known(set) => folder.join(set.local()),
            Self::Hub(name) => folder.join(name.local()),
        }
    }

    /// Its file or folder in the cache, there or not.
    pub fn cached(&self) -> PathBuf {
        match self {
            Self::Known(set) => self.below(&root().join(set.folder())),
            Self::Hub(_) => self.below(&root().join("hub")),
        }
    }

    /// What a reader is to open, if its file or folder is at `place`.
    pub fn opened(&self, place: &Path) -> Option<PathBuf> {
        match self {
            Self::Known(_) => place.exists().then(|| place.to_path_buf()),
            Self::Hub(_) => place::readable(place),
        }
    }
}

/// Where in `folder` the data of `path` lies: a file under its own name; a data set that is named under that name, as it is
/// fetched or as its publisher calls the file, or without the version. The first of these that is there, else the first.
pub fn within(folder: &Path, path: &Path) -> PathBuf {
    let name = path.file_name().map_or(path, Path::new);
    let known = path.to_str().and_then(|text| Named::find(text).ok());
    let Some(Named::Known(set)) = known.filter(|_| !path.exists()) else {
        return folder.join(name);
    };
    let published = set.addresses.first();
    let published = published.and_then(|address| address.rsplit('/').next());
    let local = set.local();
    let unversioned = local.to_str().and_then(|text| {
        let (name, ending) = text.rsplit_once('.')?;
        let (name, version) = name.rsplit_once("-v")?;
        version.parse::<u32>().ok()?;
        Some(format!("{name}.{ending}"))
    });
    let mut names = vec![local.clone()];
    names.extend(published.map(PathBuf::from));
    names.extend(unversioned.map(PathBuf::from));
    let mut places = names.into_iter().map(|name| folder.join(name));
    places
        .find(|place| place.exists())
        .unwrap_or_else(|| folder.join(local))
}

/// Names that are shown of those with a part in them.
const SHOWN: usize = 6;

fn unknown(name: &str, known: &Known) -> Error {
    let (like, with_part) = (known.like(name), known.with_part(name));
    let meant = match (&like[..], &with_part[..]) {
        ([], []) => String::new(),
        ([], found) => {
            let rest = match found.len().saturating_sub(SHOWN) {
                0 => String::new(),
                rest => format!(" and {rest} more"),
            };
            let shown = found[..found.len().min(SHOWN)].join("`, `");
            format!("; those with this part in their name are `{shown}`{rest}")
        }
        (like, _) => format!("; did you mean `{}`?", like.join("`, `")),
    };
    let problem = if name.trim().is_empty() {
        "the name of a data set is empty".to_owned()
    } else {
        format!("`{name}`: no data set of this name is known{meant}")
    };
    Error::Unknown {
        name: name.to_owned(),
        problem,
    }
}

/// The files and folders that paths of data stand for: those that are no files but names of data sets become what was
/// fetched under these names.
///
/// # Errors
/// [`Error::NotFetched`] if it was not fetched yet; [`Error::Unknown`] for what is no file and almost such a name.
pub fn resolved(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    paths.iter().map(|path| resolve(path)).collect()
}

fn resolve(path: &Path) -> Result<PathBuf> {
    let Some(text) = path.to_str().filter(|_| !path.exists()) else {
        return Ok(path.to_path_buf());
    };
    let named = match Named::find(text) {
        Ok(named) => named,
        // Whatever is like nothing is a file that is missing: its reader says so.
        Err(Error::Unknown { name, .. }) => {
            let like = known::all()?.like(text);
            return if like.is_empty() || path.extension().is_some() {
                Ok(path.to_path_buf())
            } else {
                let problem = unknown(text, known::all()?).to_string();
                let problem = format!("{problem} (there is no such file either)");
                Err(Error::Unknown { name, problem })
            };
        }
        Err(other) => return Err(other),
    };
    let place = named.cached();
    match named.opened(&place) {
        Some(found) => {
            check(&named, &found)?;
            Ok(found)
        }
        None if place.exists() => {
            let files = place::files(&place);
            let files: Vec<String> = files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            let problem = match &files[..] {
                [] => "holds no data file that is read here".to_owned(),
                files => format!(
                    "holds several data files: name one of them, {}",
                    files.join(", ")
                ),
            };
            Err(Error::data(&place, problem))
        }
        None => Err(Error::NotFetched {
            name: named.name(),
            place,
        }),
    }
}

/// A file that no reader takes says why, and one that was cut or exchanged is not taken for what it was; its content is
/// compared when it is fetched.
fn check(named: &Named, found: &Path) -> Result<()> {
    let Named::Known(set) = named else {
        return Ok(());
    };
    if let Some(note) = set.note.as_ref().filter(|_| !set.reads) {
        return Err(Error::data(found, note.clone()));
    }
    let size = std::fs::metadata(found).map_err(Error::io(found))?.len();
    match set.size {
        Some(published) if published != size => Err(Error::data(
            found,
            format!(
                "has {size} bytes, {} has {published}: remove it and fetch the data set again",
                set.name
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_almost_known_is_asked_about_and_a_missing_file_is_left_to_its_reader() {
        let typo = resolved(&["hopper-medum-v2".into()]).expect_err("a slip");
        assert!(typo.to_string().contains("`hopper-medium-v2`"), "{typo}");
        let missing = [PathBuf::from("data/mine.hdf5"), "nothing-like-it".into()];
        assert_eq!(resolved(&missing).expect("paths"), missing);
    }

    #[test]
    fn a_file_that_is_there_wins_over_a_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("hopper-medium-v2");
        std::fs::write(&file, b"mine").expect("a file");
        assert_eq!(
            resolved(std::slice::from_ref(&file)).expect("a path"),
            [file]
        );
    }
}
