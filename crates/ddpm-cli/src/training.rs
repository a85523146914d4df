//! `ddpm train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use ddpm_cli::config::{self, Config};
use ddpm_cli::fit::{self, Start, Weights};
use ddpm_cli::interrupt::{Interrupted, Stop};
use ddpm_cli::memory::Spread;
use ddpm_cli::missing::must_exist;
use ddpm_cli::place;
use ddpm_cli::plan::Plan;
use ddpm_cli::terminal::say;
use ddpm_data::Dataset;
use ddpm_interop::diffusers::{self, Pretrained};
use ddpm_train::device::Backend;
use ddpm_train::ranks::{OfRank, Ranks, on_devices};

use crate::arguments::Train;

/// The recipe of a run that names none, and the name of its folder.
const DEFAULT: &str = "digits";

/// Trains as the arguments say, on as many ranks as they and `mpirun` say.
pub(crate) fn train(args: &Train) -> Result<()> {
    let ranks = Ranks::join()?;
    let stop = Stop::on_signals().context("signals")?;
    let outcome = prepare(args, &ranks).and_then(|(job, devices, data)| {
        if ranks.size() == 1 {
            let outcome = on_devices(&devices, |ranks, device| {
                job.train(data.clone(), device, &stop, ranks)
            });
            return outcome.map_err(|OfRank { rank, error }| match rank {
                0 => error,
                rank => error.context(format!("rank {rank}")),
            });
        }
        job.train(data.clone(), &devices[0], &stop, &ranks)
    });
    if let Err(error) = &outcome
        && ranks.size() > 1
        && !fit::is_common(error)
    {
        say(format_args!("error: rank {}: {error:#}", ranks.rank()));
        // The other processes would wait for this one for ever.
        ranks.abort(1);
    }
    outcome
}

/// What is to be trained, on which devices of this process, and the data.
fn prepare(args: &Train, ranks: &Ranks) -> Result<(Job, Vec<Device>, Arc<dyn Dataset>)> {
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
    for note in job.notes.iter().filter(|_| ranks.leads()) {
        say(format_args!("note: {note}"));
    }
    let spread = Spread {
        ranks: ranks.size() * devices.len(),
        processes: ranks.local_size(),
        threads: devices.len(),
    };
    let data = fit::load(&job.plan, spread, &devices[0], ranks.leads())?;
    Ok((job, devices, data))
}

/// What is to be trained, where.
struct Job {
    plan: Plan,
    origin: Origin,
    /// What was ignored in the files that the run begins with.
    notes: Vec<String>,
    out: PathBuf,
    /// The command that goes on with it.
    command: String,
}

/// What the run begins with.
enum Origin {
    Nothing,
    Pretrained(Box<Pretrained>),
    Weights(Box<Weights>),
    Checkpoint,
}

impl Job {
    fn new(args: &Train) -> Result<Self> {
        if let Some(folder) = &args.init_from {
            must_exist("--init-from", folder)?;
        }
        let origin = match &args.init_from {
            None if args.resume => Origin::Checkpoint,
            None => Origin::Nothing,
            Some(folder) if place::is_diffusers(folder) => {
                Origin::Pretrained(Box::new(place::unet(folder)?))
            }
            Some(run) => Origin::Weights(Box::new(Weights::of(run)?)),
        };
        let (mut config, file) = configuration(args, &origin)?;
        let out = folder(args, &origin, &config.name);
        let command = command(args, &out);
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
        let mut notes = Vec::new();
        if let Origin::Pretrained(pretrained) = &origin {
            config.model = place::model(&pretrained.config, &config.model);
            notes.extend(pretrained.note.clone());
        }
        let plan = Plan::new(config, &file)?;
        if let (Origin::Pretrained(_), Some(folder)) = (&origin, &args.init_from) {
            notes.extend(diffusers::check_objective(
                folder,
                &plan.settings.objective,
            )?);
        }
        Ok(Self {
            plan,
            origin,
            notes,
            out,
            command,
        })
    }

    /// Trains as one of the ranks.
    fn train(
        &self,
        data: Arc<dyn Dataset>,
        device: &Device,
        stop: &Stop,
        ranks: &Ranks,
    ) -> Result<()> {
        let start = match &self.origin {
            Origin::Nothing => Start::New,
            Origin::Pretrained(pretrained) => Start::Pretrained(pretrained),
            Origin::Weights(weights) => Start::Weights(weights),
            Origin::Checkpoint => Start::Resumed,
        };
        let outcome = fit::train(&self.plan, data, &self.out, &start, device, stop, ranks);
        match outcome {
            // What all of them came to is said once.
            Err(error) if fit::is_common(&error) && !ranks.leads() => Ok(()),
            Err(error) if error.is::<Interrupted>() => {
                Err(error.context(format!("go on with: {}", self.command)))
            }
            outcome => outcome,
        }
    }
}

/// The configuration that the options are applied to, and what errors call it: a file's, a recipe's, or
/// that of the run that is resumed or whose weights are taken.
fn configuration(args: &Train, origin: &Origin) -> Result<(Config, String)> {
    let read = |path: &Path| Ok((Config::read(path)?, path.display().to_string()));
    if let Some(path) = &args.config {
        must_exist("--config", path)?;
        return read(path);
    }
    let recipe = |name: &str| {
        let file = format!("recipe {name}");
        Ok((Config::parse(config::recipe(name)?, &file)?, file))
    };
    match (&args.recipe, origin) {
        (Some(name), _) => recipe(name),
        (None, Origin::Nothing | Origin::Pretrained(_)) => recipe(DEFAULT),
        (None, Origin::Weights(weights)) => {
            Ok((weights.config().clone(), format!("{weights}/config.toml")))
        }
        (None, Origin::Checkpoint) => read(&fit::configuration(&folder(args, origin, DEFAULT))?),
    }
}

/// The run's folder, by default the one of the configuration's name; a resumed run whose configuration
/// is not named is in the folder of the recipe that is not named either.
fn folder(args: &Train, origin: &Origin, name: &str) -> PathBuf {
    let named = args.config.is_some() || args.recipe.is_some();
    let name = match origin {
        Origin::Checkpoint if !named => DEFAULT,
        _ => name,
    };
    let out = args.out.clone();
    out.unwrap_or_else(|| Path::new("runs").join(name))
}

/// The command that goes on with a run.
fn command(args: &Train, out: &Path) -> String {
    let devices = match args.devices.as_slice() {
        [] => String::new(),
        indices => {
            let indices: Vec<_> = indices.iter().map(ToString::to_string).collect();
            format!(" --devices {}", indices.join(","))
        }
    };
    let (out, backend) = (out.display(), &args.backend);
    format!("ddpm train --out {out} --resume --backend {backend}{devices}")
}
