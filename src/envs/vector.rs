//! [`VectorEnv`]: several copies of an environment, stepped in parallel on threads.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::envs::registry::make;
use trajformer_core::environment::{EnvSpec, Environment, Step};
use trajformer_core::error::{Error, Result};

/// Copies of one environment, one per row. Rows never influence each other, and results don't
/// depend on the number of threads.
pub struct VectorEnv {
    rows: Vec<Row>,
    spec: EnvSpec,
}

struct Row {
    env: Box<dyn Environment>,
    observation: Vec<f32>,
}

/// What follows one action per row.
#[derive(Debug, Clone)]
pub struct VectorStep {
    /// Rewards (E); 0 in rows that are not active.
    pub rewards: Vec<f32>,
    /// Which rows the task ended in this step (E).
    pub terminated: Vec<bool>,
    /// Which rows reached the time limit in this step (E).
    pub truncated: Vec<bool>,
}

impl VectorEnv {
    /// `rows` copies of the environment called `name`.
    ///
    /// # Errors
    /// If [`make`] fails, or there are no rows.
    pub fn make(name: &str, rows: usize) -> Result<Self> {
        Self::new((0..rows).map(|_| make(name)).collect::<Result<_>>()?)
    }

    /// These copies, which must look alike.
    ///
    /// # Errors
    /// If there is none, or their specs differ.
    pub fn new(envs: Vec<Box<dyn Environment>>) -> Result<Self> {
        let failed = |name: &str, problem: &str| Error::Env {
            name: name.to_owned(),
            problem: problem.to_owned(),
        };
        let spec = envs.first().map(|env| env.spec().clone());
        let spec = spec.ok_or_else(|| failed("vector", "needs at least one copy"))?;
        if envs.iter().any(|env| *env.spec() != spec) {
            return Err(failed(
                &spec.name,
                "the copies differ in name, sizes, bounds or length",
            ));
        }
        let start = vec![0.0; spec.observation_dim];
        let rows = envs
            .into_iter()
            .map(|env| Row {
                env,
                observation: start.clone(),
            })
            .collect();
        Ok(Self { rows, spec })
    }

    /// What each copy looks like.
    pub fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// How many copies (E).
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The last observation of every row (E, O), f32 on the CPU; zeros before the first reset.
    ///
    /// # Errors
    /// If the tensor can't be made.
    pub fn observations(&self) -> Result<Tensor> {
        let values: Vec<f32> = self
            .rows
            .iter()
            .flat_map(|row| &row.observation)
            .copied()
            .collect();
        Ok(Tensor::from_vec(
            values,
            (self.rows.len(), self.spec.observation_dim),
            &Device::Cpu,
        )?)
    }

    /// The last observation of one row (O).
    pub fn observation(&self, row: usize) -> &[f32] {
        &self.rows[row].observation
    }

    /// The goal of one row's episode (O), if the task has one: see [`Environment::goal`].
    pub fn goal(&self, row: usize) -> Option<Vec<f32>> {
        self.rows[row].env.goal()
    }

    /// What episodes can be asked to do: see [`Environment::instructions`].
    pub fn instructions(&self) -> Vec<String> {
        self.rows
            .first()
            .map_or_else(Vec::new, |row| row.env.instructions())
    }

    /// Makes the next episodes of one row about `instruction`: see [`Environment::instruct`].
    ///
    /// # Errors
    /// If the task does not understand it.
    pub fn instruct(&mut self, row: usize, instruction: &str) -> Result<()> {
        self.rows[row].env.instruct(instruction)
    }

    /// Starts an episode in every row, each from its own seed (E).
    ///
    /// # Errors
    /// If the number of seeds is not that of rows, or a simulator fails.
    pub fn reset(&mut self, seeds: &[u64]) -> Result<()> {
        self.check_rows("seeds", seeds.len())?;
        self.rows
            .par_iter_mut()
            .zip(seeds)
            .try_for_each(|(row, &seed)| {
                row.observation = row.env.reset(seed)?;
                Ok(())
            })
    }

    /// Starts an episode in one row.
    ///
    /// # Errors
    /// If the simulator fails.
    pub fn reset_row(&mut self, row: usize, seed: u64) -> Result<()> {
        self.rows[row].observation = self.rows[row].env.reset(seed)?;
        Ok(())
    }

    /// Applies actions (E, A) in the rows with `active[row]`; the others stand still.
    ///
    /// # Errors
    /// If shapes do not fit, an action is not finite, or a simulator fails.
    pub fn step(&mut self, actions: &Tensor, active: &[bool]) -> Result<VectorStep> {
        self.check_rows("activity flags", active.len())?;
        let (rows, width) = actions.dims2()?;
        self.check_rows("actions", rows)?;
        if width != self.spec.action_dim {
            let problem = format!(
                "got actions of {width} numbers, expected {}",
                self.spec.action_dim
            );
            return Err(Error::Env {
                name: self.spec.name.clone(),
                problem,
            });
        }
        let actions = actions
            .to_device(&Device::Cpu)?
            .to_dtype(candle_core::DType::F32)?;
        let actions = actions.flatten_all()?.to_vec1::<f32>()?;
        let work = self
            .rows
            .par_iter_mut()
            .zip(actions.par_chunks_exact(width))
            .zip(active);
        let steps: Vec<Option<Step>> = work
            .map(|((row, action), &active)| {
                if !active {
                    return Ok(None);
                }
                let mut step = row.env.step(action)?;
                row.observation = std::mem::take(&mut step.observation);
                Ok(Some(step))
            })
            .collect::<Result<_>>()?;
        let flags = |flag: fn(&Step) -> bool| {
            steps
                .iter()
                .map(|step| step.as_ref().is_some_and(flag))
                .collect()
        };
        Ok(VectorStep {
            rewards: steps
                .iter()
                .map(|step| step.as_ref().map_or(0.0, |s| s.reward))
                .collect(),
            terminated: flags(|step| step.terminated),
            truncated: flags(|step| step.truncated),
        })
    }

    fn check_rows(&self, what: &str, found: usize) -> Result<()> {
        if found == self.rows.len() {
            return Ok(());
        }
        let problem = format!("got {found} {what} for {} copies", self.rows.len());
        Err(Error::Env {
            name: self.spec.name.clone(),
            problem,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_does_what_it_does_alone() {
        let mut many = VectorEnv::make("pointmaze-umaze", 5).expect("make");
        let mut alone = make("pointmaze-umaze").expect("make");
        many.reset(&[3, 1, 4, 1, 5]).expect("reset");
        assert_eq!(many.observation(2), alone.reset(4).expect("reset"));
        let actions: Vec<f32> = (0..10).map(|i| (i as f32 * 0.7).sin()).collect();
        let batch = Tensor::from_slice(&actions, (5, 2), &Device::Cpu).expect("tensor");
        for _ in 0..20 {
            let step = many
                .step(&batch, &[true, false, true, true, true])
                .expect("step");
            let single = alone.step(&actions[4..6]).expect("step");
            assert_eq!(
                (many.observation(2), step.rewards[2]),
                (&single.observation[..], single.reward)
            );
        }
        // Row 1 stood still while row 3, with the same seed, moved.
        assert_eq!(
            many.observation(1),
            make("pointmaze-umaze")
                .expect("make")
                .reset(1)
                .expect("reset")
        );
        assert_ne!(many.observation(3), many.observation(1));
    }

    #[test]
    fn wrong_numbers_of_rows_are_refused() {
        let mut env = VectorEnv::make("pendulum-v1", 2).expect("make");
        assert!(env.reset(&[1]).is_err());
        env.reset(&[1, 2]).expect("reset");
        let actions = Tensor::zeros((3, 1), candle_core::DType::F32, &Device::Cpu).expect("tensor");
        assert!(env.step(&actions, &[true, true]).is_err());
        assert!(VectorEnv::make("pendulum-v1", 0).is_err());
    }
}
