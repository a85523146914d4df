//! The book's table of equations, and its rule: every named equation has a row in `equations.md`, and
//! the equation, the function and the test of every row exist.
//!
//! An equation NAME is an anchor, `<a id="eq-NAME"></a>`, and a `\tag{NAME}`. Its row is
//! ``| [NAME](CHAPTER.md#eq-NAME) | `CRATE::TYPE::FUNCTION` | `FILE.rs::TEST` |``.

use crate::{Finding, Tree};
use std::path::{Path, PathBuf};

/// The folder of the chapters, relative to the root.
pub const CHAPTERS: &str = "docs/book/src";

/// The file of the table, in that folder.
pub const TABLE: &str = "equations.md";

/// The start of an anchor's name.
const PREFIX: &str = "eq-";

/// One row of the table.
pub struct Row<'a> {
    number: usize,
    /// The equation's name.
    pub name: &'a str,
    chapter: &'a str,
    function: &'a str,
    /// The test, as `FILE.rs::TEST`.
    pub test: &'a str,
}

impl<'a> Row<'a> {
    /// Reads a row; `None` if it does not have the form at the head of this file.
    fn parse(number: usize, line: &'a str) -> Option<Self> {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').collect();
        let &[equation, function, test] = &cells[..] else {
            return None;
        };
        let code = |cell: &'a str| cell.trim().strip_prefix('`')?.strip_suffix('`');
        let (name, target) = equation.trim().strip_prefix('[')?.split_once("](")?;
        let (chapter, anchor) = target.strip_suffix(')')?.split_once('#')?;
        (anchor.strip_prefix(PREFIX)? == name).then_some(Self {
            number,
            name,
            chapter,
            function: code(function)?,
            test: code(test)?,
        })
    }
}

/// Each line below the table's head with its number; `None` if it is not a row.
pub fn rows(table: &str) -> impl Iterator<Item = (usize, Option<Row<'_>>)> {
    let lines = (1..).zip(table.lines());
    let below = lines.skip_while(|(_, line)| !line.starts_with("|---"));
    below
        .skip(1)
        .take_while(|(_, line)| line.starts_with('|'))
        .map(|(number, line)| (number, Row::parse(number, line)))
}

/// Rows of the table that cannot be read, stand twice, or name something that does not exist.
pub fn table(text: &str, tree: &impl Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for (number, row) in rows(text) {
        let Some(row) = row else {
            let reason = "the row is not `| [NAME](CHAPTER.md#eq-NAME) | function | test |`";
            findings.push((number, reason.to_owned()));
            continue;
        };
        let mut find = |reason: String| findings.push((row.number, reason));
        let name = row.name;
        if seen.contains(&name) {
            find(format!("`{name}` has a row above"));
        }
        seen.push(name);
        let chapter = tree.text(&format!("{CHAPTERS}/{}", row.chapter));
        if !chapter.is_some_and(|text| anchors(&text).any(|(_, anchor)| anchor == name)) {
            find(format!("`{name}` is not in {}", row.chapter));
        }
        if !has_function(row.function, tree) {
            find(format!("`{name}`: there is no function `{}`", row.function));
        }
        let test = row.test.rsplit_once("::");
        let found = test.is_some_and(|(file, test)| {
            tree.text(file)
                .is_some_and(|text| defines(&text, "fn", test))
        });
        if !found {
            find(format!("`{name}`: there is no test `{}`", row.test));
        }
    }
    findings
}

/// Names in the chapter `file` that have no row in the table.
pub fn chapter(file: &str, text: &str, table: &str) -> Vec<Finding> {
    let rows: Vec<_> = rows(table).filter_map(|(_, row)| row).collect();
    let has_row = |chapter: &str, name: &str| {
        let mut rows = rows.iter();
        rows.any(|row| row.name == name && row.chapter == chapter)
    };
    let named: Vec<_> = anchors(text).collect();
    let mut findings = Vec::new();
    for (i, &(number, name)) in named.iter().enumerate() {
        if named[..i].iter().any(|&(_, above)| above == name) {
            findings.push((number, format!("the anchor `{name}` stands above already")));
        } else if !has_row(file, name) {
            findings.push((number, format!("`{name}` has no row in {TABLE}")));
        }
    }
    for (number, name) in between(text, "\\tag{", "}") {
        if !named.iter().any(|&(_, anchor)| anchor == name) {
            findings.push((number, format!("the tag `{name}` has no anchor")));
        }
    }
    let links = between(text, "](", ")").filter_map(|(number, target)| {
        let (chapter, anchor) = target.split_once('#')?;
        let chapter = if chapter.is_empty() { file } else { chapter };
        Some((number, chapter, anchor.strip_prefix(PREFIX)?))
    });
    for (number, to, name) in links {
        // The names of this chapter were checked above.
        let known =
            has_row(to, name) || to == file && named.iter().any(|&(_, anchor)| anchor == name);
        if !known {
            findings.push((number, format!("`{name}` of {to} has no row in {TABLE}")));
        }
    }
    findings
}

/// The names of the equations' anchors.
fn anchors(text: &str) -> impl Iterator<Item = (usize, &str)> {
    between(text, "<a id=\"", "\"")
        .filter_map(|(number, id)| Some((number, id.strip_prefix(PREFIX)?)))
}

/// Everything between `open` and the next `close` of the same line.
fn between<'a>(
    text: &'a str,
    open: &'static str,
    close: &'static str,
) -> impl Iterator<Item = (usize, &'a str)> {
    (1..).zip(text.lines()).flat_map(move |(number, line)| {
        let parts = line.split(open).skip(1);
        parts.filter_map(move |part| Some((number, part.split_once(close)?.0)))
    })
}

/// Whether a crate has the function of a path such as `crate_name::module::Type::function`. The file
/// of a type's function has an `impl` or `trait` of the type. The file of a module's function has
/// the module's name, or is in a folder of that name.
fn has_function(path: &str, tree: &impl Tree) -> bool {
    let segments: Vec<_> = path.split("::").collect();
    let [of, between @ .., function] = &segments[..] else {
        return false;
    };
    let holds = |(file, text): &(PathBuf, String)| {
        let within = |segment: &&str| {
            if segment.starts_with(char::is_uppercase) {
                defines_methods(text, segment)
            } else {
                is_module(file, segment)
            }
        };
        defines(text, "fn", function) && between.iter().all(within)
    };
    tree.sources(&of.replace('_', "-")).iter().any(holds)
}

/// Whether `module` is the name of the file or of a folder above it.
fn is_module(file: &Path, module: &str) -> bool {
    file.with_extension("").iter().any(|part| part == module)
}

/// Whether a line of code contains `keyword name` as whole words.
fn defines(text: &str, keyword: &str, name: &str) -> bool {
    code(text).any(|line| {
        let words: Vec<_> = words(line).collect();
        words.windows(2).any(|pair| pair == [keyword, name])
    })
}

/// Whether the text has an `impl` or `trait` of the type.
fn defines_methods(text: &str, name: &str) -> bool {
    code(text)
        .filter(|line| words(line).any(|word| word == "impl" || word == "trait"))
        .any(|line| words(line).any(|word| word == name))
}

/// The lines that are not comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim_start);
    lines.filter(|line| !line.starts_with("//"))
}

/// The names and keywords of a line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files(Vec<(&'static str, &'static str)>);

    impl Tree for Files {
        fn text(&self, path: &str) -> Option<String> {
            let mut files = self.0.iter();
            files
                .find(|(file, _)| *file == path)
                .map(|(_, text)| (*text).to_owned())
        }

        fn sources(&self, name: &str) -> Vec<(PathBuf, String)> {
            let folder = format!("crates/{name}/src");
            let files = self.0.iter();
            files
                .filter(|(file, _)| file.starts_with(&folder))
                .map(|(file, text)| (PathBuf::from(file), (*text).to_owned()))
                .collect()
        }
    }

    const CHAPTER: &str = "text\n<a id=\"eq-sum\"></a>\n$$\nx \\tag{sum}\n$$\n";
    const HEAD: &str = "# Equations\n\n| equation | function | test |\n|---|---|---|\n";

    fn tree() -> Files {
        Files(vec![
            ("docs/book/src/adding.md", CHAPTER),
            (
                "crates/my-sums/src/sum.rs",
                "//! fn gone\nimpl<T> Sum<T> {\n    pub fn add(self) {}\n}\npub fn free() {}\n",
            ),
            (
                "crates/my-sums/src/other.rs",
                "struct Sum;\nfn lone() {}\nimpl Add for Other {}\n",
            ),
            (
                "crates/my-sums/tests/it.rs",
                "#[test]\nfn sums_add() {}\n// fn sums_stay() {}\n",
            ),
        ])
    }

    const ROW: &str = "| [sum](adding.md#eq-sum) | `my_sums::Sum::add` | \
                       `crates/my-sums/tests/it.rs::sums_add` |\n";

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|(line, _)| *line).collect()
    }

    #[test]
    fn a_correct_table_passes() {
        let text = format!("{HEAD}{ROW}");
        assert_eq!(table(&text, &tree()), []);
        assert_eq!(chapter("adding.md", CHAPTER, &text), []);
    }

    #[test]
    fn a_row_that_names_nothing_is_found() {
        for (right, wrong) in [
            ("adding.md", "gone.md"),
            ("[sum](adding.md#eq-sum)", "[total](adding.md#eq-total)"),
            ("::add", "::gone"),
            // A file that only mentions the type, and a type that does not exist.
            ("::add", "::lone"),
            ("Sum::add", "Other::add"),
            ("Sum::add", "product::free"),
            ("my_sums", "your_sums"),
            ("it.rs", "gone.rs"),
            ("sums_add", "sums_ad"),
            ("sums_add", "sums_stay"),
        ] {
            let text = format!("{HEAD}{}", ROW.replace(right, wrong));
            let findings = table(&text, &tree());
            assert_eq!(lines(&findings), [5], "{wrong}: {findings:?}");
        }
    }

    #[test]
    fn functions_of_modules_and_crates_are_found() {
        for function in [
            "my_sums::free",
            "my_sums::sum::free",
            "my_sums::sum::Sum::add",
        ] {
            let text = format!("{HEAD}{}", ROW.replace("my_sums::Sum::add", function));
            assert_eq!(table(&text, &tree()), [], "{function}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_or_stands_twice_is_found() {
        for row in [
            "| sum | `a::b` | `c.rs::d` |\n",
            "| [sum](adding.md#eq-total) | `a::b` | `c.rs::d` |\n",
            "| [sum](adding.md#eq-sum) | a::b | `c.rs::d` |\n",
            "| [sum](adding.md#eq-sum) | `a::b` |\n",
        ] {
            assert_eq!(
                lines(&table(&format!("{HEAD}{row}"), &tree())),
                [5],
                "{row}"
            );
        }
        assert_eq!(lines(&table(&format!("{HEAD}{ROW}{ROW}"), &tree())), [6]);
    }

    #[test]
    fn an_equation_without_a_row_is_found() {
        let found = |text: &str, table: &str| lines(&chapter("adding.md", text, table));
        let with_row = format!("{HEAD}{ROW}");
        assert_eq!(found(CHAPTER, HEAD), [2]);
        assert_eq!(
            found(CHAPTER, &with_row.replace("adding.md", "else.md")),
            [2]
        );
        assert_eq!(found(&format!("{CHAPTER}{CHAPTER}"), &with_row), [7]);
        assert_eq!(
            found(&format!("{CHAPTER}$$ y \\tag{{new}} $$\n"), &with_row),
            [6]
        );
    }

    #[test]
    fn a_reference_without_a_row_is_found() {
        let found = |link: &str| lines(&chapter("adding.md", link, &format!("{HEAD}{ROW}")));
        for good in ["[a](#eq-sum)", "[a](adding.md#eq-sum)", "[a](else.md#part)"] {
            assert!(found(good).is_empty(), "{good}");
        }
        for bad in ["[a](#eq-gone)", "[a](else.md#eq-sum) b"] {
            assert_eq!(found(bad), [1], "{bad}");
        }
    }
}
