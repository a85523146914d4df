//! A network to sample from, and how it is sampled.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use ddpm_process::{AfterClip, Clip};
use ddpm_schedule::solver::{Method, Parameters};
use ddpm_schedule::{Grid, Levels, NoiseLevel, Objective};

use ddpm_data::classes;
use ddpm_interop::diffusers;
use ddpm_interop::diffusers::scheduler::{Following, Scheduler};

use super::options::SampleOptions;
use crate::config::Model;
use crate::drawing::Classes;
use crate::missing::must_exist;
use crate::network::AnyNetwork;
use crate::place;
use crate::plan::{Sampler, SamplingPlan, check_variance, grid};
use crate::saved_run::{SavedRun, WeightsOf};
use crate::terminal::say;

/// A network to sample from, and what it was trained with.
pub(super) struct Trained {
    pub(super) network: AnyNetwork,
    /// What the network is.
    pub(super) model: Model,
    pub(super) objective: Objective,
    learned_variance: bool,
    pub(super) shape: Vec<usize>,
    /// How to sample where the options do not say.
    how: How,
    steps: u32,
    clip: Option<Clip>,
    epsilon: AfterClip,
    classes: Option<usize>,
    class_names: Vec<String>,
    pub(super) null_class: Option<usize>,
}

/// How a network is sampled where the options do not say.
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
    pub(super) fn load(options: &SampleOptions, device: &Device) -> Result<Self> {
        let from = &options.from;
        must_exist("--from", from)?;
        if !place::is_diffusers(from) {
            return run(from, options.ema, device);
        }
        ensure!(
            options.ema.is_none(),
            "--ema: a folder of diffusers holds one network; leave it out"
        );
        pretrained(from, device)
    }

    /// The sampler asked for, on the levels asked for.
    pub(super) fn plan(&self, options: &SampleOptions) -> Result<SamplingPlan> {
        let process = self.objective.process();
        let steps = options.steps.unwrap_or(self.steps);
        let adaptive = match &options.sampler {
            Some(name) => Method::new(name, options.parameters)?.adaptive(),
            None => None,
        };
        if adaptive.is_some() {
            for (option, given) in [
                ("--steps", options.steps.is_some()),
                ("--grid", options.grid.is_some()),
                ("--rho", options.rho.is_some()),
            ] {
                ensure!(
                    !given,
                    "{option}: the sampler chooses its own steps; leave it out"
                );
            }
        }
        let levels = match (&options.grid, &self.how) {
            _ if adaptive.is_some() => {
                let (start, end) = process.ends();
                Levels::new([start, end, NoiseLevel::CLEAN])?
            }
            (Some(name), _) => {
                let grid = grid(name, options.rho).map_err(|e| anyhow::anyhow!("--grid: {e}"))?;
                grid.levels(process, steps as usize)?
            }
            (
                None,
                How::Run {
                    grid: name, rho, ..
                },
            ) => {
                let rho = options.rho.or(*rho);
                let grid = grid(name.name(), rho).map_err(|e| anyhow::anyhow!("--rho: {e}"))?;
                grid.levels(process, steps as usize)?
            }
            (None, How::Scheduler(scheduler)) => {
                ensure!(
                    options.rho.is_none(),
                    "--rho: the steps are laid out by the scheduler's file; name a --grid too"
                );
                scheduler.levels(steps)?
            }
        };
        let numbers = options.parameters;
        let named = |name: &str, numbers| anyhow::Ok(Sampler::Named(Method::new(name, numbers)?));
        let sampler = match (&options.sampler, &self.how) {
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
        let epsilon = options.epsilon.unwrap_or(self.epsilon);
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
            options.epsilon.is_none() || plan.clip.is_some(),
            "--clipped-epsilon: x̂₀ of points is not clipped"
        );
        plan.check().context("--sampler")?;
        Ok(plan)
    }

    /// The classes asked for; `None` of a network without any.
    pub(super) fn classes(&self, options: &SampleOptions) -> Result<Option<Classes>> {
        let Some(n) = self.classes else {
            ensure!(
                options.class.is_none(),
                "--class: the network was trained without classes"
            );
            ensure!(
                options.guidance == 1.0,
                "--guidance: the network was trained without classes"
            );
            return Ok(None);
        };
        ensure!(
            options.guidance == 1.0 || self.null_class.is_some(),
            "--guidance: none of the network's classes is known to mean none; a run trains one \
             where objective.class_dropout is above 0"
        );
        let Some(class) = &options.class else {
            return Ok(Some(Classes::InTurn(n)));
        };
        let class = classes::find(class, &self.class_names, n)
            .map_err(|reason| anyhow::anyhow!("--class {reason}"))?;
        Ok(Some(Classes::Only(class)))
    }
}

/// A run's averaged weights, of the decay `ema` or its first.
fn run(from: &Path, ema: Option<f64>, device: &Device) -> Result<Trained> {
    let run = SavedRun::open(from)?;
    let plan = run.plan()?;
    let learned_variance = plan.config.objective.learned_variance;
    let sampling = plan.config.sampling.clone();
    let weights = average(&plan.settings.ema, ema)?;
    let network = run.network(&plan, &run.shape, weights, device)?;
    Ok(Trained {
        network,
        classes: plan.classes(),
        class_names: run.class_names,
        model: plan.config.model.clone(),
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
        objective: plan.settings.objective,
        shape: run.shape,
    })
}

/// The average of a decay among those of a run.
fn average(decays: &[f64], ema: Option<f64>) -> Result<WeightsOf> {
    let Some(ema) = ema.filter(|&ema| ema != decays[0]) else {
        return Ok(WeightsOf::Average);
    };
    let listed: Vec<_> = decays.iter().map(f64::to_string).collect();
    ensure!(
        decays.contains(&ema),
        "--ema {ema}: the run keeps the averages of {}",
        listed.join(", ")
    );
    Ok(WeightsOf::AverageOf(ema))
}

/// A network of diffusers and its scheduler; the steps are as many as its pipelines take, all of
/// them where noise is added and fifty where not.
fn pretrained(from: &Path, device: &Device) -> Result<Trained> {
    let pretrained = place::unet(from)?;
    let file = pretrained.file.display();
    let [height, width] = pretrained
        .sample_size
        .with_context(|| format!("{file}: sample_size is missing"))?;
    let shape = vec![pretrained.channels[0], height, width];
    pretrained.check(&shape)?;
    let scheduler = diffusers::scheduler(from)?;
    for note in pretrained.note.iter().chain(&scheduler.note) {
        say(format_args!("note: {note}"));
    }
    let learned = pretrained.learned_variance();
    ensure!(
        learned || !scheduler.learned_variance,
        "{file}: out_channels = {}, but the scheduler's variance_type is that of twice as many",
        pretrained.channels[1]
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
        model: Model::UNet(pretrained.config.clone()),
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
