//! [`diagnose`]: where the score of a sequence model goes.
//!
//! A Trajectory Transformer can lose it in four places: in bins, which round every action; in the network's imitation, which its
//! most likely actions show; in what the search imagines, which the same search in the real simulator shows; and in what is
//! proposed and how ends are valued, which is what that search still lacks. Each is measured by itself, from the same starts.
//! Of a Decision Transformer the question is whether what is asked for is what is reached. docs/diagnose.md says how to read it.

mod aims;
mod at;
mod codes;
mod configured;
mod episodes;
mod found;
mod latent;
mod logged;
mod losses;
mod picture;
mod replay;
mod search;
mod tokens;
mod wording;

use std::time::Instant;

pub use aims::{ActionError, ActionErrors, Aim, Choices};
pub use codes::Codes;
pub use episodes::{Arm, Difference};
pub use found::{DiagnoseOptions, Diagnosis, Logged, Loss, Other, Place, Returned};
pub use logged::logged;
pub use picture::draw;
pub use replay::{BinError, Bins, Replay, Through};
pub use search::{Decision, HorizonError, Imagination, Returns};
pub use tokens::{AtOnce, Tokens, Told};
pub use trajformer_algorithms::planning::simulated::Worth;
pub use wording::{budget, page};

use crate::app::diagnose::at::At;
use crate::app::diagnose::configured::as_configured;
use crate::app::diagnose::episodes::{Plain, Stage, ThroughBins, binned};
use crate::app::diagnose::search::InSimulator;
use crate::app::run::TrainedRun;
use crate::envs;
use crate::envs::score::reference_for;
use trajformer_algorithms::planning::simulated::SimulatedOptions;
use trajformer_algorithms::planning::{BeamPlanner, BeamSearch, Objective, PlanConfig, PlanValue};
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_algorithms::tap::Tap;
use trajformer_algorithms::trajectory_transformer::TrajectoryTransformer;
use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::planning::critic_units;
use trajformer_data::discretizer::Discretizer;

/// Algorithms that it is about.
const ALGORITHMS: &str =
    "trajectory_transformer, decision_transformer, online_dt, qt, reinformer, lamo, fast, tap";
/// Logged steps that an imitating policy is walked through, of each data set.
const WALKED_STEPS: usize = 2_000;
/// Share of the data's episodes that are its best.
const BEST: f64 = 0.1;

/// The steps of each episode that `options` allow a run.
///
/// # Errors
/// If the run's environment can't be made.
pub fn steps_of(run: &TrainedRun, options: &DiagnoseOptions) -> Result<Option<usize>> {
    let stage = stage(run, options)?;
    Ok(stage.map(|stage| stage.steps))
}

/// Numbers of an observation and of an action.
fn dims(run: &TrainedRun) -> (usize, usize) {
    (run.spec.observation_dim, run.spec.action_dim)
}

/// Fails for runs that there is nothing to say of.
///
/// # Errors
/// Naming the algorithms that it is about.
pub fn check(run: &TrainedRun) -> Result<()> {
    use AlgorithmConfig::{
        DecisionTransformer, Fast, Lamo, OnlineDt, Qt, Reinformer, Tap, TrajectoryTransformer,
    };
    let name = run.config.algorithm.name();
    match run.config.algorithm {
        TrajectoryTransformer(_)
        | DecisionTransformer(_)
        | OnlineDt(_)
        | Qt(_)
        | Reinformer(_)
        | Lamo(_)
        | Fast(_)
        | Tap(_) => {}
        _ => {
            let problem = format!(
                "a diagnosis is about {ALGORITHMS}, not about `{name}`; its scores and diagnostics are in `report`"
            );
            return Err(Error::unsupported(Ability::Diagnosis, problem));
        }
    }
    if run.algorithm.policy()?.needs_instruction() {
        let problem = format!(
            "this run of `{name}` follows instructions, which a diagnosis does not give: score it by its instructions"
        );
        return Err(Error::unsupported(Ability::Diagnosis, problem));
    }
    Ok(())
}

/// Finds out where the score of a run goes.
///
/// # Errors
/// As [`check`], and if data, environment or policy fails. An interruption is none.
pub fn diagnose(
    run: &mut TrainedRun,
    logged: &Logged,
    other: Option<&Other>,
    options: &DiagnoseOptions,
) -> Result<Diagnosis> {
    check(run)?;
    if let Some(other) = other {
        let (found, expected) = (dims(&other.run), dims(run));
        if found != expected || other.run.spec.action_kind() != run.spec.action_kind() {
            return Err(Error::Dimensions {
                problem: format!(
                    "{}: it sees {} observations and acts with {}, the run sees {} and acts with {}: give a run on the same task",
                    other.name,
                    found.0,
                    other.run.spec.action_kind().said(found.1),
                    expected.0,
                    run.spec.action_kind().said(expected.1)
                ),
                found,
                expected,
            });
        }
    }
    let begin = Instant::now();
    let stage = stage(run, options)?;
    let mut found = Diagnosis {
        algorithm: run.config.algorithm.name(),
        env: stage.as_ref().map(|stage| stage.name.clone()),
        episodes: options.episodes,
        steps: stage.as_ref().map_or(0, |stage| stage.steps),
        whole_episodes: stage.as_ref().is_some_and(Stage::is_whole),
        plan_every_steps: None,
        simulated_worth: None,
        data: Vec::new(),
        bins: None,
        tokens: Vec::new(),
        codes: Vec::new(),
        code_replay: None,
        greedy: None,
        simulated: None,
        configured: None,
        imagination: None,
        aims: Vec::new(),
        actions: Vec::new(),
        losses: Vec::new(),
        verdict: String::new(),
        notes: Vec::new(),
        interrupted: false,
        seconds: 0.0,
    };
    if stage.is_none() {
        let problem = "the run names no environment: nothing acts, and what can be said follows from data alone";
        found.notes.push(problem.to_owned());
    }
    let reference = stage
        .as_ref()
        .filter(|stage| stage.is_whole())
        .and_then(|stage| reference_for(&stage.name));
    let at = At {
        stage: stage.as_ref(),
        logged,
        reference,
        options,
    };
    found.data = returned(&at);
    found.notes.extend(about_data(&at));
    let rule = run.algorithm.as_any();
    let planner = rule.and_then(|rule| rule.downcast_ref::<TrajectoryTransformer>());
    let tap = rule.and_then(|rule| rule.downcast_ref::<Tap>());
    if other.is_some() && planner.is_none() {
        let problem = "this run has no bins that another run's actions could go through";
        found.notes.push(problem.to_owned());
    }
    let done = match (planner, tap) {
        (Some(network), _) => of_planner(network, &at, other, &mut found),
        (None, Some(network)) => latent::of_codes(network, &at, &mut found),
        (None, None) => {
            found.notes.extend(without_search(options));
            of_imitation(run, &at, &mut found)
        }
    };
    match done {
        Err(Error::Interrupted) => found.interrupted = true,
        other => other?,
    }
    (found.losses, found.verdict) = losses::judge(&found);
    found.seconds = begin.elapsed().as_secs_f64();
    Ok(found)
}

fn stage(run: &TrainedRun, options: &DiagnoseOptions) -> Result<Option<Stage>> {
    let evaluate = run.config.evaluation();
    let Some(name) = evaluate.env.clone() else {
        return Ok(None);
    };
    if options.episodes == 0 || options.decisions == 0 {
        return Err(Error::settings(format!(
            "{} episodes and {} decisions, expected at least one of each",
            options.episodes, options.decisions
        )));
    }
    let env = envs::make_with(&name, &evaluate.gym_options())?;
    let spec = env.spec().clone();
    drop(env);
    let kind = run.spec.action_kind();
    spec.check_fits(dims(run), kind, "the run")?;
    let plans = match &run.config.algorithm {
        AlgorithmConfig::TrajectoryTransformer(config) => Some(config.planner.plan_every_steps),
        AlgorithmConfig::Tap(config) => Some(config.planner.plan_every_steps),
        _ => None,
    };
    let steps = plans.map_or(spec.max_episode_steps, |every| {
        (options.decisions.saturating_mul(every) / options.episodes).max(1)
    });
    Ok(Some(Stage {
        steps: steps.min(spec.max_episode_steps),
        options: evaluate.gym_options(),
        episodes: options.episodes,
        seed: options.seed.unwrap_or(evaluate.seed),
        goal: evaluate.goal,
        interrupt: options.interrupt.clone(),
        name,
        spec,
    }))
}

/// What data can't say: without a complete episode it has no returns, and episodes that were cut much earlier than they are here are
/// no measure.
fn about_data(at: &At<'_>) -> Vec<String> {
    let of = |(name, data): (&'static str, &Dataset)| {
        let complete = data.episodes.iter().filter(|episode| episode.is_complete());
        if complete.clone().count() == 0 {
            return Some(format!(
                "{name} data ({}) has no complete episode: nothing is held against its returns or actions",
                data.source_names()
            ));
        }
        let cut = complete.filter(|episode| episode.truncated && !episode.terminated);
        let (count, steps) = cut.fold((0, 0), |(n, steps), e| (n + 1, steps + e.steps));
        let (here, mean) = (at.stage?.steps, steps as f64 / f64::from(count.max(1)));
        (count > 0 && 2.0 * mean < here as f64).then(|| {
            format!(
                "{count} episodes of {name} data were cut after {mean:.0} steps on average, and are held against up to {here} here: differences of \
                 return are those of lengths too"
            )
        })
    };
    at.data().filter_map(of).collect()
}

/// Returns of the data's episodes over as many steps as episodes have here.
fn returned(at: &At<'_>) -> Vec<Returned> {
    let steps = at.stage.map_or(usize::MAX, |stage| stage.steps);
    let of = |(name, data): (&'static str, &Dataset)| {
        let counted = data.episodes.iter().filter(|episode| {
            episode.is_complete() || (!episode.fragment && episode.steps >= steps)
        });
        let mut found: Vec<(f64, usize)> = counted
            .map(|episode| {
                let length = episode.steps.min(steps);
                let rewards = &data.rewards[episode.start..episode.start + length];
                (rewards.iter().map(|&r| f64::from(r)).sum(), length)
            })
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let best = ((found.len() as f64 * BEST).ceil() as usize).max(1);
        let arm = |found: &[(f64, usize)]| {
            let (returns, lengths) = found.iter().copied().unzip();
            Arm::new(returns, lengths, at.reference)
        };
        (!found.is_empty()).then(|| Returned {
            data: name,
            files: data.source_names(),
            all: arm(&found),
            best: arm(&found[..best]),
        })
    };
    at.data().filter_map(of).collect()
}

/// What can be said of a Trajectory Transformer. What is cheap comes first.
fn of_planner(
    network: &TrajectoryTransformer,
    at: &At<'_>,
    other: Option<&Other>,
    found: &mut Diagnosis,
) -> Result<()> {
    let planner = network.planner()?;
    let config = planner.search().config().clone();
    let model = planner.search().model().clone();
    let by_return = config.objective == Objective::Return;
    found.plan_every_steps = Some(config.plan_every_steps);
    for (name, data) in at.data() {
        if at.options.interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        found.tokens.push(tokens::tokens(network, data, name)?);
    }
    if network.acts_with_averages() && !found.tokens.is_empty() {
        found.notes.push(
            "tokens are told with the averages of the weights (`average_decay`), which act, not with those that learn"
                .to_owned(),
        );
    }
    found
        .notes
        .extend(at.about_unseen("how well it tells episodes"));
    let left_out = "the data's returns, tokens, what bins cost, and errors of what is imagined";
    found.notes.extend(at.about_no_data(left_out));
    found.bins = bins(&model.discretizer, at, other, &mut found.notes)?;
    if let Some(other) = other.filter(|_| found.bins.is_none()) {
        found.notes.push(format!(
            "{} is not put through the bins without data",
            other.name
        ));
    }
    let Some(stage) = at.stage else {
        return Ok(());
    };
    let mut greedy = greedy(&planner)?;
    let rolled = stage.run("most likely actions", &[None], &mut Plain(&mut greedy))?;
    found.greedy = Some(rolled.arm(at.reference));
    let ending_reward = network.termination_penalty();
    let discount = planner.search().discount();
    as_configured(planner, ending_reward, by_return, (at, stage), found)?;
    if config.value == PlanValue::Critic && found.imagination.is_some() {
        found.notes.push(critic_units(discount));
    }
    if !by_return {
        found.notes.push("the planner maximises likelihood: there are no predicted returns, and no rewards that the simulator could tell the search".to_owned());
        return Ok(());
    }
    let config = network.planner()?.search().config().clone();
    if config.value == PlanValue::Critic {
        found.notes.push(
            "plans are scored by a critic (`planner.value`), which the search in the simulator does not ask: it is left out"
                .to_owned(),
        );
        return Ok(());
    }
    if config.budget().is_some() {
        found.notes.push(
            "the search in the simulator has no budget: what a budget cuts off counts as lost by imagining".to_owned(),
        );
    }
    let copies = envs::make_with(&stage.name, &stage.options)?.fork();
    if copies.is_none() {
        found.notes.push(format!(
            "the state of `{}` can't be saved and restored: there is no search in the simulator, and no error of what is imagined",
            stage.name
        ));
        return Ok(());
    }
    let options = SimulatedOptions {
        ending_reward,
        worth: at.options.worth,
        ..SimulatedOptions::default()
    };
    found.simulated_worth = Some(match at.options.worth {
        Worth::Model => "model",
        Worth::Nothing => "nothing",
    });
    let mut simulated = InSimulator::new(network.planner()?, options)?;
    let rolled = stage.run("search in the simulator", &[None], &mut simulated)?;
    found.simulated = Some(rolled.arm(at.reference));
    Ok(())
}

/// The most likely action at each step, without a search.
fn greedy(planner: &BeamPlanner) -> Result<BeamPlanner> {
    let config = PlanConfig {
        horizon: 1,
        beam_width: 1,
        plan_every_steps: 1,
        objective: Objective::Likelihood,
        value: PlanValue::Model,
        critic: None,
        budget_ms: None,
        budget_tokens: None,
        ..planner.search().config().clone()
    };
    let (low, high) = planner.action_bounds();
    let search = BeamSearch::new(planner.search().model().clone(), config)?;
    let search = search.with_choices(planner.search().choices());
    BeamPlanner::new(search, low.to_vec(), high.to_vec())
}

fn bins(
    discretizer: &Discretizer,
    at: &At<'_>,
    other: Option<&Other>,
    notes: &mut Vec<String>,
) -> Result<Option<Bins>> {
    // Held-out episodes where there are some.
    let Some((name, data)) = at.data().last() else {
        return Ok(None);
    };
    let mut found = Bins {
        dimensions: replay::bin_errors(data, discretizer),
        replay: None,
        through: None,
    };
    let Some(stage) = at.stage else {
        return Ok(Some(found));
    };
    let through = |episode: &Episode| {
        let actions = episode.range().map(|step| data.action(step));
        let o = data.observation_dim;
        Ok(actions
            .map(|action| binned(discretizer, o, action))
            .collect())
    };
    found.replay = replay::replay(data, stage, &through, at.reference)?;
    notes.push(match &found.replay {
        None => format!(
            "`{}` can't be set to the states that the data starts at: its actions are not replayed",
            stage.name
        ),
        Some(_) => format!("logged actions are those of {name} data, replayed from the first observations of its episodes"),
    });
    if let Some(other) = other {
        let mut policy = other.run.algorithm.policy()?;
        let plain = stage.run("the other run", &[None], &mut Plain(&mut *policy))?;
        let mut through = ThroughBins {
            policy: &mut *policy,
            discretizer,
            observation_dim: data.observation_dim,
        };
        let binned = stage.run("the other run through bins", &[None], &mut through)?;
        found.through = Some(Through {
            run: other.name.clone(),
            plain: plain.arm(at.reference),
            binned: binned.arm(at.reference),
        });
    }
    Ok(Some(found))
}

/// What is asked of a search, where there is none.
fn without_search(options: &DiagnoseOptions) -> Vec<String> {
    let usual = DiagnoseOptions::default();
    let asked = [
        (
            options.worth != usual.worth,
            "what ends of a search in the simulator are worth",
        ),
        (options.decisions != usual.decisions, "a number of plans"),
    ];
    let said = |(is_asked, what): (bool, &str)| {
        is_asked.then(|| format!("this run does not search: {what} changes nothing"))
    };
    asked.into_iter().filter_map(said).collect()
}

/// What can be said of policies that imitate: those that aim at returns, and others.
fn of_imitation(run: &TrainedRun, at: &At<'_>, found: &mut Diagnosis) -> Result<()> {
    let mut policy = run.algorithm.policy()?;
    let aims = !matches!(
        run.config.algorithm,
        AlgorithmConfig::Fast(_) | AlgorithmConfig::Reinformer(_)
    );
    // The candidates of QT ask for all of its own in one decision; each is asked for alone here.
    let own = match &run.config.algorithm {
        AlgorithmConfig::Qt(config) => config.target_returns.clone(),
        _ => policy.target_returns(),
    };
    let left_out = if aims {
        "the data's returns, which would be asked for, and errors of actions"
    } else {
        "the data's returns and errors of actions"
    };
    found.notes.extend(at.about_no_data(left_out));
    for (name, data) in at.data() {
        let walk = (name, WALKED_STEPS);
        let interrupt = &at.options.interrupt;
        let errors = aims::action_errors(&mut *policy, aims, data, walk, interrupt)?;
        found.actions.extend(errors);
    }
    let Some(stage) = at.stage else {
        return Ok(());
    };
    let data = at.data().next().map(|(_, data)| data);
    let targets = aims::grid(data, &own);
    if aims && !targets.is_empty() {
        found.aims = aims::aims(stage, &mut *policy, targets, at.reference)?;
    }
    // What it does when nothing else is asked for: aim at the first.
    let first = policy.target_returns().first().copied();
    let asked = found
        .aims
        .iter()
        .find(|aim| first.map(f64::from) == Some(aim.asked));
    found.configured = match asked {
        Some(aim) => Some(aim.reached.clone()),
        None => {
            let rolled = stage.run("the policy", &[first], &mut Plain(&mut *policy))?;
            Some(rolled.arm(at.reference))
        }
    };
    Ok(())
}
