//! [`DecayUpdates`]: over how many updates a learning rate decays, as a key of a configuration.

use std::f64::consts::PI;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Over how many updates a learning rate decays to 0: `"training"`, `"none"`, or a number of updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecayUpdates {
    /// `"training"`: over the run's own `train.updates`, whatever they are. A resumed run with more of them goes on
    /// at the rate that the longer schedule has there.
    #[default]
    Training,
    /// `"none"`: the rate stays.
    None,
    /// Over this many updates, at least `train.updates`: a rate of 0 trains nothing.
    Updates(u64),
}

impl DecayUpdates {
    /// Factor in (0, 1] of the next update's rate, before which `completed` updates were made (0 for the first), in a run with
    /// `training_updates` on its data: (1 + cos(π completed / length)) / 2, which is 1 for the first update. 1 from
    /// `training_updates` on: learning online does not decay.
    pub fn cosine(self, completed: u64, training_updates: u64) -> f64 {
        let length = match self {
            Self::None => return 1.0,
            Self::Training => training_updates,
            Self::Updates(length) => length,
        };
        if completed >= training_updates {
            return 1.0;
        }
        let share = (completed as f64 / length as f64).min(1.0);
        (1.0 + (PI * share).cos()) / 2.0
    }

    /// Whether the rate reaches 0 before `training_updates` are done.
    pub fn ends_before(self, training_updates: u64) -> bool {
        matches!(self, Self::Updates(length) if length < training_updates)
    }
}

impl Serialize for DecayUpdates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Training => serializer.serialize_str("training"),
            Self::None => serializer.serialize_str("none"),
            Self::Updates(updates) => serializer.serialize_u64(*updates),
        }
    }
}

impl<'de> Deserialize<'de> for DecayUpdates {
    /// 0 is `"none"`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = DecayUpdates;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"training\", \"none\" or a whole number of updates")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "training" => Ok(DecayUpdates::Training),
                    "none" => Ok(DecayUpdates::None),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_i64<E: serde::de::Error>(self, updates: i64) -> Result<Self::Value, E> {
                match u64::try_from(updates) {
                    Ok(updates) => self.visit_u64(updates),
                    Err(_) => {
                        let found = serde::de::Unexpected::Signed(updates);
                        Err(E::invalid_value(found, &self))
                    }
                }
            }
            fn visit_u64<E: serde::de::Error>(self, updates: u64) -> Result<Self::Value, E> {
                Ok(match updates {
                    0 => DecayUpdates::None,
                    _ => DecayUpdates::Updates(updates),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Table {
        decay: DecayUpdates,
    }

    #[test]
    fn it_is_a_word_or_a_number_and_0_is_none() {
        let read = |text: &str| toml::from_str::<Table>(&format!("decay = {text}"));
        for (text, expected) in [
            ("\"training\"", DecayUpdates::Training),
            ("\"none\"", DecayUpdates::None),
            ("0", DecayUpdates::None),
            ("50_000", DecayUpdates::Updates(50_000)),
        ] {
            let found = read(text).expect(text);
            assert_eq!(found.decay, expected);
            let written = toml::to_string(&found).expect("TOML");
            assert_eq!(toml::from_str::<Table>(&written).expect("TOML"), found);
        }
        for text in ["\"never\"", "-1", "0.5"] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains("\"training\""), "{error}");
        }
    }

    #[test]
    fn no_update_of_a_run_has_a_rate_of_0() {
        let decays = [
            DecayUpdates::Training,
            DecayUpdates::None,
            DecayUpdates::Updates(8),
            DecayUpdates::Updates(20),
        ];
        for decay in decays {
            assert!(!decay.ends_before(8));
            for update in 0..30 {
                assert!(decay.cosine(update, 8) > 0.0, "{decay:?} {update}");
            }
            assert_eq!(decay.cosine(8, 8), 1.0, "online");
        }
        assert!((DecayUpdates::Training.cosine(4, 8) - 0.5).abs() < 1e-15);
        assert!(
            (DecayUpdates::Updates(16).cosine(4, 8) - (1.0 + 0.5f64.sqrt()) / 2.0).abs() < 1e-15
        );
        assert!(DecayUpdates::Updates(7).ends_before(8));
    }
}
