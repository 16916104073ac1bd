//! Gymnasium's spaces of observations and actions, as Minari's metadata describes them.

use serde_json::Value;

use crate::formats::bounds::{Bounds, check_bounds};
use crate::formats::flat;
use crate::formats::vectors::choose_keys;

/// Name of the array of observations.
pub(super) const OBSERVATIONS: &str = "observations";
/// Key of the text in observations that are dictionaries, and of the attribute that says the same.
pub(super) const MISSION: &str = "mission";

pub(super) fn nested(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => parse_json(text).ok(),
        Value::Object(_) => Some(value.clone()),
        _ => None,
    }
}

/// JSON with Python's extra numbers, which become very large ones and null.
pub(super) fn parse_json(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| {
        let tame = text.replace("Infinity", "1e308").replace("NaN", "null");
        serde_json::from_str(&tame).map_err(|_| error)
    })
}

pub(super) fn kind(space: &Value) -> &str {
    space.get("type").and_then(Value::as_str).unwrap_or("Box")
}

/// The keys of vectors to put side by side, where observations are dictionaries: those chosen, or the only one beside
/// a mission.
pub(super) fn check_observation_space(
    space: Option<&Value>,
    keys: &[String],
) -> std::result::Result<Vec<String>, String> {
    let Some(space) = space else {
        return Ok(keys.to_vec());
    };
    let advice = "flatten them (minari: a dataset made with gymnasium's FlattenObservation) first";
    match kind(space) {
        "Box" if !keys.is_empty() => Err(format!(
            "observations are plain vectors, but `data.observation_keys` asks for `{}`: leave it out",
            keys.join("`, `")
        )),
        "Box" if rank(space) == 1 => Ok(Vec::new()),
        "Box" => {
            let shape = space.get("shape").map(Value::to_string).unwrap_or_default();
            Err(format!(
                "observations have the shape {shape}, expected one dimension; {advice}"
            ))
        }
        "Dict" => {
            let known = vector_keys(space, "");
            if let Some(key) = keys.iter().find(|key| !known.contains(key)) {
                return Err(format!(
                    "observations have no vector `{key}`, which `data.observation_keys` asks for: they have `{}`",
                    known.join("`, `")
                ));
            }
            if !keys.is_empty() {
                return Ok(keys.to_vec());
            }
            match vector_beside_mission(space) {
                Some(key) => Ok(vec![key]),
                None if known.is_empty() => Err(format!(
                    "observations are dictionaries without a plain vector; {advice}"
                )),
                None => Err(choose_keys(OBSERVATIONS, OBSERVATIONS, &known)),
            }
        }
        other => Err(format!(
            "observations are of the kind {other}: only plain vectors (Box) and dictionaries of them are supported"
        )),
    }
}

/// The keys of all vectors in a dictionary, in its order, with slashes where one holds another.
fn vector_keys(space: &Value, before: &str) -> Vec<String> {
    let subspaces = space.get("subspaces").and_then(Value::as_object);
    let mut keys = Vec::new();
    for (key, subspace) in subspaces.into_iter().flatten() {
        let Some(subspace) = nested(subspace) else {
            continue;
        };
        let key = format!("{before}{key}");
        match kind(&subspace) {
            "Box" if rank(&subspace) == 1 => keys.push(key),
            "Dict" => keys.extend(vector_keys(&subspace, &format!("{key}/"))),
            _ => {}
        }
    }
    keys
}

/// The key of the only other subspace, a vector, beside a text called mission.
fn vector_beside_mission(space: &Value) -> Option<String> {
    let subspaces = space.get("subspaces")?.as_object()?;
    let mission = nested(subspaces.get(MISSION)?)?;
    let mut others = subspaces.iter().filter(|(key, _)| *key != MISSION);
    let (key, other) = others.next()?;
    let other = nested(other)?;
    let fits = kind(&mission) == "Text" && kind(&other) == "Box" && rank(&other) == 1;
    (fits && others.next().is_none()).then(|| key.clone())
}

/// What `action_space` says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum ActionSpace {
    /// Nothing.
    #[default]
    Unknown,
    /// Vectors of numbers, whole ones too.
    Box {
        /// The lowest number of every dimension, or of all, as far as it is said.
        low: Option<Side>,
        /// The highest.
        high: Option<Side>,
    },
    /// One of so many choices; none if it is not said how many.
    Discrete(Option<usize>),
}

/// One side of a box.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Side {
    /// One bound for all dimensions.
    Same(f64),
    /// A bound for each dimension.
    Each(Vec<f64>),
}

impl Side {
    fn of(space: &Value, name: &str) -> Option<Self> {
        // Not a number: no bound at all, which is written as an infinite one.
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        Some(match space.get(name)? {
            Value::Array(values) => Self::Each(values.iter().map(number).collect()),
            value => Self::Same(number(value)),
        })
    }

    fn numbers(&self, dim: usize) -> Vec<f64> {
        match self {
            Self::Same(value) => vec![*value; dim],
            Self::Each(values) => values.clone(),
        }
    }
}

impl ActionSpace {
    /// Reads it from the metadata.
    ///
    /// # Errors
    /// If actions are neither vectors nor one choice.
    pub fn of(json: &Value) -> std::result::Result<Self, String> {
        let Some(space) = json.get("action_space").and_then(nested) else {
            return Ok(Self::Unknown);
        };
        let whole = |key: &str| space.get(key).and_then(Value::as_i64).unwrap_or(0);
        match kind(&space) {
            "Box" if rank(&space) <= 1 => Ok(Self::Box {
                low: Side::of(&space, "low"),
                high: Side::of(&space, "high"),
            }),
            "Discrete" => {
                let count = usize::try_from(whole("n").saturating_add(whole("start"))).unwrap_or(0);
                Ok(Self::Discrete(
                    Some(count).filter(|&count| count <= flat::MOST_CHOICES),
                ))
            }
            "Box" => {
                let shape = space.get("shape").map(Value::to_string).unwrap_or_default();
                Err(format!(
                    "actions have the shape {shape}, expected one dimension: flatten them first"
                ))
            }
            other => Err(format!(
                "actions are of the kind {other}: only vectors (Box of one dimension) and one choice \
                 (Discrete) are supported"
            )),
        }
    }

    /// This, or the other one where it says nothing.
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Unknown => other,
            known => known,
        }
    }

    /// Whether actions are choices, where it says so.
    pub fn is_discrete(&self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            known => Some(matches!(known, Self::Discrete(_))),
        }
    }

    /// Lowest and highest of `dim` actions, and what is to be said of them.
    pub fn bounds(&self, dim: usize) -> (Option<Bounds>, Option<String>) {
        let Self::Box { low, high } = self else {
            return (None, None);
        };
        let numbers = |side: &Option<Side>| side.as_ref().map(|side| side.numbers(dim));
        let names = ("action_space.low", "action_space.high");
        check_bounds(names, (numbers(low), numbers(high)), dim)
    }
}

fn rank(space: &Value) -> usize {
    space
        .get("shape")
        .and_then(Value::as_array)
        .map_or(1, Vec::len)
}
