//! Measuring the terms of the bound and the density of the flow on rows of data.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::{DataError, Dataset, shuffled};
use ddpm_model::{Condition, Network, keep_packed_weights};
use ddpm_process::{NoiseStream, Predictor, diffuse};
use ddpm_schedule::bound::{Gaussian, decoder_nll, model_kl, prior_kl, snr_weight};
use ddpm_schedule::{NoiseSchedule, Objective, Timestep};

use super::pace::{Pace, Progress, Stopped};
use super::report::{Likelihood, Measured, Terms};
use crate::flow;

/// Images that the network sees at once.
pub const BATCH: usize = 16;

/// Why a likelihood cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LikelihoodError {
    /// The data is not of whole numbers.
    #[error("bits are for data of whole numbers; of points there is a density only")]
    Continuous,
    /// The mean over so few images has no standard error, or there are not as many.
    #[error("{asked} images: 2 to {rows} images can be evaluated")]
    Images {
        /// Images asked for.
        asked: usize,
        /// Images of the data.
        rows: usize,
    },
    /// Images are numbered with 32 bits.
    #[error("{0} rows are more than can be counted")]
    TooMany(usize),
    /// The bound is a sum over timesteps.
    #[error(
        "the process has no timesteps, and the bound is a sum over them: only runs of a process with \
         timesteps can be evaluated"
    )]
    NoTimesteps,
    /// The probability flow has nowhere to start.
    #[error("the probability flow: the schedule has no time with signal left")]
    NoSignal,
    /// A row cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A term is not finite.
    #[error("image {image}: its {name} is {value}, not a number")]
    Term {
        /// The row of the data.
        image: usize,
        /// The term.
        name: String,
        /// Its value.
        value: f64,
    },
    /// The network gives numbers that are not finite.
    #[error("image {image}: at t = {t} the network gives {value} for a number of x̂₀")]
    NotFinite {
        /// The row of the data.
        image: usize,
        /// The timestep.
        t: u32,
        /// The number.
        value: f32,
    },
    /// The caller asked to stop.
    #[error("stopped after {done} of {images} images")]
    Stopped {
        /// Images done.
        done: usize,
        /// Images asked for.
        images: usize,
    },
}

impl From<Stopped> for LikelihoodError {
    fn from(Stopped { done, images }: Stopped) -> Self {
        Self::Stopped { done, images }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// So many rows of the data, drawn by `seed` without replacement. More of them are these and others.
    pub images: usize,
    /// Times drawn for each image; `None` takes all.
    pub times: Option<u32>,
    /// Steps of the probability flow; `None` leaves it out.
    pub flow: Option<u32>,
    /// Seed of rows, noise and times.
    pub seed: u64,
}

/// Evaluates a network on rows of the data.
///
/// # Errors
///
/// As [`Evaluation::measure`].
pub fn nll<const D: usize, N: Network<D>>(
    network: &N,
    objective: &Objective,
    classes: Option<usize>,
    data: &dyn Dataset,
    question: &Question,
    device: &Device,
) -> Result<Likelihood, LikelihoodError> {
    let evaluation = Evaluation {
        network,
        objective,
        classes,
        data,
        question,
        device,
    };
    let measured = evaluation.measure::<D>(0..question.images, |_| true)?;
    Ok(measured.report())
}

/// A network and the data it is evaluated on.
pub struct Evaluation<'a, N> {
    /// The network, on `device`.
    pub network: &'a N,
    /// What it predicts.
    pub objective: &'a Objective,
    /// Its classes, which are also the one that means none.
    pub classes: Option<usize>,
    /// The data.
    pub data: &'a dyn Dataset,
    /// What is asked.
    pub question: &'a Question,
    /// The device without autodiff.
    pub device: &'a Device,
}

impl<N> Evaluation<'_, N> {
    /// Measures the images `rows` of those the question is about: all of them, or a shard. Before each
    /// call of the network `watch` is told how far the work is, and says whether it goes on.
    ///
    /// # Errors
    ///
    /// If the question is about fewer than two images, or more than there are, the data is not of
    /// whole numbers, the process has no timesteps, a row cannot be read, a term is not finite, or
    /// `watch` returns false.
    pub fn measure<const D: usize>(
        &self,
        rows: Range<usize>,
        watch: impl FnMut(Progress) -> bool,
    ) -> Result<Measured, LikelihoodError>
    where
        N: Network<D>,
    {
        let (data, question) = (self.data, self.question);
        let max = data.max().ok_or(LikelihoodError::Continuous)?;
        let (asked, len) = (question.images, data.len());
        if !(2..=len).contains(&asked) {
            return Err(LikelihoodError::Images { asked, rows: len });
        }
        if u32::try_from(len).is_err() {
            return Err(LikelihoodError::TooMany(len));
        }
        let schedule = self.objective.schedule();
        let schedule = schedule.ok_or(LikelihoodError::NoTimesteps)?;
        if question.flow.is_some() && flow::levels(schedule, 1).is_empty() {
            return Err(LikelihoodError::NoSignal);
        }
        let timesteps = schedule.timesteps();
        let all = timesteps - 1;
        let times = question.times.map_or(all, |times| times.min(all));
        // Heun's method makes two calls per step, and one before the first.
        let flow = |steps| 2 * flow::levels(schedule, steps).len() - 1;
        let calls = times as usize + 1 + question.flow.map_or(0, flow);
        let mut pace = Pace::new(rows.len(), calls, watch);
        let drawn = shuffled(question.seed, data.len());
        let drawn: Vec<usize> = drawn[rows].iter().map(|&row| row as usize).collect();
        let mut terms = Vec::new();
        let _packed = keep_packed_weights();
        for images in drawn.chunks(BATCH) {
            pace.next(images.len());
            let found = self.batch::<D>(images, times, max, &mut pace)?;
            for (image, terms) in images.iter().zip(&found) {
                if let Some((name, value)) = terms.not_finite() {
                    let image = *image;
                    return Err(LikelihoodError::Term { image, name, value });
                }
            }
            terms.extend(found);
        }
        Ok(Measured {
            dimensions: data.row_len(),
            timesteps,
            times,
            flow: question.flow.is_some(),
            terms,
        })
    }

    /// The terms of some images; what is random depends on the image and the time alone.
    fn batch<const D: usize>(
        &self,
        images: &[usize],
        times: u32,
        max: u32,
        pace: &mut Pace<impl FnMut(Progress) -> bool>,
    ) -> Result<Vec<Terms>, LikelihoodError>
    where
        N: Network<D>,
    {
        let schedule = self.schedule();
        let x0 = self.rows::<D>(images)?;
        let last = schedule.level(schedule.last());
        let mut terms: Vec<Terms> = x0
            .values
            .chunks_exact(self.data.row_len())
            .map(|row| Terms {
                prior: row.iter().map(|&x| prior_kl(f64::from(x), last)).sum(),
                ..Terms::default()
            })
            .collect();
        // t of L_{t−1} runs from 2 to T. Evenly spread: one place in each of `times` equal parts.
        let all = schedule.timesteps() - 1;
        let place = |image: usize, k: u32| {
            let u = NoiseStream::new(self.question.seed, "nll-t")
                .row(image as u64, 0)
                .uniform();
            let u = if times == all { 0.5 } else { u };
            let share = (f64::from(k) + u) / f64::from(times);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let t = 2 + (share * f64::from(all)) as u32;
            schedule.timestep(t.min(schedule.timesteps()))
        };
        for k in 0..times {
            pace.call()?;
            let t: Vec<Timestep> = images.iter().filter_map(|&i| place(i, k)).collect();
            let model = self.predicted::<D>(&x0, &t, images)?;
            for (((row, x0), &t), terms) in x0.each().enumerate().zip(&t).zip(&mut terms) {
                let kl = self.kl(x0, &model, row, t);
                terms.steps += kl * f64::from(all) / f64::from(times);
                terms.each.push((t.get(), kl));
            }
        }
        self.last_step::<D>(&x0, images, max, &mut terms, pace)?;
        Ok(terms)
    }

    /// The decoder, and the flow from x₁ if asked for.
    fn last_step<const D: usize>(
        &self,
        x0: &Images<D>,
        images: &[usize],
        max: u32,
        terms: &mut [Terms],
        pace: &mut Pace<impl FnMut(Progress) -> bool>,
    ) -> Result<(), LikelihoodError>
    where
        N: Network<D>,
    {
        let schedule = self.schedule();
        let Some(first) = schedule.timestep(1) else {
            return Ok(());
        };
        pace.call()?;
        let level = schedule.level(first);
        let choice = schedule.learned_variance(first);
        // Images are 2·value/max − 1.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let value = |x0: f32| (0.5 * (f64::from(x0) + 1.0) * f64::from(max)).round() as u32;
        let row = self.data.row_len();
        let t = vec![first; images.len()];
        let model = self.predicted::<D>(x0, &t, images)?;
        for ((i, x0), terms) in x0.each().enumerate().zip(&mut *terms) {
            let pixels = x0.iter().zip(model.row(i));
            let nll = pixels.map(|(&x0, (x0_hat, output))| {
                let decoder = Gaussian {
                    mean: f64::from(x0_hat),
                    log_variance: output.map_or(choice.log_beta, |o| choice.log_variance(o)),
                };
                decoder_nll(value(x0), max, decoder)
            });
            terms.decoder = nll.sum();
        }
        let Some(steps) = self.question.flow else {
            return Ok(());
        };
        let levels = flow::levels(schedule, steps);
        let ids: Vec<u64> = images.iter().map(|&i| i as u64).collect();
        let eps = self.noise::<D>(images, first);
        let x = diffuse(x0.tensor.clone(), eps.clone(), &vec![level; images.len()]);
        let probes = NoiseStream::new(self.question.seed, "nll-probe");
        let z = probes.normal(&ids, 0, x.dims(), self.device).sign();
        let condition = self.condition(images);
        let training = self.device.clone().autodiff();
        let network = self.network.clone().to_device(&training);
        let predictor = Predictor {
            network: |x, t| network.predict(x, t, &condition, None),
            objective: self.objective,
        };
        let log = flow::log_density(&predictor, &levels, x, &z, || pace.call())?;
        // −ln q(x₁ | x₀) = ½‖ε‖² + D·ln(b₁√2π).
        let width = level.noise().ln() + 0.5 * std::f64::consts::TAU.ln();
        let eps: Vec<f32> = eps.into_data().iter().collect();
        let log: Vec<f64> = log.into_data().iter().collect();
        for ((log, eps), terms) in log.iter().zip(eps.chunks_exact(row)).zip(terms) {
            let squares: f64 = eps.iter().map(|e| f64::from(*e).powi(2)).sum();
            terms.flow = terms.decoder - log - 0.5 * squares - row as f64 * width;
        }
        Ok(())
    }

    /// The schedule, whose steps are the terms of the bound.
    fn schedule(&self) -> &NoiseSchedule {
        let schedule = self.objective.schedule();
        schedule.expect("`measure` refuses a process without timesteps")
    }

    fn rows<const D: usize>(&self, images: &[usize]) -> Result<Images<D>, DataError> {
        let row = self.data.row_len();
        let mut values = vec![0.0; images.len() * row];
        for (&image, out) in images.iter().zip(values.chunks_exact_mut(row)) {
            self.data.write_row(image, out)?;
        }
        let mut shape = [images.len(); D];
        shape[1..].copy_from_slice(self.data.shape());
        let tensor = Tensor::from_data(TensorData::new(values.clone(), shape), self.device);
        Ok(Images {
            values,
            tensor,
            row,
        })
    }

    fn noise<const D: usize>(&self, images: &[usize], t: Timestep) -> Tensor<D> {
        let ids: Vec<u64> = images.iter().map(|&i| i as u64).collect();
        let mut shape = [images.len(); D];
        shape[1..].copy_from_slice(self.data.shape());
        let stream = NoiseStream::new(self.question.seed, "nll");
        stream.normal(&ids, t.get(), shape, self.device)
    }

    fn condition(&self, images: &[usize]) -> Condition {
        let Some(null) = self.classes else {
            return Condition::none();
        };
        let label = |&i: &usize| self.data.label(i).unwrap_or(null);
        let classes: Vec<usize> = images.iter().map(label).collect();
        Condition::classes(&classes, self.device)
    }

    /// L_{t−1} of an image, t ≥ 2, in nats.
    fn kl(&self, x0: &[f32], model: &Predicted, row: usize, t: Timestep) -> f64 {
        let schedule = self.schedule();
        let choice = schedule.learned_variance(t);
        let (t, s) = (schedule.level(t), schedule.previous(t));
        let weight = snr_weight(t, s);
        let pixels = x0.iter().zip(model.row(row));
        let terms = pixels.map(|(&x0, (x0_hat, output))| {
            let (x0, x0_hat) = (f64::from(x0), f64::from(x0_hat));
            match output {
                None => weight * (x0 - x0_hat).powi(2),
                Some(o) => model_kl(x0, x0_hat, choice.log_variance(o), t, s),
            }
        });
        terms.sum()
    }

    /// What the network says of each image at its own time, x̂₀ clamped as in sampling.
    ///
    /// # Errors
    ///
    /// If a number of it is not finite.
    fn predicted<const D: usize>(
        &self,
        x0: &Images<D>,
        t: &[Timestep],
        images: &[usize],
    ) -> Result<Predicted, LikelihoodError>
    where
        N: Network<D>,
    {
        let schedule = self.schedule();
        let noise = images
            .iter()
            .zip(t)
            .map(|(&i, &t)| self.noise::<D>(&[i], t));
        let eps = Tensor::cat(noise.collect(), 0);
        let at: Vec<_> = t.iter().map(|&t| schedule.level(t)).collect();
        let x_t = diffuse(x0.tensor.clone(), eps, &at);
        let condition = self.condition(images);
        let predictor = Predictor {
            network: |x, t| self.network.predict(x, t, &condition, None),
            objective: self.objective,
        };
        let found = predictor.predict_each(x_t, &at);
        let host = |x: Tensor<D>| x.into_data().iter().collect::<Vec<f32>>();
        let row = self.data.row_len();
        let x0 = host(found.x0);
        if let Some(i) = x0.iter().position(|x0| !x0.is_finite()) {
            let (image, t) = (images[i / row], t[i / row].get());
            let value = x0[i];
            return Err(LikelihoodError::NotFinite { image, t, value });
        }
        Ok(Predicted {
            x0: x0.iter().map(|x0| x0.clamp(-1.0, 1.0)).collect(),
            share: found.share.map(host),
            row,
        })
    }
}

/// Images on the host and on the device.
struct Images<const D: usize> {
    values: Vec<f32>,
    tensor: Tensor<D>,
    row: usize,
}

impl<const D: usize> Images<D> {
    fn each(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.row)
    }
}

/// What a network says of some images, on the host.
struct Predicted {
    x0: Vec<f32>,
    share: Option<Vec<f32>>,
    row: usize,
}

impl Predicted {
    /// x̂₀ of each number of an image, and o = 2v − 1 if the network chooses its variance.
    fn row(&self, i: usize) -> impl Iterator<Item = (f32, Option<f64>)> {
        let numbers = i * self.row..(i + 1) * self.row;
        let output = |i: usize| {
            let share = self.share.as_ref()?;
            Some(2.0 * f64::from(share[i]) - 1.0)
        };
        numbers.map(move |i| (self.x0[i], output(i)))
    }
}
