//! Paths that a person gives, and that do not exist.

use std::path::Path;

use anyhow::Result;

/// Checks that there is something at the path which the option `what` names.
///
/// # Errors
///
/// If there is nothing.
pub fn must_exist(what: &str, path: &Path) -> Result<()> {
    ddpm_files::must_exist(path).map_err(|missing| anyhow::anyhow!("{what} {missing}"))
}
