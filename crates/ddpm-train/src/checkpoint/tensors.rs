//! The optimizer's tensors and losses as safetensors files, by name.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use ddpm_files::FileError;
use ddpm_model::weights::{Weights, read_tensor, tensor_bytes};
use ddpm_schedule::LossHistory;

pub(super) fn optimizer_bytes(tensors: &BTreeMap<String, TensorData>) -> Result<Vec<u8>, String> {
    let values = tensors.iter().map(|(name, data)| {
        let values = data.as_slice::<f32>();
        let values = values.map_err(|error| format!("{name} is not of f32: {error}"))?;
        Ok((name.as_str(), data.shape().to_vec(), values))
    });
    tensor_bytes(values.collect::<Result<Vec<_>, String>>()?.into_iter())
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

pub(super) fn load_optimizer(path: &Path) -> Result<BTreeMap<String, TensorData>, FileError> {
    let weights = Weights::read(path)?;
    let tensors = weights.shapes().map(|(name, shape)| {
        let values = weights.values(name).unwrap_or_default();
        (name.to_owned(), TensorData::new(values, shape.to_vec()))
    });
    Ok(tensors.collect())
}
