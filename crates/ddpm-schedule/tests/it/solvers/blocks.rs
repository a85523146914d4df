//! The single-step DPM-Solvers along a given grid.

use ddpm_schedule::solver::{Blocks, Interpolant, Slope};
use ddpm_schedule::{NoiseLevel, Parametrization};

use super::grids::{Grid, karras, linspace, sigmas};
use super::{Check, index, lin, network, noise, sample, size, whole};
use crate::scalars::Run;

/// `n` steps equal in time from t = 999, and the end: σ_min or clean data.
fn levels(n: usize, zero: bool) -> Vec<NoiseLevel> {
    let schedule = lin();
    let level = |t: f64| schedule.level(schedule.timestep(whole(t.round()) + 1).unwrap());
    let times = linspace(0.0, 999.0, n + 1).into_iter().skip(1).rev();
    let end = if zero { NoiseLevel::CLEAN } else { level(0.0) };
    times.map(level).chain([end]).collect()
}

fn run(
    solver: Blocks,
    parametrization: Parametrization,
    levels: &[NoiseLevel],
    x: Vec<f64>,
) -> f64 {
    let schedule = lin();
    let network = network(parametrization, index(&schedule));
    size(&Run::new(&solver, network).all(levels, x))
}

/// Order and slope; then the sums for σ_min and zero, each with a lower order at the end and
/// without.
#[test]
fn every_variant_of_the_single_step_solver() {
    use Interpolant::{Epsilon, X0};
    use Slope::{Chord, Exact};
    let nan = f64::NAN;
    #[rustfmt::skip]
    let rows = [
        (Epsilon, 0.0, 1, Exact, [172.2639631, 172.2639631, nan, nan]),
        (Epsilon, 0.0, 2, Chord, [290.98242, 186.122372, nan, nan]),
        (Epsilon, 0.0, 2, Exact, [216.2968513, 182.3883647, nan, nan]),
        (Epsilon, 0.0, 3, Chord, [187.0833078, 187.0833078, nan, nan]),
        (Epsilon, 0.0, 3, Exact, [186.8259371, 186.8259371, nan, nan]),
        (X0, 0.0, 1, Exact, [172.2639631, 172.2639631, 169.9294425, 169.9294425]),
        (X0, 0.0, 2, Chord, [214.362032, 177.3438261, 174.9404632, 174.9404632]),
        (X0, 0.0, 2, Exact, [249.183548, 179.619551, 177.1853475, 177.1853475]),
        (X0, 0.0, 3, Chord, [189.0940104, 189.0940104, 186.5314091, 186.5314091]),
        (X0, 0.0, 3, Exact, [190.4052153, 190.4052153, 187.8248446, 187.8248446]),
        (X0, 1.0, 1, Exact, [232.8765527, 232.8765527, 232.4453497, 232.4453497]),
        (X0, 1.0, 2, Chord, [390.422727, 226.8193088, 226.6442599, 226.6442599]),
        (X0, 1.0, 2, Exact, [643.3789375, 228.9650007, 228.7600783, 228.7600783]),
    ];
    let mut check = Check::new();
    for (of, noise, order, slope, sums) in rows {
        for (i, expected) in sums.into_iter().enumerate() {
            let solver = Blocks {
                interpolant: of,
                order,
                slope,
                noise,
                steps: 10,
                // In diffusers a last step to clean data always has order 1.
                lower_order_final: i != 0,
            };
            let levels = levels(10, i >= 2);
            let got = run(solver, Parametrization::Epsilon, &levels, sample());
            let tolerance = if noise > 0.0 { 1e-7 } else { 1e-9 };
            let name = format!("{of:?} {noise} {order} {slope:?} {i}");
            check.relative(&name, got, expected, tolerance);
        }
    }
    check.done();
}

/// The assertions of diffusers' tests, in f64.
#[test]
fn dpm_solver_pp_2_of_the_tests() {
    let solver = |steps| Blocks {
        interpolant: Interpolant::X0,
        order: 2,
        slope: Slope::Chord,
        noise: 0.0,
        steps,
        lower_order_final: false,
    };
    let mut check = Check::new();
    let mut row = |name, got, expected| check.relative(name, got, expected, 1e-9);
    let v = run(solver(10), Parametrization::V, &levels(10, false), sample());
    row("v", v, 111.599_470_7);

    // The times of Karras' σ are rounded.
    let all = sigmas(&lin());
    let grid = Grid::at_sigmas(&lin(), karras(all[999], all[0], 10));
    let mut levels_karras = grid.levels.clone();
    levels_karras[10] = lin().level(lin().first());
    for (name, parametrization, expected) in [
        ("Karras", Parametrization::Epsilon, 172.680_235_4),
        ("v Karras", Parametrization::V, 49.846_966_96),
    ] {
        let clock = grid.clock();
        let network = network(parametrization, |at| clock(at).round());
        let solver = solver(10);
        let x = Run::new(&solver, network).all(&levels_karras, sample());
        row(name, size(&x), expected);
    }

    // From the sixth step on, with x_t of the fixtures.
    let rest = &levels(10, false)[5..];
    let (a, b) = (rest[0].signal(), rest[0].noise());
    let x = sample()
        .into_iter()
        .zip(noise())
        .map(|(x, eps)| a * x + b * eps);
    let got = run(solver(10), Parametrization::Epsilon, rest, x.collect());
    row("from the sixth step", got, 269.219_727_3);

    // 50 steps, from the fourth on.
    let rest = &levels(50, false)[3..];
    let got = run(solver(50), Parametrization::Epsilon, rest, sample());
    row("from the fourth of 50", got, 197.664_161_6);
    check.done();
}
