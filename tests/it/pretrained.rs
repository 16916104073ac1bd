//! Models of other libraries: what `transformers` computes, and files that don't fit.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use trajformer::data::{ActionKind, Dataset};
use trajformer::pretrained::keys::JsonConfig;
use trajformer::pretrained::trajectory_transformer::Shape;
use trajformer::pretrained::{Request, decision_transformer, gpt2, weights};
use trajformer::{Result, run};
use trajformer_models::decision_transformer::{
    Contexts, DecisionTransformer, DecisionTransformerConfig, Predictions,
};
use trajformer_models::dropout::Dropout;
use trajformer_models::gpt::{AttentionMask, Gpt};
use trajformer_models::params::Params;
use trajformer_models::pretrained::{self, Tensors};
use trajformer_models::rng::Rng;
use trajformer_models::trajectory_transformer::{
    TrajectoryTransformer, TrajectoryTransformerConfig,
};

use crate::golden::{Golden, copy_of, relative_maximum};
use crate::hashed_weights;
use crate::runs::pendulum_data;

/// Single precision on both sides; outputs are of size one.
const TOLERANCE: f64 = 1e-5;

fn fixture(name: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hub");
    golden.join(name)
}

/// A copy of a fixture's files that a test may change.
fn copy(name: &str) -> tempfile::TempDir {
    copy_of(&fixture(name))
}

/// A folder with this `config.json`.
fn with_config(config: &serde_json::Value) -> (tempfile::TempDir, JsonConfig) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let json = JsonConfig::read(folder.path()).unwrap().unwrap();
    (folder, json)
}

/// Parameters of what `build` makes, with the hashed weights of the names that `theirs` gives.
fn hashed(params: &Params, theirs: fn(&str) -> String) -> Tensors {
    let named = params.iter().map(|param| {
        let name = theirs(&param.name);
        let tensor = hashed_weights::tensor(&name, param.slot.dims());
        (name, tensor)
    });
    named.collect()
}

fn network(
    sizes: &DecisionTransformerConfig,
    tensors: Option<Tensors>,
) -> (Params, DecisionTransformer) {
    let mut params = Params::new(DType::F32, &Device::Cpu);
    DecisionTransformer::new(sizes, &mut params.init(&mut Rng::from_seed(0))).unwrap();
    let tensors = tensors.unwrap_or_else(|| hashed(&params, str::to_owned));
    pretrained::set(&params, &pretrained::decision_transformer(tensors).unwrap()).unwrap();
    let network = DecisionTransformer::new(sizes, &mut params.detached()).unwrap();
    (params, network)
}

fn single(golden: &Golden, name: &str) -> Tensor {
    golden.tensor(name).to_dtype(DType::F32).unwrap()
}

fn contexts(golden: &Golden) -> Contexts {
    Contexts {
        returns: single(golden, "returns_to_go"),
        observations: single(golden, "states"),
        actions: single(golden, "actions"),
        timesteps: golden.tensor("timesteps").clone(),
        mask: single(golden, "attention_mask"),
        instructions: None,
    }
}

/// Fails unless the predictions are those of `transformers` wherever the mask is 1.
fn check_predictions(golden: &Golden, prefix: &str, found: &Predictions) {
    let mask = single(golden, "attention_mask").unsqueeze(2).unwrap();
    for (name, found) in [
        ("action_preds", &found.actions),
        ("state_preds", &found.observations),
        ("return_preds", &found.returns),
    ] {
        let expected = single(golden, &format!("{prefix}{name}"));
        let difference = (found - expected).unwrap().broadcast_mul(&mask).unwrap();
        let worst = difference.abs().unwrap().max_all().unwrap();
        let worst = f64::from(worst.to_scalar::<f32>().unwrap());
        assert!(worst < TOLERANCE, "{prefix}{name}: {worst:e}");
    }
}

#[test]
fn decision_transformers_of_the_hubs_sizes_predict_what_transformers_does() {
    for name in ["hopper", "halfcheetah"] {
        let golden = Golden::load(&format!("transformers_decision_transformer_{name}"));
        let (_folder, json) = with_config(&golden.constants["config"]);
        let sizes = decision_transformer::sizes(&json).unwrap();
        let (params, network) = network(&sizes, None);
        assert_eq!(params.elements(), golden.integer("parameters"), "{name}");
        let found = network.predictions(&contexts(&golden), Dropout::off());
        check_predictions(&golden, "", &found.unwrap());
    }
}

#[test]
fn a_decision_transformer_of_its_authors_predicts_what_their_code_does() {
    let golden = Golden::load("decision_transformer_hopper");
    let count = |key: &str| golden.integer(key);
    // `n_positions` is the class's default: the authors' network has no positions.
    let (folder, json) = with_config(&serde_json::json!({
        "model_type": "decision_transformer",
        "state_dim": count("state_dim"),
        "act_dim": count("action_dim"),
        "hidden_size": count("width"),
        "n_layer": count("layers"),
        "n_head": count("heads"),
        "max_ep_len": count("longest_episode"),
    }));
    let theirs = golden.under("param.");
    let theirs =
        theirs.map(|(name, _)| (name.to_owned(), single(&golden, &format!("param.{name}"))));
    let theirs: Tensors = theirs.collect();
    assert!(!theirs.contains_key("transformer.wpe.weight"));
    let mut sizes = decision_transformer::sizes(&json).unwrap();
    sizes.positions = 1;
    let (_, network) = network(&sizes, Some(theirs.clone()));
    let first = |name: &str| {
        let rows = golden.tensor(&format!("steps.{name}"));
        rows.get(0).unwrap().contiguous().unwrap()
    };
    let float = |name: &str| first(name).to_dtype(DType::F32).unwrap();
    let contexts = Contexts {
        returns: float("returns_to_go"),
        observations: float("states"),
        actions: float("actions"),
        timesteps: first("timesteps"),
        mask: float("mask"),
        instructions: None,
    };
    let found = network.predictions(&contexts, Dropout::off()).unwrap();
    let mask = float("mask").unsqueeze(2).unwrap();
    for (name, found) in [
        ("action_predictions", &found.actions),
        ("state_predictions", &found.observations),
    ] {
        let valid = |x: &Tensor| x.broadcast_mul(&mask).unwrap();
        check_close(name, &valid(found), &valid(&single(&golden, name)));
    }
    let file = folder.path().join("model.safetensors");
    candle_core::safetensors::save(&theirs.into_iter().collect(), file).unwrap();
    let named = ["pretrained.statistics=hopper-medium".to_owned()];
    open(folder.path(), &named, None).map(|_| ()).unwrap();
}

#[test]
fn keys_that_change_what_a_decision_transformer_computes_count() {
    let golden = Golden::load("transformers_decision_transformer_variants");
    let variants = golden.constants["configs"].as_object().unwrap();
    assert_eq!(variants.len(), 3);
    for (name, config) in variants {
        let (_folder, json) = with_config(config);
        let sizes = decision_transformer::sizes(&json).unwrap();
        let (_, network) = network(&sizes, None);
        let found = network.predictions(&contexts(&golden), Dropout::off());
        check_predictions(&golden, &format!("{name}."), &found.unwrap());
    }
}

#[test]
fn a_saved_decision_transformer_is_read_from_either_file() {
    let golden = Golden::load("transformers_decision_transformer_tiny");
    let folder = copy("decision_transformer");
    let json = JsonConfig::read(folder.path()).unwrap().unwrap();
    let sizes = decision_transformer::sizes(&json).unwrap();
    for file in ["model.safetensors", "pytorch_model.bin"] {
        let tensors = weights::read(&folder.path().join(file)).unwrap();
        let masks = tensors.keys().filter(|name| name.ends_with("masked_bias"));
        assert_eq!(masks.count(), 0, "{file}: masks are not read");
        let (_, network) = network(&sizes, Some(tensors));
        let found = network.predictions(&contexts(&golden), Dropout::off());
        check_predictions(&golden, "", &found.unwrap());
    }
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert!(weights::read_folder(folder.path()).is_ok());
    fs::remove_file(folder.path().join("pytorch_model.bin")).unwrap();
    let error = weights::read_folder(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("neither model.safetensors nor pytorch_model.bin"),
        "{error}"
    );
}

#[test]
fn keys_that_are_missing_take_the_defaults_of_the_classes() {
    let read = |name: &str| -> serde_json::Value {
        let text = fs::read(fixture(name).join("defaults.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let count = |value: &serde_json::Value, key: &str| value[key].as_u64().unwrap() as usize;
    let (_folder, json) = with_config(&serde_json::json!({}));
    let (sizes, expected) = (
        decision_transformer::sizes(&json).unwrap(),
        read("decision_transformer"),
    );
    for (key, found) in [
        ("state_dim", sizes.observation_dim),
        ("act_dim", sizes.action_dim),
        ("hidden_size", sizes.hidden),
        ("max_ep_len", sizes.max_timesteps),
        ("n_positions", sizes.positions),
        ("n_layer", sizes.layers),
        ("n_head", sizes.heads),
    ] {
        assert_eq!(found, count(&expected, key), "{key}");
    }
    assert!(expected["n_inner"].is_null() && sizes.inner == 4 * sizes.hidden);
    let (shape, expected) = (Shape::read(&json).unwrap(), read("trajectory_transformer"));
    for (key, found) in [
        ("observation_dim", shape.observation_dim),
        ("action_dim", shape.action_dim),
        ("vocab_size", shape.bins),
        ("block_size", shape.block_size),
        ("n_layer", shape.layers),
        ("n_head", shape.heads),
        ("n_embd", shape.embedding),
    ] {
        assert_eq!(found, count(&expected, key), "{key}");
    }
}

#[test]
fn settings_that_are_not_computed_here_are_refused() {
    for (key, value) in [
        ("action_tanh", serde_json::json!(false)),
        ("scale_attn_weights", serde_json::json!(false)),
        ("scale_attn_by_inverse_layer_idx", serde_json::json!(true)),
        ("layer_norm_epsilon", serde_json::json!(1e-12)),
        ("activation_function", serde_json::json!("silu")),
        ("n_layer", serde_json::json!("three")),
        ("hidden_size", serde_json::json!(-1)),
        ("vocab_size", serde_json::json!(50257)),
    ] {
        let mut config = serde_json::json!({"model_type": "decision_transformer"});
        config[key] = value;
        let (_folder, json) = with_config(&config);
        let error = decision_transformer::sizes(&json).unwrap_err().to_string();
        assert!(
            error.contains(&format!("`{key}` is ")) && error.contains("config.json"),
            "{error}"
        );
    }
}

fn trajectory_sizes(shape: &Shape) -> TrajectoryTransformerConfig {
    let transition = shape.observation_dim + shape.action_dim + 2;
    TrajectoryTransformerConfig {
        observation_dim: shape.observation_dim,
        action_dim: shape.action_dim,
        bins: shape.bins,
        layers: shape.layers,
        heads: shape.heads,
        embedding: shape.embedding,
        window_transitions: (shape.block_size + 1) / transition,
        embedding_dropout: 0.0,
        residual_dropout: 0.0,
        attention_dropout: 0.0,
        action_weight: 5.0,
        reward_weight: 1.0,
        value_weight: 1.0,
        multi_token_weight: 1.0,
        precision: trajformer_models::precision::Precision::Full,
        instruction_dim: 0,
        activation: trajformer_models::activation::Activation::Gelu,
        recipe: trajformer_models::trajectory_transformer::Recipe::default(),
    }
}

fn trajectory_network(shape: &Shape, tensors: Option<Tensors>) -> (Params, TrajectoryTransformer) {
    let sizes = trajectory_sizes(shape);
    let mut params = Params::new(DType::F32, &Device::Cpu);
    TrajectoryTransformer::new(&sizes, &mut params.init(&mut Rng::from_seed(0))).unwrap();
    let theirs = |name: &str| name.replace(".mlp.0.", ".l1.").replace(".mlp.2.", ".l2.");
    let tensors = tensors.unwrap_or_else(|| hashed(&params, theirs));
    pretrained::set(
        &params,
        &pretrained::trajectory_transformer(tensors).unwrap(),
    )
    .unwrap();
    let network = TrajectoryTransformer::new(&sizes, &mut params.detached()).unwrap();
    (params, network)
}

fn check_close(name: &str, found: &Tensor, expected: &Tensor) {
    let error = relative_maximum(found, expected);
    assert!(error < TOLERANCE, "{name}: {error:e}");
}

#[test]
fn trajectory_transformers_of_the_hubs_sizes_predict_what_transformers_did() {
    for name in ["hopper", "halfcheetah"] {
        let golden = Golden::load(&format!("transformers_trajectory_transformer_{name}"));
        let (_folder, json) = with_config(&golden.constants["config"]);
        let shape = Shape::read(&json).unwrap();
        let (params, network) = trajectory_network(&shape, None);
        assert_eq!(params.elements(), golden.integer("parameters"), "{name}");
        let tokens = golden.tensor("tokens");
        let short = network
            .logits(&tokens.narrow(1, 0, 20).unwrap(), None)
            .unwrap();
        check_close(name, &short, golden.tensor("short"));
        let last = golden.tensor("last");
        let (length, count) = (tokens.dims()[1], last.dims()[1]);
        let long = network.logits(tokens, None).unwrap();
        check_close(name, &long.narrow(1, length - count, count).unwrap(), last);
    }
}

#[test]
fn a_saved_trajectory_transformer_is_read_under_either_name() {
    let golden = Golden::load("transformers_trajectory_transformer_tiny");
    let json = JsonConfig::read(&fixture("trajectory_transformer"))
        .unwrap()
        .unwrap();
    let shape = Shape::read(&json).unwrap();
    let authors = Shape {
        layers: 1,
        heads: 1,
        embedding: 32,
        ..shape
    };
    for (file, shape, logits) in [
        ("trajectory_transformer/pytorch_model.bin", shape, "logits"),
        (
            "trajectory_transformer_authors/state_3.pt",
            authors,
            "authors",
        ),
    ] {
        let tensors = weights::read(&fixture(file)).unwrap();
        assert!(!tensors.contains_key("blocks.0.attn.mask"));
        let (_, network) = trajectory_network(&shape, Some(tensors));
        let found = network.logits(golden.tensor("tokens"), None).unwrap();
        check_close(file, &found, golden.tensor(logits));
    }
}

#[test]
fn gpt2_is_read_with_and_without_its_prefix_and_from_pickles_of_old() {
    let golden = Golden::load("transformers_gpt2");
    for folder in ["gpt2", "gpt2_head", "gpt2_old"] {
        let model = gpt2::load(&fixture(folder)).unwrap();
        let mut params = Params::new(DType::F32, &Device::Cpu);
        Gpt::new(&model.config, &mut params.init(&mut Rng::from_seed(0))).unwrap();
        pretrained::set(&params, &model.weights.trunk).unwrap();
        let trunk = Gpt::new(&model.config, &mut params.detached()).unwrap();

        let tokens = golden.tensor("tokens");
        let (batch, time) = tokens.dims2().unwrap();
        let table = &model.weights.token_embedding;
        let x = table
            .index_select(&tokens.flatten_all().unwrap(), 0)
            .unwrap();
        let x = x.reshape((batch, time, ())).unwrap();
        let positions = model.weights.position_embedding.narrow(0, 0, time).unwrap();
        let mask = single(&golden, "mask");
        let valid = AttentionMask {
            hidden_period: None,
            valid: Some(mask.clone()),
        };
        let x = x.broadcast_add(&positions).unwrap();
        let found = trunk.forward(&x, &valid, Dropout::off(), 0).unwrap();
        let mask = mask.unsqueeze(2).unwrap();
        let expected = single(&golden, "hidden").broadcast_mul(&mask).unwrap();
        check_close(folder, &found.broadcast_mul(&mask).unwrap(), &expected);

        let first = model.weights.position_embedding.get(0).unwrap();
        let x = single(&golden, "embeddings").broadcast_add(&first).unwrap();
        let found = trunk.forward(&x, &AttentionMask::default(), Dropout::off(), 0);
        check_close(folder, &found.unwrap(), golden.tensor("embedded"));
    }
}

#[test]
fn everything_that_does_not_fit_is_listed_join() {
    let folder = copy("decision_transformer");
    let file = folder.path().join("model.safetensors");
    let mut tensors = weights::read(&file).unwrap();
    let taken = tensors.remove("encoder.h.1.attn.c_proj.bias").unwrap();
    tensors.insert("encoder.h.9.attn.c_proj.bias".into(), taken);
    tensors.remove("predict_return.bias");
    let narrow = tensors["embed_state.weight"].narrow(1, 0, 2).unwrap();
    tensors.insert("embed_state.weight".into(), narrow.contiguous().unwrap());
    let bad = Tensor::new(&[f32::NAN; 16], &Device::Cpu).unwrap();
    tensors.insert("embed_ln.bias".into(), bad);
    candle_core::safetensors::save(&tensors.into_iter().collect(), &file).unwrap();
    let named = ["pretrained.statistics=hopper-medium".to_owned()];
    let error = open(folder.path(), &named, None).err().unwrap();
    for part in [
        "2 missing: `encoder.h.1.attn.c_proj.bias` [16], `predict_return.bias` [1]",
        "1 of another shape: `embed_state.weight` [16, 2] (expected [16, 3])",
        "1 unknown: `encoder.h.9.attn.c_proj.bias` [16]",
        "1 not finite: `embed_ln.bias`",
    ] {
        assert!(error.contains(part), "{part}\n{error}");
    }
    assert!(
        error.contains(&folder.path().display().to_string()),
        "{error}"
    );
}

#[test]
fn damaged_files_are_said_to_be_so() {
    let folder = copy("decision_transformer");
    for name in ["model.safetensors", "pytorch_model.bin"] {
        let file = folder.path().join(name);
        let whole = fs::read(&file).unwrap();
        for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..length]).unwrap();
            let error = weights::read(&file).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("fetch it again"),
                "{length}: {error}"
            );
        }
        fs::write(&file, b"<html>not a model</html>").unwrap();
        assert!(weights::read(&file).is_err());
    }
    let old = fs::read(fixture("gpt2_old").join("pytorch_model.bin")).unwrap();
    let file = folder.path().join("pytorch_model.bin");
    let step = old.len() / 50;
    for length in (2..old.len()).step_by(step).chain([21, old.len() - 1]) {
        fs::write(&file, &old[..length]).unwrap();
        let error = weights::read(&file).unwrap_err().to_string();
        assert!(error.contains("fetch it again"), "{length}: {error}");
    }
    fs::write(folder.path().join("config.json"), "{\"model_type\":").unwrap();
    let error = open(folder.path(), &[], None).err().unwrap();
    assert!(error.contains("config.json: not JSON"), "{error}");
}

/// Opens a folder; the error's text.
fn open(
    folder: &Path,
    overrides: &[String],
    data: Option<&Dataset>,
) -> std::result::Result<run::TrainedRun, String> {
    let request = Request {
        overrides,
        data,
        env: Some("pendulum-v1"),
        ..Request::default()
    };
    let opened: Result<run::TrainedRun> = run::open_with(folder, &request);
    opened.map_err(|error| error.to_string())
}

/// Actions of the first steps at fixed observations.
fn actions(trained: &run::TrainedRun) -> Vec<f32> {
    let mut policy = trained.algorithm.policy().unwrap();
    let start = trajformer::policy::EpisodeStart {
        rng: Rng::from_seed(1),
        target_return: None,
        goal: None,
        instruction: None,
    };
    policy.begin(&[start]).unwrap();
    let mut found = Vec::new();
    for step in 0..3 {
        let angle = 0.3 + 0.1 * step as f32;
        let observation = Tensor::new(&[[angle.cos(), angle.sin(), 0.5f32]], &Device::Cpu).unwrap();
        let action = policy.act(&observation, &[true]).unwrap();
        found.extend(action.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        policy.observe(&[-1.0]).unwrap();
    }
    found
}

#[test]
fn a_decision_transformer_needs_statistics_once() {
    let folder = copy("decision_transformer");
    let error = open(folder.path(), &[], None).err().unwrap();
    assert!(
        error.contains("give the data that it was trained on")
            && error.contains("pretrained.statistics"),
        "{error}"
    );
    let unknown = ["pretrained.statistics=ant-medium".to_owned()];
    let error = open(folder.path(), &unknown, None).err().unwrap();
    assert!(error.contains("expected one of hopper-expert"), "{error}");

    let data = pendulum_data();
    let first = open(folder.path(), &[], Some(&data)).unwrap();
    assert!(folder.path().join("policy.safetensors").exists());
    let again = open(folder.path(), &[], None).unwrap();
    assert_eq!(actions(&first), actions(&again));
    // Statistics matter: those of other data act otherwise.
    let mut other = data.clone();
    other
        .observations
        .iter_mut()
        .for_each(|x| *x = *x * 2.0 + 1.0);
    let other = open(folder.path(), &[], Some(&other)).unwrap();
    assert_ne!(actions(&first), actions(&other));

    let sizes = ["algorithm.decision_transformer.layers=5".to_owned()];
    let error = open(folder.path(), &sizes, None).err().unwrap();
    assert!(
        error.contains("decided by the model's files (2)"),
        "{error}"
    );
    let target = ["algorithm.decision_transformer.target_returns=[-5000.0]".to_owned()];
    let aimed = open(folder.path(), &target, None).unwrap();
    assert_ne!(actions(&aimed), actions(&other));
}

#[test]
fn the_gym_models_bring_their_statistics_by_name() {
    let parent = tempfile::tempdir().unwrap();
    let snapshot = "models--edbeeching--decision-transformer-gym-hopper-medium/snapshots/0123";
    for name in ["decision-transformer-gym-hopper-medium", snapshot] {
        let folder = parent.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let golden = Golden::load("transformers_decision_transformer_hopper");
        let mut config = golden.constants["config"].clone();
        config["model_type"] = "decision_transformer".into();
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let json = JsonConfig::read(&folder).unwrap().unwrap();
        let (params, _) = network(&decision_transformer::sizes(&json).unwrap(), None);
        let tensors = params.tensors().unwrap().into_iter().collect();
        candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
        let request = Request::default();
        let mut trained = run::open_with(&folder, &request).unwrap();
        assert_eq!(trained.config.evaluate.env.as_deref(), Some("hopper-v4"));
        assert_eq!(
            trained.algorithm.policy().unwrap().target_returns(),
            [3600.0, 1800.0]
        );
        let mut seen = Means::default();
        trained.algorithm.state(&mut seen).unwrap();
        assert_eq!(seen.0[0], 1.311_279);
    }
}

/// Means of observations, from an algorithm's state.
#[derive(Default)]
struct Means(Vec<f32>);

impl trajformer_models::params::StateVisitor for Means {
    fn tensor(
        &mut self,
        name: &str,
        slot: &trajformer_models::params::Slot,
    ) -> trajformer_models::Result<()> {
        if name == "policy.normalizer.mean" {
            self.0 = slot.tensor()?.to_vec1()?;
        }
        Ok(())
    }
}

#[test]
fn a_trajectory_transformer_needs_its_data_once() {
    let quick = ["horizon=2", "beam_width=4"]
        .map(|key| format!("algorithm.trajectory_transformer.planner.{key}"));
    for name in ["trajectory_transformer", "trajectory_transformer_authors"] {
        let folder = copy(name);
        let error = open(folder.path(), &quick, None).err().unwrap();
        assert!(
            error.contains("discretiser") && error.contains("give the data"),
            "{error}"
        );
        let mut data = pendulum_data();
        // Parts that the weights were learned without, though they may fit.
        for key in ["qk_norm=true", "norm=rms", "mlp=squared_relu"] {
            let key = [format!("algorithm.trajectory_transformer.{key}")];
            let error = open(folder.path(), &key, Some(&data)).err().unwrap();
            assert!(error.contains("decided by the model's files"), "{error}");
        }
        let first = open(folder.path(), &quick, Some(&data)).unwrap();
        let again = open(folder.path(), &quick, None).unwrap();
        assert_eq!(actions(&first), actions(&again));
        data.action_kind = ActionKind::Discrete { count: 2 };
        assert!(open(folder.path(), &quick, Some(&data)).is_err());
        let other = Dataset::blank(4, 1);
        let error = open(folder.path(), &quick, Some(&other)).err().unwrap();
        assert!(
            error.contains("the model has 3 observations and 1 actions"),
            "{error}"
        );
        let (fed, algorithm) = (first.spec.observation_dim, first.config.algorithm.name());
        assert_eq!((fed, algorithm), (3, "trajectory_transformer"));
        fs::write(folder.path().join("policy.safetensors"), b"{}").unwrap();
        let error = open(folder.path(), &quick, None).err().unwrap();
        assert!(error.contains("policy.safetensors"), "{error}");
    }
}

/// What an import makes of data and environment can be set as long as something is made of them.
#[test]
fn settings_count_for_models_of_other_libraries_while_something_is_made_of_them() {
    let quick = ["planner.horizon=2", "planner.beam_width=4"];
    let opened = |folder: &Path, key: &str, data: Option<&Dataset>| {
        let quick = quick.map(|key| format!("algorithm.trajectory_transformer.{key}"));
        open(folder, &[&quick[..], &[key.to_owned()]].concat(), data)
    };
    let (folder, data) = (copy("trajectory_transformer"), pendulum_data());
    let uniform = "algorithm.trajectory_transformer.discretizer=uniform";
    let fitted = opened(folder.path(), uniform, Some(&data)).unwrap();
    let quantiles = opened(folder.path(), "evaluate.seed=1", Some(&data)).unwrap();
    assert_ne!(actions(&fitted), actions(&quantiles));
    let late = opened(folder.path(), uniform, None).err().unwrap();
    assert!(late.contains(&format!("`{uniform}`")), "{late}");
    let range = "data.action_range=[-0.25, 0.25]";
    let narrow = opened(folder.path(), range, None).unwrap();
    assert_eq!(narrow.spec.action_low, [-0.25]);

    let folder = copy("decision_transformer");
    open(folder.path(), &[], Some(&data)).unwrap();
    for set in [
        range,
        "train.updates=3",
        "algorithm.decision_transformer.batch_size=3",
    ] {
        let error = open(folder.path(), &[set.to_owned()], None).err().unwrap();
        for word in [&format!("`{set}`"), "target_returns"] {
            assert!(error.contains(word), "{error}");
        }
    }
}

#[test]
fn other_folders_are_no_policies() {
    let error = open(&fixture("gpt2"), &[], None).err().unwrap();
    assert!(
        error.contains("`model_type` is `gpt2`, which is no policy"),
        "{error}"
    );
    let empty = tempfile::tempdir().unwrap();
    let error = open(empty.path(), &[], None).err().unwrap();
    assert!(error.contains("not a run directory"), "{error}");
    for (path, words) in [
        (empty.path().join("nowhere"), "there is no such folder"),
        (PathBuf::from("someone/model"), "named hf://someone/model"),
        (
            fixture("gpt2/model.safetensors"),
            "name the folder that holds it",
        ),
    ] {
        let error = open(&path, &[], None).err().unwrap();
        assert!(
            error.contains(words) && error.contains("not a run directory"),
            "{error}"
        );
    }
}
