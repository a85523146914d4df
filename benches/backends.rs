//! Benchmarks of a training step, a sampling step and the U-Net's main operations, on every
//! compiled backend, with and without this project's kernels.

use std::fmt::Write as _;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use criterion::Criterion;
use ddpm_kernels::allocator::{Allocator, keep_memory};
use ddpm_kernels::{
    ConvOptions, Norm, NormOptions, Terms, attention, conv, group_norm, keep_packed_weights,
};
use ddpm_model::{Condition, Network, UNet, UNetConfig};
use ddpm_process::{NoiseStream, training_loss};
use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::device::Backend;
use ddpm_train::ema::Ema;
use ddpm_train::optim::{self, AdamW, Step, clip};
use ddpm_train::params;

/// Images per step.
const BATCH: usize = 8;

/// As in the program `ddpm`.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() {
    keep_memory();
    let criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut bench = Bench {
        criterion,
        backend: String::new(),
        rows: Vec::new(),
    };
    for backend in Backend::working() {
        let Ok(device) = backend.device() else {
            continue;
        };
        bench.backend = backend.to_string();
        product(&mut bench, &device);
        let kernels = ddpm_kernels::serves(&device);
        for kernels in [false, true].into_iter().filter(|on| kernels || !on) {
            ddpm_kernels::enable(kernels);
            bench.backend = format!("{backend}{}", if kernels { " with kernels" } else { "" });
            training_step(&mut bench, &device);
            sampling_step(&mut bench, &device);
            operations(&mut bench, &device);
        }
    }
    bench.criterion.final_summary();
    print!("{}", table(&bench.rows));
}

/// Criterion, and the results so far.
struct Bench {
    criterion: Criterion,
    backend: String,
    rows: Vec<Row>,
}

/// A benchmark's result.
struct Row {
    name: String,
    /// Median of the samples, including those of the warm-up.
    seconds: f64,
    /// Images per iteration.
    images: usize,
    /// Additions and multiplications per iteration, counted for the direct algorithms.
    operations: f64,
}

/// The benchmark whose rate the others are compared with.
const PRODUCT: &str = "matrix product";

impl Bench {
    /// Measures `work` on `images` images with `operations` operations; 0 if there are none to
    /// count.
    fn measure(&mut self, name: &str, images: usize, operations: f64, mut work: impl FnMut()) {
        let name = format!("{name}/{}", self.backend);
        let mut samples = Vec::new();
        self.criterion.bench_function(&name, |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for _ in 0..iterations {
                    work();
                }
                let elapsed = start.elapsed();
                samples.push(elapsed.as_secs_f64() / iterations as f64);
                elapsed
            });
        });
        samples.sort_by(f64::total_cmp);
        // None if a filter on the command line excluded it.
        if let Some(&seconds) = samples.get(samples.len() / 2) {
            self.rows.push(Row {
                name,
                seconds,
                images,
                operations,
            });
        }
    }
}

/// The results, as images per second and as a fraction of the rate of the fastest matrix product.
fn table(rows: &[Row]) -> String {
    let rate = |row: &Row| row.operations / row.seconds / 1e9;
    let products = rows.iter().filter(|row| row.name.starts_with(PRODUCT));
    let fastest = products.map(rate).fold(f64::NAN, f64::max);
    let mut text = format!(
        "\n{:<42}{:>9}{:>10}{:>9}{:>8}\n",
        "", "ms", "images/s", "GFLOP/s", "of it"
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = write!(text, "{:<42}{:>9.3}", row.name, 1e3 * row.seconds);
        let _ = match row.images {
            0 => write!(text, "{:>10}", ""),
            n => write!(text, "{:>10.0}", n as f64 / row.seconds),
        };
        if row.operations > 0.0 {
            let rate = rate(row);
            let _ = write!(text, "{rate:>9.1}{:>7.0}%", 100.0 * rate / fastest);
        }
        text.push('\n');
    }
    text + "of it: fraction of the rate of the fastest matrix product; counts the operations of \
            the direct algorithms\n"
}

/// The product of two square matrices.
fn product(bench: &mut Bench, device: &Device) {
    const N: usize = 1024;
    let [a, b]: [Tensor<2>; 2] =
        std::array::from_fn(|_| Tensor::random([N, N], Distribution::Default, device));
    bench.measure(PRODUCT, 0, 2.0 * (N as f64).powi(3), || {
        let _product = a.clone().matmul(b.clone());
        let _ = device.sync();
    });
}

/// A U-Net for the digits.
fn unet(device: &Device) -> UNet {
    UNetConfig {
        block_out_channels: vec![32, 64],
        layers_per_block: 1,
        attention: vec![false, true],
        norm_num_groups: 8,
        ..UNetConfig::cifar10()
    }
    .init([1, 1], 0, device)
    .expect("the configuration is valid")
}

fn images(device: &Device) -> Tensor<4> {
    let samples: Vec<u64> = (0..BATCH as u64).collect();
    NoiseStream::new(0, "bench").normal(&samples, 0, [BATCH, 1, 8, 8], device)
}

/// Operations of the network per image, counted for the direct algorithms: each weight of a layer
/// multiplies once for every pixel of its output, and the operations of attention's two products
/// follow from their sizes.
fn unet_operations(model: &UNet) -> f64 {
    let weights = params::values(model).into_iter();
    let weights = weights.filter(|(name, _)| name.ends_with(".weight") && !name.contains("norm"));
    let operations = weights.map(|(name, weight)| {
        // The first of the two levels has 8×8 pixels, the second 4×4.
        let first = ["conv", "down_blocks.0.resnets", "up_blocks.1"];
        let fine = first.iter().any(|part| name.starts_with(part)) || name.contains("upsamplers");
        let pixels = match fine {
            _ if name.contains("time_emb") => 1.0,
            true => 64.0,
            false => 16.0,
        };
        let values = weight.dims()[0] as f64;
        // A square matrix of the channels, which attention multiplies twice with every pair of pixels.
        let pairs = if name.contains("to_q") {
            2.0 * pixels * pixels * values.sqrt()
        } else {
            0.0
        };
        2.0 * (pixels * values + pairs)
    });
    operations.sum()
}

/// Loss, gradients, clipping, update and average, including the wait for the device.
fn training_step(bench: &mut Bench, device: &Device) {
    let device = device.clone().autodiff();
    let schedule = NoiseSchedule::cosine(1000, 0.008).expect("a valid schedule");
    let levels: Vec<_> = schedule
        .iter()
        .step_by(125)
        .map(|t| schedule.level(t))
        .collect();
    let objective =
        Objective::new(schedule, Parametrization::V, Weighting::Simple).expect("a valid objective");
    let mut adamw = AdamW::default();
    let mut number = 0;
    let model = unet(&device);
    // The gradients of inputs and of weights each cost as much as the output.
    let operations = 3.0 * BATCH as f64 * unet_operations(&model);
    let mut averages = [Ema::new(&model, 0.999)];
    let shapes = params::trained(&model);
    // The step takes the network, to update it in place.
    let mut model = Some(model);
    let (x0, eps) = (images(&device), images(&device));
    bench.measure("training step", BATCH, operations, || {
        let unet = model.take().expect("put back by every step");
        let network = |x, t| unet.predict(x, t, &Condition::none(), None);
        let loss = training_loss(network, &objective, x0.clone(), eps.clone(), &levels).mean();
        let gradients = params::gradients(&unet, &loss.backward());
        number += 1;
        let step = Step {
            number,
            learning_rate: 1e-4,
            clip: clip(params::norm(&gradients), Some(1.0)),
        };
        let unet = optim::step(&mut adamw, unet, &mut averages, gradients, &shapes, &step);
        model = Some(unet);
        let _ = device.sync();
    });
}

/// One evaluation of the network, the cost of a sampling step.
fn sampling_step(bench: &mut Bench, device: &Device) {
    let model = unet(device);
    let x = images(device);
    let t = Tensor::full([BATCH], 500.0, device);
    let _packed = keep_packed_weights();
    let operations = BATCH as f64 * unet_operations(&model);
    bench.measure("sampling step", BATCH, operations, || {
        let _y = model.predict(x.clone(), t.clone(), &Condition::none(), None);
        let _ = device.sync();
    });
}

/// The operations that a step is made of, forward and backward.
fn operations(bench: &mut Bench, device: &Device) {
    let device = device.clone().autodiff();
    let images = random([BATCH, 14, 14, 64], &device);
    let weight = random([64, 64, 3, 3], &device);
    let mut operation = |name: &str, operations: f64, forward: &dyn Fn() -> Tensor<1>| {
        // Three times: the output and the gradients of both factors.
        bench.measure(name, BATCH, 3.0 * operations, || {
            let _gradients = forward().backward();
            let _ = device.sync();
        });
    };
    let pixels = (BATCH * 14 * 14) as f64;
    operation(
        "convolution 3×3",
        2.0 * pixels * 9.0 * 64.0 * 64.0,
        &|| {
            let same = ConvOptions::same(3);
            conv(images.clone(), weight.clone(), Terms::default(), same).sum()
        },
    );
    let channels = random([64], &device);
    operation("group norm and SiLU", 0.0, &|| {
        let options = NormOptions {
            groups: 8,
            eps: 1e-6,
            silu: true,
        };
        let norm = Norm {
            weight: channels.clone(),
            bias: channels.clone(),
            scale_shift: None,
            mask: None,
            options,
        };
        group_norm(images.clone(), norm).sum()
    });
    let tokens = random([BATCH, 196, 64], &device);
    operation("attention", 4.0 * pixels * 196.0 * 64.0, &|| {
        attention(tokens.clone(), tokens.clone(), tokens.clone(), 1).sum()
    });
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Default, device).require_grad()
}
