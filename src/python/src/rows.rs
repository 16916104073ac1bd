//! [`Rows`]: a trained policy that acts in some episodes side by side, each of which can begin anew by itself.
//!
//! The library's policies begin all of their episodes at once. Rows that began together share one; a row that begins anew leaves its own and
//! gets another. What a row does never depends on which rows share its policy.

use trajformer::act::{Live, Starts};
use trajformer::candle_core::{Device, Tensor};
use trajformer::run::TrainedRun;
use trajformer::{Error, Policy, Result};

/// A run with the episodes that it acts in.
pub struct Rows {
    pub live: Live,
    cohorts: Vec<Cohort>,
    /// Rows under way; 0 before the first.
    count: usize,
    /// Which rows have acted, and were not told the reward.
    unrewarded: Vec<bool>,
}

/// Rows that began together.
struct Cohort {
    policy: Box<dyn Policy>,
    rows: Vec<usize>,
    /// Which of them it still acts in.
    active: Vec<bool>,
}

impl Rows {
    /// A run of which no episode has begun.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn new(run: TrainedRun) -> Result<Self> {
        Ok(Self {
            live: Live::new(run)?,
            cohorts: Vec::new(),
            count: 0,
            unrewarded: Vec::new(),
        })
    }

    /// How many rows are under way.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Begins `count` episodes in place of all.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_all(&mut self, count: usize, starts: &Starts) -> Result<()> {
        let rows: Vec<usize> = (0..count).collect();
        let cohort = self.cohort(rows, starts)?;
        self.cohorts = vec![cohort];
        self.count = count;
        self.unrewarded = vec![false; count];
        Ok(())
    }

    /// Begins anew in these rows, whose numbers are below [`Self::count`] and differ; the others go on.
    ///
    /// # Errors
    /// If a goal or an instruction is missing, or is given to a policy that looks at none; then nothing changes.
    pub fn begin(&mut self, rows: Vec<usize>, starts: &Starts) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let cohort = self.cohort(rows.clone(), starts)?;
        for old in &mut self.cohorts {
            for (row, active) in old.rows.iter().zip(&mut old.active) {
                *active &= !rows.contains(row);
            }
        }
        self.cohorts.retain(|old| old.active.contains(&true));
        self.cohorts.push(cohort);
        for row in rows {
            self.unrewarded[row] = false;
        }
        Ok(())
    }

    fn cohort(&mut self, rows: Vec<usize>, starts: &Starts) -> Result<Cohort> {
        let policy = self.live.begin(rows.len(), starts)?;
        if let Some(seed) = starts.seed {
            self.live.number_on(seed, rows.len() as u64);
        }
        Ok(Cohort {
            policy,
            active: vec![true; rows.len()],
            rows,
        })
    }

    /// Actions (E, A), row-major, at observations (E, O), row-major. Where no episode is under way, or the policy neither remembers nor
    /// draws nor was told anything, E episodes begin.
    ///
    /// # Errors
    /// If rows are another number than those under way, or a row was not told what followed its last action.
    pub fn act(&mut self, observations: &[f32]) -> Result<Vec<f32>> {
        let (o, a) = (
            self.live.run.spec.observation_dim,
            self.live.run.spec.action_dim,
        );
        let count = observations.len() / o;
        let traits = &self.live.traits;
        let told = traits.draws || traits.needs_goal || traits.needs_instruction;
        if self.count == 0 || (traits.is_memoryless && !told && count != self.count) {
            self.begin_all(count, &Starts::default())?;
        }
        if count != self.count {
            return Err(Error::shape(
                "`observations`",
                format_args!("{count} rows"),
                format_args!(
                    "{}, one for each episode under way: call reset(rows={count}) to begin others",
                    self.count
                ),
            ));
        }
        if let Some(row) = self.unrewarded.iter().position(|waits| *waits) {
            return Err(Error::Unsuitable(format!(
                "this run ({}) acts by what was seen, done and rewarded before: tell it the reward of the last step with \
                 observe(rewards), or begin a new episode with reset() (row {row})",
                self.live.run.config.algorithm.name()
            )));
        }
        let mut actions = vec![0.0; count * a];
        for cohort in &mut self.cohorts {
            let pick = |&row: &usize| observations[row * o..(row + 1) * o].iter().copied();
            let seen: Vec<f32> = cohort.rows.iter().flat_map(pick).collect();
            let seen = Tensor::from_vec(seen, (cohort.rows.len(), o), &Device::Cpu)?;
            let found = cohort.policy.act(&seen, &cohort.active)?; // (rows, A)
            let found = found.to_vec2::<f32>()?;
            for ((row, active), action) in cohort.rows.iter().zip(&cohort.active).zip(found) {
                if *active {
                    actions[row * a..(row + 1) * a].copy_from_slice(&action);
                }
            }
        }
        self.unrewarded.fill(!self.live.traits.is_memoryless);
        Ok(actions)
    }

    /// Tells the rewards (E) that followed, and what was done (E, A) where that is something else than what [`Self::act`] said. A policy without
    /// memory does not listen. Rows that have begun anew since they acted are left out.
    ///
    /// # Errors
    /// If rows are another number than those under way, or no row has acted.
    pub fn observe(&mut self, rewards: &[f32], taken: Option<&[f32]>) -> Result<()> {
        if self.live.traits.is_memoryless {
            return Ok(());
        }
        if rewards.len() != self.count {
            return Err(Error::shape(
                "`rewards`",
                format_args!("{} numbers", rewards.len()),
                format_args!("{}, one for each episode under way", self.count),
            ));
        }
        if !self.unrewarded.contains(&true) {
            return Err(Error::Unsuitable(
                "observe(rewards) tells what followed an action, and there is none: call act(observations) first"
                    .to_owned(),
            ));
        }
        let a = self.live.run.spec.action_dim;
        for cohort in &mut self.cohorts {
            // Those of its rows that it still acts in have acted together, or not at all.
            let mut acting = cohort.rows.iter().zip(&cohort.active);
            if !acting.any(|(&row, &active)| active && self.unrewarded[row]) {
                continue;
            }
            if let Some(taken) = taken {
                let pick = |&row: &usize| taken[row * a..(row + 1) * a].iter().copied();
                let done: Vec<f32> = cohort.rows.iter().flat_map(pick).collect();
                let done = Tensor::from_vec(done, (cohort.rows.len(), a), &Device::Cpu)?;
                cohort.policy.took(&done)?;
            }
            let pick = |(&row, &active): (&usize, &bool)| if active { rewards[row] } else { 0.0 };
            let rewards: Vec<f32> = cohort.rows.iter().zip(&cohort.active).map(pick).collect();
            cohort.policy.observe(&rewards)?;
        }
        self.unrewarded.fill(false);
        Ok(())
    }
}
