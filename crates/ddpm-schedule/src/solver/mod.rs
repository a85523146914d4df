//! Solvers of the reverse process: each step is a small table, and anyone can write one.
//!
//! A [`Solver`] holds no tensor. It is told the levels of the evaluations so far and the step to
//! take, and answers with a [`Step`]: the levels at which the denoiser is asked, and what x_s is
//! made of. One loop runs all of them (`Reverse` of `ddpm-process`), and a test runs them on
//! scalars.

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
mod numbers;
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
pub use exponential::{Exponential, Of, Weights};
pub use info::{Info, Numbers};
pub use method::{Method, MethodError};
pub use multistep::{Bh, SaSolver, UniPc};
pub use numbers::run;
pub use plan::{SolverError, steps};
pub use row::{Row, Step, Term};
pub use sigma::{Ancestral, Churn, Dpm2, Euler, Frame, Heun};
pub use single::{Blocks, DpmFast, SingleStep, Slope, StageNoise};

use crate::NoiseLevel;

/// Where a reverse process stands before a step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Position<'a> {
    /// The levels of the evaluations so far, the newest first.
    pub past: &'a [NoiseLevel],
    /// The level of the state.
    pub t: NoiseLevel,
    /// The level that the step leads to.
    pub s: NoiseLevel,
    /// How many steps follow this one; `None` where nobody knows, as when an error estimate
    /// chooses them.
    pub left: Option<usize>,
}

/// A method that solves the reverse process, step by step.
///
/// A method of one's own takes a few lines. This is Euler's in σ = b/a, which is DDIM:
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

    /// How many evaluations the rows look back on at most, those of the step itself included. An
    /// evaluation older than that is forgotten; its level stays in [`Position::past`].
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
