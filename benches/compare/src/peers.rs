//! PyTorch and diffusers, in a virtual environment of their own.

use anyhow::Context as _;
use std::{fs, path::PathBuf, process::Command};
use xtask::{Refusal, root, target};

/// The Python of a virtual environment below the target folder that has the packages of
/// `benches/peers/requirements.txt`; they are installed if they are not there yet.
///
/// # Errors
/// A [`Refusal`] if Python or its registry is missing; it begins with `without`, which says what
/// cannot be done.
pub fn install(without: &str) -> anyhow::Result<PathBuf> {
    let requirements = root().join("benches/peers/requirements.txt");
    let wanted =
        fs::read_to_string(&requirements).with_context(|| requirements.display().to_string())?;
    let venv = target().join("race/venv");
    let python = venv.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    // Written last, so that an installation that was interrupted is repeated.
    let installed = venv.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    eprintln!("installing PyTorch in {} (once)", venv.display());
    let mut make = Command::new("python3");
    run(
        make.args(["-m", "venv", "--clear"]).arg(&venv),
        without,
        "make a virtual environment",
    )?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]);
    run(
        pip.arg(&requirements),
        without,
        "install benches/peers/requirements.txt",
    )?;
    fs::write(&installed, wanted).with_context(|| installed.display().to_string())?;
    Ok(python)
}

/// Runs a command; its output is shown only by its last line, and only if it fails.
fn run(command: &mut Command, without: &str, purpose: &str) -> Result<(), Refusal> {
    let refusal = |reason: &str| Refusal(format!("{without}: python3 cannot {purpose}: {reason}"));
    let output = command.output().map_err(|e| refusal(&e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(refusal(last_line(&String::from_utf8_lossy(&said))))
}

/// The last line of a program that failed.
fn last_line(text: &str) -> &str {
    let mut lines = text.lines().rev().map(str::trim);
    lines
        .find(|line| !line.is_empty())
        .unwrap_or("it does not say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_one_line() {
        let missing = run(&mut Command::new("no-such-python"), "no race", "start");
        let Refusal(text) = missing.unwrap_err();
        assert!(
            text.starts_with("no race: python3 cannot start: "),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn the_last_line_says_why() {
        assert_eq!(last_line("WARNING\nERROR: no torch\n\n"), "ERROR: no torch");
        assert_eq!(last_line("\n"), "it does not say why");
    }
}
