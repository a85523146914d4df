//! `ddpm train`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use ddpm_train::config::{self, Config};
use ddpm_train::data::Dataset;
use ddpm_train::device::Backend;
use ddpm_train::diffusers::{self, Pretrained};
use ddpm_train::fit::{self, Start};
use ddpm_train::interrupt::{Interrupted, Stop};
use ddpm_train::plan::Plan;
use ddpm_train::ranks::{Ranks, on_devices};
use ddpm_train::terminal::say;

use crate::arguments::Train;

/// Trains as the arguments say, on as many ranks as they and `mpirun` say.
pub(crate) fn train(args: Train) -> Result<()> {
    let ranks = Ranks::join()?;
    let stop = Stop::on_signals().context("signals")?;
    let (job, devices, data) = ending(&ranks, prepare(args, &ranks))?;
    if ranks.size() == 1 {
        return on_devices(&devices, |ranks, device| {
            job.train(data.clone(), device, &stop, ranks)
        });
    }
    job.train(data, &devices[0], &stop, &ranks)
}

/// What is to be trained, on which devices of this process, and the data.
fn prepare(args: Train, ranks: &Ranks) -> Result<(Job, Vec<Device>, Arc<Dataset>)> {
    let backend = args.backend.parse::<Backend>()?;
    let devices = match args.devices.as_slice() {
        [] => vec![backend.device_at(ranks.local_rank())?],
        indices => backend.devices_at(indices)?,
    };
    ensure!(
        ranks.size() == 1 || devices.len() == 1,
        "--devices: of several processes each has one device"
    );
    let job = Job::new(args)?;
    // Threads share the memory of their process, so that its rows are those of all of them.
    let data = fit::load(&job.plan, ranks.size(), &devices[0])?;
    Ok((job, devices, data))
}

/// Ends the other ranks if this one has an error.
fn ending<T>(ranks: &Ranks, outcome: Result<T>) -> Result<T> {
    if let Err(error) = &outcome
        && ranks.size() > 1
    {
        say(format_args!("error: rank {}: {error:#}", ranks.rank()));
        ranks.abort(1);
    }
    outcome
}

/// What is to be trained, where.
struct Job {
    plan: Plan,
    pretrained: Option<Pretrained>,
    resume: bool,
    out: PathBuf,
    /// The command that goes on with it.
    command: String,
}

impl Job {
    fn new(args: Train) -> Result<Self> {
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
        if let Some(path) = &args.data {
            config.set_data(path, &file, || {
                let path = path.display();
                format!("for a folder of images: --recipe images --data {path}")
            })?;
        }
        config.steps = args.steps.unwrap_or(config.steps);
        config.batch_size = args.batch_size.unwrap_or(config.batch_size);
        config.seed = args.seed.unwrap_or(config.seed);
        config.precision = args.precision.unwrap_or(config.precision);
        config.checkpoint.every = args.checkpoint_every.unwrap_or(config.checkpoint.every);
        let pretrained = args.init_from.as_deref().map(diffusers::unet).transpose()?;
        if let Some(pretrained) = &pretrained {
            config.model = pretrained.model(&config.model);
        }
        let out = args
            .out
            .unwrap_or_else(|| PathBuf::from("runs").join(&config.name));
        let plan = Plan::new(config, &file)?;
        if let Some(folder) = &args.init_from {
            diffusers::check_objective(folder, &plan.objective)?;
        }
        let devices = match args.devices.as_slice() {
            [] => String::new(),
            indices => {
                let indices: Vec<_> = indices.iter().map(ToString::to_string).collect();
                format!(" --devices {}", indices.join(","))
            }
        };
        let command = format!(
            "ddpm train --out {} --resume --backend {}{devices}",
            out.display(),
            args.backend
        );
        Ok(Self {
            plan,
            pretrained,
            resume: args.resume,
            out,
            command,
        })
    }

    /// Trains as one of the ranks.
    fn train(&self, data: Arc<Dataset>, device: &Device, stop: &Stop, ranks: &Ranks) -> Result<()> {
        let start = match &self.pretrained {
            Some(pretrained) => Start::From(pretrained),
            None if self.resume => Start::Resumed,
            None => Start::New,
        };
        let outcome = fit::train(&self.plan, data, &self.out, &start, device, stop, ranks);
        match outcome {
            // What all of them came to is said once.
            Err(error) if fit::is_common(&error) && !ranks.leads() => Ok(()),
            Err(error) if error.is::<Interrupted>() => {
                Err(error.context(format!("go on with: {}", self.command)))
            }
            Err(error) if fit::is_common(&error) => Err(error),
            outcome => ending(ranks, outcome),
        }
    }
}
