//! `docs/field.md`: faults that users of other software have reported, and how this program behaves.
//!
//! Each row runs the program on inputs that it makes itself. `DDPM_WRITE_PAGES=1 cargo test -p
//! ddpm-cli --test it field` writes the page again; without it, the tests compare.

pub(crate) mod data;
mod interop;
mod output;
mod runs;
mod samples;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::{Mutex, PoisonError};

use crate::run::ddpm;

/// A row of the page.
pub(crate) struct Fault {
    /// Public reports of this kind: repository and number, separated by commas.
    pub(crate) reports: &'static str,
    /// The kind of fault, in our words.
    pub(crate) kind: &'static str,
    /// The test.
    pub(crate) tried: &'static str,
    /// Runs the test in an empty folder, asserts the outcome, and returns its description, which must be
    /// the same on every machine.
    pub(crate) run: fn(&Path) -> String,
}

/// Held by a test while it reads or writes the page.
static PAGE: Mutex<()> = Mutex::new(());

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/field.md");

/// Runs the rows of a section of the page, and compares the section with them.
fn check(section: &str, rows: &[Fault]) {
    let mut text =
        format!("## {section}\n\n| reports | kind | tried | result |\n|---|---|---|---|\n");
    for row in rows {
        let folder = tempfile::tempdir().unwrap();
        // The folder of a test has another name each time.
        let name = fs::canonicalize(folder.path()).unwrap();
        let happens = (row.run)(folder.path()).replace(&*name.to_string_lossy(), "FOLDER");
        let (reports, kind, tried) = (row.reports, row.kind, row.tried);
        writeln!(text, "| {reports} | {kind} | {tried} | {happens} |").unwrap();
    }
    let _one = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let page = fs::read_to_string(PATH).unwrap();
    let begin = page
        .find(&format!("## {section}\n"))
        .unwrap_or_else(|| panic!("docs/field.md has no section {section}"));
    let rest = &page[begin + 3..];
    let end = rest.find("\n## ").map_or(page.len(), |i| begin + 3 + i);
    if std::env::var_os("DDPM_WRITE_PAGES").is_some() {
        fs::write(PATH, format!("{}{text}{}", &page[..begin], &page[end..])).unwrap();
        return;
    }
    assert_eq!(
        page[begin..end],
        text,
        "write docs/field.md again: DDPM_WRITE_PAGES=1 cargo test -p ddpm-cli --test it field"
    );
}

/// The outcome as shown on the page: the exit code and the last line printed.
fn outcome(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    let last = said.trim_end().lines().last().unwrap_or_default();
    let code = output.status.code().expect("no signal ended it");
    format!("exit {code}: `{}`", last.replace('|', "\\|"))
}

/// Runs the program, which must end with this exit code; returns the outcome for the page.
fn ends(folder: &Path, arguments: &str, code: i32) -> String {
    let output = ddpm(folder, arguments);
    let shown = outcome(&output);
    assert_eq!(
        output.status.code(),
        Some(code),
        "ddpm {arguments}: {shown}"
    );
    shown
}
