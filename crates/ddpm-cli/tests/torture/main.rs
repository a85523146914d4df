//! Kills runs at random instants and injects faults: `cargo xtask torture`.
//!
//! A run that was killed and resumed must end as the run that was never killed: the same state, the
//! same record except for the clock, the same pictures, the same files. The table of the kills, and
//! of each fault's cost and message, goes to `docs/faults.md`.
//!
//! A plain `cargo test` runs the short form, which takes some seconds: the tests of these files, and
//! two kills of the smallest run.

mod cases;
mod faults;
mod kills;
mod page;
mod program;
mod random;
mod streams;

use anyhow::{Context as _, bail, ensure};
use cases::{Case, cases, write_data};
use faults::Fault;
use kills::Kills;
use lexopt::ValueExt as _;
use program::Program;
use random::Random;
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// Kills of the long form, unless `--kills` gives another number.
const KILLS: usize = 200;

/// The recipe whose small run is the shortest.
const SHORTEST: &str = "swiss-roll";

/// Everything that was found.
struct Findings {
    kills: Vec<Kills>,
    streams: Vec<streams::Row>,
    faults: Vec<Fault>,
    time: Duration,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "--all" => long(rest),
        _ => short(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `--all [--kills N]`: kills, injects faults, prints the tables and writes them to `docs/faults.md`.
fn long(arguments: &[OsString]) -> anyhow::Result<()> {
    let count = kill_count(arguments)?;
    if !cfg!(unix) {
        println!("torture was not run: it sends signals from a Unix shell");
        return Ok(());
    }
    let program = Program::compiled();
    let folder = empty_folder("torture")?;
    let begun = Instant::now();
    write_data(&folder)?;
    let cases = cases(&program, &folder)?;
    let findings = Findings {
        kills: kill_all(&program, &folder, &cases, count)?,
        streams: faults::streams(&program, &folder)?,
        faults: faults::inject(&program, &folder)?,
        time: begun.elapsed(),
    };
    print!("{}", page::tables(&findings));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md");
    fs::write(&path, page::page(&findings)).with_context(|| path.display().to_string())?;
    let wrong = findings.wrong();
    ensure!(
        wrong.is_empty(),
        "promises are broken: {}",
        wrong.join("; ")
    );
    Ok(())
}

/// The short form of a plain `cargo test`, whose arguments are those of other tests too: it is left
/// out if they name other tests or only ask for a list.
fn short(arguments: &[OsString]) -> anyhow::Result<()> {
    let arguments: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
    let mut names = arguments.iter().filter(|a| !a.starts_with('-')).peekable();
    let named = names.peek().is_none() || names.any(|name| "torture".contains(name.as_ref()));
    if !named || arguments.iter().any(|a| a == "--list") {
        return Ok(());
    }
    for (name, test) in TESTS {
        println!("{name}");
        test();
    }
    if cfg!(unix) {
        let program = Program::compiled();
        let folder = empty_folder("torture-short")?;
        write_data(&folder)?;
        let mut cases = cases(&program, &folder)?;
        cases.retain(|case| case.recipe == SHORTEST);
        cases.truncate(1);
        let kills = kill_all(&program, &folder, &cases, 2)?;
        for Kills { differences, .. } in &kills {
            ensure!(differences.is_empty(), "{}", differences.join("; "));
        }
    }
    println!("the other runs, {KILLS} kills and all faults were not tried: cargo xtask torture");
    Ok(())
}

/// The tests of these files; this target has no test harness, which would capture the output.
const TESTS: [(&str, fn()); 12] = [
    ("the number of kills is read", tests::kill_count_is_read),
    ("random numbers are SplitMix64", random::tests::splitmix64),
    ("random numbers stay in their ranges", random::tests::ranges),
    ("the clock is left out of a record", kills::tests::clock),
    (
        "each difference is named",
        kills::tests::differences_are_named,
    ),
    ("only whole checkpoints have a step", kills::tests::steps),
    ("usual lines are skipped", program::tests::usual_lines),
    ("a wrong exit code is shown", streams::tests::exit_codes),
    (
        "the step of a stopped run is read",
        faults::tests::stopped_step,
    ),
    ("the system's refusals are shown", faults::tests::refusals),
    ("damage changes a file", faults::checkpoints::tests::damage),
    ("the page's tables", page::tests::tables),
];

/// An empty folder below cargo's folder for tests.
fn empty_folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

fn kill_count(arguments: &[OsString]) -> anyhow::Result<usize> {
    let mut kills = KILLS;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("kills") => kills = parser.value()?.parse()?,
            lexopt::Arg::Long("help") => bail!("usage: cargo xtask torture [--kills N]"),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(kills)
}

/// Kills `count` processes, divided evenly among the cases.
fn kill_all(
    program: &Program,
    folder: &Path,
    cases: &[Case],
    count: usize,
) -> anyhow::Result<Vec<Kills>> {
    let mut random = Random::new(0);
    let mut found = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let share = count / cases.len() + usize::from(number < count % cases.len());
        let name = format!("{}, {}", case.recipe, case.work);
        eprintln!("{name}: {share} kills");
        let folder = folder.join(format!("kills-{number}"));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let kills = kills::kill(program, &folder, case, share, &mut random);
        found.push(kills.with_context(|| name.clone())?);
    }
    Ok(found)
}

impl Findings {
    /// The broken promises.
    fn wrong(&self) -> Vec<String> {
        let kills = self.kills.iter().flat_map(|kills| {
            let recipe = kills.recipe;
            let differences = kills.differences.iter();
            differences.map(move |difference| format!("{recipe}: {difference}"))
        });
        let faults = self.faults.iter().filter(|fault| fault.broken);
        let streams = self.streams.iter().filter_map(streams::Row::wrong);
        kills
            .chain(streams)
            .chain(faults.map(|fault| format!("{}: {}", fault.what, fault.said)))
            .collect()
    }
}

mod tests {
    use super::{KILLS, OsString, kill_count};

    pub(super) fn kill_count_is_read() {
        let parsed = |line: &str| {
            let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            kill_count(&arguments)
        };
        assert_eq!(parsed("").unwrap(), KILLS);
        assert_eq!(parsed("--kills 16").unwrap(), 16);
        assert!(parsed("--kills many").is_err());
        assert!(parsed("16").is_err());
    }
}
