//! The rules for examples in READMEs: each is run by a doctest, or is quoted from a file that runs.

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

/// Where quotes of examples begin: rustdoc does not run them, the file that they are quoted from runs.
const QUOTE: &str = "```rust,ignore\n";

/// What is wrong with the quotes in a crate's README: each is a part of one of the crate's examples,
/// word for word, and each example, given by name and text, is quoted.
pub(super) fn quotes(readme: &str, examples: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut quoted = vec![false; examples.len()];
    for (at, _) in readme.match_indices(QUOTE) {
        let quote = &readme[at + QUOTE.len()..];
        let quote = quote.split("```").next().unwrap_or_default();
        if let Some(example) = examples.iter().position(|(_, text)| text.contains(quote)) {
            quoted[example] = true;
        } else {
            let line = readme[..at].lines().count() + 1;
            findings.push((line, "the quote is in no example of the crate".to_owned()));
        }
    }
    for ((name, _), _) in examples.iter().zip(quoted).filter(|(_, quoted)| !quoted) {
        findings.push((1, format!("examples/{name} is not quoted")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_of_examples_and_examples_are_quoted() {
        let examples = [("a.rs", "one();\ntwo();\n"), ("b.rs", "three();\n")];
        let examples = examples.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let readme = "a\n\n```rust,ignore\ntwo();\n```\n\n```rust,ignore\nfour();\n```\n";
        let found = quotes(readme, &examples);
        assert_eq!(found[0].0, 7);
        assert_eq!(found[1], (1, "examples/b.rs is not quoted".to_owned()));
        assert_eq!(found.len(), 2);
    }

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
