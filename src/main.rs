//! The `trajformer` command: parse, compose, print results, exit.

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser;
use serde_json::json;
use trajformer::cli::{
    BenchCommand, Cli, CollectArgs, Command, CompareArgs, ConfigCommand, DataCommand, DemoArgs,
    EvaluateArgs, PlanArgs, TrainArgs,
};
use trajformer::config::RunConfig;
use trajformer::evaluate::{self, Evaluator};
use trajformer::policy::behavior::behavior;
use trajformer::policy::file::{FilePolicyOptions, HiddenActivation, OutputActivation};
use trajformer::trainer::{Outcome, STOP};
use trajformer::{bench, compare, data, demo, envs, preview, run};
use trajformer_models::kernels::switch;

/// Exit status after Ctrl-C, as shells use it.
const INTERRUPTED: u8 = 130;

/// Stack of each thread in the pool.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let cli = Cli::parse();
    settle_threads(cli.threads);
    let filter = tracing_subscriber::EnvFilter::try_from_env("TRAJFORMER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
    // Inside the pool, so that handing it work costs no switch of threads.
    let kernels = switch::check().map_err(anyhow::Error::msg);
    match kernels.and_then(|()| rayon::scope(|_| dispatch(cli.command))) {
        Ok(code) => code,
        Err(error) => {
            // Some errors quote their source already; say each thing once.
            let mut text = error.to_string();
            for cause in error.chain().skip(1) {
                let cause = cause.to_string();
                if !text.contains(&cause) {
                    text = format!("{text}: {cause}");
                }
            }
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// One pool of threads for everything: rayon's, of this many threads or as RAYON_NUM_THREADS says.
///
/// candle has a pool of its own beside it, whose threads spin while they wait and take the processor
/// from ours: it gets one thread (CANDLE_NUM_THREADS wins where it is set).
fn settle_threads(threads: Option<NonZeroUsize>) {
    let mut settings = Vec::new();
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        settings.push(("CANDLE_NUM_THREADS", "1".to_owned()));
    }
    settings.extend(threads.map(|threads| ("RAYON_NUM_THREADS", threads.to_string())));
    for (name, value) in settings {
        // Reason for `unsafe`: the environment may change only while there is one thread. This runs
        // first in `main`; pools read it when they start.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, value);
        }
    }
    // As deep as the main thread's: gradients of deep graphs recurse.
    let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES);
    if let Err(error) = pool.build_global() {
        eprintln!("warning: the pool of threads keeps its defaults: {error}");
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo(&args),
        Command::Plan(args) => plan(&args),
        Command::Train(args) => train(&args),
        Command::Evaluate(args) => evaluate(&args),
        Command::Compare(args) => compare(&args),
        Command::Bench(command) => bench(&command),
        Command::Data(DataCommand::Info { path, json }) => data_info(&path, json),
        Command::Data(DataCommand::Convert { input, output }) => {
            data::convert(&input, &output)?;
            println!("wrote {}", output.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Data(DataCommand::Collect(args)) => collect(&args),
        Command::Config(ConfigCommand::Show { config, overrides }) => {
            print!("{}", RunConfig::load(&config, &overrides)?.to_toml()?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn train(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    // Without a handler Ctrl-C would lose the updates since the last checkpoint, no more.
    if let Err(error) = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)) {
        tracing::warn!("Ctrl-C can't be caught: {error}");
    }
    let mut outcomes: Vec<(std::path::PathBuf, Outcome)> = Vec::new();
    if let Some(path) = &args.resume {
        outcomes.push((path.clone(), run::resume(path, &args.overrides)?));
    } else if let Some(path) = &args.config {
        let mut overrides = args.overrides.clone();
        overrides.extend(args.device.iter().map(|device| format!("device={device}")));
        let config = RunConfig::load(path, &overrides)?;
        let out = args.out.clone().unwrap_or_else(|| run::default_out(path));
        match &args.seeds {
            None => outcomes.push((out.clone(), run::start(&config, &out)?)),
            Some(seeds) => {
                for seed in run::parse_seeds(seeds)? {
                    let config = RunConfig {
                        seed,
                        ..config.clone()
                    };
                    let out = out.join(format!("seed-{seed}"));
                    outcomes.push((out.clone(), run::start(&config, &out)?));
                    if STOP.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        }
    }
    report_training(&outcomes, args.json);
    let interrupted = outcomes.iter().any(|(_, outcome)| outcome.interrupted);
    Ok(if interrupted {
        ExitCode::from(INTERRUPTED)
    } else {
        ExitCode::SUCCESS
    })
}

fn report_training(outcomes: &[(std::path::PathBuf, Outcome)], as_json: bool) {
    for (path, outcome) in outcomes {
        println!(
            "{}: {} updates in {:.0} s ({:.1} updates/s)",
            path.display(),
            outcome.update,
            outcome.seconds,
            outcome.updates_per_s
        );
        if let Some(evaluation) = &outcome.evaluation {
            println!("  last: {}", evaluation.summary());
        }
        if let Some(best) = &outcome.best {
            println!("  best: {:.1} at update {}", best.score, best.update);
        }
        if outcome.interrupted {
            println!(
                "  interrupted; continue with: trajformer train --resume {}",
                path.display()
            );
        }
    }
    let scores: Vec<f64> = outcomes
        .iter()
        .filter_map(|(_, o)| o.evaluation.as_ref()?.score_mean)
        .collect();
    let (mean, std) = evaluate::mean_std(&scores);
    if scores.len() > 1 {
        println!(
            "score {mean:.1} ± {std:.1} over {} seeds (last checkpoints)",
            scores.len()
        );
    }
    if !as_json {
        return;
    }
    let Some((path, last)) = outcomes.last() else {
        return;
    };
    // Over several seeds the deviation is between seeds; of one run, over its episodes.
    let single = last.evaluation.as_ref().and_then(|e| e.score_std);
    let folder = if outcomes.len() > 1 {
        path.parent().unwrap_or(path)
    } else {
        path
    };
    let value = json!({
        "run": folder.display().to_string(),
        "runs": outcomes.iter().map(|(p, _)| p.display().to_string()).collect::<Vec<_>>(),
        "updates": last.update,
        "updates_per_s": last.updates_per_s,
        "seconds": outcomes.iter().map(|(_, o)| o.seconds).sum::<f64>(),
        "score_mean": (!scores.is_empty()).then_some(mean),
        "score_std": if scores.len() > 1 { Some(std) } else { single },
        "score_best": outcomes.iter().filter_map(|(_, o)| Some(o.best?.score)).fold(None, max),
        "interrupted": last.interrupted,
    });
    println!("{value}");
}

fn max(left: Option<f64>, right: f64) -> Option<f64> {
    Some(left.map_or(right, |left| left.max(right)))
}

fn evaluate(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    let trained = run::open(&args.run, &args.overrides)?;
    let mut settings = trained.config.evaluate.clone();
    settings.env = args.env.clone().or(settings.env);
    settings.episodes = args.episodes.unwrap_or(settings.episodes);
    settings.seed = args.seed.unwrap_or(settings.seed);
    if settings.env.is_none() {
        anyhow::bail!("the run names no environment: give one with `--env`, e.g. --env hopper-v4");
    }
    let Some(mut evaluator) = Evaluator::new(&settings)? else {
        anyhow::bail!("0 episodes: ask for at least one with `--episodes`");
    };
    evaluator.check_dimensions(trained.spec.observation_dim, trained.spec.action_dim)?;
    run::warn_of_other_version(trained.spec.env_name.as_deref(), &evaluator.spec().name);
    let mut policy = trained.algorithm.policy()?;
    let found = match &args.record {
        None => evaluator.run(&mut *policy)?,
        Some(path) => {
            let (found, dataset) = evaluator.run_recorded(&mut *policy)?;
            data::save(&dataset, path)?;
            found
        }
    };
    println!("{}", found.summary());
    if args.json {
        let mut value = serde_json::to_value(&found)?;
        value["episodes"] = found.returns.len().into();
        value["seed"] = settings.seed.into();
        println!("{value}");
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let trained = run::open(&args.run, &args.overrides)?;
    let mut policy = trained.algorithm.policy()?;
    let preview = preview::preview(&mut *policy, &trained.config, args.seed)?;
    let (beams, horizon, _) = preview.imagined.observations.dims3()?;
    println!(
        "{beams} beams, {horizon} steps, planned in {:.3} s",
        preview.seconds
    );
    println!("step  predicted reward  real reward");
    let predicted = preview.imagined.rewards.get(0)?.to_vec1::<f32>()?;
    for (step, (predicted, real)) in predicted.iter().zip(&preview.rewards).enumerate() {
        println!("{:4}  {predicted:16.4}  {real:11.4}", step + 1);
    }
    if let Some(path) = &args.picture {
        preview.draw(path, &format!("A plan of {}", args.run.display()))?;
        println!("wrote {}", path.display());
    }
    if args.json {
        let value = json!({
            "seconds": preview.seconds,
            "beams": beams,
            "horizon": horizon,
            "predicted_rewards": predicted,
            "rewards": preview.rewards,
        });
        println!("{value}");
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let lines = compare::compare(&args.runs)?;
    let what = if lines.iter().all(|line| line.normalized) {
        "score"
    } else {
        "return"
    };
    println!("updates  seconds  last {what:<16}  best     run");
    for line in &lines {
        let last = format!("{:.1} ± {:.1}", line.last, line.last_std);
        let (update, seconds, best) = (line.update, line.seconds, line.best);
        println!(
            "{update:7}  {seconds:7.0}  {last:<21}  {best:<7.1}  {}",
            line.run.display()
        );
    }
    if let Some(path) = &args.picture {
        compare::draw(path, &args.title, &lines)?;
        println!("wrote {}", path.display());
    }
    if args.json {
        println!("{}", json!({ "runs": lines }));
    }
    Ok(ExitCode::SUCCESS)
}

fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let result = demo::demo(&args.out)?;
    println!("normalised scores: 0 is random actions, 100 a controller that knows the maze");
    println!("  planner            {:6.1}", result.planner_score);
    println!("  behaviour cloning  {:6.1}", result.bc_score);
    println!("  the data           {:6.1}", result.data_score);
    println!("  random actions     {:6.1}", result.random_score);
    println!("  controller         {:6.1}", result.controller_score);
    println!("pictures:");
    for picture in &result.pictures {
        println!("  {}", picture.display());
    }
    println!("{:.0} seconds", result.seconds);
    if args.json {
        println!("{}", serde_json::to_string(&result)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn data_info(paths: &[std::path::PathBuf], as_json: bool) -> anyhow::Result<ExitCode> {
    let info = data::info(&data::load(paths)?);
    if as_json {
        println!("{}", serde_json::to_string(&info)?);
    } else {
        print!("{info}");
    }
    Ok(ExitCode::SUCCESS)
}

fn collect(args: &CollectArgs) -> anyhow::Result<ExitCode> {
    let mut env = envs::make(&args.env)?;
    // clap lets no other words through.
    let options = FilePolicyOptions {
        sample: args.sample,
        hidden_activation: args.activation.as_deref().map(|word| match word {
            "relu" => HiddenActivation::Relu,
            _ => HiddenActivation::Tanh,
        }),
        output: args.output.as_deref().map(|word| match word {
            "identity" => OutputActivation::Identity,
            _ => OutputActivation::Tanh,
        }),
    };
    let mut policy = behavior(&args.policy, env.spec(), &options)?;
    let dataset = data::collect::collect(&mut *env, &mut *policy, args.steps, args.seed)?;
    data::save(&dataset, &args.out)?;
    print!("{}", data::info(&dataset));
    println!("wrote {}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

fn bench(command: &BenchCommand) -> anyhow::Result<ExitCode> {
    let common = command.common();
    let seconds = common.seconds;
    let report = match command {
        BenchCommand::Update(args) => bench::update(&bench::UpdateOptions {
            algorithm: args.algorithm.clone(),
            batch: args.batch,
            observations: args.observations,
            actions: args.actions,
            overrides: args.overrides.clone(),
            seconds,
        })?,
        BenchCommand::Critics(args) => bench::critics(&bench::CriticsOptions {
            members: args.members,
            hidden: args.hidden.clone(),
            batch: args.batch,
            observations: args.observations,
            actions: args.actions,
            seconds,
        })?,
        BenchCommand::Plan(args) => bench::plan(&bench::PlanOptions {
            observations: args.observations,
            actions: args.actions,
            beam: args.beam,
            horizon: args.horizon,
            window: args.window.into(),
            seconds,
        })?,
        BenchCommand::Envs(args) => bench::steps(&bench::EnvOptions {
            env: args.env.clone(),
            copies: args.copies,
            seconds,
        })?,
    };
    println!("{report}");
    if common.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}
