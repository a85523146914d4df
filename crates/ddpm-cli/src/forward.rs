//! The forward process watched: what happens to the mean and the covariance of a data set, and what
//! theory says.
//!
//! For data of any distribution with mean μ and covariance Σ, x_t has mean a_t·μ and covariance
//! a_t²·Σ + b_t²·I. Here the chain is run one step at a time, and the sample moments are held
//! against that.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use ddpm_process::{NoiseStream, transition};
use ddpm_schedule::{NoiseLevel, NoiseSchedule};

use crate::memory;
use crate::picture::{Samples, png, side_by_side};
use crate::plot::{self, Line, Scale};
use crate::progress::Tally;
use ddpm_data::{DataError, Dataset};
use ddpm_files::write_file;
use ddpm_train::device::is_host;

/// Times at which the moments are measured, besides 0; the table shows every fifth.
const MEASURED: u32 = 50;
const TABLED: usize = 5;
/// Times that are drawn, besides 0.
const DRAWN: u32 = 5;
/// Images and points that are drawn.
const IMAGES: usize = 36;
const POINTS: usize = 2000;
/// What a thousand roundings to f32 leave, relative to a number of size 1: a coordinate that never
/// varies has no other error.
const ROUNDING: f64 = 1.0 / 4_194_304.0;

/// A sample moment beside its closed form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Over the rows.
    pub measured: f64,
    /// a_t·μ, or a_t²·Σ + b_t²·I.
    pub expected: f64,
    /// Standard error of `measured`: how far other rows and other noise would have moved it.
    pub error: f64,
}

impl Moment {
    /// Standard errors between measurement and closed form.
    pub fn z(self) -> f64 {
        (self.measured - self.expected) / self.error
    }
}

/// The moments of x_t.
#[derive(Clone, Debug)]
pub struct Moments {
    /// t; 0 is the data.
    pub t: u32,
    /// Of each coordinate.
    pub mean: Vec<Moment>,
    /// Of each pair of coordinates i ≤ j, row by row.
    pub covariance: Vec<Moment>,
}

/// Mean and covariance of rows of `d` values, and the variance of a row's own contribution to each
/// covariance, in f64.
struct Statistics {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    product_variance: Vec<f64>,
}

impl Statistics {
    fn of(rows: &[f32], d: usize) -> Self {
        let n = (rows.len() / d) as f64;
        let mut mean = vec![0.0; d];
        for row in rows.chunks_exact(d) {
            for (mean, &x) in mean.iter_mut().zip(row) {
                *mean += f64::from(x) / n;
            }
        }
        let pairs = d * (d + 1) / 2;
        let (mut sum, mut squares) = (vec![0.0; pairs], vec![0.0; pairs]);
        let mut centred = vec![0.0; d];
        for row in rows.chunks_exact(d) {
            for ((centred, &x), mean) in centred.iter_mut().zip(row).zip(&mean) {
                *centred = f64::from(x) - mean;
            }
            let products = (0..d).flat_map(|i| (i..d).map(move |j| (i, j)));
            for (k, (i, j)) in products.enumerate() {
                let product = centred[i] * centred[j];
                sum[k] += product;
                squares[k] += product * product;
            }
        }
        let covariance: Vec<f64> = sum.iter().map(|s| s / n).collect();
        let variance = |(square, mean): (&f64, &f64)| square / n - mean * mean;
        let product_variance = squares.iter().zip(&covariance).map(variance).collect();
        Self {
            mean,
            covariance,
            product_variance,
        }
    }
}

/// Where the variances stand among the covariances.
fn diagonal(d: usize) -> impl Iterator<Item = usize> {
    (0..d).map(move |i| i * d - i * i.saturating_sub(1) / 2)
}

/// Runs the chain on `rows` rows drawn from the data with replacement, and measures x_t at the
/// times `at`, of which 0 is the data; `seen` is shown the rows at these times.
///
/// # Errors
///
/// If a row of the data cannot be read.
///
/// # Panics
///
/// If `rows` is 0.
pub fn run(
    data: &dyn Dataset,
    schedule: &NoiseSchedule,
    rows: usize,
    seed: u64,
    at: &[u32],
    device: &Device,
    mut seen: impl FnMut(u32, &[f32]),
) -> Result<Vec<Moments>, DataError> {
    assert!(rows > 0, "no rows, no moments");
    let d = data.row_len();
    let mut all = vec![0.0; data.len() * d];
    for (i, row) in all.chunks_exact_mut(d).enumerate() {
        data.write_row(i, row)?;
    }
    let truth = Statistics::of(&all, d);
    let samples: Vec<u64> = (0..rows as u64).collect();
    let picks = NoiseStream::new(seed, "rows");
    let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut values = Vec::with_capacity(rows * d);
    for &k in &samples {
        let i = picks.row(k, 0).one_to(count) as usize - 1;
        values.extend_from_slice(&all[i * d..(i + 1) * d]);
    }
    let noise = NoiseStream::new(seed, "forward");
    let mut x = Tensor::<2>::from_data(TensorData::new(values, [rows, d]), device);
    let mut s = NoiseLevel::CLEAN;
    let mut moments = Vec::new();
    let times = std::iter::once(None).chain(schedule.iter().map(Some));
    for t in times {
        let step = t.map_or(0, ddpm_schedule::Timestep::get);
        if let Some(t) = t {
            let level = schedule.level(t);
            let z = noise.normal(&samples, step, [rows, d], device);
            x = transition(x, z, level.transition(s));
            s = level;
        }
        if at.contains(&step) {
            let rows: Vec<f32> = x.to_data().iter::<f32>().collect();
            seen(step, &rows);
            moments.push(compare(
                step,
                s,
                &truth,
                &Statistics::of(&rows, d),
                rows.len() / d,
            ));
        }
    }
    Ok(moments)
}

/// The standard errors follow from the data and the level alone. With c = x₀ − μ, of mean 0, and
/// independent ε, a row's (a·c_i + b·ε_i)·(a·c_j + b·ε_j) has the variance
/// a⁴·Var(c_i·c_j) + a²b²·(Σ_ii + Σ_jj) + b⁴, and for i = j twice the last two.
fn compare(t: u32, level: NoiseLevel, truth: &Statistics, found: &Statistics, n: usize) -> Moments {
    let d = truth.mean.len();
    let (a2, b2) = (level.alpha_bar(), level.noise().powi(2));
    let variances: Vec<f64> = diagonal(d).map(|k| truth.covariance[k]).collect();
    let moment = |measured: f64, expected: f64, variance: f64| Moment {
        measured,
        expected,
        error: (variance / n as f64)
            .sqrt()
            .hypot(ROUNDING * expected.abs().max(1.0)),
    };
    let mean = (0..d).map(|i| {
        let expected = level.signal() * truth.mean[i];
        moment(found.mean[i], expected, a2 * variances[i] + b2)
    });
    let pairs = (0..d).flat_map(|i| (i..d).map(move |j| (i, j)));
    let covariance = pairs.enumerate().map(|(k, (i, j))| {
        let same = if i == j { 1.0 } else { 0.0 };
        let expected = a2 * truth.covariance[k] + same * b2;
        let noise = a2 * b2 * (variances[i] + variances[j]) + b2 * b2;
        let variance = a2 * a2 * truth.product_variance[k] + (1.0 + same) * noise;
        moment(found.covariance[k], expected, variance)
    });
    Moments {
        t,
        mean: mean.collect(),
        covariance: covariance.collect(),
    }
}

/// About `count` times from 0 to T, both ends among them.
fn spread(schedule: &NoiseSchedule, count: u32) -> Vec<u32> {
    let last = schedule.timesteps();
    let count = count.min(last);
    let place = |i: u32| u64::from(i) * u64::from(last) / u64::from(count);
    (0..=count)
        .filter_map(|i| u32::try_from(place(i)).ok())
        .collect()
}

impl Moments {
    /// The average variance, Σ trace/D.
    fn average_variance(&self) -> Moment {
        let d = self.mean.len();
        let average = |of: fn(&Moment) -> f64| {
            diagonal(d).map(|k| of(&self.covariance[k])).sum::<f64>() / d as f64
        };
        Moment {
            measured: average(|m| m.measured),
            expected: average(|m| m.expected),
            // As if all coordinates moved together: no less than the truth.
            error: average(|m| m.error),
        }
    }

    /// What a person reads: every moment of points; of images, the average and the worst.
    fn rows(&self) -> Vec<(String, Moment)> {
        let worst = |moments: &[Moment]| {
            let by_z = |a: &&Moment, b: &&Moment| a.z().abs().total_cmp(&b.z().abs());
            moments.iter().copied().max_by(|a, b| by_z(&a, &b))
        };
        if let ([x, y], [xx, xy, yy]) = (&self.mean[..], &self.covariance[..]) {
            let named = [
                ("E x", x),
                ("E y", y),
                ("Var x", xx),
                ("Cov xy", xy),
                ("Var y", yy),
            ];
            return named
                .map(|(name, moment)| (name.to_owned(), *moment))
                .to_vec();
        }
        let (means, covariances) = (self.mean.len(), self.covariance.len());
        let mut rows = vec![("average variance".to_owned(), self.average_variance())];
        rows.extend(worst(&self.mean).map(|m| (format!("worst of {means} means"), m)));
        rows.extend(
            worst(&self.covariance).map(|m| (format!("worst of {covariances} covariances"), m)),
        );
        rows
    }
}

/// The table.
pub fn table(moments: &[Moments]) -> String {
    let mut text = format!(
        "{:>6}  {:<26}{:>11}{:>12}{:>12}{:>8}\n",
        "t", "", "measured", "closed form", "std. error", "z"
    );
    for moments in moments {
        for (name, moment) in moments.rows() {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:>6}  {name:<26}{:>11.5}{:>12.5}{:>12.5}{:>8.2}",
                moments.t,
                moment.measured,
                moment.expected,
                moment.error,
                moment.z()
            );
        }
    }
    let all = || {
        moments
            .iter()
            .flat_map(|m| m.mean.iter().chain(&m.covariance))
    };
    let worst = all().map(|m| m.z().abs()).fold(0.0, f64::max);
    let _ = writeln!(
        text,
        "z: standard errors between the two; the largest of {} moments is {worst:.2}",
        all().count()
    );
    text
}

/// Average variance and first mean over t, measured and in closed form.
fn curves(moments: &[Moments]) -> String {
    let line = |name, color, value: &dyn Fn(&Moments) -> f64| Line {
        name,
        color,
        points: moments.iter().map(|m| (f64::from(m.t), value(m))).collect(),
    };
    let lines = [
        line("variance, theory", "silver", &|m| {
            m.average_variance().expected
        }),
        line("measured", "steelblue", &|m| m.average_variance().measured),
        line("mean, theory", "tan", &|m| largest(m).expected),
        line("measured", "firebrick", &|m| largest(m).measured),
    ];
    plot::svg("t", &lines, [Scale::Linear; 2])
}

/// The mean of the coordinate whose mean is furthest from 0.
fn largest(moments: &Moments) -> Moment {
    let by_size = |a: &&Moment, b: &&Moment| a.expected.abs().total_cmp(&b.expected.abs());
    let largest = moments.mean.iter().max_by(by_size);
    largest.copied().unwrap_or(Moment {
        measured: f64::NAN,
        expected: f64::NAN,
        error: f64::NAN,
    })
}

/// Whether the memory holds the rows, their noise, the next rows, and what is measured of them.
fn check_memory(rows: usize, numbers: usize, device: &Device) -> Result<()> {
    let needed = 4.0 * 4.0 * rows as f64 * numbers as f64;
    if let Some(available) = ddpm_data::memory().filter(|_| is_host(device)) {
        ensure!(
            needed <= available,
            "--rows {rows}: takes {} of memory at least, of {} that there are",
            memory::shown(needed),
            memory::shown(available)
        );
    }
    Ok(())
}

/// Runs the chain on `rows` rows of the data, prints the table and leaves `forward.png`, the data at
/// some times from left to right, and `moments.svg` in `out`.
///
/// # Errors
///
/// If there are fewer than two rows, the machine has not the memory for them, or a file cannot be
/// written.
pub fn show(
    data: &dyn Dataset,
    schedule: &NoiseSchedule,
    rows: usize,
    seed: u64,
    out: &Path,
    device: &Device,
) -> Result<String> {
    ensure!(rows >= 2, "--rows {rows}: a covariance takes at least 2");
    check_memory(rows, data.row_len(), device)?;
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let (mut at, drawn) = (spread(schedule, MEASURED), spread(schedule, DRAWN));
    at.extend(&drawn);
    let shape = data.shape();
    let most = if shape.len() == 3 { IMAGES } else { POINTS };
    let mut pictures = Vec::new();
    let mut tally = Tally::new("steps", 0, schedule.timesteps() as usize);
    let moments = run(data, schedule, rows, seed, &at, device, |t, rows| {
        tally.at(f64::from(t), "");
        if drawn.contains(&t) {
            let count = most.min(rows.len() / data.row_len());
            let samples = Samples {
                shape: shape.to_vec(),
                values: rows[..count * data.row_len()].to_vec(),
            };
            pictures.push(samples.grid());
        }
    })?;
    let path = out.join("forward.png");
    let picture = png(&side_by_side(&pictures)).with_context(|| path.display().to_string())?;
    write_file(&path, &picture)?;
    write_file(&out.join("moments.svg"), curves(&moments).as_bytes())?;
    let last = moments.len() - 1;
    let tabled = moments.iter().enumerate();
    let tabled = tabled.filter(|(i, _)| i.is_multiple_of(TABLED) || *i == last);
    let tabled: Vec<Moments> = tabled.map(|(_, moments)| moments.clone()).collect();
    Ok(table(&tabled))
}
