//! The final distribution of solvers with noise, where everything is Gaussian.

use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{
    Ancestral, Churn, Dpm2, ErSde, Euler, Frame, Heun, Position, Row, SingleStep, Solver,
    StageNoise,
};

use super::grids::{exponential, ve, vp};

/// A Gaussian random number: its mean, and its factors of independent standard normal ones.
#[derive(Clone, Default)]
struct Number(Vec<f64>);

impl Number {
    /// The i-th standard normal number, from 1; the 0th is the constant 1.
    fn unit(i: usize) -> Self {
        let mut factors = vec![0.0; i + 1];
        factors[i] = 1.0;
        Self(factors)
    }

    fn add(&mut self, factor: f64, other: &Self) {
        let length = self.0.len().max(other.0.len());
        self.0.resize(length, 0.0);
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own += factor * other;
        }
    }
}

/// The loop of a solver on such numbers.
struct Law<'a> {
    solver: &'a dyn Solver,
    past: Vec<(NoiseLevel, Number, Number)>,
    drawn: usize,
}

impl Law<'_> {
    fn row(&mut self, row: &Row, state: &Number, z: &mut Vec<Number>) -> Number {
        let mut sum = Number::default();
        sum.add(row.state, state);
        for (term, (_, x, x0)) in row.past.iter().zip(&self.past) {
            sum.add(term.x, x);
            sum.add(term.x0, x0);
        }
        while z.len() < row.z.len() {
            self.drawn += 1;
            z.push(Number::unit(self.drawn));
        }
        for (&factor, z) in row.z.iter().zip(z.iter()) {
            sum.add(factor, z);
        }
        sum
    }

    /// One step, for data N(0.4, 0.5²): x̂₀ = (0.25·x/a + 0.4·σ²)/(0.25 + σ²).
    fn step(&mut self, t: NoiseLevel, s: NoiseLevel, state: &Number) -> Number {
        let levels: Vec<_> = self.past.iter().map(|past| past.0).collect();
        let (past, left) = (&levels[..], Some(1));
        let step = self.solver.step(&Position { past, t, s, left });
        let mut z = Vec::new();
        for (at, row) in &step.asks {
            let x = self.row(row, state, &mut z);
            let v = at.sigma().powi(2);
            let mut x0 = Number::default();
            x0.add(0.25 / at.signal() / (0.25 + v), &x);
            x0.add(0.4 * v / (0.25 + v), &Number::unit(0));
            self.past.insert(0, (*at, x, x0));
        }
        self.row(&step.last, state, &mut z)
    }
}

/// The errors of the mean and of the variance of x/a, 0.4 and 0.25 + σ², after `n` steps from σ =
/// 10 to 0.1, started from the exact ones.
fn error(solver: &dyn Solver, level: fn(f64) -> NoiseLevel, n: usize) -> [f64; 2] {
    let levels: Vec<_> = exponential(10.0, 0.1, n + 1)
        .into_iter()
        .map(level)
        .collect();
    let (past, drawn) = (Vec::new(), 1);
    let mut law = Law {
        solver,
        past,
        drawn,
    };
    let a = levels[0].signal();
    let mut x = Number(vec![a * 0.4, a * 100.25_f64.sqrt()]);
    for pair in levels.windows(2) {
        x = law.step(pair[0], pair[1], &x);
    }
    let a = levels[n].signal();
    let variance: f64 = x.0[1..].iter().map(|x| x * x).sum();
    [x.0[0] / a - 0.4, variance / (a * a) - 0.26].map(f64::abs)
}

/// Makes the solver for a number of steps.
type Make<'a> = Box<dyn Fn(usize) -> Box<dyn Solver> + 'a>;

/// Twice the steps halve the error of the variance or better, in every process.
#[test]
fn noise_keeps_the_distribution() {
    use StageNoise::{Fresh, None, Path};
    let churn = |n| Churn::new(10.0, n);
    let frame = Frame::Sigma;
    let none = Churn::NONE;
    let pp = SingleStep::dpm_solver_pp;
    let er_sde = |stages| ErSde {
        stages,
        ..ErSde::DEFAULT
    };
    #[rustfmt::skip]
    let rows: Vec<(&str, f64, Make)> = vec![
        ("Euler, churn", 1.0, Box::new(|n| Box::new(Euler { churn: churn(n) }))),
        ("Heun, churn", 2.0, Box::new(|n| Box::new(Heun { frame, churn: churn(n) }))),
        ("DPM2, churn", 2.0, Box::new(|n| Box::new(Dpm2 { churn: churn(n) }))),
        ("Euler, η 1", 1.0, Box::new(|_| Box::new(Ancestral { solver: Euler { churn: none }, eta: 1.0 }))),
        ("Euler, η ½", 1.0, Box::new(|_| Box::new(Ancestral { solver: Euler { churn: none }, eta: 0.5 }))),
        ("DPM2, η 1", 2.0, Box::new(|_| Box::new(Ancestral { solver: Dpm2 { churn: none }, eta: 1.0 }))),
        ("2S, η 1", 2.0, Box::new(|_| Box::new(Ancestral { solver: pp(2, None), eta: 1.0 }))),
        ("SDE, η 1", 1.0, Box::new(|_| Box::new(pp(2, Fresh(1.0))))),
        ("SDE, η ½", 1.0, Box::new(|_| Box::new(pp(2, Fresh(0.5))))),
        ("SEEDS-1", 1.0, Box::new(|_| Box::new(pp(1, Path(1.0))))),
        ("SEEDS-2", 1.0, Box::new(|_| Box::new(pp(2, Path(1.0))))),
        ("SEEDS-3", 1.0, Box::new(|_| Box::new(pp(3, Path(0.5))))),
        ("ER-SDE 1", 1.0, Box::new(move |_| Box::new(er_sde(1)))),
        ("ER-SDE 2", 1.0, Box::new(move |_| Box::new(er_sde(2)))),
        ("ER-SDE 3", 1.0, Box::new(move |_| Box::new(er_sde(3)))),
    ];
    let mut faults = Vec::new();
    for (name, order, make) in rows {
        let n = 100;
        let error = |n, level| error(&*make(n), level, n);
        let [coarse, fine] = [n, 2 * n].map(|n| error(n, ve as fn(f64) -> NoiseLevel));
        let observed = (coarse[1] / fine[1]).log2();
        if observed < order - 0.3 || fine[1] > 0.02 {
            faults.push(format!(
                "{name}: order {observed:.2}, not {order}: {fine:?}"
            ));
        }
        let other = error(n, vp);
        if coarse
            .iter()
            .zip(other)
            .any(|(one, other)| (one - other).abs() > 1e-11)
        {
            faults.push(format!(
                "{name}: {coarse:?} with a = 1, {other:?} otherwise"
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
