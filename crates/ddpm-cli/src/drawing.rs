//! Drawing samples: the reverse process from reproducible noise, batch by batch.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use burn::tensor::{Bool, Device, Tensor, TensorData};
use ddpm_kernels::keep_packed_weights;
use ddpm_model::{Condition, Network};
use ddpm_process::{
    AdaptiveReverse, Clipped, Denoiser, Guided, NoiseStream, Prediction, Predictor, Reverse, State,
};
use ddpm_schedule::solver::SolverError;
use ddpm_schedule::{NoiseLevel, Objective, Process};

use crate::interrupt::Stop;

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
    "step {step} of {steps}, from the time {time} (signal {signal:.3e}, noise {noise:.3e}), gives \
     numbers that are not finite: no sample was made of them"
)]
pub struct NotFinite {
    /// The first step that gives one, from 1.
    pub step: usize,
    /// The steps of the reverse process.
    pub steps: usize,
    /// The time that the network is told where the step starts.
    pub time: f64,
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
    ) -> Result<Option<Samples>, SamplingError>
    where
        N: Network<D>,
    {
        let _packed = keep_packed_weights();
        let mut values = Vec::new();
        for rows in batches(rows, self.request.batch) {
            let mut batch = self.batch::<D>(rows.clone(), Given::default());
            loop {
                if stop.asked().is_some() {
                    return Ok(None);
                }
                if !batch.step()? {
                    break;
                }
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
    /// * `given`: standard normal noise of `rows` to use instead of the seed's.
    ///
    /// # Panics
    ///
    /// If there are more rows than the batch has, the noise is not theirs or not of every draw, or
    /// the network does not fit the shape.
    pub fn batch<const D: usize>(&self, rows: Range<usize>, given: Given) -> Batch<'_, D>
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
        let device = self.device;
        let row: usize = self.request.shape.iter().product();
        let from_file = move |mut values: Vec<f32>| {
            assert_eq!(values.len(), asked * row, "noise of {asked} rows");
            // What nobody asked for may start anywhere.
            values.resize(batch * row, 0.0);
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        let z = match given.start {
            Some(noise) => from_file(noise),
            None => stream.normal(&ids, 0, shape, device),
        };
        let finite = Finite::default();
        let watched = Watched {
            denoiser: self.denoiser::<D>(&ids),
            finite: finite.clone(),
        };
        let denoiser: Box<dyn Denoiser<D>> = match (&self.plan.file, self.plan.clip) {
            (Some(file), _) => Box::new(file.scheduler.bounded(watched, &file.clock)),
            (None, Some(clip)) => Box::new(Clipped {
                denoiser: watched,
                clip,
                epsilon: self.plan.epsilon,
            }),
            (None, None) => Box::new(watched),
        };
        let steps = given.steps;
        let noise = move |draw: u32| match &steps {
            Some(steps) => from_file(steps[draw as usize - 1].clone()),
            None => stream.normal(&ids, draw, shape, device),
        };
        let plan = self.plan;
        let x = z * plan.prior_std();
        let levels = plan.levels.as_slice();
        let reason = "a plan's levels have finite steps from noise to data";
        let walk = if let Some(control) = plan.adaptive() {
            let ends = [levels[0], levels[1]];
            let walk = AdaptiveReverse::new(denoiser, control, ends, x.clone());
            Walk::Adaptive(Box::new(walk.expect(reason)))
        } else {
            let solver = plan.sampler.solver(&plan.process, &plan.levels);
            let walk = Reverse::new(denoiser, solver, levels, x.clone(), noise);
            Walk::Fixed(Box::new(walk.expect(reason)))
        };
        Batch {
            walk,
            steps: plan.adaptive().is_none().then(|| plan.levels.len()),
            x,
            finite,
            from: Vec::new(),
            process: &plan.process,
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
            let condition = classes.map_or_else(Condition::none, |classes| {
                Condition::classes(&classes, self.device)
            });
            let network = move |x, t| self.network.predict(x, t, &condition, None);
            let objective = self.objective;
            let denoiser: Box<dyn Denoiser<D>> = match &self.plan.file {
                Some(file) => Box::new(file.scheduler.denoiser(network, &file.clock)),
                None => Box::new(Predictor { network, objective }),
            };
            denoiser
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

/// Noise from elsewhere; `None` is the seed's.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// What the process starts from.
    pub start: Option<Vec<f32>>,
    /// The noise of the steps, in the order in which it is drawn.
    pub steps: Option<Vec<Vec<f32>>>,
}

/// Whether each x̂₀ and each state is finite, in the order in which they come, each with the number
/// of steps before it; on the device, for a look at every one of them would wait for it.
#[derive(Clone, Default)]
struct Finite(Rc<RefCell<Seen>>);

#[derive(Default)]
struct Seen {
    steps: usize,
    flags: Vec<Tensor<1, Bool>>,
    at: Vec<usize>,
}

impl Finite {
    fn look<const D: usize>(&self, x: &Tensor<D>) {
        let seen = &mut *self.0.borrow_mut();
        seen.flags.push(x.clone().is_finite().all());
        seen.at.push(seen.steps);
    }

    fn stepped(&self) {
        self.0.borrow_mut().steps += 1;
    }

    /// How many answers were looked at: one of each evaluation, and one of each step.
    fn evaluations(&self) -> usize {
        let seen = self.0.borrow();
        seen.flags.len() - seen.steps
    }

    /// The first step with a number that is not finite, from 0.
    fn first_fault(&self) -> Option<usize> {
        let Seen { flags, at, .. } = self.0.take();
        if flags.is_empty() {
            return None;
        }
        let flags: Vec<bool> = Tensor::cat(flags, 0).into_data().iter().collect();
        flags.iter().position(|finite| !finite).map(|i| at[i])
    }
}

/// A denoiser whose x̂₀ is looked at before it is clipped, which would hide infinities.
struct Watched<M> {
    denoiser: M,
    finite: Finite,
}

impl<const D: usize, M: Denoiser<D>> Denoiser<D> for Watched<M> {
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
        let said = self.denoiser.predict(x_t, at);
        self.finite.look(&said.x0);
        said
    }
}

/// Why no sample came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// A step gave numbers that are not finite.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// No step is within the tolerance.
    #[error(transparent)]
    Solver(#[from] SolverError),
}

/// The steps of a batch.
enum Walk<'a, const D: usize> {
    Fixed(Box<dyn Iterator<Item = State<D>> + 'a>),
    Adaptive(Box<AdaptiveReverse<D, Box<dyn Denoiser<D> + 'a>>>),
}

/// A batch on its way from noise to samples.
pub struct Batch<'a, const D: usize> {
    walk: Walk<'a, D>,
    /// How many steps there are; `None` where the error decides.
    steps: Option<usize>,
    x: Tensor<D>,
    finite: Finite,
    /// Where the steps so far started from.
    from: Vec<NoiseLevel>,
    process: &'a Process,
    /// Rows that were asked for; the others only fill the batch.
    asked: usize,
    shape: Vec<usize>,
}

impl<const D: usize> Batch<'_, D> {
    /// How many steps there are; `None` where the error decides.
    pub fn steps(&self) -> Option<usize> {
        self.steps
    }

    /// Steps taken.
    pub fn steps_done(&self) -> usize {
        self.from.len()
    }

    /// How much of the way is behind, from 0 to 1.
    pub fn share_done(&self) -> f64 {
        match (&self.walk, self.steps) {
            (Walk::Adaptive(walk), _) => {
                let start = self.from.first();
                start.map_or(0.0, |&start| walk.progress(start))
            }
            (Walk::Fixed(_), steps) => self.from.len() as f64 / steps.unwrap_or(1) as f64,
        }
    }

    /// How often the network has been asked.
    pub fn evaluations(&self) -> usize {
        self.finite.evaluations()
    }

    /// Takes a step; false if all are taken.
    ///
    /// # Errors
    ///
    /// If no step is within the tolerance of a sampler that chooses its steps.
    pub fn step(&mut self) -> Result<bool, SolverError> {
        let state = match &mut self.walk {
            Walk::Fixed(walk) => walk.next(),
            Walk::Adaptive(walk) => walk.next().transpose()?,
        };
        let Some(state) = state else {
            return Ok(false);
        };
        self.finite.look(&state.x);
        self.finite.stepped();
        self.from.push(state.from);
        self.x = state.x;
        Ok(true)
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
    /// If a step gave numbers that are not finite, or none is within the tolerance.
    pub fn finish(mut self) -> Result<Samples, SamplingError> {
        while self.step()? {}
        match self.finite.first_fault() {
            Some(step) => {
                let from = self.from[step];
                let found = NotFinite {
                    step: step + 1,
                    steps: self.from.len(),
                    time: self.process.time(from),
                    signal: from.signal(),
                    noise: from.noise(),
                };
                Err(found.into())
            }
            None => Ok(self.rows(self.asked)),
        }
    }
}
