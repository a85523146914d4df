//! The rule for the README's examples: each is also in a crate's README, where a doctest runs it.

use ddpm_checks::Finding;

/// The Rust examples of `text` that are in none of the texts `tested`, word for word.
pub(super) fn findings(text: &str, tested: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("```rust\n") {
        let line = text[..text.len() - rest.len() + at].lines().count() + 1;
        let example = &rest[at..];
        let end = example[3..]
            .find("```")
            .map_or(example.len(), |end| end + 6);
        let (example, after) = example.split_at(end);
        if !tested.iter().any(|tested| tested.contains(example)) {
            let reason = "the example is in no crate's README, so no test runs it";
            findings.push((line, reason.to_owned()));
        }
        rest = after;
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_that_no_crate_has_is_found() {
        let tested = ["intro\n\n```rust\nlet x = 1;\n```\n".to_owned()];
        let text = "# a\n\n```rust\nlet x = 1;\n```\n\n```rust\nlet x = 2;\n```\n";
        let lines: Vec<_> = findings(text, &tested).iter().map(|f| f.0).collect();
        assert_eq!(lines, [7]);
    }

    #[test]
    fn an_example_without_end_is_found_and_ends() {
        assert_eq!(findings("```rust\nlet x = 1;\n", &[]).len(), 1);
    }
}
