//! Gradients of the epilogue's terms: sums over pixels.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu::isa::Isa;

/// Computes the gradients of a shift and of a bias from `dy`, the gradient of the output,
/// `[batch, pixels, channels]`.
///
/// Writes the sum over the pixels of each image to `shift`, `[batch, channels]`, and the sum over all
/// pixels to `bias`, `[channels]`.
///
/// # Panics
///
/// If `bias` is empty or the lengths do not match.
pub fn shift_gradient(isa: Isa, dy: &[f32], shift: &mut [f32], bias: &mut [f32]) {
    let channels = bias.len();
    assert!(channels > 0, "at least one channel");
    assert_eq!(shift.len() % channels, 0, "a shift for every image");
    bias.fill(0.0);
    let batch = shift.len() / channels;
    if batch == 0 {
        assert!(dy.is_empty(), "an output gradient without images");
        return;
    }
    let image = dy.len() / batch;
    assert_eq!(
        image * batch,
        dy.len(),
        "an output gradient of whole images"
    );
    assert_eq!(image % channels, 0, "an output gradient of whole pixels");
    shift
        .par_chunks_mut(channels)
        .enumerate()
        .for_each(|(k, sums)| {
            let dy = &dy[k * image..][..image];
            isa.dispatch(Sum { dy, sums });
        });
    for shift in shift.chunks_exact(channels) {
        isa.dispatch(Add { to: bias, shift });
    }
}

/// Sums pixels into `sums`.
struct Sum<'a> {
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.sums.fill(0.0);
        for pixel in self.dy.chunks_exact(self.sums.len()) {
            add(simd, self.sums, pixel);
        }
    }
}

/// Adds one vector to another.
struct Add<'a> {
    to: &'a mut [f32],
    shift: &'a [f32],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        add(simd, self.to, self.shift);
    }
}

/// to += from.
#[inline(always)]
fn add<S: Simd>(simd: S, to: &mut [f32], from: &[f32]) {
    let (to, to_rest) = S::as_mut_simd_f32s(to);
    let (from, from_rest) = S::as_simd_f32s(from);
    for (to, from) in to.iter_mut().zip(from) {
        *to = simd.add_f32s(*to, *from);
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to += from;
    }
}
