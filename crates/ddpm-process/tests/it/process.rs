//! The process on tensors: noise that is pinned, moments, guidance, samplers against exact laws.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_process::{
    Clip, Clipped, Denoiser, Guided, NoiseStream, Predictor, Reverse, diffuse, training_loss,
    transition,
};
use ddpm_schedule::{
    Eta, NoiseSchedule, Objective, Parametrization, Sampler, SamplerError, Trajectory, Visit,
    Weighting,
};

use crate::{linear, values};

/// A change here changes every run ever seeded. The values were printed once and are kept.
#[test]
fn the_stream_is_stable() {
    let mut row = NoiseStream::new(42, "test").row(3, 5);
    let mut normal = [0.0; 4];
    row.fill_normal(&mut normal);
    assert_eq!(normal, [-0.563_921_7, 0.545_371_4, -1.056_813_6, 2.153_871]);
}

#[test]
fn noise_depends_on_the_sample_not_on_its_batch() {
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
/// by step; 20,000 rows, 5 standard errors. At t = 20, where ᾱ = 0.44: at the end neither the signal
/// nor an error of the noise would show.
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
        &schedule,
        &vec![t; 20_000],
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

/// The loss of a network that answers the target is 0, of one that answers 0 the target's square.
#[test]
fn the_loss_compares_with_the_target() {
    let device = Device::flex();
    let x0 = Tensor::<2>::from_floats([[1.0, -1.0], [0.5, 2.0]], &device);
    let eps = Tensor::<2>::from_floats([[0.2, 0.4], [-1.0, 1.0]], &device);
    let schedule = linear();
    let t = [
        schedule.timestep(10).unwrap(),
        schedule.timestep(900).unwrap(),
    ];
    for parametrization in Parametrization::ALL {
        let objective = Objective::new(linear(), parametrization, Weighting::Simple).unwrap();
        let loss = training_loss(|x, _| x * 0.0, &objective, x0.clone(), eps.clone(), &t);
        let expected = t.iter().enumerate().map(|(i, &t)| {
            let (a, b) = (schedule.level(t).signal(), schedule.level(t).noise());
            let rows = [([1.0, -1.0], [0.2, 0.4]), ([0.5, 2.0], [-1.0, 1.0])];
            let (x0, eps) = rows[i];
            let target = |j: usize| match parametrization {
                Parametrization::Epsilon => eps[j],
                Parametrization::X0 => x0[j],
                Parametrization::V => a * eps[j] - b * x0[j],
            };
            f64::midpoint(target(0) * target(0), target(1) * target(1))
        });
        for (loss, expected) in values(loss).into_iter().zip(expected) {
            // Single precision: a few units of 6e-8 relative.
            assert!((f64::from(loss) - expected).abs() < 1e-6 * expected.max(1.0));
        }
    }
}

#[test]
fn the_network_is_told_t_minus_one() {
    let device = Device::flex();
    let objective = Objective::new(linear(), Parametrization::X0, Weighting::Simple).unwrap();
    let predictor = Predictor {
        network: |x: Tensor<2>, t: Tensor<1>| x * 0.0 + t.unsqueeze_dim::<2>(1),
        objective: &objective,
    };
    let schedule = objective.schedule();
    let t = schedule.visit(schedule.last());
    let x0 = predictor.denoise(Tensor::zeros([1, 1], &device), t);
    assert_eq!(values(x0), [999.0]);
}

#[test]
fn wrappers_clip_and_guide() {
    let device = Device::flex();
    let t = linear().visit(linear().last());
    let x = Tensor::<2>::from_floats([[3.0, -2.0, 0.5]], &device);
    let identity = |x: Tensor<2>, _: Visit| x;
    let clipped = Clipped {
        denoiser: identity,
        clip: Clip::UNIT,
    };
    assert_eq!(values(clipped.denoise(x.clone(), t)), [1.0, -1.0, 0.5]);
    let guided = Guided {
        conditional: |x: Tensor<2>, _: Visit| x * 2.0,
        base: identity,
        weight: 3.0,
    };
    // base + 3·(2x − x) = 4x.
    assert_eq!(values(guided.denoise(x, t)), [12.0, -8.0, 2.0]);
}

/// For standard normal data x̂₀ = a·x_t is exact and DDIM(0) is x_s = (a_s·a_t + b_s·b_t)·x_t,
/// cos(θ_t − θ_s)·x_t: an independent route to every state.
#[test]
fn the_iterator_walks_the_exact_path() {
    let device = Device::flex();
    let schedule = linear();
    let trajectory = Trajectory::trailing(&schedule, 10).unwrap();
    let denoiser = |x: Tensor<2>, at: Visit| x * at.level.signal();
    let x = Tensor::<2>::ones([1, 1], &device);
    let none = |_| panic!("DDIM without noise asks for none");
    let sampler = Sampler::Ddim { eta: Eta::ZERO };
    let reverse = Reverse::new(denoiser, sampler, &trajectory, x, none).unwrap();
    let mut expected = 1.0;
    for (state, (t, s)) in reverse.zip(trajectory.pairs()) {
        assert_eq!(state.from, t);
        expected *= s.signal() * t.level.signal() + s.noise() * t.level.noise();
        let found = f64::from(values(state.x)[0]);
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }
}

#[test]
#[should_panic(expected = "without autodiff")]
fn sampling_on_an_autodiff_device_is_refused() {
    let schedule = linear();
    let x = Tensor::<2>::ones([1, 1], &Device::flex().autodiff());
    let identity = |x: Tensor<2>, _: Visit| x;
    let trajectory = Trajectory::full(&schedule);
    let noise = |_| Tensor::zeros([1, 1], &Device::flex());
    let _ = Reverse::new(identity, Sampler::ANCESTRAL, &trajectory, x, noise);
}

/// Nothing is asked of a denoiser or of the noise by a sampler that cannot go this way.
#[test]
fn a_sampler_that_cannot_go_the_way_is_refused_before_it_starts() {
    let schedule = linear();
    let there = Trajectory::trailing(&schedule, 10)
        .and_then(|there| there.ending_at(schedule.level(schedule.first())));
    let back = there.unwrap().inverse().unwrap();
    let untouched = |_: Tensor<2>, _: Visit| -> Tensor<2> { panic!("asked") };
    let noise = |_| -> Tensor<2> { panic!("asked") };
    let x = Tensor::<2>::ones([1, 1], &Device::flex());
    let refused = Reverse::new(untouched, Sampler::ANCESTRAL, &back, x, noise).err();
    assert_eq!(refused, Sampler::ANCESTRAL.steps(&back).err());
    assert!(matches!(refused, Some(SamplerError::AddsNoise { .. })));
}

/// The weight here is the paper's w + 1: (1 + w)·conditional − w·base, for w = ½.
#[test]
fn guidance_counts_from_the_base() {
    let at = linear().visit(linear().last());
    let x = Tensor::<2>::from_floats([[1.0, -2.0]], &Device::flex());
    let guided = Guided {
        conditional: |x: Tensor<2>, _: Visit| x * 3.0,
        base: |x: Tensor<2>, _: Visit| x,
        weight: 0.5 + 1.0,
    };
    // 1.5·3x − 0.5·x = 4x.
    assert_eq!(values(guided.denoise(x, at)), [4.0, -8.0]);
}
