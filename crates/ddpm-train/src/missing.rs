//! Paths that a person gives, and that lead nowhere.

use std::env;
use std::path::{Path, PathBuf};

/// A path that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {}: no such file or folder{}", path.display(), start(path))]
pub struct Missing {
    /// The option or the key that names it.
    what: String,
    path: PathBuf,
}

/// Where a relative path starts, in words.
fn start(path: &Path) -> String {
    match env::current_dir() {
        Ok(folder) if path.is_relative() => {
            format!("; relative paths start at {}", folder.display())
        }
        _ => String::new(),
    }
}

/// That there is something at a path, which the option or key `what` names.
///
/// # Errors
///
/// If there is nothing.
pub fn must_exist(what: &str, path: &Path) -> Result<(), Missing> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    Err(Missing {
        what: what.to_owned(),
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_path_is_named_with_its_key_and_its_start() {
        assert_eq!(must_exist("data.path", Path::new("src")), Ok(()));
        let error = must_exist("data.path", Path::new("photos")).unwrap_err();
        let start = env::current_dir().unwrap();
        let expected = format!(
            "data.path photos: no such file or folder; relative paths start at {}",
            start.display()
        );
        assert_eq!(error.to_string(), expected);
        let error = must_exist("--from", Path::new("/no/such")).unwrap_err();
        assert_eq!(error.to_string(), "--from /no/such: no such file or folder");
    }
}
