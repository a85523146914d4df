//! The orders of convergence of the solvers, where the flow is known in closed form.

use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{
    Adams, Ancestral, Blocks, Churn, Dpm2, DpmFast, ErSde, Euler, Frame, GradientEstimation, Heun,
    Interpolant, Nodes, Pndm, SingleStep, Slope, Solver, StageNoise, Tcd,
};

use super::grids::{ve, vp};
use super::known::gauss;
use crate::scalars::{Run, Said};

/// Equidistant levels in ln σ or in σ. Only methods with fixed weights need the latter.
#[derive(Clone, Copy, PartialEq)]
enum Along {
    Log,
    Sigma,
}

impl Along {
    /// σ at a fraction of the run.
    fn sigma(self, share: f64) -> f64 {
        match self {
            Self::Log => 10.0 * 0.01_f64.powf(share),
            Self::Sigma => 4.0 - 3.0 * share,
        }
    }
}

fn flow(sigma: f64) -> NoiseLevel {
    NoiseLevel::rectified_flow(sigma / (1.0 + sigma)).unwrap()
}

/// x/a on the flow of N(0.4, 0.5²) that ends at 1.
fn exact(sigma: f64) -> f64 {
    0.4 + 0.6 * sigma.hypot(0.5) / 0.5
}

/// The error of x/a after `n` steps, with exact evaluations before the first.
fn error(
    solver: &dyn Solver,
    along: Along,
    level: fn(f64) -> NoiseLevel,
    n: i32,
    known: i32,
) -> f64 {
    let denoiser = |x: f64, at: NoiseLevel| Said::x0(gauss(x / at.signal(), at.sigma()), x, at);
    let mut run = Run::new(solver, denoiser);
    let sigma = |i: i32| along.sigma(f64::from(i) / f64::from(n));
    let state = |i: i32| vec![level(sigma(i)).signal() * exact(sigma(i))];
    for i in -known..0 {
        run.remember(level(sigma(i)), state(i));
    }
    let levels: Vec<_> = (0..=n).map(|i| level(sigma(i))).collect();
    let x = run.all(&levels, state(0))[0] / level(sigma(n)).signal();
    (x - exact(sigma(n))).abs()
}

fn single(interpolant: Interpolant, order: usize, slope: Slope, r: [f64; 2]) -> Box<dyn Solver> {
    let noise = StageNoise::None;
    Box::new(SingleStep {
        interpolant,
        order,
        slope,
        r,
        noise,
    })
}

fn blocks(interpolant: Interpolant, order: usize, slope: Slope, steps: usize) -> Box<dyn Solver> {
    Box::new(Blocks {
        interpolant,
        order,
        slope,
        noise: 0.0,
        steps,
        lower_order_final: false,
    })
}

fn adams(order: usize, nodes: Nodes) -> Box<dyn Solver> {
    Box::new(Adams {
        order,
        nodes,
        euler_final: false,
    })
}

/// Without noise: φ = σ. The third stage uses a difference quotient for the derivative at t, so its
/// order is that of the second.
fn er_sde(stages: usize) -> Box<dyn Solver> {
    Box::new(ErSde {
        stages,
        scale: |sigma| sigma,
        noise: 1.0,
        rectangles: 10_000,
    })
}

/// The level in the middle of two with a = 1, by σ.
fn middle(t: NoiseLevel, s: NoiseLevel) -> NoiseLevel {
    let sigma = 0.5 * (t.sigma() + s.sigma());
    if t.signal() == 1.0 {
        ve(sigma)
    } else if t.signal().hypot(t.noise()) > 1.0 - 1e-9 {
        vp(sigma)
    } else {
        flow(sigma)
    }
}

/// Makes the solver for a number of steps.
type Make<'a> = Box<dyn Fn(usize) -> Box<dyn Solver> + 'a>;

/// Name, order, spacing of σ, the number of earlier evaluations, and the solver of `n` steps.
///
/// An Adams step with too few evaluations has lower order and would determine the order of the run,
/// so the evaluations before the first step are given.
#[test]
fn every_solver_has_its_order() {
    use Along::{Log, Sigma};
    use Interpolant::{Epsilon, X0};
    use Slope::{Chord, Exact};
    let churn = Churn::NONE;
    let heun = |frame| Heun { frame, churn };
    let thirds = [1.0 / 3.0, 2.0 / 3.0];
    #[rustfmt::skip]
    let rows: Vec<(&str, f64, Along, i32, Make)> = vec![
        ("Euler", 1.0, Log, 0, Box::new(|_| Box::new(Euler { churn }))),
        ("Euler, η 0", 1.0, Log, 0,
         Box::new(|_| Box::new(Ancestral { solver: Euler { churn }, eta: 0.0 }))),
        ("TCD, γ 0", 1.0, Log, 0, Box::new(|_| Box::new(Tcd { below: |s| s }))),
        ("Heun over σ", 2.0, Log, 0, Box::new(move |_| Box::new(heun(Frame::Sigma)))),
        ("Heun over the flow's time", 2.0, Log, 0, Box::new(move |_| Box::new(heun(Frame::Flow)))),
        ("DPM2", 2.0, Log, 0, Box::new(|_| Box::new(Dpm2 { churn }))),
        ("LMS 2", 2.0, Log, 1, Box::new(|_| adams(2, Nodes::Sigma))),
        ("LMS 3", 3.0, Log, 2, Box::new(|_| adams(3, Nodes::Sigma))),
        ("LMS 4", 4.0, Log, 3, Box::new(|_| adams(4, Nodes::Sigma))),
        ("iPNDM 2", 2.0, Sigma, 1, Box::new(|_| adams(2, Nodes::Equal))),
        ("iPNDM 3", 3.0, Sigma, 2, Box::new(|_| adams(3, Nodes::Equal))),
        ("iPNDM 4", 4.0, Sigma, 3, Box::new(|_| adams(4, Nodes::Equal))),
        ("PNDM", 4.0, Sigma, 0, Box::new(|_| Box::new(Pndm { middle }))),
        ("gradient estimation, γ 2", 1.0, Sigma, 1,
         Box::new(|_| Box::new(GradientEstimation { gamma: 2.0 }))),
        ("gradient estimation, γ 3/2", 2.0, Sigma, 1,
         Box::new(|_| Box::new(GradientEstimation { gamma: 1.5 }))),
        ("DPM-Solver-1", 1.0, Log, 0, Box::new(|_| Box::new(SingleStep::dpm_solver(1)))),
        ("DPM-Solver-2", 2.0, Log, 0, Box::new(|_| Box::new(SingleStep::dpm_solver(2)))),
        ("DPM-Solver-3", 3.0, Log, 0, Box::new(|_| Box::new(SingleStep::dpm_solver(3)))),
        ("DPM-Solver-fast", 3.0, Log, 0, Box::new(|n| Box::new(DpmFast { evaluations: 3 * n + 2 }))),
        ("DPM-Solver++ 2", 2.0, Log, 0, Box::new(move |_| single(X0, 2, Chord, thirds))),
        ("DPM-Solver++ 3", 3.0, Log, 0, Box::new(move |_| single(X0, 3, Chord, thirds))),
        ("exponential Heun", 2.0, Log, 0, Box::new(|_| single(X0, 2, Exact, [1.0; 2]))),
        ("exponential 3", 3.0, Log, 0, Box::new(move |_| single(Epsilon, 3, Exact, thirds))),
        ("blocks of 2", 2.0, Log, 0, Box::new(|n| blocks(X0, 2, Chord, n))),
        ("blocks of 2, exact", 2.0, Log, 0, Box::new(|n| blocks(Epsilon, 2, Exact, n))),
        ("blocks of 3, exact", 3.0, Log, 0, Box::new(|n| blocks(X0, 3, Exact, n))),
        ("ER-SDE 1", 1.0, Log, 0, Box::new(|_| er_sde(1))),
        ("ER-SDE 2", 2.0, Log, 1, Box::new(|_| er_sde(2))),
        ("ER-SDE 3", 2.0, Log, 2, Box::new(|_| er_sde(3))),
    ];
    let mut faults = Vec::new();
    for (name, order, along, known, make) in rows {
        // A number of steps that is a multiple of the block length.
        let n = 96;
        let error =
            |n: i32, level| error(&*make(n.unsigned_abs() as usize), along, level, n, known);
        let [coarse, fine] = [n, 2 * n].map(|n| error(n, ve as fn(f64) -> NoiseLevel));
        let observed = (coarse / fine).log2();
        if (observed - order).abs() > 0.3 {
            faults.push(format!(
                "{name}: order {observed:.2}, not {order}; error {fine:.1e}"
            ));
        }
        // x/a is the same in every process, up to rounding.
        for level in [vp as fn(f64) -> NoiseLevel, flow] {
            let other = error(n, level);
            if (other - coarse).abs() > 1e-11 {
                faults.push(format!(
                    "{name}: error {coarse:e} with a = 1, {other:e} otherwise"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
