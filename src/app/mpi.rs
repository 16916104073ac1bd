//! [`MpiRanks`]: the processes that `mpirun` starts, over an MPI library such as Open MPI.

use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{CommunicatorCollectives, Equivalence};
use trajformer_core::error::{Error, Result};
use trajformer_models::ranks::Ranks;

/// All processes of the job that this one belongs to. MPI is over when it is dropped.
///
/// Sums go around in two steps: each rank receives one piece of the values from all others, adds it up in the order of the ranks, and sends the sum to all.
/// That is as much traffic as an all-reduce, 2 (N - 1) / N of the values to and from each rank, and all ranks have the same bits, whatever the library does.
///
/// A rank that is lost ends the job: MPI's default, and `mpirun`'s.
pub struct MpiRanks {
    rank: usize,
    count: usize,
    _universe: Universe,
}

impl std::fmt::Debug for MpiRanks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.count)
    }
}

impl MpiRanks {
    /// Joins the job; once per process.
    ///
    /// # Errors
    /// If the process has joined before, or the library allows calls from the thread alone that began.
    pub fn join() -> Result<Self> {
        let wrong = |problem: &str| Error::settings(problem.to_owned());
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| wrong("MPI has begun already in this process"))?;
        if threading < Threading::Serialized {
            return Err(wrong(
                "this MPI library can't be called from another thread than the first (MPI_THREAD_SERIALIZED): build it with threads",
            ));
        }
        let world = SimpleCommunicator::world();
        Ok(Self {
            rank: world.rank().unsigned_abs() as usize,
            count: world.size().unsigned_abs() as usize,
            _universe: universe,
        })
    }

    fn sum_of<T>(&self, values: &mut [T])
    where
        T: Equivalence + Copy + Default + std::ops::AddAssign,
    {
        if self.count == 1 || values.is_empty() {
            return;
        }
        let world = SimpleCommunicator::world();
        let piece = values.len().div_ceil(self.count);
        let mut all = vec![T::default(); piece * self.count];
        all[..values.len()].copy_from_slice(values);
        let mut own = vec![T::default(); piece * self.count];
        world.all_to_all_into(&all[..], &mut own[..]);
        let (sum, others) = own.split_at_mut(piece);
        for of_rank in others.chunks(piece) {
            for (sum, value) in sum.iter_mut().zip(of_rank) {
                *sum += *value;
            }
        }
        world.all_gather_into(&*sum, &mut all[..]);
        values.copy_from_slice(&all[..values.len()]);
    }
}

impl Ranks for MpiRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn sum(&self, values: &mut [f32]) -> trajformer_models::Result<()> {
        self.sum_of(values);
        Ok(())
    }

    fn sum_f64(&self, values: &mut [f64]) -> trajformer_models::Result<()> {
        self.sum_of(values);
        Ok(())
    }
}
