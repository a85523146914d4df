//! The evaluations of solvers that evaluate at t once.

use super::{Position, Row, Step};
use crate::NoiseLevel;

/// The levels of all evaluations, including that at t, the newest first.
pub(super) fn nodes(at: &Position) -> Vec<NoiseLevel> {
    let fresh = (at.past.first() != Some(&at.t)).then_some(at.t);
    fresh.into_iter().chain(at.past.iter().copied()).collect()
}

/// A step to `last` that evaluates at t, unless the step before has done so.
pub(super) fn step(at: &Position, last: Row) -> Step {
    if at.past.first() == Some(&at.t) {
        let asks = Vec::new();
        Step { asks, last }
    } else {
        Step::one(at.t, last)
    }
}
