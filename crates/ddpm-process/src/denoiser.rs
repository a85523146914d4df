//! Denoisers: everything that, shown x_t, says what x₀ it expects.

use burn::tensor::Tensor;
use ddpm_schedule::{Objective, Timestep};

use crate::per_row;

/// The expectation E\[x₀ | x_t\], learned or exact. Samplers need nothing else.
pub trait Denoiser<const D: usize> {
    /// x̂₀ for a batch `x_t: [B, …]` whose rows are all at time `t`; same shape.
    fn denoise(&self, x_t: Tensor<D>, t: Timestep) -> Tensor<D>;
}

impl<const D: usize, F: Fn(Tensor<D>, Timestep) -> Tensor<D>> Denoiser<D> for F {
    fn denoise(&self, x_t: Tensor<D>, t: Timestep) -> Tensor<D> {
        self(x_t, t)
    }
}

/// A network together with what its output means.
#[derive(Clone, Copy, Debug)]
pub struct Predictor<'a, N> {
    /// f(x_t, t) with `x_t: [B, …]` and `t: [B]` holding t − 1, as in
    /// [`training_loss`](crate::training_loss). Conditions such as a class are captured by it.
    pub network: N,
    /// What the network was trained to predict, and on which schedule. That an [`Objective`]
    /// exists means x̂₀ can be recovered at every time.
    pub objective: &'a Objective,
}

impl<N> Predictor<'_, N> {
    /// x̂₀ of each row of `x_t: [B, …]` at its own time.
    ///
    /// # Panics
    ///
    /// If there are not B times.
    pub fn denoise_each<const D: usize>(&self, x_t: Tensor<D>, t: &[Timestep]) -> Tensor<D>
    where
        N: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>,
    {
        assert_eq!(x_t.dims()[0], t.len(), "one time per row");
        let device = x_t.device();
        let time = per_row(t.iter().map(|t| f64::from(t.network_input())), &device);
        let output = (self.network)(x_t.clone(), time);
        let c = |t: &Timestep| self.objective.denoise(*t);
        let of_x_t = per_row(t.iter().map(|t| c(t).x_t), &device);
        let of_output = per_row(t.iter().map(|t| c(t).output), &device);
        x_t * of_x_t + output * of_output
    }
}

impl<const D: usize, N> Denoiser<D> for Predictor<'_, N>
where
    N: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>,
{
    fn denoise(&self, x_t: Tensor<D>, t: Timestep) -> Tensor<D> {
        let times = vec![t; x_t.dims()[0]];
        self.denoise_each(x_t, &times)
    }
}

/// Clamps x̂₀ to [−1, 1], the range of images (Ho et al. 2020's `clip_denoised`).
#[derive(Clone, Copy, Debug)]
pub struct Clamped<M>(
    /// The denoiser whose answer is clamped.
    pub M,
);

impl<const D: usize, M: Denoiser<D>> Denoiser<D> for Clamped<M> {
    fn denoise(&self, x_t: Tensor<D>, t: Timestep) -> Tensor<D> {
        self.0.denoise(x_t, t).clamp(-1.0, 1.0)
    }
}

/// Classifier-free guidance (Ho & Salimans 2022): x̂₀ = base + w·(conditional − base).
///
/// `weight` 0 is the base alone, 1 the conditional alone, above 1 exaggerates the difference. x̂₀
/// is affine in the network's output at fixed x_t, so guiding x̂₀ is guiding ε or v.
#[derive(Clone, Copy, Debug)]
pub struct Guided<C, B> {
    /// The denoiser that knows the condition.
    pub conditional: C,
    /// The denoiser that does not.
    pub base: B,
    /// w.
    pub weight: f64,
}

impl<const D: usize, C: Denoiser<D>, B: Denoiser<D>> Denoiser<D> for Guided<C, B> {
    fn denoise(&self, x_t: Tensor<D>, t: Timestep) -> Tensor<D> {
        let base = self.base.denoise(x_t.clone(), t);
        let conditional = self.conditional.denoise(x_t, t);
        base.clone() + (conditional - base) * self.weight
    }
}
