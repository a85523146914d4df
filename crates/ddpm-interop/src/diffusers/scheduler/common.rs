//! Keys that many classes have: the schedule, the prediction, the clip and the spacing.

use ddpm_process::{AfterClip, Clip, ClipError};
use ddpm_schedule::{
    Grid, NoiseSchedule, Objective, Parametrization, Process, ScheduleError, Weighting,
};
use serde_json::{Value, json};

use super::rule::Rule;
use super::scheduler::MOST_TIMESTEPS;
use super::scheduler::{Scheduler, Start};
use super::way::{End, Points, Told, Way, faint};
use crate::diffusers::error::DiffusersError;
use crate::diffusers::json::Keys;

/// The defaults of a class for the schedule, and the possible predictions.
#[derive(Clone, Copy)]
pub(super) struct Class {
    /// `beta_start` and `beta_end` by default.
    pub(super) betas: [f64; 2],
    /// `beta_schedule` by default.
    pub(super) schedule: &'static str,
    /// An additional schedule of this class.
    pub(super) also: Option<&'static str>,
    /// Whether `rescale_betas_zero_snr` is a key.
    pub(super) zero_snr: bool,
    /// `prediction_type`.
    pub(super) predictions: &'static [&'static str],
}

/// DDPM's β without a rescaling, and the three usual predictions.
pub(super) const PLAIN: Class = Class {
    betas: [1e-4, 0.02],
    schedule: "linear",
    also: None,
    zero_snr: false,
    predictions: &["epsilon", "sample", "v_prediction"],
};

/// A scheduler without special settings.
pub(super) fn scheduler(objective: Objective, rule: Rule, way: Way) -> Scheduler {
    Scheduler {
        objective,
        learned_variance: false,
        clip: None,
        epsilon: AfterClip::Derived,
        boundary: None,
        negated: false,
        note: None,
        rule,
        way,
        unit: 1.0,
        start: Start::One,
    }
}

/// The schedule and the network's prediction.
pub(super) fn objective(keys: &mut Keys, class: Class) -> Result<Objective, DiffusersError> {
    let schedule = schedule(keys, class)?;
    let name = prediction(keys, class.predictions)?;
    let parametrization = named(&name);
    checked(keys, &name, schedule, parametrization)
}

/// The objective, or an error of `prediction_type`.
pub(super) fn checked(
    keys: &Keys,
    name: &str,
    process: impl Into<Process>,
    parametrization: Parametrization,
) -> Result<Objective, DiffusersError> {
    Objective::new(process, parametrization, Weighting::Simple)
        .map_err(|error| keys.bad("prediction_type", &json!(name), &error.to_string()))
}

/// `prediction_type`, one of those supported.
pub(super) fn prediction(
    keys: &mut Keys,
    supported: &[&'static str],
) -> Result<String, DiffusersError> {
    let key = "prediction_type";
    // The key for this before diffusers 0.12.
    let epsilon: Option<bool> = keys.take("predict_epsilon", None)?;
    let default = if epsilon == Some(false) {
        "sample"
    } else {
        "epsilon"
    };
    let name = keys.take(key, default.to_owned())?;
    if let Some(epsilon) = epsilon
        && epsilon != (name == "epsilon")
    {
        let reason = format!("contradicts prediction_type = {name:?}");
        return Err(keys.bad("predict_epsilon", &json!(epsilon), &reason));
    }
    if !supported.contains(&name.as_str()) {
        let reason = format!("supported are {}", listed(supported));
        return Err(keys.bad(key, &json!(name), &reason));
    }
    Ok(name)
}

/// "a", "b" and "c".
fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The schedule of β, rescaled if the key is set.
pub(super) fn schedule(keys: &mut Keys, class: Class) -> Result<NoiseSchedule, DiffusersError> {
    let schedule = betas(keys, class)?;
    let key = "rescale_betas_zero_snr";
    if !class.zero_snr || !keys.take(key, false)? {
        return Ok(schedule);
    }
    let rescaled = schedule.rescale_zero_terminal_snr();
    rescaled.map_err(|error| keys.bad(key, &json!(true), &error.to_string()))
}

/// β by name, or as a list.
fn betas(keys: &mut Keys, class: Class) -> Result<NoiseSchedule, DiffusersError> {
    let timesteps: u32 = timesteps(keys, 1000)?;
    let start: f64 = keys.take("beta_start", class.betas[0])?;
    let end: f64 = keys.take("beta_end", class.betas[1])?;
    let name: String = keys.take("beta_schedule", class.schedule.to_owned())?;
    let trained: Option<Vec<f64>> = keys.take("trained_betas", None)?;
    if let Some(betas) = trained {
        if betas.len() != timesteps as usize {
            let value = json!(timesteps);
            let reason = format!("trained_betas has {} numbers", betas.len());
            return Err(keys.bad("num_train_timesteps", &value, &reason));
        }
        let schedule = NoiseSchedule::from_betas(betas);
        return schedule
            .map_err(|error| keys.bad("trained_betas", &json!("[…]"), &error.to_string()));
    }
    let schedule = match name.as_str() {
        "linear" => NoiseSchedule::linear(timesteps, start, end),
        "scaled_linear" => NoiseSchedule::scaled_linear(timesteps, start, end),
        "squaredcos_cap_v2" => NoiseSchedule::cosine(timesteps, 0.008),
        "sigmoid" if class.also == Some("sigmoid") => sigmoid_betas(timesteps, start, end),
        "exp" if class.also == Some("exp") => exp_betas(timesteps),
        _ => {
            let also = class
                .also
                .map_or(String::new(), |also| format!(", {also:?}"));
            let reason = format!(
                "supported are \"linear\", \"scaled_linear\", \"squaredcos_cap_v2\"{also} and \
                 trained_betas"
            );
            return Err(keys.bad("beta_schedule", &json!(name), &reason));
        }
    };
    schedule.map_err(|error| keys.bad("beta_schedule", &json!(name), &error.to_string()))
}

/// `num_train_timesteps`.
pub(super) fn timesteps(keys: &mut Keys, default: u32) -> Result<u32, DiffusersError> {
    let timesteps: u32 = keys.take("num_train_timesteps", default)?;
    if (1..=MOST_TIMESTEPS).contains(&timesteps) {
        return Ok(timesteps);
    }
    let reason = format!("supported are 1 to {MOST_TIMESTEPS}");
    Err(keys.bad("num_train_timesteps", &json!(timesteps), &reason))
}

/// β between the ends by the logistic function of −6 to 6 in equal steps. Unlike in
/// [`NoiseSchedule::sigmoid`], β has this shape, not ᾱ.
fn sigmoid_betas(timesteps: u32, start: f64, end: f64) -> Result<NoiseSchedule, ScheduleError> {
    let betas = (0..timesteps).map(|i| {
        let x = -6.0 + 12.0 * f64::from(i) / f64::from((timesteps - 1).max(1));
        start + (end - start) / (1.0 + (-x).exp())
    });
    NoiseSchedule::from_betas(betas)
}

/// ᾱ = e^(−12·t/T), with β at most 0.999.
fn exp_betas(timesteps: u32) -> Result<NoiseSchedule, ScheduleError> {
    let beta = -(-12.0 / f64::from(timesteps)).exp_m1();
    NoiseSchedule::from_betas((0..timesteps).map(|_| beta.min(0.999)))
}

/// Dynamic thresholding, which takes precedence in diffusers, or a fixed range. `fixed` is the
/// default of `clip_sample`, `None` for a class without this key.
pub(super) fn clip(
    keys: &mut Keys,
    thresholding: bool,
    fixed: Option<bool>,
) -> Result<Option<Clip>, DiffusersError> {
    let (mut dynamic, mut quantile, mut max) = (false, 0.995, 1.0);
    if thresholding {
        dynamic = keys.take("thresholding", false)?;
        quantile = keys.take("dynamic_thresholding_ratio", quantile)?;
        max = keys.take("sample_max_value", max)?;
    }
    let (clips, range) = match fixed {
        Some(default) => (
            keys.take("clip_sample", default)?,
            keys.take("clip_sample_range", 1.0)?,
        ),
        None => (false, 1.0),
    };
    let found = if dynamic {
        Clip::dynamic(quantile, max)
    } else if clips {
        Clip::to(range)
    } else {
        return Ok(None);
    };
    found.map(Some).map_err(|error| {
        let (key, value) = match error {
            ClipError::Quantile(quantile) => ("dynamic_thresholding_ratio", quantile),
            ClipError::Maximum(max) => ("sample_max_value", max),
            ClipError::Bound(bound) => ("clip_sample_range", bound),
        };
        keys.bad(key, &json!(value), &error.to_string())
    })
}

/// `timestep_spacing` and `steps_offset`.
pub(super) fn spacing(keys: &mut Keys, default: &'static str) -> Result<Grid, DiffusersError> {
    let offset = keys.take("steps_offset", 0)?;
    let name = keys.choice(
        "timestep_spacing",
        default,
        &[
            ("leading", "leading"),
            ("trailing", "trailing"),
            ("linspace", "linspace"),
        ],
    )?;
    // diffusers adds the offset to leading times only.
    Ok(match name {
        "leading" => Grid::Leading { offset },
        "trailing" => Grid::Trailing,
        _ => Grid::Linspace,
    })
}

/// Whole times, and clean data as the end.
pub(super) fn whole(grid: Grid) -> Way {
    let points = Points::Times {
        grid,
        fractional: false,
        one_more: false,
        start: None,
    };
    Way::new(points, End::Clean, Told::Fraction)
}

/// The grid of σ that one of `switches` selects, and its key.
pub(super) fn switched(
    keys: &mut Keys,
    switches: &[(&'static str, Grid)],
) -> Result<Option<(&'static str, Grid)>, DiffusersError> {
    let mut chosen: Option<(&str, Grid)> = None;
    for (key, grid) in switches {
        if !keys.take::<Option<bool>>(key, None)?.unwrap_or(false) {
            continue;
        }
        if let Some((other, _)) = chosen.replace((*key, grid.clone())) {
            let reason = format!("{other} is true already, and only one can be");
            return Err(keys.bad(key, &json!(true), &reason));
        }
    }
    Ok(chosen)
}

/// `use_karras_sigmas` and the like.
pub(super) const SWITCHES: [(&str, Grid); 3] = [
    ("use_karras_sigmas", Grid::Karras { rho: 7.0 }),
    ("use_exponential_sigmas", Grid::Exponential),
    (
        "use_beta_sigmas",
        Grid::BetaSigma {
            alpha: 0.6,
            beta: 0.6,
        },
    ),
];

/// `sigma_min` and `sigma_max`, which diffusers reads in every file with spaced σ. Their defaults
/// are the ends of the process.
pub(super) fn sigma_ends(keys: &mut Keys, process: &Process) -> Result<[f64; 2], DiffusersError> {
    let (noisiest, least) = process.ends();
    let min: Option<f64> = keys.take("sigma_min", None)?;
    let max: Option<f64> = keys.take("sigma_max", None)?;
    let noisiest = if noisiest.signal() > 0.0 {
        noisiest
    } else {
        faint()
    };
    let ends = [
        min.unwrap_or(least.sigma()),
        max.unwrap_or(noisiest.sigma()),
    ];
    check_sigmas(keys, ends)?;
    Ok(ends)
}

/// Whether 0 < σ_min < σ_max < ∞.
pub(super) fn check_sigmas(keys: &Keys, [min, max]: [f64; 2]) -> Result<(), DiffusersError> {
    let checked = Process::edm(min, max);
    checked.map(|_| ()).map_err(|error| {
        let (key, value) = if min > 0.0 && min.is_finite() {
            ("sigma_max", max)
        } else {
            ("sigma_min", min)
        };
        keys.bad(key, &json!(value), &error.to_string())
    })
}

/// `final_sigmas_type`: whether the last step leads to clean data.
pub(super) fn ends_clean(keys: &mut Keys) -> Result<bool, DiffusersError> {
    keys.choice(
        "final_sigmas_type",
        "zero",
        &[("zero", true), ("sigma_min", false)],
    )
}

/// Refuses keys with a value other than false or null.
pub(super) fn off(keys: &mut Keys, names: &[&str]) -> Result<(), DiffusersError> {
    for name in names {
        keys.only(name, &[json!(false), Value::Null])?;
    }
    Ok(())
}

/// [`objective`] with a schedule that has already been read.
pub(super) fn predicted(
    keys: &mut Keys,
    schedule: NoiseSchedule,
) -> Result<Objective, DiffusersError> {
    let name = prediction(keys, PLAIN.predictions)?;
    let parametrization = named(&name);
    checked(keys, &name, schedule, parametrization)
}

/// The parametrization of a usual `prediction_type`.
fn named(name: &str) -> Parametrization {
    match name {
        "epsilon" => Parametrization::Epsilon,
        "v_prediction" => Parametrization::V,
        _ => Parametrization::X0,
    }
}
