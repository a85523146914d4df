//! `cargo xtask mutate`: makes each equation wrong and runs the tests, of which some must fail.
//!
//! The changes are the rows of the table of mutations. Each is made alone, in a copy of the workspace
//! with a target directory of its own, so that cargo compiles only what depends on the changed file.
//! The test that the book names for the equation must fail; other tests that fail are noted too.

mod copy;

use anyhow::{Context as _, bail};
use copy::Copy;
use ddpm_checks::{
    equations,
    mutations::{self, Mutation},
};
use lexopt::ValueExt as _;
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};
use xtask::{Refusal, WORKSPACE, cargo, report, root, target};

/// Makes the property tests repeatable, and does not simplify their counterexamples.
const PROPTEST: [(&str, &str); 3] = [
    ("PROPTEST_RNG_SEED", "0"),
    ("PROPTEST_MAX_SHRINK_ITERS", "0"),
    ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1"),
];

/// The tests that a change is tried on: those of one test binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Suite<'a> {
    /// The folder of its package in `crates`.
    package: &'a str,
    /// Cargo's option for the binary.
    target: &'static str,
}

impl<'a> Suite<'a> {
    /// The binary with a test of `equations.md`, which is `crates/PACKAGE/…/FILE.rs::TEST`.
    fn of(test: &'a str) -> Option<Self> {
        let (package, inside) = test.strip_prefix("crates/")?.split_once('/')?;
        let target = if inside.starts_with("tests/") {
            "--test=it"
        } else {
            "--lib"
        };
        Some(Self { package, target })
    }
}

/// A change, and the test that must fail.
struct Trial<'a> {
    mutation: Mutation<'a>,
    suite: Suite<'a>,
    /// The name of the test.
    test: &'a str,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    report(mutate(&arguments))
}

/// `mutate [EQUATION…]`: tries the changes of the equations named, or all, and writes the tests that
/// failed into the table.
fn mutate(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let root = root();
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    let equations = read(&format!("{}/{}", equations::CHAPTERS, equations::TABLE))?;
    let table = read(mutations::FILE)?;
    let mut trials = choose(arguments, &table, &equations)?;
    // Trials of one suite follow each other, so that it is linked for them only.
    trials.sort_by_key(|trial| trial.suite);

    let mut laboratory = Laboratory::new(&root, &target().join("mutate"))?;
    let survivors = laboratory.try_all(&trials, &root.join(mutations::FILE), table.clone())?;
    if !survivors.is_empty() {
        bail!(
            "{} of {} equations can be changed without their test failing: {}",
            survivors.len(),
            trials.len(),
            survivors.join(", ")
        );
    }
    println!("tried: {}, survivors: none", trials.len());
    Ok(ExitCode::SUCCESS)
}

/// The trials of the equations that the arguments name, or of all.
fn choose<'a>(
    arguments: &[OsString],
    table: &'a str,
    equations: &'a str,
) -> anyhow::Result<Vec<Trial<'a>>> {
    let mut named = Vec::new();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Value(name) => named.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let mut trials = Vec::new();
    for (line, mutation) in mutations::rows(table) {
        let mutation = mutation
            .with_context(|| format!("{}:{line}: {}", mutations::FILE, mutations::SHAPE))?;
        let test = equations::rows(equations)
            .filter_map(|(_, row)| row)
            .find(|row| row.name == mutation.equation)
            .and_then(|row| Some((Suite::of(row.test)?, row.test.rsplit_once("::")?.1)));
        let Some((suite, test)) = test else {
            let equation = mutation.equation;
            bail!(
                "{}:{line}: `{equation}` has no test in the book",
                mutations::FILE
            );
        };
        trials.push(Trial {
            mutation,
            suite,
            test,
        });
    }
    let known = |name: &String| trials.iter().any(|trial| trial.mutation.equation == name);
    if let Some(unknown) = named.iter().find(|name| !known(name)) {
        let file = mutations::FILE;
        return Err(Refusal(format!("`{unknown}` has no row in {file}")).into());
    }
    trials.retain(|trial| {
        named.is_empty() || named.iter().any(|name| name == trial.mutation.equation)
    });
    Ok(trials)
}

/// The copy of the workspace, and its target directory.
struct Laboratory<'a> {
    copy: Copy,
    target: PathBuf,
    /// The suites that pass without a change.
    sound: Vec<Suite<'a>>,
}

impl<'a> Laboratory<'a> {
    fn new(root: &Path, folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            copy: Copy::of(root, folder.join("workspace"))?,
            target: folder.join("target"),
            sound: Vec::new(),
        })
    }

    /// Tries the changes one after the other. After each, writes `table` with the tests that failed to
    /// `path`. Returns the equations whose own test did not fail.
    fn try_all(
        &mut self,
        trials: &[Trial<'a>],
        path: &Path,
        mut table: String,
    ) -> anyhow::Result<Vec<&'a str>> {
        let mut survivors = Vec::new();
        for trial in trials {
            let (equation, test) = (trial.mutation.equation, trial.test);
            let start = Instant::now();
            let failed = self
                .failures_of(trial)
                .with_context(|| equation.to_owned())?;
            let killed = failed.iter().any(|name| name == test);
            let cell = if killed {
                mutations::cell(test, &failed)
            } else {
                survivors.push(equation);
                String::new()
            };
            let outcome = if killed { "fails" } else { "PASSES" };
            let others = failed.len() - usize::from(killed);
            let seconds = start.elapsed().as_secs_f64();
            println!("{equation}: {test} {outcome}, others that fail: {others} ({seconds:.0} s)");
            // Written after each trial, so that an interruption loses nothing.
            table = mutations::with_failed(&table, equation, &cell);
            fs::write(path, &table).with_context(|| path.display().to_string())?;
        }
        Ok(survivors)
    }

    /// The names of the tests that fail with the change and pass without it.
    fn failures_of(&mut self, trial: &Trial<'a>) -> anyhow::Result<Vec<String>> {
        let suite = trial.suite;
        if !self.sound.contains(&suite) {
            self.copy.write(suite.package, None)?;
            let failing = self.failing(suite)?;
            if !failing.is_empty() {
                bail!(
                    "fails without any change: {} of {}",
                    failing.join(", "),
                    suite.package
                );
            }
            self.sound.push(suite);
        }
        self.copy.write(suite.package, Some(&trial.mutation))?;
        self.failing(suite)
    }

    /// The names of the copy's tests that fail.
    fn failing(&self, suite: Suite<'_>) -> anyhow::Result<Vec<String>> {
        let mut build = self.cargo(suite);
        let built = build
            .arg("--no-run")
            .output()
            .context("cannot start cargo")?;
        if !built.status.success() {
            eprint!("{}", String::from_utf8_lossy(&built.stderr));
            bail!("the copy does not compile, see above");
        }
        let mut run = self.cargo(suite);
        let output = run
            .stderr(Stdio::null())
            .output()
            .context("cannot start cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let failing = failures(&text);
        if failing.is_empty() != output.status.success() {
            print!("{text}");
            bail!("the tests did not finish, see above");
        }
        Ok(failing)
    }

    /// The command that compiles and runs a suite. Packages and features are the same for every
    /// suite, so that Burn is compiled once. The copy contains the tests of one package only.
    fn cargo(&self, suite: Suite<'_>) -> Command {
        let mut command = cargo();
        command
            .arg("test")
            .args(WORKSPACE.split_whitespace())
            .arg(suite.target)
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(self.copy.folder())
            .envs(PROPTEST);
        command
    }
}

/// The names of the tests that failed, without their modules, from the output of a test binary.
fn failures(output: &str) -> Vec<String> {
    let failed = output.lines().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        // A test that must panic is printed as `name - should panic`.
        let path = name.split(' ').next()?;
        Some(path.rsplit("::").next()?.to_owned())
    });
    // The order in which tests end changes from run to run.
    let mut failed: Vec<_> = failed.collect();
    failed.sort();
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    const EQUATIONS: &str = "| equation | function | test |\n|---|---|---|\n\
        | [sum](a.md#eq-sum) | `a::b` | `crates/sums/tests/it/x.rs::adds` |\n\
        | [product](a.md#eq-product) | `a::c` | `crates/products/src/x.rs::times` |\n";

    const TABLE: &str = "| equation | file | changed | failed |\n|---|---|---|---|\n\
        | sum | `crates/sums/src/x.rs` | `+` → `-` | |\n\
        | product | `crates/products/src/x.rs` | `*` → `/` | |\n";

    fn chosen(line: &str) -> anyhow::Result<Vec<&'static str>> {
        let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        let trials = choose(&arguments, TABLE, EQUATIONS)?;
        Ok(trials.iter().map(|trial| trial.mutation.equation).collect())
    }

    #[test]
    fn equations_are_chosen_by_name() {
        assert_eq!(chosen("").unwrap(), ["sum", "product"]);
        assert_eq!(chosen("product").unwrap(), ["product"]);
        let error = chosen("sum quotient").unwrap_err();
        assert!(error.is::<Refusal>() && error.to_string().contains("`quotient`"));
        assert!(chosen("--all").unwrap_err().is::<lexopt::Error>());
    }

    #[test]
    fn a_change_is_tried_on_the_suite_of_its_test() {
        let trials = choose(&[], TABLE, EQUATIONS).unwrap();
        let found: Vec<_> = trials
            .iter()
            .map(|trial| (trial.suite.package, trial.suite.target, trial.test))
            .collect();
        let expected = [
            ("sums", "--test=it", "adds"),
            ("products", "--lib", "times"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_row_without_a_test_is_an_error() {
        let lonely = TABLE.replace("| sum |", "| difference |");
        let error = choose(&[], &lonely, EQUATIONS).err().unwrap();
        assert!(error.to_string().contains("`difference`"));
        assert!(choose(&[], &TABLE.replace('→', "to"), EQUATIONS).is_err());
    }

    #[test]
    fn failures_are_read_from_the_output() {
        let output = "running 4 tests\ntest laws::a ... ok\ntest laws::d ... FAILED\n\
                      test a::c - should panic ... FAILED\ntest e ... ignored\n\
                      \nfailures:\n    laws::d\n";
        assert_eq!(failures(output), ["c", "d"]);
    }
}
