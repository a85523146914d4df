//! From what was measured of each image to the answer.

use ddpm_schedule::bound::bits;
use serde::Serialize;

/// A mean over images and its standard error, in bits per dimension.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The standard error of the mean.
    pub error: f64,
}

impl Estimate {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Self {
            mean,
            error: (squares / (n - 1.0) / n).sqrt(),
        }
    }
}

/// The term of one t.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// t of L_{t−1}.
    pub t: u32,
    /// Images it was measured on.
    pub images: usize,
    /// Their mean, in bits per dimension.
    pub mean: f64,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Likelihood {
    /// Images.
    pub images: usize,
    /// Numbers an image has.
    pub dimensions: usize,
    /// Times taken for each image, of L_{t−1}, t ≥ 2.
    pub times: u32,
    /// Whether these are all there are.
    pub exact: bool,
    /// L_T.
    pub prior: Estimate,
    /// Σ L_{t−1}, t from 2 to T.
    pub steps: Estimate,
    /// L₀.
    pub decoder: Estimate,
    /// The bound, their sum.
    pub bound: Estimate,
    /// The probability flow's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Estimate>,
    /// The terms of Σ L_{t−1}.
    pub per_t: Vec<Step>,
}

/// The terms of one image, in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Terms {
    pub(super) prior: f64,
    pub(super) steps: f64,
    pub(super) decoder: f64,
    pub(super) flow: f64,
    /// t and L_{t−1} of each time that was taken.
    pub(super) each: Vec<(u32, f64)>,
}

impl Terms {
    /// The first term that is not finite, by its name.
    pub(super) fn not_finite(&self) -> Option<(String, f64)> {
        let of_t = self.each.iter();
        let of_t = of_t.map(|(t, term)| (format!("L_{}", t - 1), *term));
        let whole = [
            ("L_T", self.prior),
            ("L_0", self.decoder),
            ("flow", self.flow),
        ];
        let whole = whole.map(|(name, term)| (name.to_owned(), term));
        let mut all = whole.into_iter().chain(of_t);
        all.find(|(_, term)| !term.is_finite())
    }
}

/// What was measured of some images.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Numbers an image has.
    pub dimensions: usize,
    /// T.
    pub timesteps: u32,
    /// Times taken for each image.
    pub times: u32,
    /// Whether the probability flow was followed.
    pub flow: bool,
    pub(super) terms: Vec<Terms>,
}

impl Measured {
    /// Before any image is.
    pub fn empty(dimensions: usize, timesteps: u32, times: u32, flow: bool) -> Self {
        Self {
            dimensions,
            timesteps,
            times,
            flow,
            terms: Vec::new(),
        }
    }

    /// Numbers of a row of [`rows`](Self::rows).
    pub fn width(&self) -> usize {
        4 + 2 * self.times as usize
    }

    /// Everything measured, a row an image: four terms, then t and L_{t−1} for each time.
    pub fn rows(&self) -> Vec<f64> {
        let row = |terms: &Terms| {
            let four = [terms.prior, terms.steps, terms.decoder, terms.flow];
            let each = terms.each.iter().flat_map(|&(t, kl)| [t.into(), kl]);
            four.into_iter().chain(each).collect::<Vec<f64>>()
        };
        self.terms.iter().flat_map(row).collect()
    }

    /// The same of the images of which these are the [`rows`](Self::rows).
    // A t that is none becomes one: the report has a place for 0..=T.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    #[must_use]
    pub fn with_rows(self, rows: &[f64]) -> Self {
        let rows = rows.chunks_exact(self.width());
        let terms = rows.map(|row| Terms {
            prior: row[0],
            steps: row[1],
            decoder: row[2],
            flow: row[3],
            each: (row[4..].as_chunks::<2>().0.iter())
                .map(|&[t, kl]| ((t as u32).min(self.timesteps), kl))
                .collect(),
        });
        Self {
            terms: terms.collect(),
            ..self
        }
    }

    /// The means over the images.
    pub fn report(&self) -> Likelihood {
        let all = self.timesteps - 1;
        let bits = |nats: f64| bits(nats / self.dimensions as f64);
        let estimate = |of: fn(&Terms) -> f64| {
            let values: Vec<_> = self.terms.iter().map(|terms| bits(of(terms))).collect();
            Estimate::of(&values)
        };
        let mut per_t = vec![(0, 0.0); self.timesteps as usize + 1];
        for &(t, kl) in self.terms.iter().flat_map(|terms| &terms.each) {
            let (images, sum) = &mut per_t[t as usize];
            *images += 1;
            *sum += kl;
        }
        let steps = (0..).zip(per_t).filter(|(_, (images, _))| *images > 0);
        let step = |(t, (images, sum)): (u32, (usize, f64))| Step {
            t,
            images,
            mean: bits(sum / images as f64),
        };
        Likelihood {
            images: self.terms.len(),
            dimensions: self.dimensions,
            times: self.times,
            exact: self.times == all,
            prior: estimate(|terms| terms.prior),
            steps: estimate(|terms| terms.steps),
            decoder: estimate(|terms| terms.decoder),
            bound: estimate(|terms| terms.prior + terms.steps + terms.decoder),
            flow: self.flow.then(|| estimate(|terms| terms.flow)),
            per_t: steps.map(step).collect(),
        }
    }
}
