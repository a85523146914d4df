//! The gradients of GroupNorm: one pass for the sums over each channel, one for dx.

use rayon::prelude::*;

use super::chunk::{self, Affine, ChunkInputs, Slopes};
use super::group_norm::{GroupNorm, ImageSlices, Moments, NormGradients, len_of};
use crate::cpu::isa::Isa;
use crate::cpu::vector::rounded;

/// Computes the gradients of all inputs, from dy and from the inputs and moments of
/// [`forward`](super::forward::forward).
///
/// # Panics
///
/// If a length does not match, or the gradient of an absent input is asked for.
pub fn backward(
    isa: Isa,
    norm: &GroupNorm<'_>,
    images: ImageSlices<'_>,
    moments: &[Moments],
    dy: &[f32],
    out: NormGradients<'_>,
) {
    let (c, batch) = (norm.channels(), norm.batch);
    norm.check(
        &images,
        &[
            ("dy", Some(dy.len()), norm.len()),
            (
                "moments",
                Some(moments.len()),
                len_of(&[batch, norm.groups]),
            ),
            ("dx", Some(out.x.len()), images.x.len()),
            (
                "dx2",
                out.x2.as_ref().map(|d| d.len()),
                images.x2.map_or(0, <[f32]>::len),
            ),
            ("dweight", Some(out.weight.len()), c),
            ("dbias", Some(out.bias.len()), c),
            (
                "dpre_shift",
                out.pre_shift.as_ref().map(|d| d.len()),
                len_of(&[batch, c]),
            ),
            (
                "dscale_shift",
                out.scale_shift.as_ref().map(|d| d.len()),
                len_of(&[batch, 2, c]),
            ),
        ],
    );
    assert_eq!(
        out.x2.is_some(),
        images.x2.is_some(),
        "GroupNorm: x2 and dx2"
    );
    let split = norm.split(&images);
    let mut tasks: Vec<ImageGradient<'_>> = (0..batch).map(ImageGradient::new).collect();
    hand_out(&mut tasks, Some(out.x), norm.pixels * split, |t| &mut t.x);
    hand_out(&mut tasks, out.x2, norm.pixels * (c - split), |t| &mut t.x2);
    hand_out(&mut tasks, out.pre_shift, c, |t| &mut t.pre);
    hand_out(&mut tasks, out.scale_shift, 2 * c, |t| &mut t.modulation);
    tasks.par_iter_mut().for_each(|task| {
        let size = norm.pixels * c;
        let moments = &moments[task.b * norm.groups..][..norm.groups];
        task.run(isa, norm, &images, moments, &dy[task.b * size..][..size]);
    });
    // Added in the order of the images, so that the order of the tasks does not matter.
    for channel in 0..c {
        let sum = |f: fn(&(f64, f64)) -> f64| tasks.iter().map(|t| f(&t.affine[channel])).sum();
        out.weight[channel] = rounded(sum(|d| d.0));
        out.bias[channel] = rounded(sum(|d| d.1));
    }
}

/// Gives each task its share of a gradient.
fn hand_out<'a>(
    tasks: &mut [ImageGradient<'a>],
    gradient: Option<&'a mut [f32]>,
    share: usize,
    field: impl for<'t> Fn(&'t mut ImageGradient<'a>) -> &'t mut Option<&'a mut [f32]>,
) {
    let mut rest = gradient;
    for task in tasks {
        if let Some(all) = rest {
            let (mine, others) = all.split_at_mut(share);
            *field(task) = Some(mine);
            rest = Some(others);
        }
    }
}

/// The gradients of one image.
struct ImageGradient<'a> {
    b: usize,
    x: Option<&'a mut [f32]>,
    x2: Option<&'a mut [f32]>,
    pre: Option<&'a mut [f32]>,
    modulation: Option<&'a mut [f32]>,
    /// This image's terms of (dweight, dbias), for each channel.
    affine: Vec<(f64, f64)>,
}

impl ImageGradient<'_> {
    fn new(b: usize) -> Self {
        Self {
            b,
            x: None,
            x2: None,
            pre: None,
            modulation: None,
            affine: Vec::new(),
        }
    }

    fn run(
        &mut self,
        isa: Isa,
        norm: &GroupNorm<'_>,
        images: &ImageSlices<'_>,
        moments: &[Moments],
        dy: &[f32],
    ) {
        let (c, b) = (norm.channels(), self.b);
        let (repeat, chunk) = norm.tiling(images);
        let parts = norm.parts(images, b);
        let affine: Vec<Affine> = (parts.iter())
            .map(|part| norm.affine(b, part, repeat, moments))
            .collect();
        let inputs = |p: usize, i: usize| {
            let pixels = chunk.min(norm.pixels - i * chunk);
            ChunkInputs {
                x: parts[p].pixels(i * chunk, pixels),
                dy: &dy[i * chunk * c..][..pixels * c],
                rows: parts[p].rows(c, repeat),
                affine: &affine[p],
                silu: norm.silu,
            }
        };
        let mut slopes = Vec::with_capacity(c);
        let mut dx: Vec<&mut [f32]> = (self.x.take().into_iter()).chain(self.x2.take()).collect();
        for (p, (part, dx)) in parts.iter().zip(&mut dx).enumerate() {
            let all: Vec<Vec<Slopes>> = (dx.par_chunks_mut((chunk * part.channels).max(1)))
                .enumerate()
                .map(|(i, dz)| chunk::slopes(isa, inputs(p, i), part.channels, dz))
                .collect();
            slopes.extend((0..part.channels).map(|c| {
                let chunks = all.iter().map(|chunk| chunk[c]);
                chunks.fold(Slopes::default(), std::ops::Add::add)
            }));
        }
        let coefficients = self.channels(norm, moments, &slopes);
        for ((part, affine), dx) in parts.iter().zip(&affine).zip(dx) {
            let mine = &coefficients[part.first..][..part.channels];
            let [along, constant] =
                [0, 1].map(|i| chunk::along_row(repeat, mine.iter().map(|k| k[i])));
            let size = (chunk * part.channels).max(1);
            (dx.par_chunks_mut(size).zip(part.x.par_chunks(size)))
                .for_each(|(dx, x)| chunk::gradient(isa, x, affine, &along, &constant, dx));
        }
    }

    /// Writes the gradients that have one value per channel; returns the coefficients of
    /// dx = factor·dz + k₀·(x − centre) + k₁.
    ///
    /// With k = weight·(1 + scale) and means over the group,
    /// du = rstd·(k·dz − mean(k·dz) − x̂·mean(k·dz·x̂)).
    fn channels(
        &mut self,
        norm: &GroupNorm<'_>,
        moments: &[Moments],
        slopes: &[Slopes],
    ) -> Vec<[f32; 2]> {
        let (c, b) = (norm.channels(), self.b);
        let size = c / norm.groups;
        let n = (norm.pixels * size) as f64;
        let mut means = vec![(0.0, 0.0); norm.groups];
        self.affine.clear();
        // x̂ = (d + offset)·rstd, where d = x − centre.
        let offset = |i: usize| {
            let mean = moments[i / size].mean - norm.pre(b, i);
            f64::from(rounded(mean)) - mean
        };
        for (i, s) in slopes.iter().enumerate() {
            let (scale, _) = norm.modulation(b, i);
            let (weight, bias) = (f64::from(norm.weight[i]), f64::from(norm.bias[i]));
            let dz_hat = moments[i / size].rstd * (s.dz_d + offset(i) * s.dz);
            self.affine.push((scale * dz_hat, scale * s.dz));
            if let Some(out) = &mut self.modulation {
                out[i] = rounded(weight * dz_hat + bias * s.dz);
                out[c + i] = rounded(s.dz);
            }
            means[i / size].0 += weight * scale * s.dz / n;
            means[i / size].1 += weight * scale * dz_hat / n;
        }
        (slopes.iter().enumerate())
            .map(|(i, s)| {
                let rstd = moments[i / size].rstd;
                let (mean, mean_hat) = means[i / size];
                let along = -rstd * rstd * mean_hat;
                let constant = along * offset(i) - rstd * mean;
                if let Some(out) = &mut self.pre {
                    let factor = rstd * f64::from(norm.weight[i]) * norm.modulation(b, i).0;
                    let pixels = norm.pixels as f64;
                    out[i] = rounded(factor * s.dz + along * s.d + pixels * constant);
                }
                [rounded(along), rounded(constant)]
            })
            .collect()
    }
}
