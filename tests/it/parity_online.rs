//! Learning online against the programs that CORL and Cal-QL's authors fine-tune with (tests/golden/online.py), from their first update
//! to their last: what is done with recorded random numbers, what is kept of each step, what batches hold and in which share, losses,
//! parameters at the end. Everything goes through the algorithm as the trainer has it, in f64.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::awac::{Awac, AwacConfig, AwacDraws};
use trajformer::algorithms::cql::{Cql, CqlConfig, CqlDraws};
use trajformer::algorithms::iql::{ActorKind, Iql, IqlConfig};
use trajformer::algorithms::rebrac::{Rebrac, RebracConfig};
use trajformer::algorithms::{Algorithm, Build, Interactive, OnlinePhase, Source, Step};
use trajformer::data::{
    ActionBounds, ActionKind, DataShare, Dataset, Episode, RewardTransform, Rows, TransitionsConfig,
};
use trajformer::offpolicy::{InitContext, Learner, OffPolicy};
use trajformer::rng::Rng;
use trajformer::schedules::DecayUpdates;
use trajformer_models::params::{Slot, StateVisitor};

use crate::golden::{Golden, check_close, relative_maximum};

/// Losses in f64, up to the eighteenth update: sums of some hundred products, taken in another order.
const LOSS_TOLERANCE: f64 = 1e-10;
/// Parameter changes in f64: the same, divided by Adam by the size of each gradient.
const CHANGE_TOLERANCE: f64 = 1e-9;

/// One recorded run.
struct Recorded<'a> {
    golden: &'a Golden,
    run: &'a str,
}

impl Recorded<'_> {
    fn tensor(&self, name: &str) -> &Tensor {
        self.golden.tensor(&format!("{}.{name}", self.run))
    }

    /// A row of a column of steps, as the environment gives it.
    fn step(&self, name: &str, step: usize) -> Vec<f32> {
        let row = self.tensor(&format!("steps.{name}")).get(step).unwrap();
        let row = row.flatten_all().unwrap().to_dtype(DType::F32).unwrap();
        row.to_vec1().unwrap()
    }

    fn flag(&self, name: &str, step: usize) -> bool {
        self.step(name, step)[0] == 1.0
    }

    fn noise(&self, name: &str, update: usize) -> Tensor {
        let noise = self.tensor(&format!("noise.{name}"));
        noise.get(update).unwrap()
    }

    fn constant(&self, name: &str) -> &serde_json::Value {
        &self.golden.constants["runs"][self.run][name]
    }

    fn number(&self, name: &str) -> f64 {
        let value = self.constant(name).as_f64();
        value.unwrap_or_else(|| panic!("{}: no number `{name}`", self.run))
    }

    fn count(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    fn sizes(&self, name: &str) -> Vec<usize> {
        let sizes = self.constant(name).as_array().unwrap();
        sizes.iter().map(|n| n.as_u64().unwrap() as usize).collect()
    }

    /// How the data and the rewards of all steps are prepared.
    fn view(&self) -> TransitionsConfig {
        let of = |i: usize| self.constant("rewards")[i].as_f64().unwrap() as f32;
        TransitionsConfig {
            normalize_observations: false,
            rewards: RewardTransform::Affine {
                scale: of(0),
                shift: of(1),
            },
            returns_discount: self.number("discount"),
            ..TransitionsConfig::default()
        }
    }

    fn rows(&self, update: usize) -> Rows {
        let rows = self.tensor("rows").get(update).unwrap();
        let rows = rows.to_vec1::<u32>().unwrap();
        let first = self.count("data_rows") as u32;
        let (data, collected): (Vec<u32>, Vec<u32>) = rows.iter().partition(|&&row| row < first);
        Rows {
            data,
            collected: collected.iter().map(|row| row - first).collect(),
        }
    }
}

/// The raw data set that all runs start from.
fn data(golden: &Golden) -> Dataset {
    let numbers = |name: &str| -> Vec<f32> {
        let numbers = golden.numbers(&format!("data.{name}"));
        numbers.iter().map(|&number| number as f32).collect()
    };
    let (terminals, timeouts) = (numbers("terminals"), numbers("timeouts"));
    let mut episodes: Vec<Episode> = Vec::new();
    let mut start = 0;
    for (step, (&terminal, &timeout)) in terminals.iter().zip(&timeouts).enumerate() {
        if terminal == 1.0 || timeout == 1.0 {
            episodes.push(Episode {
                terminated: terminal == 1.0,
                truncated: timeout == 1.0,
                ..Episode::new(start, step + 1 - start)
            });
            start = step + 1;
        }
    }
    assert_eq!(start, terminals.len(), "the data ends with an episode");
    Dataset {
        observation_dim: golden.integer("observation_dim"),
        action_dim: golden.integer("action_dim"),
        action_kind: ActionKind::Continuous,
        observations: numbers("observations"),
        actions: numbers("actions"),
        rewards: numbers("rewards"),
        episodes,
        ..Dataset::blank(1, 1)
    }
}

/// Networks and targets by name.
#[derive(Default)]
struct Networks(BTreeMap<String, Slot>);

impl StateVisitor for Networks {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        let rest = name.strip_prefix("model.");
        let target = || name.strip_prefix("training.");
        let target = || target().filter(|rest| rest.starts_with("target_"));
        if let Some(rest) = rest.or_else(target) {
            self.0.insert(rest.to_owned(), slot.clone());
        }
        Ok(())
    }
}

fn networks(algorithm: &mut dyn Algorithm) -> BTreeMap<String, Slot> {
    let mut seen = Networks::default();
    algorithm.state(&mut seen).unwrap();
    assert!(!seen.0.is_empty(), "no network");
    seen.0
}

/// Replays a run: updates on the data, steps, updates on both.
fn check<L: Learner>(
    recorded: &Recorded<'_>,
    view: &TransitionsConfig,
    new: impl FnOnce(&mut InitContext<'_>) -> L,
    draws: impl Fn(usize) -> L::Draws,
) {
    let data = data(recorded.golden);
    let offline = recorded.count("offline");
    let build = Build {
        source: Source::Train(&data),
        bounds: &ActionBounds::unit(data.action_dim, &Device::Cpu).unwrap(),
        fast: None,
        encoder: None,
        training_updates: offline as u64,
        device: &Device::Cpu,
        rng: &mut Rng::from_seed(0),
    };
    let batch = recorded.count("batch");
    let new = |start: &mut InitContext<'_>, _: &_| Ok(new(start));
    let mut algorithm = OffPolicy::in_dtype(DType::F64, build, view, batch, new).unwrap();
    for (name, slot) in networks(&mut algorithm) {
        slot.set(recorded.tensor(&format!("start.{name}"))).unwrap();
    }
    let updates = recorded.tensor("rows").dims()[0];
    let steps = recorded.tensor("steps.rewards").dims()[0];
    let mut metrics = Vec::new();
    let mut step = 0;
    for update in 0..updates {
        if update == offline {
            let phase = OnlinePhase {
                data_share: match recorded.constant("share").as_f64() {
                    Some(share) if share != 0.5 => DataShare::Share(share),
                    _ => DataShare::Method,
                },
                steps: steps as u64,
                ..OnlinePhase::default()
            };
            algorithm.prepare(&phase).unwrap();
        }
        if update >= offline {
            // As `Interaction::collect`.
            let mut due = algorithm.earned_updates() <= (update - offline) as u64;
            while due {
                take_step(&mut algorithm, recorded, step);
                due = algorithm.collects_episodes() && !ended(recorded, step);
                step += 1;
            }
        }
        let rows = recorded.rows(update);
        check_batch(&algorithm, recorded, update, &rows);
        let found = algorithm.update_on(&rows, &draws(update)).unwrap();
        metrics.extend(found.values().unwrap());
    }
    assert_eq!(step, steps, "{}: steps", recorded.run);
    check_metrics(recorded, &metrics);
    check_changes(recorded, &mut algorithm);
}

fn ended(recorded: &Recorded<'_>, step: usize) -> bool {
    recorded.flag("terminated", step) || recorded.flag("truncated", step)
}

/// Acts, and observes what followed.
fn take_step<L: Learner>(algorithm: &mut OffPolicy<L>, recorded: &Recorded<'_>, step: usize) {
    let normals = recorded.tensor("steps.normals").get(step).unwrap();
    let normals = normals.unsqueeze(0).unwrap();
    let noise = recorded.constant("noise").as_f64();
    let observation = recorded.step("observations", step);
    let action = algorithm.explore_with(&observation, noise, &normals);
    let place = format!("{}: action of step {step}", recorded.run);
    assert_eq!(action.unwrap(), recorded.step("actions", step), "{place}");
    let outcome = Step {
        observation: &recorded.step("next_observations", step),
        reward: recorded.step("rewards", step)[0],
        terminated: recorded.flag("terminated", step),
    };
    algorithm.learn(&outcome, ended(recorded, step)).unwrap();
}

/// What an update learns from, every number; and how many rows of the data the algorithm would draw itself.
fn check_batch<L: Learner>(
    algorithm: &OffPolicy<L>,
    recorded: &Recorded<'_>,
    update: usize,
    rows: &Rows,
) {
    let found = algorithm.batch(rows).unwrap();
    let of = |name: &str| {
        recorded
            .tensor(&format!("batches.{name}"))
            .get(update)
            .unwrap()
    };
    let equal = |name: &str, found: &Tensor| {
        let place = format!("{}: {name} of update {update}", recorded.run);
        assert_eq!(relative_maximum(found, &of(name)), 0.0, "{place}");
    };
    equal("observations", &found.observations);
    equal("actions", &found.actions);
    equal("rewards", &found.rewards);
    equal("terminated", &found.terminated);
    // After an end they are arbitrary, of the data those of the next row.
    let goes_on = (1.0 - &found.terminated).unwrap().unsqueeze(1).unwrap();
    let masked = |next: &Tensor| next.broadcast_mul(&goes_on).unwrap();
    let place = format!("{}: next observations of update {update}", recorded.run);
    let next = masked(&found.next_observations);
    let error = relative_maximum(&next, &masked(&of("next_observations")));
    assert_eq!(error, 0.0, "{place}");
    if let Some(reached) = &found.monte_carlo_returns {
        equal("reached", reached);
    }
    if update >= recorded.count("offline")
        && let Some(expected) = recorded.constant("data_share").as_u64()
    {
        let drawn = algorithm.draw_rows(&mut Rng::from_seed(update as u64));
        let (data, all) = (expected as usize, recorded.count("batch"));
        for rows in [rows, &drawn] {
            assert_eq!((rows.data.len(), rows.collected.len()), (data, all - data));
        }
    }
}

fn check_metrics(recorded: &Recorded<'_>, found: &[(&'static str, f64)]) {
    let prefix = format!("{}.metric.", recorded.run);
    let mut count = 0;
    for (name, expected) in recorded.golden.under(&prefix) {
        let of_name = found.iter().filter(|(other, _)| *other == name);
        let found: Vec<f64> = of_name.map(|(_, value)| *value).collect();
        let expected = expected.to_vec1::<f64>().unwrap();
        assert_eq!(found.len(), expected.len(), "{}: {name}", recorded.run);
        let scale = expected
            .iter()
            .fold(0.0f64, |max, value| max.max(value.abs()));
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = (found - expected).abs() / scale;
            let place = format!("{}: {name}, number {i}", recorded.run);
            assert!(
                error <= LOSS_TOLERANCE,
                "{place}: {found}, not {expected}: {error:e}"
            );
        }
        count += 1;
    }
    assert!(count > 1, "{prefix}: no metric");
}

fn check_changes(recorded: &Recorded<'_>, algorithm: &mut dyn Algorithm) {
    for (name, slot) in networks(algorithm) {
        let of = |when: &str| recorded.tensor(&format!("{when}.{name}"));
        let expected = (of("after") - of("start")).unwrap();
        let found = (slot.tensor().unwrap() - of("start")).unwrap();
        let place = format!("{}: change of {name}", recorded.run);
        check_close(&place, &found, &expected, CHANGE_TOLERANCE);
    }
}

#[test]
fn awac_learns_online_as_corls_program() {
    let golden = &Golden::load("online");
    let run = &Recorded {
        golden,
        run: "awac",
    };
    let config = AwacConfig {
        lambda: run.number("lambda"),
        max_weight: run.number("max_weight"),
        log_std_range: (run.number("log_std_min"), run.number("log_std_max")),
        discount: run.number("discount"),
        target_rate: run.number("tau"),
        learning_rate: run.number("learning_rate"),
        hidden: vec![golden.integer("hidden"); 3],
        ..AwacConfig::default()
    };
    let draws = |update| AwacDraws {
        next: run.noise("next", update),
        policy: run.noise("policy", update),
    };
    let new = |start: &mut InitContext<'_>| Awac::new(&config, start).unwrap();
    check(run, &run.view(), new, draws);
}

#[test]
fn iql_learns_online_as_corls_program_without_its_cosine_with_either_actor() {
    let golden = &Golden::load("online");
    for name in ["iql", "iql_deterministic"] {
        let run = &Recorded { golden, run: name };
        let config = IqlConfig {
            expectile: run.number("expectile"),
            beta: run.number("beta"),
            max_weight: run.number("max_weight"),
            actor: if run.constant("deterministic").as_bool().unwrap() {
                ActorKind::Deterministic
            } else {
                ActorKind::Gaussian
            },
            log_std_range: (run.number("log_std_min"), run.number("log_std_max")),
            discount: run.number("discount"),
            target_rate: run.number("tau"),
            actor_learning_rate: run.number("actor_learning_rate"),
            actor_decay_updates: DecayUpdates::None,
            critic_learning_rate: run.number("critic_learning_rate"),
            value_learning_rate: run.number("value_learning_rate"),
            hidden: vec![golden.integer("hidden"); 2],
            ..IqlConfig::default()
        };
        let new = |start: &mut InitContext<'_>| Iql::new(&config, start).unwrap();
        check(run, &run.view(), new, |_| ());
    }
}

fn check_cql(name: &str) {
    let golden = &Golden::load("online");
    let run = &Recorded { golden, run: name };
    let calibrate = run.constant("calibrate").as_bool().unwrap();
    let failure_reward = calibrate.then(|| run.number("failure_reward") as f32);
    let config = CqlConfig {
        alpha: run.number("alpha"),
        actions: run.count("actions"),
        lagrange_gap: (run.constant("lagrange") == true).then(|| run.number("gap")),
        gap_min: run.constant("clip_min").as_f64(),
        max_backup: run.constant("max_backup") == true,
        calibrate,
        failure_reward,
        discount: run.number("discount"),
        target_rate: run.number("tau"),
        actor_learning_rate: run.number("actor_learning_rate"),
        critic_learning_rate: run.number("critic_learning_rate"),
        hidden: run.sizes("hidden"),
        critic_hidden: Some(run.sizes("critic_hidden")),
        ..CqlConfig::default()
    };
    let view = TransitionsConfig {
        monte_carlo_returns: calibrate,
        failure_reward,
        ..run.view()
    };
    // (B, n, A) as (n, B, A).
    let many = |name: &str, update| {
        let noise = run.noise(name, update).transpose(0, 1).unwrap();
        noise.contiguous().unwrap()
    };
    let draws = |update| CqlDraws {
        policy: run.noise("policy", update),
        next: if config.max_backup {
            many("next", update)
        } else {
            run.noise("next", update).unsqueeze(0).unwrap()
        },
        random: ((many("random", update) * 2.0).unwrap() - 1.0).unwrap(),
        current: many("current", update),
        following: many("following", update),
    };
    let new = |start: &mut InitContext<'_>| Cql::new(&config, start).unwrap();
    check(run, &view, new, draws);
}

#[test]
fn cql_learns_online_as_corls_program() {
    check_cql("cql");
}

#[test]
fn cal_ql_learns_online_as_its_authors_program_by_episodes_in_shares_and_with_their_returns() {
    check_cql("cal_ql");
    check_cql("cal_ql_other");
}

#[test]
fn rebrac_learns_online_as_corls_program_in_shares_and_with_its_penalties() {
    let golden = &Golden::load("online");
    for name in ["rebrac", "rebrac_other"] {
        let run = &Recorded { golden, run: name };
        let config = RebracConfig {
            actor_penalty: run.number("actor_penalty"),
            critic_penalty: run.number("critic_penalty"),
            online_penalty_share: run.number("online_penalty_share"),
            discount: run.number("discount"),
            target_rate: run.number("target_rate"),
            policy_noise: run.number("policy_noise"),
            noise_clip: run.number("noise_clip"),
            policy_delay: run.count("policy_delay") as u64,
            actor_learning_rate: run.number("actor_learning_rate"),
            critic_learning_rate: run.number("critic_learning_rate"),
            hidden: run.sizes("hidden"),
            ..RebracConfig::default()
        };
        let view = TransitionsConfig {
            next_actions: true,
            ..run.view()
        };
        let new = |start: &mut InitContext<'_>| Rebrac::new(&config, start).unwrap();
        check(run, &view, new, |update| run.noise("next_actions", update));
    }
}
