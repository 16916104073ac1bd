//! [`TokenOptions`]: how transitions become tokens, and tokens windows.

use crate::discretizer::DiscretizerKind;

/// How transitions become tokens, and tokens windows.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenOptions {
    /// N, bins per dimension; token N means that the episode has ended.
    pub bins: usize,
    /// Where the bins lie.
    pub discretizer: DiscretizerKind,
    /// Transitions in a window.
    pub window_transitions: usize,
    /// Discount of the value column, in [0, 1].
    pub discount: f64,
    /// Replaces the reward of every terminating step; `None` keeps the data's.
    pub termination_penalty: Option<f64>,
    /// Positions of a window at or past this step of the episode are left out of the loss; the
    /// authors' 1000. `None`: the longest episode of the data.
    pub max_path_steps: Option<usize>,
    /// What the value column holds.
    pub value: ValueColumn,
    /// What stands before a window.
    pub goal: GoalPrefix,
}

/// What the value column of a transition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueColumn {
    /// `V_t = sum over k >= 0 of discount^k r_{t+1+k}`: the discounted return *after* the reward of
    /// this step (paper, section 3.2), 0 beyond the end of the episode. Unknown where the data stops
    /// in the middle of an episode: not trained on there.
    #[default]
    Return,
    /// Zero: for imitation and goal-conditioned models, which rank plans by likelihood. The authors' code has values always.
    None,
}

/// What stands before the transitions of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalPrefix {
    /// Nothing.
    #[default]
    None,
    /// The last observation of the episode, in place of the window's first transition: see
    /// [`goal_transition`](crate::sequences::goal_transition). (Paper, section 3.2; the authors' code has a separate embedding and no
    /// padding, but hides the wrong columns from attention.)
    FinalObservation,
}
