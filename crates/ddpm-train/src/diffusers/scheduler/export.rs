//! A run's schedule and sampler as the file of a `DDPMScheduler`.

use ddpm_schedule::{Parametrization, Sampler};
use serde_json::{Value, json};

use crate::config::{Schedule, ScheduleKind};
use crate::plan::{self, NetworkPlan, Plan};

/// The release whose keys these are.
const VERSION: &str = "0.42.1";

/// The `scheduler_config.json` by which diffusers samples what a plan trains: the same levels, by
/// name or as `trained_betas`, the same target, clipping and times. The variance is the plan's
/// sampler's; of one without noise it is β̃.
///
/// # Errors
///
/// If the process does not preserve variance, which a DDPMScheduler's does.
pub fn ddpm_config(plan: &Plan) -> Result<Value, String> {
    let schedule = &plan.config.schedule;
    let (name, betas) = match schedule.kind {
        ScheduleKind::Linear => ("linear", None),
        ScheduleKind::ScaledLinear => ("scaled_linear", None),
        ScheduleKind::Cosine => ("squaredcos_cap_v2", None),
        // diffusers' schedule of this name is another. It rescales these β as we do ours.
        ScheduleKind::Sigmoid => ("linear", Some(betas(schedule)?)),
        ScheduleKind::RandomWalk => {
            let reason =
                "kind = \"random-walk\" does not preserve variance, as a DDPMScheduler does";
            return Err(reason.to_owned());
        }
    };
    let (start, end) = plan::beta_ends(schedule);
    Ok(json!({
        "_class_name": "DDPMScheduler",
        "_diffusers_version": VERSION,
        "num_train_timesteps": schedule.timesteps,
        "beta_schedule": name,
        "beta_start": start,
        "beta_end": end,
        "trained_betas": betas,
        "rescale_betas_zero_snr": schedule.zero_terminal_snr,
        "prediction_type": prediction_type(plan.objective.parametrization()),
        "variance_type": match plan.sampling.sampler {
            // It tells the peer that the network has a second output, whatever the sampler.
            _ if plan.config.objective.learned_variance => "learned_range",
            Sampler::AncestralBeta => "fixed_large",
            _ => "fixed_small",
        },
        // Images are clipped, points are not.
        "clip_sample": matches!(plan.network, NetworkPlan::UNet(_)),
        "clip_sample_range": 1.0,
        "thresholding": false,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "timestep_spacing": "trailing",
        "steps_offset": 0,
    }))
}

/// β of the schedule before it is rescaled.
fn betas(schedule: &Schedule) -> Result<Vec<f64>, String> {
    let plain = Schedule {
        zero_terminal_snr: false,
        ..schedule.clone()
    };
    let plain = plan::schedule(&plain)?;
    Ok(plain.iter().map(|t| plain.beta(t)).collect())
}

/// diffusers' name of what a network predicts.
pub(super) fn prediction_type(parametrization: Parametrization) -> &'static str {
    match parametrization {
        Parametrization::Epsilon => "epsilon",
        Parametrization::X0 => "sample",
        Parametrization::V => "v_prediction",
    }
}
