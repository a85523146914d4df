//! A network and a data set of one's own: an MLP on points of the plane, trained by `Trainer`.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ddpm_data::InMemory;
use ddpm_model::{Condition, Masks, Network, sinusoidal_embedding};
use ddpm_process::{NoiseStream, Predictor, Reverse};
use ddpm_schedule::solver::{Ddim, Eta};
use ddpm_schedule::{Grid, NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::{Settings, Trainer};

/// Numbers that describe a time.
const FEATURES: usize = 32;

/// Two hidden layers, to the second of which the time is added.
#[derive(Module, Debug)]
struct Points {
    input: Linear,
    time: Linear,
    hidden: Linear,
    output: Linear,
}

impl Points {
    fn new(width: usize, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            input: linear(2, width),
            time: linear(FEATURES, width),
            hidden: linear(width, width),
            output: linear(width, 2),
        }
    }
}

impl Network<2> for Points {
    fn predict(
        &self,
        x_t: Tensor<2>,
        t: Tensor<1>,
        _: &Condition,
        _: Option<&mut Masks>,
    ) -> Tensor<2> {
        let time = self
            .time
            .forward(sinusoidal_embedding(t, FEATURES, false, 1.0));
        let h = silu(self.input.forward(x_t) + time);
        self.output.forward(silu(self.hidden.forward(h)))
    }
}

/// Points on a circle of radius 1.
fn circle(count: usize) -> Vec<f32> {
    let angle = |i| std::f32::consts::TAU * i as f32 / count as f32;
    let point = |i| [f32::cos(angle(i)), f32::sin(angle(i))];
    (0..count).flat_map(point).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    device.seed(0); // of the weights, which Burn draws
    let data = Arc::new(InMemory::floats(&[2], circle(512))?);
    let schedule = NoiseSchedule::cosine(100, 0.008)?;
    let objective = Objective::new(schedule, Parametrization::V, Weighting::Simple)?;
    let settings = Settings {
        batch_size: 128,
        steps: 300,
        ..Settings::new(objective)?
    };
    let mut trainer = Trainer::new(Points::new(64, &device), data, settings, &device)?;
    for metrics in &mut trainer {
        let metrics = metrics?;
        if metrics.step % 100 == 0 {
            println!("step {} loss {:.3}", metrics.step, metrics.loss);
        }
    }

    let network = trainer.average();
    let objective = &trainer.settings().objective;
    let none = Condition::none();
    let denoiser = Predictor {
        network: |x, t| network.predict(x, t, &none, None),
        objective,
    };
    let levels = Grid::Trailing.levels(objective.process(), 50)?;
    let noise = NoiseStream::new(0, "sample");
    let samples: Vec<u64> = (0..256).collect();
    let z = |draw| noise.normal(&samples, draw, [256, 2], &device);
    let ddim = Ddim { eta: Eta::ZERO };
    let reverse = Reverse::new(denoiser, ddim, levels.as_slice(), z(0), z)?;
    let points = reverse.last().ok_or("there are steps")?.x;
    let radius: f32 = points.square().sum_dim(1).sqrt().mean().into_scalar();
    println!("mean radius {radius:.2}");
    // An untrained network leaves points of N(0, 1), of mean radius 1.25 and any angle.
    assert!((0.75..1.15).contains(&radius), "{radius}");
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
