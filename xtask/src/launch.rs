//! Commands that need Burn: cargo compiles the program for the chosen backend and runs it.

use crate::{backend, backend::Backend, llvm};
use anyhow::Context as _;
use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, IsTerminal as _, Read as _, Write},
    process::{Command, ExitCode, ExitStatus, Stdio},
};
use xtask::{Refusal, cargo};

/// Compiles `ddpm` and runs one of its commands. The arguments are passed on unchanged.
pub(crate) fn ddpm(command: &str, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let choice = backend::choose(arguments)?;
    let program = ["--release", "--package", "ddpm-cli", "--bin", "ddpm"];
    let mut build = cargo();
    build.arg("build").args(program);
    let mut run = cargo();
    run.args(["run", "--quiet"]).args(program);
    run.args(choice.backend.cargo_arguments());
    run.arg("--").arg(command).args(arguments);
    launch(choice.backend, build, run)
}

/// Compiles the benchmarks and runs them. `--backend` selects the cargo feature; Criterion, which
/// does not know that option, gets the other arguments.
pub(crate) fn bench(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let choice = backend::choose(arguments)?;
    let program = ["bench", "--package", "ddpm-benches"];
    let mut build = cargo();
    build.args(program).arg("--no-run");
    let mut run = cargo();
    run.args(program);
    run.args(choice.backend.cargo_arguments());
    run.arg("--").args(choice.rest);
    launch(choice.backend, build, run)
}

/// Builds, then hands over to `run`. If the LLVM bundle cannot be downloaded, explains how to get it.
fn launch(backend: Backend, mut build: Command, run: Command) -> anyhow::Result<ExitCode> {
    build.args(backend.cargo_arguments());
    let obstacle = (backend == Backend::Cuda).then(llvm::Bundle::locate);
    if let Some(notice) = obstacle.as_ref().and_then(llvm::Bundle::notice) {
        eprintln!("note: {notice}");
    }
    let needle = obstacle.as_ref().map(|_| llvm::FAILURE);
    let (status, held) = forward_build(build, needle)?;
    match obstacle {
        _ if status.success() => hand_over(run),
        Some(bundle) if !held.is_empty() => Err(Refusal(bundle.explanation()).into()),
        _ => Ok(exit_code(status)),
    }
}

/// Runs cargo and shows its progress up to the line that contains `needle`. Returns that line and
/// the rest, for which the caller has a better message.
fn forward_build(
    mut build: Command,
    needle: Option<&str>,
) -> anyhow::Result<(ExitStatus, Vec<u8>)> {
    let terminal = io::stderr().is_terminal();
    if terminal {
        // Cargo writes to a pipe, but its output reaches a terminal.
        build.env("CARGO_TERM_COLOR", "always");
        build.env("CARGO_TERM_PROGRESS_WHEN", "always");
        build.env("CARGO_TERM_PROGRESS_WIDTH", "80");
    }
    build.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = build.spawn().context("cannot start cargo")?;
    let held = match child.stderr.take() {
        Some(output) => forward(BufReader::new(output), io::stderr(), needle)?,
        None => Vec::new(),
    };
    if terminal && !held.is_empty() {
        // The output held back would have erased the progress bar.
        eprint!("\r\u{1b}[K");
    }
    Ok((child.wait()?, held))
}

/// Copies `from` to `to` up to the line that contains `needle`; returns that line and the rest.
fn forward(
    mut from: impl BufRead,
    mut to: impl Write,
    needle: Option<&str>,
) -> io::Result<Vec<u8>> {
    let mut held = Vec::new();
    loop {
        let line = read_line(&mut from)?;
        if line.is_empty() {
            return Ok(held);
        }
        let text = String::from_utf8_lossy(&line);
        if !held.is_empty() || needle.is_some_and(|needle| text.contains(needle)) {
            held.extend(line);
        } else {
            to.write_all(&line)?;
            to.flush()?;
        }
    }
}

/// Reads one line with its end, which is a newline or the carriage return of a progress bar. The
/// line is empty at the end of the input.
fn read_line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    for byte in from.by_ref().bytes() {
        line.push(byte?);
        if line.ends_with(b"\n") || line.ends_with(b"\r") {
            break;
        }
    }
    Ok(line)
}

/// Replaces this process by the command, so that nothing has to forward its exit code or its
/// signals: Ctrl-C reaches a training run, which saves before it stops.
#[cfg(unix)]
pub(crate) fn hand_over(mut command: Command) -> anyhow::Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec()).context("cannot start cargo")
}

/// Runs the command to its end and returns its exit code.
#[cfg(not(unix))]
pub(crate) fn hand_over(mut command: Command) -> anyhow::Result<ExitCode> {
    Ok(exit_code(command.status().context("cannot start cargo")?))
}

/// A child's exit code as our own; 1 if it has none, as after a signal, or if it is over 255.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "   Compiling tracel-llvm-bundler v1\n\
        error: failed to run custom build command for `tracel-llvm-bundler v1`\n\
        thread 'main' panicked\n";

    fn forwarded(output: &str, needle: Option<&str>) -> (String, String) {
        let mut shown = Vec::new();
        let held = forward(output.as_bytes(), &mut shown, needle).unwrap();
        (
            String::from_utf8(shown).unwrap(),
            String::from_utf8(held).unwrap(),
        )
    }

    #[test]
    fn the_named_failure_is_held_back_whole_and_nothing_before_it() {
        let (shown, held) = forwarded(OUTPUT, Some(llvm::FAILURE));
        assert_eq!(shown, "   Compiling tracel-llvm-bundler v1\n");
        assert!(held.starts_with("error: failed"), "{held}");
        assert!(held.ends_with("panicked\n"), "{held}");
    }

    #[test]
    fn any_other_output_passes_unchanged() {
        let other = "   Building [=> ] 1/2\r\u{1b}[Kerror[E0432]: unresolved\n  --> no newline";
        let shown = (other.to_string(), String::new());
        assert_eq!(forwarded(other, Some(llvm::FAILURE)), shown);
        assert_eq!(forwarded(OUTPUT, None), (OUTPUT.into(), String::new()));
    }
}
