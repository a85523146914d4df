//! The arguments of `ddpm train`, `sample` and `export`.

use std::path::PathBuf;

use clap::ValueEnum;
use ddpm_train::config::SamplerKind;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ddpm train                                  # digits, some minutes on a CPU
  ddpm train --recipe fashion-mnist --data DIR
  ddpm train --out runs/digits --resume       # go on where it was cut off
  ddpm recipe digits > mine.toml              # change it, then
  ddpm train --config mine.toml
  ddpm train --recipe cifar10 --data DIR --init-from DIFFUSERS-DIR

A run's folder holds config.toml, metrics.jsonl (a line a step), loss.svg,
samples/ (a picture every few steps) and checkpoints/. The same seed gives the
same run.")]
pub(crate) struct Train {
    /// A compiled-in recipe; `ddpm recipe NAME` shows it [default: digits].
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(crate) recipe: Option<String>,
    /// A configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder (or file) of the data, for recipes that need one.
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
    /// Steps between checkpoints.
    #[arg(long, value_name = "N")]
    pub(crate) checkpoint_every: Option<u64>,
    /// Go on from the newest checkpoint in the run's folder.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Begin with the network in this folder of diffusers, in place of the
    /// recipe's; its scheduler must be of the recipe's objective.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) init_from: Option<PathBuf>,
    /// flex, ndarray, cuda or vulkan.
    #[arg(long, value_name = "NAME", default_value = "flex")]
    pub(crate) backend: String,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ddpm sample --from runs/digits
  ddpm sample --from runs/digits --sampler ddim --steps 50 --film
  ddpm sample --from runs/digits --class 3 --guidance 2 --num 16
  ddpm sample --from DIFFUSERS-DIR --sampler ddim --steps 50

Of a folder of diffusers (config.json, or unet/config.json) the U-Net is taken
with its scheduler: the noise levels, what is predicted, the spacing of steps.

Sample k depends on the seed and k alone, not on how many are drawn with it.")]
pub(crate) struct Sample {
    /// A run's folder, one of its checkpoints, or a folder of diffusers.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// Number of samples.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) num: usize,
    /// The sampler [default: the run's].
    #[arg(long)]
    pub(crate) sampler: Option<SamplerKind>,
    /// Steps of the reverse process [default: the run's].
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u32>,
    /// How much noise DDIM adds, from 0 (none) to 1 (as much as DDPM).
    #[arg(long, value_name = "X")]
    pub(crate) eta: Option<f64>,
    /// One class for all samples [default: all classes in turn].
    #[arg(long, value_name = "K")]
    pub(crate) class: Option<usize>,
    /// Weight of classifier-free guidance; 1 is none.
    #[arg(long, value_name = "W", default_value_t = 1.0)]
    pub(crate) guidance: f64,
    /// Seed of the noise.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Start from the tensor `noise` of this safetensors file.
    #[arg(long, value_name = "FILE")]
    pub(crate) init_noise: Option<PathBuf>,
    /// Where the pictures go.
    #[arg(long, value_name = "DIR", default_value = "samples")]
    pub(crate) out: PathBuf,
    /// Also write film.gif, the reverse process of the first samples.
    #[arg(long)]
    pub(crate) film: bool,
    /// Also write samples.safetensors, the values before any rounding.
    #[arg(long)]
    pub(crate) raw: bool,
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
