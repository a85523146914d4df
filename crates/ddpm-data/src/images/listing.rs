//! The files of a folder of images: those that are read, their classes, and those that are passed
//! over.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};

use super::names::{Names, can_hold};
use super::reading::Reading;
use crate::DataError;

/// Extensions of the files that are read.
const EXTENSIONS: [&str; 10] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "tif", "tiff",
];

/// Files between two reports of progress.
const REPORTED: usize = 1000;

/// What a folder of images holds.
#[derive(Debug)]
pub(super) struct Listing {
    /// The image files, class by class, each class in the order of its paths.
    pub(super) files: Names,
    /// Names of the classes, in the order of their numbers; empty if there are no classes.
    pub(super) class_names: Vec<String>,
    /// For each class, the number of files up to its last one.
    pub(super) class_ends: Vec<usize>,
    /// What a person should know of it.
    pub(super) notes: Vec<String>,
}

/// Lists the image files of a folder at any depth. If all are in subfolders, the subfolders of the first
/// level are the classes, also those without an image.
pub(super) fn list(path: &Path, progress: &mut dyn FnMut(Reading)) -> Result<Listing, DataError> {
    if path.is_file() {
        let reason = "expected a folder of images, found a file";
        return Err(DataError::format(path, reason));
    }
    let mut search = Search {
        root: path,
        files: Names::default(),
        passed_over: BTreeMap::new(),
        above: vec![canonical(path)?],
        progress,
    };
    let mut folders = Vec::new();
    for (name, is_folder) in search.entries(path)? {
        if is_folder {
            folders.push((name.to_string_lossy().into_owned(), PathBuf::from(name)));
        } else {
            search.push(Path::new(&name));
        }
    }
    folders.sort_by(|(a, _), (b, _)| natural(a, b));
    let loose = search.files.len();
    let mut class_ends = Vec::new();
    for (_, folder) in &folders {
        search.files(folder)?;
        class_ends.push(search.files.len());
    }
    let mut notes = Vec::from_iter(search.note());
    let mut files = search.files;
    files.shrink();
    let class_names = folders.into_iter().map(|(name, _)| name).collect();
    match (loose, files.len() - loose) {
        (0, 0) => {
            let known = EXTENSIONS.map(|known| format!(".{known}")).join(", ");
            let found = notes.pop().unwrap_or("nothing at all".to_owned());
            let reason = format!("expected image files ({known}), found none; {found}");
            Err(DataError::format(path, reason))
        }
        (_, 0) => Ok(Listing {
            files,
            class_names: Vec::new(),
            class_ends: Vec::new(),
            notes,
        }),
        (0, _) => {
            let mut listing = Listing {
                files,
                class_names,
                class_ends,
                notes,
            };
            listing.notes.extend(class_note(path, &listing));
            Ok(listing)
        }
        (_, _) => {
            let reason = format!(
                "it lies beside folders of images such as {}, which would be classes: put all images \
                 into folders, one for each class, or all of them into one folder",
                files.path(path, loose).display()
            );
            Err(DataError::format(&files.path(path, 0), reason))
        }
    }
}

/// What is unusual about classes.
fn class_note(path: &Path, listing: &Listing) -> Option<String> {
    let (names, ends) = (&listing.class_names, &listing.class_ends);
    if let [name] = names.as_slice() {
        let separators = |i| listing.files.get(i).iter().filter(|&&b| b == b'/').count();
        let deeper = (0..listing.files.len()).all(|i| separators(i) > 1);
        return deeper.then(|| {
            let inside = path.join(name);
            let inside = inside.display();
            format!(
                "all images are in one class, {name}; if its subfolders are the classes, use {inside}"
            )
        });
    }
    let begins = std::iter::once(&0).chain(ends);
    let empty = names.iter().zip(begins.zip(ends));
    let empty = empty.filter(|(_, (begin, end))| begin == end);
    let empty: Vec<_> = empty.map(|(name, _)| name).collect();
    match empty.as_slice() {
        [] => None,
        [name] => Some(format!("no image in the folder of class {name}")),
        [name, rest @ ..] => {
            let more = rest.len();
            Some(format!(
                "no image in the folders of class {name} and of {more} more"
            ))
        }
    }
}

/// A search for image files.
struct Search<'a> {
    /// The folder that is searched.
    root: &'a Path,
    /// The image files found.
    files: Names,
    /// How many files are passed over, by the reason.
    passed_over: BTreeMap<String, usize>,
    /// The canonical paths of the folders that contain the current one.
    above: Vec<PathBuf>,
    progress: &'a mut dyn FnMut(Reading),
}

impl Search<'_> {
    /// Adds the image files in `folder`, a path relative to the root, at any depth, in the order of their
    /// paths.
    fn files(&mut self, folder: &Path) -> Result<(), DataError> {
        let path = self.root.join(folder);
        self.above.push(canonical(&path)?);
        for (name, is_folder) in self.entries(&path)? {
            let relative = folder.join(name);
            if is_folder {
                self.files(&relative)?;
            } else {
                self.push(&relative);
            }
        }
        self.above.pop();
        Ok(())
    }

    /// Adds an image file.
    fn push(&mut self, relative: &Path) {
        self.files.push(relative);
        let found = self.files.len();
        if found.is_multiple_of(REPORTED) {
            (self.progress)(Reading::Listed { found });
        }
    }

    /// The names of the image files and of the folders right in a folder, sorted, and which of them are
    /// folders.
    fn entries(&mut self, folder: &Path) -> Result<Vec<(OsString, bool)>, DataError> {
        let io = |error| DataError::io(folder, error);
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            // Hidden ones are not data but traces of other programs, and so is what macOS packs.
            if name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX" {
                self.pass_over("hidden".to_owned());
                continue;
            }
            let extension = Path::new(&name).extension().and_then(OsStr::to_str);
            let extension = extension.unwrap_or_default().to_ascii_lowercase();
            let kind = kind(&entry)?;
            if kind.is_dir() {
                if self.above.contains(&canonical(&entry.path())?) {
                    self.pass_over("link to a folder that it is in".to_owned());
                } else {
                    found.push((name, true));
                }
            } else if kind.is_file() && EXTENSIONS.contains(&extension.as_str()) {
                if !can_hold(&name) {
                    return Err(DataError::format(&entry.path(), "its name is not Unicode"));
                }
                found.push((name, false));
            } else if extension.is_empty() {
                self.pass_over("without an extension".to_owned());
            } else {
                self.pass_over(format!(".{extension}"));
            }
        }
        found.sort();
        Ok(found)
    }

    fn pass_over(&mut self, reason: String) {
        *self.passed_over.entry(reason).or_default() += 1;
    }

    /// The reasons for passing over files, most common first:
    /// `passed over: 3 files: 2 .txt, 1 hidden`.
    fn note(&self) -> Option<String> {
        /// The maximum number of reasons that are named.
        const MOST: usize = 4;
        let total: usize = self.passed_over.values().sum();
        let mut reasons: Vec<_> = self.passed_over.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let named = reasons.iter().take(MOST);
        let mut parts: Vec<_> = named.map(|(reason, n)| format!("{n} {reason}")).collect();
        let rest: usize = reasons.iter().skip(MOST).map(|(_, count)| **count).sum();
        if rest > 0 {
            parts.push(format!("{rest} of other kinds"));
        }
        let files = if total == 1 { "file" } else { "files" };
        (total > 0).then(|| format!("passed over: {total} {files}: {}", parts.join(", ")))
    }
}

/// What an entry of a folder is; of a link, what it leads to.
fn kind(entry: &fs::DirEntry) -> Result<FileType, DataError> {
    let path = entry.path();
    let kind = entry
        .file_type()
        .map_err(|error| DataError::io(&path, error))?;
    if !kind.is_symlink() {
        return Ok(kind);
    }
    let metadata = fs::metadata(&path).map_err(|error| match fs::read_link(&path) {
        Ok(target) => {
            let target = target.display();
            DataError::format(&path, format!("a link to {target}, which fails: {error}"))
        }
        Err(_) => DataError::io(&path, error),
    })?;
    Ok(metadata.file_type())
}

fn canonical(path: &Path) -> Result<PathBuf, DataError> {
    fs::canonicalize(path).map_err(|error| DataError::io(path, error))
}

/// Text order, except that runs of digits are compared as numbers: 2 before 10. Texts that are then
/// equal, such as 1 and 01, are in text order.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    loop {
        let [(m, rest_x), (n, rest_y)] = [number(x), number(y)];
        let order = match (m.is_empty(), n.is_empty()) {
            (false, false) => {
                let [m, n] = [m, n].map(|digits| digits.trim_start_matches('0'));
                m.len().cmp(&n.len()).then_with(|| m.cmp(n))
            }
            _ => x.chars().next().cmp(&y.chars().next()),
        };
        if order.is_ne() {
            return order;
        }
        if x.is_empty() {
            return a.cmp(b);
        }
        [x, y] = if m.is_empty() {
            [after(x), after(y)]
        } else {
            [rest_x, rest_y]
        };
    }
}

/// The digits that a text begins with, and the rest.
fn number(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

/// A text without its first character.
fn after(text: &str) -> &str {
    let mut rest = text.chars();
    rest.next();
    rest.as_str()
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_are_in_the_order_of_counting() {
        let sorted = [
            "", "0", "1", "01", "2", "10", "10a", "10b2", "10b11", "a", "a1", "b", "é",
        ];
        let mut found = sorted;
        found.reverse();
        found.sort_by(|a, b| natural(a, b));
        // "01" and "1" are the same number, so their text decides.
        let mut expected = sorted;
        expected.swap(2, 3);
        assert_eq!(found, expected);
    }
}
