//! Policies as ONNX files that other runtimes execute: normaliser, network, bounds in one graph.
//!
//! Every graph is compared with the policy it stands for before it is written: a policy that is something else
//! than its network (a choice among samples, a plan) is refused, and so is any mistake made here.

mod actor;
pub mod graph;
pub mod onnx;
mod parts;
mod sequence;

use std::path::Path;

use crate::app::checkpoint::check_output;
use crate::app::config::Purpose;
use crate::app::imported::Request;
use crate::app::run;
use crate::app::run::TrainedRun;
use crate::envs;
use graph::Graph;
use parts::Parts;
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Ability, Error, Result};

/// Fails if no ONNX file can come to be at `path`.
///
/// # Errors
/// If its name does not end in `.onnx`, it is there already, or its folder can't be made or written to.
pub fn check_new(path: &Path) -> Result<()> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    if !ending.is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) {
        let mut named = path.to_path_buf();
        named.set_extension("onnx");
        let problem = format!(
            "policies are exported as ONNX: end the name in .onnx, e.g. {}",
            named.display()
        );
        return Err(Error::data(path, problem));
    }
    if path.exists() {
        let problem = "exists already; remove it, or choose another name";
        return Err(Error::data(path, problem));
    }
    check_output(path)
}

/// Opens a run, or a model of another library, for export. One that draws samples of its actor and chooses among them by
/// their values (BEAR, BRAC, CRR) is opened as its actor's mean, which is one network; a warning says so.
///
/// # Errors
/// As [`run::open`].
pub fn open(path: &Path, overrides: &[String]) -> Result<TrainedRun> {
    let opened = |overrides: &[String]| {
        let request = Request {
            overrides,
            purpose: Purpose::Export,
            ..Request::default()
        };
        run::open_with(path, &request)
    };
    let trained = opened(overrides)?;
    let (mean, samples) = match &trained.config.algorithm {
        AlgorithmConfig::Brac(config) if config.acting_samples > 0 => {
            ("algorithm.brac.acting_samples=0", config.acting_samples)
        }
        AlgorithmConfig::Bear(config) if config.acting_samples > 0 => {
            ("algorithm.bear.acting_samples=0", config.acting_samples)
        }
        AlgorithmConfig::Crr(config) if config.weighted_acting => {
            ("algorithm.crr.weighted_acting=false", config.samples)
        }
        _ => return Ok(trained),
    };
    tracing::warn!(
        "{} acts by one of {samples} samples of its actor, by their values; exported is the actor's mean: an \
         evaluation with `{mean}` acts so too",
        trained.config.algorithm.name()
    );
    opened(&[overrides, &[mean.to_owned()]].concat())
}

/// Writes the policy of a run as an ONNX file.
///
/// # Errors
/// If it is not a network that acts without chance, or no file can come to be there ([`check_new`]).
pub fn write(run: &mut TrainedRun, path: &Path) -> Result<Graph> {
    check_new(path)?;
    let graph = graph_of(run)?;
    let notes = [
        ("algorithm", run.config.algorithm.name().to_owned()),
        // Empty where none is known.
        ("environment", environment(run)?.unwrap_or_default()),
    ];
    write_atomically(path, &onnx::encode(&graph, &notes)?)?;
    Ok(graph)
}

/// The environment that the policy is for: where it is scored, else where its data says that it comes from; `None` if neither is known, or
/// only one that the policy doesn't fit, as `evaluate.env` may be where nothing was scored.
///
/// # Errors
/// If an environment that is built in can't be made.
fn environment(run: &TrainedRun) -> Result<Option<String>> {
    let expected = run.spec.dims();
    let named = [run.config.evaluate.env.as_ref(), run.spec.env_name.as_ref()];
    for name in named.into_iter().flatten() {
        // What is not built in can't be asked.
        let built_in = envs::names()
            .iter()
            .any(|other| other.eq_ignore_ascii_case(name));
        if !built_in {
            return Ok(Some(name.clone()));
        }
        let env = envs::make(name)?;
        let kind = run.spec.action_kind();
        if env.spec().check_fits(expected, kind, "the run").is_ok() {
            return Ok(Some(name.clone()));
        }
        tracing::warn!(
            "the run names the environment `{name}`, which has other numbers of observations and actions than its policy: the file does not \
             name it"
        );
    }
    Ok(None)
}

/// The policy of a run as a graph: `observation` (batch, O) to `action` (batch, A) in the environment's units, of choices the number of the
/// one that it takes;
/// for the Decision Transformer `observations`, `actions`, `returns_to_go`, `timesteps` and `attention_mask` of the
/// last K steps (batch, K, ..), padded on the left where the mask is 0.
///
/// # Errors
/// If it is not a network that acts without chance.
pub fn graph_of(run: &mut TrainedRun) -> Result<Graph> {
    if let Some(name) = &run.config.encoder {
        let algorithm = run.config.algorithm.name();
        return Err(Error::Encoder {
            name: name.clone(),
            problem: format!(
                "a policy of `{algorithm}` with it can't be exported: what it computes is code of another program; act with the \
                 run there, or train without it"
            ),
        });
    }
    let mut parts = Parts::default();
    run.algorithm.state(&mut parts)?;
    match &run.config.algorithm {
        AlgorithmConfig::DecisionTransformer(config) if config.text.is_some() => {
            Err(Error::unsupported(
                Ability::Export,
                "a policy that follows instructions in words is not exported: its encoder would have to be in \
                 the graph",
            ))
        }
        AlgorithmConfig::DecisionTransformer(config) => {
            let (description, kind) = (run.algorithm.description(), run.spec.action_kind());
            let policy = &mut *run.algorithm.policy()?;
            sequence::graph(&parts, config, (&description, kind), policy)
        }
        AlgorithmConfig::Qt(_) => Err(Error::unsupported(
            Ability::Export,
            "a policy of QT asks for several returns at once and lets its critics choose among the actions, which is more \
             than one network: it is not exported",
        )),
        AlgorithmConfig::OnlineDt(_) => Err(Error::unsupported(
            Ability::Export,
            "a policy of the Online Decision Transformer reads its own last actions and takes each reward off the return that it aims \
             at: no graph is written for it yet, and it is not exported",
        )),
        AlgorithmConfig::Reinformer(_) => Err(Error::unsupported(
            Ability::Export,
            "a policy of the Reinformer reads the return that it has just predicted, which is more than one network: it is not \
             exported",
        )),
        _ => {
            let kind = run.spec.action_kind();
            actor::graph(&parts, kind, &mut *run.algorithm.policy()?)
        }
    }
}
