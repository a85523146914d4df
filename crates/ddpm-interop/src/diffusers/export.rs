//! Writes a folder that diffusers' `DDPMPipeline.from_pretrained` reads.

use std::fs;
use std::path::{Path, PathBuf};

use ddpm_files::{FileError, io, write_folder};
use ddpm_model::weights::module_bytes;
use ddpm_model::{UNet, UNetConfig};
use serde_json::{Value, json};

use super::config;
use super::version::VERSION;

/// Why a folder cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder exists.
    #[error("{}: exists already; an export makes a new folder", .0.display())]
    Exists(PathBuf),
}

/// Writes a network for images of a height and a width, and its scheduler's file, as the new folder
/// `to`. `sampler`, the file of a scheduler that the pipeline cannot run, is written to
/// `sampler/scheduler_config.json`.
///
/// # Errors
///
/// If `to` exists, or the system refuses.
pub fn write(
    to: &Path,
    config: &UNetConfig,
    size: [usize; 2],
    network: &UNet,
    scheduler: &Value,
    sampler: Option<&Value>,
) -> Result<(), ExportError> {
    if to.exists() {
        return Err(ExportError::Exists(to.to_owned()));
    }
    let weights = module_bytes(network).map_err(|reason| FileError::content(to, reason))?;
    let class = &scheduler["_class_name"];
    let pipeline = if class == "DDIMScheduler" {
        "DDIMPipeline"
    } else {
        "DDPMPipeline"
    };
    let index = json!({
        "_class_name": pipeline,
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", class],
        "unet": ["diffusers", "UNet2DModel"],
    });
    let text = |value: &Value| format!("{value:#}\n").into_bytes();
    let mut files = vec![
        ("model_index.json", text(&index)),
        (
            "unet/config.json",
            text(&config::write(config, network.channels(), size)),
        ),
        ("unet/diffusion_pytorch_model.safetensors", weights),
        ("scheduler/scheduler_config.json", text(scheduler)),
    ];
    files.extend(sampler.map(|file| ("sampler/scheduler_config.json", text(file))));
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(io(parent))?;
    }
    write_folder(to, &files)?;
    Ok(())
}
