//! Published scores: D4RL-normalised, of the last checkpoint.

/// How far the number of steps of a file may be from D4RL's: readers and versions count last steps differently.
const STEPS_TOLERANCE: f64 = 0.02;

/// Data sets of the locomotion suite, in the order of [`Column::scores`].
pub const LOCOMOTION: [DataSet; 9] = [
    DataSet {
        name: "halfcheetah-medium",
        steps: 1_000_000,
    },
    DataSet {
        name: "halfcheetah-medium-replay",
        steps: 202_000,
    },
    DataSet {
        name: "halfcheetah-medium-expert",
        steps: 2_000_000,
    },
    DataSet {
        name: "hopper-medium",
        steps: 999_906,
    },
    DataSet {
        name: "hopper-medium-replay",
        steps: 402_000,
    },
    DataSet {
        name: "hopper-medium-expert",
        steps: 1_999_906,
    },
    DataSet {
        name: "walker2d-medium",
        steps: 999_995,
    },
    DataSet {
        name: "walker2d-medium-replay",
        steps: 302_000,
    },
    DataSet {
        name: "walker2d-medium-expert",
        steps: 1_999_995,
    },
];

/// A data set of D4RL, version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSet {
    /// As configurations call it.
    pub name: &'static str,
    /// Steps in its file.
    pub steps: usize,
}

impl DataSet {
    /// What D4RL calls it.
    pub fn d4rl_name(&self) -> String {
        format!("{}-v2", self.name)
    }

    /// Whether a file of so many steps may be D4RL's.
    pub fn is_size(&self, steps: usize) -> bool {
        let expected = self.steps as f64;
        (steps as f64 - expected).abs() <= STEPS_TOLERANCE * expected
    }
}

/// What stands behind `±`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// The standard deviation over so many seeds.
    Deviation {
        /// Seeds.
        seeds: usize,
    },
    /// The standard error of the mean, over runs of so many trained models.
    StandardError {
        /// Models.
        models: usize,
    },
}

/// A published column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column {
    /// Folder of `configs`.
    pub algorithm: &'static str,
    /// Where it is published.
    pub source: &'static str,
    /// What is to be known of the comparison; may be empty.
    pub note: &'static str,
    /// What stands behind `±`.
    pub spread: Spread,
    /// Mean and spread per data set.
    pub scores: [(f64, f64); 9],
}

const CORL: &str = "CORL's table (last checkpoint, 4 seeds, 10 episodes)";
const FOUR: Spread = Spread::Deviation { seeds: 4 };

const fn corl(algorithm: &'static str, scores: [(f64, f64); 9]) -> Column {
    Column {
        algorithm,
        source: CORL,
        note: "",
        spread: FOUR,
        scores,
    }
}

/// The columns of the locomotion suite.
pub const COLUMNS: [Column; 11] = [
    corl(
        "bc",
        [
            (42.40, 0.19),
            (35.66, 2.33),
            (55.95, 7.35),
            (53.51, 1.76),
            (29.81, 2.07),
            (52.30, 4.01),
            (63.23, 16.24),
            (21.80, 10.15),
            (98.96, 15.98),
        ],
    ),
    corl(
        "bc_10",
        [
            (42.46, 0.70),
            (23.59, 6.95),
            (90.10, 2.45),
            (55.48, 7.30),
            (70.42, 8.66),
            (111.16, 1.03),
            (67.34, 5.17),
            (54.35, 6.34),
            (108.70, 0.25),
        ],
    ),
    corl(
        "td3_bc",
        [
            (48.10, 0.18),
            (44.84, 0.59),
            (90.78, 6.04),
            (60.37, 3.49),
            (64.42, 21.52),
            (101.17, 9.07),
            (82.71, 4.78),
            (85.62, 4.01),
            (110.03, 0.36),
        ],
    ),
    corl(
        "awac",
        [
            (50.02, 0.27),
            (45.13, 0.88),
            (95.00, 0.61),
            (63.02, 4.56),
            (98.88, 2.07),
            (101.90, 6.22),
            (68.52, 27.19),
            (80.62, 3.58),
            (111.44, 1.62),
        ],
    ),
    corl(
        "cql",
        [
            (47.04, 0.22),
            (45.04, 0.27),
            (95.63, 0.42),
            (59.08, 3.77),
            (95.11, 5.27),
            (99.26, 10.91),
            (80.75, 3.28),
            (73.09, 13.22),
            (109.56, 0.39),
        ],
    ),
    corl(
        "iql",
        [
            (48.31, 0.22),
            (44.46, 0.22),
            (94.74, 0.52),
            (67.53, 3.78),
            (97.43, 6.39),
            (107.42, 7.80),
            (80.91, 3.17),
            (82.15, 3.03),
            (111.72, 0.86),
        ],
    ),
    Column {
        algorithm: "rebrac",
        source: "the paper's tables (last checkpoint, 10 seeds, 10 episodes)",
        note: "",
        spread: Spread::Deviation { seeds: 10 },
        scores: [
            (65.6, 1.0),
            (51.0, 0.8),
            (101.1, 5.2),
            (102.0, 1.0),
            (98.1, 5.3),
            (107.0, 6.4),
            (82.5, 3.6),
            (77.3, 7.9),
            (111.6, 0.3),
        ],
    },
    corl(
        "sac_n",
        [
            (68.20, 1.28),
            (60.70, 1.01),
            (98.96, 9.31),
            (40.82, 9.91),
            (100.33, 0.78),
            (101.31, 11.63),
            (87.47, 0.66),
            (78.99, 0.50),
            (114.93, 0.41),
        ],
    ),
    corl(
        "edac",
        [
            (67.70, 1.04),
            (62.06, 1.10),
            (104.76, 0.64),
            (101.70, 0.28),
            (99.66, 0.81),
            (105.19, 10.08),
            (93.36, 1.38),
            (87.10, 2.78),
            (114.75, 0.74),
        ],
    ),
    Column {
        algorithm: "decision_transformer",
        source: CORL,
        note: "the settings are its authors', the scores those of CORL's own implementation and settings (100 episodes)",
        spread: FOUR,
        scores: [
            (42.20, 0.26),
            (38.91, 0.50),
            (91.55, 0.95),
            (65.10, 1.61),
            (81.77, 6.87),
            (110.44, 0.33),
            (67.63, 2.54),
            (59.86, 2.73),
            (107.11, 0.96),
        ],
    },
    Column {
        algorithm: "trajectory_transformer",
        source: "its authors' table, quantile tokens (5 models, 3 rollouts each)",
        note: "± is the standard error of the mean, here and there; rollouts of one model count there as if they were independent",
        spread: Spread::StandardError { models: 5 },
        scores: [
            (46.9, 0.4),
            (41.9, 2.5),
            (95.0, 0.2),
            (61.1, 3.6),
            (91.5, 3.6),
            (110.0, 2.7),
            (79.0, 2.8),
            (82.6, 6.9),
            (101.9, 6.8),
        ],
    },
];
