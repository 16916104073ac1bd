//! The header of NumPy's `.npy` format and its numbers, as bytes come in.

use std::io::Read;

/// Type of the numbers in an `.npy` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Bool,
    Signed,
    Unsigned,
    Float,
    /// Characters of this many bytes each: 4 (`U`, UTF-32) or 1 (`S`).
    Text {
        character: usize,
    },
}

/// What an `.npy` header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub code: Code,
    /// Bytes of one number (1, 2, 4 or 8) or text.
    pub size: usize,
    pub big_endian: bool,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
}

impl Header {
    /// Reads the header; what follows are the numbers.
    ///
    /// # Errors
    /// What is wrong, as text.
    pub fn read(reader: &mut dyn Read) -> Result<Self, String> {
        let mut start = [0u8; 8];
        reader
            .read_exact(&mut start)
            .map_err(|e| format!("is cut off in its header ({e})"))?;
        if &start[..6] != b"\x93NUMPY" {
            return Err("is not in NumPy's npy format".into());
        }
        let mut length = [0u8; 4];
        let bytes = if start[6] == 1 { 2 } else { 4 };
        reader
            .read_exact(&mut length[..bytes])
            .map_err(|e| format!("is cut off in its header ({e})"))?;
        let length = u32::from_le_bytes(length);
        if !(1..=3).contains(&start[6]) || length > 1 << 16 {
            return Err(format!("has an unknown npy header (version {})", start[6]));
        }
        let mut text = vec![0u8; length as usize];
        reader
            .read_exact(&mut text)
            .map_err(|e| format!("is cut off in its header ({e})"))?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("has a malformed npy header: {}", text.trim());
        let descr = value_of(text, "descr").ok_or_else(malformed)?;
        let order = value_of(text, "fortran_order").ok_or_else(malformed)?;
        let shape = value_of(text, "shape").ok_or_else(malformed)?;
        let fortran_order = match order.split([',', '}']).next().map(str::trim) {
            Some("True") => true,
            Some("False") => false,
            _ => return Err(malformed()),
        };
        let shape = shape
            .strip_prefix('(')
            .and_then(|s| s.split_once(')'))
            .map(|parts| parts.0);
        let shape = shape
            .ok_or_else(malformed)?
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| part.parse::<usize>().map_err(|_| malformed()))
            .collect::<Result<Vec<usize>, String>>()?;
        let (code, size, big_endian) = parse_descr(descr)?;
        // Also where a dimension of zero makes the product small: those beside it are multiplied on their own.
        let count = shape
            .iter()
            .try_fold(size, |bytes, &n| bytes.checked_mul(n.max(1)));
        count.ok_or_else(malformed)?;
        // One dimension reads the same in both orders.
        let fortran_order = fortran_order && shape.len() > 1;
        Ok(Self {
            code,
            size,
            big_endian,
            fortran_order,
            shape,
        })
    }

    /// How many numbers.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// One number from its bytes, as f64 (64-bit integers above 2^53 are rounded).
    pub fn decode(&self, bytes: &[u8]) -> f64 {
        let bits = self.bits(bytes);
        match (self.code, self.size) {
            (Code::Bool, _) => f64::from(u8::from(bits != 0)),
            (Code::Signed, _) => self.sign_extend(bits) as f64,
            (Code::Unsigned, _) => bits as f64,
            (Code::Float, 2) => f64::from(half_to_f32(bits as u16)),
            (Code::Float, 4) => f64::from(f32::from_bits(bits as u32)),
            (Code::Float, _) => f64::from_bits(bits),
            (Code::Text { .. }, _) => f64::NAN,
        }
    }

    /// The bits of one number, in the machine's order.
    pub fn bits(&self, bytes: &[u8]) -> u64 {
        let add = |bits: u64, byte: &u8| bits << 8 | u64::from(*byte);
        if self.big_endian {
            bytes.iter().fold(0, add)
        } else {
            bytes.iter().rev().fold(0, add)
        }
    }

    /// The text in these bytes, without the zeros that fill it up.
    pub fn text(&self, bytes: &[u8]) -> String {
        let Code::Text { character } = self.code else {
            return String::new();
        };
        let codes = bytes
            .chunks_exact(character)
            .map(|bytes| self.bits(bytes) as u32);
        let text: String = codes
            .map(|c| char::from_u32(c).unwrap_or('\u{fffd}'))
            .collect();
        text.trim_end_matches('\0').to_owned()
    }

    /// The signed integer with these bits.
    pub fn sign_extend(&self, bits: u64) -> i64 {
        let unused = 64 - 8 * self.size.clamp(1, 8) as u32;
        ((bits << unused) as i64) >> unused
    }
}

/// What follows `'key':` in a header that Python's `repr` of a dictionary made.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let after = [format!("'{key}'"), format!("\"{key}\"")]
        .iter()
        .find_map(|quoted| text.split_once(quoted.as_str()))?
        .1;
    Some(after.trim_start().strip_prefix(':')?.trim_start())
}

fn parse_descr(value: &str) -> Result<(Code, usize, bool), String> {
    let unsupported = |what: &str| {
        format!("has the NumPy type {what}, expected bool, int8-64, uint8-64, float16, 32 or 64")
    };
    let Some(quote) = value.chars().next().filter(|c| "'\"".contains(*c)) else {
        return Err(unsupported("of records"));
    };
    let descr = value[1..].split(quote).next().unwrap_or("");
    let (order, rest) = match descr.chars().next() {
        Some(c @ ('<' | '>' | '|' | '=')) => (c, &descr[1..]),
        _ => ('=', descr),
    };
    let big_endian = order == '>' || (order == '=' && cfg!(target_endian = "big"));
    if let Some(length) = rest.strip_prefix(['U', 'S']) {
        let character = if rest.starts_with('U') { 4 } else { 1 };
        let size = length
            .parse::<usize>()
            .ok()
            .and_then(|n| n.checked_mul(character));
        // Texts without characters take no bytes, and a file could claim any number of them.
        let size = size.filter(|&size| size > 0);
        let size = size.ok_or_else(|| unsupported(&format!("`{descr}`")))?;
        return Ok((Code::Text { character }, size, big_endian));
    }
    let code = match rest.as_bytes().first() {
        Some(b'b') if rest == "b1" => Code::Bool,
        Some(b'i') => Code::Signed,
        Some(b'u') => Code::Unsigned,
        Some(b'f') => Code::Float,
        Some(b'O') => return Err("holds Python objects; save plain numbers instead".into()),
        _ => return Err(unsupported(&format!("`{descr}`"))),
    };
    let size = match (code, &rest[1..]) {
        (Code::Float, "2") => 2,
        (Code::Signed | Code::Unsigned, "2") => 2,
        (Code::Bool | Code::Signed | Code::Unsigned, "1") => 1,
        (Code::Signed | Code::Unsigned | Code::Float, "4") => 4,
        (Code::Signed | Code::Unsigned | Code::Float, "8") => 8,
        _ => return Err(unsupported(&format!("`{descr}`"))),
    };
    Ok((code, size, big_endian))
}

/// The value of a 16-bit IEEE float.
pub(super) fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    };
    sign * magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_have_their_ieee_values() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(half_to_f32(bits), value, "{bits:#x}");
        }
        assert!(half_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn malformed_headers_are_refused_and_never_panic() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }";
        assert_eq!(Header::parse(good).map(|h| h.shape), Ok(vec![3, 4]));
        for cut in 0..good.len() - 4 {
            assert!(
                Header::parse(&good[..cut]).is_err() || cut > 54,
                "{}",
                &good[..cut]
            );
        }
        for bad in [
            "{'descr': '<U', 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '<c8', 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '<f16', 'fortran_order': False, 'shape': (3,), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '<f4', 'fortran_order': 1, 'shape': (3,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 9), }",
        ] {
            assert!(Header::parse(bad).is_err(), "{bad}");
        }
    }
}
