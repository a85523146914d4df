//! `cargo xtask tidy`: the house rules that neither the compiler nor clippy knows.
//!
//! Every violation is listed with its file and line, not only the first. The rules are pure
//! functions of a file's text, in [`source`], [`manifest`], [`links`], [`examples`], [`equations`] and
//! [`mutations`]; this file reads the tree and asks cargo and git about `Cargo.lock`.

pub(crate) mod equations;
mod examples;
mod links;
mod manifest;
mod mutations;
mod source;

use crate::{cargo, mutate};
use anyhow::{Context as _, bail};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};
use xshell::{Shell, cmd};

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: PathBuf,
    /// Counted from 1.
    line: usize,
    reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.reason)
    }
}

/// What a rule finds in one file: the line, counted from 1, and the reason.
type Finding = (usize, String);

/// Checks the tree below `root` and lists every violation on standard error.
///
/// # Errors
/// There are violations, or the tree cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let mut violations = Vec::new();
    for file in files(root)? {
        let inside = file.strip_prefix(root).unwrap_or(&file);
        let findings = findings(root, inside).with_context(|| inside.display().to_string())?;
        violations.extend(findings.into_iter().map(|(line, reason)| Violation {
            file: inside.to_path_buf(),
            line,
            reason,
        }));
    }
    violations.extend(lock_file(root)?.map(|reason| Violation {
        file: "Cargo.lock".into(),
        line: 1,
        reason,
    }));
    violations.extend(backends_in_trees(root)?);
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        1 => bail!("1 house rule is broken"),
        count => bail!("{count} house rules are broken"),
    }
}

/// Applies the rules for this kind of file. `file` is relative to `root`.
fn findings(root: &Path, file: &Path) -> anyhow::Result<Vec<Finding>> {
    let path = root.join(file);
    let read = || fs::read_to_string(&path);
    let folder = path.parent().unwrap_or(root);
    let name = file.file_name().unwrap_or_default();
    let extension = file.extension().unwrap_or_default();
    Ok(if extension == "rs" {
        source::findings(file, &read()?)
    } else if extension == "md" {
        let mut findings = links::findings(&read()?, |target| match target.strip_prefix('/') {
            Some(from_root) => root.join(from_root).exists(),
            None => folder.join(target).exists(),
        });
        if file == Path::new("README.md") {
            findings.extend(examples::findings(&read()?, &crate_readmes(root)?));
        } else if file.parent() == Some(Path::new(equations::CHAPTERS)) {
            findings.extend(book(root, &name.to_string_lossy(), &read()?));
        } else if file == Path::new(mutate::table::FILE) {
            let equations = equations_table(root);
            findings.extend(mutations::findings(&read()?, &equations, &Checkout(root)));
        }
        findings
    } else if name == "Cargo.toml" {
        let readme = folder.join("README.md").exists();
        manifest::findings(file, &read()?, readme)
    } else {
        Vec::new()
    })
}

/// The rules for the book's file `name`.
fn book(root: &Path, name: &str, text: &str) -> Vec<Finding> {
    if name == equations::TABLE {
        return equations::table(text, &Checkout(root));
    }
    equations::chapter(name, text, &equations_table(root))
}

/// The text of the book's table of equations, empty if it is not there.
fn equations_table(root: &Path) -> String {
    let table = root.join(equations::CHAPTERS).join(equations::TABLE);
    fs::read_to_string(table).unwrap_or_default()
}

/// The tree below a root, as the book's rules ask for it: what cannot be read is not there.
struct Checkout<'a>(&'a Path);

impl equations::Tree for Checkout<'_> {
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok()
    }

    fn sources(&self, name: &str) -> Vec<(PathBuf, String)> {
        let folder = self.0.join("crates").join(name).join("src");
        let files = files(&folder).unwrap_or_default().into_iter();
        files
            .filter_map(|file| {
                let text = fs::read_to_string(&file).ok()?;
                Some((file.strip_prefix(&folder).ok()?.to_owned(), text))
            })
            .collect()
    }
}

/// The READMEs of the library crates, whose examples are doctests.
fn crate_readmes(root: &Path) -> anyhow::Result<Vec<String>> {
    let crates = root.join("crates");
    let entries = fs::read_dir(&crates).with_context(|| crates.display().to_string())?;
    let mut texts = Vec::new();
    for entry in entries {
        texts.extend(fs::read_to_string(entry?.path().join("README.md")).ok());
    }
    Ok(texts)
}

/// Every file below `root` in a fixed order, without hidden folders and what `.gitignore` names
/// at the root.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
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

/// The libraries that cannot be built without a backend: all of them must, wherever in the tree
/// the feature is turned on.
fn backends_in_trees(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let shell = Shell::new()?;
    shell.change_dir(root);
    let mut violations = Vec::new();
    for file in files(&root.join("crates"))? {
        let inside = file.strip_prefix(root).unwrap_or(&file);
        if inside.ends_with("Cargo.toml") && !manifest::may_name_backends(inside) {
            let cargo = cargo();
            let tree = cmd!(
                shell,
                "{cargo} tree --manifest-path {inside} --edges normal --prefix none"
            );
            let tree = tree.quiet().read()?;
            violations.extend(manifest::backend_in_tree(&tree).map(|backend| Violation {
                file: inside.to_path_buf(),
                line: 1,
                reason: format!("cannot be built without the backend `{backend}`"),
            }));
        }
    }
    Ok(violations)
}

/// What is wrong with `Cargo.lock`: it must fit the manifests, and be what git has.
///
/// The second half catches what the first cannot: `cargo xtask` itself, being a cargo command,
/// mends a stale lock file before this runs. Staging the file is enough; CI has a clean tree.
fn lock_file(root: &Path) -> anyhow::Result<Option<String>> {
    let shell = Shell::new()?;
    shell.change_dir(root);
    let cargo = cargo();
    let locked = cmd!(shell, "{cargo} metadata --locked --format-version 1");
    if locked.quiet().ignore_stdout().run().is_err() {
        return Ok(Some("does not fit the manifests: run `cargo check`".into()));
    }
    if !root.join(".git").exists() {
        return Ok(None);
    }
    let git = |command: &str| {
        let words = command.split_whitespace();
        let command = cmd!(shell, "git {words...} -- Cargo.lock");
        command
            .quiet()
            .ignore_stdout()
            .ignore_stderr()
            .run()
            .is_ok()
    };
    Ok(if !git("ls-files --error-unmatch") {
        Some("is not in git: `git add Cargo.lock`".into())
    } else if !git("diff --quiet") {
        Some("changed since it was staged or committed: `git add Cargo.lock`".into())
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_skips_hidden_and_ignored_ones() {
        let shell = Shell::new().unwrap();
        let folder = shell.create_temp_dir().unwrap();
        let root = folder.path();
        for file in [
            "b.rs",
            "a/c.rs",
            "a/target/d.rs",
            "target/e.rs",
            ".git/f.rs",
        ] {
            shell.write_file(root.join(file), "").unwrap();
        }
        shell
            .write_file(root.join(".gitignore"), "/target\n")
            .unwrap();
        let expected = ["a/c.rs", "a/target/d.rs", "b.rs"].map(|file| root.join(file));
        assert_eq!(files(root).unwrap(), expected);
    }

    #[test]
    fn each_kind_of_file_gets_its_rules() {
        let shell = Shell::new().unwrap();
        let folder = shell.create_temp_dir().unwrap();
        let root = folder.path();
        shell
            .write_file(root.join("docs/a.rs"), "fn f() {}\n")
            .unwrap();
        shell
            .write_file(
                root.join("docs/b.md"),
                "[a](a.rs) [r](/docs/a.rs) [c](c.md)\n",
            )
            .unwrap();
        shell
            .write_file(
                root.join("x/Cargo.toml"),
                "[dependencies.burn]\nfeatures = [\"tch\"]\n",
            )
            .unwrap();
        for (file, line) in [("docs/a.rs", 1), ("docs/b.md", 1), ("x/Cargo.toml", 2)] {
            let findings = findings(root, Path::new(file)).unwrap();
            let lines: Vec<_> = findings.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [line], "{file}: {findings:?}");
        }
    }

    #[test]
    fn a_violation_reads_as_compilers_write_it() {
        let violation = Violation {
            file: "a/b.rs".into(),
            line: 3,
            reason: "why".into(),
        };
        assert_eq!(violation.to_string(), "a/b.rs:3: why");
    }
}
