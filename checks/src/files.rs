//! The files of a checkout, and what a rule finds in one of them.

use anyhow::Context as _;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a rule finds in a file: the line, counted from 1, and the reason.
pub type Finding = (usize, String);

/// The files that a table refers to.
pub trait Tree {
    /// The text of a file, by its path from the root; `None` if it cannot be read.
    fn text(&self, path: &str) -> Option<String>;

    /// The path and the text of each source file of a crate.
    fn sources(&self, name: &str) -> Vec<(PathBuf, String)>;
}

/// The files below a root folder.
pub struct Checkout<'a>(pub &'a Path);

impl Tree for Checkout<'_> {
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok()
    }

    fn sources(&self, name: &str) -> Vec<(PathBuf, String)> {
        let folder = self.0.join("crates").join(name).join("src");
        let read = |file: PathBuf| {
            let text = fs::read_to_string(&file).ok()?;
            Some((file.strip_prefix(&folder).ok()?.to_owned(), text))
        };
        let files = files(&folder).unwrap_or_default();
        files.into_iter().filter_map(read).collect()
    }
}

/// Every file below `root`, sorted. Hidden files and folders are left out, and so are those that the
/// root's `.gitignore` names.
///
/// # Errors
/// A folder cannot be read.
pub fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let ignored: Vec<_> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('/'))
        .map(|name| root.join(name.trim_end_matches('/')))
        .collect();
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if hidden || ignored.contains(&entry.path()) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_ignored_files_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in [
            "b.rs",
            "a/c.rs",
            "a/target/d.rs",
            "target/e.rs",
            ".git/f.rs",
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(root.join(".gitignore"), "/target\n").unwrap();
        let expected = ["a/c.rs", "a/target/d.rs", "b.rs"].map(|file| root.join(file));
        assert_eq!(files(root).unwrap(), expected);
    }
}
