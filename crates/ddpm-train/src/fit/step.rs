//! One step of the training loop.

use std::ops::Range;

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_process::{Decoder, NoiseStream, hybrid_loss, training_loss};

use super::{Metrics, Run};
use crate::data::Batch;
use crate::interrupt::{Signal, Stop};
use crate::network::{Network, class_tensor};
use crate::optim::clip;
use crate::params::{self, Named};
use crate::ranks::RanksError;
use crate::times::Drawn;

impl<M: burn::module::Module> Run<'_, M> {
    /// One step: loss, gradients, clipping, update, average; and its line of the record, but for
    /// the time it took. It takes the run, so that nobody else holds the weights and they are
    /// updated in place.
    ///
    /// The batch is this rank's share. All randomness is keyed by the rows' positions and gradients
    /// are summed over the ranks, so the step is the same for any number of them, up to the order
    /// of the sums.
    pub(super) fn advance<const D: usize>(
        mut self,
        batch: &Batch,
        stop: &Stop,
    ) -> Result<(Self, Metrics)>
    where
        M: Network<D>,
    {
        let config = &self.plan.config;
        let step = self.step + 1;
        let mut gradients = Named::new();
        let mut loss = 0.0;
        let all = self.times.draw(&self.samples());
        let drawn = all.of(self.share.clone());
        let mut losses = Vec::new();
        for rows in self.parts() {
            let each = self.losses::<D>(batch, &drawn, rows.clone());
            if self.times.remembers() {
                losses.extend(each.clone().inner().into_data().iter::<f64>());
            }
            // Each part of each rank weighs the same, so the sum is the mean over the whole batch.
            let mean = (each * row_weights(&drawn.weight[rows], &self.device)).mean()
                / (config.accumulate * self.ranks.size()) as f64;
            let found = params::gradients(&self.model, &mean.backward());
            params::add(&mut gradients, found);
            loss += mean.into_scalar::<f64>();
        }
        params::sum_over(self.ranks, &mut gradients)?;
        let grad_norm = params::norm(&gradients);
        self.ranks.agree_on("sum of gradients", &[grad_norm])?;
        let loss = self.hear(loss, stop)?;
        if !(loss.is_finite() && grad_norm.is_finite()) {
            return Err(self.diverged::<D>(batch, loss, grad_norm, &gradients));
        }
        self.times.record(&all.t, &self.ranks.gather(&losses)?)?;
        let lr = self.plan.learning_rate.at(step, config.steps);
        let clip = clip(grad_norm, config.optimizer.clip);
        self.model = (self.optim).step(self.model, &mut self.ema, gradients, clip, lr);
        self.step = step;
        let metrics = Metrics {
            step,
            loss,
            lr,
            grad_norm,
            images_per_second: 0.0,
            checkpoint: None,
        };
        Ok((self, metrics))
    }

    /// The sum of a number over the ranks; and whether one of them was asked to stop, all hear in
    /// the same place.
    pub(super) fn hear(&mut self, number: f64, stop: &Stop) -> Result<f64, RanksError> {
        let asked = stop.asked().map_or(0, Signal::exit_code);
        let heard = self.ranks.gather(&[number, asked.into()])?;
        self.asked = heard
            .iter()
            .skip(1)
            .step_by(2)
            .find_map(|&code| signal(code));
        Ok(heard.iter().step_by(2).sum())
    }

    /// The positions of the rows of the next batch, those of all ranks.
    pub(super) fn samples(&self) -> Vec<u64> {
        let rows = self.plan.config.batch_size as u64;
        (self.step * rows..(self.step + 1) * rows).collect()
    }

    /// The rows of the parts that this rank's share of a batch is computed in.
    pub(super) fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<M> {
        let config = &self.plan.config;
        let part = self.share.len() / config.accumulate;
        (0..config.accumulate).map(move |i| i * part..(i + 1) * part)
    }

    /// The losses of some rows of the batch; everything random is keyed by the rows' positions.
    pub(super) fn losses<const D: usize>(
        &self,
        batch: &Batch,
        drawn: &Drawn,
        rows: Range<usize>,
    ) -> Tensor<1>
    where
        M: Network<D>,
    {
        let seed = self.plan.config.seed;
        let device = self.device.clone().autodiff();
        let samples = &batch.samples[rows.clone()];
        let mut shape = [samples.len(); D];
        shape[1..].copy_from_slice(self.dataset.shape());
        let row = self.dataset.row_len();
        let values = batch.rows[rows.start * row..rows.end * row].to_vec();
        let x0 = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
        let eps = NoiseStream::new(seed, "eps").normal(samples, 0, shape, &device);
        let drawn = drawn.of(rows.clone());
        let class = self.classes(batch, rows).map(|c| class_tensor(&c, &device));

        let dropout = NoiseStream::new(seed, "dropout");
        let mut layer = 0;
        let mut masks = |p: f64, shape: [usize; 4]| {
            layer += 1;
            let len = shape[1..].iter().product();
            let mut values = vec![0.0; samples.len() * len];
            for (&sample, out) in samples.iter().zip(values.chunks_exact_mut(len)) {
                dropout.row(sample, layer).fill_dropout(p, out);
            }
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        let network = |x_t, t| self.model.predict(x_t, t, class, Some(&mut masks));
        let objective = &self.plan.objective;
        if !self.plan.config.objective.learned_variance {
            return training_loss(network, objective, x0, eps, &drawn.levels);
        }
        let decoder = match self.dataset.max() {
            Some(max) => Decoder::Bins { max },
            None => Decoder::Density,
        };
        hybrid_loss(network, objective, decoder, x0, eps, &drawn.t)
    }

    /// The rows' classes, some replaced by the null class.
    pub(super) fn classes(&self, batch: &Batch, rows: Range<usize>) -> Option<Vec<usize>> {
        self.plan.classes()?;
        let null = self.plan.null_class();
        let p = self.plan.config.objective.class_dropout;
        let stream = NoiseStream::new(self.plan.config.seed, "class-dropout");
        let labels = batch.labels.as_ref()?;
        let keep = |i: usize| stream.row(batch.samples[i], 0).uniform() >= p;
        let class = |i: usize| match null {
            Some(null) if !keep(i) => null,
            _ => labels[i],
        };
        Some(rows.map(class).collect())
    }
}

/// The signal of an exit code that was sent as a number.
fn signal(code: f64) -> Option<Signal> {
    Signal::ALL
        .iter()
        .copied()
        .find(|signal| f64::from(signal.exit_code()) == code)
}

/// The rows' weights as a tensor of shape `[B]`.
#[allow(clippy::cast_possible_truncation)]
fn row_weights(weights: &[f64], device: &Device) -> Tensor<1> {
    let weights: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
    Tensor::from_data(weights.as_slice(), &device.clone().autodiff())
}
