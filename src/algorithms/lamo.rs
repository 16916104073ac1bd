//! LaMo: a Decision Transformer that starts from a language model.
//!
//! Shi et al. 2023, <https://arxiv.org/abs/2310.20587>; authors' code srzer/LaMo-2023 @ 3e4fcc8
//! (`experiment-d4rl`, `run.sh`). The blocks of GPT-2 are frozen; trained are low-rank additions to the weights of
//! their queries, keys and values, these layers' biases, and everything around the blocks: two-layer embeddings,
//! their norm, the time, and a two-layer head.
//!
//! ```text
//! W' = W + alpha / r Aᵀ Bᵀ,   L = mean over valid steps of (f(h_s) - a)² + weight L_text
//! ```
//!
//! With a table `[algorithm.lamo.text]` the same trunk goes on predicting text, cross entropy L_text, through its own frozen
//! table of tokens (`--co_training`, with a weight `--co_lambda` of 0.1; off by default there and here). What text can
//! change are the additions and biases.
//!
//! As the authors' optimiser does it, all of that has one rate and one decay: their `lm_learning_rate` is for modules
//! whose class name contains "transformers", and the trunk's is `decision_transformer.models...`.
//!
//! Deviations:
//! * no dropout in front of the low-rank branch (0.1 there), which is added to the weights;
//! * actions are mapped to ±1, and clipped there when acting, since the head has no tanh;
//! * all complete episodes are drawn from. The authors' choice of episodes, which goes from the worst up to a share of all
//!   steps, leaves the very best one out where the share is 1 (`experiment.py`: `<` where the Decision Transformer's has
//!   `<=`);
//! * episodes are the data's. Theirs come from D4RL's view for Q-learning, which drops the last step of an episode with a time
//!   limit and its mark, and are cut every 1000 steps (`data/download_d4rl_datasets.py`);
//! * of text every sequence is as likely as any other; theirs come in one shuffled order, again and again, and lose what is left
//!   over of every thousand lines.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use trajformer_models::decision_transformer::Contexts;
use trajformer_models::dropout::Dropout;
use trajformer_models::gpt::GptConfig;
use trajformer_models::lamo::{Lamo as Network, LamoConfig as Sizes, TRUNK, gpt2_trunk};
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, Schedule};
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::pretrained::{self, Gpt2};
use trajformer_models::uploads::CachedUploads;
use trajformer_models::work;

use crate::offpolicy::{StateNames, Trained};
use crate::policies::return_conditioned::{
    Choosing, ContextNetwork, ContextOptions, ReturnConditionedPolicy, State,
};
use trajformer_core::algorithm::{Algorithm, Build, Pretrainable, Work};
use trajformer_core::corpus::{Corpus, CorpusConfig};
use trajformer_core::error::{Error, Result};
use trajformer_core::keys::Keys;
use trajformer_core::metrics::Metrics;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::Policy;
use trajformer_core::source::Stage;
use trajformer_data::return_sequences;
use trajformer_data::return_sequences::{Padding, ReturnOptions, ReturnSequences};
use trajformer_data::return_view::ReturnView;
use trajformer_models::rng::Rng;

/// The table of tokens in a GPT-2.
const TOKEN_TABLE: &str = "wte.weight";
/// Adam's epsilon in the authors' code.
const ADAM_EPSILON: f64 = 1e-6;

/// `[algorithm.lamo]`. Defaults: the authors' (`run.sh`), except `target_returns`, which they have for each environment
/// (`configs/lamo`), and GPT-2's sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LamoConfig {
    /// The language model that the trunk starts from: a folder with a GPT-2's `config.json` and weights, or
    /// `hf://ID`, e.g. `hf://openai-community/gpt2`. None: a random trunk, frozen all the same. Read once, when a run
    /// starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
    /// Transformer blocks: those of the language model; 12 in GPT-2.
    pub layers: usize,
    /// Attention heads; 12 in GPT-2.
    pub heads: usize,
    /// Width; 768 in GPT-2.
    pub embedding: usize,
    /// r, rank of what is added to queries, keys and values.
    pub rank: usize,
    /// What is added is scaled by alpha / r.
    pub alpha: f64,
    /// Context K in steps.
    pub context_steps: usize,
    /// Dropout of attention, residual branches and embeddings, in [0, 1).
    pub dropout: f64,
    /// Sub-trajectories in a batch.
    pub batch_size: usize,
    /// AdamW's rate after the warm-up.
    pub learning_rate: f64,
    /// Decoupled weight decay, of everything that is trained.
    pub weight_decay: f64,
    /// Updates of linear warm-up.
    pub warmup_updates: u64,
    /// Gradients are clipped to this norm.
    pub clip_norm: f64,
    /// Returns are divided by this.
    pub return_scale: f64,
    /// Returns to aim at, in the environment's units; each is evaluated, the first is the result. The authors try four (two
    /// in Reacher2d, five in the kitchen) and report the best (srzer/LaMo-2023, issue 1): to compare with their tables, take the largest of the
    /// evaluation's rows. Empty: the best return in the data.
    pub target_returns: Vec<f32>,
    /// Rows of the time-step embedding; later steps count as the last.
    pub max_episode_steps: usize,
    /// Padding of sub-trajectories that are shorter than the context, in training.
    pub padding: Padding,
    /// Text that is learned beside the actions; none: no text. Needs `pretrained`, whose tokenizer reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<CorpusConfig>,
}

impl Default for LamoConfig {
    fn default() -> Self {
        Self {
            pretrained: None,
            layers: 12,
            heads: 12,
            embedding: 768,
            rank: 16,
            alpha: 32.0,
            context_steps: 20,
            dropout: 0.1,
            batch_size: 64,
            learning_rate: 1e-4,
            weight_decay: 1e-5,
            warmup_updates: 2_500,
            clip_norm: 0.25,
            return_scale: 1000.0,
            target_returns: Vec::new(),
            max_episode_steps: 1000,
            padding: Padding::Left,
            text: None,
        }
    }
}

impl LamoConfig {
    /// Fails if a value is out of range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check(&self) -> Result<()> {
        let keys = Keys("algorithm.lamo");
        keys.counts(&[
            ("layers", self.layers, 1_000),
            ("heads", self.heads, 1 << 16),
            ("embedding", self.embedding, 1 << 16),
            ("rank", self.rank, 1 << 16),
            ("context_steps", self.context_steps, 10_000),
            ("batch_size", self.batch_size, 1 << 20),
            ("max_episode_steps", self.max_episode_steps, 100_000_000),
        ])?;
        keys.heads(self.embedding, self.heads)?;
        keys.dropout(self.dropout)?;
        keys.positive(&[
            ("alpha", self.alpha),
            ("learning_rate", self.learning_rate),
            ("return_scale", self.return_scale),
            ("clip_norm", self.clip_norm),
        ])?;
        keys.not_negative(&[("weight_decay", self.weight_decay)])?;
        keys.target_returns(&self.target_returns)?;
        if self
            .pretrained
            .as_ref()
            .is_some_and(|name| name.trim().is_empty())
        {
            return Err(keys.wrong("pretrained", "empty", "a folder, or hf://ID"));
        }
        let of_text = |text: &CorpusConfig| text.batch_size.saturating_mul(text.sequence_tokens);
        let (text_tokens, vocabulary) = (self.text.as_ref().map_or(0, of_text), self.vocabulary());
        if let Some(text) = &self.text {
            text.check("algorithm.lamo.text")?;
            if self.pretrained.is_none() {
                let expected =
                    "a language model: its tokenizer reads the text of `algorithm.lamo.text`";
                return Err(keys.wrong("pretrained", "not set", expected));
            }
        }
        let (length, width, batch) = (3 * self.context_steps, self.embedding, self.batch_size);
        keys.memory(
            "`layers`, `embedding`, `rank`, `context_steps`, `batch_size`, `max_episode_steps` or `text`",
            &[
                &[2, vocabulary, width],
                &[self.layers, 16, text_tokens, width],
                &[4, self.max_episode_steps, width],
                &[self.layers, 2, 12, width, width],
                &[self.layers, 4, 6, width, self.rank],
                &[self.layers, 16, batch, length, width],
                &[self.layers, 2, batch, self.heads, length, length],
            ],
        )
    }

    /// Makes the algorithm, with a random trunk.
    ///
    /// # Errors
    /// If no episode of the data is complete, or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<Lamo> {
        let (o, a) = build.source.dims();
        let options = ReturnOptions {
            context_steps: self.context_steps,
            return_scale: self.return_scale,
            max_episode_steps: self.max_episode_steps,
            padding: self.padding,
        };
        if let Some(data) = build.source.data() {
            return_sequences::misfits(data, &options, &self.target_returns, "algorithm.lamo")
                .iter()
                .for_each(|text| tracing::warn!("{text}"));
        }
        let view = ReturnView::new(build.source, "LaMo", build.bounds, build.device, options)?;
        let mut params = Params::new(DType::F32, build.device);
        Network::new(&self.sizes(o, a), &mut params.init(build.rng))?;
        Ok(Lamo {
            sequences: view.sequences,
            normalizer: view.normalizer,
            bounds: build.bounds.clone(),
            best_return: view.best_return,
            text: None,
            learner: Learner::new(self, o, a, params, build.source.stage())?,
        })
    }

    /// Rows of the table of tokens.
    fn vocabulary(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.vocabulary)
    }

    fn sizes(&self, observation_dim: usize, action_dim: usize) -> Sizes {
        Sizes {
            observation_dim,
            action_dim,
            trunk: GptConfig {
                attention_dropout: self.dropout,
                residual_dropout: self.dropout,
                ..gpt2_trunk(self.layers, self.heads, self.embedding)
            },
            max_timesteps: self.max_episode_steps,
            embedding_dropout: self.dropout,
            rank: self.rank,
            alpha: self.alpha,
            vocabulary: self.vocabulary(),
        }
    }
}

/// LaMo on a data set.
pub struct Lamo {
    sequences: ReturnSequences,
    normalizer: Normalizer,
    bounds: ActionBounds,
    best_return: f64,
    /// What the configuration's `text` names, once it is read.
    text: Option<Corpus>,
    learner: Learner,
}

impl Algorithm for Lamo {
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let learner = &mut self.learner;
        let device = learner.model.params.device().clone();
        let batch = self
            .sequences
            .sample(learner.config.batch_size, rng, &device)?; // (B, K, ..)
        let contexts = Contexts {
            returns: batch.returns_to_go,
            observations: batch.states,
            actions: batch.actions,
            timesteps: batch.timesteps,
            mask: batch.mask,
            instructions: None,
        };
        let dropout = if learner.config.dropout > 0.0 {
            Dropout::draw(rng)
        } else {
            Dropout::off()
        };
        let text = match (&learner.config.text, &self.text) {
            (None, _) => None,
            (Some(config), Some(text)) => Some(text.sample(config.batch_size, rng, &device)?),
            (Some(config), None) => {
                let problem = format!("LaMo: the text {} was not read", config.path.display());
                return Err(Error::Internal(problem));
            }
        };
        learner.update(&contexts, text.as_ref(), dropout)
    }

    fn work(&self) -> Option<Work> {
        let config = &self.learner.config;
        let steps = config.context_steps;
        let passes = work::lamo(&self.learner.model.config, steps).train(1.0);
        Some(Work::of(&[passes], config.batch_size, 3 * steps))
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        let learner = &self.learner;
        let network = learner.model.snapshot()?.fixed()?;
        Ok(Box::new(ReturnConditionedPolicy {
            network: Box::new(Clipped(network)),
            normalizer: self.normalizer.clone(),
            bounds: self.bounds.clone(),
            device: learner.model.params.device().clone(),
            options: ContextOptions {
                context_steps: learner.config.context_steps,
                return_scale: learner.config.return_scale,
                target_returns: learner.config.target_returns.clone(),
                best_return: self.best_return as f32,
                max_episode_steps: learner.config.max_episode_steps,
            },
            instructed: None,
            choosing: Choosing::Likeliest,
            state: State::default(),
        }))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        let learner = &mut self.learner;
        learner.model.visit(visitor)?;
        self.normalizer.visit("policy.normalizer.", visitor)?;
        self.bounds.visit("policy.action_bounds.", visitor)?;
        visitor.number("policy.best_return", &mut self.best_return)?;
        let mut updates = learner.model.steps(); // restored with the optimiser
        visitor.counter("training.updates", &mut updates)?;
        Ok(())
    }

    fn pretrainable(&mut self) -> Option<&mut dyn Pretrainable> {
        match self.learner.config.pretrained {
            Some(_) => Some(self),
            None => None,
        }
    }
}

impl Pretrainable for Lamo {
    fn source(&self) -> &str {
        self.learner
            .config
            .pretrained
            .as_deref()
            .unwrap_or_default()
    }

    fn set_trunk(&mut self, gpt2: &Gpt2) -> Result<()> {
        self.learner.set_trunk(gpt2)
    }

    fn text(&self) -> Option<&CorpusConfig> {
        self.learner.config.text.as_ref()
    }

    fn set_text(&mut self, text: Corpus) {
        self.text = Some(text);
    }
}

/// Actions of the network within ±1.
struct Clipped(Network);

impl ContextNetwork for Clipped {
    fn actions(&self, contexts: &Contexts) -> Result<Tensor> {
        Ok(self.0.forward(contexts, Dropout::off())?.clamp(-1.0, 1.0)?)
    }
}

/// What a parameter is called in a GPT-2, if it is of the blocks and not added to them.
fn trunk_name(name: &str) -> Option<&str> {
    let name = name.strip_prefix(TRUNK)?.strip_prefix('.')?;
    (!name.contains("lora_") && name != TOKEN_TABLE).then_some(name)
}

/// The network and its update, apart from where batches come from.
pub struct Learner {
    config: LamoConfig,
    model: Trained<Network>,
}

impl Learner {
    /// A learner that starts from these parameters of the network, with an optimiser if it is to learn, of which it freezes the trunk.
    ///
    /// # Errors
    /// If names or shapes don't fit the configuration.
    pub fn new(
        config: &LamoConfig,
        observation_dim: usize,
        action_dim: usize,
        mut params: Params,
        stage: Stage,
    ) -> Result<Self> {
        let sizes = config.sizes(observation_dim, action_dim);
        let adam = AdamConfig {
            clip_norm: Some(config.clip_norm),
            epsilon: ADAM_EPSILON,
            ..AdamConfig::default()
        };
        Network::freeze_trunk(&mut params);
        Ok(Self {
            config: config.clone(),
            model: Trained::around(
                StateNames::alone("model."),
                sizes,
                params,
                stage,
                |params| Adam::new(params, adam, |_| ParamGroup::decay(config.weight_decay)),
            )?,
        })
    }

    /// The network's parameters.
    pub fn params(&self) -> &Params {
        &self.model.params
    }

    /// Sets the trunk's weights.
    ///
    /// # Errors
    /// If sizes differ from the configuration's, or weights are missing, unknown or have another shape: lists all of them.
    pub fn set_trunk(&mut self, gpt2: &Gpt2) -> Result<()> {
        let found = &gpt2.config;
        let expected = &self.model.net.config().trunk;
        let sizes = |trunk: &GptConfig| (trunk.layers, trunk.heads, trunk.width, trunk.inner);
        if sizes(found) != sizes(expected) {
            return Err(Error::settings(format!(
                "`algorithm.lamo.pretrained`: the language model has {} layers, {} heads, width {} and hidden layers of {}; \
                 set `layers`, `heads` and `embedding` to its sizes (hidden layers are four times as wide as `embedding`)",
                found.layers, found.heads, found.width, found.inner
            )));
        }
        let trunk = &gpt2.weights.trunk;
        pretrained::set_part(&self.model.params, trunk, trunk_name)?;
        let Some(table) = self.model.params.get(&format!("{TRUNK}.{TOKEN_TABLE}")) else {
            return Ok(());
        };
        let (found, expected) = (gpt2.weights.token_embedding.dims(), table.slot.dims());
        if found != expected {
            return Err(Error::settings(format!(
                "`algorithm.lamo.text.vocabulary` is {}, but the language model knows {} words: set it to that",
                expected[0], found[0]
            )));
        }
        let tokens = gpt2
            .weights
            .token_embedding
            .to_device(self.model.params.device())?;
        Ok(table
            .slot
            .set(&tokens.to_dtype(self.model.params.dtype())?)?)
    }

    /// One update on a batch of contexts (B, K, ...), and on sequences of text (B, T), u32, if there are any.
    ///
    /// # Errors
    /// If a tensor operation fails, or there is text and the configuration has no `text`.
    pub fn update(
        &mut self,
        contexts: &Contexts,
        text: Option<&Tensor>,
        dropout: Dropout,
    ) -> Result<Metrics> {
        let _cached = CachedUploads::hold(self.model.params.device());
        let mut loss = self.loss(contexts, dropout)?;
        let of_text = text.map(|tokens| self.model.net.text_loss(tokens, dropout));
        let of_text = of_text.transpose()?;
        if let (Some(of_text), Some(text)) = (&of_text, &self.config.text) {
            loss = (loss + (of_text * text.weight)?)?;
        }
        let schedule = Schedule::Warmup {
            length: self.config.warmup_updates,
        };
        let rate = self.config.learning_rate * schedule.factor(self.model.steps());
        let norm = self.model.descend(&loss, rate)?;
        let mut metrics = Metrics::of_step(&loss, norm.as_ref());
        if let Some(of_text) = &of_text {
            metrics.push("text_loss", of_text);
        }
        Ok(metrics)
    }

    /// Mean squared error of the actions over the steps that are not padding.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn loss(&self, contexts: &Contexts, dropout: Dropout) -> Result<Tensor> {
        let predicted = self.model.net.forward(contexts, dropout)?; // (B, K, A)
        let error = (predicted - &contexts.actions)?.sqr()?.mean(2)?; // (B, K)
        let mask = contexts.mask.to_dtype(error.dtype())?;
        Ok(((error * &mask)?.sum_all()? / mask.sum_all()?)?)
    }
}
