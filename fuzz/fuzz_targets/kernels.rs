//! The kernels on any shape: nothing is read or written out of bounds, which AddressSanitizer
//! sees, no part of an output is left as it was, and all instruction sets and algorithms agree.

#![no_main]

use arbitrary::Arbitrary;
use ddpm_kernels::cpu::{Isa, Precision};
use ddpm_kernels::cpu::attention::{self, Attention};
use ddpm_kernels::cpu::conv::{Algorithm, Conv, Epilogue, Shape};
use ddpm_kernels::cpu::norm::{self, GroupNorm, Images, Moments};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input {
    Conv {
        size: [u8; 2],
        in_channels: [u8; 2],
        out_channels: u8,
        kernel: [u8; 2],
        stride: u8,
        padding: [[u8; 2]; 2],
        upsample: u8,
        batch: u8,
    },
    Norm {
        batch: u8,
        pixels: u8,
        groups: u8,
        width: u8,
        second: u8,
        silu: bool,
    },
    Attention {
        batch: u8,
        tokens: u8,
        heads: u8,
        dim: u8,
    },
}

/// `byte` as a size from `least` to `most`.
fn size(byte: u8, least: usize, most: usize) -> usize {
    least + usize::from(byte) % (most - least + 1)
}

/// Numbers in [−1, 1) without a pattern.
fn numbers(len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|i| {
            let mixed = i.wrapping_mul(0x9e37_79b9) ^ (i.wrapping_mul(0x85eb_ca6b) >> 13);
            (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// All results are those of the first within `tolerance` of the largest, and none is poison.
fn agree(results: &[Vec<f32>], tolerance: f32) {
    let largest = results[0].iter().fold(1.0_f32, |most, x| most.max(x.abs()));
    for result in results {
        for (a, b) in result.iter().zip(&results[0]) {
            assert!((a - b).abs() <= tolerance * largest, "{a} is not {b}");
        }
    }
}

fn conv(conv: &Conv, batch: usize) {
    let shape = *conv.shape();
    let [height, width] = conv.output_size();
    let [first, second] = shape.in_channels;
    let pixels = batch * shape.size[0] * shape.size[1];
    let x = [numbers(pixels * first), numbers(pixels * second)];
    let weights = (first + second) * shape.out_channels * shape.kernel[0] * shape.kernel[1];
    let w = numbers(weights);
    let dy = numbers(batch * height * width * shape.out_channels);
    let bias = numbers(shape.out_channels);
    // F(4×4) multiplies by numbers up to 8 on both axes: some hundred roundings, of 2⁻²⁴ or 2⁻⁹.
    for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 0.5)] {
        let mut results = [const { Vec::new() }; 4];
        for isa in Isa::available() {
            for algorithm in [
                Algorithm::Direct,
                Algorithm::Winograd2,
                Algorithm::Winograd4,
            ] {
                let poison = |len: usize| vec![f32::NAN; len];
                let mut y = poison(dy.len());
                let mut dx = [poison(x[0].len()), poison(x[1].len())];
                let mut dw = poison(w.len());
                let inputs = [&x[0][..], &x[1][..]];
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    ..Epilogue::default()
                };
                let packed = conv.pack(isa, precision, algorithm, &w);
                conv.forward(&packed, inputs, epilogue, &mut y);
                let packed = conv.pack_transpose(isa, precision, algorithm, &w);
                let [dx1, dx2] = &mut dx;
                let wanted = [Some(&mut dx1[..]), (second > 0).then_some(&mut dx2[..])];
                conv.input_gradient(&packed, &dy, wanted);
                conv.weight_gradient(isa, precision, algorithm, inputs, &dy, &mut dw);
                let [dx1, dx2] = dx;
                for (results, result) in results.iter_mut().zip([y, dx1, dx2, dw]) {
                    results.push(result);
                }
            }
        }
        for results in &results {
            agree(results, tolerance);
        }
    }
}

fn group_norm(norm: &GroupNorm, [first, second]: [usize; 2]) {
    let pixels = norm.batch * norm.pixels;
    let (x, x2) = (numbers(pixels * first), numbers(pixels * second));
    let images = Images {
        x: &x,
        x2: (second > 0).then_some(&x2[..]),
    };
    let dy = numbers(pixels * (first + second));
    let mut results = [const { Vec::new() }; 2];
    for isa in Isa::available() {
        let mut y = vec![f32::NAN; dy.len()];
        let mut moments = vec![Moments::default(); norm.batch * norm.groups];
        norm::forward(isa, norm, images, &mut y, &mut moments);
        let (mut dx, mut dx2) = (vec![f32::NAN; x.len()], vec![f32::NAN; x2.len()]);
        let (mut weight, mut bias) = (norm.weight.to_vec(), norm.bias.to_vec());
        let gradients = norm::Gradients {
            x: &mut dx,
            x2: (second > 0).then_some(&mut dx2[..]),
            weight: &mut weight,
            bias: &mut bias,
            pre_shift: None,
            scale_shift: None,
        };
        norm::backward(isa, norm, images, &moments, &dy, gradients);
        dx.extend(dx2);
        for (results, result) in results.iter_mut().zip([y, dx]) {
            results.push(result);
        }
    }
    for results in &results {
        agree(results, 1e-3);
    }
}

fn attend(sizes: &Attention) {
    let len = sizes.batch * sizes.tokens * sizes.heads * sizes.dim;
    let q = numbers(len);
    let mut results = [const { Vec::new() }; 2];
    for isa in Isa::available() {
        let mut y = vec![f32::NAN; len];
        let mut log_sums = vec![f32::NAN; sizes.batch * sizes.tokens * sizes.heads];
        attention::forward(isa, sizes, [&q; 3], &mut y, &mut log_sums);
        let mut gradients = [(); 3].map(|()| vec![f32::NAN; len]);
        let wanted = gradients.each_mut().map(Vec::as_mut_slice);
        attention::backward(isa, sizes, [&q; 3], (&y, &log_sums), &q, wanted);
        for (results, result) in results.iter_mut().zip([y, gradients.concat()]) {
            results.push(result);
        }
    }
    for results in &results {
        agree(results, 1e-4);
    }
}

fuzz_target!(|input: Input| match input {
    Input::Conv {
        size: sizes,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        upsample,
        batch,
    } => {
        let shape = Shape {
            size: sizes.map(|s| size(s, 1, 9)),
            in_channels: [size(in_channels[0], 1, 34), size(in_channels[1], 0, 17)],
            out_channels: size(out_channels, 1, 34),
            kernel: kernel.map(|k| size(k, 1, 4)),
            stride: size(stride, 1, 3),
            padding: padding.map(|p| p.map(|p| size(p, 0, 3))),
            upsample: size(upsample, 1, 3),
        };
        if let Ok(conv_of_shape) = Conv::new(shape) {
            conv(&conv_of_shape, size(batch, 1, 3));
        }
    }
    Input::Norm {
        batch,
        pixels,
        groups,
        width,
        second,
        silu,
    } => {
        let groups = size(groups, 1, 8);
        let channels = groups * size(width, 1, 20);
        let second = size(second, 0, channels - 1);
        let weight = numbers(channels);
        let norm = GroupNorm {
            batch: size(batch, 1, 3),
            pixels: size(pixels, 1, 200),
            groups,
            eps: 1e-5,
            weight: &weight,
            bias: &weight,
            pre_shift: None,
            scale_shift: None,
            silu,
        };
        group_norm(&norm, [channels - second, second]);
    }
    Input::Attention {
        batch,
        tokens,
        heads,
        dim,
    } => attend(&Attention {
        batch: size(batch, 1, 2),
        tokens: size(tokens, 1, 130),
        heads: size(heads, 1, 3),
        dim: size(dim, 1, 40),
    }),
});
