//! Denoisers: networks and other estimators of E\[x₀ | x_t\], and wrappers around them.

use burn::tensor::Tensor;
use ddpm_schedule::{NoiseLevel, Objective};

use crate::Clip;
use crate::output::{denoised, heads, scaled};
use crate::rows::{assert_fits, assert_like, network_time};

/// The expectation E\[x₀ | x_t\], learned or exact. Samplers of fixed variance need nothing else.
///
/// A closure of (x_t, at) is a denoiser if it returns a [`Prediction`], or a tensor, which is x̂₀.
/// `Box<dyn Denoiser<D>>`, `&dyn Denoiser<D>` and references to the denoisers of this crate are
/// denoisers too. A closure around another denoiser can pass on the parts of the prediction that it
/// does not change:
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::{Denoiser, Prediction};
/// use ddpm_schedule::NoiseLevel;
///
/// fn halved(denoiser: impl Denoiser<2>) -> impl Denoiser<2> {
///     move |x_t: Tensor<2>, at: NoiseLevel| {
///         let prediction = denoiser.predict(x_t, at);
///         Prediction { x0: prediction.x0 * 0.5, ..prediction }
///     }
/// }
/// ```
pub trait Denoiser<const D: usize> {
    /// The prediction for a batch `x_t: [B, …]` whose rows all have the level `at`. Each of its
    /// tensors has the shape and the dtype of `x_t`.
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D>;
}

/// A denoiser's prediction for x_t.
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::Prediction;
/// use ddpm_schedule::NoiseLevel;
///
/// # let device = burn::tensor::Device::flex();
/// let x_t = Tensor::<1>::from_floats([2.0], &device);
/// let prediction = Prediction::from(Tensor::<1>::zeros([1], &device)); // x̂₀ = 0
/// let at = NoiseLevel::new(0.6, 0.8)?;
/// assert_eq!(prediction.epsilon(&x_t, at).into_scalar::<f32>(), 2.5); // (x_t − a·x̂₀)/b
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Prediction<const D: usize> {
    /// x̂₀, shaped like x_t.
    pub x0: Tensor<D>,
    /// The ε̂ that a sampler uses, shaped like x_t; `None` for (x_t − a·x̂₀)/b.
    pub eps: Option<Tensor<D>>,
    /// v, the fraction of ln β in the step's ln σ² = v·ln β + (1−v)·ln β̃, shaped like x_t and
    /// about in [0, 1] (Nichol & Dhariwal 2021, eq. 15); `None` without a learned variance.
    pub share: Option<Tensor<D>>,
}

impl<const D: usize> Prediction<D> {
    /// [`eps`](Self::eps), or else ε̂ derived from x̂₀.
    pub fn epsilon(&self, x_t: &Tensor<D>, at: NoiseLevel) -> Tensor<D> {
        let derived = || (x_t.clone() - self.x0.clone() * at.signal()) * at.noise().recip();
        self.eps.clone().unwrap_or_else(derived)
    }
}

/// A prediction of x̂₀ alone.
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

/// A network with the objective that it was trained for, as a denoiser.
///
/// An output with twice the channels of x_t (axis 1) has a variance head: the first half is the
/// prediction, the second o = 2v − 1 with v the [`share`](Prediction::share).
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::{Denoiser, Predictor};
/// use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
///
/// let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
/// let level = schedule.level(schedule.last());
/// let objective = Objective::new(schedule, Parametrization::X0, Weighting::Simple)?;
/// let network = |x_t: Tensor<2>, _t: Tensor<1>| x_t * 0.5;
/// let predictor = Predictor { network, objective: &objective };
/// # let device = burn::tensor::Device::flex();
/// let prediction = predictor.predict(Tensor::<2>::ones([3, 2], &device), level);
/// assert_eq!(prediction.x0.mean().into_scalar::<f32>(), 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Predictor<'a, N> {
    /// f(x_t, t) with `x_t: [B, …]` and the network time `t: [B]`, as in
    /// [`training_loss`](crate::training_loss). A closure captures conditions such as a class.
    pub network: N,
    /// The objective of training. Its network's output determines x̂₀ at every one of its levels.
    pub objective: &'a Objective,
}

impl<N> Predictor<'_, N> {
    /// The prediction for each row of `x_t: [B, …]` at its own level: x̂₀ = c_skip·x_t +
    /// c_out·f(c_in·x_t, time) (Karras et al. 2022, eq. 7) with the network time of
    /// [`Process::time`](ddpm_schedule::Process::time).
    ///
    /// # Panics
    ///
    /// If there are not B levels; if the network's output does not determine x̂₀ at one of them
    /// ([`Objective::preconditioning`]); or if its shape is neither that of `x_t` nor that with
    /// twice the channels, or its dtype differs.
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

/// Clips the x̂₀ of a denoiser to the range of the data.
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::{AfterClip, Clip, Clipped, Denoiser};
/// use ddpm_schedule::NoiseLevel;
///
/// let denoiser = |x_t: Tensor<2>, _: NoiseLevel| x_t * 10.0;
/// let clipped = Clipped { denoiser, clip: Clip::UNIT, epsilon: AfterClip::Derived };
/// # let device = burn::tensor::Device::flex();
/// let at = NoiseLevel::new(0.6, 0.8)?;
/// let x0 = clipped.predict(Tensor::<2>::ones([3, 2], &device), at).x0;
/// assert_eq!(x0.max().into_scalar::<f32>(), 1.0);
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Clipped<M> {
    /// The denoiser whose x̂₀ is clipped.
    pub denoiser: M,
    /// How it is clipped.
    pub clip: Clip,
    /// The ε̂ of the prediction.
    pub epsilon: AfterClip,
}

/// The ε̂ that a sampler uses after x̂₀ is clipped.
///
/// ```
/// use ddpm_process::AfterClip;
///
/// assert_eq!(AfterClip::default(), AfterClip::Derived);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AfterClip {
    /// (x_t − a·x̂₀)/b with the clipped x̂₀, so that x_t = a·x̂₀ + b·ε̂ (guided-diffusion).
    #[default]
    Derived,
    /// The ε̂ of before the clip (DDIM in diffusers).
    Kept,
}

impl<const D: usize, M: Denoiser<D>> Denoiser<D> for Clipped<M> {
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
        let prediction = self.denoiser.predict(x_t.clone(), at);
        let eps = match self.epsilon {
            AfterClip::Derived => None,
            AfterClip::Kept => Some(prediction.epsilon(&x_t, at)),
        };
        Prediction {
            x0: self.clip.apply(prediction.x0),
            eps,
            share: prediction.share,
        }
    }
}

/// Classifier-free guidance (Ho & Salimans 2022): x̂₀ = base + w·(conditional − base).
///
/// A `weight` of 0 gives the base, 1 the conditional, and a larger one extrapolates. It is the
/// paper's w + 1 (eq. 6, where 0 is the conditional), and other software calls it the guidance
/// scale. x̂₀ is affine in the network's output at fixed x_t, so ε and v are guided in the same
/// way. If one of the two has its own ε̂, ε̂ is guided likewise. The variance is the conditional's.
///
/// Predicting panics if `weight` is not finite in the dtype of x_t, or if an x̂₀ differs from x_t
/// in shape or dtype.
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::{Denoiser, Guided};
/// use ddpm_schedule::NoiseLevel;
///
/// let conditional = |x_t: Tensor<2>, _: NoiseLevel| x_t * 2.0;
/// let base = |x_t: Tensor<2>, _: NoiseLevel| x_t;
/// let guided = Guided { conditional, base, weight: 3.0 };
/// # let device = burn::tensor::Device::flex();
/// let x0 = guided.predict(Tensor::<2>::ones([3, 2], &device), NoiseLevel::new(0.6, 0.8)?).x0;
/// assert_eq!(x0.mean().into_scalar::<f32>(), 4.0); // 1 + 3·(2 − 1)
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Guided<C, B> {
    /// The denoiser with the condition.
    pub conditional: C,
    /// The denoiser without the condition, or a weaker one.
    pub base: B,
    /// w: 1 is the conditional alone.
    #[doc(alias = "guidance_scale")]
    pub weight: f64,
}

impl<const D: usize, C: Denoiser<D>, B: Denoiser<D>> Denoiser<D> for Guided<C, B> {
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
        assert_fits(self.weight, &x_t);
        // At w = 1 the base cancels, so it is not evaluated.
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

/// Closures are denoisers by a blanket implementation. One for all references would overlap with
/// it, because a reference to a closure is a closure.
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
