//! Rules for manifests: who may name a backend, who may depend on whom, what a crate must say.
//!
//! A line scanner, not a TOML parser: manifests here are plain, and one that is not gets a
//! reading error from cargo itself.

use super::Finding;
use std::path::Path;

/// Burn's features that compile a backend in.
const BACKENDS: [&str; 10] = [
    "flex", "ndarray", "cuda", "vulkan", "wgpu", "webgpu", "metal", "rocm", "tch", "cpu",
];

/// The packages that may.
const WITH_BACKENDS: [&str; 3] = ["crates/ddpm-train", "crates/ddpm-kernels", "benches"];

/// What a package must not depend on, by the beginning of a name, and why.
const APART: [(&str, &str, &str); 6] = [
    (
        "xtask",
        "burn",
        "xtask is there seconds after a fresh clone",
    ),
    (
        "xtask",
        "ddpm",
        "xtask is there seconds after a fresh clone",
    ),
    (
        "crates/ddpm-schedule",
        "burn",
        "a schedule is scalar mathematics",
    ),
    (
        "crates/ddpm-model",
        "ddpm-schedule",
        "networks know neither schedules nor processes",
    ),
    (
        "crates/ddpm-model",
        "ddpm-process",
        "networks know neither schedules nor processes",
    ),
    (
        "crates/ddpm-kernels",
        "ddpm",
        "an operation knows no network",
    ),
];

/// What the manifest of a published crate must say.
const REQUIRED: [&str; 3] = ["description", "license", "repository"];

/// One `key = value` line, or a further line of a value that began above.
struct Entry<'a> {
    number: usize,
    section: &'a str,
    key: &'a str,
    line: &'a str,
}

impl<'a> Entry<'a> {
    /// The package that a dependency entry is about.
    fn dependency(&self) -> Option<&'a str> {
        let (before, after) = self.section.split_once("dependencies")?;
        // What only tests need never reaches a user.
        if before.ends_with("dev-") {
            return None;
        }
        let name = after.strip_prefix('.').unwrap_or(self.key);
        Some(name.split('.').next().unwrap_or(name))
    }

    fn strings(&self) -> impl Iterator<Item = &'a str> {
        self.line.split('"').skip(1).step_by(2)
    }

    /// The backends of Burn that this entry turns on.
    fn backends(&self) -> impl Iterator<Item = &'a str> {
        let of_burn = self
            .dependency()
            .is_some_and(|name| name.starts_with("burn"));
        let features = self.section == "features";
        self.strings().filter_map(move |text| {
            let feature = match text.rsplit_once('/') {
                Some((of, feature)) if features && of.starts_with("burn") => feature,
                None if of_burn => text,
                _ => return None,
            };
            BACKENDS.contains(&feature).then_some(feature)
        })
    }
}

/// Whether the package of the manifest at `path` may turn a backend on.
pub(super) fn may_name_backends(path: &Path) -> bool {
    let package = path.parent().unwrap_or(Path::new(""));
    WITH_BACKENDS.iter().any(|with| package == Path::new(with))
}

/// The first backend in the output of `cargo tree --prefix none`.
pub(super) fn backend_in_tree(tree: &str) -> Option<&str> {
    tree.lines()
        .filter_map(|line| line.split(' ').next()?.strip_prefix("burn-"))
        .find(|name| BACKENDS.contains(name))
}

/// What is wrong with the manifest at `path`, relative to the root. `readme` says whether its
/// folder has a `README.md`.
pub(super) fn findings(path: &Path, text: &str, readme: bool) -> Vec<Finding> {
    let package = path.parent().unwrap_or(Path::new(""));
    let entries = entries(text);
    let mut findings = Vec::new();
    for entry in &entries {
        if !may_name_backends(path) {
            findings.extend(entry.backends().map(|backend| {
                let allowed = WITH_BACKENDS.join(", ");
                let reason = format!("turns Burn's `{backend}` on; only {allowed} may");
                (entry.number, reason)
            }));
        }
        findings.extend(
            APART
                .iter()
                .filter(|(of, _, _)| package == Path::new(of))
                .filter(|(_, on, _)| entry.dependency().is_some_and(|name| name.starts_with(on)))
                .map(|(_, on, why)| (entry.number, format!("depends on {on}, but {why}"))),
        );
    }
    if package.starts_with("crates") {
        findings.extend(presentation(&entries, readme));
    }
    findings
}

/// What a published crate's manifest leaves unsaid.
fn presentation(entries: &[Entry<'_>], readme: bool) -> Vec<Finding> {
    let says = |key| {
        entries.iter().any(|entry| {
            entry.section == "package"
                && entry.key.strip_suffix(".workspace").unwrap_or(entry.key) == key
        })
    };
    let missing = REQUIRED
        .into_iter()
        .filter(|key| !says(*key))
        .map(|key| (1, format!("a published crate needs `{key}`")));
    let readme = (!readme).then(|| (1, "a published crate needs a README.md beside this".into()));
    missing.chain(readme).collect()
}

/// Splits a manifest into lines that know their section and key.
fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    let (mut section, mut key) = ("", "");
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = header.trim_matches(['[', ']']);
            key = "";
            continue;
        }
        let before = line.split_once('=').map(|(before, _)| before.trim());
        // A line such as `"flex",` of an array continues the key above.
        if let Some(name) =
            before.filter(|name| !name.is_empty() && !name.contains(['"', '{', ' ']))
        {
            key = name;
        }
        entries.push(Entry {
            number: number + 1,
            section,
            key,
            line,
        });
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let findings = findings(&Path::new(path).join("Cargo.toml"), text, true);
        findings.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn backends_are_found_in_every_way_to_write_them() {
        for (text, line) in [
            (
                "[dependencies]\nburn = { version = \"1\", features = [\"flex\"] }",
                2,
            ),
            (
                "[dependencies]\nburn = { features = [\n    \"std\",\n    \"cuda\",\n] }",
                4,
            ),
            (
                "[dependencies.burn]\nworkspace = true\nfeatures = [\"wgpu\"]",
                3,
            ),
            (
                "[build-dependencies]\nburn-core = { features = [\"tch\"] }",
                2,
            ),
            (
                "[target.'cfg(unix)'.dependencies]\nburn = { features = [\"rocm\"] }",
                2,
            ),
            (
                "[workspace.dependencies]\nburn = { features = [\"metal\"] }",
                2,
            ),
            ("[features]\nfast = [\"burn/vulkan\"]", 2),
            ("[features]\nfast = [\n  \"burn-core?/cpu\",\n]", 3),
        ] {
            assert_eq!(lines("tools", text), [line], "{text}");
            for with in WITH_BACKENDS {
                let text = format!(
                    "{text}\n[package]\ndescription = \"\"\nlicense = \"\"\nrepository = \"\"\n"
                );
                assert!(lines(with, &text).is_empty(), "{with}: {text}");
            }
        }
    }

    #[test]
    fn other_features_and_the_tests_backends_pass() {
        for text in [
            "[dependencies]\nburn = { features = [\"std\", \"optim\"] }",
            "[dependencies]\nimage = { features = [\"cpu\"] }",
            "[dev-dependencies]\nburn = { features = [\"flex\"] }",
            "[dev-dependencies.burn]\nfeatures = [\"flex\"]",
            "# burn = { features = [\"flex\"] }",
            "[features]\nstore = [\"burn/store\"]",
        ] {
            assert!(lines("tools", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_backend_is_found_anywhere_in_a_tree() {
        let clean = "x v1\nburn v0.22.1\nburn-nn v0.22.1\nndarray v0.16.1\n";
        assert_eq!(backend_in_tree(clean), None);
        let with = format!("{clean}burn-ndarray v0.22.1 (*)\n");
        assert_eq!(backend_in_tree(&with), Some("ndarray"));
    }

    #[test]
    fn crates_that_stand_apart_stay_apart() {
        assert_eq!(
            lines("xtask", "[dependencies]\nburn = \"1\"\nddpm-model = \"1\""),
            [2, 3]
        );
        assert_eq!(lines("xtask", "[dependencies]\nburn.workspace = true"), [2]);
        assert!(lines("xtask", "[dependencies]\nxshell.workspace = true").is_empty());
        let schedule = "[package]\ndescription = \"\"\nlicense.workspace = true\n\
                        repository.workspace = true\n[dependencies]\nburn = \"1\"";
        assert_eq!(lines("crates/ddpm-schedule", schedule), [6]);
    }

    #[test]
    fn a_published_crate_presents_itself() {
        let path = Path::new("crates/x/Cargo.toml");
        let whole = "[package]\ndescription = \"x\"\nlicense.workspace = true\n\
                     repository = \"y\"\n";
        assert!(findings(path, whole, true).is_empty());
        assert_eq!(findings(path, whole, false).len(), 1);
        // A description elsewhere is not the package's.
        let bare = "[package]\nname = \"x\"\n[package.metadata]\ndescription = \"x\"\n";
        assert_eq!(findings(path, bare, true).len(), REQUIRED.len());
    }
}
