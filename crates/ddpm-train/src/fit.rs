//! The training loop, by steps.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_process::{Decoder, NoiseStream, hybrid_loss, training_loss};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Snapshot};
use crate::data::{self, Batch, Dataset, Loader};
use crate::diffusers::Pretrained;
use crate::ema::Ema;
use crate::network::{AnyNetwork, Network, build, class_tensor};
use crate::optim::{Optim, clip};
use crate::params::{self, Named};
use crate::plan::Plan;
use crate::plot::{self, Line, Scale};
use crate::progress::Progress;
use crate::sample::{Request, sample};
use crate::times::{Drawn, Times};

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

/// Trains as `plan` says in the folder `out`.
///
/// # Errors
///
/// If the data, the folder or the weights to begin with are not usable, or the loss stops being
/// finite.
pub fn train(plan: &Plan, out: &Path, start: &Start, device: &Device) -> Result<()> {
    let dataset = Arc::new(data::load(&plan.source)?);
    check_classes(plan, &dataset)?;
    let resume = matches!(start, Start::Resumed);
    let training = device.clone().autodiff();
    let learned = plan.config.objective.learned_variance;
    let network = match start {
        Start::From(pretrained) => {
            pretrained.check(dataset.shape())?;
            ensure!(
                pretrained.learned_variance() == learned,
                "{}: out_channels = {}, but objective.learned_variance = {learned}",
                pretrained.file.display(),
                pretrained.config.out_channels
            );
            AnyNetwork::UNet(Box::new(pretrained.build(&training)?))
        }
        _ => build(
            &plan.network,
            learned,
            dataset.shape(),
            plan.config.seed,
            &training,
        )?,
    };
    prepare_folder(plan, out, resume)?;
    match network {
        AnyNetwork::UNet(model) => Run::new(plan, out, dataset, *model, device, resume)?.fit::<4>(),
        AnyNetwork::Mlp(model) => Run::new(plan, out, dataset, *model, device, resume)?.fit::<2>(),
    }
}

fn check_classes(plan: &Plan, dataset: &Dataset) -> Result<()> {
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

/// A new run needs an unused folder; a resumed one keeps what it has.
fn prepare_folder(plan: &Plan, out: &Path, resume: bool) -> Result<()> {
    let used = out.join("config.toml").exists();
    ensure!(
        resume || !used,
        "{} holds a run already: go on with --resume, or choose another --out",
        out.display()
    );
    ensure!(used || !resume, "{} holds no run to resume", out.display());
    for folder in [out.to_owned(), out.join("samples"), out.join("checkpoints")] {
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let config = toml::to_string(&plan.config)?;
    checkpoint::write_file(&out.join("config.toml"), config.as_bytes())?;
    Ok(())
}

/// A run in progress.
struct Run<'a, M> {
    plan: &'a Plan,
    out: PathBuf,
    dataset: Arc<Dataset>,
    step: u64,
    model: M,
    ema: Ema,
    optim: Optim,
    times: Times,
    device: Device,
}

impl<'a, M: burn::module::Module> Run<'a, M> {
    fn new(
        plan: &'a Plan,
        out: &Path,
        dataset: Arc<Dataset>,
        model: M,
        device: &Device,
        resume: bool,
    ) -> Result<Self> {
        let decay = plan.config.ema.decay;
        let schedule = plan.objective.schedule();
        let mut run = Self {
            plan,
            out: out.to_owned(),
            dataset,
            step: 0,
            ema: Ema::new(&model, decay),
            model,
            optim: Optim::new(plan.adamw),
            times: Times::new(&plan.config.objective, schedule, plan.config.seed),
            device: device.clone(),
        };
        if resume {
            let path = checkpoint::newest(out)?;
            let snapshot = checkpoint::load(&path, run.model, run.optim, device)?;
            run.step = snapshot.step;
            run.model = snapshot.model;
            run.optim = snapshot.optim;
            run.ema = Ema::new(&snapshot.ema, decay);
            (run.times.restore(schedule, snapshot.losses))
                .with_context(|| path.join("losses.safetensors").display().to_string())?;
        }
        Ok(run)
    }

    fn fit<const D: usize>(mut self) -> Result<()>
    where
        M: Network<D>,
    {
        let config = &self.plan.config;
        let mut batches = Loader::new(
            self.dataset.clone(),
            config.batch_size,
            config.seed,
            config.data.flip,
            config.data.workers,
            self.step,
        )?;
        let mut metrics = open_metrics(&self.out.join("metrics.jsonl"), self.step)?;
        Progress::begin(
            &config.name,
            self.dataset.len(),
            self.dataset.shape(),
            self.model.num_params(),
            &self.out,
        );
        let progress = Progress::new(self.step, config.steps);
        let mut before = Instant::now();
        while self.step < config.steps {
            let batch = batches.next().context("the loader ended")?;
            let (run, loss, lr, grad_norm) = self.advance::<D>(&batch)?;
            self = run;
            let seconds = before.elapsed().as_secs_f64();
            before = Instant::now();
            let line = Metrics {
                step: self.step,
                loss,
                lr,
                grad_norm,
                images_per_second: config.batch_size as f64 / seconds,
            };
            serde_json::to_writer(&mut metrics, &line)?;
            writeln!(metrics)?;
            progress.step(&line);
            let last = self.step == config.steps;
            let due = |every: u64| every > 0 && (last || self.step.is_multiple_of(every));
            if due(config.sampling.every) {
                self.picture::<D>()?;
                metrics.flush()?;
                plot_loss(&self.out)?;
            }
            if due(config.checkpoint.every) {
                metrics.flush()?;
                self.save()?;
            }
        }
        metrics.flush()?;
        plot_loss(&self.out)?;
        progress.finish(&self.out);
        Ok(())
    }

    /// One step: loss, gradients, clipping, update, average. It takes the run, so that nobody
    /// else holds the weights and they are updated in place.
    fn advance<const D: usize>(mut self, batch: &Batch) -> Result<(Self, f64, f64, f64)>
    where
        M: Network<D>,
    {
        let config = &self.plan.config;
        let step = self.step + 1;
        let part = config.batch_size / config.accumulate;
        let mut gradients = Named::new();
        let mut loss = 0.0;
        let drawn = self.times.draw(&batch.samples);
        let mut losses = Vec::new();
        for rows in (0..config.accumulate).map(|i| i * part..(i + 1) * part) {
            let each = self.losses::<D>(batch, &drawn, rows.clone());
            if self.times.remembers() {
                losses.extend(each.clone().inner().into_data().iter::<f64>());
            }
            // Each part weighs 1/k, so the sum is the mean over the whole batch.
            let mean = (each * row_weights(&drawn.weight[rows], &self.device)).mean()
                / config.accumulate as f64;
            let found = params::gradients(&self.model, &mean.backward());
            params::add(&mut gradients, found);
            loss += mean.into_scalar::<f64>();
        }
        ensure!(
            loss.is_finite(),
            "the loss is {loss} at step {step}; the run stops here"
        );
        let norm = params::norm(&gradients);
        ensure!(
            norm.is_finite(),
            "the gradients' norm is {norm} at step {step}; the run stops here"
        );
        self.times.record(&drawn.t, &losses)?;
        let lr = self.plan.learning_rate.at(step, config.steps);
        let clip = clip(norm, config.optimizer.clip);
        self.model = (self.optim).step(self.model, &mut self.ema, gradients, clip, lr);
        self.step = step;
        Ok((self, loss, lr, norm))
    }

    /// The losses of some rows of the batch; everything random is keyed by the rows' positions.
    fn losses<const D: usize>(
        &self,
        batch: &Batch,
        drawn: &Drawn,
        rows: std::ops::Range<usize>,
    ) -> Tensor<1>
    where
        M: Network<D>,
    {
        let seed = self.plan.config.seed;
        let device = self.device.clone().autodiff();
        let samples = &batch.samples[rows.clone()];
        let mut shape = [samples.len(); D];
        shape[1..].copy_from_slice(self.dataset.shape());
        let row = self.dataset.row_len();
        let values = batch.rows[rows.start * row..rows.end * row].to_vec();
        let x0 = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
        let eps = NoiseStream::new(seed, "eps").normal(samples, 0, shape, &device);
        let t = &drawn.t[rows.clone()];
        let class = self.classes(batch, rows).map(|c| class_tensor(&c, &device));

        let dropout = NoiseStream::new(seed, "dropout");
        let mut layer = 0;
        let mut masks = |p: f64, shape: [usize; 4]| {
            layer += 1;
            let len = shape[1..].iter().product();
            let mut values = vec![0.0; samples.len() * len];
            for (&sample, out) in samples.iter().zip(values.chunks_exact_mut(len)) {
                dropout.row(sample, layer).fill_dropout(p, out);
            }
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        let network = |x_t, t| self.model.predict(x_t, t, class, Some(&mut masks));
        let objective = &self.plan.objective;
        if !self.plan.config.objective.learned_variance {
            return training_loss(network, objective, x0, eps, t);
        }
        let decoder = match self.dataset.max() {
            Some(max) => Decoder::Bins { max },
            None => Decoder::Density,
        };
        hybrid_loss(network, objective, decoder, x0, eps, t)
    }

    /// The rows' classes, some replaced by the null class.
    fn classes(&self, batch: &Batch, rows: std::ops::Range<usize>) -> Option<Vec<usize>> {
        self.plan.classes()?;
        let null = self.plan.null_class();
        let p = self.plan.config.objective.class_dropout;
        let stream = NoiseStream::new(self.plan.config.seed, "class-dropout");
        let labels = batch.labels.as_ref()?;
        let keep = |i: usize| stream.row(batch.samples[i], 0).uniform() >= p;
        let class = |i: usize| match null {
            Some(null) if !keep(i) => null,
            _ => labels[i],
        };
        Some(rows.map(class).collect())
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
            count,
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

    fn save(&self) -> Result<()> {
        let snapshot = Snapshot {
            step: self.step,
            shape: self.dataset.shape().to_vec(),
            model: self.model.clone(),
            ema: self.ema.module(&self.model),
            optim: self.optim.clone(),
            losses: (self.times.losses(self.plan.objective.schedule()))
                .map(<[f64]>::to_vec)
                .collect(),
        };
        let config = toml::to_string(&self.plan.config)?;
        checkpoint::save(&self.out.join("checkpoints"), &snapshot, &config)?;
        Ok(())
    }
}

/// The rows' weights as a tensor of shape `[B]`.
#[allow(clippy::cast_possible_truncation)]
fn row_weights(weights: &[f64], device: &Device) -> Tensor<1> {
    let weights: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
    Tensor::from_data(weights.as_slice(), &device.clone().autodiff())
}

/// Opens the metrics for appending, without the lines of steps that will be done again.
fn open_metrics(path: &Path, step: u64) -> Result<BufWriter<fs::File>> {
    let step = usize::try_from(step)?;
    if path.exists() {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let kept: String = text.split_inclusive('\n').take(step).collect();
        checkpoint::write_file(path, kept.as_bytes())?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    Ok(BufWriter::new(
        file.with_context(|| path.display().to_string())?,
    ))
}

/// Draws `loss.svg` from a run's metrics: the loss over the steps, thinned to readable density.
fn plot_loss(out: &Path) -> Result<()> {
    let path = out.join("metrics.jsonl");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let points = text
        .lines()
        .map(|line| serde_json::from_str(line).map(|m: Metrics| (m.step as f64, m.loss)))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| path.display().to_string())?;
    let line = Line {
        name: "loss",
        color: "steelblue",
        points: plot::thin(&points, 300),
    };
    let picture = plot::svg("step", &[line], Scale::Log);
    checkpoint::write_file(&out.join("loss.svg"), picture.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests;
