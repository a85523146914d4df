//! The beginning of a run in its folder: anew, with given weights, or where it was cut off.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ddpm_files::write_file;
use ddpm_model::Network;
use ddpm_train::{TrainError, checkpoint};

use super::identity::{FREE, differences};
use super::run::Run;
use super::start::Start;
use crate::config::Config;
use crate::terminal;

impl<const D: usize, M: Network<D>> Run<'_, D, M> {
    /// The run in its folder, which from here on holds a run.
    pub(super) fn begin(mut self, start: &Start) -> Result<Self> {
        match start {
            Start::New => {}
            Start::Resumed => self = self.resume()?,
            Start::Pretrained(_) => self.save_first()?,
            Start::Weights(weights) => {
                self.say(weights.story(self.plan, &**self.trainer.data())?);
                self.save_first()?;
            }
        }
        self.agree()?;
        if self.plan.config.sampling.every > 0 {
            let (sampling, steps) = (&self.plan.sampling, self.plan.sampling.levels.len());
            let evaluations = sampling.evaluations().unwrap_or_default();
            let name = sampling.sampler.name();
            self.say(format!(
                "pictures by {name}, {steps} steps, {evaluations} network evaluations a sample"
            ));
        }
        if self.ranks.leads() {
            let path = self.out.join("config.toml");
            write_file(&path, self.config.as_bytes())?;
            if !self.trainer.data().class_names().is_empty() {
                let names = self.trainer.data().class_names().join("\n") + "\n";
                write_file(&self.out.join("classes.txt"), names.as_bytes())?;
            }
            // What an earlier life came to is no longer so.
            let _ = std::fs::remove_file(self.out.join("diverged.json"));
        }
        Ok(self)
    }

    /// That all ranks begin with the same.
    fn agree(&self) -> Result<()> {
        self.ranks.agree("configuration", &self.config)?;
        Ok(self.trainer.agree()?)
    }

    /// Saves the weights that the run begins with: where they came from, a resumed run would not know.
    fn save_first(&mut self) -> Result<()> {
        if self.ranks.leads() {
            self.copy()?.write(&self.out.join("checkpoints"))?;
            self.saved = Some(0);
        }
        Ok(())
    }

    /// Says something once for all ranks.
    fn say(&self, text: String) {
        if self.ranks.leads() {
            terminal::say(text);
        }
    }

    /// The run as its newest whole checkpoint has it, or as it is if there never was one.
    fn resume(mut self) -> Result<Self> {
        let (found, skipped) = checkpoint::newest_whole(&self.out)?;
        for error in &skipped {
            self.say(format!("skipped: {error}"));
        }
        let Some(path) = found else {
            self.check_identity(&self.out)?;
            self.say("no checkpoint was made yet: from the beginning".to_owned());
            return Ok(self);
        };
        self.check_identity(&path)?;
        self.trainer = match self.trainer.resume(&path) {
            Ok(trainer) => trainer,
            Err(TrainError::Differs { key, .. }) if key == "data" => bail!(
                "the data is not what {} was trained on: resumed, it would be another run",
                path.display()
            ),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let (step, steps, path) = (self.trainer.step(), self.plan.config.steps, path.display());
        self.saved = Some(step);
        let left = if step < steps {
            ""
        } else {
            "; no step is left, and --steps asks for more"
        };
        self.say(format!("goes on from step {step} of {steps}, {path}{left}"));
        Ok(self)
    }

    /// That the configuration in `folder`, the run's or its newest checkpoint's, is that of the run.
    fn check_identity(&self, folder: &Path) -> Result<()> {
        let file = folder.join("config.toml");
        let begun = Config::read(&file)?;
        let differences = differences(&begun, &self.plan.config, &FREE)?;
        let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
        ensure!(
            differences.is_empty(),
            "resumed, it would be another run than {}: {}; leave these as they were, or begin another \
             run with --init-from {} and another --out",
            file.display(),
            differences.join("; "),
            self.out.display()
        );
        Ok(())
    }
}
