//! Toy data in the plane: standardised, and identical on every platform.

use ddpm_random::Stream;

use crate::in_memory::Values;
use crate::{DataError, InMemory};

/// More points than a picture of the plane can show, and few enough to fit in memory.
const MAX_POINTS: usize = 10_000_000;

/// Points (θ cos θ, θ sin θ) with θ uniform over one and a half turns, slightly blurred.
pub(crate) fn swiss_roll(points: usize, seed: u64) -> Result<InMemory, DataError> {
    cloud(points, seed, "swiss-roll", |u, blur| {
        let theta = 1.5 * std::f64::consts::PI * (1.0 + 2.0 * u);
        let (sin, cos) = libm::sincos(theta);
        [
            theta * cos + 0.5 * f64::from(blur[0]),
            theta * sin + 0.5 * f64::from(blur[1]),
        ]
    })
}

/// Two interlocking half circles of radius 1, slightly blurred.
pub(crate) fn two_moons(points: usize, seed: u64) -> Result<InMemory, DataError> {
    cloud(points, seed, "two-moons", |u, blur| {
        let upper = u < 0.5;
        let theta = std::f64::consts::TAU * if upper { u } else { u - 0.5 };
        let (sin, cos) = libm::sincos(theta);
        let [x, y] = if upper {
            [cos, sin]
        } else {
            [1.0 - cos, 0.5 - sin]
        };
        [x + 0.1 * f64::from(blur[0]), y + 0.1 * f64::from(blur[1])]
    })
}

/// Draws each point from one uniform and two normal numbers, then scales both axes to mean 0 and
/// variance 1.
#[allow(clippy::cast_possible_truncation)]
fn cloud(
    points: usize,
    seed: u64,
    name: &'static str,
    point: impl Fn(f64, [f32; 2]) -> [f64; 2],
) -> Result<InMemory, DataError> {
    if !(1..=MAX_POINTS).contains(&points) {
        let reason = format!("{name}: expected 1..={MAX_POINTS} points, found {points}");
        return Err(DataError::Source(reason));
    }
    let stream = Stream::new(seed, name);
    let raw: Vec<[f64; 2]> = (0..points as u64)
        .map(|i| {
            let mut rng = stream.row(i, 0);
            let u = rng.uniform();
            let mut blur = [0.0; 2];
            rng.fill_normal(&mut blur);
            point(u, blur)
        })
        .collect();
    let mut values = vec![0.0; 2 * points];
    for axis in 0..2 {
        let n = points as f64;
        let mean = raw.iter().map(|p| p[axis]).sum::<f64>() / n;
        let variance = raw.iter().map(|p| (p[axis] - mean).powi(2)).sum::<f64>() / n;
        // A single point has no spread to divide by.
        let std = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        for (value, p) in values[axis..].iter_mut().step_by(2).zip(&raw) {
            *value = ((p[axis] - mean) / std) as f32;
        }
    }
    Ok(InMemory::new(vec![2], Values::Floats(values), None, 0))
}
