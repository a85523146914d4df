//! DPM-Solver, DPM-Solver++ and DEIS.

use ddpm_schedule::solver::{Exponential, Interpolant, Position, Row, Solver, Step, Weights};
use ddpm_schedule::{Grid, GridOptions, Levels, NoiseLevel, Parametrization, Process};

use super::ddpm::noised;
use super::{assert_seeded, assert_sum, index, lin, network, sample};
use crate::scalars::Run;

/// The 10 levels of the DPM family, and the end: σ_min or clean data.
pub(super) fn levels(zero: bool) -> Vec<NoiseLevel> {
    let schedule = lin();
    let times = [999, 899, 799, 699, 599, 500, 400, 300, 200, 100];
    let level = |t: u32| schedule.level(schedule.timestep(t + 1).unwrap());
    let end = if zero { NoiseLevel::CLEAN } else { level(0) };
    times.into_iter().map(level).chain([end]).collect()
}

fn run(solver: &dyn Solver, zero: bool) -> Vec<f64> {
    let schedule = lin();
    let network = network(Parametrization::Epsilon, index(&schedule));
    Run::new(solver, network).all(&levels(zero), sample())
}

/// Interpolant, noise, order, weights; then the sums that end at σ_min and at clean data, each
/// without a lower order at the end and with it. 0 means none, because ε̂ is not defined at clean
/// data.
#[test]
fn every_variant_of_the_multistep_solver() {
    use Interpolant::{Epsilon, X0};
    use Weights::{Midpoint, Taylor};
    #[rustfmt::skip]
    let rows = [
        (Epsilon, 0.0, 1, Taylor, [172.2639631, 172.2639631, 0.0, 0.0]),
        (Epsilon, 0.0, 2, Midpoint, [223.5867801, 184.9211377, 0.0, 0.0]),
        (Epsilon, 0.0, 2, Taylor, [203.6039913, 183.6761901, 0.0, 0.0]),
        (Epsilon, 0.0, 3, Midpoint, [204.9881658, 186.0467202, 0.0, 0.0]),
        (Epsilon, 0.0, 3, Taylor, [205.0088672, 185.2253359, 0.0, 0.0]),
        (X0, 0.0, 1, Taylor, [172.2639631, 172.2639631, 169.9294425, 169.9294425]),
        (X0, 0.0, 2, Midpoint, [253.552879, 187.553088, 185.0113693, 185.0113693]),
        (X0, 0.0, 2, Taylor, [292.1312195, 189.3125291, 186.7469665, 186.7469665]),
        (X0, 0.0, 3, Midpoint, [176.9626586, 190.1708817, 188.0457197, 187.5936866]),
        (X0, 0.0, 3, Taylor, [176.9411627, 191.263108, 188.0228775, 188.6711111]),
        (Epsilon, 1.0, 1, Taylor, [284.1618286, 284.1618286, 0.0, 0.0]),
        (Epsilon, 1.0, 2, Midpoint, [5015.585773, 679.67918, 0.0, 0.0]),
        (Epsilon, 1.0, 2, Taylor, [1314.903556, 416.821949, 0.0, 0.0]),
        (X0, 1.0, 1, Taylor, [232.8765527, 232.8765527, 232.4453497, 232.4453497]),
        (X0, 1.0, 2, Midpoint, [525.9545605, 279.2133568, 278.8484487, 278.8484487]),
        (X0, 1.0, 2, Taylor, [774.7810448, 291.5608949, 291.1149009, 291.1149009]),
    ];
    for (of, noise, order, weights, sums) in rows {
        for (i, expected) in sums.into_iter().enumerate().filter(|row| row.1 != 0.0) {
            let solver = Exponential {
                interpolant: of,
                order,
                weights,
                noise,
                lower_order_final: i % 2 == 1,
            };
            let x = run(&solver, i >= 2);
            if noise == 0.0 {
                assert_sum(&x, expected);
            } else {
                assert_seeded(&x, expected);
            }
        }
    }
}

/// DEIS interpolates over the logarithm of σ, and integrates exactly.
#[test]
fn deis() {
    for (order, without, with) in [
        (1, 172.2639631, 172.2639631),
        (2, 203.6039913, 183.6761901),
        (3, 205.0898858, 185.579727),
    ] {
        for (lower_order_final, expected) in [(false, without), (true, with)] {
            let solver = Exponential {
                interpolant: Interpolant::Epsilon,
                order,
                weights: Weights::Lagrange,
                noise: 0.0,
                lower_order_final,
            };
            assert_sum(&run(&solver, false), expected);
        }
    }
}

/// At order 3, diffusers' `sde-dpmsolver++` gives the second difference D₂ the weight ((1 − e⁻²ʰ −
/// 2h)/(2h)² − ½), which has the wrong sign: the weight of its own `dpmsolver++`, with 2h for h, is
/// ½ − (e⁻²ʰ − 1 + 2h)/(2h)². With the wrong sign its numbers are reproduced, so ours differ.
#[test]
fn the_third_order_with_noise_differs_by_a_sign() {
    struct Theirs(Exponential);

    impl Solver for Theirs {
        fn step(&self, at: &Position) -> Step {
            let mut step = self.0.step(at);
            let last = match at.left {
                Some(left) if self.0.lower_order_final => left + 1,
                _ => usize::MAX,
            };
            if at.past.len() < 2 || last < 3 || at.s == NoiseLevel::CLEAN {
                return step;
            }
            let lambda = |level: NoiseLevel| 0.5 * level.log_snr();
            let h = lambda(at.s) - lambda(at.t);
            let r0 = (lambda(at.t) - lambda(at.past[0])) / h;
            let r1 = (lambda(at.past[0]) - lambda(at.past[1])) / h;
            let d1_0 = 1.0 / r0 * (Row::x0(0) - Row::x0(1));
            let d1_1 = 1.0 / r1 * (Row::x0(1) - Row::x0(2));
            let d2 = 1.0 / (r0 + r1) * (d1_0 - d1_1);
            // From ½ − w/2h to −½ − w/2h: the difference is 1.
            step.last = step.last - at.s.signal() * d2;
            step
        }
    }

    for (weights, sums) in [
        (
            Weights::Midpoint,
            [1409.108547, 276.688205, 272.8930081, 276.4201503],
        ),
        (
            Weights::Taylor,
            [1409.108526, 286.6699587, 272.8929506, 286.4291954],
        ),
    ] {
        for (i, expected) in sums.into_iter().enumerate() {
            let ours = Exponential {
                interpolant: Interpolant::X0,
                order: 3,
                weights,
                noise: 1.0,
                lower_order_final: i % 2 == 1,
            };
            assert_seeded(&run(&Theirs(ours), i >= 2), expected);
        }
    }
}

/// DPM-Solver++(2M) without a lower order at the end.
const DPMPP_2M: Exponential = Exponential {
    interpolant: Interpolant::X0,
    order: 2,
    weights: Weights::Midpoint,
    noise: 0.0,
    lower_order_final: false,
};

/// The peer's other outputs and other grids, to σ_min. Its tenth level of Karras', exponential and
/// Beta σ is σ_min, so its last step changes nothing. The network times of these are rounded or
/// truncated.
#[test]
fn other_outputs_and_other_grids() {
    use Parametrization::{Epsilon, V, X0};
    type Told = fn(f64) -> f64;
    let (exact, round, floor): (Told, Told, Told) = (|x| x, f64::round, |x| (x + 1e-9).floor());
    let process = Process::from(lin());
    let (_, first) = process.ends();
    let with_end = |grid: Grid, n: usize, end: NoiseLevel| {
        let options = GridOptions {
            end: Some(end),
            ..GridOptions::default()
        };
        grid.levels_with(&process, n, options).unwrap()
    };
    let linspace = with_end(Grid::Linspace, 10, first);
    let leading = with_end(Grid::Leading { offset: 0 }, 10, first);
    let to_first = |grid: Grid| {
        let levels = grid.levels(&process, 10).unwrap();
        levels.ending_at(first).unwrap()
    };
    let karras = to_first(Grid::Karras { rho: 7.0 });
    let (alpha, beta) = (0.6, 0.6);
    let beta = to_first(Grid::BetaSigma { alpha, beta });
    let lu = to_first(Grid::LogSnr);
    let run = |parametrization, levels: &Levels, told: Told, x| {
        let told = |at| told(process.time(at));
        Run::new(&DPMPP_2M, network(parametrization, told)).all(levels.as_slice(), x)
    };
    for (parametrization, levels, told, expected) in [
        (V, &linspace, exact, 172.8763003),
        (X0, &linspace, exact, 847.0459554),
        (Epsilon, &leading, exact, 246.22233),
        (Epsilon, &to_first(Grid::Trailing), exact, 253.0923102),
        (Epsilon, &karras, round, 226.1747937),
        (V, &karras, round, 160.6655289),
        (Epsilon, &lu, round, 208.9846114),
        (V, &lu, round, 119.3652386),
        (Epsilon, &to_first(Grid::Exponential), floor, 209.2337327),
        (Epsilon, &beta, floor, 64.9210898),
    ] {
        let x = run(parametrization, levels, told, sample());
        assert_sum(&x, expected);
    }
    let rest = Levels::new(linspace.as_slice()[5..].iter().copied()).unwrap();
    let x = run(Epsilon, &rest, exact, noised(rest.start()));
    assert_sum(&x, 318.4129811);
    let twenty = with_end(Grid::Linspace, 20, NoiseLevel::CLEAN);
    assert_sum(&run(Epsilon, &twenty, exact, sample()), 194.6491927);
}
