//! Rules for Rust files: an opening `//!`, a bounded length, and no unfinished work.

use ddpm_checks::Finding;
use std::path::Path;

/// The most lines that a file may have. The habit is 400.
const MAX_LINES: usize = 450;

/// Macros for unfinished work. Their names stand here without `!`, or this file would break the rule.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// The features that are backends.
const BACKENDS: [&str; 4] = ["flex", "ndarray", "cuda", "vulkan"];

/// The files that may ask which backends are compiled in: they choose a device, or implement an
/// operation for one.
const DEVICE: [&str; 2] = ["crates/ddpm-train/src/device", "crates/ddpm-kernels/src/"];

/// What is wrong with the Rust file at `path`, relative to the root.
pub(super) fn findings(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push((1, "the file does not start with `//!`".into()));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        let reason = format!("{lines} lines; a file has at most {MAX_LINES}, by habit 400");
        findings.push((MAX_LINES + 1, reason));
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if !code.starts_with("//") {
            let reasons = habits(path, code);
            findings.extend(reasons.map(|reason| (number + 1, reason)));
        }
    }
    findings
}

/// What is wrong with one line of code.
fn habits(path: &Path, code: &str) -> impl Iterator<Item = String> {
    let unfinished = UNFINISHED
        .iter()
        .filter(|name| calls(code, &format!("{name}!")))
        .map(|name| format!("`{name}!` is unfinished work"));
    let ignored = code
        .starts_with(concat!("#[", "ignore"))
        .then(|| "an ignored test checks nothing: fix it or delete it".into());
    let default_device = calls(code, concat!("Device::", "default()")).then(|| {
        "the default device depends on the compiled backends: take a device from the caller".into()
    });
    let features = ["#[cfg", "cfg!(", "cfg_attr("]
        .iter()
        .any(|c| code.contains(c))
        && BACKENDS
            .iter()
            .any(|backend| code.contains(&format!("feature = \"{backend}\"")))
        && !path.starts_with("checks")
        && !DEVICE
            .iter()
            .any(|place| path.to_string_lossy().replace('\\', "/").starts_with(place));
    let features = features.then(|| {
        let places = DEVICE.join(" and ");
        format!("only {places} may ask which backends are compiled in")
    });
    unfinished
        .chain(ignored)
        .chain(default_device)
        .chain(features)
}

/// Whether `what` is in the code and is not the end of a longer name.
fn calls(code: &str, what: &str) -> bool {
    let inside_a_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(what)
        .any(|(at, _)| !code[..at].ends_with(inside_a_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let findings = findings(Path::new(path), text);
        findings.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_file_starts_with_its_documentation() {
        assert!(lines("a.rs", "//! Says it.\n").is_empty());
        assert_eq!(lines("a.rs", "// Does not.\n"), [1]);
        assert_eq!(lines("a.rs", ""), [1]);
    }

    #[test]
    fn a_file_is_at_most_450_lines_long() {
        let long = |lines| "//!\n".repeat(lines);
        assert!(lines("a.rs", &long(450)).is_empty());
        assert_eq!(lines("a.rs", &long(451)), [451]);
    }

    #[test]
    fn unfinished_work_is_found_where_it_stands() {
        for name in UNFINISHED {
            let text = format!("//! A\n\nfn f() {{\n    {name}!()\n}}\n");
            assert_eq!(lines("a.rs", &text), [4]);
            assert!(lines("a.rs", &format!("//! A\n// {name}!()\n")).is_empty());
            assert!(lines("a.rs", &format!("//! A\nmy_{name}!();\n")).is_empty());
        }
    }

    #[test]
    fn tests_are_not_ignored() {
        let ignore = concat!("#[", "ignore");
        assert_eq!(lines("a.rs", &format!("//! A\n    {ignore}]\n")), [2]);
        assert_eq!(
            lines("a.rs", &format!("//! A\n{ignore} = \"slow\"]\n")),
            [2]
        );
    }

    #[test]
    fn devices_are_chosen_in_one_place() {
        let default = concat!("//! A\nlet d = Device::", "default();\n");
        assert_eq!(lines("crates/ddpm-train/src/device.rs", default), [2]);
        let feature = concat!("//! A\n#[cfg(feature", " = \"cuda\")]\n");
        assert_eq!(lines("crates/ddpm-model/src/unet.rs", feature), [2]);
        for device in ["device.rs", "device/list.rs"] {
            let path = format!("crates/ddpm-train/src/{device}");
            assert!(lines(&path, feature).is_empty(), "{path}");
        }
    }
}
