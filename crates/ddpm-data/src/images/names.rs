//! The names of many files, in one buffer.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Paths of files relative to a folder. The parts of a path are separated by `/` on every system.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each name ends in `bytes`; it begins where the one before it ends.
    ends: Vec<usize>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Appends a relative path.
    pub(super) fn push(&mut self, path: &Path) {
        for (i, part) in path.iter().enumerate() {
            if i > 0 {
                self.bytes.push(b'/');
            }
            self.bytes.extend(part.as_encoded_bytes());
        }
        self.ends.push(self.bytes.len());
    }

    /// Gives memory back that the names do not use.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Name `i`, below [`len`](Self::len).
    pub(super) fn get(&self, i: usize) -> &[u8] {
        let begin = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[begin..self.ends[i]]
    }

    /// The path of file `i`, which is in the folder `root`.
    pub(super) fn path(&self, root: &Path, i: usize) -> PathBuf {
        root.join(os_string(self.get(i)))
    }

    /// Bytes of memory that the names take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + size_of::<usize>() * self.ends.len()
    }
}

#[cfg(unix)]
fn os_string(name: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(name.to_vec())
}

/// Names that are not Unicode are refused where files are listed.
#[cfg(not(unix))]
fn os_string(name: &[u8]) -> OsString {
    String::from_utf8_lossy(name).into_owned().into()
}

/// Whether a file's name can be kept here.
pub(super) fn can_hold(name: &std::ffi::OsStr) -> bool {
    cfg!(unix) || name.to_str().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_number() {
        let mut names = Names::default();
        let paths = ["a/0.png", "a/b/1.png", "é.png"];
        paths.iter().for_each(|path| names.push(Path::new(path)));
        names.shrink();
        assert_eq!(names.len(), 3);
        for (i, path) in paths.iter().enumerate() {
            assert_eq!(names.get(i), path.as_bytes());
            assert_eq!(names.path(Path::new("x"), i), Path::new("x").join(path));
        }
        assert_eq!(names.bytes(), 7 + 9 + 6 + 3 * size_of::<usize>());
    }
}
