//! How batches are mixed from a data set and what a policy collected itself: [`DataShare`] is asked for, [`Mixing`] is what a
//! method makes of it, [`Rows`] are the transitions of a batch.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `online.data_share`: which share of each batch comes from the data set; the rest is what was collected online.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum DataShare {
    /// `"method"`: what the algorithm's authors do. Half of each batch in Cal-QL and ReBRAC, uniform in all others.
    #[default]
    Method,
    /// `"uniform"`: each transition is as likely as any other, whether of the data set or collected.
    Uniform,
    /// A number: this share of each batch, in [0, 1], is drawn from the data set.
    Share(f64),
}

impl DataShare {
    /// Whether nothing was asked for.
    pub fn is_method(&self) -> bool {
        *self == Self::Method
    }

    /// What it makes of a method's own mixing; how numbers of rows are rounded stays the method's.
    pub fn or(self, own: Mixing) -> Mixing {
        match (self, own) {
            (Self::Method, own) => own,
            (Self::Uniform, _) => Mixing::Uniform,
            (Self::Share(share), Mixing::RoundedUp(_)) => Mixing::RoundedUp(share),
            (Self::Share(share), _) => Mixing::RoundedDown(share),
        }
    }
}

impl Serialize for DataShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Method => serializer.serialize_str("method"),
            Self::Uniform => serializer.serialize_str("uniform"),
            Self::Share(share) => serializer.serialize_f64(*share),
        }
    }
}

impl<'de> Deserialize<'de> for DataShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = DataShare;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`method`, `uniform` or a number in 0 to 1")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DataShare, E> {
                match text {
                    "method" => Ok(DataShare::Method),
                    "uniform" => Ok(DataShare::Uniform),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_f64<E: serde::de::Error>(self, share: f64) -> Result<DataShare, E> {
                Ok(DataShare::Share(share))
            }
            fn visit_i64<E: serde::de::Error>(self, share: i64) -> Result<DataShare, E> {
                Ok(DataShare::Share(share as f64))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// How a batch is made of transitions of the data set and of those collected online.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mixing {
    /// Each transition is as likely as any other, whether of the data set or collected.
    Uniform,
    /// This share of each batch, in [0, 1], is drawn from the data set, its number of rows rounded down.
    RoundedDown(f64),
    /// This share of each batch, in [0, 1], is drawn from the data set, its number of rows rounded up.
    RoundedUp(f64),
}

impl Mixing {
    /// Rows of the data in a batch of `batch`; `None` where chance decides.
    pub fn data_rows(self, batch: usize) -> Option<usize> {
        match self {
            Self::Uniform => None,
            Self::RoundedDown(share) => Some((batch as f64 * share).floor() as usize),
            Self::RoundedUp(share) => Some((batch as f64 * share).ceil() as usize),
        }
    }
}

/// The transitions of a batch by number, first those of the data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// Rows of the data.
    pub data: Vec<u32>,
    /// Collected ones.
    pub collected: Vec<u32>,
}

impl Rows {
    /// Some of them, counted through the data's and then the collected ones, as a batch has them.
    pub fn share(&self, rows: &Range<usize>) -> Self {
        let data = self.data.len();
        let of_data = rows.start.min(data)..rows.end.min(data);
        let of_collected = rows.start.max(data) - data..rows.end.max(data) - data;
        Self {
            data: self.data[of_data].to_vec(),
            collected: self.collected[of_collected].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_as_the_methods_authors_do() {
        // Cal-QL rounds the data's rows down, ReBRAC the collected ones.
        let asked = |share: f64, own, batch| DataShare::Share(share).or(own).data_rows(batch);
        assert_eq!(asked(0.5, Mixing::RoundedDown(0.3), 17), Some(8));
        assert_eq!(asked(0.5, Mixing::RoundedUp(0.3), 17), Some(9));
        assert_eq!(asked(0.5, Mixing::Uniform, 256), Some(128));
        assert_eq!(asked(1.0, Mixing::Uniform, 5), Some(5));
        assert_eq!(asked(0.0, Mixing::RoundedUp(0.5), 5), Some(0));
        assert_eq!(asked(0.9, Mixing::RoundedUp(0.5), 10), Some(9));
        let half = Mixing::RoundedDown(0.5);
        assert_eq!(DataShare::Method.or(half).data_rows(16), Some(8));
        assert_eq!(DataShare::Uniform.or(half).data_rows(16), None);
    }
}
