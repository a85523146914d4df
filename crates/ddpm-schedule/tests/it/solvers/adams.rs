//! PNDM and iPNDM.

use std::f64::consts::FRAC_PI_2;

use ddpm_schedule::solver::{Adams, Nodes, Pndm, Position, Row, Solver, Step};
use ddpm_schedule::{NoiseLevel, NoiseSchedule, Parametrization};

use super::{Check, index, lin, network, sample, size, whole};
use crate::scalars::{Run, Said};

/// 900, 800, …, 0, and the level that follows.
fn levels(schedule: &NoiseSchedule, end: NoiseLevel) -> Vec<NoiseLevel> {
    let times = (0..10).rev().map(|i| 100 * i + 1);
    let level = |t: u32| schedule.level(schedule.timestep(t).unwrap());
    times.map(level).chain([end]).collect()
}

/// The level 50 timesteps before t.
fn middle(schedule: &NoiseSchedule) -> impl Fn(NoiseLevel, NoiseLevel) -> NoiseLevel {
    let index = index(schedule);
    let schedule = schedule.clone();
    move |t, _| schedule.level(schedule.timestep(whole(index(t)) + 1 - 50).unwrap())
}

/// PLMS without Runge–Kutta steps, as in diffusers: the first step is a Heun step with the slopes
/// at both of its ends, whose second evaluation is dropped.
struct Plms;

impl Solver for Plms {
    fn step(&self, at: &Position) -> Step {
        let &Position { past, t, s, .. } = at;
        let line = |slope: Row| {
            let slope = (s.noise() - s.signal() * t.sigma()) * slope;
            s.signal() / t.signal() * Row::state() + slope
        };
        if past.is_empty() {
            let asks = vec![(t, Row::state()), (s, line(Row::eps(0, t)))];
            let last = line(0.5 * (Row::eps(1, t) + Row::eps(0, s)));
            return Step { asks, last };
        }
        // The older of the first step's two evaluations.
        let first = past.len();
        let place = |k: usize| if k + 1 == first { k + 1 } else { k };
        let weights: &[f64] = match first {
            2 => &[3.0 / 2.0, -1.0 / 2.0],
            3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        let e = |(k, &w): (usize, &f64)| {
            let place = place(k);
            let level = if place == 0 { t } else { past[place - 1] };
            w * Row::eps(place, level)
        };
        Step::one(t, line(weights.iter().enumerate().map(e).sum()))
    }
}

/// PNDM of a network that predicts v, as in diffusers: the outputs at different levels are summed,
/// and ε̂ = a·Σ + b·x_t is computed from the sum, with a and b of the start of the step.
struct OfOutputs<S>(S);

impl<S: Solver> Solver for OfOutputs<S> {
    fn step(&self, at: &Position) -> Step {
        let t = at.t;
        let of_sum = |to: NoiseLevel, row: Row| {
            let ratio = to.signal() / t.signal();
            let sum = t.signal() * (row - ratio * Row::state());
            let of_x = ratio + (to.noise() - to.signal() * t.sigma()) * t.noise();
            sum + of_x * Row::state()
        };
        let mut step = self.0.step(at);
        for (to, row) in &mut step.asks[1..] {
            *row = of_sum(*to, std::mem::take(row));
        }
        step.last = of_sum(at.s, step.last);
        step
    }
}

#[test]
fn pndm() {
    let mut check = Check::new();
    let other = NoiseSchedule::linear(1000, 0.01, 0.02).unwrap();
    let (lin, first) = (lin(), |schedule: &NoiseSchedule| {
        schedule.level(schedule.first())
    });
    let rows = [
        ("ε", &lin, first(&lin), 198.131_739_4),
        ("to clean data", &other, NoiseLevel::CLEAN, 230.036_923_3),
        ("to the first level", &other, first(&other), 186.944_823_9),
    ];
    for (name, schedule, end, expected) in rows {
        let middle = middle(schedule);
        let solver = Pndm { middle };
        let network = network(Parametrization::Epsilon, index(schedule));
        let mut run = Run::new(&solver, network);
        let x = run.all(&levels(schedule, end), sample());
        assert_eq!(run.evaluations, 19, "{name}");
        check.relative(name, size(&x), expected, 1e-9);
    }
    // The sum is of outputs, not of ε̂.
    let network = network(Parametrization::Epsilon, index(&lin));
    let middle = middle(&lin);
    let solver = OfOutputs(Pndm { middle });
    let x = Run::new(&solver, &network).all(&levels(&lin, first(&lin)), sample());
    check.relative("v", size(&x), 67.398_551_04, 1e-9);
    let x = Run::new(&Plms, network).all(&levels(&lin, first(&lin)), sample());
    check.relative("skip_prk", size(&x), 197.715_426_8, 1e-9);
    check.done();
}

/// v along b = sin²(πu/2) for u from 1 to 0; the network time is the angle.
///
/// At the first level, which has no signal, diffusers uses x̂₀ = 0 instead of −v.
#[test]
fn ipndm() {
    let level = |u: f64| {
        let b = (FRAC_PI_2 * u).sin().powi(2);
        NoiseLevel::new((1.0 - b * b).max(0.0).sqrt(), b).unwrap()
    };
    let levels: Vec<_> = (0..=10).rev().map(|i| level(f64::from(i) / 10.0)).collect();
    let time = |at: NoiseLevel| at.noise().atan2(at.signal()) / FRAC_PI_2;
    let told = network(Parametrization::V, time);
    let network = |x: f64, at: NoiseLevel| {
        if at.signal() > 0.0 {
            told(x, at)
        } else {
            Said { x0: 0.0, eps: x }
        }
    };
    let solver = Adams {
        order: 4,
        nodes: Nodes::Equal,
        euler_final: false,
    };
    let x = Run::new(&solver, network).all(&levels, sample());
    let mut check = Check::new();
    check.relative("ipndm", size(&x), 247.440_874_2, 1e-9);
    check.done();
}
