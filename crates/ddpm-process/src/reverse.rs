//! The reverse process, from noise to data, with any solver.

use burn::tensor::Tensor;
use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{Position, Row, Solver, SolverError, Step, steps};

use crate::rows::assert_like;
use crate::{Denoiser, Prediction};

/// The result of one reverse step.
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::{Reverse, State};
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Churn, Euler};
///
/// let levels = [1.0, 0.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// # let x = Tensor::<2>::ones([1, 2], &burn::tensor::Device::flex());
/// let denoiser = |x: Tensor<2>, _: NoiseLevel| x * 0.5;
/// let euler = Euler { churn: Churn::NONE };
/// let mut reverse = Reverse::new(denoiser, euler, &levels, x, |_| unreachable!()).unwrap();
/// let State { to, x0, x, .. } = reverse.next().unwrap();
/// assert_eq!(to, NoiseLevel::CLEAN);
/// assert_eq!(x.into_data(), x0.into_data()); // the last step returns x̂₀
/// ```
#[derive(Clone, Debug)]
pub struct State<const D: usize> {
    /// The level that the step started from.
    pub from: NoiseLevel,
    /// The level that it led to.
    pub to: NoiseLevel,
    /// The newest prediction x̂₀.
    pub x0: Tensor<D>,
    /// The new state x_s; after the last step, the sample.
    pub x: Tensor<D>,
}

/// The reverse process of a batch.
///
/// As an iterator it takes one step x_t → x_s per item along the levels given to
/// [`new`](Self::new): `.last()` is the sample, `.step_by(k)` shows every k-th step, and `.len()`
/// counts the remaining steps. To choose the steps one by one, call [`step`](Self::step).
///
/// A [`Solver`] makes tables of numbers; this loop is the only one that applies them to tensors.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ddpm_process::{NoiseStream, Reverse};
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Ddim, Eta};
///
/// // The exact denoiser of data that is always 1.
/// let denoiser = |x_t: Tensor<2>, _: NoiseLevel| x_t.ones_like();
/// let levels = [0.01, 0.5, 0.99].map(|ᾱ| NoiseLevel::variance_preserving(ᾱ).unwrap());
/// let levels = [&levels[..], &[NoiseLevel::CLEAN]].concat();
///
/// let noise = NoiseStream::new(0, "sample");
/// # let device = Device::flex();
/// let z = |n| noise.normal(&[0, 1], n, [2, 3], &device);
/// let ddim = Ddim { eta: Eta::ZERO };
/// let reverse = Reverse::new(denoiser, ddim, &levels, z(0), z).unwrap();
/// let sample = reverse.last().unwrap().x;
/// # let largest = (sample - 1.0).abs().max().into_scalar::<f32>();
/// # assert!(largest < 1e-6);
/// ```
pub struct Reverse<const D: usize, M, S, Z> {
    denoiser: M,
    solver: S,
    steps: std::vec::IntoIter<(NoiseLevel, NoiseLevel, Step)>,
    x: Tensor<D>,
    /// The newest first, at most [`Solver::memory`].
    past: Vec<Evaluation<D>>,
    /// The levels of all evaluations, the newest first.
    asked: Vec<NoiseLevel>,
    noise: Z,
    draws: u32,
    evaluations: u32,
}

/// One evaluation of the denoiser.
struct Evaluation<const D: usize> {
    /// The denoiser's input, or a·x̂₀ + b·ε̂ if it predicted its own ε̂.
    x: Tensor<D>,
    x0: Tensor<D>,
    share: Option<Tensor<D>>,
    /// Whether `x` is the state at the start of the step, so that their factors add.
    is_state: bool,
}

impl<const D: usize, M, S, Z> Reverse<D, M, S, Z>
where
    M: Denoiser<D>,
    S: Solver,
    Z: FnMut(u32) -> Tensor<D>,
{
    /// Starts from a draw `x: [B, …]` of the prior: standard normal noise times the
    /// [`prior_std`](NoiseLevel::prior_std) of the first of the `levels` (1 for DDPM). The last
    /// level is the end.
    ///
    /// `noise(n)` returns the n-th standard normal noise, n = 1, 2, …, shaped like `x`. It is
    /// called only for noise whose factor is not 0. Number 0 is reserved for `x` itself, so that
    /// one [`NoiseStream`](crate::NoiseStream) serves both. A solver with one noise per step uses
    /// number n in step n, unless an earlier step adds none.
    ///
    /// # Errors
    ///
    /// If the solver cannot take these steps ([`Step::of`]): for example if it adds noise and the
    /// levels lead from data to noise, or if a factor is not finite in single precision.
    ///
    /// # Panics
    ///
    /// If `x` is on an autodiff device: sampling there would record a graph of every step. While
    /// iterating, if the prediction or the noise differs from `x` in shape or dtype, or if the
    /// solver needs a learned variance and the prediction has no [`share`](Prediction::share).
    pub fn new(
        denoiser: M,
        solver: S,
        levels: &[NoiseLevel],
        x: Tensor<D>,
        noise: Z,
    ) -> Result<Self, SolverError> {
        assert!(
            !x.device().is_autodiff(),
            "sampling needs a device without autodiff"
        );
        let pairs = levels.windows(2).zip(steps(&solver, levels)?);
        let steps: Vec<_> = pairs.map(|(ts, step)| (ts[0], ts[1], step)).collect();
        Ok(Self {
            denoiser,
            solver,
            steps: steps.into_iter(),
            x,
            past: Vec::new(),
            asked: Vec::new(),
            noise,
            draws: 0,
            evaluations: 0,
        })
    }

    /// Takes one step from the level `t` of the state to any level `s`, whatever levels
    /// [`new`](Self::new) was given.
    ///
    /// # Errors
    ///
    /// If the solver cannot take the step ([`Step::of`]).
    ///
    /// # Panics
    ///
    /// As while iterating.
    pub fn step(&mut self, t: NoiseLevel, s: NoiseLevel) -> Result<State<D>, SolverError> {
        let position = Position {
            past: &self.asked,
            t,
            s,
            left: None,
        };
        let step = Step::of(&self.solver, &position)?;
        Ok(self.take(t, s, &step))
    }

    /// The state, which may be changed. If the earlier evaluations do not belong to the new state,
    /// call [`forget`](Self::forget).
    pub fn x(&mut self) -> &mut Tensor<D> {
        &mut self.x
    }

    /// Drops the evaluations so far: the next step of a multistep solver is a first step again. The
    /// remaining steps of the iterator were made with these evaluations, so afterwards call
    /// [`step`](Self::step).
    pub fn forget(&mut self) {
        self.past.clear();
        self.asked.clear();
    }

    /// The value of a row for the current state and evaluations, which do not change.
    ///
    /// # Panics
    ///
    /// If the row combines more evaluations than are kept.
    pub fn value(&mut self, row: &Row) -> Tensor<D> {
        let (wanted, known) = (row.past.len(), self.past.len());
        assert!(
            wanted <= known,
            "the row combines {wanted} evaluations, but {known} are kept"
        );
        self.combine(row, &mut Vec::new())
    }

    /// The number of evaluations so far.
    pub fn evaluations(&self) -> u32 {
        self.evaluations
    }

    /// Makes the evaluations of the step, and updates the state.
    fn take(&mut self, t: NoiseLevel, s: NoiseLevel, step: &Step) -> State<D> {
        let mut z = Vec::new();
        for (at, row) in &step.asks {
            let is_state = *row == Row::state();
            let x = self.combine(row, &mut z);
            self.ask(x, *at, is_state);
        }
        let x = self.combine(&step.last, &mut z);
        self.x = x.clone();
        for past in &mut self.past {
            past.is_state = false;
        }
        let x0 = self.past.first().map_or(&self.x, |newest| &newest.x0);
        State {
            from: t,
            to: s,
            x0: x0.clone(),
            x,
        }
    }

    /// Evaluates the denoiser at x and keeps the prediction, whose tensors must be like x.
    fn ask(&mut self, x: Tensor<D>, at: NoiseLevel, is_state: bool) {
        let Prediction { x0, eps, share } = self.denoiser.predict(x.clone(), at);
        self.evaluations += 1;
        assert_like("the denoiser's x̂₀", &x0, &self.x);
        if let Some(share) = &share {
            assert_like("the denoiser's share of β", share, &self.x);
        }
        let is_state = is_state && eps.is_none();
        let x = match eps {
            None => x,
            Some(eps) => {
                assert_like("the denoiser's ε̂", &eps, &self.x);
                x0.clone() * at.signal() + eps * at.noise()
            }
        };
        let evaluation = Evaluation {
            x,
            x0,
            share,
            is_state,
        };
        self.past.insert(0, evaluation);
        self.asked.insert(0, at);
        self.past.truncate(self.solver.memory());
    }

    /// `state`·x_t + Σ_k (`past[k].x`·x⁽ᵏ⁾ + `past[k].x0`·x̂₀⁽ᵏ⁾) + Σ_j `z[j]`·e^(`z_span`·v)·z_j.
    fn combine(&mut self, row: &Row, z: &mut Vec<Tensor<D>>) -> Tensor<D> {
        if *row == Row::state() {
            return self.x.clone();
        }
        let mut terms = Vec::new();
        let mut of_state = row.state;
        for (term, past) in row.past.iter().zip(&self.past) {
            terms.push((term.x0, past.x0.clone()));
            if past.is_state {
                of_state += term.x;
            } else {
                terms.push((term.x, past.x.clone()));
            }
        }
        terms.push((of_state, self.x.clone()));
        for (j, &factor) in row.z.iter().enumerate() {
            if factor == 0.0 {
                continue;
            }
            let span = (row.z_span != 0.0).then(|| (self.share() * row.z_span).exp());
            while z.len() <= j {
                z.push(self.draw());
            }
            let noise = z[j].clone();
            terms.push((factor, span.map_or(noise.clone(), |span| noise * span)));
        }
        // A factor of 0 drops its term: no tensor is made for it, and no 0·∞ either.
        let terms = terms.into_iter().filter(|&(factor, _)| factor != 0.0);
        let terms = terms.map(|(factor, tensor)| tensor * factor);
        terms
            .reduce(|sum, term| sum + term)
            .unwrap_or_else(|| self.x.zeros_like())
    }

    /// The newest [`share`](Prediction::share).
    fn share(&self) -> Tensor<D> {
        let newest = self.past.first().and_then(|newest| newest.share.clone());
        newest.expect(
            "the sampler needs a denoiser with a learned variance, and this one gives no share",
        )
    }

    /// Draws the next noise.
    fn draw(&mut self) -> Tensor<D> {
        self.draws += 1;
        let z = (self.noise)(self.draws);
        assert_like("the noise z", &z, &self.x);
        z
    }
}

impl<const D: usize, M, S, Z> Iterator for Reverse<D, M, S, Z>
where
    M: Denoiser<D>,
    S: Solver,
    Z: FnMut(u32) -> Tensor<D>,
{
    type Item = State<D>;

    fn next(&mut self) -> Option<State<D>> {
        let (t, s, step) = self.steps.next()?;
        Some(self.take(t, s, &step))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.steps.size_hint()
    }
}

impl<const D: usize, M, S, Z> ExactSizeIterator for Reverse<D, M, S, Z>
where
    M: Denoiser<D>,
    S: Solver,
    Z: FnMut(u32) -> Tensor<D>,
{
}
