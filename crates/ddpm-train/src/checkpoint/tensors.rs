//! Tensors as safetensors files: networks in PyTorch's layout, moments and losses by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::LossHistory;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{CheckpointError, io};
use crate::optim::Optim;
use crate::params::Named;

/// Loads weights into a network of the right shape.
///
/// # Errors
///
/// If the file is missing or damaged, or a tensor is missing, unexpected, of the wrong shape or not
/// finite.
pub fn load_module<M: Module>(path: &Path, mut module: M) -> Result<M, CheckpointError> {
    let bytes = fs::read(path).map_err(io(path))?;
    // What else may be wrong with it, loading finds out.
    if let Ok(Some(name)) = not_finite(&bytes) {
        let reason = format!("{name} is not finite: it holds NaN or an infinity");
        return Err(CheckpointError::content(path, reason));
    }
    let mut store = SafetensorsStore::from_bytes(Some(bytes))
        .with_from_adapter(PyTorchToBurnAdapter)
        .skip_enum_variants(true);
    let result = module
        .load_from(&mut store)
        .map_err(|e| CheckpointError::content(path, e))?;
    if !result.unused.is_empty() {
        let reason = format!(
            "tensors the network does not have: {}",
            result.unused.join(", ")
        );
        return Err(CheckpointError::content(path, reason));
    }
    Ok(module)
}

/// A network's weights as a safetensors file in PyTorch's layout.
///
/// # Errors
///
/// If they cannot be read from their device.
pub fn module_bytes<M: Module>(module: &M) -> Result<Vec<u8>, String> {
    // One entry of metadata, for PyTorch's readers: more would be written in a random order, and
    // equal weights should be equal files.
    let mut store = SafetensorsStore::from_bytes(None)
        .clear_metadata()
        .metadata("format", "pt")
        .with_to_adapter(BurnToPyTorchAdapter)
        .skip_enum_variants(true);
    module.save_into(&mut store).map_err(|e| e.to_string())?;
    store.get_bytes().map_err(|e| e.to_string())
}

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

pub(super) fn load_losses(path: &Path) -> Result<Vec<Vec<f64>>, CheckpointError> {
    let (shape, values) = read_tensor(path, "losses")?;
    if !matches!(shape[..], [_, LossHistory::LENGTH]) {
        let reason = format!("losses has shape {shape:?}, not [T, 10]");
        return Err(CheckpointError::content(path, reason));
    }
    let rows = values.chunks_exact(LossHistory::LENGTH);
    let losses = rows.map(|row| {
        let kept = row.iter().filter(|loss| !loss.is_nan());
        kept.map(|&loss| f64::from(loss)).collect()
    });
    Ok(losses.collect())
}

/// Named f32 tensors as a safetensors file.
///
/// # Errors
///
/// If a shape does not hold its values.
pub fn tensor_bytes<'a>(
    tensors: impl Iterator<Item = (&'a str, Vec<usize>, &'a [f32])>,
) -> Result<Vec<u8>, String> {
    let bytes: Vec<_> = tensors
        .map(|(name, shape, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (*name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    safetensors::serialize(views, None).map_err(|e| e.to_string())
}

/// The f32 tensor `name` of a safetensors file: shape and values.
///
/// # Errors
///
/// If the file is damaged, lacks the tensor, or holds it in another type.
pub fn read_tensor(path: &Path, name: &str) -> Result<(Vec<usize>, Vec<f32>), CheckpointError> {
    let bytes = fs::read(path).map_err(io(path))?;
    let content = |e: &dyn std::fmt::Display| CheckpointError::content(path, e);
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| content(&e))?;
    let view = tensors.tensor(name).map_err(|e| content(&e))?;
    let values = floats(&view).ok_or_else(|| content(&format!("{name} is not f32")))?;
    Ok((view.shape().to_vec(), values))
}

fn floats(view: &TensorView) -> Option<Vec<f32>> {
    let (words, rest) = view.data().as_chunks::<4>();
    (view.dtype() == Dtype::F32 && rest.is_empty())
        .then(|| words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

pub(super) fn load_optim(
    path: &Path,
    mut optim: Optim,
    updates: u64,
    device: &Device,
) -> Result<Optim, CheckpointError> {
    let bytes = fs::read(path).map_err(io(path))?;
    let content = |e: &dyn std::fmt::Display| CheckpointError::content(path, e);
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| content(&e))?;
    let (mut exp_avg, mut exp_avg_sq) = (Named::new(), Named::new());
    for (name, view) in tensors.tensors() {
        let values = floats(&view).ok_or_else(|| content(&format!("{name} is not f32")))?;
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

/// The first tensor of a safetensors file that holds a value that is not finite.
///
/// # Errors
///
/// If the file is damaged, or a tensor is not f32.
pub(super) fn not_finite(bytes: &[u8]) -> Result<Option<String>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    for (name, view) in tensors.iter() {
        let values = floats(&view).ok_or_else(|| format!("{name} is not f32"))?;
        if !values.iter().all(|value| value.is_finite()) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}
