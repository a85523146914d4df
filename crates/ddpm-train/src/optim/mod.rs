//! Gradient descent: optimizers over named parameters, the learning rate, clipping.

mod adamw;
mod burn_optim;
mod learning_rate;
mod muon;
mod optimizer;
mod state;
mod step;

pub use adamw::{AdamW, AdamWSettings};
pub use burn_optim::BurnOptimizer;
pub use learning_rate::{Decay, LearningRate};
pub use muon::{Muon, MuonSettings, is_hidden};
pub use optimizer::{Average, Optimizer, Parameter, Step};
pub use state::{OptimizerState, Scalar};
pub use step::{clip, step};
