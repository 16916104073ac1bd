//! [`Companion`]: the plan before, imagined again beside a search, so that both are judged from the same observation.

use trajformer_models::kernels::decode::Float;

use crate::planning::hypotheses::Hypotheses;
use crate::planning::rows::Row;

/// The rest of a plan: its actions are fixed, everything else is what the network now thinks likeliest. It draws nothing, so that the
/// search beside it is what it would be alone.
#[derive(Debug, Clone)]
pub struct Companion {
    /// (k, D): imagined anew as far as it was scored, as it was planned from there on.
    tokens: Vec<u32>,
    transition_tokens: usize,
    observation_dim: usize,
    row: Row,
    /// Transitions that were scored.
    scored: usize,
    /// Return that it promises: as of the last transition that was scored, or what it promised before.
    predicted_return: f64,
}

/// The companion's part in drawing one token.
#[derive(Debug)]
pub(super) struct Beside<'a> {
    pub(super) row: &'a mut Row,
    /// The token, where it is fixed; else the likeliest.
    pub(super) token: Option<u32>,
}

impl Companion {
    /// The `tokens` (k, D) of a plan's remaining transitions, which promised `predicted_return`, at an observation of these
    /// tokens (O); `None` if nothing remains.
    pub fn new(
        tokens: &[u32],
        transition_tokens: usize,
        observation: &[u32],
        predicted_return: f64,
    ) -> Option<Self> {
        if tokens.is_empty() {
            return None;
        }
        let mut tokens = tokens.to_vec();
        tokens[..observation.len()].copy_from_slice(observation);
        Some(Self {
            tokens,
            transition_tokens,
            observation_dim: observation.len(),
            row: Row::start(0),
            scored: 0,
            predicted_return,
        })
    }

    /// The same plan at the beginning of another search.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            row: Row::start(0),
            scored: 0,
            ..self.clone()
        }
    }

    /// Its tokens (k, D).
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// k.
    pub fn transitions(&self) -> usize {
        self.tokens.len() / self.transition_tokens
    }

    /// Transitions that the present search has scored.
    pub fn scored(&self) -> usize {
        self.scored
    }

    /// The return that it promises.
    pub fn predicted_return(&self) -> f64 {
        self.predicted_return
    }

    /// Its part in the token at `place` of transition `t`; none once it has ended.
    pub(super) fn beside(&mut self, t: usize, place: usize) -> Option<Beside<'_>> {
        let (d, o) = (self.transition_tokens, self.observation_dim);
        let is_action = (o..d - 2).contains(&place);
        let token = is_action.then(|| self.tokens.get(t * d + place).copied());
        (t < self.transitions()).then_some(Beside {
            row: &mut self.row,
            token: token.flatten(),
        })
    }

    /// Keeps what was imagined of its next transition; nothing once it has ended.
    pub(super) fn imagined<T: Float>(&mut self, hypotheses: &Hypotheses<T>) {
        if self.scored == self.transitions() {
            return;
        }
        self.scored += 1;
        let count = self.scored * self.transition_tokens;
        let sequence = hypotheses.sequence(self.row.sequence);
        self.tokens[..count].copy_from_slice(&sequence[sequence.len() - count..]);
        self.predicted_return = self.row.score;
    }

    /// Its row, as long as it goes on.
    pub(super) fn row_mut(&mut self) -> Option<&mut Row> {
        (self.scored < self.transitions()).then_some(&mut self.row)
    }
}
