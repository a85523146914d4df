//! Whether this machine has an MPI, which trains one run with several processes.

use std::process::{Command, Stdio};

/// How to install an MPI.
pub const MPI_PACKAGES: &str = "Debian: apt-get install openmpi-bin libopenmpi-dev libclang-dev";

/// The first program of an MPI that is not installed; `None` if all are.
pub fn missing_mpi() -> Option<&'static str> {
    ["mpirun", "mpicc"].into_iter().find(|name| !answers(name))
}

fn answers(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
