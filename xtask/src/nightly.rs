//! The checks that need a nightly compiler: Miri and fuzzing.

use anyhow::{Context as _, bail};
use lexopt::ValueExt as _;
use std::{
    ffi::OsString,
    fs,
    num::NonZeroU32,
    process::{Command, ExitCode, Stdio},
};
use xtask::{Refusal, command, no_arguments, root};

/// Runs the kernels on small shapes under Miri. Miri has no vector instructions, so the kernels are
/// those in plain Rust. They run with debug assertions and without: with them, outputs are filled
/// before they are written.
pub(crate) fn miri(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    needs(
        &["miri", "--version"],
        "rustup component add miri --toolchain nightly",
    )?;
    for debug_assertions in ["true", "false"] {
        let mut test = cargo(&[
            "miri",
            "test",
            "--package",
            "ddpm-kernels",
            "--features",
            "flex",
            "--test",
            "it",
            "tiny",
        ]);
        // Rayon's threads ask for the number of cores and outlive the test. Its queues are sound
        // only under the newer of Miri's two models of borrowing.
        let flags = "-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-tree-borrows";
        test.env("MIRIFLAGS", flags);
        test.env("CARGO_PROFILE_DEV_DEBUG_ASSERTIONS", debug_assertions);
        succeed(test)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The most memory that a target may use.
const RSS_LIMIT_MB: u32 = 3072;

/// The largest allocation that an input of some kB may cause. The memory for a file is bounded by a
/// multiple of its length. The memory for an image is bounded by its pixels, which the target
/// limits to some MB.
const MALLOC_LIMIT_MB: u32 = 128;

/// Runs every fuzz target, or those named, for some minutes each: `fuzz [TARGET]... [--minutes N]`.
/// They start with the inputs of `fuzz/corpus`; new inputs go to `fuzz/target/corpus`.
pub(crate) fn fuzz(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let known = targets()?;
    let (mut chosen, mut minutes) = (Vec::new(), NonZeroU32::new(30).unwrap_or(NonZeroU32::MIN));
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("minutes") => minutes = parser.value()?.parse()?,
            lexopt::Arg::Value(name) => {
                let name = name.string()?;
                if !known.contains(&name) {
                    let known = known.join(", ");
                    return Err(Refusal(format!("unknown target `{name}`; known: {known}")).into());
                }
                chosen.push(name);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    needs(&["fuzz", "--version"], "cargo install --locked cargo-fuzz")?;
    let seconds = 60 * u64::from(minutes.get());
    for target in if chosen.is_empty() { known } else { chosen } {
        // libFuzzer writes new inputs to the first folder.
        let [found, kept] = ["fuzz/target/corpus", "fuzz/corpus"].map(|folder| {
            let folder = root().join(folder).join(&target);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            anyhow::Ok(folder)
        });
        let mut run = cargo(&["fuzz", "run", &target]);
        run.args([found?, kept?]).arg("--");
        run.arg(format!("-max_total_time={seconds}"));
        run.arg(format!("-malloc_limit_mb={MALLOC_LIMIT_MB}"));
        run.arg(format!("-rss_limit_mb={RSS_LIMIT_MB}"));
        succeed(run)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of the fuzz targets.
fn targets() -> anyhow::Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

/// Cargo of the nightly toolchain, in the root folder.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = command("rustup".as_ref());
    command.args(["run", "nightly", "cargo"]).args(arguments);
    command.current_dir(root());
    command
}

/// Checks that a tool answers; the refusal says how to install it.
fn needs(question: &[&str], install: &str) -> Result<(), Refusal> {
    let mut command = cargo(question);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if command.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let tool = question[0];
    Err(Refusal(format!(
        "nothing was checked: a nightly toolchain with cargo-{tool} is needed \
         (rustup toolchain install nightly; {install})"
    )))
}

fn succeed(mut command: Command) -> anyhow::Result<ExitCode> {
    let status = command.status().context("cannot start rustup")?;
    if !status.success() {
        bail!("{command:?} failed, see above");
    }
    Ok(ExitCode::SUCCESS)
}
