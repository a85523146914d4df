//! Writes files and folders atomically: after an interruption they are complete or absent.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{FileError, io};

/// Writes a file atomically: it has either its old or its new content.
///
/// # Errors
///
/// If the system refuses; the file then has its old content.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_files(&[(path.to_owned(), bytes)])
}

/// Writes files of one folder, each as [`write_file`] does; the folder is synced once for all.
///
/// # Errors
///
/// If the system refuses; each of the files then has either its old or its new content.
pub fn write_files(files: &[(PathBuf, impl AsRef<[u8]>)]) -> Result<(), FileError> {
    for (path, bytes) in files {
        let aside = aside(path);
        let written = write_synced(&aside, bytes.as_ref())
            .and_then(|()| fs::rename(&aside, path).map_err(io(path)));
        if written.is_err() {
            // An unfinished file would only fill a full disk.
            let _ = fs::remove_file(&aside);
        }
        written?;
    }
    files.first().map_or(Ok(()), |(path, _)| sync_parent(path))
}

/// Checks whether a file can be written, by making and removing a file with another name; an
/// existing file does not change.
///
/// # Errors
///
/// If it cannot.
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Err(FileError::content(path, "is a folder, not a file"));
    }
    let aside = aside(path);
    File::create(&aside).map_err(io(path))?;
    fs::remove_file(&aside).map_err(io(&aside))
}

/// Makes the name of a file durable.
///
/// # Errors
///
/// If the system refuses.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    sync(parent(path))
}

/// Writes a folder of files, which may be in subfolders, under another name, syncs all of it and
/// renames it: it is complete, absent, or as before.
///
/// Its parent folder is not created: it may have vanished with its disk.
///
/// # Errors
///
/// If the system refuses.
pub fn write_folder(target: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), FileError> {
    let aside = aside(target);
    remove_folder(&aside)?;
    let written = write_all(&aside, files).and_then(|()| {
        remove_folder(target)?;
        fs::rename(&aside, target).map_err(io(target))
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&aside);
    }
    written?;
    sync_parent(target)
}

fn write_all(aside: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), FileError> {
    fs::create_dir(aside).map_err(io(aside))?;
    let mut folders = BTreeSet::from([aside.to_owned()]);
    for (name, bytes) in files {
        let path = aside.join(name);
        let folder = parent(&path);
        if folders.insert(folder.to_owned()) {
            fs::create_dir(folder).map_err(io(folder))?;
        }
        write_synced(&path, bytes)?;
    }
    // Deepest first, because a folder is an entry of its parent.
    folders.iter().rev().try_for_each(|folder| sync(folder))
}

/// Removes a folder, if it exists. At no time is an incomplete folder visible under its name.
///
/// # Errors
///
/// If the system refuses.
pub fn remove_folder(folder: &Path) -> Result<(), FileError> {
    if !folder.exists() {
        return Ok(());
    }
    let gone = folder.with_file_name(format!("{}.gone.tmp", hidden(folder)));
    if gone.exists() {
        fs::remove_dir_all(&gone).map_err(io(&gone))?;
    }
    fs::rename(folder, &gone).map_err(io(folder))?;
    fs::remove_dir_all(&gone).map_err(io(&gone))
}

/// The temporary name of a file or folder until it is complete.
pub fn aside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.tmp", hidden(path)))
}

fn hidden(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{}", name.trim_start_matches('.'))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = File::create(path).map_err(io(path))?;
    file.write_all(bytes).map_err(io(path))?;
    file.sync_all().map_err(io(path))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name in a folder is durable only after the folder is synced.
fn sync(folder: &Path) -> Result<(), FileError> {
    let opened = File::open(folder);
    opened
        .and_then(|folder| folder.sync_all())
        .map_err(io(folder))
}
