//! Why a folder of diffusers cannot be read or written.

use std::path::{Path, PathBuf};

use ddpm_files::FileError;
use ddpm_model::ModelError;

/// Why a folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiffusersError {
    /// A file or folder cannot be read or written, or has the wrong content.
    #[error(transparent)]
    File(#[from] FileError),
    /// A configuration has unknown keys.
    #[error("{}: unknown keys: {}", path.display(), keys.join(", "))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// All of these keys.
        keys: Vec<String>,
    },
    /// A configuration has a value that is wrong, or that is not supported.
    #[error("{}: {key} = {value}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value, as JSON.
        value: String,
        /// What is wrong, or what is supported.
        reason: String,
    },
    /// A configuration describes a network that cannot be built.
    #[error("{}: {error}", path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: ModelError,
    },
}

/// An error about the content of a file or folder.
pub(super) fn content(path: &Path, reason: impl std::fmt::Display) -> DiffusersError {
    FileError::content(path, reason).into()
}
