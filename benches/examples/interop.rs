//! Our side of `cargo xtask interop`: what we make of diffusers' folders, and a folder of our own.
//!
//! ```text
//! interop FOLDER
//! ```
//!
//! FOLDER holds `inputs.safetensors` and `theirs/`, made by `benches/peers/interop.py`. This adds
//! `ours/`, the same network with weights drawn here, and for each of the two `WEIGHTS.output` and
//! `WEIGHTS.gradient`, safetensors files of what we compute with these weights. The other side then
//! computes the same and compares.

mod randomised;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_model::UNet;
use ddpm_process::{Clip, Clipped, Predictor, Reverse};
use ddpm_schedule::{
    Eta, NoiseSchedule, Objective, Parametrization, Sampler, Trajectory, Weighting,
};
use ddpm_train::checkpoint::{module_bytes, read_tensor, tensor_bytes, write_file};
use ddpm_train::device::Backend;
use ddpm_train::network::class_tensor;
use ddpm_train::{diffusers, params};

use randomised::randomised;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder] = &arguments[..] else {
        return Err("usage: interop FOLDER".into());
    };
    let device = Backend::Flex.device()?;
    let training = device.clone().autodiff();
    let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
    let objective = Objective::new(schedule, Parametrization::Epsilon, Weighting::Simple)?;

    let theirs = diffusers::unet(&folder.join("theirs"))?;
    let size = theirs.sample_size.ok_or("the images have no size")?;
    let ours = randomised(theirs.config.init(0, &device)?, 0.05);
    diffusers::write(
        &folder.join("ours"),
        &theirs.config,
        size,
        &ours,
        &serde_json::json!({ "_class_name": "DDPMScheduler" }),
    )?;

    for weights in ["theirs", "ours"] {
        let pretrained = diffusers::unet(&folder.join(weights))?;
        let inputs = Inputs::read(folder, &training)?;
        let (output, gradient) = inputs.train(&pretrained.build(&training)?)?;
        write_file(&folder.join(format!("{weights}.gradient")), &gradient)?;
        let inputs = Inputs::read(folder, &device)?;
        let images = inputs.sample(&pretrained.build(&device)?, &objective)?;
        let entries = [entry("output", &output)?, entry("images", &images)?];
        let entries = entries
            .iter()
            .map(|(name, shape, values)| (*name, shape.clone(), &values[..]));
        write_file(
            &folder.join(format!("{weights}.output")),
            &tensor_bytes(entries)?,
        )?;
    }
    Ok(())
}

/// What both sides compute with.
struct Inputs {
    x: Tensor<4>,
    t: Tensor<1>,
    target: Tensor<4>,
    noise: Tensor<4>,
    classes: Option<Vec<usize>>,
}

impl Inputs {
    fn read(folder: &Path, device: &Device) -> Outcome<Self> {
        let path = folder.join("inputs.safetensors");
        let read = |name| read_tensor(&path, name);
        let images = |name| -> Outcome<Tensor<4>> {
            let (shape, values) = read(name)?;
            let shape: [usize; 4] = shape.try_into().map_err(|_| "images of four axes")?;
            Ok(Tensor::from_data(TensorData::new(values, shape), device))
        };
        // Classes are small whole numbers, there as f32.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let classes = read("classes").ok().map(|(_, values)| {
            let classes = values.iter().map(|&class| class as usize);
            classes.collect()
        });
        Ok(Self {
            x: images("x")?,
            t: Tensor::from_floats(&read("t")?.1[..], device),
            target: images("target")?,
            noise: images("noise")?,
            classes,
        })
    }

    fn forward(&self, model: &UNet, x: Tensor<4>, t: Tensor<1>) -> Tensor<4> {
        let classes = self.classes.as_ref();
        let classes = classes.map(|classes| class_tensor(classes, &x.device()));
        model.forward(x, t, classes, None)
    }

    /// The output, and the gradient of its mean squared distance from the target as weights.
    fn train(&self, model: &UNet) -> Outcome<(Tensor<4>, Vec<u8>)> {
        let output = self.forward(model, self.x.clone(), self.t.clone());
        let loss = (output.clone() - self.target.clone()).square().mean();
        let mut gradients: BTreeMap<_, _> = params::gradients(model, &loss.backward());
        let mut absent = Vec::new();
        let gradient = params::update(model.valid(), |name, value| {
            gradients.remove(name).unwrap_or_else(|| {
                absent.push(name.to_owned());
                value
            })
        });
        if !absent.is_empty() {
            return Err(format!("no gradient of {}", absent.join(", ")).into());
        }
        Ok((output.inner(), module_bytes(&gradient)?))
    }

    /// DDIM in 50 steps of equal length, from the noise.
    fn sample(&self, model: &UNet, objective: &Objective) -> Outcome<Tensor<4>> {
        let schedule = objective.schedule();
        let trajectory = Trajectory::trailing(schedule, 50)?;
        let predictor = Predictor {
            network: |x, t| self.forward(model, x, t),
            objective,
        };
        // With η = 0 no noise is asked for.
        let still = self.noise.zeros_like();
        let z = move |_| still.clone();
        let (sampler, x) = (Sampler::Ddim { eta: Eta::ZERO }, self.noise.clone());
        let denoiser = Clipped {
            denoiser: predictor,
            clip: Clip::UNIT,
        };
        let reverse = Reverse::new(denoiser, sampler, &trajectory, x, z);
        Ok(reverse.last().ok_or("no steps")?.x)
    }
}

/// A tensor as a safetensors file wants it.
fn entry<const D: usize>(
    name: &'static str,
    tensor: &Tensor<D>,
) -> Outcome<(&'static str, Vec<usize>, Vec<f32>)> {
    let values = tensor.try_to_vec_as::<f32>().map_err(|e| e.to_string())?;
    Ok((name, tensor.dims().to_vec(), values))
}
