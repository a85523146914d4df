//! `[process]`, checked.

use ddpm_interop::diffusers::scheduler::MOST_TIMESTEPS;
use ddpm_schedule::{NoiseSchedule, Process};

use crate::config::{self, ProcessKind};

/// The process a `[process]` table describes, with the published defaults for what it leaves out:
/// β from 1e-4 to 0.02, the cosine's s = 0.008, the sigmoid's (−3, 3, 1), σ = 1/√T; β(t) from 0.1 to
/// 20, σ from 0.002 to 80, shift 1.
///
/// # Errors
///
/// If a number is missing, out of its range or of another kind's; the message names it.
pub fn process(config: &config::Process) -> Result<Process, String> {
    check_use(config)?;
    let process = match config.kind {
        ProcessKind::VpLinear => {
            let (min, max) = (config.beta_min, config.beta_max);
            Process::vp_linear(min.unwrap_or(0.1), max.unwrap_or(20.0))
        }
        ProcessKind::VpCosine => Process::vp_cosine(0.008),
        ProcessKind::Edm => {
            let (min, max) = (config.sigma_min, config.sigma_max);
            Process::edm(min.unwrap_or(0.002), max.unwrap_or(80.0))
        }
        ProcessKind::Flow => Process::flow(config.shift.unwrap_or(1.0)),
        _ => return schedule(config).map(Process::from),
    };
    process.map_err(|e| e.to_string())
}

/// The noise schedule of a kind with timesteps.
///
/// # Errors
///
/// As of [`process`], and of any other kind.
pub fn schedule(config: &config::Process) -> Result<NoiseSchedule, String> {
    check_use(config)?;
    let continuous = || "a kind in continuous time has no timesteps".to_owned();
    if !config.kind.has_timesteps() {
        return Err(continuous());
    }
    let steps = config
        .timesteps
        .ok_or_else(|| "timesteps is missing, the number T of steps".to_owned())?;
    if steps > MOST_TIMESTEPS {
        return Err(format!("{steps} timesteps are more than {MOST_TIMESTEPS}"));
    }
    let (start, end) = beta_ends(config);
    let schedule = match config.kind {
        ProcessKind::Linear => NoiseSchedule::linear(steps, start, end),
        ProcessKind::ScaledLinear => NoiseSchedule::scaled_linear(steps, start, end),
        ProcessKind::Cosine => NoiseSchedule::cosine(steps, 0.008),
        ProcessKind::Sigmoid => NoiseSchedule::sigmoid(steps, -3.0, 3.0, 1.0),
        ProcessKind::RandomWalk => {
            let sigma = config.sigma.unwrap_or(1.0 / f64::from(steps.max(1)).sqrt());
            NoiseSchedule::random_walk(steps, sigma)
        }
        ProcessKind::VpLinear | ProcessKind::VpCosine | ProcessKind::Edm | ProcessKind::Flow => {
            return Err(continuous());
        }
    };
    let schedule = if config.zero_terminal_snr {
        schedule.and_then(|s| s.rescale_zero_terminal_snr())
    } else {
        schedule
    };
    schedule.map_err(|e| e.to_string())
}

/// β₁ and β_T of the kinds that have them, Ho et al.'s by default.
pub fn beta_ends(config: &config::Process) -> (f64, f64) {
    (
        config.beta_start.unwrap_or(1e-4),
        config.beta_end.unwrap_or(0.02),
    )
}

/// Refuses a number of another kind.
fn check_use(config: &config::Process) -> Result<(), String> {
    use ProcessKind::{Edm, Flow, Linear, RandomWalk, ScaledLinear, VpLinear};
    let kind = config.kind;
    let of_betas = matches!(kind, Linear | ScaledLinear);
    let timesteps = config.timesteps.map(f64::from);
    let zero_snr = config.zero_terminal_snr.then_some(1.0);
    for (key, given, used) in [
        ("timesteps", timesteps, kind.has_timesteps()),
        ("zero_terminal_snr", zero_snr, kind.has_timesteps()),
        ("beta_start", config.beta_start, of_betas),
        ("beta_end", config.beta_end, of_betas),
        ("sigma", config.sigma, kind == RandomWalk),
        ("beta_min", config.beta_min, kind == VpLinear),
        ("beta_max", config.beta_max, kind == VpLinear),
        ("sigma_min", config.sigma_min, kind == Edm),
        ("sigma_max", config.sigma_max, kind == Edm),
        ("shift", config.shift, kind == Flow),
    ] {
        match given {
            Some(_) if !used && key == "zero_terminal_snr" => {
                return Err("zero_terminal_snr means nothing to this kind".to_owned());
            }
            Some(value) if !used => {
                return Err(format!("{key} = {value} means nothing to this kind"));
            }
            _ => {}
        }
    }
    Ok(())
}
