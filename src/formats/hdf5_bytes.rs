//! The parts of an HDF5 file that links are kept in, as bytes.
//!
//! Layout: the HDF5 file format specification, version 3.0: object headers (IV.A), fractal heaps (III.G) and version 2
//! B-trees (III.A.2); and of older groups symbol tables (III.B and III.C), local heaps (III.D) and version 1 B-trees
//! (III.A.1).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// Another name in the same file.
    Soft(String),
    /// A name in another file.
    External {
        /// The other file, as the link gives it.
        file: String,
        /// The name there.
        object: String,
    },
}

/// What a name in a group stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// An object of the group itself, with the address of its header.
    Object(u64),
    /// Something that lies elsewhere.
    Link(Link),
}

/// Bytes as text, with replacement characters for what is not UTF-8.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const CONTINUATION: u16 = 0x10;

/// How a symbol table marks a soft link.
const SOFT: u64 = 2;

/// More blocks, nodes or levels than a whole file has.
const MOST_BLOCKS: usize = 1 << 16;
const MOST_LEVELS: usize = 32;

/// Little-endian fields, one after the other.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = self.take(bytes).filter(|_| bytes <= 8)?;
        Some(
            taken
                .iter()
                .rev()
                .fold(0, |number, &byte| number << 8 | u64::from(byte)),
        )
    }
}

/// An open file and the widths of its addresses and lengths.
pub(super) struct Bytes {
    pub file: File,
    pub length: u64,
    pub base: u64,
    /// Bytes of an address.
    pub offset: usize,
    /// Bytes of a length.
    pub size: usize,
}

impl Bytes {
    pub fn is_address(&self, address: u64) -> bool {
        address < self.length
    }

    /// `count` bytes at an address of the file.
    fn read(&mut self, address: u64, count: u64) -> Option<Vec<u8>> {
        let start = self.base.checked_add(address)?;
        let end = start.checked_add(count)?;
        if end > self.length {
            return None;
        }
        self.file.seek(SeekFrom::Start(start)).ok()?;
        let mut bytes = vec![0; usize::try_from(count).ok()?];
        self.file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// A block that begins with `signature`, without it.
    fn block(&mut self, address: u64, count: u64, signature: &[u8; 4]) -> Option<Vec<u8>> {
        let mut bytes = self.read(address, count)?;
        (bytes.get(..4)? == signature).then(|| bytes.drain(..4));
        (bytes.len() as u64 + 4 == count).then_some(bytes)
    }

    /// Kinds and contents of the messages of the object header at `address`.
    pub fn messages(&mut self, address: u64) -> Option<Vec<(u16, Vec<u8>)>> {
        let start = self.read(address, 16)?;
        let is_new = start.starts_with(b"OHDR");
        let flags = start[5];
        let first = if is_new {
            let times = if flags & 0x20 == 0 { 0 } else { 16 };
            let counts = if flags & 0x10 == 0 { 0 } else { 4 };
            let width = 1u64 << (flags & 3);
            let place = address.checked_add(6 + times + counts)?;
            let size = Fields(&self.read(place, width)?).number(width as usize)?;
            self.read(place.checked_add(width)?, size)?
        } else {
            let size = Fields(&start[8..]).number(4)?;
            self.read(address.checked_add(16)?, size)?
        };
        let (mut messages, mut blocks) = (Vec::new(), vec![first]);
        let mut read = 0;
        while let Some(block) = blocks.pop() {
            read += 1;
            if read > MOST_BLOCKS {
                return None;
            }
            let mut fields = Fields(&block);
            let head = match (is_new, flags & 0x04 != 0) {
                (true, tracked) => 4 + 2 * usize::from(tracked),
                (false, _) => 8,
            };
            while fields.0.len() >= head {
                let mut prefix = Fields(fields.take(head)?);
                let kind = prefix.number(if is_new { 1 } else { 2 })? as u16;
                let size = prefix.number(2)? as usize;
                let message = fields.take(size)?.to_vec();
                if kind != CONTINUATION {
                    messages.push((kind, message));
                    continue;
                }
                let mut place = Fields(&message);
                let (at, length) = (place.number(self.offset)?, place.number(self.size)?);
                if is_new {
                    let mut more = self.block(at, length, b"OCHK")?;
                    more.truncate(more.len().checked_sub(4)?);
                    blocks.push(more);
                } else {
                    blocks.push(self.read(at, length)?);
                }
            }
        }
        Some(messages)
    }

    /// The names of an older group: those in the symbol tables below the B-tree at `tree`, with names in the heap at `heap`.
    pub fn symbols(&mut self, tree: u64, heap: u64) -> Option<Vec<(String, Entry)>> {
        let (o, l) = (self.offset as u64, self.size as u64);
        let header = self.block(heap, 8 + 2 * l + o, b"HEAP")?;
        let mut fields = Fields(header.get(4..)?);
        let (length, _free) = (fields.number(self.size)?, fields.number(self.size)?);
        let names = fields.number(self.offset)?;
        let names = self.read(names, length)?;
        let name = |place: u64| {
            let rest = names.get(usize::try_from(place).ok()?..)?;
            Some(text(rest.split(|&byte| byte == 0).next()?))
        };
        let (mut found, mut nodes, mut read) = (Vec::new(), vec![tree], 0);
        while let Some(address) = nodes.pop() {
            read += 1;
            if read > MOST_BLOCKS || nodes.len() > MOST_BLOCKS {
                return None;
            }
            let head = self.read(address, 8)?;
            if head.starts_with(b"TREE") {
                let children = Fields(&head[6..]).number(2)?;
                let keys = address.checked_add(8 + 2 * o)?;
                let body = self.read(keys, children.checked_mul(l + o)?)?;
                let mut fields = Fields(&body);
                for _ in 0..children {
                    fields.take(self.size)?;
                    nodes.push(fields.number(self.offset)?);
                }
                continue;
            }
            let count = head
                .starts_with(b"SNOD")
                .then(|| Fields(&head[6..]).number(2))??;
            let body = self.read(address.checked_add(8)?, count.checked_mul(2 * o + 24)?)?;
            let mut fields = Fields(&body);
            for _ in 0..count {
                let (place, object) = (fields.number(self.offset)?, fields.number(self.offset)?);
                let kind = fields.number(4)?;
                fields.take(4)?;
                let target = Fields(fields.take(16)?).number(4)?;
                let entry = match kind {
                    SOFT => Entry::Link(Link::Soft(name(target)?)),
                    _ => Entry::Object(object),
                };
                found.push((name(place)?, entry));
            }
        }
        Some(found)
    }

    /// Heap IDs that the version 2 B-tree of links by name at `address` holds.
    pub fn heap_ids(&mut self, address: u64) -> Option<Vec<Vec<u8>>> {
        let header = self.block(address, 4 + 12 + self.offset as u64 + 2, b"BTHD")?;
        let mut fields = Fields(&header);
        let (_version, kind) = (fields.number(1)?, fields.number(1)?);
        let node_bytes = fields.number(4)?;
        let (record, depth) = (fields.number(2)? as usize, fields.number(2)? as usize);
        fields.take(2)?;
        let (root, records) = (fields.number(self.offset)?, fields.number(2)? as usize);
        if kind != 5 || !(5..=64).contains(&record) || depth > MOST_LEVELS {
            return None;
        }
        if !self.is_address(root) {
            return Some(Vec::new());
        }
        let tree = Tree::new(node_bytes, record, depth, self.offset)?;
        let mut ids = Vec::new();
        let mut nodes = vec![(root, records, depth)];
        let mut read = 0;
        while let Some((address, records, level)) = nodes.pop() {
            read += 1;
            if read > MOST_BLOCKS {
                return None;
            }
            let signature = if level == 0 { b"BTLF" } else { b"BTIN" };
            let node = self.block(address, node_bytes, signature)?;
            let mut fields = Fields(node.get(2..)?);
            for _ in 0..records {
                // A hash of the name, then where the link is.
                ids.push(fields.take(record)?[4..].to_vec());
            }
            if level == 0 {
                continue;
            }
            for _ in 0..=records {
                let child = fields.number(self.offset)?;
                let count = fields.number(tree.count_bytes)? as usize;
                fields.take(tree.total_bytes[level - 1])?;
                nodes.push((child, count, level - 1));
            }
        }
        Some(ids)
    }
}

/// Widths in the inner nodes of a version 2 B-tree.
struct Tree {
    /// Bytes of the number of records of a child.
    count_bytes: usize,
    /// Bytes of the number of records below a child, by the child's level; none for leaves.
    total_bytes: Vec<usize>,
}

impl Tree {
    fn new(node_bytes: u64, record: usize, depth: usize, offset: usize) -> Option<Self> {
        let record = record as u64;
        // Signature, version, kind and checksum.
        let room = node_bytes.checked_sub(10)?;
        let mut below = room / record;
        let count_bytes = bytes_of(below);
        let mut total_bytes = vec![0];
        for level in 1..depth {
            let pointer = (offset + count_bytes + total_bytes[level - 1]) as u64;
            let most = room.checked_sub(pointer)? / (record + pointer);
            below = (most + 1).checked_mul(below)?.checked_add(most)?;
            total_bytes.push(bytes_of(below));
        }
        Some(Self {
            count_bytes,
            total_bytes,
        })
    }
}

/// Bytes that numbers up to `most` take.
fn bytes_of(most: u64) -> usize {
    (most.max(1).ilog2() as usize + 8) / 8
}

/// A fractal heap: objects in blocks whose sizes double from row to row.
pub(super) struct Heap {
    width: u64,
    first_block: u64,
    largest_block: u64,
    root: u64,
    rows: u64,
    /// Bytes of an offset inside the heap, and of an object's length in a heap ID.
    offset_bytes: usize,
    length_bytes: usize,
}

impl Heap {
    pub fn read(bytes: &mut Bytes, address: u64) -> Option<Self> {
        let (o, l) = (bytes.offset as u64, bytes.size as u64);
        let header = bytes.block(address, 4 + 10 + 12 * l + 3 * o + 8, b"FRHP")?;
        let mut fields = Fields(&header);
        fields.take(1)?;
        let id_bytes = fields.number(2)? as usize;
        let filters = fields.number(2)?;
        fields.take(1)?;
        let most_managed = fields.number(4)?;
        // Huge objects, free space and counts.
        fields.take(bytes.size + bytes.offset + bytes.size + bytes.offset + 8 * bytes.size)?;
        let width = fields.number(2)?;
        let (first_block, largest_block) = (fields.number(bytes.size)?, fields.number(bytes.size)?);
        let offset_bytes = (fields.number(2)? as usize).div_ceil(8);
        fields.take(2)?;
        let (root, rows) = (fields.number(bytes.offset)?, fields.number(2)?);
        let sound = filters == 0
            && width > 0
            && first_block.is_power_of_two()
            && largest_block.is_power_of_two()
            && largest_block >= first_block
            && (1..=8).contains(&offset_bytes);
        let length_bytes = bytes_of(largest_block.min(most_managed)).min(8);
        (sound && 1 + offset_bytes + length_bytes <= id_bytes).then_some(Self {
            width,
            first_block,
            largest_block,
            root,
            rows,
            offset_bytes,
            length_bytes,
        })
    }

    /// The object with this ID.
    pub fn object(&self, bytes: &mut Bytes, id: &[u8]) -> Option<Vec<u8>> {
        let mut fields = Fields(id);
        // Only managed objects: links are too small for other places.
        if fields.number(1)? >> 4 != 0 {
            return None;
        }
        let (place, length) = (
            fields.number(self.offset_bytes)?,
            fields.number(self.length_bytes)?,
        );
        let address = match self.rows {
            0 => self.root.checked_add(place)?,
            rows => self.locate(bytes, self.root, rows, place, MOST_LEVELS)?,
        };
        bytes.read(address, length)
    }

    /// Bytes of a block in a row of the table.
    fn block_bytes(&self, row: u64) -> Option<u64> {
        let doublings = u32::try_from(row.saturating_sub(1)).ok()?;
        self.first_block.checked_mul(1u64.checked_shl(doublings)?)
    }

    /// The file's address of the place `place` inside the block of pointers at `address`.
    fn locate(
        &self,
        bytes: &mut Bytes,
        address: u64,
        rows: u64,
        mut place: u64,
        levels: usize,
    ) -> Option<u64> {
        let direct_rows = u64::from(self.largest_block.ilog2() - self.first_block.ilog2()) + 2;
        let o = bytes.offset as u64;
        let pointers = 4 + 1 + o + self.offset_bytes as u64;
        for row in 0..rows {
            let block = self.block_bytes(row)?;
            let in_row = block.checked_mul(self.width)?;
            if place >= in_row {
                place -= in_row;
                continue;
            }
            let column = place / block;
            let index = row.checked_mul(self.width)?.checked_add(column)?;
            let pointer = address
                .checked_add(pointers)?
                .checked_add(index.checked_mul(o)?)?;
            let child = Fields(&bytes.read(pointer, o)?).number(bytes.offset)?;
            let inside = place - column * block;
            if row < direct_rows {
                return child.checked_add(inside);
            }
            let first_row = self.first_block.checked_mul(self.width)?;
            let child_rows = u64::from((block / first_row).max(1).ilog2()) + 1;
            return self.locate(bytes, child, child_rows, inside, levels.checked_sub(1)?);
        }
        None
    }
}
