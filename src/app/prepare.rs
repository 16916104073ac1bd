//! [`prepare`]: the algorithm of a run with everything that it needs beside its checkpoint, in one way for starting,
//! resuming and opening, and for models of other libraries.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;

use crate::app::config::RunConfig;
use crate::app::datasets;
use crate::app::evaluate::Evaluator;
use crate::app::online::{Interaction, interactive};
use crate::app::pretrained::gpt2;
use crate::app::{hub, text};
use crate::envs;
use crate::formats::{fast_folder, files};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::dataset::Dataset;
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
/// embeddings, a language model's trunk, text, merges of action tokens. Actions range from `low` to `high` (A each);
/// `stored` are the instructions that the run keeps.
///
/// # Errors
/// If the algorithm does not suit the data, what it names can't be read, or the encoder is not the configuration's.
pub fn prepare(
    recipe: Recipe<'_>,
    (low, high): (&[f32], &[f32]),
    device: &Device,
    stored: Option<Instructions>,
    purpose: &PreparedFor<'_>,
) -> Result<Box<dyn Algorithm>> {
    let config = recipe.config;
    check_encoder(config, recipe.encoder)?;
    let (source, fast) = match *purpose {
        PreparedFor::Training { data, .. } => (Source::Train(data), fast_files(config)?),
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
        bounds: &ActionBounds::new(low, high, device)?,
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

pub(super) fn evaluator_for(
    config: &RunConfig,
    dataset: &Dataset,
    interrupt: &Interrupt,
) -> Result<Option<Evaluator>> {
    let evaluator =
        Evaluator::new(&config.evaluation())?.map(|found| found.with_interrupt(interrupt));
    if let Some(evaluator) = &evaluator {
        evaluator.check_dimensions(dataset.observation_dim, dataset.action_dim)?;
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
        (Some(name), 1..) => {
            let keys = &evaluate.observation_keys;
            envs::make_with(
                name,
                &envs::GymOptions::new(evaluate.python.as_deref(), keys),
            )?
        }
        _ => return Ok(None),
    };
    interactive(algorithm)?.check()?;
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
    let plain = |name| envs::gym::own_id(name).unwrap_or(name);
    if let Some(data) = data
        && !plain(data).eq_ignore_ascii_case(plain(asked))
    {
        tracing::warn!("the data names the environment `{data}`, policies are scored in `{asked}`");
    }
}
