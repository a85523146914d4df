//! The same weights and inputs give what PyTorch gave: outputs, gradients, images.

use std::collections::BTreeMap;
use std::fs;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_interop::diffusers;
use ddpm_model::weights::{module_bytes, read_tensor};
use ddpm_model::{Condition, Network};
use ddpm_process::{AfterClip, Clip, Clipped, Predictor, Reverse};
use ddpm_schedule::solver::{Ddim, Eta};
use ddpm_schedule::{Grid, NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::params;

use super::{FIXTURES, fixture};

type Tensors = BTreeMap<String, Vec<f32>>;

fn tensors(bytes: &[u8]) -> Tensors {
    let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let values = |data: &[u8]| -> Vec<f32> {
        let (words, _) = data.as_chunks::<4>();
        words.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    let tensors = tensors.tensors().into_iter();
    tensors
        .map(|(name, view)| (name, values(view.data())))
        .collect()
}

/// The largest difference, relative to the largest value of all.
fn distance(found: &Tensors, expected: &Tensors) -> f32 {
    assert!(found.keys().eq(expected.keys()));
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0.0_f32, |m, v| m.max(v.abs()));
    let scale = largest(&mut expected.values().flatten().copied());
    let mut differences = expected.iter().flat_map(|(name, expected)| {
        assert_eq!(found[name].len(), expected.len(), "{name}");
        found[name].iter().zip(expected).map(|(a, b)| a - b)
    });
    largest(&mut differences) / scale
}

fn input(name: &str, tensor: &str, device: &Device) -> Tensor<4> {
    let path = fixture(name).join("inputs.safetensors");
    let (shape, values) = read_tensor(&path, tensor).unwrap();
    let shape: [usize; 4] = shape.try_into().unwrap();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The classes of the two inputs, where the network has three.
fn classes(name: &str) -> Option<[usize; 2]> {
    (name == "pickled").then_some([0, 2])
}

#[test]
fn outputs_gradients_and_images_are_pytorchs() {
    for name in FIXTURES {
        let device = Device::flex().autodiff();
        let pretrained = diffusers::unet(&fixture(name).join("theirs")).unwrap();
        let unet = pretrained.build(&device).unwrap();
        let forward = |unet: &ddpm_model::UNet, x: Tensor<4>, t: Tensor<1>| {
            let class = |classes: [usize; 2]| Condition::classes(&classes, &x.device());
            let condition = classes(name).map_or_else(Condition::none, class);
            unet.predict(x, t, &condition, None)
        };
        let t = Tensor::from_floats([3.0, 700.0], &device);
        let output = forward(&unet, input(name, "x", &device), t);
        let loss = (output.clone() - input(name, "target", &device))
            .square()
            .mean();
        let gradients = params::gradients(&unet, &loss.backward());
        let gradient = params::update(unet.valid(), |path, _| gradients[path].clone());
        let gradient = tensors(&module_bytes(&gradient).unwrap());

        // DDIM in 50 steps, with the network outside autodiff.
        let device = Device::flex();
        let unet = pretrained.build(&device).unwrap();
        let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
        let objective =
            Objective::new(schedule, Parametrization::Epsilon, Weighting::Simple).unwrap();
        let levels = Grid::Trailing.levels(objective.process(), 50).unwrap();
        let predictor = Predictor {
            network: |x, t| forward(&unet, x, t),
            objective: &objective,
        };
        let noise = input(name, "noise", &device);
        let still = noise.zeros_like();
        let images = Reverse::new(
            Clipped {
                denoiser: predictor,
                clip: Clip::UNIT,
                epsilon: AfterClip::Derived,
            },
            Ddim { eta: Eta::ZERO },
            levels.as_slice(),
            noise,
            move |_| still.clone(),
        )
        .unwrap();
        let images = images.last().unwrap().x.into_data().iter().collect();

        let expected = tensors(&fs::read(fixture(name).join("outputs.safetensors")).unwrap());
        let output = output.inner().into_data().iter().collect();
        let one = |value: &Vec<f32>| Tensors::from([(String::new(), value.clone())]);
        // Sums of some hundred products of f32, in another order: a few of its 6·10⁻⁸ each, and
        // what the layers after make of them.
        let distance_of = |found, key| distance(&one(found), &one(&expected[key]));
        let forward = distance_of(&output, "output");
        assert!(forward < 1e-5, "{name}: the output is {forward} off");
        let expected_gradient = fs::read(fixture(name).join("gradient.safetensors")).unwrap();
        let gradient = distance(&gradient, &tensors(&expected_gradient));
        assert!(gradient < 1e-4, "{name}: the gradient is {gradient} off");
        let images: Vec<f32> = images;
        let worst = images.iter().zip(&expected["images"]);
        let worst = worst.fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        // Half of 1/255 in an image of [0, 1] is 1/255 in one of [−1, 1].
        assert!(worst < 1.0 / 255.0, "{name}: a pixel is {worst} off");
    }
}
