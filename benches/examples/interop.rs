//! Our side of `cargo xtask interop`: what we make of diffusers' folders, and a folder of our own.
//!
//! ```text
//! interop FOLDER
//! interop sample FOLDER
//! ```
//!
//! FOLDER holds `inputs.safetensors`, `theirs/` and, for each loop that samples, the scheduler in
//! `loops/NAME-STEPS/`; `benches/peers/interop.py` makes them. This adds `ours/`, the same network
//! with weights drawn here, and for each of the two `WEIGHTS.output` and `WEIGHTS.gradient`,
//! safetensors files of what we compute with these weights. The other side then computes the same
//! and compares. `sample` writes the images of `theirs/` alone, as `theirs.output`.

mod randomised;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_model::UNet;
use ddpm_process::{Clipped, Predictor, Reverse};
use ddpm_train::checkpoint::{module_bytes, read_tensor, tensor_bytes, write_file};
use ddpm_train::device::Backend;
use ddpm_train::diffusers::scheduler::Scheduler;
use ddpm_train::network::class_tensor;
use ddpm_train::{diffusers, params};

use randomised::randomised;

type Outcome<T> = Result<T, Box<dyn Error>>;

const INPUTS: &str = "inputs.safetensors";

fn main() -> Outcome<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let device = Backend::Flex.device()?;
    match &arguments[..] {
        [folder] => both(folder, &device),
        [command, folder] if command == Path::new("sample") => {
            let model = diffusers::unet(&folder.join("theirs"))?.build(&device)?;
            let inputs = Inputs::read(folder, &device)?;
            write(folder, "theirs", &inputs.samples(&model, folder)?)
        }
        _ => Err("usage: interop [sample] FOLDER".into()),
    }
}

/// Makes our weights, and computes everything with these and theirs.
fn both(folder: &Path, device: &Device) -> Outcome<()> {
    let training = device.clone().autodiff();
    let theirs = diffusers::unet(&folder.join("theirs"))?;
    let size = theirs.sample_size.ok_or("the images have no size")?;
    let ours = randomised(theirs.config.init(0, device)?, 0.05);
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
        let (output, gradient) = inputs.train(&pretrained.build(&training)?, folder)?;
        write_file(&folder.join(format!("{weights}.gradient")), &gradient)?;
        let inputs = Inputs::read(folder, device)?;
        let mut entries = inputs.samples(&pretrained.build(device)?, folder)?;
        entries.push(entry("output", &output)?);
        write(folder, weights, &entries)?;
    }
    Ok(())
}

/// Writes what was computed with some weights.
fn write(folder: &Path, weights: &str, entries: &[Entry]) -> Outcome<()> {
    let entries = entries.iter();
    let entries = entries.map(|(name, shape, values)| (&**name, shape.clone(), &values[..]));
    let bytes = tensor_bytes(entries)?;
    Ok(write_file(
        &folder.join(format!("{weights}.output")),
        &bytes,
    )?)
}

/// A way to sample.
struct Loop {
    name: String,
    scheduler: Scheduler,
    steps: u32,
}

/// The loops of a folder, whose names end in a number of steps.
fn loops(folder: &Path) -> Outcome<Vec<Loop>> {
    let of = |entry: std::fs::DirEntry| -> Outcome<Loop> {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (_, steps) = name.rsplit_once('-').ok_or("a loop without steps")?;
        Ok(Loop {
            steps: steps.parse()?,
            scheduler: diffusers::scheduler(&entry.path())?,
            name,
        })
    };
    std::fs::read_dir(folder)?.map(|entry| of(entry?)).collect()
}

/// What both sides sample with.
struct Inputs {
    noise: Tensor<4>,
    /// Of each step, `[steps, B, C, H, W]`.
    z: Tensor<5>,
    classes: Option<Vec<usize>>,
}

impl Inputs {
    fn read(folder: &Path, device: &Device) -> Outcome<Self> {
        let path = folder.join(INPUTS);
        let read = |name| read_tensor(&path, name);
        // Classes are small whole numbers, there as f32.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let classes = read("classes").ok().map(|(_, values)| {
            let classes = values.iter().map(|&class| class as usize);
            classes.collect()
        });
        Ok(Self {
            noise: tensor(read("noise")?, device)?,
            z: tensor(read("z")?, device)?,
            classes,
        })
    }

    fn forward(&self, model: &UNet, x: Tensor<4>, t: Tensor<1>) -> Tensor<4> {
        let classes = self.classes.as_ref();
        let classes = classes.map(|classes| class_tensor(classes, &x.device()));
        model.forward(x, t, classes, None)
    }

    /// The output, and the gradient of its mean squared distance from the target as weights.
    fn train(&self, model: &UNet, folder: &Path) -> Outcome<(Tensor<4>, Vec<u8>)> {
        let (path, device) = (folder.join(INPUTS), self.noise.device());
        let read = |name| tensor::<4>(read_tensor(&path, name)?, &device);
        let t = tensor(read_tensor(&path, "t")?, &device)?;
        let output = self.forward(model, read("x")?, t);
        let loss = (output.clone() - read("target")?).square().mean();
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

    /// The images of each loop.
    fn samples(&self, model: &UNet, folder: &Path) -> Outcome<Vec<Entry>> {
        let loops = loops(&folder.join("loops"))?;
        let sample = |way: &Loop| entry(&way.name, &self.sample(model, &way.scheduler, way.steps)?);
        loops.iter().map(sample).collect()
    }

    /// The reverse process by a scheduler, from the noise.
    fn sample(&self, model: &UNet, scheduler: &Scheduler, steps: u32) -> Outcome<Tensor<4>> {
        let trajectory = scheduler.trajectory(steps)?;
        let predictor = Predictor {
            network: |x, t| self.forward(model, x, t),
            objective: &scheduler.objective,
        };
        let denoiser = Clipped {
            denoiser: predictor,
            clip: scheduler.clip.ok_or("x₀ is not clipped")?,
        };
        let z = |step: u32| {
            self.z
                .clone()
                .narrow(0, step as usize - 1, 1)
                .squeeze_dim(0)
        };
        let x = self.noise.clone();
        let reverse = Reverse::new(denoiser, scheduler.sampler, &trajectory, x, z)?;
        Ok(reverse.last().ok_or("no steps")?.x)
    }
}

/// A tensor of a safetensors file.
fn tensor<const D: usize>(
    (shape, values): (Vec<usize>, Vec<f32>),
    device: &Device,
) -> Outcome<Tensor<D>> {
    let shape: [usize; D] = shape.try_into().map_err(|_| "another number of axes")?;
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}

/// A tensor as a safetensors file wants it.
type Entry = (String, Vec<usize>, Vec<f32>);

fn entry<const D: usize>(name: &str, tensor: &Tensor<D>) -> Outcome<Entry> {
    let values = tensor.try_to_vec_as::<f32>().map_err(|e| e.to_string())?;
    Ok((name.to_owned(), tensor.dims().to_vec(), values))
}
