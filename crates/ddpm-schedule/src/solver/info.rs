//! Facts about the solvers, and their parameters.

use super::Solver;
use crate::Process;

/// The parameters of a solver; `None` is the published value.
///
/// ```
/// use ddpm_schedule::solver::{Method, Parameters};
///
/// let parameters = Parameters { order: Some(3), ..Parameters::default() };
/// assert_eq!(Method::new("unipc", parameters)?.parameters().order, Some(3));
/// # Ok::<(), ddpm_schedule::solver::MethodError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Parameters {
    /// η, the amount of noise; γ for TCD, τ for SA-Solver.
    pub eta: Option<f64>,
    /// `S_churn`, the amount of noise that is added before a step and removed by it.
    pub churn: Option<f64>,
    /// The order.
    pub order: Option<u32>,
    /// The error of a step that is allowed relative to x, if the solver chooses its steps.
    pub tolerance: Option<f64>,
}

/// The facts about a solver.
///
/// ```
/// use ddpm_schedule::solver::Info;
///
/// let heun = Info::all().iter().find(|info| info.name == "heun").unwrap();
/// assert_eq!((heun.order, heun.evaluations, heun.stochastic), (2, 2, false));
/// assert!(heun.aliases().any(|name| name == "HeunDiscreteScheduler"));
/// ```
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
    /// The order of convergence, with the published parameters.
    pub order: u32,
    /// Network evaluations per step, except in the first and the last.
    pub evaluations: u32,
    /// Whether noise is added, with the published parameters.
    pub stochastic: bool,
    /// A number of steps that gives good samples of images.
    pub steps: u32,
    /// Authors, year and place of the formula.
    pub paper: &'static str,
    /// The names of its parameters.
    pub parameters: &'static [&'static str],
    pub(super) make: Make,
}

/// How a solver is made.
pub(super) type Make = fn(&Parameters, &Run) -> Box<dyn Solver>;

/// What some solvers need to know about the run.
pub(super) struct Run {
    pub(super) process: Process,
    pub(super) steps: usize,
}
