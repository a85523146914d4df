//! The solvers of diffusers' classes.

use ddpm_schedule::solver::{
    Adams, Ancestral, Blocks, Consistency, Ddim, Ddpm, Dpm2, Euler, Exponential, Frame, Heun,
    Interpolant, Position, SaSolver, Slope, Solver, Step, Tcd, UniPc, Variance, Weights,
};
use ddpm_schedule::{NoiseLevel, NoiseSchedule, Process};

use super::pndm::{Outputs, ipndm, plms, pndm};

/// A solver as a file configures it.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// `DDPMScheduler`, `UnCLIPScheduler`.
    Ddpm(Ddpm),
    /// `DDIMScheduler`.
    Ddim(Ddim),
    /// `EulerDiscreteScheduler`, `EDMEulerScheduler`, `FlowMatchEulerDiscreteScheduler`.
    Euler(Euler),
    /// `EulerAncestralDiscreteScheduler`.
    EulerAncestral(Ancestral<Euler>),
    /// `HeunDiscreteScheduler`, `FlowMatchHeunDiscreteScheduler`.
    Heun(Heun),
    /// `KDPM2DiscreteScheduler`.
    Dpm2(Dpm2),
    /// `KDPM2AncestralDiscreteScheduler`.
    Dpm2Ancestral(Ancestral<Dpm2>),
    /// `LMSDiscreteScheduler`.
    Lms(Adams),
    /// `IPNDMScheduler`: Adams's method, except that the step from pure noise leads to b_s·x_t.
    Ipndm(Adams),
    /// `PNDMScheduler`.
    Pndm {
        /// The network's prediction.
        of: Outputs,
        /// The process of the levels halfway.
        process: Process,
        /// The time from t to the level halfway.
        half: f64,
    },
    /// `PNDMScheduler` with `skip_prk_steps`.
    Plms(Outputs),
    /// `DPMSolverMultistepScheduler` and the like, `DEISMultistepScheduler`.
    Multistep {
        /// The solver.
        solver: Exponential,
        /// Whether the last step is of first order, whatever the others are.
        euler_at_final: bool,
        /// The number of further steps that the file counts and that stay at the last level.
        standing: usize,
    },
    /// `DPMSolverSinglestepScheduler`.
    Single {
        /// The solver; its number of steps is that of the file, including those that stay at the
        /// last level.
        solver: Blocks,
        /// As of [`Multistep`](Self::Multistep).
        standing: usize,
    },
    /// `UniPCMultistepScheduler`.
    UniPc {
        /// The solver.
        solver: UniPc,
        /// As of [`Multistep`](Self::Multistep).
        standing: usize,
    },
    /// `SASolverScheduler`.
    SaSolver {
        /// The solver.
        solver: SaSolver,
        /// As of [`Multistep`](Self::Multistep).
        standing: usize,
    },
    /// `LCMScheduler`, `CMStochasticIterativeScheduler`, `FlowMatchLCMScheduler`.
    Consistency(Consistency),
    /// `TCDScheduler`.
    Tcd {
        /// The process of the levels.
        process: Process,
        /// γ, from 0 to 1; the default in diffusers is 0.3.
        gamma: f64,
    },
}

impl Rule {
    /// The name in [`Info::all`](ddpm_schedule::solver::Info::all), or that of the class.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ddpm(Ddpm { variance }) => match variance {
                Variance::Small => "ddpm",
                Variance::Large => "ddpm-large",
                Variance::Learned => "ddpm-learned",
            },
            Self::Ddim(_) => "ddim",
            Self::Euler(_) => "euler",
            Self::EulerAncestral(_) => "euler-ancestral",
            Self::Heun(Heun { frame, .. }) => match frame {
                Frame::Sigma => "heun",
                Frame::Flow => "heun-flow",
            },
            Self::Dpm2(_) => "dpm2",
            Self::Dpm2Ancestral(_) => "dpm2-ancestral",
            Self::Lms(_) => "lms",
            Self::Ipndm(_) => "ipndm",
            Self::Pndm { .. } => "pndm",
            Self::Plms(_) => "plms",
            Self::Multistep { solver, .. } => multistep_name(solver),
            Self::Single { solver, .. } => match (solver.interpolant, solver.noise > 0.0) {
                (Interpolant::Epsilon, _) => "dpm-solver-single",
                (Interpolant::X0, false) => "dpmpp-2s",
                (Interpolant::X0, true) => "dpmpp-2s-sde",
            },
            Self::UniPc { .. } => "unipc",
            Self::SaSolver { .. } => "sa-solver",
            Self::Consistency(_) => "lcm",
            Self::Tcd { .. } => "tcd",
        }
    }

    /// Its other settings as text; empty if there are none.
    pub fn numbers(&self) -> String {
        match self {
            Self::Multistep {
                solver,
                euler_at_final,
                ..
            } => {
                let kind = match solver.weights {
                    Weights::Midpoint => "midpoint",
                    Weights::Taylor => "heun",
                    Weights::Lagrange => "logrho",
                };
                let order = solver.order;
                let last = ending(solver.lower_order_final, *euler_at_final);
                format!("order {order}, {kind}{last}")
            }
            Self::Single { solver, .. } => {
                let kind = match solver.slope {
                    Slope::Chord => "midpoint",
                    Slope::Exact => "heun",
                };
                let last = ending(solver.lower_order_final, false);
                format!("order {}, {kind}{last}", solver.order)
            }
            Self::UniPc { solver, .. } => {
                let last = ending(solver.lower_order_final, false);
                let (order, b, of) = (solver.order, solver.b, solver.interpolant);
                format!("order {order}, {b:?}, of {of:?}{last}").to_lowercase()
            }
            Self::SaSolver { solver, .. } => {
                let last = ending(solver.lower_order_final, false);
                let (predictor, corrector) = (solver.predictor, solver.corrector);
                format!("predictor {predictor}, corrector {corrector}{last}")
            }
            Self::Lms(solver) | Self::Ipndm(solver) => format!("order {}", solver.order),
            Self::Tcd { gamma, .. } => format!("gamma {gamma}"),
            _ => String::new(),
        }
    }

    /// Whether noise is added.
    pub fn is_stochastic(&self) -> bool {
        match self {
            Self::Ddpm(_)
            | Self::EulerAncestral(_)
            | Self::Dpm2Ancestral(_)
            | Self::Consistency(_) => true,
            Self::Multistep { solver, .. } => solver.noise > 0.0,
            Self::Single { solver, .. } => solver.noise > 0.0,
            Self::SaSolver { solver, .. } => solver.tau > 0.0,
            Self::Tcd { gamma, .. } => *gamma > 0.0,
            _ => false,
        }
    }

    /// The same rule for `steps` steps, after which the file counts `counted_standing` more.
    pub(super) fn along(mut self, steps: usize, counted_standing: usize) -> Self {
        /// With at least this many steps, these classes keep their order to the end.
        const KEEPS_ORDER: usize = 15;
        let all = steps + counted_standing;
        match &mut self {
            Self::Multistep {
                solver, standing, ..
            } => {
                *standing = counted_standing;
                solver.lower_order_final &= all < KEEPS_ORDER;
            }
            Self::Single { solver, standing } => {
                *standing = counted_standing;
                // diffusers does so too, with a warning.
                solver.lower_order_final |= !all.is_multiple_of(solver.order);
                solver.steps = all;
            }
            Self::UniPc { standing, .. } | Self::SaSolver { standing, .. } => {
                *standing = counted_standing;
            }
            Self::Pndm { process, half, .. } => {
                let timesteps = process.schedule().map_or(0, NoiseSchedule::timesteps);
                let step = (f64::from(timesteps) / all as f64).floor();
                *half = (0.5 * step).floor();
            }
            _ => {}
        }
        self
    }
}

/// Describes a lower order at the end.
fn ending(lower_order_final: bool, euler_at_final: bool) -> &'static str {
    match (lower_order_final, euler_at_final) {
        (true, _) => ", of lower order at the end",
        (_, true) => ", of first order at the end",
        _ => "",
    }
}

fn multistep_name(solver: &Exponential) -> &'static str {
    match (
        solver.interpolant,
        solver.weights,
        solver.order,
        solver.noise > 0.0,
    ) {
        (Interpolant::Epsilon, Weights::Lagrange, ..) => "deis",
        (Interpolant::Epsilon, .., false) => "dpm-solver",
        (Interpolant::Epsilon, .., true) => "dpm-solver-sde",
        (Interpolant::X0, _, 3, false) => "dpmpp-3m",
        (Interpolant::X0, _, 3, true) => "dpmpp-3m-sde",
        (Interpolant::X0, _, _, false) => "dpmpp-2m",
        (Interpolant::X0, _, _, true) => "dpmpp-2m-sde",
    }
}

impl Solver for Rule {
    fn step(&self, at: &Position) -> Step {
        // `more` further steps stay at the last level.
        let counted = |more: usize| Position {
            left: at.left.map(|left| left + more),
            ..*at
        };
        match self {
            Self::Ddpm(solver) => solver.step(at),
            Self::Ddim(solver) => solver.step(at),
            Self::Euler(solver) => solver.step(at),
            Self::EulerAncestral(solver) => solver.step(at),
            Self::Heun(solver) => solver.step(at),
            Self::Dpm2(solver) => solver.step(at),
            Self::Dpm2Ancestral(solver) => solver.step(at),
            Self::Lms(solver) => solver.step(at),
            Self::Ipndm(solver) => ipndm(solver, at),
            Self::Pndm { of, process, half } => of.mean(pndm(process, *half).step(at), at),
            Self::Plms(of) => of.mean(plms(at), at),
            Self::Multistep {
                solver,
                euler_at_final,
                standing,
            } => {
                let at = counted(*standing);
                let first_order = *euler_at_final && at.left == Some(0);
                let order = if first_order { 1 } else { solver.order };
                Exponential { order, ..*solver }.step(&at)
            }
            Self::Single { solver, standing } => single(solver, *standing, at),
            Self::UniPc { solver, standing } => solver.step(&counted(*standing)),
            Self::SaSolver { solver, standing } => solver.step(&counted(*standing)),
            Self::Consistency(solver) => solver.step(at),
            Self::Tcd { process, gamma } => {
                let below = |s: NoiseLevel| below(process, *gamma, s);
                Tcd { below }.step(at)
            }
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Pndm { process, half, .. } => pndm(process, *half).memory(),
            // The evaluations include the extra one of the first step.
            Self::Plms(_) => 5,
            _ => 4,
        }
    }
}

/// The level of the time ⌊(1 − γ)·s⌋.
fn below(process: &Process, gamma: f64, s: NoiseLevel) -> NoiseLevel {
    // If (1 − γ)·s is whole, rounding errors may make it slightly smaller.
    let time = ((1.0 - gamma) * process.time(s) + 1e-9).floor();
    process.level(time).unwrap_or(s)
}

/// A step of the single-step solver. The file's last step may stay at the last level and still
/// correct it, if it is not the first of its block.
fn single(solver: &Blocks, standing: usize, at: &Position) -> Step {
    let left = at.left.map(|left| left + standing);
    let mut step = solver.step(&Position { left, ..*at });
    let corrects = !solver.lower_order_final && solver.order > 1;
    if standing == 1 && at.left == Some(0) && corrects {
        let past: Vec<_> = [at.t].into_iter().chain(at.past.iter().copied()).collect();
        let again = Position {
            past: &past,
            t: at.s,
            s: at.s,
            left: Some(0),
        };
        step.asks.push((at.s, step.last));
        step.last = solver.step(&again).last;
    }
    step
}
