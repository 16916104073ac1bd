//! LaMo against the authors' PyTorch, its frozen trunk, and the language model that it starts from.

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::Stage;
use trajformer::algorithms::lamo::{LamoConfig, Learner};
use trajformer::metrics::Metrics;
use trajformer::pretrained::gpt2;
use trajformer::text::CorpusConfig;
use trajformer_models::decision_transformer::Contexts;
use trajformer_models::dropout::Dropout;
use trajformer_models::lamo::{Lamo as Network, LamoConfig as Sizes, gpt2_trunk};
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;

use crate::golden::{Golden, check_close};
use crate::parity::{
    EXACT, EXACT_CHANGES, SINGLE, SINGLE_CHANGES, check_clipped_updates, check_gradients,
    check_metric, set_parameters,
};

/// With and without the loss on text.
const FILES: [&str; 2] = ["lamo", "lamo_text"];

/// The trunk is called `transformer_model.transformer` by the authors and `transformer` here.
fn name(name: &str) -> Option<String> {
    let inside = name.strip_prefix("transformer_model.");
    Some(inside.unwrap_or(name).to_owned())
}

/// All but the keys' part of the attention's bias, whose gradient is zero in exact arithmetic.
fn compared(name: &str, tensor: &Tensor) -> Option<Tensor> {
    if !name.ends_with("attn.c_attn.bias") {
        return Some(tensor.clone());
    }
    let width = tensor.elem_count() / 3;
    let part = |i: usize| tensor.narrow(0, i * width, width).expect("a part");
    Some(Tensor::cat(&[part(0), part(2)], 0).expect("parts"))
}

fn config(golden: &Golden) -> LamoConfig {
    LamoConfig {
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding: golden.integer("width"),
        rank: golden.integer("rank"),
        alpha: golden.number("alpha"),
        context_steps: golden.integer("context"),
        max_episode_steps: golden.integer("longest_episode"),
        dropout: 0.0,
        learning_rate: golden.number("learning_rate"),
        weight_decay: golden.number("weight_decay"),
        warmup_updates: golden.integer("warmup_steps") as u64,
        text: text(golden),
        ..LamoConfig::default()
    }
}

fn text(golden: &Golden) -> Option<CorpusConfig> {
    let weight = golden.constants["co_lambda"].as_f64()?;
    Some(CorpusConfig {
        path: "text.txt".into(),
        weight,
        batch_size: golden.dims("steps.text")[1],
        sequence_tokens: golden.integer("text_tokens"),
        vocabulary: golden.integer("vocabulary"),
    })
}

fn sizes(golden: &Golden) -> Sizes {
    let config = config(golden);
    Sizes {
        observation_dim: golden.integer("state_dim"),
        action_dim: golden.integer("action_dim"),
        trunk: gpt2_trunk(config.layers, config.heads, config.embedding),
        max_timesteps: config.max_episode_steps,
        embedding_dropout: 0.0,
        rank: config.rank,
        alpha: config.alpha,
        vocabulary: config.text.map_or(0, |text| text.vocabulary),
    }
}

/// A learner that starts from the golden parameters.
fn learner(golden: &Golden, dtype: DType) -> Learner {
    let mut params = Params::new(dtype, &Device::Cpu);
    Network::new(&sizes(golden), &mut params.init(&mut Rng::from_seed(0))).expect("a network");
    set_parameters(&params, golden, "param.", name);
    assert_eq!(params.len(), golden.under("param.").count());
    let (o, a) = (golden.integer("state_dim"), golden.integer("action_dim"));
    Learner::new(&config(golden), o, a, params, Stage::Learning).expect("a learner")
}

fn contexts(golden: &Golden, dtype: DType, step: usize) -> Contexts {
    let row = |tensor: &str| {
        golden
            .tensor(&format!("steps.{tensor}"))
            .get(step)
            .expect("a step")
            .contiguous()
            .expect("a copy")
    };
    let float = |tensor: &str| row(tensor).to_dtype(dtype).expect("numbers");
    Contexts {
        returns: float("returns_to_go"),
        observations: float("states"),
        actions: float("actions"),
        timesteps: row("timesteps"),
        mask: row("mask"),
        instructions: None,
    }
}

fn check(file: &str, dtype: DType, tolerance: f64, change_tolerance: f64) {
    let golden = Golden::load(file);
    let mut learner = learner(&golden, dtype);
    let frozen = golden.constants["frozen"].as_array().expect("names").len();
    let not_trained = learner.params().iter().filter(|param| !param.trainable);
    assert_eq!(not_trained.count(), frozen);

    let batch = contexts(&golden, dtype, 0);
    let mut detached = learner.params().detached();
    let network = Network::new(&sizes(&golden), &mut detached).expect("a network");
    let found = network.forward(&batch, Dropout::off()).expect("actions");
    let valid = |x: &Tensor| {
        let mask = batch
            .mask
            .to_dtype(DType::F64)
            .and_then(|mask| mask.unsqueeze(2));
        let x = x.to_dtype(DType::F64).expect("numbers");
        x.broadcast_mul(&mask.expect("a mask")).expect("a product")
    };
    let told = Contexts {
        instructions: Some(batch.mask.clone()),
        ..batch.clone()
    };
    assert!(network.forward(&told, Dropout::off()).is_err());
    let expected = valid(golden.tensor("predictions"));
    check_close("predictions", &valid(&found), &expected, tolerance);

    let learns_text = config(&golden).text.is_some();
    let text = |step| golden.tensor("steps.text").get(step).expect("a step");
    let tokens = |step| learns_text.then(|| text(step));
    let loss = learner.loss(&batch, Dropout::off()).expect("a loss");
    let mut with_text = loss.clone();
    if let Some(tokens) = tokens(0) {
        let mut tracked = learner.params().tracked();
        let network = Network::new(&sizes(&golden), &mut tracked).expect("a network");
        let of_text = network.text_loss(&tokens, Dropout::off()).expect("a loss");
        let found = of_text.reshape(1).expect("a loss");
        check_close("text loss", &found, golden.tensor("text_loss"), tolerance);
        with_text =
            (loss + (of_text * golden.number("co_lambda")).expect("a loss")).expect("a loss");
    }
    let loss = with_text;
    let found = loss.reshape(1).expect("a loss");
    check_close("loss", &found, golden.tensor("loss"), tolerance);
    let gradients = loss.backward().expect("gradients");
    check_gradients(
        learner.params(),
        &gradients,
        &golden,
        ("grad.", name, compared),
        tolerance,
    );

    let steps = golden.dims("steps.lr")[0];
    let update = |step| {
        let contexts = contexts(&golden, dtype, step);
        learner.update(&contexts, tokens(step).as_ref(), Dropout::off())
    };
    let metrics: trajformer::Result<Vec<Metrics>> = (0..steps).map(update).collect();
    let metrics = metrics.expect("ten updates");
    if tokens(0).is_some() {
        let first = golden.tensor("text_loss");
        check_metric(&metrics[..1], "text_loss", first, tolerance);
    }
    check_clipped_updates(
        learner.params(),
        &metrics,
        &golden,
        (name, compared),
        (tolerance, change_tolerance),
    );
}

#[test]
fn predictions_gradients_and_updates_agree_with_the_authors_in_double_precision() {
    for file in FILES {
        check(file, DType::F64, EXACT, EXACT_CHANGES);
    }
}

#[test]
fn they_agree_in_single_precision() {
    for file in FILES {
        check(file, DType::F32, SINGLE, SINGLE_CHANGES);
    }
}

/// A GPT-2 in a folder, with the golden trunk's numbers, under names with `prefix`, and buffers of old files.
fn gpt2_folder(golden: &Golden, prefix: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let width = golden.integer("width");
    let config = serde_json::json!({
        "model_type": "gpt2", "n_layer": golden.integer("layers"), "n_head": golden.integer("heads"), "n_embd": width,
        "n_inner": null, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut tensors = std::collections::HashMap::new();
    for (name, tensor) in golden.under("param.transformer_model.transformer.") {
        if !name.contains("lora_") {
            tensors.insert(
                format!("{prefix}{name}"),
                tensor.to_dtype(DType::F32).unwrap(),
            );
        }
    }
    let table = Tensor::zeros((7, width), DType::F32, &Device::Cpu).unwrap();
    tensors.insert(format!("{prefix}wte.weight"), table.clone());
    tensors.insert(format!("{prefix}wpe.weight"), table);
    let mask = Tensor::ones((1, 1, 4, 4), DType::U8, &Device::Cpu).unwrap();
    tensors.insert(format!("{prefix}h.0.attn.bias"), mask);
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder
}

#[test]
fn a_trunk_starts_from_a_language_model_whatever_its_names_begin_with() {
    let golden = Golden::load("lamo");
    for prefix in ["", "transformer."] {
        let folder = gpt2_folder(&golden, prefix);
        let mut params = Params::new(DType::F32, &Device::Cpu);
        Network::new(&sizes(&golden), &mut params.init(&mut Rng::from_seed(5))).unwrap();
        let mut learner = Learner::new(&config(&golden), 5, 3, params, Stage::Learning).unwrap();
        learner
            .set_trunk(&gpt2::load(folder.path()).unwrap())
            .unwrap();
        let mut count = 0;
        for (name, expected) in golden.under("param.transformer_model.") {
            if !name.contains("lora_") {
                let found = learner.params().get(name).unwrap().slot.tensor().unwrap();
                check_close(name, &found, expected, 1e-7); // rounded to f32
                count += 1;
            }
        }
        assert_eq!(count, 2 * 12 + 2);
    }
}

#[test]
fn text_is_read_with_the_language_models_own_table_of_tokens() {
    let golden = Golden::load("lamo_text");
    let folder = gpt2_folder(&golden, "");
    let path = folder.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let table = golden.tensor("param.transformer_model.transformer.wte.weight");
    tensors.insert("wte.weight".to_owned(), table.to_dtype(DType::F32).unwrap());
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let mut params = Params::new(DType::F32, &Device::Cpu);
    Network::new(&sizes(&golden), &mut params.init(&mut Rng::from_seed(5))).unwrap();
    let mut learner = Learner::new(&config(&golden), 5, 3, params, Stage::Learning).unwrap();
    learner
        .set_trunk(&gpt2::load(folder.path()).unwrap())
        .unwrap();
    let found = learner.params().get("transformer.wte.weight").unwrap();
    assert!(!found.trainable);
    let found = found.slot.tensor().unwrap();
    check_close("wte", &found, table, 1e-7); // rounded to f32
}

#[test]
fn a_language_model_that_does_not_fit_is_refused_with_what_to_do() {
    let golden = Golden::load("lamo");
    let set = |folder: &std::path::Path, config: &LamoConfig| {
        let mut params = Params::new(DType::F32, &Device::Cpu);
        let sizes = Sizes {
            trunk: gpt2_trunk(config.layers, config.heads, config.embedding),
            ..sizes(&golden)
        };
        Network::new(&sizes, &mut params.init(&mut Rng::from_seed(5))).unwrap();
        let mut learner = Learner::new(config, 5, 3, params, Stage::Learning).unwrap();
        let set = gpt2::load(folder).and_then(|gpt2| learner.set_trunk(&gpt2));
        set.expect_err("a bad folder").to_string()
    };
    let check = |problem: &str, words: &[&str]| {
        assert!(words.iter().all(|word| problem.contains(word)), "{problem}");
    };
    let good = gpt2_folder(&golden, "");
    let wider = LamoConfig {
        layers: 3,
        ..config(&golden)
    };
    check(
        &set(good.path(), &wider),
        &["2 layers", "width 16", "set `layers`"],
    );

    let weights = good.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    check(
        &set(good.path(), &config(&golden)),
        &["model.safetensors", "not a whole"],
    );
    std::fs::remove_file(&weights).unwrap();
    check(&set(good.path(), &config(&golden)), &["pytorch_model.bin"]);
    let other = serde_json::json!({"model_type": "bert"});
    std::fs::write(good.path().join("config.json"), other.to_string()).unwrap();
    check(
        &set(good.path(), &config(&golden)),
        &["config.json", "bert", "gpt2"],
    );
    check(
        &set(&good.path().join("nowhere"), &config(&golden)),
        &["config.json"],
    );
}
