//! Vectors of an instruction set: how long they are, and how part of one is read and written.

use pulp::{Simd, WithSimd};

use super::isa::Isa;

/// The number of floats in a vector of `isa`.
pub(crate) fn lanes(isa: Isa) -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    isa.dispatch(Lanes)
}

/// Loads at most a vector of floats and fills the rest of the vector with zeros.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from) {
        ([v], []) => *v,
        _ => simd.partial_load_f32s(from),
    }
}

/// Stores as many floats of `v` as fit into `to`.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, to: &mut [f32], v: S::f32s) {
    match S::as_mut_simd_f32s(to) {
        ([to], []) => *to = v,
        _ => simd.partial_store_f32s(to, v),
    }
}
