//! Solvers of the reverse process. A step is a small table of numbers, so a solver is one function.
//!
//! A [`Solver`] contains no tensors. Given the levels of the evaluations so far and the step to
//! take, it returns a [`Step`]: the levels at which the denoiser is evaluated, and x_s as a linear
//! combination. One loop runs all solvers on tensors (`Reverse` of `ddpm-process`); [`run()`] does so
//! on plain numbers.

mod adams;
mod adaptive;
mod ancestral;
mod consistency;
mod er_sde;
mod evaluations;
mod exponential;
mod info;
mod method;
mod multistep;
mod on_numbers;
mod plan;
mod quadrature;
mod row;
mod sigma;
mod single;
mod table;

pub use adams::{Adams, GradientEstimation, Nodes, Pndm};
pub use adaptive::{Adaptive, AdaptiveError, AdaptiveSettings, Pair};
pub use ancestral::{Ddim, Ddpm, Eta, EtaError, Variance};
pub use consistency::{Consistency, Tcd};
pub use er_sde::{ErSde, er_sde_5};
pub use exponential::{Exponential, Interpolant, Weights};
pub use info::{Info, Parameters};
pub use method::{Method, MethodError};
pub use multistep::{Bh, SaSolver, UniPc};
pub use on_numbers::run;
pub use plan::{SolverError, steps};
pub use row::{Row, Step, Term};
pub use sigma::{Ancestral, Churn, Dpm2, Euler, Frame, Heun};
pub use single::{Blocks, DpmFast, SingleStep, Slope, StageNoise};

use crate::NoiseLevel;

/// The step to take, and the levels of the evaluations before it.
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Ddim, Eta, Position, Solver};
///
/// let t = NoiseLevel::variance_exploding(2.0)?;
/// let s = NoiseLevel::variance_exploding(1.0)?;
/// let first = Position { past: &[], t, s, left: None };
/// let step = Ddim { eta: Eta::ZERO }.step(&first);
/// assert_eq!(step.asks[0].0, t); // the denoiser is evaluated at t
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Position<'a> {
    /// The levels of the evaluations so far, the newest first.
    pub past: &'a [NoiseLevel],
    /// The level of the state.
    pub t: NoiseLevel,
    /// The level that the step leads to.
    pub s: NoiseLevel,
    /// The number of steps after this one; `None` if unknown, as when an error estimate chooses
    /// them.
    pub left: Option<usize>,
}

/// A method that solves the reverse process step by step.
///
/// A new solver takes a few lines. This is Euler's method in σ = b/a, which is DDIM:
///
/// ```
/// use ddpm_schedule::solver::{Position, Row, Solver, Step};
///
/// struct Euler;
///
/// impl Solver for Euler {
///     fn step(&self, &Position { t, s, .. }: &Position) -> Step {
///         // x_s/a_s = x_t/a_t + (σ_s − σ_t)·ε̂
///         let x = 1.0 / t.signal() * Row::state();
///         let slope = Row::eps(0, t);
///         Step::one(t, s.signal() * (x + (s.sigma() - t.sigma()) * slope))
///     }
/// }
/// ```
pub trait Solver {
    /// The step from x_t to x_s.
    fn step(&self, at: &Position) -> Step;

    /// The largest number of evaluations that a row combines, including those of its own step.
    /// Older evaluations are dropped; their levels stay in [`Position::past`].
    fn memory(&self) -> usize {
        4
    }
}

impl<S: Solver + ?Sized> Solver for &S {
    fn step(&self, at: &Position) -> Step {
        (**self).step(at)
    }

    fn memory(&self) -> usize {
        (**self).memory()
    }
}

impl<S: Solver + ?Sized> Solver for Box<S> {
    fn step(&self, at: &Position) -> Step {
        (**self).step(at)
    }

    fn memory(&self) -> usize {
        (**self).memory()
    }
}
