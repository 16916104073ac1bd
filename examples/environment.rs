//! A simulator of one's own: implements `Environment`, collects data in it, learns from the data,
//! and scores the result.
//!
//! ```sh
//! cargo run --release --example environment
//! ```

use trajformer::config::RunConfig;
use trajformer::data::ActionKind;
use trajformer::envs::{EnvSpec, Environment, Step, VectorEnv};
use trajformer::evaluate::Evaluator;
use trajformer::policy::simple::RandomPolicy;
use trajformer::rng::Rng;
use trajformer::{Result, data, run};

/// A cart on a line that is to stand at 0: observation (place, speed), action (force).
struct Cart {
    spec: EnvSpec,
    place: f32,
    speed: f32,
    steps: usize,
}

impl Cart {
    fn new() -> Self {
        let spec = EnvSpec {
            name: "cart".to_owned(),
            observation_dim: 2,
            action_dim: 1,
            action_kind: ActionKind::Continuous,
            action_low: vec![-1.0],
            action_high: vec![1.0],
            max_episode_steps: 50,
        };
        Self {
            spec,
            place: 0.0,
            speed: 0.0,
            steps: 0,
        }
    }
}

impl Environment for Cart {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, seed: u64) -> Result<Vec<f32>> {
        self.place = (2.0 * Rng::from_seed(seed).uniform() - 1.0) as f32;
        (self.speed, self.steps) = (0.0, 0);
        Ok(vec![self.place, self.speed])
    }

    fn step(&mut self, action: &[f32]) -> Result<Step> {
        self.speed += 0.1 * action[0].clamp(-1.0, 1.0);
        self.place += 0.1 * self.speed;
        self.steps += 1;
        Ok(Step {
            observation: vec![self.place, self.speed],
            reward: -self.place.abs(),
            terminated: false,
            truncated: self.steps == self.spec.max_episode_steps,
        })
    }
}

fn main() -> Result<()> {
    let mut env = Cart::new();
    let mut random = RandomPolicy::new(env.spec());
    let dataset = data::collect::collect(&mut env, &mut random, 5_000, 0)?;
    print!("{}", data::info(&dataset));

    let out = std::env::temp_dir().join(format!("trajformer-cart-{}", std::process::id()));
    let config = RunConfig::parse(
        "[train]\nupdates = 2000\n[algorithm.td3_bc]\nbatch_size = 64\nhidden = [32, 32]\n",
    )?;
    run::start_on(&config, &dataset, &out)?;

    let trained = run::open(&out, &[])?;
    let make = || Ok(Box::new(Cart::new()) as Box<dyn Environment>);
    let mut evaluator = Evaluator::of(VectorEnv::from_factory(Box::new(make), 10)?, 0);
    println!(
        "TD3+BC: {}",
        evaluator.run(&mut *trained.algorithm.policy()?)?.summary()
    );
    println!("random: {}", evaluator.run(&mut random)?.summary());
    println!("the run is in {}", out.display());
    Ok(())
}
