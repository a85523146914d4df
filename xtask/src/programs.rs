//! Commands that are programs of other packages: cargo compiles and runs them.

use crate::launch::hand_over;
use std::{ffi::OsString, process::ExitCode};
use xtask::{cargo, root};

/// Runs the program `name` of the package in a folder below the root. The arguments are passed on
/// unchanged, and its exit code becomes that of `cargo xtask`.
pub(crate) fn run(folder: &str, name: &str, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut run = cargo();
    run.args([
        "run",
        "--quiet",
        "--locked",
        "--bin",
        name,
        "--manifest-path",
    ]);
    run.arg(root().join(folder).join("Cargo.toml"));
    run.arg("--").args(arguments);
    hand_over(run)
}
