//! [`ReferenceReturns`]: what a normalized score is measured against, and D4RL's constants.

/// Returns that a score is measured against, undiscounted and in the environment's units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReferenceReturns {
    /// Mean return of a random policy: score 0.
    pub random: f64,
    /// Mean return of the reference expert: score 100.
    pub expert: f64,
}

impl ReferenceReturns {
    /// These two returns.
    pub const fn new(random: f64, expert: f64) -> Self {
        Self { random, expert }
    }
}

impl From<(f64, f64)> for ReferenceReturns {
    /// (random, expert), as data files carry them.
    fn from((random, expert): (f64, f64)) -> Self {
        Self { random, expert }
    }
}

/// D4RL's constants by family (d4rl/infos.py, commit 89141a689b): every data set of a family has
/// the same two.
///
/// They were measured in the environments of gym 0.x on mujoco-py. Scores in -v4 and -v5
/// environments are given against the same numbers, as everywhere in the literature.
const FAMILIES: [(&str, ReferenceReturns); 10] = [
    ("hopper", ReferenceReturns::new(-20.272305, 3234.3)),
    ("halfcheetah", ReferenceReturns::new(-280.178953, 12135.0)),
    ("walker2d", ReferenceReturns::new(1.629008, 4592.3)),
    ("ant", ReferenceReturns::new(-325.6, 3879.7)),
    ("antmaze", ReferenceReturns::new(0.0, 1.0)),
    ("kitchen", ReferenceReturns::new(0.0, 4.0)),
    ("pen", ReferenceReturns::new(96.262799, 3076.8331017826877)),
    (
        "hammer",
        ReferenceReturns::new(-274.856578, 12794.134825156867),
    ),
    (
        "relocate",
        ReferenceReturns::new(-6.425911, 4233.877797728884),
    ),
    (
        "door",
        ReferenceReturns::new(-56.512833, 2880.5693087298737),
    ),
];

/// D4RL's constants of the data sets that differ within their family. D4RL has them for maze2d's
/// -v1 alone.
const DATA_SETS: [(&str, ReferenceReturns); 8] = [
    ("maze2d-open-v0", ReferenceReturns::new(0.01, 20.66)),
    (
        "maze2d-open-dense-v0",
        ReferenceReturns::new(11.17817, 27.166538620695782),
    ),
    ("maze2d-umaze-v1", ReferenceReturns::new(23.85, 161.86)),
    ("maze2d-medium-v1", ReferenceReturns::new(13.13, 277.39)),
    ("maze2d-large-v1", ReferenceReturns::new(6.7, 273.99)),
    (
        "maze2d-umaze-dense-v1",
        ReferenceReturns::new(68.537689, 193.66285642381482),
    ),
    (
        "maze2d-medium-dense-v1",
        ReferenceReturns::new(44.264742, 297.4552547777125),
    ),
    (
        "maze2d-large-dense-v1",
        ReferenceReturns::new(30.569041, 303.4857382709002),
    ),
];

/// D4RL's reference returns for an environment or a data set, by its name in lower case.
pub(super) fn d4rl(name: &str) -> Option<ReferenceReturns> {
    if let Some((_, reference)) = DATA_SETS.iter().find(|(data_set, _)| *data_set == name) {
        return Some(*reference);
    }
    let family = name.split_once('-').map_or(name, |(family, _)| family);
    FAMILIES
        .iter()
        .find(|(known, _)| *known == family)
        .map(|(_, reference)| *reference)
}
