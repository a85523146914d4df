//! A run as a folder that diffusers' `DDPMPipeline.from_pretrained` reads.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ddpm_model::{UNet, UNetConfig};
use serde_json::{Value, json};

use super::scheduler;
use super::{VERSION, config};
use crate::checkpoint::{self, CheckpointError, module_bytes};
use crate::config::{Config, ConfigError};
use crate::network::{self, AnyNetwork, NetworkError};
use crate::plan::{NetworkPlan, Plan};

/// Why a run cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The checkpoint cannot be read, or a file not written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run's configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The run's network does not fit its rows.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The folder exists.
    #[error("{}: exists already; an export makes a new folder", .0.display())]
    Exists(PathBuf),
    /// diffusers has nothing of the kind.
    #[error("{}: {reason}", path.display())]
    Foreign {
        /// The run, or the folder to make.
        path: PathBuf,
        /// What diffusers does not have.
        reason: String,
    },
}

/// Writes the newest checkpoint of the run `from` as the new folder `to`: its averaged weights, or
/// those being trained if `raw`; `device` is where they are checked. The folder is written under
/// another name and renamed, so it is whole or absent. Returns in what diffusers' pipeline will
/// not sample as the run does, if in anything.
///
/// The pipeline runs the run's sampler if diffusers has it and `DDPMPipeline` can run it; a sampler
/// that needs a loop of its own is in `sampler/scheduler_config.json` besides.
///
/// # Errors
///
/// If `to` exists, `from` is such a folder already, the checkpoint cannot be read, the run is not of
/// images or of a process that diffusers' pipelines have, or the system refuses.
pub fn export(
    from: &Path,
    to: &Path,
    raw: bool,
    device: &Device,
) -> Result<Option<String>, ExportError> {
    super::refuse(from)?;
    let path = checkpoint::newest(from)?;
    let file = path.join("config.toml");
    let plan = Plan::new(Config::read(&file)?, &file.display().to_string())?;
    let shape = checkpoint::row_shape(&path)?;
    let foreign = |reason: &str| ExportError::Foreign {
        path: path.clone(),
        reason: reason.to_owned(),
    };
    let learned = plan.config.objective.learned_variance;
    let (NetworkPlan::UNet(config), AnyNetwork::UNet(network)) = (
        &plan.network,
        network::build(&plan.network, learned, &shape, 0, device)?,
    ) else {
        return Err(foreign("diffusers has no network for points"));
    };
    let exported = scheduler::config(&plan).map_err(|reason| foreign(&reason))?;
    let Some(of_pipeline) = &exported.of_pipeline else {
        let reason = "no pipeline of diffusers scales the inputs of its network as EDM's need it";
        return Err(foreign(reason));
    };
    let weights = if raw { "model" } else { "ema" };
    let weights = path.join(format!("{weights}.safetensors"));
    let network = checkpoint::load_module(&weights, *network)?;
    let config = network::unet(config, learned, shape[0]);
    let size = [shape[1], shape[2]];
    let mut files = files(to, &config, size, &network, of_pipeline)?;
    let mut note = exported.note;
    if *of_pipeline != exported.file {
        let file = format!("{:#}\n", exported.file).into_bytes();
        files.push(("sampler/scheduler_config.json", file));
        let class = exported.file["_class_name"].as_str().unwrap_or_default();
        note = Some(format!(
            "DDPMPipeline cannot run a {class}, which is in sampler/scheduler_config.json; the \
             pipeline's is another"
        ));
    }
    put(to, &files)?;
    Ok(note)
}

/// Writes a network for images of a height and a width, and its scheduler's file, as the new folder
/// `to`.
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
) -> Result<(), ExportError> {
    let files = files(to, config, size, network, scheduler)?;
    put(to, &files)
}

/// Names and contents.
type Files = Vec<(&'static str, Vec<u8>)>;

fn files(
    to: &Path,
    config: &UNetConfig,
    size: [usize; 2],
    network: &UNet,
    scheduler: &Value,
) -> Result<Files, ExportError> {
    if to.exists() {
        return Err(ExportError::Exists(to.to_owned()));
    }
    let weights = module_bytes(network).map_err(|reason| CheckpointError::content(to, reason))?;
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
    Ok(vec![
        ("model_index.json", text(&index)),
        ("unet/config.json", text(&config::write(config, size))),
        ("unet/diffusion_pytorch_model.safetensors", weights),
        ("scheduler/scheduler_config.json", text(scheduler)),
    ])
}

fn put(to: &Path, files: &Files) -> Result<(), ExportError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(checkpoint::io(parent))?;
    }
    checkpoint::write_folder(to, files)?;
    Ok(())
}
