//! The training loop written by hand: `Example` has the parts of the loss, burn-optim takes the steps.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ddpm_process::{Example, NoiseStream};
use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};

/// Rows of a batch.
const BATCH: usize = 64;
/// Timesteps.
const T: u32 = 100;

/// A network of the plane that is told the time beside x_t.
#[derive(Module, Debug)]
struct Plane {
    input: Linear,
    hidden: Linear,
    output: Linear,
}

impl Plane {
    fn new(device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            input: linear(3, 64),
            hidden: linear(64, 64),
            output: linear(64, 2),
        }
    }

    fn forward(&self, x_t: Tensor<2>, t: Tensor<1>) -> Tensor<2> {
        let time = t.unsqueeze_dim(1) / f64::from(T);
        let h = silu(self.input.forward(Tensor::cat(vec![x_t, time], 1)));
        self.output.forward(silu(self.hidden.forward(h)))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex().autodiff();
    let schedule = NoiseSchedule::cosine(T, 0.008)?;
    let objective = Objective::new(schedule.clone(), Parametrization::V, Weighting::Simple)?;
    let noise = NoiseStream::new(0, "noise");
    let times = NoiseStream::new(0, "times");
    let mut network = Plane::new(&device);
    let mut optimizer = AdamWConfig::new().with_epsilon(1e-8).init();
    let mut losses = Vec::new();
    for step in 0..200 {
        // The rows have positions in the whole run, by which all of their randomness is keyed.
        let rows: Vec<u64> = (step * BATCH as u64..(step + 1) * BATCH as u64).collect();
        // The data: points of N((2, −1), 0.3²).
        let mean = Tensor::from_floats([[2.0, -1.0]], &device);
        let x0 = noise.normal(&rows, 1, [BATCH, 2], &device) * 0.3 + mean;
        let eps = noise.normal(&rows, 0, [BATCH, 2], &device);
        let levels = rows.iter().filter_map(|&row| {
            let t = schedule.timestep(times.row(row, 0).one_to(T))?;
            Some(schedule.level(t))
        });
        let levels: Vec<_> = levels.collect();
        let example = Example::new(&objective, x0, eps, &levels);
        let output = network.forward(example.input.clone(), example.time.clone());
        let loss = example.loss(output).mean();
        losses.push(loss.clone().into_scalar::<f64>());
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = optimizer.step(2e-3, network, gradients);
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..20]), mean(&losses[180..]));
    println!("loss {first:.3} at first, {last:.3} at last");
    assert!(last < 0.5 * first, "{first} {last}");
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
