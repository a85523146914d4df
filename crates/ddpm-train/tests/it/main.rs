//! Gradient descent and the trainer.
#![allow(missing_docs)]

mod conditions;
mod descent;
