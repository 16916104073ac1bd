#![doc = include_str!("../README.md")]
//!
//! # Twelve lines
//!
//! ```
//! use trajformer::policy::simple::RandomPolicy;
//! use trajformer::{RunConfig, data, envs, fit};
//!
//! # fn main() -> trajformer::Result<()> {
//! let mut env = envs::make("pendulum-v1")?;
//! let mut behavior = RandomPolicy::new(env.spec());
//! let dataset = data::collect::collect(&mut *env, &mut behavior, 1_000, 0)?; // or data::load_one("hopper.hdf5")
//! let config = RunConfig::parse(
//!     "[train]\nupdates = 20\n[evaluate]\nenv = 'pendulum-v1'\nepisodes = 2\n\
//!      [algorithm.td3_bc]\nbatch_size = 32\nhidden = [32, 32]",
//! )?;
//! let mut trained = fit(&dataset, &config)?;
//! println!("{}", trained.evaluate()?.summary());
//! println!("{:?}", trained.act(&[1.0, 0.0, 0.0])?);
//! # let folder = std::env::temp_dir().join(format!("trajformer-doc-{}", std::process::id()));
//! # let path = folder.as_path();
//! trained.save(path)?; // `trajformer evaluate` opens it
//! # trajformer::run::open(path, &[])?;
//! # std::fs::remove_dir_all(path).ok();
//! # Ok(())
//! # }
//! ```
//!
//! # Modules, from data to scores
//!
//! [`data`] holds what was logged, [`algorithms`] learn from it ([`offpolicy`] holds what value-based ones share), [`planning`] searches with what they learned, a
//! [`policy`] acts in [`envs`], and [`evaluate`] scores it, or [`fqe`] without an environment, which [`choose`] ranks runs by; [`run`] puts these together, in the order of a run. [`pretrained`] opens models of other libraries, and
//! [`hub`] fetches and publishes; `setup` installs MuJoCo; [`export`] writes policies for other runtimes. [`text`] makes numbers of instructions, and
//! [`instruct`] tells them to policies; [`mod@act`] asks them what they would do at recorded observations.
//! [`trainer`], [`checkpoint`], [`config`] and [`metrics`] serve it, [`report`] draws, and [`scoring`], [`demo`],
//! [`diagnose`], [`preview`], [`render`], [`token_report`], [`compare`], [`sweep`], [`reproduce`], [`run_report`] and [`mod@bench`] are the commands.

mod app;
pub mod envs;
pub mod formats;
pub mod report;

pub use app::config::RunConfig;
pub use app::fitted::{fit, fit_with};
#[cfg(feature = "mpi")]
pub use app::mpi;
pub use app::report as run_report;
pub use app::run::TrainedRun;
#[cfg(feature = "serve")]
pub use app::serve;
#[cfg(feature = "mujoco")]
pub use app::setup;
pub use app::{
    about, act, bench, checkpoint, choose, compare, config, critic, demo, diagnose, evaluate,
    evaluations, export, fqe, held_out, hub, instruct, online, prepare, preview, publish, render,
    reproduce, scoring, sweep, token_report, trainer,
};
pub use candle_core;
pub use trajformer_algorithms::{offpolicy, planning};
pub use trajformer_core::algorithm::Algorithm;
pub use trajformer_core::dataset::Dataset;
pub use trajformer_core::environment::Environment;
pub use trajformer_core::policy::{EpisodeStart, Policy};
pub use trajformer_core::{
    Error, Result, algorithm, clock, device, environment, epochs, error, interrupt, nearest,
    printable, schedules,
};
pub use trajformer_models as models;
pub use trajformer_models::rng;

/// Runs from start to end: started, resumed, opened, a series of seeds.
pub mod run {
    pub use crate::app::asked::Asked;
    pub use crate::app::fitted::{fit, fit_with};
    pub use crate::app::prepare::Rule;
    pub use crate::app::run::*;
    pub use crate::app::series::{
        Failure, Series, check_series, default_out, parse_seeds, series, series_beside,
        series_so_far,
    };
}

/// Learning rules, the trait that they implement, and the registry that a configuration chooses from.
pub mod algorithms {
    pub use trajformer_algorithms::*;
    pub use trajformer_core::algorithm::{
        Algorithm, Build, Interactive, Matmul, OnlinePhase, Pretrainable, Step, Work,
    };
    pub use trajformer_core::source::{Source, Stage};
}

/// Logged experience: data sets, the files they come from, and what is prepared from them.
pub mod data {
    pub use crate::app::collect;
    pub use crate::app::datasets::{self as named, resolved};
    pub use crate::formats;
    pub use crate::formats::columns::{self, ColumnChoice};
    pub use crate::formats::files::{
        self, LoadOptions, check_new, convert, convert_with, load, load_one, load_with, save,
    };
    pub use trajformer_core::dataset::{self, ActionKind, Dataset, Episode};
    pub use trajformer_core::mixing::{self, DataShare, Mixing, Rows};
    pub use trajformer_core::normalizer::{self, ActionBounds, Normalizer};
    pub use trajformer_data::batch::Batch;
    pub use trajformer_data::info::{Info, info};
    pub use trajformer_data::transitions::{Transitions, best_fraction};
    pub use trajformer_data::transitions_config::{DataView, RewardTransform, TransitionsConfig};
    pub use trajformer_data::{
        action_chunks, batch, discretizer, replay, return_sequences, returns, sequences,
        step_windows, token_options, tokenizers, tokens, transitions,
    };
}

/// What acts: the trait, trained policies, and the behaviors that data is collected with.
pub mod policy {
    pub use crate::app::behaviors::{self as behavior, file, noise, simple};
    pub use crate::app::system_clock::SystemClock;
    pub use trajformer_algorithms::policies::actor::{self, ActorPolicy};
    pub use trajformer_algorithms::policies::{groups, return_conditioned};
    pub use trajformer_core::planning::{Decision, PlanOrigin, PlanningSummary};
    pub use trajformer_core::policy::*;
}

/// Models that other libraries trained: their files, and how they are opened as if they were runs.
pub mod pretrained {
    pub use crate::app::imported::*;
    pub use crate::app::pretrained::{gpt2, keys, weights};
}

/// Instructions in words and text to learn from, and the language models that read them.
pub mod text {
    pub use crate::app::text::*;
    pub use trajformer_core::corpus::{Corpus, CorpusConfig};
    pub use trajformer_core::instructed_episodes::InstructedEpisodes;
    pub use trajformer_core::instructions::{Instructions, TextConfig};
}

/// What the files of runs say while they train, and words for how far work has come.
pub mod watch {
    pub use crate::app::progress::{duration, seconds_between_lines, sparkline};
    pub use crate::app::watch::*;
}

/// What updates report, and the tables, events and bars that show it.
pub mod metrics {
    pub use crate::app::logger::{Logger, Tables, tensorboard};
    pub use crate::app::progress::Progress;
    pub use crate::app::table;
    pub use trajformer_core::held_out::HELD_OUT_LOSS;
    pub use trajformer_core::metrics::Metrics;
}
