//! What the targets share.

pub mod data;
mod folder;

use std::fs;

pub use folder::Folder;
use tempfile::TempDir;

/// A temporary folder of these files; in memory, where there is such a place.
fn written<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.expect("a temporary folder");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("a file");
    }
    folder
}
