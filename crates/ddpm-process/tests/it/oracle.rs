//! The exact denoiser of a mixture, and samplers that use it.

use burn::tensor::{Device, Tensor};
use ddpm_process::oracle::{Component, Mixture, MixtureError};
use ddpm_process::{NoiseStream, Reverse};
use ddpm_schedule::solver::{Method, Parameters};
use ddpm_schedule::{Grid, NoiseLevel, NoiseSchedule, Process};

fn component(weight: f64, mean: &[f64], covariance: &[f64]) -> Component {
    Component {
        weight,
        mean: mean.to_vec(),
        covariance: covariance.to_vec(),
    }
}

/// Three Gaussians, so far apart that the nearest one is the one a sample came from.
fn mixture() -> Mixture {
    Mixture::new(vec![
        component(0.5, &[2.0, 0.0], &[0.04, 0.02, 0.02, 0.09]),
        component(0.3, &[-1.5, 1.5], &[0.09, 0.0, 0.0, 0.01]),
        component(0.2, &[-1.0, -2.0], &[0.04, -0.03, -0.03, 0.04]),
    ])
    .unwrap()
}

/// In one dimension the expectation is a ratio of two integrals over x₀, here by the trapezoidal
/// rule on [−20, 20] with the step 1e-3, a hundredth of the smallest standard deviation: its error
/// for Gaussians is below rounding.
#[test]
fn one_dimension_by_quadrature() {
    let components = vec![
        component(0.7, &[-1.0], &[0.25]),
        component(0.2, &[2.0], &[0.01]),
        component(0.1, &[0.3], &[4.0]),
    ];
    let mixture = Mixture::new(components.clone()).unwrap();
    let normal = |x: f64, mean: f64, variance: f64| {
        (-(x - mean).powi(2) / (2.0 * variance)).exp() / (std::f64::consts::TAU * variance).sqrt()
    };
    for (a, b) in [(0.9, 0.3), (0.5, 0.8), (1.0, 2.5), (0.05, 1.0)] {
        let level = NoiseLevel::new(a, b).unwrap();
        for x in [-3.0, -0.7, 0.0, 1.1, 2.4] {
            let (mut density, mut first) = (0.0, 0.0);
            for i in -20_000..=20_000 {
                let x0 = 1e-3 * f64::from(i);
                let prior: f64 = components
                    .iter()
                    .map(|c| c.weight * normal(x0, c.mean[0], c.covariance[0]))
                    .sum();
                let joint = 1e-3 * prior * normal(x, a * x0, b * b);
                density += joint;
                first += x0 * joint;
            }
            let found = mixture.posterior_mean(&[x], level).unwrap()[0];
            let expected = first / density;
            assert!(
                (found - expected).abs() < 1e-9,
                "{a} {b} {x}: {found} {expected}"
            );
            let found = mixture.log_density(&[x], level).unwrap();
            assert!((found - density.ln()).abs() < 1e-9, "{a} {b} {x}: {found}");
        }
    }
}

/// The density's gradient is the score, and by Tweedie's formula a·x̂₀ = x + b²·∇ln p(x). In two
/// dimensions, by differences of step h, whose error is h² ≈ 1e-8.
#[test]
fn two_dimensions_by_tweedies_formula() {
    let (mixture, h) = (mixture(), 1e-4);
    for (a, b) in [(0.9, 0.4), (0.4, 0.9), (1.0, 3.0)] {
        let level = NoiseLevel::new(a, b).unwrap();
        for x in [[0.3, -0.2], [-1.2, 0.5], [1.5, 0.8]] {
            let found = mixture.posterior_mean(&x, level).unwrap();
            for i in 0..2 {
                let at = |step: f64| {
                    let mut x = x;
                    x[i] += step;
                    mixture.log_density(&x, level).unwrap()
                };
                let score = (at(h) - at(-h)) / (2.0 * h);
                let expected = (x[i] + b * b * score) / a;
                assert!((found[i] - expected).abs() < 1e-5, "{found:?} {expected}");
            }
        }
    }
}

/// The denoiser of a point mass is the point; that of a single Gaussian is affine.
#[test]
fn a_point_mass_is_known_and_a_gaussian_shrinks() {
    let point = Mixture::new(vec![component(3.0, &[1.0, -2.0, 0.5], &[0.0; 9])]).unwrap();
    let level = NoiseLevel::new(0.6, 0.8).unwrap();
    assert_eq!(
        point.posterior_mean(&[9.0, 9.0, 9.0], level),
        Ok(vec![1.0, -2.0, 0.5])
    );
    // Σ = 4: a·Σ/(a²Σ + b²) = 2.4/2.08 of x − a·μ.
    let one = Mixture::new(vec![component(1.0, &[1.0], &[4.0])]).unwrap();
    let found = one.posterior_mean(&[2.0], level).unwrap()[0];
    assert!((found - (1.0 + 2.4 / 2.08 * 1.4)).abs() < 1e-14, "{found}");
}

#[test]
fn invalid_mixtures_are_refused() {
    let good = component(1.0, &[0.0, 0.0], &[1.0, 0.0, 0.0, 1.0]);
    let with = |second: Component| Mixture::new(vec![good.clone(), second]).unwrap_err();
    assert_eq!(Mixture::new(vec![]).unwrap_err(), MixtureError::Empty);
    let weight = component(0.0, &[0.0, 0.0], &[1.0, 0.0, 0.0, 1.0]);
    assert_eq!(with(weight), MixtureError::Weight(1, 0.0));
    assert_eq!(with(component(1.0, &[0.0], &[1.0])), MixtureError::Size(1));
    for covariance in [
        [1.0, 0.5, 0.4, 1.0],
        [1.0, 2.0, 2.0, 1.0],
        [-1.0, 0.0, 0.0, 1.0],
        [f64::NAN, 0.0, 0.0, 1.0],
    ] {
        let error = with(component(1.0, &[0.0, 0.0], &covariance));
        assert_eq!(error, MixtureError::Covariance(1));
    }
}

/// x₀ on the line x₁ = x₂, with variance 1 on both axes. With enough noise the mean is known, E[x₀
/// | x] = a·(x₁ + x₂)/(2a² + b²) on both; if b² is lost in the rounding of a² + b² it is not.
#[test]
fn a_singular_covariance_is_reported() {
    let line = Mixture::new(vec![
        component(1.0, &[0.0, 0.0], &[4.0, 0.0, 0.0, 4.0]),
        component(1.0, &[0.0, 0.0], &[1.0; 4]),
    ]);
    let line = line.unwrap();
    let alone = Mixture::new(vec![component(1.0, &[0.0, 0.0], &[1.0; 4])]).unwrap();
    let level = NoiseLevel::new(0.8, 1e-3).unwrap();
    let expected = 0.8 * 1.5 / (2.0 * 0.64 + 1e-6);
    for found in alone.posterior_mean(&[1.0, 0.5], level).unwrap() {
        // C has the relative error 2⁻⁵³, and its smallest eigenvalue is 10⁻⁶.
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
    for level in [NoiseLevel::new(1.0, 1e-9).unwrap(), NoiseLevel::CLEAN] {
        let singular = MixtureError::Singular(1, level.noise());
        assert_eq!(line.posterior_mean(&[1.0, 0.5], level), Err(singular));
        assert_eq!(line.log_density(&[1.0, 0.5], level), Err(singular));
    }
    assert_eq!(
        MixtureError::Singular(1, 1e-9).to_string(),
        "component 1: at noise b = 1.00e-9 the covariance of x is singular in double precision, \
         because the component's own covariance is singular"
    );
    // A regular covariance needs no noise: x₀ = x.
    let round = Mixture::new(vec![component(1.0, &[3.0], &[4.0])]).unwrap();
    assert_eq!(
        round.posterior_mean(&[2.0], NoiseLevel::CLEAN),
        Ok(vec![2.0])
    );
}

const ROWS: usize = 4000;

/// The samples' weights, means and covariances are the mixture's, within five standard errors of
/// 4000 perfect samples plus the error of the steps: 5/steps of a standard deviation, the error of
/// Euler's method for a change by a few standard deviations.
///
/// The smallest detectable errors, with 800 to 2000 samples of each: a weight by 0.04, a mean by a
/// sixth of a standard deviation, a variance by a quarter.
#[test]
fn samplers_draw_the_mixture() {
    let (mixture, device) = (mixture(), Device::flex());
    let schedule = NoiseSchedule::cosine(1000, 0.008).unwrap();
    let method = |name, eta| {
        let numbers = Parameters {
            eta,
            ..Parameters::default()
        };
        Method::new(name, numbers).unwrap()
    };
    let process = Process::from(schedule);
    let karras = Grid::Karras { rho: 7.0 };
    for (name, eta, grid, steps) in [
        ("ddpm", None, &Grid::Trailing, 1000),
        ("ddpm-large", None, &Grid::Trailing, 1000),
        ("ddim", None, &Grid::Trailing, 250),
        ("ddim", Some(0.5), &Grid::Trailing, 250),
        ("dpmpp-2m", None, &Grid::Trailing, 50),
        ("dpmpp-2m-sde", None, &Grid::Trailing, 250),
        ("unipc", None, &Grid::Trailing, 50),
        ("heun", None, &karras, 50),
    ] {
        let levels = grid.levels(&process, steps).unwrap();
        let solver = method(name, eta).solver(&process, &levels);
        let samples: Vec<u64> = (0..ROWS as u64).collect();
        let stream = NoiseStream::new(0, "oracle");
        let noise = |step| stream.normal(&samples, step, [ROWS, 2], &device);
        let x: Tensor<2> = noise(0);
        let reverse = Reverse::new(&mixture, solver, levels.as_slice(), x, noise).unwrap();
        let x: Vec<f64> = reverse.last().unwrap().x.into_data().iter().collect();
        let name = format!("{name} {eta:?}");
        check(&name, &mixture, &x, 1.0 / steps as f64);
    }
}

fn check(name: &str, mixture: &Mixture, x: &[f64], bias: f64) {
    let mut own = vec![Vec::new(); mixture.components().len()];
    for row in x.chunks_exact(2) {
        let distance = |c: &Component| (row[0] - c.mean[0]).hypot(row[1] - c.mean[1]);
        let near = |&i: &usize, &j: &usize| {
            let components = mixture.components();
            distance(&components[i]).total_cmp(&distance(&components[j]))
        };
        let nearest = (0..own.len()).min_by(near).unwrap();
        own[nearest].push([row[0], row[1]]);
    }
    for (k, (component, rows)) in mixture.components().iter().zip(&own).enumerate() {
        let n = rows.len() as f64;
        let close = |what: &str, found: f64, expected: f64, error: f64, scale: f64| {
            let limit = 5.0 * error + bias * scale;
            let off = (found - expected).abs();
            assert!(
                off <= limit,
                "{name}, {what} {k}: {found}, not {expected} ± {limit}"
            );
        };
        let w = component.weight;
        close(
            "weight",
            n / ROWS as f64,
            w,
            (w * (1.0 - w) / ROWS as f64).sqrt(),
            1.0,
        );
        let mean = [0, 1].map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / n);
        for (i, &found) in mean.iter().enumerate() {
            let deviation = component.covariance[3 * i].sqrt();
            let error = deviation / n.sqrt();
            close("mean", found, component.mean[i], error, 5.0 * deviation);
        }
        for (i, j) in [(0, 0), (0, 1), (1, 1)] {
            let products = rows
                .iter()
                .map(|row| (row[i] - mean[i]) * (row[j] - mean[j]));
            let found = products.sum::<f64>() / n;
            let at = |i: usize, j: usize| component.covariance[2 * i + j];
            // Var of a product of two Gaussians: Σᵢᵢ·Σⱼⱼ + Σᵢⱼ².
            let error = ((at(i, i) * at(j, j) + at(i, j).powi(2)) / n).sqrt();
            let scale = (at(i, i) * at(j, j)).sqrt();
            close("covariance", found, at(i, j), error, 5.0 * scale);
        }
    }
}
