//! Our side of `cargo xtask race --speed`: training and sampling steps, with one JSON line per
//! step.
//!
//! ```text
//! step FOLDER NETWORK write BATCH                   weights, a batch and our results for it
//! step FOLDER NETWORK PRECISION train BATCH STEPS   with the weights from FOLDER
//! step FOLDER NETWORK PRECISION sample BATCH STEPS  the first steps of DDIM-50
//! step FOLDER NETWORK f32 product N STEPS           Burn's product of N×N matrices, for comparison
//! ```
//!
//! A line holds the `step`, counted from 1, its milliseconds `ms` and the process's peak resident
//! memory so far, `peak_mib`. `benches/peers/speed.py` is the other side: it takes the same
//! arguments, loads the same weights into diffusers' U-Net and prints the same lines.

mod randomised;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;
use std::{env, fs};

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use ddpm_cli::drawing;
use ddpm_files::write_file;
use ddpm_kernels::allocator::{Allocator, keep_memory, return_memory};
use ddpm_kernels::{Precision, autocast, is_fast, keep_packed_weights};
use ddpm_model::weights::{load_module, tensor_bytes};
use ddpm_model::{Condition, Network, UNet, UNetConfig};
use ddpm_process::{
    AfterClip, Clip, Clipped, NoiseStream, Predictor, Reverse, diffuse, training_loss,
};
use ddpm_schedule::solver::{Ddim, Eta};
use ddpm_schedule::{Grid, NoiseLevel, NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::checkpoint::{self, Snapshot};
use ddpm_train::device::Backend;
use ddpm_train::ema::Ema;
use ddpm_train::optim::{self, AdamW, Step, clip};
use ddpm_train::params::{self, Named};

use randomised::randomised;

/// As in the program `ddpm`.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [folder, network, ref rest @ ..] = arguments[..] else {
        return Err(USAGE.into());
    };
    let race = Race::new(folder, network)?;
    match rest[..] {
        ["write", batch] => race.write(batch.parse()?),
        [precision, case, batch, steps] => {
            let precision = match precision {
                "f32" => Precision::F32,
                "bf16" => Precision::Bf16,
                _ => return Err(USAGE.into()),
            };
            if !is_fast(precision, &race.device) {
                return Err("bf16 is not fast here: no AVX512-BF16".into());
            }
            let _precision = autocast(precision);
            let (batch, steps) = (batch.parse()?, steps.parse()?);
            match case {
                "train" => race.train(batch, steps),
                "sample" => race.sample(batch, steps),
                "product" => race.product(batch, steps),
                _ => Err(USAGE.into()),
            }
        }
        _ => Err(USAGE.into()),
    }
}

const USAGE: &str = "usage: step FOLDER mnist|cifar10 write N, or \
                     step FOLDER mnist|cifar10 f32|bf16 train|sample|product N STEPS";

/// The setting of both sides.
struct Race {
    folder: PathBuf,
    config: UNetConfig,
    /// Channels, height, width.
    row: [usize; 3],
    /// The number of parameters that PyTorch reports for the same network.
    parameters: usize,
    objective: Objective,
    device: Device,
}

impl Race {
    fn new(folder: &str, network: &str) -> Outcome<Self> {
        let cifar10 = UNetConfig {
            dropout: 0.0,
            ..UNetConfig::cifar10()
        };
        let (config, row, parameters) = match network {
            "cifar10" => (cifar10, [3, 32, 32], 35_746_307),
            "mnist" => {
                let mnist = UNetConfig {
                    block_out_channels: vec![64, 128, 128],
                    attention: vec![false, true, false],
                    ..cifar10
                };
                (mnist, [1, 28, 28], 6_469_889)
            }
            unknown => return Err(format!("unknown network `{unknown}`").into()),
        };
        let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
        Ok(Self {
            folder: folder.into(),
            config,
            row,
            parameters,
            objective: Objective::new(schedule, Parametrization::Epsilon, Weighting::Simple)?,
            device: Backend::Flex.device()?,
        })
    }

    /// The network as initialised, on this device.
    fn initial(&self, device: &Device) -> Outcome<UNet> {
        let model = self.config.init([self.row[0]; 2], 0, device)?;
        let (ours, theirs) = (model.num_params(), self.parameters);
        if ours != theirs {
            return Err(format!("{ours} parameters, not {theirs}").into());
        }
        Ok(model)
    }

    /// The network with the weights that `write` saved.
    fn load(&self, device: &Device) -> Outcome<UNet> {
        let path = self.folder.join("step-00000000/model.safetensors");
        Ok(load_module(&path, self.initial(device)?)?)
    }

    /// Standard normal rows that differ between purposes.
    fn normal(&self, domain: &'static str, batch: usize, device: &Device) -> Tensor<4> {
        let samples: Vec<u64> = (0..batch as u64).collect();
        let [channels, height, width] = self.row;
        let shape = [batch, channels, height, width];
        NoiseStream::new(0, domain).normal(&samples, 0, shape, device)
    }

    /// Standard normal images and noise, and times spread over the schedule.
    fn batch(&self, size: usize, device: &Device) -> Batch {
        let schedule = self.objective.schedule().expect("a recipe with timesteps");
        let all: Vec<_> = schedule.iter().map(|t| schedule.level(t)).collect();
        Batch {
            x0: self.normal("x0", size, device),
            eps: self.normal("eps", size, device),
            levels: (0..size).map(|i| all[i * all.len() / size]).collect(),
        }
    }

    /// Loss and gradients of a batch.
    fn gradients(&self, model: &UNet, batch: &Batch) -> (f64, Named) {
        let Batch { x0, eps, levels } = batch.clone();
        let network = |x, t| model.predict(x, t, &Condition::none(), None);
        let loss = training_loss(network, &self.objective, x0, eps, &levels).mean();
        let gradients = params::gradients(model, &loss.backward());
        (loss.into_scalar::<f64>(), gradients)
    }

    /// DDIM-50 from `x`: the states after each step.
    fn states<'a>(
        &'a self,
        model: &'a UNet,
        x: Tensor<4>,
    ) -> Outcome<impl Iterator<Item = Tensor<4>> + 'a> {
        let levels = Grid::Trailing.levels(self.objective.process(), 50)?;
        let predictor = Predictor {
            network: |x, t| model.predict(x, t, &Condition::none(), None),
            objective: &self.objective,
        };
        let ddim = Ddim { eta: Eta::ZERO };
        // DDIM with η = 0 draws no noise.
        let still = x.zeros_like();
        let z = move |_| still.clone();
        let denoiser = Clipped {
            denoiser: predictor,
            clip: Clip::UNIT,
            epsilon: AfterClip::Derived,
        };
        let reverse = Reverse::new(denoiser, ddim, levels.as_slice(), x, z)?;
        Ok(reverse.map(|state| state.x))
    }

    /// Writes the weights, the batch, and the results that the other side compares with its own.
    fn write(&self, size: usize) -> Outcome<()> {
        fs::create_dir_all(&self.folder)?;
        let training = self.device.clone().autodiff();
        let model = randomised(self.initial(&training)?, 0.02);
        let (loss, gradients) = self.gradients(&model, &self.batch(size, &training));
        let norm = params::norm(&gradients);
        let plain = model.valid();
        let Batch { x0, eps, levels } = self.batch(size, &self.device);
        let x_t = diffuse(x0.clone(), eps.clone(), &levels);
        let process = self.objective.process();
        let t: Vec<f64> = levels.iter().map(|&at| process.time(at)).collect();
        let t = Tensor::from_data(t.as_slice(), &self.device);
        let output = plain.predict(x_t.clone(), t.clone(), &Condition::none(), None);
        let noise = self.normal("noise", 1, &self.device);
        let sample = self.states(&plain, noise.clone())?.last();
        let scalar = |value| Tensor::<1>::from_floats([value], &self.device);
        let entries = [
            entry("x0", &x0)?,
            entry("eps", &eps)?,
            entry("t", &t)?,
            entry("x_t", &x_t)?,
            entry("output", &output)?,
            entry("noise", &noise)?,
            entry("sample", &sample.ok_or("no steps")?)?,
            entry("loss", &scalar(loss))?,
            entry("grad_norm", &scalar(norm))?,
        ];
        let entries = entries.iter();
        let bytes = tensor_bytes(
            entries.map(|(name, shape, values)| (*name, shape.clone(), values.as_slice())),
        )?;
        let snapshot = Snapshot {
            settings: std::collections::BTreeMap::new(),
            step: 0,
            shape: self.row.to_vec(),
            data: String::new(),
            class_names: Vec::new(),
            model,
            averages: vec![(0.999, plain)],
            optimizer: Box::new(AdamW::default()),
            losses: Vec::new(),
        };
        checkpoint::save(&self.folder, &snapshot, "")?;
        Ok(write_file(&self.folder.join("batch.safetensors"), &bytes)?)
    }

    /// Loss, gradients, clipping, AdamW and the average, as in the training loop.
    fn train(&self, size: usize, steps: u64) -> Outcome<()> {
        keep_memory();
        let training = self.device.clone().autodiff();
        let mut model = self.load(&training)?;
        let batch = self.batch(size, &training);
        let (mut averages, mut adamw) = ([Ema::new(&model, 0.999)], AdamW::default());
        let shapes = params::trained(&model);
        for number in 1..=steps {
            let start = Instant::now();
            let (_, gradients) = self.gradients(&model, &batch);
            let step = Step {
                number,
                learning_rate: 2e-4,
                clip: clip(params::norm(&gradients), Some(1.0)),
            };
            model = optim::step(&mut adamw, model, &mut averages, gradients, &shapes, &step);
            self.device.sync()?;
            report(number, start);
        }
        Ok(())
    }

    /// The first steps of DDIM-50, in batches of the size that the program `ddpm` uses.
    fn sample(&self, size: usize, steps: u64) -> Outcome<()> {
        let model = self.load(&self.device)?;
        return_memory();
        let _packed = keep_packed_weights();
        let noise = self.normal("noise", size, &self.device);
        let batches = noise.split(drawing::BATCH, 0).into_iter();
        let states: Outcome<Vec<_>> = batches.map(|noise| self.states(&model, noise)).collect();
        let mut states = states?;
        for step in 1..=steps {
            let start = Instant::now();
            if states.iter_mut().any(|states| states.next().is_none()) {
                return Err(format!("the trajectory has no step {step}").into());
            }
            self.device.sync()?;
            report(step, start);
        }
        Ok(())
    }

    /// Products of square matrices.
    fn product(&self, n: usize, steps: u64) -> Outcome<()> {
        let matrix = || Tensor::<2>::random([n, n], Distribution::Default, &self.device);
        let (a, b) = (matrix(), matrix());
        for step in 1..=steps {
            let start = Instant::now();
            let product = a.clone().matmul(b.clone());
            self.device.sync()?;
            drop(product);
            report(step, start);
        }
        Ok(())
    }
}

/// The inputs of a training step.
#[derive(Clone)]
struct Batch {
    x0: Tensor<4>,
    eps: Tensor<4>,
    levels: Vec<NoiseLevel>,
}

/// A tensor's name, shape and values for a safetensors file.
fn entry<const D: usize>(
    name: &'static str,
    tensor: &Tensor<D>,
) -> Outcome<(&'static str, Vec<usize>, Vec<f32>)> {
    let shape = tensor.dims().to_vec();
    let values = tensor.try_to_vec_as::<f32>().map_err(|e| e.to_string())?;
    Ok((name, shape, values))
}

/// Prints the line of a step that started at `start`.
fn report(step: u64, start: Instant) {
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let peak = peak_mib().map_or("null".to_owned(), |peak| format!("{peak:.1}"));
    println!("{{\"step\": {step}, \"ms\": {ms:.3}, \"peak_mib\": {peak}}}");
}

/// The peak resident memory of this process, where the system reports it (Linux).
fn peak_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
