//! Bits per dimension: how well a network predicts data it is shown, with error bars.
//!
//! The bound is L_T + Σ L_{t−1} + L₀ ([`ddpm_schedule::bound`]) of a model of variance β̃, with all t
//! or with some drawn at random, evenly spread, and its decoder has the variance β₁; a network that
//! chooses its variances has them everywhere. Beside it stands the
//! density along the probability-flow ODE ([`crate::flow`]), a bound as well: with x₁ from
//! q(x₁ | x₀),
//!
//! ```text
//! ln P(x₀) ≥ E[ln p(x₁) + ln P(x₀ | x₁) − ln q(x₁ | x₀)].
//! ```

mod evaluation;
mod pace;
mod report;

pub use evaluation::{BATCH, Evaluation, LikelihoodError, Question, nll};
pub use pace::Progress;
pub use report::{Estimate, Likelihood, Measured, Step};
