//! The workspace's folders, and the cargo that works on them.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

/// The packages and features of every command that compiles the whole workspace. All of them use
/// the same set, because cargo unifies features over it: another set would compile Burn again.
pub const WORKSPACE: &str = "--workspace --features ddpm-cli/ndarray";

/// The workspace's root folder, found from the package that cargo runs. It is not fixed at compile
/// time: two checkouts that share a target directory may share this program too.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let mut folders = package.ancestors();
    let root = folders.find(|folder| folder.join("xtask").exists());
    root.map(Path::to_path_buf).unwrap_or(package)
}

/// The folder that cargo compiles into.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that started this program.
pub fn cargo() -> Command {
    command(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A program in the environment of a shell. Cargo describes the running package in variables;
/// build scripts that see them would run again.
pub fn command(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    for name in described_by_cargo() {
        command.env_remove(name);
    }
    command
}

/// The names of the variables in which cargo describes the running package.
fn described_by_cargo() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    })
}
