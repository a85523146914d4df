//! The reverse loop: single steps, solvers of several stages, and the kinds of denoisers.

use std::cell::{Cell, RefCell};

use burn::tensor::{Device, Tensor};
use ddpm_process::{
    AfterClip, Clip, Clipped, Denoiser, Guided, NoiseStream, Prediction, Predictor, Reverse,
};
use ddpm_schedule::solver::{
    Bh, Churn, Ddim, Eta, Frame, Heun, Info, Interpolant, Method, Position, Row, Solver,
    SolverError, Step, UniPc, run,
};
use ddpm_schedule::{
    Grid, Levels, NoiseLevel, NoiseSchedule, Objective, Parametrization, Process, Weighting,
};

use crate::{DDIM, DPMPP_2M, SMALL, linear, trailing, values};

const HEUN: Heun = Heun {
    frame: Frame::Sigma,
    churn: Churn::NONE,
};
const UNIPC: UniPc = UniPc {
    interpolant: Interpolant::X0,
    order: 2,
    b: Bh::Bh2,
    lower_order_final: false,
};

fn x() -> Tensor<2> {
    Tensor::from_floats([[1.5, -0.5], [0.25, 2.0]], &Device::flex())
}

/// E[x₀ | x_t] of N(0.4, 0.5²), as gain·x_t + offset.
fn gauss(at: NoiseLevel) -> (f64, f64) {
    let (a, b) = (at.signal(), at.noise());
    let gain = 0.25 * a / (0.25 * a * a + b * b);
    (gain, 0.4 * (1.0 - gain * a))
}

fn denoiser(x: Tensor<2>, at: NoiseLevel) -> Tensor<2> {
    let (gain, offset) = gauss(at);
    x * gain + offset
}

fn none(_: u32) -> Tensor<2> {
    panic!("the solver uses no noise")
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (&found, expected) in found.iter().zip(expected) {
        let off = (f64::from(found) - expected).abs();
        assert!(off < tolerance, "{found} is not {expected}");
    }
}

/// `step` with the levels of the iterator returns the iterator's states, for solvers that reuse
/// earlier evaluations.
#[test]
fn single_steps_equal_the_iterators() {
    let levels = trailing(&linear(), 8);
    let solvers: [&dyn Solver; 4] = [&DDIM, &DPMPP_2M, &HEUN, &UNIPC];
    for solver in solvers {
        let all = Reverse::new(denoiser, solver, levels.as_slice(), x(), none).unwrap();
        let mut by_hand = Reverse::new(denoiser, solver, &[], x(), none).unwrap();
        assert_eq!(by_hand.len(), 0);
        for (state, (t, s)) in all.zip(levels.pairs()) {
            let found = by_hand.step(t, s).unwrap();
            assert_eq!((found.from, found.to), (t, s));
            assert_eq!(values(found.x), values(state.x.clone()));
            assert_eq!(values(found.x0), values(state.x0));
            assert_eq!(values(by_hand.x().clone()), values(state.x));
        }
    }
}

/// Noise is numbered consecutively, in single steps as in the iterator.
#[test]
fn noise_is_counted_from_one() {
    let schedule = linear();
    let levels = trailing(&schedule, 5);
    let asked = RefCell::new(Vec::new());
    let noise = |n| {
        asked.borrow_mut().push(n);
        Tensor::<2>::ones([2, 2], &Device::flex())
    };
    let mut reverse = Reverse::new(denoiser, SMALL, levels.as_slice(), x(), noise).unwrap();
    reverse.next();
    assert_eq!(*asked.borrow(), [1]);
    let [t, s] = [levels.as_slice()[1], levels.as_slice()[2]];
    reverse.step(t, s).unwrap();
    // A step to clean data adds no noise.
    reverse.step(s, NoiseLevel::CLEAN).unwrap();
    reverse.step(t, s).unwrap();
    drop(reverse);
    assert_eq!(asked.take(), [1, 2, 3]);

    // Two noises per step, one of them in the middle.
    let sde = "dpmpp-sde".parse::<Method>().unwrap();
    let solver = sde.solver(&schedule.into(), &levels);
    let reverse = Reverse::new(denoiser, solver, levels.as_slice(), x(), noise).unwrap();
    reverse.last();
    assert_eq!(asked.take(), (1..=8).collect::<Vec<_>>());
}

/// After `forget` a step of DPM-Solver++ has order 1: it is DDIM's.
#[test]
fn forgotten_evaluations_are_not_used() {
    let levels = trailing(&linear(), 8);
    let levels = levels.as_slice();
    let mut reverse = Reverse::new(denoiser, DPMPP_2M, &levels[..4], x(), none).unwrap();
    let state = reverse.by_ref().last().unwrap();
    let [t, s] = [levels[3], levels[4]];
    let second = reverse.step(t, s).unwrap().x;
    // The same step again, without the evaluations.
    *reverse.x() = state.x.clone();
    reverse.forget();
    let first = values(reverse.step(t, s).unwrap().x);
    let mut ddim = Reverse::new(denoiser, DDIM, &[], state.x, none).unwrap();
    let expected: Vec<_> = values(ddim.step(t, s).unwrap().x);
    let expected: Vec<_> = expected.into_iter().map(f64::from).collect();
    assert_close(&first, &expected, 1e-6);
    assert!((values(second)[0] - first[0]).abs() > 1e-3);
}

/// The state may be changed between two steps, as RePaint's steps back and masks do.
#[test]
fn a_state_can_be_changed() {
    let levels = trailing(&linear(), 4);
    let levels = levels.as_slice();
    let mut reverse = Reverse::new(denoiser, DDIM, &[], x(), none).unwrap();
    reverse.step(levels[0], levels[1]).unwrap();
    let up = levels[0].transition(levels[1]);
    let raised = reverse.x().clone() * up.signal + up.variance.sqrt();
    *reverse.x() = raised.clone();
    // The newest evaluation is at the same level, but of another x.
    reverse.forget();
    let found = reverse.step(levels[0], levels[1]).unwrap().x;
    let mut other = Reverse::new(denoiser, DDIM, &[], raised, none).unwrap();
    let expected = other.step(levels[0], levels[1]).unwrap().x;
    assert_eq!(values(found), values(expected));
}

#[test]
fn a_step_that_cannot_be_taken_is_an_error() {
    let untouched = |_: Tensor<2>, _: NoiseLevel| -> Tensor<2> { panic!("asked") };
    let [less, more] = [0.9, 0.1].map(|ᾱ| NoiseLevel::variance_preserving(ᾱ).unwrap());
    let mut reverse = Reverse::new(untouched, SMALL, &[], x(), none).unwrap();
    let (from, to) = (less.log_snr(), more.log_snr());
    let refused = reverse.step(less, more).unwrap_err();
    assert_eq!(refused, SolverError::AddsNoise { from, to });
    assert_eq!(values(reverse.x().clone()), values(x()));
    assert_eq!(reverse.evaluations(), 0);
}

/// Every solver of the table, on tensors and on plain numbers in f64 with the same noise, for
/// Gaussian data in every kind of process.
#[test]
fn the_loop_on_tensors_equals_the_loop_on_numbers() {
    let processes = [
        Process::from(linear()),
        Process::edm(0.05, 20.0).unwrap(),
        Process::flow(1.0).unwrap(),
    ];
    for process in processes {
        let levels = Grid::Linspace.levels(&process, 7).unwrap();
        // A flow's first level has no signal, and some solvers need it.
        let levels = Levels::new(levels.as_slice()[1..].iter().copied()).unwrap();
        let std = levels.start().prior_std();
        for info in Info::all() {
            let method: Method = info.name.parse().unwrap();
            let solver = method.solver(&process, &levels);
            let stream = NoiseStream::new(3, "test");
            let noise = |n| stream.normal(&[0, 1], n, [2, 2], &Device::flex());
            let predict = |x: Tensor<2>, at: NoiseLevel| {
                let x0 = denoiser(x, at);
                let share = Some(x0.zeros_like());
                let eps = None;
                Prediction { x0, eps, share }
            };
            let start = x() * std;
            let numbers = values(start.clone()).into_iter().map(f64::from).collect();
            let draws = Cell::new(0);
            let scalar_noise = |_| {
                draws.set(draws.get() + 1);
                values(noise(draws.get()))
                    .into_iter()
                    .map(f64::from)
                    .collect()
            };
            let scalar = |x: &[f64], at: NoiseLevel| {
                let (gain, offset) = gauss(at);
                x.iter().map(|x| gain * x + offset).collect()
            };
            let expected = run(&solver, levels.as_slice(), numbers, scalar, scalar_noise);
            let reverse = Reverse::new(predict, &solver, levels.as_slice(), start, noise);
            let found = values(reverse.unwrap().last().unwrap().x);
            // Seven steps of f32, with rows whose factors reach 100.
            assert_close(&found, &expected.unwrap(), 2e-4);
        }
    }
}

/// Heun evaluates twice per step except in the last: 2N − 1 times. With x̂₀ of Gaussian data it
/// follows the exact flow x/a = 0.4 + (x_T/a − 0.4)·√(0.25 + σ²)/√(0.25 + σ_T²), with an error of
/// order 2.
#[test]
fn heun_follows_the_exact_flow() {
    let process = Process::edm(0.002, 80.0).unwrap();
    let start = NoiseLevel::variance_exploding(80.0).unwrap();
    let spread = |at: NoiseLevel| (0.25 + at.sigma().powi(2)).sqrt();
    let error = |n: usize| {
        let levels = Grid::Karras { rho: 7.0 }.levels(&process, n).unwrap();
        let mut reverse =
            Reverse::new(denoiser, HEUN, levels.as_slice(), x() * 80.0, none).unwrap();
        let mut largest = 0.0_f64;
        for state in reverse.by_ref() {
            let share = spread(state.to) / spread(start);
            for (found, x) in values(state.x).into_iter().zip(values(x())) {
                let exact = 0.4 + (80.0 * f64::from(x) - 0.4) * share;
                largest = largest.max((f64::from(found) - exact).abs() / spread(state.to));
            }
        }
        assert_eq!(reverse.evaluations() as usize, 2 * n - 1);
        largest
    };
    let (coarse, fine) = (error(20), error(40));
    assert!(coarse < 0.1, "{coarse}");
    let ratio = coarse / fine;
    assert!((3.0..6.0).contains(&ratio), "{coarse} {fine}");
}

/// A closure that returns x̂₀ or a prediction, a function, a box, a reference to any of them by `dyn`,
/// and references to the denoisers of this crate.
#[test]
#[expect(
    clippy::needless_pass_by_value,
    clippy::needless_borrows_for_generic_args,
    reason = "the test is that values and references are denoisers"
)]
fn closures_boxes_and_references_are_denoisers() {
    fn x0_of(denoiser: impl Denoiser<2>) -> Vec<f32> {
        let at = NoiseLevel::new(0.6, 0.8).unwrap();
        values(denoiser.predict(x(), at).x0)
    }
    let closure = |x: Tensor<2>, at: NoiseLevel| x * at.signal();
    let prediction = |x: Tensor<2>, at: NoiseLevel| Prediction::from(x * at.signal());
    let expected = x0_of(closure);
    assert_eq!(expected, values(x() * 0.6));
    assert_eq!(x0_of(prediction), expected);
    assert_eq!(x0_of(&closure), expected);
    let boxed: Box<dyn Denoiser<2>> = Box::new(closure);
    assert_eq!(x0_of(&*boxed), expected);
    assert_eq!(x0_of(boxed), expected);

    let objective = Objective::new(linear(), Parametrization::X0, Weighting::Simple).unwrap();
    let predictor = Predictor {
        network: |x: Tensor<2>, _: Tensor<1>| x * 0.6,
        objective: &objective,
    };
    let clipped = Clipped {
        denoiser: &predictor,
        clip: Clip::to(9.0).unwrap(),
        epsilon: AfterClip::Derived,
    };
    let guided = Guided {
        conditional: &clipped,
        base: &predictor,
        weight: 2.0,
    };
    for found in [
        x0_of(&predictor),
        x0_of(&clipped),
        x0_of(&guided),
        x0_of(guided),
    ] {
        assert_eq!(found, expected);
    }
}

/// A solver uses the denoiser's own ε̂: x_s = a_s·x̂₀ + b_s·ε̂.
#[test]
fn a_solver_uses_the_denoisers_epsilon() {
    let [t, s] = [0.3, 0.6].map(|ᾱ| NoiseLevel::variance_preserving(ᾱ).unwrap());
    let own = |x: Tensor<2>, _: NoiseLevel| Prediction {
        x0: x.clone() * 0.5,
        eps: Some(x * -0.25),
        share: None,
    };
    let mut reverse = Reverse::new(own, DDIM, &[t, s], x(), none).unwrap();
    let found = values(reverse.next().unwrap().x);
    let factor = 0.5 * s.signal() - 0.25 * s.noise();
    let expected: Vec<_> = values(x()).iter().map(|x| factor * f64::from(*x)).collect();
    assert_close(&found, &expected, 1e-6);
    let level = NoiseLevel::new(0.6, 0.8).unwrap();
    let predicted = own.predict(x(), level);
    assert_eq!(values(predicted.epsilon(&x(), level)), values(x() * -0.25));
    let derived = Prediction::from(x() * 0.5).epsilon(&x(), level);
    let expected: Vec<_> = values(x()).iter().map(|x| 0.875 * f64::from(*x)).collect();
    assert_close(&values(derived), &expected, 1e-6);
}

/// A solver that evaluates again at earlier inputs: the reverse loop keeps as many evaluations as
/// its memory says, and refuses a row that combines more.
#[test]
fn a_solver_declares_its_memory() {
    struct LooksBack {
        back: usize,
        memory: usize,
    }

    impl Solver for LooksBack {
        fn step(&self, at: &Position) -> Step {
            let k = self.back.min(at.past.len());
            Step::one(at.t, Row::x0(k))
        }

        fn memory(&self) -> usize {
            self.memory
        }
    }

    let levels = trailing(&linear(), 6);
    let shown = |x: Tensor<2>, at: NoiseLevel| x.zeros_like() + at.noise();
    let (back, memory) = (2, 3);
    let solver = LooksBack { back, memory };
    let reverse = Reverse::new(shown, solver, levels.as_slice(), x(), none).unwrap();
    for (i, state) in reverse.enumerate() {
        let expected = levels.as_slice()[i.saturating_sub(2)].noise();
        assert_close(&values(state.x), &[expected; 4], 1e-6);
    }
    let memory = 2;
    let solver = LooksBack { back, memory };
    let refused = Reverse::new(shown, solver, levels.as_slice(), x(), none).err();
    let from = levels.as_slice()[2].log_snr();
    let (wanted, known) = (3, 2);
    let expected = SolverError::Forgotten {
        from,
        wanted,
        known,
    };
    assert_eq!(refused, Some(expected));
}

/// Predictor and corrector: N evaluations, one fewer than with an evaluation at the end.
#[test]
fn a_corrector_costs_nothing() {
    let levels = trailing(&linear(), 6);
    let mut reverse = Reverse::new(denoiser, UNIPC, levels.as_slice(), x(), none).unwrap();
    while reverse.next().is_some() {}
    assert_eq!(reverse.evaluations(), 6);
}

/// DDIM with η = 1 and the ideal denoiser keeps the unit variance of standard normal data.
#[test]
fn ddim_of_eta_one_keeps_unit_variance() {
    let schedule = NoiseSchedule::cosine(200, 0.008).unwrap();
    let levels = trailing(&schedule, 200);
    let samples: Vec<u64> = (0..4000).collect();
    let stream = NoiseStream::new(5, "test");
    let noise = |n| stream.normal(&samples, n, [4000, 1], &Device::flex());
    let normal = |x: Tensor<2>, at: NoiseLevel| x * at.signal();
    let eta = Eta::ONE;
    let reverse = Reverse::new(normal, Ddim { eta }, levels.as_slice(), noise(0), noise).unwrap();
    let x = values(reverse.last().unwrap().x);
    let variance = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 4000.0;
    // 4000 samples: a standard error of 0.022, of which five; and steps of 1/200.
    assert!((variance - 1.0).abs() < 0.13, "{variance}");
}
