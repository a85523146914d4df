//! The reverse process on plain numbers, to try and to test solvers.

use super::{Row, Solver, SolverError, steps};
use crate::NoiseLevel;

/// Runs `solver` on the state `x` along `levels`, the last of which is the end.
///
/// * `denoiser`: x̂₀ for each number of x, at a level;
/// * `noise`: the given number of standard normal numbers, called once per noise of a step.
///
/// ```
/// use ddpm_schedule::solver::{Method, run};
/// use ddpm_schedule::{Grid, NoiseSchedule, Process};
///
/// let process = Process::from(NoiseSchedule::linear(1000, 1e-4, 0.02)?);
/// let levels = Grid::Trailing.levels(&process, 50)?;
/// let solver = "dpmpp-2m".parse::<Method>()?.solver(&process, &levels);
/// // E[x₀ | x_t] for the data N(2, 0.25).
/// let x = run(&solver, levels.as_slice(), vec![0.3], |x, at| {
///     let (a, b) = (at.signal(), at.noise());
///     x.iter().map(|x| 2.0 + 0.25 * a / (0.25 * a * a + b * b) * (x - a * 2.0)).collect()
/// }, |_| unreachable!("dpmpp-2m adds no noise"))?;
/// assert!((x[0] - 2.1436).abs() < 1e-3); // as by the exact flow
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// If the solver cannot take a step ([`Step::of`](super::Step::of)).
pub fn run(
    solver: &impl Solver,
    levels: &[NoiseLevel],
    mut x: Vec<f64>,
    mut denoiser: impl FnMut(&[f64], NoiseLevel) -> Vec<f64>,
    mut noise: impl FnMut(usize) -> Vec<f64>,
) -> Result<Vec<f64>, SolverError> {
    // (x, x̂₀) of each evaluation, the newest first.
    let mut past: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    for step in steps(solver, levels)? {
        let mut z: Vec<Vec<f64>> = Vec::new();
        for (at, row) in &step.asks {
            let shown = combine(row, &x, &past, &mut z, &mut noise);
            let x0 = denoiser(&shown, *at);
            past.insert(0, (shown, x0));
        }
        x = combine(&step.last, &x, &past, &mut z, &mut noise);
    }
    Ok(x)
}

/// The value of a row, number by number.
fn combine(
    row: &Row,
    state: &[f64],
    past: &[(Vec<f64>, Vec<f64>)],
    z: &mut Vec<Vec<f64>>,
    noise: &mut impl FnMut(usize) -> Vec<f64>,
) -> Vec<f64> {
    let mut sum = vec![0.0; state.len()];
    // A factor of 0 drops its term, so that 0·∞ is 0.
    let mut add = |factor: f64, term: &[f64]| {
        if factor != 0.0 {
            let terms = sum.iter_mut().zip(term);
            terms.for_each(|(sum, term)| *sum += factor * term);
        }
    };
    add(row.state, state);
    for (term, (x, x0)) in row.past.iter().zip(past) {
        add(term.x, x);
        add(term.x0, x0);
    }
    for (j, &factor) in row.z.iter().enumerate().filter(|&(_, &z)| z != 0.0) {
        while z.len() <= j {
            z.push(noise(state.len()));
        }
        add(factor, &z[j]);
    }
    sum
}
