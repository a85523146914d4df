//! The checks that stand alone: property tests, house rules, packaging, licenses.

use crate::{
    Refusal, cargo,
    checks::{self, Step},
    root, tidy,
};
use lexopt::ValueExt as _;
use std::{ffi::OsString, num::NonZeroU32, process::ExitCode};
use xshell::{Shell, cmd};

/// A hundred times proptest's own 256.
const CASES: NonZeroU32 = NonZeroU32::new(25_600).unwrap();

/// The property tests with many cases: `props [--cases N]`.
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

/// The house rules alone.
pub(crate) fn tidy(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    tidy::check(&root())?;
    Ok(ExitCode::SUCCESS)
}

/// Packages every published crate and builds each from its archive.
///
/// The archives know nothing of the workspace's profiles and features, so Burn is compiled for
/// them once more; that is why `test` only makes the archives.
pub(crate) fn package(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    Step::new("package", checks::PACKAGE)
        // Nobody debugs these builds, and debug information is most of their size.
        .with("CARGO_PROFILE_DEV_DEBUG", "0")
        .run()?;
    Ok(ExitCode::SUCCESS)
}

/// Licenses, sources and advisories by `deny.toml`.
pub(crate) fn deny(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    let shell = Shell::new()?;
    let cargo = cargo();
    let version = cmd!(shell, "{cargo} deny --version");
    if version.quiet().output().is_err() {
        return Err(Refusal(
            "nothing was checked: cargo-deny is not installed \
             (cargo install --locked cargo-deny)"
                .into(),
        )
        .into());
    }
    Step::new("deny", "deny check").run()?;
    Ok(ExitCode::SUCCESS)
}

/// Renders the book.
pub(crate) fn book(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    no_arguments(arguments)?;
    let shell = Shell::new()?;
    shell.change_dir(root());
    for tool in ["mdbook", "mdbook-katex"] {
        if cmd!(shell, "{tool} --version").quiet().output().is_err() {
            return Err(Refusal(format!(
                "nothing was rendered: {tool} is not installed \
                 (cargo install --locked mdbook mdbook-katex)"
            ))
            .into());
        }
    }
    cmd!(shell, "mdbook build docs/book").run()?;
    println!("target/book/index.html");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn no_arguments(arguments: &[OsString]) -> Result<(), lexopt::Error> {
    match lexopt::Parser::from_args(arguments).next()? {
        Some(argument) => Err(argument.unexpected()),
        None => Ok(()),
    }
}
