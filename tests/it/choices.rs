//! Actions that are choices, from data to policies: runs, environments, files, exports.

use candle_core::{DType, Device, Tensor};
use trajformer::act::{ActOptions, Recorded, act};
use trajformer::algorithms::{ALGORITHMS, Actions};
use trajformer::choose::{ChooseOptions, choose};
use trajformer::config::RunConfig;
use trajformer::data::formats::in_memory::{self, Array, Values};
use trajformer::data::{self, ActionKind, collect};
use trajformer::evaluate::Evaluator;
use trajformer::fqe::FqeConfig;
use trajformer::policy::EpisodeStart;
use trajformer::policy::simple::RandomPolicy;
use trajformer::rng::Rng;
use trajformer::{Dataset, TrainedRun, envs, export, fit, run};

use crate::runs::{check_same_run, small};

/// Random choices on the cart.
fn cartpole(steps: usize) -> Dataset {
    let mut env = envs::make("cartpole-v1").unwrap();
    let mut random = RandomPolicy::new(env.spec());
    collect::collect(&mut *env, &mut random, steps, 1).unwrap()
}

/// A small run of `algorithm` on the cart.
fn config(algorithm: &str, more: &str) -> RunConfig {
    let text = format!(
        "seed = 3\ndevice = \"{}\"\n[train]\nupdates = 20\ncheckpoint_every_updates = 5\nlog_every_updates = 5\n\
         [evaluate]\nenv = \"cartpole-v1\"\nevery_updates = 10\nepisodes = 3\n[algorithm.{algorithm}]\n{}\n{more}\n",
        crate::device::name(),
        small(algorithm).replace(
            "target_returns = [-200.0, -1000.0]",
            "target_returns = [100.0, 20.0]"
        )
    );
    RunConfig::parse(&text).unwrap_or_else(|error| panic!("{algorithm}: {error}"))
}

fn names() -> impl Iterator<Item = &'static str> {
    let both = ALGORITHMS.iter().filter(|row| row.actions == Actions::Both);
    both.map(|row| row.name)
}

fn start(seed: u64) -> EpisodeStart {
    EpisodeStart::new(Rng::from_seed(seed))
}

#[test]
fn runs_resume_exactly_open_without_data_and_act_by_choices() {
    for name in names() {
        let folder = tempfile::tempdir().unwrap();
        let data = cartpole(400);
        let file = folder.path().join("data.npz");
        data::save(&data, &file).unwrap();
        let path = format!("data.path={}", toml::Value::from(file.to_str().unwrap()));
        let config = config(name, "").with_overrides(&[path]).unwrap();
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        run::start(&config, &whole).unwrap();
        let half = config
            .with_overrides(&["train.updates=10".to_owned()])
            .unwrap();
        run::start(&half, &parts).unwrap();
        run::resume(&parts, &["train.updates=20".to_owned()]).unwrap();
        check_same_run(&whole, &parts, name);

        let mut trained = run::open(&whole, &[]).unwrap();
        assert_eq!(trained.spec.action_choices, Some(2), "{name}");
        let recorded = Recorded::read(&file, &Default::default()).unwrap();
        let acted = act(&mut trained, &recorded, &ActOptions::default()).unwrap();
        let mut other = data.clone();
        other.actions[3] = 2.0;
        let other = Recorded::of_dataset(&file, other);
        let refused = act(&mut trained, &other, &ActOptions::default()).unwrap_err();
        assert!(
            refused.to_string().contains("row 3: 2, expected"),
            "{refused}"
        );
        assert_eq!(acted.shape, [400, 1], "{name}");
        let mut taken = acted.actions.clone();
        taken.sort_by(f32::total_cmp);
        taken.dedup();
        assert!(
            taken.iter().all(|a| *a == 0.0 || *a == 1.0),
            "{name}: {taken:?}"
        );
        let mut evaluator = Evaluator::new(&config.evaluation()).unwrap().unwrap();
        let found = evaluator
            .run(&mut *trained.algorithm.policy().unwrap())
            .unwrap();
        assert!(found.return_mean >= 8.0, "{name}: {}", found.return_mean);
    }
}

/// How often `policy` pushes right at one observation, in 4000 rows.
fn share(trained: &TrainedRun, observation: [f32; 4]) -> f64 {
    let rows = 4000;
    let mut policy = trained.sampling_policy().unwrap();
    assert!(policy.draws());
    policy
        .begin(&(0..rows).map(start).collect::<Vec<_>>())
        .unwrap();
    let observations = Tensor::new(&[observation], &Device::Cpu).unwrap();
    let observations = observations.broadcast_as((rows as usize, 4)).unwrap();
    let actions = policy.act(
        &observations.contiguous().unwrap(),
        &vec![true; rows as usize],
    );
    let actions = actions.unwrap();
    assert_eq!(actions.dims(), [rows as usize, 1]);
    f64::from(actions.mean_all().unwrap().to_scalar::<f32>().unwrap())
}

#[test]
fn sampled_choices_have_the_policys_probabilities_and_others_are_the_likeliest() {
    // Pushes right three times of four where the pole leans right, else one of eight.
    let mut data = cartpole(4000);
    let mut rng = Rng::from_seed(5);
    for step in 0..data.steps() {
        let right = data.observation(step)[2] > 0.0;
        let chance = if right { 0.75 } else { 0.125 };
        data.actions[step] = f32::from(u8::from(rng.uniform() < chance));
    }
    let more = "normalize_observations = true";
    let mut config = config("bc", more);
    config.train.updates = 400;
    let config = config
        .with_overrides(&[
            "algorithm.bc.batch_size=256".into(),
            "algorithm.bc.learning_rate=3e-3".into(),
        ])
        .unwrap();
    let trained = fit(&data, &config).unwrap();
    let (right, left) = ([0.0, 0.0, 0.1, 0.0], [0.0, 0.0, -0.1, 0.0]);
    // What 400 updates of a small network learn of 4,000 draws.
    assert!((share(&trained, right) - 0.75).abs() < 0.1);
    assert!((share(&trained, left) - 0.125).abs() < 0.1);
    let mut policy = trained.algorithm.policy().unwrap();
    policy.begin(&[start(0), start(1)]).unwrap();
    let observations = Tensor::new(&[right, left], &Device::Cpu).unwrap();
    let actions = policy.act(&observations, &[true; 2]).unwrap();
    assert_eq!(actions.to_vec2::<f32>().unwrap(), [[1.0], [0.0]]);

    let trained = fit(&data, &self::config("cql", "")).unwrap();
    let refused = trained.sampling_policy().err().unwrap().to_string();
    assert!(refused.contains("no distribution"), "{refused}");
}

#[test]
fn policies_of_choices_are_exported_with_the_choice_as_their_output() {
    for name in ["bc", "cql", "iql"] {
        let mut trained = fit(&cartpole(400), &config(name, "")).unwrap();
        // Compared with the policy where it is made.
        let graph = export::graph_of(&mut trained).unwrap();
        assert_eq!(graph.output, ("action".to_owned(), vec![1]), "{name}");
        let observations = Rng::from_seed(2).normal_tensor((50, 4), DType::F32, &Device::Cpu);
        let found = graph.run(&[observations.unwrap()]).unwrap();
        let found = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(
            found.iter().all(|a| *a == 0.0 || *a == 1.0),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn a_decision_transformer_of_choices_is_exported_with_the_likeliest_as_its_output() {
    let mut trained = fit(&cartpole(400), &config("decision_transformer", "")).unwrap();
    // Compared with the policy, step by step, where it is made.
    let graph = export::graph_of(&mut trained).unwrap();
    assert_eq!(graph.output, ("action".to_owned(), vec![1]));
    let steps = graph.inputs[0].dims[0];
    assert_eq!(graph.inputs[1].dims, [steps, 1]);
    assert!(
        graph.meaning.contains("numbers of choices, 0 to 1"),
        "{}",
        graph.meaning
    );
    let rng = &mut Rng::from_seed(3);
    let cpu = &Device::Cpu;
    let mut normals = |size| {
        let drawn = rng.normal_tensor((2000, steps, size), DType::F64, cpu);
        drawn.unwrap().to_dtype(DType::F32).unwrap()
    };
    let (observations, returns) = (normals(4), normals(1));
    let run = |actions: f32| {
        let actions = (Tensor::ones((2000, steps, 1), DType::F32, cpu).unwrap()
            * f64::from(actions))
        .unwrap();
        let times = Tensor::zeros((2000, steps), DType::I64, cpu).unwrap();
        let mask = Tensor::ones((2000, steps), DType::F32, cpu).unwrap();
        let inputs = [observations.clone(), actions, returns.clone(), times, mask];
        let found = graph.run(&inputs).unwrap();
        found.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let (zeros, ones) = (run(0.0), run(1.0));
    assert!(zeros.iter().chain(&ones).all(|a| *a == 0.0 || *a == 1.0));
    assert_ne!(zeros, ones, "what was done before counts");
    assert_eq!(run(7.0), ones, "what is no choice counts as the last");
}

#[test]
fn a_decision_transformer_of_choices_remembers_and_draws_them() {
    let data = cartpole(400);
    let trained = fit(&data, &config("decision_transformer", "")).unwrap();
    // What was done counts: the same observations after other actions are answered otherwise by some draw or logit.
    let observations = Tensor::new(&[[0.01f32, 0.2, -0.03, 0.4]; 200], &Device::Cpu).unwrap();
    let active = vec![true; 200];
    let mut policy = trained.sampling_policy().unwrap();
    policy
        .begin(&(0..200).map(start).collect::<Vec<_>>())
        .unwrap();
    let drawn = policy.act(&observations, &active).unwrap();
    let share = drawn.mean_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((0.05..0.95).contains(&share), "{share}");
    // Alone or beside others a row draws the same.
    let mut alone = trained.sampling_policy().unwrap();
    alone.begin(&[start(7)]).unwrap();
    let one = observations.narrow(0, 0, 1).unwrap();
    let found = alone.act(&one, &[true]).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(found[0], drawn.to_vec2::<f32>().unwrap()[7]);
}

#[test]
fn a_trajectory_transformer_plans_with_choices_as_their_own_tokens() {
    let data = cartpole(400);
    let mut trained = fit(
        &data,
        &config("trajectory_transformer", "planner.cdf_act = 0.0"),
    )
    .unwrap();
    let refused = export::graph_of(&mut trained).unwrap_err().to_string();
    assert!(refused.contains("more than one network"), "{refused}");
    // Ten bins and two choices: what is imagined in an action's place is one of them, in every plan.
    let mut policy = trained.algorithm.policy().unwrap();
    policy
        .begin(&(0..20).map(start).collect::<Vec<_>>())
        .unwrap();
    let observations = Tensor::new(&[[0.01f32, 0.2, -0.03, 0.4]; 20], &Device::Cpu).unwrap();
    policy.act(&observations, &[true; 20]).unwrap();
    let mut seen = [0, 0];
    for row in 0..20 {
        let imagined = policy.imagined(row).unwrap().unwrap();
        for action in imagined
            .actions
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
        {
            assert!(action == 0.0 || action == 1.0, "{action}");
            seen[action as usize] += 1;
        }
    }
    assert!(seen[0] > 20 && seen[1] > 20, "{seen:?}");
    let few = config("trajectory_transformer", "")
        .with_overrides(&["algorithm.trajectory_transformer.bins=1".to_owned()]);
    let refused = fit(&data, &few.unwrap()).err().unwrap().to_string();
    assert!(
        refused.contains("2 choices, each of which needs a token"),
        "{refused}"
    );
}

#[test]
fn data_and_environments_of_another_kind_of_actions_are_refused() {
    let data = cartpole(100);
    for (env, words) in [
        (
            "pendulum-v1",
            "3 observations and 1 actions, the data has 4 and one of 2 actions",
        ),
        ("acrobot-v1", "6 observations and one of 3 actions"),
    ] {
        let mut config = config("bc", "");
        config.evaluate.env = Some(env.to_owned());
        let refused = fit(&data, &config).err().unwrap().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    let wider = "data.action_range=[-1.0, 1.0]".to_owned();
    let config = config("bc", "").with_overrides(&[wider]).unwrap();
    let refused = fit(&data, &config).err().unwrap().to_string();
    assert!(refused.contains("`data.action_range`"), "{refused}");
}

#[test]
fn keys_that_mean_nothing_for_choices_are_refused_by_name() {
    let data = cartpole(100);
    for (algorithm, key) in [
        ("cql", "calibrate = true"),
        ("cql", "cloning_updates = 5"),
        ("cql", "penalty = \"policy_mean\""),
        ("cql", "lagrange_gap = 1.0"),
        ("cql", "max_backup = true"),
        ("cql", "actor_learning_rate = 0.1"),
        ("cql", "automatic_temperature = false"),
        ("iql", "actor = \"deterministic\""),
    ] {
        let refused = fit(&data, &config(algorithm, key))
            .err()
            .unwrap()
            .to_string();
        let name = key.split(' ').next().unwrap();
        let words = format!("`algorithm.{algorithm}.{name}`");
        assert!(
            refused.contains(&words) && refused.contains("choices"),
            "{refused}"
        );
    }
}

#[test]
fn policies_choose_among_all_that_the_environment_has() {
    let mut env = envs::make("acrobot-v1").unwrap();
    let mut random = RandomPolicy::new(env.spec());
    let mut data = collect::collect(&mut *env, &mut random, 300, 1).unwrap();
    // A file that knows of two choices, as one of integers does whose last choice was never taken.
    data.actions
        .iter_mut()
        .for_each(|action| *action = action.min(1.0));
    data.action_kind = ActionKind::Discrete { count: 2 };
    for (env, count) in [(None, 2), (Some("acrobot-v1".to_owned()), 3)] {
        let mut config = config("cql", "");
        config.evaluate.env = env;
        let trained = fit(&data, &config).unwrap();
        assert_eq!(trained.spec.action_choices, Some(count));
    }
}

#[test]
fn iql_and_cql_go_on_online_with_choices_and_resume_exactly() {
    let data = cartpole(200);
    let online = |algorithm, steps| {
        let set = [
            format!("online.steps={steps}"),
            "evaluate.every_updates=5".to_owned(),
        ];
        config(algorithm, "").with_overrides(&set).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    for name in ["iql", "cql"] {
        let [whole, parts] = ["whole", "parts"].map(|part| folder.path().join(name).join(part));
        let outcome = run::start_on(&online(name, 30), &data, &whole).unwrap();
        assert_eq!(outcome.update, 50);
        run::start_on(&online(name, 15), &data, &parts).unwrap();
        let set = ["online.steps=30".to_owned()];
        let options = run::RunOptions {
            data: Some(&data),
            ..run::RunOptions::default()
        };
        run::resume_with(&parts, &set, &options).unwrap();
        check_same_run(&whole, &parts, name);
    }
    let mut beyond = online("cql", 5);
    beyond.online.noise = Some(1.5);
    let refused = run::start_on(&beyond, &data, &folder.path().join("beyond"));
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("share of random ones: 0 to 1"),
        "{refused}"
    );
}

#[test]
fn critics_judge_given_choices() {
    let data = cartpole(400);
    for name in ["cql", "iql"] {
        let trained = fit(&data, &config(name, "")).unwrap();
        let observations = Tensor::new(&[[0.01f32, 0.2, -0.03, 0.4]; 2], &Device::Cpu).unwrap();
        let actions = Tensor::new(&[[0f32], [1.0]], &Device::Cpu).unwrap();
        let values = trained
            .algorithm
            .action_values(&observations, &actions)
            .unwrap();
        let values = values.unwrap().to_vec1::<f32>().unwrap();
        assert_ne!(values[0], values[1], "{name}");
        let best = f32::from(u8::from(values[1] > values[0]));
        if name == "cql" {
            let mut policy = trained.algorithm.policy().unwrap();
            policy.begin(&[start(0), start(1)]).unwrap();
            let acted = policy.act(&observations, &[true; 2]).unwrap();
            assert_eq!(acted.to_vec2::<f32>().unwrap(), [[best], [best]]);
        }
    }
}

/// Four steps in memory with these actions and, where they are given, so many choices.
fn four_steps(
    (shape, actions): (&[usize], &[f32]),
    choices: Option<f64>,
) -> trajformer::Result<Dataset> {
    let array = |name, shape: &[usize], values| Array {
        name,
        shape: shape.to_vec(),
        values,
    };
    let choices: Vec<f64> = choices.into_iter().collect();
    let mut arrays = vec![
        array("observations", &[4, 1], Values::F32(&[0.0, 0.5, 1.0, 1.5])),
        array("actions", shape, Values::F32(actions)),
        array("rewards", &[4], Values::F32(&[1.0, 0.0, 0.0, 1.0])),
        array("terminals", &[4], Values::F32(&[0.0, 0.0, 0.0, 1.0])),
    ];
    if !choices.is_empty() {
        arrays.push(array("action_choices", &[], Values::F64(&choices)));
    }
    in_memory::read(&arrays, None, None, &Default::default())
}

#[test]
fn networks_that_no_machine_has_room_for_are_refused_before_they_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let many = Dataset {
        action_kind: ActionKind::Discrete { count: 1 << 20 },
        env_name: None,
        ..cartpole(60)
    };
    let wide = Dataset {
        observation_dim: 1 << 20,
        observations: vec![0.0; 3 << 20],
        actions: vec![0.0, 1.0, 0.5],
        rewards: vec![0.0; 3],
        episodes: vec![trajformer::data::Episode {
            terminated: true,
            ..trajformer::data::Episode::new(0, 3)
        }],
        ..Dataset::blank(1 << 20, 1)
    };
    let cases = [
        ("bc", "hidden = [4096]", &many, "one of 1048576 actions"),
        ("cql", "hidden = [4096]", &many, "`action_choices`"),
        ("iql", "hidden = [4096]", &many, "one of 1048576 actions"),
        (
            "decision_transformer",
            "embedding = 128",
            &many,
            "`action_choices`",
        ),
        ("td3_bc", "hidden = [4096]", &wide, "1048576 observations"),
        ("bc", "hidden = [4096]", &wide, "the right columns"),
    ];
    for (name, keys, data, words) in cases {
        let text = format!("[algorithm.{name}]\nbatch_size = 1024\n{keys}\n");
        let config = RunConfig::parse(&text).unwrap();
        let out = folder.path().join(name);
        let error = run::start_on(&config, data, &out).unwrap_err().to_string();
        for words in [words, "GiB of memory or more", "batch_size"] {
            assert!(error.contains(words), "{name}, {words}: {error}");
        }
        assert!(!out.exists(), "{name}");
    }
}

#[test]
fn files_say_how_many_choices_there_are_for_integers_and_floats_alike() {
    let folder = tempfile::tempdir().unwrap();
    let actions = [0.0, 2.0, 1.0, 0.0];
    let data = four_steps((&[4, 1], &actions), None).unwrap();
    assert_eq!(data.action_kind, ActionKind::Continuous);
    for shape in [&[4][..], &[4, 1]] {
        let data = four_steps((shape, &actions), Some(5.0)).unwrap();
        assert_eq!(data.action_kind, ActionKind::Discrete { count: 5 });
        assert_eq!((data.action_dim, &data.actions[..]), (1, &actions[..]));
        // What is written is read as the same.
        for name in ["b.npz", "b.hdf5", "b-v0"] {
            let copy = folder.path().join(format!("{}-{name}", shape.len()));
            data::save(&data, &copy).unwrap();
            let copy = data::load_one(&copy).unwrap();
            assert_eq!(copy.action_kind, data.action_kind, "{name}");
            assert_eq!(copy.actions, data.actions, "{name}");
        }
        let info = data::info(&data);
        assert_eq!(info.action_counts, Some(vec![2, 1, 1, 0, 0]));
        let said = info.to_string();
        let expected = "one of 5 choices (steps with 0: 2, 1: 1, 2: 1, 3: 0, 4: 0)";
        assert!(said.contains(expected), "{said}");
    }
    let halves = [0.0, 2.5, 1.0, 0.0];
    for (actions, choices, words) in [
        (
            (&[4][..], &halves[..]),
            5.0,
            "row 1: 2.5, expected a choice",
        ),
        (
            (&[4], &actions),
            2.0,
            "the choice 2, but `action_choices` says 2",
        ),
        ((&[4], &actions), 0.0, "expected one whole number in 1..="),
        ((&[4, 2], &[0.0; 8]), 3.0, "holds 2 choices per step"),
    ] {
        let refused = four_steps(actions, Some(choices)).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn runs_of_choices_are_judged_and_chosen_among_by_data() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.npz");
    data::save(&cartpole(600), &log).unwrap();
    let set = |name: &str| {
        let path = format!("data.path = {:?}", log.display().to_string());
        let text = toml::to_string(&config(name, "")).unwrap();
        RunConfig::parse(&text)
            .unwrap()
            .with_overrides(&[path])
            .unwrap()
    };
    let runs: Vec<_> = ["bc", "cql", "iql", "decision_transformer"]
        .into_iter()
        .map(|name| {
            let out = folder.path().join(name);
            run::start(&set(name), &out).unwrap();
            out
        })
        .collect();
    let fqe = FqeConfig {
        updates: 100,
        members: 6,
        hidden: vec![16],
        discount: 0.9,
        learning_rate: 3e-3,
        ..FqeConfig::default()
    };
    let found = run::judge(&runs[1], &[], &log, &fqe).unwrap();
    assert_eq!(found.choices, Some(2));
    assert!((0.0..=1.0).contains(&found.action_distance), "{found:?}");
    let options = ChooseOptions {
        fqe,
        ..ChooseOptions::default()
    };
    let choice = choose(&runs, &options).unwrap();
    assert_eq!(choice.runs.len(), 4);
    for one in &choice.runs {
        assert!((0.0..=1.0).contains(&one.action_distance), "{one:?}");
        // A reward of 1 a step.
        assert!((0.0..20.0).contains(&one.value), "{one:?}");
        let critics = one.name.ends_with("cql") || one.name.ends_with("iql");
        assert_eq!(one.td_error.is_some(), critics, "{one:?}");
        assert_eq!(one.has_history, one.name.ends_with("decision_transformer"));
        if one.name.ends_with("cql") {
            assert_eq!(one.action_distance, found.action_distance);
        }
    }
    // Real numbers can't be judged by choices.
    let other = folder.path().join("numbers.npz");
    let mut numbers = cartpole(100);
    numbers.action_kind = ActionKind::Continuous;
    data::save(&numbers, &other).unwrap();
    for refused in [
        run::judge(&runs[0], &[], &other, &options.fqe).map(|_| ()),
        choose(
            &runs,
            &ChooseOptions {
                data: Some(other.clone()),
                ..options.clone()
            },
        )
        .map(|_| ()),
    ] {
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("one of 2 actions") && text.contains("1 actions"),
            "{text}"
        );
    }
}

#[test]
fn choices_that_are_one_or_saved_as_real_numbers_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = cartpole(60);
    let saved = |kind: ActionKind, action: fn(f32) -> f32| {
        let mut data = data.clone();
        data.action_kind = kind;
        data.actions
            .iter_mut()
            .for_each(|choice| *choice = action(*choice));
        data::save(&data, &folder.join("data.npz")).unwrap();
        crate::cli::succeeds(folder, &["data", "info", "data.npz"])
    };
    let discrete = |count| ActionKind::Discrete { count };
    let check = |said: String, words: &str, others: &[&str]| {
        assert!(said.contains(words), "{words}: {said}");
        for other in others {
            assert!(!said.contains(other), "{other}: {said}");
        }
    };
    let [always, whole] = [
        "every action is the choice",
        "every action is a whole number",
    ];
    check(
        saved(discrete(2), |choice| choice),
        "one of 2 choices",
        &[always, whole],
    );
    let one = "every action is the choice 1: nothing is known of any other of 2";
    check(saved(discrete(2), |_| 1.0), one, &[whole, "never change"]);
    let only = "every action is the choice 0, the only one that there is";
    check(
        saved(discrete(1), |_| 0.0),
        only,
        &[whole, "never change", "1 choices"],
    );
    let hint = "every action is a whole number from 0 to 1, and they are taken for real numbers: if they are choices";
    check(
        saved(ActionKind::Continuous, |choice| choice),
        hint,
        &[always],
    );
    let higher = saved(ActionKind::Continuous, |choice| choice + 2.0);
    check(
        higher,
        "a whole number from 2 to 3, and",
        &["number from 0", always],
    );
    let same = saved(ActionKind::Continuous, |_| 2.0);
    check(
        same,
        "every action is the whole number 2, and",
        &["number from"],
    );
    for real in [|choice| choice - 0.5, |choice: f32| 100.0 * choice, |_| 0.0] {
        let said = saved(ActionKind::Continuous, real);
        assert!(!said.contains(whole), "{said}");
    }
}
