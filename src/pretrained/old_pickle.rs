//! Tensors as `torch.save` wrote them before PyTorch 1.6: pickles one after the other, then the numbers of every
//! storage (`_legacy_save` in torch/serialization.py). Models of the Hub's first years are stored so.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::Path;

use candle_core::pickle::{Object, Stack, TensorInfo};
use candle_core::{Device, Result, Tensor, bail};
use trajformer_models::pretrained::Tensors;

/// How such a file starts: a pickle of its magic number (0x1950a86a20f9469cfc6c), then one of the version, 1001.
const START: [u8; 21] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
    b'.', // magic
    0x80, 0x02, b'M', 0xe9, 0x03, b'.', // version
];

/// Whether a file that starts with these bytes is such a one, or would be if it were whole.
pub fn begins(bytes: &[u8]) -> bool {
    let shared = bytes.len().min(START.len());
    shared > 1 && bytes[..shared] == START[..shared]
}

/// The tensors of a state_dict in `bytes`, on the CPU.
///
/// # Errors
/// If the file is cut off or damaged, or was written on a big-endian machine.
pub fn read(bytes: &[u8]) -> Result<Tensors> {
    let mut reader = Cursor::new(bytes);
    let mut start = [0; START.len()];
    reader.read_exact(&mut start)?;
    if start != START {
        bail!("another version of the format than 1001");
    }
    let machine = object(&mut reader)?.dict()?;
    let little = |(key, value): &(Object, Object)| {
        *key == Object::Unicode("little_endian".to_owned()) && *value == Object::Bool(true)
    };
    if !machine.iter().any(little) {
        bail!("it was written on a big-endian machine");
    }
    let mut infos = Vec::new();
    for (name, value) in object(&mut reader)?.dict()? {
        if let Some(info) = value.into_tensor_info(name, Path::new(""))? {
            infos.push(info);
        }
    }
    let storages = storages(&mut reader, &infos)?;
    let tensor = |info: &TensorInfo| {
        let Some(&numbers) = storages.get(key(info)) else {
            bail!("the numbers of `{}` are missing", info.name);
        };
        Ok((info.name.clone(), tensor(info, numbers)?))
    };
    infos.iter().map(tensor).collect()
}

fn object(reader: &mut Cursor<&[u8]>) -> Result<Object> {
    let mut stack = Stack::empty();
    stack.read_loop(reader)?;
    stack.finalize()
}

/// The storage of a tensor.
fn key(info: &TensorInfo) -> &str {
    info.path.trim_start_matches('/')
}

/// What follows the pickles: bytes by storage, in the order of a list of their keys; each has its count in front.
fn storages<'a>(
    reader: &mut Cursor<&'a [u8]>,
    infos: &[TensorInfo],
) -> Result<HashMap<String, &'a [u8]>> {
    let Object::List(keys) = object(reader)? else {
        bail!("no list of storages");
    };
    let sizes: HashMap<&str, usize> = infos
        .iter()
        .map(|info| (key(info), info.dtype.size_in_bytes()))
        .collect();
    let mut found = HashMap::new();
    for storage in keys {
        let storage = storage.unicode()?;
        let Some(size) = sizes.get(storage.as_str()) else {
            bail!("storage {storage} belongs to no tensor");
        };
        let mut count = [0; 8];
        reader.read_exact(&mut count)?;
        let length = u64::from_le_bytes(count).saturating_mul(*size as u64);
        let (at, whole) = (reader.position(), *reader.get_ref());
        let end = at.saturating_add(length);
        let Some(numbers) = whole.get(at as usize..usize::try_from(end).unwrap_or(usize::MAX))
        else {
            bail!("storage {storage} should end at byte {end}: the file is cut off");
        };
        reader.set_position(end);
        found.insert(storage, numbers);
    }
    Ok(found)
}

/// A tensor among the numbers of its storage.
fn tensor(info: &TensorInfo, storage: &[u8]) -> Result<Tensor> {
    let layout = &info.layout;
    let size = info.dtype.size_in_bytes();
    let count = layout
        .dims()
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d));
    let end = count
        .and_then(|count| count.checked_mul(size))
        .and_then(|length| length.checked_add(layout.start_offset()));
    let numbers = end.and_then(|end| storage.get(layout.start_offset()..end));
    let Some(numbers) = numbers else {
        bail!(
            "`{}` {:?} is larger than its storage",
            info.name,
            layout.dims()
        );
    };
    if layout.is_contiguous() {
        return Tensor::from_raw_buffer(numbers, info.dtype, layout.dims(), &Device::Cpu);
    }
    if !layout.is_fortran_contiguous() {
        bail!("`{}` does not lie in one piece", info.name);
    }
    // Column-major: the same numbers as its transpose.
    let reversed: Vec<usize> = layout.dims().iter().rev().copied().collect();
    let axes: Vec<usize> = (0..reversed.len()).rev().collect();
    Tensor::from_raw_buffer(numbers, info.dtype, &reversed, &Device::Cpu)?
        .permute(axes)?
        .contiguous()
}
