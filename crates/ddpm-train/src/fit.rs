//! The training loop, by steps.

mod diverged;
mod folder;
mod output;
mod record;
mod saver;
mod step;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, CheckpointError, Encoded, Snapshot};
use crate::data::{self, Dataset, Loader};
use crate::diffusers::Pretrained;
use crate::ema::Ema;
use crate::interrupt::{Interrupted, Signal, Stop};
use crate::memory;
use crate::network::{AnyNetwork, Network, build};
use crate::optim::Optim;
use crate::params;
use crate::plan::Plan;
use crate::ranks::Ranks;
use crate::sample::{Request, sample};
use crate::terminal;
use crate::times::Times;

use diverged::LeftTheNumbers;
use folder::Claim;
use output::Output;
pub use saver::Saved;

/// A line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Metrics {
    /// Steps done.
    pub step: u64,
    /// Mean weighted loss of the batch.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Joint norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Rows a second, since the step before.
    pub images_per_second: f64,
    /// What the checkpoint cost whose writing ended since the step before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Saved>,
}

/// What a run begins with.
pub enum Start<'a> {
    /// Weights drawn from the seed.
    New,
    /// The weights of a network trained elsewhere; the plan's network must be that one.
    From(&'a Pretrained),
    /// The newest checkpoint in its folder.
    Resumed,
}

/// The data to train a plan on, for one of so many processes, on `device`.
///
/// # Errors
///
/// If the data is not usable or not the plan's, or the machine has less memory than training takes.
pub fn load(plan: &Plan, processes: usize, device: &Device) -> Result<Arc<Dataset>> {
    if let Some(shape) = plan.source.shape() {
        memory::check(plan, &shape, processes, device)?;
    }
    let dataset = data::load(&plan.source)?;
    memory::check(plan, dataset.shape(), processes, device)?;
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
/// If the folder or the weights to begin with are not usable, the ranks do not have the same of these
/// and of the data, the loss stops being finite, or the last files could not be written; and
/// [`Interrupted`] if the run was stopped. A rank with an error that is not [common](is_common) must
/// [end](Ranks::abort) the others.
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
    ranks.wait();
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
    let Start::From(pretrained) = start else {
        let seed = plan.config.seed;
        return Ok(build(&plan.network, learned, shape, seed, &training)?);
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
        let schedule = plan.objective.schedule();
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
            times: Times::new(&plan.config.objective, schedule, plan.config.seed),
            device: device.clone(),
        })
    }

    /// The run in its folder, which from here on holds a run.
    fn begin(mut self, start: &Start) -> Result<Self> {
        match start {
            // Where these weights came from, a resumed run would not know.
            Start::From(_) if self.ranks.leads() => {
                self.copy()?.write(&self.out.join("checkpoints"))?;
                self.saved = Some(0);
            }
            Start::New | Start::From(_) => {}
            Start::Resumed => self = self.resume()?,
        }
        self.agree()?;
        if self.ranks.leads() {
            let path = self.out.join("config.toml");
            checkpoint::write_file(&path, self.config.as_bytes())?;
            if !self.dataset.class_names().is_empty() {
                let names = self.dataset.class_names().join("\n") + "\n";
                checkpoint::write_file(&self.out.join("classes.txt"), names.as_bytes())?;
            }
            // What an earlier life came to is no longer so.
            let _ = std::fs::remove_file(self.out.join("diverged.json"));
        }
        Ok(self)
    }

    /// That all ranks begin with the same.
    fn agree(&self) -> Result<()> {
        self.ranks.agree("configuration", &self.config)?;
        self.ranks.agree("data set", &self.data)?;
        let (step, updates) = (self.step as f64, self.optim.updates as f64);
        let norms = [
            params::norm(&params::values(&self.model)),
            params::norm(&self.ema.values),
            params::norm(&self.optim.exp_avg),
            params::norm(&self.optim.exp_avg_sq),
        ];
        self.ranks.agree_on("step", &[step, updates])?;
        Ok(self.ranks.agree_on("checkpoint", &norms)?)
    }

    /// The run as its newest whole checkpoint has it, or as it is if there never was one.
    fn resume(mut self) -> Result<Self> {
        let (found, skipped) = checkpoint::newest_whole(&self.out)?;
        let say = |text: String| {
            if self.ranks.leads() {
                terminal::say(text);
            }
        };
        for error in &skipped {
            say(format!("skipped: {error}"));
        }
        let Some(path) = found else {
            say("no checkpoint was made yet: from the beginning".to_owned());
            return Ok(self);
        };
        let snapshot = checkpoint::load(&path, self.model, self.optim, &self.device)?;
        ensure!(
            snapshot.data == self.data,
            "the data is not what {} was trained on: resumed, it would be another run",
            path.display()
        );
        self.step = snapshot.step;
        self.saved = Some(snapshot.step);
        self.model = snapshot.model;
        self.optim = snapshot.optim;
        self.ema = Ema::new(&snapshot.ema, self.plan.config.ema.decay);
        let schedule = self.plan.objective.schedule();
        (self.times.restore(schedule, snapshot.losses))
            .with_context(|| path.join("losses.safetensors").display().to_string())?;
        Ok(self)
    }

    fn fit<const D: usize>(mut self, stop: &Stop) -> Result<()>
    where
        M: Network<D>,
    {
        let steps = self.plan.config.steps;
        let mut batches = self.batches()?;
        let mut output = (self.ranks.leads().then(|| Output::open(&self))).transpose()?;
        // A rank that would begin while another does not, would wait for it for ever.
        self.hear(0.0, stop);
        while self.step < steps && self.asked.is_none() {
            let batch = batches.next().context("the loader ended")?;
            // Of an error nobody hears before the checkpoint being written is finished, for a rank
            // that ends may end the others.
            let (run, line) = self.advance::<D>(&batch, stop)?;
            self = run;
            if let Some(output) = &mut output {
                output.step::<D, M>(&self, line);
            }
        }
        let step = self.step;
        let interrupted =
            (self.asked.filter(|_| step < steps)).map(|signal| Interrupted { signal, step });
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

    /// A grid from the averaged weights, with the same noise every time.
    fn picture<const D: usize>(&self) -> Result<()>
    where
        M: Network<D>,
    {
        let count = self.plan.config.sampling.count;
        let null_class = self.plan.null_class();
        let classes = self
            .plan
            .classes()
            .map(|n| (0..count).map(|k| k % n).collect::<Vec<_>>());
        let request = Request {
            rows: 0..count,
            seed: self.plan.config.seed,
            classes: classes.as_deref(),
            null_class,
            guidance: 1.0,
            shape: self.dataset.shape(),
            init_noise: None,
        };
        let (network, objective) = (self.ema.module(&self.model), &self.plan.objective);
        let sampling = &self.plan.sampling;
        let samples = sample::<D, M>(
            &network,
            objective,
            sampling,
            &request,
            &self.device,
            |_, _| (),
        );
        let path = self.out.join(format!("samples/step-{:08}.png", self.step));
        samples
            .grid()
            .save(&path)
            .with_context(|| path.display().to_string())
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
            losses: (self.times.losses(self.plan.objective.schedule()))
                .map(<[f64]>::to_vec)
                .collect(),
        };
        Encoded::new(&snapshot, &self.config)
    }
}

#[cfg(test)]
mod tests;
