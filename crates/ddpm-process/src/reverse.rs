//! The reverse process as an iterator: from noise back to data.

use burn::tensor::Tensor;
use ddpm_schedule::{NoiseLevel, Sampler, Trajectory, Visit};

use crate::{Denoiser, Prediction};

/// What one reverse step leaves behind.
#[derive(Clone, Debug)]
pub struct State<const D: usize> {
    /// Where the step started from.
    pub from: Visit,
    /// The denoiser's answer x̂₀ there.
    pub x0: Tensor<D>,
    /// The state x_s the step arrived at; after the last step, the sample.
    pub x: Tensor<D>,
}

/// Iterator over the reverse process: each item is one step x_t → x_s of a [`Trajectory`]. Over
/// a trajectory's [`inverse`](Trajectory::inverse) it goes from data to noise.
///
/// Every sampler is the same affine step with coefficients from [`Sampler::step`], so one loop
/// serves them all. `.last()` is a sample, `.step_by(k)` a film, `.len()` the steps to come.
pub struct Reverse<const D: usize, M, Z> {
    denoiser: M,
    sampler: Sampler,
    pairs: std::vec::IntoIter<(Visit, NoiseLevel)>,
    x: Tensor<D>,
    previous: Option<(NoiseLevel, Tensor<D>)>,
    noise: Z,
    step: u32,
}

impl<const D: usize, M, Z> Reverse<D, M, Z>
where
    M: Denoiser<D>,
    Z: FnMut(u32) -> Tensor<D>,
{
    /// Starts at `x` of the prior, `[B, …]`: standard normal noise times the
    /// [`prior_std`](NoiseLevel::prior_std) of the trajectory's first level (1 for DDPM).
    ///
    /// `noise(i)` gives the standard normal z of step i = 1, 2, …, shaped like `x`; it is asked
    /// only when the step's coefficient of z is not 0. Step 0 is left for `x` itself, so one
    /// [`NoiseStream`](crate::NoiseStream) serves both.
    ///
    /// # Panics
    ///
    /// If `x` is on an autodiff device: sampling there would record a graph of every step. While
    /// iterating, if the sampler adds noise and the trajectory leads from data to noise, or the
    /// sampler is [`Sampler::AncestralLearned`] and the denoiser gives no
    /// [`share`](Prediction::share).
    pub fn new(
        denoiser: M,
        sampler: Sampler,
        trajectory: &Trajectory,
        x: Tensor<D>,
        noise: Z,
    ) -> Self {
        assert!(
            !x.device().is_autodiff(),
            "sampling needs a device without autodiff"
        );
        let pairs: Vec<_> = trajectory.pairs().collect();
        Self {
            denoiser,
            sampler,
            pairs: pairs.into_iter(),
            x,
            previous: None,
            noise,
            step: 0,
        }
    }
}

impl<const D: usize, M, Z> Iterator for Reverse<D, M, Z>
where
    M: Denoiser<D>,
    Z: FnMut(u32) -> Tensor<D>,
{
    type Item = State<D>;

    fn next(&mut self) -> Option<State<D>> {
        let (from, s) = self.pairs.next()?;
        self.step += 1;
        let Prediction { x0, share } = self.denoiser.predict(self.x.clone(), from);
        let previous = self.previous.replace((from.level, x0.clone()));
        let prev = previous.as_ref().map(|(level, _)| *level);
        let c = self.sampler.step(prev, from.level, s);

        let mut x = x0.clone() * c.x0;
        // A coefficient of 0 drops its term: no tensor is made for it, and no 0·∞ either.
        if c.x_t != 0.0 {
            x = x + self.x.clone() * c.x_t;
        }
        if let Some((_, x0_prev)) = previous.filter(|_| c.x0_prev != 0.0) {
            x = x + x0_prev * c.x0_prev;
        }
        if c.z != 0.0 {
            let mut z = (self.noise)(self.step) * c.z;
            if c.z_span != 0.0 {
                let share = share.expect("the sampler needs a network that chooses the variance");
                z = z * (share * c.z_span).exp();
            }
            x = x + z;
        }
        self.x = x.clone();
        Some(State { from, x0, x })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.pairs.size_hint()
    }
}

impl<const D: usize, M, Z> ExactSizeIterator for Reverse<D, M, Z>
where
    M: Denoiser<D>,
    Z: FnMut(u32) -> Tensor<D>,
{
}
