//! Everything is computed in the dtype of x, whatever the device's default, which is f32 here.

use burn::tensor::{DType, Device, Tensor, TensorData};
use ddpm_process::oracle::{Component, Mixture};
use ddpm_process::{
    AfterClip, Clip, Clipped, Decoder, Denoiser, NoiseStream, Prediction, Predictor, Reverse,
    diffuse, hybrid_loss, training_loss,
};
use ddpm_schedule::solver::{Position, Solver};
use ddpm_schedule::{NoiseLevel, Objective, Parametrization, Weighting, bound};

use crate::{SMALL, linear, trailing, values};

/// The effect of a few roundings of f64; those of f32 change 10⁻⁷.
const DOUBLE: f64 = 1e-12;

fn double<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
    let data = TensorData::new(values.to_vec(), shape);
    Tensor::from_data(data, (&Device::flex(), DType::F64))
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    assert_eq!(x.dtype(), DType::F64);
    x.into_data().iter().collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(error < DOUBLE, "{found} is not {expected}");
    }
}

fn objective(parametrization: Parametrization) -> Objective {
    let weighting = Weighting::MinSnr { gamma: 5.0 };
    Objective::new(linear(), parametrization, weighting).unwrap()
}

#[test]
fn diffusing_and_the_loss_are_of_the_dtype() {
    let objective = objective(Parametrization::V);
    let schedule = objective.schedule().unwrap();
    let t = [1, 700].map(|t| schedule.timestep(t).unwrap());
    let (x0, eps) = ([0.3, -0.7], [1.1, 0.2]);
    let levels = t.map(|t| schedule.level(t));
    let x = diffuse(double(&x0, [2, 1]), double(&eps, [2, 1]), &levels);
    let x_t = [0, 1].map(|i| levels[i].signal() * x0[i] + levels[i].noise() * eps[i]);
    assert_close(&numbers(x), &x_t);

    let network = |x: Tensor<2>, t: Tensor<1>| x + t.unsqueeze_dim::<2>(1) * 1e-3;
    let loss = training_loss(
        network,
        &objective,
        double(&x0, [2, 1]),
        double(&eps, [2, 1]),
        &levels,
    );
    let expected = [0, 1].map(|i| {
        let target = levels[i].signal() * eps[i] - levels[i].noise() * x0[i];
        let output = x_t[i] + 1e-3 * f64::from(t[i].network_input());
        objective.weight(levels[i]) * (target - output).powi(2)
    });
    assert_close(&numbers(loss), &expected);
}

#[test]
fn the_hybrid_loss_is_of_the_dtype() {
    let objective = objective(Parametrization::Epsilon);
    let schedule = objective.schedule().unwrap();
    let t = [schedule.timestep(300).unwrap()];
    let (x0, eps, o) = (0.3, 1.1, 0.25);
    let network = |_, _| double(&[0.9, o], [1, 2]);
    let decoder = Decoder::Density;
    let [x, e] = [x0, eps].map(|x| double(&[x], [1, 1]));
    let found = hybrid_loss(network, &objective, decoder, x, e, &t);
    let (level, previous) = (schedule.level(t[0]), schedule.previous(t[0]));
    let x0_hat = (level.signal() * x0 + level.noise() * (eps - 0.9)) / level.signal();
    let log_variance = schedule.learned_variance(t[0]).log_variance(o);
    let kl = bound::model_kl(x0, x0_hat, log_variance, level, previous);
    let expected = objective.weight(level) * (eps - 0.9_f64).powi(2) + kl;
    assert_close(&numbers(found), &[expected]);
}

/// A network in f64, its x̂₀ clipped, and noise: x after one step of ancestral sampling.
#[test]
fn sampling_is_of_the_dtype() {
    let objective = objective(Parametrization::Epsilon);
    let levels = trailing(objective.schedule().unwrap(), 4);
    for (clip, max) in [(Clip::UNIT, 1.0), (Clip::dynamic(0.0, 4.0).unwrap(), 4.0)] {
        let denoiser = Clipped {
            denoiser: Predictor {
                network: |x: Tensor<2>, t: Tensor<1>| x * 0.9 + t.unsqueeze_dim::<2>(1) * 1e-5,
                objective: &objective,
            },
            clip,
            epsilon: AfterClip::Derived,
        };
        let z = |_| double(&[0.7], [1, 1]);
        let x = double(&[0.4], [1, 1]);
        let mut reverse = Reverse::new(denoiser, SMALL, levels.as_slice(), x, z).unwrap();
        let (t, s) = levels.pairs().next().unwrap();
        let c = objective.preconditioning(t);
        let x0 = c.c_skip * 0.4 + c.c_out * (0.36 + 999.0e-5);
        let size = x0.abs().clamp(1.0, max);
        let x0 = (x0 / size).clamp(-1.0, 1.0);
        let (past, left) = (&[][..], None);
        let row = SMALL.step(&Position { past, t, s, left }).last;
        let expected = row.past[0].x0 * x0 + row.state * 0.4 + row.z[0] * 0.7;
        let state = reverse.next().unwrap();
        assert_close(&numbers(state.x0), &[x0]);
        assert_close(&numbers(state.x), &[expected]);
    }
}

#[test]
fn the_oracle_and_noise_are_of_the_dtype() {
    let mixture = Mixture::new(vec![Component {
        weight: 1.0,
        mean: vec![1.0],
        covariance: vec![4.0],
    }]);
    let mixture = mixture.unwrap();
    let at = NoiseLevel::new(0.6, 0.8).unwrap();
    let found = numbers(mixture.predict(double(&[2.0], [1, 1]), at).x0);
    assert_close(&found, &[1.0 + 2.4 / 2.08 * 1.4]);

    let stream = NoiseStream::new(1, "test");
    let device = Device::flex();
    let options = (&device, DType::F64);
    let found = numbers(stream.normal(&[3, 4], 2, [2, 5], options));
    let single: Vec<f64> = stream
        .normal(&[3, 4], 2, [2, 5], &device)
        .into_data()
        .iter()
        .collect();
    assert_eq!(found, single);
}

/// bf16 has 8 bits of precision: it would round 999 to 1000.
#[test]
fn half_precision_networks_get_the_exact_time() {
    let objective = objective(Parametrization::V);
    let last = objective.process().ends().0;
    let x = || Tensor::<2>::ones([1, 2], (&Device::flex(), DType::BF16));
    let network = |x: Tensor<2>, t: Tensor<1>| {
        assert_eq!(t.dtype(), DType::F32);
        assert_eq!(values(t), [999.0]);
        x
    };
    let loss = training_loss(network, &objective, x(), x(), &[last]);
    assert_eq!(loss.dtype(), DType::BF16);
    let predictor = Predictor {
        network,
        objective: &objective,
    };
    let Prediction { x0, eps, share } = predictor.predict(x(), last);
    assert_eq!(x0.dtype(), DType::BF16);
    assert!(eps.is_none() && share.is_none());
}
