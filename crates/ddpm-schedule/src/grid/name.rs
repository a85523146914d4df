//! The names of grids, here and in other libraries.

use std::fmt;
use std::str::FromStr;

use super::{Grid, GridError};

/// The default of α and β in diffusers and in ComfyUI.
const BETA_DEFAULT: f64 = 0.6;

impl Grid {
    /// Every grid except the two lists, with the usual parameters.
    pub const ALL: [Self; 13] = [
        Self::Trailing,
        Self::Leading { offset: 0 },
        Self::Linspace,
        Self::Quadratic,
        Self::BetaTime {
            alpha: BETA_DEFAULT,
            beta: BETA_DEFAULT,
        },
        Self::Lcm { original: 50 },
        Self::Karras { rho: 7.0 },
        Self::Exponential,
        Self::Polyexponential { rho: 1.0 },
        Self::BetaSigma {
            alpha: BETA_DEFAULT,
            beta: BETA_DEFAULT,
        },
        Self::KlOptimal,
        Self::LinearQuadratic,
        Self::LogSnr,
    ];

    /// The name. [`FromStr`] reads it, except those of the two lists.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Trailing => "trailing",
            Self::Leading { .. } => "leading",
            Self::Linspace => "linspace",
            Self::Quadratic => "quadratic",
            Self::BetaTime { .. } => "beta-time",
            Self::Lcm { .. } => "lcm",
            Self::Times(_) => "times",
            Self::Karras { .. } => "karras",
            Self::Exponential => "exponential",
            Self::Polyexponential { .. } => "polyexponential",
            Self::BetaSigma { .. } => "beta-sigma",
            Self::KlOptimal => "kl-optimal",
            Self::LinearQuadratic => "linear-quadratic",
            Self::LogSnr => "log-snr",
            Self::Sigmas(_) => "sigmas",
        }
    }

    /// The names of the same grid in diffusers and ComfyUI, with hyphens.
    fn aliases(&self) -> &'static [&'static str] {
        match self {
            Self::Trailing => &["sgm-uniform"],
            Self::Linspace => &["normal"],
            Self::Quadratic => &["quad"],
            Self::BetaTime { .. } => &["beta"],
            Self::Karras { .. } => &["use-karras-sigmas"],
            Self::Exponential => &["use-exponential-sigmas"],
            Self::BetaSigma { .. } => &["use-beta-sigmas"],
            Self::LogSnr => &["lu", "use-lu-lambdas"],
            _ => &[],
        }
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Parses [`Grid::name`] or the name in another library. Underscores count as hyphens.
impl FromStr for Grid {
    type Err = GridError;

    fn from_str(name: &str) -> Result<Self, GridError> {
        let hyphens = name.replace('_', "-");
        let named = |grid: &Self| grid.name() == hyphens || grid.aliases().contains(&&*hyphens);
        let found = Self::ALL.into_iter().find(named);
        found.ok_or_else(|| GridError::Name {
            name: name.into(),
            known: Self::ALL.map(|grid| grid.name()).join(", "),
        })
    }
}
