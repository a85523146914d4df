//! What is known of a solver before it runs.

use super::Solver;
use crate::Process;

/// A solver's own numbers; `None` is the published value.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Numbers {
    /// η, how much noise is added: γ of TCD, τ of SA-Solver.
    pub eta: Option<f64>,
    /// `S_churn`, how much noise is added before a step and taken away in it.
    pub churn: Option<f64>,
    /// The order.
    pub order: Option<u32>,
    /// The error of a step allowed relative to x, of solvers that choose their steps.
    pub tolerance: Option<f64>,
}

/// What is known of a solver before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Our name, in kebab-case.
    pub name: &'static str,
    /// The classes of diffusers that do the same.
    pub diffusers: &'static [&'static str],
    /// The functions of k-diffusion.
    pub k_diffusion: &'static [&'static str],
    /// The samplers of ComfyUI.
    pub comfyui: &'static [&'static str],
    /// The order of the error against the length of a step, with the published numbers.
    pub order: u32,
    /// Network evaluations a step, but for the first and the last.
    pub evaluations: u32,
    /// Whether noise is added, with the published numbers.
    pub stochastic: bool,
    /// Steps that give good samples of images.
    pub steps: u32,
    /// Authors, year and place of the formula.
    pub paper: &'static str,
    /// The names of the numbers it has.
    pub numbers: &'static [&'static str],
    pub(super) make: Make,
}

/// How a solver is made.
pub(super) type Make = fn(&Numbers, &Way) -> Box<dyn Solver>;

/// What some solvers need to know of the whole way.
pub(super) struct Way {
    pub(super) process: Process,
    pub(super) steps: usize,
}
