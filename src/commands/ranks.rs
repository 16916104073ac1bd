//! Ranks of an MPI job: whether `mpirun` has started this process among others to train one run together.

use std::sync::Arc;

use trajformer::models::ranks::Ranks;

/// Where MPI libraries say how many processes a job has.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

/// The ranks that train together, where a job of several processes was started.
///
/// # Errors
/// If there is such a job, and this build has no MPI or can't join it.
pub fn of_job() -> anyhow::Result<Option<Arc<dyn Ranks>>> {
    let size = |name: &&str| std::env::var(name).ok()?.parse::<usize>().ok();
    match SIZES.iter().find_map(size) {
        Some(count) if count > 1 => joined(count).map(Some),
        _ => Ok(None),
    }
}

#[cfg(feature = "mpi")]
fn joined(_count: usize) -> anyhow::Result<Arc<dyn Ranks>> {
    Ok(Arc::new(trajformer::mpi::MpiRanks::join()?))
}

#[cfg(not(feature = "mpi"))]
fn joined(count: usize) -> anyhow::Result<Arc<dyn Ranks>> {
    anyhow::bail!(
        "this is one of {count} processes of an MPI job, and this build has no MPI: build with `--features mpi` to train one run together, or train \
         seeds side by side with `--seeds`"
    )
}
