//! The solvers by name: what a table shows, and what a command line or a file asks for.

use std::str::FromStr;

use thiserror::Error;

use super::info::{Info, Numbers, Way};
use super::table::TABLE;
use super::{Adaptive, AdaptiveSettings, Solver};
use crate::{Levels, Process};

/// A solver by its name, with its numbers.
///
/// ```
/// use ddpm_schedule::solver::{Method, Numbers};
///
/// let method = Method::new("dpmpp_2m_sde", Numbers::default())?;
/// assert_eq!(method.info().name, "dpmpp-2m-sde");
/// assert!(Method::new("heun", Numbers { eta: Some(1.0), ..Numbers::default() }).is_err());
/// # Ok::<(), ddpm_schedule::solver::MethodError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Method {
    info: &'static Info,
    numbers: Numbers,
}

/// No such method.
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum MethodError {
    /// No solver has the name.
    #[error("there is no sampler {0:?}{hint}", hint = hint(.0))]
    Unknown(String),
    /// The solver has no such number.
    #[error("{name} has no {number}{}", numbers(.name))]
    Unused {
        /// The solver.
        name: &'static str,
        /// The number given.
        number: &'static str,
    },
    /// A number out of its range.
    #[error("{number} = {value} of {name} is outside {range}")]
    Range {
        /// The solver.
        name: &'static str,
        /// The number's name.
        number: &'static str,
        /// The value refused.
        value: f64,
        /// The values that are allowed.
        range: &'static str,
    },
}

/// What to write instead.
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

/// The numbers that a solver has.
fn numbers(name: &str) -> String {
    let info = Info::all().iter().find(|info| info.name == name);
    match info.map(|info| info.numbers) {
        Some(numbers @ [_, ..]) => format!("; it has {}", numbers.join(" and ")),
        _ => "; it has no numbers of its own".to_owned(),
    }
}

impl Info {
    /// Every solver.
    pub fn all() -> &'static [Self] {
        TABLE
    }

    /// The names of other libraries.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> + use<> {
        let lists = [self.diffusers, self.k_diffusion, self.comfyui];
        lists.into_iter().flatten().copied()
    }
}

impl Method {
    /// The solver of this name, ours or that of another library, with these numbers.
    ///
    /// # Errors
    ///
    /// If there is no such solver, it does not have one of the numbers, or one is out of range.
    pub fn new(name: &str, numbers: Numbers) -> Result<Self, MethodError> {
        let known = |info: &&Info| info.name == name || info.aliases().any(|alias| alias == name);
        let info = Info::all().iter().find(known);
        let info = info.ok_or_else(|| MethodError::Unknown(name.to_owned()))?;
        let method = Self { info, numbers };
        method.check()?;
        Ok(method)
    }

    fn check(&self) -> Result<(), MethodError> {
        let Numbers {
            eta,
            churn,
            order,
            tolerance,
        } = self.numbers;
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
        for (number, value, valid, range) in [
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
            if !self.info.numbers.contains(&number) {
                return Err(MethodError::Unused { name, number });
            }
            if !valid {
                return Err(MethodError::Range {
                    name,
                    number,
                    value,
                    range,
                });
            }
        }
        Ok(())
    }

    /// What is known of it.
    pub fn info(&self) -> &'static Info {
        self.info
    }

    /// The numbers it was given.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Whether this method, with its numbers, adds noise.
    pub fn is_stochastic(&self) -> bool {
        match self.numbers {
            Numbers { eta: Some(eta), .. } => eta > 0.0,
            Numbers {
                churn: Some(churn), ..
            } => churn > 0.0,
            _ => self.info.stochastic,
        }
    }

    /// What chooses the steps of a method that is given none: `dpm-adaptive`.
    pub fn adaptive(&self) -> Option<Adaptive> {
        if self.info.name != "dpm-adaptive" {
            return None;
        }
        let published = AdaptiveSettings::default();
        let settings = AdaptiveSettings {
            rtol: self.numbers.tolerance.unwrap_or(published.rtol),
            ..published
        };
        let order = self.numbers.order.map_or(3, |order| order as usize);
        Adaptive::new(order, settings).ok()
    }

    /// The solver for these levels of a process.
    pub fn solver(&self, process: &Process, levels: &Levels) -> Box<dyn Solver> {
        let way = Way {
            process: process.clone(),
            steps: levels.len(),
        };
        (self.info.make)(&self.numbers, &way)
    }
}

/// The same name and the same numbers.
impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        (self.info.name, self.numbers) == (other.info.name, other.numbers)
    }
}

impl FromStr for Method {
    type Err = MethodError;

    /// A name, with the published numbers.
    fn from_str(name: &str) -> Result<Self, MethodError> {
        Self::new(name, Numbers::default())
    }
}
