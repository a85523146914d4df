//! The loop that runs a solver, on plain numbers, as `Reverse` does with tensors.

use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{Position, Row, Solver};

use crate::torch::Torch;

/// A denoiser's prediction for one number: x̂₀, and the ε̂ that the solver uses.
#[derive(Clone, Copy)]
pub(crate) struct Said {
    pub(crate) x0: f64,
    pub(crate) eps: f64,
}

impl Said {
    /// ε̂ follows from x̂₀.
    pub(crate) fn x0(x0: f64, x: f64, at: NoiseLevel) -> Self {
        let eps = (x - at.signal() * x0) / at.noise();
        Self { x0, eps }
    }
}

/// A reverse process of many numbers that share their levels.
pub(crate) struct Run<'a, M> {
    pub(crate) denoiser: M,
    pub(crate) torch: Torch,
    /// Evaluations made.
    pub(crate) evaluations: usize,
    /// Whether every step draws one noise, used or not.
    pub(crate) draws_always: bool,
    past: Vec<(NoiseLevel, Vec<f64>, Vec<f64>)>,
    solver: &'a dyn Solver,
}

impl<'a, M: FnMut(f64, NoiseLevel) -> Said> Run<'a, M> {
    /// With the noise of seed 0.
    pub(crate) fn new(solver: &'a dyn Solver, denoiser: M) -> Self {
        let torch = Torch::new(0);
        let (evaluations, past) = (0, Vec::new());
        Self {
            denoiser,
            torch,
            evaluations,
            draws_always: false,
            past,
            solver,
        }
    }

    /// From the first level to the last.
    pub(crate) fn all(&mut self, levels: &[NoiseLevel], mut x: Vec<f64>) -> Vec<f64> {
        for (i, pair) in levels.windows(2).enumerate() {
            x = self.step(pair[0], pair[1], Some(levels.len() - 2 - i), &x);
        }
        x
    }

    pub(crate) fn step(
        &mut self,
        t: NoiseLevel,
        s: NoiseLevel,
        left: Option<usize>,
        x: &[f64],
    ) -> Vec<f64> {
        let past: Vec<_> = self.past.iter().map(|past| past.0).collect();
        let position = Position {
            past: &past,
            t,
            s,
            left,
        };
        let step = self.solver.step(&position);
        let [last] = self.rows(&step.asks, [&step.last], x);
        last
    }

    /// Makes the evaluations of a step, then x_s.
    pub(crate) fn rows<const N: usize>(
        &mut self,
        asks: &[(NoiseLevel, Row)],
        rows: [&Row; N],
        x: &[f64],
    ) -> [Vec<f64>; N] {
        let mut z = Vec::new();
        if self.draws_always {
            z.push(self.torch.randn(x.len()));
        }
        for (at, row) in asks {
            let shown = self.row(row, x, &mut z);
            let predicted: Vec<_> = shown.iter().map(|&x| (self.denoiser)(x, *at)).collect();
            let x0 = predicted.iter().map(|predicted| predicted.x0).collect();
            let (a, b) = (at.signal(), at.noise());
            let shown = predicted
                .iter()
                .map(|predicted| a * predicted.x0 + b * predicted.eps);
            self.past.insert(0, (*at, shown.collect(), x0));
            self.evaluations += 1;
        }
        rows.map(|row| self.row(row, x, &mut z))
    }

    /// An evaluation that was made before the run.
    pub(crate) fn remember(&mut self, at: NoiseLevel, x: Vec<f64>) {
        let x0 = x.iter().map(|&x| (self.denoiser)(x, at).x0).collect();
        self.past.insert(0, (at, x, x0));
    }

    fn row(&mut self, row: &Row, state: &[f64], z: &mut Vec<Vec<f64>>) -> Vec<f64> {
        let drawn = row.z.iter().rposition(|&z| z != 0.0).map_or(0, |j| j + 1);
        while z.len() < drawn {
            z.push(self.torch.randn(state.len()));
        }
        let value = |i: usize| {
            let mut sum = if row.state == 0.0 {
                0.0
            } else {
                row.state * state[i]
            };
            for (term, (_, x, x0)) in row.past.iter().zip(&self.past) {
                sum += term.x * x[i] + term.x0 * x0[i];
            }
            let noise = row.z.iter().zip(z.iter());
            sum + noise.map(|(factor, z)| factor * z[i]).sum::<f64>()
        };
        (0..state.len()).map(value).collect()
    }
}
