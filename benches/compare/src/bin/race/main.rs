//! `cargo xtask race --speed`: PyTorch and this project take the same steps of the same network.
//!
//! Every measurement is a process of its own, which gives its peak memory and the time to its first
//! step: `benches/examples/step.rs` on our side, `benches/peers/speed.py` on the other. Both take
//! the same arguments and print the same lines, one per step. The sides alternate.

mod load;
mod table;

use anyhow::{Context as _, bail};
use ddpm_compare::{build, number, peers};
use lexopt::ValueExt as _;
use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    num::NonZeroU32,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};
use table::{Contest, PRODUCT, Run};
use xtask::{Refusal, report, root, target};

/// Threads on both sides.
const THREADS: &str = "2";

/// The networks that both sides have, each with its training batch.
const NETWORKS: [(&str, u32); 2] = [("mnist", 64), ("cifar10", 16)];

/// The ways to run PyTorch. The last two run only when they are named: compiling takes minutes, and
/// bf16 is another precision, in which both sides race separately.
const VARIANTS: [&str; 4] = ["eager", "channels_last", "compile", BF16];
const USUAL_VARIANTS: usize = 2;

const BF16: &str = "bf16";

/// Steps at the start of a process that are not timed: they map memory and start threads.
const WARM_UP: usize = 2;

/// Training steps that are timed.
const TRAINING_STEPS: usize = 3;

/// Rows of the square matrices whose product is the yardstick, and how many products are timed.
const PRODUCT_SIZE: u32 = 2048;
const PRODUCTS: usize = 10;

/// (batch size, how many of DDIM's 50 steps are timed).
const SAMPLING: [(u32, usize); 3] = [(1, 48), (16, 24), (64, 6)];

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Request {
    networks: Vec<(&'static str, u32)>,
    variants: Vec<&'static str>,
    rounds: u32,
}

/// Both sides' programs, and the folder for the files that they exchange.
struct Programs {
    step: PathBuf,
    python: PathBuf,
    folder: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    report(race(&arguments))
}

/// `race --speed [--network NAME] [--rounds N] [--variant NAME]…`
fn race(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let request = parse(arguments)?;
    let programs = Programs {
        python: peers::install("no race")?,
        step: build("ddpm-benches", &["--example", "step"], "examples/step")?,
        folder: target().join("race"),
    };
    let mut contests = Vec::new();
    for &(network, batch) in &request.networks {
        let gflop = programs.agree(network, batch)?;
        contests.extend(programs.contests(&request, network, batch, gflop)?);
    }
    print!("{}", table::text(&contests));
    let path = programs.folder.join("speed.json");
    fs::write(&path, table::json(&contests, THREADS))
        .with_context(|| path.display().to_string())?;
    println!("also in {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn parse(arguments: &[OsString]) -> anyhow::Result<Request> {
    let (mut speed, mut rounds) = (false, NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN));
    let (mut networks, mut variants) = (Vec::new(), Vec::new());
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("speed") => speed = true,
            lexopt::Arg::Long("rounds") => rounds = parser.value()?.parse()?,
            lexopt::Arg::Long("network") => {
                let name = parser.value()?.string()?;
                let names = NETWORKS.map(|(name, _)| name);
                networks.push(NETWORKS[known("network", &name, &names)?]);
            }
            lexopt::Arg::Long("variant") => {
                let name = parser.value()?.string()?;
                variants.push(VARIANTS[known("variant", &name, &VARIANTS)?]);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if !speed {
        return Err(Refusal("which race? `race --speed` is the only one".into()).into());
    }
    if networks.is_empty() {
        networks.extend(NETWORKS);
    }
    if variants.is_empty() {
        variants.extend(&VARIANTS[..USUAL_VARIANTS]);
    }
    Ok(Request {
        networks,
        variants,
        rounds: rounds.get(),
    })
}

/// The index of `name` among the known names.
fn known(what: &str, name: &str, names: &[&str]) -> Result<usize, Refusal> {
    let place = names.iter().position(|known| *known == name);
    place.ok_or_else(|| {
        let names = names.join(", ");
        Refusal(format!("unknown {what} `{name}`; known: {names}"))
    })
}

impl Programs {
    /// Our side, in a precision.
    fn ours_in(&self, precision: &str, network: &str) -> Command {
        let mut command = self.ours(network);
        command.arg(precision);
        command
    }

    fn ours(&self, network: &str) -> Command {
        let mut command = Command::new(&self.step);
        command.arg(self.folder.join(network)).arg(network);
        command.env("RAYON_NUM_THREADS", THREADS);
        command
    }

    fn theirs(&self, network: &str, variant: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(root().join("benches/peers/speed.py"));
        command.arg(self.folder.join(network)).arg(network);
        command.arg(variant).env("OMP_NUM_THREADS", THREADS);
        command
    }

    /// Compares the outputs of both sides for the same weights. Returns the billions of operations
    /// per image of a training step and of a sampling step, as PyTorch counts them.
    fn agree(&self, network: &str, batch: u32) -> anyhow::Result<[f64; 2]> {
        eprintln!("{network}: the same weights, the same outputs?");
        let size = batch.to_string();
        let write = self.ours(network).args(["write", &size]).status();
        if !write.context("cannot start our side")?.success() {
            bail!("{network}: our side failed, see above");
        }
        let mut check = self.theirs(network, VARIANTS[0]);
        check.args(["check", &size]).stderr(Stdio::inherit());
        let check = check.output().context("cannot start PyTorch")?;
        let lines = String::from_utf8_lossy(&check.stdout);
        eprint!("{lines}");
        if !check.status.success() {
            bail!("{network}: PyTorch does not agree with us, see above");
        }
        let counted = |key| lines.lines().find_map(|line| number(line, key));
        (counted("gflop_train").zip(counted("gflop_sample")))
            .map(|(train, sample)| [train, sample])
            .with_context(|| format!("{network}: PyTorch did not count its operations"))
    }

    /// Times every case of a network; the sides alternate.
    fn contests(
        &self,
        request: &Request,
        network: &'static str,
        batch: u32,
        [train, sample]: [f64; 2],
    ) -> anyhow::Result<Vec<Contest>> {
        let n = f64::from(PRODUCT_SIZE);
        let product = (PRODUCT, PRODUCT_SIZE, PRODUCTS, 2.0 * n.powi(3) / 1e9);
        let training = ("train", batch, TRAINING_STEPS, train * f64::from(batch));
        let sampling =
            SAMPLING.map(|(batch, steps)| ("sample", batch, steps, sample * f64::from(batch)));
        let steps = [training].into_iter().chain(sampling);
        let (bf16, f32): (Vec<_>, Vec<_>) = (request.variants.iter()).partition(|&&v| v == BF16);
        let cases = [("f32", product, f32.clone())].into_iter();
        let cases = cases.chain(steps.clone().map(|case| ("f32", case, f32.clone())));
        let cases = cases.chain(steps.map(|case| (BF16, case, bf16.clone())));
        let mut contests = Vec::new();
        for (precision, (case, batch, steps, gflop), variants) in cases {
            // The product is timed even without PyTorch: the other cases are compared with it.
            if variants.is_empty() && case != PRODUCT {
                continue;
            }
            let sides = ["ours"].into_iter().chain(variants);
            let mut runs: Vec<_> = sides.map(|side| (side, Vec::new())).collect();
            for round in 1..=request.rounds {
                for (side, runs) in &mut runs {
                    let rounds = request.rounds;
                    eprintln!(
                        "{network}: {case} {batch} in {precision}, round {round} of {rounds}, {side}"
                    );
                    let command = match *side {
                        "ours" => self.ours_in(precision, network),
                        variant => self.theirs(network, variant),
                    };
                    runs.push(measure(command, case, batch, steps)?);
                }
            }
            contests.push(Contest {
                network,
                case,
                precision,
                batch,
                gflop,
                runs,
            });
        }
        Ok(contests)
    }
}

/// Runs one side for `WARM_UP` + `steps` steps, of which the last `steps` are timed.
fn measure(mut command: Command, case: &str, batch: u32, steps: usize) -> anyhow::Result<Run> {
    let total = (WARM_UP + steps).to_string();
    command.args([case, &batch.to_string(), &total]);
    let (watch, start) = (load::Watch::start(), Instant::now());
    let mut child = command.stdout(Stdio::piped()).spawn();
    let child = child.as_mut().map_err(|error| anyhow::anyhow!("{error}"));
    let child = child.with_context(|| format!("cannot start {command:?}"))?;
    let (mut lines, mut first_step) = (Vec::new(), None);
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            lines.push(line?);
            first_step.get_or_insert_with(|| start.elapsed().as_secs_f64());
        }
    }
    let status = child.wait()?;
    let others = watch.stop();
    let counted = lines.get(WARM_UP..).unwrap_or_default();
    match (first_step, lines.last()) {
        (Some(first_step_s), Some(last)) if status.success() && counted.len() == steps => Ok(Run {
            ms: mean(counted).context("a step without milliseconds")?,
            peak_mib: number(last, "peak_mib"),
            first_step_s,
            others,
        }),
        _ => bail!(
            "{command:?} made {} of {total} steps ({status})",
            lines.len()
        ),
    }
}

/// The mean of the steps' milliseconds; `None` if a line has none.
fn mean(lines: &[String]) -> Option<f64> {
    let ms: Option<Vec<f64>> = lines.iter().map(|line| number(line, "ms")).collect();
    ms.map(|ms| ms.iter().sum::<f64>() / lines.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> anyhow::Result<Request> {
        let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        parse(&arguments)
    }

    #[test]
    fn a_bare_race_is_of_every_network_in_three_rounds() {
        let request = parsed("--speed").unwrap();
        assert_eq!(request.networks, NETWORKS);
        assert_eq!(request.variants, ["eager", "channels_last"]);
        assert_eq!(request.rounds, 3);
    }

    #[test]
    fn what_is_named_is_raced() {
        let line = "--speed --network cifar10 --rounds 1 --variant bf16 --variant eager";
        let request = parsed(line).unwrap();
        assert_eq!(request.networks, [("cifar10", 16)]);
        assert_eq!(request.variants, ["bf16", "eager"]);
        assert_eq!(request.rounds, 1);
    }

    #[test]
    fn what_cannot_be_raced_is_refused() {
        for (line, reason) in [
            ("", "race --speed"),
            (
                "--speed --network mnits",
                "unknown network `mnits`; known: mnist, cifar10",
            ),
            ("--speed --variant jit", "known: eager, channels_last"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.is::<Refusal>());
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(parsed("--speed --rounds 0").is_err());
    }

    #[test]
    fn the_mean_is_of_all_steps() {
        let line = "{\"step\": 3, \"ms\": 12.5, \"peak_mib\": 100.5}";
        let lines = [line.to_owned(), "{\"ms\": 13.5}".to_owned()];
        assert_eq!(mean(&lines), Some(13.0));
    }
}
