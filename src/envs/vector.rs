//! [`VectorEnv`]: several copies of an environment, stepped in parallel on threads.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::envs::gym::{Gym, GymOptions, is_gym};
use crate::envs::registry::make;
use trajformer_core::environment::{EnvSpec, Environment, Step};
use trajformer_core::error::{Error, Result};

/// Copies of one environment, one per row. Rows never influence each other, and results don't
/// depend on the number of threads.
pub struct VectorEnv {
    copies: Copies,
    /// The last observation of each row (O).
    observations: Vec<Vec<f32>>,
    spec: EnvSpec,
    /// Makes further copies, where that is possible.
    factory: Option<Factory>,
}

/// Makes one copy of an environment, each like the others.
pub type Factory = Box<dyn Fn() -> Result<Box<dyn Environment>> + Send + Sync>;

/// Where the copies are.
enum Copies {
    /// In this process, stepped on its threads.
    Own(Vec<Box<dyn Environment>>),
    /// In Python processes.
    Gym(Box<Gym>),
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
        Self::make_with(name, rows, &GymOptions::default())
    }

    /// `rows` copies of the environment called `name`; of one of Gymnasium with these options, in one Python process per
    /// thread.
    ///
    /// # Errors
    /// If [`make_with`](crate::envs::make_with) fails, or there are no rows.
    pub fn make_with(name: &str, rows: usize, options: &GymOptions) -> Result<Self> {
        if is_gym(name) {
            let gym = Box::new(Gym::new(name, rows, options)?);
            let spec = gym.spec().clone();
            return Ok(Self {
                observations: vec![vec![0.0; spec.observation_dim]; rows],
                copies: Copies::Gym(gym),
                spec,
                factory: None,
            });
        }
        let name = name.to_owned();
        Self::from_factory(Box::new(move || make(&name)), rows)
    }

    /// `rows` copies that `factory` makes, and more when they are needed: for environments of one's own.
    ///
    /// # Errors
    /// If the factory fails, its copies differ, or there are no rows.
    pub fn from_factory(factory: Factory, rows: usize) -> Result<Self> {
        let envs = (0..rows).map(|_| factory()).collect::<Result<_>>()?;
        Ok(Self {
            factory: Some(factory),
            ..Self::new(envs)?
        })
    }

    /// These copies, which must look alike. There will be no more of them: see [`from_factory`](Self::from_factory).
    ///
    /// # Errors
    /// If there is none, or their specs differ.
    pub fn new(envs: Vec<Box<dyn Environment>>) -> Result<Self> {
        let spec = envs.first().map(|env| env.spec().clone());
        let spec = spec.ok_or_else(|| Error::Env {
            name: "vector".to_owned(),
            problem: "needs at least one copy".to_owned(),
        })?;
        alike(&envs, &spec)?;
        Ok(Self {
            observations: vec![vec![0.0; spec.observation_dim]; envs.len()],
            copies: Copies::Own(envs),
            spec,
            factory: None,
        })
    }

    /// Whether there can be more copies than there are.
    pub fn can_grow(&self) -> bool {
        self.factory.is_some() || matches!(self.copies, Copies::Gym(_))
    }

    /// Makes it `rows` copies: the last ones go, or further ones are made.
    ///
    /// # Errors
    /// If there are to be more and nothing makes them, or none at all.
    pub fn resize(&mut self, rows: usize) -> Result<()> {
        let failed = |problem: String| Error::Env {
            name: self.spec.name.clone(),
            problem,
        };
        if rows == 0 {
            return Err(failed("needs at least one copy".to_owned()));
        }
        match &mut self.copies {
            Copies::Gym(gym) => gym.resize(rows)?,
            Copies::Own(envs) => {
                envs.truncate(rows);
                let missing = rows - envs.len();
                match &self.factory {
                    Some(factory) => {
                        let made: Vec<_> =
                            (0..missing).map(|_| factory()).collect::<Result<_>>()?;
                        alike(&made, &self.spec)?;
                        envs.extend(made);
                    }
                    None if missing == 0 => {}
                    None => {
                        let count = envs.len();
                        self.observations.truncate(count);
                        return Err(failed(format!(
                            "{rows} copies are needed and there are {count}, of which no more can be made: give a \
                             factory of them"
                        )));
                    }
                }
            }
        }
        let blank = vec![0.0; self.spec.observation_dim];
        self.observations.resize(rows, blank);
        Ok(())
    }

    /// What each copy looks like.
    pub fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// How many copies (E).
    pub fn len(&self) -> usize {
        self.observations.len()
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// The last observation of every row (E, O), f32 on the CPU; zeros before the first reset.
    ///
    /// # Errors
    /// If the tensor can't be made.
    pub fn observations(&self) -> Result<Tensor> {
        let values: Vec<f32> = self.observations.concat();
        Ok(Tensor::from_vec(
            values,
            (self.len(), self.spec.observation_dim),
            &Device::Cpu,
        )?)
    }

    /// The last observation of one row (O).
    pub fn observation(&self, row: usize) -> &[f32] {
        &self.observations[row]
    }

    /// A copy of one row's environment: see [`Environment::fork`].
    pub fn fork(&self, row: usize) -> Option<Box<dyn Environment>> {
        match &self.copies {
            Copies::Own(envs) => envs[row].fork(),
            Copies::Gym(_) => None,
        }
    }

    /// The goal of one row's episode (O), if the task has one: see [`Environment::goal`].
    pub fn goal(&self, row: usize) -> Option<Vec<f32>> {
        match &self.copies {
            Copies::Own(envs) => envs[row].goal(),
            Copies::Gym(gym) => gym.goal(),
        }
    }

    /// What episodes can be asked to do: see [`Environment::instructions`].
    pub fn instructions(&self) -> Vec<String> {
        match &self.copies {
            Copies::Own(envs) => envs.first().map_or_else(Vec::new, |env| env.instructions()),
            Copies::Gym(gym) => gym.instructions(),
        }
    }

    /// Makes the next episodes of one row about `instruction`: see [`Environment::instruct`].
    ///
    /// # Errors
    /// If the task does not understand it.
    pub fn instruct(&mut self, row: usize, instruction: &str) -> Result<()> {
        match &mut self.copies {
            Copies::Own(envs) => envs[row].instruct(instruction),
            Copies::Gym(gym) => gym.instruct(instruction),
        }
    }

    /// Starts an episode in every row, each from its own seed (E).
    ///
    /// # Errors
    /// If the number of seeds is not that of rows, or a simulator fails.
    pub fn reset(&mut self, seeds: &[u64]) -> Result<()> {
        self.check_rows("seeds", seeds.len())?;
        self.observations = match &mut self.copies {
            Copies::Own(envs) => {
                let starts = envs.par_iter_mut().zip(seeds);
                starts
                    .map(|(env, &seed)| env.reset(seed))
                    .collect::<Result<_>>()?
            }
            Copies::Gym(gym) => {
                let rows: Vec<usize> = (0..seeds.len()).collect();
                gym.reset_rows(&rows, seeds)?
            }
        };
        Ok(())
    }

    /// Starts an episode in one row.
    ///
    /// # Errors
    /// If the simulator fails.
    pub fn reset_row(&mut self, row: usize, seed: u64) -> Result<()> {
        self.observations[row] = match &mut self.copies {
            Copies::Own(envs) => envs[row].reset(seed)?,
            Copies::Gym(gym) => gym.reset_rows(&[row], &[seed])?.swap_remove(0),
        };
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
        let mut steps: Vec<Option<Step>> = match &mut self.copies {
            Copies::Own(envs) => {
                let work = envs.par_iter_mut().zip(actions.par_chunks_exact(width));
                work.zip(active)
                    .map(|((env, action), &active)| active.then(|| env.step(action)).transpose())
                    .collect::<Result<_>>()?
            }
            Copies::Gym(gym) => gym.step_rows(&actions, active)?,
        };
        for (observation, step) in self.observations.iter_mut().zip(&mut steps) {
            if let Some(step) = step {
                *observation = std::mem::take(&mut step.observation);
            }
        }
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
        if found == self.len() {
            return Ok(());
        }
        let problem = format!("got {found} {what} for {} copies", self.len());
        Err(Error::Env {
            name: self.spec.name.clone(),
            problem,
        })
    }
}

/// Fails unless all look like `spec`.
fn alike(envs: &[Box<dyn Environment>], spec: &EnvSpec) -> Result<()> {
    if envs.iter().all(|env| env.spec() == spec) {
        return Ok(());
    }
    Err(Error::Env {
        name: spec.name.clone(),
        problem: "the copies differ in name, sizes, bounds or length".to_owned(),
    })
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

    #[test]
    fn copies_grow_in_number_only_where_something_makes_them() {
        let mut many = VectorEnv::make("pendulum-v1", 2).expect("make");
        assert!(many.can_grow());
        for rows in [5, 1, 3] {
            many.resize(rows).expect("resized");
            assert_eq!(many.len(), rows);
        }
        many.reset(&[7, 7, 8]).expect("reset");
        assert_eq!(many.observation(0), many.observation(1));
        assert!(many.resize(0).is_err());
        let given = vec![
            make("pendulum-v1").expect("make"),
            make("pendulum-v1").expect("make"),
        ];
        let mut given = VectorEnv::new(given).expect("alike");
        assert!(!given.can_grow());
        let problem = given.resize(3).expect_err("nothing makes them").to_string();
        assert!(
            problem.contains("3 copies are needed and there are 2"),
            "{problem}"
        );
        given.resize(1).expect("fewer");
    }
}
