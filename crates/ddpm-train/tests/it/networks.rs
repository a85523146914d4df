//! Two small networks and data sets of rank 2 and 3, which nothing in the library knows.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig1d};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ddpm_data::{DataError, Dataset};
use ddpm_model::{Condition, Masks, Network, sinusoidal_embedding};
use ddpm_process::NoiseStream;
use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::optim::{AdamW, BurnOptimizer, Muon, MuonSettings, Optimizer};
use ddpm_train::{Settings, params};

const WIDTH: usize = 16;

/// A network for points, `[B, 2]`.
#[derive(Module, Debug)]
pub(crate) struct Points {
    pub(crate) input: Linear,
    pub(crate) hidden: Linear,
    pub(crate) output: Linear,
}

impl Points {
    pub(crate) fn new(seed: u64) -> Self {
        let device = Device::flex();
        let linear = |from, to| LinearConfig::new(from, to).init(&device);
        let network = Self {
            input: linear(2 + WIDTH, WIDTH),
            hidden: linear(WIDTH, WIDTH),
            output: linear(WIDTH, 2),
        };
        draw(network, seed)
    }
}

/// The network with weights that follow from a seed: normal, with the standard deviation ¼.
fn draw<M: Module>(network: M, seed: u64) -> M {
    let stream = NoiseStream::new(seed, "weights");
    let mut number = 0;
    params::update(network, |_, value| {
        number += 1;
        let length = value.dims();
        let drawn: Tensor<2> = stream.normal(&[number], 0, [1, length[0]], &value.device());
        drawn.reshape(length) * 0.25
    })
}

impl Network<2> for Points {
    fn predict(
        &self,
        x_t: Tensor<2>,
        t: Tensor<1>,
        _: &Condition,
        _: Option<&mut Masks>,
    ) -> Tensor<2> {
        let time = sinusoidal_embedding(t, WIDTH, false, 1.0);
        let h = self.input.forward(Tensor::cat(vec![x_t, time], 1));
        let h = self.hidden.forward(silu(h));
        self.output.forward(silu(h))
    }
}

/// A network for signals, `[B, 1, L]`.
#[derive(Module, Debug)]
pub(crate) struct Signals {
    input: Conv1d,
    pub(crate) time: Linear,
    hidden: Conv1d,
    output: Conv1d,
}

impl Signals {
    pub(crate) fn new(seed: u64) -> Self {
        let device = Device::flex();
        let conv = |from, to| {
            let config = Conv1dConfig::new(from, to, 3);
            config.with_padding(PaddingConfig1d::Same).init(&device)
        };
        let network = Self {
            input: conv(1, WIDTH),
            time: LinearConfig::new(WIDTH, WIDTH).init(&device),
            hidden: conv(WIDTH, WIDTH),
            output: conv(WIDTH, 1),
        };
        draw(network, seed)
    }
}

impl Network<3> for Signals {
    fn predict(
        &self,
        x_t: Tensor<3>,
        t: Tensor<1>,
        _: &Condition,
        _: Option<&mut Masks>,
    ) -> Tensor<3> {
        let time = sinusoidal_embedding(t, WIDTH, false, 1.0);
        let time = self.time.forward(time).unsqueeze_dim(2);
        let h = self.hidden.forward(silu(self.input.forward(x_t) + time));
        self.output.forward(silu(h))
    }
}

/// Functions of an angle at `shape`: cos(φ + k) for the numbers k of a row.
pub(crate) struct Angles {
    shape: Vec<usize>,
    count: usize,
}

impl Angles {
    pub(crate) fn new(shape: &[usize], count: usize) -> Arc<Self> {
        let shape = shape.to_vec();
        Arc::new(Self { shape, count })
    }
}

impl Dataset for Angles {
    fn len(&self) -> usize {
        self.count
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn write_row(&self, i: usize, row: &mut [f32]) -> Result<(), DataError> {
        let angle = std::f32::consts::TAU * i as f32 / self.count as f32;
        for (k, value) in row.iter_mut().enumerate() {
            *value = (angle + k as f32).cos();
        }
        Ok(())
    }

    fn fingerprint(&self) -> String {
        format!("{} angles as {:?}", self.count, self.shape)
    }
}

/// Settings of a run of `steps` small steps.
pub(crate) fn settings(steps: u64) -> Settings {
    let schedule = NoiseSchedule::cosine(100, 0.008).unwrap();
    let objective = Objective::new(schedule, Parametrization::V, Weighting::Simple).unwrap();
    Settings {
        batch_size: 8,
        steps,
        ..Settings::new(objective).unwrap()
    }
}

/// AdamW, Muon, and an optimizer of Burn whose state has numbers too.
pub(crate) fn optimizers() -> [Box<dyn Optimizer>; 3] {
    let config = burn::optim::AdamConfig::new();
    [
        Box::new(AdamW::default()),
        Box::new(Muon::new(MuonSettings::default())),
        Box::new(BurnOptimizer::new(format!("Adam {config}"), config.build())),
    ]
}
