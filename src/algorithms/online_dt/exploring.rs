//! How it learns online: it collects whole episodes by draws from its distribution, aiming higher than it has ever come, and learns from each
//! with the return that it did reach.

use candle_core::{DType, Device, Tensor};
use trajformer_models::decision_transformer::Contexts;
use trajformer_models::uploads::CachedUploads;

use super::{OnlineDt, drawn};
use trajformer_core::algorithm::{Interactive, OnlinePhase, Step};
use trajformer_core::error::{Error, Result};
use trajformer_data::return_sequences::episode_replay::EpisodeReplay;
use trajformer_models::rng::Rng;

/// Said where something is asked of it that only comes after [`Interactive::prepare`].
fn not_prepared() -> Error {
    Error::Internal("online learning was not prepared".to_owned())
}

impl OnlineDt {
    /// What it aims at while it explores, in the environment's units.
    fn online_target(&self) -> f64 {
        let config = self.learner.config();
        let first = config.target_returns.first().map(|&first| f64::from(first));
        let target = first.unwrap_or(self.best_return);
        config.online_target_return.unwrap_or(target + target.abs())
    }

    /// The last steps of the running episode, and this normalised observation (1, O) after them.
    fn context(&self, replay: &EpisodeReplay, observation: &[f32]) -> Result<Contexts> {
        let (config, device) = (self.learner.config(), self.device());
        let (running, o, a) = (replay.running(), observation.len(), self.bounds.dim());
        let now = running.rewards.len();
        let first = (now + 1).saturating_sub(config.acting_context_steps);
        let steps = now + 1 - first;
        // As a policy does it: reward after reward, in single precision.
        let scale = config.return_scale as f32;
        let mut left = self.online_target() as f32 / scale;
        let mut returns = vec![left];
        returns.extend(running.rewards.iter().map(|reward| {
            left -= reward / scale;
            left
        }));
        let mut observations = running.observations[first * o..].to_vec();
        observations.extend_from_slice(observation);
        let mut actions = running.actions[first * a..].to_vec();
        actions.resize(steps * a, 0.0);
        let last_row = config.max_episode_steps - 1;
        let timesteps = (first..=now).map(|step| step.min(last_row) as u32);
        let tensor =
            |values: Vec<f32>, width: usize| Tensor::from_vec(values, (1, steps, width), device);
        Ok(Contexts {
            returns: tensor(returns.split_off(first), 1)?,
            observations: tensor(observations, o)?,
            actions: tensor(actions, a)?,
            timesteps: Tensor::from_iter(timesteps, device)?.reshape((1, steps))?,
            mask: Tensor::ones((1, steps), DType::F32, device)?,
            instructions: None,
        })
    }
}

impl Interactive for OnlineDt {
    fn check(&self, phase: &OnlinePhase) -> Result<()> {
        if phase.data_share.is_method() {
            return Ok(());
        }
        Err(Error::config(
            "online.data_share",
            "set",
            "left out: the Online Decision Transformer draws from one buffer, in which its episodes take the places of the data's",
        ))
    }

    fn prepare(&mut self, phase: &OnlinePhase) -> Result<()> {
        self.check(phase)?;
        if self.replay.is_none() {
            let capacity = self.learner.config().replay_episodes;
            self.replay = Some(EpisodeReplay::new(&mut self.sequences, capacity)?);
        }
        Ok(())
    }

    fn collects_episodes(&self) -> bool {
        true
    }

    fn earned_updates(&self) -> u64 {
        let episodes = self.replay.as_ref().map_or(0, EpisodeReplay::episodes);
        episodes.saturating_mul(self.learner.config().updates_per_episode)
    }

    fn explore(
        &mut self,
        observation: &[f32],
        _noise: Option<f64>,
        rng: &mut Rng,
    ) -> Result<Vec<f32>> {
        let device = self.device().clone();
        let raw = Tensor::from_slice(observation, (1, observation.len()), &device)?;
        let seen = self.normalizer.apply(&raw)?.flatten_all()?.to_vec1()?;
        let replay = self.replay.as_ref().ok_or_else(not_prepared)?;
        let contexts = self.context(replay, &seen)?;
        // One after the other, as the policy that draws does.
        let normals = rng.normal_tensor((1, self.bounds.dim()), DType::F64, &Device::Cpu)?;
        let normals = normals.to_dtype(DType::F32)?.to_device(&device)?;
        let _cached = CachedUploads::hold(&device);
        let action = drawn(self.learner.network(), &contexts, &normals)?; // (1, A)
        let raw = self.bounds.from_unit(&action)?;
        self.pending = Some((seen, action.flatten_all()?.to_vec1()?));
        Ok(raw.flatten_all()?.to_vec1()?)
    }

    fn learn(&mut self, step: &Step<'_>, last: bool) -> Result<()> {
        let Some((observation, action)) = self.pending.take() else {
            return Err(Error::Unsuitable(
                "a step without an action before it".to_owned(),
            ));
        };
        let replay = self.replay.as_mut().ok_or_else(not_prepared)?;
        let step = (&observation[..], &action[..], step.reward);
        replay.push(&mut self.sequences, step, last)
    }

    fn running(&self) -> Result<(u64, Vec<Vec<f32>>)> {
        let Some(replay) = &self.replay else {
            return Ok((0, Vec::new()));
        };
        let (running, dim) = (replay.running(), self.bounds.dim());
        let steps = running.rewards.len();
        if steps == 0 {
            return Ok((replay.episodes(), Vec::new()));
        }
        let actions = Tensor::from_slice(&running.actions, (steps, dim), self.device())?;
        let actions = self.bounds.from_unit(&actions)?.to_vec2::<f32>()?;
        Ok((replay.episodes(), actions))
    }
}
