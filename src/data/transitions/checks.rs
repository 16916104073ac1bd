//! The shapes that all fields of [`Transitions`] agree on.

use candle_core::Tensor;

use crate::replay::Experience;
use crate::transitions::Transitions;
use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::ActionBounds;

impl Transitions {
    /// Fails, naming the field, unless all shapes are those of N transitions with O numbers in an observation and A in an
    /// action, as normaliser and bounds have them.
    pub(super) fn checked(self) -> Result<Self> {
        let (n, (o, a)) = (self.count.max(1), self.dims());
        let columns = [
            ("observations", Some(&self.observations), Some(o)),
            ("actions", Some(&self.actions), Some(a)),
            ("rewards", Some(&self.rewards), None),
            ("next_observations", Some(&self.next_observations), Some(o)),
            ("terminated", Some(&self.terminated), None),
            ("next_actions", self.next_actions.as_ref(), Some(a)),
            ("returns", Some(&self.returns), None),
            (
                "monte_carlo_returns",
                self.monte_carlo_returns.as_ref(),
                None,
            ),
        ];
        for (field, tensor, width) in columns {
            if let Some(tensor) = tensor {
                let expected: Vec<usize> = [n].into_iter().chain(width).collect();
                check_shape(OWNER, field, tensor, &expected)?;
            }
        }
        if self.steps.len() != self.count {
            let what = format!("{OWNER}: `steps`");
            return Err(Error::shape(what, self.steps.len(), self.count));
        }
        if let Some(row) = self.judged.iter().find(|&&row| row as usize >= self.count) {
            let what = format!("{OWNER}: `judged`");
            let expected = format!("rows below {}", self.count);
            return Err(Error::shape(what, format!("row {row}"), expected));
        }
        Ok(self)
    }

    /// Fails, naming the field, unless a collected step has the shapes of one transition.
    pub(super) fn check_step(&self, step: &Experience) -> Result<()> {
        let (o, a) = self.dims();
        for (field, found, width) in [
            ("observation", &step.observation, o),
            ("action", &step.action, a),
            ("next_observation", &step.next_observation, o),
        ] {
            check_shape("a collected step", field, found, &[1, width])?;
        }
        Ok(())
    }
}

/// Who has the fields, in errors.
const OWNER: &str = "transitions";

/// Fails unless these are the bounds of so many actions. A single pair of bounds would fit any number of them by broadcasting.
pub(super) fn check_bounds(bounds: &ActionBounds, action_dim: usize) -> Result<()> {
    if bounds.dim() == action_dim {
        Ok(())
    } else {
        let expected = format!("{action_dim}, one pair per dimension of an action");
        let what = format!("{OWNER}: `bounds`");
        Err(Error::shape(what, bounds.dim(), expected))
    }
}

/// Fails, naming `field` of `owner`, unless `tensor` has this shape.
fn check_shape(owner: &str, field: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.dims() == expected {
        Ok(())
    } else {
        let what = format!("{owner}: `{field}`");
        let found = format!("{:?}", tensor.dims());
        Err(Error::shape(what, found, format!("{expected:?}")))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::replay::Replay;
    use crate::transitions::tests::{data, raw, transitions};
    use crate::transitions_config::TransitionsConfig;
    use trajformer_core::dataset::Dataset;
    use trajformer_core::source::Source;

    /// Three transitions of two observations and one action with everything that can be asked for.
    fn whole() -> Transitions {
        let config = TransitionsConfig {
            next_actions: true,
            monte_carlo_returns: true,
            ..raw()
        };
        let data = Dataset {
            observation_dim: 2,
            observations: (0..6).map(|number| number as f32).collect(),
            sources: Vec::new(),
            ..data(&[(3, true, false, None)])
        };
        transitions(&data, &config).expect("transitions")
    }

    #[test]
    fn shapes_that_do_not_agree_are_refused_by_the_name_of_the_field() {
        let zeros =
            |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros");
        let check = |field: &str, found: &str, expected: &str, broken: Transitions| {
            let error = broken.checked().expect_err(field);
            let Error::Shape {
                what,
                found: shown,
                expected: wanted,
            } = &error
            else {
                panic!("{error:?}");
            };
            assert_eq!(*what, format!("transitions: `{field}`"));
            assert_eq!(
                (shown.as_str(), wanted.as_str()),
                (found, expected),
                "{field}"
            );
        };
        assert!(whole().checked().is_ok());
        check(
            "observations",
            "[2, 2]",
            "[3, 2]",
            Transitions {
                observations: zeros(&[2, 2]),
                ..whole()
            },
        );
        check(
            "actions",
            "[3, 2]",
            "[3, 1]",
            Transitions {
                actions: zeros(&[3, 2]),
                ..whole()
            },
        );
        check(
            "rewards",
            "[3, 1]",
            "[3]",
            Transitions {
                rewards: zeros(&[3, 1]),
                ..whole()
            },
        );
        check(
            "next_observations",
            "[3, 1]",
            "[3, 2]",
            Transitions {
                next_observations: zeros(&[3, 1]),
                ..whole()
            },
        );
        check(
            "terminated",
            "[4]",
            "[3]",
            Transitions {
                terminated: zeros(&[4]),
                ..whole()
            },
        );
        check(
            "next_actions",
            "[1, 1]",
            "[3, 1]",
            Transitions {
                next_actions: Some(zeros(&[1, 1])),
                ..whole()
            },
        );
        check(
            "returns",
            "[2]",
            "[3]",
            Transitions {
                returns: zeros(&[2]),
                ..whole()
            },
        );
        check(
            "monte_carlo_returns",
            "[2]",
            "[3]",
            Transitions {
                monte_carlo_returns: Some(zeros(&[2])),
                ..whole()
            },
        );
        check(
            "steps",
            "2",
            "3",
            Transitions {
                steps: vec![0, 1],
                ..whole()
            },
        );
        check(
            "judged",
            "row 3",
            "rows below 3",
            Transitions {
                judged: vec![0, 3],
                ..whole()
            },
        );
    }

    #[test]
    fn actions_are_in_one_range_whose_bounds_are_those_of_the_data() {
        let data = data(&[(3, true, false, None)]);
        let config = TransitionsConfig {
            next_actions: true,
            ..raw()
        };
        // Actions 0, -0.01 and -0.02, the last one out of range.
        let bounds = ActionBounds::new(&[-0.01], &[0.03], &Device::Cpu).expect("bounds");
        let found = Transitions::new(&data, &bounds, &config, &Device::Cpu).expect("transitions");
        let numbers = |tensor: &Tensor| tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        for (found, expected) in [
            (found.actions(), [-0.5, -1.0, -1.0]),
            (found.next_actions().expect("asked for"), [-1.0, -1.0, -1.0]),
        ] {
            for (found, expected) in numbers(found).expect("numbers").iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
        let two = ActionBounds::unit(2, &Device::Cpu).expect("bounds");
        let source = Source::Act {
            observation_dim: 1,
            action_dim: 1,
        };
        for refused in [
            Transitions::new(&data, &two, &config, &Device::Cpu),
            Transitions::of_source(source, &two, &config, &Device::Cpu),
        ] {
            let error = refused.expect_err("two pairs for one action").to_string();
            let expected =
                "transitions: `bounds`: found 2, expected 1, one pair per dimension of an action";
            assert_eq!(error, expected);
        }
        // Bounds of one action would fit two by broadcasting.
        let wide = Dataset {
            action_dim: 2,
            actions: vec![0.0; 6],
            ..data
        };
        let refused = Transitions::new(&wide, &bounds, &config, &Device::Cpu);
        assert!(matches!(refused, Err(Error::Shape { .. })));
    }

    #[test]
    fn a_collected_step_has_the_datas_shapes_and_a_place() {
        let mut found = whole();
        let zeros = |width: usize| Tensor::zeros((1, width), DType::F32, &Device::Cpu);
        let step = |o: usize, a: usize, next: usize| Experience {
            observation: zeros(o).expect("zeros"),
            action: zeros(a).expect("zeros"),
            reward: 0.0,
            next_observation: zeros(next).expect("zeros"),
            terminated: false,
            last: false,
        };
        assert!(found.collect(&step(2, 1, 2)).is_err(), "no place yet");
        found.start_collecting().expect("a buffer");
        for (wrong, field, shapes) in [
            (
                step(1, 1, 2),
                "observation",
                "found [1, 1], expected [1, 2]",
            ),
            (step(2, 2, 2), "action", "found [1, 2], expected [1, 1]"),
            (
                step(2, 1, 3),
                "next_observation",
                "found [1, 3], expected [1, 2]",
            ),
        ] {
            let error = found.collect(&wrong).expect_err(field).to_string();
            assert_eq!(error, format!("a collected step: `{field}`: {shapes}"));
        }
        found.collect(&step(2, 1, 2)).expect("it fits");
        assert_eq!(found.collected().map(Replay::len), Some(1));
    }
}
