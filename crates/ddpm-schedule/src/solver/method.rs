//! Solvers by name, as command lines and configuration files give them.

use std::str::FromStr;

use thiserror::Error;

use super::info::{Info, Parameters, Run};
use super::table::TABLE;
use super::{Adaptive, AdaptiveSettings, Solver};
use crate::{Levels, Process};

/// A solver by name, with its parameters.
///
/// ```
/// use ddpm_schedule::solver::{Method, Parameters};
///
/// let method = Method::new("dpmpp_2m_sde", Parameters::default())?;
/// assert_eq!(method.info().name, "dpmpp-2m-sde");
/// assert!(Method::new("heun", Parameters { eta: Some(1.0), ..Parameters::default() }).is_err());
/// # Ok::<(), ddpm_schedule::solver::MethodError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Method {
    info: &'static Info,
    parameters: Parameters,
}

/// An unknown name, or invalid parameters.
///
/// ```
/// use ddpm_schedule::solver::{Method, Parameters};
///
/// let parameters = Parameters { eta: Some(1.0), ..Parameters::default() };
/// let error = Method::new("heun", parameters).unwrap_err();
/// assert_eq!(error.to_string(), "heun has no eta; it has churn");
/// ```
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum MethodError {
    /// No solver has the name.
    #[error("there is no sampler {0:?}{hint}", hint = hint(.0))]
    Unknown(String),
    /// The solver does not have the parameter.
    #[error("{name} has no {parameter}{}", parameters(.name))]
    Unused {
        /// The solver.
        name: &'static str,
        /// The name of the parameter.
        parameter: &'static str,
    },
    /// A parameter is out of range.
    #[error("{parameter} = {value} of {name} is outside {range}")]
    Range {
        /// The solver.
        name: &'static str,
        /// The name of the parameter.
        parameter: &'static str,
        /// The value refused.
        value: f64,
        /// The values that are allowed.
        range: &'static str,
    },
}

/// What to write instead of an unknown name.
fn hint(name: &str) -> String {
    let renamed = match name {
        "ancestral" => "ddpm",
        "ancestral-beta" => "ddpm-large",
        "ancestral-learned" => "ddpm-learned",
        _ => {
            let names: Vec<_> = Info::all().iter().map(|info| info.name).collect();
            return format!("; there are {}", names.join(", "));
        }
    };
    format!("; it is called {renamed:?} now")
}

/// The parameters that a solver has, as the end of a message.
fn parameters(name: &str) -> String {
    let info = Info::all().iter().find(|info| info.name == name);
    match info.map(|info| info.parameters) {
        Some(parameters @ [_, ..]) => format!("; it has {}", parameters.join(" and ")),
        _ => "; it has no parameters".to_owned(),
    }
}

impl Info {
    /// Every solver.
    pub fn all() -> &'static [Self] {
        TABLE
    }

    /// The names in other libraries.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> + use<> {
        let lists = [self.diffusers, self.k_diffusion, self.comfyui];
        lists.into_iter().flatten().copied()
    }
}

impl Method {
    /// The solver with this name, here or in another library, and these parameters.
    ///
    /// # Errors
    ///
    /// If no solver has the name, or if it lacks one of the parameters or one is out of range.
    pub fn new(name: &str, parameters: Parameters) -> Result<Self, MethodError> {
        let known = |info: &&Info| info.name == name || info.aliases().any(|alias| alias == name);
        let info = Info::all().iter().find(known);
        let info = info.ok_or_else(|| MethodError::Unknown(name.to_owned()))?;
        let method = Self { info, parameters };
        method.check()?;
        Ok(method)
    }

    fn check(&self) -> Result<(), MethodError> {
        let Parameters {
            eta,
            churn,
            order,
            tolerance,
        } = self.parameters;
        let name = self.info.name;
        let most = if matches!(name, "lms" | "ipndm" | "ipndm-v") {
            4.0
        } else {
            3.0
        };
        let least = if name == "dpm-adaptive" { 2.0 } else { 1.0 };
        let orders = match (least, most) {
            (2.0, _) => "2..=3",
            (_, 4.0) => "1..=4",
            _ => "1..=3",
        };
        let order = order.map(f64::from);
        for (parameter, value, valid, range) in [
            (
                "eta",
                eta,
                eta.is_none_or(|x| (0.0..=1.0).contains(&x)),
                "[0, 1]",
            ),
            (
                "churn",
                churn,
                churn.is_none_or(|x| x >= 0.0 && x.is_finite()),
                "[0, ∞)",
            ),
            (
                "order",
                order,
                order.is_none_or(|x| (least..=most).contains(&x)),
                orders,
            ),
            (
                "tolerance",
                tolerance,
                tolerance.is_none_or(|x| x > 0.0 && x < 1.0),
                "(0, 1)",
            ),
        ] {
            let Some(value) = value else { continue };
            if !self.info.parameters.contains(&parameter) {
                return Err(MethodError::Unused { name, parameter });
            }
            if !valid {
                return Err(MethodError::Range {
                    name,
                    parameter,
                    value,
                    range,
                });
            }
        }
        Ok(())
    }

    /// The facts about the solver.
    pub fn info(&self) -> &'static Info {
        self.info
    }

    /// The parameters it was given.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Whether this method, with its parameters, adds noise.
    pub fn is_stochastic(&self) -> bool {
        match self.parameters {
            Parameters { eta: Some(eta), .. } => eta > 0.0,
            Parameters {
                churn: Some(churn), ..
            } => churn > 0.0,
            _ => self.info.stochastic,
        }
    }

    /// The step size control of `dpm-adaptive`; `None` for all other methods.
    pub fn adaptive(&self) -> Option<Adaptive> {
        if self.info.name != "dpm-adaptive" {
            return None;
        }
        let published = AdaptiveSettings::default();
        let settings = AdaptiveSettings {
            rtol: self.parameters.tolerance.unwrap_or(published.rtol),
            ..published
        };
        let order = self.parameters.order.map_or(3, |order| order as usize);
        Adaptive::new(order, settings).ok()
    }

    /// Makes the solver for these levels of a process.
    pub fn solver(&self, process: &Process, levels: &Levels) -> Box<dyn Solver> {
        let run = Run {
            process: process.clone(),
            steps: levels.len(),
        };
        (self.info.make)(&self.parameters, &run)
    }
}

/// Compares the names and the parameters.
impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        (self.info.name, self.parameters) == (other.info.name, other.parameters)
    }
}

impl FromStr for Method {
    type Err = MethodError;

    /// Parses a name; its parameters are the published ones.
    fn from_str(name: &str) -> Result<Self, MethodError> {
        Self::new(name, Parameters::default())
    }
}
