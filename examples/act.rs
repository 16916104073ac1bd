//! Loads a trained run and acts with it: no data, no configuration file, no environment needed.
//!
//! ```sh
//! cargo run --release --example act -- runs/td3_bc-hopper-medium
//! ```

use candle_core::{Device, Tensor};
use trajformer::policy::EpisodeStart;
use trajformer::rng::Streams;
use trajformer::run;

fn main() -> trajformer::Result<()> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "runs/demo/bc".to_owned());
    let trained = run::open(path.as_ref(), &[])?;
    let mut policy = trained.algorithm.policy()?;

    // Two episodes side by side; each has its own random stream.
    let streams = Streams::from_seed(0);
    let start = |row| EpisodeStart {
        rng: streams.numbered("policy", row),
        target_return: None,
        goal: None,
        instruction: None,
    };
    policy.begin(&[start(0), start(1)])?;
    for step in 0..3 {
        // Your robot's observations, (episodes, observation dimensions).
        let observations = Tensor::zeros(
            (2, trained.spec.observation_dim),
            candle_core::DType::F32,
            &Device::Cpu,
        )?;
        let actions = policy.act(&observations, &[true, true])?;
        println!("step {step}: {:?}", actions.to_vec2::<f32>()?);
        policy.observe(&[0.0, 0.0])?;
    }
    Ok(())
}
