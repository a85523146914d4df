//! Sampling from a finished or running training, or from weights of diffusers: checkpoint in,
//! pictures out.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::tensor::Device;
use ddpm_kernels::allocator::return_memory;
use ddpm_process::Clip;
use ddpm_schedule::{Eta, Objective, Sampler, Spacing};
use safetensors::tensor::Dtype;

use crate::checkpoint::{self, load_module, module_bytes, read_tensor, tensor_bytes, write_file};
use crate::config::{Config, PrecisionKind, SamplerKind};
use crate::data::classes;
use crate::diffusers::{self, scheduler::Scheduler};
use crate::network::{AnyNetwork, Network, build};
use crate::picture::{Samples, write_film};
use crate::plan::{Plan, SamplingPlan, check_variance, sampler};
use crate::sample::{Request, sample};
use crate::shard::{self, Rows, Shard};

/// What `ddpm sample` is asked for; `None` takes what the run was configured with.
#[derive(Clone, Debug)]
pub struct Order {
    /// The run, one of its checkpoints, or a folder of diffusers.
    pub from: PathBuf,
    /// Number of samples.
    pub num: usize,
    /// Which of them to draw, for a file that [`merge`] takes.
    pub shard: Option<Shard>,
    /// The sampler.
    pub sampler: Option<SamplerKind>,
    /// Steps of the reverse process.
    pub steps: Option<u32>,
    /// η of DDIM.
    pub eta: Option<f64>,
    /// One class for all samples, by name or number; by default they go round.
    pub class: Option<String>,
    /// Guidance weight.
    pub guidance: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// A safetensors file whose tensor `noise` is started from.
    pub init_noise: Option<PathBuf>,
    /// What the network computes in.
    pub precision: PrecisionKind,
    /// Where the pictures go.
    pub out: PathBuf,
    /// Whether to write `film.gif`.
    pub film: bool,
    /// Whether to write `samples.safetensors`.
    pub raw: bool,
}

/// A network to sample from, and what it was trained with.
struct Trained {
    network: AnyNetwork,
    objective: Objective,
    learned_variance: bool,
    shape: Vec<usize>,
    /// How to sample where an order does not say.
    sampler: Sampler,
    steps: u32,
    clip: Option<Clip>,
    /// A file that spaces the steps in its own way.
    scheduler: Option<Scheduler>,
    classes: Option<usize>,
    /// Their names, where they are known.
    class_names: Vec<String>,
    null_class: Option<usize>,
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
        null_class: pretrained.config.null_class(),
    })
}

/// Draws samples and writes them: `grid.png`, `NNNN.png` each, and what else was asked for.
///
/// # Errors
///
/// If the checkpoint or the noise cannot be used, a number is out of its range, the device has
/// nothing of the precision, or a file cannot be written.
pub fn generate(order: &Order, device: &Device) -> Result<()> {
    ensure!(order.num >= 1, "--num 0 asks for nothing");
    ensure!(
        order.guidance.is_finite(),
        "--guidance {} is not a number",
        order.guidance
    );
    let _precision = order.precision.guard(device)?;
    let trained = if diffusers::is_folder(&order.from) {
        pretrained(&order.from, device)?
    } else {
        run(&order.from, device)?
    };
    return_memory();
    match &trained.network {
        AnyNetwork::UNet(network) => draw::<4, _>(order, &trained, &**network, device),
        AnyNetwork::Mlp(network) => draw::<2, _>(order, &trained, &**network, device),
    }
}

/// The sampler asked for, on the times asked for.
fn plan(order: &Order, trained: &Trained) -> Result<SamplingPlan> {
    let sampler = match (order.sampler, order.eta) {
        (Some(SamplerKind::Ddim), eta) => Sampler::Ddim {
            eta: Eta::new(eta.unwrap_or(0.0))?,
        },
        (Some(kind), None) => sampler(kind, 0.0).map_err(anyhow::Error::msg)?,
        (None, Some(eta)) if matches!(trained.sampler, Sampler::Ddim { .. }) => Sampler::Ddim {
            eta: Eta::new(eta)?,
        },
        (None, None) => trained.sampler,
        (_, Some(eta)) => bail!("--eta {eta}: only the sampler ddim has an η"),
    };
    check_variance(sampler, trained.learned_variance)
        .map_err(|reason| anyhow::anyhow!("--sampler: {reason}"))?;
    let steps = order.steps.unwrap_or(trained.steps);
    let trajectory = match &trained.scheduler {
        Some(scheduler) => scheduler.trajectory(steps)?,
        None => Spacing::Trailing.trajectory(trained.objective.schedule(), steps)?,
    };
    Ok(SamplingPlan {
        sampler,
        trajectory,
        clip: trained.clip,
    })
}

fn draw<const D: usize, N: Network<D>>(
    order: &Order,
    trained: &Trained,
    network: &N,
    device: &Device,
) -> Result<()> {
    let sampling = plan(order, trained)?;
    let class = class(order, trained)?;
    let turn = |n| (0..order.num).map(move |k| class.unwrap_or(k % n));
    let classes: Option<Vec<_>> = trained.classes.map(|n| turn(n).collect());
    let init_noise = match &order.init_noise {
        Some(path) => Some(read_noise(path, order.num, &trained.shape)?),
        None => None,
    };
    let request = Request {
        rows: order
            .shard
            .map_or(0..order.num, |shard| shard.rows(order.num)),
        seed: order.seed,
        classes: classes.as_deref(),
        null_class: trained.null_class,
        guidance: order.guidance,
        shape: &trained.shape,
        init_noise: init_noise.as_deref(),
    };
    let mut frames = Vec::new();
    let samples = sample::<D, N>(
        network,
        &trained.objective,
        &sampling,
        &request,
        device,
        |_, state| {
            if order.film {
                frames.push(state.grid());
            }
        },
    );
    if let Some(shard) = order.shard {
        let about = about(order, class, &sampling, init_noise.as_deref(), network)?;
        let bytes = samples.values.iter().flat_map(|v| v.to_le_bytes());
        let rows = Rows {
            dtype: Dtype::F32,
            bytes: bytes.collect(),
            shape: samples.shape,
        };
        shard::write(&order.out, shard, order.num, about, &rows)?;
        return Ok(());
    }
    write(&order.out, order.raw, &samples)?;
    if order.film {
        let path = order.out.join("film.gif");
        write_film(&path, frames).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Puts together what the shards of an order have left in the folder `out`, and writes there what
/// [`generate`] would have written. Returns how many samples there are.
///
/// # Errors
///
/// If the shards are not all there, whole and of one order, or a file cannot be written.
pub fn merge(out: &Path, raw: bool) -> Result<usize> {
    let (order, rows) = shard::merge(out)?;
    let shown = out.display();
    ensure!(
        order.get("what").is_some_and(|what| what == SAMPLES) && rows.dtype == Dtype::F32,
        "{shown} holds shards of something else than samples"
    );
    let words = rows.bytes.as_chunks::<4>().0.iter();
    let samples = Samples {
        values: words.map(|word| f32::from_le_bytes(*word)).collect(),
        shape: rows.shape,
    };
    ensure!(
        matches!(samples.shape[..], [_] | [1 | 3, _, _]),
        "{shown} holds samples of shape {:?}, which are no points and no images",
        samples.shape
    );
    write(out, raw, &samples)?;
    Ok(samples.count())
}

/// What a shard of samples says that it is.
const SAMPLES: &str = "samples";

/// What the samples depend on besides their numbers.
fn about<N: Module>(
    order: &Order,
    class: Option<usize>,
    sampling: &SamplingPlan,
    init_noise: Option<&[f32]>,
    network: &N,
) -> Result<shard::Order> {
    let noise = init_noise.map(|noise| {
        let bytes: Vec<u8> = noise.iter().flat_map(|v| v.to_le_bytes()).collect();
        shard::hash(&bytes)
    });
    let class = class.map_or("all".to_owned(), |class| class.to_string());
    let network = module_bytes(network).map_err(anyhow::Error::msg)?;
    let trajectory = format!("{:?}", sampling.trajectory);
    Ok(shard::order([
        ("what", SAMPLES.to_owned()),
        ("network", shard::hash(&network)),
        ("seed", order.seed.to_string()),
        ("sampler", format!("{:?}", sampling.sampler)),
        ("trajectory", shard::hash(trajectory.as_bytes())),
        ("clip", format!("{:?}", sampling.clip)),
        ("class", class),
        ("guidance", order.guidance.to_string()),
        ("init-noise", noise.unwrap_or("none".to_owned())),
        ("precision", format!("{:?}", order.precision)),
    ]))
}

/// The class asked for, if any.
fn class(order: &Order, trained: &Trained) -> Result<Option<usize>> {
    let Some(n) = trained.classes else {
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
        order.guidance == 1.0 || trained.null_class.is_some(),
        "--guidance: none of the network's classes is known to mean none"
    );
    let class = order.class.as_deref();
    let class = class.map(|given| classes::find(given, &trained.class_names, n));
    class
        .transpose()
        .map_err(|reason| anyhow::anyhow!("--class {reason}"))
}

fn read_noise(path: &Path, count: usize, shape: &[usize]) -> Result<Vec<f32>> {
    let (found, values) = read_tensor(path, "noise")?;
    let expected: Vec<usize> = std::iter::once(count)
        .chain(shape.iter().copied())
        .collect();
    ensure!(
        found == expected,
        "{}: noise has shape {found:?}, {expected:?} is needed",
        path.display()
    );
    Ok(values)
}

fn write(out: &Path, raw: bool, samples: &Samples) -> Result<()> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let path = out.join("grid.png");
    samples
        .grid()
        .save(&path)
        .with_context(|| path.display().to_string())?;
    for i in 0..samples.count() {
        let path = out.join(format!("{i:04}.png"));
        if let Some(image) = samples.image(i) {
            image
                .save(&path)
                .with_context(|| path.display().to_string())?;
        }
    }
    if raw {
        let mut shape = vec![samples.count()];
        shape.extend(&samples.shape);
        let tensor = ("samples", shape, samples.values.as_slice());
        let bytes = tensor_bytes(std::iter::once(tensor)).map_err(anyhow::Error::msg)?;
        write_file(&out.join("samples.safetensors"), &bytes)?;
    }
    Ok(())
}
