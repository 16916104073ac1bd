//! The `trajformer` command: parse, compose, print results, exit.

mod output;
mod train_command;

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use trajformer::cli::{
    BenchCommand, Cli, CollectArgs, Command, CompareArgs, ConfigCommand, DataCommand, DemoArgs,
    EvaluateArgs, ExportArgs, HubCommand, PlanArgs, TokensArgs,
};
use trajformer::config::{Departures, EvaluateConfig, Purpose, RunConfig};
use trajformer::data::LoadOptions;
use trajformer::data::formats::fast_folder;
use trajformer::data::tokenizers::TokenizerKind;
use trajformer::error::shell_quoted;
use trajformer::evaluate::Evaluator;
use trajformer::fqe::FqeConfig;
use trajformer::interrupt::Interrupt;
use trajformer::policy::behavior::behavior;
use trajformer::policy::file::{FilePolicyOptions, HiddenActivation, OutputActivation};
use trajformer::policy::noise::NoisyPolicy;
use trajformer::pretrained::Request;
use trajformer::report::tokens;
use trajformer::rng::Rng;
use trajformer::token_report::{self, TokenReportOptions};
use trajformer::{
    bench, compare, data, demo, envs, export, hub, instruct, prepare, preview, publish, run,
};
use trajformer_models::kernels::{memory, switch};

/// Writes a line of results to standard output: see [`output::line`].
macro_rules! say {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}
pub(crate) use say;

/// Exit status after Ctrl-C, as shells use it.
const INTERRUPTED: u8 = 130;

/// Stack of each thread in the pool.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    memory::keep_freed_blocks();
    let cli = Cli::parse();
    settle_threads(cli.threads);
    let filter = tracing_subscriber::EnvFilter::try_from_env("TRAJFORMER_LOG")
        // What hf-hub logs of failures is in our error.
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,hf_hub=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        // A log that can't be written must not end what it logs.
        .log_internal_errors(false)
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
            output::complain(format_args!("error: {text}"));
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
        output::complain(format_args!(
            "warning: the pool of threads keeps its defaults: {error}"
        ));
    }
}

/// The token that the first Ctrl-C (or SIGTERM) sets, which asks for an end with a checkpoint; the second ends at once.
fn catch_interrupts() -> Interrupt {
    let interrupt = Interrupt::new();
    let token = interrupt.clone();
    let caught = ctrlc::set_handler(move || {
        if token.set() {
            std::process::exit(INTERRUPTED.into());
        }
        tracing::info!("interrupted: saving a checkpoint; once more ends at once without");
    });
    // Without a handler Ctrl-C would lose the updates since the last checkpoint, no more.
    if let Err(error) = caught {
        tracing::warn!("Ctrl-C can't be caught: {error}");
    }
    interrupt
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo(&args),
        Command::Plan(args) => plan(&args),
        Command::Train(args) => train_command::train(&args),
        Command::Evaluate(args) => evaluate(&args),
        Command::Compare(args) => compare(&args),
        Command::Bench(command) => bench(&command),
        Command::Data(DataCommand::Info { path, read, json }) => {
            data_info(&path, &read.options(), json)
        }
        Command::Data(DataCommand::Tokens(args)) => data_tokens(&args),
        Command::Data(DataCommand::Convert {
            input,
            output,
            read,
        }) => {
            data::check_new(&output)?;
            let converted = data::convert_with(&input, &output, &read.options())?;
            for warning in &converted.warnings {
                tracing::warn!("{warning}");
            }
            say!("wrote {}", output.display())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Data(DataCommand::Collect(args)) => collect(&args),
        Command::Export(args) => export_policy(&args),
        Command::Hub(command) => hub_command(&command),
        Command::Config(ConfigCommand::Show {
            config,
            overrides,
            differences,
            json,
        }) => {
            match (differences, json) {
                (false, false) => {
                    output::whole(RunConfig::load(&config, &overrides)?.to_toml()?)?;
                }
                (false, true) => {
                    let config = RunConfig::load(&config, &overrides)?;
                    say!("{}", serde_json::to_string(&config)?)?;
                }
                (true, false) => output::whole(Departures::load(&config, &overrides)?)?,
                (true, true) => {
                    let found = Departures::load(&config, &overrides)?;
                    say!("{}", serde_json::to_string(&found)?)?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn evaluate(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    if let Some(data) = &args.off_policy {
        return evaluate_off_policy(args, data);
    }
    args.record.as_deref().map(data::check_new).transpose()?;
    let dataset = args.data.as_deref().map(data::load_one).transpose()?;
    let request = Request {
        overrides: &args.overrides,
        data: dataset.as_ref(),
        env: args.env.as_deref(),
        purpose: Purpose::Evaluate,
    };
    let mut trained = run::open_with(&hub::local(&args.run)?, &request)?;
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
    if !args.instructions.is_empty() {
        return evaluate_instructions(args, trained, &settings);
    }
    evaluator.check_dimensions(trained.spec.observation_dim, trained.spec.action_dim)?;
    if trained.algorithm.instructed().is_some() {
        instruct::teach(&mut trained, &evaluator.instructions())?;
    }
    prepare::warn_of_other_version(trained.spec.env_name.as_deref(), &evaluator.spec().name);
    let mut policy = trained.algorithm.policy()?;
    let (found, dataset) = match &args.record {
        None => (evaluator.run(&mut *policy)?, None),
        Some(_) => {
            if let [first, _, ..] = policy.target_returns()[..] {
                tracing::warn!("only episodes that aim at the first target, {first}, are recorded");
            }
            let (found, dataset) = evaluator.run_recorded(&mut *policy)?;
            (found, Some(dataset))
        }
    };
    // Neither loses the other: what was found is printed first, and kept even if it can't be printed.
    let mut value = serde_json::to_value(&found)?;
    value["seed"] = settings.seed.into();
    let printed =
        say!("{}", found.summary()).and_then(|()| if args.json { say!("{value}") } else { Ok(()) });
    if let (Some(path), Some(dataset)) = (&args.record, dataset) {
        data::save(&dataset, path)?;
    }
    printed?;
    Ok(ExitCode::SUCCESS)
}

fn evaluate_instructions(
    args: &EvaluateArgs,
    mut trained: run::TrainedRun,
    settings: &EvaluateConfig,
) -> anyhow::Result<ExitCode> {
    let scores = instruct::score(&mut trained, &args.instructions, settings)?;
    for score in &scores {
        let new = if score.known {
            ""
        } else {
            " (not in the data)"
        };
        let percent = 100.0 * score.success_rate;
        say!(
            "{percent:5.1} % of {} episodes: {}{new}",
            score.evaluation.episodes,
            score.instruction
        )?;
    }
    if let Some(path) = &args.picture {
        instruct::draw(path, &scores)?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        say!(
            "{}",
            json!({ "instructions": scores, "seed": settings.seed })
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn evaluate_off_policy(args: &EvaluateArgs, path: &Path) -> anyhow::Result<ExitCode> {
    let config = FqeConfig {
        updates: args.updates,
        discount: args.discount,
        seed: args.seed.unwrap_or_default(),
        ..FqeConfig::default()
    };
    let folder = hub::local(&args.run)?;
    let found = run::judge(&folder, &args.overrides, path, &config)?;
    say!("{}", found.summary())?;
    if args.json {
        say!("{}", serde_json::to_string(&found)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let request = Request {
        overrides: &args.overrides,
        purpose: Purpose::Plan,
        ..Request::default()
    };
    let trained = run::open_with(&hub::local(&args.run)?, &request)?;
    let mut policy = trained.algorithm.policy()?;
    let preview = preview::preview(&mut *policy, &trained.config, args.seed)?;
    let (beams, horizon, _) = preview.imagined.observations.dims3()?;
    say!(
        "{beams} beams, {horizon} steps, planned in {:.3} s",
        preview.seconds
    )?;
    say!("step  predicted reward  real reward")?;
    let predicted = preview.imagined.rewards.get(0)?.to_vec1::<f32>()?;
    for (step, (predicted, real)) in predicted.iter().zip(&preview.rewards).enumerate() {
        say!("{:4}  {predicted:16.4}  {real:11.4}", step + 1)?;
    }
    if let Some(path) = &args.picture {
        preview.draw(path, &format!("A plan of {}", args.run.display()))?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        let value = json!({
            "seconds": preview.seconds,
            "beams": beams,
            "horizon": horizon,
            "predicted_rewards": predicted,
            "rewards": preview.rewards,
        });
        say!("{value}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.metric {
        return compare_metric(args, name);
    }
    let lines = compare::compare(&local_runs(args)?)?;
    say!("updates  seconds  last                          best     run")?;
    for line in &lines {
        // Each line says what its numbers are: a run without reference returns has no scores.
        let what = if line.normalized { "score" } else { "return" };
        let last = format!("{what} {:.1} ± {:.1}", line.last, line.last_std);
        let (update, seconds, best) = (line.update, line.seconds, line.best);
        say!(
            "{update:7}  {seconds:7.0}  {last:<28}  {best:<7.1}  {}",
            line.run.display()
        )?;
    }
    if let Some(path) = &args.picture {
        compare::draw(path, &args.title, &lines)?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        say!("{}", json!({ "runs": lines }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn local_runs(args: &CompareArgs) -> anyhow::Result<Vec<PathBuf>> {
    let folders = args.runs.iter().map(|run| hub::local(run));
    Ok(folders.collect::<trajformer::Result<_>>()?)
}

fn compare_metric(args: &CompareArgs, name: &str) -> anyhow::Result<ExitCode> {
    let lines = compare::metric::metric(&local_runs(args)?, name)?;
    say!("updates  {name:<14}  largest         data's return   run")?;
    for line in &lines {
        let data = line.return_to_go.map(|value| format!("{value:.4}"));
        say!(
            "{:7}  {:<14.4}  {:<14.4}  {:<14}  {}",
            line.update,
            line.last,
            line.largest,
            data.unwrap_or_else(|| "-".to_owned()),
            line.run.display()
        )?;
    }
    if let Some(path) = &args.picture {
        compare::metric::draw(path, &args.title, name, &lines)?;
        say!("wrote {}", path.display())?;
    }
    if args.json {
        say!("{}", json!({ "metric": name, "runs": lines }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let result = match demo::demo(&args.out, &catch_interrupts()) {
        Err(trajformer::Error::Interrupted) => {
            let out = shell_quoted(&args.out);
            say!(
                "interrupted: what is done is kept; `trajformer demo --out {out}` goes on with it"
            )?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        result => result?,
    };
    say!("normalised scores: 0 is random actions, 100 a controller that knows the maze")?;
    say!("  planner            {:6.1}", result.planner_score)?;
    say!("  behaviour cloning  {:6.1}", result.bc_score)?;
    say!("  the data           {:6.1}", result.data_score)?;
    say!("  random actions     {:6.1}", result.random_score)?;
    say!("  controller         {:6.1}", result.controller_score)?;
    say!("pictures:")?;
    for picture in &result.pictures {
        say!("  {}", picture.display())?;
    }
    say!("{:.0} seconds", result.seconds)?;
    if args.json {
        say!("{}", serde_json::to_string(&result)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn data_info(
    paths: &[std::path::PathBuf],
    options: &LoadOptions,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let info = data::info(&data::load_with(paths, options)?);
    if as_json {
        say!("{}", serde_json::to_string(&info)?)?;
    } else {
        output::whole(&info)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn data_tokens(args: &TokensArgs) -> anyhow::Result<ExitCode> {
    let kind = TokenizerKind::from(args.tokenizer);
    let is_fast = kind == TokenizerKind::Fast;
    let for_fast = [
        args.load.is_some(),
        args.save.is_some(),
        args.chunk.is_some(),
        args.scale.is_some(),
    ];
    if !is_fast && for_fast.contains(&true) {
        anyhow::bail!(
            "`--load`, `--save`, `--chunk` and `--scale` are FAST's: add `--tokenizer fast`"
        );
    }
    args.save.as_deref().map(data::check_new).transpose()?;
    let read = |folder| fast_folder::read(&hub::local(folder)?);
    let given = args.load.as_deref().map(read).transpose()?;
    let vocabulary = match kind {
        TokenizerKind::Quantile | TokenizerKind::Uniform => 100,
        TokenizerKind::KMeans => 64,
        TokenizerKind::Fast => 1024,
    };
    let options = TokenReportOptions {
        kind,
        vocabulary: args.bins.unwrap_or(vocabulary),
        chunk_steps: args.chunk.unwrap_or(8),
        scale: args.scale.unwrap_or(10.0),
    };
    let dataset = data::load_with(&args.path, &args.read.options())?;
    let mut rng = Rng::from_seed(args.seed);
    let (found, fast) = token_report::report(&dataset, &options, given, &mut rng)?;
    output::whole(&found.report)?;
    if let Some(path) = &args.picture {
        tokens::draw(path, &found.picture)?;
        say!("wrote {}", path.display())?;
    }
    if let (Some(folder), Some(fast)) = (&args.save, fast) {
        fast_folder::write(&fast, folder)?;
        say!("wrote {}", folder.display())?;
    }
    if args.json {
        say!("{}", serde_json::to_string(&found.report)?)?;
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
    let describes_file = options.hidden_activation.is_some() || options.output.is_some();
    if describes_file && !args.policy.ends_with(".npz") {
        anyhow::bail!(
            "`--activation` and `--output` are for policies in .npz files: leave them out"
        );
    }
    data::check_new(&args.out)?;
    let folder = hub::local(Path::new(&args.policy))?;
    let mut policy = if folder.is_dir() {
        run::policy(&folder, env.spec(), args.sample)?
    } else {
        behavior(&args.policy, env.spec(), &options)?
    };
    if !args.noise.is_empty() {
        policy = Box::new(NoisyPolicy::new(policy, args.noise.clone(), env.spec())?);
    }
    let dataset = data::collect::collect(&mut *env, &mut *policy, args.steps, args.seed)?;
    let printed = output::whole(data::info(&dataset));
    data::save(&dataset, &args.out)?;
    printed?;
    say!("wrote {}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

fn export_policy(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    export::check_new(&args.out)?;
    let mut trained = export::open(&hub::local(&args.run)?, &args.overrides)?;
    let graph = export::write(&mut trained, &args.out)?;
    for input in &graph.inputs {
        say!("input   {} [batch, {}]", input.name, sizes(&input.dims))?;
    }
    say!(
        "output  {} [batch, {}]",
        graph.output.0,
        sizes(&graph.output.1)
    )?;
    say!("wrote {}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

fn sizes(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    dims.join(", ")
}

fn hub_command(command: &HubCommand) -> anyhow::Result<ExitCode> {
    match command {
        HubCommand::Pull { id, revision, json } => {
            let reference = hub::Reference::parse(id, revision.as_deref())?;
            let pulled = hub::pull(&reference)?;
            for (name, size) in &pulled.files {
                say!("{size:>12}  {name}")?;
            }
            say!("{}", pulled.folder.display())?;
            if *json {
                say!("{}", serde_json::to_string(&pulled)?)?;
            }
        }
        HubCommand::Push {
            run,
            id,
            revision,
            private,
            dry_run,
            json,
        } => {
            let reference = hub::Reference::parse(id, revision.as_deref())?;
            let (private, dry_run) = (*private, *dry_run);
            let pushed =
                publish::push(run, &reference, &publish::PushOptions { private, dry_run })?;
            if dry_run {
                output::whole(&pushed.card)?;
            }
            for (name, size) in &pushed.files {
                say!("{size:>12}  {name}")?;
            }
            if dry_run {
                say!("dry run: nothing was published at {}", pushed.url)?
            } else {
                say!("{}", pushed.url)?
            }
            if *json {
                say!("{}", serde_json::to_string(&pushed)?)?;
            }
        }
    }
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
            device: args.device.clone(),
            seconds,
        })?,
        BenchCommand::Critics(args) => bench::critics(&bench::CriticsOptions {
            members: args.members,
            hidden: args.hidden.clone(),
            batch: args.batch,
            observations: args.observations,
            actions: args.actions,
            device: args.device.clone(),
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
    say!("{report}")?;
    if common.json {
        say!("{}", serde_json::to_string(&report)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
