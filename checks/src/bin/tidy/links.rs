//! The rule for Markdown: the file of a relative link exists.

use ddpm_checks::Finding;

/// The broken links of a Markdown text. `exists` gets the link's path, without its `#section`.
pub(super) fn findings(text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fence = None;
    for (number, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let marker = ["```", "~~~", "$$"]
            .into_iter()
            .find(|marker| start.starts_with(marker));
        match (fence, marker) {
            (None, Some("$$")) if start.len() > 2 && start.trim_end().ends_with("$$") => {}
            (None, Some(_)) => fence = marker,
            (Some(_), _) if marker == fence => fence = None,
            (Some("$$"), _) if start.trim_end().ends_with("$$") => fence = None,
            (Some(_), _) => {}
            (None, None) => findings.extend(
                targets(&without_spans(line))
                    .into_iter()
                    .filter(|target| !exists(target))
                    .map(|target| {
                        (
                            number + 1,
                            format!("links to `{target}`, which does not exist"),
                        )
                    }),
            ),
        }
    }
    findings
}

/// The line without `code` and $mathematics$, where brackets are not links.
fn without_spans(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['`', '$']) {
        let mark = &rest[at..=at];
        let length = rest[at..].len() - rest[at..].trim_start_matches(mark).len();
        let (delimiter, after) = rest[at..].split_at(length);
        text.push_str(&rest[..at]);
        // A mark without a partner is plain text.
        rest = after.split_once(delimiter).map_or_else(
            || {
                text.push_str(delimiter);
                after
            },
            |(_, behind)| behind,
        );
    }
    text + rest
}

/// The files a line links to: `[text](target)`, images, and `[label]: target` definitions.
fn targets(line: &str) -> Vec<&str> {
    let inline = line.match_indices("](").filter_map(|(at, opening)| {
        let target = &line[at + opening.len()..];
        target.split_once(')').map(|(target, _)| target)
    });
    let definition = line
        .trim_start()
        .strip_prefix('[')
        .filter(|rest| !rest.starts_with('^'))
        .and_then(|rest| rest.split_once("]:"))
        .filter(|(label, _)| !label.contains(']'))
        .map(|(_, target)| target);
    inline.chain(definition).filter_map(file).collect()
}

/// The path in a link's target; `None` if it is not a file of this project.
fn file(target: &str) -> Option<&str> {
    // A title may follow: `path "title"`.
    let target = target.split_whitespace().next()?.trim_matches(['<', '>']);
    let path = target.split('#').next()?;
    let elsewhere = path.contains("://") || path.starts_with("mailto:");
    (!path.is_empty() && !elsewhere).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> Vec<usize> {
        let findings = findings(text, |path| path == "there.md");
        findings.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn links_to_files_are_checked_in_every_form() {
        for good in [
            "[a](there.md)",
            "![a](there.md) and [b](there.md#section \"title\")",
            "[a]: there.md",
            "[a](<there.md>)",
        ] {
            assert!(broken(good).is_empty(), "{good}");
            let bad = good.replace("there", "gone");
            assert!(!broken(&bad).is_empty(), "{bad}");
        }
        assert_eq!(
            broken("x\n[a](gone.md) [b](gone2.md)\n[c]: gone3.md"),
            [2, 2, 3]
        );
    }

    #[test]
    fn links_elsewhere_are_not_followed() {
        for text in [
            "[a](https://example.org/x)",
            "[a](#section)",
            "<mailto:a@b>",
            "[^1]: a note",
        ] {
            assert!(broken(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn code_and_mathematics_hold_no_links() {
        for text in [
            "`v[0](x)` and ``a ` [b](c)``",
            "$\\mathbb{E}[x_0](t)$",
            "```rust\nv[0](x)\n```",
            "$$\nE[x](t)\n$$",
            "$$ E[x](t) $$",
            "$$ E[x](t)\n f[x](t) $$",
        ] {
            assert!(broken(text).is_empty(), "{text}");
            assert_eq!(broken(&format!("{text}\n[a](gone.md)")).len(), 1, "{text}");
        }
        assert_eq!(broken("costs 5$ [a](gone.md)"), [1]);
    }
}
