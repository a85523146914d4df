//! Your own denoisers with DDIM and guidance, which amplifies the difference between one class and
//! all data.

use burn::tensor::{Device, Tensor};
use ddpm_process::{Guided, NoiseStream, Reverse};
use ddpm_schedule::solver::{Ddim, Eta};
use ddpm_schedule::{Grid, NoiseLevel, NoiseSchedule, Process};

/// E[x₀ | x_t] of N(m, s²).
fn normal(m: f64, s: f64) -> impl Fn(Tensor<2>, NoiseLevel) -> Tensor<2> {
    move |x_t, at| {
        let (a, b) = (at.signal(), at.noise());
        let gain = a * s * s / (a * a * s * s + b * b);
        (x_t - a * m) * gain + m
    }
}

/// Draws 512 samples of one number, and returns their mean.
fn mean(weight: f64, device: &Device) -> Result<f32, Box<dyn std::error::Error>> {
    let process = Process::from(NoiseSchedule::cosine(1000, 0.008)?);
    let levels = Grid::Trailing.levels(&process, 50)?;
    let noise = NoiseStream::new(0, "sample");
    let samples: Vec<u64> = (0..512).collect();
    let z = |draw| noise.normal(&samples, draw, [512, 1], device);
    let guided = Guided {
        // The class has the mean 1, all data the mean 0 and a larger variance.
        conditional: normal(1.0, 0.5),
        base: normal(0.0, 1.0),
        weight,
    };
    let ddim = Ddim { eta: Eta::ZERO };
    let reverse = Reverse::new(guided, ddim, levels.as_slice(), z(0), z)?;
    let x = reverse.last().ok_or("there are steps")?.x;
    Ok(x.mean().into_scalar())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let [base, class, guided] = [0.0, 1.0, 3.0].map(|weight| mean(weight, &device));
    let (base, class, guided) = (base?, class?, guided?);
    println!("mean {base:.2} without the class, {class:.2} with it, {guided:.2} guided");
    // Standard errors of 1/√512 and 0.5/√512.
    assert!(base.abs() < 0.2 && (class - 1.0).abs() < 0.1);
    assert!(guided > class + 0.2);
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
