//! Sampling from a finished or running training, or from weights of diffusers: checkpoint in,
//! pictures out, batch by batch.

mod claim;
mod film;
mod noise;
mod options;
mod pictures;
mod record;
mod trained;

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use ddpm_kernels::allocator::return_memory;
use ddpm_kernels::keep_packed_weights;
use ddpm_model::Network;

use crate::drawing::{Batch, Drawing, Given, Request, batches};
use crate::interrupt::{Interrupted, Stop};
use crate::memory;
use crate::network::AnyNetwork;
use crate::picture::Samples;
use crate::progress::Tally;
use crate::rows::{self, Dtype};
use crate::shard::{Part, Parts, Set, Shard};
use crate::terminal::say;

pub use claim::Existing;
use claim::{Claim, Purpose};
use film::{Film, SHOWN};
use noise::InitNoise;
pub use options::SampleOptions;
use pictures::Folder;
use record::SAMPLES;
use trained::Trained;

/// Draws samples and writes each batch as it is done: `images/NNNN.png`, `grid.png` with the first
/// 256 of them, and what else was asked for. Returns how many samples are there.
///
/// # Errors
///
/// If the folder, the checkpoint or the noise cannot be used, a number is out of its range, the device
/// has nothing of the precision, a sample is not finite, or a file cannot be written; and
/// [`Interrupted`] if it was stopped. The batches that were done stay, and [`Existing::Resume`] goes on
/// with them.
pub fn sample(options: &SampleOptions, device: &Device, stop: &Stop) -> Result<usize> {
    ensure!(options.num >= 1, "--num 0 asks for nothing");
    ensure!(options.batch_size >= 1, "--batch-size 0 draws nothing");
    ensure!(
        options.guidance.is_finite(),
        "--guidance {} is not a number",
        options.guidance
    );
    let purpose = options.shard.map_or(Purpose::Samples, Purpose::Shard);
    let claim = Claim::new(&options.out, options.existing, purpose)?;
    let _precision = options.precision.guard(device)?;
    let trained = Trained::load(options, device)?;
    return_memory();
    match &trained.network {
        AnyNetwork::UNet(network) => {
            draw::<4, _>(options, &trained, &**network, claim, device, stop)
        }
        AnyNetwork::Mlp(network) => {
            draw::<2, _>(options, &trained, &**network, claim, device, stop)
        }
    }
}

fn draw<const D: usize, N: Network<D>>(
    options: &SampleOptions,
    trained: &Trained,
    network: &N,
    claim: Claim,
    device: &Device,
    stop: &Stop,
) -> Result<usize> {
    let shape = &trained.shape;
    let plan = trained.plan(options)?;
    ensure!(
        !options.film || plan.adaptive().is_none(),
        "--film: how many steps {} takes is not known",
        plan.sampler.name()
    );
    let classes = trained.classes(options)?;
    memory::check_forward(&trained.model, shape, options.batch_size, 0.0, device)?;
    let rows = (options.shard).map_or(0..options.num, |shard| {
        shard.rows(options.num, options.batch_size)
    });
    if options.existing != Existing::Resume {
        check_disk(options, shape, rows.len())?;
    }
    let noise = options.init_noise.as_ref();
    let mut noise = noise
        .map(|path| InitNoise::open(path, options.num, shape, plan.draws()))
        .transpose()?;
    if let (Some(seed), Some(path), Some(noise)) = (options.seed, &options.init_noise, &noise)
        && (plan.draws() == 0 || noise.is_of_steps())
    {
        bail!(
            "--seed {seed}: all the noise of these steps is that of --init-noise {}; leave --seed out",
            path.display()
        );
    }
    let hash = noise.as_mut().map(InitNoise::sha256).transpose()?;
    let set = record::set(options, &plan, classes, hash, shape, network)?;
    let target = match options.shard {
        Some(shard) => Target::shard(claim, shard, &set)?,
        None => Target::Folder(Folder::begin(claim, set, options.raw, options.film)?),
    };
    let drawing = Drawing {
        network,
        objective: &trained.objective,
        plan: &plan,
        request: Request {
            seed: options.seed.unwrap_or_default(),
            classes,
            null_class: trained.null_class,
            guidance: options.guidance,
            shape,
            batch: options.batch_size,
        },
        device,
    };
    let (name, steps) = (plan.sampler.name(), plan.levels.len());
    if let Some(evaluations) = plan.evaluations() {
        say(format_args!(
            "{name}, {steps} steps, {evaluations} network evaluations a sample"
        ));
    } else {
        ensure!(
            !options.film,
            "--film: how many steps {name} takes is not known"
        );
        say(format_args!(
            "{name}, as many steps as their error asks for"
        ));
    }
    let _packed = keep_packed_weights();
    let count = rows.len();
    Work::new(target, rows, options.batch_size, stop).run(|work, rows| {
        let given = match &mut noise {
            Some(noise) => noise.rows(rows.clone())?,
            None => Given::default(),
        };
        work.draw(drawing.batch::<D>(rows.clone(), given), rows)
    })?;
    Ok(count)
}

/// Puts together what the shards of a set of samples have left in the folder `out`, and writes there what
/// [`sample`] would have written. Returns how many samples there are.
///
/// # Errors
///
/// If the shards are not all there, whole and of one set, `existing` does not fit what else is
/// there, or a file cannot be written; and [`Interrupted`] if it was stopped.
pub fn merge(out: &Path, existing: Existing, raw: bool, stop: &Stop) -> Result<usize> {
    let shown = out.display();
    ensure!(out.is_dir(), "--merge: {shown} is not a folder");
    let claim = Claim::new(out, existing, Purpose::Merged)?;
    let mut parts = Parts::open(out)?;
    let set = parts.set.clone();
    ensure!(
        set.provenance
            .get("what")
            .is_some_and(|what| what == SAMPLES)
            && set.dtype == Dtype::F32,
        "{shown} holds shards of something else than samples"
    );
    ensure!(
        matches!(set.shape[..], [2] | [_, _, _]),
        "{shown} holds samples of shape {:?}, which are no points and no images",
        set.shape
    );
    ensure!(set.count >= 1, "{shown} holds shards without samples");
    let (count, batch) = (set.count, set.batch);
    let folder = Folder::begin(claim, set.clone(), raw, false)?;
    Work::new(Target::Folder(folder), 0..count, batch, stop).run(|_, rows| {
        Ok(Samples {
            shape: set.shape.clone(),
            values: rows::floats(&parts.read(rows.clone())?),
        })
    })?;
    Ok(count)
}

/// Where batches go.
enum Target {
    Folder(Folder),
    Shard {
        part: Part,
        /// The folder is this process's until the shard is finished.
        _claim: Claim,
    },
}

impl Target {
    fn shard(claim: Claim, shard: Shard, set: &Set) -> Result<Self> {
        if claim.existing == Existing::Overwrite {
            Part::remove(&claim.out, shard)?;
        }
        Ok(Self::Shard {
            part: Part::open(&claim.out, shard, set)?,
            _claim: claim,
        })
    }

    fn has(&self, rows: &Range<usize>) -> bool {
        match self {
            Self::Folder(folder) => folder.has(rows),
            Self::Shard { part, .. } => part.has(rows),
        }
    }

    fn film(&self, rows: &Range<usize>, steps: usize) -> Option<Film> {
        match self {
            Self::Folder(folder) => folder.film(rows, steps),
            Self::Shard { .. } => None,
        }
    }

    fn write(&mut self, first: usize, samples: &Samples) -> Result<()> {
        match self {
            Self::Folder(folder) => folder.write(first, samples),
            Self::Shard { part, .. } => part.write(first, &rows::bytes(&samples.values)),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Folder(folder) => folder.finish(),
            Self::Shard { part, .. } => part.finish(),
        }
    }
}

/// Batches on their way to where they are kept.
struct Work<'a> {
    target: Target,
    rows: Range<usize>,
    batch: usize,
    /// Samples that are kept.
    done: usize,
    tally: Tally,
    stop: &'a Stop,
}

impl<'a> Work<'a> {
    fn new(target: Target, rows: Range<usize>, batch: usize, stop: &'a Stop) -> Self {
        let kept = batches(rows.clone(), batch).filter(|rows| target.has(rows));
        let done = kept.map(|rows| rows.len()).sum();
        let total = rows.len();
        if done > 0 {
            say(format_args!("{done} of {total} samples are there already"));
        }
        Self {
            target,
            rows,
            batch,
            done,
            tally: Tally::new("samples", done, total),
            stop,
        }
    }

    /// Makes every batch that is missing, and keeps it.
    fn run(
        mut self,
        mut make: impl FnMut(&mut Self, &Range<usize>) -> Result<Samples>,
    ) -> Result<()> {
        for rows in batches(self.rows.clone(), self.batch) {
            if self.target.has(&rows) {
                continue;
            }
            self.go_on()?;
            let samples = make(&mut self, &rows)?;
            let kept = self.target.write(rows.start, &samples);
            kept.with_context(|| self.so_far())?;
            self.done += rows.len();
            self.tally.at(self.done as f64, "");
        }
        let so_far = self.so_far();
        self.target.finish().context(so_far)
    }

    /// What a failure leaves.
    fn so_far(&self) -> String {
        let (done, total) = (self.done, self.rows.len());
        format!("{done} of {total} samples are done, and --resume goes on with them")
    }

    /// # Errors
    ///
    /// [`Interrupted`] if it was asked to stop.
    fn go_on(&self) -> Result<()> {
        let Some(signal) = self.stop.asked() else {
            return Ok(());
        };
        let done = format!("{} of {} samples", self.done, self.rows.len());
        Err(Interrupted { signal, done }.into())
    }

    /// Takes a batch through all of its steps.
    fn draw<const D: usize>(
        &mut self,
        mut batch: Batch<D>,
        rows: &Range<usize>,
    ) -> Result<Samples> {
        let steps = batch.steps();
        let mut film = steps.and_then(|steps| self.target.film(rows, steps));
        let of = steps.map_or_else(String::new, |steps| format!("/{steps}"));
        self.go_on()?;
        while batch.step()? {
            let step = batch.steps_done();
            if let Some(film) = film.as_mut().filter(|film| film.shows(step)) {
                film.push(&batch.rows(SHOWN).grid(), step)?;
            }
            let done = self.done as f64 + batch.share_done() * rows.len() as f64;
            self.tally.at(done, &format!(", step {step}{of}"));
            self.go_on()?;
        }
        if steps.is_none() {
            let evaluations = batch.evaluations();
            say(format_args!("{evaluations} network evaluations a sample"));
        }
        let samples = batch.finish()?;
        if let Some(film) = film {
            film.finish()?;
        }
        Ok(samples)
    }
}

/// Bytes of a number.
const FLOAT: f64 = 4.0;

/// Whether the file system of the folder has room for so many samples: an image takes about a quarter
/// of its pixels' bytes, in whole blocks.
fn check_disk(options: &SampleOptions, shape: &[usize], count: usize) -> Result<()> {
    let out = &options.out;
    let disk = fs4::statvfs(out).with_context(|| out.display().to_string())?;
    let block = disk.allocation_granularity().max(1) as f64;
    let numbers: f64 = shape.iter().map(|&n| n as f64).product();
    let image = match shape {
        [_, height, width] if options.shard.is_none() => {
            (0.75 * *height as f64 * *width as f64 / block).ceil() * block
        }
        _ => 0.0,
    };
    let kept = options.raw || options.shard.is_some() || shape.len() < 3;
    let values = if kept { FLOAT * numbers } else { 0.0 };
    let needed = count as f64 * (image + values);
    let available = disk.available_space() as f64;
    ensure!(
        needed <= available,
        "--num {}: {count} samples take about {}, and the file system of {} has {} free",
        options.num,
        memory::shown(needed),
        out.display(),
        memory::shown(available)
    );
    Ok(())
}
