//! Clips of x̂₀: fixed, and dynamic against the numbers of a peer.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_process::{Clip, ClipError, Clipped, Predictor, Reverse};
use ddpm_schedule::{Eta, Objective, Parametrization, Sampler, Trajectory, Visit, Weighting};

use crate::{linear, values};

/// Two samples of eight elements, one that leaves [−1, 1] and one that does not.
const OUT: [f32; 8] = [0.5, -3.0, 1.25, 2.0, -0.25, 0.75, 4.0, -1.5];
const IN: [f32; 8] = [0.1, -0.2, 0.3, 0.4, -0.5, 0.6, 0.7, -0.8];

fn clipped(clip: Clip) -> Vec<f32> {
    let x0 = TensorData::new([OUT, IN].concat(), [2, 2, 2, 2]);
    values(clip.apply(Tensor::<4>::from_data(x0, &Device::flex())))
}

/// The quantiles are by hand: of the sizes 0.25, 0.5, 0.75, 1.25, 1.5, 2, 3, 4 the place 0.9·7 is
/// 3.3, and 0.5·7 is 1.375. `torch.quantile` says the same. The second sample's stay below 1.
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
fn clips_that_make_no_sense_are_refused() {
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

/// The loop of diffusers' test of a clipped DPM-Solver++, on tensors: mean |x| to 10⁻³. A dynamic
/// clip of at most 1 is the same.
#[test]
fn the_peers_clipped_loop_is_reproduced() {
    let device = Device::flex();
    #[allow(clippy::cast_precision_loss)]
    let sample: Vec<f32> = (0..768)
        .map(|i| ((i % 192) * 4 + i / 192) as f32 / 768.0)
        .collect();
    let sample = Tensor::<4>::from_data(TensorData::new(sample, [4, 3, 8, 8]), &device);
    let objective = Objective::new(linear(), Parametrization::Epsilon, Weighting::Simple).unwrap();
    let schedule = objective.schedule();
    let first = schedule.level(schedule.first());
    let trajectory = Trajectory::linspace(schedule, 11).and_then(|t| t.ending_at(first));
    let trajectory = trajectory.unwrap();
    let mean = |clip| {
        let predictor = Predictor {
            network: |x: Tensor<4>, t: Tensor<1>| {
                let t = t.reshape([4, 1, 1, 1]);
                x * (t.clone() / (t + 1.0))
            },
            objective: &objective,
        };
        let denoiser = Clipped {
            denoiser: predictor,
            clip,
        };
        let none = |_| panic!("DPM-Solver++ asks for no noise");
        let solver = Sampler::DpmPp2M;
        let reverse = Reverse::new(denoiser, solver, &trajectory, sample.clone(), none);
        let reverse = reverse.unwrap();
        let x = values(reverse.last().unwrap().x);
        x.iter().map(|x| f64::from(x.abs())).sum::<f64>() / 768.0
    };
    for clip in [Clip::UNIT, Clip::dynamic(0.87, 1.0).unwrap()] {
        let found = mean(clip);
        assert!((found - 0.3301).abs() < 1e-3, "{found}");
    }
}

/// From data to noise and back, by the iterator. For standard normal data DDIM multiplies x by
/// cos(φ_t − φ_s) in either direction, φ = atan(b/a).
#[test]
fn the_iterator_goes_to_noise_and_back() {
    let device = Device::flex();
    let schedule = linear();
    let angle = |level: ddpm_schedule::NoiseLevel| level.noise().atan2(level.signal());
    let first = schedule.level(schedule.first());
    let there = Trajectory::trailing(&schedule, 10)
        .and_then(|t| t.ending_at(first))
        .unwrap();
    let denoiser = |x: Tensor<2>, at: Visit| x * at.level.signal();
    let sampler = Sampler::Ddim { eta: Eta::ZERO };
    for trajectory in [there.clone(), there.inverse().unwrap()] {
        let none = |_| panic!("DDIM without noise asks for none");
        let x = Tensor::ones([1, 1], &device);
        let reverse = Reverse::new(denoiser, sampler, &trajectory, x, none).unwrap();
        let found = f64::from(values(reverse.last().unwrap().x)[0]);
        let steps = trajectory
            .pairs()
            .map(|(t, s)| (angle(t.level) - angle(s)).cos());
        let expected: f64 = steps.product();
        // Ten steps of single precision.
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }
}
