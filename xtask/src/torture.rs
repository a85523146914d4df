//! `cargo xtask torture`: runs killed at random instants, and every fault that can be injected.
//!
//! A run that was killed and resumed must end as the run that was never killed: the same state, the
//! same record but for the clock, the same picture, the same files. What each fault costs and what
//! is said of it goes to `docs/faults.md`.

mod cases;
mod faults;
mod kills;
mod page;
mod program;
mod random;
mod streams;

use crate::root;
use anyhow::{Context as _, bail};
use lexopt::ValueExt as _;
use std::{
    env,
    ffi::OsString,
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

pub(crate) use cases::{changed, write_data, write_idx};
use faults::Fault;
use kills::Kills;
use program::Program;
pub(crate) use random::Random;

/// Everything that was found.
struct Findings {
    kills: Vec<Kills>,
    streams: Vec<streams::Row>,
    faults: Vec<Fault>,
    time: Duration,
}

/// `torture [--kills N]`: kills, injects, prints the tables and writes them to `docs/faults.md`.
pub(crate) fn torture(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let kills = parse(arguments)?;
    if !cfg!(unix) {
        println!("torture was not run: it takes signals, and a shell to send them with");
        return Ok(ExitCode::SUCCESS);
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let program = Program::build(&target)?;
    let folder = target.join("torture");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder)?;
    let begun = Instant::now();
    let findings = Findings {
        kills: kill_all(&program, &folder, kills)?,
        streams: faults::streams(&program, &folder)?,
        faults: faults::inject(&program, &folder)?,
        time: begun.elapsed(),
    };
    print!("{}", page::tables(&findings));
    let path = root().join("docs/faults.md");
    fs::write(&path, page::page(&findings)).with_context(|| path.display().to_string())?;
    let wrong = findings.wrong();
    if wrong.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("not as promised: {}", wrong.join("; "));
}

fn parse(arguments: &[OsString]) -> Result<usize, lexopt::Error> {
    let mut kills = 200;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("kills") => kills = parser.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    Ok(kills)
}

/// So many kills all in all, spread evenly over the cases.
fn kill_all(program: &Program, folder: &Path, kills: usize) -> anyhow::Result<Vec<Kills>> {
    cases::write_data(folder)?;
    let mut random = Random::new(0);
    let cases = cases::cases(program, folder)?;
    let count = cases.len();
    let mut found = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let share = kills / count + usize::from(number < kills % count);
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
    /// What is not as it is promised.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_kills_unless_told_otherwise() {
        let parsed = |line: &str| {
            let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            parse(&arguments)
        };
        assert_eq!(parsed("").unwrap(), 200);
        assert_eq!(parsed("--kills 16").unwrap(), 16);
        assert!(parsed("--kills many").is_err());
        assert!(parsed("16").is_err());
    }
}
