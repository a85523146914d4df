//! A network to sample from, and how an order wants it sampled.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use ddpm_process::Clip;
use ddpm_schedule::{Eta, Objective, Sampler, Spacing};

use super::Order;
use crate::checkpoint::{self, load_module};
use crate::config::{Config, SamplerKind};
use crate::data::classes;
use crate::diffusers::{self, scheduler::Scheduler};
use crate::missing::must_exist;
use crate::network::{AnyNetwork, build};
use crate::plan::{NetworkPlan, Plan, SamplingPlan, check_variance, sampler};
use crate::sample::Classes;
use crate::terminal::say;

/// A network to sample from, and what it was trained with.
pub(super) struct Trained {
    pub(super) network: AnyNetwork,
    /// What the network is.
    pub(super) plan: NetworkPlan,
    pub(super) objective: Objective,
    learned_variance: bool,
    pub(super) shape: Vec<usize>,
    /// How to sample where an order does not say.
    sampler: Sampler,
    steps: u32,
    clip: Option<Clip>,
    /// A file that spaces the steps in its own way.
    scheduler: Option<Scheduler>,
    classes: Option<usize>,
    class_names: Vec<String>,
    pub(super) null_class: Option<usize>,
}

impl Trained {
    /// The averaged weights of a run, or a network of diffusers.
    pub(super) fn load(from: &Path, device: &Device) -> Result<Self> {
        must_exist("--from", from)?;
        if diffusers::is_folder(from) {
            pretrained(from, device)
        } else {
            run(from, device)
        }
    }

    /// The sampler asked for, on the times asked for.
    pub(super) fn plan(&self, order: &Order) -> Result<SamplingPlan> {
        let sampler = match (order.sampler, order.eta) {
            (Some(SamplerKind::Ddim), eta) => Sampler::Ddim {
                eta: Eta::new(eta.unwrap_or(0.0))?,
            },
            (Some(kind), None) => sampler(kind, 0.0).map_err(anyhow::Error::msg)?,
            (None, Some(eta)) if matches!(self.sampler, Sampler::Ddim { .. }) => Sampler::Ddim {
                eta: Eta::new(eta)?,
            },
            (None, None) => self.sampler,
            (_, Some(eta)) => bail!("--eta {eta}: only the sampler ddim has an η"),
        };
        check_variance(sampler, self.learned_variance)
            .map_err(|reason| anyhow::anyhow!("--sampler: {reason}"))?;
        let steps = order.steps.unwrap_or(self.steps);
        let trajectory = match &self.scheduler {
            Some(scheduler) => scheduler.trajectory(steps)?,
            None => Spacing::Trailing.trajectory(self.objective.schedule(), steps)?,
        };
        Ok(SamplingPlan {
            sampler,
            trajectory,
            clip: self.clip,
        })
    }

    /// The classes asked for; `None` of a network without any.
    pub(super) fn classes(&self, order: &Order) -> Result<Option<Classes>> {
        let Some(n) = self.classes else {
            ensure!(
                order.class.is_none(),
                "--class: the network was trained without classes"
            );
            ensure!(
                order.guidance == 1.0,
                "--guidance: the network was trained without classes"
            );
            return Ok(None);
        };
        ensure!(
            order.guidance == 1.0 || self.null_class.is_some(),
            "--guidance: none of the network's classes is known to mean none; a run trains one \
             where objective.class_dropout is above 0"
        );
        let Some(class) = &order.class else {
            return Ok(Some(Classes::InTurn(n)));
        };
        let class = classes::find(class, &self.class_names, n)
            .map_err(|reason| anyhow::anyhow!("--class {reason}"))?;
        Ok(Some(Classes::Only(class)))
    }
}

/// A run's averaged weights.
fn run(from: &Path, device: &Device) -> Result<Trained> {
    let path = checkpoint::newest(from)?;
    let file = path.join("config.toml");
    let plan = Plan::new(Config::read(&file)?, &file.display().to_string())?;
    let weights = path.join("ema.safetensors");
    let shape = checkpoint::row_shape(&path)?;
    let learned_variance = plan.config.objective.learned_variance;
    let network = match build(&plan.network, learned_variance, &shape, 0, device)? {
        AnyNetwork::UNet(network) => AnyNetwork::UNet(Box::new(load_module(&weights, *network)?)),
        AnyNetwork::Mlp(network) => AnyNetwork::Mlp(Box::new(load_module(&weights, *network)?)),
    };
    Ok(Trained {
        network,
        classes: plan.classes(),
        class_names: checkpoint::class_names(&path)?,
        plan: plan.network.clone(),
        null_class: plan.null_class(),
        learned_variance,
        sampler: plan.sampling.sampler,
        steps: plan.config.sampling.steps,
        clip: plan.sampling.clip,
        scheduler: None,
        objective: plan.objective,
        shape,
    })
}

/// A network of diffusers and its scheduler; the steps are as many as its pipelines take, all of
/// them where noise is added and fifty where not.
fn pretrained(from: &Path, device: &Device) -> Result<Trained> {
    let pretrained = diffusers::unet(from)?;
    let file = pretrained.file.display();
    let [height, width] = pretrained
        .sample_size
        .with_context(|| format!("{file}: sample_size is missing"))?;
    let shape = vec![pretrained.config.in_channels, height, width];
    pretrained.check(&shape)?;
    let scheduler = diffusers::scheduler(from)?;
    for note in pretrained.note.iter().chain(&scheduler.note) {
        say(format_args!("note: {note}"));
    }
    let (learned, sampler) = (pretrained.learned_variance(), scheduler.sampler);
    ensure!(
        learned || !scheduler.learned_variance,
        "{file}: out_channels = {}, but the scheduler's variance_type is that of twice as many",
        pretrained.config.out_channels
    );
    let timesteps = scheduler.objective.schedule().timesteps();
    Ok(Trained {
        network: AnyNetwork::UNet(Box::new(pretrained.build(device)?)),
        objective: scheduler.objective.clone(),
        learned_variance: learned,
        sampler,
        steps: if sampler.adds_noise() {
            timesteps
        } else {
            timesteps.min(50)
        },
        clip: scheduler.clip,
        scheduler: Some(scheduler),
        shape,
        classes: pretrained.config.num_classes,
        class_names: Vec::new(),
        plan: NetworkPlan::UNet(pretrained.config.clone()),
        null_class: pretrained.config.null_class(),
    })
}
