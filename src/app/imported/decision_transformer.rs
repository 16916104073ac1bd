//! `transformers`' `DecisionTransformerModel` as a policy.
//!
//! Keys, names and semantics: `models/decision_transformer` of `transformers` 4.18.0 to 5.24.0. Its files hold
//! neither the statistics of observations nor target returns: these come from data, from a `policy.safetensors`
//! beside the weights, or, for the nine gym models, from [`gym_models`](super::gym_models).

use std::path::Path;
use trajformer_algorithms::registry::AlgorithmConfig;

use candle_core::{DType, Device};
use trajformer_models::decision_transformer::{
    DecisionTransformer as Network, DecisionTransformerConfig as Sizes,
};
use trajformer_models::params::Params;
use trajformer_models::pretrained;

use crate::app::checkpoint;
use crate::app::checkpoint::{POLICY_FILE, RunSpec};
use crate::app::config::{Purpose, RunConfig};
use crate::app::imported::gym_models::{CONTEXT_STEPS, GYM_MODELS, GymModel, RETURN_SCALE, find};
use crate::app::imported::importing;
use crate::app::imported::importing::{Imported, Request, same_sizes};
use crate::app::prepare::{ActionRange, PreparedFor, Recipe, prepare};
use crate::app::pretrained::keys::JsonConfig;
use crate::app::pretrained::{described, gpt2};
use trajformer_algorithms::decision_transformer::{
    DecisionTransformer, DecisionTransformerConfig, Pretrained,
};
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::device::open_device;
use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::Normalizer;
use trajformer_data::return_sequences::{ReturnScale, observation_normalizer};

/// More rows of a table than any model has.
const MOST_ROWS: usize = 1 << 24;

/// The sizes in a `config.json`, without dropout; keys that are missing take the class's defaults.
///
/// # Errors
/// If a value makes no sense, or is one that is not computed here.
pub fn sizes(json: &JsonConfig) -> Result<Sizes> {
    let why = "acting without the tanh is not supported: actions would have no bounds";
    json.require_flag("action_tanh", true, why)?;
    gpt2::check_attention(json)?;
    let count = |key, default| -> Result<usize> { Ok(json.count(key)?.unwrap_or(default)) };
    // The width is `hidden_size`; `n_embd` is a left-over in the published files.
    let hidden = count("hidden_size", 128)?;
    let default = Sizes::paper(count("state_dim", 17)?, count("act_dim", 4)?);
    let sizes = Sizes {
        hidden,
        layers: count("n_layer", 3)?,
        heads: count("n_head", 1)?,
        inner: count("n_inner", 4 * hidden)?,
        activation: gpt2::activation(json)?.unwrap_or(default.activation),
        max_timesteps: count("max_ep_len", 4096)?,
        positions: count("n_positions", 1024)?,
        embedding_dropout: 0.0,
        residual_dropout: 0.0,
        attention_dropout: 0.0,
        ..default
    };
    json.require_number(
        "vocab_size",
        1.0,
        "the only token table that the model's files have",
    )?;
    let large = [
        sizes.inner,
        sizes.positions,
        sizes.observation_dim,
        sizes.action_dim,
    ];
    if large.iter().any(|&size| size > MOST_ROWS) {
        return Err(Error::data(
            json.path(),
            format!("sizes of more than {MOST_ROWS}: {large:?}"),
        ));
    }
    Ok(sizes)
}

/// Opens the model in `folder`.
///
/// # Errors
/// If files don't fit, or nothing says how observations are normalised.
pub fn open(folder: &Path, json: &JsonConfig, request: &Request<'_>) -> Result<Imported> {
    let mut sizes = sizes(json)?;
    let in_folder = |error| described::in_folder(folder, error);
    let (named, overrides) = statistics_asked_for(request.overrides)?;
    let known = match named {
        Some(model) => Some(model),
        None => names(folder, json).find_map(find),
    };
    let known = known.filter(|model| model.mean.len() == sizes.observation_dim);
    let config = configuration(&sizes, known, (&overrides, request.purpose), json.path())?;
    let AlgorithmConfig::DecisionTransformer(algorithm_config) = &config.algorithm else {
        return Err(Error::settings(
            "the algorithm of a Decision Transformer can't be changed",
        ));
    };
    let device = open_device(&config.device)?;
    let tensors = described::read_weights(folder, json)?;
    let tensors = pretrained::decision_transformer(tensors).map_err(in_folder)?;
    // Of the positions only the first is looked at: a table of one row is whole.
    let table = tensors.get("encoder.wpe.weight");
    if table.is_some_and(|table| table.dims() == [1, sizes.hidden]) {
        sizes.positions = 1;
    }
    let (o, a) = (sizes.observation_dim, sizes.action_dim);
    let beside = folder.join(POLICY_FILE);
    // A network of the files' sizes with the files' weights, which no configuration can say.
    let rule = |build: Build<'_>| -> Result<Box<dyn Algorithm>> {
        let device = build.device;
        let mut params = Params::new(DType::F32, device);
        Network::new(&sizes, &mut params.init(build.rng))?;
        pretrained::set(&params, &tensors).map_err(in_folder)?;
        let (normalizer, target_return) = match (request.data, known, beside.exists()) {
            (Some(data), _, _) => of_data(data, &sizes, device)?,
            (None, Some(model), beside) if named.is_some() || !beside => {
                let targets = model.target_returns[0];
                let moments = Normalizer::from_moments(model.mean, model.deviation, device)?;
                (moments, f64::from(targets))
            }
            (None, _, true) => (Normalizer::identity(o, device)?, 0.0),
            (None, _, false) => return Err(no_statistics(folder)),
        };
        let parts = Pretrained {
            sizes: sizes.clone(),
            params,
            normalizer,
            bounds: build.bounds.clone(),
            target_return,
        };
        let algorithm = DecisionTransformer::pretrained(algorithm_config, parts)?;
        Ok(Box::new(algorithm))
    };
    let recipe = Recipe {
        config: &config,
        rule: Some(&rule),
        encoder: None,
    };
    let (low, high) = (vec![-1.0; a], vec![1.0; a]);
    let range = ActionRange {
        kind: ActionKind::Continuous,
        low: &low,
        high: &high,
    };
    let acting = PreparedFor::Acting {
        observation_dim: o,
        action_dim: a,
    };
    let mut algorithm = prepare(recipe, &range, &device, None, &acting)?;
    match request.data {
        Some(data) => importing::keep(&mut *algorithm, folder, data)?,
        None if beside.exists() && named.is_none() => {
            checkpoint::load_policy(&mut *algorithm, folder)?;
        }
        None => {}
    }
    Ok(Imported {
        spec: RunSpec::of_import(o, low, high),
        config,
        algorithm,
    })
}

/// What may name the model's data: the folder, the Hub repository in a cache's path, the file's own word.
fn names<'a>(folder: &'a Path, json: &'a JsonConfig) -> impl Iterator<Item = &'a str> {
    let components = folder.components().rev();
    let components = components.filter_map(|component| component.as_os_str().to_str());
    let repository = components
        .clone()
        .find(|component| component.starts_with("models--"));
    let own = components.take(1);
    own.chain(repository).chain(json.name_or_path())
}

/// The model that an override `pretrained.statistics=NAME` names, and the other overrides.
fn statistics_asked_for(overrides: &[String]) -> Result<(Option<&'static GymModel>, Vec<String>)> {
    let key = "pretrained.statistics=";
    let mut named = None;
    let mut others = Vec::new();
    for text in overrides {
        let Some(name) = text.strip_prefix(key) else {
            others.push(text.clone());
            continue;
        };
        let name = name.trim_matches('"');
        let model = GYM_MODELS.iter().find(|model| model.name == name);
        named = Some(model.ok_or_else(|| {
            let names: Vec<&str> = GYM_MODELS.iter().map(|model| model.name).collect();
            let expected = format!("one of {}", names.join(", "));
            Error::config("pretrained.statistics", format_args!("`{name}`"), expected)
        })?);
    }
    Ok((named, others))
}

fn configuration(
    sizes: &Sizes,
    known: Option<&GymModel>,
    (overrides, purpose): (&[String], Purpose),
    path: &Path,
) -> Result<RunConfig> {
    let mut config = RunConfig::parse("[algorithm.decision_transformer]")?;
    config.evaluate.env = known.map(|model| model.env.to_owned());
    config.algorithm = AlgorithmConfig::DecisionTransformer(DecisionTransformerConfig {
        context_steps: CONTEXT_STEPS,
        layers: sizes.layers,
        heads: sizes.heads,
        embedding: sizes.hidden,
        max_episode_steps: sizes.max_timesteps,
        dropout: 0.0,
        return_scale: ReturnScale::Number(RETURN_SCALE),
        target_returns: known.map_or_else(Vec::new, |model| model.target_returns.to_vec()),
        ..DecisionTransformerConfig::default()
    });
    config
        .check()
        .map_err(|error| Error::data(path, error.to_string()))?;
    let changed = config.with_overrides(overrides)?;
    same_sizes(
        &config,
        &changed,
        &["layers", "heads", "embedding", "max_episode_steps"],
    )?;
    config.opened_with(overrides, purpose, &[])
}

/// Statistics of the user's data, and the best return in it.
fn of_data(data: &Dataset, sizes: &Sizes, device: &Device) -> Result<(Normalizer, f64)> {
    importing::check_dimensions(data, sizes.observation_dim, sizes.action_dim)?;
    let normalizer = observation_normalizer(data, "the Decision Transformer", device)?;
    let best = data.best_return();
    Ok((normalizer, best))
}

fn no_statistics(folder: &Path) -> Error {
    Error::NoData {
        path: folder.to_path_buf(),
        problem: "its files don't say how observations were normalised, and its name is none of the nine gym models': \
                  give the data that it was trained on (kept in policy.safetensors for the next time), or name a model \
                  with the same statistics, e.g. `pretrained.statistics=hopper-medium`"
            .to_owned(),
    }
}
