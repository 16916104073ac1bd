//! [`Spaces`]: what a worker says of its environment, and [`Id`]: what it is asked for.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use trajformer_core::dataset::ActionKind;

/// What stands before the id of an environment of Gymnasium.
pub(super) const PREFIX: &str = "gym:";

/// What an environment of Gymnasium looks like from outside.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Spaces {
    /// Its observations.
    pub observation: ObservationSpace,
    /// Its actions.
    pub action: ActionSpace,
    /// Steps after which episodes are truncated, as it is registered; none: it has no limit of its own.
    pub max_episode_steps: Option<usize>,
    /// Pictures for a second of its time, a step each (`render_fps`); none: it does not say.
    #[serde(default)]
    pub pictures_per_second: Option<f64>,
    /// Versions of Python and of the packages that it needs, by name.
    pub versions: BTreeMap<String, String>,
}

/// Observations as numbers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ObservationSpace {
    /// Where their numbers come from, in order.
    pub parts: Vec<Part>,
    /// Whether they are sent as f64, because a part is one; else as f32.
    pub(super) wide: bool,
    /// Whether they are vectors already.
    pub(super) plain: bool,
}

/// A part of an observation: what one key of a dictionary holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Part {
    /// The key, those inside of others with a slash; empty where observations are vectors.
    pub key: String,
    /// How many numbers it has.
    pub size: usize,
}

impl ObservationSpace {
    /// Numbers in an observation (O).
    pub fn size(&self) -> usize {
        self.parts.iter().map(|part| part.size).sum()
    }

    /// Bytes of an observation in a frame.
    pub(super) fn bytes(&self) -> usize {
        self.size() * if self.wide { 8 } else { 4 }
    }

    /// The numbers of one observation, as f32.
    pub(super) fn numbers(&self, bytes: &[u8]) -> Vec<f32> {
        if self.wide {
            let numbers = bytes.as_chunks::<8>().0.iter();
            numbers
                .map(|&number| f64::from_le_bytes(number) as f32)
                .collect()
        } else {
            let numbers = bytes.as_chunks::<4>().0.iter();
            numbers.map(|&number| f32::from_le_bytes(number)).collect()
        }
    }

    /// How dictionaries became vectors, in words; none where observations are vectors already.
    pub(super) fn order(&self) -> Option<String> {
        if self.plain {
            return None;
        }
        let part = |part: &Part| format!("{} ({})", part.key, part.size);
        let parts: Vec<String> = self.parts.iter().map(part).collect();
        Some(parts.join(", "))
    }
}

/// Actions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ActionSpace {
    /// Numbers within bounds, whatever their shape.
    Box {
        /// Lowest action (A), none where it has no bound.
        low: Vec<Option<f32>>,
        /// Highest action (A), none where it has no bound.
        high: Vec<Option<f32>>,
    },
    /// One of so many choices: one number, counted from 0.
    Discrete {
        /// How many.
        choices: usize,
    },
    /// Anything else, which can't be acted in.
    Other {
        /// What it is, in Gymnasium's words.
        text: String,
    },
}

impl ActionSpace {
    /// Numbers in an action (A).
    pub fn size(&self) -> usize {
        match self {
            Self::Box { low, .. } => low.len(),
            Self::Discrete { .. } => 1,
            Self::Other { .. } => 0,
        }
    }

    /// Lowest and highest action (A each); of choices the first and the last.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn bounds(&self) -> Result<(Vec<f32>, Vec<f32>), String> {
        let finite = |side: &[Option<f32>]| side.iter().copied().collect::<Option<Vec<f32>>>();
        match self {
            Self::Box { low, high } => finite(low).zip(finite(high)).ok_or_else(|| {
                "its actions have no finite bounds, and policies act within bounds: wrap it in Gymnasium's \
                 `RescaleAction` or `ClipAction` where it is registered"
                    .to_owned()
            }),
            Self::Discrete { choices } => {
                Ok((vec![0.0], vec![choices.saturating_sub(1) as f32]))
            }
            Self::Other { text } => Err(format!(
                "its actions are {text}, and policies act with numbers within bounds (Box) or choose (Discrete)"
            )),
        }
    }

    /// Whether they are real numbers or choices.
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::Discrete { choices } => ActionKind::Discrete { count: *choices },
            _ => ActionKind::Continuous,
        }
    }
}

/// What stands in `gym:ID?KEY=VALUE&...`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Id {
    /// As `gymnasium.make` takes it, e.g. `Hopper-v5` or `module:Id-v0`.
    pub id: String,
    /// Further arguments of `gymnasium.make`.
    pub arguments: serde_json::Map<String, Value>,
}

impl Id {
    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str) -> Result<Self, String> {
        let text = name.strip_prefix(PREFIX).unwrap_or(name);
        let (id, rest) = text.split_once('?').unwrap_or((text, ""));
        if id.is_empty() {
            return Err(
                "expected an id of Gymnasium's behind `gym:`, e.g. `gym:Hopper-v5`".to_owned(),
            );
        }
        let mut arguments = serde_json::Map::new();
        for argument in rest.split('&').filter(|argument| !argument.is_empty()) {
            let (key, value) = argument.split_once('=').ok_or_else(|| {
                format!("`{argument}` is no argument: expected `gym:ID?KEY=VALUE&...`")
            })?;
            // JSON, or a bare word.
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            arguments.insert(key.to_owned(), value);
        }
        Ok(Self {
            id: id.to_owned(),
            arguments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_module_and_arguments_where_it_names_them() {
        let id = Id::parse("gym:mine:Toy-v0?size=3&mode=fast&flat=true").expect("an id");
        assert_eq!(id.id, "mine:Toy-v0");
        let expected = serde_json::json!({"size": 3, "mode": "fast", "flat": true});
        assert_eq!(Value::from(id.arguments), expected);
        assert_eq!(
            Id::parse("gym:Hopper-v5").map(|id| id.arguments.len()),
            Ok(0)
        );
        for wrong in ["gym:", "gym:?size=3", "gym:Toy-v0?size"] {
            assert!(Id::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn observations_are_read_in_the_width_that_they_are_sent_in() {
        let space = |wide| ObservationSpace {
            parts: vec![
                Part {
                    key: "a".to_owned(),
                    size: 1,
                },
                Part {
                    key: "b/c".to_owned(),
                    size: 1,
                },
            ],
            wide,
            plain: false,
        };
        let narrow: Vec<u8> = [1.5f32, -2.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let wide: Vec<u8> = [1.5f64, -2.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        assert_eq!((space(false).bytes(), space(true).bytes()), (8, 16));
        assert_eq!(space(false).numbers(&narrow), [1.5, -2.0]);
        assert_eq!(space(true).numbers(&wide), [1.5, -2.0]);
        assert_eq!(space(true).order().as_deref(), Some("a (1), b/c (1)"));
    }
}
