//! The copy of the workspace that is changed in place of the original.

use super::table::Mutation;
use crate::tidy;
use anyhow::{Context as _, anyhow};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The sources as they were at the start, and a folder that receives them.
pub(super) struct Copy {
    /// Each file's path from the root, and what it held.
    sources: Vec<(PathBuf, Vec<u8>)>,
    folder: PathBuf,
}

impl Copy {
    /// A copy of the tree below `root`, yet to be written.
    pub(super) fn of(root: &Path, folder: PathBuf) -> anyhow::Result<Self> {
        let mut sources = Vec::new();
        for file in tidy::files(root)? {
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            sources.push((file.strip_prefix(root)?.to_path_buf(), bytes));
        }
        Ok(Self { sources, folder })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder hold the sources, changed by `mutation`, and of the tests those of
    /// `package` alone.
    ///
    /// A file that is as it should be is not touched, for cargo compiles again what is newer than
    /// its last compilation; and so the original of the last change comes back without further ado.
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
        for file in tidy::files(&self.folder)? {
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
    use xshell::Shell;

    #[test]
    fn a_copy_has_one_change_and_one_crates_tests_at_a_time() {
        let shell = Shell::new().unwrap();
        let temporary = shell.create_temp_dir().unwrap();
        let (root, folder) = (temporary.path().join("a"), temporary.path().join("b"));
        for (file, text) in [
            ("Cargo.toml", "[workspace]"),
            ("crates/x/src/lib.rs", "a + b"),
            ("crates/x/tests/it.rs", "x"),
            ("crates/y/tests/it/main.rs", "y"),
            ("target/z", "z"),
        ] {
            shell.write_file(root.join(file), text).unwrap();
        }
        shell
            .write_file(root.join(".gitignore"), "/target\n")
            .unwrap();
        let copy = Copy::of(&root, folder.clone()).unwrap();
        let mutation = Mutation {
            equation: "sum",
            file: "crates/x/src/lib.rs",
            from: "+",
            to: "-",
            died: "",
        };
        let lib = || shell.read_file(folder.join("crates/x/src/lib.rs")).unwrap();
        let files = || {
            let files = tidy::files(&folder).unwrap();
            let inside = files.iter().map(|file| file.strip_prefix(&folder).unwrap());
            inside
                .map(|file| file.display().to_string())
                .collect::<Vec<_>>()
        };
        copy.write("x", Some(&mutation)).unwrap();
        assert_eq!(lib(), "a - b");
        let own = ["Cargo.toml", "crates/x/src/lib.rs", "crates/x/tests/it.rs"];
        assert_eq!(files(), own);

        // What a test run left behind goes, what was changed comes back.
        shell
            .write_file(folder.join("crates/x/left.txt"), "")
            .unwrap();
        copy.write("y", None).unwrap();
        assert_eq!(lib(), "a + b");
        let [manifest, source, _] = own;
        assert_eq!(files(), [manifest, source, "crates/y/tests/it/main.rs"]);

        let gone = Mutation {
            from: "*",
            ..mutation
        };
        let error = copy.write("x", Some(&gone)).unwrap_err();
        assert!(error.to_string().contains("occurs 0 times"), "{error}");
    }
}
