//! What a solver is made of: levels in, a small table of numbers out.

use std::ops::{Add, Mul, Neg, Sub};

use crate::NoiseLevel;

/// An affine combination of what a reverse process has at hand:
///
/// `state`·x_t + Σ_k (`past[k].x`·x⁽ᵏ⁾ + `past[k].x0`·x̂₀⁽ᵏ⁾) + Σ_j `z[j]`·z_j
///
/// x_t is the state at the start of the step. x⁽ᵏ⁾ is the x of evaluation k, and x̂₀⁽ᵏ⁾ the
/// denoiser's answer to it; k = 0 is the newest evaluation when the row is used. z_j is the j-th
/// standard normal noise of the step.
///
/// Rows are added and multiplied by numbers, so that a solver is written as in its paper:
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::Row;
///
/// // DDIM: x_s = a_s·x̂₀ + b_s·ε̂
/// let t = NoiseLevel::variance_preserving(0.3).unwrap();
/// let s = NoiseLevel::variance_preserving(0.6).unwrap();
/// let row = s.signal() * Row::x0(0) + s.noise() * Row::eps(0, t);
/// assert_eq!(row.past.len(), 1);
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Row {
    /// The factor of x_t.
    pub state: f64,
    /// The factors of the evaluations, the newest first.
    pub past: Vec<Term>,
    /// The factors of the noises of the step: standard deviations.
    pub z: Vec<f64>,
    /// ln of how much larger the noise is where the network's share of β is 1 and not 0: not 0
    /// only for a [learned variance](crate::LearnedVariance).
    pub z_span: f64,
}

/// The factors of one evaluation.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Term {
    /// The factor of the x that was shown to the denoiser.
    pub x: f64,
    /// The factor of its answer x̂₀.
    pub x0: f64,
}

/// A step from x_t to x_s: where the denoiser is asked, and what x_s is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// The levels at which the denoiser is asked, in order, each with the x that it is shown.
    pub asks: Vec<(NoiseLevel, Row)>,
    /// x_s.
    pub last: Row,
}

impl Row {
    /// x_t, the state at the start of the step.
    pub fn state() -> Self {
        Self {
            state: 1.0,
            ..Self::default()
        }
    }

    /// x⁽ᵏ⁾, the x of evaluation k.
    pub fn x(k: usize) -> Self {
        Self::term(k, Term { x: 1.0, x0: 0.0 })
    }

    /// x̂₀⁽ᵏ⁾, the answer of evaluation k.
    pub fn x0(k: usize) -> Self {
        Self::term(k, Term { x: 0.0, x0: 1.0 })
    }

    /// ε̂⁽ᵏ⁾ = (x⁽ᵏ⁾ − a·x̂₀⁽ᵏ⁾)/b of evaluation k, which was made at `level`.
    pub fn eps(k: usize, level: NoiseLevel) -> Self {
        let (a, b) = (level.signal(), level.noise());
        let (x, x0) = (b.recip(), -a / b);
        Self::term(k, Term { x, x0 })
    }

    /// The j-th noise of the step.
    pub fn z(j: usize) -> Self {
        let mut z = vec![0.0; j + 1];
        z[j] = 1.0;
        Self {
            z,
            ..Self::default()
        }
    }

    /// Nothing.
    pub fn zero() -> Self {
        Self::default()
    }

    fn term(k: usize, term: Term) -> Self {
        let mut past = vec![Term::default(); k + 1];
        past[k] = term;
        Self {
            past,
            ..Self::default()
        }
    }

    /// Every factor, the span included.
    pub(crate) fn factors(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        let of_past = self
            .past
            .iter()
            .flat_map(|term| [("the factor of x", term.x), ("the factor of x̂₀", term.x0)]);
        let of_z = self.z.iter().map(|&z| ("the factor of z", z));
        [
            ("the factor of x_t", self.state),
            ("½ ln(β/β̃)", self.z_span),
        ]
        .into_iter()
        .chain(of_past)
        .chain(of_z)
    }
}

impl Step {
    /// One evaluation, at t, of x_t itself.
    pub fn one(t: NoiseLevel, last: Row) -> Self {
        Self {
            asks: vec![(t, Row::state())],
            last,
        }
    }
}

impl Add for Row {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.state += other.state;
        self.z_span += other.z_span;
        let length = self.past.len().max(other.past.len());
        self.past.resize(length, Term::default());
        for (own, other) in self.past.iter_mut().zip(other.past) {
            own.x += other.x;
            own.x0 += other.x0;
        }
        let length = self.z.len().max(other.z.len());
        self.z.resize(length, 0.0);
        for (own, other) in self.z.iter_mut().zip(other.z) {
            *own += other;
        }
        self
    }
}

impl Mul<Row> for f64 {
    type Output = Row;

    /// Every factor but the span, which is a logarithm. A factor of 0 stays 0 whatever `self` is.
    fn mul(self, mut row: Row) -> Row {
        let scale = |value: &mut f64| {
            if *value != 0.0 {
                *value *= self;
            }
        };
        scale(&mut row.state);
        for term in &mut row.past {
            scale(&mut term.x);
            scale(&mut term.x0);
        }
        row.z.iter_mut().for_each(scale);
        row
    }
}

impl Neg for Row {
    type Output = Self;

    fn neg(self) -> Self {
        -1.0 * self
    }
}

impl Sub for Row {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl std::iter::Sum for Row {
    fn sum<I: Iterator<Item = Self>>(rows: I) -> Self {
        rows.fold(Self::zero(), Add::add)
    }
}
