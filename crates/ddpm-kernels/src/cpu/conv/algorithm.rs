//! The choice between the algorithms of a convolution.

use super::axis::Axis;
use super::winograd::{Variant, applies};
use crate::cpu::isa::Isa;
use crate::cpu::precision::Precision;

/// Multiplications that take as long as loading a weight from memory, measured: see
/// `docs/performance.md`.
const PRODUCTS_PER_LOAD: usize = 24;

/// The fewest channels on either side for which Winograd's transforms save more than they cost.
const WINOGRAD_CHANNELS: usize = 32;

/// How a convolution or its input gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// For many images: the one of the last three with the fewest multiplications, where tiles that
    /// extend beyond the image count whole. `Direct` with fewer than 32 channels on either side, where
    /// the transforms would cost more than they save; never `Winograd4` in bf16.
    Fastest,
    /// As `Fastest`, for one image: each weight is loaded once per use, so a load counts as 24
    /// multiplications, and Winograd's algorithms have more weights.
    FastestOfOne,
    /// By the definition: every product of an input and a weight. At 64 channels its root mean
    /// square error is 4·10⁻⁷ of the result's root mean square; in bf16, 2·10⁻³.
    Direct,
    /// Winograd's F(2×2, 3×3) for 3×3 kernels of stride 1 without upsampling whose channels are
    /// multiples of the vector length; otherwise as `Direct`. The error, as above, is 3·10⁻⁷; in bf16,
    /// 4·10⁻³.
    Winograd2,
    /// Winograd's F(4×4, 3×3) under the same conditions. The error, as above, is 2·10⁻⁶; in bf16,
    /// 3·10⁻².
    Winograd4,
}

impl Algorithm {
    /// The variant of Winograd's algorithm for a map between `channels` (of both inputs, of the
    /// output), or `None` for the direct algorithm.
    pub(super) fn variant(
        self,
        (isa, precision): (Isa, Precision),
        axes: &[Axis; 2],
        channels: [usize; 3],
    ) -> Option<Variant> {
        if !applies(isa, precision, axes, channels) {
            return None;
        }
        match self {
            Self::Direct => None,
            Self::Winograd2 => Some(Variant::F2),
            Self::Winograd4 => Some(Variant::F4),
            Self::Fastest | Self::FastestOfOne => {
                let [first, second, outputs] = channels;
                if first + second < WINOGRAD_CHANNELS || outputs < WINOGRAD_CHANNELS {
                    return None;
                }
                let load = match self {
                    Self::FastestOfOne => PRODUCTS_PER_LOAD,
                    _ => 0,
                };
                [Some(Variant::F4), Some(Variant::F2), None]
                    .into_iter()
                    .filter(|&variant| precision == Precision::F32 || variant != Some(Variant::F4))
                    .min_by_key(|&variant| products(variant, axes) + load * weights(variant))
                    .flatten()
            }
        }
    }
}

/// Multiplications per pair of channels.
fn products(variant: Option<Variant>, axes: &[Axis; 2]) -> usize {
    let along = |axis: &Axis| match variant {
        None => 3 * axis.output,
        Some(variant) => variant.products(axis.output),
    };
    axes.iter().map(along).product()
}

/// Weights per pair of channels.
fn weights(variant: Option<Variant>) -> usize {
    variant.map_or(3, Variant::inputs).pow(2)
}
