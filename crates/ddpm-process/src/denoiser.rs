//! Denoisers: everything that, shown x_t, says what x₀ it expects.

use burn::tensor::Tensor;
use ddpm_schedule::{NoiseLevel, Objective, Visit};

use crate::Clip;
use crate::hybrid::heads;
use crate::rows::{assert_fits, assert_like, network_time, per_row};

/// The expectation E\[x₀ | x_t\], learned or exact. Samplers of fixed variance need nothing else.
///
/// A closure of (x_t, at) is a denoiser if it returns a [`Prediction`], or a tensor, which is an
/// x̂₀ that comes without a say in the variance. One around another denoiser passes the
/// variance on:
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::{Denoiser, Prediction};
/// use ddpm_schedule::Visit;
///
/// fn halved(denoiser: impl Denoiser<2>) -> impl Denoiser<2> {
///     move |x_t: Tensor<2>, at: Visit| {
///         let Prediction { x0, share } = denoiser.predict(x_t, at);
///         Prediction { x0: x0 * 0.5, share }
///     }
/// }
/// ```
pub trait Denoiser<const D: usize> {
    /// x̂₀ for a batch `x_t: [B, …]` whose rows all have the level of `at`, and what the denoiser
    /// has to say of the variance. Both have the shape and the dtype of `x_t`.
    fn predict(&self, x_t: Tensor<D>, at: Visit) -> Prediction<D>;

    /// x̂₀ alone.
    fn denoise(&self, x_t: Tensor<D>, at: Visit) -> Tensor<D> {
        self.predict(x_t, at).x0
    }
}

/// All that a network tells of the step from x_t.
#[derive(Clone, Debug)]
pub struct Prediction<const D: usize> {
    /// x̂₀, shaped like x_t.
    pub x0: Tensor<D>,
    /// v, the share of ln β in the step's ln σ² = v·ln β + (1−v)·ln β̃, shaped like x_t and
    /// about in [0, 1] (Nichol & Dhariwal 2021, eq. 15); `None` of a network that does not choose.
    pub share: Option<Tensor<D>>,
}

/// x̂₀ without a say in the variance.
impl<const D: usize> From<Tensor<D>> for Prediction<D> {
    fn from(x0: Tensor<D>) -> Self {
        Self { x0, share: None }
    }
}

impl<const D: usize, P, F> Denoiser<D> for F
where
    P: Into<Prediction<D>>,
    F: Fn(Tensor<D>, Visit) -> P,
{
    fn predict(&self, x_t: Tensor<D>, at: Visit) -> Prediction<D> {
        self(x_t, at).into()
    }
}

/// A network together with what its output means.
///
/// An output with twice the channels of x_t (axis 1) has a variance head: the first half is the
/// prediction, the second o = 2v − 1 with v the [`share`](Prediction::share).
#[derive(Clone, Copy, Debug)]
pub struct Predictor<'a, N> {
    /// f(x_t, t) with `x_t: [B, …]` and `t: [B]` holding t − 1, as in
    /// [`training_loss`](crate::training_loss). Conditions such as a class are captured by it.
    pub network: N,
    /// What the network was trained to predict, and on which schedule. That an [`Objective`]
    /// exists means x̂₀ can be recovered at every one of its levels.
    pub objective: &'a Objective,
}

impl<N> Predictor<'_, N> {
    /// x̂₀ and v of each row of `x_t: [B, …]` at its own level, the network told the time that goes
    /// with it.
    ///
    /// # Panics
    ///
    /// If there are not B visits, or the level of one is not the schedule's and ends the
    /// parametrization's say ([`Objective::denoise`]). If the output has neither the shape of
    /// `x_t` nor that with twice the channels, or another dtype.
    pub fn predict_each<const D: usize>(&self, x_t: Tensor<D>, at: &[Visit]) -> Prediction<D>
    where
        N: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>,
    {
        assert_eq!(x_t.dims()[0], at.len(), "one visit per row");
        let time = network_time(at.iter().map(|at| at.t), &x_t);
        let output = (self.network)(x_t.clone(), time);
        let (output, share) = heads(output, &x_t);
        let levels = at.iter().map(|at| at.level);
        Prediction {
            x0: denoised(self.objective, x_t, output, levels),
            share,
        }
    }
}

/// x̂₀ of each row from the network's output for it: (q·x_t − b·output)/(a·q − b·p).
pub(crate) fn denoised<const D: usize>(
    objective: &Objective,
    x_t: Tensor<D>,
    output: Tensor<D>,
    levels: impl Iterator<Item = NoiseLevel> + Clone,
) -> Tensor<D> {
    let c = levels.map(|level| objective.denoise(level));
    let of_x_t = per_row(c.clone().map(|c| c.x_t), &x_t);
    let of_output = per_row(c.map(|c| c.output), &x_t);
    x_t * of_x_t + output * of_output
}

impl<const D: usize, N> Denoiser<D> for Predictor<'_, N>
where
    N: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>,
{
    fn predict(&self, x_t: Tensor<D>, at: Visit) -> Prediction<D> {
        let visits = vec![at; x_t.dims()[0]];
        self.predict_each(x_t, &visits)
    }
}

/// Keeps x̂₀ in the range of the data.
#[derive(Clone, Copy, Debug)]
pub struct Clipped<M> {
    /// The denoiser whose answer is clipped.
    pub denoiser: M,
    /// How.
    pub clip: Clip,
}

impl<const D: usize, M: Denoiser<D>> Denoiser<D> for Clipped<M> {
    fn predict(&self, x_t: Tensor<D>, at: Visit) -> Prediction<D> {
        let Prediction { x0, share } = self.denoiser.predict(x_t, at);
        Prediction {
            x0: self.clip.apply(x0),
            share,
        }
    }
}

/// Classifier-free guidance (Ho & Salimans 2022): x̂₀ = base + w·(conditional − base).
///
/// `weight` 0 is the base alone, 1 the conditional alone, above 1 exaggerates the difference. It is
/// the paper's w + 1 (eq. 6, where 0 is the conditional alone), and what other software calls the
/// guidance scale. x̂₀ is affine in the network's output at fixed x_t, so guiding x̂₀ is guiding ε or
/// v. The variance is the conditional's.
///
/// Predicting panics if `weight` is not finite in the dtype of x_t, or if an x̂₀ has not the shape
/// and the dtype of x_t.
#[derive(Clone, Copy, Debug)]
pub struct Guided<C, B> {
    /// The denoiser that knows the condition.
    pub conditional: C,
    /// The denoiser that does not.
    pub base: B,
    /// w: 1 is the conditional alone.
    pub weight: f64,
}

impl<const D: usize, C: Denoiser<D>, B: Denoiser<D>> Denoiser<D> for Guided<C, B> {
    fn predict(&self, x_t: Tensor<D>, at: Visit) -> Prediction<D> {
        assert_fits(self.weight, &x_t);
        // At w = 1 the base cancels; there is no need to ask for it.
        if self.weight == 1.0 {
            return self.conditional.predict(x_t, at);
        }
        let base = self.base.denoise(x_t.clone(), at);
        let Prediction { x0, share } = self.conditional.predict(x_t.clone(), at);
        assert_like("the base's x̂₀", &base, &x_t);
        assert_like("the conditional's x̂₀", &x0, &x_t);
        Prediction {
            x0: base.clone() + (x0 - base) * self.weight,
            share,
        }
    }
}
