//! Training examples: inputs, targets and weights, from which any loss is computed.

use burn::tensor::{Device, Tensor};
use ddpm_process::{Denoiser, Example, Predictor, training_loss};
use ddpm_schedule::{NoiseLevel, Objective, Parametrization, Process, Weighting};

use crate::{linear, values};

fn x0() -> Tensor<2> {
    Tensor::from_floats([[1.0, -1.0, 0.25], [0.5, 2.0, -0.75]], &Device::flex())
}

fn eps() -> Tensor<2> {
    Tensor::from_floats([[0.2, 0.4, -1.5], [-1.0, 1.0, 0.3]], &Device::flex())
}

fn network(x: Tensor<2>, t: Tensor<1>) -> Tensor<2> {
    x * 0.3 + (t * 1e-3).unsqueeze_dim::<2>(1)
}

/// Objectives of three processes, each with two levels.
fn objectives() -> Vec<(Objective, [NoiseLevel; 2])> {
    let edm = Parametrization::Edm { sigma_data: 0.5 };
    let min_snr = Weighting::MinSnr { gamma: 5.0 };
    let objective = |process, parametrization, weighting| {
        Objective::new(process, parametrization, weighting).unwrap()
    };
    let discrete = Process::from(linear());
    let of_discrete = [10.0, 899.5].map(|time| discrete.level(time).unwrap());
    let sigmas = [0.05, 3.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
    let times = [0.1, 1.0].map(|t| NoiseLevel::rectified_flow(t).unwrap());
    let weighting = Weighting::Edm { sigma_data: 0.5 };
    vec![
        (
            objective(discrete, Parametrization::V, min_snr),
            of_discrete,
        ),
        (
            objective(Process::edm(0.002, 80.0).unwrap(), edm, weighting),
            sigmas,
        ),
        (
            objective(
                Process::flow(3.0).unwrap(),
                Parametrization::Flow,
                Weighting::Simple,
            ),
            times,
        ),
    ]
}

/// The square by hand is the training loss.
#[test]
fn the_square_loss_of_an_example_is_the_training_loss() {
    for (objective, levels) in objectives() {
        let expected = values(training_loss(network, &objective, x0(), eps(), &levels));
        let example = Example::new(&objective, x0(), eps(), &levels);
        let output = network(example.input.clone(), example.time.clone());
        assert_eq!(values(example.loss(output.clone())), expected);
        let square = (example.target - output).square();
        let own = square.mean_dim(1).squeeze_dim::<1>(1) * example.weight;
        assert_eq!(values(own), expected);
        assert!(expected.iter().all(|&loss| loss > 0.0), "{expected:?}");
    }
}

/// Each part by its definition, in f64, row by row.
#[test]
fn every_row_has_its_own_level() {
    for (objective, levels) in objectives() {
        let example = Example::new(&objective, x0(), eps(), &levels);
        let [x0, eps] = [x0(), eps()].map(values);
        let parts = [example.x_t, example.input, example.target].map(values);
        let [weight, time] = [example.weight, example.time].map(values);
        let close = |found: f32, expected: f64| {
            let off = (f64::from(found) - expected).abs();
            // Some roundings of f32.
            assert!(off < 1e-6 * (1.0 + expected.abs()), "{found} {expected}");
        };
        for (i, at) in levels.into_iter().enumerate() {
            close(weight[i], objective.weight(at));
            close(time[i], objective.process().time(at));
            let c_in = objective.preconditioning(at).c_in;
            let target = objective.parametrization().target(at);
            for j in 3 * i..3 * i + 3 {
                let [x0, eps] = [x0[j], eps[j]].map(f64::from);
                let x_t = at.signal() * x0 + at.noise() * eps;
                close(parts[0][j], x_t);
                close(parts[1][j], c_in * x_t);
                close(parts[2][j], target.x0 * x0 + target.eps * eps);
            }
        }
    }
}

/// Karras et al. 2022, table 1: the network's input is x/√(σ² + σ_data²), its time is ¼·ln σ, and
/// c_skip and c_out make x̂₀ of its output.
#[test]
fn the_network_of_edm_sees_scaled_x() {
    let (objective, levels) = objectives().swap_remove(1);
    let example = Example::new(&objective, x0(), eps(), &levels);
    let [x_t, input] = [example.x_t.clone(), example.input].map(values);
    for (i, sigma) in [0.05_f64, 3.0].into_iter().enumerate() {
        let variance = sigma * sigma + 0.25;
        for j in 3 * i..3 * i + 3 {
            let expected = f64::from(x_t[j]) / variance.sqrt();
            assert!((f64::from(input[j]) - expected).abs() < 1e-6);
        }
        let time = f64::from(values(example.time.clone())[i]);
        assert!((time - 0.25 * sigma.ln()).abs() < 1e-7);
    }
    // The same by the denoiser, each row at its own level, and one by one.
    let predictor = Predictor {
        network,
        objective: &objective,
    };
    let each = values(predictor.predict_each(example.x_t.clone(), &levels).x0);
    for (i, sigma) in [0.05_f64, 3.0].into_iter().enumerate() {
        let row = example.x_t.clone().narrow(0, i, 1);
        assert_eq!(
            values(predictor.predict(row, levels[i]).x0),
            each[3 * i..3 * i + 3]
        );
        let variance = sigma * sigma + 0.25;
        let (c_skip, c_out) = (0.25 / variance, 0.5 * sigma / variance.sqrt());
        for j in 3 * i..3 * i + 3 {
            let x = f64::from(x_t[j]);
            let output = 0.3 * x / variance.sqrt() + 0.25e-3 * sigma.ln();
            let expected = c_skip * x + c_out * output;
            assert!((f64::from(each[j]) - expected).abs() < 1e-6, "{sigma}");
        }
    }
}
