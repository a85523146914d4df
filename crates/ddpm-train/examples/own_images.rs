//! A convolutional network of one's own on a data set of one's own: images that are made when they
//! are asked for, with two classes.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use ddpm_data::{DataError, Dataset};
use ddpm_model::{Condition, ConditionSpec, Masks, Network, sinusoidal_embedding};
use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::{Classes, Settings, Trainer};

/// The side of an image.
const SIDE: usize = 8;
/// Channels of the hidden layers.
const WIDTH: usize = 16;

/// A horizontal (class 0) or a vertical bar (class 1) at each place of an image.
struct Bars;

impl Dataset for Bars {
    fn len(&self) -> usize {
        2 * SIDE
    }

    fn shape(&self) -> &[usize] {
        &[1, SIDE, SIDE]
    }

    fn write_row(&self, i: usize, row: &mut [f32]) -> Result<(), DataError> {
        let (class, place) = (i % 2, i / 2);
        for (at, value) in row.iter_mut().enumerate() {
            let coordinate = if class == 0 { at / SIDE } else { at % SIDE };
            *value = if coordinate == place { 1.0 } else { -1.0 };
        }
        Ok(())
    }

    fn fingerprint(&self) -> String {
        format!("bars of {SIDE}×{SIDE}")
    }

    fn classes(&self) -> Option<usize> {
        Some(2)
    }

    fn label(&self, i: usize) -> Option<usize> {
        Some(i % 2)
    }
}

/// Three convolutions; time and class are added after the first.
#[derive(Module, Debug)]
struct Convolutions {
    input: Conv2d,
    time: Linear,
    class: Embedding,
    middle: Conv2d,
    output: Conv2d,
}

impl Convolutions {
    fn new(device: &Device) -> Self {
        let conv = |from, to| {
            let config = Conv2dConfig::new([from, to], [5, 5]);
            config.with_padding(PaddingConfig2d::Same).init(device)
        };
        Self {
            input: conv(1, WIDTH),
            time: LinearConfig::new(32, WIDTH).init(device),
            class: EmbeddingConfig::new(2, WIDTH).init(device),
            middle: conv(WIDTH, WIDTH),
            output: conv(WIDTH, 1),
        }
    }
}

impl Network<4> for Convolutions {
    fn takes(&self) -> ConditionSpec {
        ConditionSpec::none().with_classes(2)
    }

    fn predict(
        &self,
        x_t: Tensor<4>,
        t: Tensor<1>,
        condition: &Condition,
        _: Option<&mut Masks>,
    ) -> Tensor<4> {
        let rows = x_t.dims()[0];
        let mut told = self.time.forward(sinusoidal_embedding(t, 32, false, 1.0));
        if let Some(class) = &condition.class {
            let class = self.class.forward(class.clone().reshape([rows, 1]));
            told = told + class.reshape([rows, WIDTH]);
        }
        let h = self.input.forward(x_t) + told.reshape([rows, WIDTH, 1, 1]);
        let h = self.middle.forward(silu(h));
        self.output.forward(silu(h))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let schedule = NoiseSchedule::cosine(200, 0.008)?;
    let objective = Objective::new(schedule, Parametrization::Epsilon, Weighting::Simple)?;
    let settings = Settings {
        classes: Some(Classes {
            count: 2,
            dropout: None,
        }),
        batch_size: 32,
        steps: 120,
        ..Settings::new(objective)?
    };
    let network = Convolutions::new(&device);
    let trainer = Trainer::new(network, Arc::new(Bars), settings, &device)?;
    let losses: Result<Vec<f64>, _> = trainer.map(|metrics| Ok(metrics?.loss)).collect();
    let losses: Vec<f64> = losses.map_err(|error: ddpm_train::TrainError| error)?;
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..20]), mean(&losses[100..]));
    println!("loss {first:.3} at first, {last:.3} at last");
    assert!(last < 0.8 * first);
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
