//! Why data cannot be used.

use std::path::{Path, PathBuf};

use ddpm_files::Missing;

/// Why data could not be loaded. Messages name the file and the numbers.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The path of the data does not exist.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A file or folder cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        error: std::io::Error,
    },
    /// The content of a file does not match its format.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// The expected and the found content.
        reason: String,
    },
    /// A source has impossible options: no points, or images without pixels.
    #[error("{0}")]
    Source(String),
    /// The loader cannot make batches.
    #[error("{0}")]
    Batches(String),
}

impl DataError {
    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|error| DataError::io(path, error))
}
