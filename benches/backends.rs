//! Benchmarks, per compiled backend side by side, with this project's kernels and without: a training
//! step, a sampling step, and the U-Net's main operations.

use burn::tensor::{Device, Distribution, Tensor};
use criterion::Criterion;
use ddpm_kernels::allocator::{Allocator, keep_memory};
use ddpm_kernels::{
    ConvOptions, Norm, NormOptions, Terms, attention, conv, group_norm, keep_packed_weights,
};
use ddpm_model::{UNet, UNetConfig};
use ddpm_process::{NoiseStream, training_loss};
use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::device::Backend;
use ddpm_train::ema::Ema;
use ddpm_train::optim::{AdamWSettings, Optim, clip};
use ddpm_train::params;

/// Images a step sees.
const BATCH: usize = 8;

/// As in the program `ddpm`.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() {
    keep_memory();
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for backend in Backend::working() {
        let Ok(device) = backend.device() else {
            continue;
        };
        let kernels = ddpm_kernels::serves(&device);
        for kernels in [false, true].into_iter().filter(|on| kernels || !on) {
            ddpm_kernels::enable(kernels);
            let name = format!("{backend}{}", if kernels { " with kernels" } else { "" });
            training_step(&mut criterion, &name, &device);
            sampling_step(&mut criterion, &name, &device);
            operations(&mut criterion, &name, &device);
        }
    }
    criterion.final_summary();
}

/// A U-Net for the digits.
fn unet(device: &Device) -> UNet {
    UNetConfig {
        in_channels: 1,
        out_channels: 1,
        block_out_channels: vec![32, 64],
        layers_per_block: 1,
        attention: vec![false, true],
        norm_num_groups: 8,
        ..UNetConfig::cifar10()
    }
    .init(0, device)
    .expect("the configuration is valid")
}

fn images(device: &Device) -> Tensor<4> {
    let samples: Vec<u64> = (0..BATCH as u64).collect();
    NoiseStream::new(0, "bench").normal(&samples, 0, [BATCH, 1, 8, 8], device)
}

/// Loss, gradients, clipping, update and average, waited for.
fn training_step(criterion: &mut Criterion, backend: &str, device: &Device) {
    let device = device.clone().autodiff();
    let schedule = NoiseSchedule::cosine(1000, 0.008).expect("a valid schedule");
    let times: Vec<_> = schedule.iter().step_by(125).collect();
    let objective =
        Objective::new(schedule, Parametrization::V, Weighting::Simple).expect("a valid objective");
    let mut optim = Optim::new(AdamWSettings {
        beta_1: 0.9,
        beta_2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
    });
    let model = unet(&device);
    let mut ema = Ema::new(&model, 0.999);
    // The step takes the network, to update it in place.
    let mut model = Some(model);
    let (x0, eps) = (images(&device), images(&device));
    criterion.bench_function(&format!("training step/{backend}"), |bencher| {
        bencher.iter(|| {
            let unet = model.take().expect("put back by every step");
            let network = |x, t| unet.forward(x, t, None, None);
            let loss = training_loss(network, &objective, x0.clone(), eps.clone(), &times).mean();
            let gradients = params::gradients(&unet, &loss.backward());
            let clip = clip(params::norm(&gradients), Some(1.0));
            model = Some(optim.step(unet, &mut ema, gradients, clip, 1e-4));
            let _ = device.sync();
        });
    });
}

/// One evaluation of the network, which is what a sampling step costs.
fn sampling_step(criterion: &mut Criterion, backend: &str, device: &Device) {
    let model = unet(device);
    let x = images(device);
    let t = Tensor::full([BATCH], 500.0, device);
    let _packed = keep_packed_weights();
    criterion.bench_function(&format!("sampling step/{backend}"), |bencher| {
        bencher.iter(|| {
            let y = model.forward(x.clone(), t.clone(), None, None);
            let _ = device.sync();
            y
        });
    });
}

/// The operations that a step is made of, forward and backward.
fn operations(criterion: &mut Criterion, backend: &str, device: &Device) {
    let device = device.clone().autodiff();
    let images = random([BATCH, 14, 14, 64], &device);
    let weight = random([64, 64, 3, 3], &device);
    let mut operation = |name: &str, forward: &dyn Fn() -> Tensor<1>| {
        criterion.bench_function(&format!("{name}/{backend}"), |bencher| {
            bencher.iter(|| {
                let gradients = forward().backward();
                let _ = device.sync();
                gradients
            });
        });
    };
    operation("convolution 3×3", &|| {
        let same = ConvOptions::same(3);
        conv(images.clone(), weight.clone(), Terms::default(), same).sum()
    });
    let channels = random([64], &device);
    operation("group norm and SiLU", &|| {
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
    operation("attention", &|| {
        attention(tokens.clone(), tokens.clone(), tokens.clone(), 1).sum()
    });
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Default, device).require_grad()
}
