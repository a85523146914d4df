//! Euler and Heun along other processes: Karras' with preconditioning, and rectified flow.

use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{Churn, Consistency, Euler, Frame, Heun, Solver};

use super::grids::{Grid, beta, exponential, karras, linspace, ve};
use super::{Check, sample, size};
use crate::scalars::{Run, Said};

const EULER: Euler = Euler { churn: Churn::NONE };

/// From the largest σ to the least.
type Rule = fn(f64, f64, usize) -> Vec<f64>;

/// σ from 80 to 0.002, σ_data = ½, network time ¼·ln σ.
#[test]
fn edm_euler() {
    let precondition = |sign: f64| {
        move |x: f64, at: NoiseLevel| {
            let (sigma, t) = (at.sigma(), 0.25 * at.sigma().ln());
            let total = sigma.hypot(0.5);
            let output = x / total * t / (t + 1.0);
            let (c_skip, c_out) = (0.25 / (total * total), sign * 0.5 * sigma / total);
            Said::x0(c_skip * x + c_out * output, x, at)
        }
    };
    let mut check = Check::new();
    let rows: [(&str, f64, Rule, f64, f64); 4] = [
        ("ε", 1.0, karras, 0.0, 34.185_494_3),
        ("v", -1.0, karras, 0.0, 380.919_563_4),
        ("exponential", 1.0, exponential, 0.0, 21.747_326_61),
        ("to σ_min", 1.0, karras, 0.002, 33.806_570_81),
    ];
    for (name, sign, rule, end, expected) in rows {
        let sigmas = rule(80.0, 0.002, 10).into_iter().chain([end]);
        let levels: Vec<_> = sigmas.map(ve).collect();
        let start = sample().into_iter().map(|x| x * 80.0_f64.hypot(1.0));
        let x = Run::new(&EULER, precondition(sign)).all(&levels, start.collect());
        check.relative(name, size(&x), expected, 1e-9);
    }
    check.done();
}

/// t → s·t/(1 + (s − 1)·t) with s = 3 (Esser et al. 2024, eq. 23).
fn shifted(times: Vec<f64>) -> Vec<f64> {
    times
        .into_iter()
        .map(|t| 3.0 * t / (1.0 + 2.0 * t))
        .collect()
}

/// Σ|x| at the end of a rectified flow with the network time 1000·t.
fn flow(solver: &dyn Solver, times: Vec<f64>) -> f64 {
    let levels = times.iter().chain(&[0.0]);
    let levels: Vec<_> = levels
        .map(|&t| NoiseLevel::rectified_flow(t).unwrap())
        .collect();
    let told = times.into_iter().map(|t| t * 1000.0).collect();
    let grid = Grid::told(levels, told);
    let clock = grid.clock();
    // v = ε − x₀, and x_t = (1 − t)·x₀ + t·ε.
    let network = |x: f64, at: NoiseLevel| {
        let (t, tau) = (at.noise(), clock(at));
        let v = x * tau / (tau + 1.0);
        let (x0, eps) = (x - t * v, x + at.signal() * v);
        Said { x0, eps }
    };
    size(&Run::new(solver, network).all(&grid.levels, sample()))
}

/// Heun with shift 3 as in diffusers, which shifts the time of its last step twice.
///
/// Left out: Euler with that fault, 129.3494576.
#[test]
fn flow_matching() {
    let heun = Heun {
        frame: Frame::Flow,
        churn: Churn::NONE,
    };
    let noisy = Consistency {
        floor: NoiseLevel::CLEAN,
    };
    let even = || linspace(1.0, 0.001, 10);
    let tenths = (1..=10).rev().map(|i| f64::from(i) / 10.0).collect();
    let twice = shifted(linspace(1.0, 0.003 / 1.002, 10));
    let rows: [(&str, &dyn Solver, Vec<f64>, f64); 9] = [
        ("Euler", &EULER, even(), 133.362_044_8),
        ("Euler, tenths", &EULER, tenths, 134.151_645_7),
        ("Euler, shift 3", &EULER, shifted(even()), 129.153_293_4),
        (
            "Euler, Karras",
            &EULER,
            karras(1.0, 0.001, 10),
            119.972_700_8,
        ),
        (
            "Euler, exponential",
            &EULER,
            exponential(1.0, 0.001, 10),
            107.464_804_6,
        ),
        ("Euler, Beta", &EULER, beta(1.0, 0.001, 10), 132.288_764_6),
        ("stochastic", &noisy, even(), 126.126_093),
        ("Heun", &heun, even(), 145.765_489_4),
        ("Heun, shift 3", &heun, twice, 144.159_381_8),
    ];
    let mut check = Check::new();
    for (name, solver, times, expected) in rows {
        let tolerance = if name == "stochastic" { 1e-7 } else { 1e-9 };
        check.relative(name, flow(solver, times), expected, tolerance);
    }
    check.done();
}
