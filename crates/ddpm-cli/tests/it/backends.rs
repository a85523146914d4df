//! Every compiled backend computes what Flex computes, with this project's kernels and without.

use burn::tensor::{Device, Tensor};
use ddpm_model::{Condition, Network, UNet, UNetConfig};
use ddpm_process::{NoiseStream, Predictor, Reverse, training_loss};
use ddpm_schedule::solver::{Ddpm, Variance};
use ddpm_schedule::{Grid, NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::device::Backend;
use ddpm_train::ema::Ema;
use ddpm_train::optim::{self, AdamW, Step};
use ddpm_train::params;

const SHAPE: [usize; 4] = [2, 1, 8, 8];

fn unet(device: &Device) -> UNet {
    let config = UNetConfig {
        block_out_channels: vec![8, 16],
        layers_per_block: 1,
        attention: vec![false, true],
        norm_num_groups: 4,
        ..UNetConfig::cifar10()
    };
    config.init([1, 1], 0, device).unwrap()
}

/// Loss and gradients after two updates (the first leaves the zero output), then a sample.
fn run(device: &Device) -> (f32, Vec<f32>, Vec<f32>) {
    let training = device.clone().autodiff();
    let schedule = NoiseSchedule::cosine(100, 0.008).unwrap();
    let t = [10, 90].map(|t| schedule.level(schedule.timestep(t).unwrap()));
    let objective = Objective::new(schedule, Parametrization::V, Weighting::Simple).unwrap();
    let stream = NoiseStream::new(0, "test");
    let mut model = unet(&training);
    let mut adamw = AdamW::default();
    let mut averages = [Ema::new(&model, 0.9)];
    let shapes = params::trained(&model);
    let mut last = (0.0, Vec::new());
    for step in 0..3 {
        let noise = |row| stream.normal(&[row, row + 1], step, SHAPE, &training);
        let network = |x, t| model.predict(x, t, &Condition::none(), None);
        let loss = training_loss(network, &objective, noise(0), noise(2), &t).mean();
        let gradients = params::gradients(&model, &loss.backward());
        let flat = gradients
            .values()
            .flat_map(|g| g.to_data().iter::<f32>().collect::<Vec<_>>());
        last = (loss.into_scalar::<f32>(), flat.collect());
        let step = Step {
            number: u64::from(step) + 1,
            learning_rate: 1e-3,
            clip: 1.0,
        };
        model = optim::step(&mut adamw, model, &mut averages, gradients, &shapes, &step);
    }
    let model = averages[0].module(&model);
    let predictor = Predictor {
        network: |x: Tensor<4>, t| model.predict(x, t, &Condition::none(), None),
        objective: &objective,
    };
    let levels = Grid::Trailing.levels(objective.process(), 5).unwrap();
    let noise = |step| stream.normal(&[8, 9], step, SHAPE, device);
    let variance = Variance::Small;
    let ddpm = Ddpm { variance };
    let reverse = Reverse::new(&predictor, ddpm, levels.as_slice(), noise(0), noise).unwrap();
    let sample = reverse.last().unwrap().x;
    (last.0, last.1, sample.into_data().iter().collect())
}

/// Flex with the kernels against every backend with them (the same code, on other tensors) and with
/// Burn's own operations (an independent route). The same numbers are added in different orders;
/// sums here have at most some thousand terms, so single precision leaves about 1e-5 relative to
/// the largest value.
#[test]
fn backends_agree_with_flex() {
    let (loss, gradients, sample) = run(&Backend::Flex.device().unwrap());
    assert!(gradients.iter().any(|g| g.abs() > 1e-3));
    let others = Backend::working()
        .into_iter()
        .flat_map(|backend| [(backend, true), (backend, false)]);
    for (backend, kernels) in others {
        ddpm_kernels::enable(kernels);
        let (other_loss, other_gradients, other_sample) = run(&backend.device().unwrap());
        assert!(
            (loss - other_loss).abs() < 1e-5 * loss,
            "{backend}, kernels {kernels}: loss {loss}, {other_loss}"
        );
        for (name, flex, other) in [
            ("gradients", &gradients, &other_gradients),
            ("sample", &sample, &other_sample),
        ] {
            let scale = flex.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let worst = flex
                .iter()
                .zip(other)
                .fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
            assert_eq!(flex.len(), other.len());
            assert!(
                worst <= 1e-5 * scale,
                "{backend}, kernels {kernels}: {name} differ by {worst} of {scale}"
            );
        }
    }
}
