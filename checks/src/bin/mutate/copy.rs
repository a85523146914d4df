//! A copy of the workspace, in which the changes are made.

use anyhow::{Context as _, anyhow};
use ddpm_checks::{files, mutations::Mutation};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The files at the start, and the folder of the copy.
pub(super) struct Copy {
    /// Each file's path from the root, and its bytes.
    sources: Vec<(PathBuf, Vec<u8>)>,
    folder: PathBuf,
}

impl Copy {
    /// Reads the tree below `root`; [`write`](Self::write) makes the copy.
    pub(super) fn of(root: &Path, folder: PathBuf) -> anyhow::Result<Self> {
        let mut sources = Vec::new();
        for file in files(root)? {
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            sources.push((file.strip_prefix(root)?.to_path_buf(), bytes));
        }
        Ok(Self { sources, folder })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the sources to the folder, changed by `mutation`, with the tests of `package` only.
    ///
    /// A file that already has the right contents is not written, because cargo compiles again what
    /// is newer than its last compilation. This also undoes the change before.
    pub(super) fn write(
        &self,
        package: &str,
        mutation: Option<&Mutation<'_>>,
    ) -> anyhow::Result<()> {
        let changed = mutation
            .map(|mutation| self.changed(mutation))
            .transpose()?;
        let mut wanted = Vec::new();
        for (path, original) in &self.sources {
            if tests_another(path, package) {
                continue;
            }
            let here = mutation.is_some_and(|mutation| Path::new(mutation.file) == path);
            let bytes = match &changed {
                Some(text) if here => text.as_bytes(),
                _ => original,
            };
            let to = self.folder.join(path);
            if fs::read(&to).is_ok_and(|found| found == bytes) {
                wanted.push(to);
                continue;
            }
            let parent = to.parent().unwrap_or(&self.folder);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&to, bytes))
                .with_context(|| to.display().to_string())?;
            wanted.push(to);
        }
        for file in files(&self.folder)? {
            if !wanted.contains(&file) {
                fs::remove_file(&file).with_context(|| file.display().to_string())?;
            }
        }
        Ok(())
    }

    /// The changed text of the mutation's file.
    fn changed(&self, mutation: &Mutation<'_>) -> anyhow::Result<String> {
        let file = mutation.file;
        let mut sources = self.sources.iter();
        let (_, bytes) = sources
            .find(|(path, _)| path == Path::new(file))
            .with_context(|| format!("there is no {file}"))?;
        let text = std::str::from_utf8(bytes).with_context(|| file.to_owned())?;
        mutation.apply(text).map_err(|reason| anyhow!(reason))
    }
}

/// Whether a file belongs to the tests of another crate than `package`.
fn tests_another(path: &Path, package: &str) -> bool {
    let mut parts = path.iter();
    parts.next().is_some_and(|part| part == "crates")
        && parts.next().is_some_and(|part| part != package)
        && parts.next().is_some_and(|part| part == "tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_one_change_and_the_tests_of_one_crate() {
        let temporary = tempfile::tempdir().unwrap();
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let (root, folder) = (temporary.path().join("a"), temporary.path().join("b"));
        for (file, text) in [
            ("Cargo.toml", "[workspace]"),
            ("crates/x/src/lib.rs", "a + b"),
            ("crates/x/tests/it.rs", "x"),
            ("crates/y/tests/it/main.rs", "y"),
            ("target/z", "z"),
        ] {
            write(root.join(file), text);
        }
        write(root.join(".gitignore"), "/target\n");
        let copy = Copy::of(&root, folder.clone()).unwrap();
        let mutation = Mutation {
            equation: "sum",
            file: "crates/x/src/lib.rs",
            from: "+",
            to: "-",
            failed: "",
        };
        let lib = || fs::read_to_string(folder.join("crates/x/src/lib.rs")).unwrap();
        let found = || {
            let files = files(&folder).unwrap();
            let inside = files.iter().map(|file| file.strip_prefix(&folder).unwrap());
            inside
                .map(|file| file.display().to_string())
                .collect::<Vec<_>>()
        };
        copy.write("x", Some(&mutation)).unwrap();
        assert_eq!(lib(), "a - b");
        let own = ["Cargo.toml", "crates/x/src/lib.rs", "crates/x/tests/it.rs"];
        assert_eq!(found(), own);

        // Files that a test left are removed, and the change is undone.
        write(folder.join("crates/x/left.txt"), "");
        copy.write("y", None).unwrap();
        assert_eq!(lib(), "a + b");
        let [manifest, source, _] = own;
        assert_eq!(found(), [manifest, source, "crates/y/tests/it/main.rs"]);

        let gone = Mutation {
            from: "*",
            ..mutation
        };
        let error = copy.write("x", Some(&gone)).unwrap_err();
        assert!(error.to_string().contains("occurs 0 times"), "{error}");
    }
}
