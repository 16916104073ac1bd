//! `trajformer data collect`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use trajformer::checkpoint::named::named;
use trajformer::data::Dataset;
use trajformer::policy::behavior::behavior;
use trajformer::policy::file::{FilePolicyOptions, HiddenActivation, OutputActivation};
use trajformer::policy::noise::NoisyPolicy;
use trajformer::{data, envs, hub, run};

use crate::commands::hints;
use crate::output::{self, say};

/// Arguments of `data collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// Environment, or gym:ID for one of Gymnasium.
    #[arg(long)]
    pub env: String,
    /// Python interpreter that runs environments of Gymnasium; default: that of the active virtual environment, else python3.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Where observations of an environment of Gymnasium are dictionaries: the keys whose numbers are put side by side, with
    /// commas between; default: all, sorted.
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub observation_keys: Vec<String>,
    /// `random`, `zero`, in point mazes `waypoint` (to random places), `waypoint-once` (to one per episode) or `waypoint-goal` (to the maze's goal), an .npz file with a network's weights, a run directory, or hf://ID.
    #[arg(long)]
    pub policy: String,
    /// Standard deviation of noise on the actions, as a share of half their range; of several levels each
    /// episode takes the next.
    #[arg(long, value_delimiter = ',', value_name = "LEVEL,...")]
    pub noise: Vec<f64>,
    /// Draw the actions of a run or of an .npz policy from its distribution instead of taking its mean, or add noise to those of
    /// a waypoint policy. Deterministic ones have none: give --noise.
    #[arg(long)]
    pub sample: bool,
    /// Activation of an .npz policy's hidden layers, where no manifest.json beside it says it.
    #[arg(long, value_enum)]
    pub activation: Option<ActivationArg>,
    /// Output of an .npz policy, where no manifest.json beside it says it.
    #[arg(long, value_enum)]
    pub output: Option<OutputArg>,
    /// Steps to collect.
    #[arg(long)]
    pub steps: usize,
    /// Seed of start states and of the policy.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// File or folder to write.
    pub out: PathBuf,
}

/// `--activation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ActivationArg {
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

impl From<ActivationArg> for HiddenActivation {
    fn from(activation: ActivationArg) -> Self {
        match activation {
            ActivationArg::Relu => Self::Relu,
            ActivationArg::Tanh => Self::Tanh,
        }
    }
}

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputArg {
    /// Squashed to ±1, then scaled to the environment's bounds.
    Tanh,
    /// In the environment's units, clamped to its bounds.
    Identity,
}

impl From<OutputArg> for OutputActivation {
    fn from(output: OutputArg) -> Self {
        match output {
            OutputArg::Tanh => Self::Tanh,
            OutputArg::Identity => Self::Identity,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(args: &CollectArgs) -> anyhow::Result<ExitCode> {
    let gym = envs::GymOptions::new(args.python.as_deref(), &args.observation_keys);
    let mut env = envs::make_with(&args.env, &gym)?;
    let options = FilePolicyOptions {
        sample: args.sample,
        hidden_activation: args.activation.map(HiddenActivation::from),
        output: args.output.map(OutputActivation::from),
    };
    let describes_file = options.hidden_activation.is_some() || options.output.is_some();
    if describes_file && !args.policy.ends_with(".npz") {
        anyhow::bail!(
            "`--activation` and `--output` are for policies in .npz files: leave them out"
        );
    }
    data::check_new(&args.out)?;
    let folder = named(&hub::local(Path::new(&args.policy))?)?;
    let mut policy = if folder.is_dir() {
        run::policy(&folder, env.spec(), args.sample)?
    } else {
        behavior(&args.policy, env.spec(), &options)?
    };
    if !args.noise.is_empty() {
        policy = Box::new(NoisyPolicy::new(policy, args.noise.clone(), env.spec())?);
    }
    let (dataset, failure) =
        data::collect::collect_until(&mut *env, &mut *policy, args.steps, args.seed)?;
    let printed = output::whole(data::info(&dataset));
    save(&dataset, &args.out)?;
    if let Some(error) = failure {
        anyhow::bail!(
            "{}: the {} of {} steps before it are in {}",
            hints::of_library(&error),
            dataset.steps(),
            args.steps,
            args.out.display()
        );
    }
    printed?;
    say!("wrote {}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Saves what took long to make; where that fails, into the system's folder for temporary files, so that it is not lost.
///
/// # Errors
/// If it can't be saved where it should be: says where it is instead.
pub fn save(dataset: &Dataset, path: &Path) -> anyhow::Result<()> {
    let Err(error) = data::save(dataset, path) else {
        return Ok(());
    };
    let mut name = OsString::from(format!("trajformer-{}-", std::process::id()));
    name.push(path.file_name().unwrap_or_default());
    let elsewhere = std::env::temp_dir().join(name);
    match data::save(dataset, &elsewhere) {
        Ok(()) => anyhow::bail!(
            "{}: what was to be there is in {} instead",
            hints::of_library(&error),
            elsewhere.display()
        ),
        Err(_) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cant_be_saved_where_it_should_be_is_not_lost() {
        let mut env = envs::make("pendulum-v1").expect("built in");
        let mut policy =
            behavior("zero", env.spec(), &FilePolicyOptions::default()).expect("known");
        let dataset = data::collect::collect(&mut *env, &mut *policy, 7, 1).expect("steps");
        // Its folder is no folder.
        let file = std::env::temp_dir().join(format!("trajformer-test-{}", std::process::id()));
        std::fs::write(&file, b"mine").expect("a file");
        let error = save(&dataset, &file.join("seven.npz"))
            .expect_err("no folder")
            .to_string();
        std::fs::remove_file(&file).expect("the file");
        let elsewhere = error
            .split(" is in ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let elsewhere = Path::new(elsewhere.expect("another place"));
        let found = data::load_one(elsewhere).expect("the data");
        std::fs::remove_file(elsewhere).expect("the data");
        assert_eq!(found.steps(), 7);
    }
}
