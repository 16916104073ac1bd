//! Links of an HDF5 file's groups to other names and other files, which `hdf5-pure` passes over.
//!
//! Minari up to 0.3 kept episodes that were added later in files of their own, and linked to them. Layout: the HDF5
//! file format specification, version 3.0: link messages (IV.A.2.g) and what `hdf5_bytes.rs` beside this file lists.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use hdf5_pure::Superblock;

use crate::formats::hdf5_bytes::{Bytes, Fields, Heap, text};
pub(super) use crate::formats::hdf5_bytes::{Entry, Link};

/// The names in a group.
pub(super) type Entries = BTreeMap<String, Entry>;

/// The links of a file, group by group, found as somebody asks.
#[derive(Debug)]
pub(super) struct FileLinks {
    path: PathBuf,
    superblock: Superblock,
    known: RefCell<BTreeMap<String, Rc<Entries>>>,
}

impl FileLinks {
    pub fn new(path: &Path, superblock: Superblock) -> Self {
        Self {
            path: path.to_path_buf(),
            superblock,
            known: RefCell::default(),
        }
    }

    /// The names in the group `prefix`, which ends with a slash, or is empty for the root; none where they can't be found
    /// out, or there is no such group.
    pub fn of(&self, prefix: &str) -> Rc<Entries> {
        if let Some(found) = self.known.borrow().get(prefix) {
            return Rc::clone(found);
        }
        let entries = self
            .address(prefix)
            .and_then(|address| entries(&self.path, &self.superblock, address));
        let entries = Rc::new(entries.unwrap_or_default());
        let mut known = self.known.borrow_mut();
        known.insert(prefix.to_owned(), Rc::clone(&entries));
        entries
    }

    fn address(&self, prefix: &str) -> Option<u64> {
        let Some(inside) = prefix.strip_suffix('/') else {
            // The library counts from the file's first byte, the file itself from its base.
            let base = self.superblock.base_address.get();
            return self.superblock.root_group_address.checked_sub(base);
        };
        let (outer, name) = inside.split_at(inside.rfind('/').map_or(0, |slash| slash + 1));
        match self.of(outer).get(name)? {
            Entry::Object(address) => Some(*address),
            Entry::Link(_) => None,
        }
    }
}

const LINK_INFO: u16 = 0x02;
const LINK: u16 = 0x06;
const SYMBOL_TABLE: u16 = 0x11;

/// The names in the group whose header is at `address`; `None` if they can't be found out.
fn entries(path: &Path, superblock: &Superblock, address: u64) -> Option<Entries> {
    let file = File::open(path).ok()?;
    let mut bytes = Bytes {
        length: file.metadata().ok()?.len(),
        file,
        base: superblock.base_address.get(),
        offset: usize::from(superblock.offset_size),
        size: usize::from(superblock.length_size),
    };
    let mut found = BTreeMap::new();
    for (kind, message) in bytes.messages(address)? {
        match kind {
            LINK => found.extend(parse_link(&message, bytes.offset)?),
            SYMBOL_TABLE => {
                let mut fields = Fields(&message);
                let (tree, heap) = (fields.number(bytes.offset)?, fields.number(bytes.offset)?);
                found.extend(bytes.symbols(tree, heap)?);
            }
            LINK_INFO => {
                let skip = if message.get(1)? & 1 == 0 { 2 } else { 10 };
                let mut fields = Fields(message.get(skip..)?);
                let (heap, index) = (fields.number(bytes.offset)?, fields.number(bytes.offset)?);
                if bytes.is_address(heap) && bytes.is_address(index) {
                    let heap = Heap::read(&mut bytes, heap)?;
                    for id in bytes.heap_ids(index)? {
                        let object = heap.object(&mut bytes, &id)?;
                        found.extend(parse_link(&object, bytes.offset)?);
                    }
                }
            }
            _ => {}
        }
    }
    Some(found)
}

/// Name and target of a link message; nothing for a kind of link that programs define themselves. `None` if it is
/// malformed.
fn parse_link(message: &[u8], offset: usize) -> Option<Option<(String, Entry)>> {
    let mut fields = Fields(message);
    let (version, flags) = (fields.number(1)?, fields.number(1)?);
    if version != 1 {
        return None;
    }
    let kind = if flags & 0x08 != 0 {
        fields.number(1)?
    } else {
        0
    };
    if flags & 0x04 != 0 {
        fields.take(8)?;
    }
    if flags & 0x10 != 0 {
        fields.take(1)?;
    }
    let length = fields.number(1 << (flags & 3))?;
    let name = text(fields.take(usize::try_from(length).ok()?)?);
    let entry = match kind {
        0 => Entry::Object(fields.number(offset)?),
        1 => {
            let length = fields.number(2)? as usize;
            Entry::Link(Link::Soft(text(fields.take(length)?)))
        }
        64 => {
            let length = fields.number(2)? as usize;
            let value = fields.take(length)?.get(1..)?;
            let mut parts = value.split(|&byte| byte == 0);
            let (file, object) = (text(parts.next()?), text(parts.next()?));
            Entry::Link(Link::External { file, object })
        }
        _ => return Some(None),
    };
    Some(Some((name, entry)))
}
