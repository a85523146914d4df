//! `cargo xtask interop`: diffusers and we load each other's networks and compute the same.
//!
//! `benches/peers/interop.py` makes a network with random weights for each case,
//! `benches/examples/interop.rs` computes with it and makes one of its own, and the first compares.
//! With `--grids RUN` both sample a trained run instead, and their pictures stand side by side.

use crate::{Refusal, cargo_command, peers, race::number, root};
use anyhow::{Context as _, bail};
use std::{
    env,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs, iter,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// The largest difference allowed for each quantity, and whether it is relative to the largest
/// value. A pixel's step of 1/255 in [0, 1] is twice that in the network's [−1, 1].
const LIMITS: [(&str, f64, bool); 5] = [
    ("forward", 1e-4, true),
    ("gradient", 1e-3, true),
    ("DDIM-50", 2.0 / 255.0, false),
    ("DDPM-50", 2.0 / 255.0, false),
    ("DPM++-20", 2.0 / 255.0, false),
];

/// The same of a run's pictures, whose pixels are of [0, 1].
const GRID_LIMITS: [(&str, f64, bool); 2] = [
    ("DDPM-100", 1.0 / 255.0, false),
    ("DDIM-50", 1.0 / 255.0, false),
];

/// Where the tables are.
const PAGE: &str = "docs/interop.md";

/// What was compared, once.
#[derive(Debug, PartialEq)]
struct Line {
    case: String,
    weights: String,
    quantity: String,
    absolute: f64,
    relative: f64,
}

/// Compares every case, or with `--grids RUN` the samples of a run, and puts the table into its
/// place in `docs/interop.md`.
pub(crate) fn interop(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut run = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("grids") => run = Some(PathBuf::from(parser.value()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    let sides = Sides::prepare()?;
    let (lines, limits) = match run {
        Some(run) => (sides.grids(&run)?, &GRID_LIMITS[..]),
        None => (sides.cases()?, &LIMITS[..]),
    };
    let table = table(&lines, limits);
    print!("{table}");
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| PAGE)?;
    let page = with_table(&page, &table).with_context(|| format!("{PAGE}: no such table"))?;
    fs::write(&path, page).with_context(|| PAGE)?;
    let wrong: Vec<String> = lines
        .iter()
        .filter_map(|line| excess(line, limits))
        .collect();
    if wrong.is_empty() && !lines.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("not the same: {}", wrong.join("; "));
}

/// The two programs, and an empty folder for what they tell each other.
struct Sides {
    python: PathBuf,
    ours: PathBuf,
    folder: PathBuf,
}

impl Sides {
    fn prepare() -> anyhow::Result<Self> {
        let target = env::var_os("CARGO_TARGET_DIR");
        let target = target.map_or_else(|| root().join("target"), Into::into);
        let python = peers::install(&target.join("race"), "no comparison")?;
        let ours = build(&target)?;
        let folder = target.join("interop");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self {
            python,
            ours,
            folder,
        })
    }

    fn theirs(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(root().join("benches/peers/interop.py"));
        command
    }

    fn ours(&self) -> Command {
        Command::new(&self.ours)
    }

    /// Every configuration, with random weights.
    fn cases(&self) -> anyhow::Result<Vec<Line>> {
        let mut lines = Vec::new();
        let cases = output(self.theirs().arg("list"))?;
        for (number, case) in cases.lines().enumerate() {
            eprintln!("{case}");
            let folder = self.folder.join(number.to_string());
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            output(self.theirs().arg("make").arg(&folder).arg(case))?;
            output(self.ours().arg(&folder))?;
            let compared = output(self.theirs().arg("compare").arg(&folder))?;
            lines.extend(parse_all(case, &compared)?);
        }
        Ok(lines)
    }

    /// A run, exported, sampled by diffusers' pipelines and by us with the same noise.
    fn grids(&self, run: &Path) -> anyhow::Result<Vec<Line>> {
        let (folder, theirs) = (&self.folder, self.folder.join("theirs"));
        let mut export = cargo_command();
        export.args(["run", "--release", "--quiet", "--package", "ddpm-train"]);
        export.args(["--bin", "ddpm", "--", "export", "--format", "diffusers"]);
        output(export.arg("--from").arg(run).arg("--to").arg(&theirs))?;
        output(self.theirs().arg("noise").arg(folder))?;
        output(self.ours().arg("sample").arg(folder))?;
        let images = root().join("docs/images");
        let compared = output(self.theirs().arg("grids").args([folder, &images]))?;
        let name = run.file_name().unwrap_or(run.as_os_str());
        parse_all(&name.to_string_lossy(), &compared)
    }
}

/// Compiles our side.
fn build(target: &Path) -> anyhow::Result<PathBuf> {
    let mut build = cargo_command();
    build.args(["build", "--release", "--package", "ddpm-benches"]);
    build.args(["--example", "interop"]).current_dir(root());
    if !build.status().context("cannot start cargo")?.success() {
        bail!("our side does not compile, see above");
    }
    let name = format!("interop{}", env::consts::EXE_SUFFIX);
    Ok(target.join("release/examples").join(name))
}

/// What a program writes, if it succeeds.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let words = iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
        return Err(Refusal(format!("`{}` failed, see above", words.join(" "))).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The lines of a comparison.
fn parse_all(case: &str, compared: &str) -> anyhow::Result<Vec<Line>> {
    let lines = compared.lines();
    let line = |line| parse(case, line).with_context(|| format!("{case}: {line}"));
    lines.map(line).collect()
}

fn parse(case: &str, line: &str) -> Option<Line> {
    Some(Line {
        case: case.to_owned(),
        weights: text(line, "weights")?.to_owned(),
        quantity: text(line, "quantity")?.to_owned(),
        absolute: number(line, "absolute")?,
        relative: number(line, "relative")?,
    })
}

/// The text `key` of a flat JSON object, without escapes.
fn text<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{key}\": \""))?;
    rest.split('"').next()
}

/// What is wrong with a line, if it is beyond its limit; a NaN is beyond every limit.
fn excess(line: &Line, limits: &[(&str, f64, bool)]) -> Option<String> {
    let limit = limits.iter().find(|(name, ..)| *name == line.quantity);
    let &(_, limit, relative) = limit?;
    let found = if relative {
        line.relative
    } else {
        line.absolute
    };
    let within = found <= limit;
    (!within).then(|| {
        let Line {
            case,
            weights,
            quantity,
            ..
        } = line;
        format!("{case}, {weights} weights, {quantity}: {found:e} is over {limit:e}")
    })
}

/// A row a case and direction, a column a quantity.
fn table(lines: &[Line], limits: &[(&str, f64, bool)]) -> String {
    let mut text = String::from("| configuration | weights |");
    let mut rule = String::from("|---|---|");
    for (quantity, ..) in limits {
        // Writing to a string cannot fail.
        let _ = write!(text, " {quantity} |");
        rule.push_str("--:|");
    }
    let _ = writeln!(text, "\n{rule}");
    for lines in lines.chunk_by(|a, b| (&a.case, &a.weights) == (&b.case, &b.weights)) {
        let _ = write!(text, "| {} | {} |", lines[0].case, lines[0].weights);
        for line in lines {
            let limit = limits.iter().find(|(name, ..)| *name == line.quantity);
            let _ = match limit {
                Some((.., true)) => {
                    write!(text, " {:.1e} ({:.1e}) |", line.absolute, line.relative)
                }
                _ => write!(text, " {:.1e} |", line.absolute),
            };
        }
        text.push('\n');
    }
    text
}

/// The page with the table of these columns in place of the one there.
fn with_table(page: &str, table: &str) -> Option<String> {
    let header = table.lines().next()?;
    let (before, rest) = page.split_once(&format!("\n{header}\n"))?;
    let (_, after) = rest.split_once("\n\n")?;
    Some(format!("{before}\n{table}\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
        {\"weights\": \"ours\", \"quantity\": \"forward\", \"absolute\": 1.5e-06, \"relative\": 5e-07}";

    #[test]
    fn a_line_is_read() {
        let line = parse("plain", OUTPUT).unwrap();
        assert_eq!((&*line.weights, &*line.quantity), ("ours", "forward"));
        assert_eq!((line.absolute, line.relative), (1.5e-6, 5e-7));
        assert_eq!(parse("plain", "{}"), None);
    }

    #[test]
    fn a_difference_over_the_limit_is_found() {
        let with = |absolute, relative, quantity: &str| Line {
            absolute,
            relative,
            quantity: quantity.to_owned(),
            ..parse("plain", OUTPUT).unwrap()
        };
        assert_eq!(excess(&with(1.0, 9e-5, "forward"), &LIMITS), None);
        assert!(excess(&with(0.0, 2e-4, "forward"), &LIMITS).is_some());
        assert!(excess(&with(0.0, f64::NAN, "gradient"), &LIMITS).is_some());
        assert_eq!(excess(&with(7e-3, 1.0, "DDIM-50"), &LIMITS), None);
        assert!(excess(&with(8e-3, 0.0, "DDIM-50"), &LIMITS).is_some());
    }

    #[test]
    fn a_case_and_its_weights_are_a_row() {
        let line = || parse("plain", OUTPUT).unwrap();
        let gradient = Line {
            quantity: "gradient".to_owned(),
            ..line()
        };
        let theirs = Line {
            weights: "theirs".to_owned(),
            ..line()
        };
        let text = table(&[line(), gradient, theirs], &LIMITS);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows[0],
            "| plain | ours | 1.5e-6 (5.0e-7) | 1.5e-6 (5.0e-7) |"
        );
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn a_table_replaces_the_one_of_its_columns() {
        let line = || parse("run", &OUTPUT.replace("forward", "DDIM-50")).unwrap();
        let text = table(&[line()], &GRID_LIMITS);
        assert!(text.ends_with("| run | ours | 1.5e-6 |\n"), "{text}");
        let header = text.lines().next().unwrap();
        let page = format!("# A\n\n| a |\n|---|\n\nText.\n\n{header}\n|---|\n| old |\n\nEnd.\n");
        let wanted = format!("# A\n\n| a |\n|---|\n\nText.\n\n{text}\nEnd.\n");
        assert_eq!(with_table(&page, &text), Some(wanted));
        assert_eq!(with_table("# A\n\nText.\n", &text), None);
    }
}
