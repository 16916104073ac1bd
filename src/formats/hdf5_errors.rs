//! What goes wrong with HDF5 files, in words that say what a user can do: `hdf5-pure` speaks to programmers.

use std::path::Path;

use hdf5_pure::{DType, Datatype, FormatError};

use crate::formats::arrays::catch_panic;
use trajformer_core::error::{Error, Result};

/// HDF5's address of nothing, as the library's messages show it.
const NO_ADDRESS: &str = "18446744073709551615";

/// Filters that HDF5 files are compressed with and that are not read, by their registered numbers
/// (https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md).
const FILTERS: [(u16, &str); 19] = [
    (5, "n-bit"),
    (6, "scale-offset"),
    (305, "LZO"),
    (307, "bzip2"),
    (32000, "lzf"),
    (32001, "blosc"),
    (32002, "MAFISC"),
    (32003, "snappy"),
    (32004, "lz4"),
    (32008, "bitshuffle"),
    (32013, "zfp"),
    (32015, "zstd"),
    (32016, "b3d"),
    (32017, "sz"),
    (32019, "FCIDECOMP"),
    (32022, "granular bit rounding"),
    (32024, "sz3"),
    (32026, "blosc2"),
    (32028, "sperr"),
];

/// `None` for what is not there, or is something else.
pub(super) fn absent_as_none<T>(
    found: std::result::Result<T, hdf5_pure::Error>,
) -> std::result::Result<Option<T>, hdf5_pure::Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(hdf5_pure::Error::Format(FormatError::PathNotFound(_))) => Ok(None),
        Err(hdf5_pure::Error::NotAGroup(_) | hdf5_pure::Error::NotADataset(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs a call into the library; its errors and panics name the file and the object.
pub(super) fn guard<T>(
    path: &Path,
    object: &str,
    call: impl FnOnce() -> std::result::Result<T, hdf5_pure::Error>,
) -> Result<T> {
    let object = object.trim_end_matches('/');
    let place = match object {
        "" => String::new(),
        object => format!(", `{object}`"),
    };
    match catch_panic(call) {
        Some(Ok(value)) => Ok(value),
        Some(Err(hdf5_pure::Error::Io(error)))
            if error.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            Err(Error::io(path)(error))
        }
        Some(Err(error)) => Err(Error::data(path, explain(path, &place, &error))),
        None => {
            let problem = format!("HDF5 file is damaged or cut off{place}: the reader gave up");
            Err(Error::data(path, problem))
        }
    }
}

/// What is wrong, and what helps. `place` is empty or begins with a comma.
fn explain(path: &Path, place: &str, error: &hdf5_pure::Error) -> String {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let repack = "`h5repack -f GZIP=4 IN OUT` makes a copy that is";
    match error {
        hdf5_pure::Error::FileMarkedInUse(_) => {
            return format!(
                "HDF5 file is still open for writing, or its writer was killed: close the program that writes it; if \
                 there is none, `h5clear -s {name}` clears the mark, or copy what is there with h5py.File(\"{name}\", \
                 swmr=True)"
            );
        }
        hdf5_pure::Error::FileLocked(_) => {
            return "HDF5 file is locked by another program: close it there first".to_owned();
        }
        hdf5_pure::Error::Format(FormatError::UnsupportedFilter(id)) => {
            let known = FILTERS.iter().find(|(number, _)| number == id);
            let filter = match known {
                Some((id, name)) => format!("{name} (filter {id})"),
                None => format!("filter {id}"),
            };
            return format!(
                "HDF5 file{place}: it is compressed with {filter}, which is not read, only gzip, lzf and szip; {repack} \
                 (where HDF5 has the filter's plugin)"
            );
        }
        hdf5_pure::Error::Format(FormatError::UnsupportedZfp(_)) => {
            return format!(
                "HDF5 file{place}: it is compressed with zfp, which is not read, only gzip, lzf and szip; {repack}"
            );
        }
        hdf5_pure::Error::Format(
            FormatError::UnsupportedVirtualLayout | FormatError::UnsupportedExternalStorage,
        ) => {
            return format!(
                "HDF5 file{place}: its numbers lie in other files, which is not read; `h5repack IN OUT` puts them into \
                 one, or save it anew with h5py"
            );
        }
        hdf5_pure::Error::Format(FormatError::AllocationFailed { .. }) => {
            return format!("HDF5 file{place}: there is not enough memory to read it");
        }
        _ => {}
    }
    let text = error.to_string();
    if text.contains(NO_ADDRESS) {
        return format!(
            "HDF5 file{place}: a soft or external link, or an array that was never written, is not \
             supported; put the array itself there, e.g. with h5py's `copy`"
        );
    }
    let unknown = ["unsupported", "version", "not supported"];
    if unknown.iter().any(|word| text.contains(word)) {
        format!(
            "HDF5 file{place}: this reader does not know its layout ({}); write the file again \
         with h5py and without `libver=\"latest\"`",
            plain(error)
        )
    } else {
        format!("HDF5 file is damaged or cut off{place}: {}", plain(error))
    }
}

/// The library's words, where they are not about its own functions.
pub(super) fn plain(error: &hdf5_pure::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("HDF5 format error: ").unwrap_or(&text);
    if text.contains("::") || text.contains("H5P") {
        "it needs something that this reader can't do".to_owned()
    } else {
        text.to_owned()
    }
}

/// What an array holds, in words.
pub(super) fn type_name(dtype: &DType) -> String {
    match dtype {
        DType::String | DType::VariableLengthString => "text".to_owned(),
        DType::ObjectReference => "references to other arrays".to_owned(),
        DType::Compound(_) => "records (a table of PyTables or pandas)".to_owned(),
        DType::Enum(_) => "an enumeration of more than one byte".to_owned(),
        DType::Array(..) => "arrays in every place".to_owned(),
        DType::Other(inner) => match **inner {
            Datatype::FloatingPoint { size, .. } => {
                format!("floats of {size} bytes, of which only 2, 4 and 8 are read")
            }
            Datatype::FixedPoint { size, .. } => {
                format!("integers of {size} bytes, of which only 1, 2, 4 and 8 are read")
            }
            Datatype::BitField { .. } => {
                "bit fields of more than one byte (save flags as bool with h5py)".to_owned()
            }
            _ => "something else than numbers (opaque bytes, times or lists)".to_owned(),
        },
        numbers => numbers.to_string(),
    }
}
