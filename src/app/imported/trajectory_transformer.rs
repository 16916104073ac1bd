//! `transformers`' `TrajectoryTransformerModel`, and its authors' `state_N.pt`, as a planner.
//!
//! Keys and names: `models/deprecated/trajectory_transformer` of `transformers` 4.57.6, the last that has it;
//! authors' code: jannerm/trajectory-transformer @ 8834a6e. Neither kind of file holds the discretiser: the
//! authors fit it anew to the training data whenever they load a model. Here it is fitted once, to data that
//! the user gives, and kept in `policy.safetensors` beside the weights.

use std::path::Path;

use trajformer_models::pretrained::{self, Tensors};

use crate::app::action_range;
use crate::app::checkpoint;
use crate::app::checkpoint::{POLICY_FILE, RunSpec};
use crate::app::config::RunConfig;
use crate::app::imported::importing;
use crate::app::imported::importing::{Imported, Request, same_sizes};
use crate::app::prepare::{ActionRange, PreparedFor, Recipe, prepare};
use crate::app::pretrained::keys::JsonConfig;
use crate::app::pretrained::{described, weights};
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_algorithms::trajectory_transformer::TrajectoryTransformerConfig;
use trajformer_core::algorithm::{Algorithm, Build};
use trajformer_core::device::open_device;
use trajformer_core::error::{Error, Result};

/// The authors' width of a head: their files don't say how many heads there are.
const AUTHORS_HEAD_WIDTH: usize = 32;
/// Keys that say what is made of data where a discretizer is fitted to it.
const FITTED: [&str; 3] = ["discretizer", "termination_penalty", "value"];

/// What decides the shapes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// O.
    pub observation_dim: usize,
    /// A.
    pub action_dim: usize,
    /// V.
    pub bins: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the embedding.
    pub embedding: usize,
    /// Longest input in tokens.
    pub block_size: usize,
}

impl Shape {
    /// D: tokens per transition.
    fn transition(self) -> usize {
        self.observation_dim + self.action_dim + 2
    }

    /// From a `config.json`; keys that are missing take the class's defaults (halfcheetah's).
    ///
    /// # Errors
    /// If a value makes no sense or they contradict each other.
    pub fn read(json: &JsonConfig) -> Result<Self> {
        // `layer_norm_eps` is not read, as in the class itself, which has 1e-5 whatever the file says.
        let count = |key, default| -> Result<usize> { Ok(json.count(key)?.unwrap_or(default)) };
        let shape = Self {
            observation_dim: count("observation_dim", 17)?,
            action_dim: count("action_dim", 6)?,
            bins: count("vocab_size", 100)?,
            layers: count("n_layer", 4)?,
            heads: count("n_head", 4)?,
            embedding: count("n_embd", 128)?,
            block_size: count("block_size", 249)?,
        };
        let transition = count("transition_dim", 25)?;
        if transition != shape.transition() {
            let problem = format!(
                "`transition_dim` is {transition}, expected `observation_dim` + `action_dim` + 2 = {}",
                shape.transition()
            );
            return Err(Error::data(json.path(), problem));
        }
        Ok(shape)
    }

    /// From the authors' tensors and the number of actions, which they don't say.
    fn infer(tensors: &Tensors, action_dim: usize, file: &Path) -> Result<Self> {
        let fail = |problem: String| Error::data(file, problem);
        let dims = |name: &str, rank: usize| {
            let tensor = tensors
                .get(name)
                .filter(|tensor| tensor.rank() == rank)
                .ok_or_else(|| {
                    fail(format!(
                        "no tensor `{name}` of {rank} dimensions: not a Trajectory Transformer"
                    ))
                })?;
            Ok::<_, Error>(tensor.dims().to_vec())
        };
        let (head, positions) = (dims("head.weight", 3)?, dims("pos_emb", 3)?);
        let (transition, embedding) = (head[0], head[2]);
        if transition < action_dim + 3 || head[1] < 2 {
            return Err(fail(format!(
                "its transitions have {transition} tokens of {} values, which {action_dim} actions don't fit",
                head[1].saturating_sub(1)
            )));
        }
        if !embedding.is_multiple_of(AUTHORS_HEAD_WIDTH) {
            return Err(fail(format!(
                "its width is {embedding}, expected a multiple of {AUTHORS_HEAD_WIDTH} (the authors' heads); \
                 for another number of heads put a config.json with `model_type` \
                 `trajectory_transformer` beside it"
            )));
        }
        let block = |name: &String| -> Option<usize> {
            name.strip_prefix("blocks.")?
                .split('.')
                .next()?
                .parse()
                .ok()
        };
        let layers = tensors
            .keys()
            .filter_map(block)
            .max()
            .map_or(0, |last| last + 1);
        Ok(Self {
            observation_dim: transition - 2 - action_dim,
            action_dim,
            bins: head[1] - 1,
            layers,
            heads: embedding / AUTHORS_HEAD_WIDTH,
            embedding,
            block_size: positions[1],
        })
    }

    /// The algorithm's configuration.
    fn configuration(self, request: &Request<'_>, path: &Path) -> Result<RunConfig> {
        let fail = |problem: String| Error::data(path, problem);
        let (transition, length) = (self.transition(), self.block_size + 1);
        if !length.is_multiple_of(transition) {
            return Err(fail(format!(
                "the longest input is {} tokens, expected whole transitions of {transition} but for the last token",
                self.block_size
            )));
        }
        if !self.embedding.is_multiple_of(self.heads) {
            let Self {
                embedding, heads, ..
            } = self;
            return Err(fail(format!(
                "`n_embd` is {embedding}, expected a multiple of `n_head` ({heads})"
            )));
        }
        let mut config = RunConfig::parse("[algorithm.trajectory_transformer]")?;
        config.algorithm = AlgorithmConfig::TrajectoryTransformer(TrajectoryTransformerConfig {
            bins: self.bins,
            layers: self.layers,
            heads: self.heads,
            embedding_per_head: self.embedding / self.heads,
            window_transitions: length / transition,
            dropout: 0.0,
            ..TrajectoryTransformerConfig::default()
        });
        config.check().map_err(|error| fail(error.to_string()))?;
        let changed = config.with_overrides(request.overrides)?;
        let sizes = [
            "bins",
            "layers",
            "heads",
            "embedding_per_head",
            "window_transitions",
            "goal",
            "mlp",
            "norm",
            "qk_norm",
            "positions",
            "tied_heads",
            "multi_token",
        ];
        same_sizes(&config, &changed, &sizes)?;
        let mut further = vec!["data.action_range".to_owned()];
        if request.data.is_some() {
            let table = config.algorithm.keys();
            further.extend(FITTED.map(|key| format!("{table}.{key}")));
        }
        config.opened_with(request.overrides, request.purpose, &further)
    }
}

/// Opens the model in `folder` that `config.json` describes.
///
/// # Errors
/// If files don't fit, or there is neither data nor a discretiser.
pub fn open(folder: &Path, json: &JsonConfig, request: &Request<'_>) -> Result<Imported> {
    let shape = Shape::read(json)?;
    let tensors = match weights::last_state(folder) {
        Some(state) if weights::source(folder)?.is_none() => weights::read(&state)?,
        _ => described::read_weights(folder, json)?,
    };
    build(folder, shape, tensors, request)
}

/// Opens the authors' `state` in `folder`, which has no `config.json`.
///
/// # Errors
/// As [`open`].
pub fn open_authors(folder: &Path, state: &Path, request: &Request<'_>) -> Result<Imported> {
    let action_dim = match request.data {
        Some(data) => data.action_dim,
        None if folder.join(POLICY_FILE).exists() => checkpoint::policy_action_dim(folder)?,
        None => return Err(no_discretizer(folder)),
    };
    let tensors = pretrained::trajectory_transformer(weights::read(state)?)
        .map_err(|error| described::in_folder(folder, error))?;
    let shape = Shape::infer(&tensors, action_dim, state)?;
    build(folder, shape, tensors, request)
}

fn build(folder: &Path, shape: Shape, tensors: Tensors, request: &Request<'_>) -> Result<Imported> {
    let beside = folder.join(POLICY_FILE).exists();
    if request.data.is_none() && !beside {
        return Err(no_discretizer(folder));
    }
    let config = shape.configuration(request, folder)?;
    let AlgorithmConfig::TrajectoryTransformer(algorithm_config) = &config.algorithm else {
        return Err(Error::settings(
            "the algorithm of a Trajectory Transformer can't be changed",
        ));
    };
    let (o, a) = (shape.observation_dim, shape.action_dim);
    if let Some(data) = request.data {
        importing::check_dimensions(data, o, a)?;
    }
    let mut known = config.clone();
    known.evaluate.env = request.env.map(str::to_owned).or(known.evaluate.env);
    let (low, high) = match request.data {
        Some(data) => action_range::of_run(&known, data, None)?,
        None => action_range::without_data(&known, a)?,
    };
    let in_folder = |error| described::in_folder(folder, error);
    let tensors = pretrained::trajectory_transformer(tensors).map_err(in_folder)?;
    // The algorithm as its configuration says, with the files' weights.
    let rule = |build: Build<'_>| -> Result<Box<dyn Algorithm>> {
        let algorithm = algorithm_config.built(build)?;
        pretrained::set(algorithm.params(), &tensors).map_err(in_folder)?;
        Ok(Box::new(algorithm))
    };
    let recipe = Recipe {
        config: &config,
        rule: Some(&rule),
        encoder: None,
    };
    // Data is what the discretiser is fitted to; the weights are trained.
    let purpose = match request.data {
        Some(data) => PreparedFor::Training {
            data,
            evaluator: None,
            resumed: true,
        },
        None => PreparedFor::Acting {
            observation_dim: o,
            action_dim: a,
        },
    };
    let device = open_device(&config.device)?;
    let range = ActionRange {
        kind: trajformer_core::dataset::ActionKind::Continuous,
        low: &low,
        high: &high,
    };
    let mut algorithm = prepare(recipe, &range, &device, None, &purpose)?;
    match request.data {
        Some(data) => importing::keep(&mut *algorithm, folder, data)?,
        None => checkpoint::load_policy(&mut *algorithm, folder)?,
    }
    let spec = RunSpec::of_import(o, low, high);
    Ok(Imported {
        config,
        spec,
        algorithm,
    })
}

fn no_discretizer(folder: &Path) -> Error {
    Error::NoData {
        path: folder.to_path_buf(),
        problem: "a Trajectory Transformer's files don't hold its discretiser, which depends on the data: give the data \
                  that it was trained on; the discretiser is then kept in policy.safetensors for the next time"
            .to_owned(),
    }
}
