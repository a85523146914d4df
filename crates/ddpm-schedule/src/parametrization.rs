//! What the network predicts, and how x̂₀ follows from it.

use thiserror::Error;

use crate::coefficient::fits;
use crate::{NoiseLevel, NoiseSchedule};

/// What the network predicts: ε, x₀, or v = a·ε − b·x₀.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parametrization {
    /// The noise ε (Ho et al. 2020).
    Epsilon,
    /// The data x₀.
    X0,
    /// v = a·ε − b·x₀ (Salimans & Ho 2022), defined at zero SNR too.
    V,
}

/// The prediction target `x0`·x₀ + `eps`·ε.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// p, the factor of x₀.
    pub x0: f64,
    /// q, the factor of ε.
    pub eps: f64,
}

/// x̂₀ = `x_t`·x_t + `output`·output.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Denoise {
    /// q/(aq − bp), the factor of x_t.
    pub x_t: f64,
    /// −b/(aq − bp), the factor of the network's output.
    pub output: f64,
}

/// A network of this parametrization says nothing of x₀ at one of the levels, or too little for
/// single precision.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[error(
    "{parametrization:?} does not determine x̂₀ at t = {t}, where x_t = {}·x₀ + {noise}·ε",
    short(*signal)
)]
pub struct ParametrizationError {
    /// The parametrization refused.
    pub parametrization: Parametrization,
    /// The first time without an inverse.
    pub t: u32,
    /// The signal coefficient a there.
    pub signal: f64,
    /// The noise coefficient b there.
    pub noise: f64,
}

impl Parametrization {
    /// Every parametrization.
    pub const ALL: [Self; 3] = [Self::Epsilon, Self::X0, Self::V];

    /// (p, q) of the target p·x₀ + q·ε at `level`.
    pub fn target(self, level: NoiseLevel) -> Target {
        let (x0, eps) = match self {
            Self::Epsilon => (0.0, 1.0),
            Self::X0 => (1.0, 0.0),
            Self::V => (-level.noise(), level.signal()),
        };
        Target { x0, eps }
    }

    /// The inverse of [`target`](Self::target): x_t = a·x₀ + b·ε and
    /// output = p·x₀ + q·ε solved for x₀.
    ///
    /// `None` where the two do not determine x₀ and ε: [`Self::Epsilon`] at zero SNR,
    /// where both are ε, and [`Self::X0`] at clean data, where both are x₀. `None` also where a
    /// coefficient is above 10³²: as an f32 it, or its product with x_t, would be infinite.
    pub fn denoise(self, level: NoiseLevel) -> Option<Denoise> {
        let inverse = self.inverse(level);
        (fits(inverse.x_t) && fits(inverse.output)).then_some(inverse)
    }

    /// [`denoise`](Self::denoise) before the check: not finite, or too large, where no inverse exists.
    pub(crate) fn inverse(self, level: NoiseLevel) -> Denoise {
        let (a, b) = (level.signal(), level.noise());
        let Target { x0: p, eps: q } = self.target(level);
        let determinant = a * q - b * p;
        Denoise {
            x_t: q / determinant,
            output: -b / determinant,
        }
    }

    /// Whether x̂₀ follows from the network's output at every time of `schedule`.
    ///
    /// # Errors
    ///
    /// Names the first time where [`denoise`](Self::denoise) is `None`: for ε at zero SNR, and
    /// where the signal a is below 10⁻³² of x.
    pub fn check(self, schedule: &NoiseSchedule) -> Result<(), ParametrizationError> {
        let fault = schedule
            .iter()
            .find(|&t| self.denoise(schedule.level(t)).is_none());
        match fault {
            None => Ok(()),
            Some(t) => Err(ParametrizationError {
                parametrization: self,
                t: t.get(),
                signal: schedule.level(t).signal(),
                noise: schedule.level(t).noise(),
            }),
        }
    }
}

/// A signal without a row of zeros in front.
fn short(signal: f64) -> String {
    if signal > 0.0 && signal < 1e-5 {
        format!("{signal:.2e}")
    } else {
        signal.to_string()
    }
}
