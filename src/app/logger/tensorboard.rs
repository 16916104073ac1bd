//! TensorBoard event files: scalars only, written by hand, read by `tensorboard --logdir`.
//!
//! A file is a row of TFRecords, each one `Event` message. A record is the length (u64), the masked
//! CRC-32C of those 8 bytes (u32), the message, and its masked CRC-32C (u32), all little-endian
//! (tensorflow/core/lib/io/record_writer.h). Of `Event` (tensorflow/core/util/event.proto) these
//! fields are written: `wall_time` = 1 (double, seconds), `step` = 2 (int64), `file_version` = 3
//! (first record only), `session_log` = 7 with `status` = 1 (START is 1), `summary` = 5, in which each `value` = 1 holds `tag` = 1 and
//! `simple_value` = 2 (float).

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use trajformer_core::error::{Error, Result};

/// Writes the scalars of a run.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: BufWriter<File>,
}

impl TensorBoard {
    /// Opens a new event file in `folder`, which is made if missing.
    ///
    /// Its name is `events.out.tfevents.<seconds>.trajformer.<number>`, the first number that is
    /// free. A run that is resumed simply gets another file: TensorBoard reads all files of a
    /// folder, in the order of their names; see [`resume`](Self::resume). So its seconds are more
    /// than those of the files that are there, also where the clock was set back since.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let now = seconds_since_1970();
        let mut number = 0;
        let named =
            newest(folder).map_or(now as u64, |last| last.saturating_add(1).max(now as u64));
        let (path, file) = loop {
            let name = format!("events.out.tfevents.{named:010}.trajformer.{number}");
            let path = folder.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io(&path)(error)),
            }
        };
        let mut writer = Self {
            path,
            file: BufWriter::new(file),
        };
        writer.write(&version_event(now))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Opens a new event file for a run that goes on after update `step` of its last checkpoint:
    /// TensorBoard forgets what earlier files say about later steps.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn resume(folder: &Path, step: u64) -> Result<Self> {
        let mut writer = Self::create(folder)?;
        writer.write(&start_event(seconds_since_1970(), step + 1))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file that is being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one number to the curve named `tag` (a slash groups curves: `train/loss`) at `step`.
    ///
    /// Numbers are stored as f32. The file holds it for certain after the next
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.write(&scalar_event(seconds_since_1970(), step, tag, value as f32))
    }

    /// Hands everything written so far to the system.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io(&self.path))
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.file
            .write_all(&record(event))
            .map_err(Error::io(&self.path))
    }
}

/// The seconds in the name of the last event file in `folder`.
fn newest(folder: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let seconds = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (seconds, _) = name
            .strip_prefix("events.out.tfevents.")?
            .split_once(".trajformer.")?;
        seconds.parse().ok()
    });
    seconds.max()
}

fn seconds_since_1970() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// The message that has to come first.
fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double_field(&mut event, 1, wall_time);
    bytes_field(&mut event, 3, b"brain.Event:2");
    event
}

/// A session starts whose first step is `step`; the event declares all earlier ones from there void.
fn start_event(wall_time: f64, step: u64) -> Vec<u8> {
    let mut session = Vec::new();
    key(&mut session, 1, WIRE_VARINT);
    varint(&mut session, 1);

    let mut event = Vec::new();
    double_field(&mut event, 1, wall_time);
    key(&mut event, 2, WIRE_VARINT);
    varint(&mut event, step);
    bytes_field(&mut event, 7, &session);
    event
}

fn scalar_event(wall_time: f64, step: u64, tag: &str, value: f32) -> Vec<u8> {
    let mut entry = Vec::new();
    bytes_field(&mut entry, 1, tag.as_bytes());
    key(&mut entry, 2, WIRE_32_BIT);
    entry.extend(value.to_le_bytes());

    let mut summary = Vec::new();
    bytes_field(&mut summary, 1, &entry);

    let mut event = Vec::new();
    double_field(&mut event, 1, wall_time);
    key(&mut event, 2, WIRE_VARINT);
    varint(&mut event, step);
    bytes_field(&mut event, 5, &summary);
    event
}

// Protocol buffers: a field is a key (number and kind of encoding), then its content.
const WIRE_VARINT: u64 = 0;
const WIRE_64_BIT: u64 = 1;
const WIRE_BYTES: u64 = 2;
const WIRE_32_BIT: u64 = 5;

fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn double_field(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, WIRE_64_BIT);
    out.extend(value.to_le_bytes());
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(out, field, WIRE_BYTES);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits a byte, lowest first; the high bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A message framed as a TFRecord.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(message.len() + 16);
    out.extend(length);
    out.extend(masked_crc32c(&length).to_le_bytes());
    out.extend(message);
    out.extend(masked_crc32c(message).to_le_bytes());
    out
}

/// TFRecord's disguise of a checksum, for records that hold checksums themselves.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli): reflected polynomial 0x82f63b78, start and end inverted (RFC 3720, B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

/// The checksum of every single byte.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::{TensorBoard, crc32c, record, scalar_event, start_event, version_event};

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// The bytes that the Python package tensorboard 2.21.0 writes for the same three events:
    /// `RecordWriter.write(Event(...).SerializeToString())`.
    #[test]
    fn records_are_byte_for_byte_those_of_the_python_package() {
        let mut bytes = record(&version_event(1_700_000_000.25));
        bytes.extend(record(&scalar_event(
            1_700_000_001.5,
            300,
            "train/loss",
            0.75,
        )));
        bytes.extend(record(&start_event(1_700_000_002.0, 301)));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe9",
            "2100000000000000017becf60900006040fc54d94110ac022a130a110a0a747261696e2f6c6f7373",
            "150000403f298d3e6d",
            "100000000000000095fbfe180900008040fc54d94110ad023a02080184a4031a"
        );
        assert_eq!(hex, expected);
    }

    #[test]
    fn a_run_that_is_resumed_within_a_second_gets_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = TensorBoard::create(&folder.path().join("tensorboard")).unwrap();
        first.scalar("train/loss", 1, 0.5).unwrap();
        first.flush().unwrap();
        let written = std::fs::metadata(first.path()).unwrap().len();
        let second = TensorBoard::create(&folder.path().join("tensorboard")).unwrap();
        assert_ne!(first.path(), second.path());
        assert_eq!(std::fs::metadata(first.path()).unwrap().len(), written);
        assert!(written > std::fs::metadata(second.path()).unwrap().len());
    }

    #[test]
    fn the_last_file_is_the_last_by_its_name_also_when_the_clock_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let ahead = folder
            .path()
            .join("events.out.tfevents.4102444800.trajformer.0");
        std::fs::write(&ahead, "").unwrap();
        let mut last = ahead;
        // More than ten: numbers are compared letter by letter.
        for step in 1..12 {
            let next = TensorBoard::resume(folder.path(), step).unwrap();
            assert!(next.path() > last.as_path(), "{:?}", next.path());
            last = next.path().to_path_buf();
        }
    }
}
