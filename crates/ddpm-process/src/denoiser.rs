//! Denoisers: everything that, shown x_t, says what x₀ it expects.

use burn::tensor::Tensor;
use ddpm_schedule::{NoiseLevel, Objective};

use crate::Clip;
use crate::output::{denoised, heads, scaled};
use crate::rows::{assert_fits, assert_like, network_time};

/// The expectation E\[x₀ | x_t\], learned or exact. Samplers of fixed variance need nothing else.
///
/// A closure of (x_t, at) is a denoiser if it returns a [`Prediction`], or a tensor, which is an
/// x̂₀ and nothing more. `Box<dyn Denoiser<D>>`, `&dyn Denoiser<D>` and references to the denoisers
/// of this crate are denoisers too. A closure around another denoiser passes on what it does not
/// change:
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::{Denoiser, Prediction};
/// use ddpm_schedule::NoiseLevel;
///
/// fn halved(denoiser: impl Denoiser<2>) -> impl Denoiser<2> {
///     move |x_t: Tensor<2>, at: NoiseLevel| {
///         let said = denoiser.predict(x_t, at);
///         Prediction { x0: said.x0 * 0.5, ..said }
///     }
/// }
/// ```
pub trait Denoiser<const D: usize> {
    /// What the denoiser says of a batch `x_t: [B, …]` whose rows all have the level `at`. Each
    /// tensor of it has the shape and the dtype of `x_t`.
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D>;
}

/// All that a denoiser says of x_t.
#[derive(Clone, Debug)]
pub struct Prediction<const D: usize> {
    /// x̂₀, shaped like x_t.
    pub x0: Tensor<D>,
    /// The ε̂ that a sampler goes on with, shaped like x_t; `None` where it is
    /// (x_t − a·x̂₀)/b, what x̂₀ leaves of x_t.
    pub eps: Option<Tensor<D>>,
    /// v, the share of ln β in the step's ln σ² = v·ln β + (1−v)·ln β̃, shaped like x_t and
    /// about in [0, 1] (Nichol & Dhariwal 2021, eq. 15); `None` of a network that does not choose.
    pub share: Option<Tensor<D>>,
}

impl<const D: usize> Prediction<D> {
    /// ε̂, derived from x̂₀ where there is none of its own.
    pub fn epsilon(&self, x_t: &Tensor<D>, at: NoiseLevel) -> Tensor<D> {
        let derived = || (x_t.clone() - self.x0.clone() * at.signal()) * at.noise().recip();
        self.eps.clone().unwrap_or_else(derived)
    }
}

/// x̂₀ and nothing more.
impl<const D: usize> From<Tensor<D>> for Prediction<D> {
    fn from(x0: Tensor<D>) -> Self {
        let (eps, share) = (None, None);
        Self { x0, eps, share }
    }
}

impl<const D: usize, P, F> Denoiser<D> for F
where
    P: Into<Prediction<D>>,
    F: Fn(Tensor<D>, NoiseLevel) -> P,
{
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
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
    /// What the network says of each row of `x_t: [B, …]` at its own level:
    /// x̂₀ = c_skip·x_t + c_out·f(c_in·x_t, time) (Karras et al. 2022, eq. 7), where the time is the
    /// process's ([`Process::time`](ddpm_schedule::Process::time)).
    ///
    /// # Panics
    ///
    /// If there are not B levels, or the parametrization has no say at one of them
    /// ([`Objective::preconditioning`]). If the output has neither the shape of `x_t` nor that
    /// with twice the channels, or another dtype.
    pub fn predict_each<const D: usize>(&self, x_t: Tensor<D>, at: &[NoiseLevel]) -> Prediction<D>
    where
        N: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>,
    {
        assert_eq!(x_t.dims()[0], at.len(), "one level per row");
        let time = network_time(self.objective.process(), at, &x_t);
        let output = (self.network)(scaled(self.objective, x_t.clone(), at), time);
        let (output, share) = heads(output, &x_t);
        let x0 = denoised(self.objective, x_t, output, at);
        let eps = None;
        Prediction { x0, eps, share }
    }
}

impl<const D: usize, N> Denoiser<D> for Predictor<'_, N>
where
    N: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>,
{
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
        let levels = vec![at; x_t.dims()[0]];
        self.predict_each(x_t, &levels)
    }
}

/// Keeps x̂₀ in the range of the data.
#[derive(Clone, Copy, Debug)]
pub struct Clipped<M> {
    /// The denoiser whose answer is clipped.
    pub denoiser: M,
    /// How.
    pub clip: Clip,
    /// What becomes of ε̂.
    pub epsilon: AfterClip,
}

/// The ε̂ that a sampler goes on with once x̂₀ is clipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AfterClip {
    /// (x_t − a·x̂₀)/b of the clipped x̂₀: x_t is still a·x̂₀ + b·ε̂ (guided-diffusion).
    #[default]
    Derived,
    /// The network's own, as before the clip (DDIM in diffusers).
    Kept,
}

impl<const D: usize, M: Denoiser<D>> Denoiser<D> for Clipped<M> {
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
        let said = self.denoiser.predict(x_t.clone(), at);
        let eps = match self.epsilon {
            AfterClip::Derived => None,
            AfterClip::Kept => Some(said.epsilon(&x_t, at)),
        };
        Prediction {
            x0: self.clip.apply(said.x0),
            eps,
            share: said.share,
        }
    }
}

/// Classifier-free guidance (Ho & Salimans 2022): x̂₀ = base + w·(conditional − base).
///
/// `weight` 0 is the base alone, 1 the conditional alone, above 1 exaggerates the difference. It is
/// the paper's w + 1 (eq. 6, where 0 is the conditional alone), and what other software calls the
/// guidance scale. x̂₀ is affine in the network's output at fixed x_t, so guiding x̂₀ is guiding ε or
/// v. An ε̂ of its own that one of the two gives is guided alike. The variance is the conditional's.
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
    #[doc(alias = "guidance_scale")]
    pub weight: f64,
}

impl<const D: usize, C: Denoiser<D>, B: Denoiser<D>> Denoiser<D> for Guided<C, B> {
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
        assert_fits(self.weight, &x_t);
        // At w = 1 the base cancels; there is no need to ask for it.
        if self.weight == 1.0 {
            return self.conditional.predict(x_t, at);
        }
        let base = self.base.predict(x_t.clone(), at);
        let conditional = self.conditional.predict(x_t.clone(), at);
        assert_like("the base's x̂₀", &base.x0, &x_t);
        assert_like("the conditional's x̂₀", &conditional.x0, &x_t);
        let guided = |base: Tensor<D>, to: Tensor<D>| base.clone() + (to - base) * self.weight;
        let own = base.eps.is_some() || conditional.eps.is_some();
        let eps = own.then(|| guided(base.epsilon(&x_t, at), conditional.epsilon(&x_t, at)));
        Prediction {
            x0: guided(base.x0, conditional.x0),
            eps,
            share: conditional.share,
        }
    }
}

/// Closures are denoisers by a blanket implementation, which leaves no room for one of all
/// references: one could refer to a closure.
macro_rules! also_by_reference {
    ($([$($parameter:tt)*] $type:ty)*) => {$(
        impl<const D: usize, $($parameter)*> Denoiser<D> for $type {
            fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
                (**self).predict(x_t, at)
            }
        }
    )*};
}

also_by_reference! {
    [] Box<dyn Denoiser<D> + '_>
    [] &(dyn Denoiser<D> + '_)
    [N: Fn(Tensor<D>, Tensor<1>) -> Tensor<D>] &Predictor<'_, N>
    [M: Denoiser<D>] &Clipped<M>
    [C: Denoiser<D>, B: Denoiser<D>] &Guided<C, B>
}
