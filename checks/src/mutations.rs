//! The table of mutations, `docs/mutations.md`. `cargo xtask mutate` writes its last column.
//!
//! A row is ``| EQUATION | `FILE` | `FROM` → `TO` | `TEST`, … |``. The texts contain no `|` and no
//! line break.

use std::fmt::Write as _;

/// Relative to the root.
pub const FILE: &str = "docs/mutations.md";

/// The message for a row that cannot be read.
pub const SHAPE: &str = "the row is not `| equation | file | from → to | tests |`";

/// How many of the failed tests are named.
const NAMED: usize = 3;

/// One row: the change of one equation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutation<'a> {
    /// The equation's name in the book.
    pub equation: &'a str,
    /// The file that is changed, relative to the root.
    pub file: &'a str,
    /// A text that occurs exactly once in the file.
    pub from: &'a str,
    /// The text that replaces it.
    pub to: &'a str,
    /// The last cell, which names the tests that failed.
    pub failed: &'a str,
}

impl<'a> Mutation<'a> {
    /// Reads a row; `None` if it does not have the form at the head of this file.
    fn parse(line: &'a str) -> Option<Self> {
        let cells: Vec<_> = line.trim().strip_prefix('|')?.split('|').collect();
        let &[equation, file, change, failed, ""] = &cells[..] else {
            return None;
        };
        let code = |cell: &'a str| cell.trim().strip_prefix('`')?.strip_suffix('`');
        let (from, to) = code(change)?.split_once("` → `")?;
        Some(Self {
            equation: equation.trim(),
            file: code(file)?,
            from,
            to,
            failed: failed.trim(),
        })
    }

    /// The failed tests that the row names.
    pub fn named(self) -> impl Iterator<Item = &'a str> {
        self.failed.split('`').skip(1).step_by(2)
    }

    /// Makes the change in the file's text, `source`.
    ///
    /// # Errors
    /// The text to be replaced does not occur exactly once; the message says how often it does.
    pub fn apply(self, source: &str) -> Result<String, String> {
        let (from, file) = (self.from, self.file);
        match source.matches(from).count() {
            1 => Ok(source.replace(from, self.to)),
            count => Err(format!("`{from}` occurs {count} times in {file}, not once")),
        }
    }
}

/// Each line below the table's head with its number; `None` if it is not a row.
pub fn rows(table: &str) -> impl Iterator<Item = (usize, Option<Mutation<'_>>)> {
    let lines = (1..).zip(table.lines());
    let below = lines.skip_while(|(_, line)| !line.starts_with("|---"));
    below
        .skip(1)
        .take_while(|(_, line)| line.starts_with('|'))
        .map(|(number, line)| (number, Mutation::parse(line)))
}

/// The last cell of a row: the equation's own test first, then the others that failed.
pub fn cell(test: &str, failed: &[String]) -> String {
    let others = failed.iter().filter(|name| *name != test);
    let names = std::iter::once(test).chain(others.map(String::as_str));
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let mut cell = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        // Writing to a string cannot fail.
        let _ = write!(cell, " + {} more", names.len() - NAMED);
    }
    cell
}

/// The table with a new last cell in the equation's row.
pub fn with_failed(table: &str, equation: &str, cell: &str) -> String {
    let row = |line: &str| {
        let mutation = Mutation::parse(line).filter(|mutation| mutation.equation == equation);
        match mutation {
            Some(Mutation { file, from, to, .. }) => {
                format!("| {equation} | `{file}` | `{from}` → `{to}` | {cell} |\n")
            }
            None => format!("{line}\n"),
        }
    };
    table.lines().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# Mutations\n\n| equation | file | what was changed | failed |\n\
        |---|---|---|---|\n\
        | sum | `a/b.rs` | `x + y` → `x - y` | `adds`, `counts` + 2 more |\n\
        | product | `a/c.rs` | `x * y` → `x / y` |  |\n";

    #[test]
    fn rows_are_read() {
        let rows: Vec<_> = rows(TABLE).collect();
        let sum = Mutation {
            equation: "sum",
            file: "a/b.rs",
            from: "x + y",
            to: "x - y",
            failed: "`adds`, `counts` + 2 more",
        };
        assert_eq!(rows[0], (5, Some(sum)));
        assert!(sum.named().eq(["adds", "counts"]));
        let product = rows[1].1.unwrap();
        assert_eq!((product.to, product.named().count()), ("x / y", 0));
        for line in [
            "| sum | a/b.rs | `x` → `y` | |",
            "| sum | `a/b.rs` | `x` to `y` | |",
            "| sum | `a/b.rs` | `x` → `y` |",
            "sum",
        ] {
            assert_eq!(Mutation::parse(line), None, "{line}");
        }
    }

    #[test]
    fn only_a_text_that_occurs_once_is_changed() {
        let sum = rows(TABLE).next().unwrap().1.unwrap();
        assert_eq!(sum.apply("let z = x + y;").unwrap(), "let z = x - y;");
        for (source, count) in [("", "0"), ("x + y + x + y", "2")] {
            assert!(sum.apply(source).unwrap_err().contains(count));
        }
    }

    #[test]
    fn a_cell_names_the_equations_test_first_and_three_at_most() {
        let failed = ["a", "b", "c", "d"].map(String::from);
        assert_eq!(cell("c", &failed[2..3]), "`c`");
        assert_eq!(cell("c", &failed[..3]), "`c`, `a`, `b`");
        assert_eq!(cell("c", &failed), "`c`, `a`, `b` + 1 more");
    }

    #[test]
    fn one_rows_cell_is_written() {
        let written = with_failed(TABLE, "product", "`times`");
        assert_eq!(written, TABLE.replace("|  |", "| `times` |"));
        assert_eq!(with_failed(&written, "product", ""), TABLE);
    }
}
