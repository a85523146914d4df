//! Gradient descent and the trainer.
#![allow(missing_docs)]

mod conditions;
mod descent;
mod learning_rate;
mod muon;
mod networks;
mod trainer;
