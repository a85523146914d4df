//! Why a configuration is refused.

use std::path::PathBuf;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No recipe has this name.
    #[error("unknown recipe {name:?}; known are {known}")]
    UnknownRecipe {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not TOML, or has unknown or mistyped keys; the message shows the line.
    #[error("{file}: {error}")]
    Parse {
        /// The file, or the recipe's name.
        file: String,
        /// What the parser said.
        error: Box<toml::de::Error>,
    },
    /// `--data` is given to a configuration whose data is no file.
    #[error("--data {}: {file} has data.kind = \"{kind}\", which reads no file; {way_out}", path.display())]
    DataOption {
        /// What the option says.
        path: PathBuf,
        /// The file, or the recipe's name.
        file: String,
        /// `data.kind`
        kind: &'static str,
        /// What to do.
        way_out: String,
    },
    /// A key's value makes no sense.
    #[error("{file}: {key}: {reason}")]
    Invalid {
        /// The file, or the recipe's name.
        file: String,
        /// The key, as `table.key`.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}
