//! Rust source as words and marks, without comments, literals of text, and tests.

/// The tokens of a text: words, `::`, and other marks of one character. Comments, strings,
/// characters and lifetimes are left out.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if let Some(length) = skipped(rest) {
            rest = &rest[length..];
            continue;
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after;
    }
    tokens
}

/// The length of what is left out at the start of a text; `None` if a token starts there.
fn skipped(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |end| end + 2));
    }
    let prefix = ["br", "cr", "r", "b", "c", ""];
    let prefix = prefix.into_iter().find(|prefix| {
        let after = text.strip_prefix(prefix).unwrap_or_default();
        after.starts_with('"')
            || prefix.ends_with('r') && after.trim_start_matches('#').starts_with('"')
    });
    if let Some(prefix) = prefix {
        return Some(prefix.len() + string(&text[prefix.len()..], prefix.ends_with('r')));
    }
    let quoted = text.strip_prefix('\'')?;
    let mut characters = quoted.char_indices();
    let (_, character) = characters.next()?;
    let literal = character == '\\' || characters.next().is_some_and(|(_, next)| next == '\'');
    let end = if literal {
        let skip = if character == '\\' {
            2
        } else {
            character.len_utf8()
        };
        skip + quoted.get(skip..)?.find('\'')? + 1
    } else {
        let lifetime = |c: char| !(c.is_alphanumeric() || c == '_');
        quoted.find(lifetime).unwrap_or(quoted.len())
    };
    Some(1 + end)
}

/// The length of a string at the start of a text, its marks included.
fn string(text: &str, raw: bool) -> usize {
    if raw {
        let hashes = text.len() - text.trim_start_matches('#').len();
        let close = format!("\"{}", "#".repeat(hashes));
        let start = hashes + 1;
        let end = text.get(start..).and_then(|inside| inside.find(&close));
        return end.map_or(text.len(), |end| start + end + close.len());
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The tokens without the items that only tests compile: those below `#[cfg(test)]`, or below a
/// `cfg` that combines `test` with other conditions.
pub(super) fn without_tests(tokens: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute = tokens[at..].starts_with(&["#", "[", "cfg", "("]);
        let end = if attribute {
            closed(tokens, at + 1)
        } else {
            at
        };
        let condition = &tokens[at..end];
        if condition.contains(&"test") && !condition.contains(&"not") {
            at = item_end(tokens, end);
        } else {
            kept.push(tokens[at].to_owned());
            at += 1;
        }
    }
    kept
}

/// The index after the mark that closes the one at `open`.
fn closed(tokens: &[&str], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The index after the item at `start`, which ends with `;` or with its braces.
fn item_end(tokens: &[&str], start: usize) -> usize {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at] {
            ";" => return at + 1,
            "{" => return closed(tokens, at),
            "(" | "[" => at = closed(tokens, at),
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_left_out() {
        let text = "use a::b; // c::d\n/* e */ f(\"g \\\" h\", r#\"i \" j\"#, b\"k\", 'l', '\\'', '\\n');\n\
                    fn m<'n>(o: &'n str) {}";
        let expected = "use a :: b ; f ( , , , , , ) ; fn m < > ( o : & str ) { }";
        assert_eq!(tokens(text).join(" "), expected);
    }

    #[test]
    fn items_of_tests_are_left_out() {
        let text = "#[cfg(test)] mod tests { use a; } #[cfg(test)] use b; #[cfg(not(test))] use c;\n\
                    #[cfg(all(test, unix))] fn d(e: [u8; 3]) { f(); } g";
        let kept = without_tests(&tokens(text)).join(" ");
        assert_eq!(kept, "# [ cfg ( not ( test ) ) ] use c ; g");
    }
}
