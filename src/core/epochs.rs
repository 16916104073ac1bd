//! [`Span`]: a number of updates, or of epochs of the data.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Result;
use crate::keys::Keys;

/// A length of a schedule: `1000` updates, or `"20 epochs"` of whatever data the run learns from.
///
/// An epoch is as many updates as batches hold the data's samples, the last of them perhaps not full: a whole pass, as in the
/// code of the Trajectory Transformer's authors (`scripts/train.py`), whose warm-up is one and whose cosine ends after 20.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Span {
    /// A length in updates.
    Updates(u64),
    /// A length in passes over the data; not negative, perhaps not whole.
    Epochs(f64),
}

/// More would not be counted exactly.
const MOST_EPOCHS: f64 = 1e9;

/// A linear warm-up and the end of the decay after it, as two keys of a table give them: `warmup_updates` and
/// `decay_updates`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmupAndDecay {
    /// Length of the warm-up.
    pub warmup: Span,
    /// Where the decay ends, counted from the first update.
    pub decay: Span,
}

impl WarmupAndDecay {
    /// Fails if the decay ends before the warm-up does, as far as that can be said without data.
    pub fn check(self, keys: &Keys) -> Result<()> {
        let ends_first = match (self.warmup, self.decay) {
            (Span::Updates(warmup), Span::Updates(decay)) => decay <= warmup,
            (Span::Epochs(warmup), Span::Epochs(decay)) => decay <= warmup,
            _ => false,
        };
        if !ends_first {
            Ok(())
        } else {
            let expected = format!("more than `warmup_updates` ({})", self.warmup);
            Err(keys.wrong("decay_updates", self.decay, expected))
        }
    }

    /// Warm-up and decay in updates, on `samples` samples in batches of `batch_size`.
    pub fn updates(self, keys: &Keys, samples: usize, batch_size: usize) -> Result<(u64, u64)> {
        let [warmup, decay] =
            [self.warmup, self.decay].map(|span| span.updates(samples, batch_size));
        if decay <= warmup {
            let found = format!("{} ({decay} updates on this data)", self.decay);
            let expected = format!("more than `warmup_updates` ({warmup} updates)");
            return Err(keys.wrong("decay_updates", found, expected));
        }
        Ok((warmup, decay))
    }
}

impl Span {
    /// In updates on `samples` samples in batches of `batch_size`.
    pub fn updates(self, samples: usize, batch_size: usize) -> u64 {
        match self {
            Self::Updates(updates) => updates,
            Self::Epochs(epochs) => {
                let epoch = samples.div_ceil(batch_size.max(1)) as f64;
                (epochs * epoch).round() as u64
            }
        }
    }

    /// What to say of a warm-up of this length, on so many samples in batches of `batch_size`, that takes all of a run's `training_updates`;
    /// `None` if it ends before. `keys` is the table that it stands in.
    pub fn endless_warmup(
        self,
        keys: &Keys,
        samples: usize,
        batch_size: usize,
        training_updates: u64,
    ) -> Option<String> {
        let updates = self.updates(samples, batch_size);
        (updates >= training_updates).then(|| {
            let found = match self {
                Self::Updates(_) => String::new(),
                Self::Epochs(_) => format!(" ({updates} updates on this data)"),
            };
            format!(
                "`{}.warmup_updates` is {self}{found} and `train.updates` {training_updates}: the rate never reaches its full value",
                keys.0
            )
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.trim().split_once(' ')?;
        let epochs: f64 = number.parse().ok()?;
        let fits =
            (0.0..=MOST_EPOCHS).contains(&epochs) && ["epoch", "epochs"].contains(&unit.trim());
        fits.then_some(Self::Epochs(epochs))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Updates(updates) => write!(f, "{updates}"),
            Self::Epochs(1.0) => f.write_str("1 epoch"),
            Self::Epochs(epochs) => write!(f, "{epochs} epochs"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Updates(updates) => serializer.serialize_u64(*updates),
            Self::Epochs(_) => serializer.serialize_str(&self.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of updates, or epochs of the data, e.g. \"20 epochs\"")
            }
            fn visit_u64<E: serde::de::Error>(self, updates: u64) -> std::result::Result<Span, E> {
                Ok(Span::Updates(updates))
            }
            fn visit_i64<E: serde::de::Error>(self, updates: i64) -> std::result::Result<Span, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Signed(updates), &self);
                u64::try_from(updates)
                    .map(Span::Updates)
                    .map_err(|_| wrong())
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Span, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                Span::parse(text).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_pass_over_the_data_its_last_batch_perhaps_not_full() {
        assert_eq!(Span::Epochs(1.0).updates(1000, 256), 4);
        assert_eq!(Span::Epochs(20.0).updates(1000, 256), 80);
        assert_eq!(Span::Epochs(0.5).updates(1024, 256), 2);
        assert_eq!(Span::Updates(7).updates(1000, 256), 7);
        assert_eq!(Span::Epochs(1.0).updates(1, 256), 1);
    }

    #[test]
    fn spans_are_written_as_they_are_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Table {
            span: Span,
        }
        let read = |text: &str| toml::from_str::<Table>(text).map(|table| table.span);
        for (text, span) in [
            ("span = 300", Span::Updates(300)),
            ("span = \"1 epoch\"", Span::Epochs(1.0)),
            ("span = \"2.5 epochs\"", Span::Epochs(2.5)),
        ] {
            assert_eq!(read(text).expect(text), span);
            assert_eq!(toml::to_string(&Table { span }).expect("text").trim(), text);
        }
        for text in [
            "-1",
            "\"-1 epochs\"",
            "\"epochs\"",
            "\"3 weeks\"",
            "1.5",
            "\"nan epochs\"",
            "\"1e99 epochs\"",
        ] {
            let error = read(&format!("span = {text}")).expect_err(text).to_string();
            assert!(error.contains("\"20 epochs\""), "{error}");
        }
    }
}
