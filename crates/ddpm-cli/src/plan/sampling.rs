//! `[sampling]`, checked.

use ddpm_process::{AfterClip, Clip};
use ddpm_schedule::solver::{Adaptive, Method, Parameters, Row, Solver, SolverError, Step, steps};
use ddpm_schedule::{Grid, Levels, Process};

use super::refusal::Refusal;
use crate::config::Sampling;
use ddpm_interop::diffusers::scheduler::{Following, Rule};

/// How samples are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingPlan {
    /// The process of the levels.
    pub process: Process,
    /// The solver and its numbers.
    pub sampler: Sampler,
    /// The levels from noise to data.
    pub levels: Levels,
    /// The range x̂₀ is kept in: that of images, none for points.
    pub clip: Option<Clip>,
    /// The ε̂ that goes on once x̂₀ is clipped.
    pub epsilon: AfterClip,
    /// The file of diffusers that says what the network is told, whatever the solver.
    pub file: Option<Following>,
}

/// A solver, and what it is called.
#[derive(Clone, Debug, PartialEq)]
pub enum Sampler {
    /// One of the table.
    Named(Method),
    /// That of a file of diffusers.
    Scheduler(Rule),
}

impl Sampler {
    /// The solver for these levels.
    pub fn solver(&self, process: &Process, levels: &Levels) -> Box<dyn Solver> {
        match self {
            Self::Named(method) => method.solver(process, levels),
            Self::Scheduler(rule) => Box::new(rule.clone()),
        }
    }

    /// The name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Named(method) => method.info().name,
            Self::Scheduler(rule) => rule.name(),
        }
    }

    /// The numbers that it does not have from the name alone, as text.
    pub fn numbers(&self) -> String {
        let method = match self {
            Self::Named(method) => method,
            Self::Scheduler(rule) => return rule.numbers(),
        };
        let Parameters {
            eta,
            churn,
            order,
            tolerance,
        } = method.parameters();
        let given = [
            ("eta", eta),
            ("churn", churn),
            ("order", order.map(f64::from)),
            ("tolerance", tolerance),
        ];
        let words = given
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name} {value}")));
        words.collect::<Vec<_>>().join(", ")
    }

    /// Whether it adds noise.
    pub fn is_stochastic(&self) -> bool {
        match self {
            Self::Named(method) => method.is_stochastic(),
            Self::Scheduler(rule) => rule.is_stochastic(),
        }
    }
}

impl SamplingPlan {
    /// The standard deviation of the noise that a sample starts from.
    pub fn prior_std(&self) -> f64 {
        let first = self.levels.start();
        match &self.file {
            Some(file) => file.scheduler.prior_std(first),
            None => first.prior_std(),
        }
    }

    /// How often the network is asked for a sample; `None` where the error decides.
    pub fn evaluations(&self) -> Option<usize> {
        let steps = self.adaptive().is_none().then(|| self.steps())?;
        Some(steps.iter().map(|step| step.asks.len()).sum())
    }

    /// What chooses the steps, where it is not a grid.
    pub fn adaptive(&self) -> Option<Adaptive> {
        match &self.sampler {
            Sampler::Named(method) => method.adaptive(),
            Sampler::Scheduler(_) => None,
        }
    }

    /// How many noises a sample is made of, but for the one it starts from.
    pub fn draws(&self) -> usize {
        let used = |row: &Row| row.z.iter().rposition(|&z| z != 0.0).map_or(0, |j| j + 1);
        let of_step = |step: &Step| {
            let rows = step.asks.iter().map(|ask| &ask.1).chain([&step.last]);
            rows.map(used).max().unwrap_or(0)
        };
        self.steps().iter().map(of_step).sum()
    }

    /// The steps; none where the solver cannot take them.
    fn steps(&self) -> Vec<Step> {
        let solver = self.sampler.solver(&self.process, &self.levels);
        steps(&solver, self.levels.as_slice()).unwrap_or_default()
    }

    /// Whether the solver can take the steps.
    ///
    /// # Errors
    ///
    /// If one of them cannot be taken by tensors.
    pub fn check(&self) -> Result<(), SolverError> {
        let solver = self.sampler.solver(&self.process, &self.levels);
        steps(&solver, self.levels.as_slice()).map(|_| ())
    }
}

/// The pictures on the way.
pub(super) fn sampling(
    config: &Sampling,
    images: bool,
    process: &Process,
) -> Result<SamplingPlan, Refusal> {
    let method = Method::new(&config.sampler, config.numbers());
    let method = method.map_err(|e| ("sampling.sampler", e.to_string()))?;
    if method.adaptive().is_some() {
        let name = method.info().name;
        let reason = format!("{name} chooses its own steps: name it with `ddpm sample --sampler`");
        return Err(("sampling.sampler", reason));
    }
    let grid = grid(&config.grid, config.rho).map_err(|reason| ("sampling.grid", reason))?;
    let levels = grid.levels(process, config.steps as usize);
    let levels = levels.map_err(|e| ("sampling", e.to_string()))?;
    let plan = SamplingPlan {
        process: process.clone(),
        sampler: Sampler::Named(method),
        levels,
        clip: images.then_some(Clip::UNIT),
        epsilon: config.clipped_epsilon.into(),
        file: None,
    };
    let checked = plan.check();
    checked.map_err(|e| ("sampling.sampler", e.to_string()))?;
    Ok(plan)
}

/// A grid by its name, with its ρ.
///
/// # Errors
///
/// If there is no such grid, or it has no ρ.
pub fn grid(name: &str, rho: Option<f64>) -> Result<Grid, String> {
    let grid: Grid = name
        .parse()
        .map_err(|e: ddpm_schedule::GridError| e.to_string())?;
    match (grid, rho) {
        (grid, None) => Ok(grid),
        (Grid::Karras { .. }, Some(rho)) => Ok(Grid::Karras { rho }),
        (Grid::Polyexponential { .. }, Some(rho)) => Ok(Grid::Polyexponential { rho }),
        (grid, Some(rho)) => Err(format!(
            "{} has no ρ, and rho = {rho} is given",
            grid.name()
        )),
    }
}

/// Whether the sampler can have its variance: only a network trained for it chooses one.
///
/// # Errors
///
/// If the sampler asks for a variance that the network does not give.
pub fn check_variance(sampler: &Sampler, learned: bool) -> Result<(), String> {
    if sampler.name() == "ddpm-learned" && !learned {
        let reason = "\"ddpm-learned\" is for networks of objective.learned_variance = true";
        return Err(reason.to_owned());
    }
    Ok(())
}
