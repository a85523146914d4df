//! A run as a folder that diffusers' `DDPMPipeline.from_pretrained` reads.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ddpm_model::{UNet, UNetConfig};
use ddpm_schedule::{NoiseSchedule, Objective, Parametrization};
use serde_json::{Value, json};

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
        reason: &'static str,
    },
}

/// Writes the newest checkpoint of the run `from` as the new folder `to`: its averaged weights, or
/// those being trained if `raw`; `device` is where they are checked. The folder is written under another name and renamed, so it is
/// whole or absent.
///
/// # Errors
///
/// If `to` exists, the checkpoint cannot be read, the run is not of images with preserved variance,
/// or the system refuses.
pub fn export(from: &Path, to: &Path, raw: bool, device: &Device) -> Result<(), ExportError> {
    let path = checkpoint::newest(from)?;
    let file = path.join("config.toml");
    let plan = Plan::new(Config::read(&file)?, &file.display().to_string())?;
    let shape = checkpoint::row_shape(&path)?;
    let foreign = |reason| ExportError::Foreign {
        path: path.clone(),
        reason,
    };
    let (NetworkPlan::UNet(config), AnyNetwork::UNet(network)) = (
        &plan.network,
        network::build(&plan.network, &shape, 0, device)?,
    ) else {
        return Err(foreign("diffusers has no network for points"));
    };
    let weights = if raw { "model" } else { "ema" };
    let weights = path.join(format!("{weights}.safetensors"));
    let network = checkpoint::load_module(&weights, *network)?;
    let mut config = config.clone();
    (config.in_channels, config.out_channels) = (shape[0], shape[0]);
    write(to, &config, [shape[1], shape[2]], &network, &plan.objective)
}

/// Writes a network for images of a height and a width, and its process, as the new folder `to`.
///
/// # Errors
///
/// If `to` exists, the process does not preserve variance, or the system refuses.
pub fn write(
    to: &Path,
    config: &UNetConfig,
    size: [usize; 2],
    network: &UNet,
    objective: &Objective,
) -> Result<(), ExportError> {
    if to.exists() {
        return Err(ExportError::Exists(to.to_owned()));
    }
    let scheduler = scheduler(objective).ok_or_else(|| ExportError::Foreign {
        path: to.to_owned(),
        reason: "diffusers' DDPMScheduler knows no process but those of preserved variance",
    })?;
    let weights = module_bytes(network).map_err(|reason| CheckpointError::Content {
        path: to.to_owned(),
        reason,
    })?;
    let index = json!({
        "_class_name": "DDPMPipeline",
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    });
    let text = |value: &Value| format!("{value:#}\n").into_bytes();
    let files = [
        ("model_index.json", text(&index)),
        ("unet/config.json", text(&config::write(config, size))),
        ("unet/diffusion_pytorch_model.safetensors", weights),
        ("scheduler/scheduler_config.json", text(&scheduler)),
    ];
    checkpoint::write_folder(to, &files)?;
    Ok(())
}

/// The process as a `DDPMScheduler` has it: the list of its β, to the last digit. `None` if it does
/// not preserve variance, or its end is beyond what diffusers computes with.
fn scheduler(objective: &Objective) -> Option<Value> {
    let schedule = objective.schedule();
    preserves_variance(schedule).then(|| {
        json!({
            "_class_name": "DDPMScheduler",
            "_diffusers_version": VERSION,
            "clip_sample": true,
            "clip_sample_range": 1.0,
            "num_train_timesteps": schedule.timesteps(),
            "prediction_type": match objective.parametrization() {
                Parametrization::Epsilon => "epsilon",
                Parametrization::X0 => "sample",
                Parametrization::V => "v_prediction",
            },
            "timestep_spacing": "trailing",
            "trained_betas": schedule.iter().map(|t| schedule.beta(t)).collect::<Vec<_>>(),
            "variance_type": "fixed_small",
        })
    })
}

fn preserves_variance(schedule: &NoiseSchedule) -> bool {
    // a² + b² is 1 but for the roundings of two squares and their roots.
    schedule.iter().all(|t| {
        let level = schedule.level(t);
        let variance = level.signal().powi(2) + level.noise().powi(2);
        (variance - 1.0).abs() < 1e-12
    })
}
