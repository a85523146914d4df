//! Clipping x̂₀ to the range of the data, by a fixed bound or one per sample.

use std::fmt;

use burn::tensor::Tensor;
use thiserror::Error;

/// How x̂₀ is clipped to the range of the data.
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::Clip;
///
/// # let device = burn::tensor::Device::flex();
/// let x0 = Tensor::<2>::from_floats([[0.5, -3.0]], &device);
/// let clipped = Clip::UNIT.apply(x0.clone());
/// assert_eq!(clipped.into_data().iter::<f32>().collect::<Vec<_>>(), [0.5, -1.0]);
/// // The largest element of each sample becomes the bound.
/// let dynamic = Clip::dynamic(1.0, 1e3)?.apply(x0);
/// assert!((dynamic.max().into_scalar::<f32>() - 0.5 / 3.0).abs() < 1e-6);
/// # Ok::<(), ddpm_process::ClipError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Clip(Rule);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Rule {
    Fixed { range: f64 },
    Dynamic { quantile: f64, max: f64 },
}

/// Invalid arguments of a [`Clip`].
///
/// ```
/// use ddpm_process::{Clip, ClipError};
///
/// assert_eq!(Clip::to(0.0), Err(ClipError::Bound(0.0)));
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum ClipError {
    /// The bound is not positive and finite.
    #[error("the bound of x̂₀ must be in (0, ∞), not {0}")]
    Bound(f64),
    /// The largest bound of a dynamic clip is below the smallest, 1, or not finite.
    #[error("the largest bound of x̂₀ must be in [1, ∞), not {0}")]
    Maximum(f64),
    /// The quantile is outside [0, 1].
    #[error("the quantile {0} of |x̂₀| is outside [0, 1]")]
    Quantile(f64),
}

impl Clip {
    /// Clips to [−1, 1], the range of images (`clip_denoised` of Ho et al. 2020).
    pub const UNIT: Self = Self(Rule::Fixed { range: 1.0 });

    /// Clips to [−r, r].
    ///
    /// # Errors
    ///
    /// Unless 0 < r < ∞.
    pub fn to(range: f64) -> Result<Self, ClipError> {
        // This also refuses NaN.
        if range > 0.0 && range.is_finite() {
            Ok(Self(Rule::Fixed { range }))
        } else {
            Err(ClipError::Bound(range))
        }
    }

    /// Dynamic thresholding (Saharia et al. 2022, §2.3): with s the `quantile` of |x̂₀| over a
    /// sample's elements, at least 1 and at most `max`, x̂₀ is clamped to [−s, s] and divided by s.
    /// With `max` = 1 it is [`UNIT`](Self::UNIT).
    ///
    /// The quantile is interpolated linearly between two elements.
    ///
    /// # Errors
    ///
    /// Unless 0 ≤ `quantile` ≤ 1 and 1 ≤ `max` < ∞.
    pub fn dynamic(quantile: f64, max: f64) -> Result<Self, ClipError> {
        if !(1.0..f64::INFINITY).contains(&max) {
            return Err(ClipError::Maximum(max));
        }
        if !(0.0..=1.0).contains(&quantile) {
            return Err(ClipError::Quantile(quantile));
        }
        Ok(Self(Rule::Dynamic { quantile, max }))
    }

    /// Clips `x0: [B, …]`, which has one sample per row.
    ///
    /// # Panics
    ///
    /// If the clip is dynamic and a row has no elements.
    pub fn apply<const D: usize>(self, x0: Tensor<D>) -> Tensor<D> {
        match self.0 {
            Rule::Fixed { range } => x0.clamp(-range, range),
            Rule::Dynamic { quantile, max } => {
                let size = quantile_of_each(x0.clone().abs(), quantile);
                (x0 / size.clamp_min(1.0).clamp_max(max)).clamp(-1.0, 1.0)
            }
        }
    }
}

impl fmt::Display for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rule::Fixed { range } => write!(f, "to ±{range}"),
            Rule::Dynamic { quantile, max } => {
                write!(f, "dynamic, quantile {quantile}, at most {max}")
            }
        }
    }
}

/// The quantile of each row of `[B, …]`, shaped `[B, 1, …]`.
fn quantile_of_each<const D: usize>(x: Tensor<D>, quantile: f64) -> Tensor<D> {
    let mut shape = [1; D];
    shape[0] = x.dims()[0];
    let row: usize = x.dims()[1..].iter().product();
    let sorted = x.reshape([shape[0], row]).sort(1);
    assert!(row > 0, "a row without elements has no quantile");
    let last = row - 1;
    let place = quantile * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the whole part is an index, the rest a weight"
    )]
    let low = (place as usize).min(last);
    let share = place - low as f64;
    let element = |i: usize| sorted.clone().narrow(1, i, 1);
    let between = element(low) * (1.0 - share) + element((low + 1).min(last)) * share;
    between.reshape(shape)
}
