//! Standard streams that cannot be written, and signals, for each kind of command.

use super::program::{Outcome, Program, last_line};
use anyhow::{Context as _, ensure};
use std::{fmt::Write as _, fs, path::Path};

/// The result of one command with one fault of a stream, or one signal.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    command: String,
    what: &'static str,
    /// The exit code; `None` if a signal ended the process.
    code: Option<i32>,
    /// The last line of standard error; empty if it could not be written.
    said: String,
    /// The broken promise, if there is one.
    wrong: Option<String>,
}

/// A fault of the standard streams.
#[derive(Clone, Copy)]
struct Trouble {
    what: &'static str,
    /// Redirections of a shell; descriptor 4 is a pipe without a reader.
    shell: &'static str,
    /// The exit code of a command that writes to standard output.
    writes: i32,
    /// The exit code of a command that does not.
    silent: i32,
}

const TROUBLES: [Trouble; 5] = [
    Trouble {
        what: "standard output's pipe is closed",
        shell: ">&4",
        writes: 0,
        silent: 0,
    },
    Trouble {
        what: "standard output is full",
        shell: ">/dev/full",
        writes: 1,
        silent: 0,
    },
    Trouble {
        what: "standard error's pipe is closed",
        shell: "2>&4",
        writes: 0,
        silent: 0,
    },
    Trouble {
        what: "standard error is full",
        shell: "2>/dev/full",
        writes: 0,
        silent: 0,
    },
    Trouble {
        what: "both pipes are closed",
        shell: ">&4 2>&4",
        writes: 0,
        silent: 0,
    },
];

/// Commands that write to standard output.
const WRITES: [&str; 9] = [
    "--help",
    "--version",
    "recipe",
    "recipe digits",
    "schedule --format csv",
    "devices",
    "completions bash",
    "check trained --hash",
    "eval nll --from trained --num 2 --times 2",
];

/// Commands that write files to a new folder, `--out out`.
const SILENT: [&str; 2] = [
    "train --config tiny.toml",
    "sample --from trained --num 20 --steps 5",
];

/// Signals that ask the program to stop, and its exit codes for them.
const SIGNALS: [(&str, i32); 4] = [("INT", 130), ("TERM", 143), ("HUP", 129), ("USR1", 138)];

/// Commands that run for long, each with words that it prints once it has started.
const LONG: [(&str, &str); 3] = [
    ("train --config endless.toml --out out", " rows of "),
    (
        "sample --from trained --num 4000 --steps 1000 --sampler ddpm --out out",
        "samples",
    ),
    ("eval nll --from trained --num 1700", "images"),
];

/// Tries everything in `folder`; its folder `trained` is a run of `tiny.toml`.
pub(super) fn try_all(program: &Program, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for trouble in TROUBLES {
        for command in WRITES {
            rows.push(stream(program, folder, command, trouble, trouble.writes)?);
        }
        for command in SILENT {
            remove(&folder.join("out"))?;
            let arguments = format!("{command} --out out");
            let mut row = stream(program, folder, &arguments, trouble, trouble.silent)?;
            if row.wrong.is_none() {
                row.wrong = incomplete(program, folder, command);
            }
            rows.push(row);
        }
    }
    for (command, begun) in LONG {
        for (name, code) in SIGNALS {
            remove(&folder.join("out"))?;
            let mut job = program.start(folder, command)?;
            job.until_said(begun)?;
            job.signal(&[name])?;
            let outcome = job.wait()?;
            let what = match name {
                "INT" => "SIGINT",
                "TERM" => "SIGTERM",
                "HUP" => "SIGHUP",
                _ => "SIGUSR1",
            };
            rows.push(row(command, what, &outcome, code));
        }
    }
    for command in ["train --config tiny.toml", "sample --from trained --num 20"] {
        remove(&folder.join("out"))?;
        let arguments = format!("{command} --out out");
        let outcome = program.run_limited(folder, 4, &arguments)?;
        rows.push(row(command, "SIGXFSZ (`ulimit -f 4`)", &outcome, 1));
    }
    Ok(rows)
}

/// Runs a command with a fault of a stream.
fn stream(
    program: &Program,
    folder: &Path,
    command: &str,
    trouble: Trouble,
    code: i32,
) -> anyhow::Result<Row> {
    let outcome = program.run_redirected(folder, command, trouble.shell)?;
    Ok(row(command, trouble.what, &outcome, code))
}

fn row(command: &str, what: &'static str, outcome: &Outcome, code: i32) -> Row {
    let said = match outcome.said.as_str() {
        "" => String::new(),
        said => last_line(said).to_owned(),
    };
    let panicked = outcome.said.contains("panicked");
    let wrong = (outcome.code != Some(code) || panicked)
        .then(|| format!("exit code {:?}, expected {code}", outcome.code));
    Row {
        command: command.to_owned(),
        what,
        code: outcome.code,
        said,
        wrong,
    }
}

/// What is missing in the folder `out` after a command.
fn incomplete(program: &Program, folder: &Path, command: &str) -> Option<String> {
    let check = || -> anyhow::Result<()> {
        if command.starts_with("train") {
            let hash = |run: &str| program.succeed(folder, &format!("check {run} --hash"));
            ensure!(hash("out")? == hash("trained")?, "another run");
        } else {
            let images = fs::read_dir(folder.join("out/images")).context("no images")?;
            ensure!(images.count() == 20, "not all samples are there");
        }
        Ok(())
    };
    check().err().map(|error| format!("{error:#}"))
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

impl Row {
    /// The broken promise with its command, if there is one.
    pub(super) fn wrong(&self) -> Option<String> {
        let wrong = self.wrong.as_ref()?;
        Some(format!("{}, {}: {wrong}", self.command, self.what))
    }
}

/// All rows as a table.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| command | what happens | exit code | the last line printed |\n|---|---|--:|---|\n",
    );
    for row in rows {
        let code = row.code.map_or("none".to_owned(), |code| code.to_string());
        let said = match row.said.replace('|', "\\|") {
            said if said.is_empty() => "nothing".to_owned(),
            said => format!("`{said}`"),
        };
        let said = match &row.wrong {
            Some(wrong) => format!("**not as promised** ({wrong}): {said}"),
            None => said,
        };
        let (command, what) = (&row.command, row.what);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{command}` | {what} | {code} | {said} |");
    }
    text
}

pub(super) mod tests {
    use super::{Outcome, row, table};

    pub(in super::super) fn exit_codes() {
        let outcome = |code| Outcome {
            code,
            out: String::new(),
            said: "first\nlast | line\n".into(),
        };
        let good = row("recipe", "it is full", &outcome(Some(1)), 1);
        assert_eq!(good.wrong(), None);
        let bad = row("recipe", "it is full", &outcome(None), 1);
        assert_eq!(
            bad.wrong().unwrap(),
            "recipe, it is full: exit code None, expected 1"
        );
        let text = table(&[good, bad]);
        let rows: Vec<_> = text.lines().skip(2).collect();
        let expected = [
            "| `recipe` | it is full | 1 | `last \\| line` |",
            "| `recipe` | it is full | none | **not as promised** (exit code None, expected 1): \
             `last \\| line` |",
        ];
        assert_eq!(rows, expected);
    }
}
