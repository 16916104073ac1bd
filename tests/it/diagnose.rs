//! `trajformer diagnose`: each number against something that is computed in another way.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use trajformer::algorithms::Stage;
use trajformer::algorithms::trajectory_transformer::{Learner, TrajectoryTransformer};
use trajformer::config::RunConfig;
use trajformer::data::{self, Dataset};
use trajformer::diagnose::{DiagnoseOptions, Diagnosis, Logged, Other, Worth, diagnose, page};
use trajformer::environment::Step;
use trajformer::envs::{self, EnvSpec, Environment};
use trajformer::evaluate::Evaluator;
use trajformer::interrupt::Interrupt;
use trajformer::models::activation::Activation;
use trajformer::models::decoder::Decoder;
use trajformer::models::dropout::Dropout;
use trajformer::models::params::Params;
use trajformer::models::precision::Precision;
use trajformer::models::trajectory_transformer::{
    Recipe, TrajectoryTransformer as Network, TrajectoryTransformerConfig as Sizes,
};
use trajformer::planning::simulated::{SimulatedOptions, SimulatedSearch};
use trajformer::planning::{BeamSearch, PlanConfig, Prefix, SearchModel, Window};
use trajformer::policy::behavior::waypoint::{Goals, WaypointPolicy};
use trajformer::rng::Rng;
use trajformer::token_report::{TokenReportOptions, report};
use trajformer::{TrainedRun, preview, run};

use crate::cli::{fails, output, succeeds};

/// Sums of some thousand f32 numbers in another order.
const F32_SUMS: f64 = 1e-5;

const MAZE: &str = "pointmaze-umaze";

fn maze_data(steps: usize, seed: u64) -> Dataset {
    let mut env = envs::make(MAZE).unwrap();
    let layout = envs::pointmaze::Layout::named(MAZE).unwrap();
    let mut policy = WaypointPolicy::new(layout, Goals::Fixed, 0.3);
    data::collect::collect(&mut *env, &mut policy, steps, seed).unwrap()
}

const PLANNER: &str = "bins = 12\nbatch_size = 8\nlayers = 1\nheads = 2\nembedding_per_head = 8\nwindow_transitions = 3\n\
                       dropout = 0.0\nwarmup_updates = 3\ndecay_updates = 60\naction_weight = 3.0\nplanner.horizon = 4\n\
                       planner.beam_width = 2\nplanner.plan_every_steps = 4\nplanner.max_context_transitions = 2\n\
                       termination_penalty = \"none\"";

/// A run in `folder/run` that learned from `folder/train.npz`.
fn trained(folder: &Path, algorithm: &str, keys: &str, data: &Dataset) -> TrainedRun {
    let file = folder.join("train.npz");
    data::save(data, &file).unwrap();
    let env = data.env_name.clone().unwrap();
    let text = format!(
        "[data]\npath = \"{}\"\n[train]\nupdates = 60\n[evaluate]\nenv = \"{env}\"\nepisodes = 2\nevery_updates = 0\n\
         [algorithm.{algorithm}]\n{keys}\n",
        file.display()
    );
    let config = RunConfig::parse(&text).unwrap();
    run::start(&config, &folder.join("run")).unwrap();
    run::open(&folder.join("run"), &[]).unwrap()
}

fn planner(folder: &Path) -> (TrainedRun, Dataset) {
    let data = maze_data(1_200, 1);
    (
        trained(folder, "trajectory_transformer", PLANNER, &data),
        data,
    )
}

fn diagnosed(run: &mut TrainedRun, logged: &Logged, options: &DiagnoseOptions) -> Diagnosis {
    diagnose(run, logged, None, options).unwrap()
}

/// Two whole episodes of 300 steps, a plan every 4.
fn whole() -> DiagnoseOptions {
    DiagnoseOptions {
        episodes: 2,
        decisions: 150,
        ..DiagnoseOptions::default()
    }
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{what}: {found}, expected {expected}");
}

fn network(run: &TrainedRun) -> &TrajectoryTransformer {
    let rule = run.algorithm.as_any().unwrap();
    rule.downcast_ref::<TrajectoryTransformer>().unwrap()
}

#[test]
fn token_scores_sum_to_the_loss_that_training_has_on_the_same_windows() {
    let folder = tempfile::tempdir().unwrap();
    let (run, data) = planner(folder.path());
    let network = network(&run);
    let trajformer::algorithms::AlgorithmConfig::TrajectoryTransformer(config) =
        &run.config.algorithm
    else {
        panic!("a planner")
    };
    for data in [data, maze_data(700, 2)] {
        let windows = network.windows_of(&data).unwrap();
        let found = network.token_scores(&windows, usize::MAX).unwrap();
        assert_eq!(found.windows, windows.len());
        let mut params = Params::new(DType::F32, &Device::Cpu);
        Network::new(
            &config.sizes(4, 2),
            &mut params.init(&mut Rng::from_seed(0)),
        )
        .unwrap();
        for (own, trained) in params.iter().zip(network.params().iter()) {
            own.slot.set(&trained.slot.tensor().unwrap()).unwrap();
        }
        let learner = Learner::new(config, 4, 2, params, Stage::Learning).unwrap();
        let all: Vec<usize> = (0..windows.len()).collect();
        let batch = windows.batch(&all, &Device::Cpu).unwrap();
        let loss = learner.loss(&batch, Dropout::off()).unwrap();
        let loss = f64::from(loss.to_scalar::<f32>().unwrap());
        close(found.loss, loss, F32_SUMS, "loss");
        // The loss is the weighted mean over all positions, masked ones too.
        let weight = |dim: usize| if (4..6).contains(&dim) { 3.0 } else { 1.0 };
        let sum: f64 = found
            .dimensions
            .iter()
            .enumerate()
            .filter(|(_, score)| score.tokens > 0)
            .map(|(dim, score)| weight(dim) * score.cross_entropy * score.tokens as f64)
            .sum();
        let positions = batch.inputs.elem_count() as f64;
        close(sum / positions, loss, F32_SUMS, "sum of dimensions");
        assert!(
            found
                .dimensions
                .iter()
                .all(|score| (0.0..=1.0).contains(&score.accuracy))
        );
    }
}

#[test]
fn accuracy_is_the_share_of_tokens_that_the_network_itself_would_say() {
    let folder = tempfile::tempdir().unwrap();
    let (run, data) = planner(folder.path());
    let network = network(&run);
    let windows = network.windows_of(&data).unwrap();
    let found = network.token_scores(&windows, 1).unwrap();
    assert_eq!(found.windows, 1);
    let batch = windows.batch(&[0], &Device::Cpu).unwrap();
    let mut detached = network.params().detached();
    let trajformer::algorithms::AlgorithmConfig::TrajectoryTransformer(config) =
        &run.config.algorithm
    else {
        panic!("a planner")
    };
    let net = Network::new(&config.sizes(4, 2), &mut detached).unwrap();
    let said = net.logits(&batch.inputs, None).unwrap().argmax(2).unwrap();
    let right = said
        .eq(&batch.targets.to_dtype(DType::U32).unwrap())
        .unwrap();
    let right = right.squeeze(0).unwrap().to_vec1::<u8>().unwrap();
    for (dim, score) in found.dimensions.iter().enumerate() {
        let own: Vec<u8> = (0..right.len())
            .filter(|position| (position + 1) % 8 == dim)
            .map(|position| right[position])
            .collect();
        assert_eq!(score.tokens, own.len());
        let share = own.iter().map(|&r| f64::from(r)).sum::<f64>() / own.len() as f64;
        assert_eq!(score.accuracy, share, "{dim}");
    }
}

#[test]
fn tokens_that_are_told_at_once_are_held_against_the_same_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = maze_data(1_200, 1);
    let keys = format!("{PLANNER}\nmulti_token = true");
    let mut run = trained(folder.path(), "trajectory_transformer", &keys, &data);
    let found = {
        let network = network(&run);
        let windows = network.windows_of(&data).unwrap();
        network.token_scores(&windows, usize::MAX).unwrap()
    };
    let [at_once, one_by_one] = found.at_once.clone().unwrap();
    // Every value follows an action of its window; of four numbers of an observation there are windows more that begin with one.
    assert_eq!((at_once.len(), one_by_one[0]), (5, found.dimensions[7]));
    for index in 1..5 {
        let (there, all) = (one_by_one[index], found.dimensions[index - 1]);
        assert_eq!(at_once[index].tokens, there.tokens);
        assert!(there.tokens < all.tokens || index == 1, "{index}");
        assert!(at_once[index].cross_entropy != there.cross_entropy);
    }
    let logged = Logged {
        training: Some(data),
        ..Logged::default()
    };
    let found = diagnosed(&mut run, &logged, &whole());
    let told = found.tokens[0].at_once.unwrap();
    assert_eq!(told.values.tokens, told.values_one_by_one.tokens);
    let text = trajformer::diagnose::page(&found);
    assert!(text.contains("the same, one by one"), "{text}");
}

#[test]
fn parts_of_a_diagnosis_are_what_evaluations_replays_and_token_reports_find() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, data) = planner(folder.path());
    let logged = Logged {
        training: Some(data.clone()),
        ..Logged::default()
    };
    let found = diagnosed(&mut run, &logged, &whole());
    assert!(found.whole_episodes && !found.interrupted);

    // As configured, and the most likely actions.
    let evaluated = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let opened = run::open(&folder.path().join("run"), &overrides).unwrap();
        let mut evaluator = Evaluator::new(&opened.config.evaluate).unwrap().unwrap();
        let mut policy = opened.algorithm.policy().unwrap();
        evaluator.run_recorded(&mut *policy).unwrap()
    };
    let (evaluation, episodes) = evaluated(&[]);
    let configured = found.configured.as_ref().unwrap();
    assert_eq!(configured.returns, evaluation.returns);
    assert_eq!(configured.score, evaluation.score_mean);
    let one = "algorithm.trajectory_transformer.planner.";
    let greedy = [
        "objective=likelihood",
        "horizon=1",
        "beam_width=1",
        "plan_every_steps=1",
    ];
    let greedy = greedy.map(|key| format!("{one}{key}"));
    let (evaluation, _) = evaluated(&greedy.each_ref().map(String::as_str));
    assert_eq!(found.greedy.as_ref().unwrap().returns, evaluation.returns);

    // What came of the decisions.
    let imagination = found.imagination.as_ref().unwrap();
    assert_eq!((imagination.plans, imagination.decisions.len()), (150, 150));
    for decision in &imagination.decisions {
        let episode = &episodes.episodes[decision.episode];
        let rewards = &episodes.rewards[episode.start + decision.step..episode.start + 300];
        let powers = (0..).map(|k| 0.99_f64.powi(k));
        let expected: f64 = rewards
            .iter()
            .zip(powers)
            .map(|(&r, p)| f64::from(r) * p)
            .sum();
        close(decision.realized, expected, 1e-12, "realized");
    }
    let returns = imagination.returns.unwrap();
    let mean = imagination
        .decisions
        .iter()
        .map(|d| d.predicted)
        .sum::<f64>()
        / 150.0;
    close(returns.predicted, mean, 1e-12, "mean promise");

    // Bins and replays: the maze starts where its first observation says, to the last bit of f32.
    let bins = found.bins.as_ref().unwrap();
    let replay = bins.replay.as_ref().unwrap();
    assert_eq!(replay.skipped, 0);
    assert_eq!(replay.replayed.returns, replay.logged.returns);
    // Two of four episodes, evenly spread.
    assert_eq!(replay.logged.returns, [0, 2].map(|at| data.returns()[at]));
    assert_ne!(replay.binned.returns, replay.logged.returns);
    let options = TokenReportOptions {
        vocabulary: 12,
        ..TokenReportOptions::of(trajformer::data::tokenizers::TokenizerKind::Quantile)
    };
    let rng = &mut Rng::from_seed(0);
    let tokens = report(&data, &options, None, rng).unwrap().0.report;
    for (found, expected) in bins.dimensions.iter().zip(&tokens.dimensions) {
        assert_eq!(found.name, expected.name);
        close(found.error_rms, expected.error_rms, 1e-9, &found.name);
    }
    assert_eq!(bins.dimensions.len(), 6);

    // The sentence is about the largest loss.
    let most = found.losses[0];
    let rest = &found.losses[1..];
    assert!(rest.iter().all(|loss| loss.lost.mean <= most.lost.mean));
    assert!(page(&found).starts_with(&found.verdict));
    let json: Value = serde_json::to_value(&found).unwrap();
    assert_eq!(json["configured"]["returns"].as_array().unwrap().len(), 2);
}

/// Different action sequences in the plan that a run makes from the start of seed 7.
fn policy_beams(run: &TrainedRun) -> f64 {
    let mut policy = run.algorithm.policy().unwrap();
    let shown = preview::preview(&mut *policy, &run.config, 7).unwrap();
    let mut beams = shown.imagined.actions.to_vec3::<f32>().unwrap();
    beams.sort_by(|a, b| a.partial_cmp(b).unwrap());
    beams.dedup();
    beams.len() as f64
}

#[test]
fn errors_of_what_is_imagined_are_those_of_a_plan_that_is_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, data) = planner(folder.path());
    let options = DiagnoseOptions {
        episodes: 1,
        decisions: 1,
        seed: Some(7),
        ..DiagnoseOptions::default()
    };
    let logged = Logged {
        training: Some(data.clone()),
        ..Logged::default()
    };
    let found = diagnosed(&mut run, &logged, &options);
    assert_eq!((found.steps, found.whole_episodes), (4, false));
    let imagination = found.imagination.unwrap();
    assert_eq!((imagination.plans, imagination.horizon.len()), (1, 4));
    let beams = policy_beams(&run);
    assert_eq!(imagination.distinct, beams);
    // Cut after four steps, nothing is known of what came.
    assert!(imagination.decisions.is_empty() && imagination.returns.is_none());
    let mut policy = run.algorithm.policy().unwrap();
    let shown = preview::preview(&mut *policy, &run.config, 7).unwrap();
    let deviation = |column: Vec<f64>| {
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        (column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / column.len() as f64).sqrt()
    };
    let units: Vec<f64> = (0..4)
        .map(|dim| {
            deviation(
                data.observations
                    .chunks(4)
                    .map(|o| f64::from(o[dim]))
                    .collect(),
            )
        })
        .collect();
    let reward_unit = deviation(data.rewards.iter().map(|&r| f64::from(r)).collect());
    let imagined = shown.imagined.observations.get(0).unwrap();
    let imagined = imagined.to_vec2::<f32>().unwrap();
    let rewards = shown
        .imagined
        .rewards
        .get(0)
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    for (at, error) in imagination.horizon.iter().enumerate() {
        assert_eq!((error.steps, error.plans), (at + 1, 1));
        let rms = |of: &[f32]| {
            let real = &shown.observations[at + 1];
            let squares = (0..4).map(|dim| (f64::from(of[dim] - real[dim]) / units[dim]).powi(2));
            (squares.sum::<f64>() / 4.0).sqrt()
        };
        let expected = (at < 3).then(|| rms(&imagined[at + 1]));
        let unchanged = (at < 3).then(|| rms(&shown.observations[0]));
        for (found, expected) in [(error.observation, expected), (error.unchanged, unchanged)] {
            assert_eq!(found.is_some(), expected.is_some());
            close(
                found.unwrap_or(0.0),
                expected.unwrap_or(0.0),
                1e-9,
                "observations",
            );
        }
        let reward = f64::from(rewards[at] - shown.rewards[at]).abs() / reward_unit;
        close(error.reward.unwrap(), reward, 1e-6, "rewards");
    }
}

#[test]
fn a_plan_that_a_budget_has_cut_has_no_error_after_its_last_action() {
    let folder = tempfile::tempdir().unwrap();
    let (_, data) = planner(folder.path());
    let logged = Logged {
        training: Some(data),
        ..Logged::default()
    };
    let options = DiagnoseOptions {
        episodes: 1,
        decisions: 1,
        seed: Some(7),
        ..DiagnoseOptions::default()
    };
    let mut lengths = Vec::new();
    for tokens in [12, 24, 88] {
        let key = format!("algorithm.trajectory_transformer.planner.budget_tokens={tokens}");
        let mut run = run::open(&folder.path().join("run"), &[key]).unwrap();
        let found = diagnosed(&mut run, &logged, &options).imagination.unwrap();
        assert_eq!(found.plans, 1);
        let (last, before) = found.horizon.split_last().unwrap();
        assert_eq!((last.observation, last.unchanged), (None, None), "{tokens}");
        assert!(
            before.iter().all(|error| error.observation > Some(0.0)),
            "{tokens}"
        );
        lengths.push(found.horizon.len());
    }
    assert!(lengths[0] < 4 && lengths[2] == 4, "{lengths:?}");
}

#[test]
fn data_that_was_replaced_since_training_is_noticed_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    planner(folder);
    let arguments = [
        "diagnose",
        "run",
        "--episodes",
        "1",
        "--decisions",
        "2",
        "--json",
    ];
    let tokens = |said: &str| {
        let json: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        json["tokens"].as_array().unwrap().len()
    };
    assert_eq!(tokens(&succeeds(folder, &arguments)), 1);
    data::save(&maze_data(1_200, 5), &folder.join("train.npz")).unwrap();
    let found = output(folder, &arguments);
    let errors = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "{errors}");
    for words in ["train.npz: it was replaced since", "1200 steps", "checksum"] {
        assert!(errors.contains(words), "{words}: {errors}");
    }
    assert_eq!(tokens(&String::from_utf8_lossy(&found.stdout)), 0);
}

#[test]
fn choices_are_judged_by_how_many_are_right_and_numbers_in_their_place_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut env = envs::make("cartpole-v1").unwrap();
    let mut random = trajformer::policy::simple::RandomPolicy::new(env.spec());
    let data = data::collect::collect(&mut *env, &mut random, 300, 1).unwrap();
    let keys =
        crate::runs::small("decision_transformer").replace("[-200.0, -1000.0]", "[100.0, 20.0]");
    let mut run = trained(folder, "decision_transformer", &keys, &data);
    let logged = Logged {
        training: Some(data.clone()),
        ..Logged::default()
    };
    let found = diagnosed(&mut run, &logged, &whole());
    let mut policy = run.algorithm.policy().unwrap();
    let (mut right, mut ones, mut steps) = (0, 0, 0);
    for episode in data.episodes.iter().filter(|episode| episode.is_complete()) {
        let mut start = trajformer::EpisodeStart::new(Rng::from_seed(0));
        start.target_return = Some(data.episode_return(episode) as f32);
        policy.begin(&[start]).unwrap();
        for step in episode.range() {
            let row = |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu);
            let observation = row(data.observation(step)).unwrap();
            let done = policy.act(&observation, &[true]).unwrap();
            let made = data.action(step)[0];
            right += usize::from(done.to_vec2::<f32>().unwrap()[0][0] == made);
            ones += usize::from(made == 1.0);
            steps += 1;
            policy.took(&row(data.action(step)).unwrap()).unwrap();
            policy.observe(&[data.rewards[step]]).unwrap();
        }
    }
    let errors = &found.actions[0];
    assert_eq!((errors.steps, errors.dimensions.len()), (steps, 0));
    let choices = errors.choices.unwrap();
    close(choices.right, right as f64 / steps as f64, 1e-12, "right");
    let most = ones.max(steps - ones) as f64 / steps as f64;
    close(choices.most_frequent, most, 1e-12, "the most frequent");
    assert!(page(&found).contains("Of the choices along"));

    let numbers = Dataset {
        action_kind: data::ActionKind::Continuous,
        env_name: None,
        ..data
    };
    let actions: Vec<f32> = (0..numbers.actions.len())
        .map(|at| (at as f32).sin())
        .collect();
    let numbers = Dataset { actions, ..numbers };
    data::save(&numbers, &folder.join("numbers.npz")).unwrap();
    let refused = fails(folder, &["diagnose", "run", "--data", "numbers.npz"]);
    assert!(refused.contains("one of 2 actions"), "{refused}");
}

#[test]
fn tokens_are_told_by_the_weights_that_act() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&maze_data(1_200, 1), &folder.join("train.npz")).unwrap();
    let text = format!(
        "[data]\npath = \"{}\"\n[train]\nupdates = 60\nheld_out_fraction = 0.5\n[algorithm.trajectory_transformer]\n\
         average_decay = 0.99\n{PLANNER}\n",
        folder.join("train.npz").display()
    );
    let config = RunConfig::parse(&text).unwrap();
    run::start(&config, &folder.join("run")).unwrap();
    let names = ["update", "held_out_loss"];
    let rows = trajformer::metrics::table::numbers(&folder.join("run/metrics.csv"), names);
    let [_, expected] = *rows.unwrap().last().unwrap();
    let data = trajformer::prepare::load_data(&config).unwrap();
    let split = trajformer::held_out::split(&config, &data).unwrap();
    let kept = split.held_out.unwrap();
    // Opened, a run has the averages alone; in memory it has the weights that learn beside them.
    let opened = run::open(&folder.join("run"), &[]).unwrap();
    for mut run in [opened, trajformer::fit(&data, &config).unwrap()] {
        let network = network(&run);
        let windows = network.windows_of(&kept).unwrap();
        let found = network.token_scores(&windows, usize::MAX).unwrap();
        close(
            found.loss,
            expected,
            F32_SUMS,
            "the loss on what is held out",
        );
        let logged = Logged {
            training: None,
            given: Some(kept.clone()),
            ..Logged::default()
        };
        let found = diagnosed(&mut run, &logged, &whole());
        assert!(
            page(&found).contains("averages of the weights"),
            "{:?}",
            found.notes
        );
    }
}

#[test]
fn interruptions_keep_what_is_finished_and_short_data_or_none_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, data) = planner(folder.path());
    let interrupt = Interrupt::new();
    interrupt.set();
    let options = DiagnoseOptions {
        interrupt,
        ..whole()
    };
    let logged = Logged {
        training: Some(data),
        ..Logged::default()
    };
    let found = diagnosed(&mut run, &logged, &options);
    assert!(found.interrupted && found.tokens.is_empty() && found.configured.is_none());
    assert!(page(&found).contains("stopped early"));
    let brief = DiagnoseOptions {
        episodes: 1,
        decisions: 2,
        ..DiagnoseOptions::default()
    };
    // What needs no data is there all the same, and what does is named.
    let other = Other {
        name: "itself".to_owned(),
        run: run::open(&folder.path().join("run"), &[]).unwrap(),
    };
    let found = diagnose(&mut run, &Logged::default(), Some(&other), &brief).unwrap();
    assert!(found.data.is_empty() && found.bins.is_none() && found.imagination.is_none());
    assert!(found.configured.is_some() && found.greedy.is_some() && found.simulated.is_some());
    for words in [
        "neither the run's data nor other data is there: the data's returns, tokens, what bins cost,",
        "itself is not put through the bins without data",
        "search in the simulator, values of the model",
    ] {
        assert!(page(&found).contains(words), "{words}: {}", page(&found));
    }
    run.config.evaluate.env = None;
    let found = diagnosed(&mut run, &logged, &brief);
    assert!(found.greedy.is_none() && found.tokens.len() == 1);
    assert!(page(&found).contains("the run names no environment"));
}

#[test]
fn actions_through_bins_are_a_run_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, data) = planner(folder.path());
    let brief = DiagnoseOptions {
        episodes: 2,
        decisions: 20,
        ..DiagnoseOptions::default()
    };
    let logged = Logged {
        training: Some(data),
        ..Logged::default()
    };
    let other = Other {
        name: "a run that has a name much longer than what stands in the table".to_owned(),
        run: run::open(&folder.path().join("run"), &[]).unwrap(),
    };
    let found = diagnose(&mut run, &logged, Some(&other), &brief).unwrap();
    let text = page(&found);
    let table = text.lines().skip_while(|line| !line.contains("Return of"));
    let table: Vec<&str> = table.take_while(|line| !line.is_empty()).collect();
    let ends: Vec<usize> = table.iter().map(|line| line.chars().count()).collect();
    assert!(
        table.len() > 5 && ends.iter().all(|end| *end == ends[0]),
        "{text}"
    );
    let through = found.bins.unwrap().through.unwrap();
    // A planner's actions are what bins stand for already.
    assert_eq!(through.plain.returns, found.configured.unwrap().returns);
    assert_eq!(through.plain.returns, through.binned.returns);
}

#[test]
fn a_decision_transformer_is_asked_for_returns_and_held_against_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = crate::runs::pendulum_data();
    let data = Dataset {
        env_name: Some("pendulum-v1".to_owned()),
        ..data
    };
    let small = crate::runs::small("decision_transformer");
    let mut run = trained(folder.path(), "decision_transformer", small, &data);
    let logged = Logged {
        training: Some(data.clone()),
        ..Logged::default()
    };
    let found = diagnosed(&mut run, &logged, &whole());
    let asked: Vec<f64> = found.aims.iter().map(|aim| aim.asked).collect();
    let mut returns = data.returns();
    returns.sort_by(f64::total_cmp);
    let (least, most) = (returns[0], returns[returns.len() - 1]);
    assert!(asked.is_sorted() && asked.len() == 7, "{asked:?}");
    assert!(asked.contains(&most) && asked.contains(&(most + 0.25 * (most - least))));
    assert!(asked.contains(&-200.0) && asked.contains(&-1000.0));
    let mut evaluator = Evaluator::new(&run.config.evaluate).unwrap().unwrap();
    let mut policy = run.algorithm.policy().unwrap();
    let evaluation = evaluator.run(&mut *policy).unwrap();
    for target in &evaluation.by_target {
        let target_return = f64::from(target.target_return);
        let aim = found.aims.iter().find(|aim| aim.asked == target_return);
        close(
            aim.unwrap().reached.mean,
            target.return_mean,
            1e-12,
            "reached",
        );
    }
    assert_eq!(
        found.configured.as_ref().unwrap().returns,
        evaluation.returns
    );

    // Without data it can still be asked for its own targets; a search is asked for in vain.
    let idle = DiagnoseOptions {
        worth: Worth::Nothing,
        ..whole()
    };
    let without = diagnosed(&mut run, &Logged::default(), &idle);
    let own: Vec<f64> = without.aims.iter().map(|aim| aim.asked).collect();
    assert_eq!(own, [-1000.0, -200.0]);
    assert_eq!(without.configured, found.configured);
    let notes = without.notes.join("\n");
    for words in [
        "nor other data is there: the data's returns, which would be asked for, and errors of actions are left out",
        "does not search: what ends of a search in the simulator are worth changes nothing",
        "does not search: a number of plans changes nothing",
    ] {
        assert!(notes.contains(words), "{words}: {notes}");
    }
    assert!(
        !found.notes.join("").contains("what ends"),
        "{:?}",
        found.notes
    );

    // The error of its actions, one logged episode after the other.
    let mut squares = 0.0;
    for episode in &data.episodes {
        let mut start = trajformer::EpisodeStart::new(Rng::from_seed(0));
        start.target_return = Some(data.episode_return(episode) as f32);
        policy.begin(&[start]).unwrap();
        for step in episode.range() {
            let row = |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu);
            let observation = row(data.observation(step)).unwrap();
            let done = policy.act(&observation, &[true]).unwrap();
            let done = done.to_vec2::<f32>().unwrap()[0][0];
            squares += f64::from(done - data.action(step)[0]).powi(2);
            policy.took(&row(data.action(step)).unwrap()).unwrap();
            policy.observe(&[data.rewards[step]]).unwrap();
        }
    }
    let errors = &found.actions[0];
    assert_eq!((errors.data, errors.steps), ("training", 800));
    let [error] = errors.dimensions[..] else {
        panic!("one action")
    };
    let expected = (squares / 800.0).sqrt() / error.deviation;
    close(error.error_rms, expected, F32_SUMS, "actions");
}

#[test]
fn relatives_of_the_decision_transformer_are_asked_for_returns_or_score_without() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset {
        env_name: Some("pendulum-v1".to_owned()),
        ..crate::runs::pendulum_data()
    };
    for (algorithm, aims) in [("online_dt", 5), ("qt", 7), ("reinformer", 0)] {
        let folder = folder.path().join(algorithm);
        std::fs::create_dir(&folder).unwrap();
        let small = crate::runs::small(algorithm)
            .replace("decay_updates = 20", "decay_updates = 60")
            .replace("candidates = 5", "candidates = 2");
        let mut run = trained(&folder, algorithm, &small, &data);
        let logged = Logged {
            training: Some(data.clone()),
            ..Logged::default()
        };
        let found = diagnosed(&mut run, &logged, &whole());
        let asked: Vec<f64> = found.aims.iter().map(|aim| aim.asked).collect();
        assert!(
            asked.len() == aims && asked.is_sorted(),
            "{algorithm}: {asked:?}"
        );
        let [errors] = &found.actions[..] else {
            panic!("{algorithm}: one data set")
        };
        assert!(errors.steps > 0 && errors.dimensions[0].error_rms.is_finite());
        let mut evaluator = Evaluator::new(&run.config.evaluate).unwrap().unwrap();
        let mut policy = run.algorithm.policy().unwrap();
        let evaluation = evaluator.run(&mut *policy).unwrap();
        let configured = found.configured.as_ref().map(|arm| arm.returns.clone());
        assert_eq!(configured, Some(evaluation.returns), "{algorithm}");
    }
}

#[test]
fn the_command_says_what_it_will_cost_draws_and_refuses_what_it_is_not_about() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    planner(folder);
    let held_out = maze_data(700, 9);
    data::save(&held_out, &folder.join("held-out.npz")).unwrap();
    let said = succeeds(
        folder,
        &[
            "diagnose",
            "run",
            "--data",
            "held-out.npz",
            "--episodes",
            "2",
            "--decisions",
            "10",
            "--ends",
            "nothing",
            "--picture",
            "where.svg",
            "--json",
        ],
    );
    assert!(
        said.starts_with("2 episodes of up to 20 steps each"),
        "{said}"
    );
    for words in [
        "given data, all episodes",
        "search in the simulator, true rewards alone",
        "wrote where.svg",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let json: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(json["tokens"][1]["data"], "given");
    assert_eq!(json["simulated_worth"], "nothing");
    let picture = std::fs::read_to_string(folder.join("where.svg")).unwrap();
    for words in [
        "Errors of what is imagined",
        "Cross entropy of tokens",
        "search in simulator",
    ] {
        assert!(picture.contains(words), "{words}");
    }
    let refused = fails(folder, &["diagnose", "run", "--picture", "where.txt"]);
    assert!(refused.contains(".svg or .png"), "{refused}");
    let small = folder.join("small");
    std::fs::create_dir(&small).unwrap();
    trained(&small, "bc", "hidden = [8]", &held_out);
    let refused = fails(folder, &["diagnose", "small/run"]);
    for words in [
        "not about `bc`",
        "trajectory_transformer, decision_transformer, online_dt, qt, reinformer, lamo, fast, tap",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
    let other = fails(folder, &["diagnose", "run", "--env", "pendulum-v1"]);
    assert!(other.contains("3 observations and 1 actions"), "{other}");
    // What training kept apart is called so; where the data is gone, the search is in the simulator all the same.
    let config = std::fs::read_to_string(folder.join("run/config.toml")).unwrap();
    std::fs::write(folder.join("apart.toml"), config).unwrap();
    let train = [
        "train",
        "apart.toml",
        "--out",
        "apart",
        "--set",
        "train.held_out_fraction=0.3",
    ];
    succeeds(folder, &train);
    let brief = ["diagnose", "apart", "--episodes", "1", "--decisions", "2"];
    let said = succeeds(folder, &brief);
    for words in [
        "training data, all",
        "held-out data, all",
        "held-out data  ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("given"), "{said}");
    std::fs::remove_file(folder.join("train.npz")).unwrap();
    let said = succeeds(folder, &brief);
    assert!(
        said.contains("search in the simulator, values of the model"),
        "{said}"
    );
    assert!(said.contains("nor other data is there"), "{said}");
}

#[test]
fn a_copy_of_an_environment_goes_on_as_it_would_and_leaves_it_alone() {
    for name in envs::names() {
        let mut env = envs::make(name).unwrap();
        let spec = env.spec().clone();
        let mut rng = Rng::from_seed(3);
        let mut action = || -> Vec<f32> {
            let mut number = || match spec.action_kind.choices() {
                Some(count) => rng.below(count) as f32,
                None => 2.0 * rng.uniform() as f32 - 1.0,
            };
            (0..spec.action_dim).map(|_| number()).collect()
        };
        let start = env.reset(5).unwrap();
        for _ in 0..7 {
            env.step(&action()).unwrap();
        }
        let actions: Vec<Vec<f32>> = (0..12).map(|_| action()).collect();
        let mut copy = env.fork().unwrap();
        let ahead: Vec<Step> = actions.iter().map(|a| copy.step(a).unwrap()).collect();
        let mut late = env.fork().unwrap();
        let own: Vec<Step> = actions.iter().map(|a| env.step(a).unwrap()).collect();
        assert_eq!(ahead, own, "{name}");
        let late: Vec<Step> = actions.iter().map(|a| late.step(a).unwrap()).collect();
        assert_eq!(late, own, "{name}");
        // From an observation on, to the rounding of f32.
        let observed = env.reset_to(&start).unwrap().unwrap();
        let seen = start.len().min(observed.len());
        for (a, b) in observed[..seen].iter().zip(&start) {
            // Contact forces, which Ant observes, are not computed before a step.
            assert!((a - b).abs() <= 1e-6 || name == "ant-v5", "{name}: {a} {b}");
        }
        let wrong = env
            .reset_to(&start[1..])
            .expect_err("too short")
            .to_string();
        assert!(wrong.contains("to start at"), "{wrong}");
    }
}

/// A network whose rewards are certain, so that what is expected is what is most likely: O 3, A 2, N 7.
struct Dream {
    network: Arc<Network>,
    model: SearchModel<f64>,
}

fn dream(seed: u64) -> Dream {
    let sizes = Sizes {
        observation_dim: 3,
        action_dim: 2,
        bins: 7,
        layers: 2,
        heads: 2,
        embedding: 12,
        activation: Activation::Gelu,
        recipe: Recipe::default(),
        window_transitions: 8,
        embedding_dropout: 0.0,
        residual_dropout: 0.0,
        attention_dropout: 0.0,
        action_weight: 1.0,
        reward_weight: 1.0,
        value_weight: 1.0,
        multi_token_weight: 1.0,
        precision: Precision::Full,
        instruction_dim: 0,
    };
    let mut rng = Rng::from_seed(seed);
    let mut params = Params::new(DType::F64, &Device::Cpu);
    Network::new(&sizes, &mut params.init(&mut rng)).unwrap();
    for param in params.iter() {
        let noise = rng
            .normal_tensor(param.slot.shape(), DType::F64, &Device::Cpu)
            .unwrap();
        let value = (param.slot.tensor().unwrap() + (noise * 0.3).unwrap()).unwrap();
        let value = match param.name.as_str() {
            // One number is always 20 before the heads, and all that it does is to make ends unlikely.
            "ln_f.bias" => {
                let mut numbers = value.to_vec1::<f64>().unwrap();
                numbers[0] = 20.0;
                Tensor::new(numbers, &Device::Cpu).unwrap()
            }
            "ln_f.weight" => {
                let mut numbers = value.to_vec1::<f64>().unwrap();
                numbers[0] = 0.0;
                Tensor::new(numbers, &Device::Cpu).unwrap()
            }
            "head.weight" => {
                let mut heads = value.to_vec3::<f64>().unwrap(); // (D, N + 1, embedding)
                for (dim, head) in heads.iter_mut().enumerate() {
                    for (token, weights) in head.iter_mut().enumerate() {
                        weights[0] = if token == 7 { -2.0 } else { 0.0 };
                        // Rewards are certain: what follows token 4 is token 5.
                        let factor = if dim == 4 { 1e4 } else { 1.0 };
                        weights.iter_mut().for_each(|weight| *weight *= factor);
                    }
                }
                Tensor::new(heads, &Device::Cpu).unwrap()
            }
            _ => value,
        };
        param.slot.set(&value).unwrap();
    }
    let rows: Vec<f64> = (0..200 * 7).map(|_| rng.normal()).collect();
    let discretizer = data::discretizer::Discretizer::fit(
        &rows,
        7,
        7,
        data::discretizer::DiscretizerKind::Uniform,
    );
    let decoder = Decoder::new(&params.tensors().unwrap(), sizes.decoder_shape()).unwrap();
    Dream {
        network: Arc::new(Network::new(&sizes, &mut params.detached()).unwrap()),
        model: SearchModel {
            decoder: Arc::new(decoder),
            discretizer: Arc::new(discretizer.unwrap()),
            observation_dim: 3,
            discount: 0.9,
            goal_conditioned: false,
        },
    }
}

/// A world that does what the network finds most likely.
#[derive(Clone)]
struct Dreamed {
    network: Arc<Network>,
    model: SearchModel<f64>,
    tokens: Vec<u32>,
    spec: EnvSpec,
}

impl Dreamed {
    fn most_likely(&mut self) -> trajformer::Result<u32> {
        let tokens = Tensor::from_slice(&self.tokens, (1, self.tokens.len()), &Device::Cpu)?;
        let logits = self.network.logits(&tokens, None)?.squeeze(0)?;
        let last = logits.get(self.tokens.len() - 1)?.argmax(0)?;
        let token = last.to_scalar::<u32>()?;
        self.tokens.push(token);
        assert!(token < 7, "ends are unlikely");
        Ok(token)
    }
}

impl Environment for Dreamed {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, _: u64) -> trajformer::Result<Vec<f32>> {
        unreachable!("it is only gone on with")
    }

    fn step(&mut self, action: &[f32]) -> trajformer::Result<Step> {
        let discretizer = self.model.discretizer.clone();
        let action: Vec<f64> = action.iter().map(|&x| f64::from(x)).collect();
        discretizer.encode_slice(&action, 3, &mut self.tokens);
        let reward = self.most_likely()?;
        self.most_likely()?; // the value
        let mut observation = Vec::new();
        for dim in 0..3 {
            observation.push(discretizer.decode(self.most_likely()?, dim) as f32);
        }
        Ok(Step {
            observation,
            reward: discretizer.decode(reward, 5) as f32,
            terminated: false,
            truncated: false,
        })
    }

    fn fork(&self) -> Option<Box<dyn Environment>> {
        Some(Box::new(self.clone()))
    }
}

#[test]
fn a_search_in_a_world_that_does_what_the_network_imagines_is_the_network_s_own_search() {
    let config = PlanConfig {
        horizon: 4,
        beam_width: 3,
        n_expand: 2,
        cdf_act: 0.0,
        max_context_transitions: 3,
        window: Window::Grow,
        ..PlanConfig::default()
    };
    let bounds = (vec![-1e9; 2], vec![1e9; 2]);
    for seed in 0..6 {
        let dream = dream(seed);
        let mut rng = Rng::from_seed(100 + seed);
        let tokens: Vec<u32> = (0..10).map(|_| rng.below(7) as u32).collect();
        let prefix = Prefix {
            tokens: tokens.clone(),
            goal: None,
            instruction: None,
        };
        // For each transition: actions of 6 rows, which both draw; then rewards, values and observations, of the own search alone.
        let (mut own, mut simulated) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let actions: Vec<f64> = (0..12).map(|_| rng.uniform()).collect();
            own.extend(&actions);
            simulated.extend(&actions);
            own.extend((0..12 + 9).map(|_| rng.uniform()));
        }
        let recorded = |uniforms| crate::planner::Recorded { uniforms, used: 0 };
        let mut search = BeamSearch::new(dream.model.clone(), config.clone()).unwrap();
        let own = search
            .plan(std::slice::from_ref(&prefix), &mut recorded(own))
            .unwrap();
        let world = Dreamed {
            network: dream.network.clone(),
            model: dream.model.clone(),
            tokens,
            spec: envs::make("pendulum-v1").unwrap().spec().clone(),
        };
        let options = SimulatedOptions {
            bounds: bounds.clone(),
            ..SimulatedOptions::default()
        };
        let mut search =
            SimulatedSearch::new(dream.model.clone(), config.clone(), options).unwrap();
        let found = search
            .plan(&prefix, &world, &mut recorded(simulated))
            .unwrap();
        // All tokens but those of values: there the one has what is likeliest, the other what is expected.
        let seen = |tokens: &[u32]| -> Vec<u32> {
            let tokens = tokens.iter().enumerate();
            tokens
                .filter(|(at, _)| at % 7 != 6)
                .map(|(_, &t)| t)
                .collect()
        };
        assert_eq!(seen(&found.tokens), seen(&own[0].tokens), "{seed}");
        for (found, expected) in found.scores.iter().zip(&own[0].scores) {
            close(*found, *expected, 1e-6, "score"); // rewards are f32
        }
    }
}

/// Pays what is done, and ends the task where that is above a half.
#[derive(Clone)]
struct Paying {
    spec: EnvSpec,
    ended: bool,
}

impl Environment for Paying {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, _: u64) -> trajformer::Result<Vec<f32>> {
        unreachable!("it is only gone on with")
    }

    fn step(&mut self, action: &[f32]) -> trajformer::Result<Step> {
        assert!(!self.ended, "nothing follows an end");
        self.ended = action[0] > 0.5;
        Ok(Step {
            observation: vec![0.0; 3],
            reward: action[0],
            terminated: self.ended,
            truncated: false,
        })
    }

    fn fork(&self) -> Option<Box<dyn Environment>> {
        Some(Box::new(self.clone()))
    }
}

#[test]
fn true_rewards_decide_and_nothing_is_earned_after_an_end() {
    let model = dream(1).model;
    let config = PlanConfig {
        horizon: 3,
        beam_width: 40,
        cdf_act: 0.0,
        // Nearly every action is tried.
        temperature: 20.0,
        window: Window::Grow,
        max_context_transitions: 1,
        ..PlanConfig::default()
    };
    let prefix = Prefix {
        tokens: vec![1, 2, 3],
        goal: None,
        instruction: None,
    };
    struct Draws(Rng);
    impl trajformer::planning::sampling::Uniforms for Draws {
        fn next(&mut self, _: usize) -> f64 {
            self.0.uniform()
        }
    }
    let world = Paying {
        spec: envs::make("pendulum-v1").unwrap().spec().clone(),
        ended: false,
    };
    let values: Vec<f64> = model.discretizer.values(3).to_vec();
    let safe = values
        .iter()
        .copied()
        .filter(|&v| v <= 0.5)
        .fold(f64::MIN, f64::max);
    let most = values[6];
    let discounted = |rewards: [f64; 3]| rewards[0] + 0.9 * rewards[1] + 0.81 * rewards[2];
    let ends = [
        [most, 0.0, 0.0],
        [safe, most, 0.0],
        [safe, safe, most],
        [safe; 3],
    ];
    let best = ends.map(discounted).into_iter().fold(f64::MIN, f64::max);
    for (penalty, expected) in [(None, best), (Some(-50.0), discounted([safe; 3]))] {
        let options = SimulatedOptions {
            choices: None,
            bounds: (vec![-9.0; 2], vec![9.0; 2]),
            ending_reward: penalty,
            worth: Worth::Nothing,
        };
        let mut search = SimulatedSearch::new(model.clone(), config.clone(), options).unwrap();
        let plan = search
            .plan(&prefix, &world, &mut Draws(Rng::from_seed(2)))
            .unwrap();
        // What the plan's actions really earn is what it says.
        let mut world = world.clone();
        let mut earned = 0.0;
        for step in 0..3 {
            let tokens = &plan.tokens[step * 7..(step + 1) * 7];
            if world.ended {
                assert!(tokens[3..].iter().all(|&token| token == 7), "{tokens:?}");
                continue;
            }
            let action = [3, 4].map(|dim| model.discretizer.decode(tokens[dim], dim) as f32);
            let after = world.step(&action).unwrap();
            let reward = penalty
                .filter(|_| after.terminated)
                .unwrap_or(f64::from(after.reward));
            earned += 0.9_f64.powi(step as i32) * reward;
        }
        close(plan.scores[0], earned, 1e-9, "earned");
        // Of so many candidates the best is found, or nearly.
        assert!(
            plan.scores[0] >= expected - 0.8 && plan.scores[0] <= expected + 1e-6,
            "{} {expected}",
            plan.scores[0]
        );
        assert!(plan.scores.is_sorted_by(|a, b| a >= b));
    }
}
