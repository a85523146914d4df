//! Processes in continuous time: EDM and rectified flow.

use ddpm_schedule::solver::{Churn, Consistency, Euler, Frame, Heun};
use ddpm_schedule::{Grid, NoiseLevel, Objective, Parametrization, Process};
use serde_json::{Value, json};

use super::common::{
    SWITCHES, check_sigmas, checked, clip, ends_clean, off, prediction, scheduler, switched,
    timesteps,
};
use super::multistep::exponential;
use super::rule::Rule;
use super::scheduler::{Scheduler, Start};
use super::way::{End, Points, Sigma, Told, Way};
use crate::diffusers::error::DiffusersError;
use crate::diffusers::json::Keys;

const EULER: Rule = Rule::Euler(Euler { churn: Churn::NONE });

pub(super) fn edm_euler(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let (objective, way, negated) = edm(keys)?;
    Ok(Scheduler {
        negated,
        start: Start::Prior,
        ..scheduler(objective, EULER, way)
    })
}

pub(super) fn edm_dpm_solver(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let (objective, way, negated) = edm(keys)?;
    let (solver, euler_at_final) = exponential(keys, way.end == End::Clean, false)?;
    if solver.noise > 0.0 && solver.order == 3 {
        let reason = "supported are 1 and 2 with algorithm_type = \"sde-dpmsolver++\"; diffusers \
                      has no third order there";
        return Err(keys.bad("solver_order", &json!(3), reason));
    }
    let rule = Rule::Multistep {
        solver,
        euler_at_final,
        standing: 0,
    };
    Ok(Scheduler {
        negated,
        start: Start::Prior,
        clip: clip(keys, true, None)?,
        ..scheduler(objective, rule, way)
    })
}

/// The keys of both classes, and whether the network predicts −F, which diffusers calls
/// `v_prediction`.
fn edm(keys: &mut Keys) -> Result<(Objective, Way, bool), DiffusersError> {
    let ends = [
        keys.take("sigma_min", 0.002)?,
        keys.take("sigma_max", 80.0)?,
    ];
    check_sigmas(keys, ends)?;
    let sigma_data = keys.take("sigma_data", 0.5)?;
    let rho = keys.take("rho", 7.0)?;
    timesteps(keys, 1000)?;
    let karras = keys.choice(
        "sigma_schedule",
        "karras",
        &[("karras", true), ("exponential", false)],
    )?;
    let grid = if karras {
        Grid::Karras { rho }
    } else {
        Grid::Exponential
    };
    let process = Process::edm(ends[0], ends[1])
        .map_err(|error| keys.bad("sigma_max", &json!(ends[1]), &error.to_string()))?;
    // Making a grid checks ρ.
    let checked_grid = grid.levels(&process, 1);
    checked_grid.map_err(|error| keys.bad("rho", &json!(rho), &error.to_string()))?;
    let least = process.ends().1;
    let end = if ends_clean(keys)? {
        End::Clean
    } else {
        End::Level(least)
    };
    let name = prediction(keys, &["epsilon", "v_prediction"])?;
    let objective = checked(keys, &name, process, Parametrization::Edm { sigma_data })?;
    let points = Points::Sigmas {
        grid,
        ends,
        of: Sigma::Exploding,
    };
    let way = Way::new(points, end, Told::Fraction);
    Ok((objective, way, name == "v_prediction"))
}

pub(super) fn flow_euler(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let found = flow(keys, EULER, true)?;
    if keys.take("stochastic_sampling", false)? {
        let floor = NoiseLevel::CLEAN;
        let rule = Rule::Consistency(Consistency { floor });
        return Ok(Scheduler { rule, ..found });
    }
    Ok(found)
}

pub(super) fn flow_heun(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let rule = Rule::Heun(Heun {
        frame: Frame::Flow,
        churn: Churn::NONE,
    });
    flow(keys, rule, false)
}

pub(super) fn flow_lcm(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    keys.only("scale_factors", &[Value::Null, json!([])])?;
    keys.take::<Value>("upscale_mode", Value::Null)?;
    let floor = NoiseLevel::CLEAN;
    flow(keys, Rule::Consistency(Consistency { floor }), true)
}

/// ε − x₀ along t = 1, …, 1/T, shifted once, then clean data. diffusers shifts the last time twice.
fn flow(keys: &mut Keys, rule: Rule, rich: bool) -> Result<Scheduler, DiffusersError> {
    let timesteps = f64::from(timesteps(keys, 1000)?);
    let shift = keys.take("shift", 1.0)?;
    let process = Process::flow(shift)
        .map_err(|error| keys.bad("shift", &json!(shift), &error.to_string()))?;
    let (mut terminal, mut grid) = (None, None);
    if rich {
        off(keys, &["use_dynamic_shifting", "invert_sigmas"])?;
        // Keys that only dynamic shifting reads.
        for key in [
            "base_shift",
            "max_shift",
            "base_image_seq_len",
            "max_image_seq_len",
            "time_shift_type",
        ] {
            keys.take::<Value>(key, Value::Null)?;
        }
        terminal = keys.take::<Option<f64>>("shift_terminal", None)?;
        // In Python, 0 is the same as none.
        terminal = terminal.filter(|&terminal| terminal != 0.0);
        if let Some(terminal) = terminal.filter(|terminal| !(0.0..1.0).contains(terminal)) {
            return Err(keys.bad("shift_terminal", &json!(terminal), "must be in (0, 1)"));
        }
        grid = switched(keys, &SWITCHES)?.map(|(_, grid)| grid);
    }
    let points = Points::Flow {
        from: 1.0,
        to: 1.0 / timesteps,
        one_more: false,
        shift,
        terminal,
        grid,
    };
    let way = Way::new(points, End::Clean, Told::Fraction);
    let objective = checked(keys, "flow_prediction", process, Parametrization::Flow)?;
    Ok(Scheduler {
        unit: timesteps / 1000.0,
        ..scheduler(objective, rule, way)
    })
}
