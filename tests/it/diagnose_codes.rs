//! What a diagnosis says of TAP: what its codes keep, how they are told, and its plans tried in the simulator.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::tap::Tap;
use trajformer::config::RunConfig;
use trajformer::data::Dataset;
use trajformer::diagnose::{DiagnoseOptions, Logged, Worth, diagnose, draw, page};
use trajformer::evaluate::Evaluator;
use trajformer::policy::behavior::waypoint::{Goals, WaypointPolicy};
use trajformer::policy::{EpisodeStart, Policy};
use trajformer::rng::{Rng, Streams};
use trajformer::run::TrainedRun;
use trajformer::{data, envs, run};
use trajformer_models::dropout::Dropout;
use trajformer_models::params::Params;
use trajformer_models::tap::{Autoencoder, Prior};

const MAZE: &str = "pointmaze-umaze";
const PENDULUM: &str = "pendulum-v1";
const EPISODES: usize = 2;
/// Sums of single precision in another order.
const SUMS: f64 = 1e-5;

fn maze_data(steps: usize, seed: u64) -> Dataset {
    let mut env = envs::make(MAZE).unwrap();
    let layout = envs::pointmaze::Layout::named(MAZE).unwrap();
    let mut policy = WaypointPolicy::new(layout, Goals::Fixed, 0.3);
    data::collect::collect(&mut *env, &mut policy, steps, seed).unwrap()
}

fn trained(folder: &Path, env: &str, data: &Dataset) -> TrainedRun {
    trained_with("termination_penalty = \"none\"", folder, env, data)
}

fn trained_with(penalty: &str, folder: &Path, env: &str, data: &Dataset) -> TrainedRun {
    let file = folder.join("train.npz");
    data::save(data, &file).unwrap();
    let text = format!(
        "[data]\npath = \"{}\"\n[train]\nupdates = 90\n[evaluate]\nenv = \"{env}\"\nepisodes = {EPISODES}\nevery_updates = 0\n\
         [algorithm.tap]\ncodes = 12\ncode_width = 6\nlatent_steps = 2\nlayers = 1\nheads = 2\nembedding_per_head = 4\n\
         window_transitions = 4\nbatch_size = 8\nautoencoder_updates = 60\nlearning_rate = 0.01\nplanner.horizon = 4\n\
         planner.beam_width = 4\nplanner.n_expand = 4\nplanner.plan_every_steps = 2\nplanner.likelihood_weight = 0.0\n\
         {penalty}\n",
        file.display()
    );
    run::start(&RunConfig::parse(&text).unwrap(), &folder.join("run")).unwrap();
    run::open(&folder.join("run"), &[]).unwrap()
}

fn tap(run: &TrainedRun) -> &Tap {
    run.algorithm.as_any().unwrap().downcast_ref().unwrap()
}

/// The networks of the run in `folder`, from its file.
fn networks(
    folder: &Path,
    config: &trajformer::algorithms::tap::TapConfig,
    (o, a): (usize, usize),
) -> (Autoencoder, Prior) {
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu);
    let tensors = tensors.unwrap();
    let under = |prefix: &str| -> BTreeMap<String, Tensor> {
        let found = tensors.iter();
        found
            .filter_map(|(name, tensor)| {
                Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
            })
            .collect()
    };
    let rng = &mut Rng::from_seed(0);
    let mut params = Params::new(DType::F32, &Device::Cpu);
    Autoencoder::new(&config.autoencoder(o, a), &mut params.init(rng)).unwrap();
    params.load(&under("autoencoder.")).unwrap();
    let autoencoder = Autoencoder::new(&config.autoencoder(o, a), &mut params.detached()).unwrap();
    let mut params = Params::new(DType::F32, &Device::Cpu);
    Prior::new(&config.prior(o), &mut params.init(rng)).unwrap();
    params.load(&under("prior.")).unwrap();
    let prior = Prior::new(&config.prior(o), &mut params.detached()).unwrap();
    (autoencoder, prior)
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1e-3);
    assert!(error <= tolerance, "{what}: {found}, expected {expected}");
}

#[test]
fn codes_are_told_and_lose_what_the_networks_of_the_file_say() {
    let folder = tempfile::tempdir().unwrap();
    let data = maze_data(700, 1);
    let given = maze_data(700, 5);
    let mut run = trained(folder.path(), MAZE, &data);
    let logged = Logged {
        training: Some(data.clone()),
        given: Some(given.clone()),
        ..Logged::default()
    };
    let options = DiagnoseOptions {
        episodes: EPISODES,
        decisions: 300,
        ..DiagnoseOptions::default()
    };
    let found = diagnose(&mut run, &logged, None, &options).unwrap();
    assert!(found.whole_episodes && !found.interrupted);
    let (autoencoder, prior) = networks(&folder.path().join("run"), tap(&run).config(), (4, 2));

    // Of data that was not learned from, in the units that were.
    let windows = tap(&run).windows_of(&given).unwrap();
    let all: Vec<usize> = (0..windows.len()).collect();
    let batch = windows.batch(&all).unwrap();
    let (mean, scale) = (windows.normalizer().mean(), windows.normalizer().scale());
    let raw = batch.joined.broadcast_mul(scale).unwrap();
    let raw = raw.broadcast_add(mean).unwrap().to_vec3::<f32>().unwrap();
    for (number, &value) in given.observation(0).iter().enumerate() {
        assert!((raw[0][0][number] - value).abs() < 1e-5);
    }
    let own = tap(&run).windows_of(&data).unwrap();
    let means = |of: &Tensor| of.to_vec1::<f32>().unwrap();
    assert_eq!(means(mean), means(own.normalizer().mean()));

    let codes = &found.codes[1];
    assert_eq!((found.codes[0].data, codes.data), ("training", "given"));
    assert_eq!((codes.windows, codes.of), (windows.len(), 12));
    let told = autoencoder.encode(&batch).unwrap();
    let states = batch.states(4).unwrap();
    let loss = prior.loss(&told, &states, Dropout::off()).unwrap();
    let loss = f64::from(loss.to_scalar::<f32>().unwrap());
    close(codes.cross_entropy, loss, SUMS, "cross entropy");
    let told = told.flatten_all().unwrap().to_vec1::<u32>().unwrap();
    let different: std::collections::BTreeSet<u32> = told.iter().copied().collect();
    assert_eq!(codes.used, different.len());
    assert!(codes.perplexity <= codes.used as f64 + 1e-9 && codes.perplexity >= 1.0);
    let (mut squares, mut steps) = (vec![0.0; 8], 0.0);
    for row in &all {
        let batch = windows.batch(&[*row]).unwrap();
        let codes = autoencoder.encode(&batch).unwrap();
        let vectors = autoencoder.vectors(&codes).unwrap();
        let states = batch.states(4).unwrap();
        let decoded = autoencoder.decode(&vectors, &states, Dropout::off());
        let decoded = decoded.unwrap().to_vec3::<f32>().unwrap();
        let joined = batch.joined.to_vec3::<f32>().unwrap();
        let over = batch.terminals.to_vec3::<f32>().unwrap();
        for step in 0..4 {
            if over[0][step][0] == 0.0 {
                for (dim, sum) in squares.iter_mut().enumerate() {
                    *sum += f64::from(decoded[0][step][dim] - joined[0][step][dim]).powi(2);
                }
                steps += 1.0;
            }
        }
    }
    for ((name, error), sum) in codes.errors.iter().zip(&squares) {
        close(*error, (sum / steps).sqrt(), SUMS, name);
    }
    assert_eq!(codes.errors[4].0, "action 0");
    close(codes.rewards, codes.errors[6].1, 0.0, "rewards");

    // Logged actions through the codes, window after window.
    let replay = found.code_replay.as_ref().unwrap();
    let complete: Vec<_> = given.episodes.iter().filter(|e| e.is_complete()).collect();
    let chosen = [complete[0], complete[complete.len() / 2]];
    assert_eq!(replay.replayed.returns, replay.logged.returns);
    for (at, episode) in chosen.into_iter().enumerate() {
        let first: usize = complete
            .iter()
            .take_while(|other| other.start < episode.start)
            .map(|other| other.steps - 1)
            .sum();
        let mut env = envs::make(MAZE).unwrap();
        env.reset_to(given.observation(episode.start)).unwrap();
        let mut earned = 0.0;
        for step in 0..episode.steps {
            // The last step begins no window.
            let begin = (step - step % 4).min(episode.steps - 2);
            let batch = windows.batch(&[first + begin]).unwrap();
            let vectors = autoencoder.vectors(&autoencoder.encode(&batch).unwrap());
            let states = batch.states(4).unwrap();
            let decoded = autoencoder.decode(&vectors.unwrap(), &states, Dropout::off());
            let decoded = decoded.unwrap().narrow(2, 0, 8).unwrap();
            let decoded = decoded.broadcast_mul(scale).unwrap().broadcast_add(mean);
            let decoded = decoded.unwrap().to_vec3::<f32>().unwrap();
            let action: Vec<f32> = decoded[0][step - begin][4..6].to_vec();
            let action: Vec<f32> = action.iter().map(|x| x.clamp(-1.0, 1.0)).collect();
            let after = env.step(&action).unwrap();
            earned += f64::from(after.reward);
            if after.terminated || after.truncated {
                break;
            }
        }
        close(replay.binned.returns[at], earned, 1e-4, "through the codes");
    }

    // Acting: as configured, and one draw of codes without a search.
    let evaluated = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let opened = run::open(&folder.path().join("run"), &overrides).unwrap();
        let mut evaluator = Evaluator::new(&opened.config.evaluate).unwrap().unwrap();
        let mut policy = opened.algorithm.policy().unwrap();
        evaluator.run(&mut *policy).unwrap().returns
    };
    let planner = "algorithm.tap.planner";
    let [width, expand] = ["beam_width", "n_expand"].map(|key| format!("{planner}.{key}=1"));
    assert_eq!(found.configured.as_ref().unwrap().returns, evaluated(&[]));
    let drawn = evaluated(&[&width, &expand]);
    assert_eq!(found.greedy.as_ref().unwrap().returns, drawn);

    let text = page(&found);
    for words in [
        "Lost in the codes",
        "the same through the codes",
        "codes as they are drawn",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let picture = folder.path().join("where.svg");
    draw(&picture, &found, "Where it goes").unwrap();
    let picture = std::fs::read_to_string(picture).unwrap();
    assert!(
        picture.contains("Lost in the codes") && picture.contains("Errors of what is imagined")
    );
}

/// Returns of episodes, and the first plan's promise: of all plans of a search the best by the simulator's rewards is followed, if they
/// are tried, and the first if not.
fn followed(run: &TrainedRun, tries: bool) -> (Vec<f64>, f64) {
    let discount = tap(run).config().discount;
    let streams = Streams::from_seed(run.config.evaluate.seed);
    let mut promise = None;
    let episode = |number: u64| {
        let mut env = envs::make(PENDULUM).unwrap();
        let (low, high) = (
            env.spec().action_low.clone(),
            env.spec().action_high.clone(),
        );
        let within = |action: &[f32]| -> Vec<f32> {
            let bounds = low.iter().zip(&high);
            action
                .iter()
                .zip(bounds)
                .map(|(x, (low, high))| x.max(*low).min(*high))
                .collect()
        };
        let mut observation = env
            .reset(streams.numbered("environment", number).bits())
            .unwrap();
        let mut planner = tap(run).planner().unwrap();
        planner
            .begin(&[EpisodeStart::new(streams.numbered("policy", number))])
            .unwrap();
        let (mut earned, mut plan) = (0.0, Vec::new());
        for step in 0.. {
            let row =
                Tensor::from_slice(&observation, (1, observation.len()), &Device::Cpu).unwrap();
            planner.act(&row, &[true]).unwrap();
            if step % 2 == 0 {
                let imagined = planner.imagined(0).unwrap().unwrap();
                promise.get_or_insert(imagined.scores[0] / discount);
                let candidates = imagined.actions.to_vec3::<f32>().unwrap();
                let tried = |actions: &[Vec<f32>]| {
                    let mut copy = env.fork().unwrap();
                    let mut sum = 0.0;
                    for (at, action) in actions.iter().enumerate() {
                        let after = copy.step(&within(action)).unwrap();
                        sum += discount.powi(at as i32) * f64::from(after.reward);
                        if after.terminated || after.truncated {
                            break;
                        }
                    }
                    sum
                };
                let mut best = 0;
                for at in 1..candidates.len() {
                    if tries && tried(&candidates[at]) > tried(&candidates[best]) {
                        best = at;
                    }
                }
                plan = candidates[best].clone();
            }
            let after = env.step(&within(&plan[step % 2])).unwrap();
            earned += f64::from(after.reward);
            observation = after.observation;
            if after.terminated || after.truncated {
                break;
            }
        }
        earned
    };
    let returns = (0..EPISODES as u64).map(episode).collect();
    (returns, promise.unwrap())
}

#[test]
fn plans_are_tried_in_the_simulator_and_promise_what_the_search_maximises() {
    let folder = tempfile::tempdir().unwrap();
    let data = crate::runs::pendulum_data();
    let mut run = trained(folder.path(), PENDULUM, &data);
    let logged = Logged {
        training: Some(data),
        ..Logged::default()
    };
    let options = DiagnoseOptions {
        episodes: EPISODES,
        decisions: 300,
        worth: Worth::Nothing,
        ..DiagnoseOptions::default()
    };
    let found = diagnose(&mut run, &logged, None, &options).unwrap();
    let (first, promise) = followed(&run, false);
    assert_eq!(found.configured.as_ref().unwrap().returns, first);
    let (best, _) = followed(&run, true);
    assert_eq!(found.simulated.as_ref().unwrap().returns, best);
    assert_ne!(first, best);
    let imagination = found.imagination.as_ref().unwrap();
    assert_eq!(imagination.plans, 200);
    // Without a penalty of unlikely plans the score is the promise, discounted once more.
    close(imagination.decisions[0].predicted, promise, SUMS, "promise");
    assert_eq!(imagination.horizon.len(), 4);
    let other = diagnose(
        &mut run,
        &logged,
        None,
        &DiagnoseOptions {
            worth: Worth::Model,
            ..options
        },
    );
    let other = other.unwrap();
    assert_eq!(other.simulated_worth, Some("model"));
    assert_ne!(other.simulated.unwrap().returns, best);
}

#[test]
fn rewards_that_stand_for_an_end_are_not_among_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = crate::runs::pendulum_data();
    for episode in &mut data.episodes {
        (episode.terminated, episode.truncated) = (true, false);
    }
    let lost = |penalty: f64| {
        let place = folder.path().join(penalty.to_string());
        std::fs::create_dir(&place).unwrap();
        let key = format!("termination_penalty = {penalty:?}");
        let run = trained_with(&key, &place, PENDULUM, &data);
        let windows = tap(&run).windows_of(&data).unwrap();
        let scores = tap(&run).code_scores(&windows, 1_000).unwrap();
        // By what stands in the windows: a step is an end, or its reward is one of the data's.
        let (autoencoder, _) = networks(&place.join("run"), tap(&run).config(), (3, 1));
        let all: Vec<usize> = (0..windows.len()).collect();
        let batch = windows.batch(&all).unwrap();
        let vectors = autoencoder.vectors(&autoencoder.encode(&batch).unwrap());
        let states = batch.states(3).unwrap();
        let decoded = autoencoder.decode(&vectors.unwrap(), &states, Dropout::off());
        let decoded = decoded.unwrap().to_vec3::<f32>().unwrap();
        let joined = batch.joined.to_vec3::<f32>().unwrap();
        let over = batch.terminals.to_vec3::<f32>().unwrap();
        let (mut sum, mut count, mut ends) = (0.0, 0.0, 0);
        for (row, window) in joined.iter().enumerate() {
            for (step, numbers) in window.iter().enumerate() {
                let end = numbers[4].abs() > 20.0;
                ends += usize::from(end);
                if over[row][step][0] == 0.0 && !end {
                    sum += f64::from(decoded[row][step][4] - numbers[4]).powi(2);
                    count += 1.0;
                }
            }
        }
        assert!(ends > 0);
        close(scores.errors[4], f64::sqrt(sum / count), SUMS, "rewards");
        scores.errors[4]
    };
    // Deviations of rewards are those before the penalty.
    assert!(lost(-1e4) < 20.0);
}
