//! `cargo xtask tidy`: the house rules that neither the compiler nor clippy checks.
//!
//! All violations are listed, each with its file and line. The rules for a file are functions of its
//! text. This file walks through the tree, and asks cargo about manifests and git about `Cargo.lock`.

mod circles;
mod examples;
mod imports;
mod links;
mod manifests;
mod mutations;
mod source;
mod tokens;

use anyhow::{Context as _, bail};
use cargo_metadata::{Metadata, MetadataCommand, camino::Utf8PathBuf};
use ddpm_checks::{Checkout, Finding, equations, files, mutations::FILE as MUTATIONS};
use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};
use xtask::{cargo, no_arguments, report, root};

/// One breach of a rule.
struct Violation {
    file: PathBuf,
    /// Counted from 1; `None` if the whole file breaks the rule.
    line: Option<usize>,
    reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, reason) = (self.file.display(), &self.reason);
        match self.line {
            Some(line) => write!(f, "{file}:{line}: {reason}"),
            None => write!(f, "{file}: {reason}"),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let outcome = no_arguments(&arguments).map_err(anyhow::Error::from);
    report(outcome.and_then(|()| check(&root())))
}

/// Checks the tree below `root` and lists every violation on standard error.
fn check(root: &Path) -> anyhow::Result<ExitCode> {
    let mut violations = Vec::new();
    for file in files(root)? {
        let inside = file.strip_prefix(root).unwrap_or(&file);
        let findings = findings(root, inside).with_context(|| inside.display().to_string())?;
        violations.extend(findings.into_iter().map(|(line, reason)| Violation {
            file: inside.to_path_buf(),
            line: Some(line),
            reason,
        }));
    }
    violations.extend(packages(root)?);
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(ExitCode::SUCCESS),
        1 => bail!("1 house rule is broken"),
        count => bail!("{count} house rules are broken"),
    }
}

/// Applies the rules for this kind of file. `file` is relative to `root`.
fn findings(root: &Path, file: &Path) -> anyhow::Result<Vec<Finding>> {
    let path = root.join(file);
    let folder = path.parent().unwrap_or(root);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match file.extension().unwrap_or_default().to_str() {
        Some("rs") => Ok(source::findings(file, &fs::read_to_string(&path)?)),
        Some("md") => {
            let text = fs::read_to_string(&path)?;
            let mut findings = links::findings(&text, |target| match target.strip_prefix('/') {
                Some(from_root) => root.join(from_root).exists(),
                None => folder.join(target).exists(),
            });
            let equations = || {
                let table = root.join(equations::CHAPTERS).join(equations::TABLE);
                fs::read_to_string(table).unwrap_or_default()
            };
            if file == Path::new("README.md") {
                findings.extend(examples::findings(&text, &crate_readmes(root)?));
            } else if name == "README.md" && file.starts_with("crates") {
                findings.extend(examples::quotes(&text, &examples_of(folder)));
            } else if file == Path::new(MUTATIONS) {
                findings.extend(mutations::findings(&text, &equations(), &Checkout(root)));
            } else if file.parent() == Some(Path::new(equations::CHAPTERS)) {
                findings.extend(if name == equations::TABLE {
                    equations::table(&text, &Checkout(root))
                } else {
                    equations::chapter(&name, &text, &equations())
                });
            }
            Ok(findings)
        }
        _ => Ok(Vec::new()),
    }
}

/// The examples of the crate in a folder: names and texts, in the order of names.
fn examples_of(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder.join("examples")).into_iter().flatten();
    let mut examples: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name, fs::read_to_string(entry.path()).ok()?))
        })
        .collect();
    examples.sort();
    examples
}

/// The READMEs of the crates, whose examples are doctests.
fn crate_readmes(root: &Path) -> anyhow::Result<Vec<String>> {
    let crates = root.join("crates");
    let entries = fs::read_dir(&crates).with_context(|| crates.display().to_string())?;
    let mut texts = Vec::new();
    for entry in entries {
        texts.extend(fs::read_to_string(entry?.path().join("README.md")).ok());
    }
    Ok(texts)
}

/// Checks what cargo says about the workspace: the lock file, the manifests, and the imports of each
/// crate's library and programs.
fn packages(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let violation = |file: &Path, reason| Violation {
        file: file.strip_prefix(root).unwrap_or(file).to_path_buf(),
        line: None,
        reason,
    };
    let Some(metadata) = metadata(root) else {
        let reason = "does not fit the manifests: run `cargo check`";
        return Ok(vec![violation(Path::new("Cargo.lock"), reason.into())]);
    };
    let lock = git_difference(root).map(|reason| violation(Path::new("Cargo.lock"), reason));
    let mut violations: Vec<_> = lock.into_iter().collect();
    for package in metadata.workspace_packages() {
        let manifest = package.manifest_path.as_std_path();
        let mut findings = manifests::findings(package);
        if !manifests::WITH_BACKENDS.contains(&package.name.as_str()) {
            findings.extend(backend(&package.manifest_path)?);
        }
        violations.extend(
            findings
                .into_iter()
                .map(|reason| violation(manifest, reason)),
        );
        for target in &package.targets {
            if target.is_lib() || target.is_bin() {
                let circles = circles::find(target.src_path.as_std_path())?;
                violations.extend(
                    circles
                        .iter()
                        .map(|circle| violation(&circle[0], circles::reason(circle))),
                );
            }
        }
    }
    Ok(violations)
}

/// What cargo knows about the workspace; `None` if the lock file does not fit the manifests.
fn metadata(root: &Path) -> Option<Metadata> {
    let mut command = MetadataCommand::new();
    command.manifest_path(root.join("Cargo.toml"));
    command.other_options(["--locked".to_owned()]);
    command.exec().ok()
}

/// The message for a library that cannot be built without a backend, because a dependency turns it
/// on.
fn backend(manifest: &Utf8PathBuf) -> anyhow::Result<Option<String>> {
    let mut tree = cargo();
    tree.args(["tree", "--edges", "normal", "--prefix", "none"]);
    tree.arg("--manifest-path").arg(manifest);
    let output = tree.stderr(Stdio::inherit()).output();
    let output = output.context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo tree failed, see above");
    }
    let backend = manifests::backend_in_tree(&String::from_utf8(output.stdout)?).map(str::to_owned);
    Ok(backend.map(|backend| format!("cannot be built without the backend `{backend}`")))
}

/// How `Cargo.lock` differs from git's. `cargo xtask` itself updates a stale lock file before this
/// program runs, so comparing it with the manifests is not enough. A staged file is accepted.
fn git_difference(root: &Path) -> Option<String> {
    if !root.join(".git").exists() {
        return None;
    }
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(arguments)
            .args(["--", "Cargo.lock"])
            .current_dir(root);
        let status = git.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !git(&["ls-files", "--error-unmatch"]) {
        Some("is not in git: `git add Cargo.lock`".into())
    } else if !git(&["diff", "--quiet"]) {
        Some("changed since it was staged or committed: `git add Cargo.lock`".into())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_has_its_rules() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("docs")).unwrap();
        fs::write(root.join("docs/a.rs"), "fn f() {}\n").unwrap();
        let links = "[a](a.rs) [r](/docs/a.rs) [c](c.md)\n";
        fs::write(root.join("docs/b.md"), links).unwrap();
        for file in ["docs/a.rs", "docs/b.md"] {
            let findings = findings(root, Path::new(file)).unwrap();
            let lines: Vec<_> = findings.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [1], "{file}: {findings:?}");
        }
    }

    #[test]
    fn a_violation_looks_like_a_compilers() {
        let mut violation = Violation {
            file: "a/b.rs".into(),
            line: Some(3),
            reason: "why".into(),
        };
        assert_eq!(violation.to_string(), "a/b.rs:3: why");
        violation.line = None;
        assert_eq!(violation.to_string(), "a/b.rs: why");
    }
}
