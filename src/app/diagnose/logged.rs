//! [`logged`]: the data that a run is held against.

use std::path::Path;

use crate::app::checkpoint::fingerprint::DataFingerprint;
use crate::app::datasets;
use crate::app::diagnose::found::Logged;
use crate::app::held_out;
use crate::app::prepare::load_data;
use crate::app::run::TrainedRun;
use crate::formats::files;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// The data of a run and what is given beside it. What the run learned from may be gone: then there is none.
///
/// # Errors
/// If the given data can't be read, or has other dimensions than the run.
pub fn logged(run: &TrainedRun, given: Option<&Path>) -> Result<Logged> {
    let read = |path: &Path| {
        let paths = datasets::resolved(&[path.to_path_buf()])?;
        files::load_with(&paths, &run.config.data.load_options())
    };
    let given = given.map(read).transpose()?;
    let training = match load_data(&run.config) {
        Ok(data) => match replaced(run, &data) {
            None => Some(data),
            Some(problem) => {
                tracing::warn!("the run's own data is left out: {problem}");
                None
            }
        },
        Err(error) => {
            tracing::warn!("the run's own data is left out: {error}");
            None
        }
    };
    for data in given.iter().chain(&training) {
        let found = (data.observation_dim, data.action_dim);
        let expected = (run.spec.observation_dim, run.spec.action_dim);
        let kind = run.spec.action_kind();
        if found != expected || !data.action_kind.acts_in(kind) {
            return Err(Error::Dimensions {
                problem: format!(
                    "{}: it has {} observations and {}, the run {} and {}: give data that looks like the run's own",
                    data.source_names(),
                    found.0,
                    data.action_kind.said(found.1),
                    expected.0,
                    kind.said(expected.1)
                ),
                found,
                expected,
            });
        }
    }
    let is_same = |data: &Dataset| {
        let own = run.spec.data.as_ref();
        own.is_some_and(|own| own.difference(&DataFingerprint::of(data)).is_none())
    };
    match given {
        Some(data) if is_same(&data) => {
            tracing::warn!(
                "{}: the run learned from this data: none is left that it has not seen",
                data.source_names()
            );
            Ok(Logged {
                training: Some(data),
                ..Logged::default()
            })
        }
        given => {
            // What training kept apart was not learned from: it serves where nothing is given.
            let Some(whole) = training else {
                return Ok(Logged {
                    given,
                    ..Logged::default()
                });
            };
            let split = held_out::split(&run.config, &whole)?;
            Ok(Logged {
                held_out: split.held_out.filter(|_| given.is_none()),
                given,
                training: Some(split.training.into_owned()),
            })
        }
    }
}

/// What to say of data at the place of a run's own that it did not learn from; `None` if it did, or that can't be told.
fn replaced(run: &TrainedRun, data: &Dataset) -> Option<String> {
    let own = run.spec.data.as_ref()?;
    let found = DataFingerprint::of(data);
    own.difference(&found)?;
    let said = |data: &DataFingerprint| {
        format!(
            "{} steps in {} episodes with the checksum {}",
            data.steps, data.episodes, data.checksum
        )
    };
    Some(format!(
        "{}: it was replaced since the run learned from it (now {}, then {}); put the old data back, or give this one beside \
         the run, as data that it has not seen",
        data.source_names(),
        said(&found),
        said(own)
    ))
}
