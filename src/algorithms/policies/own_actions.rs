//! What policies that read their own last actions share: each episode keeps its last actions in ±1, the newest at the back.

use std::collections::VecDeque;

use candle_core::{Device, Tensor};

use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::ActionBounds;
use trajformer_core::policy::check_rows;

/// The newest action of each of E episodes in the environment's units (E, A), on the CPU; of an episode without any the middle of the bounds.
///
/// # Errors
/// If a tensor operation fails.
pub fn newest<'a>(
    episodes: impl Iterator<Item = &'a VecDeque<Vec<f32>>>,
    bounds: &ActionBounds,
    device: &Device,
) -> Result<Tensor> {
    let dim = bounds.dim();
    let newest = |actions: &VecDeque<Vec<f32>>| match actions.back() {
        Some(action) => action.clone(),
        None => vec![0.0; dim],
    };
    let rows: Vec<Vec<f32>> = episodes.map(newest).collect();
    let shape = (rows.len(), dim);
    let actions = Tensor::from_vec(rows.concat(), shape, device)?;
    Ok(bounds.from_unit(&actions)?.to_device(&Device::Cpu)?)
}

/// Writes what was done in place of each episode's newest action: `taken` (E, A) in the environment's units. An action that was done as
/// it was chosen stays what it is, since the way to the other units and back would round it.
///
/// # Errors
/// If `taken` has another shape.
pub fn replace_newest<'a>(
    episodes: impl Iterator<Item = &'a mut VecDeque<Vec<f32>>>,
    taken: &Tensor,
    bounds: &ActionBounds,
    device: &Device,
) -> Result<()> {
    let episodes: Vec<_> = episodes.collect();
    let (rows, dim) = taken.dims2()?;
    check_rows(episodes.len(), rows)?;
    if dim != bounds.dim() {
        let expected = format_args!("{} in each", bounds.dim());
        return Err(Error::shape(
            "policy: actions that were done",
            format_args!("{dim} numbers"),
            expected,
        ));
    }
    let chosen = newest(episodes.iter().map(|actions| &**actions), bounds, device)?;
    let chosen = chosen.to_vec2::<f32>()?;
    let unit = bounds
        .to_unit(&taken.to_device(device)?)?
        .to_vec2::<f32>()?;
    let each = chosen
        .into_iter()
        .zip(taken.to_vec2::<f32>()?)
        .zip(unit)
        .zip(episodes);
    for (((chosen, taken), unit), actions) in each {
        if let Some(newest) = actions.back_mut().filter(|_| chosen != taken) {
            *newest = unit;
        }
    }
    Ok(())
}
