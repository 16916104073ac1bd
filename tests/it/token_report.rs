//! `data tokens`: what tokenizers make of a data set, by the library and by the command.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use trajformer::data;
use trajformer::data::action_chunks::{ActionChunks, padded_actions};
use trajformer::data::tokenizers::fast::FastOptions;
use trajformer::data::tokenizers::fast_actions::FastActions;
use trajformer::data::tokenizers::{TokenizerKind, TokenizerSizes, TrajectoryTokenizer};
use trajformer::data::{Dataset, Normalizer};
use trajformer::rng::Rng;
use trajformer::token_report::{TokenReport, TokenReportOptions, report};

use crate::runs::pendulum_data;

fn options(kind: TokenizerKind, vocabulary: usize) -> TokenReportOptions {
    TokenReportOptions {
        kind,
        vocabulary,
        chunk_steps: 8,
        scale: 10.0,
    }
}

fn found(data: &Dataset, options: &TokenReportOptions) -> TokenReport {
    let rng = &mut Rng::from_seed(0);
    report(data, options, None, rng).unwrap().0.report
}

#[test]
fn bins_are_counted_and_errors_fall_with_their_number() {
    let mut data = pendulum_data();
    // A reward that is nearly always the same fills most quantile bins.
    data.rewards
        .iter_mut()
        .enumerate()
        .for_each(|(step, reward)| *reward = f32::from(u8::from(step % 10 == 0)));
    let quantile = found(&data, &options(TokenizerKind::Quantile, 20));
    assert_eq!((quantile.tokens_per_step, quantile.compression), (5.0, 1.0));
    let [.., action, reward] = &quantile.dimensions[..] else {
        panic!("dimensions")
    };
    assert_eq!(
        (action.name.as_str(), reward.name.as_str()),
        ("action 0", "reward")
    );
    assert_eq!(action.bins_used, Some(20));
    // 0 fills 18 of 20 bins' rows, so thresholds coincide there; what is left is one bin of zeros and one of ones.
    assert_eq!((reward.bins_used, reward.bins_empty), (Some(2), Some(0)));
    assert_eq!(reward.bins_duplicate, Some(18));
    let uniform = found(&data, &options(TokenizerKind::Uniform, 20));
    let [.., action, reward] = &uniform.dimensions[..] else {
        panic!("dimensions")
    };
    assert_eq!((reward.bins_used, reward.bins_empty), (Some(2), Some(18)));
    // Half a bin of 20 over the range, relative to the standard deviation of a uniform distribution: range / sqrt(12).
    assert!(
        action.error_max < 0.5 / 20.0 * 12f64.sqrt() * 1.1,
        "{action:?}"
    );
    assert!(action.error_max > action.error_rms);
    let fine = found(&data, &options(TokenizerKind::Uniform, 200));
    let ratio = action.error_rms / fine.dimensions[3].error_rms;
    assert!((8.0..12.0).contains(&ratio), "{ratio}");
}

#[test]
fn k_means_takes_one_token_per_step_and_fast_as_many_as_its_chunks_need() {
    let data = pendulum_data();
    let centers = found(&data, &options(TokenizerKind::KMeans, 16));
    assert_eq!((centers.tokens_per_step, centers.invalid), (1.0, 0));
    assert!(centers.dimensions[0].error_rms < 0.1, "{centers:?}");
    let mut smooth = data.clone();
    // Slow actions compress, random ones do not.
    smooth
        .actions
        .iter_mut()
        .enumerate()
        .for_each(|(step, action)| *action = (step as f32 / 30.0).sin());
    let [random, smooth] =
        [&data, &smooth].map(|data| found(data, &options(TokenizerKind::Fast, 256)));
    assert_eq!((random.invalid, smooth.invalid), (0, 0));
    assert!(
        smooth.tokens_per_step < 0.6 * random.tokens_per_step,
        "{smooth} {random}"
    );
    assert!((smooth.compression * smooth.tokens_per_step - 1.0).abs() < 1e-12);
    // Coefficients of actions in ±1 are rounded to tenths: 0.1 / sqrt(12), over a standard deviation of 0.6.
    let rms = random.dimensions[0].error_rms;
    assert!((0.03..0.07).contains(&rms), "{rms}");
}

#[test]
fn chunks_repeat_the_last_action_past_the_end_of_an_episode_however_short_it_is() {
    let data = pendulum_data();
    let episode = data.episodes[1].range();
    let steps = 300;
    let (rows, starts) = padded_actions(&data, steps);
    assert_eq!(starts.len(), data.steps());
    let chunk = &rows[starts[episode.start]..][..steps];
    let own: Vec<f64> = data.actions[episode.clone()]
        .iter()
        .map(|&a| f64::from(a))
        .collect();
    assert_eq!(chunk[..own.len()], own);
    assert!(own.len() < steps && chunk[own.len()..].iter().all(|&a| a == own[own.len() - 1]));

    let mut tokenizer = FastActions::unfitted(1, FastOptions::default()).unwrap();
    let cpu = &candle_core::Device::Cpu;
    let normalizer = Normalizer::fit(&data.observations, 3, 1e-3, cpu).unwrap();
    let rng = &mut Rng::from_seed(0);
    let chunks = ActionChunks::new(&data, 5, &normalizer, &mut tokenizer, rng).unwrap();
    assert_eq!(chunks.len(), data.steps());
    let last = episode.end - 1;
    assert_eq!(chunks.actions(last), [f64::from(data.actions[last]); 5]);
    for chunk in [0, 1, last] {
        let mut tokens = Vec::new();
        tokenizer
            .encode(chunks.actions(chunk), &mut tokens)
            .unwrap();
        assert_eq!(chunks.tokens(chunk), tokens);
    }
    let batch = chunks.batch(&[0, last as u32], 1024).unwrap();
    let counts = batch.mask.sum(1).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(counts[1] as usize, chunks.tokens(last).len() + 1);
    let mut damaged = data.clone();
    damaged.actions[7] = f32::NAN;
    let error = ActionChunks::new(&damaged, 5, &normalizer, &mut tokenizer, rng).unwrap_err();
    assert!(error.to_string().contains("is NaN"), "{error}");
}

/// Every kind through the state of a checkpoint: what was saved, restored into a new one, gives the same tokens.
#[test]
fn every_tokenizer_comes_back_from_its_state() {
    use std::collections::BTreeMap;
    use trajformer::data::tokenizers::Chunks;
    use trajformer_models::params::{Slot, StateVisitor};

    /// What was shown, or what is to be given back.
    #[derive(Default)]
    struct Store {
        tensors: BTreeMap<String, candle_core::Tensor>,
        numbers: BTreeMap<String, f64>,
        counters: BTreeMap<String, u64>,
        bytes: BTreeMap<String, Vec<u8>>,
        restoring: bool,
    }

    impl StateVisitor for Store {
        fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
            if self.restoring {
                slot.set(&self.tensors[name])
            } else {
                let copy = slot.tensor()?.copy()?;
                self.tensors.insert(name.to_owned(), copy);
                Ok(())
            }
        }

        fn number(&mut self, name: &str, value: &mut f64) -> trajformer_models::Result<()> {
            if self.restoring {
                *value = self.numbers[name]
            } else {
                self.numbers.insert(name.to_owned(), *value);
            }
            Ok(())
        }

        fn counter(&mut self, name: &str, value: &mut u64) -> trajformer_models::Result<()> {
            if self.restoring {
                *value = self.counters[name]
            } else {
                self.counters.insert(name.to_owned(), *value);
            }
            Ok(())
        }

        fn bytes(&mut self, name: &str, value: &mut Vec<u8>) -> trajformer_models::Result<()> {
            if self.restoring {
                *value = self.bytes[name].clone()
            } else {
                drop(self.bytes.insert(name.to_owned(), value.clone()))
            }
            Ok(())
        }
    }

    let data = pendulum_data();
    let rows: Vec<f64> = data.actions.iter().map(|&a| f64::from(a)).collect();
    let starts: Vec<usize> = (0..=rows.len() - 4).collect();
    let chunks = Chunks::new(&rows, 1, 4, &starts).unwrap();
    let sizes = TokenizerSizes {
        dims: 1,
        vocabulary: 128,
        scale: 10.0,
    };
    for kind in [
        TokenizerKind::Quantile,
        TokenizerKind::Uniform,
        TokenizerKind::KMeans,
        TokenizerKind::Fast,
    ] {
        let mut fitted = kind.unfitted(&sizes).unwrap();
        assert_eq!((fitted.dims(), fitted.vocabulary()), (1, 128));
        fitted.fit(&chunks, &mut Rng::from_seed(2)).unwrap();
        let mut store = Store::default();
        fitted.state("policy.tokenizer.", &mut store).unwrap();
        store.restoring = true;
        let mut restored = kind.unfitted(&sizes).unwrap();
        restored.state("policy.tokenizer.", &mut store).unwrap();
        let tokens = |tokenizer: &dyn TrajectoryTokenizer| {
            let mut tokens = Vec::new();
            tokenizer.encode(&rows[..4], &mut tokens).unwrap();
            (tokenizer.decode(&tokens, 4), tokens)
        };
        let (decoded, found) = tokens(&*restored);
        assert_eq!(
            (decoded.clone(), found.clone()),
            tokens(&*fitted),
            "{kind:?}"
        );
        assert!(
            decoded.valid && found.iter().all(|&token| token < 128),
            "{kind:?}"
        );
        // What is not in range comes back as zeros, of the right size.
        let wrong = restored.decode(&[127, 500], 4);
        assert!(!wrong.valid && wrong.rows.len() == 4, "{kind:?}");
        let other = Chunks::new(&rows, 2, 2, &[0]).unwrap();
        assert!(
            restored.fit(&other, &mut Rng::from_seed(2)).is_err(),
            "{kind:?}"
        );
        assert!(
            restored.encode(&[f64::NAN], &mut Vec::new()).is_err(),
            "{kind:?}"
        );

        if kind == TokenizerKind::Fast {
            let json = store.bytes.values_mut().next().unwrap();
            json.truncate(json.len() / 2);
            let error = restored.state("policy.tokenizer.", &mut store).unwrap_err();
            assert!(error.to_string().contains("the file is damaged"), "{error}");
        }
    }
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trajformer"));
    command.args(arguments).current_dir(folder);
    command.env("RAYON_NUM_THREADS", "1").output().unwrap()
}

#[test]
fn the_command_prints_a_table_draws_saves_and_loads() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&pendulum_data(), &folder.join("data.npz")).unwrap();
    let run = |arguments: &[&str]| {
        let found = output(
            folder,
            &[&["data", "tokens", "data.npz"], arguments].concat(),
        );
        assert!(
            found.status.success(),
            "{}",
            String::from_utf8_lossy(&found.stderr)
        );
        String::from_utf8(found.stdout).unwrap()
    };
    let text = run(&["--bins", "10", "--picture", "bins.svg", "--json"]);
    assert!(
        text.contains("observation 2") && text.contains("wrote bins.svg"),
        "{text}"
    );
    let value: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(value["tokenizer"], "quantile");
    assert_eq!(value["dimensions"][0]["bins_used"], 10);
    let fast = ["--tokenizer", "fast", "--json"];
    let own = run(&[
        &fast[..],
        &["--bins", "200", "--save", "own", "--picture", "fast.png"],
    ]
    .concat());
    let again = run(&[&fast[..], &["--load", "own"]].concat());
    assert_eq!(own.lines().last(), again.lines().last());
    for file in [
        "bins.svg",
        "fast.png",
        "own/tokenizer.json",
        "own/processor_config.json",
    ] {
        assert!(
            fs::metadata(folder.join(file)).unwrap().len() > 100,
            "{file}"
        );
    }
    let fails = |arguments: &[&str]| {
        let found = output(
            folder,
            &[&["data", "tokens", "data.npz"], arguments].concat(),
        );
        assert_eq!(found.status.code(), Some(1));
        String::from_utf8(found.stderr).unwrap()
    };
    assert!(fails(&["--load", "own"]).contains("--tokenizer fast"));
    assert!(fails(&["--tokenizer", "fast", "--load", "."]).contains("processor_config.json"));
    assert!(fails(&["--tokenizer", "fast", "--save", "own"]).contains("exists already"));
    assert!(fails(&["--tokenizer", "fast", "--bins", "20"]).contains("vocab"));
}
