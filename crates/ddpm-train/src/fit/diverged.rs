//! `diverged.json`: where a run left the numbers.

use std::path::Path;

use anyhow::Error;
use burn::tensor::Tensor;
use serde::Serialize;
use serde_json::Value;

use super::Run;
use crate::checkpoint::{CheckpointError, write_file};
use crate::data::Batch;
use crate::network::Network;
use crate::params::{self, Named};
use crate::ranks::RanksError;

/// A run whose loss or gradients are not finite, which all of its ranks see at once.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LeftTheNumbers(String);

/// The step whose loss or gradients are not finite.
#[derive(Debug, Serialize)]
struct Diverged {
    /// The step, which was not done.
    step: u64,
    /// The batch's loss.
    loss: Value,
    /// The joint norm of the gradients.
    grad_norm: Value,
    /// The first parameter, in the order of names, that is not finite or whose gradient is not.
    parameter: Option<Bad>,
    /// The batch.
    rows: Vec<Row>,
}

/// A parameter that went bad.
#[derive(Debug, PartialEq, Serialize)]
struct Bad {
    /// Its name.
    name: String,
    /// "value" or "gradient".
    what: &'static str,
}

/// A row of the batch.
#[derive(Debug, Serialize)]
struct Row {
    /// Its position in the run.
    sample: u64,
    /// Its place in the data.
    index: usize,
    /// The time that the network was told.
    time: f64,
    /// Its loss.
    loss: Value,
}

impl<M: burn::module::Module> Run<'_, M> {
    /// Says where the run left the numbers, in words and in `diverged.json`.
    pub(super) fn diverged<const D: usize>(
        &self,
        batch: &Batch,
        loss: f64,
        grad_norm: f64,
        gradients: &Named,
    ) -> Error
    where
        M: Network<D>,
    {
        let step = self.step + 1;
        let rows = match self.rows::<D>(batch) {
            Ok(rows) => rows,
            Err(error) => return error.into(),
        };
        let report = Diverged {
            step,
            loss: number(loss),
            grad_norm: number(grad_norm),
            parameter: first_bad(&params::values(&self.model), gradients),
            rows,
        };
        let what = if loss.is_finite() {
            format!("the gradients' norm is {grad_norm}")
        } else {
            format!("the loss is {loss}")
        };
        let path = self.out.join("diverged.json");
        let written = if self.ranks.leads() {
            report.write(&self.out)
        } else {
            Ok(())
        };
        let more = match written {
            Ok(()) => format!(", and {} says more", path.display()),
            Err(error) => format!(" ({error})"),
        };
        LeftTheNumbers(format!("{what} at step {step}; the run stops here{more}")).into()
    }
}

impl<M: burn::module::Module> Run<'_, M> {
    /// The rows of all ranks. Their losses are not kept on the way; the same rows have the same
    /// again.
    // Whole numbers below 2³² are f64 without loss.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn rows<const D: usize>(&self, batch: &Batch) -> Result<Vec<Row>, RanksError>
    where
        M: Network<D>,
    {
        let samples = self.samples();
        let all = self.times.draw(&samples);
        let drawn = all.of(self.share.clone());
        let losses = self.parts().flat_map(|rows| {
            let each = self.losses::<D>(batch, &drawn, rows).inner().into_data();
            each.iter::<f64>().collect::<Vec<_>>()
        });
        let losses = self.ranks.gather(&losses.collect::<Vec<_>>())?;
        let indices: Vec<f64> = batch.indices.iter().map(|&i| i as f64).collect();
        let indices = self.ranks.gather(&indices)?;
        let rows = samples
            .into_iter()
            .zip(indices)
            .zip(all.levels.iter().zip(losses));
        let process = self.plan.objective.process();
        let rows = rows.map(|((sample, index), (&level, loss))| Row {
            sample,
            index: index as usize,
            time: process.time(level),
            loss: number(loss),
        });
        Ok(rows.collect())
    }
}

impl Diverged {
    /// Writes `diverged.json` into a run's folder.
    fn write(&self, out: &Path) -> Result<(), CheckpointError> {
        let path = out.join("diverged.json");
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        write_file(&path, &json)
    }
}

/// A number as JSON, which knows only finite ones: the others by their names.
fn number(value: f64) -> Value {
    if value.is_finite() {
        Value::from(value)
    } else {
        Value::from(value.to_string())
    }
}

/// The first parameter that is not finite, or whose gradient is not.
fn first_bad(values: &Named, gradients: &Named) -> Option<Bad> {
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
