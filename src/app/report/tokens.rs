//! How well trained networks tell tokens, dimension by dimension: what `metrics.csv` has no room for.

use std::path::PathBuf;

use crate::app::config::RunConfig;
use crate::app::held_out;
use crate::app::prepare::load_data;
use crate::app::report::contract::{TokenDimension, Tokens};
use crate::app::report::runs::Folder;
use crate::app::report::thin::rounded;
use crate::app::run;
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_algorithms::tap::Tap;
use trajformer_algorithms::trajectory_transformer::TrajectoryTransformer;
use trajformer_core::algorithm::Algorithm;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;

/// Windows of each data set that go through a network: a second or two of a large one.
const WINDOWS: usize = 256;

/// Data that was read for the run before, which the next one often names too.
#[derive(Default)]
pub(super) struct Read(Option<(RunConfig, Dataset)>);

impl Read {
    /// The data of a configuration.
    fn data(&mut self, config: &RunConfig) -> Result<&Dataset> {
        let is_same = |known: &RunConfig| {
            let of_seed = config.data.sample_ratio.is_none() || known.seed == config.seed;
            known.data == config.data && of_seed
        };
        let known = self.0.take().filter(|(known, _)| is_same(known));
        let known = match known {
            Some(known) => known,
            None => (config.clone(), load_data(config)?),
        };
        Ok(&self.0.insert(known).1)
    }
}

/// Whether a run's network predicts tokens.
pub(super) fn tells_tokens(config: &RunConfig) -> bool {
    match &config.algorithm {
        // Those that read instructions tell nothing without them.
        AlgorithmConfig::TrajectoryTransformer(config) => config.text.is_none(),
        AlgorithmConfig::Tap(_) => true,
        _ => false,
    }
}

/// How well the network of a run tells its data, and what was held out of it; `given` stands in the place of what it names, if there is any.
///
/// # Errors
/// If the run or its data can't be opened, or they don't fit each other.
pub(super) fn tokens(folder: &Folder, given: &[PathBuf], read: &mut Read) -> Result<Vec<Tokens>> {
    let trained = run::open(&folder.path, &[])?;
    let mut config = folder.config.clone();
    if !given.is_empty() {
        config.data.path = given.to_vec();
    }
    let data = read.data(&config)?;
    if !folder.is_of(data) {
        let told = told(&*trained.algorithm, "given", data)?;
        return Ok(told.into_iter().collect());
    }
    let split = held_out::split(&config, data)?;
    let held_out = split.held_out.as_ref().map(|data| ("held-out", data));
    let sets = [("training", &*split.training)].into_iter().chain(held_out);
    let told = sets.map(|(name, data)| told(&*trained.algorithm, name, data));
    told.filter_map(Result::transpose).collect()
}

fn told(algorithm: &dyn Algorithm, name: &'static str, data: &Dataset) -> Result<Option<Tokens>> {
    let rule = algorithm.as_any();
    if let Some(network) = rule.and_then(|rule| rule.downcast_ref::<TrajectoryTransformer>()) {
        let found = network.token_scores(&network.windows_of(data)?, WINDOWS)?;
        let dimensions = found.dimensions.iter().enumerate();
        return Ok(Some(Tokens {
            data: name,
            windows: found.windows,
            dimensions: dimensions
                .map(|(dim, score)| TokenDimension {
                    accuracy: kept(score.accuracy),
                    cross_entropy: kept(score.cross_entropy),
                    ..blank(dimension(data, dim))
                })
                .collect(),
        }));
    }
    let Some(network) = rule.and_then(|rule| rule.downcast_ref::<Tap>()) else {
        return Ok(None);
    };
    let found = network.code_scores(&network.windows_of(data)?, WINDOWS)?;
    let codes = TokenDimension {
        accuracy: kept(found.accuracy),
        cross_entropy: kept(found.cross_entropy),
        ..blank("codes".to_owned())
    };
    let errors = found.errors.iter().enumerate();
    let errors = errors.map(|(dim, &error)| TokenDimension {
        error: kept(error),
        ..blank(dimension(data, dim))
    });
    Ok(Some(Tokens {
        data: name,
        windows: found.windows,
        dimensions: std::iter::once(codes).chain(errors).collect(),
    }))
}

/// A number as a page has it; none of no tokens.
fn kept(number: f64) -> Option<f64> {
    number.is_finite().then(|| rounded(number))
}

fn blank(name: String) -> TokenDimension {
    TokenDimension {
        name,
        accuracy: None,
        cross_entropy: None,
        error: None,
    }
}

/// What a dimension of a transition is called.
fn dimension(data: &Dataset, dim: usize) -> String {
    let (o, a) = (data.observation_dim, data.action_dim);
    match dim {
        dim if dim < o => format!("observation {dim}"),
        dim if dim < o + a => format!("action {}", dim - o),
        dim if dim == o + a => "reward".to_owned(),
        _ => "value".to_owned(),
    }
}
