//! The reverse process as an iterator: from noise back to data.

use burn::tensor::Tensor;
use ddpm_schedule::{Sampler, SamplerError, Step, Trajectory, Visit};

use crate::rows::assert_like;
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
/// Every sampler is the same affine step with coefficients from [`Sampler::steps`], so one loop
/// serves them all. `.last()` is a sample, `.step_by(k)` a film, `.len()` the steps to come.
pub struct Reverse<const D: usize, M, Z> {
    denoiser: M,
    sampler: Sampler,
    steps: std::vec::IntoIter<(Visit, Step)>,
    x: Tensor<D>,
    x0_prev: Option<Tensor<D>>,
    noise: Z,
    step: u32,
}

impl<const D: usize, M, Z> Reverse<D, M, Z>
where
    M: Denoiser<D>,
    Z: FnMut(u32) -> Tensor<D>,
{
    /// Starts at `x` of the prior, `[B, …]`: standard normal noise times the
    /// [`prior_std`](ddpm_schedule::NoiseLevel::prior_std) of the trajectory's first level (1 for DDPM).
    ///
    /// `noise(i)` gives the standard normal z of step i = 1, 2, …, shaped like `x`; it is asked
    /// only when the step's coefficient of z is not 0. Step 0 is left for `x` itself, so one
    /// [`NoiseStream`](crate::NoiseStream) serves both.
    ///
    /// # Errors
    ///
    /// If the sampler cannot take these steps ([`Sampler::steps`]): it adds noise and the
    /// trajectory leads from data to noise, or a coefficient is not finite in single precision.
    ///
    /// # Panics
    ///
    /// If `x` is on an autodiff device: sampling there would record a graph of every step. While
    /// iterating, if the denoiser's answer or the noise differs from `x` in shape or dtype. At the
    /// first step, if the sampler is [`Sampler::AncestralLearned`] and the denoiser gives no
    /// [`share`](Prediction::share).
    pub fn new(
        denoiser: M,
        sampler: Sampler,
        trajectory: &Trajectory,
        x: Tensor<D>,
        noise: Z,
    ) -> Result<Self, SamplerError> {
        assert!(
            !x.device().is_autodiff(),
            "sampling needs a device without autodiff"
        );
        let visits = trajectory.visits().iter().copied();
        let steps: Vec<_> = visits.zip(sampler.steps(trajectory)?).collect();
        Ok(Self {
            denoiser,
            sampler,
            steps: steps.into_iter(),
            x,
            x0_prev: None,
            noise,
            step: 0,
        })
    }

    /// What the denoiser says of x, each tensor of it like x.
    fn ask(&self, at: Visit) -> Prediction<D> {
        let prediction = self.denoiser.predict(self.x.clone(), at);
        assert_like("the denoiser's x̂₀", &prediction.x0, &self.x);
        if let Some(share) = &prediction.share {
            assert_like("the denoiser's share of β", share, &self.x);
        }
        assert!(
            self.sampler != Sampler::AncestralLearned || prediction.share.is_some(),
            "the sampler needs a denoiser that chooses the variance, and this one gives no share"
        );
        prediction
    }

    /// z of this step.
    fn draw(&mut self) -> Tensor<D> {
        let z = (self.noise)(self.step);
        assert_like("the noise z", &z, &self.x);
        z
    }
}

impl<const D: usize, M, Z> Iterator for Reverse<D, M, Z>
where
    M: Denoiser<D>,
    Z: FnMut(u32) -> Tensor<D>,
{
    type Item = State<D>;

    fn next(&mut self) -> Option<State<D>> {
        let (from, c) = self.steps.next()?;
        self.step += 1;
        let Prediction { x0, share } = self.ask(from);
        let x0_prev = self.x0_prev.replace(x0.clone());

        let mut x = x0.clone() * c.x0;
        // A coefficient of 0 drops its term: no tensor is made for it, and no 0·∞ either.
        if c.x_t != 0.0 {
            x = x + self.x.clone() * c.x_t;
        }
        if let Some(x0_prev) = x0_prev.filter(|_| c.x0_prev != 0.0) {
            x = x + x0_prev * c.x0_prev;
        }
        if c.z != 0.0 {
            let mut z = self.draw() * c.z;
            if let Some(share) = share.filter(|_| c.z_span != 0.0) {
                z = z * (share * c.z_span).exp();
            }
            x = x + z;
        }
        self.x = x.clone();
        Some(State { from, x0, x })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.steps.size_hint()
    }
}

impl<const D: usize, M, Z> ExactSizeIterator for Reverse<D, M, Z>
where
    M: Denoiser<D>,
    Z: FnMut(u32) -> Tensor<D>,
{
}
