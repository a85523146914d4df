//! DPM-Solver, DPM-Solver++ and DEIS.

use ddpm_schedule::solver::{Exponential, Of, Weights};
use ddpm_schedule::{NoiseLevel, Parametrization};

use super::{assert_sum, index, lin, network, sample};
use crate::scalars::Run;

/// The 10 levels of the DPM family, and the end: σ_min or clean data.
fn levels(zero: bool) -> Vec<NoiseLevel> {
    let schedule = lin();
    let times = [999, 899, 799, 699, 599, 500, 400, 300, 200, 100];
    let level = |t: u32| schedule.level(schedule.timestep(t + 1).unwrap());
    let end = if zero { NoiseLevel::CLEAN } else { level(0) };
    times.into_iter().map(level).chain([end]).collect()
}

fn run(solver: Exponential, zero: bool) -> Vec<f64> {
    let schedule = lin();
    let network = network(Parametrization::Epsilon, index(&schedule));
    Run::new(&solver, network).all(&levels(zero), sample())
}

/// Order, weights, then σ_min and zero, each with the lower order at the end and without.
#[test]
fn every_variant_of_the_multistep_solver() {
    use Of::{Epsilon, X0};
    use Weights::{Midpoint, Taylor};
    let nan = f64::NAN;
    #[rustfmt::skip]
    let rows = [
        (Epsilon, 0.0, 1, Taylor, [172.2639631, 172.2639631, nan, nan]),
        (Epsilon, 0.0, 2, Midpoint, [223.5867801, 184.9211377, nan, nan]),
        (Epsilon, 0.0, 2, Taylor, [203.6039913, 183.6761901, nan, nan]),
        (Epsilon, 0.0, 3, Midpoint, [204.9881658, 186.0467202, nan, nan]),
        (Epsilon, 0.0, 3, Taylor, [205.0088672, 185.2253359, nan, nan]),
        (X0, 0.0, 1, Taylor, [172.2639631, 172.2639631, 169.9294425, 169.9294425]),
        (X0, 0.0, 2, Midpoint, [253.552879, 187.553088, 185.0113693, 185.0113693]),
        (X0, 0.0, 2, Taylor, [292.1312195, 189.3125291, 186.7469665, 186.7469665]),
        (X0, 0.0, 3, Midpoint, [176.9626586, 190.1708817, 188.0457197, 187.5936866]),
        (X0, 0.0, 3, Taylor, [176.9411627, 191.263108, 188.0228775, 188.6711111]),
        (Epsilon, 1.0, 1, Taylor, [284.1618286, 284.1618286, nan, nan]),
        (Epsilon, 1.0, 2, Midpoint, [5015.585773, 679.67918, nan, nan]),
        (Epsilon, 1.0, 2, Taylor, [1314.903556, 416.821949, nan, nan]),
        (X0, 1.0, 1, Taylor, [232.8765527, 232.8765527, 232.4453497, 232.4453497]),
        (X0, 1.0, 2, Midpoint, [525.9545605, 279.2133568, 278.8484487, 278.8484487]),
        (X0, 1.0, 2, Taylor, [774.7810448, 291.5608949, 291.1149009, 291.1149009]),
        (X0, 1.0, 3, Midpoint, [1409.108547, 276.688205, 272.8930081, 276.4201503]),
        (X0, 1.0, 3, Taylor, [1409.108526, 286.6699587, 272.8929506, 286.4291954]),
    ];
    let mut bad = 0;
    for (of, noise, order, weights, sums) in rows {
        for (i, expected) in sums.into_iter().enumerate() {
            let solver = Exponential {
                of,
                order,
                weights,
                noise,
                lower_order_final: i % 2 == 1,
            };
            if expected.is_nan() {
                continue;
            }
            let x = run(solver, i >= 2);
            let got = super::size(&x);
            if (got / expected - 1.0).abs() > 1e-9 {
                eprintln!("{of:?} {noise} {order} {weights:?} {i}: {got} is not {expected}");
                bad += 1;
            }
        }
    }
    assert_eq!(bad, 0);
}
