//! Paths that do not exist.

use std::env;
use std::path::{Path, PathBuf};

/// A path that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: no such file or folder{}", path.display(), start(path))]
pub struct Missing {
    path: PathBuf,
}

/// The folder at which relative paths start, for messages.
fn start(path: &Path) -> String {
    match env::current_dir() {
        Ok(folder) if path.is_relative() => {
            format!("; relative paths start at {}", folder.display())
        }
        _ => String::new(),
    }
}

/// Checks that a path exists.
///
/// # Errors
///
/// If the path does not exist.
pub fn must_exist(path: &Path) -> Result<(), Missing> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    Err(Missing {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_path_is_named_with_its_start() {
        assert_eq!(must_exist(Path::new("src")), Ok(()));
        let error = must_exist(Path::new("photos")).unwrap_err();
        let start = env::current_dir().unwrap();
        let expected = format!(
            "photos: no such file or folder; relative paths start at {}",
            start.display()
        );
        assert_eq!(error.to_string(), expected);
        let error = must_exist(Path::new("/no/such")).unwrap_err();
        assert_eq!(error.to_string(), "/no/such: no such file or folder");
    }
}
