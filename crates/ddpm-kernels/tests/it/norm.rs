//! GroupNorm against its definition in f64 and the derivative of the definition.

use ddpm_kernels::cpu::Isa;
use ddpm_kernels::cpu::norm::{GroupNorm, ImageSlices, Moments, NormGradients, backward, forward};

use crate::reference::{Data, assert_near, assert_same_on_any_threads, bits, wide};

/// A problem and its inputs.
struct Case {
    batch: usize,
    pixels: usize,
    /// Channels of x and of x2.
    split: [usize; 2],
    groups: usize,
    silu: bool,
    x: Vec<f32>,
    x2: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    pre: Option<Vec<f32>>,
    modulation: Option<Vec<f32>>,
    dy: Vec<f32>,
}

const EPS: f64 = 1e-5;

impl Case {
    fn new(
        seed: u64,
        [batch, pixels, c1, c2, groups]: [usize; 5],
        [silu, pre, modulation]: [bool; 3],
    ) -> Self {
        let mut data = Data::new(seed);
        let c = c1 + c2;
        Self {
            batch,
            pixels,
            split: [c1, c2],
            groups,
            silu,
            x: data.values(batch * pixels * c1),
            x2: data.values(batch * pixels * c2),
            weight: data.values(c),
            bias: data.values(c),
            pre: pre.then(|| data.values(batch * c)),
            modulation: modulation.then(|| data.values(2 * batch * c)),
            dy: data.values(batch * pixels * c),
        }
    }

    fn channels(&self) -> usize {
        self.split[0] + self.split[1]
    }

    fn norm(&self) -> GroupNorm<'_> {
        GroupNorm {
            batch: self.batch,
            pixels: self.pixels,
            groups: self.groups,
            eps: EPS,
            weight: &self.weight,
            bias: &self.bias,
            pre_shift: self.pre.as_deref(),
            scale_shift: self.modulation.as_deref(),
            silu: self.silu,
        }
    }

    fn images(&self) -> ImageSlices<'_> {
        ImageSlices {
            x: &self.x,
            x2: (self.split[1] > 0).then_some(&self.x2),
        }
    }
}

/// All outputs; they are NaN before the kernels write them.
struct Outcome {
    y: Vec<f32>,
    moments: Vec<Moments>,
    x: Vec<f32>,
    x2: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    pre: Vec<f32>,
    modulation: Vec<f32>,
}

fn run(isa: Isa, case: &Case) -> Outcome {
    let poison = |len: usize| vec![f32::NAN; len];
    let (b, c) = (case.batch, case.channels());
    let mut out = Outcome {
        y: poison(case.dy.len()),
        moments: vec![Moments::default(); b * case.groups],
        x: poison(case.x.len()),
        x2: poison(case.x2.len()),
        weight: poison(c),
        bias: poison(c),
        pre: poison(case.pre.as_ref().map_or(0, Vec::len)),
        modulation: poison(case.modulation.as_ref().map_or(0, Vec::len)),
    };
    forward(
        isa,
        &case.norm(),
        case.images(),
        &mut out.y,
        &mut out.moments,
    );
    let gradients = NormGradients {
        x: &mut out.x,
        x2: (case.split[1] > 0).then_some(&mut out.x2),
        weight: &mut out.weight,
        bias: &mut out.bias,
        pre_shift: case.pre.is_some().then_some(&mut out.pre),
        scale_shift: case.modulation.is_some().then_some(&mut out.modulation),
    };
    backward(
        isa,
        &case.norm(),
        case.images(),
        &out.moments,
        &case.dy,
        gradients,
    );
    out
}

/// The inputs in f64, which finite differences vary.
#[derive(Clone)]
struct Exact {
    u: Vec<f64>,
    weight: Vec<f64>,
    bias: Vec<f64>,
    modulation: Vec<f64>,
}

impl Exact {
    /// u = x + pre, with both tensors in one.
    fn new(case: &Case) -> Self {
        let (c, [c1, c2]) = (case.channels(), case.split);
        let u = (0..case.batch * case.pixels * c)
            .map(|i| {
                let (p, channel) = (i / c, i % c);
                let x = if channel < c1 {
                    case.x[p * c1 + channel]
                } else {
                    case.x2[p * c2 + channel - c1]
                };
                let pre = case
                    .pre
                    .as_ref()
                    .map_or(0.0, |pre| pre[p / case.pixels * c + channel]);
                f64::from(x) + f64::from(pre)
            })
            .collect();
        Self {
            u,
            weight: wide(&case.weight),
            bias: wide(&case.bias),
            modulation: case
                .modulation
                .as_ref()
                .map_or_else(|| vec![0.0; 2 * case.batch * c], |m| wide(m)),
        }
    }

    /// y by the definition, group by group.
    fn y(&self, case: &Case) -> Vec<f64> {
        let c = case.channels();
        let size = c / case.groups;
        let mut y = vec![0.0; self.u.len()];
        for b in 0..case.batch {
            for g in 0..case.groups {
                let at: Vec<usize> = (0..case.pixels)
                    .flat_map(|p| (0..size).map(move |j| (b * case.pixels + p) * c + g * size + j))
                    .collect();
                let n = at.len() as f64;
                let mean = at.iter().map(|&i| self.u[i]).sum::<f64>() / n;
                let var = at.iter().map(|&i| (self.u[i] - mean).powi(2)).sum::<f64>() / n;
                for &i in &at {
                    let hat = (self.u[i] - mean) / (var + EPS).sqrt();
                    let m = &self.modulation[2 * b * c..];
                    let affine = hat * self.weight[i % c] + self.bias[i % c];
                    let z = affine * (1.0 + m[i % c]) + m[c + i % c];
                    y[i] = if case.silu { z / (1.0 + (-z).exp()) } else { z };
                }
            }
        }
        y
    }

    /// Σ dy·y.
    fn loss(&self, case: &Case) -> f64 {
        self.y(case)
            .iter()
            .zip(&case.dy)
            .map(|(y, &d)| y * f64::from(d))
            .sum()
    }

    /// The derivative of the loss with respect to each element of a field, by central differences.
    fn slope(&self, case: &Case, field: fn(&mut Self) -> &mut Vec<f64>) -> Vec<f64> {
        let mut moved = self.clone();
        let h = 1e-5;
        (0..field(&mut moved).len())
            .map(|i| {
                let value = field(&mut moved)[i];
                field(&mut moved)[i] = value + h;
                let above = moved.loss(case);
                field(&mut moved)[i] = value - h;
                let below = moved.loss(case);
                field(&mut moved)[i] = value;
                (above - below) / (2.0 * h)
            })
            .collect()
    }
}

/// The derivatives with respect to x, x2 and the pre-shift, from that with respect to u.
fn split(case: &Case, u: &[f64]) -> [Vec<f64>; 3] {
    let (c, [c1, _]) = (case.channels(), case.split);
    let mut pre = vec![0.0; case.batch * c];
    let (mut x, mut x2) = (Vec::new(), Vec::new());
    for (i, &d) in u.iter().enumerate() {
        if i % c < c1 {
            x.push(d);
        } else {
            x2.push(d);
        }
        pre[i / c / case.pixels * c + i % c] += d;
    }
    [x, x2, pre]
}

/// [batch, pixels, c1, c2, groups]: one channel, one pixel, a group with channels of both tensors,
/// channels that do not fill a vector, and several chunks per image.
const SHAPES: [[usize; 5]; 9] = [
    [1, 1, 1, 0, 1],
    [2, 1, 6, 0, 3],
    [1, 7, 1, 0, 1],
    [2, 5, 4, 0, 2],
    [1, 3, 3, 6, 3],
    [2, 4, 5, 1, 1],
    [1, 2, 17, 15, 4],
    [1, 9, 3, 3, 2],
    [1, 6, 20, 0, 20],
];

#[test]
fn gradients_are_the_slopes_of_the_definition() {
    gradients_are_the_slopes(&SHAPES, 0..8);
}

/// Small enough for Miri.
#[test]
fn tiny() {
    gradients_are_the_slopes(&[[1, 2, 2, 1, 1]], 7..8);
}

fn gradients_are_the_slopes(shapes: &[[usize; 5]], options: std::ops::Range<u64>) {
    for (seed, &shape) in shapes.iter().enumerate() {
        for options in options.clone() {
            let flags = [options & 1 > 0, options & 2 > 0, options & 4 > 0];
            let case = Case::new(100 * seed as u64 + options, shape, flags);
            let exact = Exact::new(&case);
            let y = exact.y(&case);
            let [x, x2, pre] = split(&case, &exact.slope(&case, |e| &mut e.u));
            let weight = exact.slope(&case, |e| &mut e.weight);
            let bias = exact.slope(&case, |e| &mut e.bias);
            let modulation = exact.slope(&case, |e| &mut e.modulation);
            for isa in Isa::available() {
                let out = run(isa, &case);
                let near = |what: &str, out: &[f32], exact: &[f64]| {
                    let what = format!("{isa:?} {shape:?} {flags:?} {what}");
                    // A dozen f32 rounding errors, where rstd may be 1/√ε = 316.
                    assert_near(&what, out, exact, 2e-5);
                };
                near("y", &out.y, &y);
                near("dx", &out.x, &x);
                near("dx2", &out.x2, &x2);
                near("dweight", &out.weight, &weight);
                near("dbias", &out.bias, &bias);
                if case.pre.is_some() {
                    near("dpre", &out.pre, &pre);
                }
                if case.modulation.is_some() {
                    near("dmodulation", &out.modulation, &modulation);
                }
            }
        }
    }
}

#[test]
fn images_of_several_chunks() {
    for shape in [
        [2, 784, 128, 0, 32],
        [1, 900, 24, 40, 8],
        [3, 40_000, 3, 0, 1],
    ] {
        let case = Case::new(7, shape, [true, true, true]);
        let y = Exact::new(&case).y(&case);
        for isa in Isa::available() {
            let out = run(isa, &case);
            assert_near(&format!("{isa:?} {shape:?}"), &out.y, &y, 2e-6);
            // The gradient of a norm has no component along the constant.
            let sum: f64 = wide(&out.pre).iter().sum();
            assert!(sum.abs() < 1e-2, "{isa:?} {shape:?}: Σ dpre = {sum}");
            assert!(out.x.iter().chain(&out.x2).all(|d| d.is_finite()));
        }
    }
}

#[test]
fn a_large_mean_does_not_reduce_the_accuracy() {
    let mut case = Case::new(3, [2, 784, 64, 0, 8], [false, false, false]);
    for x in &mut case.x {
        *x += 1e3;
    }
    let y = Exact::new(&case).y(&case);
    for isa in Isa::available() {
        let out = run(isa, &case);
        // Without cancellation the error is that of any other data: a few 2⁻²⁴ times |y|.
        assert_near(&format!("{isa:?}"), &out.y, &y, 1e-6);
        for m in &out.moments {
            assert!(
                (m.mean - 1e3).abs() < 0.1 && (m.rstd - 1.0).abs() < 0.1,
                "{m:?}"
            );
        }
    }
}

/// 274177·67280421310721 = 2⁶⁴ + 1: with wrapping arithmetic, a slice of one float would match.
#[test]
#[should_panic = "GroupNorm: memory cannot hold a tensor of [274177, 67280421310721, 2]"]
fn sizes_that_overflow_panic() {
    let (x, weight) = ([1.0; 2], [1.0; 2]);
    let norm = GroupNorm {
        batch: 274_177,
        pixels: 67_280_421_310_721,
        groups: 1,
        eps: EPS,
        weight: &weight,
        bias: &weight,
        pre_shift: None,
        scale_shift: None,
        silu: false,
    };
    let images = ImageSlices { x: &x, x2: None };
    let mut moments = vec![Moments::default(); 274_177];
    forward(Isa::Portable, &norm, images, &mut [0.0; 2], &mut moments);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let case = Case::new(5, [2, 1500, 24, 40, 8], [true, true, true]);
    assert_same_on_any_threads(|| {
        let o = run(Isa::detect(), &case);
        bits(&[&o.y, &o.x, &o.x2, &o.weight, &o.bias, &o.pre, &o.modulation])
    });
}
