//! Our side of `cargo xtask interop`: computes with diffusers' folders and writes a folder of our
//! own.
//!
//! ```text
//! interop FOLDER
//! interop sample FOLDER
//! interop classes
//! ```
//!
//! FOLDER holds `inputs.safetensors`, `theirs/` and, for each loop that samples, the scheduler in
//! `loops/NAME-STEPS/`; `benches/peers/interop.py` makes them. This program adds `ours/`, the same
//! network with weights drawn here, and for both sets of weights the safetensors files
//! `WEIGHTS.output` and `WEIGHTS.gradient` of our results. The other side then computes the same
//! and compares. `sample` writes only the images of `theirs/`, as `theirs.output`. `classes` prints
//! the supported classes of schedulers, one per line.

mod randomised;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_files::write_file;
use ddpm_interop::diffusers;
use ddpm_interop::diffusers::scheduler::Scheduler;
use ddpm_model::weights::{module_bytes, read_tensor, tensor_bytes};
use ddpm_model::{Condition, Network, UNet};
use ddpm_process::{AfterClip, Reverse};
use ddpm_train::device::Backend;
use ddpm_train::params;

use randomised::randomised;

type Outcome<T> = Result<T, Box<dyn Error>>;

const INPUTS: &str = "inputs.safetensors";

fn main() -> Outcome<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let device = Backend::Flex.device()?;
    match &arguments[..] {
        [command] if command == Path::new("classes") => {
            Scheduler::classes().for_each(|class| println!("{class}"));
            Ok(())
        }
        [folder] => both(folder, &device),
        [command, folder] if command == Path::new("sample") => {
            let model = diffusers::unet(&folder.join("theirs"))?.build(&device)?;
            let inputs = Inputs::read(folder, &device)?;
            write(folder, "theirs", &inputs.samples(&model, folder)?)
        }
        _ => Err("usage: interop [sample] FOLDER, or interop classes".into()),
    }
}

/// Makes our weights, and computes everything with these and theirs.
fn both(folder: &Path, device: &Device) -> Outcome<()> {
    let training = device.clone().autodiff();
    let theirs = diffusers::unet(&folder.join("theirs"))?;
    let size = theirs.sample_size.ok_or("the images have no size")?;
    let ours = randomised(theirs.config.init(theirs.channels, 0, device)?, 0.05);
    diffusers::write(
        &folder.join("ours"),
        &theirs.config,
        size,
        &ours,
        &serde_json::json!({ "_class_name": "DDPMScheduler" }),
        None,
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

/// Writes the results for one set of weights.
fn write(folder: &Path, weights: &str, entries: &[Entry]) -> Outcome<()> {
    let entries = entries.iter();
    let entries = entries.map(|(name, shape, values)| (&**name, shape.clone(), &values[..]));
    let bytes = tensor_bytes(entries)?;
    Ok(write_file(
        &folder.join(format!("{weights}.output")),
        &bytes,
    )?)
}

/// A scheduler and its number of steps.
struct Loop {
    name: String,
    scheduler: Scheduler,
    steps: u32,
}

/// The loops of a folder, whose names end in a number of steps. A file `use_clipped_model_output`
/// represents the argument of DDIM's `step` in diffusers, because the scheduler's configuration has
/// no key for it.
fn loops(folder: &Path) -> Outcome<Vec<Loop>> {
    let of = |entry: std::fs::DirEntry| -> Outcome<Loop> {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (_, steps) = name.rsplit_once('-').ok_or("a loop without steps")?;
        let mut scheduler = diffusers::scheduler(&entry.path())?;
        if entry.path().join("use_clipped_model_output").exists() {
            scheduler.epsilon = AfterClip::Derived;
        }
        Ok(Loop {
            steps: steps.parse()?,
            scheduler,
            name,
        })
    };
    std::fs::read_dir(folder)?.map(|entry| of(entry?)).collect()
}

/// The inputs of both sides.
struct Inputs {
    noise: Tensor<4>,
    /// The noise of each step, `[steps, B, C, H, W]`.
    z: Tensor<5>,
    classes: Option<Vec<usize>>,
}

impl Inputs {
    fn read(folder: &Path, device: &Device) -> Outcome<Self> {
        let path = folder.join(INPUTS);
        let read = |name| read_tensor(&path, name);
        // Classes are small whole numbers, stored as f32.
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
        let class = |classes: &Vec<usize>| Condition::classes(classes, &x.device());
        let condition = self.classes.as_ref().map_or_else(Condition::none, class);
        model.predict(x, t, &condition, None)
    }

    /// The output, and the gradient of its mean squared distance from the target, stored like
    /// weights.
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

    /// The images of each loop, and the number of network evaluations as `NAME evaluations`.
    fn samples(&self, model: &UNet, folder: &Path) -> Outcome<Vec<Entry>> {
        let mut entries = Vec::new();
        for way in loops(&folder.join("loops"))? {
            let sampled = self.sample(model, &way.scheduler, way.steps);
            let (images, evaluations) = sampled.map_err(|e| format!("{}: {e}", way.name))?;
            entries.push(entry(&way.name, &images)?);
            let name = format!("{} evaluations", way.name);
            entries.push((name, vec![1], vec![f32::from(evaluations)]));
        }
        Ok(entries)
    }

    /// Samples with a scheduler, starting from the noise; the images and the number of evaluations.
    fn sample(&self, model: &UNet, scheduler: &Scheduler, steps: u32) -> Outcome<(Tensor<4>, u16)> {
        let levels = scheduler.levels(steps)?;
        let clock = scheduler.clock(&levels);
        let network = |x, t| self.forward(model, x, t);
        let denoiser = scheduler.bounded(scheduler.denoiser(network, &clock), &clock);
        let z = |draw: u32| {
            self.z
                .clone()
                .narrow(0, draw as usize - 1, 1)
                .squeeze_dim(0)
        };
        let x = self.noise.clone() * scheduler.prior_std(levels.start());
        let rule = scheduler.rule(&levels);
        let mut reverse = Reverse::new(denoiser, rule, levels.as_slice(), x, z)?;
        let last = reverse.by_ref().last().ok_or("no steps")?;
        Ok((last.x, reverse.evaluations().try_into()?))
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

/// A tensor's name, shape and values for a safetensors file.
type Entry = (String, Vec<usize>, Vec<f32>);

fn entry<const D: usize>(name: &str, tensor: &Tensor<D>) -> Outcome<Entry> {
    let values = tensor.try_to_vec_as::<f32>().map_err(|e| e.to_string())?;
    Ok((name.to_owned(), tensor.dims().to_vec(), values))
}
