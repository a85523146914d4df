//! What `ddpm sample` is asked for.

use std::path::PathBuf;

use ddpm_process::AfterClip;
use ddpm_schedule::solver::Parameters;

use super::claim::Existing;
use crate::config::PrecisionKind;
use crate::shard::Shard;

/// What `ddpm sample` is asked for; `None` takes what the run was configured with.
#[derive(Clone, Debug)]
pub struct SampleOptions {
    /// The run, one of its checkpoints, or a folder of diffusers.
    pub from: PathBuf,
    /// The decay of the average to sample from, of a run that has several; the first if `None`.
    pub ema: Option<f64>,
    /// Number of samples.
    pub num: usize,
    /// Which of them to draw, for a file that [`merge`](super::merge) takes.
    pub shard: Option<Shard>,
    /// Samples the network sees at once.
    pub batch_size: usize,
    /// The sampler, as [`ddpm_schedule::solver::Method`] names it.
    pub sampler: Option<String>,
    /// The sampler's own parameters.
    pub parameters: Parameters,
    /// How steps are laid out, as [`ddpm_schedule::Grid`] is named.
    pub grid: Option<String>,
    /// ρ of the grid.
    pub rho: Option<f64>,
    /// Steps of the reverse process.
    pub steps: Option<u32>,
    /// The ε̂ that goes on once x̂₀ is clipped.
    pub epsilon: Option<AfterClip>,
    /// One class for all samples, by name or number; by default they go round.
    pub class: Option<String>,
    /// Guidance weight.
    pub guidance: f64,
    /// Seed of the noise; 0 if `None`.
    pub seed: Option<u64>,
    /// A safetensors file whose tensor `noise` is started from.
    pub init_noise: Option<PathBuf>,
    /// What the network computes in.
    pub precision: PrecisionKind,
    /// Where the pictures go.
    pub out: PathBuf,
    /// What is done with what is there.
    pub existing: Existing,
    /// Whether to write `film.gif`.
    pub film: bool,
    /// Whether to write `samples.safetensors`; that of points is always written.
    pub raw: bool,
}
