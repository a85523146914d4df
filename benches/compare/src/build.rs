//! The programs of the workspace that are measured, and the folders for their files.

use anyhow::{Context as _, ensure};
use std::{
    env, fs,
    path::{Path, PathBuf},
};
use xtask::{cargo, root, target};

/// Compiles a package's program or example with optimisations and returns its path.
///
/// `options` are further arguments for cargo; `path` is that of the program in cargo's folder
/// `release`, without the suffix of executables.
///
/// # Errors
/// Cargo cannot be started, or the program does not compile.
pub fn build(package: &str, options: &[&str], path: &str) -> anyhow::Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", package]);
    let status = build.args(options).current_dir(root()).status();
    let built = status.context("cannot start cargo")?.success();
    ensure!(built, "{package} does not compile, see above");
    let path = format!("release/{path}{}", env::consts::EXE_SUFFIX);
    let path = target().join(path);
    fs::canonicalize(&path).with_context(|| path.display().to_string())
}

/// Makes an empty folder, in place of the one that may be there.
///
/// # Errors
/// The folder cannot be removed or made.
pub fn emptied(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}
