//! Gradients of a loss, where kernels hand those of whole networks' parameters over directly.
//!
//! candle adds every gradient to a tensor of zeros. For the parameters of a network, one vector with one gradient, that is two more
//! passes over it.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId};

use crate::params::Params;

/// Variables whose gradients are handed over on this thread, and those that were.
struct Wanted {
    variables: Vec<TensorId>,
    found: Vec<(Tensor, Tensor)>,
}

thread_local! {
    static WANTED: RefCell<Option<Wanted>> = const { RefCell::new(None) };
}

/// Puts back what was wanted before, whatever happens: a thread that waits may take up another backward pass in between.
struct Before(Option<Wanted>);

impl Drop for Before {
    fn drop(&mut self) {
        WANTED.set(self.0.take());
    }
}

/// The gradients of a loss, as candle's `backward` finds them, to the last bit (a sum of nothing but -0 aside), with fewer
/// passes over those of `parameters`.
///
/// # Errors
/// If a tensor operation fails.
pub fn gradients(loss: &Tensor, parameters: &Params) -> Result<GradStore> {
    let mut variables: Vec<TensorId> = parameters.iter().map(|p| p.slot.var().id()).collect();
    variables.dedup();
    let wanted = Wanted {
        variables,
        found: Vec::new(),
    };
    let (store, found) = {
        let _before = Before(WANTED.replace(Some(wanted)));
        let store = loss.backward()?;
        (store, WANTED.take().map(|wanted| wanted.found))
    };
    let mut store = store;
    for (variable, gradient) in found.into_iter().flatten() {
        let gradient = match store.get(&variable) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        store.insert(&variable, gradient);
    }
    Ok(store)
}

/// Hands a gradient over; returns it where it isn't wanted.
pub(super) fn hand_over(of: &Tensor, gradient: Tensor) -> Option<Tensor> {
    WANTED.with_borrow_mut(|wanted| match wanted {
        Some(wanted) if of.is_variable() && wanted.variables.contains(&of.id()) => {
            wanted.found.push((of.clone(), gradient));
            None
        }
        _ => Some(gradient),
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::activation::Activation;
    use crate::mlp::Mlp;
    use crate::rng::Rng;

    #[test]
    fn gradients_are_those_of_a_plain_backward_pass() -> crate::error::Result<()> {
        let (dtype, device) = (DType::F32, Device::Cpu);
        let rng = &mut Rng::from_seed(4);
        let (mut params, mut others) = (Params::new(dtype, &device), Params::new(dtype, &device));
        let net = Mlp::new(&[3, 20, 2], Activation::Relu, &mut params.init(rng))?;
        let other = Mlp::new(&[2, 20, 1], Activation::Relu, &mut others.init(rng))?;
        let mut x = || rng.normal_tensor((30, 3), dtype, &device);
        // The first network twice; the gradients of both pass the other.
        let (first, second) = (net.forward(&x()?)?, net.forward(&x()?)?);
        let loss =
            (other.forward(&first)?.sqr()?.sum_all()? + other.forward(&second)?.sum_all()?)?;
        let expected = loss.backward()?;
        let found = gradients(&loss, &params)?;
        // Nothing is wanted any more.
        let again = loss.backward()?;
        for param in params.iter().chain(others.iter()) {
            let of = |store: &GradStore| {
                let gradient = param.slot.gradient(store)?.expect("a gradient");
                Ok::<_, crate::error::Error>(gradient.flatten_all()?.to_vec1::<f32>()?)
            };
            assert_eq!(of(&found)?, of(&expected)?, "{}", param.name);
            assert_eq!(of(&again)?, of(&expected)?, "{}", param.name);
        }
        Ok(())
    }
}
