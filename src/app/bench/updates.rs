//! Updates, environment steps and matrix products per second.

use std::fmt;
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde::Serialize;
use trajformer_models::kernels::parallel;

use crate::app::config::algorithm_config_of;
use crate::envs::{GymOptions, VectorEnv};
use trajformer_algorithms::registry::{ALGORITHMS, AlgorithmConfig};
use trajformer_core::algorithm::{Algorithm, Build, Work};
use trajformer_core::dataset::{ActionKind, Dataset, Episode};
use trajformer_core::device::open_device;
use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::ActionBounds;
use trajformer_core::planning::PlanningSummary;
use trajformer_core::source::Source;
use trajformer_models::rng::{Rng, Streams};

/// Steps of the made-up data; the peers hold as many.
const STEPS: usize = 100_000;
/// Steps of each of its episodes.
const EPISODE_STEPS: usize = 1000;
/// Products (rows, inner, columns) that the peak is the best of; the peers try the same.
const PRODUCTS: [(usize, usize, usize); 4] = [
    (256, 256, 256),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (7968, 128, 512),
];
/// How long each of them is tried, at most.
const PRODUCT_SECONDS: f64 = 0.3;

/// What was measured; what does not apply is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Algorithm, or what else was timed.
    pub algorithm: String,
    /// Where it ran: `cpu`, `cuda`, `cuda:N` or `metal`.
    pub device: String,
    /// Mean time of an update.
    pub ms_per_update: Option<f64>,
    /// Updates per second.
    pub updates_per_s: Option<f64>,
    /// Median time of a plan.
    pub seconds_per_plan: Option<f64>,
    /// What plans within a budget were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planning: Option<PlanningSummary>,
    /// Tokens that updates read, or plans sampled, per second.
    pub tokens_per_s: Option<f64>,
    /// Environment steps per second, all copies together.
    pub steps_per_s: Option<f64>,
    /// Best rate of a matrix product (f32) on the device in this run, in 1e9 floating-point operations per second.
    pub matmul_peak_gflops: f64,
    /// Share of that rate that the products of an update reach, from their operations on paper.
    pub peak_share: Option<f64>,
    /// Most memory that the process has held, without the products of the peak, where the system
    /// says it (Linux).
    pub peak_memory_bytes: Option<u64>,
}

impl Report {
    /// A report on `algorithm` with what every run says: memory so far, then the device's peak,
    /// which is sought no longer than `seconds` per product.
    pub(super) fn new(algorithm: &str, device: &str, seconds: f64) -> Result<Self> {
        Ok(Self {
            algorithm: algorithm.to_owned(),
            device: device.to_owned(),
            peak_memory_bytes: peak_memory(),
            matmul_peak_gflops: matmul_peak(&open_device(device)?, seconds.min(PRODUCT_SECONDS))?,
            ..Self::default()
        })
    }

    pub(super) fn with_updates(mut self, seconds: f64, flops: Option<f64>, tokens: usize) -> Self {
        self.ms_per_update = Some(seconds * 1e3);
        self.updates_per_s = Some(1.0 / seconds);
        self.tokens_per_s = (tokens > 0).then(|| tokens as f64 / seconds);
        self.peak_share = flops.map(|flops| flops / seconds / (self.matmul_peak_gflops * 1e9));
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}:", self.algorithm, self.device)?;
        if let (Some(ms), Some(rate)) = (self.ms_per_update, self.updates_per_s) {
            write!(f, " {ms:.2} ms per update ({rate:.1} updates/s),")?;
        }
        if let Some(seconds) = self.seconds_per_plan {
            write!(f, " {seconds:.3} s per plan,")?;
        }
        if let Some(planning) = &self.planning {
            write!(f, " {},\n ", planning.lines())?;
        }
        if let Some(rate) = self.tokens_per_s {
            write!(f, " {rate:.0} tokens/s,")?;
        }
        if let Some(rate) = self.steps_per_s {
            write!(f, " {rate:.0} environment steps/s,")?;
        }
        if let Some(share) = self.peak_share {
            write!(f, " {:.0} % of the", share * 100.0)?;
        }
        write!(f, " matmul peak {:.1} GFLOP/s", self.matmul_peak_gflops)?;
        if let Some(bytes) = self.peak_memory_bytes {
            write!(f, ", at most {:.0} MB of memory", bytes as f64 / 1e6)?;
        }
        Ok(())
    }
}

/// What [`update`] times.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateOptions {
    /// Registered name.
    pub algorithm: String,
    /// Size of the batch, instead of the algorithm's default.
    pub batch: Option<usize>,
    /// Numbers in an observation (O).
    pub observations: usize,
    /// Numbers in an action (A).
    pub actions: usize,
    /// Changes to the algorithm's defaults, `KEY=VALUE`, e.g. `dropout=0`.
    pub overrides: Vec<String>,
    /// `cpu`, `cuda`, `cuda:N` or `metal`.
    pub device: String,
    /// The clock runs at least this long.
    pub seconds: f64,
}

/// An algorithm on made-up data, ready to be timed.
pub struct Updates {
    algorithm: Box<dyn Algorithm>,
    rng: Rng,
    device: Device,
}

impl Updates {
    /// A registered algorithm with its default configuration, changed as `options` say.
    ///
    /// # Errors
    /// If there is no such algorithm or device, a size is 0, or an override does not fit.
    pub fn new(options: &UpdateOptions) -> Result<Self> {
        let config = algorithm_config(options)?;
        let streams = Streams::from_seed(0);
        let device = open_device(&options.device)?;
        let data = made_up_data(options.observations, options.actions)?;
        let algorithm = config.build(Build {
            source: Source::Train(&data),
            bounds: &ActionBounds::unit(options.actions, &device)?,
            fast: None,
            encoder: None,
            training_updates: u64::MAX,
            device: &device,
            rng: &mut streams.stream("init"),
        })?;
        let rng = streams.stream("train");
        Ok(Self {
            algorithm,
            rng,
            device,
        })
    }

    /// One update, its batch drawn.
    ///
    /// # Errors
    /// If it fails.
    pub fn step(&mut self) -> Result<()> {
        self.algorithm.update(&mut self.rng).map(drop)
    }

    /// What one update costs on paper.
    pub fn work(&self) -> Option<Work> {
        self.algorithm.work()
    }
}

/// Times updates of a registered algorithm, batches drawn included.
///
/// # Errors
/// As [`Updates::new`] and [`Updates::step`].
pub fn update(options: &UpdateOptions) -> Result<Report> {
    let mut updates = Updates::new(options)?;
    let device = updates.device.clone();
    let seconds = seconds_per_call(options.seconds, &device, || updates.step())?;
    let work = updates.work();
    let (flops, tokens) = (work.map(|w| w.product_flops), work.map_or(0, |w| w.tokens));
    let report = Report::new(&options.algorithm, &options.device, options.seconds)?;
    Ok(report.with_updates(seconds, flops, tokens))
}

fn algorithm_config(options: &UpdateOptions) -> Result<AlgorithmConfig> {
    let batch = options.batch.map(|batch| format!("batch_size={batch}"));
    let overrides: Vec<&String> = batch.iter().chain(&options.overrides).collect();
    config_of(&options.algorithm, &overrides)
}

/// A registered algorithm's defaults, changed by `KEY=VALUE` of its table.
pub(super) fn config_of(name: &str, overrides: &[&String]) -> Result<AlgorithmConfig> {
    if !ALGORITHMS.iter().any(|known| known.name == name) {
        let known: Vec<&str> = ALGORITHMS.iter().map(|known| known.name).collect();
        let known = known.join(", ");
        return Err(Error::Unknown {
            name: name.to_owned(),
            problem: format!("unknown algorithm `{name}`, expected one of {known}"),
        });
    }
    let config = algorithm_config_of(name, overrides)?;
    config.check()?;
    Ok(config)
}

/// What [`steps`] times.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvOptions {
    /// Registered environment.
    pub env: String,
    /// How it is run, if it is one of Gymnasium.
    pub gym: GymOptions,
    /// Copies that are stepped side by side.
    pub copies: usize,
    /// The clock runs at least this long.
    pub seconds: f64,
}

/// Times random steps of an environment, resets included.
///
/// # Errors
/// If the environment is unknown or fails.
pub fn steps(options: &EnvOptions) -> Result<Report> {
    let mut envs = VectorEnv::make_with(&options.env, options.copies, &options.gym)?;
    let copies = envs.len();
    let spec = envs.spec().clone();
    envs.reset(&(0..copies as u64).collect::<Vec<_>>())?;
    let mut rng = Streams::from_seed(0).stream("bench");
    let active = vec![true; copies];
    let mut seed = copies as u64;
    let seconds = seconds_per_call(options.seconds, &Device::Cpu, || {
        let actions = (0..copies * spec.action_dim).map(|i| {
            if let Some(count) = spec.action_kind.choices() {
                return rng.below(count) as f32;
            }
            let (low, high) = (
                spec.action_low[i % spec.action_dim],
                spec.action_high[i % spec.action_dim],
            );
            low + (high - low) * rng.uniform() as f32
        });
        let actions: Vec<f32> = actions.collect();
        let actions = Tensor::from_vec(actions, (copies, spec.action_dim), &Device::Cpu)?;
        let step = envs.step(&actions, &active)?;
        for row in 0..copies {
            if step.terminated[row] || step.truncated[row] {
                seed += 1;
                envs.reset_row(row, seed)?;
            }
        }
        Ok(())
    })?;
    let mut report = Report::new(&spec.name, "cpu", options.seconds)?;
    report.steps_per_s = Some(copies as f64 / seconds);
    Ok(report)
}

/// Calls `work` until the clock has run for `seconds`, after a warm-up; the mean time of a call. An
/// even number of calls, so that what happens at every second one has its share. The device has done
/// what it was told when the clock starts, and when it is read.
pub(super) fn seconds_per_call(
    seconds: f64,
    device: &Device,
    mut work: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let _workers = parallel::spin_workers();
    let mut pairs = |seconds: f64| {
        device.synchronize()?;
        let (mut calls, start) = (0_u32, Instant::now());
        while calls == 0 || start.elapsed().as_secs_f64() < seconds {
            work()?;
            work()?;
            calls += 2;
        }
        device.synchronize()?;
        Result::Ok(start.elapsed().as_secs_f64() / f64::from(calls))
    };
    pairs(seconds.min(0.2))?;
    pairs(seconds)
}

/// Episodes of [`EPISODE_STEPS`] with normal observations and rewards and uniform actions in ±1;
/// every second one terminates, the others are truncated.
pub(super) fn made_up_data(observation_dim: usize, action_dim: usize) -> Result<Dataset> {
    if observation_dim == 0 || action_dim == 0 {
        return Err(Error::settings(format!(
            "{observation_dim} observations and {action_dim} actions, expected at least 1 of each"
        )));
    }
    let mut rng = Streams::from_seed(0).stream("data");
    let normals = |count: usize, rng: &mut Rng| -> Vec<f32> {
        (0..count).map(|_| rng.normal() as f32).collect()
    };
    Ok(Dataset {
        observation_dim,
        action_dim,
        action_kind: ActionKind::Continuous,
        observations: normals(STEPS * observation_dim, &mut rng),
        actions: (0..STEPS * action_dim)
            .map(|_| (2.0 * rng.uniform() - 1.0) as f32)
            .collect(),
        rewards: normals(STEPS, &mut rng),
        episodes: (0..STEPS / EPISODE_STEPS)
            .map(|i| Episode {
                terminated: i % 2 == 0,
                truncated: i % 2 == 1,
                ..Episode::new(i * EPISODE_STEPS, EPISODE_STEPS)
            })
            .collect(),
        ..Dataset::blank(observation_dim, action_dim)
    })
}

/// The best rate over [`PRODUCTS`], in 1e9 floating-point operations per second.
fn matmul_peak(device: &Device, seconds: f64) -> Result<f64> {
    let mut rng = Streams::from_seed(0).stream("products");
    let mut best = 0.0_f64;
    // Enough of them to hide what a launch and a wait take.
    let products = if device.is_cpu() { 1 } else { 100 };
    for (m, k, n) in PRODUCTS {
        let left = rng.normal_tensor((m, k), candle_core::DType::F32, device)?;
        let right = rng.normal_tensor((k, n), candle_core::DType::F32, device)?;
        device.synchronize()?;
        let start = Instant::now();
        loop {
            let call = Instant::now();
            for _ in 0..products {
                left.matmul(&right)?;
            }
            device.synchronize()?;
            let flops = 2e-9 * (products * m * k * n) as f64;
            best = best.max(flops / call.elapsed().as_secs_f64());
            if start.elapsed().as_secs_f64() >= seconds {
                break;
            }
        }
    }
    Ok(best)
}

/// The most memory that this process has held, in bytes, where the system keeps count.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(algorithm: &str) -> UpdateOptions {
        UpdateOptions {
            algorithm: algorithm.to_owned(),
            batch: Some(4),
            observations: 3,
            actions: 2,
            overrides: Vec::new(),
            device: "cpu".to_owned(),
            seconds: 0.0,
        }
    }

    #[test]
    fn every_registered_algorithm_can_be_timed_by_name() {
        for registered in ALGORITHMS {
            let config = algorithm_config(&options(registered.name)).expect(registered.name);
            assert_eq!(config.name(), registered.name);
        }
    }

    #[test]
    fn the_batch_and_other_keys_change_the_configuration() {
        let mut options = options("td3_bc");
        options.overrides = vec!["hidden=[8, 8]".to_owned()];
        let AlgorithmConfig::Td3Bc(config) = algorithm_config(&options).expect("config") else {
            panic!("another algorithm");
        };
        assert_eq!((config.batch_size, config.hidden), (4, vec![8, 8]));
    }

    #[test]
    fn what_an_update_costs_equals_a_count_by_hand() {
        // Multiplications of a transition. Actor 3 -> 4 -> 2: 12 and 8 forwards; back 12 and 8 for weights, 8 to the hidden
        // layer. Critics 5 -> 4 -> 1: 20 and 4 forwards; back 20 and 4 for weights, 4 to the hidden layer, 20 to the inputs.
        let (actor, actor_back) = (12 + 8, 12 + 8 + 8);
        let (critic, critic_back, to_actions) = (20 + 4, 20 + 4 + 4, 4 + 20);
        let td3 = actor + 2 * critic + 2 * (critic + critic_back);
        // In every second update.
        let td3 = td3 + (actor + actor_back + critic + to_actions) / 2;
        // Twice as many outputs; three critics: values of s', of the actor's actions, of the data's.
        let (actor, actor_back) = (12 + 16, 12 + 16 + 16);
        let sac_n = actor + (actor + actor_back) + 3 * (3 * critic + to_actions + critic_back);
        // A block of width 2 has 12 * 4 weights. Six tokens, 21 pairs of them: a score and a sum of 2 numbers each.
        let block = 6 * 48 + 21 * 2 * 2;
        // Nine bins and the end.
        let heads = 6 * 2 * 10;
        let sizes = ["layers=1", "heads=1"];
        let context = ["context_steps=2", "embedding=2"];
        let window = ["window_transitions=1", "embedding_per_head=2", "bins=9"];
        for (algorithm, overrides, multiplications, tokens) in [
            ("td3", vec!["hidden=[4]"], td3, 0),
            ("sac_n", vec!["hidden=[4]", "members=3"], sac_n, 0),
            (
                "decision_transformer",
                [&sizes[..], &context].concat(),
                3 * block,
                6,
            ),
            ("lamo", [&sizes[..], &context].concat(), 3 * block, 6),
            (
                "trajectory_transformer",
                [&sizes[..], &window].concat(),
                3 * (block + heads),
                6,
            ),
        ] {
            let mut options = options(algorithm);
            options.overrides = overrides.into_iter().map(str::to_owned).collect();
            let work = Updates::new(&options).expect(algorithm).work();
            let expected = Work {
                product_flops: f64::from(4 * 2 * multiplications),
                tokens: 4 * tokens,
            };
            assert_eq!(work, Some(expected), "{algorithm}");
        }
    }

    #[test]
    fn updates_of_both_parts_of_tap_cost_their_own_products() {
        let mut options = options("tap");
        let overrides = [
            "layers=1",
            "heads=1",
            "embedding_per_head=2",
            "codes=8",
            "code_width=4",
            "window_transitions=6",
            "planner.horizon=6",
            "autoencoder_updates=1",
        ];
        options.overrides = overrides.map(str::to_owned).to_vec();
        let mut updates = Updates::new(&options).expect("TAP");
        // A block of width 2 has 12 * 4 weights; a pair of tokens is a score and a sum of 2 numbers each. Encoder and decoder see six
        // transitions, the prior two codes, of which it knows eight.
        let half = 6 * 48 + 21 * 2 * 2;
        let prior = 2 * 48 + 3 * 2 * 2 + 2 * 2 * 8;
        let expected = |multiplications: u32, tokens: usize| Work {
            product_flops: f64::from(4 * 2 * multiplications),
            tokens: 4 * tokens,
        };
        assert_eq!(updates.work(), Some(expected(3 * 2 * half, 6)));
        updates.step().expect("an update of the autoencoder");
        assert_eq!(updates.work(), Some(expected(half + 3 * prior, 2)));
    }

    #[test]
    fn unknown_names_and_keys_are_errors_that_name_them() {
        let error = update(&options("td4")).expect_err("unknown").to_string();
        assert!(
            error.contains("`td4`") && error.contains("td3_bc"),
            "{error}"
        );
        let mut wrong = options("td3_bc");
        wrong.overrides = vec!["widths=3".to_owned()];
        let error = update(&wrong).expect_err("unknown").to_string();
        assert!(error.contains("widths"), "{error}");
        let mut wrong = options("bc");
        wrong.actions = 0;
        assert!(update(&wrong).is_err());
        let mut wrong = options("bc");
        wrong.device = "gpu".to_owned();
        let error = update(&wrong).expect_err("no device").to_string();
        assert!(error.contains("`gpu`"), "{error}");
    }

    #[test]
    fn an_update_report_has_consistent_figures() {
        let report = Report {
            matmul_peak_gflops: 100.0,
            ..Report::default()
        };
        let report = report.with_updates(0.01, Some(5e8), 200);
        assert_eq!(report.ms_per_update, Some(10.0));
        assert_eq!(report.updates_per_s, Some(100.0));
        assert_eq!(report.tokens_per_s, Some(20_000.0));
        assert!((report.peak_share.expect("a share") - 0.5).abs() < 1e-12);
    }
}
