//! What all parts of a diagnosis know: where episodes run, and the data that they are held against.

use crate::app::diagnose::episodes::Stage;
use crate::app::diagnose::found::{DiagnoseOptions, Logged};
use crate::app::diagnose::search::Units;
use crate::envs::score::ReferenceReturns;
use trajformer_core::dataset::Dataset;
use trajformer_core::statistics::mean_std;

/// What all parts know.
pub(super) struct At<'a> {
    pub stage: Option<&'a Stage>,
    pub logged: &'a Logged,
    pub reference: Option<ReferenceReturns>,
    pub options: &'a DiagnoseOptions,
}

impl At<'_> {
    /// The data sets by what they are to the run.
    pub fn data(&self) -> impl Iterator<Item = (&'static str, &Dataset)> {
        let training = self.logged.training.iter().map(|data| ("training", data));
        let held_out = self.logged.held_out.iter().map(|data| ("held-out", data));
        let given = self.logged.given.iter().map(|data| ("given", data));
        training.chain(held_out).chain(given)
    }

    /// What to say where no data is there that the run has not learned from: `what` is not known then. `None` where some is, or none at all.
    pub fn about_unseen(&self, what: &str) -> Option<String> {
        let logged = self.logged;
        let is_learned = logged.held_out.is_none() && logged.given.is_none();
        (is_learned && logged.training.is_some()).then(|| {
            format!(
                "no data is given beside the run's own: {what} that it has not seen is not known"
            )
        })
    }

    /// What to say where no data is there at all: what is left out for that.
    pub fn about_no_data(&self, left_out: &str) -> Option<String> {
        let is_none = self.data().next().is_none();
        is_none.then(|| {
            format!("neither the run's data nor other data is there: {left_out} are left out")
        })
    }
}

/// Standard deviations of the numbers of `data`, 1 where they don't vary.
pub(super) fn units(data: &Dataset) -> Units {
    let deviation = |numbers: &[f32], at: usize, width: usize| {
        let column = numbers.iter().skip(at).step_by(width);
        let (_, deviation) = mean_std(&column.map(|&x| f64::from(x)).collect::<Vec<f64>>());
        if deviation > 0.0 { deviation } else { 1.0 }
    };
    let o = data.observation_dim;
    Units {
        observation: (0..o)
            .map(|dim| deviation(&data.observations, dim, o))
            .collect(),
        reward: deviation(&data.rewards, 0, 1),
    }
}
