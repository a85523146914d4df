//! The kernels on any shape: nothing is read or written out of bounds, which AddressSanitizer
//! sees, no part of an output is left as it was, and all instruction sets and algorithms agree.

#![no_main]

use arbitrary::Arbitrary;
use ddpm_kernels::cpu::adamw::{AdamW, ParameterSlices, square_sum, update};
use ddpm_kernels::cpu::attention::{self, Attention};
use ddpm_kernels::cpu::conv::{Algorithm, Conv, Epilogue, Shape, shift_gradient};
use ddpm_kernels::cpu::norm::{self, GroupNorm, ImageSlices, Moments};
use ddpm_kernels::cpu::{Isa, Precision};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input {
    Conv {
        form: Form,
        size: [u8; 2],
        in_channels: [u8; 2],
        out_channels: u8,
        kernel: [u8; 2],
        stride: u8,
        padding: [[u8; 2]; 2],
        upsample: u8,
        batch: u8,
        terms: Terms,
        wanted: [bool; 2],
    },
    Norm {
        batch: u8,
        pixels: u16,
        groups: u8,
        width: u8,
        second: u8,
        silu: bool,
        pre_shift: bool,
        scale_shift: bool,
        wanted: [bool; 2],
    },
    Attention {
        batch: u8,
        tokens: u8,
        heads: u8,
        dim: u8,
    },
    AdamW {
        len: u16,
        step: u8,
    },
}

/// Which sizes a convolution has: those of all forms together would take minutes.
#[derive(Arbitrary, Debug)]
enum Form {
    /// Some pixels and some channels.
    Small,
    /// So many pixels that they are divided among tasks.
    Large,
    /// Such that Winograd's algorithms apply.
    Winograd,
}

/// Which terms a convolution adds.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Terms {
    bias: bool,
    shift: bool,
    residual: bool,
}

/// Multiplications of one convolution, of which an input takes some dozens: half a second in all.
const PRODUCTS: usize = 1 << 20;

/// `number` as a size from `least` to `most`.
fn size(number: impl Into<usize>, least: usize, most: usize) -> usize {
    least + number.into() % (most - least + 1)
}

/// Numbers in [−1, 1) without a pattern, others for every seed. With one, sums cancel, and the largest
/// of them says nothing of the rounding: MurmurHash3 mixes every bit with every other.
fn numbers(seed: u32, len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|i| {
            let mut mixed = i.wrapping_add(seed << 20);
            for (shift, factor) in [(16, 0x85eb_ca6b), (13, 0xc2b2_ae35), (16, 1)] {
                mixed = (mixed ^ mixed >> shift).wrapping_mul(factor);
            }
            (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// An output that nobody has written.
fn poison(len: usize) -> Vec<f32> {
    vec![f32::NAN; len]
}

/// Each outcome is several results: all are those of the first outcome within `tolerance` of the
/// largest number, and none is poison.
fn agree<const N: usize>(outcomes: &[[Vec<f32>; N]], tolerance: f32) {
    for (k, first) in outcomes[0].iter().enumerate() {
        let largest = first.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
        for (of, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome[k].len(), first.len());
            for (at, (a, b)) in outcome[k].iter().zip(first).enumerate() {
                assert!(
                    (a - b).abs() <= tolerance * largest,
                    "result {k} of outcome {of}, [{at}]: {a} is not {b} within {tolerance} of {largest}"
                );
            }
        }
    }
}

/// A convolution and its operands.
struct Operands {
    conv: Conv,
    x: [Vec<f32>; 2],
    w: Vec<f32>,
    dy: Vec<f32>,
    bias: Vec<f32>,
    shift: Vec<f32>,
    residual: Vec<f32>,
    terms: Terms,
    wanted: [bool; 2],
}

impl Operands {
    /// Of at most so many images, or of none where one would take too long.
    fn new(conv: Conv, batch: usize, terms: Terms, wanted: [bool; 2]) -> Self {
        let shape = *conv.shape();
        let [height, width] = conv.output_size();
        let inputs: usize = shape.in_channels.iter().sum();
        let weights = inputs * shape.out_channels * shape.kernel[0] * shape.kernel[1];
        let batch = batch.min(PRODUCTS / (weights * height * width));
        let pixels = batch * shape.size[0] * shape.size[1];
        let outputs = batch * height * width * shape.out_channels;
        Self {
            x: [0, 1].map(|k| numbers(1 + k, pixels * shape.in_channels[k as usize])),
            w: numbers(3, weights),
            dy: numbers(4, outputs),
            bias: numbers(5, shape.out_channels),
            shift: numbers(6, batch * shape.out_channels),
            residual: numbers(7, outputs),
            conv,
            terms,
            wanted,
        }
    }

    /// y, both input gradients, and the gradients of weights, shift and bias.
    fn run(&self, isa: Isa, precision: Precision, algorithm: Algorithm) -> [Vec<f32>; 6] {
        let inputs = self.x.each_ref().map(Vec::as_slice);
        let Terms {
            bias,
            shift,
            residual,
        } = self.terms;
        let epilogue = Epilogue {
            bias: bias.then_some(&self.bias),
            shift: shift.then_some(&self.shift),
            residual: residual.then_some(&self.residual),
        };
        let mut y = poison(self.dy.len());
        let packed = self.conv.pack(isa, precision, algorithm, &self.w);
        self.conv.forward(&packed, inputs, epilogue, &mut y);

        let mut dx = [0, 1].map(|k| self.wanted[k].then(|| poison(self.x[k].len())));
        let packed = self.conv.pack_transpose(isa, precision, algorithm, &self.w);
        let wanted = dx.each_mut().map(|dx| dx.as_deref_mut());
        self.conv.input_gradient(&packed, &self.dy, wanted);
        let [dx, dx2] = dx.map(Option::unwrap_or_default);

        let mut dw = poison(self.w.len());
        self.conv
            .weight_gradient(isa, precision, algorithm, inputs, &self.dy, &mut dw);
        let (mut dshift, mut dbias) = (poison(self.shift.len()), poison(self.bias.len()));
        shift_gradient(isa, &self.dy, &mut dshift, &mut dbias);
        [y, dx, dx2, dw, dshift, dbias]
    }

    fn check(&self) {
        // F(4×4) multiplies by numbers up to 8 on both axes: some hundred roundings, of 2⁻²⁴ or 2⁻⁹.
        for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 0.5)] {
            let mut outcomes = Vec::new();
            // The others compute bf16 as plain Rust does.
            let computes = |isa: &Isa| {
                precision == Precision::F32 || matches!(isa, Isa::Avx512Bf16 | Isa::Portable)
            };
            for isa in Isa::available().into_iter().filter(computes) {
                for algorithm in [
                    Algorithm::Direct,
                    Algorithm::Winograd2,
                    Algorithm::Winograd4,
                    Algorithm::Fastest,
                    Algorithm::FastestOfOne,
                ] {
                    outcomes.push(self.run(isa, precision, algorithm));
                }
            }
            agree(&outcomes, tolerance);
        }
    }
}

/// A norm, with gradients of everything but what is not `wanted`: of the shift before and of scale
/// and shift.
fn group_norm(norm: &GroupNorm, [first, second]: [usize; 2], wanted: [bool; 2]) {
    let pixels = norm.batch * norm.pixels;
    let (x, x2) = (numbers(1, pixels * first), numbers(2, pixels * second));
    let images = ImageSlices {
        x: &x,
        x2: (second > 0).then_some(&x2[..]),
    };
    let channels = first + second;
    let dy = numbers(3, pixels * channels);
    let mut outcomes = Vec::new();
    for isa in Isa::available() {
        let mut y = poison(dy.len());
        let mut moments = vec![Moments::default(); norm.batch * norm.groups];
        norm::forward(isa, norm, images, &mut y, &mut moments);
        let mut again = poison(dy.len());
        norm::forward_again(isa, norm, images, &moments, &mut again);
        assert!(y == again, "to the bit");
        let (mut dx, mut dx2) = (poison(x.len()), poison(x2.len()));
        let (mut dweight, mut dbias) = (poison(channels), poison(channels));
        let mut dpre = wanted[0].then(|| poison(norm.batch * channels));
        let mut dscale_shift = wanted[1].then(|| poison(2 * norm.batch * channels));
        let gradients = norm::NormGradients {
            x: &mut dx,
            x2: (second > 0).then_some(&mut dx2[..]),
            weight: &mut dweight,
            bias: &mut dbias,
            pre_shift: dpre.as_deref_mut(),
            scale_shift: dscale_shift.as_deref_mut(),
        };
        norm::backward(isa, norm, images, &moments, &dy, gradients);
        let [dpre, dscale_shift] = [dpre, dscale_shift].map(Option::unwrap_or_default);
        outcomes.push([y, dx, dx2, dweight, dbias, dpre, dscale_shift]);
    }
    agree(&outcomes, 1e-3);
}

fn attend(sizes: &Attention) {
    let len = sizes.batch * sizes.tokens * sizes.heads * sizes.dim;
    let inputs = [1, 2, 3].map(|seed| numbers(seed, len));
    let qkv = inputs.each_ref().map(Vec::as_slice);
    let dout = numbers(4, len);
    let mut outcomes = Vec::new();
    for isa in Isa::available() {
        let mut y = poison(len);
        let mut log_sums = poison(sizes.batch * sizes.tokens * sizes.heads);
        attention::forward(isa, sizes, qkv, &mut y, &mut log_sums);
        let mut gradients = [(); 3].map(|()| poison(len));
        let wanted = gradients.each_mut().map(Vec::as_mut_slice);
        attention::backward(isa, sizes, qkv, (&y, &log_sums), &dout, wanted);
        let [dq, dk, dv] = gradients;
        outcomes.push([y, log_sums, dq, dk, dv]);
    }
    agree(&outcomes, 1e-4);
}

fn descend(len: usize, step: u64) {
    let gradient = numbers(1, len);
    let mut outcomes = Vec::new();
    for isa in Isa::available() {
        let sum = square_sum(isa, &gradient);
        let adamw = AdamW {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            ema_decay: 0.95,
            clip: 1.0 / (1.0 + sum),
        };
        let [mut value, mut exp_avg, mut ema] = [2, 3, 4].map(|seed| numbers(seed, len));
        let mut exp_avg_sq: Vec<f32> = numbers(5, len).iter().map(|x| x * x).collect();
        let parameter = ParameterSlices {
            value: &mut value,
            gradient: &gradient,
            exp_avg: &mut exp_avg,
            exp_avg_sq: &mut exp_avg_sq,
            ema: &mut ema,
        };
        update(isa, &adamw, parameter);
        outcomes.push([value, exp_avg, exp_avg_sq, ema]);
    }
    // m/√v passes on a relative error of a v that is nearly zero.
    agree(&outcomes, 1e-3);
}

fuzz_target!(|input: Input| match input {
    Input::Conv {
        form,
        size: sizes,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        upsample,
        batch,
        terms,
        wanted,
    } => {
        let small = Shape {
            size: sizes.map(|s| size(s, 1, 9)),
            in_channels: [size(in_channels[0], 1, 34), size(in_channels[1], 0, 17)],
            out_channels: size(out_channels, 1, 34),
            kernel: kernel.map(|k| size(k, 1, 4)),
            stride: size(stride, 1, 12),
            padding: padding.map(|p| p.map(|p| size(p, 0, 3))),
            upsample: size(upsample, 1, 12),
        };
        let shape = match form {
            Form::Small => small,
            Form::Large => Shape {
                size: sizes.map(|s| size(s, 20, 64)),
                in_channels: [size(in_channels[0], 1, 4), size(in_channels[1], 0, 2)],
                out_channels: size(out_channels, 1, 4),
                stride: size(stride, 1, 3),
                upsample: size(upsample, 1, 2),
                ..small
            },
            Form::Winograd => Shape {
                size: sizes.map(|s| size(s, 1, 30)),
                in_channels: [
                    16 * size(in_channels[0], 1, 4),
                    16 * size(in_channels[1], 0, 2),
                ],
                out_channels: 16 * size(out_channels, 1, 4),
                kernel: [3, 3],
                stride: 1,
                upsample: 1,
                ..small
            },
        };
        if let Ok(conv) = Conv::new(shape) {
            Operands::new(conv, size(batch, 0, 3), terms, wanted).check();
        }
    }
    Input::Norm {
        batch,
        pixels,
        groups,
        width,
        second,
        silu,
        pre_shift,
        scale_shift,
        wanted: [pre_wanted, modulation_wanted],
    } => {
        let groups = size(groups, 1, 8);
        let channels = groups * size(width, 1, 20);
        let second = size(second, 0, channels - 1);
        let batch = size(batch, 0, 3);
        let (weight, bias) = (numbers(4, channels), numbers(5, channels));
        let (pre, modulation) = (
            numbers(6, batch * channels),
            numbers(7, 2 * batch * channels),
        );
        let norm = GroupNorm {
            batch,
            pixels: size(pixels, 1, 80_000 / channels),
            groups,
            eps: 1e-5,
            weight: &weight,
            bias: &bias,
            pre_shift: pre_shift.then_some(&pre),
            scale_shift: scale_shift.then_some(&modulation),
            silu,
        };
        let wanted = [pre_shift && pre_wanted, scale_shift && modulation_wanted];
        group_norm(&norm, [channels - second, second], wanted);
    }
    Input::Attention {
        batch,
        tokens,
        heads,
        dim,
    } => attend(&Attention {
        batch: size(batch, 0, 2),
        tokens: size(tokens, 1, 130),
        heads: size(heads, 1, 3),
        dim: size(dim, 1, 40),
    }),
    Input::AdamW { len, step } => descend(size(len, 0, 40_000), u64::from(step) + 1),
});
