//! The table of changes, `docs/mutations.md`: its first columns are written by hand, the last by
//! `cargo xtask mutate`.
//!
//! A row is ``| EQUATION | `FILE` | `FROM` → `TO` | `TEST`, … |``, on one line, and so are the
//! texts, which hold no `|`.

use std::fmt::Write as _;

/// Relative to the root.
pub(crate) const FILE: &str = "docs/mutations.md";

/// What a row that cannot be read is told.
pub(crate) const SHAPE: &str = "the row is not `| equation | file | from → to | tests |`";

/// How many of the tests that died are named.
const NAMED: usize = 3;

/// One row: what is changed for one equation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mutation<'a> {
    /// The equation's name in the book.
    pub(crate) equation: &'a str,
    /// The file that is changed, relative to the root.
    pub(crate) file: &'a str,
    /// A text that occurs exactly once in it,
    pub(crate) from: &'a str,
    /// and what takes its place.
    pub(crate) to: &'a str,
    /// The tests that died, as they stand there.
    pub(crate) died: &'a str,
}

impl<'a> Mutation<'a> {
    /// Reads a row; `None` if it is not as the head of this file says.
    fn parse(line: &'a str) -> Option<Self> {
        let cells: Vec<_> = line.trim().strip_prefix('|')?.split('|').collect();
        let &[equation, file, change, died, ""] = &cells[..] else {
            return None;
        };
        let code = |cell: &'a str| cell.trim().strip_prefix('`')?.strip_suffix('`');
        let (from, to) = code(change)?.split_once("` → `")?;
        Some(Self {
            equation: equation.trim(),
            file: code(file)?,
            from,
            to,
            died: died.trim(),
        })
    }

    /// The tests that are named.
    pub(crate) fn named(self) -> impl Iterator<Item = &'a str> {
        self.died.split('`').skip(1).step_by(2)
    }

    /// The changed text of the file, whose text is `source`.
    ///
    /// # Errors
    /// The text to be changed does not occur exactly once; the message says how often.
    pub(crate) fn apply(self, source: &str) -> Result<String, String> {
        let (from, file) = (self.from, self.file);
        match source.matches(from).count() {
            1 => Ok(source.replace(from, self.to)),
            count => Err(format!("`{from}` occurs {count} times in {file}, not once")),
        }
    }
}

/// Each line below the table's head with its number, read or not.
pub(crate) fn rows(table: &str) -> impl Iterator<Item = (usize, Option<Mutation<'_>>)> {
    let lines = (1..).zip(table.lines());
    let below = lines.skip_while(|(_, line)| !line.starts_with("|---"));
    below
        .skip(1)
        .take_while(|(_, line)| line.starts_with('|'))
        .map(|(number, line)| (number, Mutation::parse(line)))
}

/// The last cell of a row: the equation's own test first, then the others that died.
pub(crate) fn cell(test: &str, died: &[String]) -> String {
    let others = died.iter().filter(|name| *name != test);
    let names = std::iter::once(test).chain(others.map(String::as_str));
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let mut cell = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        // Writing to a string cannot fail.
        let _ = write!(cell, " + {} more", names.len() - NAMED);
    }
    cell
}

/// The table with another last cell in the equation's row.
pub(crate) fn with_died(table: &str, equation: &str, cell: &str) -> String {
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

    const TABLE: &str = "# Mutations\n\n| equation | file | what was changed | died |\n\
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
            died: "`adds`, `counts` + 2 more",
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
    fn only_what_occurs_once_is_changed() {
        let sum = rows(TABLE).next().unwrap().1.unwrap();
        assert_eq!(sum.apply("let z = x + y;").unwrap(), "let z = x - y;");
        for (source, count) in [("", "0"), ("x + y + x + y", "2")] {
            assert!(sum.apply(source).unwrap_err().contains(count));
        }
    }

    #[test]
    fn a_cell_names_the_equations_test_first_and_three_at_most() {
        let died = ["a", "b", "c", "d"].map(String::from);
        assert_eq!(cell("c", &died[2..3]), "`c`");
        assert_eq!(cell("c", &died[..3]), "`c`, `a`, `b`");
        assert_eq!(cell("c", &died), "`c`, `a`, `b` + 1 more");
    }

    #[test]
    fn one_rows_cell_is_written() {
        let written = with_died(TABLE, "product", "`times`");
        assert_eq!(written, TABLE.replace("|  |", "| `times` |"));
        assert_eq!(with_died(&written, "product", ""), TABLE);
    }
}
