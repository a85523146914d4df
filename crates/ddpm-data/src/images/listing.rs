//! The files of a folder of images: those that are read, their classes, and those that are passed
//! over.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::DataError;

/// Extensions of the files that are read.
const EXTENSIONS: [&str; 10] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "tif", "tiff",
];

/// The content of a folder of images.
pub(super) struct Listing {
    /// The image files by class, and within a class in the order of their paths.
    pub(super) files: Vec<PathBuf>,
    /// The class of each file, if there are classes.
    pub(super) labels: Option<Vec<usize>>,
    /// Names of the classes, in the order of their numbers.
    pub(super) class_names: Vec<String>,
    /// Notes for the user.
    pub(super) notes: Vec<String>,
}

/// Lists the image files of a folder at any depth. If all are in subfolders, the subfolders of the
/// first level are the classes, including those without images.
pub(super) fn list(path: &Path) -> Result<Listing, DataError> {
    if path.is_file() {
        let reason = "expected a folder of images, found a file";
        return Err(DataError::format(path, reason));
    }
    let mut search = Search {
        passed_over: BTreeMap::new(),
        above: vec![canonical(path)?],
    };
    let (loose, folders) = search.entries(path)?;
    let mut named = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let mut files = Vec::new();
        search.files(&folder, &mut files)?;
        files.sort();
        named.push((name, files));
    }
    named.sort_by(|(a, _), (b, _)| natural(a, b));
    let mut notes = Vec::new();
    notes.extend(search.note());
    let first = named.iter().flat_map(|(_, files)| files).next();
    match (loose.first(), first) {
        (None, None) => {
            let known = EXTENSIONS.map(|known| format!(".{known}")).join(", ");
            let found = search.note().unwrap_or("nothing at all".to_owned());
            let reason = format!("expected image files ({known}), found none; {found}");
            Err(DataError::format(path, reason))
        }
        (Some(_), None) => Ok(Listing {
            files: loose,
            labels: None,
            class_names: Vec::new(),
            notes,
        }),
        (Some(file), Some(other)) => {
            let reason = format!(
                "it is next to folders of images such as {}, which would be classes: put all images \
                 into folders, one per class, or all of them into one folder",
                other.display()
            );
            Err(DataError::format(file, reason))
        }
        (None, Some(_)) => {
            notes.extend(class_notes(path, &named));
            let labels = named.iter().enumerate();
            let labels = labels.flat_map(|(class, (_, files))| vec![class; files.len()]);
            Ok(Listing {
                labels: Some(labels.collect()),
                class_names: named.iter().map(|(name, _)| name.clone()).collect(),
                files: named.into_iter().flat_map(|(_, files)| files).collect(),
                notes,
            })
        }
    }
}

/// A note about unusual classes.
fn class_notes(path: &Path, named: &[(String, Vec<PathBuf>)]) -> Option<String> {
    if let [(name, files)] = named {
        let inside = path.join(name);
        let deeper = files.iter().all(|file| file.parent() != Some(&inside));
        return deeper.then(|| {
            let inside = inside.display();
            format!(
                "all images are in one class, {name}; if its subfolders are the classes, use {inside}"
            )
        });
    }
    let empty = named.iter().filter(|(_, files)| files.is_empty());
    let empty: Vec<_> = empty.map(|(name, _)| name.as_str()).collect();
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
struct Search {
    /// The number of files that are passed over, by reason.
    passed_over: BTreeMap<String, usize>,
    /// The canonical paths of the folders that contain the current one.
    above: Vec<PathBuf>,
}

impl Search {
    /// Adds the image files in `folder`, at any depth.
    fn files(&mut self, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
        self.above.push(canonical(folder)?);
        let (images, folders) = self.entries(folder)?;
        files.extend(images);
        for folder in folders {
            self.files(&folder, files)?;
        }
        self.above.pop();
        Ok(())
    }

    /// The image files and the subfolders directly in a folder, each sorted.
    fn entries(&mut self, folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
        let io = |error| DataError::io(folder, error);
        let (mut images, mut folders) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let (name, path) = (entry.file_name(), entry.path());
            // Hidden files and macOS's `__MACOSX` are not data but traces of other programs.
            if name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX" {
                self.pass_over("hidden".to_owned());
                continue;
            }
            let kind = fs::metadata(&path).map_err(|error| match fs::read_link(&path) {
                Ok(target) => {
                    let target = target.display();
                    DataError::format(&path, format!("a link to {target}, which fails: {error}"))
                }
                Err(_) => DataError::io(&path, error),
            })?;
            let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
            let extension = extension.to_ascii_lowercase();
            if kind.is_dir() {
                if self.above.contains(&canonical(&path)?) {
                    self.pass_over("link to a folder that it is in".to_owned());
                } else {
                    folders.push(path);
                }
            } else if kind.is_file() && EXTENSIONS.contains(&extension.as_str()) {
                images.push(path);
            } else if extension.is_empty() {
                self.pass_over("without an extension".to_owned());
            } else {
                self.pass_over(format!(".{extension}"));
            }
        }
        images.sort();
        folders.sort();
        Ok((images, folders))
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
