//! The linear layer y = x·Wᵀ + b and its gradients.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::gemm::{Matrix, Out, left_len, multiply, pack_left, pack_right, right_len};
use super::scratch::Scratch;
use super::{Isa, vector};

/// Rows of x that a task multiplies; a multiple of every tile's height.
const ROWS: usize = 96;
/// The largest tile of dW, and the rows of x between two visits to it.
const TILE: [usize; 2] = [384, 512];
const TERMS: usize = 256;
/// Tasks that the weight gradient is cut into, where there are rows enough.
const TASKS: usize = 16;

/// A weight, packed for one of its two products.
#[derive(Debug)]
pub struct Packed {
    isa: Isa,
    data: Vec<f32>,
    /// Terms of each sum, and results.
    k: usize,
    n: usize,
}

impl Packed {
    /// W `[outputs, inputs]` for y = x·Wᵀ.
    ///
    /// # Panics
    ///
    /// If `weight` has another number of elements.
    pub fn forward(isa: Isa, weight: &[f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(weight.len(), outputs * inputs, "linear: the weight");
        let weight = Matrix::rows(weight, inputs).transposed();
        Self::new(isa, weight, inputs, outputs)
    }

    /// W `[outputs, inputs]` for dx = dy·W.
    ///
    /// # Panics
    ///
    /// If `weight` has another number of elements.
    pub fn backward(isa: Isa, weight: &[f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(weight.len(), outputs * inputs, "linear: the weight");
        Self::new(isa, Matrix::rows(weight, inputs), outputs, inputs)
    }

    fn new(isa: Isa, weight: Matrix<'_>, k: usize, n: usize) -> Self {
        struct Pack<'a>(Matrix<'a>, [usize; 2], &'a mut [f32]);
        impl WithSimd for Pack<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                pack_right(simd, self.0, self.1[0], self.1[1], self.2);
            }
        }
        let mut data = vec![0.0; right_len(k, n)];
        isa.dispatch(Pack(weight, [k, n], &mut data));
        Self { isa, data, k, n }
    }
}

/// y `[M, outputs]` = x `[M, inputs]`·Wᵀ + b with [`Packed::forward`];
/// dx = dy·W with [`Packed::backward`] and no bias.
///
/// # Panics
///
/// If a length does not fit the weight's.
pub fn apply(weight: &Packed, x: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    struct Block<'a>(&'a Packed, &'a [f32], Option<&'a [f32]>, &'a mut [f32]);
    impl WithSimd for Block<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(weight, x, bias, y) = self;
            let (n, k) = (weight.n, weight.k);
            let m = y.len() / n;
            let mut left = Scratch::take(left_len(m, k));
            pack_left(simd, Matrix::rows(x, k), m, k, &mut left);
            let mut out = Out {
                data: y,
                stride: n,
                add: false,
                bias,
            };
            multiply(simd, [m, n, k], &left, &weight.data, &mut out);
        }
    }
    let (n, k) = (weight.n, weight.k);
    assert!(
        (y.len() * k, y.len() % n.max(1)) == (x.len() * n, 0),
        "linear: {} to {} elements with a {n}×{k} weight",
        x.len(),
        y.len()
    );
    assert!(bias.is_none_or(|b| b.len() == n), "linear: the bias");
    y.par_chunks_mut((ROWS * n).max(1))
        .enumerate()
        .for_each(|(i, y)| {
            let x = &x[i * ROWS * k..][..y.len() / n * k];
            weight.isa.dispatch(Block(weight, x, bias, y));
        });
}

/// dW `[outputs, inputs]` = dyᵀ·x for x `[M, inputs]` and dy `[M, outputs]`.
///
/// # Panics
///
/// If a length does not fit `outputs` and `inputs`.
pub fn weight_gradient(
    isa: Isa,
    [outputs, inputs]: [usize; 2],
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    assert!(
        dw.len() == outputs * inputs && x.len() * outputs == dy.len() * inputs,
        "linear: x, dy and dW"
    );
    if dw.is_empty() {
        return;
    }
    let rows = x.len() / inputs;
    // Tiles as even as full panels allow.
    let even = |len: usize, most: usize| len.div_ceil(len.div_ceil(most)).next_multiple_of(12);
    let [height, width] = [even(outputs, TILE[0]), even(inputs, TILE[1])];
    let [down, across] = [outputs.div_ceil(height), inputs.div_ceil(width)];
    let shares = (TASKS / (down * across)).clamp(1, rows.div_ceil(TERMS).max(1));
    let size = height * width;
    let mut sums = Scratch::take(shares * down * across * size);
    sums.par_chunks_mut(size)
        .enumerate()
        .for_each(|(task, sums)| {
            // Neighbouring tasks read the same rows.
            let (share, tile) = (task / (down * across), task % (down * across));
            isa.dispatch(Tile {
                x: Matrix::rows(x, inputs),
                dy: Matrix::rows(dy, outputs),
                rows: rows * share / shares..rows * (share + 1) / shares,
                outputs: part(tile / across, height, outputs),
                inputs: part(tile % across, width, inputs),
                sums,
            });
        });
    dw.par_chunks_mut(inputs).enumerate().for_each(|(o, dw)| {
        for (tile, dw) in dw.chunks_mut(width).enumerate() {
            let tile = o / height * across + tile;
            dw.fill(0.0);
            for share in 0..shares {
                let start = (share * down * across + tile) * size + o % height * dw.len();
                for (dw, sum) in dw.iter_mut().zip(&sums[start..]) {
                    *dw += sum;
                }
            }
        }
    });
}

/// The `i`-th part of `0..len` cut into pieces of `size`.
fn part(i: usize, size: usize, len: usize) -> std::ops::Range<usize> {
    i * size..((i + 1) * size).min(len)
}

/// Some rows' terms of a tile of dW.
struct Tile<'a> {
    x: Matrix<'a>,
    dy: Matrix<'a>,
    rows: std::ops::Range<usize>,
    outputs: std::ops::Range<usize>,
    inputs: std::ops::Range<usize>,
    sums: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (m, n) = (self.outputs.len(), self.inputs.len());
        let mut left = Scratch::take(left_len(m, TERMS));
        let mut right = Scratch::take(right_len(TERMS, n));
        self.sums.fill(0.0);
        for row in self.rows.clone().step_by(TERMS) {
            let k = TERMS.min(self.rows.end - row);
            let dy = self.dy.from(row, self.outputs.start).transposed();
            pack_left(simd, dy, m, k, &mut left);
            pack_right(simd, self.x.from(row, self.inputs.start), k, n, &mut right);
            let mut out = Out {
                data: self.sums,
                stride: n,
                add: true,
                bias: None,
            };
            multiply(simd, [m, n, k], &left, &right, &mut out);
        }
    }
}

/// db `[outputs]` = Σ over the rows of dy `[M, outputs]`.
///
/// # Panics
///
/// If `db` does not divide `dy`.
pub fn bias_gradient(isa: Isa, dy: &[f32], db: &mut [f32]) {
    struct Rows<'a>(&'a [f32], usize);
    impl WithSimd for Rows<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let mut sum = vec![0.0; self.1];
            for row in self.0.chunks_exact(self.1) {
                vector::zip!(S, simd, [row], [&mut sum[..]], |[x], [sum]| {
                    [simd.add_f32s(sum, x)]
                });
            }
            sum
        }
    }
    if db.is_empty() {
        return;
    }
    let width = db.len();
    assert!(dy.len().is_multiple_of(width), "linear: dy and db");
    let sums: Vec<Vec<f32>> = (dy.par_chunks(TERMS * width))
        .map(|dy| isa.dispatch(Rows(dy, width)))
        .collect();
    for (i, db) in db.iter_mut().enumerate() {
        *db = vector::rounded(sums.iter().map(|sum| f64::from(sum[i])).sum());
    }
}
