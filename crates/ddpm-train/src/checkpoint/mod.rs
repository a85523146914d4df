//! Checkpoints: one directory per step, whole or absent.
//!
//! `model.safetensors` and `ema.safetensors` hold the weights in PyTorch's layout; a run with several
//! averages has the others in `ema-DECAY.safetensors`. `optimizer.safetensors` holds the tensors of the
//! optimizer's state (of AdamW the moments `exp_avg.NAME` and `exp_avg_sq.NAME`, flat),
//! `losses.safetensors` the last losses of each t (`losses`, `[T, 10]`, NaN where there is none),
//! `state.json` the step and the numbers of the optimizer's state, `config.toml` the configuration, and `manifest.json`, written last, the
//! format's version and every file's size and SHA-256. The directory is written under another name,
//! synced and renamed; what does not agree with its manifest is not read.

mod folder;
mod manifest;
mod prune;
mod snapshot;
mod tensors;
mod writer;

pub use folder::{Found, exists, newest, newest_whole, survey, unfinished};
pub use manifest::{FORMAT, Manifest, PARTS, average_file};
pub use prune::{Pruner, Retention};
pub use snapshot::{Encoded, Snapshot, class_names, identity, load, row_shape, save};
pub use writer::{Writing, Written};
