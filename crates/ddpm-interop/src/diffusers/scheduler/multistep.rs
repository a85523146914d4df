//! The exponential integrators: DPM-Solver, DEIS, UniPC and SA-Solver.

use ddpm_process::Clip;
use ddpm_schedule::solver::{
    Bh, Blocks, Exponential, Interpolant, SaSolver, Slope, UniPc, Weights,
};
use ddpm_schedule::{NoiseLevel, Process};
use serde_json::{Value, json};

use super::common::{clip, scheduler};
use super::family::{Family, MULTISTEP, TO_LEAST, levels};
use super::rule::Rule;
use super::scheduler::Scheduler;
use super::way::{End, Told, Way};
use crate::diffusers::error::DiffusersError;
use crate::diffusers::json::Keys;

pub(super) fn dpm_solver(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let (objective, way) = levels(keys, MULTISTEP)?;
    let (solver, euler_at_final) = exponential(keys, way.end == End::Clean, true)?;
    let rule = Rule::Multistep {
        solver,
        euler_at_final,
        standing: 0,
    };
    Ok(Scheduler {
        learned_variance: learned_variance(keys)?,
        clip: threshold(keys)?,
        ..scheduler(objective, rule, way)
    })
}

/// From data to noise: the same levels in the opposite order, and the same solver along them.
pub(super) fn inverse(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let family = Family {
        lambda: true,
        ..TO_LEAST
    };
    let (objective, way) = levels(keys, family)?;
    let (solver, euler_at_final) = exponential(keys, false, true)?;
    if solver.noise > 0.0 {
        let reason = "supported are \"dpmsolver++\" and \"dpmsolver\": noise cannot be inverted";
        return Err(keys.bad("algorithm_type", &json!("sde-dpmsolver"), reason));
    }
    let rule = Rule::Multistep {
        solver,
        euler_at_final,
        standing: 0,
    };
    Ok(Scheduler {
        learned_variance: learned_variance(keys)?,
        clip: threshold(keys)?,
        ..scheduler(
            objective,
            rule,
            Way {
                inverse: true,
                ..way
            },
        )
    })
}

/// `algorithm_type`, `solver_type`, `solver_order`, `lower_order_final` and `euler_at_final` of the
/// multistep solvers.
pub(super) fn exponential(
    keys: &mut Keys,
    to_clean: bool,
    of_epsilon: bool,
) -> Result<(Exponential, bool), DiffusersError> {
    let (of, noise) = algorithm(keys, of_epsilon, to_clean)?;
    let weights = solver_type(keys, Weights::Midpoint, Weights::Taylor)?;
    let order = order(keys, "solver_order", 2)?;
    if of == Interpolant::Epsilon && noise > 0.0 && order == 3 {
        let reason = "supported are 1 and 2 with algorithm_type = \"sde-dpmsolver\"; diffusers \
                      has no third order there";
        return Err(keys.bad("solver_order", &json!(order), reason));
    }
    let solver = Exponential {
        interpolant: of,
        order,
        weights,
        noise,
        lower_order_final: keys.take("lower_order_final", true)?,
    };
    Ok((solver, keys.take("euler_at_final", false)?))
}

/// `algorithm_type`: the interpolated quantity, and the amount of noise.
fn algorithm(
    keys: &mut Keys,
    of_epsilon: bool,
    to_clean: bool,
) -> Result<(Interpolant, f64), DiffusersError> {
    let of_x0 = [
        ("dpmsolver++", (Interpolant::X0, 0.0)),
        ("sde-dpmsolver++", (Interpolant::X0, 1.0)),
        // diffusers reads the name of another solver as its own.
        ("deis", (Interpolant::X0, 0.0)),
    ];
    let all = [
        of_x0[0],
        of_x0[1],
        of_x0[2],
        ("dpmsolver", (Interpolant::Epsilon, 0.0)),
        ("sde-dpmsolver", (Interpolant::Epsilon, 1.0)),
    ];
    let choices = if of_epsilon { &all[..] } else { &of_x0[..] };
    let (of, noise) = keys.choice("algorithm_type", "dpmsolver++", choices)?;
    if of == Interpolant::Epsilon && to_clean {
        let reason = "supported is \"sigma_min\" with algorithm_type = \"dpmsolver\": clean data \
                      has no ε̂";
        return Err(keys.bad("final_sigmas_type", &json!("zero"), reason));
    }
    Ok((of, noise))
}

/// `solver_type`; the names of other solvers mean midpoint.
fn solver_type<T: Copy>(keys: &mut Keys, midpoint: T, heun: T) -> Result<T, DiffusersError> {
    keys.choice(
        "solver_type",
        "midpoint",
        &[
            ("midpoint", midpoint),
            ("heun", heun),
            ("logrho", midpoint),
            ("bh1", midpoint),
            ("bh2", midpoint),
        ],
    )
}

/// An order from 1 to 3.
fn order(keys: &mut Keys, key: &str, default: usize) -> Result<usize, DiffusersError> {
    let order: usize = keys.take(key, default)?;
    if (1..=3).contains(&order) {
        return Ok(order);
    }
    Err(keys.bad(key, &json!(order), "supported are 1, 2 and 3"))
}

pub(super) fn single(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let family = Family {
        lu: false,
        spacing: false,
        cuts_cosine: false,
        zero_snr: false,
        ..MULTISTEP
    };
    let (objective, way) = levels(keys, family)?;
    let to_clean = way.end == End::Clean;
    let (of, noise) = algorithm(keys, true, to_clean)?;
    if of == Interpolant::Epsilon && noise > 0.0 {
        let reason = "supported are \"dpmsolver++\", \"sde-dpmsolver++\" and \"dpmsolver\"";
        return Err(keys.bad("algorithm_type", &json!("sde-dpmsolver"), reason));
    }
    let solver = Blocks {
        interpolant: of,
        order: order(keys, "solver_order", 2)?,
        slope: solver_type(keys, Slope::Chord, Slope::Exact)?,
        noise,
        steps: 1,
        // diffusers sets it if the last step leads to clean data.
        lower_order_final: keys.take("lower_order_final", false)? || to_clean,
    };
    if noise > 0.0 && solver.order == 3 {
        let reason = "supported are 1 and 2 with algorithm_type = \"sde-dpmsolver++\"";
        return Err(keys.bad("solver_order", &json!(3), reason));
    }
    let rule = Rule::Single {
        solver,
        standing: 0,
    };
    Ok(Scheduler {
        learned_variance: learned_variance(keys)?,
        clip: threshold(keys)?,
        ..scheduler(objective, rule, way)
    })
}

pub(super) fn deis(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let (objective, way) = levels(keys, TO_LEAST)?;
    // The names of other solvers mean this one.
    let names = ["deis", "dpmsolver", "dpmsolver++"].map(Value::from);
    keys.only("algorithm_type", &names)?;
    let names = ["logrho", "midpoint", "heun", "bh1", "bh2"].map(Value::from);
    keys.only("solver_type", &names)?;
    let solver = Exponential {
        interpolant: Interpolant::Epsilon,
        order: order(keys, "solver_order", 2)?,
        weights: Weights::Lagrange,
        noise: 0.0,
        lower_order_final: keys.take("lower_order_final", true)?,
    };
    let rule = Rule::Multistep {
        solver,
        euler_at_final: false,
        standing: 0,
    };
    Ok(Scheduler {
        clip: threshold(keys)?,
        ..scheduler(objective, rule, way)
    })
}

pub(super) fn unipc(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let family = Family {
        lu: false,
        lambda: false,
        cuts_cosine: false,
        unipc_flow: true,
        ..MULTISTEP
    };
    let (objective, way) = levels(keys, family)?;
    keys.only("disable_corrector", &[json!([]), Value::Null])?;
    keys.only("solver_p", &[Value::Null])?;
    let (of, clip) = if keys.take("predict_x0", true)? {
        (Interpolant::X0, threshold(keys)?)
    } else {
        // diffusers thresholds only where x̂₀ is interpolated.
        threshold(keys)?;
        (Interpolant::Epsilon, None)
    };
    let b = keys.choice(
        "solver_type",
        "bh2",
        &[
            ("bh2", Bh::Bh2),
            ("bh1", Bh::Bh1),
            ("midpoint", Bh::Bh2),
            ("heun", Bh::Bh2),
            ("logrho", Bh::Bh2),
        ],
    )?;
    let solver = UniPc {
        interpolant: of,
        order: order(keys, "solver_order", 2)?,
        b,
        lower_order_final: keys.take("lower_order_final", true)?,
    };
    let rule = Rule::UniPc {
        solver,
        standing: 0,
    };
    Ok(Scheduler {
        clip,
        ..scheduler(objective, rule, way)
    })
}

pub(super) fn sa_solver(keys: &mut Keys) -> Result<Scheduler, DiffusersError> {
    let family = Family {
        lambda: true,
        ..TO_LEAST
    };
    let (objective, way) = levels(keys, family)?;
    keys.only("algorithm_type", &["data_prediction".into()])?;
    keys.only("tau_func", &[Value::Null])?;
    let solver = SaSolver {
        predictor: order(keys, "predictor_order", 2)?,
        corrector: order(keys, "corrector_order", 2)?,
        tau: 1.0,
        between: noisy(objective.process(), way.told),
        lower_order_final: keys.take("lower_order_final", true)?,
        simple_slope: true,
    };
    let rule = Rule::SaSolver {
        solver,
        standing: 0,
    };
    Ok(Scheduler {
        learned_variance: learned_variance(keys)?,
        clip: threshold(keys)?,
        ..scheduler(objective, rule, way)
    })
}

/// The log-SNRs between which SA-Solver adds noise: those of the network's times from 200 to 800.
fn noisy(process: &Process, told: Told) -> [f64; 2] {
    let (first, last) = match told {
        // Halves are rounded to even numbers.
        Told::Nearest => (199.5, 800.5),
        _ => (200.0, 801.0 - 1e-6),
    };
    let log_snr = |time, none| process.level(time).map_or(none, NoiseLevel::log_snr);
    // A short schedule has no such times.
    [
        log_snr(last, f64::NEG_INFINITY),
        log_snr(first, f64::NEG_INFINITY),
    ]
}

/// `thresholding`.
fn threshold(keys: &mut Keys) -> Result<Option<Clip>, DiffusersError> {
    clip(keys, true, None)
}

/// `variance_type`: whether there is a second output. A solver does not use fixed variances: they
/// come from the file of a DDPMScheduler.
fn learned_variance(keys: &mut Keys) -> Result<bool, DiffusersError> {
    keys.choice(
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
    )
}
