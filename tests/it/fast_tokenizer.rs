//! The FAST tokenizer against the published algorithm in Python (tests/golden/fast_tokenizer.py), its files, and what else it
//! may be given.

use std::fs;
use std::path::{Path, PathBuf};

use trajformer::config::RunConfig;
use trajformer::data::formats::fast_folder;
use trajformer::data::tokenizers::fast::{Fast, FastOptions};
use trajformer::data::tokenizers::fast_actions::FastActions;
use trajformer::data::tokenizers::{Chunks, TrajectoryTokenizer};
use trajformer::policy::behavior::behavior;
use trajformer::rng::Rng;
use trajformer::{data, envs, run};

use crate::golden::{Golden, copy_of};

const FILES: [&str; 2] = ["fast_tokenizer", "fast_tokenizer_fine"];
/// A sum of fifty products in another order.
const TOLERANCE: f64 = 1e-13;

fn folder(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file)
}

fn read(file: &str) -> Fast {
    fast_folder::read(&folder(file)).unwrap()
}

fn train(golden: &Golden) -> Fast {
    let (numbers, dims) = (golden.numbers("train"), golden.integer("dims"));
    let chunks: Vec<&[f64]> = numbers.chunks(golden.integer("steps") * dims).collect();
    let options = FastOptions {
        scale: golden.number("scale"),
        vocab_size: golden.integer("vocab_size"),
    };
    Fast::fit(&chunks, dims, options).unwrap()
}

#[test]
fn tokens_and_chunks_are_those_of_the_published_algorithm() {
    for file in FILES {
        let (golden, fast) = (Golden::load(file), read(file));
        assert_eq!(fast.tokens(), golden.integer("tokens"));
        let cases = golden.constants["cases"].as_array().unwrap();
        assert!(cases.len() > 12);
        for (at, case) in cases.iter().enumerate() {
            let what = format!("{file}: {}", case["what"]);
            let [steps, dims] = *golden.dims(&format!("case{at}.chunk")) else {
                panic!("{what}");
            };
            let chunk = golden.numbers(&format!("case{at}.chunk"));
            let tokens = fast.encode(&chunk, dims).unwrap();
            assert_eq!(
                tokens,
                golden.integers(&format!("case{at}.tokens")),
                "{what}"
            );
            let decoded = fast.decode(&tokens, steps, dims);
            assert_eq!(decoded.valid, case["valid"].as_bool().unwrap(), "{what}");
            let expected = golden.numbers(&format!("case{at}.decoded"));
            let largest = expected.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            for (found, expected) in decoded.rows.iter().zip(&expected) {
                assert!((found - expected).abs() <= TOLERANCE * largest, "{what}");
            }
        }
    }
}

#[test]
fn tokens_that_stand_for_nothing_are_zeros_and_are_counted() {
    for file in FILES {
        let (golden, fast) = (Golden::load(file), read(file));
        let cases = golden.constants["broken"].as_array().unwrap();
        let (steps, dims) = (golden.integer("steps"), golden.integer("dims"));
        for (at, case) in cases.iter().enumerate() {
            let marked = golden.integers(&format!("broken{at}.tokens"));
            let tokens = &marked[..marked.len() - 1];
            let decoded = fast.decode(tokens, steps, dims);
            assert!(!decoded.valid, "{file}: {}", case["what"]);
            assert_eq!(decoded.rows, golden.numbers(&format!("broken{at}.decoded")));
            assert!(decoded.rows.iter().all(|&number| number == 0.0));
            assert_eq!(fast.malformed(), at as u64 + 1);
        }
    }
}

#[test]
fn training_gives_the_vocabulary_and_merges_that_python_learns() {
    for file in FILES {
        let fast = train(&Golden::load(file));
        assert_eq!(fast.settings(), read(file).settings());
        let found: serde_json::Value = serde_json::from_slice(fast.json()).unwrap();
        let expected = fs::read(folder(file).join("tokenizer.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        assert!(expected["model"]["merges"].as_array().unwrap().len() > 100);
        assert_eq!(found, expected, "{file}");
    }
}

#[test]
fn a_folder_that_was_written_reads_as_it_was() {
    let out = tempfile::tempdir().unwrap();
    let fast = train(&Golden::load(FILES[0]));
    fast_folder::write(&fast, out.path()).unwrap();
    let again = fast_folder::read(out.path()).unwrap();
    assert_eq!(again.settings(), fast.settings());
    assert_eq!(again.json(), fast.json());
}

/// A copy of the first folder, with one file changed.
fn changed(name: &str, change: impl Fn(String) -> String) -> String {
    let out = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "processor_config.json"] {
        let text = fs::read_to_string(folder(FILES[0]).join(file)).unwrap();
        let text = if file == name { change(text) } else { text };
        fs::write(out.path().join(file), text).unwrap();
    }
    fast_folder::read(out.path()).unwrap_err().to_string()
}

#[test]
fn files_that_are_no_fast_tokenizer_are_refused_with_their_reason() {
    let check = |name: &str, change: &dyn Fn(String) -> String, words: &[&str]| {
        let error = changed(name, change);
        for word in words.iter().chain([&name]) {
            assert!(error.contains(word), "{error}");
        }
    };
    let (merges, keys) = ("tokenizer.json", "processor_config.json");
    check(
        merges,
        &|text| text[..text.len() / 2].to_owned(),
        &["cut off"],
    );
    check(merges, &|_| String::new(), &["cut off"]);
    check(
        merges,
        &|text| text.replace("\"dropout\": null", "\"dropout\": 0.5"),
        &["dropped at random"],
    );
    check(
        merges,
        &|text| text.replace("\"type\": \"BPE\"", "\"type\": \"WordLevel\""),
        &[],
    );
    check(
        keys,
        &|text| text[..text.len() / 2].to_owned(),
        &["cut off"],
    );
    check(
        keys,
        &|text| text.replace("min_token", "max_token"),
        &["`min_token` is missing"],
    );
    check(
        keys,
        &|text| text.replace("\"scale\": 10", "\"scale\": -1"),
        &["`scale` is -1"],
    );
    check(
        keys,
        &|text| text.replace("\"vocab_size\": 512", "\"vocab_size\": \"many\""),
        &["`vocab_size` is \"many\"", "positive integer"],
    );
    check(
        keys,
        &|text| text.replace("\"action_dim\": null", "\"action_dim\": 0"),
        &["`action_dim` is 0"],
    );
    let empty = tempfile::tempdir().unwrap();
    let error = fast_folder::read(empty.path()).unwrap_err().to_string();
    assert!(error.contains("processor_config.json"), "{error}");
}

#[test]
fn numbers_and_sizes_that_make_no_tokens_are_refused() {
    let options = FastOptions::default();
    let fit = |chunks: &[&[f64]], options| Fast::fit(chunks, 2, options).unwrap_err().to_string();
    let error = fit(&[&[0.0, 1.0], &[0.5, f64::NAN]], options);
    assert!(error.contains("row 0, column 1 is NaN"), "{error}");
    assert!(fit(&[], options).contains("no chunks"));
    assert!(fit(&[&[]], options).contains("no rows"));
    let tight = FastOptions {
        vocab_size: 20,
        ..options
    };
    let error = fit(&[&[-2.0, 2.0]], tight);
    assert!(
        error.contains("-20 to 20") && error.contains("`vocab_size`"),
        "{error}"
    );
    let error = fit(&[&[-2.0, 1e300]], options);
    assert!(error.contains("too large"), "{error}");
    let fast = read(FILES[0]);
    assert!(fast.encode(&[0.0, 1.0, 2.0], 2).is_err());
    assert!(fast.encode(&[], 3).is_err());
    let error = fast
        .encode(&[0.0, f64::INFINITY], 2)
        .unwrap_err()
        .to_string();
    assert!(error.contains("column 1 is inf"), "{error}");
}

/// Rows of two dimensions far from ±1, smooth in time.
fn rows(count: usize) -> Vec<f64> {
    let mut rng = Rng::from_seed(4);
    let mut at = [0.0, 0.0];
    let mut rows = Vec::with_capacity(2 * count);
    for _ in 0..count {
        at = at.map(|x| 0.8 * x + 0.6 * rng.normal());
        rows.extend([100.0 + 20.0 * at[0], 0.03 * at[1]]);
    }
    rows
}

fn fitted(rows: &[f64], options: FastOptions) -> trajformer::Result<FastActions> {
    let mut tokenizer = FastActions::unfitted(2, options)?;
    let starts: Vec<usize> = (0..=rows.len() / 2 - 6).collect();
    tokenizer.fit(&Chunks::new(rows, 2, 6, &starts)?, &mut Rng::from_seed(0))?;
    Ok(tokenizer)
}

#[test]
fn actions_of_any_units_come_back_within_the_rounding_of_their_coefficients() {
    let rows = rows(600);
    let tokenizer = fitted(&rows, FastOptions::default()).unwrap();
    for chunk in rows.chunks_exact(12) {
        let mut tokens = Vec::new();
        tokenizer.encode(chunk, &mut tokens).unwrap();
        assert!(tokens.len() <= FastActions::most_tokens(6, 2, 1024));
        let decoded = tokenizer.decode(&tokens, 6);
        assert!(decoded.valid);
        for dim in 0..2 {
            // Half a step of 1 / scale in each of six coefficients; quantiles lie less than 5 standard deviations apart.
            let unit = 5.0 * [20.0, 0.03][dim] / 2.0;
            let column = |rows: &[f64]| {
                rows.iter()
                    .skip(dim)
                    .step_by(2)
                    .copied()
                    .collect::<Vec<_>>()
            };
            let pairs = column(chunk).into_iter().zip(column(&decoded.rows));
            let squares: f64 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
            assert!(
                squares.sqrt() <= 6f64.sqrt() * 0.05 * unit,
                "{dim}: {squares}"
            );
        }
    }
}

#[test]
fn a_vocabulary_that_only_just_holds_the_coefficients_is_too_small_for_their_bytes() {
    let rows = rows(300);
    let options = FastOptions {
        // 46 coefficients; as many again for the bytes that stand for them, where those are no letters.
        vocab_size: 60,
        ..FastOptions::default()
    };
    let error = fitted(&rows, options).unwrap_err().to_string();
    assert!(
        error.contains("alphabet of") && error.contains("`vocab_size`"),
        "{error}"
    );
}

#[test]
fn chunks_reach_no_further_than_the_rows() {
    let rows = rows(5);
    let error = Chunks::new(&rows, 2, 6, &[0]).unwrap_err().to_string();
    assert!(error.contains("longer than the 5 rows"), "{error}");
    assert!(Chunks::new(&rows, 3, 2, &[]).is_err());
    assert!(Chunks::new(&[], 2, 2, &[]).is_err());
    assert!(Chunks::new(&[0.0, f64::NAN], 2, 1, &[0]).is_err());
}

#[test]
fn a_policy_takes_merges_that_exist_and_keeps_them() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let mut env = envs::make("pointmaze-umaze").unwrap();
    let mut policy = behavior("waypoint", env.spec(), &Default::default()).unwrap();
    let data = data::collect::collect(&mut *env, &mut *policy, 600, 1).unwrap();
    data::save(&data, &at("maze.npz")).unwrap();
    let merges = copy_of(&folder("fast_tokenizer"));
    let config = |tokenizer: &str, vocab_size: usize| {
        let text = format!(
            "[data]\npath = \"{}\"\n[train]\nupdates = 2\ncheckpoint_every_updates = 1\nlog_every_updates = 1\n\
             [evaluate]\nepisodes = 0\n[algorithm.fast]\ntokenizer = \"{tokenizer}\"\nvocab_size = {vocab_size}\n\
             chunk_steps = 4\nlayers = 1\nheads = 1\nembedding = 8\nbatch_size = 4\n",
            at("maze.npz").display()
        );
        RunConfig::parse(&text).unwrap()
    };
    let name = merges.path().display().to_string();
    run::start(&config(&name, 512), &at("run")).unwrap();
    run::resume(&at("run"), &["train.updates=4".to_owned()]).unwrap();
    // The run needs the folder no more.
    drop(merges);
    let trained = run::open(&at("run"), &[]).unwrap();
    trained.algorithm.policy().unwrap();
    let kept = fs::read(at("run").join("policy.safetensors")).unwrap();
    let json = fs::read(folder("fast_tokenizer").join("tokenizer.json")).unwrap();
    assert!(
        kept.windows(json.len()).any(|bytes| bytes == json),
        "other merges"
    );

    let name = folder("fast_tokenizer").display().to_string();
    for (tokenizer, vocab_size, words) in [
        (&*name, 511, ["`algorithm.fast.vocab_size`", "at least 512"]),
        (
            "no/such/folder",
            512,
            ["no/such/folder", "processor_config.json"],
        ),
    ] {
        let problem =
            run::start(&config(tokenizer, vocab_size), &at("other")).expect_err("a misfit");
        let problem = problem.to_string();
        assert!(words.iter().all(|word| problem.contains(word)), "{problem}");
    }
}
