//! A run: a trainer, and what stands around it.

mod begin;
mod diverged;
mod folder;
mod identity;
mod output;
mod record;
mod saver;
mod start;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::Device;
use ddpm_data::Dataset;
use ddpm_files::{FileError, write_file};
use ddpm_model::Network;
use ddpm_train::checkpoint::Encoded;
use ddpm_train::ranks::{Ranks, RanksError};
use ddpm_train::{TrainError, Trainer};

use crate::interrupt::{Interrupted, Signal, Stop};
use crate::memory::{self, Spread};
use crate::network::{AnyNetwork, build};
use crate::picture::png;
use crate::plan::Plan;
use crate::progress::FolderProgress;
use crate::sample::{BATCH, Classes, Drawing, Request};
use crate::terminal;
use diverged::DivergedRun;
use folder::Claim;
use output::Output;

pub use folder::configuration;
pub use start::Start;
pub use weights::Weights;

/// The data to train a plan on, by ranks that are spread so, on `device`. Shows its progress if `leads`.
///
/// # Errors
///
/// If the data is not usable or not the plan's, or there is less memory than training takes.
pub fn load(plan: &Plan, spread: Spread, device: &Device, leads: bool) -> Result<Arc<dyn Dataset>> {
    let fits = |shape: &[usize], bytes| memory::check(plan, shape, bytes, spread, device);
    if let Some(shape) = plan.source.shape() {
        fits(&shape, 0.0)?;
    }
    let mut progress = FolderProgress::new(leads);
    let dataset = plan.load(spread.processes, fits, &mut progress)?;
    check_classes(plan, &*dataset)?;
    Ok(dataset)
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
    dataset: Arc<dyn Dataset>,
    out: &Path,
    start: &Start,
    device: &Device,
    stop: &Stop,
    ranks: &Ranks,
) -> Result<()> {
    let config = &plan.config;
    let _precision = config.precision.guard(device)?;
    ranks.share(config.batch_size, config.accumulate)?;
    let network = network(plan, start, dataset.shape(), device)?;
    let resumed = matches!(start, Start::Resumed);
    let _claim = (ranks.leads().then(|| Claim::new(out, resumed))).transpose()?;
    // The folder is the first rank's before any other looks into it.
    ranks.wait()?;
    match network {
        AnyNetwork::UNet(network) => {
            let run = Run::<4, _>::new(plan, out, dataset, *network, device, ranks)?;
            run.begin(start)?.fit(stop)
        }
        AnyNetwork::Mlp(network) => {
            let run = Run::<2, _>::new(plan, out, dataset, *network, device, ranks)?;
            run.begin(start)?.fit(stop)
        }
    }
}

/// Whether all ranks come to this error at once: the run was stopped, or its loss is no number. Any
/// other may be one rank's alone.
pub fn is_common(error: &anyhow::Error) -> bool {
    error.is::<Interrupted>() || error.is::<DivergedRun>()
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
pub(crate) fn check_classes(plan: &Plan, dataset: &dyn Dataset) -> Result<()> {
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
struct Run<'a, const D: usize, M> {
    plan: &'a Plan,
    out: PathBuf,
    /// The configuration as text, which a checkpoint keeps.
    config: String,
    trainer: Trainer<D, M>,
    /// The step whose checkpoint the run is at.
    saved: Option<u64>,
    device: Device,
    ranks: &'a Ranks,
    /// What asked one of the ranks to stop.
    asked: Option<Signal>,
}

impl<'a, const D: usize, M: Network<D>> Run<'a, D, M> {
    fn new(
        plan: &'a Plan,
        out: &Path,
        dataset: Arc<dyn Dataset>,
        network: M,
        device: &Device,
        ranks: &'a Ranks,
    ) -> Result<Self> {
        let settings = plan.settings.clone();
        Ok(Self {
            config: toml::to_string(&plan.config)?,
            trainer: Trainer::with_ranks(network, dataset, settings, device, ranks)?,
            plan,
            out: out.to_owned(),
            saved: None,
            device: device.clone(),
            ranks,
            asked: None,
        })
    }

    fn fit(mut self, stop: &Stop) -> Result<()> {
        let steps = self.plan.config.steps;
        let mut output = (self.ranks.leads().then(|| Output::open(&self))).transpose()?;
        if let Some(output) = output.as_mut().filter(|_| self.lacks_picture()) {
            output.picture(&self, stop);
        }
        // All ranks begin or none does: one that begins alone waits for the others forever.
        self.exchange(stop)?;
        while self.asked.is_none()
            && let Some(metrics) = self.trainer.next()
        {
            // An error is reported only after the pending checkpoint has been written, because a rank
            // that ends may end the others.
            let metrics = match metrics {
                Ok(metrics) => metrics,
                Err(error) => return Err(self.fail(error, output)),
            };
            if let Some(output) = &mut output {
                output.step(&self, metrics, stop);
            }
            self.exchange(stop)?;
        }
        let (step, leads) = (self.trainer.step(), output.is_some());
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

    /// Tells the other ranks whether this one was asked to stop, so that all stop at the same step.
    fn exchange(&mut self, stop: &Stop) -> Result<(), RanksError> {
        let asked = stop.asked().map_or(0, Signal::exit_code);
        let all = self.ranks.gather(&[asked.into()])?;
        self.asked = all.iter().find_map(|&code| signal(code));
        Ok(())
    }

    /// Ends the run after an error of the trainer, and says what it is. A diverged run is reported in
    /// `diverged.json` too. If rows cannot be read, the steps before are not lost: a checkpoint has them.
    fn fail(&self, error: TrainError, output: Option<Output>) -> anyhow::Error {
        let step = self.trainer.step();
        match error {
            TrainError::Diverged(diverged) => {
                DivergedRun::new(&diverged, &self.out, self.ranks.leads()).into()
            }
            TrainError::Data(error) if step > 0 => {
                if let Some(Err(error)) = output.map(|output| output.finish(self, true)) {
                    terminal::say(error);
                }
                anyhow!(
                    "{error}; the run ends after step {step}; repaired, the data is other data, for \
                     another run with --init-from {} and another --out",
                    self.out.display()
                )
            }
            error => error.into(),
        }
    }

    /// Whether a picture is made of the step that the run is at.
    fn is_pictured(&self) -> bool {
        let config = &self.plan.config;
        let (step, every) = (self.trainer.step(), config.sampling.every);
        let due = step == config.steps || step.is_multiple_of(every);
        every > 0 && step > 0 && due
    }

    /// Where that picture is.
    fn picture_path(&self) -> PathBuf {
        let step = self.trainer.step();
        self.out.join(format!("samples/step-{step:08}.png"))
    }

    /// Whether it is still to be made.
    fn lacks_picture(&self) -> bool {
        self.is_pictured() && !self.picture_path().exists()
    }

    /// A grid from the averaged weights, with the same noise every time. Asked to stop, it leaves the
    /// picture to the resumed run.
    fn picture(&self, stop: &Stop) -> Result<()> {
        let drawing = Drawing {
            network: &self.trainer.average(),
            objective: &self.plan.settings.objective,
            plan: &self.plan.sampling,
            request: Request {
                seed: self.plan.config.seed,
                classes: self.plan.classes().map(Classes::InTurn),
                null_class: self.plan.null_class(),
                guidance: 1.0,
                shape: self.trainer.data().shape(),
                batch: BATCH,
            },
            device: &self.device,
        };
        let path = self.picture_path();
        let context = || path.display().to_string();
        let rows = 0..self.plan.config.sampling.count;
        if let Some(samples) = drawing.sample::<D>(rows, stop).with_context(context)? {
            let bytes = png(&samples.grid()).with_context(context)?;
            write_file(&path, &bytes)?;
        }
        Ok(())
    }

    /// An independent host copy of the run's state; training may change the originals.
    fn copy(&self) -> Result<Encoded, FileError> {
        Encoded::new(&self.trainer.snapshot(), &self.config)
    }
}

/// The signal of an exit code that was sent as a number.
fn signal(code: f64) -> Option<Signal> {
    Signal::ALL
        .iter()
        .copied()
        .find(|signal| f64::from(signal.exit_code()) == code)
}
