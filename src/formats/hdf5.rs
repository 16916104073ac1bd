//! HDF5 files as named arrays, through `hdf5-pure`: read in row windows from the open file.
//! A panic inside the library becomes an error.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use hdf5_pure::{
    AttrValue, ChunkCacheConfig, DType, Dataset, DatasetAccessProperties, DatasetBuilder, Datatype,
    DatatypeByteOrder, EnumTypeBuilder, File, Group, Superblock, make_i8_type,
};

use crate::formats::arrays::{ArrayFile, ArrayInfo, Kind, Sink, plausible_bytes};
use crate::formats::hdf5_errors::{absent_as_none, guard, plain, type_name};
use crate::formats::hdf5_links;
use crate::formats::hdf5_links::Link;
use crate::formats::npy::half_to_f32;
use crate::formats::vectors::choose_keys;
use trajformer_core::error::{Error, Result};

/// Bytes of a row window, as f64.
const WINDOW_BYTES: usize = 1 << 20;

/// Dictionaries in dictionaries are listed down to here.
const DICTIONARY_LEVELS: usize = 3;

/// No unpacked chunks are kept.
const NO_CACHE: (usize, usize) = (0, 0);

/// A group of an HDF5 file and its arrays.
pub(super) struct Hdf5Group {
    path: PathBuf,
    /// Name inside the file, with a slash at the end; empty for the root.
    prefix: String,
    bytes: u64,
    group: Group,
    /// Links of the root group to other places, once somebody asks; none of other groups.
    links: Option<Rc<RootLinks>>,
    /// How many links led here.
    hops: usize,
}

/// The links of a file's root group.
struct RootLinks {
    superblock: Superblock,
    found: OnceCell<BTreeMap<String, Link>>,
}

/// Links that lead to links: no more than this, one after the other.
const MOST_HOPS: usize = 4;

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
            links: Some(Rc::new(RootLinks {
                superblock,
                found: OnceCell::new(),
            })),
            hops: 0,
        })
    }

    fn inside(&self, name: &str, group: Group) -> Self {
        Self {
            path: self.path.clone(),
            prefix: format!("{}{name}/", self.prefix),
            bytes: self.bytes,
            group,
            links: None,
            hops: self.hops,
        }
    }

    /// The group called `name` inside this one; `None` if there is none.
    pub fn group(&self, name: &str) -> Result<Option<Self>> {
        let found = guard(&self.path, &format!("{}{name}", self.prefix), || {
            absent_as_none(self.group.group(name))
        })?;
        match found {
            Some(group) => Ok(Some(self.inside(name, group))),
            None => match self.follow(name)? {
                Some((place, object)) => place.group(&object),
                None => Ok(None),
            },
        }
    }

    /// Names of the groups inside this one, and of the links that lead elsewhere, in no particular order.
    pub fn group_names(&self) -> Result<Vec<String>> {
        let groups = guard(&self.path, &self.prefix, || self.group.groups())?;
        Ok(groups
            .into_iter()
            .chain(self.links().keys().cloned())
            .collect())
    }

    /// The groups inside this one with their names, and those that its links lead to, in no particular order. All at
    /// once: looking for one among many takes as long as listing all.
    pub fn groups(&self) -> Result<Vec<(String, Self)>> {
        let mut found = self.own_groups()?;
        let mut others: BTreeMap<&str, BTreeMap<String, Self>> = BTreeMap::new();
        for (name, link) in self.links() {
            if let Link::External { file, object } = link
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
        })?;
        let named = |(name, group): (String, Group)| {
            let inside = self.inside(&name, group);
            (name, inside)
        };
        Ok(groups.into_iter().map(named).collect())
    }

    /// Links of this group that lead elsewhere.
    fn links(&self) -> &BTreeMap<String, Link> {
        static NONE: BTreeMap<String, Link> = BTreeMap::new();
        let Some(links) = &self.links else {
            return &NONE;
        };
        links
            .found
            .get_or_init(|| hdf5_links::links(&self.path, &links.superblock).unwrap_or_default())
    }

    /// Where `name` is, if its first part is a link that leads elsewhere: a root group, and the name there.
    ///
    /// # Errors
    /// If the link leads out of the file's folder, to no file, or nowhere.
    fn follow(&self, name: &str) -> Result<Option<(Self, String)>> {
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        let Some(link) = self.links().get(first) else {
            return Ok(None);
        };
        let refuse =
            |problem: String| Error::data(&self.path, format!("`{first}` is a link {problem}"));
        if self.hops >= MOST_HOPS {
            return Err(refuse("that leads to links without end".to_owned()));
        }
        let (mut place, object) = match link {
            Link::Soft(object) => (Self::open(&self.path)?, object),
            Link::External { file, object } => {
                let target = self.linked_file(file).map_err(refuse)?;
                (Self::open(&target)?, object)
            }
        };
        place.hops = self.hops + 1;
        let object = object.trim_matches('/');
        let there = guard(&place.path, object, || {
            let there = absent_as_none(place.group.group(object))?.is_some();
            Ok(there || absent_as_none(place.group.dataset(object))?.is_some())
        })?;
        let known = object.split('/').next().unwrap_or_default();
        if !there && !place.links().contains_key(known) {
            let file = place.path.display();
            return Err(refuse(format!(
                "to `{object}` in {file}, which is not there"
            )));
        }
        let object = match rest {
            "" => object.to_owned(),
            rest => format!("{object}/{rest}"),
        };
        Ok(Some((place, object)))
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
        match near || home.is_some_and(|home| real.starts_with(home)) {
            true => Ok(target),
            false => Err(outside()),
        }
    }

    /// Keys of the arrays inside this group, those of groups inside with a slash.
    fn array_keys(&self, levels: usize) -> Result<Vec<String>> {
        let mut keys = guard(&self.path, &self.prefix, || self.group.datasets())?;
        let groups = guard(&self.path, &self.prefix, || self.group.groups())?;
        for name in groups.iter().filter(|_| levels > 0) {
            if let Some(group) = self.group(name)? {
                let inner = group.array_keys(levels - 1)?;
                keys.extend(inner.into_iter().map(|key| format!("{name}/{key}")));
            }
        }
        keys.sort();
        Ok(keys)
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

    /// The strings of the array `name`, of fixed or variable length, if it is there.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let full = format!("{}{name}", self.prefix);
        let Some(dataset) = self.dataset(name, NO_CACHE)? else {
            return match self.follow(name)? {
                Some((place, object)) => place.texts(&object),
                None => Ok(None),
            };
        };
        let (shape, element) = guard(&self.path, &full, || {
            Ok((dataset.shape()?, dataset.element_size()?))
        })?;
        let claimed = shape
            .iter()
            .fold(element, |bytes, &n| bytes.saturating_mul(n));
        if shape.len() != 1 || claimed > plausible_bytes(self.bytes) {
            let problem = format!("array `{full}` has shape {shape:?}, expected a list of texts");
            return Err(Error::data(&self.path, problem));
        }
        self.check_chunks(&dataset, &full)?;
        guard(&self.path, &full, || dataset.read_string()).map(Some)
    }

    /// Fails if a chunk lies outside the file or unpacks to more than the file can hold: the library
    /// would reserve memory for it before it finds out.
    fn check_chunks(&self, dataset: &Dataset, full: &str) -> Result<()> {
        let (chunk, element) = guard(&self.path, full, || {
            Ok((dataset.chunk_shape()?, dataset.element_size()?))
        })?;
        let Some(chunk) = chunk else {
            return Ok(());
        };
        let unpacked = chunk
            .iter()
            .fold(element, |bytes, &n| bytes.saturating_mul(n));
        // An index that the library can't list (a version 2 B-tree) is checked when it is read.
        let chunks = guard(&self.path, full, || Ok(dataset.chunks()))?.unwrap_or_default();
        let inside = |chunk: &hdf5_pure::Chunk| {
            chunk.address.saturating_add(chunk.storage_size) <= self.bytes
        };
        if unpacked > plausible_bytes(self.bytes) || !chunks.iter().all(inside) {
            let problem = format!(
                "HDF5 file is damaged or cut off: chunks of array `{full}` lie beyond its end"
            );
            return Err(Error::data(&self.path, problem));
        }
        Ok(())
    }

    /// The array called `name`, with room for `cache` unpacked chunks and their bytes.
    fn dataset(&self, name: &str, cache: (usize, usize)) -> Result<Option<Dataset>> {
        let cache = ChunkCacheConfig::new()
            .with_max_slots(cache.0)
            .with_max_bytes(cache.1);
        let properties = DatasetAccessProperties::new().with_chunk_cache(cache);
        guard(&self.path, &format!("{}{name}", self.prefix), || {
            absent_as_none(self.group.dataset_with_options(name, properties))
        })
    }
}

impl ArrayFile for Hdf5Group {
    fn path(&self) -> &Path {
        &self.path
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn describe(&mut self, name: &str) -> Result<Option<ArrayInfo>> {
        let full = self.full_name(name);
        if let Some(keys) = self.keys(name)? {
            return Err(Error::data(&self.path, choose_keys(&full, &keys)));
        }
        let Some(dataset) = self.dataset(name, NO_CACHE)? else {
            let Some((mut place, object)) = self.follow(name)? else {
                return Ok(None);
            };
            let info = place.describe(&object)?;
            return Ok(info.map(|info| ArrayInfo { name: full, ..info }));
        };
        let (shape, dtype, element) = guard(&self.path, &full, || {
            Ok((dataset.shape()?, dataset.dtype()?, dataset.element_size()?))
        })?;
        let kind = kind_of(&dtype, element).ok_or_else(|| {
            let problem = format!(
                "array `{full}` holds {}, expected numbers",
                type_name(&dtype)
            );
            Error::data(&self.path, problem)
        })?;
        let claimed = shape
            .iter()
            .fold(element, |bytes, &n| bytes.saturating_mul(n));
        if claimed > plausible_bytes(self.bytes) {
            let problem = format!(
                "array `{full}` claims the shape {shape:?}, more than a file of {} bytes can hold; \
                 it is damaged or cut off",
                self.bytes
            );
            return Err(Error::data(&self.path, problem));
        }
        let shape = shape.into_iter().map(|n| n as usize).collect();
        Ok(Some(ArrayInfo {
            name: full,
            shape,
            kind,
            fortran_order: false,
        }))
    }

    fn keys(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        match self.group(name)? {
            Some(group) => group.array_keys(DICTIONARY_LEVELS).map(Some),
            None => Ok(None),
        }
    }

    fn visit(&mut self, info: &ArrayInfo, sink: &mut Sink<'_>) -> Result<()> {
        let full = &info.name;
        let name = full.strip_prefix(&self.prefix).unwrap_or(full);
        let missing = || Error::data(&self.path, format!("array `{full}` is missing"));
        let Some(dataset) = self.dataset(name, NO_CACHE)? else {
            let (mut place, object) = self.follow(name)?.ok_or_else(missing)?;
            let info = ArrayInfo {
                name: object,
                ..info.clone()
            };
            return place.visit(&info, sink);
        };
        let (rows, width) = (info.rows(), info.width());
        self.check_chunks(&dataset, full)?;
        let (window_rows, cache) = guard(&self.path, full, || window(&dataset, info))?;
        let dataset = self.dataset(name, cache)?.ok_or_else(missing)?;
        let mut row = 0;
        while row < rows && width > 0 {
            let count = window_rows.min(rows - row);
            let window = guard(&self.path, full, || {
                read_window(&dataset, info.kind, row..row + count)
            })?;
            if window.len() != count * width {
                let found = window.len();
                let problem = format!(
                    "array `{full}`, row {row}: {found} numbers, expected {}; it is damaged or of \
                     an unusual number format",
                    count * width
                );
                return Err(Error::data(&self.path, problem));
            }
            sink(row * width, &window)?;
            row += count;
        }
        Ok(())
    }
}

fn kind_of(dtype: &DType, element_bytes: u64) -> Option<Kind> {
    match dtype {
        DType::F32 | DType::F64 => Some(Kind::Float),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => Some(Kind::Integer),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => Some(Kind::Integer),
        // NumPy's bool: an enumeration of FALSE and TRUE in one byte.
        DType::Enum(_) if element_bytes == 1 => Some(Kind::Bool),
        // HDF5's own bool, which PyTables writes.
        DType::Other(inner) if matches!(**inner, Datatype::BitField { size: 1, .. }) => {
            Some(Kind::Bool)
        }
        // NumPy's float16.
        DType::Other(_) if half_order(dtype).is_some() => Some(Kind::Float),
        _ => None,
    }
}

/// Rows to read at once, and the chunks to keep unpacked meanwhile with their bytes.
///
/// A window is about a megabyte and a whole number of chunks, so that none is unpacked twice and
/// none need be kept; where a row of chunks is much larger, it is kept and read in parts.
fn window(
    dataset: &Dataset,
    info: &ArrayInfo,
) -> std::result::Result<(usize, (usize, usize)), hdf5_pure::Error> {
    let width = info.width().max(1);
    let rows = (WINDOW_BYTES / (8 * width)).max(1);
    let Some(chunk) = dataset.chunk_shape()? else {
        return Ok((rows, NO_CACHE));
    };
    let extents = chunk
        .iter()
        .map(|&n| usize::try_from(n).unwrap_or(usize::MAX).max(1));
    let extents: Vec<usize> = extents.collect();
    let chunk_rows = extents.first().copied().unwrap_or(1);
    if chunk_rows / 8 <= rows {
        return Ok((
            (rows / chunk_rows).max(1).saturating_mul(chunk_rows),
            NO_CACHE,
        ));
    }
    let across = info
        .shape
        .iter()
        .zip(&extents)
        .skip(1)
        .map(|(n, chunk)| n.div_ceil(*chunk));
    let chunks = across.fold(1, usize::saturating_mul);
    let numbers = extents.iter().copied().fold(1, usize::saturating_mul);
    let bytes = numbers
        .saturating_mul(dataset.element_size()? as usize)
        .saturating_mul(chunks);
    Ok((rows, (chunks.saturating_add(1), bytes)))
}

/// The byte order of float16, which the library does not turn into numbers; `None` for other types.
fn half_order(dtype: &DType) -> Option<DatatypeByteOrder> {
    match dtype {
        DType::Other(inner) => match **inner {
            Datatype::FloatingPoint {
                size: 2,
                byte_order,
                ..
            } => Some(byte_order),
            _ => None,
        },
        _ => None,
    }
}

fn read_window(
    dataset: &Dataset,
    kind: Kind,
    rows: Range<usize>,
) -> std::result::Result<Vec<f64>, hdf5_pure::Error> {
    let (first, count) = (rows.start as u64, rows.len() as u64);
    if kind == Kind::Bool {
        let bytes = dataset.read_raw_rows(first, count)?;
        return Ok(bytes.into_iter().map(f64::from).collect());
    }
    let Some(order) = half_order(&dataset.dtype()?) else {
        return dataset.read_f64_rows(first, count);
    };
    let bits = |pair: &[u8]| match order {
        DatatypeByteOrder::BigEndian => u16::from_be_bytes([pair[0], pair[1]]),
        _ => u16::from_le_bytes([pair[0], pair[1]]),
    };
    let bytes = dataset.read_raw_rows(first, count)?;
    let halves = bytes.chunks_exact(2).map(bits);
    Ok(halves.map(|half| f64::from(half_to_f32(half))).collect())
}

/// Fills a dataset with flags as NumPy's bool is stored by h5py: an enumeration over int8.
pub(super) fn add_flags(
    dataset: &mut DatasetBuilder,
    flags: &[bool],
) -> std::result::Result<(), hdf5_pure::Error> {
    let members = EnumTypeBuilder::with_base(make_i8_type())
        .value("FALSE", 0)
        .value("TRUE", 1);
    let values: Vec<u8> = flags.iter().map(|&flag| u8::from(flag)).collect();
    let rows = flags.len() as u64;
    dataset
        .with_enum_u8_data(members.build()?, &values)
        .with_shape(&[rows]);
    dataset
        .with_chunks(&[rows.clamp(1, 1 << 16)])
        .with_deflate(4);
    Ok(())
}

/// The error of a failed write to `path`.
pub(super) fn write_failed(path: &Path) -> impl Fn(hdf5_pure::Error) -> Error + '_ {
    |error| match error {
        hdf5_pure::Error::Io(source) => Error::io(path)(source),
        other => Error::data(path, format!("can't be written as HDF5: {}", plain(&other))),
    }
}
