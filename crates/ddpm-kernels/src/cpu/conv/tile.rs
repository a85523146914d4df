//! The two register tiles that all convolutions are made of.
//!
//! Both keep up to fourteen rows of two vectors in registers (six rows on machines with sixteen
//! registers) and combine them with one broadcast word and two vectors per step, so that a processor
//! with one full-width fused multiply-add per cycle never waits for loads.
//!
//! The loops are compiled for even heights only: in a tile of odd height one more row is computed and
//! not stored. Each is compiled once per instruction set and kind of words, in a function of its own.

#![allow(
    clippy::needless_range_loop,
    reason = "indices that are constants once unrolled"
)]

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use crate::cpu::isa::Isa;
use crate::cpu::words::{WithWords, Words, outlined};

/// The most rows of a tile on any instruction set.
pub(crate) const MAX_ROWS: usize = 14;

/// The most rows of a tile.
pub(crate) const fn max_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { MAX_ROWS } else { 6 }
}

/// The most rows of a tile on `isa`.
pub(crate) fn max_rows_of(isa: Isa) -> usize {
    struct MaxRows;
    impl WithSimd for MaxRows {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            max_rows::<S>()
        }
    }
    isa.dispatch(MaxRows)
}

/// The number of rows that a tile of `height` rows computes.
pub(crate) fn computed_rows(height: usize) -> usize {
    height.next_multiple_of(2)
}

/// Evaluates `$body` with the constant `$P` equal to `computed_rows($height)`; the height is between
/// 1 and `max_rows::<$S>()`.
macro_rules! with_rows {
    ($S:ty, $height:expr, $P:ident => $body:expr) => {
        with_rows!(@arms $S, $height, $P => $body; 2 4 6; 8 10 12 14)
    };
    (@arms $S:ty, $height:expr, $P:ident => $body:expr; $($few:literal)*; $($many:literal)*) => {
        match computed_rows($height) {
            $($few => { const $P: usize = $few; $body })*
            $($many if const { max_rows::<$S>() == MAX_ROWS } => {
                const $P: usize = $many;
                $body
            })*
            _ => unreachable!("a tile of {} rows", $height),
        }
    };
}

/// The first `N` vectors at `from`.
///
/// # Safety
///
/// `N` vectors are readable there.
#[allow(
    unsafe_code,
    reason = "the innermost loop has no room for bounds checks"
)]
#[inline(always)]
unsafe fn load<S: Simd, const N: usize>(simd: S, from: *const f32) -> [S::f32s; N] {
    let mut v = [simd.splat_f32s(0.0); N];
    for (n, v) in v.iter_mut().enumerate() {
        // SAFETY: the caller's promise; any bits are a vector of floats.
        *v = unsafe {
            from.add(n * S::F32_LANES)
                .cast::<S::f32s>()
                .read_unaligned()
        };
    }
    v
}

/// Some of the terms of a [`Product`]: `len` words of each row.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    /// At each, `len` words are readable.
    rows: [*const f32; MAX_ROWS],
    len: usize,
    words: PhantomData<&'a [f32]>,
}

impl<'a> Segment<'a> {
    /// Rows of `len` words, one after the other.
    ///
    /// # Panics
    ///
    /// If there are no rows.
    #[inline(always)]
    pub(crate) fn contiguous(words: &'a [f32], len: usize) -> Self {
        let mut rows = [words[..len].as_ptr(); MAX_ROWS];
        for (to, row) in rows.iter_mut().zip(words.chunks_exact(len)) {
            *to = row.as_ptr();
        }
        Self {
            rows,
            len,
            words: PhantomData,
        }
    }

    /// Pixels of images, `len` words each. A row is the pixel of its number if it is said to be
    /// inside, and zeros otherwise.
    ///
    /// # Panics
    ///
    /// If there are fewer than `len` zeros.
    #[allow(
        clippy::needless_bitwise_bool,
        reason = "a branch would often be mispredicted"
    )]
    #[inline(always)]
    pub(crate) fn pixels(
        images: &'a [f32],
        zeros: &'a [f32],
        len: usize,
        pixels: impl Iterator<Item = (bool, usize)>,
    ) -> Self {
        let zeros = zeros[..len].as_ptr();
        let mut rows = [zeros; MAX_ROWS];
        for (row, (inside, pixel)) in rows.iter_mut().zip(pixels) {
            let start = pixel.wrapping_mul(len);
            let fits = (start < images.len()) & (images.len().wrapping_sub(start) >= len);
            let pixel = images.as_ptr().wrapping_add(start);
            *row = if inside & fits { pixel } else { zeros };
        }
        Self {
            rows,
            len,
            words: PhantomData,
        }
    }
}

/// sums[p][n] = Σᵢ rows[p][i] · weights[i][n], i ascending through all segments.
pub(crate) struct Product<'a> {
    pub(crate) segments: &'a [Segment<'a>],
    /// Rows, between 1 and [`max_rows`].
    pub(crate) height: usize,
    /// Vectors of a row, 1 or 2.
    pub(crate) vectors: usize,
    /// `[word of all segments][lane]`
    pub(crate) weights: &'a [f32],
    /// `[row][lane]`
    pub(crate) sums: &'a mut [f32],
}

impl Product<'_> {
    /// Computes the sums.
    ///
    /// # Panics
    ///
    /// If the weights or the sums are too few.
    #[inline(always)]
    pub(crate) fn compute<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        outlined(simd, words, self);
    }

    #[inline(always)]
    fn tile<S: Simd, W: Words<S>, const P: usize, const N: usize>(self, simd: S, words: W) {
        let width = N * S::F32_LANES;
        let len: usize = self.segments.iter().map(|segment| segment.len).sum();
        assert!(self.weights.len() >= len * width && self.sums.len() >= self.height * width);
        let mut acc = [[simd.splat_f32s(0.0); N]; P];
        let mut weights = self.weights.as_ptr();
        for segment in self.segments {
            let rows = segment.rows.first_chunk::<P>().expect("P ≤ MAX_ROWS");
            for i in 0..segment.len {
                #[allow(
                    unsafe_code,
                    reason = "the innermost loop has no room for bounds checks"
                )]
                // SAFETY: i < len words are readable in each row, by the segment's invariant; the
                // weights of all segments' words were checked above.
                unsafe {
                    let w = load::<S, N>(simd, weights);
                    weights = weights.add(width);
                    for p in 0..P {
                        let x = simd.splat_f32s(*rows[p].add(i));
                        for n in 0..N {
                            acc[p][n] = words.mul_add(simd, x, w[n], acc[p][n]);
                        }
                    }
                }
            }
        }
        store::<S, P, N>(&acc, self.sums, self.height);
    }
}

impl WithWords for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        with_rows!(S, self.height, P => match self.vectors {
            2 => self.tile::<S, W, P, 2>(simd, words),
            _ => self.tile::<S, W, P, 1>(simd, words),
        });
    }
}

/// Stores the first `height` rows, all of them or all but the last.
#[inline(always)]
fn store<S: Simd, const P: usize, const N: usize>(
    acc: &[[S::f32s; N]; P],
    sums: &mut [f32],
    height: usize,
) {
    let sums = S::as_mut_simd_f32s(sums).0;
    for p in 0..P {
        if p + 1 < P || height == P {
            for n in 0..N {
                sums[p * N + n] = acc[p][n];
            }
        }
    }
}

/// A strided grid of points in a slice: point (r, c) starts at `start` + r·`strides[0]` +
/// c·`strides[1]`, and `width` floats belong to it.
#[derive(Clone, Copy)]
pub(crate) struct Lattice<'a> {
    start: *const f32,
    strides: [usize; 2],
    /// Rows and columns of points.
    grid: [usize; 2],
    width: usize,
    floats: PhantomData<&'a [f32]>,
}

impl<'a> Lattice<'a> {
    /// # Panics
    ///
    /// If the grid has no points or one of them leaves the slice.
    #[inline(always)]
    pub(crate) fn new(
        floats: &'a [f32],
        start: usize,
        strides: [usize; 2],
        grid: [usize; 2],
        width: usize,
    ) -> Self {
        assert!(grid[0] > 0 && grid[1] > 0, "a lattice without points");
        let last = start + (grid[0] - 1) * strides[0] + (grid[1] - 1) * strides[1];
        assert!(
            last + width <= floats.len(),
            "a lattice leaves its {} floats",
            floats.len()
        );
        Self {
            start: floats[start..].as_ptr(),
            strides,
            grid,
            width,
            floats: PhantomData,
        }
    }
}

/// sums[p][n] += Σ left[p] · right[n] over a grid of points: the outer products of the first words at
/// each point of `left` with the vectors at the same point of `right`.
pub(crate) struct OuterProducts<'a> {
    /// [`computed_rows`] of `height` words at each point.
    pub(crate) left: Lattice<'a>,
    /// `vectors` vectors at each point.
    pub(crate) right: Lattice<'a>,
    /// Rows, between 1 and [`max_rows`].
    pub(crate) height: usize,
    /// Vectors of a row, 1 or 2.
    pub(crate) vectors: usize,
    /// `[row][lane]`
    pub(crate) sums: &'a mut [f32],
}

impl OuterProducts<'_> {
    /// Adds the outer products to the sums.
    ///
    /// # Panics
    ///
    /// If the grids differ, their points are too small, or the sums are too few.
    #[inline(always)]
    pub(crate) fn add<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        outlined(simd, words, self);
    }

    #[inline(always)]
    fn tile<S: Simd, W: Words<S>, const P: usize, const N: usize>(self, simd: S, words: W) {
        let Self { left, right, .. } = self;
        let width = N * S::F32_LANES;
        assert!(left.grid == right.grid && left.width >= P && right.width >= width);
        assert!(self.sums.len() >= self.height * width);
        // Loaded and stored by loops of their own, so that the sums live in registers in between.
        let mut acc = [[simd.splat_f32s(0.0); N]; P];
        let before = S::as_simd_f32s(self.sums).0;
        for p in 0..P {
            if p + 1 < P || self.height == P {
                for n in 0..N {
                    acc[p][n] = before[p * N + n];
                }
            }
        }
        for row in 0..left.grid[0] {
            for col in 0..left.grid[1] {
                #[allow(
                    unsafe_code,
                    reason = "the innermost loop has no room for bounds checks"
                )]
                // SAFETY: a point of both lattices, whose widths were checked above.
                unsafe {
                    let x = left
                        .start
                        .add(row * left.strides[0] + col * left.strides[1]);
                    let y = (right.start).add(row * right.strides[0] + col * right.strides[1]);
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
        store::<S, P, N>(&acc, self.sums, self.height);
    }
}

impl WithWords for OuterProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_words<S: Simd, W: Words<S>>(self, simd: S, words: W) {
        with_rows!(S, self.height, P => match self.vectors {
            2 => self.tile::<S, W, P, 2>(simd, words),
            _ => self.tile::<S, W, P, 1>(simd, words),
        });
    }
}
