//! DDIM and its inversion, with the ε̂ that the peer uses: the network's own, from before x̂₀ is
//! clipped.

use ddpm_schedule::solver::{Ddim, Eta, Position, Solver};
use ddpm_schedule::{Grid, Levels, NoiseLevel, NoiseSchedule, Parametrization};

use super::ddpm::{batches, clipped, noised};
use super::{assert_seeded, assert_sum, index, lin, network, noise, sample, size};
use crate::assert_close;
use crate::scalars::{Run, Said};
use crate::torch::Torch;

const DDIM: Ddim = Ddim { eta: Eta::ZERO };

/// Ten leading levels, and clean data.
fn leading(schedule: &NoiseSchedule) -> Levels {
    let grid = Grid::Leading { offset: 0 };
    grid.levels(&schedule.clone().into(), 10).unwrap()
}

/// A run with x̂₀ clipped to ±1 and the unclipped ε̂.
fn run(
    solver: &dyn Solver,
    parametrization: Parametrization,
    schedule: &NoiseSchedule,
    levels: &[NoiseLevel],
    x: Vec<f64>,
) -> Vec<f64> {
    let network = network(parametrization, index(schedule));
    Run::new(solver, clipped(network, 1.0, true)).all(levels, x)
}

#[test]
fn ddim() {
    let (schedule, levels) = (lin(), leading(&lin()));
    let levels = levels.as_slice();
    let (eps, v) = (Parametrization::Epsilon, Parametrization::V);
    for (parametrization, expected) in [(eps, 172.0065222), (v, 52.53012385)] {
        let x = run(&DDIM, parametrization, &schedule, levels, sample());
        assert_sum(&x, expected);
    }
    let rest = &levels[8..];
    let x = run(&DDIM, eps, &schedule, rest, noised(rest[0]));
    assert_sum(&x, 354.5415012);
}

#[test]
fn with_noise() {
    let (schedule, levels) = (lin(), leading(&lin()));
    for (eta, expected) in [(0.5, 238.7257124), (1.0, 234.8298169)] {
        let eta = Eta::new(eta).unwrap();
        let eps = Parametrization::Epsilon;
        let x = run(&Ddim { eta }, eps, &schedule, levels.as_slice(), sample());
        assert_seeded(&x, expected);
    }
}

/// The peer subtracts 1000/10 from each t and arrives at clean data.
#[test]
fn in_parallel() {
    assert_sum(&batches(&DDIM, true, true), 1147.790569);
}

/// The peer's `set_alpha_to_one`: whether the last step leads to clean data or to t = 1. With its
/// ten times, the last step to t = 1 also starts there and changes nothing.
#[test]
fn to_either_end() {
    let schedule = NoiseSchedule::linear(1000, 0.01, 0.02).unwrap();
    let to_clean = leading(&schedule);
    let to_first = to_clean
        .ending_at(schedule.level(schedule.first()))
        .unwrap();
    assert_eq!((to_clean.len(), to_first.len()), (10, 9));
    for (levels, expected) in [(to_clean, 149.8294595), (to_first, 149.07843)] {
        let eps = Parametrization::Epsilon;
        let x = run(&DDIM, eps, &schedule, levels.as_slice(), sample());
        assert_sum(&x, expected);
    }
}

/// The inverse of ten leading steps, starting at t = 1. A solver cannot leave clean data; the
/// peer's first step from there diffuses it by the network's own ε̂. If it starts at t = 1 instead,
/// its first step changes nothing but what it clips.
///
/// The peer's network time is that of the level to which a step leads.
fn inverted(
    schedule: &NoiseSchedule,
    parametrization: Parametrization,
    from_clean: bool,
    range: f64,
) -> Vec<f64> {
    let first = schedule.level(schedule.first());
    let back = leading(schedule).ending_at(first).unwrap();
    let back = back.inverse().unwrap();
    let next = |at: NoiseLevel| {
        let step = back.pairs().find(|&(t, _)| t == at);
        step.expect("a level of the run").1
    };
    let told = index(schedule);
    let (a, b) = (first.signal(), first.noise());
    let still = clipped(network(parametrization, index(schedule)), range, true);
    let start = |x: f64| {
        // At clean data the network time is 0, and the network's ε̂ is 0.
        let clean = Said { x0: x, eps: 0.0 };
        let said = if from_clean { clean } else { still(x, first) };
        a * said.x0 + b * said.eps
    };
    let start = sample().into_iter().map(start).collect();
    let network = network(parametrization, |at| told(next(at)));
    let denoiser = clipped(network, range, true);
    Run::new(&DDIM, denoiser).all(back.as_slice(), start)
}

#[test]
fn inverse_ddim() {
    let wide = NoiseSchedule::linear(1000, 0.01, 0.02).unwrap();
    let (linear, eps) = (lin(), Parametrization::Epsilon);
    for (schedule, parametrization, from_clean, expected) in [
        (&linear, eps, true, 671.6821077),
        (&linear, Parametrization::V, true, 1394.219338),
        (&wide, eps, true, 539.9621603),
        (&wide, eps, false, 542.6721657),
    ] {
        let x = inverted(schedule, parametrization, from_clean, 1.0);
        assert_sum(&x, expected);
    }
    // Without the clip, which does not belong in steps towards noise: the same where it never acts,
    // and 7 % off where it does.
    let x = inverted(&linear, eps, true, f64::INFINITY);
    assert_sum(&x, 671.6821077);
    let x = inverted(&linear, Parametrization::V, true, f64::INFINITY);
    assert_close(size(&x), 1305.6658, 1e-2);
}

/// RePaint (Lugmayr et al. 2022, algorithm 1): ten steps, every second of which is followed by two
/// steps back to more noise and taken again. Where w < 4 the picture is known: `noise`. The peer
/// goes back by a hundred single steps of the chain, and uses the noise of the step for the known
/// part.
#[test]
fn repaint() {
    let schedule = lin();
    let level = |step: u32| match step {
        0 => NoiseLevel::CLEAN,
        _ => schedule.level(schedule.timestep(100 * step - 99).unwrap()),
    };
    let ways = [(0.0, 345.1563936), (1.0, 342.7082157)];
    for (eta, expected) in ways {
        let eta = Eta::new(eta).unwrap();
        let network = network(Parametrization::Epsilon, index(&schedule));
        let said = clipped(network, 1.0, true);
        let mut torch = Torch::new(0);
        let mut x = sample();
        let down = |x: &mut Vec<f64>, torch: &mut Torch, step: u32| {
            let (t, s) = (level(step), level(step - 1));
            let (past, left) = (&[][..], None);
            let row = Ddim { eta }.step(&Position { past, t, s, left }).last;
            let z = torch.randn(x.len());
            for (i, (x, known)) in x.iter_mut().zip(noise()).enumerate() {
                let Said { x0, eps } = said(*x, t);
                let shown = t.signal() * x0 + t.noise() * eps;
                let unknown = row.past[0].x * shown + row.past[0].x0 * x0 + row.z[0] * z[i];
                let known = s.signal() * known + s.noise() * z[i];
                *x = if i % 8 < 4 { known } else { unknown };
            }
        };
        let up = |x: &mut Vec<f64>, torch: &mut Torch, step: u32| {
            for t in 100 * step - 99..=100 * step {
                let beta = schedule.beta(schedule.timestep(t).unwrap());
                let z = torch.randn(x.len());
                for (x, z) in x.iter_mut().zip(z) {
                    *x = (1.0 - beta).sqrt() * *x + beta.sqrt() * z;
                }
            }
        };
        for step in (1..=10).rev() {
            down(&mut x, &mut torch, step);
            // At 7, 5, 3 and 1, counted from the least noisy.
            if step % 2 == 1 && step < 9 {
                up(&mut x, &mut torch, step);
                up(&mut x, &mut torch, step + 1);
                down(&mut x, &mut torch, step + 1);
                down(&mut x, &mut torch, step);
            }
        }
        assert_seeded(&x, expected);
    }
}
