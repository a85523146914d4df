//! Methods over σ: Euler, Heun, DPM2 and LMS, on the fixtures of diffusers.

use std::cell::Cell;

use ddpm_schedule::solver::{
    Adams, Ancestral, Churn, Dpm2, Euler, Frame, Heun, Nodes, Position, Row, Solver, Step,
};
use ddpm_schedule::{NoiseLevel, Parametrization};

use super::grids::{Grid, beta, exponential, karras, lin11, linspace, sigmas, vp};
use super::{Check, network, noise, sample, size};
use crate::scalars::Run;

const EULER: Euler = Euler { churn: Churn::NONE };
const HEUN: Heun = Heun {
    frame: Frame::Sigma,
    churn: Churn::NONE,
};
const DPM2: Dpm2 = Dpm2 { churn: Churn::NONE };

fn lms(order: usize) -> Adams {
    Adams {
        order,
        nodes: Nodes::Sigma,
        euler_final: false,
    }
}

fn ancestral<S>(solver: S) -> Ancestral<S> {
    Ancestral { solver, eta: 1.0 }
}

/// Σ|x/a| at the end of the grid, from `start` = x/a at step `from`.
fn run(
    solver: &dyn Solver,
    grid: &Grid,
    parametrization: Parametrization,
    from: usize,
    start: Vec<f64>,
) -> f64 {
    run_told(solver, grid, parametrization, from, start, grid.clock())
}

/// The same with other network times.
fn run_told(
    solver: &dyn Solver,
    grid: &Grid,
    parametrization: Parametrization,
    from: usize,
    start: Vec<f64>,
    clock: impl Fn(NoiseLevel) -> f64,
) -> f64 {
    let network = network(parametrization, clock);
    let levels = &grid.levels[from..];
    let scale = |x: Vec<f64>, by: f64| x.into_iter().map(|x| x * by).collect();
    let x = Run::new(solver, network).all(levels, scale(start, levels[0].signal()));
    size(&x) / levels[levels.len() - 1].signal()
}

/// x/a = x₀·σ_T, at the first step of the tests.
fn start(grid: &Grid) -> Vec<f64> {
    let sigma = grid.levels[0].sigma();
    sample().into_iter().map(|x| x * sigma).collect()
}

/// x/a = x₀ + σ·ε at the ninth step.
fn noised(grid: &Grid) -> Vec<f64> {
    let sigma = grid.levels[8].sigma();
    let pairs = sample().into_iter().zip(noise());
    pairs.map(|(x0, eps)| x0 + sigma * eps).collect()
}

type Case = (&'static str, Box<dyn Solver>, f64, [f64; 7]);

/// ε, v, ε from the ninth step on, then ε and v along Karras' σ, ε along equal ln σ and along Beta
/// quantiles. Along Karras' σ, KDPM2 of diffusers rounds the network times of the first stage of
/// each step. NaN marks what is omitted:
///
/// - LMS from the ninth step on is 186.5858656 in diffusers, which there takes the weights of
///   order 4 from steps before the first and drops those of the missing evaluations, which is not
///   a method of any order.
/// - DPM2 with ancestral noise along Beta quantiles is ill-conditioned.
#[test]
fn ten_steps_in_sigma() {
    use Parametrization::{Epsilon, V};
    let nan = f64::NAN;
    #[rustfmt::skip]
    let rows: [Case; 6] = [
        ("euler", Box::new(EULER), 1e-9,
         [168.0513608, 46.9140314, 344.03503, 156.684233, 25.332789, 164.3553691, 25.83777319]),
        ("euler_a", Box::new(ancestral(EULER)), 1e-7,
         [233.2861668, 137.2152848, 339.692157, nan, nan, nan, nan]),
        ("heun", Box::new(HEUN), 1e-9,
         [244.6023677, 116.0957255, 440.498807, 248.2054263, 180.2748087, 232.5240509, 2384.18884]),
        ("lms", Box::new(lms(4)), 1e-9,
         [191.193927, 76.93928193, nan, 172.0856548, 54.46921451, 177.8251909, 27.64772569]),
        ("kdpm2", Box::new(DPM2), 1e-9,
         [218.2558644, 107.879165, 401.445492, 223.2704216, 140.1607127, 213.7177893, 2941.061712]),
        ("kdpm2_a", Box::new(ancestral(DPM2)), 1e-7,
         [456.553277, 422.6229834, 537.4411739, 439.9693794, 742.8008576, 364.824833, nan]),
    ];
    let schedule = lin11();
    let even = || Grid::linspace(&schedule);
    let by = |rule| Grid::by(&schedule, rule);
    let mut check = Check::new();
    for (name, solver, tolerance, sums) in rows {
        let columns = [
            (Epsilon, even()),
            (V, even()),
            (Epsilon, even()),
            (Epsilon, by(karras)),
            (V, by(karras)),
            (Epsilon, by(exponential)),
            (Epsilon, by(beta)),
        ];
        for (i, ((parametrization, grid), sum)) in columns.into_iter().zip(sums).enumerate() {
            let (from, x) = if i == 2 {
                (8, noised(&grid))
            } else {
                (0, start(&grid))
            };
            let rounded = name.starts_with("kdpm2") && (i == 3 || i == 4);
            let calls = Cell::new(0);
            let told = |at| {
                let stage = calls.replace(calls.get() + 1) / 768 % 2;
                let time = grid.clock()(at);
                if rounded && stage == 0 {
                    time.round()
                } else {
                    time
                }
            };
            let got = run_told(&*solver, &grid, parametrization, from, x, told);
            check.relative(&format!("{name} {i}"), got, sum, tolerance);
        }
    }
    check.done();
}

/// Other rules for times, such as T·(N − i)/N.
#[test]
fn euler_along_other_times() {
    let schedule = lin11();
    let mut check = Check::new();
    let mut row = |name, grid: &Grid, parametrization, start, expected| {
        let got = run(&EULER, grid, parametrization, 0, start);
        check.relative(name, got, expected, 1e-9);
    };
    let leading = (0..10).rev().map(|i| f64::from(i) * 110.0).collect();
    let leading = Grid::at_times(sigmas(&schedule), leading);
    // Here diffusers starts from √(σ² + 1).
    let wide = leading.levels[0].sigma().hypot(1.0);
    let wide = sample().into_iter().map(|x| x * wide).collect();
    row(
        "leading",
        &leading,
        Parametrization::Epsilon,
        wide,
        170.716_437_9,
    );
    let trailing = (1..=10).rev().map(|i| f64::from(i) * 110.0 - 1.0).collect();
    let trailing = Grid::at_times(sigmas(&schedule), trailing);
    let x = start(&trailing);
    row(
        "trailing",
        &trailing,
        Parametrization::Epsilon,
        x,
        168.741_392_4,
    );
    // 11 σ equal in ln σ, with the times of ten equal steps; the last time is not used.
    let all = sigmas(&schedule);
    let levels = exponential(all[all.len() - 1], all[0], 11)
        .into_iter()
        .map(vp);
    let loglinear = Grid::told(levels.collect(), linspace(1099.0, 0.0, 10));
    let x = start(&loglinear);
    row(
        "loglinear",
        &loglinear,
        Parametrization::Epsilon,
        x,
        169.026_895_9,
    );
    // v on a schedule without signal at the end, where diffusers uses ᾱ_T = 2⁻²⁴.
    let mut rescaled = sigmas(&schedule.rescale_zero_terminal_snr().unwrap());
    rescaled[1099] = (2.0_f64.powi(24) - 1.0).sqrt();
    let grid = Grid::at_times(rescaled, linspace(1099.0, 0.0, 10));
    let x = start(&grid);
    row("zero SNR", &grid, Parametrization::V, x, 46.611_872_66);
    check.done();
}

/// Euler's method with the churn of diffusers, which adds the noise after evaluating the network at
/// σ:
/// x_s/a_s = x̂/a + (σ_s − σ̂)·ε̂(x, σ), not ε̂(x̂, σ̂) as Karras et al. do.
struct ChurnedLate {
    gamma: f64,
    noise: f64,
}

impl Solver for ChurnedLate {
    fn step(&self, &Position { t, s, .. }: &Position) -> Step {
        let (sigma, hat) = (t.sigma(), (1.0 + self.gamma) * t.sigma());
        let added = (hat * hat - sigma * sigma).sqrt() * self.noise;
        let y = 1.0 / t.signal() * Row::state() + added * Row::z(0);
        Step::one(t, s.signal() * (y + (s.sigma() - hat) * Row::eps(0, t)))
    }
}

#[test]
fn the_churn_of_diffusers_differs() {
    let grid = Grid::linspace(&lin11());
    let Churn { gamma, .. } = Churn::new(40.0, 10);
    let noise = 1.003;
    let churned =
        |solver: &dyn Solver| run(solver, &grid, Parametrization::Epsilon, 0, start(&grid));
    let mut check = Check::new();
    let late = churned(&ChurnedLate { gamma, noise });
    check.relative("late", late, 406.484_733_3, 1e-7);
    let none = Churn::new(0.0, 10);
    let quiet = churned(&Euler { churn: none });
    check.relative("none", quiet, 168.051_360_8, 1e-9);
    check.done();
}

/// Orders 1 to 4.
#[test]
fn every_order_of_lms() {
    let grid = Grid::linspace(&lin11());
    let mut check = Check::new();
    let sums = [168.051_360_8, 184.228_930_9, 189.296_840_5, 191.193_927];
    for (order, expected) in (1..).zip(sums) {
        let got = run(
            &lms(order),
            &grid,
            Parametrization::Epsilon,
            0,
            start(&grid),
        );
        check.relative(&format!("order {order}"), got, expected, 1e-9);
    }
    check.done();
}
