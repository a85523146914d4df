//! Consistency models: LCM, TCD and the first ones of Song et al. 2023.

use ddpm_process::Clip;
use ddpm_schedule::solver::Consistency;
use ddpm_schedule::{Grid, NoiseLevel, NoiseSchedule, Parametrization, Process};
use serde_json::{Value, json};

use super::clock::Boundary;
use super::common::{
    Class, PLAIN, check_sigmas, checked, clip, objective, scheduler, timesteps, whole,
};
use super::rule::Rule;
use super::scheduler::{Scheduler, Start};
use super::way::{End, Points, Told, Way};
use crate::diffusers::error::DiffusersError;
use crate::diffusers::json::Keys;

/// The schedule of both classes of distilled models.
const DISTILLED: Class = Class {
    betas: [0.00085, 0.012],
    schedule: "scaled_linear",
    zero_snr: true,
    ..PLAIN
};

/// The default γ of TCD.
const GAMMA: f64 = 0.3;

pub(super) fn lcm(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let (found, scaling) = distilled(keys)?;
    Ok(Scheduler {
        boundary: Some(Boundary::Time { scaling }),
        ..found
    })
}

/// The same keys as LCM, but without the boundary condition and the clip, and ending at t = 1.
pub(super) fn tcd(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let (found, _) = distilled(keys)?;
    let process = found.objective.process().clone();
    let way = Way {
        end: End::Level(process.ends().1),
        ..found.way
    };
    let gamma = GAMMA;
    Ok(Scheduler {
        clip: None,
        rule: Rule::Tcd { process, gamma },
        way,
        ..found
    })
}

/// The keys of both, and `timestep_scaling`.
fn distilled(keys: &mut Keys) -> Result<(Scheduler, f64), DiffusersError> {
    let objective = objective(keys, DISTILLED)?;
    let original: u32 = keys.take("original_inference_steps", 50)?;
    let most = objective.schedule().map_or(0, NoiseSchedule::timesteps);
    if !(1..=most).contains(&original) {
        let reason = format!("supported are 1 to num_train_timesteps, {most}");
        return Err(keys.bad("original_inference_steps", &json!(original), &reason));
    }
    // The times are those of the distillation, whatever the values of these keys.
    for key in ["timestep_spacing", "steps_offset", "set_alpha_to_one"] {
        keys.take::<Value>(key, Value::Null)?;
    }
    let scaling = keys.take("timestep_scaling", 10.0)?;
    let rule = Rule::Consistency(Consistency {
        floor: NoiseLevel::CLEAN,
    });
    let found = Scheduler {
        clip: clip(keys, true, Some(false))?,
        ..scheduler(objective, rule, whole(Grid::Lcm { original }))
    };
    Ok((found, scaling))
}

pub(super) fn cm(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let timesteps = timesteps(keys, 40)?;
    let ends = [
        keys.take("sigma_min", 0.002)?,
        keys.take("sigma_max", 80.0)?,
    ];
    let data = keys.take("sigma_data", 0.5)?;
    let rho: f64 = keys.take("rho", 7.0)?;
    check_sigmas(keys, ends)?;
    if !(rho > 0.0 && rho.is_finite()) {
        return Err(keys.bad("rho", &json!(rho), "must be in (0, ∞)"));
    }
    keys.only("s_noise", &[json!(1.0), json!(1)])?;
    let edm = Parametrization::Edm { sigma_data: data };
    let process = Process::edm(ends[0], ends[1])
        .map_err(|error| keys.bad("sigma_max", &json!(ends[1]), &error.to_string()))?;
    let floor = process.ends().1;
    let objective = checked(keys, "epsilon", process, edm)?;
    let points = Points::Skipped {
        timesteps,
        rho,
        ends,
    };
    let way = Way::new(points, End::Level(floor), Told::Fraction);
    Ok(Scheduler {
        clip: keys.take("clip_denoised", true)?.then_some(Clip::UNIT),
        boundary: Some(Boundary::Sigma {
            floor: ends[0],
            data,
        }),
        // 1000·¼·ln σ.
        unit: 1000.0,
        start: Start::Noise,
        ..scheduler(objective, Rule::Consistency(Consistency { floor }), way)
    })
}
