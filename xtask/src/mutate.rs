//! `cargo xtask mutate`: each equation made wrong by hand, and the tests that notice.
//!
//! The changes are the rows of [`table`]. They are made one at a time in a copy of the workspace,
//! with a target directory of its own, so that only what depends on the changed file is compiled
//! again. Of an equation the test that the book names for it must die; what else dies is told too.

mod copy;
pub(crate) mod table;

use crate::{Refusal, cargo_command, checks::WORKSPACE, root, tidy::equations};
use anyhow::{Context as _, bail};
use copy::Copy;
use lexopt::ValueExt as _;
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};
use table::Mutation;

/// What makes two runs of the property tests alike, and short: the counterexample is not wanted.
const PROPTEST: [(&str, &str); 3] = [
    ("PROPTEST_RNG_SEED", "0"),
    ("PROPTEST_MAX_SHRINK_ITERS", "0"),
    ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1"),
];

/// The tests that one change is tried on: those of one test binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Suite<'a> {
    /// The folder of its crate in `crates`.
    package: &'a str,
    /// Cargo's option for the binary.
    target: &'static str,
}

impl<'a> Suite<'a> {
    /// The binary that holds a test of `equations.md`, `crates/PACKAGE/…/FILE.rs::TEST`.
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

/// A change and where it must be noticed.
struct Trial<'a> {
    mutation: Mutation<'a>,
    suite: Suite<'a>,
    /// The name of the test that must die.
    test: &'a str,
}

/// `mutate [EQUATION…]`: tries the changes of the equations named, or all, and notes in the table
/// which tests died.
pub(crate) fn mutate(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let root = root();
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    let equations = read(&format!("{}/{}", equations::CHAPTERS, equations::TABLE))?;
    let table = read(table::FILE)?;
    let mut trials = choose(arguments, &table, &equations)?;
    // Neighbours share a test binary, and what it links with.
    trials.sort_by_key(|trial| trial.suite);

    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut laboratory = Laboratory::new(&root, &target.join("mutate"))?;
    let survivors = laboratory.try_all(&trials, &root.join(table::FILE), table.clone())?;
    if !survivors.is_empty() {
        bail!(
            "{} of {} equations can be changed unnoticed: {}",
            survivors.len(),
            trials.len(),
            survivors.join(", ")
        );
    }
    println!("tried: {}, survivors: none", trials.len());
    Ok(ExitCode::SUCCESS)
}

/// The rows of the equations named in the arguments, or all of them.
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
    for (line, mutation) in table::rows(table) {
        let mutation =
            mutation.with_context(|| format!("{}:{line}: {}", table::FILE, table::SHAPE))?;
        let test = equations::rows(equations)
            .filter_map(|(_, row)| row)
            .find(|row| row.name == mutation.equation)
            .and_then(|row| Some((Suite::of(row.test)?, row.test.rsplit_once("::")?.1)));
        let Some((suite, test)) = test else {
            let equation = mutation.equation;
            bail!(
                "{}:{line}: `{equation}` has no test in the book",
                table::FILE
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
        let file = table::FILE;
        return Err(Refusal(format!("`{unknown}` has no row in {file}")).into());
    }
    trials.retain(|trial| {
        named.is_empty() || named.iter().any(|name| name == trial.mutation.equation)
    });
    Ok(trials)
}

/// The copy, and where it is compiled.
struct Laboratory<'a> {
    copy: Copy,
    target: PathBuf,
    /// The tests that are known to pass as long as nothing is changed.
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

    /// Tries the changes one after the other and notes in the table at `path`, which holds `table`,
    /// what died of each; returns the equations whose own test did not.
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
            let died = self.kill(trial).with_context(|| equation.to_owned())?;
            let noticed = died.iter().any(|name| name == test);
            let cell = if noticed {
                table::cell(test, &died)
            } else {
                survivors.push(equation);
                String::new()
            };
            let (outcome, others) = if noticed {
                ("dies", died.len() - 1)
            } else {
                ("LIVES", died.len())
            };
            let seconds = start.elapsed().as_secs_f64();
            println!("{equation}: {test} {outcome}, others that die: {others} ({seconds:.0} s)");
            // Written each time, lest an interruption cost what is known.
            table = table::with_died(&table, equation, &cell);
            fs::write(path, &table).with_context(|| path.display().to_string())?;
        }
        Ok(survivors)
    }

    /// The names of the tests that die of the change, which passed without it.
    fn kill(&mut self, trial: &Trial<'a>) -> anyhow::Result<Vec<String>> {
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

    /// The names of the tests of the copy that fail.
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
            bail!("the tests came to no end, see above");
        }
        Ok(failing)
    }

    /// The command that compiles and runs a suite. Of the same packages and features whatever the
    /// suite, so that Burn is compiled once; that the copy has no other tests of that target
    /// leaves the rest of the workspace alone.
    fn cargo(&self, suite: Suite<'_>) -> Command {
        let mut command = cargo_command();
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

/// The tests that failed by the output of a test binary, their modules left out.
fn failures(output: &str) -> Vec<String> {
    let failed = output.lines().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        // `name - should panic` is what a test that must panic is called.
        let path = name.split(' ').next()?;
        Some(path.rsplit("::").next()?.to_owned())
    });
    // They end in the order of their threads, which is another each time.
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

    const TABLE: &str = "| equation | file | changed | died |\n|---|---|---|---|\n\
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
    fn a_change_is_tried_where_the_book_has_its_test() {
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
    fn failures_are_read_from_a_test_binarys_output() {
        let output = "running 4 tests\ntest laws::a ... ok\ntest laws::d ... FAILED\n\
                      test a::c - should panic ... FAILED\ntest e ... ignored\n\
                      \nfailures:\n    laws::d\n";
        assert_eq!(failures(output), ["c", "d"]);
    }
}
