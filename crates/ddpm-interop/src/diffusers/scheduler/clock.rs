//! The times of diffusers' networks, and the boundary condition of consistency models.

use ddpm_schedule::{NoiseLevel, Process};

/// The network's time at each level of a grid.
///
/// Each class of diffusers rounds times, truncates them, or interpolates σ in place of ln σ. At the
/// levels of the grid the clock returns the time of the class; elsewhere it returns the time of the
/// process.
#[derive(Clone, Debug, PartialEq)]
pub struct Clock {
    pub(super) process: Process,
    /// The network's time for the time 1 of the process.
    pub(super) unit: f64,
    pub(super) known: Vec<(NoiseLevel, f64)>,
}

impl Clock {
    /// The network's time at a level.
    pub fn time(&self, at: NoiseLevel) -> f64 {
        let known = self.known.iter().find(|(level, _)| *level == at);
        known.map_or_else(|| self.process.time(at) * self.unit, |(_, time)| *time)
    }
}

/// The boundary condition of a consistency model: x̂₀ becomes c_skip·x + c_out·x̂₀, which is x at the
/// least noise (Song et al. 2023, eq. 5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Boundary {
    /// In the time t: c_skip = ¼/(τ² + ¼) and c_out = τ/√(τ² + ¼) with τ = `scaling`·t, after the
    /// clip (Luo et al. 2023, LCM).
    Time {
        /// τ/t.
        scaling: f64,
    },
    /// In σ, before the clip: c_skip and c_out of Karras et al. 2022 with σ − σ_min in place of σ,
    /// so that they are 1 and 0 at σ_min (Song et al. 2023, app. C).
    Sigma {
        /// σ_min.
        floor: f64,
        /// σ_data.
        data: f64,
    },
}

impl Boundary {
    /// The factors of x and of x̂₀ at a level, where the network's time is `time`.
    pub fn factors(self, at: NoiseLevel, time: f64) -> [f64; 2] {
        match self {
            Self::Time { scaling } => {
                let tau = scaling * time;
                let sum = tau * tau + 0.25;
                [0.25 / sum, tau / sum.sqrt()]
            }
            Self::Sigma { floor, data } => {
                // From c_skip'·x + c_out'·F with x̂₀ = c_skip·x + c_out·F.
                let (sigma, above) = (at.sigma(), at.sigma() - floor);
                let skip = |sigma: f64| data * data / (sigma * sigma + data * data);
                let ratio = above / sigma;
                [skip(above) - ratio * skip(sigma), ratio]
            }
        }
    }
}
