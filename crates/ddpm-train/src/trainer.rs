//! The trainer: an iterator over the steps of a run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use ddpm_data::{Batch, Dataset, Loader};
use ddpm_model::Network;

use crate::batch_loss::BatchLoss;
use crate::checkpoint::{self, Snapshot};
use crate::diverged::{Diverged, Row, first_bad};
use crate::ema::Ema;
use crate::error::TrainError;
use crate::level_draws::LevelDraws;
use crate::metrics::Metrics;
use crate::optim::{self, Optimizer, Step, clip};
use crate::params::{self, Named, Shapes};
use crate::ranks::Ranks;
use crate::settings::Settings;

/// Trains a network on a data set, one step per item.
///
/// It owns the weights, their average, the optimizer and the loader. It has no opinion on folders,
/// progress bars or signals: whoever drives the iterator keeps [snapshots](Self::snapshot) and stops
/// when it likes. Everything random is a function of the seed and of a row's position in the run, so
/// a [resumed](Self::resume) run takes exactly the steps that it would have taken.
///
/// A parameter that does not require gradients ([`no_grad`](burn::module::Module::no_grad) on a part of the
/// network) is frozen: it stays as it is.
///
/// The iterator ends after the last step of the settings, and after an error.
pub struct Trainer<const D: usize, M> {
    settings: Settings,
    data: Arc<dyn Dataset>,
    fingerprint: String,
    /// The weights; absent only while a step updates them in place.
    network: Option<M>,
    /// The averages, in the order of the settings' decays.
    averages: Vec<Ema>,
    optimizer: Box<dyn Optimizer>,
    /// The parameters that are trained.
    trained: Shapes,
    levels: LevelDraws,
    loader: Loader,
    device: Device,
    ranks: Ranks,
    /// The rows of each batch that are this rank's.
    share: Range<usize>,
    step: u64,
    before: Instant,
    has_failed: bool,
}

impl<const D: usize, M: Network<D>> Trainer<D, M> {
    /// A trainer before its first step, on `device`.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range, the data does not fit the settings or the rank of the
    /// network's input, all parameters are frozen, or the network takes other conditions than the
    /// settings give.
    pub fn new(
        network: M,
        data: Arc<dyn Dataset>,
        settings: Settings,
        device: &Device,
    ) -> Result<Self, TrainError> {
        Self::with_ranks(network, data, settings, device, &Ranks::default())
    }

    /// One of the trainers that train a run together, each with the same network, data and settings.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if the batch cannot be divided among the ranks.
    pub fn with_ranks(
        network: M,
        data: Arc<dyn Dataset>,
        settings: Settings,
        device: &Device,
        ranks: &Ranks,
    ) -> Result<Self, TrainError> {
        settings.check()?;
        if data.shape().len() + 1 != D {
            return Err(TrainError::Rank {
                expected: D - 1,
                found: data.shape().to_vec(),
            });
        }
        if let Some(classes) = settings.classes
            && data.classes() != Some(classes.count)
        {
            return Err(TrainError::Classes {
                expected: classes.count,
                found: data.classes(),
            });
        }
        network.takes().admits(&settings.gives())?;
        if settings.learned_variance && settings.objective.schedule().is_none() {
            return Err(TrainError::NoTimesteps);
        }
        let share = ranks.share(settings.batch_size, settings.accumulate)?;
        let network = network.fork(&device.clone().autodiff()).train();
        let trained = params::trained(&network);
        if trained.is_empty() {
            return Err(TrainError::AllFrozen);
        }
        let process = settings.objective.process();
        let average = |&decay: &f64| Ema::new(&network, decay);
        Ok(Self {
            averages: settings.ema.iter().map(average).collect(),
            optimizer: settings.optimizer.clone(),
            trained,
            levels: LevelDraws::new(settings.levels.clone(), process, settings.seed),
            loader: loader(&data, &settings, share.clone(), 0)?,
            fingerprint: data.fingerprint(),
            network: Some(network),
            data,
            settings,
            device: device.clone(),
            ranks: ranks.clone(),
            share,
            step: 0,
            before: Instant::now(),
            has_failed: false,
        })
    }

    /// The run as a checkpoint has it.
    ///
    /// # Errors
    ///
    /// If the checkpoint cannot be read, or is of another network, of other data, of other settings
    /// or of other frozen parameters; the error names the first that differs.
    pub fn resume(mut self, checkpoint: &Path) -> Result<Self, TrainError> {
        let (data, settings) = checkpoint::identity(checkpoint)?;
        let differs = |key: &str, there: &str, here: &str| TrainError::Differs {
            key: key.to_owned(),
            there: there.to_owned(),
            here: here.to_owned(),
        };
        if data != self.fingerprint {
            return Err(differs("data", &data, &self.fingerprint));
        }
        let here = self.identity();
        for (key, there) in &settings {
            let here = here.get(key).map_or("absent", String::as_str);
            if there != here {
                return Err(differs(key, there, here));
            }
        }
        let optimizer = self.settings.optimizer.clone();
        let decays = &self.settings.ema.clone();
        let network = self.take_network();
        let snapshot = checkpoint::load(checkpoint, network, optimizer, decays, &self.device)?;
        let averages = snapshot.averages.iter();
        self.averages = averages
            .map(|(decay, module)| Ema::new(module, *decay))
            .collect();
        self.network = Some(snapshot.model);
        self.optimizer = snapshot.optimizer;
        self.levels.restore(snapshot.losses)?;
        self.step = snapshot.step;
        self.loader = loader(&self.data, &self.settings, self.share.clone(), self.step)?;
        Ok(self)
    }

    /// What a checkpoint holds.
    pub fn snapshot(&self) -> Snapshot<M> {
        Snapshot {
            step: self.step,
            shape: self.data.shape().to_vec(),
            data: self.fingerprint.clone(),
            class_names: self.data.class_names().to_vec(),
            settings: self.identity(),
            model: self.network().clone(),
            averages: self.averages(),
            optimizer: self.optimizer.clone(),
            losses: self.levels.losses().map(<[f64]>::to_vec).collect(),
        }
    }

    /// The network being trained.
    // It is absent only while a step updates it, when nobody else can call this.
    #[allow(clippy::missing_panics_doc)]
    pub fn network(&self) -> &M {
        let present = "the weights are absent only within a step";
        self.network.as_ref().expect(present)
    }

    /// The network with the averaged weights, outside autodiff: the one to sample from. Of several
    /// averages it is the first of the settings.
    pub fn average(&self) -> M {
        self.averages[0].module(self.network())
    }

    /// All averages with their decays, in the order of the settings.
    pub fn averages(&self) -> Vec<(f64, M)> {
        let averages = self.averages.iter();
        averages
            .map(|ema| (ema.decay, ema.module(self.network())))
            .collect()
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The data.
    pub fn data(&self) -> &Arc<dyn Dataset> {
        &self.data
    }

    /// What identifies the data.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Checks that all ranks have the same data, settings, step, weights, averages and state of the
    /// optimizer.
    ///
    /// # Errors
    ///
    /// If one has others, or failed.
    pub fn agree(&self) -> Result<(), TrainError> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let settings = format!("{:?}", self.identity());
        self.ranks.agree("configuration", &settings)?;
        self.ranks.agree("data set", &self.fingerprint)?;
        let mut norms = vec![params::norm(&params::values(self.network()))];
        norms.extend(self.averages.iter().map(|ema| params::norm(&ema.values)));
        let state = self.optimizer.state().map_err(TrainError::Optimizer)?;
        self.ranks.agree_on("step", &[self.step as f64])?;
        self.ranks.agree_on("checkpoint", &norms)?;
        Ok(self.ranks.agree("checkpoint", &state.hash())?)
    }

    /// The settings that a resumed run must have too, and the parameters that are frozen.
    fn identity(&self) -> BTreeMap<String, String> {
        let frozen = params::frozen(self.network()).into_keys();
        let frozen: Vec<_> = frozen.collect();
        let mut identity = self.settings.identity();
        identity.insert("frozen".to_owned(), format!("{frozen:?}"));
        identity
    }

    fn take_network(&mut self) -> M {
        let present = "the weights are absent only within a step";
        self.network.take().expect(present)
    }

    /// One step: loss, gradients, clipping, update, average.
    ///
    /// The batch is this rank's share. All randomness is keyed by the rows' positions and gradients
    /// are summed over the ranks, so the step is the same for any number of them, up to the order
    /// of the sums.
    fn advance(&mut self, batch: &Batch) -> Result<Metrics, TrainError> {
        let step = self.step + 1;
        let parts = (self.settings.accumulate * self.ranks.size()) as f64;
        let all = self.levels.draw(&self.samples());
        let drawn = all.of(self.share.clone());
        let (mut gradients, mut loss, mut losses) = (Named::new(), 0.0, Vec::new());
        for rows in self.parts() {
            let weights = row_weights(&drawn.weight[rows.clone()], &self.device);
            let each = self.rows(batch).losses(self.network(), &drawn, rows);
            if self.levels.remembers() {
                losses.extend(each.clone().inner().into_data().iter::<f64>());
            }
            // Each part of each rank weighs the same, so the sum is the mean over the whole batch.
            let mean = (each * weights).mean() / parts;
            let found = params::gradients(self.network(), &mean.backward());
            params::add(&mut gradients, found);
            loss += mean.into_scalar::<f64>();
        }
        params::sum_over(&self.ranks, &mut gradients)?;
        let grad_norm = params::norm(&gradients);
        self.ranks.agree_on("sum of gradients", &[grad_norm])?;
        let loss = self.ranks.gather(&[loss])?.iter().sum::<f64>();
        if !(loss.is_finite() && grad_norm.is_finite()) {
            let diverged = self.diverged(batch, loss, grad_norm, &gradients)?;
            return Err(TrainError::Diverged(Box::new(diverged)));
        }
        self.levels.record(&all.t, &self.ranks.gather(&losses)?)?;
        let lr = self.settings.learning_rate.at(step, self.settings.steps);
        let at = Step {
            number: step,
            learning_rate: lr,
            clip: clip(grad_norm, self.settings.clip),
        };
        // It is taken, so that nobody else holds the weights and they are updated in place.
        let network = self.take_network();
        let (optimizer, averages) = (&mut *self.optimizer, &mut self.averages);
        let network = optim::step(optimizer, network, averages, gradients, &self.trained, &at);
        self.network = Some(network);
        self.step = step;
        let images_per_second =
            self.settings.batch_size as f64 / self.before.elapsed().as_secs_f64();
        self.before = Instant::now();
        Ok(Metrics {
            step,
            loss,
            lr,
            grad_norm,
            images_per_second,
            checkpoint: None,
        })
    }

    /// The positions of the rows of the next batch, those of all ranks.
    fn samples(&self) -> Vec<u64> {
        let rows = self.settings.batch_size as u64;
        (self.step * rows..(self.step + 1) * rows).collect()
    }

    /// The rows of the parts that this rank's share of a batch is computed in.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<D, M> {
        let parts = self.settings.accumulate;
        let part = self.share.len() / parts;
        (0..parts).map(move |i| i * part..(i + 1) * part)
    }

    fn rows<'a>(&'a self, batch: &'a Batch) -> BatchLoss<'a> {
        BatchLoss {
            batch,
            settings: &self.settings,
            data: &*self.data,
            device: &self.device,
        }
    }

    /// What is known of a step whose loss or gradients are not finite. The rows are those of all
    /// ranks. Their losses are not kept on the way; the same rows have the same again.
    // Whole numbers below 2³² are f64 without loss.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn diverged(
        &self,
        batch: &Batch,
        loss: f64,
        grad_norm: f64,
        gradients: &Named,
    ) -> Result<Diverged, TrainError> {
        let samples = self.samples();
        let all = self.levels.draw(&samples);
        let drawn = all.of(self.share.clone());
        let losses = self.parts().flat_map(|rows| {
            let each = self.rows(batch).losses(self.network(), &drawn, rows);
            each.inner().into_data().iter::<f64>().collect::<Vec<_>>()
        });
        let losses = self.ranks.gather(&losses.collect::<Vec<_>>())?;
        let indices: Vec<f64> = batch.indices.iter().map(|&i| i as f64).collect();
        let indices = self.ranks.gather(&indices)?;
        let process = self.settings.objective.process();
        let rows = samples
            .into_iter()
            .zip(indices)
            .zip(all.levels.iter().zip(losses))
            .map(|((sample, index), (&level, loss))| Row {
                sample,
                index: index as usize,
                time: process.time(level),
                loss,
            });
        Ok(Diverged {
            step: self.step + 1,
            loss,
            grad_norm,
            parameter: first_bad(&params::values(self.network()), gradients),
            rows: rows.collect(),
        })
    }
}

impl<const D: usize, M: Network<D>> Iterator for Trainer<D, M> {
    type Item = Result<Metrics, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed || self.step >= self.settings.steps {
            return None;
        }
        let batch = self.loader.next()?.map_err(TrainError::from);
        let metrics = batch.and_then(|batch| self.advance(&batch));
        self.has_failed = metrics.is_err();
        Some(metrics)
    }
}

/// The batches from step `first` on.
fn loader(
    data: &Arc<dyn Dataset>,
    settings: &Settings,
    share: Range<usize>,
    first: u64,
) -> Result<Loader, TrainError> {
    Ok(Loader::new(
        data.clone(),
        settings.batch_size,
        share,
        settings.seed,
        settings.flip,
        settings.workers,
        first,
    )?)
}

/// The rows' weights as a tensor of shape `[B]`.
#[allow(clippy::cast_possible_truncation)]
fn row_weights(weights: &[f64], device: &Device) -> Tensor<1> {
    let weights: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
    Tensor::from_data(weights.as_slice(), &device.clone().autodiff())
}
