//! The configurations of `configs/ALGORITHM/DATA.toml` inside of the program: one that is installed has no checkout beside it.

use std::path::PathBuf;

use crate::app::config::RunConfig;
use trajformer_core::error::{Error, Origin, Result};

/// An algorithm's name with the text of each of its configurations.
type Texts = (&'static str, [(&'static str, &'static str); 9]);

macro_rules! texts {
    ($($algorithm:literal),*) => {
        [$(($algorithm, [
            text!($algorithm, "halfcheetah-medium"),
            text!($algorithm, "halfcheetah-medium-replay"),
            text!($algorithm, "halfcheetah-medium-expert"),
            text!($algorithm, "hopper-medium"),
            text!($algorithm, "hopper-medium-replay"),
            text!($algorithm, "hopper-medium-expert"),
            text!($algorithm, "walker2d-medium"),
            text!($algorithm, "walker2d-medium-replay"),
            text!($algorithm, "walker2d-medium-expert"),
        ])),*]
    };
}

macro_rules! text {
    ($algorithm:literal, $data:literal) => {
        (
            $data,
            include_str!(concat!(
                "../../../configs/",
                $algorithm,
                "/",
                $data,
                ".toml"
            )),
        )
    };
}

const TEXTS: [Texts; 11] = texts![
    "bc",
    "bc_10",
    "td3_bc",
    "awac",
    "cql",
    "iql",
    "rebrac",
    "sac_n",
    "edac",
    "decision_transformer",
    "trajectory_transformer"
];

/// The configuration of a folder of `configs` for a data set, and the name of its file.
pub(super) fn config(algorithm: &str, dataset: &str) -> Result<(RunConfig, PathBuf)> {
    let path = format!("configs/{algorithm}/{dataset}.toml");
    let of_algorithm = TEXTS.iter().find(|(name, _)| *name == algorithm);
    let texts = of_algorithm.into_iter().flat_map(|(_, texts)| texts);
    let Some((_, text)) = texts.into_iter().find(|(name, _)| *name == dataset) else {
        return Err(Error::Unknown {
            problem: format!("{path} is not in this program"),
            name: path,
        });
    };
    let config = RunConfig::parse(text);
    let config = config.map_err(|error| error.said_by(Some(Origin::File(path.clone()))))?;
    Ok((config, path.into()))
}
