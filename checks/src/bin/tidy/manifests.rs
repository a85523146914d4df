//! Rules for manifests, as cargo reads them: the arrows between crates, who may turn on a backend,
//! and what a published crate says about itself.

use cargo_metadata::{Dependency, DependencyKind, Package, Target};

/// The crates of this workspace that each may depend on. A crate depends on crates below it only,
/// so there is no circle.
const ARROWS: [(&str, &[&str]); 12] = [
    ("ddpm-files", &[]),
    ("ddpm-random", &[]),
    ("ddpm-schedule", &[]),
    ("ddpm-kernels", &[]),
    ("ddpm-process", &["ddpm-schedule", "ddpm-random"]),
    ("ddpm-model", &["ddpm-files", "ddpm-kernels"]),
    ("ddpm-data", &["ddpm-files", "ddpm-random"]),
    (
        "ddpm-interop",
        &["ddpm-files", "ddpm-schedule", "ddpm-process", "ddpm-model"],
    ),
    (
        "ddpm-train",
        &[
            "ddpm-files",
            "ddpm-random",
            "ddpm-schedule",
            "ddpm-process",
            "ddpm-kernels",
            "ddpm-model",
            "ddpm-data",
        ],
    ),
    (
        "ddpm-eval",
        &[
            "ddpm-files",
            "ddpm-random",
            "ddpm-schedule",
            "ddpm-process",
            "ddpm-model",
            "ddpm-data",
        ],
    ),
    ("xtask", &[]),
    ("ddpm-compare", &["xtask"]),
];

/// The packages at the top, which may depend on every crate.
const TOP: [&str; 2] = ["ddpm-cli", "ddpm-benches"];

/// The crates that compute on plain numbers, without Burn.
const WITHOUT_BURN: [&str; 6] = [
    "ddpm-schedule",
    "ddpm-data",
    "ddpm-files",
    "ddpm-random",
    "xtask",
    "ddpm-compare",
];

/// Crates for programs: a library has its own errors, does not print and does not handle signals.
const FOR_PROGRAMS: [&str; 4] = ["anyhow", "clap", "indicatif", "signal-hook"];

/// Burn's features that compile a backend in.
const BACKENDS: [&str; 10] = [
    "flex", "ndarray", "cuda", "vulkan", "wgpu", "webgpu", "metal", "rocm", "tch", "cpu",
];

/// The packages that may turn on a backend.
pub(super) const WITH_BACKENDS: [&str; 4] =
    ["ddpm-cli", "ddpm-train", "ddpm-kernels", "ddpm-benches"];

/// What is wrong with a package of the workspace.
pub(super) fn findings(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    // A dependency of the tests alone never reaches a user.
    let dependencies = package.dependencies.iter();
    let dependencies: Vec<_> = dependencies
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .collect();
    let mut findings = arrows(name, &dependencies);
    if !WITH_BACKENDS.contains(&name) {
        let allowed = WITH_BACKENDS.join(", ");
        let backends = backends(package, &dependencies);
        findings.extend(
            backends.map(|backend| format!("turns on Burn's `{backend}`; only {allowed} may")),
        );
    }
    if package.publish.is_none() {
        findings.extend(presentation(package));
        if !package.targets.iter().any(Target::is_bin) {
            let programs = dependencies.iter().map(|dependency| &dependency.name);
            let programs = programs.filter(|name| FOR_PROGRAMS.contains(&name.as_str()));
            findings.extend(programs.map(|name| {
                format!("depends on {name}, which is for programs; this crate is a library")
            }));
        }
    }
    findings
}

/// The dependencies that point upwards, or on Burn from a crate that works without it.
fn arrows(name: &str, dependencies: &[&Dependency]) -> Vec<String> {
    let allowed = ARROWS.iter().find(|(of, _)| *of == name);
    let top = TOP.contains(&name);
    if allowed.is_none() && !top {
        return vec![format!("`{name}` has no place in the rule of the crates")];
    }
    let below = |other: &str| top || allowed.is_some_and(|(_, below)| below.contains(&other));
    let mut findings = Vec::new();
    for dependency in dependencies {
        let other = dependency.name.as_str();
        if dependency.path.is_some() && !below(other) {
            findings.push(format!("depends on {other}, which is not below it"));
        }
        if other.starts_with("burn") && WITHOUT_BURN.contains(&name) {
            findings.push(format!("depends on {other}, but works on plain numbers"));
        }
    }
    findings
}

/// The backends that a package turns on, by its dependencies or by its features.
fn backends<'a>(
    package: &'a Package,
    dependencies: &'a [&Dependency],
) -> impl Iterator<Item = &'a str> {
    let burn = dependencies.iter().filter(|d| d.name.starts_with("burn"));
    let always = burn.flat_map(|d| d.features.iter().map(String::as_str));
    let features = package.features.values().flatten();
    let optional = features.filter_map(|feature| {
        let (of, feature) = feature.split_once('/')?;
        of.starts_with("burn").then_some(feature)
    });
    always
        .chain(optional)
        .filter(|feature| BACKENDS.contains(feature))
}

/// What a published package's manifest does not say.
fn presentation(package: &Package) -> Vec<String> {
    let keys = [
        ("description", package.description.is_some()),
        ("license", package.license.is_some()),
        ("repository", package.repository.is_some()),
    ];
    let missing = keys.into_iter().filter(|(_, there)| !there);
    let mut findings: Vec<_> = missing
        .map(|(key, _)| format!("a published crate needs `{key}`"))
        .collect();
    if !package.readme().is_some_and(|readme| readme.exists()) {
        findings.push("a published crate needs a README.md beside its manifest".to_owned());
    }
    findings
}

/// The first backend in the output of `cargo tree --prefix none`.
pub(super) fn backend_in_tree(tree: &str) -> Option<&str> {
    tree.lines().find_map(|line| {
        let name = line.split(' ').next()?.strip_prefix("burn-")?;
        BACKENDS.contains(&name).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cargo_metadata::MetadataCommand;

    /// A package with these dependencies and features, in JSON; `more` are further keys.
    fn package(name: &str, dependencies: &[&str], features: &str, more: &str) -> Package {
        let dependencies = dependencies.join(", ");
        let json = format!(
            "{{\"packages\": [{{\"name\": \"{name}\", \"version\": \"0.1.0\", \"id\": \"a\", \
             \"dependencies\": [{dependencies}], \"features\": {{{features}}}, \
             \"targets\": [], \"manifest_path\": \"/gone/Cargo.toml\"{more}}}], \
             \"workspace_members\": [], \"workspace_root\": \"/\", \"target_directory\": \"/\", \
             \"version\": 1, \"resolve\": null}}"
        );
        MetadataCommand::parse(json).unwrap().packages.remove(0)
    }

    const PRIVATE: &str = ", \"publish\": []";

    fn dependency(name: &str, kind: &str, features: &str, path: bool) -> String {
        let path = if path { ", \"path\": \"/x\"" } else { "" };
        format!(
            "{{\"name\": \"{name}\", \"req\": \"*\", \"kind\": {kind}, \"optional\": false, \
             \"uses_default_features\": false, \"features\": [{features}], \"target\": null{path}}}"
        )
    }

    fn count(name: &str, dependency: &str, features: &str) -> usize {
        let dependencies: &[&str] = if dependency.is_empty() {
            &[]
        } else {
            &[dependency]
        };
        findings(&package(name, dependencies, features, PRIVATE)).len()
    }

    #[test]
    fn arrows_point_downwards() {
        let on = |name| dependency(name, "null", "", true);
        assert_eq!(count("ddpm-model", &on("ddpm-kernels"), ""), 0);
        assert_eq!(count("ddpm-kernels", &on("ddpm-model"), ""), 1);
        assert_eq!(count("ddpm-cli", &on("ddpm-eval"), ""), 0);
        assert_eq!(count("xtask", &on("ddpm-model"), ""), 1);
        assert_eq!(count("ddpm-new", "", ""), 1);
        let tests = dependency("ddpm-model", "\"dev\"", "", true);
        assert_eq!(count("ddpm-kernels", &tests, ""), 0);
    }

    #[test]
    fn plain_numbers_need_no_burn() {
        let burn = dependency("burn-core", "null", "", false);
        assert_eq!(count("ddpm-schedule", &burn, ""), 1);
        assert_eq!(count("ddpm-process", &burn, ""), 0);
    }

    #[test]
    fn backends_are_found_in_dependencies_and_features() {
        let burn = |features| dependency("burn", "null", features, false);
        let build = dependency("burn-core", "\"build\"", "\"tch\"", false);
        for (on, features) in [
            (burn("\"std\", \"cuda\""), ""),
            (build, ""),
            (burn(""), "\"fast\": [\"burn/vulkan\"]"),
            (burn(""), "\"fast\": [\"burn-core?/cpu\"]"),
        ] {
            assert_eq!(count("ddpm-process", &on, features), 1, "{on} {features}");
            assert_eq!(count("ddpm-train", &on, features), 0, "{on} {features}");
        }
        let tests = dependency("burn", "\"dev\"", "\"flex\"", false);
        let image = dependency("image", "null", "\"cpu\"", false);
        let other = burn("\"std\", \"optim\"");
        for on in [tests, image, other] {
            assert_eq!(count("ddpm-process", &on, ""), 0, "{on}");
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
    fn a_published_library_presents_itself_and_is_no_program() {
        let clap = dependency("clap", "null", "", false);
        let bare = package("ddpm-eval", &[&clap], "", "");
        assert_eq!(findings(&bare).len(), 5);
        let keys = ", \"description\": \"x\", \"license\": \"MIT\", \"repository\": \"y\"";
        let whole = package("ddpm-eval", &[], "", keys);
        // There is no README beside this manifest.
        assert_eq!(findings(&whole).len(), 1);
    }
}
