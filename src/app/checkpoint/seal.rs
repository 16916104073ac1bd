//! Seals: the checksum of a file inside of that file, for those of a run that no other file names. A byte that a disk, a transfer or an editor has
//! changed is seen, and so is a file that was cut off.
//!
//! `state.toml` and `config.toml` have it in their first line, a comment; `config.json` and `policy.safetensors` beside a model of another
//! library as a word of their own. It is the CRC-32 of the file with zeros in place of its digits. Files of earlier versions have none.

/// What stands before the digits.
const MARK: &[u8] = b"trajformer-crc32-";
const DIGITS: usize = 8;
/// What a file that will be [`sealed`] holds in place of its seal.
pub(super) const UNSEALED: &str = "trajformer-crc32-00000000";
/// What the digits count as.
const ZEROS: [u8; DIGITS] = [b'0'; DIGITS];

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    /// It has none: an earlier version wrote it, or somebody.
    Absent,
    /// It is what was written.
    Whole,
    /// It is not.
    Broken,
}

impl Seal {
    /// That of a file with this content.
    pub fn of(bytes: &[u8]) -> Self {
        let Some(place) = place(bytes) else {
            return Self::Absent;
        };
        match bytes.get(place..place + DIGITS) {
            Some(found) if found == digits(bytes, place) => Self::Whole,
            _ => Self::Broken,
        }
    }
}

/// `bytes`, which hold [`UNSEALED`], with their seal in its place.
pub(super) fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(place) = place(&bytes).filter(|place| bytes[*place..].starts_with(&ZEROS)) {
        let digits = digits(&bytes, place);
        bytes[place..place + DIGITS].copy_from_slice(&digits);
    }
    bytes
}

/// Where the digits begin.
fn place(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(MARK.len()).position(|part| part == MARK)?;
    Some(at + MARK.len())
}

fn digits(bytes: &[u8], place: usize) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..place]);
    hasher.update(&ZEROS);
    hasher.update(bytes.get(place + DIGITS..).unwrap_or_default());
    format!("{:08x}", hasher.finalize()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_every_length_of_a_sealed_file_is_seen() {
        let text = format!("# {UNSEALED}: of this file\nupdate = 20\n");
        let whole = sealed(text.clone().into_bytes());
        assert_eq!(whole.len(), text.len());
        assert_eq!(Seal::of(&whole), Seal::Whole);
        assert_eq!(Seal::of(b"update = 20\n"), Seal::Absent);
        assert_eq!(sealed(b"update = 20\n".to_vec()), b"update = 20\n");
        let mark = 2..2 + MARK.len();
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[place] ^= 1 << bit;
                // Without its mark it has no seal, and is what it was but for that.
                let expected = if mark.contains(&place) {
                    Seal::Absent
                } else {
                    Seal::Broken
                };
                assert_eq!(Seal::of(&changed), expected, "byte {place}, bit {bit}");
            }
            let expected = if place < mark.end {
                Seal::Absent
            } else {
                Seal::Broken
            };
            assert_eq!(Seal::of(&whole[..place]), expected, "cut at {place}");
        }
    }
}
