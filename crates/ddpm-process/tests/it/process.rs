//! The process on tensors: noise that is pinned, moments, guidance, samplers against exact laws.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_process::{
    AfterClip, Clip, Clipped, Denoiser, Guided, NoiseStream, Predictor, Reverse, diffuse,
    training_loss, transition,
};
use ddpm_schedule::solver::{SolverError, steps};
use ddpm_schedule::{
    Levels, NoiseLevel, NoiseSchedule, Objective, Parametrization, Process, Weighting,
};

use crate::{DDIM, SMALL, linear, trailing, values};

/// A change here changes every seeded run. The values were printed once and are kept.
#[test]
fn the_stream_is_stable() {
    let mut row = NoiseStream::new(42, "test").row(3, 5);
    let mut normal = [0.0; 4];
    row.fill_normal(&mut normal);
    assert_eq!(normal, [-0.563_921_7, 0.545_371_4, -1.056_813_6, 2.153_871]);
}

#[test]
fn noise_depends_on_the_sample_alone() {
    let stream = NoiseStream::new(1, "test");
    let device = Device::flex();
    let all = values(stream.normal(&[0, 1, 2, 3], 7, [4, 5], &device));
    let some = values(stream.normal(&[2, 0], 7, [2, 5], &device));
    assert_eq!(some[..5], all[10..15]);
    assert_eq!(some[5..], all[..5]);
    for other in [
        stream.normal(&[2], 8, [1, 5], &device),
        NoiseStream::new(2, "test").normal(&[2], 7, [1, 5], &device),
        NoiseStream::new(1, "else").normal(&[2], 7, [1, 5], &device),
    ] {
        assert_ne!(values(other)[..], all[10..15]);
    }
}

/// 10⁵ draws: the mean has standard error 0.0032, the variance 0.0045; 5 of them are allowed, so
/// a bias of 2 % in either is seen.
#[test]
fn noise_is_standard_normal() {
    let mut draws = vec![0.0; 100_000];
    NoiseStream::new(0, "test")
        .row(0, 0)
        .fill_normal(&mut draws);
    let n = draws.len() as f64;
    let mean = draws.iter().map(|&z| f64::from(z)).sum::<f64>() / n;
    let variance = draws
        .iter()
        .map(|&z| (f64::from(z) - mean).powi(2))
        .sum::<f64>()
        / n;
    assert!(mean.abs() < 5.0 / n.sqrt(), "{mean}");
    assert!(
        (variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(),
        "{variance}"
    );
}

/// x_t of exponential data (mean 1, variance 1) has the closed-form moments, in one jump and step
/// by step; 20,000 rows, 5 standard errors. At t = 20, where ᾱ = 0.44: at the end neither the
/// signal nor an error of the noise would be visible.
#[test]
fn both_routes_have_the_marginal_moments() {
    let schedule = NoiseSchedule::linear(50, 1e-3, 0.2).unwrap();
    let device = Device::flex();
    let n = 20_000_u64;
    let samples: Vec<u64> = (0..n).collect();
    let stream = NoiseStream::new(5, "test");
    #[allow(clippy::cast_possible_truncation)]
    let x0: Vec<f32> = samples
        .iter()
        .map(|&k| -(1.0 - stream.row(k, 1000).uniform()).ln() as f32)
        .collect();
    let x0 = Tensor::<2>::from_data(TensorData::new(x0, [20_000, 1]), &device);
    let t = schedule.timestep(20).unwrap();
    let jump = diffuse(
        x0.clone(),
        stream.normal(&samples, 1001, [20_000, 1], &device),
        &vec![schedule.level(t); 20_000],
    );
    let mut walk = x0;
    for t in schedule.iter().take(20) {
        let z = stream.normal(&samples, t.get(), [20_000, 1], &device);
        walk = transition(walk, z, schedule.level(t).transition(schedule.previous(t)));
    }
    let (a, b) = (schedule.level(t).signal(), schedule.level(t).noise());
    let variance = a * a + b * b;
    for x in [jump, walk] {
        let x = values(x);
        let n = x.len() as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = x
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / n;
        assert!(
            (mean - a).abs() < 5.0 * (variance / n).sqrt(),
            "{mean} is not {a}"
        );
        // The kurtosis of a·Exp + b·N is at most 9, so Var[s²] ≤ 8σ⁴/n.
        assert!(
            (var - variance).abs() < 5.0 * variance * (8.0 / n).sqrt(),
            "{var} is not {variance}"
        );
    }
}

/// The loss of a network that returns the target is 0; that of one that returns 0 is the target's
/// square.
#[test]
fn the_loss_compares_with_the_target() {
    let device = Device::flex();
    let x0 = Tensor::<2>::from_floats([[1.0, -1.0], [0.5, 2.0]], &device);
    let eps = Tensor::<2>::from_floats([[0.2, 0.4], [-1.0, 1.0]], &device);
    let schedule = linear();
    let levels = [10, 900].map(|t| schedule.level(schedule.timestep(t).unwrap()));
    for parametrization in Parametrization::ALL {
        let objective = Objective::new(linear(), parametrization, Weighting::Simple).unwrap();
        let loss = training_loss(|x, _| x * 0.0, &objective, x0.clone(), eps.clone(), &levels);
        let expected = levels.iter().enumerate().map(|(i, at)| {
            let (a, b) = (at.signal(), at.noise());
            let rows = [([1.0, -1.0], [0.2, 0.4]), ([0.5, 2.0], [-1.0, 1.0])];
            let (x0, eps) = rows[i];
            let target = |j: usize| match parametrization {
                Parametrization::Epsilon => eps[j],
                Parametrization::X0 => x0[j],
                Parametrization::V => a * eps[j] - b * x0[j],
                Parametrization::Flow => eps[j] - x0[j],
                // (x₀ − c_skip·x_t)/c_out of Karras et al., table 1, with x_t/a and σ = b/a.
                Parametrization::Edm { sigma_data } => {
                    let (sigma, x) = (b / a, x0[j] + b / a * eps[j]);
                    let variance = sigma * sigma + sigma_data * sigma_data;
                    let c_skip = sigma_data * sigma_data / variance;
                    (x0[j] - c_skip * x) * variance.sqrt() / (sigma * sigma_data)
                }
            };
            f64::midpoint(target(0) * target(0), target(1) * target(1))
        });
        for (loss, expected) in values(loss).into_iter().zip(expected) {
            // Single precision: a few units of 6e-8 relative.
            assert!((f64::from(loss) - expected).abs() < 1e-6 * expected.max(1.0));
        }
    }
}

/// The time that a network is given, by a network that returns it in place of x̂₀.
fn told(process: Process, at: NoiseLevel) -> f32 {
    let objective = Objective::new(process, Parametrization::X0, Weighting::Simple).unwrap();
    let predictor = Predictor {
        network: |x: Tensor<2>, t: Tensor<1>| x * 0.0 + t.unsqueeze_dim::<2>(1),
        objective: &objective,
    };
    let x_t = Tensor::zeros([1, 1], &Device::flex());
    values(predictor.predict(x_t, at).x0)[0]
}

#[test]
fn the_network_is_told_t_minus_one() {
    let schedule = linear();
    let last = schedule.level(schedule.last());
    assert_eq!(told(schedule.into(), last), 999.0);
}

/// Between two timesteps the time is between theirs; other processes have their own times.
#[test]
fn the_network_is_told_the_time_of_the_level() {
    let process = Process::from(linear());
    let between = process.level(417.25).unwrap();
    assert!((told(process, between) - 417.25).abs() < 1e-4);
    let edm = Process::edm(0.002, 80.0).unwrap();
    let level = NoiseLevel::variance_exploding(2.0).unwrap();
    assert!((told(edm, level) - 0.25 * 2.0_f32.ln()).abs() < 1e-7);
    let flow = Process::flow(3.0).unwrap();
    let level = NoiseLevel::rectified_flow(0.3).unwrap();
    assert!((told(flow, level) - 300.0).abs() < 1e-4);
}

#[test]
fn wrappers_clip_and_guide() {
    let device = Device::flex();
    let at = NoiseLevel::new(0.6, 0.8).unwrap();
    let x = Tensor::<2>::from_floats([[3.0, -2.0, 0.5]], &device);
    let identity = |x: Tensor<2>, _: NoiseLevel| x;
    let clipped = Clipped {
        denoiser: identity,
        clip: Clip::UNIT,
        epsilon: AfterClip::Derived,
    };
    assert_eq!(values(clipped.predict(x.clone(), at).x0), [1.0, -1.0, 0.5]);
    let guided = Guided {
        conditional: |x: Tensor<2>, _: NoiseLevel| x * 2.0,
        base: identity,
        weight: 3.0,
    };
    // base + 3·(2x − x) = 4x.
    assert_eq!(values(guided.predict(x, at).x0), [12.0, -8.0, 2.0]);
}

/// For standard normal data x̂₀ = a·x_t is exact and DDIM(0) is x_s = (a_s·a_t + b_s·b_t)·x_t,
/// cos(θ_t − θ_s)·x_t: an independent route to every state.
#[test]
fn the_iterator_follows_the_exact_flow() {
    let device = Device::flex();
    let schedule = linear();
    let levels = trailing(&schedule, 10);
    let denoiser = |x: Tensor<2>, at: NoiseLevel| x * at.signal();
    let x = Tensor::<2>::ones([1, 1], &device);
    let none = |_| panic!("DDIM with η = 0 uses no noise");
    let reverse = Reverse::new(denoiser, DDIM, levels.as_slice(), x, none).unwrap();
    let mut expected = 1.0;
    for (state, (t, s)) in reverse.zip(levels.pairs()) {
        assert_eq!((state.from, state.to), (t, s));
        expected *= s.signal() * t.signal() + s.noise() * t.noise();
        let found = f64::from(values(state.x)[0]);
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }
}

#[test]
#[should_panic(expected = "without autodiff")]
fn sampling_on_an_autodiff_device_is_refused() {
    let schedule = linear();
    let x = Tensor::<2>::ones([1, 1], &Device::flex().autodiff());
    let identity = |x: Tensor<2>, _: NoiseLevel| x;
    let levels = Levels::full(&schedule);
    let noise = |_| Tensor::zeros([1, 1], &Device::flex());
    let _ = Reverse::new(identity, SMALL, levels.as_slice(), x, noise);
}

/// A sampler that cannot take these steps uses neither the denoiser nor the noise.
#[test]
fn impossible_steps_are_refused_before_the_first() {
    let schedule = linear();
    let there = trailing(&schedule, 10).ending_at(schedule.level(schedule.first()));
    let back = there.unwrap().inverse().unwrap();
    let untouched = |_: Tensor<2>, _: NoiseLevel| -> Tensor<2> { panic!("asked") };
    let noise = |_| -> Tensor<2> { panic!("asked") };
    let x = Tensor::<2>::ones([1, 1], &Device::flex());
    let refused = Reverse::new(untouched, SMALL, back.as_slice(), x, noise).err();
    assert_eq!(refused, steps(&SMALL, back.as_slice()).err());
    assert!(matches!(refused, Some(SolverError::AddsNoise { .. })));
}

/// The weight is the paper's w + 1: (1 + w)·conditional − w·base, for w = ½.
#[test]
fn the_guidance_weight_is_one_more_than_the_papers() {
    let at = NoiseLevel::new(0.6, 0.8).unwrap();
    let x = Tensor::<2>::from_floats([[1.0, -2.0]], &Device::flex());
    let guided = Guided {
        conditional: |x: Tensor<2>, _: NoiseLevel| x * 3.0,
        base: |x: Tensor<2>, _: NoiseLevel| x,
        weight: 0.5 + 1.0,
    };
    // 1.5·3x − 0.5·x = 4x.
    assert_eq!(values(guided.predict(x, at).x0), [4.0, -8.0]);
}
