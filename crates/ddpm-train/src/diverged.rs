//! Where a run's loss stops being finite.

use std::fmt;

use burn::tensor::Tensor;
use serde::{Serialize, Serializer};

use crate::params::Named;

/// The step whose loss or gradients are not finite.
#[derive(Clone, Debug, Serialize)]
pub struct Diverged {
    /// The step, which was not done.
    pub step: u64,
    /// The batch's loss.
    #[serde(serialize_with = "by_name")]
    pub loss: f64,
    /// The joint norm of the gradients.
    #[serde(serialize_with = "by_name")]
    pub grad_norm: f64,
    /// The first parameter, in the order of names, that is not finite or whose gradient is not.
    pub parameter: Option<Bad>,
    /// The batch.
    pub rows: Vec<Row>,
}

/// A parameter that went bad.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bad {
    /// Its name.
    pub name: String,
    /// "value" or "gradient".
    pub what: &'static str,
}

/// A row of the batch.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its position in the run.
    pub sample: u64,
    /// Its place in the data.
    pub index: usize,
    /// The time that the network was told.
    pub time: f64,
    /// Its loss.
    #[serde(serialize_with = "by_name")]
    pub loss: f64,
}

/// Says which number is not finite, and at which step.
impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step;
        if self.loss.is_finite() {
            let norm = self.grad_norm;
            return write!(f, "the gradients' norm is {norm} at step {step}");
        }
        write!(f, "the loss is {} at step {step}", self.loss)
    }
}

impl std::error::Error for Diverged {}

/// A number as JSON, which knows only finite ones: the others by their names.
// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn by_name<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(*value)
    } else {
        serializer.serialize_str(&value.to_string())
    }
}

/// The first parameter that is not finite, or whose gradient is not.
pub(crate) fn first_bad(values: &Named, gradients: &Named) -> Option<Bad> {
    let finite = |tensor: &Tensor<1>| {
        let mut values = tensor
            .to_data()
            .iter::<f64>()
            .collect::<Vec<_>>()
            .into_iter();
        values.all(f64::is_finite)
    };
    values.iter().find_map(|(name, value)| {
        let gradient = gradients.get(name);
        let what = if !finite(value) {
            "value"
        } else if gradient.is_some_and(|gradient| !finite(gradient)) {
            "gradient"
        } else {
            return None;
        };
        let name = name.clone();
        Some(Bad { name, what })
    })
}
