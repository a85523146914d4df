//! The classes that step in σ = b/a: Euler, Heun, DPM2 and LMS.
//!
//! diffusers runs them on x/a. Here the processes keep the factor a, and each row is multiplied by
//! a.

use ddpm_schedule::solver::{Adams, Ancestral, Churn, Dpm2, Euler, Frame, Heun, Nodes};
use ddpm_schedule::{Grid, Process};
use serde_json::json;

use super::common::{
    Class, PLAIN, SWITCHES, clip, ends_clean, objective, scheduler, sigma_ends, spacing, switched,
};
use super::rule::Rule;
use super::scheduler::{Scheduler, Start};
use super::way::{End, Points, Sigma, Told, Way};
use crate::diffusers::error::DiffusersError;
use crate::diffusers::json::Keys;

/// The default β of the three classes that were written for Stable Diffusion.
const STABLE: [f64; 2] = [0.00085, 0.012];

const EULER: Euler = Euler { churn: Churn::NONE };
const DPM2: Dpm2 = Dpm2 { churn: Churn::NONE };

pub(super) fn euler(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let class = Class {
        zero_snr: true,
        predictions: &["epsilon", "sample", "v_prediction", "original_sample"],
        ..PLAIN
    };
    let mut found = of_sigma(keys, class, Rule::Euler(EULER), &SWITCHES)?;
    let continuous = keys.choice(
        "timestep_type",
        "discrete",
        &[("discrete", false), ("continuous", true)],
    )?;
    // diffusers ignores the key for other predictions.
    if continuous && found.objective.parametrization() == ddpm_schedule::Parametrization::V {
        let reason = "supported is \"discrete\"; an EDMEulerScheduler with prediction_type = \
                      \"v_prediction\" and sigma_data = 1 takes ¼·ln σ too";
        return Err(keys.bad("timestep_type", &json!("continuous"), reason));
    }
    // These are keys of this class even if σ are not spaced.
    for key in ["sigma_min", "sigma_max"] {
        keys.take::<Option<f64>>(key, None)?;
    }
    let log_linear = keys.choice(
        "interpolation_type",
        "linear",
        &[("linear", false), ("log_linear", true)],
    )?;
    let clean = ends_clean(keys)?;
    if !clean {
        found.way.end = End::Level(found.objective.process().ends().1);
    }
    if log_linear && matches!(found.way.points, Points::Times { .. }) {
        found.way.points = Points::LogLinear(Box::new(found.way.points));
        found.way.end = End::Stay;
    }
    Ok(found)
}

pub(super) fn euler_ancestral(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let class = Class {
        zero_snr: true,
        predictions: &["epsilon", "v_prediction"],
        ..PLAIN
    };
    let rule = Rule::EulerAncestral(Ancestral {
        solver: EULER,
        eta: 1.0,
    });
    of_sigma(keys, class, rule, &[])
}

pub(super) fn heun(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let class = Class {
        betas: STABLE,
        also: Some("exp"),
        ..PLAIN
    };
    let rule = Rule::Heun(Heun {
        frame: Frame::Sigma,
        churn: Churn::NONE,
    });
    Ok(Scheduler {
        clip: clip(keys, false, Some(false))?,
        ..of_sigma(keys, class, rule, &SWITCHES)?
    })
}

pub(super) fn lms(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let rule = Rule::Lms(Adams {
        order: 4,
        nodes: Nodes::Sigma,
        euler_final: false,
    });
    of_sigma(keys, PLAIN, rule, &SWITCHES)
}

pub(super) fn kdpm2(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    dpm2(keys, Rule::Dpm2(DPM2))
}

pub(super) fn kdpm2_ancestral(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let rule = Rule::Dpm2Ancestral(Ancestral {
        solver: DPM2,
        eta: 1.0,
    });
    dpm2(keys, rule)
}

fn dpm2(keys: &mut Keys, rule: Rule) -> Result<Scheduler, DiffusersError> {
    let class = Class {
        betas: STABLE,
        predictions: &["epsilon", "v_prediction"],
        ..PLAIN
    };
    let mut found = of_sigma(keys, class, rule, &SWITCHES)?;
    let karras = |grid: &Grid| matches!(grid, Grid::Karras { .. });
    if matches!(&found.way.points, Points::Sigmas { grid, .. } if karras(grid)) {
        // Only the times of whole steps are rounded; those halfway remain fractions.
        found.way.told = Told::Nearest;
    }
    Ok(found)
}

/// The levels of all these classes: times with σ interpolated between timesteps, or spaced σ.
fn of_sigma(
    keys: &mut Keys,
    class: Class,
    rule: Rule,
    switches: &[(&'static str, Grid)],
) -> Result<Scheduler, DiffusersError> {
    let times = spacing(keys, "linspace")?;
    let objective = objective(keys, class)?;
    let start = match times {
        Grid::Leading { .. } => Start::Prior,
        _ => Start::Noise,
    };
    let way = if let Some((_, grid)) = switched(keys, switches)? {
        spaced(keys, grid, objective.process())?
    } else {
        let points = Points::Times {
            // Here trailing times are rounded too.
            fractional: times == Grid::Linspace,
            grid: times,
            one_more: false,
            start: None,
        };
        Way::new(points, End::Clean, Told::BySigma)
    };
    let way = Way {
        finite: true,
        ..way
    };
    Ok(Scheduler {
        start,
        ..scheduler(objective, rule, way)
    })
}

/// σ from the largest to the smallest by a rule, with fractional times.
fn spaced(keys: &mut Keys, grid: Grid, process: &Process) -> Result<Way, DiffusersError> {
    let points = Points::Sigmas {
        grid,
        ends: sigma_ends(keys, process)?,
        of: Sigma::Preserving,
    };
    Ok(Way::new(points, End::Clean, Told::Fraction))
}
