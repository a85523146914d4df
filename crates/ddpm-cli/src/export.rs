//! `ddpm export`: a run as a folder that diffusers reads.

use std::path::Path;

use anyhow::{Result, bail};
use burn::tensor::Device;
use ddpm_interop::diffusers::scheduler::{Betas, Exported, Sampled, config};
use ddpm_interop::diffusers::write;

use crate::config::{self, Model, ProcessKind};
use crate::network::AnyNetwork;
use crate::plan::{self, Plan, Sampler};
use crate::saved_run::{SavedRun, WeightsOf};

/// Writes the newest checkpoint of the run `from` as the new folder `to`: its averaged weights, or
/// those being trained if `raw`; `device` is where they are checked. The folder is written under
/// another name and renamed, so it is whole or absent. Returns how diffusers' pipeline samples
/// otherwise than the run, if it does.
///
/// The pipeline runs the run's sampler if diffusers has it and `DDPMPipeline` can run it; a sampler
/// that needs a loop of its own is also in `sampler/scheduler_config.json`.
///
/// # Errors
///
/// If `to` exists, `from` is a folder of diffusers, the checkpoint cannot be read, the data is not
/// images, diffusers' pipelines do not have the process, or the system refuses.
pub fn export(from: &Path, to: &Path, raw: bool, device: &Device) -> Result<Option<String>> {
    let run = SavedRun::open(from)?;
    let plan = run.plan()?;
    let weights = if raw {
        WeightsOf::Training
    } else {
        WeightsOf::Average
    };
    let path = run.checkpoint.display();
    let Model::UNet(unet) = &plan.config.model else {
        bail!("{path}: diffusers has no network for points");
    };
    let exported = match scheduler(&plan) {
        Ok(exported) => exported,
        Err(reason) => bail!("{path}: {reason}"),
    };
    let Some(of_pipeline) = &exported.of_pipeline else {
        bail!("{path}: no pipeline of diffusers scales the inputs of its network as EDM requires");
    };
    let AnyNetwork::UNet(network) = run.network(&plan, &run.shape, weights, device)? else {
        bail!("{path}: diffusers has no network for points");
    };
    let size = [run.shape[1], run.shape[2]];
    let mut note = exported.note;
    let sampler = (*of_pipeline != exported.file).then_some(&exported.file);
    if let Some(file) = sampler {
        let class = file["_class_name"].as_str().unwrap_or_default();
        note = Some(format!(
            "DDPMPipeline cannot run a {class}: it is in sampler/scheduler_config.json, and the \
             pipeline has another scheduler"
        ));
    }
    write(to, unet, size, &network, of_pipeline, sampler)?;
    Ok(note)
}

/// A plan's levels and sampler as a file of diffusers.
///
/// # Errors
///
/// If diffusers has no class for the process and the prediction of the network.
pub fn scheduler(plan: &Plan) -> Result<Exported, String> {
    let sampling = &plan.sampling;
    config(&Sampled {
        objective: &plan.settings.objective,
        betas: betas(&plan.config.process)?,
        learned_variance: plan.config.objective.learned_variance,
        method: match &sampling.sampler {
            Sampler::Named(method) => Some(method),
            Sampler::Scheduler(_) => None,
        },
        grid: plan::grid(&plan.config.sampling.grid, plan.config.sampling.rho)?,
        steps: plan.config.sampling.steps,
        levels: &sampling.levels,
        clip: sampling.clip,
        epsilon: sampling.epsilon,
    })
}

/// How diffusers describes the schedule of a `[process]`; none of a process that has no β.
fn betas(process: &config::Process) -> Result<Option<Betas>, String> {
    let (name, trained) = match process.kind {
        ProcessKind::Linear => ("linear", None),
        ProcessKind::ScaledLinear => ("scaled_linear", None),
        ProcessKind::Cosine => ("squaredcos_cap_v2", None),
        // diffusers' schedule of this name is different. It rescales these β as we do.
        ProcessKind::Sigmoid => ("linear", Some(unscaled(process)?)),
        _ => return Ok(None),
    };
    let (start, end) = plan::beta_ends(process);
    Ok(Some(Betas {
        name,
        start,
        end,
        trained,
        rescaled: process.zero_terminal_snr,
    }))
}

/// β of the schedule before it is rescaled.
fn unscaled(process: &config::Process) -> Result<Vec<f64>, String> {
    let plain = config::Process {
        zero_terminal_snr: false,
        ..process.clone()
    };
    let plain = plan::schedule(&plain)?;
    Ok(plain.iter().map(|t| plain.beta(t)).collect())
}
