//! `cargo xtask mpi`: several processes train the run that one trains.

use crate::{
    checks::{Step, WORKSPACE},
    commands::no_arguments,
};
use std::{
    ffi::OsString,
    process::{Command, ExitCode, Stdio},
};

/// Runs the tests of several ranks where there is an MPI, and says so where there is none.
pub(crate) fn mpi(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    if let Some(name) = missing() {
        println!("not run: no {name} here ({MISSING})");
        return Ok(ExitCode::SUCCESS);
    }
    let all = format!("{WORKSPACE},ddpm-cli/mpi");
    Step::new("mpi", format!("clippy {all} --all-targets -- -D warnings")).run()?;
    Step::new("mpi", format!("test {all} --test it ranks::")).run()?;
    Ok(ExitCode::SUCCESS)
}

/// How to install an MPI.
pub(crate) const MISSING: &str = "Debian: apt-get install openmpi-bin libopenmpi-dev libclang-dev";

/// What of an MPI is not there, if something is not.
pub(crate) fn missing() -> Option<&'static str> {
    ["mpirun", "mpicc"].into_iter().find(|name| !is_there(name))
}

/// Whether a program answers.
fn is_there(name: &str) -> bool {
    let mut command = Command::new(name);
    command.arg("--version").stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
