//! `diverged.json`: the report of a diverged run.

use std::path::Path;

use ddpm_files::{FileError, write_file};
use ddpm_train::Diverged;

/// A run whose loss or gradients are not finite, which all of its ranks see at once.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DivergedRun(String);

impl DivergedRun {
    /// The report in words; and in `diverged.json` of the folder `out`, if this rank writes.
    pub(super) fn new(diverged: &Diverged, out: &Path, leads: bool) -> Self {
        let written = if leads { write(diverged, out) } else { Ok(()) };
        let more = match written {
            Ok(()) => format!(", and {} says more", out.join("diverged.json").display()),
            Err(error) => format!(" ({error})"),
        };
        Self(format!("{diverged}; the run stops here{more}"))
    }
}

fn write(diverged: &Diverged, out: &Path) -> Result<(), FileError> {
    let mut json = serde_json::to_vec_pretty(diverged).unwrap_or_default();
    json.push(b'\n');
    write_file(&out.join("diverged.json"), &json)
}
