//! Of TAP: what its codes keep of the data, what following them without a search returns, and its search with the simulator's rewards.

use candle_core::{Device, Tensor};

use crate::app::diagnose::at::At;
use crate::app::diagnose::codes::codes;
use crate::app::diagnose::configured::as_configured;
use crate::app::diagnose::episodes::{Actor, Plain, Stage};
use crate::app::diagnose::found::Diagnosis;
use crate::app::diagnose::replay;
use crate::app::diagnose::search::Imagining;
use crate::envs::score::ReferenceReturns;
use crate::envs::{self, VectorEnv};
use trajformer_algorithms::planning::simulated::Worth;
use trajformer_algorithms::planning::{LatentPlanConfig, LatentPlanner, LatentSearch};
use trajformer_algorithms::tap::Tap;
use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::environment::Environment;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Imagined, Policy};

/// Windows of each data set that go through the networks.
const WINDOWS: usize = 1_000;

/// What can be said of TAP. What is cheap comes first.
pub(super) fn of_codes(network: &Tap, at: &At<'_>, found: &mut Diagnosis) -> Result<()> {
    let config = network.config();
    found.plan_every_steps = Some(config.planner.plan_every_steps);
    // Held-out episodes come last, where there are some.
    let mut last = None;
    for (name, data) in at.data() {
        if at.options.interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        let windows = network.windows_of(data)?;
        let scores = network.code_scores(&windows, WINDOWS)?;
        found.codes.push(codes(network, (name, data), &scores));
        last = Some((name, data, windows));
    }
    found
        .notes
        .extend(at.about_unseen("how well its codes hold episodes"));
    let left_out = "the data's returns, what codes lose, and errors of what is imagined";
    found.notes.extend(at.about_no_data(left_out));
    let Some(stage) = at.stage else {
        return Ok(());
    };
    if let Some((name, data, windows)) = last {
        let again = |first, steps| network.reconstructed_actions(&windows, first, steps);
        found.code_replay = replayed(data, &again, stage, at.reference)?;
        found.notes.push(match &found.code_replay {
            None => format!(
                "`{}` can't be set to the states that the data starts at: its actions are not replayed",
                stage.name
            ),
            Some(_) => format!(
                "logged actions are those of {name} data, replayed from the first observations of its episodes"
            ),
        });
    }
    let mut drawn = with_planner(
        network,
        LatentPlanConfig {
            beam_width: 1,
            n_expand: 1,
            ..config.planner.clone()
        },
    )?;
    let rolled = stage.run("codes as they are drawn", &[None], &mut Plain(&mut drawn))?;
    found.greedy = Some(rolled.arm(at.reference));
    let ending_reward = config.termination_penalty.reward();
    as_configured(network.planner()?, ending_reward, true, (at, stage), found)?;
    if envs::make_with(&stage.name, &stage.options)?
        .fork()
        .is_none()
    {
        found.notes.push(format!(
            "the state of `{}` can't be saved and restored: plans are not tried in the simulator, and there is no error of what is imagined",
            stage.name
        ));
        return Ok(());
    }
    found.simulated_worth = Some(match at.options.worth {
        Worth::Model => "model",
        Worth::Nothing => "nothing",
    });
    let mut tried = Tried {
        planner: network.planner()?,
        ending_reward,
        worth: at.options.worth,
        chosen: Vec::new(),
    };
    let rolled = stage.run("its plans tried in the simulator", &[None], &mut tried)?;
    found.simulated = Some(rolled.arm(at.reference));
    Ok(())
}

/// Logged actions in the simulator, and what the codes keep of them: `reconstructed` says it of an episode, by its first window and its steps.
fn replayed(
    data: &Dataset,
    reconstructed: &dyn Fn(usize, usize) -> Result<Vec<Vec<f32>>>,
    stage: &Stage,
    reference: Option<ReferenceReturns>,
) -> Result<Option<replay::Replay>> {
    let through = |episode: &Episode| {
        if episode.steps < 2 {
            let own = episode.range().map(|step| data.action(step).to_vec());
            return Ok(own.collect());
        }
        let before = data.episodes.iter().filter(|other| other.is_complete());
        let before = before.take_while(|other| other.start < episode.start);
        let first = before.map(|other| other.steps - 1).sum();
        reconstructed(first, episode.steps)
    };
    replay::replay(data, stage, &through, reference)
}

fn with_planner(network: &Tap, config: LatentPlanConfig) -> Result<LatentPlanner> {
    let planner = network.planner()?;
    let (low, high) = planner.action_bounds();
    let search = LatentSearch::new(planner.search().model().clone(), config)?;
    LatentPlanner::new(search, low.to_vec(), high.to_vec())
}

impl Imagining for LatentPlanner {
    fn policy(&self) -> &dyn Policy {
        self
    }

    fn policy_mut(&mut self) -> &mut dyn Policy {
        self
    }

    fn horizon(&self) -> usize {
        self.search().config().horizon
    }

    fn plan_every_steps(&self) -> usize {
        self.search().config().plan_every_steps
    }

    fn bounds(&self) -> (&[f32], &[f32]) {
        self.action_bounds()
    }

    fn discount(&self) -> f64 {
        self.search().model().discount
    }

    fn scored_reward(&self, reward: f64) -> f64 {
        reward
    }

    /// As the search counts, without its penalty of what is unlikely: rewards but the last one, and the value of the last step; both a step
    /// nearer, as their discounts begin with γ.
    fn promised(&self, imagined: &Imagined) -> Result<f64> {
        let rewards = imagined.rewards.get(0)?.to_vec1::<f32>()?;
        let values = imagined.values.get(0)?.to_vec1::<f32>()?;
        let (discount, last) = (self.discount(), rewards.len() - 1);
        let mut factor = 1.0;
        let mut sum = 0.0;
        for reward in &rewards[..last] {
            sum += factor * f64::from(*reward);
            factor *= discount;
        }
        Ok(sum + factor * f64::from(values[last]))
    }

    /// Nearer to it than to nothing.
    fn is_end(&self, reward: f32, end: f64) -> bool {
        (f64::from(reward) - end).abs() < end.abs() / 2.0
    }
}

/// The plans that a search ends with, each carried out in a copy of the simulator; the best one's actions follow.
struct Tried {
    planner: LatentPlanner,
    ending_reward: Option<f64>,
    worth: Worth,
    /// Actions of each row's best plan.
    chosen: Vec<Vec<Vec<f32>>>,
}

impl Tried {
    /// The actions of the plan that returns most from the state of `env`; the first of several that return as much.
    fn best(&self, imagined: &Imagined, env: &dyn Environment) -> Result<Vec<Vec<f32>>> {
        let (low, high) = self.planner.action_bounds();
        let actions = imagined.actions.to_vec3::<f32>()?;
        let values = imagined.values.to_vec2::<f32>()?;
        let mut best: Option<(f64, Vec<Vec<f32>>)> = None;
        for (mut actions, values) in actions.into_iter().zip(values) {
            for action in &mut actions {
                for ((x, low), high) in action.iter_mut().zip(low).zip(high) {
                    *x = x.max(*low).min(*high);
                }
            }
            let copy = env.fork().ok_or_else(|| Error::Env {
                name: env.spec().name.clone(),
                problem: "its state can't be saved and restored".to_owned(),
            })?;
            let last = values.last().copied().unwrap_or(0.0);
            let found = self.returned(copy, &actions, f64::from(last))?;
            if best.as_ref().is_none_or(|(most, _)| found > *most) {
                best = Some((found, actions));
            }
        }
        best.map(|(_, actions)| actions)
            .ok_or_else(|| Error::internal("a search without plans"))
    }

    /// Discounted rewards of these actions, and `value` after them where nothing has ended.
    fn returned(
        &self,
        mut env: Box<dyn Environment>,
        actions: &[Vec<f32>],
        value: f64,
    ) -> Result<f64> {
        let discount = self.planner.search().model().discount;
        let (mut sum, mut factor) = (0.0, 1.0);
        for action in actions {
            let step = env.step(action)?;
            let end = self.ending_reward.filter(|_| step.terminated);
            sum += factor * end.unwrap_or_else(|| f64::from(step.reward));
            factor *= discount;
            if step.terminated || step.truncated {
                return Ok(sum);
            }
        }
        Ok(match self.worth {
            Worth::Model => sum + factor * value,
            Worth::Nothing => sum,
        })
    }
}

impl Actor for Tried {
    fn begin(&mut self, starts: &[EpisodeStart]) -> Result<()> {
        self.chosen = vec![Vec::new(); starts.len()];
        self.planner.begin(starts)
    }

    fn act(&mut self, step: usize, envs: &VectorEnv, active: &[bool]) -> Result<Tensor> {
        self.planner.act(&envs.observations()?, active)?;
        let within = step % self.planner.search().config().plan_every_steps;
        if within == 0 {
            for row in (0..active.len()).filter(|&row| active[row]) {
                if let (Some(imagined), Some(env)) = (self.planner.imagined(row)?, envs.fork(row)) {
                    self.chosen[row] = self.best(&imagined, &*env)?;
                }
            }
        }
        let width = envs.spec().action_dim;
        let mut actions = Vec::with_capacity(active.len() * width);
        for (plan, active) in self.chosen.iter().zip(active) {
            match plan.get(within).filter(|_| *active) {
                Some(action) => actions.extend(action),
                None => actions.extend(std::iter::repeat_n(0.0, width)),
            }
        }
        Ok(Tensor::from_vec(
            actions,
            (active.len(), width),
            &Device::Cpu,
        )?)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        self.planner.observe(rewards)
    }

    fn policy(&self) -> &dyn Policy {
        &self.planner
    }
}
