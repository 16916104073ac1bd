//! `trajformer data`: what data sets hold, what tokenizers make of them, other formats.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use trajformer::data::formats::fast_folder;
use trajformer::data::tokenizers::TokenizerKind;
use trajformer::data::{ColumnChoice, LoadOptions};
use trajformer::rng::Rng;
use trajformer::run_report::data_picture::data_picture;
use trajformer::token_report::{self, TokenReportOptions};
use trajformer::{checkpoint, data, formats, hub, report};

use crate::cli::count;
use crate::commands::collect::{self, CollectArgs};
use crate::commands::data_sets::{self, ListArgs, PullArgs};
use crate::commands::hints;
use crate::output::{self, say};

/// The `data` commands.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Public data sets that can be named: sizes, licences, checksums, and which are on this machine.
    #[command(after_help = "Examples:\n  \
        trajformer data list\n  \
        trajformer data list 'hopper*v2'\n  \
        trajformer data list minari --json")]
    List(ListArgs),
    /// Fetch a public data set, and check it; what was interrupted goes on where it stopped.
    #[command(after_help = "Examples:\n  \
        trajformer data pull hopper-medium-v2\n  \
        trajformer data pull mujoco/hopper/medium-v0 --to ~/.minari/datasets\n  \
        trajformer data pull hf://datasets/farama-minari/D4RL/pen/human-v2\n\
        It goes to TRAJFORMER_DATA, else trajformer/data in XDG_CACHE_HOME or ~/.cache. HTTP_PROXY, HTTPS_PROXY and NO_PROXY are\n\
        respected; TRAJFORMER_DATA_MIRROR names a server that has D4RL's and OGBench's files under the same paths.")]
    Pull(PullArgs),
    /// Episodes, returns, dimensions, ends and warnings of a data set.
    #[command(after_help = "Examples:\n  \
        trajformer data info hopper-medium.hdf5\n  \
        trajformer data info hopper-medium-v2 --picture hopper.svg")]
    Info {
        /// File, folder, or name of a fetched data set; several are joined.
        #[arg(required = true)]
        path: Vec<PathBuf>,
        /// How it is read.
        #[command(flatten)]
        read: ReadArgs,
        /// Draw returns, lengths, rewards, and the range of each dimension.
        #[arg(long, value_name = "FILE.svg|png")]
        picture: Option<PathBuf>,
        /// Print one JSON object, last on standard output.
        #[arg(long)]
        json: bool,
    },
    /// What a tokenizer makes of a data set: values used, round-trip errors, tokens per step.
    #[command(after_help = "Examples:\n  \
        trajformer data tokens hopper-medium.hdf5 --bins 100 --picture bins.svg\n  \
        trajformer data tokens hopper-medium.hdf5 --tokenizer fast --chunk 8 --save my-fast\n  \
        trajformer data tokens hopper-medium.hdf5 --tokenizer fast --load my-fast")]
    Tokens(TokensArgs),
    /// Write a data set in another format.
    #[command(about = format!("Write a data set in another format: {}", formats::written()), after_help = "Example:\n  trajformer data convert mine.npz mine-v0")]
    Convert {
        /// File or folder to read.
        input: PathBuf,
        /// File or folder to write.
        output: PathBuf,
        /// How it is read.
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Collect experience in an environment.
    #[command(after_help = "Examples:\n  \
        trajformer data collect --env pointmaze-umaze --policy waypoint --steps 20000 maze.hdf5\n  \
        trajformer data collect --env hopper-v4 --policy sac.npz --activation relu --output tanh \
        --sample --steps 100000 mine.hdf5\n  \
        trajformer data collect --env hopper-v4 --policy runs/td3_bc-hopper-medium-short --noise 0,0.1,0.3 --steps 100000 \
        mine.hdf5\n  \
        trajformer data collect --env gym:AntMaze_UMaze-v5 --python .venv/bin/python --policy random --steps 10000 ant.npz")]
    Collect(CollectArgs),
}

/// How data files are read: the keys of the same names in a configuration's table `[data]`.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// In files without time-outs, episodes that did not terminate end after so many steps; default: D4RL's limit, by the
    /// environment's or file's name, else 1000 in D4RL's layout.
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_episode_steps: Option<usize>,
    /// Where observations are dictionaries: the keys whose vectors are put side by side, with commas between.
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub observation_keys: Vec<String>,
    /// Columns of observations to keep, e.g. 0..27.
    #[arg(long, value_name = "COLUMNS")]
    pub observation_columns: Option<ColumnChoice>,
}

impl ReadArgs {
    /// The same for the readers.
    pub fn options(&self) -> LoadOptions {
        LoadOptions {
            max_episode_steps: self.max_episode_steps,
            observation_keys: self.observation_keys.clone(),
            observation_columns: self.observation_columns.clone(),
        }
    }
}

/// Arguments of `data tokens`.
#[derive(Debug, Args)]
pub struct TokensArgs {
    /// File or folder; several are joined.
    #[arg(required = true)]
    pub path: Vec<PathBuf>,
    /// How it is read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Bins per dimension of observations, actions and rewards (`quantile`, `uniform`), or tokens of actions: the nearest
    /// of many centres (`kmeans`), or cosine transform and merges (`fast`).
    #[arg(long, value_enum, default_value = "quantile")]
    pub tokenizer: TokenizerArg,
    /// Bins, centres, or FAST's vocabulary; default: 100, 64 or 1024.
    #[arg(long, value_name = "N", value_parser = count)]
    pub bins: Option<usize>,
    /// FAST: actions in a chunk; default: 8.
    #[arg(long, value_name = "STEPS", value_parser = count)]
    pub chunk: Option<usize>,
    /// FAST: factor of coefficients before they are rounded; default: 10.
    #[arg(long, value_parser = positive)]
    pub scale: Option<f64>,
    /// FAST: use the merges of this folder, or of hf://physical-intelligence/fast, instead of learning own ones.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["bins", "scale"])]
    pub load: Option<PathBuf>,
    /// FAST: write such a folder.
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Seed of what k-means draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Draw bins over the data, or what comes back from tokens over an episode.
    #[arg(long, value_name = "FILE.svg|png")]
    pub picture: Option<PathBuf>,
    /// Print one JSON object, last on standard output.
    #[arg(long)]
    pub json: bool,
}

/// `--tokenizer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenizerArg {
    /// Bins that hold equally many steps.
    Quantile,
    /// Bins of equal width.
    Uniform,
    /// The nearest of many centres.
    Kmeans,
    /// Cosine transform and byte-pair merges of chunks.
    Fast,
}

impl From<TokenizerArg> for TokenizerKind {
    fn from(tokenizer: TokenizerArg) -> Self {
        match tokenizer {
            TokenizerArg::Quantile => Self::Quantile,
            TokenizerArg::Uniform => Self::Uniform,
            TokenizerArg::Kmeans => Self::KMeans,
            TokenizerArg::Fast => Self::Fast,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// What failed, and where.
pub fn run(command: &DataCommand) -> anyhow::Result<ExitCode> {
    match command {
        DataCommand::List(args) => data_sets::list(args),
        DataCommand::Pull(args) => data_sets::pull(args),
        DataCommand::Info {
            path,
            read,
            picture,
            json,
        } => info(path, read, picture.as_deref(), *json),
        DataCommand::Tokens(args) => tokens(args),
        DataCommand::Convert {
            input,
            output,
            read,
        } => convert(input, output, read),
        DataCommand::Collect(args) => collect::run(args),
    }
}

fn info(
    paths: &[PathBuf],
    read: &ReadArgs,
    picture: Option<&Path>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    if let Some(picture) = picture {
        report::check_path(picture)?;
        checkpoint::check_output(picture)?;
    }
    let paths = data::resolved(paths)?;
    let dataset = data::load_with(&paths, &read.options())?;
    let info = data::info(&dataset);
    if let Some(picture) = picture {
        dataset.require_steps()?;
        report::data::draw(picture, &data_picture(&dataset))?;
    }
    if !json && let Some(picture) = picture {
        output::whole(hints::with_data_flags(&info.to_string()))?;
        say!("wrote {}", picture.display())?;
    } else if json {
        say!("{}", serde_json::to_string(&info)?)?;
    } else {
        output::whole(hints::with_data_flags(&info.to_string()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn convert(input: &Path, output: &Path, read: &ReadArgs) -> anyhow::Result<ExitCode> {
    data::check_new(output)?;
    let input = data::resolved(&[input.to_path_buf()])?.remove(0);
    let converted = data::convert_with(&input, output, &read.options())?;
    for warning in &converted.warnings {
        tracing::warn!("{}", hints::with_data_flags(warning));
    }
    say!("wrote {}", output.display())?;
    Ok(ExitCode::SUCCESS)
}

fn tokens(args: &TokensArgs) -> anyhow::Result<ExitCode> {
    if let Some(picture) = &args.picture {
        report::check_path(picture)?;
        checkpoint::check_output(picture)?;
    }
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
    let usual = TokenReportOptions::of(kind);
    let options = TokenReportOptions {
        kind,
        vocabulary: args.bins.unwrap_or(usual.vocabulary),
        chunk_steps: args.chunk.unwrap_or(usual.chunk_steps),
        scale: args.scale.unwrap_or(usual.scale),
    };
    let paths = data::resolved(&args.path)?;
    let dataset = data::load_with(&paths, &args.read.options())?;
    let mut rng = Rng::from_seed(args.seed);
    let (found, fast) = token_report::report(&dataset, &options, given, &mut rng)?;
    output::whole(&found.report)?;
    if let Some(path) = &args.picture {
        report::tokens::draw(path, &found.picture)?;
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

/// A positive number.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a positive number".to_owned()),
    }
}
