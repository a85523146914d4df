//! Learned variance on tensors: the loss that trains it, and steps that use it.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_process::{
    AfterClip, Clip, Clipped, Decoder, Denoiser, Guided, NoiseStream, Predictor, Reverse,
    hybrid_loss, training_loss,
};
use ddpm_schedule::solver::Ddpm;
use ddpm_schedule::{
    NoiseLevel, NoiseSchedule, Objective, Parametrization, Process, Timestep, Weighting, bound,
};

use crate::{LARGE, LEARNED, SMALL, linear, trailing, values};

/// The number of elements of a row.
const ROW: usize = 6;
/// The rows' times: the decoder's twice, and others from the smallest to the largest.
const TIMES: [u32; 6] = [1, 1, 2, 40, 500, 1000];
const MAX: u32 = 255;

fn objective(parametrization: Parametrization) -> Objective {
    Objective::new(linear(), parametrization, Weighting::Simple).unwrap()
}

fn schedule(objective: &Objective) -> &NoiseSchedule {
    objective.schedule().unwrap()
}

fn times(objective: &Objective) -> Vec<Timestep> {
    TIMES
        .map(|t| schedule(objective).timestep(t).unwrap())
        .to_vec()
}

/// x₀ on the bins, including both ends; ε; an output near the target; and o in [−1.5, 1.5].
struct Example {
    x0: Vec<f32>,
    eps: Vec<f32>,
    output: Vec<f32>,
    o: Vec<f32>,
}

impl Example {
    #[allow(clippy::cast_possible_truncation)]
    fn new(objective: &Objective) -> Self {
        let mut row = NoiseStream::new(3, "test").row(0, 0);
        let n = ROW * TIMES.len();
        let x0 = (0..n)
            .map(|i| match i % ROW {
                0 => -1.0,
                1 => 1.0,
                _ => 2.0 * row.one_to(MAX) as f32 / MAX as f32 - 1.0,
            })
            .collect::<Vec<_>>();
        let mut eps = vec![0.0; n];
        row.fill_normal(&mut eps);
        let t = times(objective);
        let output = (0..n).map(|i| {
            let level = schedule(objective).level(t[i / ROW]);
            let target = objective.parametrization().target(level);
            let exact = target.x0 * f64::from(x0[i]) + target.eps * f64::from(eps[i]);
            (exact + row.uniform() - 0.5) as f32
        });
        let output = output.collect();
        let o = (0..n).map(|_| (3.0 * row.uniform() - 1.5) as f32).collect();
        Self { x0, eps, output, o }
    }

    /// The loss of each row, from scalars in f64 and the two Gaussians of each KL.
    fn scalar_loss(&self, objective: &Objective, decoder: Decoder) -> Vec<f64> {
        let rows = times(objective).into_iter().enumerate();
        rows.map(|(row, t)| {
            let numbers = row * ROW..(row + 1) * ROW;
            let terms: f64 = numbers
                .map(|i| self.scalar_term(objective, decoder, t, i))
                .sum();
            terms / ROW as f64
        })
        .collect()
    }

    fn scalar_term(
        &self,
        objective: &Objective,
        decoder: Decoder,
        timestep: Timestep,
        i: usize,
    ) -> f64 {
        let schedule = schedule(objective);
        let (t, s) = (schedule.level(timestep), schedule.previous(timestep));
        let [x0, eps, output, o] =
            [&self.x0, &self.eps, &self.output, &self.o].map(|v| f64::from(v[i]));
        let target = objective.parametrization().target(t);
        let simple = (target.x0 * x0 + target.eps * eps - output).powi(2);
        let x_t = t.signal() * x0 + t.noise() * eps;
        let c = objective.preconditioning(t);
        let x0_hat = c.c_skip * x_t + c.c_out * output;
        let log_variance = schedule.learned_variance(timestep).log_variance(o);
        let term = match decoder {
            _ if s != NoiseLevel::CLEAN => bound::model_kl(x0, x0_hat, log_variance, t, s),
            Decoder::Bins { max } => {
                let value = (0.5 * (x0 + 1.0) * f64::from(max)).round();
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let value = value as u32;
                let decoder = bound::Gaussian {
                    mean: x0_hat,
                    log_variance,
                };
                bound::decoder_nll(value, max, decoder)
            }
            Decoder::Density => {
                let variance = log_variance.exp();
                let density = (-0.5 * (x0 - x0_hat).powi(2) / variance).exp()
                    / (std::f64::consts::TAU * variance).sqrt();
                -density.ln()
            }
        };
        simple + 0.001 * 1000.0 * term
    }

    fn tensor(values: &[f32], device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [TIMES.len(), ROW]), device)
    }
}

/// Each row against the bound of `ddpm_schedule` in f64. The tensors' error is that of f32 in x̂₀:
/// 10⁻⁷·|x_t|/a_t, at t = 1000 and for ε 10⁻⁵, where it is multiplied by a weight of 10⁻⁶. The
/// spread of a KL is a difference of numbers near 1: 10⁻⁷. A bin's probability of at least 10⁻⁵ is
/// a difference of two erf of relative error 10⁻⁷, so it is known to 1 %.
#[test]
fn the_hybrid_loss_is_the_bound_of_scalars() {
    for parametrization in [Parametrization::Epsilon, Parametrization::V] {
        let objective = objective(parametrization);
        let example = Example::new(&objective);
        for decoder in [Decoder::Density, Decoder::Bins { max: MAX }] {
            let device = Device::flex();
            let [x0, eps, output, o] = [&example.x0, &example.eps, &example.output, &example.o]
                .map(|values| Example::tensor(values, &device));
            let network = |_, _| Tensor::cat(vec![output, o], 1);
            let found = hybrid_loss(network, &objective, decoder, x0, eps, &times(&objective));
            let expected = example.scalar_loss(&objective, decoder);
            for (found, expected) in values(found).iter().zip(expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 1e-3 * (1.0 + expected.abs()), "{found} {expected}");
            }
        }
    }
}

/// The prediction learns only from L_simple, the variance only from the bound. The prediction's
/// gradient is that of the plain loss, the variance's that of the scalars by central differences.
#[test]
fn the_two_heads_are_trained_independently() {
    let objective = objective(Parametrization::Epsilon);
    let decoder = Decoder::Bins { max: MAX };
    let example = Example::new(&objective);
    let device = Device::flex().autodiff();
    let [x0, eps, output, o] = [&example.x0, &example.eps, &example.output, &example.o]
        .map(|values| Example::tensor(values, &device).require_grad());
    let heads = Tensor::cat(vec![output.clone(), o.clone()], 1);
    let t = times(&objective);
    let hybrid = hybrid_loss(
        |_, _| heads,
        &objective,
        decoder,
        x0.clone(),
        eps.clone(),
        &t,
    );
    let gradients = hybrid.sum().backward();
    let of_output = values(output.grad(&gradients).unwrap());
    let of_o = values(o.grad(&gradients).unwrap());

    let levels: Vec<_> = t.iter().map(|&t| schedule(&objective).level(t)).collect();
    let plain = training_loss(|_, _| output.clone(), &objective, x0, eps, &levels);
    let expected = values(output.grad(&plain.sum().backward()).unwrap());
    assert_eq!(of_output, expected);

    for i in 0..o.dims()[0] * ROW {
        let (t, step) = (t[i / ROW], 1e-2_f32);
        let at = |o: f32| {
            let mut moved = Example {
                o: example.o.clone(),
                ..Example::new(&objective)
            };
            moved.o[i] += o;
            moved.scalar_term(&objective, decoder, t, i) / ROW as f64
        };
        let expected = (at(step) - at(-step)) / (2.0 * f64::from(step));
        // Central differences: step²/6 of the third derivative, here 10⁻⁴ of the gradient; for a
        // bin far in the tail, approximated by its density, 5 %.
        let error = (f64::from(of_o[i]) - expected).abs();
        let scale = expected.abs() + 1e-4;
        assert!(
            error < 0.05 * scale,
            "t = {}: {} {expected}",
            t.get(),
            of_o[i]
        );
    }
}

/// A pixel a hundred deviations off: the probability of its bin underflows in f32, and still the
/// gradient increases the variance.
#[test]
fn a_decoder_far_off_learns_a_larger_variance() {
    let objective = objective(Parametrization::X0);
    let device = Device::flex().autodiff();
    let x0 = Tensor::<2>::from_data([[0.0, 1.0, -1.0]], &device);
    let o = x0.zeros_like().require_grad();
    let output = Tensor::cat(vec![x0.clone() * -1.0 + 0.7, o.clone()], 1);
    let t = [schedule(&objective).first()];
    let eps = x0.zeros_like();
    let decoder = Decoder::Bins { max: MAX };
    let loss = hybrid_loss(|_, _| output, &objective, decoder, x0, eps, &t);
    for gradient in values(o.grad(&loss.sum().backward()).unwrap()) {
        assert!(gradient.is_finite() && gradient < -1.0, "{gradient}");
    }
}

/// o = −1 is β̃, o = 1 is β, and each element has its own o. Samplers of fixed variance do not use
/// it.
#[test]
fn sampling_uses_the_predicted_variance() {
    let objective = objective(Parametrization::Epsilon);
    let device = Device::flex();
    let levels = trailing(schedule(&objective), 10);
    let stream = NoiseStream::new(0, "test");
    let run = |solver: Ddpm, o: [f32; 2]| {
        let o = Tensor::<2>::from_data([o], &device);
        let network = |x: Tensor<2>, _| Tensor::cat(vec![x * 0.9, o.clone()], 1);
        let denoiser = Clipped {
            denoiser: Predictor {
                network,
                objective: &objective,
            },
            clip: Clip::UNIT,
            epsilon: AfterClip::Derived,
        };
        let z = |step| stream.normal(&[7], step, [1, 2], &device);
        let reverse = Reverse::new(denoiser, solver, levels.as_slice(), z(0), z).unwrap();
        // The last step adds no noise, so the state before it is compared.
        let state = reverse.take(9).last().unwrap();
        values(state.x)
    };
    let [small, large] = [SMALL, LARGE].map(|solver| run(solver, [0.3, 0.3]));
    let found = run(LEARNED, [-1.0, 1.0]);
    for (found, expected) in found.iter().zip([small[0], large[1]]) {
        // Nine steps of f32.
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    assert!((small[1] - large[1]).abs() > 1e-2, "the two differ");
}

/// Guidance changes x̂₀ and keeps the conditional's variance.
#[test]
fn guidance_keeps_the_conditional_variance() {
    let objective = objective(Parametrization::X0);
    let device = Device::flex();
    let network = |x0: f32, o: f32| Predictor {
        network: move |x: Tensor<2>, _| {
            Tensor::cat(vec![x.zeros_like() + x0, x.zeros_like() + o], 1)
        },
        objective: &objective,
    };
    let guided = Clipped {
        denoiser: Guided {
            conditional: network(0.5, 0.5),
            base: network(0.25, -0.5),
            weight: 4.0,
        },
        clip: Clip::UNIT,
        epsilon: AfterClip::Derived,
    };
    let x_t = Tensor::<2>::zeros([1, 1], &device);
    let found = guided.predict(x_t, objective.process().ends().0);
    assert_eq!(values(found.x0), [1.0]);
    assert_eq!(values(found.share.unwrap()), [0.75]);
}

/// A closure around a network passes on its variance, and x is the network's own.
#[test]
fn a_closure_keeps_the_variance() {
    let objective = objective(Parametrization::Epsilon);
    let device = Device::flex();
    let levels = trailing(schedule(&objective), 5);
    let z = |_| Tensor::<2>::ones([1, 2], &device);
    let predictor = Predictor {
        network: |x: Tensor<2>, _| Tensor::cat(vec![x.clone() * 0.9, x * 0.3], 1),
        objective: &objective,
    };
    let at = levels.start();
    assert_eq!(
        values(predictor.predict(z(0), at).share.unwrap()),
        [0.65; 2]
    );
    let closure = |x: Tensor<2>, at: NoiseLevel| predictor.predict(x, at);
    let own = Reverse::new(predictor, LEARNED, levels.as_slice(), z(0), z).unwrap();
    let around = Reverse::new(closure, LEARNED, levels.as_slice(), z(0), z).unwrap();
    for (own, around) in own.zip(around) {
        assert_eq!(values(own.x), values(around.x));
    }
}

/// At t = T = 10,000 the factors of x̂₀ are 10²² and the weight of its error is 10⁻⁴⁶, which is 0
/// as an f32: its product with the square was 0·∞, NaN, and the decoder of t = 1 contributed to
/// every other row. In terms of ε, (x₀ − x̂₀)² = (ε − ε̂)²/SNR_t, and the divergence is
/// ½(SNR_s/SNR_t − 1)·(ε − ε̂)², with the variance β̃ of o = −1.
#[test]
fn the_hybrid_loss_of_a_long_schedule_is_finite() {
    let schedule = NoiseSchedule::linear(10_000, 1e-4, 0.02).unwrap();
    let objective = Objective::new(schedule, Parametrization::Epsilon, Weighting::Simple).unwrap();
    let schedule = objective.schedule().unwrap();
    let device = Device::flex();
    let row = |value: f32, n: usize| Tensor::<2>::full([n, 1], value, &device);
    let loss = |t: &[Timestep]| {
        let n = t.len();
        let network = |_, _| Tensor::cat(vec![row(0.5, n), row(-1.0, n)], 1);
        let density = Decoder::Density;
        values(hybrid_loss(
            network,
            &objective,
            density,
            row(0.25, n),
            row(1.5, n),
            t,
        ))
    };
    let [first, last] = [schedule.first(), schedule.last()];
    let found = loss(&[first, last]);
    let (t, s) = (schedule.level(last), schedule.previous(last));
    let divergence = 0.5 * (s.log_snr() - t.log_snr()).exp_m1();
    let expected = 1.0 + 0.001 * 10_000.0 * divergence;
    // x̂₀ and the weight's root are rounded to f32, 10⁻⁷ each.
    let error = f64::from(found[1]) / expected - 1.0;
    assert!(error.abs() < 1e-5, "{} {expected}", found[1]);
    assert_eq!([found[0]], loss(&[first])[..]);
    assert_eq!([found[1]], loss(&[last])[..]);
}

#[test]
#[should_panic(expected = "the hybrid loss needs a discrete schedule")]
fn a_continuous_process_has_no_hybrid_loss() {
    let edm = Process::edm(0.002, 80.0).unwrap();
    let sigma_data = 0.5;
    let objective = Objective::new(edm, Parametrization::Edm { sigma_data }, Weighting::Simple);
    let x = || Tensor::<2>::ones([1, 2], &Device::flex());
    let network = |x: Tensor<2>, _| x.repeat_dim(1, 2);
    let t = [linear().first()];
    hybrid_loss(network, &objective.unwrap(), Decoder::Density, x(), x(), &t);
}
