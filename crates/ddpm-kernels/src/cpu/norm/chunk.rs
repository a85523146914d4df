//! The loops over a chunk of one image: a few rows, each of several pixels' channels.

use pulp::{Simd, WithSimd};

use crate::cpu::isa::Isa;
use crate::cpu::vector;

/// Count, mean and the sum of squares about the mean.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub(super) n: f64,
    pub(super) mean: f64,
    pub(super) squares: f64,
}

impl Sums {
    /// The sums of a union (Chan, Golub & LeVeque 1983).
    pub(super) fn combine(parts: impl Iterator<Item = Self> + Clone) -> Self {
        let n: f64 = parts.clone().map(|p| p.n).sum();
        let mean = parts.clone().map(|p| p.n * p.mean).sum::<f64>() / n;
        let squares = parts
            .map(|p| p.squares + p.n * (p.mean - mean) * (p.mean - mean))
            .sum();
        Self { n, mean, squares }
    }
}

/// Where a chunk's rows lie in a tensor that has other channels too.
#[derive(Clone, Copy)]
pub(super) struct RowLayout {
    pub(super) stride: usize,
    pub(super) first: usize,
}

/// The coefficients of z = (x − centre)·factor + term along a row.
pub(super) struct Affine {
    centre: Vec<f32>,
    factor: Vec<f32>,
    term: Vec<f32>,
}

impl Affine {
    /// From the coefficients of each channel.
    pub(super) fn new(channels: usize, repeat: usize, of: impl Fn(usize) -> [f32; 3]) -> Self {
        let of: Vec<[f32; 3]> = (0..channels).map(of).collect();
        let row = |i: usize| along_row(repeat, of.iter().map(|c| c[i]));
        Self {
            centre: row(0),
            factor: row(1),
            term: row(2),
        }
    }

    fn width(&self) -> usize {
        self.centre.len().max(1)
    }
}

/// The values of the channels, repeated for each pixel of a row.
pub(super) fn along_row(repeat: usize, channels: impl Iterator<Item = f32>) -> Vec<f32> {
    channels.collect::<Vec<_>>().repeat(repeat)
}

/// The moments of each channel of a chunk: one pass for the mean, one for the squares about it.
pub(super) fn moments(isa: Isa, x: &[f32], channels: usize, repeat: usize) -> Vec<Sums> {
    struct ChannelMoments<'a> {
        x: &'a [f32],
        width: usize,
        count: &'a dyn Fn(usize) -> f32,
    }
    impl WithSimd for ChannelMoments<'_> {
        type Output = [Vec<f32>; 3];
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let mut mean = vec![0.0; self.width];
            for x in self.x.chunks(self.width) {
                let sums = [&mut mean[..x.len()]];
                vector::zip!(S, simd, [x], over sums, into [], |[x], [sum]| {
                    ([simd.add_f32s(sum, x)], [])
                });
            }
            for (lane, mean) in mean.iter_mut().enumerate() {
                *mean /= (self.count)(lane).max(1.0);
            }
            // The mean is rounded; the sum of the distances from it is its error.
            let (mut error, mut squares) = (vec![0.0; self.width], vec![0.0; self.width]);
            for x in self.x.chunks(self.width) {
                let inputs = [x, &mean[..x.len()]];
                let sums = [&mut error[..x.len()], &mut squares[..x.len()]];
                vector::zip!(S, simd, inputs, over sums, into [], |[x, mean], [sum, squares]| {
                    let d = simd.sub_f32s(x, mean);
                    let squares = simd.mul_add_e_f32s(d, d, squares);
                    ([simd.add_f32s(sum, d), squares], [])
                });
            }
            [mean, error, squares]
        }
    }
    let width = (channels * repeat).max(1);
    // The last row may be shorter: the lanes beyond its end have one pixel fewer.
    let count = |lane| (x.len() / width + usize::from(lane < x.len() % width)) as f32;
    let [mean, error, squares] = isa.dispatch(ChannelMoments {
        x,
        width,
        count: &count,
    });
    let lane = |i: usize| {
        let n = f64::from(count(i));
        let error = f64::from(error[i]) / n.max(1.0);
        Sums {
            n,
            mean: f64::from(mean[i]) + error,
            squares: f64::from(squares[i]) - n * error * error,
        }
    };
    (0..channels)
        .map(|c| match repeat {
            1 => lane(c),
            _ => Sums::combine((0..repeat).map(|r| lane(r * channels + c))),
        })
        .collect()
}

/// y = SiLU(z), or y = z.
pub(super) fn apply(
    isa: Isa,
    x: &[f32],
    affine: &Affine,
    silu: bool,
    y: &mut [f32],
    rows: RowLayout,
) {
    struct Apply<'a, const SILU: bool>(&'a [f32], &'a Affine, &'a mut [f32], RowLayout);
    impl<const SILU: bool> WithSimd for Apply<'_, SILU> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(x, affine, y, rows) = self;
            for (x, y) in x.chunks(affine.width()).zip(y.chunks_mut(rows.stride)) {
                let n = x.len();
                let inputs = [
                    x,
                    &affine.centre[..n],
                    &affine.factor[..n],
                    &affine.term[..n],
                ];
                let y = [&mut y[rows.first..][..n]];
                vector::zip!(S, simd, inputs, over [], into y, |[x, m, a, b], []| {
                    let z = simd.mul_add_e_f32s(simd.sub_f32s(x, m), a, b);
                    ([], [if SILU { vector::silu(simd, z) } else { z }])
                });
            }
        }
    }
    if silu {
        isa.dispatch(Apply::<true>(x, affine, y, rows));
    } else {
        isa.dispatch(Apply::<false>(x, affine, y, rows));
    }
}

/// Sums over a channel's pixels, with d = x − centre.
#[derive(Clone, Copy, Default)]
pub(super) struct Slopes {
    /// Σ dz.
    pub(super) dz: f64,
    /// Σ dz·d.
    pub(super) dz_d: f64,
    /// Σ d.
    pub(super) d: f64,
}

impl std::ops::Add for Slopes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            dz: self.dz + other.dz,
            dz_d: self.dz_d + other.dz_d,
            d: self.d + other.d,
        }
    }
}

/// A chunk of x, the same pixels of dy, and the coefficients of their norm.
#[derive(Clone, Copy)]
pub(super) struct ChunkInputs<'a> {
    pub(super) x: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) rows: RowLayout,
    pub(super) affine: &'a Affine,
    pub(super) silu: bool,
}

impl<'a> ChunkInputs<'a> {
    /// RowLayout of x, dy, centre, factor and term.
    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = [&'a [f32]; 5]> {
        let Self { affine, rows, .. } = *self;
        (self.x.chunks(affine.width()))
            .zip(self.dy.chunks(rows.stride))
            .map(move |(x, dy)| {
                let n = x.len();
                let Affine {
                    centre,
                    factor,
                    term,
                } = affine;
                [
                    x,
                    &dy[rows.first..][..n],
                    &centre[..n],
                    &factor[..n],
                    &term[..n],
                ]
            })
    }
}

/// The sums of each channel from which the gradients are computed; writes dz.
pub(super) fn slopes(
    isa: Isa,
    chunk: ChunkInputs<'_>,
    channels: usize,
    dz: &mut [f32],
) -> Vec<Slopes> {
    struct ChannelSlopes<'a, const SILU: bool>(ChunkInputs<'a>, &'a mut [f32]);
    impl<const SILU: bool> WithSimd for ChannelSlopes<'_, SILU> {
        type Output = [Vec<f32>; 3];
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let Self(chunk, dz) = self;
            let width = chunk.affine.width();
            let mut sums = [vec![0.0; width], vec![0.0; width], vec![0.0; width]];
            for (inputs, dz) in chunk.iter().zip(dz.chunks_mut(width)) {
                let n = dz.len();
                let [s, sd, sum] = &mut sums;
                let sums = [&mut s[..n], &mut sd[..n], &mut sum[..n]];
                vector::zip!(S, simd, inputs, over sums, into [dz], |[x, dy, m, a, b], [s, sd, sum]| {
                    let d = simd.sub_f32s(x, m);
                    let z = simd.mul_add_e_f32s(d, a, b);
                    let dz = if SILU {
                        simd.mul_f32s(dy, vector::silu_slope(simd, z))
                    } else {
                        dy
                    };
                    let s = simd.add_f32s(s, dz);
                    let sd = simd.mul_add_e_f32s(dz, d, sd);
                    ([s, sd, simd.add_f32s(sum, d)], [dz])
                });
            }
            sums
        }
    }
    let sums = if chunk.silu {
        isa.dispatch(ChannelSlopes::<true>(chunk, dz))
    } else {
        isa.dispatch(ChannelSlopes::<false>(chunk, dz))
    };
    let lane = |i: usize| Slopes {
        dz: f64::from(sums[0][i]),
        dz_d: f64::from(sums[1][i]),
        d: f64::from(sums[2][i]),
    };
    (0..channels)
        .map(|c| {
            (c..chunk.affine.centre.len())
                .step_by(channels)
                .map(lane)
                .fold(Slopes::default(), std::ops::Add::add)
        })
        .collect()
}

/// dx = factor·dz + along·(x − centre) + constant, in place of dz.
pub(super) fn gradient(
    isa: Isa,
    x: &[f32],
    affine: &Affine,
    along: &[f32],
    constant: &[f32],
    dx: &mut [f32],
) {
    struct Gradient<'a>(&'a [f32], [&'a [f32]; 4], &'a mut [f32]);
    impl WithSimd for Gradient<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(x, [m, a, k, c], dx) = self;
            let width = m.len().max(1);
            for (x, dx) in x.chunks(width).zip(dx.chunks_mut(width)) {
                let n = x.len();
                let inputs = [x, &m[..n], &a[..n], &k[..n], &c[..n]];
                vector::zip!(S, simd, inputs, over [dx], into [], |[x, m, a, k, c], [dz]| {
                    let rest = simd.mul_add_e_f32s(k, simd.sub_f32s(x, m), c);
                    ([simd.mul_add_e_f32s(a, dz, rest)], [])
                });
            }
        }
    }
    let row = [&affine.centre, &affine.factor, along, constant];
    isa.dispatch(Gradient(x, row, dx));
}
