//! [`prepare`]: the algorithm of a run with everything that it needs beside its checkpoint, in one way for starting,
//! resuming and opening, and for models of other libraries.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;

use crate::app::checkpoint::RunSpec;
use crate::app::config::RunConfig;
use crate::app::datasets;
use crate::app::evaluate::Evaluator;
use crate::app::memory::{self, Memory};
use crate::app::online::{Interaction, interactive};
use crate::app::pretrained::gpt2;
use crate::app::system_clock::SystemClock;
use crate::app::{hub, text};
use crate::envs;
use crate::formats::{fast_folder, files};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::dataset_checks::OUTSIDE_UNIT;
use trajformer_core::error::{Error, Result};
use trajformer_core::fast_files::FastFiles;
use trajformer_core::instructions::Instructions;
use trajformer_core::interrupt::Interrupt;
use trajformer_core::normalizer::ActionBounds;
use trajformer_core::source::Source;
use trajformer_models::encoder::EncoderFactory;
use trajformer_models::rng::Streams;

/// Reads the data of a configuration.
///
/// # Errors
/// If there is no path, or a file can't be read.
pub fn load_data(config: &RunConfig) -> Result<Dataset> {
    if config.data.path.is_empty() {
        return Err(Error::NotSet {
            key: "data.path".to_owned(),
            problem: "no data: give a file, a folder or a data set".to_owned(),
        });
    }
    let paths = datasets::resolved(&config.data.path)?;
    let dataset = files::load_with(&paths, &config.data.load_options())?;
    let known_range = |warning: &&String| !warning.contains(OUTSIDE_UNIT);
    for warning in dataset.warnings.iter().filter(known_range) {
        tracing::warn!("{warning}");
    }
    if let Some(share) = config.data.sample_ratio {
        let mut draws = Streams::from_seed(config.seed).stream("data");
        return dataset.sample_episodes(share, &mut draws);
    }
    Ok(dataset)
}

/// What [`prepare`] makes an algorithm for: training on a data set, or acting with what was trained.
pub enum PreparedFor<'a> {
    /// The algorithm will be trained on a data set, from its initial values or from a checkpoint's.
    Training {
        /// The data set.
        data: &'a Dataset,
        /// What will score policies, if anything does: the instructions that it gives them are encoded too.
        evaluator: Option<&'a Evaluator>,
        /// Whether a checkpoint's state will be loaded over the initial values, which then need no pretrained trunk.
        resumed: bool,
    },
    /// The algorithm will act, or be looked at, but not be trained: a checkpoint's state will be loaded over its initial values.
    Acting {
        /// Numbers in an observation (O).
        observation_dim: usize,
        /// Numbers in an action (A).
        action_dim: usize,
    },
}

/// What actions are.
#[derive(Debug, Clone, Copy)]
pub struct ActionRange<'a> {
    /// Real numbers or choices.
    pub kind: ActionKind,
    /// Lowest action (A); of choices it counts for nothing.
    pub low: &'a [f32],
    /// Highest action (A); of choices it counts for nothing.
    pub high: &'a [f32],
}

impl<'a> ActionRange<'a> {
    /// That of a run.
    pub fn of(spec: &'a RunSpec) -> Self {
        Self {
            kind: spec.action_kind(),
            low: &spec.action_low,
            high: &spec.action_high,
        }
    }
}

/// Makes a learning rule from data or shapes: [`AlgorithmConfig::build`](trajformer_algorithms::AlgorithmConfig::build), or
/// the like of a program that has a rule of its own.
pub type Rule<'a> = &'a (dyn Fn(Build<'_>) -> Result<Box<dyn Algorithm>> + Sync);

/// What decides an algorithm.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// The run's configuration.
    pub config: &'a RunConfig,
    /// In place of the rule that its table `[algorithm]` names.
    pub rule: Option<Rule<'a>>,
    /// In place of the hidden layers of actors, critics and V: the one that the configuration names.
    pub encoder: Option<&'a Arc<dyn EncoderFactory>>,
}

/// Fails unless an encoder is given where the configuration names one, of the same name, and the algorithm takes it.
///
/// # Errors
/// [`Error::Encoder`] that says what to do.
pub fn check_encoder(config: &RunConfig, encoder: Option<&Arc<dyn EncoderFactory>>) -> Result<()> {
    let given = encoder.map(|encoder| encoder.name());
    let (name, problem) = match (&config.encoder, given) {
        (None, None) => return Ok(()),
        (Some(named), Some(given)) if *named == given => {
            return config.algorithm.check_takes_encoder(&given);
        }
        (Some(named), Some(given)) => {
            let problem = format!(
                "the run's networks are made with it, but `{given}` is given: give the run its own encoder"
            );
            (named.clone(), problem)
        }
        (Some(named), None) => {
            let problem = "the run's networks are made with it, and it belongs to another program, which has to train or open \
                           this run (`encoder` of `RunOptions`)";
            (named.clone(), problem.to_owned())
        }
        (None, Some(given)) => {
            let problem =
                "the run's networks were made without it: leave it out, or start a new run";
            (given, problem.to_owned())
        }
    };
    Err(Error::Encoder { name, problem })
}

/// Makes the algorithm of a run, with everything that it needs beside its data and its checkpoint: instructions with their
/// embeddings, a language model's trunk, text, merges of action tokens. Actions have this `range`;
/// `stored` are the instructions that the run keeps.
///
/// # Errors
/// If the algorithm does not suit the data, what it names can't be read, or the encoder is not the configuration's.
pub fn prepare(
    recipe: Recipe<'_>,
    range: &ActionRange<'_>,
    device: &Device,
    stored: Option<Instructions>,
    purpose: &PreparedFor<'_>,
) -> Result<Box<dyn Algorithm>> {
    let config = recipe.config;
    check_encoder(config, recipe.encoder)?;
    let (source, fast) = match *purpose {
        PreparedFor::Training { data, .. } => {
            let dims = (data.observation_dim, data.action_dim);
            let machine = Memory::of_machine().filter(|_| device.is_cpu());
            memory::check(config, dims, range.kind, machine)?;
            (Source::Train(data), fast_files(config)?)
        }
        PreparedFor::Acting {
            observation_dim,
            action_dim,
        } => {
            let source = Source::Act {
                observation_dim,
                action_dim,
            };
            (source, None)
        }
    };
    let build = Build {
        source,
        bounds: &ActionBounds::of_kind(range.kind, range.low, range.high, device)?,
        fast: fast.as_ref(),
        encoder: recipe.encoder,
        training_updates: config.train.updates,
        device,
        rng: &mut Streams::from_seed(config.seed).stream("init"),
    };
    let mut algorithm = match recipe.rule {
        Some(rule) => rule(build)?,
        None => config.algorithm.build(build)?,
    };
    algorithm.set_clock(Arc::new(SystemClock::new()));
    match *purpose {
        PreparedFor::Training {
            data,
            evaluator,
            resumed,
        } => {
            set_instructions(&mut *algorithm, data, evaluator, stored)?;
            if !resumed {
                load_trunk(&mut *algorithm)?;
            }
            load_text(&mut *algorithm)?;
        }
        PreparedFor::Acting { .. } => {
            if let (Some(episodes), Some(stored)) = (algorithm.instructed(), stored) {
                episodes.set(Arc::new(stored), None)?;
            }
        }
    }
    Ok(algorithm)
}

/// The files of the FAST tokenizer that the configuration names.
fn fast_files(config: &RunConfig) -> Result<Option<FastFiles>> {
    let name = config.algorithm.fast_tokenizer();
    name.map(|name| fast_folder::read_files(&hub::local(Path::new(name))?))
        .transpose()
}

/// Gives an algorithm that is about to train the instructions of its data, and those that it will be evaluated by.
/// `stored` are those that the run knows already. Does nothing for algorithms without instructions.
fn set_instructions(
    algorithm: &mut dyn Algorithm,
    data: &Dataset,
    evaluator: Option<&Evaluator>,
    stored: Option<Instructions>,
) -> Result<()> {
    let Some(told) = algorithm.instructed() else {
        return Ok(());
    };
    let complete = || data.episodes.iter().filter(|episode| episode.is_complete());
    let without = complete().filter(|episode| episode.instruction.is_none());
    match (without.count(), complete().count()) {
        (0, _) => {}
        (count, all) => {
            return Err(Error::Unsuitable(format!(
                "{count} of the data's {all} episodes have no instruction (mission), which the table `text` of the \
                 configuration needs: add an array `instructions`, one text per episode, or leave the table out"
            )));
        }
    }
    let config = told.text();
    let mut known = stored.unwrap_or_else(|| Instructions::new(config.embedding_dim()));
    let from_data = data.instructions();
    let evaluated = evaluator.map_or_else(Vec::new, Evaluator::instructions);
    let texts = from_data.iter().chain(&evaluated).map(|text| &**text);
    text::encode(&mut known, texts, config, &Device::Cpu)?;
    told.set(Arc::new(known), Some(data))
}

/// Fills a trunk that starts from a language model's.
fn load_trunk(algorithm: &mut dyn Algorithm) -> Result<()> {
    match algorithm.pretrainable() {
        Some(algorithm) => {
            let gpt2 = gpt2::load(&hub::local(Path::new(algorithm.source()))?)?;
            algorithm.set_trunk(&gpt2)
        }
        None => Ok(()),
    }
}

/// Reads the text that is learned beside the data, if there is any, with the language model's tokenizer.
fn load_text(algorithm: &mut dyn Algorithm) -> Result<()> {
    let Some(algorithm) = algorithm.pretrainable() else {
        return Ok(());
    };
    if let Some(config) = algorithm.text() {
        let folder = hub::local(Path::new(algorithm.source()))?;
        let text = text::corpus::read(config, &folder)?;
        algorithm.set_text(text);
    }
    Ok(())
}

/// Scores of most of the data beyond these are worth a warning.
const PLAUSIBLE_SCORES: (f64, f64) = (-30.0, 150.0);

/// What to say of a new run whose `evaluate.env` does not fit its data, as far as training would not refuse it: the environment is not used
/// yet and has other dimensions or another name, or half of the data's returns are far from its reference returns.
pub(super) fn environment_misfits(
    config: &RunConfig,
    data: &Dataset,
    evaluator: Option<&Evaluator>,
) -> Vec<String> {
    let Some(name) = &config.evaluate.env else {
        return Vec::new();
    };
    let far = far_returns(data, name);
    // One that scores was checked when it was made, and costs a process if it is Gymnasium's.
    if evaluator.is_some() || envs::gym::is_gym(name) {
        return far.into_iter().collect();
    }
    let mut found = Vec::new();
    if let Ok(env) = envs::make(name) {
        let (had, spec) = ((data.observation_dim, data.action_dim), env.spec());
        let fits = spec.check_fits(had, data.action_kind, "the data");
        if fits.is_err() {
            let source = data.source_names();
            // What else differs is no news then.
            return vec![format!(
                "`evaluate.env` is `{name}`, which has {} observations and {}, but {source} has {} and {}: the data comes from \
                 somewhere else, and the policy can't be scored there; leave the key out, or name the right environment",
                spec.observation_dim,
                spec.action_kind.said(spec.action_dim),
                had.0,
                data.action_kind.said(had.1)
            )];
        }
    }
    found.extend(other_version(data.env_name.as_deref(), name));
    found.extend(far);
    found
}

/// What to say where the data's returns are not those of an environment, by its reference returns.
fn far_returns(data: &Dataset, env: &str) -> Option<String> {
    let reference = envs::score::reference_for(env)?;
    let mut returns = data.returns();
    returns.sort_by(f64::total_cmp);
    let median = *returns.get(returns.len() / 2)?;
    let score = envs::score::normalized_score(reference, median);
    let (least, most) = PLAUSIBLE_SCORES;
    (!(least..=most).contains(&score)).then(|| {
        format!(
            "{}: half of its episodes return {median:.1} or less, a score of {score:.0} in `{env}`, where random actions return {:.1} and \
             an expert {:.1}: does the data come from there? `evaluate.env` names where policies are scored",
            data.source_names(),
            reference.random,
            reference.expert
        )
    })
}

pub(super) fn evaluator_for(
    config: &RunConfig,
    dataset: &Dataset,
    interrupt: &Interrupt,
) -> Result<Option<Evaluator>> {
    let evaluator =
        Evaluator::new(&config.evaluation())?.map(|found| found.with_interrupt(interrupt));
    if let Some(evaluator) = &evaluator {
        let dims = (dataset.observation_dim, dataset.action_dim);
        evaluator.check_dimensions(dims, dataset.action_kind)?;
        warn_of_other_version(dataset.env_name.as_deref(), &evaluator.spec().name);
    }
    Ok(evaluator)
}

/// What the run's online steps are taken in, if there are any; fails where `algorithm` can't use them.
pub(super) fn interaction_for(
    config: &RunConfig,
    algorithm: &mut dyn Algorithm,
) -> Result<Option<Interaction>> {
    let evaluate = config.evaluation();
    let env = match (&evaluate.env, config.online.steps) {
        (Some(name), 1..) => envs::make_with(name, &evaluate.gym_options())?,
        _ => return Ok(None),
    };
    interactive(algorithm)?.check(&config.online.phase())?;
    if config.online.noise.is_some() && algorithm.sampling_policy()?.is_some() {
        tracing::warn!(
            "`online.noise` does nothing: {} draws its actions from the policy's distribution; leave it out",
            config.algorithm.name()
        );
    }
    let streams = Streams::from_seed(config.seed);
    Ok(Some(Interaction::new(env, &config.online, streams)))
}

/// Finds out before training, not at the first evaluation after it.
pub(super) fn check_goal(evaluator: Option<&Evaluator>, algorithm: &dyn Algorithm) -> Result<()> {
    match evaluator {
        Some(evaluator) => evaluator.check_goal(&*algorithm.policy()?),
        None => Ok(()),
    }
}

/// Says so when the data's environment and the one asked for have different names; `Hopper-v5` and Gymnasium's `gym:Hopper-v5`
/// are the same.
pub fn warn_of_other_version(data: Option<&str>, asked: &str) {
    if let Some(warning) = other_version(data, asked) {
        tracing::warn!("{warning}");
    }
}

fn other_version(data: Option<&str>, asked: &str) -> Option<String> {
    let plain = |name| envs::gym::own_id(name).unwrap_or(name);
    let data = data.filter(|data| !plain(data).eq_ignore_ascii_case(plain(asked)))?;
    Some(format!(
        "the data names the environment `{data}`, policies are scored in `{asked}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trajformer_core::dataset::Episode;

    #[test]
    fn an_environment_that_is_not_used_yet_is_held_against_the_data_too() {
        let misfits = |env: &str, data: &Dataset| {
            let text = format!("[evaluate]\nenv = \"{env}\"\nepisodes = 0\n[algorithm.bc]\n");
            let config = RunConfig::parse(&text).expect("a configuration");
            environment_misfits(&config, data, None)
        };
        let data = |name: Option<&str>| Dataset {
            env_name: name.map(str::to_owned),
            sources: vec!["arm.npz".into()],
            ..Dataset::blank(3, 1)
        };
        let none: [String; 0] = [];
        assert_eq!(misfits("pendulum-v1", &data(None)), none);
        assert_eq!(misfits("pendulum-v1", &data(Some("Pendulum-v1"))), none);
        assert_eq!(misfits("gym:Anything-v0", &data(None)), none);
        let said = misfits("pendulum-v1", &data(Some("Arm-v0")));
        assert!(said[0].contains("`Arm-v0`") && said.len() == 1, "{said:?}");
        let said = misfits("pointmaze-umaze", &data(Some("Arm-v0")));
        let words = [
            "`pointmaze-umaze`",
            "4 observations and 2 actions",
            "arm.npz has 3 and 1",
        ];
        for word in words {
            assert!(said[0].contains(word) && said.len() == 1, "{said:?}");
        }
    }

    #[test]
    fn returns_that_no_policy_has_in_an_environment_are_named_with_its_reference() {
        let data = |reward: f32| Dataset {
            rewards: vec![reward; 20],
            episodes: vec![
                Episode {
                    terminated: true,
                    ..Episode::new(0, 10)
                },
                Episode {
                    terminated: true,
                    ..Episode::new(10, 10)
                },
            ],
            sources: vec!["arm.npz".into()],
            ..Dataset::blank(11, 3)
        };
        assert_eq!(far_returns(&data(150.0), "hopper-v4"), None);
        assert_eq!(far_returns(&data(-1e6), "pendulum-v1"), None); // Nobody has measured any.
        assert_eq!(far_returns(&Dataset::blank(11, 3), "hopper-v4"), None);
        for reward in [-150.0, 600.0] {
            let said = far_returns(&data(reward), "hopper-v4").expect("a warning");
            for words in ["arm.npz", "`hopper-v4`", "3234.3", "`evaluate.env`"] {
                assert!(said.contains(words), "{said}");
            }
        }
    }
}
