//! Moments and losses as safetensors files, by name.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_files::FileError;
use ddpm_model::weights::{Weights, read_tensor, tensor_bytes};
use ddpm_schedule::LossHistory;

use crate::optim::Optim;
use crate::params::Named;

pub(super) fn optim_bytes(optim: &Optim) -> Result<Vec<u8>, String> {
    let moments = [
        ("exp_avg", &optim.exp_avg),
        ("exp_avg_sq", &optim.exp_avg_sq),
    ];
    let mut tensors = BTreeMap::new();
    for (moment, named) in moments {
        for (name, tensor) in named {
            let values = tensor.try_to_vec_as::<f32>().map_err(|e| e.to_string())?;
            tensors.insert(format!("{moment}.{name}"), values);
        }
    }
    tensor_bytes(
        tensors
            .iter()
            .map(|(name, values)| (name.as_str(), vec![values.len()], values.as_slice())),
    )
}

/// The losses were f32 when they were made.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn losses_bytes(losses: &[Vec<f64>]) -> Result<Vec<u8>, String> {
    let row = |losses: &Vec<f64>| {
        let mut row = [f32::NAN; LossHistory::LENGTH];
        for (out, &loss) in row.iter_mut().zip(losses) {
            *out = loss as f32;
        }
        row
    };
    let values: Vec<f32> = losses.iter().flat_map(row).collect();
    let shape = vec![losses.len(), LossHistory::LENGTH];
    tensor_bytes(std::iter::once(("losses", shape, values.as_slice())))
}

pub(super) fn load_losses(path: &Path) -> Result<Vec<Vec<f64>>, FileError> {
    let (shape, values) = read_tensor(path, "losses")?;
    if !matches!(shape[..], [_, LossHistory::LENGTH]) {
        let reason = format!("losses has shape {shape:?}, not [T, 10]");
        return Err(FileError::content(path, reason));
    }
    let rows = values.chunks_exact(LossHistory::LENGTH);
    let losses = rows.map(|row| {
        let kept = row.iter().filter(|loss| !loss.is_nan());
        kept.map(|&loss| f64::from(loss)).collect()
    });
    Ok(losses.collect())
}

pub(super) fn load_optim(
    path: &Path,
    mut optim: Optim,
    updates: u64,
    device: &Device,
) -> Result<Optim, FileError> {
    let weights = Weights::read(path)?;
    let content = |e: &dyn std::fmt::Display| FileError::content(path, e);
    let (mut exp_avg, mut exp_avg_sq) = (Named::new(), Named::new());
    for (name, _) in weights.shapes() {
        let values = weights.values(name).unwrap_or_default();
        let count = values.len();
        let tensor = Tensor::from_data(TensorData::new(values, [count]), device).inner();
        // `exp_avg.` is no prefix of `exp_avg_sq.`.
        if let Some(name) = name.strip_prefix("exp_avg_sq.") {
            exp_avg_sq.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix("exp_avg.") {
            exp_avg.insert(name.to_owned(), tensor);
        } else {
            return Err(content(&format!("unexpected tensor {name}")));
        }
    }
    if !exp_avg.keys().eq(exp_avg_sq.keys()) {
        return Err(content(&"exp_avg and exp_avg_sq name different parameters"));
    }
    optim.updates = updates;
    optim.exp_avg = exp_avg;
    optim.exp_avg_sq = exp_avg_sq;
    Ok(optim)
}
