//! The checks that run alone: property tests, packaging, licenses, MPI, torture; and the book.

use crate::{
    checks::{self, Step},
    launch::hand_over,
};
use anyhow::Context as _;
use lexopt::ValueExt as _;
use std::{
    ffi::OsString,
    num::NonZeroU32,
    process::{Command, ExitCode, Stdio},
};
use xtask::{MPI_PACKAGES, Refusal, WORKSPACE, cargo, missing_mpi, no_arguments, root};

/// A hundred times proptest's default of 256.
const CASES: NonZeroU32 = NonZeroU32::new(25_600).unwrap();

/// Runs the property tests with many cases: `props [--cases N]`.
pub(crate) fn props(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut cases = CASES;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("cases") => cases = parser.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Step::new("props", "test -p ddpm-schedule -p ddpm-process")
        .with("PROPTEST_CASES", cases.to_string())
        .run()?;
    Ok(ExitCode::SUCCESS)
}

/// Packages every published crate and builds each from its archive.
///
/// The archives do not contain the workspace's profiles and features, so cargo compiles Burn again
/// for them. `test` therefore only makes the archives.
pub(crate) fn package(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    Step::new("package", checks::PACKAGE)
        // Nobody debugs these builds, and debug information is most of their size.
        .with("CARGO_PROFILE_DEV_DEBUG", "0")
        .run()?;
    Ok(ExitCode::SUCCESS)
}

/// Checks licenses, sources and advisories by `deny.toml`.
pub(crate) fn deny(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    let mut version = cargo();
    if !succeeds(version.args(["deny", "--version"])) {
        let reason = "nothing was checked: cargo-deny is not installed \
                      (cargo install --locked cargo-deny)";
        return Err(Refusal(reason.into()).into());
    }
    Step::new("deny", "deny check").run()?;
    Ok(ExitCode::SUCCESS)
}

/// Renders the book.
pub(crate) fn book(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    for tool in ["mdbook", "mdbook-katex"] {
        if !succeeds(Command::new(tool).arg("--version")) {
            return Err(Refusal(format!(
                "nothing was rendered: {tool} is not installed \
                 (cargo install --locked mdbook mdbook-katex)"
            ))
            .into());
        }
    }
    let mut render = Command::new("mdbook");
    let status = render.args(["build", "docs/book"]).current_dir(root());
    if !status.status().context("cannot start mdbook")?.success() {
        return Ok(ExitCode::FAILURE);
    }
    println!("target/book/index.html");
    Ok(ExitCode::SUCCESS)
}

/// Whether a command runs and succeeds; its output is not shown.
fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// Runs the tests that train one run with several processes. Without an MPI prints that they were
/// not run.
pub(crate) fn mpi(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    if let Some(name) = missing_mpi() {
        println!("not run: no {name} here ({MPI_PACKAGES})");
        return Ok(ExitCode::SUCCESS);
    }
    let all = format!("{WORKSPACE},ddpm-cli/mpi");
    Step::new("mpi", format!("clippy {all} --all-targets -- -D warnings")).run()?;
    Step::new("mpi", format!("test {all} --test it ranks::")).run()?;
    Ok(ExitCode::SUCCESS)
}

/// Kills and resumes runs and injects faults: `torture [--kills N]`. The test `torture` of the
/// program's crate reads the arguments.
pub(crate) fn torture(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut test = cargo();
    test.arg("test").args(WORKSPACE.split_whitespace());
    test.args(["--test", "torture", "--", "--all"])
        .args(arguments);
    test.current_dir(root());
    hand_over(test)
}
