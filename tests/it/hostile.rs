//! Files that were made to do harm: small ones that claim terabytes, that unpack to gigabytes, or that name the same bytes again and again.
//! Each is an error that names it, within a limit of memory that a process of its own is measured by.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use arrow_array::{Float64Array, RecordBatch};
use arrow_ipc::writer::FileWriter;
use trajformer::pretrained::weights;
use trajformer::{RunConfig, data};
use zip::CompressionMethod;

/// Names the file that [`read_in_a_process_of_its_own`] reads.
const FILE: &str = "TRAJFORMER_TEST_HOSTILE_FILE";
/// The most memory that a reader may take, the test's own included.
const MOST_KIB: u64 = 250 << 10;
/// What the system refuses to go beyond, so that a failing test harms nothing else.
const LIMIT_KIB: u64 = 3 << 20;

/// No test by itself: what [`check`] starts.
#[test]
fn read_in_a_process_of_its_own() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let path = Path::new(&path);
    let kind = path.extension().unwrap_or_default().to_string_lossy();
    let said = match &*kind {
        "bin" | "safetensors" => weights::read(path).err(),
        "npz" | "npy" => data::formats::npz::read_arrays(path).err(),
        "toml" => RunConfig::load(path, &[]).err(),
        _ => data::load_one(path).err(),
    };
    let said = said.map_or_else(|| "a value".to_owned(), |error| error.to_string());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.split_whitespace().next());
    println!("\nPEAK {}\nSAID {said}\nEND", peak.unwrap_or("0"));
}

/// Reads the file at `path`: what is said, which has `words` and the file's name.
fn check(path: &Path, words: &[&str]) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let program = std::env::current_exe().unwrap();
    let limited = format!("ulimit -v {LIMIT_KIB}; exec \"$0\" \"$@\"");
    let found = Command::new("sh")
        .args(["-c", &limited])
        .arg(program)
        .args(["hostile::read_in_a_process_of_its_own", "--exact"])
        .args(["--nocapture", "--test-threads", "1"])
        .env(FILE, path)
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    let text = [found.stdout, found.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let part = |start: &str, end: &str| {
        let after = text.split_once(start)?.1;
        Some(after.split_once(end)?.0.to_owned())
    };
    let whole = part("\nPEAK ", "\nSAID ").zip(part("\nSAID ", "\nEND"));
    let cut = &text[..text.floor_char_boundary(2000)];
    let (peak, said) = whole.unwrap_or_else(|| panic!("{name}: {} {cut}", found.status));
    assert!(!text.contains("panicked"), "{name}: {cut}");
    let peak: u64 = peak.parse().unwrap();
    println!(
        "{name}: {peak} KiB, {}",
        &said[..said.floor_char_boundary(300)]
    );
    assert!(peak < MOST_KIB, "{name}: {peak} KiB");
    for word in words.iter().chain(&[&*name]) {
        assert!(said.contains(word), "{name}: `{word}` is not in: {said}");
    }
}

fn write(folder: &Path, name: &str, parts: &[&[u8]]) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, parts.concat()).unwrap();
    path
}

fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [&b"X"[..], &length, text.as_bytes()].concat()
}

/// A zip archive of named contents.
fn zipped(method: CompressionMethod, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, content) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The pickle of a dictionary with the same tensor under each of `names`, of four million numbers that are one number.
fn repeated(names: &[Vec<u8>]) -> Vec<u8> {
    let (storage, key, device) = (text("storage"), text("0"), text("cpu"));
    let million = [&b"J"[..], &(1u32 << 22).to_le_bytes()].concat();
    let tensor = [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &storage,
        b"ctorch\nFloatStorage\n",
        &key,
        &device,
        b"K\x01tQK\x00",
        &million,
        b"\x85K\x00\x85\x89}tRq\x05",
    ]
    .concat();
    let mut pickle = [&b"\x80\x02}("[..], &text("first"), &tensor].concat();
    for name in names {
        pickle.extend_from_slice(name);
        pickle.extend_from_slice(b"h\x05");
    }
    pickle.extend_from_slice(b"u.");
    pickle
}

#[test]
fn pickles_that_name_the_same_again_and_again_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let long = text(&"n".repeat(1 << 20));
    let again = b"h\x00h\x00\x93".repeat(20_000);
    let classes = write(
        folder,
        "classes.bin",
        &[b"\x80\x04", &long, b"\x94", &again, b"."],
    );
    check(&classes, &["a class has a name of 1048576 bytes"]);

    let list = b"NN\x86".repeat(100_000);
    let again = b"h\x02h\x01R0".repeat(20_000);
    let start: [&[u8]; 4] = [
        b"\x80\x04(",
        &list,
        b"l\x94\x85\x94ccollections\nOrderedDict\n\x94",
        &again,
    ];
    // What is remembered: 0 the list, 1 a tuple of it, 2 the class.
    let copies = write(folder, "copies.bin", &[&start.concat(), b"."]);
    check(&copies, &["again and again"]);

    let stored = CompressionMethod::Stored;
    let names: Vec<Vec<u8>> = (0..2000).map(|i| text(&format!("w{i}"))).collect();
    let files = [("a/data.pkl", &repeated(&names)[..]), ("a/data/0", &[0; 4])];
    let tensors = write(folder, "tensors.bin", &[&zipped(stored, &files)]);
    check(&tensors, &["and the tensors before it", "again and again"]);

    let mut names = vec![[&long[..], b"q\x06"].concat()];
    names.extend(std::iter::repeat_n(b"h\x06".to_vec(), 20_000));
    let files = [("a/data.pkl", &repeated(&names)[..]), ("a/data/0", &[0; 4])];
    let named = write(folder, "named.bin", &[&zipped(stored, &files)]);
    check(&named, &["a tensor has a name of 1048576 bytes"]);
}

#[test]
fn archives_that_unpack_to_gigabytes_are_not_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let deflated = CompressionMethod::Deflated;
    let pickle = vec![b'N'; 1 << 27];
    let files = [("a/data.pkl", &pickle[..])];
    let bomb = write(folder, "bomb.bin", &[&zipped(deflated, &files)]);
    check(&bomb, &["`a/data.pkl`: unpacks to more than 16 times"]);

    // More numbers than the header says.
    let long = [npy("<f4", "(4, 1)", &[]), vec![0; 1 << 28]].concat();
    let bomb = write(
        folder,
        "bomb.npz",
        &[&zipped(deflated, &[("observations.npy", &long)])],
    );
    check(&bomb, &["`observations`", "more bytes than its shape says"]);
}

fn npy(kind: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [
        &b"\x93NUMPY\x01\x00"[..],
        &length,
        header.as_bytes(),
        numbers,
    ]
    .concat()
}

#[test]
fn arrays_that_claim_more_than_their_file_holds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let stored = CompressionMethod::Stored;
    let huge = 1u64 << 63;
    for (name, kind, shape, words) in [
        (
            "large",
            "<f8",
            "(1250000000000,)".to_owned(),
            "can't hold the shape",
        ),
        ("empty_texts", "<U0", "(1099511627776,)".to_owned(), "`<U0`"),
        ("hidden", "<f4", format!("(0, {huge}, {huge})"), "malformed"),
        ("many", "<f4", format!("({huge}, {huge})"), "malformed"),
        ("nested", "<f4", "(".repeat(30_000), "malformed"),
    ] {
        let array = npy(kind, &shape, &[]);
        let archive = zipped(stored, &[("../observations.npy", &array)]);
        let path = write(folder, &format!("{name}.npz"), &[&archive]);
        check(&path, &["`../observations`", words]);
        if name != "large" {
            check(&write(folder, &format!("{name}.npy"), &[&array]), &[words]);
        }
    }
    let large = npy("<f8", "(1250000000000,)", &[0; 16]);
    check(
        &write(folder, "large.npy", &[&large]),
        &["expected 10000000000000 by"],
    );

    // Two names for one content.
    let array = npy("<f4", "(4, 1)", &[0; 16]);
    let mut archive = zipped(stored, &[("a.npy", &array), ("b.npy", &array)]);
    let central = archive
        .windows(4)
        .rposition(|part| part == b"PK\x01\x02")
        .unwrap();
    archive[central + 42..central + 46].copy_from_slice(&[0; 4]);
    check(
        &write(folder, "overlapping.npz", &[&archive]),
        &["at the same place"],
    );

    let path = folder.join("claims.hdf5");
    let steps = 7919;
    data::save(&crate::instructions::rooms(steps), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let steps = data::load_one(&path).unwrap().steps() as u64;
    let claimed = 1_250_000_000_000u64.to_le_bytes();
    let mut bytes = whole.clone();
    let mut changed = 0;
    for at in 0..bytes.len() - 8 {
        if whole[at..at + 8] == steps.to_le_bytes() {
            bytes[at..at + 8].copy_from_slice(&claimed);
            changed += 1;
        }
    }
    assert!(changed > 0);
    fs::write(&path, bytes).unwrap();
    check(&path, &[]);
}

#[test]
fn safetensors_with_a_header_that_lies_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = |name: &str, header: &str, numbers: &[u8]| {
        let length = (header.len() as u64).to_le_bytes();
        write(folder, name, &[&length, header.as_bytes(), numbers])
    };
    let length = 10_000_000_000_000u64.to_le_bytes();
    check(
        &write(folder, "length.safetensors", &[&length, b"{}"]),
        &["not a whole safetensors file"],
    );
    let claims =
        r#"{"w":{"dtype":"F64","shape":[1250000000000],"data_offsets":[0,10000000000000]}}"#;
    check(
        &file("claims.safetensors", claims, &[0; 8]),
        &["not a whole"],
    );
    let huge = 1u64 << 63;
    let hidden =
        format!(r#"{{"w":{{"dtype":"F32","shape":[0,{huge},{huge}],"data_offsets":[0,0]}}}}"#);
    check(&file("hidden.safetensors", &hidden, &[]), &["`w`"]);
    let many = |end: usize| {
        let one = |i: usize| {
            format!(
                r#""w{i}":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{end}]}}"#,
                end / 4
            )
        };
        format!(
            "{{{}}}",
            (0..100_000).map(one).collect::<Vec<_>>().join(",")
        )
    };
    check(
        &file("many.safetensors", &many(4 << 10), &[0; 4 << 10]),
        &["not a whole"],
    );
    let deep = format!("{{\"w\":{}", "[".repeat(1_000_000));
    check(&file("deep.safetensors", &deep, &[]), &["not a whole"]);
}

#[test]
fn an_arrow_file_that_names_a_block_again_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let episode = folder.path().join("0");
    fs::create_dir(&episode).unwrap();
    let batch = |rows: usize| {
        let column =
            std::sync::Arc::new(Float64Array::from(vec![0.5; rows])) as arrow_array::ArrayRef;
        RecordBatch::try_from_iter([("rewards", column)]).unwrap()
    };
    let mut bytes = Vec::new();
    let mut writer = FileWriter::try_new(&mut bytes, &batch(1).schema()).unwrap();
    writer.write(&batch(1000)).unwrap();
    writer.write(&batch(1)).unwrap();
    writer.finish().unwrap();
    drop(writer);
    // Blocks are 24 bytes each, one after the other in the footer: place, length of the head, length of the body.
    let body = 8000u64.to_le_bytes();
    let found = bytes.windows(8).rposition(|part| part == body).unwrap();
    let block = bytes[found - 16..found + 8].to_vec();
    bytes[found + 8..found + 32].copy_from_slice(&block);
    fs::write(episode.join("again.arrow"), bytes).unwrap();
    fs::write(
        folder.path().join("metadata.json"),
        r#"{"data_format": "arrow"}"#,
    )
    .unwrap();
    let problem = data::load_one(folder.path()).unwrap_err().to_string();
    assert!(
        problem.contains("again.arrow") && problem.contains("damaged"),
        "{problem}"
    );
}

#[test]
fn nesting_without_end_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, open) in [
        ("lists.toml", "["),
        ("tables.toml", "{a="),
        ("keys.toml", "a."),
    ] {
        let path = write(folder, name, &[b"a = ", open.repeat(200_000).as_bytes()]);
        check(&path, &[]);
    }
    for (name, open) in [("lists", "["), ("objects", "{\"a\":")] {
        let place = folder.join(name);
        fs::create_dir(&place).unwrap();
        fs::write(place.join("metadata.json"), open.repeat(200_000)).unwrap();
        check(&place, &["metadata.json"]);
    }
}
