//! Instructions: sentence embeddings against transformers, data with missions, runs that follow instructions.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use trajformer::checkpoint::RunDir;
use trajformer::config::{EvaluateConfig, RunConfig};
use trajformer::data::{self, Dataset};
use trajformer::evaluate::Evaluator;
use trajformer::policy::EpisodeStart;
use trajformer::policy::behavior::behavior;
use trajformer::text::SentenceEncoder;
use trajformer::{envs, instruct, run};
use trajformer_models::decision_transformer::{
    Contexts, DecisionTransformer, DecisionTransformerConfig,
};
use trajformer_models::dropout::Dropout;
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;

use crate::data_order::without;
use crate::golden::copy_of;

/// The numbers are of size 1 and pass two layers in f32.
const TOLERANCE: f64 = 1e-5;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/text")
        .join(name)
}

/// A copy of the tiny BERT's folder.
fn bert() -> tempfile::TempDir {
    copy_of(&golden("bert"))
}

fn open(folder: &Path) -> trajformer::Result<SentenceEncoder> {
    SentenceEncoder::open(folder.to_str().unwrap(), &Device::Cpu)
}

fn check_problem(problem: &str, words: &[&str]) {
    for word in words {
        assert!(problem.contains(word), "`{word}` is not in: {problem}");
    }
}

fn check_embeddings(folder: &Path) {
    check_embeddings_of(folder, "embeddings.json");
}

fn check_embeddings_of(folder: &Path, expected: &str) {
    let text = fs::read_to_string(golden(expected)).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let encoder = open(folder).unwrap();
    let all = |name: &str| expected[name].as_array().unwrap();
    let check = |sentence: &str, found: Vec<f32>, expected: &serde_json::Value| {
        let expected = expected.as_array().unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let difference = (f64::from(*found) - expected.as_f64().unwrap()).abs();
            assert!(difference < TOLERANCE, "{sentence}: {difference:e}");
        }
    };
    for (i, sentence) in all("sentences").iter().enumerate() {
        let sentence = sentence.as_str().unwrap();
        check(
            sentence,
            encoder.encode(sentence).unwrap(),
            &all("embeddings")[i],
        );
        check(
            sentence,
            encoder.encode_words(sentence).unwrap(),
            &all("words")[i],
        );
    }
}

#[test]
fn sentence_embeddings_are_those_of_transformers() {
    check_embeddings(&golden("bert"));
}

#[test]
fn gpt2_with_its_tokenizer_gives_the_mean_hidden_states_of_transformers() {
    check_embeddings_of(&golden("gpt2"), "gpt2_embeddings.json");
    let folder = copy_of(&golden("gpt2"));
    let path = folder.path().join("tokenizer.json");
    fs::remove_file(&path).unwrap();
    let problem = open(folder.path()).err().expect("no tokenizer").to_string();
    check_problem(&problem, &["tokenizer.json", "is missing"]);
    // BERT's has fewer words than GPT-2 has rows; the other way round there are too many.
    fs::copy(
        golden("bert").join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    fs::copy(golden("gpt2").join("tokenizer.json"), &path).unwrap();
    let problem = open(folder.path()).err().expect("a misfit").to_string();
    check_problem(&problem, &["tokenizer.json", "belong together"]);
}

#[test]
fn weights_of_a_pickle_and_with_a_prefix_give_the_same_embeddings() {
    let folder = bert();
    let safe = folder.path().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&safe, &Device::Cpu).unwrap();
    let prefixed = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("bert.{name}"), tensor));
    let prefixed: std::collections::HashMap<String, Tensor> = prefixed.collect();
    candle_core::safetensors::save(&prefixed, &safe).unwrap();
    check_embeddings(folder.path());
    fs::remove_file(safe).unwrap();
    fs::copy(
        golden("pytorch_model.bin"),
        folder.path().join("pytorch_model.bin"),
    )
    .unwrap();
    check_embeddings(folder.path());
}

#[test]
fn a_broken_encoder_says_which_file_and_what_to_do() {
    let problem = |change: &dyn Fn(&Path)| {
        let folder = bert();
        change(folder.path());
        open(folder.path())
            .err()
            .expect("a broken encoder")
            .to_string()
    };
    let remove =
        |name: &'static str| move |folder: &Path| fs::remove_file(folder.join(name)).unwrap();
    let write = |name: &'static str, text: &'static str| {
        move |folder: &Path| fs::write(folder.join(name), text).unwrap()
    };
    check_problem(
        &problem(&remove("tokenizer.json")),
        &["tokenizer.json", "is missing"],
    );
    check_problem(
        &problem(&remove("config.json")),
        &["config.json", "is missing"],
    );
    check_problem(
        &problem(&remove("model.safetensors")),
        &["pytorch_model.bin"],
    );
    check_problem(
        &problem(&write("tokenizer.json", "{}")),
        &["tokenizer.json", "no tokenizer"],
    );
    check_problem(
        &problem(&write("config.json", "{")),
        &["config.json", "JSON"],
    );
    check_problem(
        &problem(&write("config.json", "{\"model_type\": \"t5\"}")),
        &["config.json", "t5", "bert"],
    );
    let cut = |folder: &Path| {
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    };
    check_problem(&problem(&cut), &["model.safetensors", "not a whole"]);
    let spoil = |change: fn(&mut std::collections::HashMap<String, Tensor>)| {
        move |folder: &Path| {
            let path = folder.join("model.safetensors");
            let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
            change(&mut tensors);
            candle_core::safetensors::save(&tensors, path).unwrap();
        }
    };
    let missing = spoil(|tensors| drop(tensors.remove("encoder.layer.1.output.dense.weight")));
    check_problem(
        &problem(&missing),
        &["model.safetensors", "encoder.layer.1.output.dense.weight"],
    );
    let nan = spoil(|tensors| {
        let bad = Tensor::new(&[f32::NAN; 16], &Device::Cpu).unwrap();
        tensors.insert("embeddings.LayerNorm.bias".to_owned(), bad);
    });
    check_problem(&problem(&nan), &["embeddings.LayerNorm.bias", "not finite"]);
    let nowhere = open(Path::new("no/such/folder"))
        .err()
        .expect("no folder")
        .to_string();
    check_problem(&nowhere, &["no/such/folder", "config.json"]);
    for sentence in ["", "  "] {
        let problem = open(&golden("bert"))
            .unwrap()
            .encode(sentence)
            .expect_err("empty");
        check_problem(&problem.to_string(), &["empty"]);
    }
}

fn texts(data: &Dataset) -> Vec<Option<&str>> {
    data.episodes
        .iter()
        .map(|episode| episode.instruction.as_deref())
        .collect()
}

#[test]
fn instructions_are_read_from_every_format_and_kept_by_conversion() {
    let expected = [
        Some("go left"),
        None,
        Some("geh nach links, süß"),
        Some("go left"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for name in ["instructions.npz", "instructions.hdf5"] {
        let original = data::load_one(&golden(name)).unwrap();
        assert_eq!(texts(&original), expected, "{name}");
        for (number, copy) in ["copy.npz", "copy.hdf5", "copy-v0"].iter().enumerate() {
            let path = folder.path().join(format!("{name}-{number}")).join(copy);
            data::check_new(&path).unwrap();
            data::save(&original, &path).unwrap();
            let copy = data::load_one(&path).unwrap();
            assert_eq!(texts(&copy), expected, "{name} as {}", path.display());
            assert_eq!(copy.observations, original.observations);
        }
    }
    let missions = data::load_one(&golden("missions-v0")).unwrap();
    let original = data::load_one(&golden("instructions.npz")).unwrap();
    assert_eq!(missions.observations, original.observations);
    let expected = [
        Some("go left"),
        Some("stay"),
        Some("geh nach links, süß"),
        Some("go left"),
    ];
    assert_eq!(texts(&missions), expected);

    let joined = data::load(&[golden("instructions.npz"), golden("missions-v0")]).unwrap();
    assert_eq!(joined.episodes.len(), 8);
    let info = data::info(&joined);
    let counts: Vec<(&str, usize)> = info.instructions.iter().map(|(t, n)| (&**t, *n)).collect();
    assert_eq!(
        counts,
        [("go left", 4), ("geh nach links, süß", 2), ("stay", 1)]
    );
    check_problem(&info.to_string(), &["3 in 7 episodes: \"go left\", "]);
}

#[test]
fn as_many_texts_as_episodes_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = data::load_one(&golden("instructions.npz")).unwrap();
    // Without its end, and without the array that says so, the second episode runs into the third.
    data.episodes[1].truncated = false;
    let path = folder.path().join("short.npz");
    data::save(&data, &path).unwrap();
    assert_eq!(data::load_one(&path).unwrap().episodes.len(), 4);
    without(&path, "episode_parts.npy");
    let problem = data::load_one(&path).expect_err("3 episodes").to_string();
    check_problem(
        &problem,
        &["short.npz", "`instructions` has 4 texts, expected 3"],
    );
}

/// Data of the controller in the maze of rooms, told where to go.
pub fn rooms(steps: usize) -> Dataset {
    let mut env = envs::make("pointmaze-rooms").unwrap();
    let mut policy = behavior("waypoint-goal", env.spec(), &Default::default()).unwrap();
    data::collect::collect(&mut *env, &mut *policy, steps, 1).unwrap()
}

#[test]
fn the_controller_does_what_each_episode_asks_for() {
    let data = rooms(40 * 100);
    assert_eq!(data.episodes.len(), 40);
    for episode in &data.episodes {
        let text = episode.instruction.as_deref().expect("an instruction");
        let room = envs::rooms::Room::named_in(text).unwrap();
        let last = data.observation(episode.range().end - 1);
        assert!(
            room.contains((last[0] as usize, last[1] as usize)),
            "{text}: {last:?}"
        );
        let first = data.observation(episode.start);
        assert!(
            !room.contains((first[0] as usize, first[1] as usize)),
            "{text}: {first:?}"
        );
        assert_eq!(data.rewards[episode.range().end - 1], 1.0);
    }
    // Of 3,968 wordings, drawn for 40 episodes.
    assert!(data.instructions().len() > 35);
}

pub fn config(folder: &Path, updates: u64, further: &str) -> RunConfig {
    let text = format!(
        "[data]\npath = \"{}\"\n[train]\nupdates = {updates}\ncheckpoint_every_updates = 2\nlog_every_updates = 2\n\
         [evaluate]\nenv = \"pointmaze-rooms\"\nepisodes = 2\n[algorithm.decision_transformer]\nbatch_size = 4\n\
         layers = 1\nembedding = 8\ncontext_steps = 3\nwarmup_updates = 1\n{further}",
        folder.join("rooms.npz").display()
    );
    RunConfig::parse(&text).unwrap()
}

pub fn with_text(encoder: &Path) -> String {
    let encoder = encoder.display();
    format!(
        "[algorithm.decision_transformer.text]\nencoder = \"{encoder}\"\ndimension = 16\nnoise = 0.25\n"
    )
}

#[test]
fn a_run_follows_known_instructions_without_the_encoder_and_asks_it_for_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&rooms(1000), &folder.join("rooms.npz")).unwrap();
    let encoder = bert();
    let run_folder = folder.join("run");
    run::start(&config(folder, 4, &with_text(encoder.path())), &run_folder).unwrap();
    let known = RunDir::open(&run_folder)
        .unwrap()
        .instructions()
        .unwrap()
        .unwrap();
    // Of the data's ten episodes, and of the two that are evaluated.
    let all: Vec<&str> = known.texts().iter().map(|text| &**text).collect();
    assert_eq!(all.len(), 12);
    assert_eq!(
        all[10..],
        ["go to the upper left room", "go to the upper right room"]
    );
    // Of the sentence, then of its words, together of length 1.
    let (reference, text) = (open(encoder.path()).unwrap(), &known.texts()[0]);
    let (sentence, words) = (reference.encode(text), reference.encode_words(text));
    let scaled = |part: Vec<f32>, share: f32| part.into_iter().map(move |x| x * share.sqrt());
    let expected = scaled(sentence.unwrap(), 1.0 / 6.0).chain(scaled(words.unwrap(), 5.0 / 6.0));
    let found = known.embedding(text).unwrap();
    assert!((found.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_eq!(found.len(), 2 * 16);
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6);
    }
    let published = RunDir::open(&run_folder)
        .unwrap()
        .published_files()
        .unwrap();
    assert!(published.contains(&run_folder.join("instructions.safetensors")));
    // No other library knows such a model, and no graph holds its encoder.
    let description = fs::read_to_string(run_folder.join("config.json")).unwrap();
    assert!(
        !description.contains("DecisionTransformerModel"),
        "{description}"
    );
    let mut trained = run::open(&run_folder, &[]).unwrap();
    let refused = trajformer::export::write(&mut trained, &folder.join("rooms.onnx"));
    check_problem(
        &refused.unwrap_err().to_string(),
        &["instructions in words"],
    );

    let score = |texts: &[&str]| {
        let mut trained = run::open(&run_folder, &[])?;
        let settings = EvaluateConfig {
            episodes: 3,
            ..trained.config.evaluate.clone()
        };
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        instruct::score(&mut trained, &texts, &settings)
    };
    let scores = score(&[
        "go to the upper left room",
        "walk to the northern room in the west",
    ])
    .unwrap();
    assert_eq!((scores[0].known, scores[1].known), (true, false));
    let picture = folder.join("rooms.svg");
    instruct::draw(&picture, &scores).unwrap();
    check_problem(
        &fs::read_to_string(&picture).unwrap(),
        &[
            "go to the upper left room",
            "walk to the northern room in the west",
        ],
    );

    let away = folder.join("away");
    fs::rename(encoder.path(), &away).unwrap();
    assert!(score(&["go to the upper left room"]).is_ok());
    let problem = score(&["walk to the northern room in the west"])
        .expect_err("no encoder")
        .to_string();
    check_problem(
        &problem,
        &[
            "walk to the northern room",
            "needs the encoder",
            "config.json",
        ],
    );
    fs::rename(&away, encoder.path()).unwrap();
    check_problem(&score(&[" "]).expect_err("empty").to_string(), &["empty"]);
    check_problem(
        &score(&["go home"]).expect_err("no room").to_string(),
        &["`go home`", "upper left room"],
    );

    fs::write(run_folder.join("instructions.safetensors"), b"0123456789").unwrap();
    let problem = score(&["go to the upper left room"])
        .expect_err("damaged")
        .to_string();
    check_problem(
        &problem,
        &["instructions.safetensors", "damaged or cut off"],
    );
    fs::remove_file(run_folder.join("instructions.safetensors")).unwrap();
    let problem = score(&["go to the upper left room"])
        .expect_err("missing")
        .to_string();
    check_problem(&problem, &["instructions.safetensors is missing"]);
}

#[test]
fn noise_is_a_length() {
    let text = with_text(Path::new("bert")).replace("0.25", "-0.5");
    let text = format!("[data]\npath = \"x\"\n[algorithm.decision_transformer]\n{text}");
    let problem = RunConfig::parse(&text).expect_err("a negative length");
    check_problem(&problem.to_string(), &["text.noise", "-0.5"]);
}

#[test]
fn an_instructed_run_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data::save(&rooms(1000), &folder.join("rooms.npz")).unwrap();
    let text = with_text(&golden("bert"));
    run::start(&config(folder, 8, &text), &folder.join("whole")).unwrap();
    run::start(&config(folder, 4, &text), &folder.join("parts")).unwrap();
    run::resume(&folder.join("parts"), &["train.updates=8".to_owned()]).unwrap();
    for name in [
        "model.safetensors",
        "training.safetensors",
        "instructions.safetensors",
    ] {
        let bytes = |run: &str| fs::read(folder.join(run).join(name)).unwrap();
        assert!(bytes("whole") == bytes("parts"), "{name}");
    }
}

/// Small models of tokens, conditioned on embeddings of the tiny BERT.
pub fn token_models(folder: &Path, updates: u64) -> [RunConfig; 2] {
    let encoder = golden("bert");
    let tables = [
        "[algorithm.trajectory_transformer]\nlayers = 1\nheads = 1\nbins = 8\nwindow_transitions = 3\n\
         termination_penalty = \"none\"\nbatch_size = 4\ndropout = 0.1\n[algorithm.trajectory_transformer.planner]\n\
         horizon = 1\nbeam_width = 2\nmax_context_transitions = 2\n[algorithm.trajectory_transformer.text]\n",
        "[algorithm.fast]\nchunk_steps = 3\nexecute_steps = 2\nlayers = 1\nheads = 1\nembedding = 8\nscale = 2.0\n\
         vocab_size = 64\nbatch_size = 4\n[algorithm.fast.text]\n",
    ];
    tables.map(|table| {
        let text = format!(
            "[data]\npath = \"{}\"\n[train]\nupdates = {updates}\ncheckpoint_every_updates = 2\n\
             log_every_updates = 2\n[evaluate]\nenv = \"pointmaze-rooms\"\nepisodes = 0\n{table}encoder = \"{}\"\n\
             dimension = 16\nnoise = 0.25\n",
            folder.join("rooms.npz").display(),
            encoder.display()
        );
        RunConfig::parse(&text).unwrap()
    })
}

#[test]
fn models_of_tokens_follow_instructions_and_resume_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut data = rooms(1000);
    // The data may stop in the middle of an episode, which nobody gave an instruction.
    let last = data.episodes.last_mut().unwrap();
    (last.truncated, last.instruction) = (false, None);
    data::save(&data, &folder.join("rooms.npz")).unwrap();
    let told: Vec<String> = data
        .instructions()
        .iter()
        .map(ToString::to_string)
        .collect();
    for (whole, part) in token_models(folder, 8)
        .into_iter()
        .zip(token_models(folder, 4))
    {
        let name = whole.algorithm.name();
        let run_of = |part: &str| folder.join(format!("{name}-{part}"));
        run::start(&whole, &run_of("whole")).unwrap();
        run::start(&part, &run_of("parts")).unwrap();
        run::resume(&run_of("parts"), &["train.updates=8".to_owned()]).unwrap();
        for file in [
            "model.safetensors",
            "training.safetensors",
            "instructions.safetensors",
        ] {
            let bytes = |part: &str| fs::read(run_of(part).join(file)).unwrap();
            assert!(bytes("whole") == bytes("parts"), "{name}: {file}");
        }
        let mut trained = run::open(&run_of("whole"), &[]).unwrap();
        assert_eq!(
            trained
                .algorithm
                .instructed()
                .unwrap()
                .known()
                .texts()
                .len(),
            told.len()
        );
        let settings = EvaluateConfig {
            episodes: 2,
            ..trained.config.evaluate.clone()
        };
        let asked = [
            told[0].clone(),
            "walk to the northern room in the west".to_owned(),
        ];
        let scores = instruct::score(&mut trained, &asked, &settings).unwrap();
        assert_eq!((scores[0].known, scores[1].known), (true, false), "{name}");
        let silent = run::open(&run_of("whole"), &[]).unwrap();
        let mut policy = silent.algorithm.policy().unwrap();
        assert!(policy.needs_instruction());
        let nothing = [EpisodeStart {
            rng: Rng::from_seed(0),
            target_return: None,
            goal: None,
            instruction: None,
        }];
        let problem = policy.begin(&nothing).expect_err("no instruction");
        check_problem(&problem.to_string(), &["instructions", "none"]);
    }
}

#[test]
fn only_decision_transformers_read_returns_beside_instructions() {
    for name in ["trajectory_transformer", "fast"] {
        let text = format!(
            "[data]\npath = \"x\"\n[algorithm.{name}.text]\nencoder = \"bert\"\nreturns = true\n"
        );
        let problem = RunConfig::parse(&text).expect_err("returns");
        check_problem(&problem.to_string(), &["text.returns", "false"]);
    }
}

#[test]
fn data_runs_and_instructions_that_do_not_fit_each_other_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut silent = rooms(1000);
    silent.episodes[3].instruction = None;
    data::save(&silent, &folder.join("rooms.npz")).unwrap();
    let text = with_text(&golden("bert"));
    let start = |config: &RunConfig| {
        run::start(config, &folder.join("run"))
            .expect_err("a misfit")
            .to_string()
    };
    let problem = start(&config(folder, 4, &text));
    check_problem(&problem, &["1 of the data's 10 episodes", "`instructions`"]);
    data::save(&rooms(1000), &folder.join("rooms.npz")).unwrap();
    let problem = start(&config(
        folder,
        4,
        &text.replace("dimension = 16", "dimension = 384"),
    ));
    check_problem(&problem, &["`text.dimension` is 384", "16 numbers"]);
    let problem = start(&config(
        folder,
        4,
        &text.replace(&golden("bert").display().to_string(), "hf://a/b"),
    ));
    check_problem(&problem, &["a/b"]);

    // A run without language.
    let mut plain = config(folder, 4, "");
    run::start(&plain, &folder.join("run")).unwrap();
    let mut trained = run::open(&folder.join("run"), &[]).unwrap();
    let told = ["go to the upper left room".to_owned()];
    let settings = trained.config.evaluate.clone();
    let problem = instruct::score(&mut trained, &told, &settings)
        .expect_err("no language")
        .to_string();
    check_problem(&problem, &["trained without instructions"]);
    plain.evaluate.instructions = told.to_vec();
    let evaluator = Evaluator::new(&plain.evaluate).unwrap().unwrap();
    let policy = trained.algorithm.policy().unwrap();
    let problem = evaluator
        .check_goal(&*policy)
        .expect_err("no language")
        .to_string();
    check_problem(
        &problem,
        &["`evaluate.instructions`", "without instructions"],
    );
    plain.evaluate.instructions = vec![String::new()];
    check_problem(
        &plain.check().expect_err("empty").to_string(),
        &["`evaluate.instructions`", "empty"],
    );
}

#[test]
fn the_instruction_reaches_every_state_token_and_its_layer_gets_a_gradient() {
    let sizes = DecisionTransformerConfig {
        hidden: 8,
        layers: 1,
        inner: 12,
        max_timesteps: 3,
        positions: 4,
        instruction_dim: 5,
        ..DecisionTransformerConfig::paper(3, 2)
    };
    let rng = &mut Rng::from_seed(2);
    let mut params = Params::new(DType::F64, &Device::Cpu);
    DecisionTransformer::new(&sizes, &mut params.init(rng)).unwrap();
    let network = DecisionTransformer::new(&sizes, &mut params.tracked()).unwrap();
    let mut normal = |shape: &[usize]| rng.normal_tensor(shape, DType::F64, &Device::Cpu).unwrap();
    let contexts = Contexts {
        returns: normal(&[2, 3, 1]),
        observations: normal(&[2, 3, 3]),
        actions: normal(&[2, 3, 2]),
        timesteps: Tensor::new(&[[0u32, 1, 2], [0, 1, 2]], &Device::Cpu).unwrap(),
        mask: Tensor::ones((2, 3), DType::F64, &Device::Cpu).unwrap(),
        instructions: None,
    };
    let told = normal(&[2, 5]);
    let with = |told: &Tensor| Contexts {
        instructions: Some(told.clone()),
        ..contexts.clone()
    };
    let forward = |told: &Tensor| network.forward(&with(told), Dropout::off()).unwrap();
    let actions = forward(&told);
    // Only the second row is told something else: the first stays, every step of the second changes.
    let other = Tensor::cat(&[told.narrow(0, 0, 1).unwrap(), normal(&[1, 5])], 0).unwrap();
    let change = (forward(&other) - &actions)
        .unwrap()
        .abs()
        .unwrap()
        .max(2)
        .unwrap();
    let change = change.to_vec2::<f64>().unwrap();
    assert_eq!(change[0], [0.0; 3]);
    assert!(change[1].iter().all(|&change| change > 1e-4), "{change:?}");

    let loss = || forward(&told).sqr().unwrap().sum_all().unwrap();
    let slot = &params.get("embed_instruction.0.weight").unwrap().slot;
    let gradient = slot
        .gradient(&loss().backward().unwrap())
        .unwrap()
        .expect("a gradient");
    let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let start = slot.tensor().unwrap().copy().unwrap();
    let at = |by: f64| {
        let mut values = start.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        values[7] += by;
        slot.set(&Tensor::from_vec(values, start.shape(), &Device::Cpu).unwrap())
            .unwrap();
        loss().to_scalar::<f64>().unwrap()
    };
    let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
    assert!(
        (difference - gradient[7]).abs() < 1e-6,
        "{difference}, {}",
        gradient[7]
    );

    assert!(network.forward(&contexts, Dropout::off()).is_err());
    let deaf = DecisionTransformerConfig {
        instruction_dim: 0,
        ..sizes
    };
    let deaf =
        DecisionTransformer::new(&deaf, &mut Params::new(DType::F64, &Device::Cpu).init(rng))
            .unwrap();
    assert!(deaf.forward(&with(&told), Dropout::off()).is_err());
}
