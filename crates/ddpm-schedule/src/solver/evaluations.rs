//! The evaluations of a step that asks at t at most once.

use super::{Position, Row, Step};
use crate::NoiseLevel;

/// The levels of the evaluations after the step has asked at t, the newest first.
pub(super) fn nodes(at: &Position) -> Vec<NoiseLevel> {
    let fresh = (at.past.first() != Some(&at.t)).then_some(at.t);
    fresh.into_iter().chain(at.past.iter().copied()).collect()
}

/// A step that ends with `last`. It asks at t, unless the step before did.
pub(super) fn step(at: &Position, last: Row) -> Step {
    if at.past.first() == Some(&at.t) {
        let asks = Vec::new();
        Step { asks, last }
    } else {
        Step::one(at.t, last)
    }
}
