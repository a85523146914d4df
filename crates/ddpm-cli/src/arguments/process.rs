//! The arguments that name a noise schedule or show the samplers.

use anyhow::{Context, Result};
use ddpm_cli::config::{Process, ProcessKind};
use ddpm_cli::plan;
use ddpm_schedule::NoiseSchedule;

/// `ddpm samplers`
#[derive(clap::Args, Clone, Copy)]
#[command(after_help = "\
Examples:
  ddpm samplers
  ddpm samplers --json

The names of other libraries are understood wherever a sampler is named.")]
pub(crate) struct SamplersArgs {
    /// As a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A noise schedule.
#[derive(clap::Args)]
pub(crate) struct ScheduleChoice {
    /// The family.
    #[arg(long, default_value = "linear")]
    kind: ProcessKind,
    /// T of the kinds with timesteps [default: 1000].
    #[arg(long, value_name = "T")]
    timesteps: Option<u32>,
    /// β₁ of linear and scaled-linear [default: 1e-4].
    #[arg(long, value_name = "X")]
    beta_start: Option<f64>,
    /// β_T of linear and scaled-linear [default: 0.02].
    #[arg(long, value_name = "X")]
    beta_end: Option<f64>,
    /// Standard deviation of a step of random-walk [default: 1/√T].
    #[arg(long, value_name = "X")]
    sigma: Option<f64>,
    /// Rescale the schedule to end at zero SNR (Lin et al. 2023).
    #[arg(long)]
    zero_terminal_snr: bool,
}

impl ScheduleChoice {
    /// The schedule asked for.
    pub(crate) fn schedule(&self) -> Result<NoiseSchedule> {
        let timesteps = self.timesteps.unwrap_or(1000);
        let schedule = plan::schedule(&Process {
            kind: self.kind,
            timesteps: self.kind.has_timesteps().then_some(timesteps),
            beta_start: self.beta_start,
            beta_end: self.beta_end,
            sigma: self.sigma,
            zero_terminal_snr: self.zero_terminal_snr,
            beta_min: None,
            beta_max: None,
            sigma_min: None,
            sigma_max: None,
            shift: None,
        });
        schedule.map_err(anyhow::Error::msg).context("schedule")
    }
}
