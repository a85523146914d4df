//! What an optimizer remembers, as a checkpoint holds it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What an optimizer remembers, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptimizerState {
    /// Tensors of f32.
    pub tensors: BTreeMap<String, TensorData>,
    /// Numbers.
    pub scalars: BTreeMap<String, Scalar>,
}

impl OptimizerState {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.scalars.is_empty()
    }

    /// Adds another state, whose names are others.
    pub(super) fn extend(&mut self, other: Self) {
        self.tensors.extend(other.tensors);
        self.scalars.extend(other.scalars);
    }

    /// The entries whose names begin with `prefix`, without it; the others stay.
    pub(super) fn take(&mut self, prefix: &str) -> Self {
        fn split<T>(all: &mut BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
            let (taken, rest): (Vec<_>, Vec<_>) = std::mem::take(all)
                .into_iter()
                .partition(|(name, _)| name.starts_with(prefix));
            *all = rest.into_iter().collect();
            let taken = taken.into_iter();
            taken
                .map(|(name, value)| (name[prefix.len()..].to_owned(), value))
                .collect()
        }
        Self {
            tensors: split(&mut self.tensors, prefix),
            scalars: split(&mut self.scalars, prefix),
        }
    }

    /// The same with `prefix` before every name.
    pub(super) fn under(self, prefix: &str) -> Self {
        fn rename<T>(all: BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
            let all = all.into_iter();
            all.map(|(name, value)| (format!("{prefix}{name}"), value))
                .collect()
        }
        Self {
            tensors: rename(self.tensors, prefix),
            scalars: rename(self.scalars, prefix),
        }
    }

    /// A hash of all names, shapes and values.
    pub(crate) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for (name, tensor) in &self.tensors {
            hash.update(format!("{name} {:?}\n", tensor.shape()));
            hash.update(tensor.as_bytes());
        }
        hash.update(format!("{:?}", self.scalars));
        format!("{:x}", hash.finalize())
    }
}

/// A number that an optimizer remembers.
///
/// As text it is what Rust writes it as, and that reads as the same number again, to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[allow(missing_docs)]
pub enum Scalar {
    Bool(bool),
    UInt(u64),
    Int(i64),
    Float(f64),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::UInt(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            // With a point or an exponent, which tells it from an integer.
            Self::Float(value) => write!(f, "{value:?}"),
        }
    }
}

impl FromStr for Scalar {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bool = text.parse().map(Self::Bool).ok();
        let uint = || text.parse().map(Self::UInt).ok();
        let int = || text.parse().map(Self::Int).ok();
        let float = || text.parse().map(Self::Float).ok();
        let found = bool.or_else(uint).or_else(int).or_else(float);
        found.ok_or_else(|| format!("{text:?} is no number"))
    }
}

impl TryFrom<String> for Scalar {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Scalar> for String {
    fn from(scalar: Scalar) -> Self {
        scalar.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_is_the_same_after_its_text() {
        for scalar in [
            Scalar::Bool(true),
            Scalar::UInt(u64::MAX),
            Scalar::Int(-3),
            Scalar::Float(3.0),
            Scalar::Float(0.1 + 0.2),
            Scalar::Float(f64::MIN_POSITIVE),
            Scalar::Float(f64::NEG_INFINITY),
        ] {
            assert_eq!(scalar.to_string().parse(), Ok(scalar));
        }
        assert!("three".parse::<Scalar>().is_err());
    }
}
