//! The training loop, by steps.

mod begin;
mod diverged;
mod folder;
mod identity;
mod output;
mod record;
mod saver;
mod step;
mod weights;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;

use crate::checkpoint::{self, CheckpointError, Encoded, Snapshot};
use crate::data::{self, Dataset, Loader};
use crate::diffusers::Pretrained;
use crate::ema::Ema;
use crate::interrupt::{Interrupted, Signal, Stop};
use crate::memory::{self, Spread};
use crate::network::{AnyNetwork, Network, build};
use crate::optim::Optim;
use crate::picture::png;
use crate::plan::Plan;
use crate::ranks::Ranks;
use crate::sample::{BATCH, Classes, Drawing, Request};
use crate::times::Times;

use diverged::LeftTheNumbers;
use folder::Claim;
use output::Output;

pub use crate::metrics::Metrics;
pub use folder::configuration;
pub use weights::Weights;

/// What a run begins with.
pub enum Start<'a> {
    /// Weights drawn from the seed.
    New,
    /// The weights of a network trained elsewhere; the plan's network must be that one.
    Pretrained(&'a Pretrained),
    /// The weights of another run; the plan's network must be that run's.
    Weights(&'a Weights),
    /// The newest checkpoint in its folder; the plan must be that run's.
    Resumed,
}

/// The data to train a plan on, by ranks that are spread so, on `device`.
///
/// # Errors
///
/// If the data is not usable or not the plan's, or there is less memory than training takes.
pub fn load(plan: &Plan, spread: Spread, device: &Device) -> Result<Arc<Dataset>> {
    if let Some(shape) = plan.source.shape() {
        memory::check(plan, &shape, 0.0, spread, device)?;
    }
    let dataset = data::load(&plan.source)?;
    let bytes = dataset.bytes() as f64;
    memory::check(plan, dataset.shape(), bytes, spread, device)?;
    check_classes(plan, &dataset)?;
    Ok(Arc::new(dataset))
}

/// Trains as `plan` says on its [data](load) in the folder `out`, until its last step or until `stop`
/// is asked, together with the other `ranks`, of which the first one writes.
///
/// What cannot be written on the way is said on standard error, and training goes on.
///
/// # Errors
///
/// If the folder or the weights to begin with are not usable, a resumed run would be another one than
/// was begun, the ranks do not have the same of these and of the data, one of them fails, the loss stops
/// being finite, or the last files could not be written; and [`Interrupted`] if the run was stopped. A
/// rank that is a process, and has an error that is not [common](is_common), must [end](Ranks::abort)
/// the others.
pub fn train(
    plan: &Plan,
    dataset: Arc<Dataset>,
    out: &Path,
    start: &Start,
    device: &Device,
    stop: &Stop,
    ranks: &Ranks,
) -> Result<()> {
    let config = &plan.config;
    let _precision = config.precision.guard(device)?;
    let share = ranks.share(config.batch_size, config.accumulate)?;
    let network = network(plan, start, dataset.shape(), device)?;
    let resumed = matches!(start, Start::Resumed);
    let _claim = (ranks.leads().then(|| Claim::new(out, resumed))).transpose()?;
    // The folder is the first rank's before any other looks into it.
    ranks.wait()?;
    match network {
        AnyNetwork::UNet(model) => {
            let run = Run::new(plan, out, dataset, *model, device, ranks, share)?;
            run.begin(start)?.fit::<4>(stop)
        }
        AnyNetwork::Mlp(model) => {
            let run = Run::new(plan, out, dataset, *model, device, ranks, share)?;
            run.begin(start)?.fit::<2>(stop)
        }
    }
}

/// Whether all ranks come to this error at once: the run was stopped, or its loss is no number. Any
/// other may be one rank's alone.
pub fn is_common(error: &anyhow::Error) -> bool {
    error.is::<Interrupted>() || error.is::<LeftTheNumbers>()
}

/// The network to train, for rows of `shape`.
fn network(plan: &Plan, start: &Start, shape: &[usize], device: &Device) -> Result<AnyNetwork> {
    let training = device.clone().autodiff();
    let learned = plan.config.objective.learned_variance;
    let pretrained = match start {
        Start::New | Start::Resumed => {
            let seed = plan.config.seed;
            return Ok(build(&plan.network, learned, shape, seed, &training)?);
        }
        Start::Weights(weights) => return weights.build(plan, shape, &training),
        Start::Pretrained(pretrained) => pretrained,
    };
    pretrained.check(shape)?;
    ensure!(
        pretrained.learned_variance() == learned,
        "{}: out_channels = {}, but objective.learned_variance = {learned}",
        pretrained.file.display(),
        pretrained.config.out_channels
    );
    Ok(AnyNetwork::UNet(Box::new(pretrained.build(&training)?)))
}

/// That the data has the classes of a plan's network.
pub(crate) fn check_classes(plan: &Plan, dataset: &Dataset) -> Result<()> {
    if let Some(classes) = plan.classes() {
        let found = dataset.classes();
        ensure!(
            found == Some(classes),
            "model.num_classes is {classes}, but the data has {}",
            found.map_or("no labels".to_owned(), |n| format!("{n} classes"))
        );
    }
    Ok(())
}

/// A run in progress.
struct Run<'a, M> {
    plan: &'a Plan,
    out: PathBuf,
    dataset: Arc<Dataset>,
    /// The data's hash, which a checkpoint keeps.
    data: String,
    /// The configuration, likewise.
    config: String,
    step: u64,
    /// The step whose checkpoint the run is at.
    saved: Option<u64>,
    model: M,
    ema: Ema,
    optim: Optim,
    times: Times,
    device: Device,
    ranks: &'a Ranks,
    /// The rows of each batch that are this rank's.
    share: Range<usize>,
    /// What asked one of the ranks to stop.
    asked: Option<Signal>,
}

impl<'a, M: burn::module::Module> Run<'a, M> {
    fn new(
        plan: &'a Plan,
        out: &Path,
        dataset: Arc<Dataset>,
        model: M,
        device: &Device,
        ranks: &'a Ranks,
        share: Range<usize>,
    ) -> Result<Self> {
        Ok(Self {
            share,
            ranks,
            asked: None,
            plan,
            out: out.to_owned(),
            data: dataset.sha256(),
            config: toml::to_string(&plan.config)?,
            dataset,
            step: 0,
            saved: None,
            ema: Ema::new(&model, plan.config.ema.decay),
            model,
            optim: Optim::new(plan.adamw),
            times: Times::new(
                plan.draws.clone(),
                plan.objective.process(),
                plan.config.seed,
            ),
            device: device.clone(),
        })
    }

    fn fit<const D: usize>(mut self, stop: &Stop) -> Result<()>
    where
        M: Network<D>,
    {
        let steps = self.plan.config.steps;
        let mut batches = self.batches()?;
        let mut output = (self.ranks.leads().then(|| Output::open(&self))).transpose()?;
        if let Some(output) = output.as_mut().filter(|_| self.lacks_picture()) {
            output.picture::<D, M>(&self, stop);
        }
        // All ranks begin or none does: a rank that began alone would wait for the others for ever.
        self.hear(0.0, stop)?;
        while self.step < steps && self.asked.is_none() {
            let batch = batches.next().context("the loader ended")?;
            // An error is reported only after the pending checkpoint has been written, because a rank
            // that ends may end the others.
            let (run, line) = self.advance::<D>(&batch, stop)?;
            self = run;
            if let Some(output) = &mut output {
                output.step::<D, M>(&self, line, stop);
            }
            // A picture that was given up is the resumed run's to make: no step may come before.
            if self.is_pictured() {
                self.hear(0.0, stop)?;
            }
        }
        let (step, leads) = (self.step, output.is_some());
        let interrupted = (self
            .asked
            .filter(|_| step < steps || leads && self.lacks_picture()))
        .map(|signal| Interrupted {
            signal,
            done: format!("step {step}"),
        });
        if let Some(output) = output {
            output.finish(&self, interrupted.is_some())?;
        }
        interrupted.map_or(Ok(()), |interrupted| Err(interrupted.into()))
    }

    fn batches(&self) -> Result<Loader> {
        let config = &self.plan.config;
        Ok(Loader::new(
            self.dataset.clone(),
            config.batch_size,
            self.share.clone(),
            config.seed,
            config.data.flip,
            config.data.workers,
            self.step,
        )?)
    }

    /// Whether a picture is made of the step that the run is at.
    fn is_pictured(&self) -> bool {
        let config = &self.plan.config;
        let every = config.sampling.every;
        let due = self.step == config.steps || self.step.is_multiple_of(every);
        every > 0 && self.step > 0 && due
    }

    /// Where that picture is.
    fn picture_path(&self) -> PathBuf {
        self.out.join(format!("samples/step-{:08}.png", self.step))
    }

    /// Whether it is still to be made.
    fn lacks_picture(&self) -> bool {
        self.is_pictured() && !self.picture_path().exists()
    }

    /// A grid from the averaged weights, with the same noise every time. Asked to stop, it leaves the
    /// picture to the resumed run.
    fn picture<const D: usize>(&self, stop: &Stop) -> Result<()>
    where
        M: Network<D>,
    {
        let drawing = Drawing {
            network: &self.ema.module(&self.model),
            objective: &self.plan.objective,
            plan: &self.plan.sampling,
            request: Request {
                seed: self.plan.config.seed,
                classes: self.plan.classes().map(Classes::InTurn),
                null_class: self.plan.null_class(),
                guidance: 1.0,
                shape: self.dataset.shape(),
                batch: BATCH,
            },
            device: &self.device,
        };
        let path = self.picture_path();
        let context = || path.display().to_string();
        let rows = 0..self.plan.config.sampling.count;
        if let Some(samples) = drawing.sample::<D>(rows, stop).with_context(context)? {
            let bytes = png(&samples.grid()).with_context(context)?;
            checkpoint::write_file(&path, &bytes)?;
        }
        Ok(())
    }

    /// The run's state, apart from the tensors that training goes on with.
    fn copy(&self) -> Result<Encoded, CheckpointError> {
        let snapshot = Snapshot {
            step: self.step,
            shape: self.dataset.shape().to_vec(),
            data: self.data.clone(),
            class_names: self.dataset.class_names().to_vec(),
            model: self.model.clone(),
            ema: self.ema.module(&self.model),
            optim: self.optim.clone(),
            losses: self.times.losses().map(<[f64]>::to_vec).collect(),
        };
        Encoded::new(&snapshot, &self.config)
    }
}

#[cfg(test)]
mod tests;
