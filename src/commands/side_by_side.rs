//! Seeds of one configuration side by side: each a process of its own, with a share of the cores.

use std::path::Path;

use trajformer::Error;
use trajformer::checkpoint::origin::Origin;
use trajformer::config::RunConfig;
use trajformer::interrupt::Interrupt;
use trajformer::run::Failure;
use trajformer::sweep::Plan;

use crate::commands::sweep::children::{self, Fate, Wanted, Workers};
use crate::commands::sweep::show::Show;
use crate::output::complain;

/// Trains the seeds that are not finished, each in `out/seed-N`, so many at a time as are given: those that failed, and why. `None` with one at a time: nothing was done, and the calling
/// process trains them.
///
/// # Errors
/// If a log can't be written or this program can't be started.
pub fn train(
    (config, source): (&RunConfig, &Path),
    seeds: &[u64],
    out: &Path,
    (given, interrupt): (Option<usize>, &Interrupt),
) -> anyhow::Result<Option<Vec<Failure>>> {
    let plan = Plan::of_seeds(config, source, seeds, out)?;
    let found = plan.standings().found;
    let left = (0..seeds.len()).filter(|at| found[at].is_left());
    let left: Vec<usize> = left.collect();
    let wanted = Wanted {
        jobs: given,
        ..Wanted::default()
    };
    let workers = Workers {
        command: Origin::now().command,
        ..Workers::new(wanted, &plan.lines, left.len())
    };
    let (jobs, threads) = (workers.jobs, workers.threads);
    if jobs < 2 || plan.check_needs(&found).is_err() {
        return Ok(None);
    }
    plan.write_configs()?;
    complain(format_args!(
        "{}: {} seeds to train, {jobs} side by side with {threads} {} each; what they print is in {} (`--jobs 1`: one after the other)",
        out.display(),
        left.len(),
        if threads == 1 { "thread" } else { "threads" },
        plan.own_path("logs").display(),
    ));
    let own: Vec<usize> = (0..seeds.len()).collect();
    let mut show = Show::new(&plan, &own, found, jobs);
    let fates = children::train(&plan, &left, &workers, interrupt, &mut |event| {
        show.event(event)
    });
    show.finish();
    let fates = fates?;
    let mut damaged = plan.standings().damaged;
    let failed = |at: &usize| {
        let error = match (damaged.remove(at), &fates[*at]) {
            (Some(error), _) => error,
            (None, Fate::Failed(why)) => Error::Unsuitable(why.clone()),
            _ => return None,
        };
        Some(Failure {
            seed: seeds[*at],
            folder: plan.runs[*at].folder.clone(),
            error,
        })
    };
    Ok(Some(own.iter().filter_map(failed).collect()))
}
