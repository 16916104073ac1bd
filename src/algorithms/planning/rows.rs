//! [`Row`]: one candidate of a search; which stay.

/// One candidate: its sequence, and what it earns on the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) episode: usize,
    pub(super) sequence: usize,
    /// Discounted rewards before this transition.
    pub(super) earned: f64,
    pub(super) score: f64,
}

impl Row {
    /// At the beginning of an episode's search, where each has one sequence.
    pub(super) fn start(episode: usize) -> Self {
        Self {
            episode,
            sequence: episode,
            earned: 0.0,
            score: 0.0,
        }
    }
}

/// Repeats the rows of every episode `times` over: all of them, then all of them again.
pub(super) fn expand(rows: &[Row], times: usize) -> Vec<Row> {
    let episodes = rows.chunk_by(|a, b| a.episode == b.episode);
    episodes.flat_map(|rows| rows.repeat(times)).collect()
}

/// The `width` best rows of every episode, best first; ties go to the earlier row.
pub(super) fn best(mut rows: Vec<Row>, width: usize) -> Vec<Row> {
    rows.sort_by(|a, b| a.episode.cmp(&b.episode).then(b.score.total_cmp(&a.score)));
    let episodes = rows.chunk_by(|a, b| a.episode == b.episode);
    episodes
        .flat_map(|rows| &rows[..width.min(rows.len())])
        .copied()
        .collect()
}
