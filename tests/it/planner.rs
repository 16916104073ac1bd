//! The beam-search planner against the authors' numbers, and what must hold for any network.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use trajformer::data::discretizer::{Discretizer, DiscretizerKind};
use trajformer::data::sequences::goal_transition;
use trajformer::planning::sampling::{Distribution, Filter, Uniforms, log_probabilities};
use trajformer::planning::{
    BeamPlanner, BeamSearch, Objective, PlanConfig, Prefix, SearchModel, Window,
};
use trajformer::policy::{EpisodeStart, Policy};
use trajformer::rng::Rng;
use trajformer_models::activation::Activation;
use trajformer_models::decoder::{Decoder, DecoderShape};
use trajformer_models::gpt::{HiddenLayer, Parts, Scores};
use trajformer_models::kernels::decode::Float;
use trajformer_models::norm::NormKind;
use trajformer_models::params::Params;
use trajformer_models::precision::Precision;
use trajformer_models::trajectory_transformer::{
    Positions, Recipe, TrajectoryTransformer as Network, TrajectoryTransformerConfig as Sizes,
};

use crate::golden::Golden;

/// f64 sums of a few hundred terms, in another order.
const ROUNDING: f64 = 1e-12;

/// Uniforms that were recorded in the order drawn.
pub struct Recorded {
    pub uniforms: Vec<f64>,
    pub used: usize,
}

impl Uniforms for Recorded {
    fn next(&mut self, _: usize) -> f64 {
        self.used += 1;
        self.uniforms[self.used - 1]
    }
}

pub fn shape(golden: &Golden) -> DecoderShape {
    DecoderShape {
        transition_tokens: golden.integer("observation_dim") + golden.integer("action_dim") + 2,
        bins: golden.integer("bins"),
        heads: golden.integer("heads"),
        activation: Activation::Gelu,
        recipe: Recipe::default(),
    }
}

fn decoder(golden: &Golden) -> Arc<Decoder<f64>> {
    Arc::new(Decoder::new(&golden.below("param."), shape(golden)).expect("golden parameters"))
}

/// The golden thresholds: a quantile table of N rows and their maximum is fitted by its own rows.
pub fn discretizer(golden: &Golden) -> Arc<Discretizer> {
    let (bins, dims) = (golden.integer("bins"), shape(golden).transition_tokens);
    let rows = golden.numbers("thresholds");
    let fitted = Discretizer::fit(&doubled(&rows, dims), dims, bins, DiscretizerKind::Quantile);
    let fitted = fitted.expect("golden thresholds");
    for (at, expected) in rows.iter().enumerate() {
        assert_eq!(fitted.thresholds(at % dims)[at / dims], *expected);
    }
    // The rows between thresholds are not known: bins stand for their middles.
    Arc::new(fitted.with_middles().expect("a table"))
}

/// Every row but the last twice, the second last once with the maximum: 2 N rows, so that every
/// second one is a threshold.
fn doubled(rows: &[f64], dims: usize) -> Vec<f64> {
    let rows: Vec<&[f64]> = rows.chunks(dims).collect();
    let (maximum, thresholds) = rows.split_last().expect("thresholds");
    let mut doubled: Vec<f64> = thresholds
        .iter()
        .flat_map(|row| [*row, *row].concat())
        .collect();
    let last = doubled.len() - dims;
    doubled[last..].copy_from_slice(maximum);
    doubled
}

/// Settings of a golden plan; what it does not name are the defaults.
pub fn config(golden: &Golden, which: &str) -> PlanConfig {
    let settings = &golden.constants["settings"][which];
    let count = |key: &str| settings[key].as_u64().unwrap_or(0) as usize;
    let share = |key: &str| settings[key].as_f64().unwrap_or(0.0);
    PlanConfig {
        horizon: count("horizon"),
        beam_width: count("beam_width"),
        n_expand: count("n_expand"),
        k_obs: count("k_obs"),
        k_act: count("k_act"),
        k_rew: count("k_rew"),
        cdf_obs: share("cdf_obs"),
        cdf_act: share("cdf_act"),
        cdf_rew: share("cdf_rew"),
        percentile: settings["percentile"].as_f64(),
        max_context_transitions: golden.integer("max_context_transitions"),
        prefix_context: settings["prefix_context"].as_bool().unwrap_or(true),
        temperature: settings["temperature"].as_f64().unwrap_or(1.0),
        plan_every_steps: count("plan_freq").max(1),
        ..PlanConfig::default()
    }
}

pub fn model(golden: &Golden) -> SearchModel<f64> {
    SearchModel {
        decoder: decoder(golden),
        discretizer: discretizer(golden),
        observation_dim: golden.integer("observation_dim"),
        discount: golden.number("discount"),
        goal_conditioned: false,
    }
}

/// A network with random weights, as its own class and as a decoder: O 3, A 2, N 7, window 4.
pub struct Tiny {
    network: Network,
    tensors: BTreeMap<String, Tensor>,
    pub shape: DecoderShape,
    pub discretizer: Arc<Discretizer>,
}

pub fn tiny(seed: u64, heads: usize, window_transitions: usize) -> Tiny {
    tiny_with(seed, heads, window_transitions, 0, PAPERS)
}

/// Activation and further parts of a network.
pub type Kind = (Activation, Recipe);

pub const PAPERS: Kind = (
    Activation::Gelu,
    Recipe {
        parts: Parts {
            norm: NormKind::Layer,
            scores: Scores::Plain,
            hidden: HiddenLayer::Plain,
        },
        positions: Positions::Learned,
        tied_heads: false,
        multi_token: false,
    },
);

/// The paper's network, and networks with parts that are not the paper's, one by one and all together.
pub fn kinds() -> Vec<Kind> {
    let with = |change: fn(&mut Kind)| {
        let mut kind = PAPERS;
        change(&mut kind);
        kind
    };
    let changes: [fn(&mut Kind); 6] = [
        |kind| kind.0 = Activation::SquaredRelu,
        |kind| kind.1.parts.scores = Scores::Cosine,
        |kind| kind.1.positions = Positions::StepAndDimension,
        |kind| kind.1.parts.norm = NormKind::Rms,
        |kind| kind.1.tied_heads = true,
        |kind| kind.1.parts.hidden = HiddenLayer::SwiGlu,
    ];
    let mut all = PAPERS;
    changes.iter().for_each(|change| change(&mut all));
    let each = changes.iter().map(|change| with(*change));
    [PAPERS].into_iter().chain(each).chain([all]).collect()
}

pub fn tiny_with(
    seed: u64,
    heads: usize,
    window_transitions: usize,
    instruction_dim: usize,
    (activation, recipe): Kind,
) -> Tiny {
    let sizes = Sizes {
        observation_dim: 3,
        action_dim: 2,
        bins: 7,
        layers: 2,
        heads,
        embedding: 6 * heads,
        window_transitions,
        embedding_dropout: 0.0,
        residual_dropout: 0.0,
        attention_dropout: 0.0,
        action_weight: 1.0,
        reward_weight: 1.0,
        value_weight: 1.0,
        multi_token_weight: 1.0,
        precision: Precision::Full,
        instruction_dim,
        activation,
        recipe,
    };
    let mut rng = Rng::from_seed(seed);
    let mut params = Params::new(DType::F64, &Device::Cpu);
    Network::new(&sizes, &mut params.init(&mut rng)).expect("a network");
    // Larger than at the start of training, so that every token matters.
    for param in params.iter() {
        let noise = rng.normal_tensor(param.slot.shape(), DType::F64, &Device::Cpu);
        let noise = (noise.expect("numbers") * 0.3).expect("numbers");
        param
            .slot
            .set(&(param.slot.tensor().expect("numbers") + noise).expect("numbers"))
            .expect("a parameter");
    }
    let dims = sizes.transition_dim();
    let rows: Vec<f64> = (0..200 * dims).map(|_| rng.normal()).collect();
    let discretizer = Discretizer::fit(&rows, dims, 7, DiscretizerKind::Uniform);
    Tiny {
        network: Network::new(&sizes, &mut params.detached()).expect("a network"),
        tensors: params.tensors().expect("tensors"),
        shape: sizes.decoder_shape(),
        discretizer: Arc::new(discretizer.expect("finite numbers")),
    }
}

impl Tiny {
    pub fn search<T: Float>(&self, goal_conditioned: bool, config: PlanConfig) -> BeamSearch<T> {
        let decoder = Decoder::<T>::new(&self.tensors, self.shape).expect("a decoder");
        let model = SearchModel {
            decoder: Arc::new(decoder),
            discretizer: self.discretizer.clone(),
            observation_dim: 3,
            discount: 0.9,
            goal_conditioned,
        };
        BeamSearch::new(model, config).expect("settings that fit")
    }

    /// Logits of what follows `tokens`: one forward pass over all of them.
    pub fn logits(&self, tokens: &[u32], instruction: Option<&Vec<f32>>) -> Vec<f64> {
        let (tokens, instruction) = inputs(tokens, instruction);
        let logits = self
            .network
            .logits(&tokens, instruction.as_ref())
            .expect("logits");
        let rows: Vec<Vec<f64>> = logits.squeeze(0).and_then(|t| t.to_vec2()).expect("logits");
        rows.into_iter().next_back().expect("a position")
    }

    /// Logits of value and next observation, predicted at once after `tokens`, which end with an action: one forward pass over all.
    pub fn further_logits(&self, tokens: &[u32], instruction: Option<&Vec<f32>>) -> Vec<Vec<f64>> {
        let (tokens, instruction) = inputs(tokens, instruction);
        let logits = self
            .network
            .multi_token_logits(&tokens, instruction.as_ref())
            .expect("logits");
        let last = logits.dim(1).expect("transitions") - 1;
        let last = logits.narrow(1, last, 1).expect("the last transition");
        let rows = last.squeeze(1).and_then(|rows| rows.squeeze(0));
        rows.and_then(|rows| rows.to_vec2()).expect("logits")
    }

    /// `beam_plan` as the authors wrote it: every token is one forward pass of every row over its
    /// whole cropped sequence. `goal` stays in front. Returns the tokens of the last beam.
    fn naive_plan(&self, config: &PlanConfig, prefix: &Prefix, uniforms: &mut Rng) -> Vec<u32> {
        let d = self.shape.transition_tokens;
        let max_tokens = match config.window {
            Window::Crop => config.max_context_transitions * d - 1,
            Window::Grow => usize::MAX,
        };
        let goal = prefix.goal.clone().unwrap_or_default();
        let filter = |top_k, cdf| Filter {
            top_k,
            cdf,
            temperature: config.temperature,
        };
        let mut draw = |rows: &mut Vec<(Vec<u32>, f64, f64)>, filter: Filter| -> Vec<Vec<f64>> {
            let one = |(tokens, _, _): &mut (Vec<u32>, f64, f64)| {
                let excess = tokens.len().saturating_sub(max_tokens).next_multiple_of(d);
                let seen = [&goal, &tokens[excess..]].concat();
                let logits = self.logits(&seen, prefix.instruction.as_ref());
                let distribution = Distribution::new(&logits, &filter);
                tokens.push(distribution.draw(uniforms.uniform()));
                distribution.raw
            };
            rows.iter_mut().map(one).collect()
        };
        let mut rows = vec![(prefix.tokens.clone(), 0.0, 0.0); config.beam_width];
        for t in 0..config.horizon {
            rows = vec![rows; config.n_expand].concat();
            for _ in 0..2 {
                draw(&mut rows, filter(config.k_act, config.cdf_act));
            }
            let discount = 0.9f64.powi(t as i32);
            let rewards = draw(&mut rows, filter(config.k_rew, config.cdf_rew));
            let values = draw(&mut rows, filter(config.k_rew, config.cdf_rew));
            for ((row, reward), value) in rows.iter_mut().zip(rewards).zip(values) {
                row.1 += discount * self.discretizer.expectation(&reward, d - 2);
                row.2 = row.1 + 0.9 * discount * self.discretizer.expectation(&value, d - 1);
            }
            rows.sort_by(|a, b| b.2.total_cmp(&a.2));
            rows.truncate(config.beam_width);
            if t + 1 < config.horizon {
                for _ in 0..3 {
                    draw(&mut rows, filter(config.k_obs, config.cdf_obs));
                }
            }
        }
        let planned = config.horizon * d;
        rows.iter()
            .flat_map(|row| row.0[row.0.len() - planned..].to_vec())
            .collect()
    }
}

/// One sequence of tokens and its instruction, as the network takes them.
fn inputs(tokens: &[u32], instruction: Option<&Vec<f32>>) -> (Tensor, Option<Tensor>) {
    let tokens = Tensor::from_slice(tokens, (1, tokens.len()), &Device::Cpu).expect("tokens");
    let instruction = instruction.map(|embedding| {
        let row = Tensor::from_slice(embedding, (1, embedding.len()), &Device::Cpu);
        row.and_then(|row| row.to_dtype(DType::F64))
            .expect("an embedding")
    });
    (tokens, instruction)
}

/// Each episode's own stream.
pub struct Streams(Vec<Rng>);

impl Uniforms for Streams {
    fn next(&mut self, episode: usize) -> f64 {
        self.0[episode].uniform()
    }
}

pub fn streams(seeds: &[u64]) -> Streams {
    Streams(seeds.iter().map(|&seed| Rng::from_seed(seed)).collect())
}

pub fn random_prefix(rng: &mut Rng, transitions: usize) -> Prefix {
    let tokens = (0..transitions * 7 + 3)
        .map(|_| rng.below(7) as u32)
        .collect();
    Prefix {
        tokens,
        goal: None,
        instruction: None,
    }
}

/// Settings under which expansion, filters, duplicates and reordering all happen.
pub fn small(window: Window) -> PlanConfig {
    PlanConfig {
        horizon: 4,
        beam_width: 5,
        n_expand: 2,
        k_obs: 2,
        k_act: 3,
        cdf_act: 0.3,
        max_context_transitions: 3,
        window,
        ..PlanConfig::default()
    }
}

#[test]
fn cached_planning_equals_forward_passes_over_everything_token_for_token() {
    // Crop: no context, some, more than fits. Grow: context and plan fit the window of 8.
    for (window, contexts) in [(Window::Crop, [0, 2, 5]), (Window::Grow, [0, 1, 4])] {
        for (heads, transitions) in [1, 3, 4].into_iter().zip(contexts) {
            let config = small(window);
            let mut rng = Rng::from_seed(9);
            for (seed, kind) in (0..).zip(kinds()) {
                let tiny = tiny_with(heads as u64, heads, 8, 0, kind);
                let prefix = random_prefix(&mut rng, transitions);
                let expected = tiny.naive_plan(&config, &prefix, &mut Rng::from_seed(seed));
                let place =
                    format!("{window:?}, {heads} heads, {transitions} transitions, {kind:?}");
                let prefixes = std::slice::from_ref(&prefix);
                let mut search = tiny.search::<f64>(false, config.clone());
                let plans = search
                    .plan(prefixes, &mut streams(&[seed]))
                    .expect("a plan");
                assert_eq!(plans[0].tokens, expected, "f64, {place}");
                let mut search = tiny.search::<f32>(false, config.clone());
                let plans = search
                    .plan(prefixes, &mut streams(&[seed]))
                    .expect("a plan");
                assert_eq!(plans[0].tokens, expected, "f32, {place}");
            }
        }
    }
}

#[test]
fn a_goal_stays_in_front_while_the_window_moves() {
    let tiny = tiny(5, 2, 8);
    let mut rng = Rng::from_seed(2);
    let mut plans = Vec::new();
    for goal_token in [0, 6] {
        let goal = goal_transition(&[goal_token; 3], &tiny.discretizer);
        let prefix = Prefix {
            goal: Some(goal),
            ..random_prefix(&mut Rng::from_seed(1), 4)
        };
        let config = small(Window::Crop);
        let expected = tiny.naive_plan(&config, &prefix, &mut Rng::from_seed(3));
        let other = Prefix {
            goal: prefix.goal.clone(),
            ..random_prefix(&mut rng, 4)
        };
        let mut search = tiny.search::<f64>(true, config);
        let found = search
            .plan(&[other, prefix], &mut streams(&[4, 3]))
            .expect("plans");
        assert_eq!(found[1].tokens, expected);
        plans.push(expected);
    }
    assert_ne!(plans[0], plans[1], "the goal must matter");
    let without = tiny
        .search::<f64>(true, small(Window::Crop))
        .plan(&[random_prefix(&mut rng, 1)], &mut streams(&[0]));
    assert!(without.expect_err("no goal").to_string().contains("goal"));
}

#[test]
fn episodes_with_other_instructions_are_planned_together_token_for_token() {
    let tiny = tiny_with(17, 2, 8, 5, (Activation::SquaredRelu, PAPERS.1));
    let mut rng = Rng::from_seed(2);
    let prefix = random_prefix(&mut rng, 2);
    for window in [Window::Crop, Window::Grow] {
        let config = small(window);
        let told: Vec<Prefix> = (0..3)
            .map(|_| Prefix {
                instruction: Some((0..5).map(|_| rng.normal() as f32).collect()),
                ..prefix.clone()
            })
            .collect();
        let mut search = tiny.search::<f64>(false, config.clone());
        let plans = search.plan(&told, &mut streams(&[7, 7, 7])).expect("plans");
        for (plan, prefix) in plans.iter().zip(&told) {
            let expected = tiny.naive_plan(&config, prefix, &mut Rng::from_seed(7));
            assert_eq!(plan.tokens, expected, "{window:?}");
        }
        assert_ne!(
            plans[0].tokens, plans[1].tokens,
            "the instruction must matter"
        );
        let short = Prefix {
            instruction: Some(vec![1.0; 4]),
            ..prefix.clone()
        };
        for wrong in [prefix.clone(), short] {
            let problem = search
                .plan(&[wrong], &mut streams(&[7]))
                .expect_err("no instruction");
            assert!(problem.to_string().contains("instruction"), "{problem}");
        }
    }
    let told = Prefix {
        instruction: Some(vec![1.0; 5]),
        ..prefix
    };
    let problem = self::tiny(17, 2, 8)
        .search::<f64>(false, small(Window::Crop))
        .plan(&[told], &mut streams(&[7]));
    assert!(
        problem
            .expect_err("none is read")
            .to_string()
            .contains("instruction")
    );
}

#[test]
fn a_past_value_token_changes_nothing() {
    let tiny = tiny(7, 2, 8);
    let mut rng = Rng::from_seed(4);
    for window in [Window::Crop, Window::Grow] {
        let prefix = random_prefix(&mut rng, 2);
        let mut search = tiny.search::<f32>(false, small(window));
        let plan = |search: &mut BeamSearch<f32>, prefix: &Prefix| {
            let prefixes = std::slice::from_ref(prefix);
            search
                .plan(prefixes, &mut streams(&[1]))
                .expect("a plan")
                .remove(0)
        };
        let before = plan(&mut search, &prefix);
        for at in 0..prefix.tokens.len() {
            let mut other = prefix.clone();
            other.tokens[at] = (other.tokens[at] + 3) % 7;
            let after = plan(&mut search, &other);
            assert_eq!(after == before, at % 7 == 6, "{window:?}: token {at}");
        }
    }
}

#[test]
fn a_plan_has_the_same_bits_alone_and_beside_others_and_for_any_number_of_threads() {
    let tiny = tiny(11, 4, 8);
    let mut rng = Rng::from_seed(6);
    // 128 candidates are searched together: four episodes, then two.
    let prefixes: Vec<Prefix> = (0..6).map(|_| random_prefix(&mut rng, 2)).collect();
    for window in [Window::Crop, Window::Grow] {
        let config = PlanConfig {
            beam_width: 16,
            ..small(window)
        };
        let mut search = tiny.search::<f32>(false, config);
        let together = search
            .plan(&prefixes, &mut streams(&[0, 1, 2, 3, 4, 5]))
            .expect("plans");
        for (seed, prefix) in prefixes.iter().enumerate() {
            let threads = rayon::ThreadPoolBuilder::new()
                .num_threads(seed + 1)
                .build();
            let threads = threads.expect("threads");
            let alone = threads.install(|| {
                let prefixes = std::slice::from_ref(prefix);
                search
                    .plan(prefixes, &mut streams(&[seed as u64]))
                    .expect("a plan")
            });
            assert_eq!(alone[0], together[seed], "{window:?}");
        }
    }
}

#[test]
fn a_likelihood_beam_of_full_width_finds_the_most_likely_actions() {
    let tiny = tiny(13, 2, 8);
    let prefix = random_prefix(&mut Rng::from_seed(8), 1);
    let config = PlanConfig {
        horizon: 1,
        beam_width: 8 * 8 * 8 * 8,
        cdf_act: 0.0,
        k_rew: 0,
        objective: Objective::Likelihood,
        ..small(Window::Crop)
    };
    let config = PlanConfig { k_act: 0, ..config };
    let mut search = tiny.search::<f64>(false, config);
    let plan = search
        .plan(std::slice::from_ref(&prefix), &mut streams(&[0]))
        .expect("a plan");
    // The likelihood of the best sequence of action, reward and value, by trying all of them.
    let mut best = (f64::NEG_INFINITY, Vec::new());
    let mut open = vec![(0.0, prefix.tokens.clone())];
    while let Some((likelihood, tokens)) = open.pop() {
        if tokens.len() == 14 {
            if likelihood > best.0 {
                best = (likelihood, tokens);
            }
            continue;
        }
        let filter = Filter {
            top_k: 0,
            cdf: 0.0,
            temperature: 1.0,
        };
        for (token, more) in (0..).zip(log_probabilities(&tiny.logits(&tokens, None), &filter)) {
            if likelihood + more > best.0 {
                open.push((likelihood + more, [&tokens[..], &[token]].concat()));
            }
        }
    }
    assert!((plan[0].scores[0] - best.0).abs() < ROUNDING);
    assert_eq!(plan[0].tokens[..7], best.1[7..]);
}

#[test]
fn every_kind_of_token_has_its_own_filter_in_a_search_by_likelihood() {
    let tiny = tiny(13, 2, 8);
    let prefix = random_prefix(&mut Rng::from_seed(8), 1);
    let config = PlanConfig {
        horizon: 2,
        beam_width: 1000,
        k_obs: 3,
        k_act: 1,
        k_rew: 2,
        cdf_act: 0.0,
        objective: Objective::Likelihood,
        ..small(Window::Crop)
    };
    let plans = tiny
        .search::<f64>(false, config)
        .plan(&[prefix], &mut streams(&[0]))
        .expect("a plan");
    // Two action tokens, reward and value; three of an observation; the same again.
    let kept: Vec<usize> = plans[0].history.iter().map(Vec::len).collect();
    assert_eq!(kept, [1, 1, 2, 4, 12, 36, 108, 108, 108, 216, 432]);
}

#[test]
fn a_growing_window_that_does_not_fit_says_what_to_do() {
    let tiny = tiny(0, 1, 6);
    let decoder = Decoder::<f32>::new(&tiny.tensors, tiny.shape).expect("a decoder");
    let model = SearchModel {
        decoder: Arc::new(decoder),
        discretizer: tiny.discretizer,
        observation_dim: 3,
        discount: 0.9,
        goal_conditioned: false,
    };
    let error = BeamSearch::new(model, small(Window::Grow)).expect_err("3 + 4 transitions in 6");
    let message = error.to_string();
    assert!(
        message.contains("(3) + horizon (4)") && message.contains("crop"),
        "{message}"
    );
}

pub fn starts(seeds: &[u64]) -> Vec<EpisodeStart> {
    let start = |&seed: &u64| EpisodeStart {
        rng: Rng::from_seed(seed),
        target_return: None,
        goal: None,
        instruction: None,
    };
    seeds.iter().map(start).collect()
}

/// Actions (steps, E, A) for made-up observations; row `ends.0` ends before step `ends.1`.
pub fn roll_out(config: &PlanConfig, seeds: &[u64], ends: (usize, usize)) -> Vec<Vec<Vec<f32>>> {
    let tiny = tiny(17, 2, 8);
    let search = tiny.search::<f32>(false, config.clone());
    let bounds = (vec![-0.5; 2], vec![0.5; 2]);
    let mut planner = BeamPlanner::new(search, bounds.0, bounds.1).expect("a planner");
    planner.begin(&starts(seeds)).expect("a start");
    let mut actions = Vec::new();
    for step in 0..8 {
        // The same observations for the same seed.
        let observations: Vec<f32> = seeds
            .iter()
            .flat_map(|&seed| (0..3).map(move |i| ((seed + 3 * step + i) as f32).sin()))
            .collect();
        let observations = Tensor::from_vec(observations, (seeds.len(), 3), &Device::Cpu);
        let running = |row: usize| row != ends.0 || (step as usize) < ends.1;
        let active: Vec<bool> = (0..seeds.len()).map(running).collect();
        let action = planner
            .act(&observations.expect("numbers"), &active)
            .expect("actions");
        actions.push(action.to_vec2().expect("actions"));
        let rewards: Vec<f32> = seeds.iter().map(|&seed| (seed as f32).cos()).collect();
        planner.observe(&rewards).expect("rewards");
    }
    actions
}

#[test]
fn episodes_act_the_same_alone_and_beside_others_that_end() {
    let config = small(Window::Crop);
    let together = roll_out(&config, &[1, 2, 3], (1, 4));
    let alone = roll_out(&config, &[3], (9, 0));
    for (step, (together, alone)) in together.iter().zip(&alone).enumerate() {
        assert_eq!(together[2], alone[0], "step {step}");
        assert!(
            alone[0].iter().all(|action| action.abs() <= 0.5),
            "step {step}"
        );
    }
    assert!(
        alone.iter().any(|actions| actions[0] != alone[0][0]),
        "actions never change"
    );
}

#[test]
fn a_plan_is_executed_for_as_many_steps_as_asked() {
    let tiny = tiny(17, 2, 8);
    let config = PlanConfig {
        plan_every_steps: 3,
        ..small(Window::Crop)
    };
    let search = tiny.search::<f32>(false, config);
    let mut planner = BeamPlanner::new(search, vec![-9.0; 2], vec![9.0; 2]).expect("a planner");
    planner.begin(&starts(&[5])).expect("a start");
    let mut planned = Vec::new();
    for step in 0..7 {
        let observation = Tensor::full(step as f32 / 4.0, (1, 3), &Device::Cpu).expect("numbers");
        let action = planner.act(&observation, &[true]).expect("an action");
        let imagined = planner.imagined(0).expect("tensors").expect("a plan");
        assert_eq!(imagined.observations.dims(), [5, 4, 3]);
        assert!(imagined.scores.is_sorted_by(|a, b| a >= b));
        let actions: Vec<Vec<Vec<f32>>> = imagined.actions.to_vec3().expect("numbers");
        let action: Vec<Vec<f32>> = action.to_vec2().expect("numbers");
        assert_eq!(action[0], actions[0][step % 3], "step {step}");
        if step % 3 == 0 {
            planned.push(actions.clone());
        }
        assert_eq!(planned.last(), Some(&actions), "step {step}");
        planner.observe(&[0.5]).expect("a reward");
    }
    assert!(planned[0] != planned[1]);
}

#[test]
fn a_past_that_is_recalled_is_the_past_that_was_acted_in() {
    let tiny = tiny(17, 2, 8);
    let planner = || {
        let search = tiny.search::<f32>(false, small(Window::Crop));
        let mut planner = BeamPlanner::new(search, vec![-9.0; 2], vec![9.0; 2]).expect("a planner");
        planner.begin(&starts(&[5, 6])).expect("a start");
        planner
    };
    let row = |values: [f32; 2], width: usize| {
        let values = values
            .iter()
            .flat_map(|value| vec![*value; width])
            .collect::<Vec<_>>();
        Tensor::from_vec(values, (2, width), &Device::Cpu).expect("numbers")
    };
    let (mut acts, mut recalls, mut alone) = (planner(), planner(), planner());
    let now = row([0.3, -0.4], 3);
    for step in 0..3 {
        let size = step as f32;
        let observations = row([size / 4.0, -size / 3.0], 3);
        let (taken, rewards) = (row([0.4, -0.5 + size], 2), [size, 0.5]);
        acts.act(&observations, &[true, true]).expect("actions");
        acts.took(&taken).expect("fits");
        acts.observe(&rewards).expect("rewards");
        recalls
            .recall(&observations, &taken, &rewards)
            .expect("recalled");
        // Its own actions in place of those that were taken.
        alone.act(&observations, &[true, true]).expect("actions");
        alone.observe(&rewards).expect("rewards");
        let prefixes =
            |planner: &BeamPlanner| planner.prefixes(&now, &[true, true]).expect("prefixes");
        let tokens = |planner: &BeamPlanner| -> Vec<Vec<u32>> {
            prefixes(planner)
                .into_iter()
                .map(|prefix| prefix.tokens)
                .collect()
        };
        assert_eq!(tokens(&acts), tokens(&recalls), "step {step}");
        assert_ne!(tokens(&acts), tokens(&alone), "step {step}");
    }
    let error = acts
        .took(&row([0.0; 2], 3))
        .expect_err("too wide")
        .to_string();
    assert!(error.contains("actions"), "{error}");
}
