//! Plans whose values and observations are predicted at once, against full recomputation.

use trajformer::bench;
use trajformer::config::RunConfig;
use trajformer::data::sequences::goal_transition;
use trajformer::planning::sampling::{Distribution, Filter};
use trajformer::planning::{Allowance, Budget, Companion, Objective, PlanConfig, Prefix, Window};
use trajformer::policy::PlanOrigin;
use trajformer::rng::Rng;
use trajformer::run;
use trajformer_models::activation::Activation;

use crate::planner::{Kind, PAPERS, Tiny, kinds, random_prefix, small, streams, tiny_with};

/// Numbers of a transition, of an observation.
const D: usize = 7;
const O: usize = 3;
/// f64 sums of a few hundred terms, in another order.
const ROUNDING: f64 = 1e-12;

fn at_once(mut kind: Kind) -> Kind {
    kind.1.multi_token = true;
    kind
}

fn tiny(seed: u64) -> Tiny {
    tiny_with(seed, 2, 8, 0, at_once(PAPERS))
}

/// Observations are taken greedily; rewards and values are drawn.
fn settings(window: Window) -> PlanConfig {
    PlanConfig {
        k_obs: 1,
        k_rew: 3,
        cdf_rew: 0.2,
        ..small(window)
    }
}

fn likeliest(logits: &[f64]) -> u32 {
    let tokens = (0..logits.len() as u32).rev();
    let best = tokens.max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]));
    best.expect("a token")
}

/// One row of a search.
#[derive(Clone)]
struct Candidate {
    tokens: Vec<u32>,
    observation: Vec<u32>,
    earned: f64,
    score: f64,
}

/// What a network sees of a sequence.
fn seen(config: &PlanConfig, prefix: &Prefix, tokens: &[u32]) -> Vec<u32> {
    let most = match config.window {
        Window::Crop => config.max_context_transitions * D - 1,
        Window::Grow => usize::MAX,
    };
    let excess = tokens.len().saturating_sub(most).next_multiple_of(D);
    [&prefix.goal.clone().unwrap_or_default(), &tokens[excess..]].concat()
}

/// The search, each prediction by a forward pass of its own over the whole cropped sequence. Returns the tokens of the last beam and
/// their scores.
fn naive(
    tiny: &Tiny,
    config: &PlanConfig,
    prefix: &Prefix,
    uniforms: &mut Rng,
) -> (Vec<u32>, Vec<f64>) {
    let told = prefix.instruction.as_ref();
    let filter = |top_k, cdf| Filter {
        top_k,
        cdf,
        temperature: config.temperature,
    };
    let (actions, rewards) = (
        filter(config.k_act, config.cdf_act),
        filter(config.k_rew, config.cdf_rew),
    );
    let start = Candidate {
        tokens: prefix.tokens.clone(),
        observation: Vec::new(),
        earned: 0.0,
        score: 0.0,
    };
    let mut rows = vec![start; config.beam_width];
    for t in 0..config.horizon {
        let discount = 0.9f64.powi(t as i32);
        rows.iter_mut().for_each(|row| {
            let observed = std::mem::take(&mut row.observation);
            row.tokens.extend(observed);
        });
        rows = vec![rows; config.n_expand].concat();
        for _ in 0..2 {
            for row in &mut rows {
                let logits = tiny.logits(&seen(config, prefix, &row.tokens), told);
                let token = Distribution::new(&logits, &actions).draw(uniforms.uniform());
                row.tokens.push(token);
            }
        }
        let mut values = Vec::new();
        for row in &mut rows {
            let seen = seen(config, prefix, &row.tokens);
            let reward = Distribution::new(&tiny.logits(&seen, told), &rewards);
            let further = tiny.further_logits(&seen, told);
            row.tokens.push(reward.draw(uniforms.uniform()));
            row.observation = further[1..]
                .iter()
                .map(|logits| likeliest(logits))
                .collect();
            row.earned += discount * tiny.discretizer.expectation(&reward.raw, D - 2);
            values.push(Distribution::new(&further[0], &rewards));
        }
        for (row, value) in rows.iter_mut().zip(values) {
            row.tokens.push(value.draw(uniforms.uniform()));
            let worth = tiny.discretizer.expectation(&value.raw, D - 1);
            row.score = row.earned + 0.9 * discount * worth;
        }
        rows.sort_by(|a, b| b.score.total_cmp(&a.score));
        rows.truncate(config.beam_width);
    }
    let planned = config.horizon * D;
    let tokens = rows
        .iter()
        .flat_map(|row| row.tokens[row.tokens.len() - planned..].to_vec());
    (tokens.collect(), rows.iter().map(|row| row.score).collect())
}

fn check(tiny: &Tiny, config: &PlanConfig, prefix: &Prefix, seed: u64, place: &str) -> Vec<u32> {
    let (expected, scores) = naive(tiny, config, prefix, &mut Rng::from_seed(seed));
    let has_goal = prefix.goal.is_some();
    let prefixes = std::slice::from_ref(prefix);
    let mut search = tiny.search::<f64>(has_goal, config.clone());
    let plans = search.plan(prefixes, &mut streams(&[seed]));
    let plan = plans.expect("a plan").remove(0);
    assert_eq!(plan.tokens, expected, "f64, {place}");
    for (found, expected) in plan.scores.iter().zip(scores) {
        assert!((found - expected).abs() < ROUNDING, "{found} {expected}");
    }
    let mut search = tiny.search::<f32>(has_goal, config.clone());
    let plans = search.plan(prefixes, &mut streams(&[seed]));
    assert_eq!(plans.expect("a plan")[0].tokens, expected, "f32, {place}");
    expected
}

#[test]
fn plans_equal_forward_passes_over_everything_token_for_token() {
    // Crop: no context, some, more than fits. Grow: context and plan fit the window of 8.
    for (window, contexts) in [(Window::Crop, [0, 2, 5]), (Window::Grow, [0, 1, 4])] {
        for (heads, transitions) in [1, 3, 4].into_iter().zip(contexts) {
            let mut rng = Rng::from_seed(9);
            for (seed, kind) in (0..).zip(kinds()) {
                let tiny = tiny_with(heads as u64, heads, 8, 0, at_once(kind));
                let prefix = random_prefix(&mut rng, transitions);
                let place = format!("{window:?}, {heads} heads, {transitions}, {kind:?}");
                let found = check(&tiny, &settings(window), &prefix, seed, &place);
                // The same network, one token after the other.
                let one_by_one = PlanConfig {
                    multi_token: Some(false),
                    ..settings(window)
                };
                let mut search = tiny.search::<f64>(false, one_by_one);
                let other = search.plan(&[prefix], &mut streams(&[seed]));
                assert_ne!(other.expect("a plan")[0].tokens, found, "{place}");
            }
        }
    }
}

#[test]
fn goals_and_instructions_stay_with_their_episodes() {
    let (tiny, mut rng) = (tiny(5), Rng::from_seed(2));
    let mut found = Vec::new();
    for goal in [0, 6] {
        let prefix = Prefix {
            goal: Some(goal_transition(&[goal; O], &tiny.discretizer)),
            ..random_prefix(&mut Rng::from_seed(1), 4)
        };
        found.push(check(&tiny, &settings(Window::Crop), &prefix, 3, "goal"));
    }
    assert_ne!(found[0], found[1], "the goal must matter");
    let tiny = tiny_with(17, 2, 8, 5, at_once((Activation::SquaredRelu, PAPERS.1)));
    let prefix = random_prefix(&mut rng, 2);
    let told: Vec<Prefix> = (0..3)
        .map(|_| Prefix {
            instruction: Some((0..5).map(|_| rng.normal() as f32).collect()),
            ..prefix.clone()
        })
        .collect();
    for window in [Window::Crop, Window::Grow] {
        let mut search = tiny.search::<f64>(false, settings(window));
        let plans = search.plan(&told, &mut streams(&[7, 7, 7])).expect("plans");
        for (plan, prefix) in plans.iter().zip(&told) {
            let expected = check(&tiny, &settings(window), prefix, 7, "instruction");
            assert_eq!(plan.tokens, expected);
        }
    }
}

#[test]
fn plans_have_the_same_bits_beside_others_on_any_number_of_threads_and_in_a_budget_for_everything()
{
    let (tiny, mut rng) = (tiny(11), Rng::from_seed(6));
    let prefixes: Vec<Prefix> = (0..6).map(|_| random_prefix(&mut rng, 2)).collect();
    for window in [Window::Crop, Window::Grow] {
        let config = PlanConfig {
            beam_width: 16,
            ..settings(window)
        };
        let mut search = tiny.search::<f32>(false, config);
        let together = search.plan(&prefixes, &mut streams(&[0, 1, 2, 3, 4, 5]));
        let together = together.expect("plans");
        // 16 ((2 + 2) 2 · 4 + 3 · 3): what is predicted at once is sampled as well.
        let everything = Budget::Tokens(16 * (4 * 2 * 4 + 3 * 3));
        for (seed, prefix) in prefixes.iter().enumerate() {
            let threads = rayon::ThreadPoolBuilder::new()
                .num_threads(seed + 1)
                .build();
            let alone = threads.expect("threads").install(|| {
                let mut allowance = Allowance::new(everything, None);
                let mut own = streams(&[seed as u64]);
                search.plan_within(prefix, None, &mut own, &mut allowance)
            });
            let (alone, decision) = alone.expect("a plan");
            assert_eq!(decision.origin, PlanOrigin::Full);
            assert_eq!(alone, together[seed], "{window:?}");
        }
    }
}

/// The return that the actions of `rest` promise; everything else is what is likeliest.
fn promised(tiny: &Tiny, prefix: &Prefix, rest: &[u32], transitions: usize) -> f64 {
    let config = settings(Window::Crop);
    let probabilities = |logits: &[f64]| -> Vec<f64> {
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits.iter().map(|logit| logit.exp() / sum).collect()
    };
    let mut tokens = prefix.tokens.clone();
    let (mut earned, mut score) = (0.0, 0.0);
    for t in 0..transitions {
        let discount = 0.9f64.powi(t as i32);
        tokens.extend_from_slice(&rest[t * D + O..t * D + D - 2]);
        let seen = seen(&config, prefix, &tokens);
        let (reward, further) = (tiny.logits(&seen, None), tiny.further_logits(&seen, None));
        let expected =
            |logits: &[f64], dim| tiny.discretizer.expectation(&probabilities(logits), dim);
        earned += discount * expected(&reward, D - 2);
        score = earned + 0.9 * discount * expected(&further[0], D - 1);
        tokens.push(likeliest(&reward));
        tokens.extend(further.iter().map(|logits| likeliest(logits)));
    }
    score
}

#[test]
fn a_cut_search_promises_no_less_than_going_on() {
    let tiny = tiny(3);
    let mut search = tiny.search::<f64>(false, settings(Window::Crop));
    let whole = 5 * (4 * 2 * 4 + 3 * 3);
    let (mut went_on, mut cut) = (0, 0);
    for seed in 0..60 {
        let mut rng = Rng::from_seed(seed);
        let before = random_prefix(&mut rng, 1);
        let plans = search.plan(&[before], &mut streams(&[seed]));
        let rest = plans.expect("a plan")[0].tokens[D..4 * D].to_vec();
        let now = random_prefix(&mut rng, 2);
        let budget = 8 + rng.below(whole - 8) as u64;
        let mut allowance = Allowance::new(Budget::Tokens(budget), None);
        let observation = &now.tokens[now.tokens.len() - O..];
        let going_on = Companion::new(&rest, D, observation, f64::INFINITY);
        let found = search.plan_within(&now, going_on, &mut streams(&[seed]), &mut allowance);
        let (plan, decision) = found.expect("a plan");
        assert!(decision.tokens <= budget, "{decision:?}");
        match decision.origin {
            PlanOrigin::WentOn => {
                went_on += 1;
                let far = (1..=3).map(|t| promised(&tiny, &now, &rest, t));
                let mut errors = far.map(|promised| (plan.scores[0] - promised).abs());
                assert!(errors.any(|error| error < ROUNDING), "{plan:?}");
            }
            PlanOrigin::Cut => {
                cut += 1;
                let least = promised(&tiny, &now, &rest, decision.transitions.min(3));
                assert!(plan.scores[0] >= least - ROUNDING, "{decision:?} {least}");
            }
            PlanOrigin::Full => panic!("{budget} of {whole} tokens are not everything"),
        }
    }
    assert!(went_on > 2 && cut > 2, "{went_on} and {cut}");
}

#[test]
fn observations_that_are_predicted_at_once_are_not_drawn() {
    let table = "[algorithm.trajectory_transformer]\nmulti_token = true\n";
    let with = |keys: &str| RunConfig::parse(&format!("{table}{keys}")).map(|_| ());
    for keys in [
        "planner.k_obs = 2",
        "planner.k_obs = 0",
        "planner.cdf_obs = 0.1",
    ] {
        let error = with(keys).expect_err(keys).to_string();
        for words in ["planner.k_obs = 1", "planner.multi_token = false"] {
            assert!(error.contains(words), "{keys}: {error}");
        }
        for others in [
            "planner.multi_token = false",
            "planner.objective = \"likelihood\"",
        ] {
            with(&format!("{keys}\n{others}")).expect(others);
        }
        let plain = format!("[algorithm.trajectory_transformer]\n{keys}");
        RunConfig::parse(&plain).expect("a network that predicts next tokens alone");
    }
    with("planner.k_rew = 0").expect("rewards and values are drawn");
    // A search for what is likely goes token by token.
    let config = PlanConfig {
        objective: Objective::Likelihood,
        ..settings(Window::Crop)
    };
    let prefix = random_prefix(&mut Rng::from_seed(1), 2);
    let plan = |multi_token: bool| {
        let mut tiny = tiny(3);
        tiny.shape.recipe.multi_token = multi_token;
        let mut search = tiny.search::<f64>(false, config.clone());
        let plans = search.plan(std::slice::from_ref(&prefix), &mut streams(&[1]));
        plans.expect("a plan")
    };
    assert_eq!(plan(false), plan(true));
}

#[test]
fn heads_that_a_network_has_not_can_be_left_alone_but_not_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    crate::runs::write_data(folder);
    let out = folder.join("run");
    let key = "algorithm.trajectory_transformer.planner.multi_token";
    let mut config = crate::runs::config(folder, "trajectory_transformer", 5);
    config.evaluate.episodes = 0;
    run::start(&config, &out).unwrap();
    let opened = |set: &[&str]| {
        let set: Vec<String> = set.iter().map(|set| format!("{key}={set}")).collect();
        run::open(&out, &set).map(|_| ())
    };
    opened(&[]).expect("not set");
    opened(&["false"]).expect("what it does anyway");
    let has = |error: trajformer::Error| {
        let error = error.to_string();
        for words in ["`planner.multi_token` is true", "has no heads", "leave `"] {
            assert!(error.contains(words), "{error}");
        }
    };
    has(opened(&["true"]).expect_err("no heads"));
    // In its file just so.
    let file = out.join("config.toml");
    let stored = std::fs::read_to_string(&file).unwrap();
    let table = "[algorithm.trajectory_transformer.planner]\n";
    let edited = stored.replace(table, &format!("{table}multi_token = true\n"));
    assert_ne!(edited, stored);
    std::fs::write(&file, &edited).unwrap();
    has(opened(&[]).expect_err("no heads"));
    let error = opened(&[]).expect_err("no heads").to_string();
    assert!(error.contains("run/config.toml: `planner"), "{error}");
    // What is asked for now counts, and the rest of its table as a whole does.
    opened(&["false"]).expect("taken back");
    let whole = "algorithm.trajectory_transformer.planner";
    let table = config.to_toml().unwrap();
    let table: toml::Table = table.parse().unwrap();
    let planner = table["algorithm"]["trajectory_transformer"]["planner"].to_string();
    run::open(&out, &[format!("{whole}={planner}")]).expect("replaced");
    has(opened(&["true"]).expect_err("no heads"));
    // To go on would leave it out of the file without a word.
    for set in ["train.updates=6", "train.updates=5"] {
        has(run::resume(&out, &[set.to_owned()]).expect_err("no heads"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), edited);
    }
    let plan = |keys: &[&str]| {
        bench::plan(&bench::PlanOptions {
            algorithm: "trajectory_transformer".to_owned(),
            observations: 2,
            actions: 1,
            beam: Some(2),
            horizon: Some(2),
            window: Window::Crop,
            overrides: keys.iter().map(|&key| key.to_owned()).collect(),
            budget_ms: None,
            decisions: 0,
            seconds: 0.0,
        })
    };
    has(plan(&["planner.multi_token=true"]).expect_err("no heads"));
    plan(&["planner.multi_token=true", "multi_token=true"]).expect("heads");
    // What is asked for is what is done anyway: it is no setting of its own, and runs that had it go on.
    let parsed =
        |text: &str| RunConfig::parse(&format!("[algorithm.trajectory_transformer]\n{text}"));
    let asked = parsed("multi_token = true\nplanner.multi_token = true").unwrap();
    let usual = parsed("multi_token = true").unwrap();
    assert_eq!(asked.to_toml().unwrap(), usual.to_toml().unwrap());
    asked.algorithm.check_acting().expect("heads");
    let likely = parsed(
        "multi_token = true\nplanner.multi_token = true\nplanner.objective = \"likelihood\"",
    );
    let error = likely
        .unwrap()
        .algorithm
        .check_acting()
        .expect_err("token by token");
    assert!(error.to_string().contains("token by token"), "{error}");
}
