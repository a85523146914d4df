//! The ranks as MPI has them.

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

use burn::tensor::Tensor;

use super::error::RanksError;
use super::team::{Team, by_host};

/// All processes that were started together, and MPI as long as it lives.
pub(super) struct World {
    _universe: Universe,
}

impl World {
    pub(super) fn join() -> Result<Self, RanksError> {
        // Checkpoints are written by another thread, which does not speak to the others.
        let begun = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = begun.ok_or(RanksError::NotBegun)?;
        Ok(Self {
            _universe: universe,
        })
    }
}

impl Team for World {
    fn rank(&self) -> usize {
        number(world().rank())
    }

    fn size(&self) -> usize {
        number(world().size())
    }

    fn local_rank(&self) -> usize {
        number(world().split_shared(world().rank()).rank())
    }

    fn local_size(&self) -> usize {
        number(world().split_shared(world().rank()).size())
    }

    fn gather(&self, values: &[f64]) -> Result<Vec<f64>, RanksError> {
        let mut all = vec![0.0; values.len() * self.size()];
        world().all_gather_into(values, &mut all[..]);
        Ok(all)
    }

    fn sum(&self, values: Tensor<1>) -> Result<Tensor<1>, RanksError> {
        by_host(&values, |values| {
            let mut sums = vec![0.0; values.len()];
            world().all_reduce_into(&values[..], &mut sums[..], SystemOperation::sum());
            Ok(sums)
        })
    }

    fn abort(&self, code: i32) {
        world().abort(code);
    }
}

/// All processes.
fn world() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

/// MPI counts in `int`, and never below zero.
fn number(of: i32) -> usize {
    usize::try_from(of).unwrap_or(0)
}
