//! The program `ddpm`: trains, samples, and shows schedules and devices.

mod arguments;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use arguments::{Export, Library, Sample, Train};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use ddpm_kernels::allocator::{Allocator, keep_memory};
use ddpm_schedule::NoiseSchedule;
use ddpm_train::config::{self, Config, Schedule, ScheduleKind};
use ddpm_train::data::Source;
use ddpm_train::device::{Backend, DeviceError};
use ddpm_train::evaluate::{self, Question};
use ddpm_train::fit::{self, Start};
use ddpm_train::generate::{Examination, Order, examine, generate};
use ddpm_train::plan::{self, Plan};
use ddpm_train::{checkpoint, data, diffusers, forward, table};

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
    /// Print a recipe's TOML, which `train --config` takes.
    Recipe {
        /// digits, fashion-mnist, cifar10 or swiss-roll.
        name: String,
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
  ddpm eval nll --from runs/digits
  ddpm eval nll --from runs/digits --times 20 --flow 50 --json nll.json

With --flow, the density along the probability-flow ODE stands beside the
bound: Heun's method, the trace by one random probe an image.")]
struct Nll {
    /// A run's folder, or one of its checkpoints.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data [default: what the run was trained on].
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Images, the first of the data.
    #[arg(long, value_name = "N", default_value_t = 64)]
    num: usize,
    /// Times drawn for each image [default: all].
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    times: Option<u32>,
    /// Also the probability flow, in so many steps.
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..))]
    flow: Option<u32>,
    /// Seed of noise, times and probes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also write everything, each t's term too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// flex, ndarray, cuda or vulkan.
    #[arg(long, value_name = "NAME", default_value = "flex")]
    backend: String,
}

#[derive(clap::Args)]
struct ScheduleChoice {
    /// The family.
    #[arg(long, default_value = "linear")]
    kind: ScheduleKind,
    /// T.
    #[arg(long, value_name = "T", default_value_t = 1000)]
    timesteps: u32,
    /// β₁ of linear and scaled-linear [default: 1e-4].
    #[arg(long, value_name = "X")]
    beta_start: Option<f64>,
    /// β_T of linear and scaled-linear [default: 0.02].
    #[arg(long, value_name = "X")]
    beta_end: Option<f64>,
    /// Standard deviation of a step of random-walk [default: 1/√T].
    #[arg(long, value_name = "X")]
    sigma: Option<f64>,
    /// Rescale the schedule to end at zero SNR (Lin et al. 2023).
    #[arg(long)]
    zero_terminal_snr: bool,
}

impl ScheduleChoice {
    fn schedule(&self) -> Result<NoiseSchedule> {
        let schedule = plan::schedule(&Schedule {
            kind: self.kind,
            timesteps: self.timesteps,
            beta_start: self.beta_start,
            beta_end: self.beta_end,
            sigma: self.sigma,
            zero_terminal_snr: self.zero_terminal_snr,
        });
        schedule.map_err(anyhow::Error::msg).context("schedule")
    }
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
    keep_memory();
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            // 2 says: not on this machine, or not so asked. 1 says: it went wrong.
            ExitCode::from(if error.is::<DeviceError>() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(args) => train(args),
        Command::Sample(args) => sample(args),
        Command::Export(args) => export(&args),
        Command::Eval {
            measure: Measure::Nll(args),
        } => nll(args),
        Command::Forward(args) => forward(&args),
        Command::Schedule(args) => schedule(&args),
        Command::Recipe { name } => {
            print(config::recipe(&name)?);
            Ok(())
        }
        Command::Devices => {
            devices();
            Ok(())
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "ddpm", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn train(args: Train) -> Result<()> {
    let device = args.backend.parse::<Backend>()?.device()?;
    let resumed = args
        .out
        .as_ref()
        .filter(|_| args.resume && args.recipe.is_none());
    let (mut config, file) = match (&args.config, resumed) {
        (Some(path), _) => (Config::read(path)?, path.display().to_string()),
        // A resumed run is by default the run that was begun.
        (None, Some(out)) => {
            let path = out.join("config.toml");
            (Config::read(&path)?, path.display().to_string())
        }
        (None, None) => {
            let name = args.recipe.as_deref().unwrap_or("digits");
            let file = format!("recipe {name}");
            (Config::parse(config::recipe(name)?, &file)?, file)
        }
    };
    if let Some(path) = args.data {
        config.data.path = Some(path);
    }
    config.steps = args.steps.unwrap_or(config.steps);
    config.batch_size = args.batch_size.unwrap_or(config.batch_size);
    config.seed = args.seed.unwrap_or(config.seed);
    config.checkpoint.every = args.checkpoint_every.unwrap_or(config.checkpoint.every);
    let pretrained = match &args.init_from {
        Some(folder) => Some(diffusers::unet(folder)?),
        None => None,
    };
    let start = match &pretrained {
        Some(pretrained) => {
            config.model = pretrained.model(&config.model);
            Start::From(pretrained)
        }
        None if args.resume => Start::Resumed,
        None => Start::New,
    };
    let out = args
        .out
        .unwrap_or_else(|| PathBuf::from("runs").join(&config.name));
    let plan = Plan::new(config, &file)?;
    if let Some(folder) = &args.init_from {
        diffusers::check_objective(folder, &plan.objective)?;
    }
    fit::train(&plan, &out, &start, &device)
}

fn sample(args: Sample) -> Result<()> {
    let device = args.backend.parse::<Backend>()?.device()?;
    let order = Order {
        from: args.from,
        num: args.num,
        sampler: args.sampler,
        steps: args.steps,
        eta: args.eta,
        class: args.class,
        guidance: args.guidance,
        seed: args.seed,
        init_noise: args.init_noise,
        out: args.out,
        film: args.film,
        raw: args.raw,
    };
    generate(&order, &device)?;
    eprintln!("{} samples in {}", order.num, order.out.display());
    Ok(())
}

fn export(args: &Export) -> Result<()> {
    let device = args.backend.parse::<Backend>()?.device()?;
    match args.format {
        Library::Diffusers => {
            diffusers::export(&args.from, &args.to, args.raw_weights, &device)?;
        }
    }
    eprintln!("exported to {}", args.to.display());
    Ok(())
}

fn nll(args: Nll) -> Result<()> {
    let device = args.backend.parse::<Backend>()?.device()?;
    let examination = Examination {
        from: args.from,
        data: args.data,
        question: Question {
            images: args.num,
            times: args.times,
            flow: args.flow,
            seed: args.seed,
        },
    };
    let report = examine(&examination, &device)?;
    print(&evaluate::table(&report));
    if let Some(path) = args.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        checkpoint::write_file(&path, json.as_bytes())?;
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
    let data = data::load(&source)?;
    let schedule = args.schedule.schedule()?;
    let table = forward::show(&data, &schedule, args.rows, args.seed, &args.out, &device)?;
    print(&table);
    eprintln!("forward.png and moments.svg in {}", args.out.display());
    Ok(())
}

fn schedule(args: &ScheduleArgs) -> Result<()> {
    let schedule = args.schedule.schedule()?;
    match args.format {
        Format::Table => print(&table::table(&schedule)),
        Format::Csv => print(&table::csv(&schedule)),
        Format::Json => print(&(serde_json::to_string_pretty(&table::rows(&schedule))? + "\n")),
        Format::Svg => print(&table::svg(&schedule)),
    }
    Ok(())
}

fn devices() {
    for backend in Backend::ALL {
        let state = match backend.device() {
            Ok(_) => "ready".to_owned(),
            Err(error) => error.to_string(),
        };
        print(&format!("{:<8} {state}\n", backend.name()));
    }
}

/// Writes to standard output; a reader that has gone away, such as `head`, is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
