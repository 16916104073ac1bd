//! [`Shard`]: one machine's part of a sweep, from an option or from what a scheduler says in the environment.

use trajformer_core::error::{Error, Result};

/// Part number `index` of `count`, counted from 0: runs `index`, `index + count`, and so on, of all runs of the sweep, finished
/// or not. The shards of one count have no run in common, and all of them together have every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

/// Where a shard was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSource {
    /// The shard.
    pub shard: Shard,
    /// The variables that say so, as `NAME=VALUE`.
    pub variables: Vec<String>,
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl Shard {
    /// Part `index`, counted from 0, of `count`.
    ///
    /// # Errors
    /// If there is no such part.
    pub fn new(index: usize, count: usize) -> Result<Self> {
        if index < count {
            Ok(Self { index, count })
        } else {
            Err(Error::Unsuitable(format!(
                "there is no shard {} of {count}",
                index.saturating_add(1)
            )))
        }
    }

    /// `I/N`: the I-th of N, counted from 1.
    ///
    /// # Errors
    /// If it is no such text, or I is not within 1 to N.
    pub fn parse(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            Some((
                index.trim().parse::<usize>().ok()?,
                count.trim().parse::<usize>().ok()?,
            ))
        });
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) => Self::new(index - 1, count),
            _ => Err(Error::Unsuitable(format!(
                "shard `{text}`: expected I/N, the I-th of N counted from 1, e.g. 1/3, 2/3 and 3/3"
            ))),
        }
    }

    /// Whether the run number `run`, counted from 0, is one of this shard.
    pub fn has(self, run: usize) -> bool {
        run % self.count == self.index
    }

    /// Whether it is all there is.
    pub fn is_whole(self) -> bool {
        self.count == 1
    }

    /// The shard that a scheduler gives to this process, if one does: a Slurm array, and the tasks of a step inside of it; an
    /// indexed job of Kubernetes, whose number of `completions` no variable holds; ranks of Open MPI or PMI; tasks of a Slurm step.
    /// `variable` looks up a variable of the environment.
    ///
    /// # Errors
    /// If what a scheduler says is no shard, or not enough.
    pub fn of_environment(
        variable: impl Fn(&str) -> Option<String>,
        completions: Option<usize>,
    ) -> Result<Option<ShardSource>> {
        let mut read = Variables {
            variable: &variable,
            read: Vec::new(),
        };
        let found = read.slurm_array()?;
        let found = match found {
            Some(array) => Some(array),
            None => read.kubernetes(completions)?,
        };
        let found = match found {
            Some(found) => found,
            None => {
                let pairs = [
                    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
                    ("PMI_RANK", "PMI_SIZE"),
                ];
                let mut ranks = None;
                for (rank, size) in pairs {
                    if ranks.is_none() {
                        ranks = read.pair(rank, size)?;
                    }
                }
                match ranks {
                    Some(ranks) => ranks,
                    None => match read.slurm_step()? {
                        Some(step) => step,
                        None => return Ok(None),
                    },
                }
            }
        };
        Ok(Some(ShardSource {
            shard: found,
            variables: read.read,
        }))
    }
}

/// The environment, with what was taken from it.
struct Variables<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    read: Vec<String>,
}

impl Variables<'_> {
    fn number(&mut self, name: &str) -> Result<Option<usize>> {
        let Some(text) = (self.variable)(name).filter(|text| !text.trim().is_empty()) else {
            return Ok(None);
        };
        let number = text.trim().parse().map_err(|_| {
            Error::Unsuitable(format!(
                "{name} is `{text}`, expected a whole number from 0 on, as schedulers number their tasks; unset this variable or name the shard \
                 yourself"
            ))
        })?;
        self.read.push(format!("{name}={number}"));
        Ok(Some(number))
    }

    fn pair(&mut self, index: &str, count: &str) -> Result<Option<Shard>> {
        let Some(index_found) = self.number(index)? else {
            return Ok(None);
        };
        match self.number(count)? {
            Some(count) => Shard::new(index_found, count).map(Some),
            None => Err(Error::Unsuitable(format!(
                "{index} is {index_found}, but {count} is not set; name the shard yourself"
            ))),
        }
    }

    /// A task of an array, or a task of a step inside of one.
    fn slurm_array(&mut self) -> Result<Option<Shard>> {
        let Some(id) = self.number("SLURM_ARRAY_TASK_ID")? else {
            return Ok(None);
        };
        let count = self.number("SLURM_ARRAY_TASK_COUNT")?.unwrap_or(1);
        let first = self.number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let last = self.number("SLURM_ARRAY_TASK_MAX")?;
        let step = self.number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
        let is_regular =
            last.is_none_or(|last| last >= first && (last - first) / step + 1 == count);
        let array = match id
            .checked_sub(first)
            .map(|ahead| (ahead / step, ahead % step))
        {
            Some((index, 0)) if is_regular => Shard::new(index, count)?,
            _ => {
                return Err(Error::Unsuitable(format!(
                    "the Slurm array has {count} tasks, which are not numbered in equal steps from {first}; name the shard yourself"
                )));
            }
        };
        let inside = self.slurm_step()?.unwrap_or_default();
        Shard::new(
            array.index * inside.count + inside.index,
            array.count * inside.count,
        )
        .map(Some)
    }

    /// A task that `srun` has started; a batch script is none, whatever the job's number of tasks is.
    fn slurm_step(&mut self) -> Result<Option<Shard>> {
        if (self.variable)("SLURM_STEP_ID").is_none() {
            return Ok(None);
        }
        let Some(rank) = self.number("SLURM_PROCID")? else {
            return Ok(None);
        };
        let tasks = match self.number("SLURM_STEP_NUM_TASKS")? {
            Some(tasks) => Some(tasks),
            None => self.number("SLURM_NTASKS")?,
        };
        Shard::new(rank, tasks.unwrap_or(1)).map(Some)
    }

    fn kubernetes(&mut self, completions: Option<usize>) -> Result<Option<Shard>> {
        let Some(index) = self.number("JOB_COMPLETION_INDEX")? else {
            return Ok(None);
        };
        match completions {
            Some(count) if index >= count => Err(Error::Unsuitable(format!(
                "JOB_COMPLETION_INDEX is {index}, but the job has {count} completions, counted from 0: say as many as it has, or name the shard \
                 yourself"
            ))),
            Some(count) => Shard::new(index, count).map(Some),
            None => Err(Error::Unsuitable(format!(
                "JOB_COMPLETION_INDEX is {index}, but how many completions the job has is not said: say it, or name the shard yourself"
            ))),
        }
    }
}
