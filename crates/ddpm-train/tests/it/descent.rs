//! Gradient descent by numbers: AdamW, the learning rate, clipping, the average of the weights.

use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use ddpm_process::NoiseStream;
use ddpm_train::ema::Ema;
use ddpm_train::optim::{self, AdamW, AdamWSettings, Optimizer, Step, clip};
use ddpm_train::params::{self, Named};

/// What one rounding to f32 may change, relatively.
const ROUNDING: f64 = 1.0 / 16_777_216.0;

const SETTINGS: AdamWSettings = AdamWSettings {
    beta_1: 0.9,
    beta_2: 0.999,
    epsilon: 1e-8,
    weight_decay: 0.1,
};

const STEPS: usize = 20;

/// Parameters of two ranks and nothing else.
#[derive(Module, Debug)]
struct Small {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Small {
    fn new(device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(noise(0, [2, 3], device)),
            bias: Param::from_tensor(noise(1, [3], device)),
        }
    }

    /// A loss whose gradients change in size and sign with the parameters and the step.
    fn loss(&self, step: u64) -> Tensor<1> {
        let device = self.weight.device();
        let x: Tensor<2> = noise(2 + step, [4, 2], &device);
        let y = x.matmul(self.weight.val()) + self.bias.val().unsqueeze();
        (y - 0.1 * step as f64).square().mean()
    }
}

fn noise<const D: usize>(step: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let rows: Vec<u64> = (0..shape[0] as u64).map(|row| 100 * step + row).collect();
    NoiseStream::new(0, "test").normal(&rows, 0, shape, device)
}

fn host(tensor: &Tensor<1>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// bias, then weight: the order of names.
fn flat(module: &Small) -> Vec<f64> {
    params::values(module).values().flat_map(host).collect()
}

fn named(vectors: &[(&str, &[f32])]) -> Named {
    let vector =
        |&(name, values): &(&str, &[f32])| (name.to_owned(), Tensor::from_floats(values, &cpu()));
    vectors.iter().map(vector).collect()
}

fn cpu() -> Device {
    Device::flex()
}

fn rate(step: usize) -> f64 {
    0.01 * step as f64
}

/// One update of all parameters and of one average.
fn update(
    optimizer: &mut dyn Optimizer,
    module: Small,
    ema: &mut Ema,
    gradients: Named,
    step: &Step,
) -> Small {
    let shapes = params::trained(&module);
    let averages = std::slice::from_mut(ema);
    optim::step(optimizer, module, averages, gradients, &shapes, step)
}

fn step(number: usize, clip: f64) -> Step {
    Step {
        number: number as u64,
        learning_rate: rate(number),
        clip,
    }
}

/// Twenty steps with Burn's AdamW, an independent implementation.
///
/// Burn computes 1 − βᵗ in f32: with β₂ = 0.999 at t = 1 that is 0.001 with an error of up to two
/// roundings of 1, 1.2e-4 relative, of which the root makes 6e-5 of the update. Every update is
/// at most about the rate, and the rates add up to 2.1.
#[test]
fn the_optimizer_agrees_with_burns_adamw() {
    let device = cpu().autodiff();
    let mut ours = Small::new(&device);
    let mut theirs = ours.clone();
    let mut adamw = AdamW::new(SETTINGS);
    let mut ema = Ema::new(&ours, 0.9);
    let mut burns = AdamWConfig::new()
        .with_beta_1(0.9)
        .with_beta_2(0.999)
        .with_epsilon(1e-8)
        .with_weight_decay(0.1)
        .init();
    let mut rates = 0.0;
    for n in 1..=STEPS {
        let gradients = theirs.loss(n as u64).backward();
        let named = params::gradients(&theirs, &gradients);
        let gradients = GradientsParams::from_grads(gradients, &theirs);
        ours = update(&mut adamw, ours, &mut ema, named, &step(n, 1.0));
        theirs = burns.step(rate(n), theirs, gradients);
        rates += rate(n);
        for (ours, theirs) in flat(&ours).iter().zip(flat(&theirs)) {
            let off = (ours - theirs).abs();
            assert!(off < 6e-5 * rates, "step {n}: {ours} is not {theirs}");
        }
    }
}

/// Algorithm 2 of Loshchilov & Hutter 2019, written down in f64 and fed the same gradients, halved
/// by clipping, with the kernels and without.
///
/// In f32 each update rounds a few times, relative to itself and to the parameter, of order 1: ten
/// roundings of 1 a step are more than enough.
#[test]
fn the_optimizer_follows_the_paper() {
    for kernels in [true, false] {
        ddpm_kernels::enable(kernels);
        let device = cpu().autodiff();
        let mut module = Small::new(&device);
        let mut adamw = AdamW::new(SETTINGS);
        let mut ema = Ema::new(&module, 0.0);
        let mut expected = flat(&module);
        let start = expected.clone();
        let (mut mean, mut square) = (vec![0.0; expected.len()], vec![0.0; expected.len()]);
        let [beta_1, beta_2] = [SETTINGS.beta_1, SETTINGS.beta_2];
        for n in 1..=STEPS {
            let gradients = params::gradients(&module, &module.loss(n as u64).backward());
            let values: Vec<f64> = gradients.values().flat_map(host).collect();
            module = update(&mut adamw, module, &mut ema, gradients, &step(n, 0.5));
            let [bias_1, bias_2] = [beta_1, beta_2].map(|beta| 1.0 - beta.powf(n as f64));
            for (i, g) in values.into_iter().map(|g| 0.5 * g).enumerate() {
                mean[i] = beta_1 * mean[i] + (1.0 - beta_1) * g;
                square[i] = beta_2 * square[i] + (1.0 - beta_2) * g * g;
                let update = mean[i] / bias_1 / ((square[i] / bias_2).sqrt() + SETTINGS.epsilon);
                expected[i] -= rate(n) * (update + SETTINGS.weight_decay * expected[i]);
            }
        }
        let mut moved: f64 = 0.0;
        for ((found, expected), start) in flat(&module).iter().zip(&expected).zip(&start) {
            let off = (found - expected).abs();
            let tolerance = 10.0 * STEPS as f64 * ROUNDING;
            assert!(
                off < tolerance,
                "kernels {kernels}: {found} is not {expected}"
            );
            moved = moved.max((found - start).abs());
        }
        // The tolerance says something: parameters moved ten thousand times further.
        assert!(moved > 0.1, "{moved}");
        // An average that forgets at once is the network itself.
        assert_eq!(flat(&ema.module(&module)), flat(&module));
    }
    ddpm_kernels::enable(true);
}

/// (3, 4) and (12) have the joint norm 13, which one factor brings to the limit. The 1e-6 that
/// guards the division takes 1e-6/13 of it.
#[test]
fn clipping_is_one_factor_for_all_gradients() {
    let gradients = named(&[("a", &[3.0, -4.0]), ("b", &[12.0])]);
    let norm = params::norm(&gradients);
    assert_eq!(norm, 13.0);
    let factor = clip(norm, Some(6.5));
    assert!(
        factor < 0.5 && factor > 0.5 * (1.0 - 1e-6 / 12.9),
        "{factor}"
    );
    assert_eq!(
        [None, Some(13.0), Some(1e9)].map(|limit| clip(norm, limit)),
        [1.0; 3]
    );
    assert_eq!(clip(0.0, Some(1.0)), 1.0);
    assert_eq!(params::norm(&Named::new()), 0.0);
}

/// The average after n updates in closed form: ē_n = e₀·Πd_i + Σ_k (1 − d_k)·e_k·Π_{i>k} d_i, with
/// d_k = min(d, (1 + k)/(10 + k)). With d = 0.5 the warmup ends at k = 8, with 0.99 never.
///
/// Each update rounds two factors, two products and a sum, and the decays shrink what came
/// before: 3 roundings an update are more than enough.
#[test]
fn the_average_is_the_closed_form_sum() {
    let device = cpu().autodiff();
    for decay in [0.0_f64, 0.5, 0.99] {
        let at = |k: usize| {
            let k = k as f64;
            decay.min((1.0 + k) / (10.0 + k))
        };
        let modules: Vec<Small> = (0..=STEPS)
            .map(|k| params::update(Small::new(&device), |_, v| v * 0.3 + (k as f64).sin()))
            .collect();
        // A rate of 0 moves nothing but the average.
        let mut ema = Ema::new(&modules[0], decay);
        let mut adamw = AdamW::new(SETTINGS);
        for (n, module) in modules.iter().enumerate().skip(1) {
            let zeros = params::values(module).into_iter();
            let zeros = zeros
                .map(|(name, value)| (name, value.zeros_like()))
                .collect();
            let at = Step {
                learning_rate: 0.0,
                ..step(n, 1.0)
            };
            let same = update(&mut adamw, module.clone(), &mut ema, zeros, &at);
            assert_eq!(flat(&same), flat(module));
        }
        let weight = |k: usize| {
            let own = if k == 0 { 1.0 } else { 1.0 - at(k) };
            own * (k + 1..=STEPS).map(at).product::<f64>()
        };
        let rows: Vec<Vec<f64>> = modules.iter().map(flat).collect();
        for (i, found) in flat(&ema.module(&modules[0])).into_iter().enumerate() {
            let terms = |size: fn(f64) -> f64| -> f64 {
                (0..=STEPS).map(|k| weight(k) * size(rows[k][i])).sum()
            };
            let (expected, size) = (terms(|e| e), terms(f64::abs));
            let tolerance = 3.0 * STEPS as f64 * ROUNDING * size;
            assert!(
                (found - expected).abs() <= tolerance,
                "{found} is not {expected}"
            );
        }
    }
}

/// The first decays by hand: a young average forgets its random start.
#[test]
fn the_average_warms_up() {
    let ema = Ema::new(&Small::new(&cpu()), 0.9);
    assert_eq!([1, 8, 80].map(|n| ema.decay_at(n)), [2.0 / 11.0, 0.5, 0.9]);
    assert_eq!(ema.decay_at(u64::MAX), 0.9);
}
