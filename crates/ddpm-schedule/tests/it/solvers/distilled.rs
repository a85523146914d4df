//! LCM, TCD and consistency models.

use ddpm_schedule::solver::{Consistency, Solver, Tcd};
use ddpm_schedule::{NoiseLevel, NoiseSchedule, Parametrization};

use super::grids::{karras, ve};
use super::{Check, index, network, noise, sample, size, whole};
use crate::scalars::{Run, Said};

/// Of Stable Diffusion.
fn scaled() -> NoiseSchedule {
    NoiseSchedule::scaled_linear(1000, 0.00085, 0.012).unwrap()
}

fn levels(times: &[u32], end: NoiseLevel) -> Vec<NoiseLevel> {
    let schedule = scaled();
    let level = |&t: &u32| schedule.level(schedule.timestep(t + 1).unwrap());
    times.iter().map(level).chain([end]).collect()
}

fn ten() -> Vec<u32> {
    (0..10).rev().map(|i| 100 * i + 99).collect()
}

/// The network of the tests as a latent consistency function: c_skip·x + c_out·x̂₀ with time 10·t
/// and σ_data = ½.
#[test]
fn lcm() {
    let schedule = scaled();
    let time = index(&schedule);
    let network = network(Parametrization::Epsilon, &time);
    let consistent = |x: f64, at: NoiseLevel| {
        let t = 10.0 * time(at);
        let (c_skip, c_out) = (0.25 / (t * t + 0.25), t / t.hypot(0.5));
        Said::x0(c_skip * x + c_out * network(x, at).x0, x, at)
    };
    let mut check = Check::new();
    let floor = NoiseLevel::CLEAN;
    for (times, expected) in [
        (vec![999], 18.709_798_72),
        (vec![999, 759, 499, 259], 189.007_196_7),
        (ten(), 197.761_613),
    ] {
        let solver = Consistency { floor };
        let x = Run::new(&solver, consistent).all(&levels(&times, floor), sample());
        check.relative(&format!("{} steps", times.len()), size(&x), expected, 1e-7);
    }
    check.done();
}

/// The last step ends at the first timestep, as in diffusers.
#[test]
fn tcd() {
    let schedule = scaled();
    let time = index(&schedule);
    let first = schedule.level(schedule.first());
    let below = |gamma: f64| {
        let (time, schedule) = (&time, &schedule);
        move |s: NoiseLevel| {
            let t = whole((1.0 - gamma) * time(s));
            schedule.level(schedule.timestep(t + 1).unwrap())
        }
    };
    let mut check = Check::new();
    for (gamma, times, expected) in [
        (0.0, vec![999], 29.871_513_84),
        (0.0, ten(), 181.203_931_4),
        (0.3, ten(), 264.729_531_8),
    ] {
        let below = below(gamma);
        let solver = Tcd { below };
        let network = network(Parametrization::Epsilon, &time);
        let x = Run::new(&solver, network).all(&levels(&times, first), sample());
        let tolerance = if gamma > 0.0 { 1e-7 } else { 1e-9 };
        let name = format!("γ {gamma}, {} steps", times.len());
        check.relative(&name, size(&x), expected, tolerance);
    }
    // TCD below clean data is a consistency model.
    let levels = levels(&ten(), NoiseLevel::CLEAN);
    let network = network(Parametrization::Epsilon, &time);
    let below = |_| NoiseLevel::CLEAN;
    let floor = NoiseLevel::CLEAN;
    let solvers: [&dyn Solver; 2] = [&Tcd { below }, &Consistency { floor }];
    let [one, other] =
        solvers.map(|solver| size(&Run::new(solver, &network).all(&levels, sample())));
    check.relative("γ 1", one, other, 1e-12);
    check.done();
}

/// A network with the time 250·ln σ and the input x/√(σ² + ¼), clipped to [−1, 1].
#[test]
fn consistency_models() {
    let floor = ve(0.002);
    let consistent = |x: f64, at: NoiseLevel| {
        let sigma = at.sigma();
        let t = 250.0 * sigma.ln();
        let output = x / sigma.hypot(0.5) * t / (t + 1.0);
        let above = sigma - 0.002;
        let c_skip = 0.25 / (above * above + 0.25);
        let c_out = above * 0.5 / sigma.hypot(0.5);
        Said::x0((c_skip * x + c_out * output).clamp(-1.0, 1.0), x, at)
    };
    let mut check = Check::new();
    // 11 σ down to 0.002; the test from the ninth on starts from x₀ of 80 times the fixture.
    let tenths = karras(80.0, 0.002, 11);
    let [eighth, ninth] = [tenths[8], tenths[9]];
    let middle = karras(80.0, 0.002, 201)[106];
    let start: Vec<_> = sample().into_iter().map(|x| 80.0 * x).collect();
    let noised = start.iter().zip(noise()).map(|(x, eps)| x + eighth * eps);
    let noised: Vec<_> = noised.collect();
    for (name, sigmas, x, expected) in [
        ("one step", vec![80.0], &start, 192.761_304_8),
        ("two steps", vec![80.0, middle], &start, 347.635_642_7),
        (
            "from the ninth",
            vec![eighth, ninth],
            &noised,
            763.918_601_1,
        ),
    ] {
        let solver = Consistency { floor };
        let levels: Vec<_> = sigmas.into_iter().map(ve).chain([floor]).collect();
        let got = size(&Run::new(&solver, consistent).all(&levels, x.clone()));
        check.relative(name, got, expected, 1e-7);
    }
    check.done();
}
