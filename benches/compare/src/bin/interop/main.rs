//! `cargo xtask interop`: compares networks and schedulers with diffusers.
//!
//! For each case `benches/peers/interop.py` makes a network with random weights.
//! `benches/examples/interop.rs` computes with that network and writes one of its own, and the Python
//! program compares the results. Then both sample with each scheduler of diffusers. With
//! `--grids RUN` both sample a trained run instead and put their pictures side by side.

use anyhow::{Context as _, bail};
use ddpm_compare::{build, emptied, number, peers, text};
use std::{
    env,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs, iter,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};
use xtask::{Refusal, cargo, report, root, target};

/// The largest difference allowed for each quantity, and whether it is relative to the largest
/// value. The networks' pixels are in [−1, 1], where one level of 8 bits is 2/255.
const LIMITS: [(&str, f64, bool); 5] = [
    ("forward", 1e-4, true),
    ("gradient", 1e-3, true),
    ("DDIM-50", 2.0 / 255.0, false),
    ("DDPM-50", 2.0 / 255.0, false),
    ("DPM++-20", 2.0 / 255.0, false),
];

/// The same for a run's pictures, whose pixels are in [0, 1].
const GRID_LIMITS: [(&str, f64, bool); 2] = [
    ("DDPM-100", 1.0 / 255.0, false),
    ("DDIM-50", 1.0 / 255.0, false),
];

/// The largest difference allowed after the loop of a scheduler, as a share of the images' range. It
/// is below one level of 8 bits, and below the difference between any two solvers of the table.
const SCHEDULER_LIMIT: f64 = 5e-4;

/// The page with the tables.
const PAGE: &str = "docs/interop.md";

/// One comparison of a quantity.
#[derive(Debug, PartialEq)]
struct Line {
    case: String,
    weights: String,
    quantity: String,
    absolute: f64,
    relative: f64,
}

/// One comparison of the loop of a scheduler.
#[derive(Debug, PartialEq)]
struct Followed {
    /// The class, a space, and the keys that differ from its defaults.
    name: String,
    /// How often diffusers evaluates the network, and how often this project does.
    evaluations: [u32; 2],
    /// The largest absolute value of a pixel.
    largest: f64,
    /// The largest difference of a pixel, as a share of the images' range.
    difference: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    report(interop(&arguments))
}

/// Compares every case and every scheduler, with `--schedulers` only the schedulers, or with
/// `--grids RUN` the samples of a run. Writes the tables to `docs/interop.md`.
fn interop(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let (mut run, mut cases) = (None, true);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("grids") => run = Some(PathBuf::from(parser.value()?)),
            lexopt::Arg::Long("schedulers") => cases = false,
            other => return Err(other.unexpected().into()),
        }
    }
    let sides = Sides::prepare()?;
    let mut wrong = Vec::new();
    if run.is_none() {
        let loops = sides.schedulers()?;
        put(&scheduler_table(&loops))?;
        wrong.extend(loops.iter().filter_map(astray));
    }
    if run.is_some() || cases {
        let (lines, limits) = match run {
            Some(run) => (sides.grids(&run)?, &GRID_LIMITS[..]),
            None => (sides.cases()?, &LIMITS[..]),
        };
        put(&table(&lines, limits))?;
        wrong.extend(lines.iter().filter_map(|line| excess(line, limits)));
    }
    if wrong.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("not the same: {}", wrong.join("; "));
}

/// Prints a table and writes it to its place on the page.
fn put(table: &str) -> anyhow::Result<()> {
    print!("{table}");
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| PAGE)?;
    let page = with_table(&page, table).with_context(|| format!("{PAGE}: no such table"))?;
    fs::write(&path, page).with_context(|| PAGE)
}

/// The two programs, and a folder for the files that they exchange.
struct Sides {
    python: PathBuf,
    ours: PathBuf,
    folder: PathBuf,
}

impl Sides {
    fn prepare() -> anyhow::Result<Self> {
        let python = peers::install("no comparison")?;
        let ours = build(
            "ddpm-benches",
            &["--example", "interop"],
            "examples/interop",
        )?;
        let folder = target().join("interop");
        emptied(&folder)?;
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

    /// Compares every configuration, with random weights.
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

    /// Compares every scheduler that this project reads, with one network.
    fn schedulers(&self) -> anyhow::Result<Vec<Followed>> {
        let folder = self.folder.join("schedulers");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        output(self.theirs().arg("schedulers").arg(&folder))?;
        output(self.ours().arg("sample").arg(&folder))?;
        let compared = output(self.theirs().arg("follow").arg(&folder))?;
        let line = |line| followed(line).with_context(|| format!("a scheduler: {line}"));
        let loops: Vec<_> = compared.lines().map(line).collect::<Result<_, _>>()?;
        let classes = output(self.ours().arg("classes"))?;
        let has = |class: &str| {
            loops
                .iter()
                .any(|of| of.name.split(' ').next() == Some(class))
        };
        let missing: Vec<_> = classes.lines().filter(|class| !has(class)).collect();
        if missing.is_empty() {
            return Ok(loops);
        }
        bail!("interop.py has no loop of {}", missing.join(", "));
    }

    /// Exports a run, and compares the samples of diffusers' pipelines with ours for the same noise.
    fn grids(&self, run: &Path) -> anyhow::Result<Vec<Line>> {
        let (folder, theirs) = (&self.folder, self.folder.join("theirs"));
        let mut export = cargo();
        export.args(["run", "--release", "--quiet", "--package", "ddpm-cli"]);
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

/// What a program writes to standard output.
///
/// # Errors
/// It cannot be started, or it fails.
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

fn followed(line: &str) -> Option<Followed> {
    let count = |key| format!("{}", number(line, key)?).parse().ok();
    Some(Followed {
        name: text(line, "loop")?.to_owned(),
        evaluations: [count("evaluations")?, count("ours")?],
        largest: number(line, "largest")?,
        difference: number(line, "relative")?,
    })
}

/// The message for a loop whose difference is over the limit; NaN is over every limit.
fn astray(of: &Followed) -> Option<String> {
    let Followed {
        name, difference, ..
    } = of;
    let within = *difference <= SCHEDULER_LIMIT;
    (!within).then(|| format!("{name}: {difference:e} is over {SCHEDULER_LIMIT:e}"))
}

/// A table with one row per loop.
fn scheduler_table(loops: &[Followed]) -> String {
    let mut text = String::from(
        "| class | keys | evaluations | largest pixel | difference / range | ≤ 5e-4 |\n\
         |---|---|--:|--:|--:|---|\n",
    );
    for of in loops {
        let (class, keys) = of.name.split_once(' ').unwrap_or((&of.name, ""));
        let evaluations = match of.evaluations {
            [theirs, ours] if theirs == ours => theirs.to_string(),
            [theirs, ours] => format!("{theirs}, here {ours}"),
        };
        let verdict = if astray(of).is_none() { "yes" } else { "no" };
        let (largest, difference) = (of.largest, of.difference);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{class}` | {keys} | {evaluations} | {largest:.3} | {difference:.1e} | {verdict} |"
        );
    }
    text
}

/// The message for a difference over its limit; NaN is over every limit.
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

/// A table with one row per case and direction, and one column per quantity.
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

/// The page in which this table replaces the one with the same columns.
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

    const LOOP: &str = "{\"loop\": \"LCMScheduler a: b, c: 3\", \"evaluations\": 20, \"ours\": 20, \
        \"largest\": 3.75, \"relative\": 4e-07}";

    #[test]
    fn a_loop_is_a_row() {
        let of = followed(LOOP).unwrap();
        assert_eq!(of.evaluations, [20, 20]);
        assert_eq!(astray(&of), None);
        let fewer = Followed {
            name: "PNDMScheduler".to_owned(),
            evaluations: [29, 28],
            difference: f64::NAN,
            ..followed(LOOP).unwrap()
        };
        assert!(astray(&fewer).is_some());
        let text = scheduler_table(&[of, fewer]);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `LCMScheduler` | a: b, c: 3 | 20 | 3.750 | 4.0e-7 | yes |",
                "| `PNDMScheduler` |  | 29, here 28 | 3.750 | NaN | no |",
            ]
        );
        assert_eq!(followed(OUTPUT), None);
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
