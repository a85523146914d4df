//! A network to sample from, and how an order wants it sampled.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use ddpm_process::{AfterClip, Clip};
use ddpm_schedule::solver::{Method, Parameters};
use ddpm_schedule::{Grid, Levels, NoiseLevel, Objective};

use super::Order;
use crate::checkpoint::{self, load_module};
use crate::config::Config;
use crate::data::classes;
use crate::diffusers;
use crate::diffusers::scheduler::{Following, Scheduler};
use crate::missing::must_exist;
use crate::network::{AnyNetwork, build};
use crate::plan::{NetworkPlan, Plan, Sampler, SamplingPlan, check_variance, grid};
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
    how: How,
    steps: u32,
    clip: Option<Clip>,
    epsilon: AfterClip,
    classes: Option<usize>,
    class_names: Vec<String>,
    pub(super) null_class: Option<usize>,
}

/// How a network is sampled where an order does not say.
enum How {
    /// As the run was configured.
    Run {
        method: Method,
        grid: Grid,
        rho: Option<f64>,
    },
    /// As a file of diffusers says.
    Scheduler(Box<Scheduler>),
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

    /// The sampler asked for, on the levels asked for.
    pub(super) fn plan(&self, order: &Order) -> Result<SamplingPlan> {
        let process = self.objective.process();
        let steps = order.steps.unwrap_or(self.steps);
        let adaptive = match &order.sampler {
            Some(name) => Method::new(name, order.numbers)?.adaptive(),
            None => None,
        };
        if adaptive.is_some() {
            for (option, given) in [
                ("--steps", order.steps.is_some()),
                ("--grid", order.grid.is_some()),
                ("--rho", order.rho.is_some()),
            ] {
                ensure!(
                    !given,
                    "{option}: the sampler chooses its own steps; leave it out"
                );
            }
        }
        let levels = match (&order.grid, &self.how) {
            _ if adaptive.is_some() => {
                let (start, end) = process.ends();
                Levels::new([start, end, NoiseLevel::CLEAN])?
            }
            (Some(name), _) => {
                let grid = grid(name, order.rho).map_err(|e| anyhow::anyhow!("--grid: {e}"))?;
                grid.levels(process, steps as usize)?
            }
            (
                None,
                How::Run {
                    grid: name, rho, ..
                },
            ) => {
                let rho = order.rho.or(*rho);
                let grid = grid(name.name(), rho).map_err(|e| anyhow::anyhow!("--rho: {e}"))?;
                grid.levels(process, steps as usize)?
            }
            (None, How::Scheduler(scheduler)) => {
                ensure!(
                    order.rho.is_none(),
                    "--rho: the steps are laid out by the scheduler's file; name a --grid too"
                );
                scheduler.levels(steps)?
            }
        };
        let numbers = order.numbers;
        let named = |name: &str, numbers| anyhow::Ok(Sampler::Named(Method::new(name, numbers)?));
        let sampler = match (&order.sampler, &self.how) {
            (Some(name), _) => named(name, numbers)?,
            (None, How::Run { method, .. }) => {
                named(method.info().name, over(method.parameters(), numbers))?
            }
            (None, How::Scheduler(scheduler)) if numbers == Parameters::default() => {
                Sampler::Scheduler(scheduler.rule(&levels))
            }
            (None, How::Scheduler(scheduler)) => named(scheduler.rule(&levels).name(), numbers)?,
        };
        check_variance(&sampler, self.learned_variance)
            .map_err(|reason| anyhow::anyhow!("--sampler: {reason}"))?;
        let epsilon = order.epsilon.unwrap_or(self.epsilon);
        let file = match &self.how {
            How::Run { .. } => None,
            How::Scheduler(scheduler) => {
                let mut scheduler = (**scheduler).clone();
                scheduler.epsilon = epsilon;
                Some(Following::new(scheduler, &levels))
            }
        };
        let plan = SamplingPlan {
            process: process.clone(),
            sampler,
            levels,
            clip: self.clip,
            epsilon,
            file,
        };
        ensure!(
            order.epsilon.is_none() || plan.clip.is_some(),
            "--clipped-epsilon: x̂₀ of points is not clipped"
        );
        plan.check().context("--sampler")?;
        Ok(plan)
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
    let sampling = plan.config.sampling.clone();
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
        how: How::Run {
            method: Method::new(&sampling.sampler, sampling.numbers())?,
            grid: grid(&sampling.grid, sampling.rho).map_err(anyhow::Error::msg)?,
            rho: sampling.rho,
        },
        steps: sampling.steps,
        clip: plan.sampling.clip,
        epsilon: plan.sampling.epsilon,
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
    let learned = pretrained.learned_variance();
    ensure!(
        learned || !scheduler.learned_variance,
        "{file}: out_channels = {}, but the scheduler's variance_type is that of twice as many",
        pretrained.config.out_channels
    );
    Ok(Trained {
        network: AnyNetwork::UNet(Box::new(pretrained.build(device)?)),
        objective: scheduler.objective.clone(),
        learned_variance: learned,
        steps: scheduler.default_steps(),
        clip: scheduler.clip,
        epsilon: scheduler.epsilon,
        how: How::Scheduler(Box::new(scheduler)),
        shape,
        classes: pretrained.config.num_classes,
        class_names: Vec::new(),
        plan: NetworkPlan::UNet(pretrained.config.clone()),
        null_class: pretrained.config.null_class(),
    })
}

/// The numbers given, and the others as they were.
fn over(were: Parameters, given: Parameters) -> Parameters {
    Parameters {
        eta: given.eta.or(were.eta),
        churn: given.churn.or(were.churn),
        order: given.order.or(were.order),
        tolerance: given.tolerance.or(were.tolerance),
    }
}
