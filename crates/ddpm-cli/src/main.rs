//! The program `ddpm`: trains, samples, and shows schedules and devices.

mod arguments;
mod training;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use arguments::process::{SamplersArgs, ScheduleChoice};
use arguments::{Check, Export, Library, Nll, Sample, Train};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ddpm_cli::config;
use ddpm_cli::interrupt::{Interrupted, Stop};
use ddpm_cli::missing::must_exist;
use ddpm_cli::nll::{self, NllOptions};
use ddpm_cli::sample::{self, Existing, SampleOptions};
use ddpm_cli::terminal::{OutputError, say, show};
use ddpm_cli::{check, forward, samplers, table};
use ddpm_data::Source;
use ddpm_eval::likelihood::{Likelihood, Question};
use ddpm_files::{check_writable, write_file};
use ddpm_kernels::allocator::{Allocator, keep_memory};
use ddpm_schedule::solver::Parameters;
use ddpm_train::device::{Backend, DeviceError};

/// It keeps the tens of megabytes of every activation instead of giving them back to the system,
/// which would fault them in again, page by page, in the next operation.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Denoising diffusion probabilistic models: train one, sample from it.
#[derive(Parser)]
#[command(version, term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network; pictures, metrics and checkpoints go to the run's folder.
    Train(Train),
    /// Verify a run's checkpoints, and say what can be recovered.
    Check(Check),
    /// Draw samples from a run.
    Sample(Sample),
    /// Write a run's network for another library.
    Export(Export),
    /// Measure a run.
    Eval {
        #[command(subcommand)]
        measure: Measure,
    },
    /// Run the forward process on data, and hold its moments against theory.
    Forward(Forward),
    /// Show a noise schedule's numbers.
    Schedule(ScheduleArgs),
    /// Show the samplers: names here and elsewhere, options, cost and noise.
    Samplers(SamplersArgs),
    /// Print a recipe's TOML, which `train --config` takes, or list the recipes.
    Recipe {
        /// The recipe's name.
        name: Option<String>,
    },
    /// List the backends of this build and whether this machine can run them.
    Devices,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ddpm schedule --kind cosine
  ddpm schedule --kind linear --zero-terminal-snr --format svg > linear.svg")]
struct ScheduleArgs {
    #[command(flatten)]
    schedule: ScheduleChoice,
    /// How to show it.
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Subcommand)]
enum Measure {
    /// Bits per dimension: the variational bound, with standard errors.
    Nll(Nll),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ddpm forward                                 # digits become noise
  ddpm forward --kind random-walk --data two-moons
                                               # a walk that never gets there

The chain is run one step at a time. For each t, the table holds the sample
mean and covariance against a_t·μ and a_t²·Σ + b_t²·I, in standard errors.")]
struct Forward {
    #[command(flatten)]
    schedule: ScheduleChoice,
    /// What to start from.
    #[arg(long, default_value = "digits")]
    data: Toy,
    /// Rows, drawn from the data with replacement.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: usize,
    /// Seed of rows and noise.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Where forward.png and moments.svg go.
    #[arg(long, value_name = "DIR", default_value = "forward")]
    out: PathBuf,
    /// flex, ndarray, cuda or vulkan.
    #[arg(long, value_name = "NAME", default_value = "flex")]
    backend: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Toy {
    Digits,
    TwoMoons,
    SwissRoll,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
    Svg,
}

fn main() -> ExitCode {
    let matches = with_negative_numbers(Cli::command()).try_get_matches();
    let outcome = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => run(cli.command),
        Err(refusal) => refuse(&refusal),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(end(&error)),
    }
}

/// The command, with `--guidance -1` as `--guidance=-1`, for every option that takes a value.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let takes_value = arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_value)
    });
    command.mut_subcommands(with_negative_numbers)
}

/// Shows the help or the version that was asked for, or says what is wrong with the arguments.
fn refuse(refusal: &clap::Error) -> Result<()> {
    if refusal.use_stderr() {
        // It is lost if it cannot be written; the exit code is not.
        let _ = refusal.print();
        std::process::exit(refusal.exit_code());
    }
    Ok(show(&refusal.render().to_string())?)
}

/// Says why the program ends, and returns its exit code: 2 if this machine or these arguments cannot
/// do what is asked, 128 and its number after a signal, 1 after any other error.
fn end(error: &anyhow::Error) -> u8 {
    if let Some(OutputError::Closed) = error.downcast_ref() {
        return 0;
    }
    if let Some(stopped) = error.downcast_ref::<Interrupted>() {
        say(format_args!("{stopped}; {error}"));
        return stopped.signal.exit_code();
    }
    say(format_args!("error: {error:#}"));
    if error.is::<DeviceError>() { 2 } else { 1 }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(args) => {
            keep_memory();
            training::train(&args)
        }
        Command::Check(args) => check(&args),
        Command::Sample(args) => sample(args),
        Command::Export(args) => export(&args),
        Command::Eval {
            measure: Measure::Nll(args),
        } => nll(args),
        Command::Forward(args) => forward(&args),
        Command::Schedule(args) => schedule(&args),
        Command::Samplers(args) => show_samplers(args),
        Command::Recipe { name: Some(name) } => Ok(show(config::recipe(&name)?)?),
        Command::Recipe { name: None } => Ok(show(&recipes())?),
        Command::Devices => devices(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ddpm", &mut script);
            Ok(show(&String::from_utf8_lossy(&script))?)
        }
    }
}

fn check(args: &Check) -> Result<()> {
    must_exist("RUN", &args.run)?;
    let report = check::check(&args.run)?;
    if args.hash {
        if !report.is_whole() {
            say(report.to_string().trim_end());
        }
        let (_, manifest) = report.newest().context("no whole checkpoint")?;
        return Ok(show(&(manifest.state_hash() + "\n"))?);
    }
    show(&report.to_string())?;
    ensure!(report.is_whole(), "{} is not whole", args.run.display());
    Ok(())
}

fn sample(args: Sample) -> Result<()> {
    let stop = Stop::on_signals().context("signals")?;
    let existing = match (args.resume, args.overwrite) {
        (true, _) => Existing::Resume,
        (false, true) => Existing::Overwrite,
        (false, false) => Existing::Refuse,
    };
    let out = args.out.clone();
    let drawn = match args.from {
        None => sample::merge(&out, existing, args.raw, &stop),
        Some(from) => {
            if let Some(noise) = &args.init_noise {
                must_exist("--init-noise", noise)?;
            }
            let device = args.backend.parse::<Backend>()?.device()?;
            let options = SampleOptions {
                from,
                ema: args.ema,
                num: args.num,
                shard: args.shard,
                batch_size: args.batch_size,
                sampler: args.sampler,
                parameters: Parameters {
                    eta: args.eta,
                    churn: args.churn,
                    order: args.order,
                    tolerance: args.tolerance,
                },
                grid: args.grid,
                rho: args.rho,
                steps: args.steps,
                epsilon: args.clipped_epsilon.map(Into::into),
                class: args.class,
                guidance: args.guidance,
                seed: args.seed,
                init_noise: args.init_noise,
                precision: args.precision,
                out: args.out,
                existing,
                film: args.film,
                raw: args.raw,
            };
            sample::sample(&options, &device, &stop)
        }
    };
    let count = drawn.map_err(|error| {
        if error.is::<Interrupted>() {
            error.context(format!("go on with: {}", resuming()))
        } else {
            error
        }
    })?;
    say(format_args!("{count} samples in {}", out.display()));
    Ok(())
}

/// The command that was given, with `--resume`.
fn resuming() -> String {
    let given = std::env::args().skip(1);
    let given = given.filter(|arg| !["--resume", "--overwrite"].contains(&arg.as_str()));
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%".contains(c);
    let quoted = given.map(|arg| {
        if !arg.is_empty() && arg.chars().all(plain) {
            arg
        } else {
            format!("'{}'", arg.replace('\'', "'\\''"))
        }
    });
    let words = quoted.chain(["--resume".to_owned()]);
    format!("ddpm {}", words.collect::<Vec<_>>().join(" "))
}

fn export(args: &Export) -> Result<()> {
    must_exist("--from", &args.from)?;
    let device = args.backend.parse::<Backend>()?.device()?;
    match args.format {
        Library::Diffusers => {
            let note = ddpm_cli::export::export(&args.from, &args.to, args.raw_weights, &device)?;
            if let Some(note) = note {
                say(format_args!("note: {note}"));
            }
        }
    }
    say(format_args!("exported to {}", args.to.display()));
    Ok(())
}

fn nll(args: Nll) -> Result<()> {
    if let Some(path) = &args.json {
        check_writable(path).context("--json")?;
    }
    let out = args.out.unwrap_or_default();
    let Some(from) = args.from else {
        return answer(&nll::merge(&out)?, args.json.as_deref());
    };
    must_exist("--from", &from)?;
    let stop = Stop::on_signals().context("signals")?;
    let device = args.backend.parse::<Backend>()?.device()?;
    let options = NllOptions {
        from,
        data: args.data,
        question: Question {
            images: args.num,
            times: args.times,
            flow: args.flow,
            seed: args.seed,
        },
    };
    let kept = |error: anyhow::Error| {
        if error.is::<Interrupted>() {
            error.context("nothing is kept of it; with --shard it is done in parts")
        } else {
            error
        }
    };
    if let Some(shard) = args.shard {
        let path = nll::measure_shard(&options, shard, &out, &device, &stop).map_err(kept)?;
        say(format_args!("{}", path.display()));
        return Ok(());
    }
    let report = nll::measure(&options, &device, &stop).map_err(kept)?;
    answer(&report, args.json.as_deref())
}

/// Writes a report where asked to, and shows it in any case.
fn answer(report: &Likelihood, json: Option<&Path>) -> Result<()> {
    let write = |path: &Path| -> Result<()> {
        let json = serde_json::to_string_pretty(report)? + "\n";
        Ok(write_file(path, json.as_bytes())?)
    };
    let written = json.map_or(Ok(()), write);
    show(&nll::report(report))?;
    written
}

fn show_samplers(args: SamplersArgs) -> Result<()> {
    if args.json {
        show(&(serde_json::to_string_pretty(&samplers::rows())? + "\n"))?;
    } else {
        show(&samplers::table())?;
    }
    Ok(())
}

fn forward(args: &Forward) -> Result<()> {
    let device = args.backend.parse::<Backend>()?.device()?;
    let points = 10_000;
    let source = match args.data {
        Toy::Digits => Source::Digits,
        Toy::TwoMoons => Source::TwoMoons { points, seed: 0 },
        Toy::SwissRoll => Source::SwissRoll { points, seed: 0 },
    };
    let data = ddpm_data::load(&source)?;
    let schedule = args.schedule.schedule()?;
    let table = forward::show(&data, &schedule, args.rows, args.seed, &args.out, &device)?;
    show(&table)?;
    say(format_args!(
        "forward.png and moments.svg in {}",
        args.out.display()
    ));
    Ok(())
}

fn schedule(args: &ScheduleArgs) -> Result<()> {
    let schedule = args.schedule.schedule()?;
    let text = match args.format {
        Format::Table => table::table(&schedule),
        Format::Csv => table::csv(&schedule),
        Format::Json => serde_json::to_string_pretty(&table::rows(&schedule))? + "\n",
        Format::Svg => table::svg(&schedule),
    };
    Ok(show(&text)?)
}

/// One line for each recipe: its name, and the first line of its comment.
fn recipes() -> String {
    let line = |(name, text): (&str, &str)| {
        let about = text.lines().next().unwrap_or_default();
        format!("{name:<14} {}\n", about.trim_start_matches("# "))
    };
    config::RECIPES.map(line).concat()
}

fn devices() -> Result<()> {
    for backend in Backend::ALL {
        let state = match backend.device() {
            Ok(_) => "ready".to_owned(),
            Err(error) => error.to_string(),
        };
        show(&format!("{:<8} {state}\n", backend.name()))?;
    }
    Ok(())
}
