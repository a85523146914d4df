//! `cargo xtask`: the commands of the project, from training a model to checking a change.
//!
//! It depends on three small crates, never on Burn or on the crates of this workspace, so that
//! it is there seconds after a fresh clone. What needs Burn is spawned through cargo.

mod backend;
mod checks;
mod commands;
mod interop;
mod launch;
mod llvm;
mod mutate;
mod nightly;
mod peers;
mod race;
mod ranks;
mod scale;
mod tidy;
mod torture;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// What `cargo xtask help` prints: one screenful of 80 columns.
const HELP: &str = "\
Usage: cargo xtask COMMAND [ARGUMENTS]

Diffusion models; the arguments are the program's own (try `train --help`):
  train check sample samplers export eval forward schedule devices recipe
      --backend NAME    flex (default) or ndarray on the CPU, cuda, vulkan
  bench [ARGUMENTS]     benchmarks; --backend as above, the rest to Criterion
  race --speed          PyTorch against us: the same network, the same steps
      --network NAME    mnist or cifar10 alone; also --rounds N, --variant NAME
  scale                 what a step and a checkpoint cost, by size and processes
  interop               diffusers and we, by networks and by every scheduler
      --grids RUN       by the samples of one run; --schedulers by these alone
  book                  the derivations, with mdBook, into target/book

Checks:
  test [--only STEP]    everything a change must pass, as CI runs it (alias: ci)
                        steps: fmt tidy package clippy doc fuzz gpu tests mpi
  props [--cases N]     the property tests, with N cases each (default 25600)
  mutate [EQUATION]...  equations made wrong, each to the death of its test
  torture [--kills N]   runs killed and resumed; every fault injected
  tidy                  the house rules that no compiler checks
  package, deny         each crate from its own archive; licenses, advisories
  mpi                   1, 2 and 4 processes train one run, if MPI is installed
  miri                  the kernels' unsafe code under Miri, in plain Rust
  fuzz [TARGET]...      kernels and parsers on any input; --minutes N (or 30)
";

/// A request that cannot be carried out as asked. Its text says why; the exit code is 2.
#[derive(Debug)]
struct Refusal(String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let command = arguments.next().unwrap_or_else(|| "help".into());
    let arguments: Vec<_> = arguments.collect();
    match run(&command.to_string_lossy(), &arguments) {
        Ok(code) => code,
        Err(error) => {
            // These say all in one sentence; other errors are a chain of causes.
            if error.is::<Refusal>() || error.is::<lexopt::Error>() {
                eprintln!("error: {error}");
                ExitCode::from(2)
            } else {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Carries out one command.
fn run(command: &str, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    match command {
        "train" | "check" | "sample" | "export" | "eval" | "forward" | "schedule" | "samplers"
        | "devices" | "recipe" => launch::ddpm(command, arguments),
        "bench" => launch::bench(arguments),
        "race" => race::race(arguments),
        "interop" => interop::interop(arguments),
        "test" | "ci" => checks::test(arguments),
        "props" => commands::props(arguments),
        "tidy" => commands::tidy(arguments),
        "package" => commands::package(arguments),
        "deny" => commands::deny(arguments),
        "book" => commands::book(arguments),
        "mutate" => mutate::mutate(arguments),
        "scale" => scale::scale(arguments),
        "mpi" => ranks::mpi(arguments),
        "torture" => torture::torture(arguments),
        "miri" => nightly::miri(arguments),
        "fuzz" => nightly::fuzz(arguments),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        unknown => Err(Refusal(format!(
            "unknown command `{unknown}`; `cargo xtask help` lists the commands"
        ))
        .into()),
    }
}

/// The workspace's root folder. Asked of cargo at run time, because a target directory shared
/// by two checkouts may hold the program that the other one compiled.
fn root() -> PathBuf {
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or(xtask.clone(), Path::to_path_buf)
}

/// The cargo that runs this program.
fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A command of the cargo that runs this program, in the environment of a shell: with what cargo
/// tells this program about itself, build scripts would run again that ran for a shell.
fn cargo_command() -> Command {
    let mut command = Command::new(cargo());
    for name in told_by_cargo() {
        command.env_remove(name);
    }
    command
}

/// The variables that describe this program's package.
fn told_by_cargo() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal() {
        assert!(HELP.lines().count() <= 24);
        for line in HELP.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn help_lists_the_steps_of_test() {
        let mut lines = HELP.lines();
        let listed = lines.find_map(|line| line.trim_start().strip_prefix("steps: "));
        let names = checks::steps().map(|step| step.name).join(" ");
        assert_eq!(listed, Some(names.as_str()));
    }

    #[test]
    fn help_names_every_backend() {
        let words: Vec<_> = HELP.split(|c: char| !c.is_alphanumeric()).collect();
        for backend in backend::Backend::ALL {
            assert!(words.contains(&backend.name()), "{}", backend.name());
        }
    }

    #[test]
    fn an_unknown_command_is_refused_with_a_hint() {
        let error = run("trian", &[]).unwrap_err();
        assert!(error.is::<Refusal>());
        assert!(error.to_string().contains("`trian`"));
        assert!(error.to_string().contains("cargo xtask help"));
    }
}
