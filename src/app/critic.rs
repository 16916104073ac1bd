//! [`give`]: hands a planner the critic of another run, which `planner.critic` names.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use trajformer_models::params::{Slot, StateVisitor};

use crate::app::checkpoint::fingerprint::DataFingerprint;
use crate::app::checkpoint::named::named;
use crate::app::checkpoint::{RunDir, RunState};
use crate::app::config::RunConfig;
use crate::app::prepare::{ActionRange, PreparedFor, Recipe, prepare};
use trajformer_algorithms::iql::IqlConfig;
use trajformer_algorithms::planning::{Critic, CriticSpec, PlanValue};
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_core::algorithm::Algorithm;
use trajformer_core::error::{Error, Result};
use trajformer_data::transitions_config::RewardTransform;

/// Gives `algorithm` the critic that its configuration names; nothing happens where none is named. Warns where the critic learned from other
/// data than `data`, that of the planner's run.
///
/// # Errors
/// If the run that is named can't be opened, is not one of IQL, has other observations or actions, or its rewards can't be told.
pub fn give(
    algorithm: &mut dyn Algorithm,
    config: &RunConfig,
    data: Option<&DataFingerprint>,
) -> Result<()> {
    let Some(run) = named_by(config) else {
        return Ok(());
    };
    algorithm.set_critic(&open(run)?.to_bytes()?)?;
    let its = RunDir::open(&named(run)?)?.spec()?.data;
    if let Some(warning) = data.and_then(|own| of_other_data(run, its.as_ref()?, own)) {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// Fails if a critic is named that nothing asks.
///
/// # Errors
/// [`Error::Settings`]: what to set.
pub fn check_asked(config: &RunConfig) -> Result<()> {
    let AlgorithmConfig::TrajectoryTransformer(own) = &config.algorithm else {
        return Ok(());
    };
    match (&own.planner.critic, own.planner.value) {
        (Some(run), PlanValue::Model) => Err(Error::settings(format!(
            "`algorithm.trajectory_transformer.planner.critic` names {}, but nothing asks it: set \
             `algorithm.trajectory_transformer.planner.value = \"critic\"` too, or leave it out",
            run.display()
        ))),
        _ => Ok(()),
    }
}

/// What to say of a critic whose data is not that of the planner's run.
fn of_other_data(run: &Path, its: &DataFingerprint, own: &DataFingerprint) -> Option<String> {
    let said = |data: &DataFingerprint| {
        format!(
            "{} steps in {} episodes with the checksum {}",
            data.steps, data.episodes, data.checksum
        )
    };
    (its != own).then(|| {
        format!(
            "`planner.critic`: the run {} learned from other data ({}) than the planner's network ({}): its values are of the actions and \
             rewards of that data; name a run of `algorithm.iql` on the same data",
            run.display(),
            said(its),
            said(own)
        )
    })
}

/// The run that the configuration names as a critic.
pub fn named_by(config: &RunConfig) -> Option<&Path> {
    match &config.algorithm {
        AlgorithmConfig::TrajectoryTransformer(config) => config.planner.critic.as_deref(),
        _ => None,
    }
}

/// The critic of a trained run, or of a checkpoint that it keeps.
///
/// # Errors
/// As [`give`].
pub fn open(path: &Path) -> Result<Critic> {
    let unfit = |problem: String| Error::Run {
        path: path.to_path_buf(),
        problem: format!("`planner.critic` names it: {problem}"),
    };
    let run = RunDir::open(&named(path)?)?;
    let (config, spec) = (run.config()?, run.spec()?);
    spec.check_trained(&config, path)?;
    let AlgorithmConfig::Iql(iql) = &config.algorithm else {
        return Err(unfit(format!(
            "a run of {}, but the planner takes the Q-functions of IQL: name a run of `algorithm.iql` on the same data",
            config.algorithm.name()
        )));
    };
    if spec.action_kind().choices().is_some() {
        return Err(unfit(
            "its actions are choices, and the planner takes critics of real numbers: leave `planner.value` out".to_owned(),
        ));
    }
    if config.encoder.is_some() {
        return Err(unfit(
            "its networks have an encoder of another program, which can't be copied".to_owned(),
        ));
    }
    let (reward_scale, reward_shift) = reward_units(iql).ok_or_else(|| {
        unfit(
            "its rewards were divided by the range of the data's returns, which it does not keep: train one with \
             `algorithm.iql.data.rewards = \"none\"`, or `{ scale = ... }`"
                .to_owned(),
        )
    })?;
    let purpose = PreparedFor::Acting {
        observation_dim: spec.observation_dim,
        action_dim: spec.action_dim,
    };
    let recipe = Recipe {
        config: &config,
        rule: None,
        encoder: None,
    };
    let mut algorithm = prepare(
        recipe,
        &ActionRange::of(&spec),
        &Device::Cpu,
        None,
        &purpose,
    )?;
    let state: RunState = run.restore_policy(&mut *algorithm)?;
    let mut collected = Collected::default();
    algorithm.state(&mut collected)?;
    let critic = CriticSpec {
        observation_dim: spec.observation_dim,
        action_dim: spec.action_dim,
        hidden: iql.hidden.clone(),
        discount: iql.discount,
        reward_scale,
        reward_shift,
        run: path.display().to_string(),
        updates: state.update,
    };
    Critic::new(critic, collected.0)
}

/// Factor and shift of the rewards that it learned from; `None` if the data decided them.
fn reward_units(config: &IqlConfig) -> Option<(f64, f64)> {
    match config.data.rewards {
        RewardTransform::None => Some((1.0, 0.0)),
        RewardTransform::Shift(shift) => Some((1.0, f64::from(shift))),
        RewardTransform::Scale(scale) => Some((f64::from(scale), 0.0)),
        RewardTransform::Affine { scale, shift } => Some((f64::from(scale), f64::from(shift))),
        RewardTransform::ReturnRange => None,
    }
}

/// What a critic needs of a run's state.
#[derive(Default)]
struct Collected(BTreeMap<String, Tensor>);

impl StateVisitor for Collected {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        let critics = name
            .strip_prefix("model.")
            .filter(|name| name.starts_with("critics."));
        let around = name.strip_prefix("policy.");
        if let Some(name) = critics.or(around) {
            let tensor = slot
                .tensor()?
                .to_device(&Device::Cpu)?
                .to_dtype(DType::F32)?;
            self.0.insert(name.to_owned(), tensor.copy()?);
        }
        Ok(())
    }
}
