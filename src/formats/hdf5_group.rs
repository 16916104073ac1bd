//! [`Hdf5Group`]: a group of an HDF5 file, and what its links lead to, in this file and in others beside it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use hdf5_pure::{AttrValue, ChunkCacheConfig, Dataset, DatasetAccessProperties, File, Group};

use crate::formats::format::Place;
use crate::formats::hdf5_errors::{absent_as_none, guard};
use crate::formats::hdf5_links::{Entry, FileLinks, Link};
use trajformer_core::error::{Error, Result};

/// A group of an HDF5 file and its arrays.
pub(super) struct Hdf5Group {
    pub(super) path: PathBuf,
    /// Name inside the file, with a slash at the end; empty for the root.
    pub(super) prefix: String,
    /// Size of the whole file in bytes.
    pub(super) bytes: u64,
    group: Group,
    links: Rc<FileLinks>,
    /// The links that led here.
    trail: Trail,
}

/// Links that lead to links, and so on.
#[derive(Debug, Clone, Default)]
struct Trail {
    /// The file of the first link.
    file: PathBuf,
    /// What messages say of them, e.g. "`a` is a link to `b` in c.hdf5, a link to `d`".
    said: String,
    /// Target of the first link alone.
    first: String,
    hops: usize,
}

/// Links that lead to links: no more than this, one after the other, as in HDF5's own library.
const MOST_HOPS: usize = 16;

/// What helps where a link leads nowhere.
const REPLACE: &str = "put the array or group itself there, e.g. with h5py's `copy`";

/// Dictionaries in dictionaries are listed down to here.
const DICTIONARY_LEVELS: usize = 3;

const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Where HDF5 may begin: behind a block that others use, as in MATLAB's files.
const HDF5_PLACES: [usize; 4] = [0, 512, 1024, 2048];

/// Whether a place is an HDF5 file.
pub(super) fn is_hdf5(place: &Place<'_>) -> bool {
    place.has(HDF5, &HDF5_PLACES)
}

impl Hdf5Group {
    /// Opens a file at its root group.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
        let (group, superblock) = guard(path, "", || {
            let file = File::open_streaming(path)?;
            Ok((file.root(), file.superblock().clone()))
        })?;
        let end = superblock.eof_address;
        if bytes < end {
            let problem =
                format!("HDF5 file is cut off: it has {bytes} bytes of {end}; copy it again");
            return Err(Error::data(path, problem));
        }
        Ok(Self {
            path: path.to_path_buf(),
            prefix: String::new(),
            bytes,
            group,
            links: Rc::new(FileLinks::new(path, superblock)),
            trail: Trail::default(),
        })
    }

    fn inside(&self, name: &str, group: Group) -> Self {
        Self {
            path: self.path.clone(),
            prefix: format!("{}{name}/", self.prefix),
            bytes: self.bytes,
            group,
            links: Rc::clone(&self.links),
            trail: self.trail.clone(),
        }
    }

    /// The group called `name` inside this one; `None` if there is none.
    pub fn group(&self, name: &str) -> Result<Option<Self>> {
        let found = guard(&self.path, &format!("{}{name}", self.prefix), || match self
            .group
            .group(name)
        {
            Err(hdf5_pure::Error::NotAGroup(_)) => Ok((None, true)),
            found => absent_as_none(found).map(|group| (group, false)),
        });
        match found {
            Ok((Some(group), _)) => Ok(Some(self.inside(name, group))),
            Ok((None, true)) => Ok(None),
            // Links are missing, or errors, to the library.
            missing => match self.follow(name)? {
                Some((place, object)) => place.group(&object),
                None => missing.map(|_| None),
            },
        }
    }

    /// Names of the groups inside this one, and of the links that lead elsewhere, in no particular order.
    pub fn group_names(&self) -> Result<Vec<String>> {
        let groups = match guard(&self.path, &self.prefix, || self.group.groups()) {
            Ok(groups) => groups,
            Err(error) => self.objects(error)?,
        };
        let entries = self.links.of(&self.prefix);
        let links = entries.iter().filter(|(_, entry)| is_link(entry));
        let links = links.map(|(name, _)| name.clone());
        Ok(groups.into_iter().chain(links).collect())
    }

    /// The groups inside this one with their names, and those that its links lead to, in no particular order. All at
    /// once: looking for one among many takes as long as listing all.
    pub fn groups(&self) -> Result<Vec<(String, Self)>> {
        let mut found = self.own_groups()?;
        let mut others: BTreeMap<&str, BTreeMap<String, Self>> = BTreeMap::new();
        let entries = self.links.of(&self.prefix);
        for (name, entry) in entries.iter().filter(|(_, entry)| is_link(entry)) {
            if let Entry::Link(Link::External { file, object }) = entry
                && let Ok(target) = self.linked_file(file)
            {
                if !others.contains_key(file.as_str()) {
                    let groups = Self::open(&target)?.own_groups()?;
                    others.insert(file, groups.into_iter().collect());
                }
                let there = others.get_mut(file.as_str());
                if let Some(group) =
                    there.and_then(|groups| groups.remove(object.trim_matches('/')))
                {
                    found.push((name.clone(), group));
                    continue;
                }
            }
            found.extend(self.group(name)?.map(|group| (name.clone(), group)));
        }
        Ok(found)
    }

    fn own_groups(&self) -> Result<Vec<(String, Self)>> {
        let groups = guard(&self.path, &self.prefix, || {
            Ok(self.group.iter_groups()?.collect::<Vec<_>>())
        });
        let groups = match groups {
            Ok(groups) => groups,
            Err(error) => {
                let mut found = Vec::new();
                for name in self.objects(error)? {
                    found.extend(self.group(&name)?.map(|group| (name, group)));
                }
                return Ok(found);
            }
        };
        let named = |(name, group): (String, Group)| {
            let inside = self.inside(&name, group);
            (name, inside)
        };
        Ok(groups.into_iter().map(named).collect())
    }

    /// Names of the objects in this group where the library can't list them (`error`) because of links beside them.
    fn objects(&self, error: Error) -> Result<Vec<String>> {
        let entries = self.links.of(&self.prefix);
        if !entries.values().any(is_link) {
            return Err(error);
        }
        let objects = entries.iter().filter(|(_, entry)| !is_link(entry));
        Ok(objects.map(|(name, _)| name.clone()).collect())
    }

    /// Where `name` is, if some part of it is a link that leads elsewhere: a root group, and the name there.
    ///
    /// # Errors
    /// If the link leads out of the file's folder, to no file, nowhere, or to itself.
    pub(super) fn follow(&self, name: &str) -> Result<Option<(Self, String)>> {
        let mut before = self.prefix.clone();
        let mut parts = name.split('/');
        let link = loop {
            let Some(part) = parts.next() else {
                return Ok(None);
            };
            match self.links.of(&before).get(part) {
                Some(Entry::Link(link)) => {
                    break (format!("{before}{part}"), link.clone());
                }
                Some(Entry::Object(_)) => before = format!("{before}{part}/"),
                None => return Ok(None),
            }
        };
        let rest: Vec<&str> = parts.collect();
        let (place, object) = self.resolve(&link.0, &before, &link.1)?;
        let whole = std::iter::once(object.as_str()).chain(rest);
        Ok(Some((place, whole.collect::<Vec<_>>().join("/"))))
    }

    /// Where the link `name` inside the group `group` leads: a root group, and the name there, which is an object's.
    fn resolve(&self, name: &str, group: &str, link: &Link) -> Result<(Self, String)> {
        let mut trail = self.trail.clone();
        match trail.hops {
            0 => trail.said = format!("`{name}` is a link"),
            _ => trail.said.push_str(", a link"),
        }
        if trail.hops == 0 {
            trail.file.clone_from(&self.path);
        }
        trail.hops += 1;
        if trail.hops > MOST_HOPS {
            let problem = format!(
                "{}, and that leads to links without end: {REPLACE}",
                trail.first
            );
            return Err(Error::data(&trail.file, problem));
        }
        let (mut place, object) = match link {
            // From the root, or from the group that it is in.
            Link::Soft(object) if object.starts_with('/') => {
                (Self::open(&self.path)?, object.clone())
            }
            Link::Soft(object) => (Self::open(&self.path)?, format!("{group}{object}")),
            Link::External { file, object } => {
                let refuse =
                    |problem: String| Error::data(&trail.file, format!("{} {problem}", trail.said));
                let target = self.linked_file(file).map_err(refuse)?;
                (Self::open(&target)?, object.clone())
            }
        };
        let parts = object.split('/').filter(|part| !matches!(*part, "" | "."));
        let object = parts.collect::<Vec<_>>().join("/");
        trail.said.push_str(&match link {
            Link::Soft(_) => format!(" to `{object}`"),
            Link::External { .. } => format!(" to `{object}` in {}", place.path.display()),
        });
        if trail.hops == 1 {
            trail.first.clone_from(&trail.said);
        }
        place.trail = trail.clone();
        let there = guard(&place.path, &object, || {
            let there = absent_as_none(place.group.group(&object))?.is_some();
            Ok(there || absent_as_none(place.group.dataset(&object))?.is_some())
        });
        if matches!(there, Ok(true)) {
            return Ok((place, object));
        }
        if let Some(found) = place.follow(&object)? {
            return Ok(found);
        }
        there?;
        let problem = format!("{}, which is not there: {REPLACE}", trail.said);
        Err(Error::data(&trail.file, problem))
    }

    /// The file that an external link names: inside the folder of this one.
    fn linked_file(&self, name: &str) -> std::result::Result<PathBuf, String> {
        let relative = Path::new(name);
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let inside = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
        let outside = || {
            format!(
                "to another file, `{name}`, outside of the data set's folder, where links are not followed: put the \
                 data itself there"
            )
        };
        if name.contains('\\') || !relative.components().all(inside) {
            return Err(outside());
        }
        let target = folder.join(relative);
        let real = target.canonicalize().map_err(|error| {
            let target = target.display();
            format!("to another file, {target}, which can't be read ({error}): copy the whole data set, with this file")
        })?;
        // Caches keep files under other names somewhere else, and links to them in the folder.
        let home = self.path.canonicalize().ok();
        let home = home.as_deref().and_then(Path::parent);
        let near = folder
            .canonicalize()
            .is_ok_and(|folder| real.starts_with(folder));
        if near || home.is_some_and(|home| real.starts_with(home)) {
            Ok(target)
        } else {
            Err(outside())
        }
    }

    /// Keys of the arrays inside this group, those of groups inside with a slash.
    pub(super) fn keys_inside(&self) -> Result<Vec<String>> {
        self.array_keys(DICTIONARY_LEVELS)
    }

    fn array_keys(&self, levels: usize) -> Result<Vec<String>> {
        let listed = guard(&self.path, &self.prefix, || {
            Ok((self.group.datasets()?, self.group.groups()?))
        });
        // Objects of either kind, and links, where the library can't list them.
        let (mut keys, groups, mut others) = match listed {
            Ok((keys, groups)) => (keys, groups, Vec::new()),
            Err(error) => (Vec::new(), Vec::new(), self.objects(error)?),
        };
        let entries = self.links.of(&self.prefix);
        let links = entries.iter().filter(|(_, entry)| is_link(entry));
        others.extend(links.map(|(name, _)| name.clone()));
        for name in groups.iter().filter(|_| levels > 0) {
            if let Some(group) = self.group(name)? {
                keys.extend(group.keys_below(name, levels)?);
            }
        }
        for name in others {
            match self.group(&name) {
                Ok(Some(group)) if levels > 0 => keys.extend(group.keys_below(&name, levels)?),
                // What is wrong with a link is said when somebody reads it.
                Ok(None) | Err(_) => keys.push(name),
                Ok(Some(_)) => {}
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn keys_below(&self, name: &str, levels: usize) -> Result<Vec<String>> {
        let inner = self.array_keys(levels - 1)?;
        Ok(inner
            .into_iter()
            .map(|key| format!("{name}/{key}"))
            .collect())
    }

    /// The attribute `name` as text, if it is there and is text.
    pub fn text_attribute(&self, name: &str) -> Result<Option<String>> {
        Ok(self
            .attribute(name)?
            .and_then(|value| value.as_str().map(str::to_owned)))
    }

    /// The attribute `name` as a number, if it is there and is one.
    pub fn number_attribute(&self, name: &str) -> Result<Option<f64>> {
        let number = |value: AttrValue| value.as_f64().or(value.as_i64().map(|v| v as f64));
        Ok(self.attribute(name)?.and_then(number))
    }

    fn attribute(&self, name: &str) -> Result<Option<AttrValue>> {
        let mut attributes = guard(&self.path, &self.prefix, || self.group.attrs())?;
        Ok(attributes.remove(name))
    }

    /// The array called `name`, with room for `cache` unpacked chunks and their bytes.
    pub(super) fn dataset(&self, name: &str, cache: (usize, usize)) -> Result<Option<Dataset>> {
        let cache = ChunkCacheConfig::new()
            .with_max_slots(cache.0)
            .with_max_bytes(cache.1);
        let properties = DatasetAccessProperties::new().with_chunk_cache(cache);
        guard(&self.path, &format!("{}{name}", self.prefix), || {
            absent_as_none(self.group.dataset_with_options(name, properties))
        })
    }
}

fn is_link(entry: &Entry) -> bool {
    matches!(entry, Entry::Link(_))
}
