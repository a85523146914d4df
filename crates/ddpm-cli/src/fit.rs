//! A run: a trainer, and what stands around it.

mod begin;
mod diverged;
mod identity;
mod output;
mod record;
mod run;
mod run_folder;
mod saver;
mod start;
mod weights;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use burn::tensor::Device;
use ddpm_data::Dataset;
use ddpm_model::Network;
use ddpm_train::TrainError;
use ddpm_train::ranks::Ranks;

use crate::interrupt::{Interrupted, Stop};
use crate::memory::{self, Spread};
use crate::network::{AnyNetwork, build};
use crate::plan::Plan;
use crate::progress::FolderProgress;
use crate::terminal;
use diverged::DivergedRun;
use output::Output;
use run::Run;
use run_folder::Claim;

pub use run_folder::configuration;
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
            fit(run.begin(start)?, stop)
        }
        AnyNetwork::Mlp(network) => {
            let run = Run::<2, _>::new(plan, out, dataset, *network, device, ranks)?;
            fit(run.begin(start)?, stop)
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
            return Ok(build(&plan.config.model, learned, shape, seed, &training)?);
        }
        Start::Weights(weights) => return weights.build(plan, shape, &training),
        Start::Pretrained(pretrained) => pretrained,
    };
    pretrained.check(shape)?;
    ensure!(
        pretrained.learned_variance() == learned,
        "{}: out_channels = {}, but objective.learned_variance = {learned}",
        pretrained.file.display(),
        pretrained.channels[1]
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

/// Takes the steps that are left, and writes what belongs to them.
fn fit<const D: usize, M: Network<D>>(mut run: Run<D, M>, stop: &Stop) -> Result<()> {
    let steps = run.plan.config.steps;
    let mut output = (run.ranks.leads().then(|| Output::open(&run))).transpose()?;
    if let Some(output) = output.as_mut().filter(|_| run.lacks_picture()) {
        output.picture(&run, stop);
    }
    // All ranks begin or none does: one that begins alone waits for the others forever.
    run.exchange(stop)?;
    while run.asked.is_none()
        && let Some(metrics) = run.trainer.next()
    {
        // An error is reported only after the pending checkpoint has been written, because a rank
        // that ends may end the others.
        let metrics = match metrics {
            Ok(metrics) => metrics,
            Err(error) => return Err(fail(&run, error, output)),
        };
        if let Some(output) = &mut output {
            output.step(&run, metrics, stop);
        }
        run.exchange(stop)?;
    }
    let (step, leads) = (run.trainer.step(), output.is_some());
    let interrupted = (run
        .asked
        .filter(|_| step < steps || leads && run.lacks_picture()))
    .map(|signal| Interrupted {
        signal,
        done: format!("step {step}"),
    });
    if let Some(output) = output {
        output.finish(&run, interrupted.is_some())?;
    }
    interrupted.map_or(Ok(()), |interrupted| Err(interrupted.into()))
}

/// Ends the run after an error of the trainer, and says what it is. A diverged run is reported in
/// `diverged.json` too. If rows cannot be read, the steps before are not lost: a checkpoint has them.
fn fail<const D: usize, M: Network<D>>(
    run: &Run<D, M>,
    error: TrainError,
    output: Option<Output>,
) -> anyhow::Error {
    let step = run.trainer.step();
    match error {
        TrainError::Diverged(diverged) => {
            DivergedRun::new(&diverged, &run.out, run.ranks.leads()).into()
        }
        TrainError::Data(error) => match output.filter(|_| step > 0) {
            Some(output) => {
                if let Err(error) = output.finish(run, true) {
                    terminal::say(error);
                }
                anyhow!(
                    "{error}; the run ends after step {step}, which is saved; a repaired file is \
                     other data: continue with --init-from {} and another --out",
                    run.out.display()
                )
            }
            None => error.into(),
        },
        error => error.into(),
    }
}
