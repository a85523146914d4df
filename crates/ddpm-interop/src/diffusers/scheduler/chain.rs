//! The classes in the coordinates of the process: DDPM, DDIM, unCLIP, PNDM and iPNDM.

use ddpm_process::AfterClip;
use ddpm_schedule::solver::{Adams, Ddim, Ddpm, Eta, Nodes, Variance};
use ddpm_schedule::{Grid, Parametrization, Process};
use serde_json::Value;

use super::common::{Class, PLAIN, checked, clip, objective, scheduler, spacing, timesteps, whole};
use super::pndm::Outputs;
use super::rule::Rule;
use super::scheduler::Scheduler;
use super::way::{End, Points, Told, Way};
use crate::diffusers::error::DiffusersError;
use crate::diffusers::json::Keys;

pub(super) fn ddpm(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let class = Class {
        also: Some("sigmoid"),
        zero_snr: true,
        ..PLAIN
    };
    let objective = objective(keys, class)?;
    // The log forms describe the same variances.
    let (variance, learned_variance) = keys.choice(
        "variance_type",
        "fixed_small",
        &[
            ("fixed_small", (Variance::Small, false)),
            ("fixed_small_log", (Variance::Small, false)),
            ("fixed_large", (Variance::Large, false)),
            ("fixed_large_log", (Variance::Large, false)),
            ("learned_range", (Variance::Learned, true)),
        ],
    )?;
    let way = whole(spacing(keys, "leading")?);
    Ok(Scheduler {
        learned_variance,
        clip: clip(keys, true, Some(true))?,
        ..scheduler(objective, Rule::Ddpm(Ddpm { variance }), way)
    })
}

pub(super) fn ddim(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let class = Class {
        zero_snr: true,
        ..PLAIN
    };
    let way = whole(spacing(keys, "leading")?);
    let objective = objective(keys, class)?;
    let way = to_first(keys, true, way, objective.process())?;
    Ok(Scheduler {
        clip: clip(keys, true, Some(true))?,
        // The network's own ε̂ is kept: `use_clipped_model_output` is not a key.
        epsilon: AfterClip::Kept,
        ..scheduler(objective, Rule::Ddim(Ddim { eta: Eta::ZERO }), way)
    })
}

/// `set_alpha_to_one`: if false, the levels end at t = 1.
fn to_first(
    keys: &mut Keys,
    default: bool,
    way: Way,
    process: &Process,
) -> Result<Way, DiffusersError> {
    let end = if keys.take("set_alpha_to_one", default)? {
        End::Clean
    } else {
        End::Level(process.ends().1)
    };
    Ok(Way { end, ..way })
}

/// DDPM with the cosine schedule and its own times.
pub(super) fn unclip(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let class = Class {
        schedule: "squaredcos_cap_v2",
        predictions: &["epsilon", "sample"],
        ..PLAIN
    };
    keys.only("beta_schedule", &["squaredcos_cap_v2".into()])?;
    let objective = objective(keys, class)?;
    let (variance, learned_variance) = keys.choice(
        "variance_type",
        "fixed_small_log",
        &[
            ("fixed_small_log", (Variance::Small, false)),
            ("learned_range", (Variance::Learned, true)),
        ],
    )?;
    Ok(Scheduler {
        learned_variance,
        clip: clip(keys, false, Some(true))?,
        ..scheduler(
            objective,
            Rule::Ddpm(Ddpm { variance }),
            whole(Grid::Linspace),
        )
    })
}

pub(super) fn pndm(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let class = Class {
        predictions: &["epsilon", "v_prediction"],
        ..PLAIN
    };
    let way = whole(spacing(keys, "leading")?);
    let objective = objective(keys, class)?;
    let way = to_first(keys, false, way, objective.process())?;
    let of = match objective.parametrization() {
        Parametrization::V => Outputs::Velocity,
        _ => Outputs::Epsilon,
    };
    let rule = if keys.take("skip_prk_steps", false)? {
        Rule::Plms(of)
    } else {
        let (process, half) = (objective.process().clone(), 0.0);
        Rule::Pndm { of, process, half }
    };
    Ok(scheduler(objective, rule, way))
}

/// v along σ = sin²(πu/2), α = √(1 − σ²).
pub(super) fn ipndm(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    timesteps(keys, 1000)?;
    keys.only("trained_betas", &[Value::Null])?;
    let process = Process::vp_cosine(0.0)
        .map_err(|error| keys.bad("_class_name", &"IPNDMScheduler".into(), &error.to_string()))?;
    let objective = checked(keys, "v_prediction", process, Parametrization::V)?;
    let rule = Rule::Ipndm(Adams {
        order: 4,
        nodes: Nodes::Equal,
        euler_final: false,
    });
    let way = Way::new(Points::Sines, End::Clean, Told::Fraction);
    Ok(Scheduler {
        // The time of the process is 999 times that of this class.
        unit: 1.0 / 999.0,
        ..scheduler(objective, rule, way)
    })
}
