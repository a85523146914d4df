//! Parametrizations: what a network predicts, and how x̂₀ follows from it.

use thiserror::Error;

use crate::NoiseLevel;
use crate::coefficient::fits;

/// What a network predicts: a linear combination of x₀ and ε.
///
/// ```
/// use ddpm_schedule::{NoiseLevel, Parametrization};
///
/// let level = NoiseLevel::variance_preserving(0.36)?; // a = 0.6, b = 0.8
/// let target = Parametrization::V.target(level);
/// let (x0, eps) = (0.5, -1.0);
/// let (x_t, v) = (0.6 * x0 + 0.8 * eps, target.x0 * x0 + target.eps * eps);
/// let c = Parametrization::V.preconditioning(level).unwrap();
/// assert!((c.c_skip * x_t + c.c_out * v - x0).abs() < 1e-12);
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[doc(alias = "prediction_type")]
pub enum Parametrization {
    /// The noise ε (Ho et al. 2020).
    Epsilon,
    /// The data x₀.
    X0,
    /// v = a·ε − b·x₀ (Salimans & Ho 2022), defined at zero SNR too.
    V,
    /// ε − x₀, the velocity of the straight path from data to noise (Liu et al. 2022).
    ///
    /// On a rectified flow it is dx_t/dt. At any other level, x_t/(a + b) lies on the straight path
    /// at the time b/(a + b), where the velocity is the same ε − x₀. So the parametrization is
    /// defined for every process, and x̂₀ = (x_t − b·output)/(a + b).
    #[doc(alias = "flow_prediction")]
    Flow,
    /// (x₀ − c_skip·x_t)/c_out of Karras et al. 2022, table 1: a target of unit variance for
    /// data of standard deviation σ_data.
    ///
    /// The network sees c_in·x_t ([`Parametrization::preconditioning`]).
    Edm {
        /// σ_data, above 0 and finite; for any other value
        /// [`Parametrization::preconditioning`] is `None`.
        sigma_data: f64,
    },
}

/// The prediction target `x0`·x₀ + `eps`·ε.
///
/// ```
/// use ddpm_schedule::{NoiseLevel, Parametrization, Target};
///
/// let level = NoiseLevel::variance_preserving(0.5)?;
/// assert_eq!(Parametrization::Flow.target(level), Target { x0: -1.0, eps: 1.0 }); // ε − x₀
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// p, the factor of x₀.
    pub x0: f64,
    /// q, the factor of ε.
    pub eps: f64,
}

/// x̂₀ = `c_skip`·x_t + `c_out`·F(`c_in`·x_t) for a network F (Karras et al. 2022, eq. 7).
///
/// | | c_skip | c_out | c_in |
/// |---|---|---|---|
/// | [`Epsilon`](Parametrization::Epsilon) | 1/a | −b/a | 1 |
/// | [`X0`](Parametrization::X0) | 0 | 1 | 1 |
/// | [`V`](Parametrization::V) | a/(a² + b²) | −b/(a² + b²) | 1 |
/// | [`Flow`](Parametrization::Flow) | 1/(a + b) | −b/(a + b) | 1 |
/// | [`Edm`](Parametrization::Edm) | a·σ_data²/s² | b·σ_data/s | 1/s |
///
/// s = √(a²·σ_data² + b²) is the standard deviation of x_t. The last row is the paper's, which
/// writes it for x = x_t/a and σ = b/a: c_skip·a = σ_data²/(σ² + σ_data²), c_out = σ·σ_data/√(σ² +
/// σ_data²) and c_in·a = 1/√(σ² + σ_data²).
///
/// The networks of the other rows see x_t unscaled. A network trained on a variance preserving
/// process is run on the levels of that process; to run it on x₀ + σ·ε, first scale by a = 1/√(1 +
/// σ²).
///
/// ```
/// use ddpm_schedule::{NoiseLevel, Parametrization, Preconditioning};
///
/// let level = NoiseLevel::variance_exploding(2.0)?;
/// let x0 = Parametrization::X0.preconditioning(level);
/// assert_eq!(x0, Some(Preconditioning { c_skip: 0.0, c_out: 1.0, c_in: 1.0 }));
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Preconditioning {
    /// The factor of x_t in x̂₀.
    pub c_skip: f64,
    /// The factor of the network's output in x̂₀.
    pub c_out: f64,
    /// The factor of x_t in the network's input.
    pub c_in: f64,
}

/// The network's output does not determine x̂₀ at a level, or not within single precision.
///
/// ```
/// use ddpm_schedule::{NoiseLevel, Parametrization};
///
/// let pure_noise = NoiseLevel::variance_preserving(0.0)?;
/// assert!(Parametrization::Epsilon.check(pure_noise, 1000.0).is_err());
/// assert!(Parametrization::V.check(pure_noise, 1000.0).is_ok());
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[error(
    "{parametrization:?} does not determine x̂₀ at t = {t}, where x_t = {}·x₀ + {noise}·ε",
    short(*signal)
)]
pub struct ParametrizationError {
    /// The parametrization refused.
    pub parametrization: Parametrization,
    /// The time of the level: t = 1..=T of a schedule, the network time of any other process.
    pub t: f64,
    /// The signal coefficient a there.
    pub signal: f64,
    /// The noise coefficient b there.
    pub noise: f64,
}

impl Parametrization {
    /// Every parametrization, with the σ_data = ½ of Karras et al.
    pub const ALL: [Self; 5] = [
        Self::Epsilon,
        Self::X0,
        Self::V,
        Self::Flow,
        Self::Edm { sigma_data: 0.5 },
    ];

    /// (p, q) of the target p·x₀ + q·ε at `level`.
    pub fn target(self, level: NoiseLevel) -> Target {
        let (a, b) = (level.signal(), level.noise());
        let (x0, eps) = match self {
            Self::Epsilon => (0.0, 1.0),
            Self::X0 => (1.0, 0.0),
            Self::V => (-b, a),
            Self::Flow => (-1.0, 1.0),
            // (1 − c_skip·a)/c_out and −c_skip·b/c_out.
            Self::Edm { sigma_data } if sigma_data > 0.0 => {
                let s = b.hypot(a * sigma_data);
                (b / (s * sigma_data), -a * sigma_data / s)
            }
            Self::Edm { .. } => (f64::NAN, f64::NAN),
        };
        Target { x0, eps }
    }

    /// The inverse of [`target`](Self::target): x_t = a·x₀ + b·ε and output = p·x₀ + q·ε solved for
    /// x₀, and the factor of x_t that the network sees.
    ///
    /// `None` where the two do not determine x₀ and ε: [`Self::Epsilon`] at zero SNR,
    /// where both are ε, and [`Self::X0`] at clean data, where both are x₀. Also `None` if a
    /// coefficient is above 10³²: as an f32 it, or its product with x_t, would be infinite.
    pub fn preconditioning(self, level: NoiseLevel) -> Option<Preconditioning> {
        let found = self.inverse(level);
        let all = [found.c_skip, found.c_out, found.c_in];
        all.into_iter().all(fits).then_some(found)
    }

    /// [`preconditioning`](Self::preconditioning) without the check: not finite, or too large,
    /// where no inverse exists.
    pub(crate) fn inverse(self, level: NoiseLevel) -> Preconditioning {
        let (a, b) = (level.signal(), level.noise());
        let Target { x0: p, eps: q } = self.target(level);
        let determinant = a * q - b * p;
        let c_in = match self {
            Self::Edm { sigma_data } => b.hypot(a * sigma_data).recip(),
            _ => 1.0,
        };
        Preconditioning {
            c_skip: q / determinant,
            c_out: -b / determinant,
            c_in,
        }
    }

    /// Checks that the network's output determines x̂₀ at `level`, whose time is `t`.
    ///
    /// # Errors
    ///
    /// Where [`preconditioning`](Self::preconditioning) is `None`: for ε at zero SNR, and where
    /// the signal a is below 10⁻³² of x.
    pub fn check(self, level: NoiseLevel, t: f64) -> Result<(), ParametrizationError> {
        let found = self.preconditioning(level).map(|_| ());
        found.ok_or(ParametrizationError {
            parametrization: self,
            t,
            signal: level.signal(),
            noise: level.noise(),
        })
    }
}

/// `signal`, in scientific notation if it is small.
fn short(signal: f64) -> String {
    if signal > 0.0 && signal < 1e-5 {
        format!("{signal:.2e}")
    } else {
        signal.to_string()
    }
}
