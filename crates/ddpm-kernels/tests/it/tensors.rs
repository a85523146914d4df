//! The operations on Burn tensors, with the kernels and without, against Burn's layers.

use burn::tensor::activation::{silu, softmax};
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions as BurnConv, PadMode};
use burn::tensor::{Device, Distribution, Gradients, Tensor, TensorData};
use ddpm_kernels::{ConvOptions, Images, Norm, NormOptions, Terms, attention, conv, group_norm};

use crate::reference::Data;

/// Relative to the largest value: both sides sum at most a few thousand f32 products, each rounded to
/// 6e-8.
const TOLERANCE: f64 = 2e-5;

fn devices() -> [Device; 2] {
    #[allow(deprecated, reason = "kept until Burn removes it: see docs/design.md")]
    [Device::flex().autodiff(), Device::ndarray().autodiff()]
}

/// Calls `check` on every device with the kernels and without.
pub(crate) fn everywhere(check: impl Fn(&Device, &str)) {
    for device in devices() {
        // Without the features, this would compare Burn with itself.
        assert!(ddpm_kernels::serves(&device), "--features flex,ndarray");
        for kernels in [true, false] {
            ddpm_kernels::enable(kernels);
            check(&device, &format!("{device:?}, kernels: {kernels}"));
        }
    }
    ddpm_kernels::enable(true);
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device).require_grad()
}

fn close<const D: usize>(name: &str, found: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(found.dims(), expected.dims(), "{name}");
    let size: f64 = expected.clone().abs().max().into_scalar();
    let error: f64 = (found - expected).abs().max().into_scalar();
    assert!(
        error <= TOLERANCE * size.max(1.0),
        "{name}: off by {error} of {size}"
    );
}

struct Case {
    size: [usize; 2],
    channels: [usize; 2],
    out: usize,
    kernel: usize,
    options: ConvOptions,
}

fn cases() -> Vec<Case> {
    let same = ConvOptions::same(3);
    let halving = |before| ConvOptions {
        stride: 2,
        padding: [[before, 1]; 2],
        upsample: 1,
    };
    let doubling = ConvOptions {
        upsample: 2,
        ..same
    };
    let case = |size, channels, out, kernel, options| Case {
        size,
        channels,
        out,
        kernel,
        options,
    };
    vec![
        case([5, 7], [3, 0], 8, 3, same),
        case([1, 1], [1, 0], 1, 3, same),
        case([6, 4], [16, 9], 17, 3, same),
        case([4, 4], [10, 6], 5, 1, ConvOptions::same(1)),
        case([8, 6], [4, 0], 4, 3, halving(1)),
        case([8, 6], [4, 0], 4, 3, halving(0)),
        case([3, 5], [6, 0], 7, 3, doubling),
    ]
}

/// The same with Burn's convolution, which has the channels first.
fn reference(images: &Images, weight: Tensor<4>, terms: &Terms, options: ConvOptions) -> Tensor<4> {
    let x = match &images.skip {
        Some(skip) => Tensor::cat(vec![images.x.clone(), skip.clone()], 3),
        None => images.x.clone(),
    };
    let mut x = x.permute([0, 3, 1, 2]);
    if options.upsample == 2 {
        let [b, c, h, w] = x.dims();
        x = x
            .reshape([b, c, h, 1, w, 1])
            .repeat(&[1, 1, 1, 2, 1, 2])
            .reshape([b, c, 2 * h, 2 * w]);
    }
    let [[top, bottom], [left, right]] = options.padding;
    let x = x.pad((left, right, top, bottom), PadMode::Constant(0.0));
    let burn = BurnConv::new([options.stride; 2], [0, 0], [1, 1], 1);
    let y = conv2d(x, weight, terms.bias.clone(), burn).permute([0, 2, 3, 1]);
    let y = match &terms.shift {
        Some(shift) => y + shift.clone().unsqueeze_dims(&[1, 2]),
        None => y,
    };
    match &terms.residual {
        Some(residual) => y + residual.clone(),
        None => y,
    }
}

#[test]
fn convolutions_and_their_gradients() {
    everywhere(|device, place| {
        for (k, case) in cases().into_iter().enumerate() {
            let name = |what: &str| format!("{place}, case {k}, {what}");
            let [height, width] = case.size;
            let [first, second] = case.channels;
            let images = Images {
                x: random([2, height, width, first], device),
                skip: (second > 0).then(|| random([2, height, width, second], device)),
            };
            let weight = random([case.out, first + second, case.kernel, case.kernel], device);
            let plain = reference(&images, weight.clone(), &Terms::default(), case.options);
            let terms = Terms {
                bias: Some(random([case.out], device)),
                shift: Some(random([2, case.out], device)),
                residual: Some(random(plain.dims(), device)),
            };
            let y = conv(images.clone(), weight.clone(), terms.clone(), case.options);
            let expected = reference(&images, weight.clone(), &terms, case.options);
            close(&name("y"), y.clone().inner(), expected.clone().inner());
            let slope = random(y.dims(), device).detach();
            let found = (y * slope.clone()).sum().backward();
            let wanted = (expected * slope).sum().backward();
            let gradient = |t: &Tensor<4>| (t.grad(&found).unwrap(), t.grad(&wanted).unwrap());
            let (a, b) = gradient(&images.x);
            close(&name("dx"), a, b);
            if let Some(skip) = &images.skip {
                let (a, b) = gradient(skip);
                close(&name("dskip"), a, b);
            }
            let (a, b) = gradient(&weight);
            close(&name("dweight"), a, b);
            let (a, b) = gradient(terms.residual.as_ref().unwrap());
            close(&name("dresidual"), a, b);
            let bias = terms.bias.unwrap();
            close(
                &name("dbias"),
                bias.grad(&found).unwrap(),
                bias.grad(&wanted).unwrap(),
            );
            let shift = terms.shift.unwrap();
            close(
                &name("dshift"),
                shift.grad(&found).unwrap(),
                shift.grad(&wanted).unwrap(),
            );
        }
    });
}

/// By Burn's module, which has the channels first.
fn reference_norm(x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>, groups: usize) -> Tensor<4> {
    let channels = x.dims()[3];
    let device = x.device();
    let norm = burn::nn::GroupNormConfig::new(groups, channels)
        .with_epsilon(1e-5)
        .with_affine(false)
        .init(&device);
    let y = norm.forward(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
    y * weight.unsqueeze() + bias.unsqueeze()
}

/// A norm with all options, of images in two tensors.
struct Normed {
    images: Images,
    norm: Norm,
}

impl Normed {
    /// From the numbers of images, rows and columns.
    fn new(
        [batch, rows, cols]: [usize; 3],
        [first, second]: [usize; 2],
        groups: usize,
        device: &Device,
    ) -> Self {
        let channels = first + second;
        let images = Images {
            x: random([batch, rows, cols, first], device),
            skip: (second > 0).then(|| random([batch, rows, cols, second], device)),
        };
        // Dropout with probability ¼.
        let kept = Tensor::random(
            [batch, rows, cols, channels],
            Distribution::Bernoulli(0.75),
            device,
        );
        let norm = Norm {
            weight: random([channels], device),
            bias: random([channels], device),
            scale_shift: Some(random([batch, 2 * channels], device)),
            mask: Some(kept / 0.75),
            options: NormOptions {
                groups,
                eps: 1e-5,
                silu: true,
            },
        };
        Self { images, norm }
    }

    /// By Burn's operations.
    fn reference(&self) -> Tensor<4> {
        let Images { x, skip } = self.images.clone();
        let joined = match skip {
            Some(skip) => Tensor::cat(vec![x, skip], 3),
            None => x,
        };
        let norm = self.norm.clone();
        let channels = norm.weight.dims()[0];
        let z = reference_norm(joined, norm.weight, norm.bias, norm.options.groups);
        let scale_shift = norm.scale_shift.unwrap();
        let part = |first| -> Tensor<4> {
            let part = scale_shift.clone().narrow(1, first, channels);
            part.unsqueeze_dims(&[1, 2])
        };
        silu(z * (part(0) + 1.0) + part(channels)) * norm.mask.unwrap()
    }

    /// Compares the gradients of all inputs of the norm.
    fn check_gradients(
        &self,
        found: &Gradients,
        wanted: &Gradients,
        name: &dyn Fn(&str) -> String,
    ) {
        let images = [Some(&self.images.x), self.images.skip.as_ref()];
        for (what, image) in ["dx", "dskip"].iter().zip(images) {
            if let Some(image) = image {
                let (a, b) = (image.grad(found).unwrap(), image.grad(wanted).unwrap());
                close(&name(what), a, b);
            }
        }
        let norm = &self.norm;
        for (what, t) in [("dweight", &norm.weight), ("dbias", &norm.bias)] {
            close(&name(what), t.grad(found).unwrap(), t.grad(wanted).unwrap());
        }
        let scale_shift = norm.scale_shift.as_ref().unwrap();
        let (a, b) = (scale_shift.grad(found), scale_shift.grad(wanted));
        close(&name("dscale_shift"), a.unwrap(), b.unwrap());
    }
}

#[test]
fn group_norms_and_their_gradients() {
    everywhere(|device, place| {
        for (first, second, groups) in [(8, 0, 4), (6, 3, 3), (1, 0, 1), (32, 16, 8)] {
            let name = |what: &str| format!("{place}, {first}+{second} channels, {what}");
            let normed = Normed::new([2, 5, 3], [first, second], groups, device);
            let y = group_norm(normed.images.clone(), normed.norm.clone());
            let expected = normed.reference();
            close(&name("y"), y.clone().inner(), expected.clone().inner());
            let slope = random(y.dims(), device).detach();
            let found = (y * slope.clone()).sum().backward();
            let wanted = (expected * slope).sum().backward();
            normed.check_gradients(&found, &wanted, &name);
        }
    });
}

/// The norm that a convolution reads is computed twice, with the same bits.
#[test]
fn convolutions_of_norms_and_their_gradients() {
    everywhere(|device, place| {
        for (first, second, groups) in [(8, 0, 4), (6, 3, 3), (32, 16, 8)] {
            let name = |what: &str| format!("{place}, {first}+{second} channels, {what}");
            let normed = Normed::new([2, 5, 3], [first, second], groups, device);
            let weight = random([7, first + second, 3, 3], device);
            let options = ConvOptions::same(3);
            let input = normed.images.clone().normed(normed.norm.clone());
            let y = conv(input, weight.clone(), Terms::default(), options);
            let normal = normed.reference().into();
            let expected = reference(&normal, weight.clone(), &Terms::default(), options);
            close(&name("y"), y.clone().inner(), expected.clone().inner());
            let slope = random(y.dims(), device).detach();
            let found = (y * slope.clone()).sum().backward();
            let wanted = (expected * slope).sum().backward();
            normed.check_gradients(&found, &wanted, &name);
            let (a, b) = (weight.grad(&found), weight.grad(&wanted));
            close(&name("dkernel"), a.unwrap(), b.unwrap());
        }
    });
}

/// A thread writes a million floats of a norm before they are read: here four threads write all images
/// at once, and one thread writes them in two parts.
#[test]
fn a_norm_is_the_same_in_parts() {
    let device = &Device::flex().autodiff();
    let normed = Normed::new([20, 32, 32], [48, 16], 8, device);
    let weight = random([8, 64, 3, 3], device);
    let terms = Terms {
        bias: Some(random([8], device)),
        shift: Some(random([20, 8], device)),
        residual: Some(random([20, 32, 32, 8], device)),
    };
    let bits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let input = normed.images.clone().normed(normed.norm.clone());
            let y = conv(input, weight.clone(), terms.clone(), ConvOptions::same(3));
            let gradients = (y.clone() * y.clone()).sum().backward();
            let dx = normed.images.x.grad(&gradients).unwrap();
            [y.inner(), dx].map(|t| t.into_data().try_into_vec::<f32>().unwrap())
        })
    };
    assert!(bits(1) == bits(4));
}

/// Small enough for Miri. Without debug assertions an output is uninitialised memory until a kernel
/// writes it: this reads each number of each output.
#[test]
fn tiny() {
    fn tensor<const D: usize>(data: TensorData, device: &Device) -> Tensor<D> {
        Tensor::from_data(data, device).require_grad()
    }
    fn read<const D: usize>(tensor: Tensor<D>) {
        let values = tensor.into_data().try_into_vec::<f32>().unwrap();
        assert!(values.iter().all(|x| x.is_finite()), "{values:?}");
    }
    let device = &Device::flex().autodiff();
    let mut data = Data::new(1);
    let mut next =
        |shape: &[usize]| TensorData::new(data.values(shape.iter().product()), shape.to_vec());
    let images = Images {
        x: tensor(next(&[1, 2, 2, 2]), device),
        skip: Some(tensor(next(&[1, 2, 2, 1]), device)),
    };
    let norm = Norm {
        weight: tensor(next(&[3]), device),
        bias: tensor(next(&[3]), device),
        scale_shift: Some(tensor(next(&[1, 6]), device)),
        mask: Some(tensor(next(&[1, 2, 2, 3]), device)),
        options: NormOptions {
            groups: 1,
            eps: 1e-5,
            silu: true,
        },
    };
    let weight: Tensor<4> = tensor(next(&[2, 3, 3, 3]), device);
    let terms = Terms {
        bias: Some(tensor(next(&[2]), device)),
        shift: Some(tensor(next(&[1, 2]), device)),
        residual: Some(tensor(next(&[1, 2, 2, 2]), device)),
    };
    let same = ConvOptions::same(3);
    let _packed = ddpm_kernels::keep_packed_weights();
    let of_norm = images.clone().normed(norm.clone());
    let y = conv(of_norm, weight.clone(), terms.clone(), same);
    let plain = conv(images.clone(), weight.clone(), Terms::default(), same);
    let normal = group_norm(images.clone(), norm.clone());
    let tokens = y.clone().reshape([1, 4, 2]);
    let attended = attention(tokens.clone(), tokens.clone(), tokens, 1);
    let loss = attended.sum() + plain.sum() + normal.sum() + y.clone().sum();
    let gradients = loss.backward();
    read(y);
    for image in [
        Some(&images.x),
        images.skip.as_ref(),
        terms.residual.as_ref(),
    ] {
        read(image.unwrap().grad(&gradients).unwrap());
    }
    for row in [&norm.weight, &norm.bias, terms.bias.as_ref().unwrap()] {
        read(row.grad(&gradients).unwrap());
    }
    for rows in [norm.scale_shift.as_ref(), terms.shift.as_ref()] {
        read(rows.unwrap().grad(&gradients).unwrap());
    }
    read(weight.grad(&gradients).unwrap());
}

#[test]
fn attention_and_its_gradients() {
    everywhere(|device, place| {
        for (tokens, heads, dim) in [(1, 1, 1), (9, 2, 8), (64, 1, 20)] {
            let name = |what: &str| format!("{place}, {tokens} tokens, {what}");
            let shape = [2, tokens, heads * dim];
            let qkv: [Tensor<3>; 3] = std::array::from_fn(|_| random(shape, device));
            let [q, k, v] = qkv.clone();
            let y = attention(q, k, v, heads);
            let [q, k, v] = qkv
                .clone()
                .map(|t| t.reshape([2, tokens, heads, dim]).swap_dims(1, 2));
            let scores = q.matmul(k.transpose()) / (dim as f64).sqrt();
            let expected: Tensor<3> = softmax(scores, 3).matmul(v).swap_dims(1, 2).reshape(shape);
            close(&name("y"), y.clone().inner(), expected.clone().inner());
            let slope = random(shape, device).detach();
            let found = (y * slope.clone()).sum().backward();
            let wanted = (expected * slope).sum().backward();
            for (what, t) in ["dq", "dk", "dv"].iter().zip(&qkv) {
                close(
                    &name(what),
                    t.grad(&found).unwrap(),
                    t.grad(&wanted).unwrap(),
                );
            }
        }
    });
}
