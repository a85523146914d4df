//! Clips of x̂₀: fixed, and dynamic against a peer's numbers.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_process::{AfterClip, Clip, ClipError, Clipped, Denoiser, Predictor, Reverse};
use ddpm_schedule::{Grid, GridOptions, Levels, NoiseLevel, Objective, Parametrization, Weighting};

use crate::{DDIM, DPMPP_2M, linear, trailing, values};

/// Two samples of eight elements, one that exceeds [−1, 1] and one that does not.
const OUT: [f32; 8] = [0.5, -3.0, 1.25, 2.0, -0.25, 0.75, 4.0, -1.5];
const IN: [f32; 8] = [0.1, -0.2, 0.3, 0.4, -0.5, 0.6, 0.7, -0.8];

fn clipped(clip: Clip) -> Vec<f32> {
    let x0 = TensorData::new([OUT, IN].concat(), [2, 2, 2, 2]);
    values(clip.apply(Tensor::<4>::from_data(x0, &Device::flex())))
}

/// The quantiles by hand: among the sizes 0.25, 0.5, 0.75, 1.25, 1.5, 2, 3, 4 the position 0.9·7 is
/// at 3.3, and 0.5·7 at 1.375, as in `torch.quantile`. Those of the second sample stay below 1.
#[test]
fn a_dynamic_clip_divides_by_the_samples_own_quantile() {
    for (quantile, max, s) in [
        (0.9, 10.0, 3.3),
        (0.5, 10.0, 1.375),
        (1.0, 10.0, 4.0),
        (0.0, 10.0, 1.0),
        (0.9, 1.5, 1.5),
        (0.995, 1.0, 1.0),
    ] {
        let found = clipped(Clip::dynamic(quantile, max).unwrap());
        let first = OUT.map(|x| x.clamp(-s, s) / s);
        for (found, expected) in found.into_iter().zip([first, IN].concat()) {
            // Two roundings, of s and of the quotient.
            assert!(
                (found - expected).abs() < 2e-7,
                "{quantile} {max}: {found} {expected}"
            );
        }
    }
}

#[test]
fn a_fixed_clip_is_a_clamp() {
    for range in [0.6, 1.0, 5.0] {
        let expected: Vec<f32> = [OUT, IN]
            .concat()
            .iter()
            .map(|x| x.clamp(-range, range))
            .collect();
        assert_eq!(clipped(Clip::to(f64::from(range)).unwrap()), expected);
    }
    assert_eq!(Clip::to(1.0), Ok(Clip::UNIT));
    assert_eq!(
        clipped(Clip::dynamic(0.3, 1.0).unwrap()),
        clipped(Clip::UNIT)
    );
}

#[test]
fn invalid_clips_are_refused() {
    for bound in [0.0, -1.0, f64::INFINITY, f64::NAN] {
        let message = format!("the bound of x̂₀ must be in (0, ∞), not {bound}");
        assert_eq!(Clip::to(bound).unwrap_err().to_string(), message);
    }
    for max in [0.0, 0.5, 0.999, -1.0, f64::INFINITY, f64::NAN] {
        let message = format!("the largest bound of x̂₀ must be in [1, ∞), not {max}");
        let clip = Clip::dynamic(0.5, max);
        assert_eq!(clip.unwrap_err().to_string(), message);
    }
    assert_eq!(Clip::dynamic(1.5, 1.0), Err(ClipError::Quantile(1.5)));
    assert_eq!(
        Clip::dynamic(-0.5, 1.0).unwrap_err().to_string(),
        "the quantile -0.5 of |x̂₀| is outside [0, 1]"
    );
}

/// The peer's network x·τ/(τ+1) and its sample (((8c + h)·8 + w)·4 + b)/768.
fn peer(objective: &Objective) -> (impl Denoiser<4>, Tensor<4>) {
    let predictor = Predictor {
        network: |x: Tensor<4>, t: Tensor<1>| {
            let t = t.reshape([4, 1, 1, 1]);
            x * (t.clone() / (t + 1.0))
        },
        objective,
    };
    let sample: Vec<f32> = (0..768_u16)
        .map(|i| f32::from((i % 192) * 4 + i / 192) / 768.0)
        .collect();
    let sample = TensorData::new(sample, [4, 3, 8, 8]);
    (predictor, Tensor::from_data(sample, &Device::flex()))
}

/// Σ|x|.
fn size(x: Tensor<4>) -> f64 {
    values(x).iter().map(|x| f64::from(x.abs())).sum()
}

/// The loop of diffusers' test of a clipped DPM-Solver++, on tensors: mean |x| to 10⁻³. A dynamic
/// clip with the maximum 1 is the same.
#[test]
fn the_peers_clipped_loop_is_reproduced() {
    let objective = Objective::new(linear(), Parametrization::Epsilon, Weighting::Simple).unwrap();
    let process = objective.process();
    let options = GridOptions {
        end: Some(process.ends().1),
        ..GridOptions::default()
    };
    let levels = Grid::Linspace.levels_with(process, 10, options).unwrap();
    for clip in [Clip::UNIT, Clip::dynamic(0.87, 1.0).unwrap()] {
        let (denoiser, sample) = peer(&objective);
        let denoiser = Clipped {
            denoiser,
            clip,
            epsilon: AfterClip::Derived,
        };
        let none = |_| panic!("DPM-Solver++ uses no noise");
        let reverse = Reverse::new(denoiser, DPMPP_2M, levels.as_slice(), sample, none);
        let found = size(reverse.unwrap().last().unwrap().x) / 768.0;
        assert!((found - 0.3301).abs() < 1e-3, "{found}");
    }
}

/// The same loop of DDIM on one number in f64, with the ε̂ of before the clip or the one derived
/// from the clipped x̂₀.
fn scalar_ddim(levels: &Levels, range: f64, kept: bool, mut x: f64) -> f64 {
    let schedule = linear();
    for (t, s) in levels.pairs() {
        let (a, b) = (t.signal(), t.noise());
        let tau = f64::from(schedule.nearest(t).network_input());
        let output = x * tau / (tau + 1.0);
        let x0 = ((x - b * output) / a).clamp(-range, range);
        let eps = if kept { output } else { (x - a * x0) / b };
        x = s.signal() * x0 + s.noise() * eps;
    }
    x
}

/// diffusers' DDIM keeps the network's own ε̂, and its loop has Σ|x| = 172.0065, where x̂₀ hardly
/// exceeds ±1. guided-diffusion derives ε̂ from the clipped x̂₀. With a clip to ±0.05 the two
/// differ, and each equals the loop on one number, element by element.
#[test]
fn a_clip_keeps_or_derives_the_noise() {
    let objective = Objective::new(linear(), Parametrization::Epsilon, Weighting::Simple).unwrap();
    let levels = Grid::Leading { offset: 0 }.levels(objective.process(), 10);
    let levels = levels.unwrap();
    let half = levels.ending_at(levels.as_slice()[5]).unwrap();
    let run = |range: f64, epsilon, levels: &Levels| {
        let (denoiser, sample) = peer(&objective);
        let start = values(sample.clone());
        let clip = Clip::to(range).unwrap();
        let denoiser = Clipped {
            denoiser,
            clip,
            epsilon,
        };
        let none = |_| panic!("DDIM with η = 0 uses no noise");
        let reverse = Reverse::new(denoiser, DDIM, levels.as_slice(), sample, none);
        let x = reverse.unwrap().last().unwrap().x;
        let kept = epsilon == AfterClip::Kept;
        let pairs = values(x.clone()).into_iter().zip(start);
        let off = pairs.map(|(x, start)| {
            let expected = scalar_ddim(levels, range, kept, f64::from(start));
            (f64::from(x) - expected).abs()
        });
        // x̂₀ is (x − bε̂)/a with 1/a up to 100 in the first of ten steps of f32.
        let largest = off.fold(0.0, f64::max);
        assert!(largest < 2e-5, "{epsilon:?}: {largest:e}");
        size(x)
    };
    let found = run(1.0, AfterClip::Kept, &levels);
    assert!((found - 172.006_522_2).abs() < 1e-3, "{found}");
    let kept = run(0.05, AfterClip::Kept, &half);
    let derived = run(0.05, AfterClip::Derived, &half);
    assert!((kept - derived).abs() > 1.0, "{kept} {derived}");
}

/// A clip around a clip, or around a guided denoiser, keeps the ε̂ of the inner denoiser.
#[test]
fn a_kept_epsilon_passes_through_wrappers() {
    let level = NoiseLevel::new(0.6, 0.8).unwrap();
    let x = || Tensor::<2>::from_floats([[2.0, -0.5]], &Device::flex());
    let kept = |range| Clipped {
        denoiser: Clipped {
            // x̂₀ = 2x and ε̂ = (x − 1.2x)/0.8 = −x/4.
            denoiser: |x: Tensor<2>, _: NoiseLevel| x * 2.0,
            clip: Clip::to(3.0).unwrap(),
            epsilon: AfterClip::Kept,
        },
        clip: Clip::to(range).unwrap(),
        epsilon: AfterClip::Kept,
    };
    let predicted = kept(1.0).predict(x(), level);
    assert_eq!(values(predicted.x0), [1.0, -1.0]);
    let eps = values(predicted.eps.unwrap());
    for (found, expected) in eps.into_iter().zip([-0.5, 0.125]) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }
    let guided = ddpm_process::Guided {
        conditional: kept(1.0),
        // ε̂ = (x − 0)/0.8, derived.
        base: |x: Tensor<2>, _: NoiseLevel| x.zeros_like(),
        weight: 2.0,
    };
    let predicted = guided.predict(x(), level);
    assert_eq!(values(predicted.x0), [2.0, -2.0]);
    let eps = values(predicted.eps.unwrap());
    for (found, [base, to]) in eps.into_iter().zip([[2.5, -0.5], [-0.625, 0.125]]) {
        let expected = base + 2.0 * (to - base);
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }
}

/// From data to noise and back, by the iterator. For standard normal data DDIM multiplies x by
/// cos(φ_t − φ_s) in either direction, φ = atan(b/a).
#[test]
fn the_iterator_goes_to_noise_and_back() {
    let device = Device::flex();
    let schedule = linear();
    let angle = |level: NoiseLevel| level.noise().atan2(level.signal());
    let first = schedule.level(schedule.first());
    let there = trailing(&schedule, 10).ending_at(first).unwrap();
    let denoiser = |x: Tensor<2>, at: NoiseLevel| x * at.signal();
    for levels in [there.clone(), there.inverse().unwrap()] {
        let none = |_| panic!("DDIM with η = 0 uses no noise");
        let x = Tensor::ones([1, 1], &device);
        let reverse = Reverse::new(denoiser, DDIM, levels.as_slice(), x, none).unwrap();
        let found = f64::from(values(reverse.last().unwrap().x)[0]);
        let steps = levels.pairs().map(|(t, s)| (angle(t) - angle(s)).cos());
        let expected: f64 = steps.product();
        // Ten steps of single precision.
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }
}
