//! The rule for the table of mutations: every equation of the book has one change that can still be
//! made in the code, and the equation's own test is among those that failed.

use ddpm_checks::{Finding, Tree, equations, mutations};

/// What is wrong with the table of mutations; `equations` is the book's table of equations.
pub(super) fn findings(text: &str, equations: &str, tree: &impl Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let equations: Vec<_> = equations::rows(equations)
        .filter_map(|(_, row)| row)
        .collect();
    let mut seen = Vec::new();
    for (number, mutation) in mutations::rows(text) {
        let Some(mutation) = mutation else {
            findings.push((number, mutations::SHAPE.to_owned()));
            continue;
        };
        let name = mutation.equation;
        let mut find = |reason: String| findings.push((number, format!("`{name}`: {reason}")));
        if seen.contains(&name) {
            find("it has a row above".to_owned());
        }
        seen.push(name);
        if mutation.from == mutation.to {
            find("nothing is changed".to_owned());
        }
        match tree.text(mutation.file) {
            None => find(format!("there is no {}", mutation.file)),
            Some(source) => {
                if let Err(reason) = mutation.apply(&source) {
                    find(reason);
                }
            }
        }
        let Some(row) = equations.iter().find(|row| row.name == name) else {
            find(format!("{} has no such equation", equations::TABLE));
            continue;
        };
        let test = row.test.rsplit("::").next().unwrap_or(row.test);
        if !mutation.named().any(|name| name == test) {
            find(format!(
                "`{test}` did not fail: `cargo xtask mutate {name}`"
            ));
        }
    }
    let missing = equations.iter().filter(|row| !seen.contains(&row.name));
    findings.extend(missing.map(|row| (1, format!("`{}` has no mutation", row.name))));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct OneFile;

    impl Tree for OneFile {
        fn text(&self, path: &str) -> Option<String> {
            (path == "a/b.rs").then(|| "x + y; z * z; z * z".to_owned())
        }

        fn sources(&self, _: &str) -> Vec<(PathBuf, String)> {
            Vec::new()
        }
    }

    const EQUATIONS: &str = "| equation | function | test |\n|---|---|---|\n\
        | [sum](a.md#eq-sum) | `a::b` | `crates/a/tests/it.rs::adds` |\n";

    const HEAD: &str = "| equation | file | what was changed | died |\n|---|---|---|---|\n";

    const ROW: &str = "| sum | `a/b.rs` | `x + y` → `x - y` | `adds`, `counts` |\n";

    fn lines(text: &str) -> Vec<usize> {
        let findings = findings(text, EQUATIONS, &OneFile);
        findings.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_complete_table_passes() {
        assert!(lines(&format!("{HEAD}{ROW}")).is_empty());
    }

    #[test]
    fn a_stale_row_is_found() {
        for (right, wrong) in [
            ("a/b.rs", "a/c.rs"),
            ("`x + y`", "`x * y`"),
            ("`x + y`", "`z * z`"),
            ("`x - y`", "`x + y`"),
            ("`adds`, ", ""),
            ("→", "to"),
        ] {
            let text = format!("{HEAD}{}", ROW.replace(right, wrong));
            let found = lines(&text);
            assert!(found.contains(&3), "{wrong}: {found:?}");
        }
        assert_eq!(lines(&format!("{HEAD}{ROW}{ROW}")), [4]);
    }

    #[test]
    fn every_equation_has_one_row() {
        assert_eq!(lines(HEAD), [1]);
        assert_eq!(lines(""), [1]);
        let other = ROW.replace("| sum |", "| product |");
        assert_eq!(lines(&format!("{HEAD}{ROW}{other}")), [4]);
    }
}
