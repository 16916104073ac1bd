//! Encoders of the caller's own in place of the perceptrons of actors, critics and V.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::iql::{ActorKind, Iql, IqlConfig};
use trajformer::algorithms::{ALGORITHMS, Algorithm, AlgorithmConfig, Build, Source, Stage};
use trajformer::config::RunConfig;
use trajformer::data::{self, ActionBounds, Batch, Dataset};
use trajformer::offpolicy::{GradientWatch, InitContext, Learner};
use trajformer::rng::{Rng, Streams};
use trajformer::run::{self, RunOptions};
use trajformer::{Error, export, fit_with};
use trajformer_models::Result;
use trajformer_models::activation::Activation;
use trajformer_models::encoder::{Encoder, EncoderFactory, EncoderInput};
use trajformer_models::linear::Linear;
use trajformer_models::norm::LayerNorm;
use trajformer_models::params::{Scope, Slot, StateVisitor};

use crate::golden::relative_maximum;
use crate::runs::{
    check_same_checkpoint, check_same_run, config, pendulum_data, small, write_data,
};

/// A linear layer, then residual blocks: h + relu(layer(norm(h))).
pub struct Blocks {
    pub width: usize,
    pub blocks: usize,
}

struct Residual {
    first: Linear,
    blocks: Vec<(LayerNorm, Linear)>,
    width: usize,
}

impl EncoderFactory for Blocks {
    fn name(&self) -> String {
        format!("blocks-{}x{}", self.blocks, self.width)
    }

    fn build(&self, input: EncoderInput, scope: &mut Scope<'_>) -> Result<Box<dyn Encoder>> {
        let first = Linear::new(input.width(), self.width, &mut scope.sub("first"))?;
        let mut blocks = Vec::new();
        for i in 0..self.blocks {
            let block = &mut scope.sub("block");
            let block = &mut block.sub(i);
            let norm = LayerNorm::new(self.width, 1e-5, &mut block.sub("norm"))?;
            let layer = Linear::new(self.width, self.width, &mut block.sub("layer"))?;
            blocks.push((norm, layer));
        }
        Ok(Box::new(Residual {
            first,
            blocks,
            width: self.width,
        }))
    }
}

impl Encoder for Residual {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut hidden = self.first.forward(x)?;
        for (norm, layer) in &self.blocks {
            let inner = layer.forward(&norm.forward(&hidden)?)?;
            hidden = (hidden + Activation::Relu.forward(&inner)?)?;
        }
        Ok(hidden)
    }

    fn output_dim(&self) -> usize {
        self.width
    }
}

fn blocks(blocks: usize) -> Arc<dyn EncoderFactory> {
    Arc::new(Blocks { width: 8, blocks })
}

/// The hidden layers that the networks have anyway, with the names and initial values that they have.
struct Hidden(Vec<usize>);

struct Perceptron(Vec<Linear>, usize);

impl EncoderFactory for Hidden {
    fn name(&self) -> String {
        "perceptron".to_owned()
    }

    fn build(&self, input: EncoderInput, scope: &mut Scope<'_>) -> Result<Box<dyn Encoder>> {
        let (mut inputs, mut layers) = (input.width(), Vec::new());
        for (i, &width) in self.0.iter().enumerate() {
            layers.push(Linear::new(inputs, width, &mut scope.sub(2 * i))?);
            inputs = width;
        }
        Ok(Box::new(Perceptron(layers, inputs)))
    }
}

impl Encoder for Perceptron {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let relu = |x: Tensor, layer: &Linear| Activation::Relu.forward(&layer.forward(&x)?);
        self.0.iter().try_fold(x.clone(), relu)
    }

    fn output_dim(&self) -> usize {
        self.1
    }
}

/// Tensors of networks and targets.
#[derive(Default)]
struct Networks(BTreeMap<String, Slot>);

impl StateVisitor for Networks {
    fn tensor(&mut self, name: &str, slot: &Slot) -> Result<()> {
        if name.starts_with("model.") || name.starts_with("training.target_") {
            self.0.insert(name.to_owned(), slot.clone());
        }
        Ok(())
    }
}

impl Networks {
    fn copies(&self) -> BTreeMap<String, Tensor> {
        let copy = |slot: &Slot| slot.tensor().unwrap().copy().unwrap();
        let copies = self.0.iter().map(|(name, slot)| (name.clone(), copy(slot)));
        copies.collect()
    }
}

fn build(
    config: &AlgorithmConfig,
    data: &Dataset,
    encoder: Option<&Arc<dyn EncoderFactory>>,
) -> trajformer::Result<Box<dyn Algorithm>> {
    config.build(Build {
        source: Source::Train(data),
        bounds: &ActionBounds::new(&[-2.0], &[2.0], &Device::Cpu)?,
        fast: None,
        encoder,
        training_updates: 20,
        device: &Device::Cpu,
        rng: &mut Streams::from_seed(1).stream("init"),
    })
}

#[test]
fn every_algorithm_trains_with_an_encoder_of_the_callers_own_or_says_why_it_can_not() {
    let (data, encoder) = (pendulum_data(), blocks(2));
    let mut refused = Vec::new();
    for algorithm in ALGORITHMS {
        let name = algorithm.name;
        let text = format!("[algorithm.{name}]\n{}\n", small(name));
        let config = RunConfig::parse(&text).unwrap().algorithm;
        let mut algorithm = match build(&config, &data, Some(&encoder)) {
            Ok(algorithm) => algorithm,
            Err(Error::Encoder {
                name: encoder,
                problem,
            }) => {
                assert_eq!(encoder, "blocks-2x8");
                for words in [&*format!("`{name}` can't"), "leave the encoder out"] {
                    assert!(problem.contains(words), "{problem}");
                }
                refused.push(name);
                continue;
            }
            Err(other) => panic!("{name}: {other}"),
        };
        let mut networks = Networks::default();
        algorithm.state(&mut networks).unwrap();
        let (before, mut rng) = (networks.copies(), Rng::from_seed(1));
        // As many as the last phase of the smallest algorithms needs to reach every network.
        for _ in 0..20 {
            algorithm.update(&mut rng).unwrap();
        }
        let after = networks.copies();
        let mut owners = Vec::new();
        for (tensor, before) in &before {
            let (_, rest) = tensor.split_once('.').unwrap();
            let replaced = ["actor", "behavior", "critics", "target_critics", "value"];
            let is_replaced = replaced.iter().any(|network| rest.starts_with(network));
            assert!(!(is_replaced && rest.contains("net.")), "{name}: {tensor}");
            let Some((owner, _)) = rest.split_once(".encoder.").filter(|_| is_replaced) else {
                continue;
            };
            let moved = relative_maximum(before, &after[tensor]);
            assert!(moved > 0.0, "{name}: {tensor} was not trained");
            owners.push(owner.to_owned());
        }
        owners.dedup();
        let has = |owner: &str| owners.iter().any(|found| found == owner);
        assert!(has("actor"), "{name}: {owners:?}");
        assert_eq!(has("critics.0"), name != "bc", "{name}: {owners:?}");
        assert_eq!(has("value"), name == "iql", "{name}: {owners:?}");
        assert!(algorithm.work().is_none(), "{name}: nobody counted it");
        assert!(algorithm.policy().is_ok());
    }
    let expected = [
        "decision_transformer",
        "edac",
        "fast",
        "lamo",
        "online_dt",
        "qt",
        "reinformer",
        "tap",
        "trajectory_transformer",
    ];
    assert_eq!(refused, expected);
}

/// The name that a tensor of networks with [`Hidden`] has in networks without, and the member of an ensemble that it is.
fn built_in(name: &str) -> (String, Option<usize>) {
    let name = name
        .replace(".encoder.", ".net.")
        .replace(".head.", ".net.4.");
    for member in 0..2 {
        let part = format!("critics.{member}.");
        if name.contains(&part) {
            return (name.replace(&part, "critics."), Some(member));
        }
    }
    (name, None)
}

/// The tensor of the built-in networks that `name` stands for, in the layout of `shape`.
fn twin(networks: &Networks, name: &str, shape: &[usize]) -> Tensor {
    let (name, member) = built_in(name);
    let tensor = networks.0[&name].tensor().unwrap();
    let Some(member) = member else {
        return tensor;
    };
    let one = tensor.get(member).unwrap(); // (in, out), or (1, out)
    let one = if shape.len() == 2 {
        one.t().unwrap()
    } else {
        one
    };
    one.reshape(shape).unwrap()
}

fn batch(rng: &mut Rng) -> Batch {
    let mut normal = |shape: &[usize]| rng.normal_tensor(shape, DType::F64, &Device::Cpu).unwrap();
    Batch {
        observations: normal(&[32, 5]),
        actions: normal(&[32, 2]).tanh().unwrap(),
        rewards: normal(&[32]),
        next_observations: normal(&[32, 5]),
        terminated: normal(&[32]).gt(1.0).unwrap().to_dtype(DType::F64).unwrap(),
        next_actions: None,
        monte_carlo_returns: None,
    }
}

#[test]
fn an_encoder_that_is_the_perceptron_trains_as_the_perceptron_does() {
    /// Sums of some hundred terms in f64, added up in another order, and ten steps of Adam.
    const TOLERANCE: f64 = 1e-10;
    for actor in [ActorKind::Gaussian, ActorKind::Deterministic] {
        let config = IqlConfig {
            hidden: vec![24, 16],
            actor,
            ..IqlConfig::default()
        };
        let make = |encoder: Option<&Arc<dyn EncoderFactory>>| {
            let mut start = InitContext {
                observation_dim: 5,
                action_dim: 2,
                choices: None,
                stage: Stage::Learning,
                training_updates: 10,
                encoder,
                watch: &GradientWatch::default(),
                dtype: DType::F64,
                device: &Device::Cpu,
                rng: &mut Rng::from_seed(3),
            };
            let mut learner = Iql::new(&config, &mut start).unwrap();
            let mut networks = Networks::default();
            learner.state(&mut networks).unwrap();
            (learner, networks)
        };
        let factory: Arc<dyn EncoderFactory> = Arc::new(Hidden(config.hidden.clone()));
        let (mut stock, stock_networks) = make(None);
        let (mut own, own_networks) = make(Some(&factory));
        for (name, slot) in &own_networks.0 {
            let expected = twin(&stock_networks, name, slot.dims());
            if name.contains("critics") {
                // Numbers of all members are drawn layer by layer without the encoder.
                slot.set(&expected).unwrap();
            } else {
                let found = slot.tensor().unwrap();
                assert_eq!(relative_maximum(&found, &expected), 0.0, "first `{name}`");
            }
        }
        let (start, mut rng) = (own_networks.copies(), Rng::from_seed(5));
        for update in 0..10 {
            let batch = batch(&mut rng);
            let expected = stock.update(&batch, &()).unwrap().values().unwrap();
            let found = own.update(&batch, &()).unwrap().values().unwrap();
            assert_eq!(found.len(), expected.len());
            for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                let error = (found - expected).abs() / expected.abs().max(1e-3);
                assert!(
                    error < TOLERANCE,
                    "{name} of update {update}: {found} {expected}"
                );
            }
        }
        let mut trained = 0;
        for (name, slot) in &own_networks.0 {
            let (found, before) = (slot.tensor().unwrap(), &start[name]);
            let change = (&found - before).unwrap();
            let expected = (twin(&stock_networks, name, slot.dims()) - before).unwrap();
            assert!(relative_maximum(before, &found) > 0.0, "{name} stayed");
            let error = relative_maximum(&change, &expected);
            assert!(error < TOLERANCE, "change of {name}: {error:e}");
            trained += 1;
        }
        // Six tensors of each actor, V, two critics and their targets, and the actor's standard deviations.
        let log_std = usize::from(actor == ActorKind::Gaussian);
        assert_eq!(trained, 6 * 6 + log_std);
    }
}

#[test]
fn a_run_with_an_encoder_goes_on_and_opens_with_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let options = RunOptions {
        encoder: Some(blocks(2)),
        ..RunOptions::default()
    };
    let (whole, parts) = (folder.join("whole"), folder.join("parts"));
    let outcome = run::start_with(&config(folder, "iql", 20), &whole, &options).unwrap();
    run::start_with(&config(folder, "iql", 10), &parts, &options).unwrap();
    let more = ["train.updates=20".to_owned()];
    run::resume_with(&parts, &more, &options).unwrap();
    check_same_run(&whole, &parts, "with an encoder");
    let kept = fs::read_to_string(whole.join("config.toml")).unwrap();
    assert!(kept.contains("encoder = \"blocks-2x8\"\n"), "{kept}");
    let mut opened = run::open_custom(&whole, &[], &options).unwrap();
    assert_eq!(opened.evaluate().unwrap(), outcome.evaluation.unwrap());

    let memory = folder.join("memory");
    let mut fitted = fit_with(&config(folder, "iql", 20), &options).unwrap();
    fitted.save(&memory).unwrap();
    check_same_checkpoint(&whole, &memory, "in memory");
    let seeds = || {
        run::series(
            &config(folder, "iql", 5),
            &folder.join("s"),
            &[1, 2],
            &options,
        )
        .unwrap()
    };
    for series in [seeds(), seeds()] {
        assert!(series.failures.is_empty(), "{:?}", series.failures);
    }

    let is_refused = |result: Option<Error>, words: &str| match result {
        Some(Error::Encoder { name, problem }) => {
            assert_eq!(name, "blocks-2x8");
            assert!(problem.contains(words), "{problem}");
        }
        other => panic!("{words}: {other:?}"),
    };
    let further = ["train.updates=30", "algorithm.iql.actor_decay_updates=30"];
    let further = further.map(str::to_owned);
    let without = RunOptions::default();
    let other = RunOptions {
        encoder: Some(blocks(1)),
        ..RunOptions::default()
    };
    let lacks = "belongs to another program";
    is_refused(run::open(&whole, &[]).err(), lacks);
    is_refused(run::resume(&whole, &further).err(), lacks);
    let named = opened.config.clone();
    is_refused(run::start(&named, &folder.join("new")).err(), lacks);
    let another = "`blocks-1x8` is given";
    is_refused(run::open_custom(&whole, &[], &other).err(), another);
    is_refused(run::resume_with(&whole, &further, &other).err(), another);
    let exported = export::graph_of(&mut opened).err();
    is_refused(exported, "a policy of `iql` with it can't be exported");

    let plain = folder.join("plain");
    run::start(&config(folder, "iql", 5), &plain).unwrap();
    let none = "made without it";
    is_refused(run::open_custom(&plain, &[], &options).err(), none);
    is_refused(run::resume_with(&plain, &more, &options).err(), none);
    assert!(run::open_custom(&plain, &[], &without).is_ok());
    let sequences = config(folder, "decision_transformer", 5);
    let refused = run::start_with(&sequences, &folder.join("dt"), &options).err();
    is_refused(refused, "`decision_transformer` can't be trained with it");
    assert!(!folder.join("dt").exists());
}

/// An encoder under another's name.
struct Renamed(Blocks, &'static str);

impl EncoderFactory for Renamed {
    fn name(&self) -> String {
        self.1.to_owned()
    }

    fn build(&self, input: EncoderInput, scope: &mut Scope<'_>) -> Result<Box<dyn Encoder>> {
        self.0.build(input, scope)
    }
}

#[test]
fn tensors_of_another_encoder_are_never_taken_for_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let dataset = data::load_one(&folder.join("data.npz")).unwrap();
    let options = |width: usize, blocks: usize| {
        let factory = Renamed(Blocks { width, blocks }, "mine");
        RunOptions {
            data: Some(&dataset),
            encoder: Some(Arc::new(factory)),
            ..RunOptions::default()
        }
    };
    let out = folder.join("run");
    run::start_with(&config(folder, "iql", 5), &out, &options(8, 2)).unwrap();
    assert!(run::open_custom(&out, &[], &options(8, 2)).is_ok());
    for (width, blocks, tensor) in [
        (9, 2, "actor.encoder.first.weight"),
        (8, 3, "actor.encoder.block.2.norm.weight"),
        (8, 1, "model.actor.encoder.block.1.norm.weight"),
    ] {
        let problem = run::open_custom(&out, &[], &options(width, blocks)).err();
        let problem = problem.expect("another encoder").to_string();
        assert!(problem.contains(tensor), "{problem}");
    }
    // Nor where the name was taken out of the configuration.
    let path = out.join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("encoder = \"mine\"\n", "")).unwrap();
    let opened = run::open(&out, &[]).err().expect("perceptrons");
    let resumed = run::resume(&out, &["train.updates=10".to_owned()]).unwrap_err();
    for problem in [opened.to_string(), resumed.to_string()] {
        assert!(
            problem.contains("`encoder` was \"mine\", is not set"),
            "{problem}"
        );
    }
}
