//! The levels of the multistep exponential integrators.

use ddpm_schedule::{Grid, NoiseLevel, NoiseSchedule, Objective, Parametrization, Process};
use serde_json::{Value, json};

use super::common::{
    Class, PLAIN, SWITCHES, checked, ends_clean, off, predicted, prediction, schedule, sigma_ends,
    spacing, switched,
};
use super::way::{End, Points, Sigma, Told, Way};
use crate::diffusers::error::DiffusersError;
use crate::diffusers::json::Keys;

/// How the levels of the classes of this family differ.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "one for each key")]
pub(super) struct Family {
    /// Whether `use_lu_lambdas` is a key.
    pub(super) lu: bool,
    /// Whether `timestep_spacing` is a key.
    pub(super) spacing: bool,
    /// Whether `lambda_min_clipped` is a key.
    pub(super) lambda: bool,
    /// Whether `final_sigmas_type` is a key; the others end at the least noise.
    pub(super) ends: bool,
    /// Whether the times of Karras' σ are truncated, not rounded, for a cosine schedule.
    pub(super) cuts_cosine: bool,
    /// Whether the σ of a flow are computed as in UniPC.
    pub(super) unipc_flow: bool,
    pub(super) zero_snr: bool,
}

pub(super) const MULTISTEP: Family = Family {
    lu: true,
    spacing: true,
    lambda: true,
    ends: true,
    cuts_cosine: true,
    unipc_flow: false,
    zero_snr: true,
};

/// DEIS's levels.
pub(super) const TO_LEAST: Family = Family {
    lu: false,
    lambda: false,
    ends: false,
    cuts_cosine: false,
    zero_snr: false,
    ..MULTISTEP
};

/// The objective and the levels of the family.
pub(super) fn levels(keys: &mut Keys, family: Family) -> Result<(Objective, Way), DiffusersError> {
    let class = Class {
        zero_snr: family.zero_snr,
        ..PLAIN
    };
    let cosine = keys.peek("beta_schedule") == Some(&json!("squaredcos_cap_v2"));
    let schedule = schedule(keys, class)?;
    let grid = if family.spacing {
        spacing(keys, "linspace")?
    } else {
        Grid::Linspace
    };
    let mut switches = vec![SWITCHES[0].clone()];
    if family.lu {
        switches.push(("use_lu_lambdas", Grid::Exponential));
    }
    switches.extend(SWITCHES[1..].iter().cloned());
    let spaced = switched(keys, &switches)?;
    let clean = family.ends && ends_clean(keys)?;
    off(keys, &["use_dynamic_shifting"])?;
    keys.take::<Value>("time_shift_type", Value::Null)?;
    let flow = keys.take::<Option<bool>>("use_flow_sigmas", None)?;
    let shift = keys.take("flow_shift", 1.0)?;
    if flow == Some(true) {
        return flow_levels(keys, family, &schedule, spaced, shift, clean);
    }
    keys.only("shift_terminal", &[Value::Null])?;
    let objective = predicted(keys, schedule)?;
    let process = objective.process();
    let start = start(keys, family, &grid, process)?;
    let end = if clean {
        End::Clean
    } else {
        End::Level(process.ends().1)
    };
    let (points, told) = if let Some((key, grid)) = spaced {
        let rounded = matches!(key, "use_karras_sigmas" | "use_lu_lambdas");
        let cut = cosine && family.cuts_cosine;
        let told = if rounded && !cut {
            Told::Nearest
        } else {
            Told::Below
        };
        let ends = sigma_ends(keys, process)?;
        let of = Sigma::Preserving;
        (Points::Sigmas { grid, ends, of }, told)
    } else {
        let points = Points::Times {
            one_more: grid != Grid::Trailing,
            grid,
            fractional: false,
            start,
        };
        (points, Told::Fraction)
    };
    let way = Way {
        finite: true,
        ..Way::new(points, end, told)
    };
    Ok((objective, way))
}

/// `lambda_min_clipped`: the first time whose ½ log-SNR is not below it; Python writes −∞ as
/// −Infinity.
fn start(
    keys: &mut Keys,
    family: Family,
    grid: &Grid,
    process: &Process,
) -> Result<Option<NoiseLevel>, DiffusersError> {
    let key = "lambda_min_clipped";
    if !family.lambda {
        return Ok(None);
    }
    let least = match keys.take(key, Value::Null)? {
        Value::Null => return Ok(None),
        Value::String(infinite) if infinite == "-Infinity" => return Ok(None),
        value => value
            .as_f64()
            .ok_or_else(|| keys.bad(key, &value, "supported are numbers and -Infinity"))?,
    };
    let schedule = process.schedule();
    let kept = schedule.and_then(|schedule| {
        let levels = schedule.iter().rev().map(|t| schedule.level(t));
        let mut kept = levels.filter(|level| 0.5 * level.log_snr() >= least);
        kept.next()
    });
    let first = process.ends().0;
    match kept {
        Some(level) if level == first => Ok(None),
        Some(_) if *grid == Grid::Trailing => {
            let reason = "supported with timestep_spacing = \"linspace\" or \"leading\"";
            Err(keys.bad(key, &json!(least), reason))
        }
        Some(level) if level != process.ends().1 => Ok(Some(level)),
        _ => Err(keys.bad(key, &json!(least), "no step is left")),
    }
}

/// `use_flow_sigmas`: the levels of a rectified flow.
fn flow_levels(
    keys: &mut Keys,
    family: Family,
    schedule: &NoiseSchedule,
    spaced: Option<(&'static str, Grid)>,
    shift: f64,
    clean: bool,
) -> Result<(Objective, Way), DiffusersError> {
    let name = prediction(keys, &["flow_prediction", "sample"])?;
    let parametrization = if name == "sample" {
        Parametrization::X0
    } else {
        Parametrization::Flow
    };
    let process = Process::flow(shift);
    let process =
        process.map_err(|error| keys.bad("flow_shift", &json!(shift), &error.to_string()))?;
    let discrete = Process::from(schedule.clone());
    let terminal: Option<f64> = if family.unipc_flow {
        keys.take("shift_terminal", None)?
    } else {
        None
    };
    let end = match (clean, family.ends && !family.unipc_flow) {
        (true, _) => End::Clean,
        // diffusers uses the least σ of the β as a σ of the flow.
        (false, true) => {
            let least = discrete.ends().1.sigma();
            let level = NoiseLevel::rectified_flow(least);
            End::Level(level.map_err(|error| {
                keys.bad("final_sigmas_type", &json!("sigma_min"), &error.to_string())
            })?)
        }
        (false, false) => End::Stay,
    };
    let least = 1.0 / f64::from(schedule.timesteps());
    let points = match (spaced, family.unipc_flow) {
        (Some((_, grid @ Grid::Karras { .. })), true) => Points::Sigmas {
            grid,
            ends: sigma_ends(keys, &discrete)?,
            of: Sigma::Odds,
        },
        (Some((key, _)), _) => {
            let reason = "not supported together with use_flow_sigmas, where diffusers uses σ \
                          above 1 as a fraction";
            return Err(keys.bad(key, &json!(true), reason));
        }
        (None, unipc) => Points::Flow {
            from: if unipc { 1.0 } else { 1.0 - least },
            to: if unipc { least } else { 0.0 },
            one_more: true,
            shift,
            terminal,
            grid: None,
        },
    };
    let way = Way::new(points, end, Told::Below);
    let objective = checked(keys, &name, process, parametrization)?;
    Ok((objective, way))
}
