//! LaMo with text beside the data: what is read of a file, and runs that start, go on and open.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use tokenizers::Tokenizer;
use tokenizers::decoders::byte_level::ByteLevel;
use trajformer::config::RunConfig;
use trajformer::rng::Rng;
use trajformer::run;
use trajformer::text::CorpusConfig;

use crate::runs::write_data;

const TEXT: &str =
    "Go to the upper left room.\n = Zürich = \n\nThe ball rolls on; and on, and on.\r\nNo end here";

fn gpt2() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/text/gpt2")
}

fn corpus(path: PathBuf, sequence_tokens: usize) -> CorpusConfig {
    CorpusConfig {
        path,
        weight: 0.1,
        batch_size: 2,
        sequence_tokens,
        vocabulary: 300,
    }
}

#[test]
fn all_of_a_text_is_cut_into_sequences_but_what_is_left_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(&path, TEXT).unwrap();
    let length = 5;
    let corpus = trajformer::text::corpus::read(&corpus(path, length), &gpt2()).unwrap();
    let all: Vec<u32> = (0..corpus.sequences())
        .flat_map(|sequence| corpus.sequence(sequence).to_vec())
        .collect();
    let mut tokenizer = Tokenizer::from_file(gpt2().join("tokenizer.json")).unwrap();
    tokenizer.with_decoder(Some(ByteLevel::default())); // which the tiny one has not
    let decoded = tokenizer.decode(&all, false).unwrap();
    let rest = TEXT.strip_prefix(&decoded).expect("the text's beginning");
    let left = tokenizer.encode(rest, false).unwrap().len();
    assert!(all.len() > 50 && all.len() == corpus.sequences() * length);
    assert!(left < length, "{left} tokens are left");
    // Every sequence comes sooner or later, whole.
    let drawn = corpus.sample(400, &mut Rng::from_seed(1), &Device::Cpu);
    let mut drawn: Vec<Vec<u32>> = drawn.unwrap().to_vec2().unwrap();
    let mut expected: Vec<Vec<u32>> = all.chunks(length).map(<[u32]>::to_vec).collect();
    for sequences in [&mut drawn, &mut expected] {
        sequences.sort();
        sequences.dedup();
    }
    assert_eq!(drawn, expected);
}

/// A small LaMo from a copy of the tiny GPT-2 in `folder`, with its text there.
fn config(folder: &Path, updates: u64) -> RunConfig {
    let text = format!(
        "[algorithm.lamo.text]\npath = \"{}\"\nsequence_tokens = 6\nvocabulary = 300\n",
        folder.join("text.txt").display()
    );
    let plain = crate::runs::config(folder, "lamo", updates);
    let mut with_text = plain.to_toml().unwrap();
    let table = "[algorithm.lamo]\n";
    let pretrained = format!(
        "{table}pretrained = \"{}\"\n",
        folder.join("gpt2").display()
    );
    with_text = with_text.replace(table, &pretrained);
    with_text.push_str(&text);
    RunConfig::parse(&with_text).unwrap()
}

/// Data, text and language model in a folder of their own.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    fs::write(folder.path().join("text.txt"), TEXT).unwrap();
    fs::create_dir(folder.path().join("gpt2")).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(gpt2().join(file), folder.path().join("gpt2").join(file)).unwrap();
    }
    folder
}

#[test]
fn a_run_that_learns_text_goes_on_exactly_and_opens_without_text_and_language_model() {
    let folder = folder();
    let folder = folder.path();
    let (whole, parts) = (folder.join("whole"), folder.join("parts"));
    run::start(&config(folder, 10), &whole).unwrap();
    run::start(&config(folder, 5), &parts).unwrap();
    run::resume(&parts, &["train.updates=10".to_owned()]).unwrap();
    let model = |run: &Path| fs::read(run.join("model.safetensors")).unwrap();
    assert!(model(&whole) == model(&parts));
    let table = fs::read_to_string(whole.join("metrics.csv")).unwrap();
    assert!(
        table.lines().next().unwrap().contains("text_loss"),
        "{table}"
    );

    // Text changes what is learned: the same run without it has another model.
    let mut without = config(folder, 10);
    if let trajformer::algorithms::AlgorithmConfig::Lamo(lamo) = &mut without.algorithm {
        lamo.text = None;
    }
    run::start(&without, &folder.join("without")).unwrap();
    let additions = |run: &str| {
        let path = folder.join(run).join("model.safetensors");
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let added = &tensors["transformer.h.0.attn.c_attn.lora_B"];
        added.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_ne!(additions("whole"), additions("without"));

    fs::remove_file(folder.join("text.txt")).unwrap();
    fs::remove_dir_all(folder.join("gpt2")).unwrap();
    run::open(&whole, &[]).unwrap().algorithm.policy().unwrap();
}

#[test]
fn a_text_that_can_not_be_learned_is_refused_with_what_to_do() {
    let folder = folder();
    let folder = folder.path();
    let start = |overrides: &[&str], out: &str| {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let config = config(folder, 2).with_overrides(&overrides);
        let started = config.and_then(|config| run::start(&config, &folder.join(out)));
        started.expect_err("no text to learn").to_string()
    };
    let table = "algorithm.lamo.text";
    for (key, words) in [
        ("vocabulary=299", vec!["299"]),
        ("vocabulary=301", vec!["text.vocabulary", "300 words"]),
        ("sequence_tokens=1000", vec!["sequence_tokens", "at least"]),
        ("sequence_tokens=1", vec!["sequence_tokens", "2 to"]),
        ("weight=0.0", vec!["weight", "positive"]),
        ("path=\"nowhere.txt\"", vec!["nowhere.txt"]),
    ] {
        let problem = start(&[&format!("{table}.{key}")], key.split('=').next().unwrap());
        assert!(
            words.iter().all(|word| problem.contains(word)),
            "{key}: {problem}"
        );
    }
    let mut alone = config(folder, 2);
    if let trajformer::algorithms::AlgorithmConfig::Lamo(lamo) = &mut alone.algorithm {
        lamo.pretrained = None;
    }
    let problem = alone.check().expect_err("no tokenizer").to_string();
    assert!(
        problem.contains("pretrained") && problem.contains("tokenizer"),
        "{problem}"
    );
}
