//! Tensors that `torch.save` wrote: since PyTorch 1.6 a zip archive of a pickle and of the numbers of every storage,
//! before that pickles one after the other, then the numbers (`_save` and `_legacy_save` in torch/serialization.py).
//!
//! Nothing is executed: see [`pickle`](super::pickle).

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};

use trajformer_models::pretrained::{Tensors, is_mask};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::app::pretrained::element::Element;
use crate::app::pretrained::pickle::{Call, Id, Pickle, Value};

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is cut off or damaged.
    Damaged(String),
    /// It holds what is not read here: what to do.
    NotRead(String),
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Damaged(problem)
    }
}

impl From<&str> for Problem {
    fn from(problem: &str) -> Self {
        Self::Damaged(problem.to_owned())
    }
}

type Result<T> = std::result::Result<T, Problem>;

/// How a file from before 1.6 starts: a pickle of its magic number (0x1950a86a20f9469cfc6c).
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const OLD_VERSION: i64 = 1001;
const ZIP: &[u8] = b"PK\x03\x04";

/// Under which of a checkpoint's keys its model is looked for, in this order.
const WRAPPERS: [&str; 8] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "network",
    "net",
    "weights",
];
/// How many of them may lie inside each other.
const DEEPEST: usize = 4;
/// More dimensions than any tensor has.
const MOST_DIMENSIONS: usize = 32;
/// Most bytes of all tensors that repeat the numbers of smaller storages.
const MOST_REPEATED: usize = 1 << 24;
/// How many times as large as its storages, all together, a file's tensors may be: parameters that share their numbers.
const MOST_SHARED: usize = 16;
/// How many times as large as the file a part of it may be once it is unpacked: `torch.save` packs nothing, others may.
const MOST_UNPACKED: usize = 16;
/// Longest name of a tensor or a storage, in bytes.
const LONGEST_NAME: usize = 1024;

/// Whether a file that starts with these bytes is a zip archive or a pickle.
pub fn begins(start: &[u8]) -> bool {
    start.starts_with(ZIP) || (start.len() > 1 && start[0] == 0x80 && (1..=5).contains(&start[1]))
}

/// The tensors of the state_dict in `bytes`, on the CPU, under the names of the file; masks, which networks build
/// themselves, are not looked at.
///
/// # Errors
/// If the file is cut off or damaged, holds no tensors, or tensors of a kind that is not read: names them.
pub fn read(bytes: &[u8]) -> Result<Tensors> {
    if bytes.starts_with(ZIP) {
        read_archive(bytes)
    } else {
        read_old(bytes)
    }
}

fn read_archive(bytes: &[u8]) -> Result<Tensors> {
    let cut_off = |error: ZipError| format!("a zip archive that is cut off ({error})");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(cut_off)?;
    let names = archive.file_names().map(|name| Ok(name?.into_owned()));
    let names: Vec<String> = names
        .collect::<std::result::Result<_, _>>()
        .map_err(cut_off)?;
    let pickle = names.iter().find_map(|name| name.strip_suffix("data.pkl"));
    let Some(root) = pickle else {
        return Err(Problem::NotRead(
            "a zip archive without a `data.pkl`: not what `torch.save` writes".to_owned(),
        ));
    };
    if names
        .iter()
        .any(|name| *name == format!("{root}constants.pkl"))
    {
        let problem = "a TorchScript archive (`torch.jit.save`): save the model's `state_dict()` with `torch.save`";
        return Err(Problem::NotRead(problem.to_owned()));
    }
    let mut file = |name: &str| -> Result<Vec<u8>> {
        let damaged = |error: String| format!("`{name}`: {error}");
        let mut content = Vec::new();
        let file = archive
            .by_name(name)
            .map_err(|error| damaged(error.to_string()))?;
        // Whatever the archive says of its size: it is unpacked no further.
        let most = bytes.len().saturating_mul(MOST_UNPACKED);
        file.take(most as u64 + 1)
            .read_to_end(&mut content)
            .map_err(|error| damaged(error.to_string()))?;
        if content.len() > most {
            return Err(damaged(format!(
                "unpacks to more than {MOST_UNPACKED} times the file's {} bytes",
                bytes.len()
            ))
            .into());
        }
        Ok(content)
    };
    let order = format!("{root}byteorder");
    if names.contains(&order) && file(&order)?.trim_ascii() == b"big" {
        return Err(Problem::NotRead(BIG_ENDIAN.to_owned()));
    }
    let (pickle, _) = Pickle::read(&file(&format!("{root}data.pkl"))?)?;
    let entries = entries(&pickle)?;
    let mut by_storage: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in &entries {
        by_storage.entry(&entry.storage).or_default().push(entry);
    }
    let mut tensors = Tensors::new();
    let mut room = Room::of(bytes);
    for (storage, entries) in by_storage {
        let numbers = file(&format!("{root}data/{storage}"))?;
        for entry in entries {
            room.take(entry)?;
            tensors.insert(entry.name.clone(), entry.tensor(&numbers)?);
        }
    }
    Ok(tensors)
}

/// How many bytes of tensors may still be made of a file.
struct Room {
    most: usize,
    left: usize,
}

impl Room {
    fn of(bytes: &[u8]) -> Self {
        let most = bytes.len().saturating_mul(MOST_SHARED);
        let most = most.saturating_add(MOST_REPEATED);
        Self { most, left: most }
    }

    fn take(&mut self, entry: &Entry) -> Result<()> {
        let bytes = entry
            .shape
            .iter()
            .fold(entry.element.size(), |n, &d| n.saturating_mul(d));
        let left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!(
                "`{}` {:?} and the tensors before it take more than {} bytes: the same numbers again and again",
                entry.name, entry.shape, self.most
            )
        })?;
        self.left = left;
        Ok(())
    }
}

const BIG_ENDIAN: &str = "it was written on a big-endian machine";

fn read_old(bytes: &[u8]) -> Result<Tensors> {
    let mut rest = bytes;
    let mut next = || -> Result<Pickle> {
        let (pickle, length) = Pickle::read(rest)?;
        rest = &rest[length..];
        Ok(pickle)
    };
    let magic = next()?;
    if *magic.get(magic.root()) != Value::Long(MAGIC.to_vec()) {
        return Err(no_tensors(&magic));
    }
    let version = next()?;
    if *version.get(version.root()) != Value::Int(OLD_VERSION) {
        return Err(format!("another version of the format than {OLD_VERSION}").into());
    }
    let machine = next()?;
    let little = entry(&machine, machine.root(), "little_endian");
    if little.is_none_or(|id| *machine.get(id) != Value::Bool(true)) {
        return Err(Problem::NotRead(BIG_ENDIAN.to_owned()));
    }
    let pickle = next()?;
    let keys = next()?;
    let storages = storages(&pickle, &keys, bytes, bytes.len() - rest.len())?;
    let mut room = Room::of(bytes);
    let tensor = |entry: Entry| {
        room.take(&entry)?;
        let Some(numbers) = storages.get(entry.storage.as_str()) else {
            return Err(format!("the numbers of `{}` are missing", entry.name).into());
        };
        let tensor = entry.tensor(numbers)?;
        Ok((entry.name, tensor))
    };
    entries(&pickle)?.into_iter().map(tensor).collect()
}

/// What follows the pickles: bytes by storage, in the order of a list of their keys; each has its count in front.
fn storages<'a>(
    pickle: &Pickle,
    keys: &Pickle,
    bytes: &'a [u8],
    start: usize,
) -> Result<HashMap<String, &'a [u8]>> {
    let mut sizes = HashMap::new();
    for value in pickle.values() {
        if let Value::Persistent(id) = value
            && let Some(storage) = Storage::of(pickle, *id)
            && let Some(element) = storage.element
        {
            sizes.entry(storage.key).or_insert(element.size());
        }
    }
    let Value::List(list) = keys.get(keys.root()) else {
        return Err("no list of storages".into());
    };
    let (mut at, mut found) = (start, HashMap::new());
    for &key in list {
        let key = key_text(keys, key).ok_or("a storage has no name")?;
        let size = sizes
            .get(&key)
            .ok_or_else(|| format!("storage {key} has a type that is not read"))?;
        let count = bytes.get(at..at.saturating_add(8));
        let count = count
            .and_then(|count| count.try_into().ok())
            .map(u64::from_le_bytes);
        let begin = at.saturating_add(8);
        let end = count.and_then(|count| {
            usize::try_from(count)
                .ok()?
                .checked_mul(*size)?
                .checked_add(begin)
        });
        let Some(numbers) = end.and_then(|end| bytes.get(begin..end)) else {
            return Err(format!(
                "storage {key} is cut off: the file has {} bytes",
                bytes.len()
            )
            .into());
        };
        at = begin + numbers.len();
        found.insert(key, numbers);
    }
    Ok(found)
}

/// Where the numbers of a tensor are: what PyTorch keeps outside of its pickles.
struct Storage {
    key: String,
    /// `None` for types that are not read, and for storages of bytes that may be of any type.
    element: Option<Element>,
    class: String,
    /// The first number's place in the storage of this key, of which this may be a part.
    start: usize,
}

impl Storage {
    /// The storage that `('storage', class, key, device, count)` names; older files end with the part that is meant.
    fn of(pickle: &Pickle, id: Id) -> Option<Self> {
        let parts = pickle.tuple(id)?;
        let (_, class) = pickle.global(*parts.get(1)?)?;
        let part = parts.get(5).and_then(|&part| pickle.tuple(part));
        Some(Self {
            key: key_text(pickle, *parts.get(2)?)?,
            element: Element::of_torch(class),
            class: class.to_owned(),
            start: part
                .and_then(|part| pickle.count(*part.get(1)?))
                .unwrap_or(0),
        })
    }
}

fn key_text(pickle: &Pickle, id: Id) -> Option<String> {
    match pickle.get(id) {
        Value::Text(text) if text.len() <= LONGEST_NAME => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A tensor in a file.
struct Entry {
    name: String,
    storage: String,
    element: Element,
    /// The first number's place in its storage.
    start: usize,
    shape: Vec<usize>,
    /// From one number to the next in each dimension.
    strides: Vec<usize>,
}

impl Entry {
    /// The tensor among the numbers of its storage.
    fn tensor(&self, storage: &[u8]) -> Result<candle_core::Tensor> {
        let (size, name) = (self.element.size(), &self.name);
        let larger = || {
            format!(
                "`{name}` {:?} is larger than its storage of {} bytes",
                self.shape,
                storage.len()
            )
        };
        let count = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let length = count
            .and_then(|count| count.checked_mul(size))
            .ok_or_else(larger)?;
        if length == 0 {
            let empty = self.element.tensor(&[], &self.shape);
            return empty.map_err(|error| format!("`{name}`: {error}").into());
        }
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.start, |at, (&d, &stride)| {
                at.checked_add((d - 1).checked_mul(stride)?)
            });
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        if end.is_none_or(|end| end > storage.len()) || length > storage.len().max(MOST_REPEATED) {
            return Err(larger().into());
        }
        let made = if self.is_contiguous() {
            let start = self.start * size;
            self.element
                .tensor(&storage[start..start + length], &self.shape)
        } else {
            self.element
                .tensor(&self.gathered(storage, length), &self.shape)
        };
        made.map_err(|error| format!("`{name}`: {error}").into())
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape
            .iter()
            .zip(&self.strides)
            .rev()
            .all(|(&d, &stride)| {
                let fits = d == 1 || stride == expected;
                expected *= d;
                fits
            })
    }

    /// The numbers in the order of the shape, wherever they lie.
    fn gathered(&self, storage: &[u8], length: usize) -> Vec<u8> {
        let size = self.element.size();
        let mut numbers = Vec::with_capacity(length);
        let (mut index, mut at) = (vec![0; self.shape.len()], self.start);
        while numbers.len() < length {
            numbers.extend_from_slice(&storage[at * size..(at + 1) * size]);
            for dim in (0..index.len()).rev() {
                index[dim] += 1;
                at += self.strides[dim];
                if index[dim] < self.shape[dim] {
                    break;
                }
                at -= self.strides[dim] * self.shape[dim];
                index[dim] = 0;
            }
        }
        numbers
    }
}

/// The tensors of the model in what was pickled.
fn entries(pickle: &Pickle) -> Result<Vec<Entry>> {
    let Some(model) = model_in(pickle, pickle.root(), 0)? else {
        return Err(no_tensors(pickle));
    };
    let mut found = Vec::new();
    for &(key, value) in pickle.entries(model).unwrap_or_default() {
        let Some(name) = pickle.text(key).filter(|name| !is_mask(name)) else {
            continue;
        };
        if let Some(call) = rebuilt(pickle, value) {
            if name.len() > LONGEST_NAME {
                let length = name.len();
                return Err(format!(
                    "a tensor has a name of {length} bytes, expected {LONGEST_NAME} at most"
                )
                .into());
            }
            found.push(tensor_of(pickle, name, &call)?);
        }
    }
    Ok(found)
}

/// The dictionary of tensors at `id`, or in one of the wrappers that training programs put around it.
fn model_in(pickle: &Pickle, id: Id, depth: usize) -> Result<Option<Id>> {
    if let Value::Call(call) = pickle.get(id)
        && call.entries.is_empty()
        && call
            .state
            .is_some_and(|state| entry(pickle, state, "_modules").is_some())
    {
        let (module, name) = pickle.global(call.callable).unwrap_or_default();
        return Err(Problem::NotRead(format!(
            "a whole object of the class `{module}.{name}` (`torch.save(model)`), whose code is not run here: save \
             `model.state_dict()`"
        )));
    }
    let Some(entries) = pickle.entries(id) else {
        return Ok(None);
    };
    if depth < DEEPEST {
        for key in WRAPPERS {
            if let Some(inner) = entry(pickle, id, key)
                && let Some(model) = model_in(pickle, inner, depth + 1)?
            {
                return Ok(Some(model));
            }
        }
    }
    let has_tensors = entries
        .iter()
        .any(|&(_, value)| rebuilt(pickle, value).is_some());
    Ok(has_tensors.then_some(id))
}

/// The value under a key.
fn entry(pickle: &Pickle, id: Id, key: &str) -> Option<Id> {
    let entries = pickle.entries(id)?;
    let found = entries
        .iter()
        .find(|&&(name, _)| pickle.text(name) == Some(key));
    found.map(|&(_, value)| value)
}

fn no_tensors(pickle: &Pickle) -> Problem {
    let keys = pickle.entries(pickle.root()).unwrap_or_default();
    let names: Vec<&str> = keys
        .iter()
        .filter_map(|&(key, _)| pickle.text(key))
        .take(8)
        .collect();
    Problem::NotRead(if names.is_empty() {
        "it holds no tensors, expected a model's state_dict".to_owned()
    } else {
        format!(
            "it holds no tensors but `{}`, expected a model's state_dict, or one under `{}`",
            names.join("`, `"),
            WRAPPERS.join("`, `")
        )
    })
}

/// The call that makes a tensor, of whatever kind; what PyTorch puts around it for parameters, and for classes derived
/// from tensors, is taken off.
fn rebuilt(pickle: &Pickle, id: Id) -> Option<Call> {
    // Without what is stored in it by key, which nobody asks for and which may be long.
    let call = |id: Id| match pickle.get(id) {
        Value::Call(call) => Some(Call {
            entries: Vec::new(),
            ..*call
        }),
        _ => None,
    };
    let mut found = call(id)?;
    for _ in 0..DEEPEST {
        let arguments = pickle.tuple(found.arguments)?;
        found = match pickle.global(found.callable)? {
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                call(*arguments.first()?)?
            }
            ("torch._tensor", "_rebuild_from_type_v2") => Call {
                callable: *arguments.first()?,
                arguments: *arguments.get(2)?,
                ..found
            },
            (module, name) if module.starts_with("torch") && name.starts_with("_rebuild_") => {
                return Some(found);
            }
            _ => return None,
        };
    }
    None
}

/// The tensor that a call of `_rebuild_tensor*(storage, start, shape, strides, ...)` makes.
fn tensor_of(pickle: &Pickle, name: &str, call: &Call) -> Result<Entry> {
    let (_, function) = pickle.global(call.callable).unwrap_or_default();
    if !function.starts_with("_rebuild_tensor") {
        let kind = function.trim_start_matches("_rebuild_").replace('_', " ");
        return Err(Problem::NotRead(format!(
            "`{name}` is a {kind} (`{function}`), which is not read: only dense tensors are; convert it in Python"
        )));
    }
    let broken = || format!("`{name}` is no tensor that PyTorch wrote");
    let arguments = pickle.tuple(call.arguments).ok_or_else(broken)?;
    let argument = |i: usize| -> Result<Id> { Ok(*arguments.get(i).ok_or_else(broken)?) };
    let Value::Persistent(key) = pickle.get(argument(0)?) else {
        return Err(broken().into());
    };
    let storage = Storage::of(pickle, *key).ok_or_else(broken)?;
    // Types without storages of their own are named apart.
    let dtype = arguments
        .get(6)
        .and_then(|&id| pickle.global(id))
        .map(|(_, name)| name);
    let element = match (storage.element, dtype) {
        (_, Some(dtype)) if function == "_rebuild_tensor_v3" => Element::of_torch(dtype),
        (element, _) => element,
    };
    let element = element.ok_or_else(|| {
        let class = dtype.unwrap_or(&storage.class);
        Problem::NotRead(format!(
            "`{name}` has numbers of the type `{class}`, which is not read: convert it in Python, e.g. `.float()`"
        ))
    })?;
    let sizes = |id: Id| -> Result<Vec<usize>> {
        let parts = pickle
            .tuple(id)
            .filter(|parts| parts.len() <= MOST_DIMENSIONS);
        let counts = parts.and_then(|parts| parts.iter().map(|&part| pickle.count(part)).collect());
        Ok(counts.ok_or_else(broken)?)
    };
    let (shape, strides) = (sizes(argument(2)?)?, sizes(argument(3)?)?);
    let start = pickle.count(argument(1)?).ok_or_else(broken)?;
    if shape.len() != strides.len() {
        return Err(broken().into());
    }
    Ok(Entry {
        name: name.to_owned(),
        storage: storage.key,
        element,
        start: start.checked_add(storage.start).ok_or_else(broken)?,
        shape,
        strides,
    })
}
