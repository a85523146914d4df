//! A file of diffusers, read and run on the fixtures of its tests: 768 numbers and a network that is
//! a formula.

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_interop::diffusers::scheduler::{Boundary, Clock, Scheduler};
use ddpm_process::{AfterClip, Clip, Reverse};
use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{Position, Row, Solver, Step};

use crate::torch::Torch;

/// `sample[b, c, h, w]` = (((c·8 + h)·8 + w)·4 + b)/768, rows first.
fn sample() -> Vec<f64> {
    let value = |i: usize| (i % 192) * 4 + i / 192;
    (0..768).map(|i| value(i) as f64 / 768.0).collect()
}

/// A run of a scheduler.
struct Run<'a> {
    scheduler: &'a Scheduler,
    clock: Clock,
    torch: Torch,
    /// The levels of all evaluations, the newest first.
    asked: Vec<NoiseLevel>,
    /// (x, x̂₀) of those that are kept.
    past: Vec<(Vec<f64>, Vec<f64>)>,
    /// Whether every step draws one noise, used or not.
    draws_always: bool,
}

/// Σ|x| after `n` steps from sample·[`Scheduler::prior_std`], x being that of diffusers.
pub(crate) fn sum(scheduler: &Scheduler, n: u32) -> f64 {
    let levels = scheduler.levels(n).unwrap();
    let rule = scheduler.rule(&levels);
    let clock = scheduler.clock(&levels);
    let mut run = Run {
        scheduler,
        clock,
        torch: Torch::new(0),
        asked: Vec::new(),
        past: Vec::new(),
        draws_always: rule.name() == "sa-solver",
    };
    let std = scheduler.prior_std(levels.start());
    let mut x: Vec<f64> = sample().into_iter().map(|x| x * std).collect();
    let all = levels.as_slice();
    for (i, pair) in all.windows(2).enumerate() {
        let past = run.asked.clone();
        let step = rule.step(&Position {
            past: &past,
            t: pair[0],
            s: pair[1],
            left: Some(all.len() - 2 - i),
        });
        x = run.step(&step, &x);
        run.past.truncate(rule.memory());
    }
    let size: f64 = x.iter().map(|x| x.abs()).sum();
    // Classes of σ step x/a; the others end where a = 1, or at the least noise as we do.
    let of_sigma = ["euler", "heun", "lms", "dpm2"];
    if of_sigma.iter().any(|name| rule.name().starts_with(name)) {
        size / levels.end().signal()
    } else {
        size
    }
}

impl Run<'_> {
    fn step(&mut self, step: &Step, state: &[f64]) -> Vec<f64> {
        let mut z = Vec::new();
        if self.draws_always {
            z.push(self.torch.randn(state.len()));
        }
        for (at, row) in &step.asks {
            let shown = self.row(row, state, &mut z);
            let (x0, eps) = self.denoised(&shown, *at);
            let (a, b) = (at.signal(), at.noise());
            let shown = x0.iter().zip(eps).map(|(x0, eps)| a * x0 + b * eps);
            let shown = shown.collect();
            self.asked.insert(0, *at);
            self.past.insert(0, (shown, x0));
        }
        self.row(&step.last, state, &mut z)
    }

    /// x̂₀ and ε̂ of the network m(x, t) = x·t/(t + 1).
    fn denoised(&self, x: &[f64], at: NoiseLevel) -> (Vec<f64>, Vec<f64>) {
        let scheduler = self.scheduler;
        let time = self.clock.time(at);
        let c = scheduler.objective.preconditioning(at);
        let sign = if scheduler.negated { -1.0 } else { 1.0 };
        let output = |x: f64| sign * c.c_in * x * time / (time + 1.0);
        let (a, b) = (at.signal(), at.noise());
        let mut x0: Vec<f64> = x
            .iter()
            .map(|&x| c.c_skip * x + c.c_out * output(x))
            .collect();
        let eps = |x0: &[f64]| x.iter().zip(x0).map(|(x, x0)| (x - a * x0) / b).collect();
        let own: Vec<f64> = eps(&x0);
        let bound = |x0: &mut [f64]| {
            if let Some(boundary) = scheduler.boundary {
                let [of_x, of_x0] = boundary.factors(at, time);
                for (x0, x) in x0.iter_mut().zip(x) {
                    *x0 = of_x * x + of_x0 * *x0;
                }
            }
        };
        let before = matches!(scheduler.boundary, Some(Boundary::Sigma { .. }));
        if before {
            bound(&mut x0);
        }
        clip(scheduler.clip, &mut x0);
        if !before {
            bound(&mut x0);
        }
        let derived = scheduler.clip.is_some() && scheduler.epsilon == AfterClip::Derived;
        let eps = if derived { eps(&x0) } else { own };
        (x0, eps)
    }

    fn row(&mut self, row: &Row, state: &[f64], z: &mut Vec<Vec<f64>>) -> Vec<f64> {
        let drawn = row.z.iter().rposition(|&z| z != 0.0).map_or(0, |j| j + 1);
        while z.len() < drawn {
            z.push(self.torch.randn(state.len()));
        }
        let value = |i: usize| {
            let mut sum = if row.state == 0.0 {
                0.0
            } else {
                row.state * state[i]
            };
            for (term, (x, x0)) in row.past.iter().zip(&self.past) {
                let [x, x0] = [(term.x, x[i]), (term.x0, x0[i])]
                    .map(|(factor, value)| if factor == 0.0 { 0.0 } else { factor * value });
                sum += x + x0;
            }
            let noise = row.z.iter().zip(z.iter());
            sum + noise.map(|(factor, z)| factor * z[i]).sum::<f64>()
        };
        (0..state.len()).map(value).collect()
    }
}

/// The clip of the tables. Their thresholding has a `sample_max_value` below 1, which is refused.
fn clip(clip: Option<Clip>, x0: &mut [f64]) {
    let Some(clip) = clip else { return };
    assert_eq!(clip, Clip::UNIT);
    for x0 in x0 {
        *x0 = x0.clamp(-1.0, 1.0);
    }
}

/// The same on tensors of single precision, by [`Scheduler::denoiser`] and [`Scheduler::bounded`];
/// for a scheduler that adds no noise.
pub(crate) fn sum_of_tensors(scheduler: &Scheduler, n: u32) -> f64 {
    let device = Device::flex();
    let levels = scheduler.levels(n).unwrap();
    let rule = scheduler.rule(&levels);
    let clock = scheduler.clock(&levels);
    let network = |x: Tensor<2>, t: Tensor<1>| {
        let t = t.reshape([4, 1]);
        x * (t.clone() / (t + 1.0))
    };
    let denoiser = scheduler.bounded(scheduler.denoiser(network, &clock), &clock);
    #[expect(clippy::cast_possible_truncation, reason = "tensors are of f32")]
    let values: Vec<f32> = sample().into_iter().map(|x| x as f32).collect();
    let x = Tensor::from_data(TensorData::new(values, [4, 192]), &device);
    let x = x * scheduler.prior_std(levels.start());
    let noise = |_| unreachable!("no noise is added");
    let walk = Reverse::new(denoiser, &rule, levels.as_slice(), x, noise).unwrap();
    let size = walk.last().unwrap().x.abs().sum().into_scalar::<f32>();
    f64::from(size) / levels.end().signal()
}
