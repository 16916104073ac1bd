//! FAST around its network: which episode a chunk belongs to, how much of a generated chunk is executed, and what its diagnostics
//! count.

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::fast::{FastConfig, FastPolicy};
use trajformer::algorithms::{Algorithm, Build, Source};
use trajformer::data::action_chunks::ActionChunks;
use trajformer::data::tokenizers::fast::FastOptions;
use trajformer::data::tokenizers::fast_actions::FastActions;
use trajformer::data::{ActionBounds, Dataset, Episode, Normalizer};
use trajformer::policy::EpisodeStart;
use trajformer::rng::Rng;

use crate::runs::pendulum_data;

const CPU: &Device = &Device::Cpu;

fn config(execute_steps: usize) -> FastConfig {
    FastConfig {
        chunk_steps: 4,
        execute_steps,
        vocab_size: 128,
        temperature: 1.0,
        layers: 1,
        heads: 1,
        embedding: 8,
        batch_size: 4,
        ..FastConfig::default()
    }
}

/// Untrained.
fn policy(data: &Dataset, config: &FastConfig) -> FastPolicy {
    let build = Build {
        source: Source::Train(data),
        bounds: &ActionBounds::new(&[-2.0], &[2.0], CPU).unwrap(),
        fast: None,
        encoder: None,
        training_updates: 1,
        device: CPU,
        rng: &mut Rng::from_seed(0),
    };
    config.build(build).unwrap()
}

#[test]
fn a_chunk_belongs_to_the_episode_that_it_begins_in() {
    let mut data = Dataset::blank(1, 1);
    for steps in [2, 3, 1] {
        data.episodes.push(Episode {
            terminated: true,
            ..Episode::new(data.rewards.len(), steps)
        });
        for _ in 0..steps {
            let number = data.rewards.len() as f32;
            data.observations.push(number);
            data.actions.push(number);
            data.rewards.push(number);
        }
    }
    let normalizer = Normalizer::identity(1, CPU).unwrap();
    let mut tokenizer = FastActions::unfitted(1, FastOptions::default()).unwrap();
    let rng = &mut Rng::from_seed(0);
    let chunks = ActionChunks::new(&data, 2, &normalizer, &mut tokenizer, rng).unwrap();
    let episodes: Vec<usize> = (0..chunks.len()).map(|at| chunks.episode_of(at)).collect();
    assert_eq!(episodes, [0, 0, 1, 1, 1, 2]);
}

#[test]
fn as_many_actions_of_a_chunk_are_executed_as_asked_for_before_the_next_is_generated() {
    let data = pendulum_data();
    let executed = |steps: usize| -> Vec<f32> {
        let mut policy = policy(&data, &config(steps)).policy().unwrap();
        let start = EpisodeStart {
            rng: Rng::from_seed(1),
            target_return: None,
            goal: None,
            instruction: None,
        };
        policy.begin(&[start]).unwrap();
        let observation = Tensor::zeros((1, 3), DType::F32, CPU).unwrap();
        let mut act = || policy.act(&observation, &[true]).unwrap();
        let actions = (0..4).map(|_| act().flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]);
        actions.collect()
    };
    // Another chunk is drawn from the same stream.
    let (whole, three, one) = (executed(4), executed(3), executed(1));
    assert_eq!(three[..3], whole[..3]);
    assert_ne!(three[3], whole[3]);
    assert_eq!(one[0], whole[0]);
    assert_ne!(one[1..], whole[1..]);
}

#[test]
fn diagnostics_count_what_becomes_no_chunk_though_acting_leaves_it_out() {
    let constrained = config(1);
    assert!(constrained.constrained);
    let metrics = policy(&pendulum_data(), &constrained).diagnostics(&mut Rng::from_seed(2));
    let metrics = metrics.unwrap().values().unwrap();
    let (_, invalid) = metrics
        .iter()
        .find(|(name, _)| *name == "invalid_share")
        .unwrap();
    // Tokens by chance hardly ever spell exactly four coefficients.
    assert!((0.5..=1.0).contains(invalid), "{invalid}");
}
