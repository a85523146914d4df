//! `cargo xtask test`: every check a change must pass, as people and CI both run it.

use anyhow::{Context as _, anyhow, bail};
use lexopt::ValueExt as _;
use std::{
    ffi::OsString,
    fmt::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};
use xtask::{Refusal, WORKSPACE, cargo, root};

/// Packages the published crates as they are in the working tree.
pub(crate) const PACKAGE: &str = "package --workspace --exclude xtask --exclude ddpm-benches \
     --exclude ddpm-compare --allow-dirty";

/// One check: one or more cargo commands.
pub(crate) struct Step {
    /// Its name in `--only`.
    pub(crate) name: &'static str,
    /// Cargo's arguments for each command, separated by spaces; no argument contains a space.
    commands: Vec<String>,
    /// An environment variable for cargo.
    variable: Option<(&'static str, String)>,
}

/// Every check, the cheapest first. Only the last two generate machine code for Burn.
pub(crate) fn steps() -> [Step; 9] {
    [
        Step::new("fmt", "fmt --all --check").then("fmt --manifest-path checks/Cargo.toml --check"),
        // The rules are a workspace of their own.
        Step::new("tidy", "xtask tidy")
            .then("clippy --locked --manifest-path checks/Cargo.toml --all-targets -- -Dwarnings")
            .then("test --locked --manifest-path checks/Cargo.toml"),
        Step::new("package", format!("{PACKAGE} --no-verify")),
        Step::new(
            "clippy",
            format!("clippy {WORKSPACE} --all-targets -- -D warnings"),
        ),
        Step::new("doc", format!("doc {WORKSPACE} --no-deps")).with("RUSTDOCFLAGS", "-D warnings"),
        // A workspace of its own, and the only build without a backend.
        Step::new(
            "fuzz",
            "check --locked --manifest-path fuzz/Cargo.toml --all-targets",
        ),
        // With DOCS_RS the CUDA feature does not need LLVM, which is a download: nothing is linked.
        Step::new(
            "gpu",
            "clippy -p ddpm-cli --features cuda,vulkan -- -D warnings",
        )
        .with("DOCS_RS", "1"),
        Step::new("tests", format!("test {WORKSPACE}")),
        Step::new("mpi", "xtask mpi"),
    ]
}

impl Step {
    pub(crate) fn new(name: &'static str, arguments: impl Into<String>) -> Self {
        Self {
            name,
            commands: vec![arguments.into()],
            variable: None,
        }
    }

    /// The same step with another command after its own.
    fn then(mut self, arguments: impl Into<String>) -> Self {
        self.commands.push(arguments.into());
        self
    }

    /// The same step with an environment variable for cargo.
    pub(crate) fn with(self, variable: &'static str, value: impl Into<String>) -> Self {
        Self {
            variable: Some((variable, value.into())),
            ..self
        }
    }

    /// A command as a person would type it.
    fn command_line(&self, arguments: &str) -> String {
        match &self.variable {
            Some((name, value)) => format!("{name}='{value}' cargo {arguments}"),
            None => format!("cargo {arguments}"),
        }
    }

    /// Runs the step's commands, each below a heading.
    ///
    /// # Errors
    /// A command failed; it has printed the reason.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        for arguments in &self.commands {
            println!("▶ {}: {}", self.name, self.command_line(arguments));
            let mut command = cargo();
            command.args(arguments.split_whitespace());
            command.envs(self.variable.iter().map(|(name, value)| (name, value)));
            let status = command.current_dir(root()).status();
            if !status.context("cannot start cargo")?.success() {
                bail!("{} failed, see above", self.name);
            }
        }
        Ok(())
    }
}

/// Runs all steps, or those of `--only STEP`, up to the first that fails, and prints a table of
/// the seconds that each took.
pub(crate) fn test(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let chosen = choose(arguments)?;
    let mut times = Vec::new();
    let mut outcome = Ok(ExitCode::SUCCESS);
    for step in &chosen {
        let start = Instant::now();
        let result = step.run();
        let time = start.elapsed();
        println!("  {} took {}\n", step.name, seconds(time));
        times.push((step.name, time));
        if let Err(error) = result {
            let again = format!("to repeat it alone: cargo xtask test --only {}", step.name);
            outcome = Err(anyhow!("{error:#} ({again})"));
            break;
        }
    }
    print!("{}", table(&times, chosen.len()));
    if times.iter().any(|(name, _)| *name == "tests") {
        for set in missing_instructions() {
            println!("not run: the kernels' {set}, which this processor lacks");
        }
    }
    outcome
}

/// The instruction sets that `ddpm-kernels` has code for and this processor lacks.
fn missing_instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let sets = [
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
        (
            "AVX512-BF16",
            std::arch::is_x86_feature_detected!("avx512bf16"),
        ),
        ("NEON", false),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let sets = [
        ("AVX2", false),
        ("AVX-512", false),
        ("AVX512-BF16", false),
        ("NEON", cfg!(target_arch = "aarch64")),
    ];
    let missing = sets.into_iter().filter(|(_, is_there)| !is_there);
    missing.map(|(name, _)| name).collect()
}

/// The steps that `--only` names, in the order of [`steps`]; without `--only` all steps.
fn choose(arguments: &[OsString]) -> anyhow::Result<Vec<Step>> {
    let mut only = Vec::new();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("only") => only.push(parser.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if let Some(unknown) = only
        .iter()
        .find(|name| steps().iter().all(|step| step.name != **name))
    {
        let known = steps().map(|step| step.name).join(", ");
        return Err(Refusal(format!("unknown step `{unknown}`; known: {known}")).into());
    }
    Ok(steps()
        .into_iter()
        .filter(|step| only.is_empty() || only.iter().any(|name| name == step.name))
        .collect())
}

/// A table of the steps that ran and their times; `planned` is the number of chosen steps.
fn table(times: &[(&str, Duration)], planned: usize) -> String {
    let mut text = String::new();
    let total = times.iter().map(|(_, time)| *time).sum();
    let label = format!("{} of {planned} steps", times.len());
    for (name, time) in times.iter().copied().chain([(label.as_str(), total)]) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<14} {:>10}", seconds(time));
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> anyhow::Result<Vec<&'static str>> {
        let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        Ok(choose(&arguments)?.iter().map(|step| step.name).collect())
    }

    #[test]
    fn only_selects_and_its_absence_selects_all() {
        assert_eq!(names("").unwrap(), steps().map(|step| step.name));
        assert_eq!(names("--only tests --only fmt").unwrap(), ["fmt", "tests"]);
    }

    #[test]
    fn an_unknown_step_is_refused_with_the_known_ones() {
        let error = names("--only clipy").unwrap_err();
        assert!(error.is::<Refusal>());
        assert!(error.to_string().contains("`clipy`; known: fmt, tidy"));
        assert!(names("clippy").unwrap_err().is::<lexopt::Error>());
    }

    #[test]
    fn a_step_shows_what_a_person_would_type() {
        let step = Step::new("doc", "doc --no-deps");
        assert_eq!(step.command_line(&step.commands[0]), "cargo doc --no-deps");
        let step = step.with("RUSTDOCFLAGS", "-D warnings");
        let expected = "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps";
        assert_eq!(step.command_line(&step.commands[0]), expected);
    }

    #[test]
    fn the_table_adds_up() {
        let times = [
            ("fmt", Duration::from_millis(400)),
            ("tidy", Duration::from_millis(1300)),
        ];
        let text = table(&times, 8);
        assert_eq!(
            text,
            "fmt                 0.4 s\n\
             tidy                1.3 s\n\
             2 of 8 steps        1.7 s\n"
        );
    }
}
