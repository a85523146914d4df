//! `scheduler_config.json`: the levels, the parametrization and the way of sampling, in this
//! project's terms, and back.
//!
//! An absent key is diffusers' default. A key of another class of diffusers is ignored, with a note:
//! diffusers keeps the keys of the scheduler that one was made from. Any other unknown key is an
//! error. Where diffusers computes something other than the mathematics of its own settings, the
//! settings are followed; docs/peers.md lists these places.

mod difference;
mod export;
mod others;

use std::path::Path;

use ddpm_process::{Clip, ClipError};
use ddpm_schedule::{
    Eta, NoiseLevel, NoiseSchedule, Objective, Parametrization, Sampler, ScheduleError, Spacing,
    Trajectory, TrajectoryError, Visit, Weighting,
};
use serde_json::{Value, json};

use super::DiffusersError;
use super::json::Keys;
use crate::plan::MOST_TIMESTEPS;
use others::OF_OTHERS;

pub(super) use difference::difference;
pub use export::ddpm_config;

/// From how many steps on diffusers ends in a second order step where it could take one of first.
const LOWER_ORDER_BELOW: u32 = 15;

/// What a `scheduler_config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    /// The levels and what the network predicts; the weighting, of which the file says nothing,
    /// is the simple one.
    pub objective: Objective,
    /// The rule of a step. Of DDIM it is η = 0, for η is no part of the file.
    pub sampler: Sampler,
    /// Whether the network has a second output for each number of a row, of its variance
    /// ([`ddpm_schedule::LearnedVariance`]). A sampler without noise leaves it out.
    pub learned_variance: bool,
    /// The range x̂₀ is kept in.
    pub clip: Option<Clip>,
    /// Which keys were ignored and why, in one sentence that names the file.
    pub note: Option<String>,
    times: Times,
}

/// How `n` steps are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    spacing: Spacing,
    /// Added to every time of [`Spacing::Leading`].
    offset: u32,
    /// Whether the spacing is of n+1 times, the least of which is not visited.
    one_more: bool,
    /// Whether the last step leads to t = 1, and not to clean data.
    to_first: bool,
    /// Whether the last of a few steps to t = 1 is of first order.
    lower_order_final: bool,
}

/// Why so many steps cannot be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StepsError {
    /// They are no trajectory.
    #[error(transparent)]
    Trajectory(#[from] TrajectoryError),
    /// The file asks for a last step of another order.
    #[error(
        "lower_order_final = true with final_sigmas_type = \"sigma_min\" is supported from \
         {LOWER_ORDER_BELOW} steps on, where it changes nothing, not for {0}"
    )]
    LowerOrderFinal(u32),
}

impl Scheduler {
    /// Reads a file's text; `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// If it is no JSON object, its `_class_name` is none of `DDPMScheduler`, `DDIMScheduler` and
    /// `DPMSolverMultistepScheduler`, a key is one of no class, or a value is wrong or not supported.
    pub fn parse(text: &str, file: &str) -> Result<Self, DiffusersError> {
        Self::of(Keys::parse(text.as_bytes(), Path::new(file))?)
    }

    pub(super) fn of(mut keys: Keys) -> Result<Self, DiffusersError> {
        let class = keys.take("_class_name", String::new())?;
        for key in ["_diffusers_version", "_name_or_path", "_use_default_values"] {
            keys.take::<Value>(key, Value::Null)?;
        }
        let mut scheduler = match class.as_str() {
            "DDPMScheduler" => ddpm(&mut keys),
            "DDIMScheduler" => ddim(&mut keys),
            "DPMSolverMultistepScheduler" => dpm_solver(&mut keys),
            other => {
                let reason = "supported are DDPMScheduler, DDIMScheduler and \
                              DPMSolverMultistepScheduler";
                return Err(keys.bad("_class_name", &json!(other), reason));
            }
        }?;
        scheduler.note = keys.ignore(&OF_OTHERS, &format!("keys that a {class} does not have"));
        keys.finish()?;
        Ok(scheduler)
    }

    /// `n` steps as the file spaces them.
    ///
    /// # Errors
    ///
    /// If the spacing has no such trajectory: fewer times than steps, or an offset beyond T.
    pub fn trajectory(&self, n: u32) -> Result<Trajectory, StepsError> {
        let (times, schedule) = (self.times, self.objective.schedule());
        let of_levels = matches!(times.spacing, Spacing::Karras | Spacing::LogSnr);
        // Levels end at t = 1 themselves: a step from there to there is none, of any order.
        if times.lower_order_final && !of_levels && n < LOWER_ORDER_BELOW {
            return Err(StepsError::LowerOrderFinal(n));
        }
        let count = n.saturating_add(u32::from(times.one_more));
        let spaced = times.spacing.trajectory(schedule, count)?;
        let visits = &spaced.visits()[..spaced.len() - usize::from(times.one_more)];
        let trajectory = if times.offset == 0 {
            Trajectory::new(visits.iter().copied(), NoiseLevel::CLEAN)
        } else {
            let moved = |at: &Visit| at.t.get().saturating_add(times.offset);
            Trajectory::from_timesteps(schedule, visits.iter().map(moved))
        }?;
        Ok(if times.to_first {
            trajectory.ending_at(schedule.level(schedule.first()))?
        } else {
            trajectory
        })
    }
}

fn ddpm(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let objective = objective(keys, true)?;
    // The log forms are other ways to write the same variances.
    let (sampler, learned_variance) = keys.choice(
        "variance_type",
        "fixed_small",
        &[
            ("fixed_small", (Sampler::ANCESTRAL, false)),
            ("fixed_small_log", (Sampler::ANCESTRAL, false)),
            ("fixed_large", (Sampler::AncestralBeta, false)),
            ("fixed_large_log", (Sampler::AncestralBeta, false)),
            ("learned_range", (Sampler::AncestralLearned, true)),
        ],
    )?;
    Ok(Scheduler {
        objective,
        sampler,
        learned_variance,
        clip: clip(keys, true)?,
        note: None,
        times: Times::of_times(keys, "leading")?,
    })
}

fn ddim(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let times = Times::of_times(keys, "leading")?;
    Ok(Scheduler {
        objective: objective(keys, false)?,
        sampler: Sampler::Ddim { eta: Eta::ZERO },
        learned_variance: false,
        clip: clip(keys, true)?,
        note: None,
        times: Times {
            to_first: !keys.take("set_alpha_to_one", true)?,
            ..times
        },
    })
}

fn dpm_solver(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let objective = objective(keys, false)?;
    // diffusers reads the name of another solver as its own.
    keys.only("algorithm_type", &["dpmsolver++", "deis"].map(Value::from))?;
    let order: u32 = keys.take("solver_order", 2)?;
    let sampler = match order {
        1 => Sampler::Ddim { eta: Eta::ZERO },
        2 => {
            let midpoint = ["midpoint", "logrho", "bh1", "bh2"].map(Value::from);
            keys.only("solver_type", &midpoint)?;
            Sampler::DpmPp2M
        }
        _ => return Err(keys.bad("solver_order", &json!(order), "supported are 1 and 2")),
    };
    if order == 1 {
        keys.take::<Value>("solver_type", Value::Null)?;
    }
    for key in ["use_beta_sigmas", "use_flow_sigmas", "use_dynamic_shifting"] {
        keys.only(key, &[json!(false), Value::Null])?;
    }
    // Of the last two alone.
    for key in ["flow_shift", "time_shift_type"] {
        keys.take::<Value>(key, Value::Null)?;
    }
    // Python writes −∞ as −Infinity.
    keys.only("lambda_min_clipped", &[json!("-Infinity"), Value::Null])?;
    // A solver adds no noise: it asks only whether there is a second output. Those that are fixed
    // come from a DDPMScheduler.
    let learned_variance = keys.choice(
        "variance_type",
        None,
        &[
            (None, false),
            (Some("fixed_small"), false),
            (Some("fixed_small_log"), false),
            (Some("fixed_large"), false),
            (Some("fixed_large_log"), false),
            (Some("learned"), true),
            (Some("learned_range"), true),
        ],
    )?;
    Ok(Scheduler {
        objective,
        sampler,
        learned_variance,
        clip: clip(keys, false)?,
        note: None,
        times: Times::of_solver(keys, order)?,
    })
}

impl Times {
    /// `timestep_spacing` and `steps_offset`, ending at clean data.
    fn of_times(keys: &mut Keys, default: &'static str) -> Result<Self, DiffusersError> {
        let offset = keys.take("steps_offset", 0)?;
        let spacing = keys.choice(
            "timestep_spacing",
            default,
            &[
                ("leading", Spacing::Leading),
                ("trailing", Spacing::Trailing),
                ("linspace", Spacing::Linspace),
            ],
        )?;
        Ok(Self {
            spacing,
            // diffusers adds it to leading times only.
            offset: if spacing == Spacing::Leading {
                offset
            } else {
                0
            },
            one_more: false,
            to_first: false,
            lower_order_final: false,
        })
    }

    /// Those of DPM-Solver++, which knows levels as well and another end.
    fn of_solver(keys: &mut Keys, order: u32) -> Result<Self, DiffusersError> {
        let mut times = Self::of_times(keys, "linspace")?;
        times.one_more = times.spacing != Spacing::Trailing;
        let mut chosen = None;
        for (key, spacing) in [
            ("use_karras_sigmas", Spacing::Karras),
            ("use_lu_lambdas", Spacing::LogSnr),
            ("use_exponential_sigmas", Spacing::LogSnr),
        ] {
            if !keys.take::<Option<bool>>(key, None)?.unwrap_or(false) {
                continue;
            }
            if let Some(other) = chosen.replace(key) {
                let reason = format!("{other} is true already, and one excludes the other");
                return Err(keys.bad(key, &json!(true), &reason));
            }
            times.spacing = spacing;
            (times.offset, times.one_more) = (0, false);
        }
        // Keys of other classes that diffusers looks for when it spaces levels in these two ways.
        if chosen.is_some_and(|key| key != "use_lu_lambdas") {
            keys.only("sigma_min", &[Value::Null])?;
            keys.only("sigma_max", &[Value::Null])?;
        }
        times.to_first = keys.choice(
            "final_sigmas_type",
            "zero",
            &[("zero", false), ("sigma_min", true)],
        )?;
        // A step to clean data is of first order anyway.
        let second_order_end = order == 2 && times.to_first;
        let lower = keys.take("lower_order_final", true)?;
        times.lower_order_final = lower && second_order_end;
        if keys.take("euler_at_final", false)? && second_order_end {
            let reason = "supported where the last step leads to clean data, \
                          final_sigmas_type = \"zero\", and is one of Euler's anyway";
            return Err(keys.bad("euler_at_final", &json!(true), reason));
        }
        Ok(times)
    }
}

/// The schedule and what the network predicts.
fn objective(keys: &mut Keys, sigmoid: bool) -> Result<Objective, DiffusersError> {
    let mut schedule = schedule(keys, sigmoid)?;
    if keys.take("rescale_betas_zero_snr", false)? {
        let rescaled = schedule.rescale_zero_terminal_snr();
        schedule = rescaled.map_err(|error| {
            keys.bad("rescale_betas_zero_snr", &json!(true), &error.to_string())
        })?;
    }
    let key = "prediction_type";
    // What said so before diffusers 0.12.
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
        let reason = format!("prediction_type = {name:?} says otherwise");
        return Err(keys.bad("predict_epsilon", &json!(epsilon), &reason));
    }
    let parametrization = match name.as_str() {
        "epsilon" => Parametrization::Epsilon,
        "sample" => Parametrization::X0,
        "v_prediction" => Parametrization::V,
        _ => {
            let reason = "supported are \"epsilon\", \"sample\" and \"v_prediction\"";
            return Err(keys.bad(key, &json!(name), reason));
        }
    };
    Objective::new(schedule, parametrization, Weighting::Simple)
        .map_err(|error| keys.bad(key, &json!(name), &error.to_string()))
}

/// β by name, or as they are.
fn schedule(keys: &mut Keys, sigmoid: bool) -> Result<NoiseSchedule, DiffusersError> {
    let timesteps: u32 = keys.take("num_train_timesteps", 1000)?;
    let start: f64 = keys.take("beta_start", 1e-4)?;
    let end: f64 = keys.take("beta_end", 0.02)?;
    let name: String = keys.take("beta_schedule", "linear".to_owned())?;
    let trained: Option<Vec<f64>> = keys.take("trained_betas", None)?;
    if !(1..=MOST_TIMESTEPS).contains(&timesteps) {
        let reason = format!("supported are 1 to {MOST_TIMESTEPS}");
        return Err(keys.bad("num_train_timesteps", &json!(timesteps), &reason));
    }
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
        "sigmoid" if sigmoid => sigmoid_betas(timesteps, start, end),
        _ => {
            let also = if sigmoid { ", \"sigmoid\"" } else { "" };
            let reason = format!(
                "supported are \"linear\", \"scaled_linear\", \"squaredcos_cap_v2\"{also} and \
                 trained_betas"
            );
            return Err(keys.bad("beta_schedule", &json!(name), &reason));
        }
    };
    schedule.map_err(|error| keys.bad("beta_schedule", &json!(name), &error.to_string()))
}

/// β between the ends by the logistic function of −6 to 6 in equal steps. Unlike
/// [`NoiseSchedule::sigmoid`] it is β that has this shape, not ᾱ.
fn sigmoid_betas(timesteps: u32, start: f64, end: f64) -> Result<NoiseSchedule, ScheduleError> {
    let betas = (0..timesteps).map(|i| {
        let x = -6.0 + 12.0 * f64::from(i) / f64::from((timesteps - 1).max(1));
        start + (end - start) / (1.0 + (-x).exp())
    });
    NoiseSchedule::from_betas(betas)
}

/// Dynamic thresholding, which diffusers prefers, or a fixed range.
fn clip(keys: &mut Keys, fixed: bool) -> Result<Option<Clip>, DiffusersError> {
    let thresholding = keys.take("thresholding", false)?;
    let quantile = keys.take("dynamic_thresholding_ratio", 0.995)?;
    let max = keys.take("sample_max_value", 1.0)?;
    let (clips, range) = if fixed {
        (
            keys.take("clip_sample", true)?,
            keys.take("clip_sample_range", 1.0)?,
        )
    } else {
        (false, 1.0)
    };
    let found = if thresholding {
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
