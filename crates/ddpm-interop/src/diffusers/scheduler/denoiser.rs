//! A network of diffusers as a denoiser.

use burn::tensor::Tensor;
use ddpm_process::{AfterClip, Denoiser, Prediction, Predictor};
use ddpm_schedule::{NoiseLevel, Objective};

use super::clock::{Boundary, Clock};
use super::scheduler::Scheduler;

/// A network with the clock of a scheduler's file: see [`Scheduler::denoiser`].
#[derive(Clone, Debug)]
pub struct Told<'a, N> {
    network: N,
    scheduler: &'a Scheduler,
    objective: &'a Objective,
    clock: &'a Clock,
}

impl Scheduler {
    /// The x̂₀ of a network with the times of `clock`, before [`bounded`](Self::bounded).
    ///
    /// `network` is f(x, t) for a batch and its times, as in a [`Predictor`].
    pub fn denoiser<'a, N>(&'a self, network: N, clock: &'a Clock) -> Told<'a, N> {
        Told {
            network,
            scheduler: self,
            objective: &self.objective,
            clock,
        }
    }

    /// The prediction of `denoiser` with the file's clip and boundary condition applied to x̂₀.
    pub fn bounded<'a, const D: usize>(
        &'a self,
        denoiser: impl Denoiser<D> + 'a,
        clock: &'a Clock,
    ) -> impl Denoiser<D> + 'a {
        move |x: Tensor<D>, at: NoiseLevel| {
            let mut said = denoiser.predict(x.clone(), at);
            let factors = self.boundary.map(|b| b.factors(at, clock.time(at)));
            let bound = |x0: Tensor<D>| match factors {
                Some([of_x, of_x0]) => x0 * of_x0 + x.clone() * of_x,
                None => x0,
            };
            let before = matches!(self.boundary, Some(Boundary::Sigma { .. }));
            if before {
                said.x0 = bound(said.x0);
            }
            said = self.clipped(said, &x, at);
            if !before {
                said.x0 = bound(said.x0);
            }
            said
        }
    }

    fn clipped<const D: usize>(
        &self,
        said: Prediction<D>,
        x: &Tensor<D>,
        at: NoiseLevel,
    ) -> Prediction<D> {
        let Some(clip) = self.clip else {
            return said;
        };
        let eps = match self.epsilon {
            AfterClip::Derived => None,
            AfterClip::Kept => Some(said.epsilon(x, at)),
        };
        Prediction {
            x0: clip.apply(said.x0),
            eps,
            share: said.share,
        }
    }
}

impl<const D: usize, N> Denoiser<D> for Told<'_, N>
where
    N: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>,
{
    fn predict(&self, x: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
        let time = self.clock.time(at);
        let network = |x: Tensor<D>, times: Tensor<1>| {
            let output = (self.network)(x, times.zeros_like() + time);
            if self.scheduler.negated {
                -output
            } else {
                output
            }
        };
        let objective = self.objective;
        Predictor { network, objective }.predict(x, at)
    }
}
