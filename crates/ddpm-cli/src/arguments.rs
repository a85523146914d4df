//! The arguments of `ddpm train`, `check`, `sample`, `eval nll` and `export`.

pub(crate) mod process;

use std::path::PathBuf;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgGroup, ValueEnum};
use ddpm_cli::config::{ClippedEpsilon, PrecisionKind};
use ddpm_cli::drawing::BATCH;
use ddpm_cli::shard::Shard;
use ddpm_schedule::Grid;
use ddpm_schedule::solver::{Info, Method};

/// A name that is checked when it is read, and completed by a shell; the names of other libraries
/// are understood too.
#[derive(Clone)]
struct Name {
    check: fn(&str) -> Result<(), String>,
    known: fn() -> Vec<&'static str>,
}

const SAMPLERS: Name = Name {
    check: |name| {
        let method = name.parse::<Method>();
        method.map(|_| ()).map_err(|e| e.to_string())
    },
    known: || Info::all().iter().map(|info| info.name).collect(),
};

const GRIDS: Name = Name {
    check: |name| {
        let grid = name.parse::<Grid>();
        grid.map(|_| ()).map_err(|e| e.to_string())
    },
    known: || Grid::ALL.map(|grid| grid.name()).to_vec(),
};

impl TypedValueParser for Name {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        let name = value.to_string_lossy().into_owned();
        let Err(reason) = (self.check)(&name) else {
            return Ok(name);
        };
        let argument = argument.map_or_else(String::new, |argument| format!("{argument}: "));
        let message = format!("{argument}{reason}\n");
        Err(clap::Error::raw(ErrorKind::InvalidValue, message).with_cmd(command))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.known)().into_iter().map(PossibleValue::new)))
    }
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ddpm train                                  # digits, some minutes on a CPU
  ddpm train --recipe images --data DIR       # a folder of pictures
  ddpm train --recipe fashion-mnist --data DIR
  ddpm train --resume                         # go on where it was cut off
  ddpm recipe digits > mine.toml              # change it, then
  ddpm train --config mine.toml
  ddpm train --recipe cifar10 --data DIR --init-from DIFFUSERS-DIR
  ddpm train --config other.toml --out runs/other --init-from runs/digits
  ddpm train --backend cuda --devices 0,1

A run's folder holds config.toml, metrics.jsonl (a line a step), loss.svg,
samples/ (a picture every few steps) and checkpoints/. The same seed gives the
same run, whole or resumed. Ctrl-C saves the run and ends it.

A resumed run has by default the configuration in its folder. Its steps, the
path and workers of its data, its pictures and its checkpoints may change; what
else would be another run is refused. --init-from begins another run.")]
pub(crate) struct Train {
    /// A compiled-in recipe; `ddpm recipe NAME` shows it [default: digits].
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(crate) recipe: Option<String>,
    /// A configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder (or file) of the data, for recipes that read one.
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// The run's folder [default: runs/ and the recipe's name].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Optimizer steps of the whole run.
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u64>,
    /// Rows a step.
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,
    /// Everything random follows from it.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// bf16 trains faster where the processor has AVX512-BF16 [default: the
    /// configuration's, f32 if it names none].
    #[arg(long)]
    pub(crate) precision: Option<PrecisionKind>,
    /// Steps between checkpoints.
    #[arg(long, value_name = "N")]
    pub(crate) checkpoint_every: Option<u64>,
    /// Go on from the newest checkpoint in the run's folder: --out, or the one that
    /// the command would make without --resume.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Begin a new run with the averaged weights of this run (its folder, or one of
    /// its checkpoints), which also has the configuration if none is named; or
    /// with the network in this folder of diffusers, in place of the recipe's, whose
    /// scheduler must be of the recipe's objective.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) init_from: Option<PathBuf>,
    /// flex, ndarray, cuda or vulkan.
    #[arg(long, value_name = "NAME", default_value = "flex")]
    pub(crate) backend: String,
    /// Train on these devices of the backend together, each with its share of
    /// every batch [default: the first].
    #[arg(long, value_name = "I,…", value_delimiter = ',')]
    pub(crate) devices: Vec<usize>,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ddpm check runs/digits
  ddpm check runs/digits --hash

Exit code 1 says that a checkpoint is damaged, or with --hash that none is
whole.")]
pub(crate) struct Check {
    /// The run's folder.
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Print only the SHA-256 of the training state of the newest whole
    /// checkpoint: weights, average, optimizer, step. Equal states have equal
    /// ones.
    #[arg(long)]
    pub(crate) hash: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ddpm sample --from runs/digits
  ddpm sample --from runs/digits --sampler ddim --steps 50 --film --overwrite
  ddpm sample --from runs/digits --class 3 --guidance 2 --num 16 --out threes
  ddpm sample --from DIFFUSERS-DIR --sampler ddim --steps 50
  ddpm sample --from runs/digits --num 50000 --out many
  ddpm sample --from runs/digits --num 50000 --out many --resume
  ddpm sample --from runs/digits --num 50000 --shard 2/4 --out shards
  ddpm sample --merge --out shards            # once all four are there

The folder holds images/ (the samples and nothing else), grid.png (the first
256), samples.json (what they depend on), and film.gif and samples.safetensors
where asked for. Each batch is written as it is done; Ctrl-C ends between two
steps, and --resume draws what is missing.

Of a folder of diffusers (config.json, or unet/config.json) the U-Net is taken
with its scheduler: the noise levels, what is predicted, the spacing of steps.

Sample k depends on the seed and k alone, not on how many are drawn with it.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Sample {
    /// A run's folder, one of its checkpoints, or a folder of diffusers.
    #[arg(long, value_name = "DIR", required_unless_present = "merge")]
    pub(crate) from: Option<PathBuf>,
    /// The decay of the average to sample from, of a run that keeps several
    /// [default: the first of its configuration].
    #[arg(long, value_name = "DECAY")]
    pub(crate) ema: Option<f64>,
    /// Number of samples.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) num: usize,
    /// Samples the network sees at once; a last, shorter batch is filled up, and
    /// what fills it is thrown away. More are faster on a GPU and take more
    /// memory. Sample k has the same bytes however many are drawn, as long as
    /// this number is the same; for another it is equal up to rounding.
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    pub(crate) batch_size: usize,
    /// Draw only the i-th of n shares of them, into a file for --merge.
    #[arg(long, value_name = "i/n", conflicts_with_all = ["film", "raw"])]
    pub(crate) shard: Option<Shard>,
    /// Draw nothing: put together the shards in the folder --out.
    #[arg(long, conflicts_with_all = [
        "from", "ema", "num", "batch_size", "shard", "sampler", "grid", "steps", "eta",
        "churn", "order", "rho", "tolerance", "clipped_epsilon", "class", "guidance",
        "seed", "init_noise", "film", "backend", "precision",
    ])]
    pub(crate) merge: bool,
    /// The sampler; `ddpm samplers` shows them all [default: the run's].
    #[arg(long, value_name = "NAME", hide_possible_values = true, value_parser = SAMPLERS)]
    pub(crate) sampler: Option<String>,
    /// How the steps are laid out between noise and data [default: the run's].
    #[arg(long, value_name = "NAME", hide_possible_values = true, value_parser = GRIDS)]
    pub(crate) grid: Option<String>,
    /// Steps of the reverse process [default: the run's].
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u32>,
    /// How much noise the sampler adds, from 0 (none) to 1 (as much as DDPM).
    #[arg(long, value_name = "X")]
    pub(crate) eta: Option<f64>,
    /// How much noise the sampler adds before a step to take it away again.
    #[arg(long, value_name = "X")]
    pub(crate) churn: Option<f64>,
    /// The sampler's order.
    #[arg(long, value_name = "N")]
    pub(crate) order: Option<u32>,
    /// ρ of the grids karras and polyexponential.
    #[arg(long, value_name = "X")]
    pub(crate) rho: Option<f64>,
    /// The error of a step, of a sampler that chooses its steps.
    #[arg(long, value_name = "X")]
    pub(crate) tolerance: Option<f64>,
    /// The ε̂ that goes on once x̂₀ is clipped to the range of images: what the
    /// clipped x̂₀ leaves of x_t, or the network's own [default: the run's].
    #[arg(long, value_name = "WHICH")]
    pub(crate) clipped_epsilon: Option<ClippedEpsilon>,
    /// One class for all samples, by its name or its number from 0 on; the run
    /// shows both when it begins [default: all classes in turn].
    #[arg(long, value_name = "NAME")]
    pub(crate) class: Option<String>,
    /// Weight of classifier-free guidance; 1 is none.
    #[arg(long, value_name = "W", default_value_t = 1.0)]
    pub(crate) guidance: f64,
    /// Seed of the noise [default: 0].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Start from the tensor `noise` of this safetensors file.
    #[arg(long, value_name = "FILE")]
    pub(crate) init_noise: Option<PathBuf>,
    /// bf16 is faster where the processor has AVX512-BF16, whatever the run was
    /// trained in.
    #[arg(long, default_value = "f32")]
    pub(crate) precision: PrecisionKind,
    /// Where the pictures go: an empty folder, or one that is made.
    #[arg(long, value_name = "DIR", default_value = "samples")]
    pub(crate) out: PathBuf,
    /// Go on with what the same command left in --out.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Remove what an earlier `ddpm sample` left in --out, and nothing else.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) overwrite: bool,
    /// Also write film.gif, the reverse process of the first samples in at most
    /// 100 frames.
    #[arg(long)]
    pub(crate) film: bool,
    /// Also write samples.safetensors, the values before any rounding; that of
    /// points is always written.
    #[arg(long)]
    pub(crate) raw: bool,
    /// flex, ndarray, cuda or vulkan.
    #[arg(long, value_name = "NAME", default_value = "flex")]
    pub(crate) backend: String,
}

#[derive(clap::Args)]
#[command(group = ArgGroup::new("parts").args(["shard", "merge"]), after_help = "\
Examples:
  ddpm eval nll --from runs/digits
  ddpm eval nll --from runs/digits --times 20 --flow 50 --json nll.json
  ddpm eval nll --from runs/cifar10 --data cifar/test_batch.bin

With --flow, the density along the probability-flow ODE stands beside the
bound: Heun's method, the trace by one random probe an image.")]
pub(crate) struct Nll {
    /// A run's folder, or one of its checkpoints.
    #[arg(long, value_name = "DIR", required_unless_present = "merge")]
    pub(crate) from: Option<PathBuf>,
    /// Other data, of the kind that the run was trained on [default: that
    /// itself].
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Images, drawn from the data by --seed; more of them are these and others.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) num: usize,
    /// Times drawn for each image [default: all].
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) times: Option<u32>,
    /// Also the probability flow, in so many steps.
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) flow: Option<u32>,
    /// Seed of images, noise, times and probes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Measure only the i-th of n shares of the images, into a file for --merge
    /// in the folder --out.
    #[arg(long, value_name = "i/n", requires = "out", conflicts_with = "json")]
    pub(crate) shard: Option<Shard>,
    /// Measure nothing: put together the shards in the folder --out.
    #[arg(long, requires = "out", conflicts_with_all = [
        "from", "data", "num", "times", "flow", "seed", "shard", "backend",
    ])]
    pub(crate) merge: bool,
    /// The folder of shards.
    #[arg(long, value_name = "DIR", requires = "parts")]
    pub(crate) out: Option<PathBuf>,
    /// Also write everything, each t's term too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// flex, ndarray, cuda or vulkan.
    #[arg(long, value_name = "NAME", default_value = "flex")]
    pub(crate) backend: String,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ddpm export --from runs/digits --to digits-diffusers --format diffusers

In Python: DDPMPipeline.from_pretrained(\"digits-diffusers\").")]
pub(crate) struct Export {
    /// A run's folder, or one of its checkpoints.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// The library.
    #[arg(long)]
    pub(crate) format: Library,
    /// The weights being trained in place of their averages.
    #[arg(long)]
    pub(crate) raw_weights: bool,
    /// flex, ndarray, cuda or vulkan.
    #[arg(long, value_name = "NAME", default_value = "flex")]
    pub(crate) backend: String,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Library {
    Diffusers,
}
