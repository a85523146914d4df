//! Drawing samples: the reverse process from reproducible noise, batch by batch.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use burn::tensor::{Bool, Device, Tensor, TensorData};
use ddpm_kernels::keep_packed_weights;
use ddpm_process::{Clip, Denoiser, Guided, NoiseStream, Prediction, Predictor, Reverse, State};
use ddpm_schedule::{Objective, Visit};

use crate::interrupt::Stop;
use crate::network::{Network, class_tensor};
use crate::picture::Samples;
use crate::plan::SamplingPlan;

/// Rows the network sees at once where no other number is asked for.
///
/// A batch always has as many rows as were asked for: matrix kernels may round differently for
/// different shapes, and a sample must not depend on how many others are drawn. A last, shorter
/// batch is filled up with samples nobody asked for.
pub const BATCH: usize = 16;

/// The class of each sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classes {
    /// Sample k is of class k mod n; n is at least 1.
    InTurn(usize),
    /// All samples are of this class.
    Only(usize),
}

impl Classes {
    /// The class of sample k.
    fn of(self, k: u64) -> usize {
        match self {
            // The remainder is below n.
            Self::InTurn(n) => usize::try_from(k % n as u64).unwrap_or_default(),
            Self::Only(class) => class,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The seed of the noise; sample k's noise is that of (seed, k).
    pub seed: u64,
    /// The classes; `None` for unconditional networks.
    pub classes: Option<Classes>,
    /// The class that means none, if the network has one; guidance needs it.
    pub null_class: Option<usize>,
    /// Guidance weight w; 1 is the conditional prediction alone.
    pub guidance: f64,
    /// Shape of a row.
    pub shape: &'a [usize],
    /// Rows the network sees at once, at least 1; [`BATCH`] by default.
    pub batch: usize,
}

/// A network and all that its samples depend on.
pub struct Drawing<'a, N> {
    /// The network, on `device`.
    pub network: &'a N,
    /// What it predicts.
    pub objective: &'a Objective,
    /// The sampler and its steps.
    pub plan: &'a SamplingPlan,
    /// What is asked for.
    pub request: Request<'a>,
    /// The device without autodiff.
    pub device: &'a Device,
}

/// The batches of some rows: whole ones, and the last one whatever is left.
pub fn batches(rows: Range<usize>, batch: usize) -> impl Iterator<Item = Range<usize>> {
    let end = rows.end;
    rows.step_by(batch)
        .map(move |first| first..end.min(first.saturating_add(batch)))
}

/// A state of the reverse process holds NaN or an infinity.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "step {step} of {steps}, from t = {t} (signal {signal:.3e}, noise {noise:.3e}), gives numbers \
     that are not finite: no sample was made of them"
)]
pub struct NotFinite {
    /// The first step that gives one, from 1.
    pub step: usize,
    /// The steps of the reverse process.
    pub steps: usize,
    /// The time the step starts from.
    pub t: u32,
    /// The signal there.
    pub signal: f64,
    /// The noise there.
    pub noise: f64,
}

impl<N> Drawing<'_, N> {
    /// Draws samples; `None` if it is asked to stop, which it hears between two steps.
    ///
    /// # Errors
    ///
    /// If a step gives numbers that are not finite.
    ///
    /// # Panics
    ///
    /// As [`batch`](Self::batch).
    pub fn sample<const D: usize>(
        &self,
        rows: Range<usize>,
        stop: &Stop,
    ) -> Result<Option<Samples>, NotFinite>
    where
        N: Network<D>,
    {
        let _packed = keep_packed_weights();
        let mut values = Vec::new();
        for rows in batches(rows, self.request.batch) {
            let mut batch = self.batch::<D>(rows.clone(), None);
            while batch.steps_left() > 0 {
                if stop.asked().is_some() {
                    return Ok(None);
                }
                batch.step();
            }
            values.extend(batch.finish()?.values);
        }
        Ok(Some(Samples {
            shape: self.request.shape.to_vec(),
            values,
        }))
    }

    /// A batch before its first step: `rows`, filled up to [`Request::batch`].
    ///
    /// * `noise`: standard normal noise of `rows` to start from instead of the seed's.
    ///
    /// # Panics
    ///
    /// If there are more rows than the batch has, the noise is not theirs, or the network does not
    /// fit the shape.
    pub fn batch<const D: usize>(&self, rows: Range<usize>, noise: Option<Vec<f32>>) -> Batch<'_, D>
    where
        N: Network<D>,
    {
        let Request { seed, batch, .. } = self.request;
        let asked = rows.len();
        assert!(asked <= batch, "{asked} rows in a batch of {batch}");
        let ids: Vec<u64> = (rows.start as u64..).take(batch).collect();
        let mut shape = [batch; D];
        shape[1..].copy_from_slice(self.request.shape);
        let stream = NoiseStream::new(seed, "sample");
        let z = match noise {
            Some(mut noise) => {
                let row: usize = shape[1..].iter().product();
                assert_eq!(noise.len(), asked * row, "noise of {asked} rows");
                // What nobody asked for may start anywhere.
                noise.resize(batch * row, 0.0);
                Tensor::from_data(TensorData::new(noise, shape), self.device)
            }
            None => stream.normal(&ids, 0, shape, self.device),
        };
        let std = self.plan.trajectory.visits()[0].level.prior_std();
        let finite = Finite::default();
        let denoiser = Watched {
            denoiser: self.denoiser::<D>(&ids),
            clip: self.plan.clip,
            finite: finite.clone(),
        };
        let device = self.device;
        let noise = move |step| stream.normal(&ids, step, shape, device);
        let x = z * std;
        let SamplingPlan {
            sampler,
            trajectory,
            ..
        } = self.plan;
        let walk = Reverse::new(denoiser, *sampler, trajectory, x.clone(), noise)
            .expect("an objective's levels have finite steps from noise to data");
        Batch {
            walk: Box::new(walk),
            x,
            finite,
            visits: Vec::new(),
            asked,
            shape: self.request.shape.to_vec(),
        }
    }

    /// The guided network for the samples `ids`.
    fn denoiser<const D: usize>(&self, ids: &[u64]) -> impl Denoiser<D> + use<'_, N, D>
    where
        N: Network<D>,
    {
        let predict = |classes: Option<Vec<usize>>| {
            let class = classes.map(|classes| class_tensor(&classes, self.device));
            Predictor {
                network: move |x, t| self.network.predict(x, t, class.clone(), None),
                objective: self.objective,
            }
        };
        let classes = self.request.classes;
        let of_each = |classes: Classes| ids.iter().map(|&k| classes.of(k)).collect();
        Guided {
            conditional: predict(classes.map(of_each)),
            base: predict(self.request.null_class.map(|null| vec![null; ids.len()])),
            weight: self.request.guidance,
        }
    }
}

/// Whether each x̂₀ and each state is finite, in the order in which they come; on the device, for a
/// look at every one of them would wait for it.
type Finite = Rc<RefCell<Vec<Tensor<1, Bool>>>>;

fn is_finite<const D: usize>(x: &Tensor<D>) -> Tensor<1, Bool> {
    x.clone().is_finite().all()
}

/// A denoiser whose x̂₀ is looked at before it is clipped, which would hide infinities.
struct Watched<M> {
    denoiser: M,
    clip: Option<Clip>,
    finite: Finite,
}

impl<const D: usize, M: Denoiser<D>> Denoiser<D> for Watched<M> {
    fn denoise(&self, x_t: Tensor<D>, at: Visit) -> Tensor<D> {
        self.predict(x_t, at).x0
    }

    fn predict(&self, x_t: Tensor<D>, at: Visit) -> Prediction<D> {
        let Prediction { x0, share } = self.denoiser.predict(x_t, at);
        self.finite.borrow_mut().push(is_finite(&x0));
        let x0 = match self.clip {
            Some(clip) => clip.apply(x0),
            None => x0,
        };
        Prediction { x0, share }
    }
}

/// A batch on its way from noise to samples.
pub struct Batch<'a, const D: usize> {
    walk: Box<dyn ExactSizeIterator<Item = State<D>> + 'a>,
    x: Tensor<D>,
    finite: Finite,
    /// Where the steps so far started from.
    visits: Vec<Visit>,
    /// Rows that were asked for; the others only fill the batch.
    asked: usize,
    shape: Vec<usize>,
}

impl<const D: usize> Batch<'_, D> {
    /// Steps still to be taken.
    pub fn steps_left(&self) -> usize {
        self.walk.len()
    }

    /// Steps taken.
    pub fn steps_done(&self) -> usize {
        self.visits.len()
    }

    /// Takes a step, unless all are taken.
    pub fn step(&mut self) {
        if let Some(state) = self.walk.next() {
            self.finite.borrow_mut().push(is_finite(&state.x));
            self.visits.push(state.from);
            self.x = state.x;
        }
    }

    /// The first `count` rows, or as many as were asked for, as they are now.
    pub fn rows(&self, count: usize) -> Samples {
        let row: usize = self.shape.iter().product();
        let mut values: Vec<f32> = self.x.to_data().iter::<f32>().collect();
        values.truncate(count.min(self.asked) * row);
        Samples {
            shape: self.shape.clone(),
            values,
        }
    }

    /// Takes the steps that are left; the samples.
    ///
    /// # Errors
    ///
    /// If a step gave numbers that are not finite.
    pub fn finish(mut self) -> Result<Samples, NotFinite> {
        while self.steps_left() > 0 {
            self.step();
        }
        let flags = self.finite.take();
        if flags.is_empty() {
            return Ok(self.rows(self.asked));
        }
        let flags: Vec<bool> = Tensor::cat(flags, 0).into_data().iter().collect();
        // A step has two: its x̂₀ and its state.
        let first = flags.chunks(2).position(|pair| pair.contains(&false));
        match first {
            Some(i) => Err(NotFinite {
                step: i + 1,
                steps: self.visits.len(),
                t: self.visits[i].t.get(),
                signal: self.visits[i].level.signal(),
                noise: self.visits[i].level.noise(),
            }),
            None => Ok(self.rows(self.asked)),
        }
    }
}
