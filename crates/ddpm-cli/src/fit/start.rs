//! What a run begins with.

use ddpm_interop::diffusers::Pretrained;

use super::weights::Weights;

/// What a run begins with.
pub enum Start<'a> {
    /// Weights drawn from the seed.
    New,
    /// The weights of a network trained elsewhere; the plan's network must be that one.
    Pretrained(&'a Pretrained),
    /// The weights of another run; the plan's network must be that run's.
    Weights(&'a Weights),
    /// The newest checkpoint in its folder; the plan must be that run's.
    Resumed,
}
