//! The ranks that train one run together: processes that `mpirun` started, or threads of this one
//! with a device each.
//!
//! Each of n ranks computes the losses of its n-th of every batch; gradients are summed over all of
//! them, and every rank makes the same update of the same weights. The first rank alone writes.

mod devices;
mod error;
mod meeting;
#[cfg(feature = "mpi")]
mod mpi;
mod rank;
mod team;

pub use devices::{OfRank, on_devices};
pub use error::RanksError;
pub use rank::Ranks;
