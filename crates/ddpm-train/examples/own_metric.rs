//! A metric of one's own, measured while a network is trained: how far samples of the averaged
//! weights are from the data.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ddpm_data::InMemory;
use ddpm_model::{Condition, Mlp, MlpConfig, Network};
use ddpm_process::{NoiseStream, Predictor, Reverse};
use ddpm_schedule::solver::{Ddim, Eta};
use ddpm_schedule::{Grid, NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::{Settings, Trainer};

/// The places of the data.
const PLACES: [[f32; 2]; 2] = [[1.5, 0.5], [0.5, 1.5]];

/// The mean distance of samples from the nearest place of the data.
fn distance(
    network: &Mlp,
    objective: &Objective,
    device: &Device,
) -> Result<f32, Box<dyn std::error::Error>> {
    let none = Condition::none();
    let denoiser = Predictor {
        network: |x, t| network.predict(x, t, &none, None),
        objective,
    };
    let levels = Grid::Trailing.levels(objective.process(), 20)?;
    let noise = NoiseStream::new(0, "metric");
    let samples: Vec<u64> = (0..128).collect();
    let z = |draw| noise.normal(&samples, draw, [128, 2], device);
    let ddim = Ddim { eta: Eta::ZERO };
    let reverse = Reverse::new(denoiser, ddim, levels.as_slice(), z(0), z)?;
    let x = reverse.last().ok_or("there are steps")?.x;
    let places = Tensor::<2>::from_floats(PLACES, device);
    let to_each = x.unsqueeze_dim::<3>(1) - places.unsqueeze_dim::<3>(0);
    let nearest = to_each.square().sum_dim(2).sqrt().min_dim(1);
    Ok(nearest.mean().into_scalar())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let data = InMemory::floats(&[2], PLACES.concat())?;
    let schedule = NoiseSchedule::cosine(100, 0.008)?;
    let objective = Objective::new(schedule, Parametrization::V, Weighting::Simple)?;
    let mut settings = Settings {
        batch_size: 64,
        steps: 300,
        ..Settings::new(objective)?
    };
    settings.learning_rate.peak = 2e-3;
    let network = MlpConfig {
        hidden: 64,
        layers: 2,
    };
    let network = network.init([2, 2], 0, &device)?;
    let mut trainer = Trainer::new(network, Arc::new(data), settings, &device)?;
    let mut distances = Vec::new();
    while let Some(metrics) = trainer.next() {
        let step = metrics?.step;
        if step % 100 == 0 {
            let objective = &trainer.settings().objective;
            let found = distance(&trainer.average(), objective, &device)?;
            println!("step {step}: samples are {found:.2} from the data");
            distances.push(found);
        }
    }
    assert!(distances[2] < distances[0], "{distances:?}");
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
