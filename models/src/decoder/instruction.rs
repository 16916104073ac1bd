//! What instructions add to tokens, for decoding on the CPU.

use super::trunk::Source;
use crate::error::Result;
use crate::instruction::{HIDDEN, NAMES, scale};
use crate::kernels::decode::{Float, Packed, Store};

/// The layers of a network that reads instructions.
#[derive(Debug)]
pub(super) struct PackedInstruction<T> {
    first: Packed<T>, // E -> HIDDEN
    last: Packed<T>,  // HIDDEN -> C
}

impl<T: Float> PackedInstruction<T> {
    /// Copies them, for tokens of this width; `None` if there are none.
    pub(super) fn new(source: &Source<'_>, width: usize) -> Result<Option<Self>> {
        let [first, last] = NAMES;
        let weight = format!("{first}.weight");
        if !source.has(&weight) {
            return Ok(None);
        }
        let inputs = source.get(&weight)?.dims().last().copied().unwrap_or(0);
        Ok(Some(Self {
            first: source.linear(first, HIDDEN, inputs)?,
            last: source.linear(last, width, HIDDEN)?,
        }))
    }

    /// E.
    pub(super) fn inputs(&self) -> usize {
        self.first.inputs()
    }

    /// What embeddings (S, E) add, (S, C).
    pub(super) fn forward(&self, embeddings: impl Iterator<Item = T>) -> Vec<T> {
        let scale = T::of(scale(self.inputs()));
        let embeddings: Vec<T> = embeddings.map(|number| number * scale).collect();
        let sequences = embeddings.len() / self.inputs();
        let mut hidden = vec![T::ZERO; sequences * HIDDEN];
        self.first.forward(&embeddings, &mut hidden, Store::Replace);
        for number in &mut hidden {
            *number = number.larger(T::ZERO);
        }
        let mut asked = vec![T::ZERO; sequences * self.last.outputs()];
        self.last.forward(&hidden, &mut asked, Store::Replace);
        asked
    }
}
