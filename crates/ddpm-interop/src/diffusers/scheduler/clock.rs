//! The time a network of diffusers is told, and the boundary condition of consistency models.

use ddpm_schedule::{NoiseLevel, Process};

/// The time that a network is told at each level of a way.
///
/// diffusers rounds times, cuts them off, or interpolates σ in place of ln σ, each class in its own
/// way. At the levels of the way the clock tells what the class does; elsewhere it tells the time
/// of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Clock {
    pub(super) process: Process,
    /// What the network is told for a time 1 of the process.
    pub(super) unit: f64,
    pub(super) known: Vec<(NoiseLevel, f64)>,
}

impl Clock {
    /// The time told at a level.
    pub fn time(&self, at: NoiseLevel) -> f64 {
        let known = self.known.iter().find(|(level, _)| *level == at);
        known.map_or_else(|| self.process.time(at) * self.unit, |(_, time)| *time)
    }
}

/// The boundary condition of a consistency model: x̂₀ becomes c_skip·x + c_out·x̂₀, which is x at the
/// least noise (Song et al. 2023, eq. 5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Boundary {
    /// That of the time t: c_skip = ¼/(τ² + ¼) and c_out = τ/√(τ² + ¼) of τ = `scaling`·t, after
    /// the clip (Luo et al. 2023, LCM).
    Time {
        /// τ/t.
        scaling: f64,
    },
    /// That of σ, before the clip: c_skip and c_out of Karras et al. 2022 with σ − σ_min in the
    /// places where it makes them 1 and 0 at σ_min (Song et al. 2023, app. C).
    Sigma {
        /// σ_min.
        floor: f64,
        /// σ_data.
        data: f64,
    },
}

impl Boundary {
    /// The factors of x and of x̂₀ at a level, where the network is told `time`.
    pub fn factors(self, at: NoiseLevel, time: f64) -> [f64; 2] {
        match self {
            Self::Time { scaling } => {
                let tau = scaling * time;
                let sum = tau * tau + 0.25;
                [0.25 / sum, tau / sum.sqrt()]
            }
            Self::Sigma { floor, data } => {
                // Of F: c_skip'·x + c_out'·F, where x̂₀ = c_skip·x + c_out·F.
                let (sigma, above) = (at.sigma(), at.sigma() - floor);
                let skip = |sigma: f64| data * data / (sigma * sigma + data * data);
                let ratio = above / sigma;
                [skip(above) - ratio * skip(sigma), ratio]
            }
        }
    }
}
