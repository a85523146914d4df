//! Benchmarks, per compiled backend side by side: a training step, a sampling step, and the U-Net's
//! main operations.

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use criterion::Criterion;
use ddpm_model::{UNet, UNetConfig};
use ddpm_process::{NoiseStream, training_loss};
use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::device::Backend;
use ddpm_train::optim::{AdamWSettings, Optim};
use ddpm_train::params;

/// Images a step sees.
const BATCH: usize = 8;

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for backend in Backend::working() {
        let Ok(device) = backend.device() else {
            continue;
        };
        training_step(&mut criterion, backend, &device);
        sampling_step(&mut criterion, backend, &device);
        operations(&mut criterion, backend, &device);
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

/// Loss, gradients and update, waited for.
fn training_step(criterion: &mut Criterion, backend: Backend, device: &Device) {
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
    let mut model = unet(&device);
    let (x0, eps) = (images(&device), images(&device));
    criterion.bench_function(&format!("training step/{backend}"), |bencher| {
        bencher.iter(|| {
            let network = |x, t| model.forward(x, t, None, None);
            let loss = training_loss(network, &objective, x0.clone(), eps.clone(), &times).mean();
            let gradients = params::gradients(&model, &loss.backward());
            model = optim.step(model.clone(), gradients, 1e-4);
            let _ = device.sync();
        });
    });
}

/// One evaluation of the network, which is what a sampling step costs.
fn sampling_step(criterion: &mut Criterion, backend: Backend, device: &Device) {
    let model = unet(device);
    let x = images(device);
    let t = Tensor::full([BATCH], 500.0, device);
    criterion.bench_function(&format!("sampling step/{backend}"), |bencher| {
        bencher.iter(|| {
            let y = model.forward(x.clone(), t.clone(), None, None);
            let _ = device.sync();
            y
        });
    });
}

fn operations(criterion: &mut Criterion, backend: Backend, device: &Device) {
    let random = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Default, device);
    let (x, w) = (random([BATCH, 64, 14, 14]), random([64, 64, 3, 3]));
    criterion.bench_function(&format!("convolution 3×3/{backend}"), |bencher| {
        bencher.iter(|| {
            let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
            let y = conv2d(x.clone(), w.clone(), None, options);
            let _ = device.sync();
            y
        });
    });
    let q = random([BATCH, 1, 196, 64]);
    criterion.bench_function(&format!("attention scores/{backend}"), |bencher| {
        bencher.iter(|| {
            let y = q.clone().matmul(q.clone().swap_dims(2, 3));
            let _ = device.sync();
            y
        });
    });
}
