//! The losses of rows of a batch.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::{Batch, Dataset};
use ddpm_model::{Condition, Network};
use ddpm_process::{Decoder, NoiseStream, hybrid_loss, training_loss};

use crate::level_draws::Drawn;
use crate::settings::Settings;

/// The rows of a batch, and what their losses depend on.
pub(crate) struct BatchLoss<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) settings: &'a Settings,
    pub(crate) data: &'a dyn Dataset,
    pub(crate) device: &'a Device,
}

impl BatchLoss<'_> {
    /// The losses of some rows of the batch; everything random is keyed by the rows' positions.
    pub(crate) fn losses<const D: usize>(
        &self,
        network: &impl Network<D>,
        drawn: &Drawn,
        rows: Range<usize>,
    ) -> Tensor<1> {
        let settings = self.settings;
        let device = self.device.clone().autodiff();
        let samples = &self.batch.samples[rows.clone()];
        let mut shape = [samples.len(); D];
        shape[1..].copy_from_slice(self.data.shape());
        let row = self.data.row_len();
        let values = self.batch.rows[rows.start * row..rows.end * row].to_vec();
        let x0 = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
        let eps = NoiseStream::new(settings.seed, "eps").normal(samples, 0, shape, &device);
        let drawn = drawn.of(rows.clone());
        let condition = match self.classes(rows) {
            Some(classes) => Condition::classes(&classes, &device),
            None => Condition::none(),
        };
        let dropout = NoiseStream::new(settings.seed, "dropout");
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
        let network = |x_t, t| network.predict(x_t, t, &condition, Some(&mut masks));
        let objective = &settings.objective;
        if !settings.learned_variance {
            return training_loss(network, objective, x0, eps, &drawn.levels);
        }
        let decoder = match self.data.max() {
            Some(max) => Decoder::Bins { max },
            None => Decoder::Density,
        };
        hybrid_loss(network, objective, decoder, x0, eps, &drawn.t)
    }

    /// The rows' classes, some replaced by the null class.
    pub(crate) fn classes(&self, rows: Range<usize>) -> Option<Vec<usize>> {
        let classes = self.settings.classes?;
        let labels = self.batch.labels.as_ref()?;
        let stream = NoiseStream::new(self.settings.seed, "class-dropout");
        let is_dropped = |i: usize, p| stream.row(self.batch.samples[i], 0).uniform() < p;
        let class = |i: usize| match classes.dropout {
            Some((null, p)) if is_dropped(i, p) => null,
            _ => labels[i],
        };
        Some(rows.map(class).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ddpm_data::{Loader, Source, load};
    use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};

    use super::*;
    use crate::settings::Classes;

    /// Settings with a probability of dropping the class of a digit, of which 10 means none.
    fn settings(p: f64) -> Settings {
        let schedule = NoiseSchedule::cosine(1000, 0.008).unwrap();
        let objective = Objective::new(schedule, Parametrization::V, Weighting::Simple).unwrap();
        let classes = Classes {
            count: 10,
            dropout: (p > 0.0).then_some((10, p)),
        };
        Settings {
            classes: Some(classes),
            ..Settings::new(objective).unwrap()
        }
    }

    fn batch(data: &Arc<dyn Dataset>, size: usize, step: u64) -> Batch {
        let loader = Loader::new(data.clone(), size, 0..size, 0, false, 0, 0).unwrap();
        loader.batch(step).unwrap()
    }

    fn classes(settings: &Settings, data: &Arc<dyn Dataset>, batch: &Batch) -> Vec<usize> {
        of_rows(settings, data, batch, 0..batch.samples.len())
    }

    fn of_rows(
        settings: &Settings,
        data: &Arc<dyn Dataset>,
        batch: &Batch,
        rows: Range<usize>,
    ) -> Vec<usize> {
        let all = BatchLoss {
            batch,
            settings,
            data: &**data,
            device: &Device::flex(),
        };
        all.classes(rows).unwrap()
    }

    fn digits() -> Arc<dyn Dataset> {
        Arc::new(load(&Source::Digits).unwrap())
    }

    /// Of n rows, p·n lose their class, within 5 standard errors √(p·(1 − p)/n); the others keep it.
    #[test]
    fn classes_are_dropped_with_their_probability() {
        let data = digits();
        let n = 20_000;
        let batch = batch(&data, n, 0);
        let labels = batch.labels.clone().unwrap();
        for p in [0.0, 0.1, 0.5, 0.9] {
            let classes = classes(&settings(p), &data, &batch);
            let mut dropped = 0_u32;
            for (&class, &label) in classes.iter().zip(&labels) {
                assert!(class == label || class == 10, "{class} of {label}");
                dropped += u32::from(class == 10);
            }
            let fraction = f64::from(dropped) / n as f64;
            let error = (p * (1.0 - p) / n as f64).sqrt();
            assert!((fraction - p).abs() <= 5.0 * error, "{fraction} is not {p}");
        }
    }

    /// The draw belongs to the row's position in the run, however batches cut the run and parts cut
    /// the batch.
    #[test]
    fn classes_do_not_depend_on_the_split() {
        let data = digits();
        let settings = settings(0.5);
        let whole = classes(&settings, &data, &batch(&data, 96, 0));
        assert!(whole.contains(&10));
        for size in [1, 8, 32] {
            for part in [1, size / 2, size] {
                let part = part.max(1);
                let mut split = Vec::new();
                for step in 0..96 / size as u64 {
                    let batch = batch(&data, size, step);
                    for rows in (0..size).step_by(part) {
                        split.extend(of_rows(&settings, &data, &batch, rows..rows + part));
                    }
                }
                assert_eq!(split, whole, "batches of {size} in parts of {part}");
            }
        }
        // A later run of positions is another draw.
        assert_ne!(classes(&settings, &data, &batch(&data, 96, 1)), whole);
    }
}
