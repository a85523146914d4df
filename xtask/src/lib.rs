//! What `cargo xtask` shares with the programs that it starts: where the workspace is, how to call
//! cargo, and how a program refuses a request.

mod mpi;
mod refusal;
mod workspace;

pub use mpi::{MPI_PACKAGES, missing_mpi};
pub use refusal::{Refusal, no_arguments, report};
pub use workspace::{WORKSPACE, cargo, command, root, target};
