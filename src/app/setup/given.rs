//! Wheels and folders that the user gives in the index's place.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::app::setup::files::{File, LICENSES, Project, sha256};
use trajformer_core::error::{Error, Result};

/// The most that a file in a wheel may have, in bytes.
const MEMBER: u64 = 64 << 20;

/// What was given.
pub(super) struct Given {
    wheels: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Given {
    /// Looks at every path: a wheel, or a folder and the wheels in it.
    ///
    /// # Errors
    /// If one is neither.
    pub(super) fn find(paths: &[PathBuf]) -> Result<Self> {
        let (mut wheels, mut folders) = (Vec::new(), Vec::new());
        for path in paths {
            if path.is_dir() {
                let entries = fs::read_dir(path).map_err(Error::io(path))?;
                let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                found.retain(|path| is_wheel(path));
                found.sort();
                wheels.append(&mut found);
                folders.push(path.clone());
            } else if path.is_file() && is_wheel(path) {
                wheels.push(path.clone());
            } else {
                return Err(Error::Setup {
                    problem: format!("{}: neither a wheel (.whl) nor a folder", path.display()),
                });
            }
        }
        Ok(Self { wheels, folders })
    }

    /// The content of a file that lies in a folder itself, under its place or its name alone.
    ///
    /// # Errors
    /// If it is there with another content, and nowhere else.
    pub(super) fn file(&self, file: &File) -> Result<Option<Vec<u8>>> {
        let name = file.place.file_name().unwrap_or_default();
        let mut other = None;
        for folder in &self.folders {
            for path in [folder.join(&file.place), folder.join(name)] {
                if !path.is_file() {
                    continue;
                }
                let content = fs::read(&path).map_err(Error::io(&path))?;
                if sha256(&content) == file.sha256 {
                    return Ok(Some(content));
                }
                other = other.or(Some(path));
            }
        }
        match other {
            Some(path) => Err(Error::Setup {
                problem: format!(
                    "{} is not the original (its SHA-256 is not {})",
                    path.display(),
                    file.sha256
                ),
            }),
            None => Ok(None),
        }
    }

    /// The licences of a project that lie in the folders, by their places.
    pub(super) fn licenses(&self, project: Project) -> Vec<(PathBuf, Vec<u8>)> {
        let folders = self.folders.iter().map(|folder| folder.join(LICENSES));
        let files = folders.filter_map(|folder| fs::read_dir(folder).ok());
        let files = files.flatten().flatten().map(|entry| entry.path());
        let found = files.filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            let is_it = name.starts_with(&format!("{}-", project.name)) && path.is_file();
            let content = fs::read(&path).ok().filter(|_| is_it)?;
            Some((Path::new(LICENSES).join(name), content))
        });
        found.collect()
    }

    /// The wheel of a project, in which `file` is.
    ///
    /// # Errors
    /// If there is none for this system, or it is damaged.
    pub(super) fn wheel(&self, project: Project, file: &File) -> Result<Archive> {
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let Some(path) = self.wheels.iter().find(|path| project.fits(&name(path))) else {
            let given = self.wheels.iter().map(|path| name(path));
            let given: Vec<String> = given.collect();
            return Err(Error::Setup {
                problem: format!(
                    "needs {} or {}: what was given has neither; its wheels are: {}",
                    project.pattern(),
                    file.place.display(),
                    if given.is_empty() {
                        "none".to_owned()
                    } else {
                        given.join(", ")
                    }
                ),
            });
        };
        let content = fs::read(path).map_err(Error::io(path))?;
        Archive::open(path.display().to_string(), content)
    }
}

fn is_wheel(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "whl")
}

/// An opened wheel.
pub(super) struct Archive {
    pub(super) name: String,
    archive: ZipArchive<Cursor<Vec<u8>>>,
    members: Vec<String>,
}

impl Archive {
    /// # Errors
    /// If it is no zip archive.
    pub(super) fn open(name: String, content: Vec<u8>) -> Result<Self> {
        let damaged = |error: String| Error::Setup {
            problem: format!("{name}: no wheel, or a damaged one ({error})"),
        };
        let archive =
            ZipArchive::new(Cursor::new(content)).map_err(|error| damaged(error.to_string()))?;
        let members = archive
            .file_names()
            .map(|name| Ok(name?.into_owned()))
            .collect::<std::result::Result<_, zip::result::ZipError>>();
        let members = members.map_err(|error| damaged(error.to_string()))?;
        Ok(Self {
            archive,
            members,
            name,
        })
    }

    /// The content of a file in it.
    ///
    /// # Errors
    /// If it is not there, damaged, or far too large.
    pub(super) fn content(&mut self, member: &str) -> Result<Vec<u8>> {
        let name = &self.name;
        let failed = |problem: String| Error::Setup {
            problem: format!("{name}: `{member}`: {problem}"),
        };
        let file = self.archive.by_name(member);
        let file = file.map_err(|error| failed(error.to_string()))?;
        let mut content = Vec::new();
        let read = file.take(MEMBER + 1).read_to_end(&mut content);
        read.map_err(|error| failed(error.to_string()))?;
        if content.len() as u64 > MEMBER {
            return Err(failed(format!("more than {MEMBER} bytes")));
        }
        Ok(content)
    }

    /// The licences in it.
    pub(super) fn licenses(&self) -> Vec<String> {
        let is_one = |member: &&String| {
            let name = member.rsplit('/').next().unwrap_or_default();
            member.contains(".dist-info/") && name.starts_with("LICENSE")
        };
        self.members.iter().filter(is_one).cloned().collect()
    }
}
