//! Properties of every process, every shape and every batch, on random inputs.

use std::cell::RefCell;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_process::{Denoiser, Guided, Predictor, Reverse, diffuse, training_loss, transition};
use ddpm_schedule::solver::{Ddim, Eta, Solver};
use ddpm_schedule::{Levels, NoiseLevel, NoiseSchedule, Objective, Parametrization, Weighting};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::{DPMPP_2M, LARGE, values};

/// Half a unit in the last place of an f32 near 1: the relative effect of one rounding.
const ROUNDING: f64 = 1.0 / 16_777_216.0;

/// The number of values in a row; 12 is 3×4 and 1×4×3 as well.
const ROW: usize = 12;

/// (a_t, b_t) for t = 1, 2, … of any Gaussian process: the signal is arbitrary, and the log-SNR
/// falls to at least −18.
fn process() -> impl Strategy<Value = Vec<(f64, f64)>> {
    let step = (0.1..2.0_f64, 0.05..2.0_f64);
    (4.0..8.0_f64, prop::collection::vec(step, 1..12)).prop_map(|(mut log_snr, steps)| {
        let level = |(a, fall): (f64, f64)| {
            log_snr -= fall;
            (a, a * (-0.5 * log_snr).exp())
        };
        steps.into_iter().map(level).collect()
    })
}

fn schedule(process: &[(f64, f64)]) -> NoiseSchedule {
    let levels = process.iter().map(|&(a, b)| NoiseLevel::new(a, b).unwrap());
    NoiseSchedule::from_levels(levels).unwrap()
}

/// One row of a batch: x₀, ε and which of the process's times it is at.
type Row = ([f32; ROW], [f32; ROW], Index);

fn row() -> impl Strategy<Value = Row> {
    let values = || prop::array::uniform12(-3.0..3.0_f32);
    (values(), values(), any::<Index>())
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(row(), 1..5)
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// All rows' x₀ and ε as tensors of one shape.
fn batch<const D: usize>(rows: &[Row], shape: [usize; D]) -> (Tensor<D>, Tensor<D>) {
    let x0 = rows.iter().flat_map(|row| row.0).collect();
    let eps = rows.iter().flat_map(|row| row.1).collect();
    (tensor(x0, shape), tensor(eps, shape))
}

/// The numbers of a batch, one after the other: (x₀, ε, place of its row's time in the process).
fn numbers<'a>(rows: &'a [Row], times: &'a [usize]) -> impl Iterator<Item = (f64, f64, usize)> {
    let numbers = |((x0, eps, _), &t): (&'a Row, &usize)| {
        x0.iter()
            .zip(eps)
            .map(move |(&x0, &eps)| (f64::from(x0), f64::from(eps), t))
    };
    rows.iter().zip(times).flat_map(numbers)
}

/// (p, q) of the target p·x₀ + q·ε, from the definitions of ε, x₀ and v.
fn target(parametrization: Parametrization, (a, b): (f64, f64)) -> (f64, f64) {
    match parametrization {
        Parametrization::Epsilon => (0.0, 1.0),
        Parametrization::X0 => (1.0, 0.0),
        Parametrization::V => (-b, a),
        Parametrization::Flow => (-1.0, 1.0),
        Parametrization::Edm { sigma_data } => {
            let s = (a * sigma_data).hypot(b);
            (b / (s * sigma_data), -a * sigma_data / s)
        }
    }
}

/// The targets of a batch as a tensor, in f64 up to the last rounding.
#[allow(clippy::cast_possible_truncation)]
fn targets(
    parametrization: Parametrization,
    process: &[(f64, f64)],
    rows: &[Row],
    times: &[usize],
    shift: &[f64],
) -> Tensor<2> {
    let values = numbers(rows, times).enumerate().map(|(i, (x0, eps, t))| {
        let (p, q) = target(parametrization, process[t]);
        (p * x0 + q * eps + shift[i / ROW]) as f32
    });
    tensor(values.collect(), [rows.len(), ROW])
}

fn assert_close(found: f32, expected: f64, tolerance: f64) -> Result<(), TestCaseError> {
    let off = (f64::from(found) - expected).abs();
    prop_assert!(
        off <= tolerance,
        "{found} is not {expected}: off by {off:e}, more than {tolerance:e}"
    );
    Ok(())
}

proptest! {
    /// x_t = a_t·x₀ + b_t·ε in every rank, each row at its own time. Coefficient, product and sum
    /// round once each.
    #[test]
    fn diffusion_is_affine_row_by_row(process in process(), rows in rows()) {
        let schedule = schedule(&process);
        let n = rows.len();
        let times: Vec<usize> = rows.iter().map(|row| row.2.index(process.len())).collect();
        let steps: Vec<NoiseLevel> = schedule.iter().map(|t| schedule.level(t)).collect();
        let levels: Vec<NoiseLevel> = times.iter().map(|&t| steps[t]).collect();

        let (x0, eps) = batch(&rows, [n, ROW]);
        let flat = values(diffuse(x0, eps, &levels));
        let (x0, eps) = batch(&rows, [n, 3, 4]);
        let planes = values(diffuse(x0, eps, &levels));
        let (x0, eps) = batch(&rows, [n, 1, 4, 3]);
        let images = values(diffuse(x0, eps, &levels));
        prop_assert_eq!(&flat, &planes);
        prop_assert_eq!(&flat, &images);
        for (found, (x0, eps, t)) in flat.into_iter().zip(numbers(&rows, &times)) {
            let (a, b) = process[t];
            let terms = (a * x0).abs() + (b * eps).abs();
            assert_close(found, a * x0 + b * eps, 3.0 * ROUNDING * terms)?;
        }
    }

    /// T single steps have the law of one jump. Row 0 takes x₀ = 1 through steps without noise: the
    /// mean, a_T. Row k takes a unit of noise from step k on: the standard deviation that the step
    /// leaves. Their squares sum to b_T². Each step rounds a coefficient and a product, which
    /// squaring doubles: 4·T roundings.
    #[test]
    fn single_steps_compose_to_the_marginal(process in process()) {
        let schedule = schedule(&process);
        let steps = process.len();
        let unit = |row| {
            let values = (0..=steps).map(|i| if i == row { 1.0 } else { 0.0 });
            tensor(values.collect(), [steps + 1, 1])
        };
        let walk = schedule.iter().enumerate().fold(unit(0), |x, (k, t)| {
            transition(x, unit(k + 1), schedule.level(t).transition(schedule.previous(t)))
        });
        let walk = values(walk);
        let (a, b) = process[steps - 1];
        let tolerance = 4.0 * steps as f64 * ROUNDING;
        assert_close(walk[0], a, tolerance * a)?;
        let variance: f64 = walk[1..].iter().map(|&c| f64::from(c).powi(2)).sum();
        prop_assert!(
            (variance - b * b).abs() <= tolerance * b * b,
            "{variance} is not {}", b * b
        );
    }

    /// The output p·x₀ + q·ε determines x₀. Two sums of two products, with rounded coefficients,
    /// and the output's own rounding: at most 8 on any path.
    #[test]
    fn the_target_decodes_to_the_data(process in process(), rows in rows(), at: Index) {
        let at = at.index(process.len());
        let times = vec![at; rows.len()];
        let (a, b) = process[at];
        for parametrization in Parametrization::ALL {
            let objective =
                Objective::new(schedule(&process), parametrization, Weighting::Simple).unwrap();
            let (x0, eps) = batch(&rows, [rows.len(), ROW]);
            let level = NoiseLevel::new(a, b).unwrap();
            let x_t = diffuse(x0, eps, &vec![level; rows.len()]);
            let answer = targets(parametrization, &process, &rows, &times, &[0.0; 5]);
            let network = |_: Tensor<2>, _: Tensor<1>| answer.clone();
            let found = Predictor { network, objective: &objective }.predict(x_t, level).x0;

            let (p, q) = target(parametrization, (a, b));
            let determinant = (a * q - b * p).abs();
            for (found, (x0, eps, _)) in values(found).into_iter().zip(numbers(&rows, &times)) {
                let x_t = (a * x0).abs() + (b * eps).abs();
                let output = (p * x0).abs() + (q * eps).abs();
                let terms = (q.abs() * x_t + b * output) / determinant;
                assert_close(found, x0, 8.0 * ROUNDING * terms)?;
            }
        }
    }

    /// A network that is off by δ in every value of a row has the loss w_t·δ² there, and 0 up to
    /// rounding if δ is 0. The difference is of numbers as large as the target, so its error is
    /// some roundings of those.
    #[test]
    fn the_loss_is_the_weighted_square_of_the_miss(
        process in process(),
        rows in rows(),
        misses in prop::array::uniform5(prop_oneof![Just(0.0), 0.5..2.0_f64]),
    ) {
        let times: Vec<usize> = rows.iter().map(|row| row.2.index(process.len())).collect();
        let weighting = Weighting::MinSnr { gamma: 5.0 };
        for parametrization in Parametrization::ALL {
            let objective = Objective::new(schedule(&process), parametrization, weighting).unwrap();
            let levels = times.iter().map(|&t| NoiseLevel::new(process[t].0, process[t].1).unwrap());
            let levels: Vec<_> = levels.collect();
            let answer = targets(parametrization, &process, &rows, &times, &misses);
            let (x0, eps) = batch(&rows, [rows.len(), ROW]);
            let loss = training_loss(|_, _| answer, &objective, x0, eps, &levels);
            for (i, found) in values(loss).into_iter().enumerate() {
                let (p, q) = target(parametrization, process[times[i]]);
                let (miss, weight) = (misses[i], objective.weight(levels[i]));
                // |x₀| and |ε| are below 3.
                let error = 4.0 * ROUNDING * (3.0 * (p.abs() + q.abs()) + miss);
                let square = 2.0 * miss * error + error * error + 16.0 * ROUNDING * miss * miss;
                assert_close(found, weight * miss * miss, weight * square)?;
            }
        }
    }

    /// base + w·(conditional − base), and the same whether x̂₀ is guided or the network's output.
    #[test]
    fn guidance_extrapolates(
        process in process(),
        rows in rows(),
        at: Index,
        w in prop_oneof![Just(0.0), Just(1.0), Just(2.0), -3.0..8.0_f64],
    ) {
        let at = at.index(process.len());
        let (a, b) = process[at];
        let (x, other) = batch(&rows, [rows.len(), ROW]);
        for parametrization in Parametrization::ALL {
            let objective =
                Objective::new(schedule(&process), parametrization, Weighting::Simple).unwrap();
            let level = NoiseLevel::new(a, b).unwrap();
            let decoded = |answer: Tensor<2>| Predictor {
                network: move |_: Tensor<2>, _: Tensor<1>| answer.clone(),
                objective: &objective,
            };
            // The conditional network returns `other`, the base half of it.
            let [conditional, base] = [1.0, 0.5].map(|factor| decoded(other.clone() * factor));
            let answers = [&conditional, &base].map(|d| values(d.predict(x.clone(), level).x0));
            let guided = Guided { conditional, base, weight: w };
            let found = values(guided.predict(x.clone(), level).x0);
            if w == 0.0 {
                prop_assert_eq!(&found, &answers[1]);
            }
            for (i, &found) in found.iter().enumerate() {
                let [conditional, base] = [0, 1].map(|k| f64::from(answers[k][i]));
                let expected = base + w * (conditional - base);
                // The difference, the weight, the product and the sum round.
                let terms = base.abs() + w.abs() * (conditional.abs() + base.abs());
                assert_close(found, expected, 4.0 * ROUNDING * terms)?;
            }

            let mixed = decoded(other.clone() * (0.5 + w * 0.5));
            let (p, q) = target(parametrization, (a, b));
            let determinant = (a * q - b * p).abs();
            let mixed = values(mixed.predict(x.clone(), level).x0);
            for ((found, mixed), (x, other, _)) in
                found.into_iter().zip(mixed).zip(numbers(&rows, &vec![at; rows.len()]))
            {
                // As above; each x̂₀ is itself a sum of two rounded products.
                let size = (q.abs() * x.abs() + b * other.abs()) / determinant;
                let terms = (1.0 + 2.0 * w.abs()) * size;
                assert_close(found, f64::from(mixed), 8.0 * ROUNDING * terms)?;
            }
        }
    }

    /// The iterator visits the trajectory's times, each once and in order; evaluates the denoiser
    /// at the current state; draws noise if the sampler adds some; and ends in x̂₀.
    #[test]
    fn the_iterator_visits_the_trajectory(
        process in process(),
        visited in prop::array::uniform11(any::<bool>()),
        eta in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0_f64],
        start in row(),
    ) {
        let schedule = schedule(&process);
        let times: Vec<u32> = (1..=schedule.timesteps())
            .rev()
            .filter(|&t| visited[t as usize - 1] || t == 1)
            .collect();
        let level = |t: u32| schedule.level(schedule.timestep(t).unwrap());
        let levels = times.iter().map(|&t| level(t)).chain([NoiseLevel::CLEAN]);
        let levels = Levels::new(levels).unwrap();
        let ddim = Ddim { eta: Eta::new(eta).unwrap() };
        // Each solver, whether it is DDIM, and whether it adds noise.
        let solvers: [(&dyn Solver, bool, bool); 3] = [
            (&ddim, true, eta > 0.0),
            (&LARGE, false, true),
            (&DPMPP_2M, false, false),
        ];
        for (solver, is_ddim, is_noisy) in solvers {
            let shown = RefCell::new(Vec::new());
            let asked = RefCell::new(Vec::new());
            let denoiser = |x: Tensor<2>, at: NoiseLevel| {
                shown.borrow_mut().push((at, values(x.clone())));
                x * 0.5
            };
            let noise = |step| {
                asked.borrow_mut().push(step);
                tensor(start.1.to_vec(), [1, ROW])
            };
            let x = tensor(start.0.to_vec(), [1, ROW]);
            let mut reverse = Reverse::new(denoiser, solver, levels.as_slice(), x, noise).unwrap();
            let mut x = start.0.to_vec();
            for (i, &t) in times.iter().enumerate() {
                prop_assert_eq!(reverse.len(), times.len() - i);
                let state = reverse.next().unwrap();
                prop_assert_eq!(state.from, level(t));
                prop_assert_eq!(state.to, levels.as_slice()[i + 1]);
                prop_assert_eq!(shown.borrow_mut().pop(), Some((level(t), x.clone())));
                let half: Vec<f32> = x.iter().map(|x| 0.5 * x).collect();
                prop_assert_eq!(values(state.x0), half.clone());
                let s = times.get(i + 1).map(|&s| process[s as usize - 1]);
                let next = values(state.x);
                if let (true, Some(s)) = (is_ddim, s) {
                    let t = process[t as usize - 1];
                    for (k, &found) in next.iter().enumerate() {
                        let (expected, terms) = ddim_step(eta, t, s, x[k], start.1[k]);
                        // Three coefficients, three products and two sums round.
                        assert_close(found, expected, 8.0 * ROUNDING * terms)?;
                    }
                }
                if s.is_none() {
                    prop_assert_eq!(&next, &half);
                }
                x = next;
            }
            prop_assert!(reverse.next().is_none());
            let steps = u32::try_from(times.len()).unwrap();
            prop_assert_eq!(reverse.evaluations(), steps);
            drop(reverse);
            // Step i leads from the i-th time; the last one, to clean data, is never noisy.
            let expected: Vec<u32> = if is_noisy { (1..steps).collect() } else { Vec::new() };
            prop_assert_eq!(asked.into_inner(), expected);
        }
    }
}

/// Song et al. 2020, eq. 12 and 16, as written there but for any process, with x̂₀ = x_t/2: x_s,
/// and the sum of its terms' sizes.
fn ddim_step(eta: f64, t: (f64, f64), s: (f64, f64), x_t: f32, z: f32) -> (f64, f64) {
    let ((a_t, b_t), (a_s, b_s)) = (t, s);
    let (x_t, z) = (f64::from(x_t), f64::from(z));
    let x0 = 0.5 * x_t;
    let snr_ratio = (a_t * b_s / (a_s * b_t)).powi(2);
    let sigma = eta * b_s * (1.0 - snr_ratio).sqrt();
    let direction = (b_s * b_s - sigma * sigma).sqrt();
    let eps = (x_t - a_t * x0) / b_t;
    let sizes = (a_s * x0).abs() + direction * (x_t.abs() + (a_t * x0).abs()) / b_t;
    (
        a_s * x0 + direction * eps + sigma * z,
        sizes + (sigma * z).abs(),
    )
}
