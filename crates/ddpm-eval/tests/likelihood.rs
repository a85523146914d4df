//! Bits per dimension, where they are known.
#![allow(missing_docs)]

use std::fs;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::{Dataset, InMemory, Source};
use ddpm_eval::likelihood::{Evaluation, Likelihood, Question, nll};
use ddpm_model::{Condition, Masks, Network};
use ddpm_process::NoiseStream;
use ddpm_schedule::{
    NoiseLevel, NoiseSchedule, Objective, Parametrization, Process, Timestep, Weighting,
};

const IMAGES: u16 = 400;
const MEAN: f64 = 0.1;
const VARIANCE: f64 = 0.04;

fn schedule() -> NoiseSchedule {
    NoiseSchedule::linear(100, 2e-3, 0.2).unwrap()
}

/// E[x₀ | x_t] for pixels of N(`mean`, `variance`), each for itself; and beside it, if `learned`,
/// the variance of p(x_s | x_t), s = t−1, as a network would choose it.
#[derive(Module, Debug)]
struct Ideal {
    mean: f64,
    variance: f64,
    learned: bool,
}

impl Network<4> for Ideal {
    fn predict(
        &self,
        x_t: Tensor<4>,
        t: Tensor<1>,
        _: &Condition,
        _: Option<&mut Masks>,
    ) -> Tensor<4> {
        let schedule = schedule();
        let (device, rows) = (x_t.device(), x_t.dims()[0]);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let times = (t.into_data().iter::<f64>())
            .map(|t| schedule.timestep(t as u32 + 1).unwrap())
            .collect::<Vec<_>>();
        let row = |of: &dyn Fn(Timestep) -> f64| -> Tensor<4> {
            #[allow(clippy::cast_possible_truncation)]
            let values: Vec<f32> = times.iter().map(|&t| of(t) as f32).collect();
            Tensor::from_data(TensorData::new(values, [rows, 1, 1, 1]), &device)
        };
        let of_level = |of: &dyn Fn(NoiseLevel) -> f64| row(&|t| of(schedule.level(t)));
        let a = of_level(&NoiseLevel::signal);
        let gain = of_level(&|level| level.signal() * unknown(level) / level.noise().powi(2));
        let chosen = x_t.ones_like() * row(&|t| choice(t, reverse_variance(t)));
        let x0 = (x_t - a * self.mean) * gain + self.mean;
        if self.learned {
            Tensor::cat(vec![x0, chosen], 1)
        } else {
            x0
        }
    }
}

/// o with which the network's variance at t is `variance`.
fn choice(t: Timestep, variance: f64) -> f64 {
    let between = schedule().learned_variance(t);
    let span = between.log_beta - between.log_beta_tilde;
    2.0 * (variance.ln() - between.log_beta_tilde) / span - 1.0
}

/// Var(x_s | x_t), s = t−1, and Var(x₀ | x₁) at t = 1: the posterior's variance, and what it does
/// not know of x₀.
fn reverse_variance(t: Timestep) -> f64 {
    let schedule = schedule();
    let (level, s) = (schedule.level(t), schedule.previous(t));
    let q = level.posterior(s);
    q.variance + q.x0 * q.x0 * unknown(level)
}

/// Var(x₀ | x_t).
fn unknown(level: NoiseLevel) -> f64 {
    let (a2, b2) = (level.alpha_bar(), level.noise().powi(2));
    VARIANCE * b2 / (a2 * VARIANCE + b2)
}

/// 4×4 images of 8-bit Gaussian pixels, as an IDX file.
fn gaussian_images() -> InMemory {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = vec![0, 0, 8, 3, 0, 0];
    bytes.extend(IMAGES.to_be_bytes());
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 4]);
    let mut z = vec![0.0; 16 * usize::from(IMAGES)];
    NoiseStream::new(0, "pixels").row(0, 0).fill_normal(&mut z);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    bytes.extend(z.iter().map(|z| {
        let x = MEAN + VARIANCE.sqrt() * f64::from(*z);
        (127.5 * (x + 1.0)).round() as u8
    }));
    let path = folder.path().join("train-images-idx3-ubyte");
    fs::write(&path, bytes).unwrap();
    ddpm_data::load(&Source::Idx { path }).unwrap()
}

/// ½(r − 1 − ln r): the divergence of Gaussians of equal means and variances of ratio r, in bits.
fn divergence(ratio: f64) -> f64 {
    0.5 * (ratio - 1.0 - ratio.ln()) / std::f64::consts::LN_2
}

/// Of a pixel, in bits, by its density over bins of 2/255.
fn entropy() -> f64 {
    let bin: f64 = 2.0 / 255.0;
    let spread = (std::f64::consts::TAU * std::f64::consts::E * VARIANCE).sqrt();
    (spread / bin).log2()
}

fn ask(
    network: &Ideal,
    objective: &Objective,
    data: &InMemory,
    times: Option<u32>,
    flow: Option<u32>,
) -> Likelihood {
    let question = Question {
        images: IMAGES.into(),
        times,
        flow,
        seed: 1,
    };
    nll(network, objective, None, data, &question, &Device::flex()).unwrap()
}

/// A network that chooses the true variances has the true reverse process: the bound is the
/// entropy but for the prior, N(0, 1) in place of x_T's.
#[test]
fn the_right_variances_leave_no_gap_but_the_priors() {
    let schedule = schedule();
    let last = schedule.level(schedule.last());
    let marginal = last.alpha_bar() * VARIANCE + last.noise().powi(2);
    let objective = Objective::new(schedule, Parametrization::X0, Weighting::Simple).unwrap();
    let network = Ideal {
        mean: MEAN,
        variance: VARIANCE,
        learned: true,
    };
    let report = ask(&network, &objective, &gaussian_images(), None, None);
    // Bins of 2/255 beside a noise of 0.045 or more are as good as a density, to 1e-3.
    let off = (report.bound.mean - entropy() - divergence(marginal)).abs();
    assert!(off < 5.0 * report.bound.error + 1e-3, "{:?}", report.bound);
    assert!(report.bound.error < 0.05, "{:?}", report.bound);
}

/// With the ideal denoiser the bound exceeds the entropy by the divergences of the true reverse
/// process from the model's, step by step, and the flow by that of the decoder alone; all are
/// Gaussian. The reported standard errors say how far off 400 images may be; bins of 2/255 beside
/// noise of 0.045 or more are as good as a density, to 1e-3.
#[test]
fn gaussian_data_has_its_entropy_within_the_error_bars() {
    let data = gaussian_images();
    let schedule = schedule();
    let objective =
        Objective::new(schedule.clone(), Parametrization::X0, Weighting::Simple).unwrap();
    let network = Ideal {
        mean: MEAN,
        variance: VARIANCE,
        learned: false,
    };
    let entropy = entropy();
    let first = schedule.level(schedule.timestep(1).unwrap());
    let last = schedule.level(schedule.last());
    let decoder = divergence(unknown(first) / first.noise().powi(2));
    let marginal = last.alpha_bar() * VARIANCE + last.noise().powi(2);
    let mut gap = decoder + divergence(marginal);
    for t in schedule.iter().skip(1) {
        let (level, s) = (schedule.level(t), schedule.previous(t));
        let q = level.posterior(s);
        gap += divergence(1.0 + q.x0 * q.x0 * unknown(level) / q.variance);
    }
    let exact = ask(&network, &objective, &data, None, Some(40));
    assert!(exact.exact && exact.times == 99 && exact.per_t.len() == 99);
    let sampled = ask(&network, &objective, &data, Some(7), None);
    assert!(!sampled.exact && sampled.times == 7);
    let flow = exact.flow.unwrap();
    // The bound's terms differ so much from t to t that seven of them tell little.
    for (name, found, expected, largest_error) in [
        ("all t", exact.bound, entropy + gap, 0.05),
        ("7 t", sampled.bound, entropy + gap, 0.3),
        ("flow", flow, entropy + decoder, 0.05),
    ] {
        let off = (found.mean - expected).abs();
        assert!(
            off < 5.0 * found.error + 1e-3,
            "{name}: {found:?}, not {expected}"
        );
        // An error bar that allows anything says nothing.
        assert!(found.error < largest_error, "{name}: {found:?}");
    }
    // The parts are the whole.
    let sum = exact.prior.mean + exact.steps.mean + exact.decoder.mean;
    assert!((sum - exact.bound.mean).abs() < 1e-12);
    let terms: f64 = exact.per_t.iter().map(|step| step.mean).sum();
    assert!((terms - exact.steps.mean).abs() < 1e-9);
    // Fewer times, more error, for the same images.
    assert!(sampled.steps.error > exact.steps.error);
}

#[test]
fn questions_without_an_answer_are_refused() {
    let objective = Objective::new(schedule(), Parametrization::X0, Weighting::Simple).unwrap();
    let network = Ideal {
        mean: MEAN,
        variance: VARIANCE,
        learned: false,
    };
    let data = gaussian_images();
    for images in [0, 1, usize::from(IMAGES) + 1] {
        let question = Question {
            images,
            times: None,
            flow: None,
            seed: 0,
        };
        let answer = nll(
            &network,
            &objective,
            None,
            &data,
            &question,
            &Device::flex(),
        );
        assert!(answer.unwrap_err().to_string().contains("2 to 400 images"));
    }
}

/// The bound is a sum over timesteps, and EDM's process has none.
#[test]
fn a_process_without_timesteps_is_refused() {
    let edm = Process::edm(0.002, 80.0).unwrap();
    let objective = Objective::new(edm, Parametrization::X0, Weighting::Simple).unwrap();
    let network = Ideal {
        mean: MEAN,
        variance: VARIANCE,
        learned: false,
    };
    let question = Question {
        images: IMAGES.into(),
        times: None,
        flow: None,
        seed: 0,
    };
    let data = gaussian_images();
    let answer = nll(
        &network,
        &objective,
        None,
        &data,
        &question,
        &Device::flex(),
    );
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("no timesteps"), "{error}");
}

/// The images are drawn by the seed: the first rows of a folder would be of one class. More of them are the
/// same and others.
#[test]
fn images_are_drawn_by_the_seed() {
    let objective = Objective::new(schedule(), Parametrization::X0, Weighting::Simple).unwrap();
    let network = Ideal {
        mean: MEAN,
        variance: VARIANCE,
        learned: false,
    };
    let images = gaussian_images();
    let measured = |count: usize, seed: u64| {
        let question = Question {
            images: count,
            times: Some(2),
            flow: None,
            seed,
        };
        let (data, device) = (&images, &Device::flex());
        let evaluation = Evaluation {
            network: &network,
            objective: &objective,
            classes: None,
            data,
            question: &question,
            device,
        };
        let measured = evaluation.measure::<4>(0..count, |_| true);
        let measured = measured.unwrap();
        let width = measured.width();
        measured
            .rows()
            .chunks(width)
            .map(<[f64]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (few, more) = (measured(20, 1), measured(50, 1));
    assert_eq!(few, more[..20]);
    assert_ne!(few, measured(20, 2));
    let drawn = ddpm_data::shuffled(1, images.len());
    let first = drawn[..20].iter().filter(|&&row| row < 20).count();
    // Of 20 rows of 400, one on average.
    assert!(first < 8, "{first}");
    let mut sorted = drawn;
    sorted.sort_unstable();
    assert!(sorted.iter().zip(0..).all(|(row, i)| *row == i));
}
