//! The two register tiles that all convolutions are made of.
//!
//! Both hold up to fourteen rows of two vectors in registers (six on sixteen-register machines)
//! and feed them one broadcast number and two vectors per step, so that a processor with one
//! fused multiply-add of the full width per cycle is never short of loads.

#![allow(
    clippy::needless_range_loop,
    reason = "indices that are constants once unrolled"
)]

use pulp::Simd;

use crate::cpu::words::Words;

/// The most rows of a tile.
pub(crate) const fn max_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 14 } else { 6 }
}

/// Evaluates `$body` with the constant `$P` equal to `$rows`, which is at most `max_rows::<$S>()`.
macro_rules! with_rows {
    ($S:ty, $rows:expr, $P:ident => $body:expr) => {
        $crate::cpu::conv::tile::with_rows!(@arms $S, $rows, $P => $body;
            1 2 3 4 5 6; 7 8 9 10 11 12 13 14)
    };
    (@arms $S:ty, $rows:expr, $P:ident => $body:expr; $($few:literal)*; $($many:literal)*) => {
        match $rows {
            $($few => { const $P: usize = $few; $body })*
            $($many if const { $crate::cpu::conv::tile::max_rows::<$S>() >= 14 } => {
                const $P: usize = $many;
                $body
            })*
            _ => unreachable!("a tile of no such height"),
        }
    };
}
pub(crate) use with_rows;

/// The first `N` vectors at `from`.
///
/// # Safety
/// `N` vectors are readable there.
#[allow(
    unsafe_code,
    reason = "the innermost loop has no room for bounds checks"
)]
#[inline(always)]
unsafe fn load<S: Simd, const N: usize>(simd: S, from: *const f32) -> [S::f32s; N] {
    let mut v = [simd.splat_f32s(0.0); N];
    for (n, v) in v.iter_mut().enumerate() {
        // SAFETY: the caller's promise; a vector of floats is any bits.
        *v = unsafe {
            from.add(n * S::F32_LANES)
                .cast::<S::f32s>()
                .read_unaligned()
        };
    }
    v
}

/// acc[p][n] += Σᵢ rows[p][i] · weights[i][n], i ascending.
///
/// # Safety
/// Each row holds `channels` words, `weights` holds `channels`·`N` vectors.
#[allow(
    unsafe_code,
    reason = "the innermost loop has no room for bounds checks"
)]
#[inline(always)]
pub(crate) unsafe fn rows_times_matrix<S: Simd, W: Words<S>, const P: usize, const N: usize>(
    simd: S,
    words: W,
    acc: &mut [[S::f32s; N]; P],
    rows: &[*const f32; P],
    channels: usize,
    weights: *const f32,
) {
    // A copy, so that it lives in registers whatever the caller does with its own.
    let mut sums = *acc;
    for i in 0..channels {
        // SAFETY: i < channels, by the caller's promise.
        unsafe {
            let w = load::<S, N>(simd, weights.add(i * N * S::F32_LANES));
            for p in 0..P {
                let x = simd.splat_f32s(*rows[p].add(i));
                for n in 0..N {
                    sums[p][n] = words.mul_add(simd, x, w[n], sums[p][n]);
                }
            }
        }
    }
    *acc = sums;
}

/// A strided grid of points in an image: `start` + row·`row` + col·`col` floats.
#[derive(Clone, Copy)]
pub(crate) struct Lattice {
    pub(crate) start: *const f32,
    pub(crate) row: usize,
    pub(crate) col: usize,
}

/// sums[p][n] += Σ over a grid of points of left[p] · right[n]: the outer products of the first
/// `P` words at each point of `left` with the `N` vectors at that point of `right`.
///
/// # Safety
/// At each of the `grid` points, `P` words are readable at `left` and `N` vectors at
/// `right`; `sums` holds `P` rows of `N` vectors.
#[allow(
    unsafe_code,
    reason = "the innermost loop has no room for bounds checks"
)]
#[inline(always)]
pub(crate) unsafe fn outer_products<S: Simd, W: Words<S>, const P: usize, const N: usize>(
    simd: S,
    words: W,
    sums: *mut f32,
    left: Lattice,
    right: Lattice,
    grid: [usize; 2],
) {
    // Copied out and in by a loop of its own, so that the sums live in registers between.
    let mut acc = [[simd.splat_f32s(0.0); N]; P];
    for p in 0..P {
        // SAFETY: p < P rows, by the caller's promise.
        acc[p] = unsafe { load::<S, N>(simd, sums.add(p * N * S::F32_LANES)) };
    }
    for row in 0..grid[0] {
        for col in 0..grid[1] {
            // SAFETY: a point of the grid, by the caller's promise.
            unsafe {
                let x = left.start.add(row * left.row + col * left.col);
                let y = right.start.add(row * right.row + col * right.col);
                let y = load::<S, N>(simd, y);
                for p in 0..P {
                    let x = simd.splat_f32s(*x.add(p));
                    for n in 0..N {
                        acc[p][n] = words.mul_add(simd, x, y[n], acc[p][n]);
                    }
                }
            }
        }
    }
    let done = acc;
    for (p, acc) in done.iter().enumerate() {
        for (n, v) in acc.iter().enumerate() {
            // SAFETY: p < P rows of N vectors, by the caller's promise.
            unsafe {
                let to = sums.add((p * N + n) * S::F32_LANES);
                to.cast::<S::f32s>().write_unaligned(*v);
            }
        }
    }
}
