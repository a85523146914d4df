//! The names of grids, ours and those of other libraries.

use std::fmt;
use std::str::FromStr;

use super::{Grid, GridError};

/// The parameters of a Beta distribution that both libraries default to.
const BETA: f64 = 0.6;

impl Grid {
    /// Every grid that has a rule, with the usual parameters: all but the two lists.
    pub const ALL: [Self; 13] = [
        Self::Trailing,
        Self::Leading { offset: 0 },
        Self::Linspace,
        Self::Quadratic,
        Self::BetaTime {
            alpha: BETA,
            beta: BETA,
        },
        Self::Lcm { original: 50 },
        Self::Karras { rho: 7.0 },
        Self::Exponential,
        Self::Polyexponential { rho: 1.0 },
        Self::BetaSigma {
            alpha: BETA,
            beta: BETA,
        },
        Self::KlOptimal,
        Self::LinearQuadratic,
        Self::LogSnr,
    ];

    /// The name that [`FromStr`] reads, but for the two lists.
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

    /// What diffusers or ComfyUI call the same grid, with hyphens.
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

/// By [`Grid::name`], or by the name in another library. An underscore is as good as a hyphen.
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
