//! Checkpoints: a directory a step, whole or absent.
//!
//! `model.safetensors` and `ema.safetensors` hold the weights in PyTorch's layout,
//! `optimizer.safetensors` the moments (`exp_avg.NAME`, `exp_avg_sq.NAME`, flat),
//! `losses.safetensors` the last losses of each t (`losses`, `[T, 10]`, NaN where there is none),
//! `state.json` the step, `config.toml` the configuration. The directory is written under a temporary name, synced
//! and renamed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::LossHistory;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::optim::Optim;
use crate::params::{self, Named};

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file or folder cannot be written or read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl CheckpointError {
    /// What is wrong with a file's content.
    pub(crate) fn content(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Content {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// What the system said of a file.
pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |error| CheckpointError::Io { path, error }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    step: u64,
    updates: u64,
    shape: Vec<usize>,
}

/// Everything a run needs to go on.
#[derive(Clone)]
pub struct Snapshot<M> {
    /// Steps done.
    pub step: u64,
    /// Shape of a row of the data.
    pub shape: Vec<usize>,
    /// The weights being trained.
    pub model: M,
    /// The averaged weights.
    pub ema: M,
    /// The optimizer and its moments.
    pub optim: Optim,
    /// The last losses of t = 1, 2, …, T, where times are drawn by them; otherwise empty.
    pub losses: Vec<Vec<f64>>,
}

/// Writes a file so that it is either as it was or as it should be.
///
/// # Errors
///
/// If the system refuses; the file is then as it was.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.tmp"));
    let mut file = File::create(&aside).map_err(io(&aside))?;
    file.write_all(bytes).map_err(io(&aside))?;
    file.sync_all().map_err(io(&aside))?;
    fs::rename(&aside, path).map_err(io(path))?;
    sync_parent(path)
}

/// A rename lasts only once the folder it happened in is synced.
fn sync_parent(path: &Path) -> Result<(), CheckpointError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(io(parent))
}

/// Saves a snapshot as `folder/step-NNNNNNNN`; returns that path.
///
/// # Errors
///
/// If the system refuses; earlier checkpoints are then untouched.
pub fn save<M: Module>(
    folder: &Path,
    snapshot: &Snapshot<M>,
    config: &str,
) -> Result<PathBuf, CheckpointError> {
    let target = folder.join(format!("step-{:08}", snapshot.step));
    let state = State {
        step: snapshot.step,
        updates: snapshot.optim.updates,
        shape: snapshot.shape.clone(),
    };
    let content = |name: &'static str, bytes: Result<Vec<u8>, String>| match bytes {
        Ok(bytes) => Ok((name, bytes)),
        Err(reason) => Err(CheckpointError::content(&target.join(name), reason)),
    };
    let state = serde_json::to_vec_pretty(&state).map_err(|e| e.to_string());
    let files = [
        content("model.safetensors", module_bytes(&snapshot.model))?,
        content("ema.safetensors", module_bytes(&snapshot.ema))?,
        content("optimizer.safetensors", optim_bytes(&snapshot.optim))?,
        content("losses.safetensors", losses_bytes(&snapshot.losses))?,
        content("state.json", state)?,
        content("config.toml", Ok(config.as_bytes().to_vec()))?,
    ];
    write_folder(&target, &files)?;
    Ok(target)
}

/// Writes a folder of files, which may be in folders of it, under another name, and renames it: it
/// is whole or absent, or what it was before.
///
/// # Errors
///
/// If the system refuses.
pub fn write_folder(target: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), CheckpointError> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let aside = target.with_file_name(format!(".{name}.tmp"));
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(io(&aside))?;
    }
    fs::create_dir_all(&aside).map_err(io(&aside))?;
    for (name, bytes) in files {
        let path = aside.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io(folder))?;
        }
        write_file(&path, bytes)?;
    }
    if target.exists() {
        fs::remove_dir_all(target).map_err(io(target))?;
    }
    fs::rename(&aside, target).map_err(io(target))?;
    sync_parent(target)
}

/// The newest checkpoint of a run, or `run` itself if it is a checkpoint.
///
/// # Errors
///
/// If there is none.
pub fn newest(run: &Path) -> Result<PathBuf, CheckpointError> {
    if run.join("state.json").is_file() {
        return Ok(run.to_owned());
    }
    let folder = run.join("checkpoints");
    let entries = fs::read_dir(&folder).map_err(io(&folder))?;
    let mut steps: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("step-"))
        })
        .collect();
    steps.sort();
    steps
        .pop()
        .ok_or_else(|| CheckpointError::content(&folder, "holds no checkpoint"))
}

/// Loads a checkpoint into networks of the right shape.
///
/// # Errors
///
/// If a file is missing or damaged, or a tensor is missing, unexpected or of the wrong shape.
pub fn load<M: Module>(
    path: &Path,
    model: M,
    optim: Optim,
    device: &Device,
) -> Result<Snapshot<M>, CheckpointError> {
    let state = read_state(path)?;
    let ema = load_module(&path.join("ema.safetensors"), model.valid())?;
    let model = load_module(&path.join("model.safetensors"), model)?;
    let losses = load_losses(&path.join("losses.safetensors"))?;
    let path = path.join("optimizer.safetensors");
    let optim = load_optim(&path, optim, state.updates, device)?;
    let lengths = |named: &Named| -> Vec<(String, usize)> {
        named
            .iter()
            .map(|(name, t)| (name.clone(), t.dims()[0]))
            .collect()
    };
    let parameters = lengths(&params::values(&model));
    let fits = [&optim.exp_avg, &optim.exp_avg_sq]
        .iter()
        .all(|m| lengths(m) == parameters);
    if optim.updates > 0 && !fits {
        let reason = "the moments are not those of the network's parameters";
        return Err(CheckpointError::content(&path, reason));
    }
    Ok(Snapshot {
        step: state.step,
        shape: state.shape,
        model,
        ema,
        optim,
        losses,
    })
}

fn read_state(checkpoint: &Path) -> Result<State, CheckpointError> {
    let path = checkpoint.join("state.json");
    let state = fs::read(&path).map_err(io(&path))?;
    serde_json::from_slice(&state).map_err(|e| CheckpointError::content(&path, e))
}

/// The shape of the rows a checkpoint's network was trained on: `[C, H, W]`, or `[2]` for points.
///
/// # Errors
///
/// If its `state.json` is missing or damaged.
pub fn row_shape(checkpoint: &Path) -> Result<Vec<usize>, CheckpointError> {
    Ok(read_state(checkpoint)?.shape)
}

/// Loads weights into a network of the right shape.
///
/// # Errors
///
/// As [`load`].
pub fn load_module<M: Module>(path: &Path, mut module: M) -> Result<M, CheckpointError> {
    let bytes = fs::read(path).map_err(io(path))?;
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

fn optim_bytes(optim: &Optim) -> Result<Vec<u8>, String> {
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
fn losses_bytes(losses: &[Vec<f64>]) -> Result<Vec<u8>, String> {
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

/// None where there is no such file, as before times were drawn by losses.
fn load_losses(path: &Path) -> Result<Vec<Vec<f64>>, CheckpointError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
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

fn load_optim(
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
