//! Trains on data in memory, scores the policy, acts with it, and keeps it as a run directory.
//!
//! ```sh
//! cargo run --release --example train_in_memory
//! ```

use trajformer::policy::simple::RandomPolicy;
use trajformer::{Result, RunConfig, data, envs, fit, run};

fn main() -> Result<()> {
    let mut env = envs::make("pendulum-v1")?;
    let mut random = RandomPolicy::new(env.spec());
    let dataset = data::collect::collect(&mut *env, &mut random, 2_000, 0)?;

    let config = RunConfig::parse(
        "[train]\nupdates = 200\n[evaluate]\nenv = 'pendulum-v1'\nepisodes = 5\n\
         [algorithm.td3_bc]\nbatch_size = 64\nhidden = [32, 32]\n",
    )?;
    let mut trained = fit(&dataset, &config)?;
    let found = trained.evaluate()?;
    println!("TD3+BC: {}", found.summary());
    println!("upright: {:?}", trained.act(&[1.0, 0.0, 0.0])?);

    let out = std::env::temp_dir().join(format!("trajformer-memory-{}", std::process::id()));
    trained.save(&out)?;
    let mut opened = run::open(&out, &[])?;
    assert_eq!(opened.evaluate()?, found, "the stored run acts the same");
    println!("the run is in {}", out.display());
    Ok(())
}
