//! Files of a checkpoint with one byte changed, or cut off: each is an error that names the file, or what is read is what was written. With
//! `TRAJFORMER_TEST_EVERY_BYTE` every byte and every length (tests/soak/run), else a sample.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use trajformer::algorithms::{Build, Source};
use trajformer::candle_core::Device;
use trajformer::checkpoint::fingerprint::DataFingerprint;
use trajformer::checkpoint::{self, RunDir};
use trajformer::data::ActionBounds;
use trajformer::rng::Rng;
use trajformer::{data, run};

use crate::damaged::copy;
use crate::instructions;
use crate::runs::{config, pendulum_data, write_data};

const CPU: &Device = &Device::Cpu;
const OBSERVATION: [f32; 3] = [0.3, -0.7, 1.1];

fn stride() -> usize {
    match std::env::var_os("TRAJFORMER_TEST_EVERY_BYTE") {
        Some(_) => 1,
        None => 29,
    }
}

/// A tiny run in `folder`.
fn trained(folder: &Path) -> PathBuf {
    write_data(folder);
    let keys = ["algorithm.td3_bc.hidden=[3]", "evaluate.episodes=1"].map(str::to_owned);
    let config = config(folder, "td3_bc", 5).with_overrides(&keys).unwrap();
    let out = folder.join("run");
    run::start(&config, &out).unwrap();
    out
}

/// Changes `file` of the run in `folder` in every way, and reads it: `excused` says what may be read in place of what was written.
fn check<T: PartialEq + Debug>(
    folder: &Path,
    file: &str,
    read: impl Fn() -> trajformer::Result<T>,
    excused: impl Fn(&T) -> bool,
) {
    let path = folder.join(file);
    let whole = fs::read(&path).unwrap();
    let expected = read().unwrap();
    let (mut refused, mut harmless, mut wrong) = (0, 0, Vec::new());
    let mut look = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        match read() {
            Ok(found) if found == expected || excused(&found) => harmless += 1,
            Ok(found) => wrong.push(format!(
                "{what}: {found:?} is read in place of {expected:?}"
            )),
            Err(error) if error.to_string().contains(file) => refused += 1,
            Err(error) => wrong.push(format!("{what}: {error}")),
        }
    };
    for place in (0..whole.len()).step_by(stride()) {
        for mask in [1 << (place % 8), 0xff] {
            let mut changed = whole.clone();
            changed[place] ^= mask;
            look(&changed, &format!("byte {place} changed by {mask:#x}"));
        }
        look(&whole[..place], &format!("cut after {place} bytes"));
    }
    look(&[&whole[..], &whole[..]].concat(), "twice");
    fs::write(&path, &whole).unwrap();
    assert_eq!(read().unwrap(), expected);
    assert!(wrong.is_empty(), "{file}: {}", wrong.join("\n"));
    assert!(refused > 0, "{file}: nothing was refused");
    println!(
        "{} changes of {file}: {refused} were refused, {harmless} change nothing",
        refused + harmless
    );
}

#[test]
fn a_changed_file_of_a_run_is_named_and_never_acts() {
    let folder = tempfile::tempdir().unwrap();
    let whole = trained(folder.path());
    let place = folder.path().join("copy");
    copy(&whole, &place);
    let open = || {
        let opened = run::open(&place, &[])?;
        let action = opened.act(&OBSERVATION)?;
        Ok((opened.config, opened.spec, opened.state, action))
    };
    for file in [
        "state.toml",
        "config.json",
        "model.safetensors",
        "policy.safetensors",
    ] {
        check(&place, file, open, |_| false);
    }
    // It may be changed by hand: that is said, and what the run was trained with stays.
    let said = || RunDir::open(&place).unwrap().changed_config().is_some();
    let (_, spec, state, _) = open().unwrap();
    check(&place, "config.toml", open, |found| {
        said() && found.1 == spec && found.2 == state
    });
    assert!(!said());
}

#[test]
fn a_changed_file_of_a_run_is_named_and_never_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let whole = trained(folder.path());
    let place = folder.path().join("copy");
    copy(&whole, &place);
    let settings = run::open(&whole, &[]).unwrap().config;
    let data = pendulum_data();
    let algorithm = settings.algorithm.build(Build {
        source: Source::Train(&data),
        bounds: &ActionBounds::unit(1, CPU).unwrap(),
        fast: None,
        encoder: None,
        training_updates: 5,
        device: CPU,
        rng: &mut Rng::from_seed(0),
    });
    let algorithm = std::cell::RefCell::new(algorithm.unwrap());
    let restore = || {
        let (rng, state) = RunDir::open(&place)?.restore(&mut **algorithm.borrow_mut())?;
        Ok((rng.state().0, state))
    };
    for file in ["state.toml", "training.safetensors", "model.safetensors"] {
        check(&place, file, restore, |_| false);
    }
}

#[test]
fn changed_instructions_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&instructions::rooms(300), &folder.join("rooms.npz")).unwrap();
    let bert = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/text/bert");
    let config = instructions::config(folder, 2, &instructions::with_text(&bert));
    let place = folder.join("run");
    run::start(&config, &place).unwrap();
    let read = || RunDir::open(&place)?.instructions();
    check(&place, "instructions.safetensors", read, |_| false);
}

#[test]
fn a_changed_policy_beside_a_model_of_another_library_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut trained = run::open(&trained(folder.path()), &[]).unwrap();
    let place = folder.path().join("model");
    fs::create_dir(&place).unwrap();
    let fingerprint = DataFingerprint::of(&pendulum_data());
    checkpoint::save_policy(&mut *trained.algorithm, &place, &fingerprint).unwrap();
    let trained = std::cell::RefCell::new(trained);
    let read = || {
        checkpoint::load_policy(&mut *trained.borrow_mut().algorithm, &place)?;
        trained.borrow().act(&OBSERVATION)
    };
    check(&place, "policy.safetensors", read, |_| false);
}

#[test]
fn a_configuration_that_was_edited_is_said_to_be_and_becomes_the_runs_own() {
    let folder = tempfile::tempdir().unwrap();
    let place = trained(folder.path());
    let path = place.join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let said = || RunDir::open(&place).unwrap().changed_config();
    assert_eq!(said(), None);
    fs::write(&path, text.replace("\nupdates = 5\n", "\nupdates = 7\n")).unwrap();
    assert!(said().unwrap().contains("config.toml: a line was changed"));
    run::open(&place, &[]).unwrap();
    assert_eq!(run::resume(&place, &[]).unwrap().update, 7);
    assert_eq!(said(), None);
    // As earlier versions wrote it.
    let plain: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    fs::write(&path, plain.join("\n") + "\n").unwrap();
    assert_eq!(said(), None);
}
