//! `cargo xtask`: the commands of the project, from training a model to checking a change.
//!
//! It only starts cargo. It depends on two small crates and on none of this workspace, so that it
//! is compiled in seconds after a fresh clone.

mod backend;
mod checks;
mod commands;
mod launch;
mod llvm;
mod nightly;
mod programs;

use std::{env, ffi::OsString, process::ExitCode};
use xtask::{Refusal, report};

/// What `cargo xtask help` prints: one screenful of 80 columns.
const HELP: &str = "\
Usage: cargo xtask COMMAND [ARGUMENTS]

Diffusion models; the program `ddpm` reads the arguments (try `train --help`):
  train check sample samplers export eval forward schedule devices recipe
      --backend NAME    flex (default) or ndarray on the CPU, cuda, vulkan
  bench [ARGUMENTS]     benchmarks; --backend as above, the rest to Criterion
  race --speed          times PyTorch and this project on the same steps
      --network NAME    only mnist or cifar10; also --rounds N, --variant NAME
  scale                 measures what training steps and checkpoints cost
  interop               compares networks and schedulers with diffusers
      --schedulers      only the schedulers; --grids RUN the samples of a run
  book                  renders the derivations with mdBook into target/book

Checks:
  test [--only STEP]    all checks that a change must pass, as in CI (alias: ci)
                        steps: fmt tidy package clippy doc fuzz gpu tests mpi
  props [--cases N]     property tests with N cases each (default 25600)
  mutate [EQUATION]...  makes equations wrong; the test of each must fail
  torture [--kills N]   kills and resumes runs (default 200), injects faults
  tidy                  the house rules that no compiler checks
  package, deny         builds crates from their archives; licenses, advisories
  mpi                   trains one run with 1, 2 and 4 processes, if MPI exists
  miri                  runs the kernels' unsafe code under Miri
  fuzz [TARGET]...      feeds kernels and parsers; --minutes N (default 30)
";

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let command = arguments.next().unwrap_or_else(|| "help".into());
    let arguments: Vec<_> = arguments.collect();
    report(run(&command.to_string_lossy(), &arguments))
}

/// Carries out one command.
fn run(command: &str, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    match command {
        "train" | "check" | "sample" | "export" | "eval" | "forward" | "schedule" | "samplers"
        | "devices" | "recipe" => launch::ddpm(command, arguments),
        "bench" => launch::bench(arguments),
        "race" | "scale" | "interop" => programs::run("benches/compare", command, arguments),
        "tidy" | "mutate" => programs::run("checks", command, arguments),
        "test" | "ci" => checks::test(arguments),
        "props" => commands::props(arguments),
        "package" => commands::package(arguments),
        "deny" => commands::deny(arguments),
        "book" => commands::book(arguments),
        "mpi" => commands::mpi(arguments),
        "torture" => commands::torture(arguments),
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
