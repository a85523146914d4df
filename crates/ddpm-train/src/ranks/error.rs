//! Why ranks cannot train together.

/// Why ranks cannot train together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RanksError {
    /// There are several, and this program cannot speak to them.
    #[error("{0} processes were started together, but this build has no MPI (cargo feature `mpi`)")]
    NotCompiled(usize),
    /// MPI would not begin.
    #[error("MPI was begun already, or cannot begin")]
    NotBegun,
    /// A batch cannot be divided.
    #[error(
        "batch_size = {batch_size} in accumulate = {parts} parts cannot be divided evenly among \
         {ranks} ranks"
    )]
    Indivisible {
        /// Rows of a batch.
        batch_size: usize,
        /// Parts that a batch is computed in.
        parts: usize,
        /// Ranks.
        ranks: usize,
    },
    /// Ranks have come apart.
    #[error("rank {rank} has another {what} than rank 0")]
    Apart {
        /// The first rank that differs.
        rank: usize,
        /// What is not the same.
        what: &'static str,
    },
    /// Another rank cannot go on, so this one waits no longer for it.
    #[error("rank {rank} failed: {reason}")]
    Failed {
        /// The rank.
        rank: usize,
        /// Its error.
        reason: String,
    },
    /// A tensor cannot be read from its device.
    #[error("cannot read a tensor from its device: {0}")]
    Device(String),
    /// The system does not start a thread.
    #[error("cannot start the thread of rank {rank}: {reason}")]
    NotStarted {
        /// The rank.
        rank: usize,
        /// What the system said.
        reason: String,
    },
}
