//! UniPC and SA-Solver.

use ddpm_schedule::solver::{Bh, Interpolant, SaSolver, Solver, UniPc};
use ddpm_schedule::{NoiseLevel, NoiseSchedule, Parametrization};

use super::exponential::levels;
use super::{assert_seeded, assert_sum, index, lin, network, sample};
use crate::scalars::Run;

fn run(solver: &dyn Solver, parametrization: Parametrization, zero: bool) -> Vec<f64> {
    let schedule = lin();
    let network = network(parametrization, index(&schedule));
    Run::new(solver, network).all(&levels(zero), sample())
}

/// With clean data at the end, the peer's bh1 divides ∞ by ∞. Its limit is a step of order 1, as
/// for bh2.
#[test]
fn unipc() {
    use Bh::{Bh1, Bh2};
    use Interpolant::{Epsilon, X0};
    for (of, b, zero, sums) in [
        (X0, Bh1, false, [180.3346622, 193.5753796, 193.5999416]),
        (X0, Bh2, false, [178.4622889, 189.2316532, 189.9727507]),
        (X0, Bh2, true, [175.8761137, 186.7620733, 187.5004288]),
        (Epsilon, Bh1, false, [190.9931466, 189.5344138, 187.8835002]),
        (Epsilon, Bh2, false, [197.2380276, 187.3958697, 185.5230169]),
    ] {
        for (order, expected) in (1..).zip(sums) {
            let lower_order_final = true;
            let solver = UniPc {
                interpolant: of,
                order,
                b,
                lower_order_final,
            };
            let x = run(&solver, Parametrization::Epsilon, zero);
            assert_sum(&x, expected);
        }
    }
}

/// T = 1100: the 10 levels, and σ_min.
fn lin11() -> (NoiseSchedule, Vec<NoiseLevel>) {
    let schedule = NoiseSchedule::linear(1100, 1e-4, 0.02).unwrap();
    let times = [1099, 989, 879, 769, 659, 550, 440, 330, 220, 110, 0];
    let level = |t: u32| schedule.level(schedule.timestep(t + 1).unwrap());
    let levels = times.into_iter().map(level).collect();
    (schedule, levels)
}

/// The peer also draws noise if τ = 0.
#[test]
fn sa_solver() {
    let (schedule, levels) = lin11();
    let lambda = |t: u32| schedule.level(schedule.timestep(t + 1).unwrap()).log_snr();
    for (tau, parametrization, expected) in [
        (0.0, Parametrization::Epsilon, 194.3179737),
        (1.0, Parametrization::Epsilon, 337.3939725),
        (1.0, Parametrization::V, 193.1464197),
    ] {
        let solver = SaSolver {
            predictor: 2,
            corrector: 2,
            tau,
            between: [lambda(800), lambda(200)],
            lower_order_final: true,
            simple_slope: true,
        };
        let network = network(parametrization, index(&schedule));
        let mut run = Run::new(&solver, network);
        run.draws_always = true;
        let x = run.all(&levels, sample());
        assert_seeded(&x, expected);
    }
}
