//! The loops of diffusers' scheduler tests, by our samplers. docs/peers.md has the table.
//!
//! Their tensors have the shape (4, 3, 8, 8) and a formula for values, their network is x·τ/(τ+1)
//! with τ = t−1, and what is compared is Σ|x|, to 10⁻², and the mean of |x|, to 10⁻³.

use ddpm_schedule::{
    Eta, LearnedVariance, NoiseLevel, NoiseSchedule, Parametrization, Sampler, Spacing, Step,
    Trajectory, Visit,
};

use crate::assert_close;
use crate::torch::Torch;

const N: usize = 4 * 3 * 8 * 8;
const DDIM: Sampler = Sampler::Ddim { eta: Eta::ZERO };

/// `sample[b, c, h, w]` = (((c·8 + h)·8 + w)·4 + b)/768, rows first.
fn sample() -> Vec<f64> {
    let value = |i: usize| (i % 192) * 4 + i / 192;
    (0..N).map(|i| value(i) as f64 / N as f64).collect()
}

/// The same numbers in the opposite order.
fn noise() -> Vec<f64> {
    let last = (N - 1) as f64 / N as f64;
    sample().into_iter().map(|x| last - x).collect()
}

fn linear() -> NoiseSchedule {
    NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap()
}

/// What the network says of x at a time.
fn network(x: f64, at: Visit) -> f64 {
    let tau = f64::from(at.t.network_input());
    x * tau / (tau + 1.0)
}

/// x̂₀ of what the network says.
fn denoised(parametrization: Parametrization, x: f64, at: Visit) -> f64 {
    let denoise = parametrization.denoise(at.level).unwrap();
    denoise.x_t * x + denoise.output * network(x, at)
}

/// A sampler's whole way, with x̂₀ kept in ±`clip` and seed 0's noise.
fn run(
    sampler: Sampler,
    parametrization: Parametrization,
    trajectory: &Trajectory,
    clip: f64,
    mut x: Vec<f64>,
) -> Vec<f64> {
    let mut torch = Torch::new(0);
    let mut x0_prev = vec![0.0; x.len()];
    let mut prev = None;
    for (t, s) in trajectory.pairs() {
        let step = sampler.step(prev, t.level, s);
        let z = if step.z == 0.0 {
            vec![0.0; x.len()]
        } else {
            torch.randn(x.len())
        };
        for ((x, x0_prev), z) in x.iter_mut().zip(&mut x0_prev).zip(z) {
            let x0 = denoised(parametrization, *x, t).clamp(-clip, clip);
            *x = step.x0 * x0 + step.x0_prev * *x0_prev + step.x_t * *x + step.z * z;
            *x0_prev = x0;
        }
        prev = Some(t.level);
    }
    x
}

fn size(x: &[f64]) -> f64 {
    x.iter().map(|x| x.abs()).sum()
}

/// The peer's Σ|x| and mean |x|, to the peer's tolerance.
#[track_caller]
fn assert_reported(x: &[f64], sum: f64, mean: f64) {
    assert_close(size(x), sum, 1e-2);
    assert_mean(x, mean);
}

#[track_caller]
fn assert_mean(x: &[f64], mean: f64) {
    assert_close(size(x) / x.len() as f64, mean, 1e-3);
}

/// a·sample + b·noise where the trajectory begins.
fn noised(trajectory: &Trajectory) -> Vec<f64> {
    let level = trajectory.visits()[0].level;
    let pairs = sample().into_iter().zip(noise());
    pairs
        .map(|(x, z)| level.signal() * x + level.noise() * z)
        .collect()
}

/// What is left of a trajectory after its first `skip` steps.
fn rest(trajectory: &Trajectory, skip: usize) -> Trajectory {
    let visits = trajectory.visits()[skip..].iter().copied();
    Trajectory::new(visits, trajectory.end()).unwrap()
}

fn ending_at_first(schedule: &NoiseSchedule, trajectory: &Trajectory) -> Trajectory {
    trajectory
        .ending_at(schedule.level(schedule.first()))
        .unwrap()
}

#[test]
fn ddpm() {
    for (parametrization, sum, mean) in [
        (Parametrization::Epsilon, 258.9606, 0.3372),
        (Parametrization::V, 202.0296, 0.2631),
    ] {
        let trajectory = Trajectory::full(&linear());
        let x = run(
            Sampler::ANCESTRAL,
            parametrization,
            &trajectory,
            1.0,
            sample(),
        );
        assert_reported(&x, sum, mean);
    }
}

/// Of the two last steps the peer's number is off by twice its tolerance. In single precision
/// 1 − ᾱ and 1 − ᾱ₂/ᾱ₁ keep three digits of 10⁻⁴, and with coefficients computed so, as the peer
/// does, its number comes out.
#[test]
fn ddpm_from_noise_differs_by_single_precision() {
    let schedule = linear();
    let trajectory = Trajectory::from_timesteps(&schedule, [2, 1]).unwrap();
    let start = noised(&trajectory);
    let eps = Parametrization::Epsilon;
    let ours = run(Sampler::ANCESTRAL, eps, &trajectory, 1.0, start.clone());
    assert_close(size(&ours), 387.9673, 1e-4);

    let beta = |t: f32| 1e-4 + (0.02 - 1e-4) * t / 999.0;
    let alpha_bar_1: f32 = 1.0 - beta(0.0);
    let alpha_bar_2 = alpha_bar_1 * (1.0 - beta(1.0));
    let (alpha, left) = (alpha_bar_2 / alpha_bar_1, 1.0 - alpha_bar_2);
    let x0_factor = alpha_bar_1.sqrt() * (1.0 - alpha) / left;
    let x_t_factor = alpha.sqrt() * (1.0 - alpha_bar_1) / left;
    let std = ((1.0 - alpha_bar_1) / left * (1.0 - alpha)).sqrt();
    let [x0_factor, x_t_factor, std] = [x0_factor, x_t_factor, std].map(f64::from);
    let [second, first] = [trajectory.visits()[0], trajectory.visits()[1]];
    let peers = start.iter().zip(Torch::new(0).randn(N)).map(|(&x, z)| {
        let x0 = denoised(eps, x, second).clamp(-1.0, 1.0);
        let x = x0_factor * x0 + x_t_factor * x + std * z;
        denoised(eps, x, first).clamp(-1.0, 1.0)
    });
    let peers: Vec<_> = peers.collect();
    assert_reported(&peers, 387.9466, 0.5051);
}

/// Three batches, each a step of its own without noise: `t` and the x it starts from.
fn batches(schedule: &NoiseSchedule, step: impl Fn(Visit) -> Step) -> Vec<f64> {
    let starts = schedule.iter().zip([0.0, 0.1, -0.1]);
    starts
        .flat_map(|(t, shift)| {
            let t = schedule.visit(t);
            let step = step(t);
            sample().into_iter().map(move |x| {
                let x = x + shift;
                let x0 = denoised(Parametrization::Epsilon, x, t).clamp(-1.0, 1.0);
                step.x0 * x0 + step.x_t * x
            })
        })
        .collect()
}

#[test]
fn steps_in_parallel() {
    let schedule = linear();
    let ddpm = |t: Visit| Sampler::ANCESTRAL.step(None, t.level, schedule.previous(t.t));
    assert_reported(&batches(&schedule, ddpm), 1153.1833, 0.5005);
    // The peer subtracts 1000/10 from each t and arrives at clean data.
    let ddim = |t: Visit| DDIM.step(None, t.level, NoiseLevel::CLEAN);
    assert_reported(&batches(&schedule, ddim), 1147.7904, 0.4982);
}

#[test]
fn ddim() {
    let schedule = linear();
    let leading = Trajectory::leading(&schedule, 10).unwrap();
    for (parametrization, sum, mean) in [
        (Parametrization::Epsilon, 172.0067, 0.223_967),
        (Parametrization::V, 52.5302, 0.0684),
    ] {
        let x = run(DDIM, parametrization, &leading, 1.0, sample());
        assert_reported(&x, sum, mean);
    }
    let last = rest(&leading, 8);
    let x = run(DDIM, Parametrization::Epsilon, &last, 1.0, noised(&last));
    assert_reported(&x, 354.5418, 0.4616);
}

/// The peer's `set_alpha_to_one`: whether the last step leads to clean data or to t = 1. With
/// its ten times the latter starts at t = 1 too, and stands still.
#[test]
fn ddim_to_either_end() {
    let schedule = NoiseSchedule::linear(1000, 0.01, 0.02).unwrap();
    let to_clean = Trajectory::leading(&schedule, 10).unwrap();
    let to_first = ending_at_first(&schedule, &to_clean);
    assert_eq!((to_clean.len(), to_first.len()), (10, 9));
    for (trajectory, sum, mean) in [(to_clean, 149.8295, 0.1951), (to_first, 149.0784, 0.1941)] {
        let x = run(DDIM, Parametrization::Epsilon, &trajectory, 1.0, sample());
        assert_reported(&x, sum, mean);
    }
}

/// The inverse of ten leading steps, from t = 1 on. A sampler cannot leave clean data; the peer's
/// first step from there diffuses it by the network's own ε̂.
///
/// The peer clips x̂₀ to ±1 and keeps the ε̂ of the unclipped, so that x_s differs from a
/// sampler's by a_s·(clipped − x̂₀).
fn inverted(
    schedule: &NoiseSchedule,
    parametrization: Parametrization,
    from_clean: bool,
    clip: f64,
) -> Vec<f64> {
    let there = ending_at_first(schedule, &Trajectory::leading(schedule, 10).unwrap());
    let back = there.inverse().unwrap();
    let first = schedule.visit(schedule.first());
    let clipped = |x0: f64| x0.clamp(-clip, clip) - x0;
    let one = |x: f64| {
        let (a, b) = (first.level.signal(), first.level.noise());
        let start = if from_clean {
            a * x + b * network(x, first)
        } else {
            x + a * clipped(denoised(parametrization, x, first))
        };
        back.pairs().fold(start, |x, (t, s)| {
            let (step, x0) = (DDIM.step(None, t.level, s), denoised(parametrization, x, t));
            step.x0 * x0 + step.x_t * x + s.signal() * clipped(x0)
        })
    };
    sample().into_iter().map(one).collect()
}

#[test]
fn inverse_ddim() {
    let wide = NoiseSchedule::linear(1000, 0.01, 0.02).unwrap();
    let (linear, eps) = (linear(), Parametrization::Epsilon);
    for (schedule, parametrization, from_clean, sum, mean) in [
        (&linear, eps, true, 671.6816, 0.8746),
        (&linear, Parametrization::V, true, 1394.2185, 1.8154),
        (&wide, eps, true, 539.9622, 0.7031),
        (&wide, eps, false, 542.6722, 0.7066),
    ] {
        let x = inverted(schedule, parametrization, from_clean, 1.0);
        assert_reported(&x, sum, mean);
    }
    // Without the clip, which has no place on the way to noise: the same where it never acts,
    // and 7 % off where it does.
    let x = inverted(&linear, eps, true, f64::INFINITY);
    assert_reported(&x, 671.6816, 0.8746);
    let x = inverted(&linear, Parametrization::V, true, f64::INFINITY);
    assert_reported(&x, 1305.6658, 1.7001);
}

/// The peer's ten times: of eleven even ones all but the least, which is where the way ends.
fn solver(schedule: &NoiseSchedule, spacing: Spacing, n: u32) -> Trajectory {
    ending_at_first(schedule, &spacing.trajectory(schedule, n).unwrap())
}

#[test]
fn dpm_solver_multistep() {
    let schedule = linear();
    let (eps, v) = (Parametrization::Epsilon, Parametrization::V);
    for (parametrization, spacing, n, mean) in [
        (eps, Spacing::Linspace, 11, 0.3301),
        (v, Spacing::Linspace, 11, 0.2251),
        (v, Spacing::Karras, 10, 0.2096),
        (v, Spacing::LogSnr, 10, 0.1554),
    ] {
        let trajectory = solver(&schedule, spacing, n);
        let x = run(
            Sampler::DpmPp2M,
            parametrization,
            &trajectory,
            f64::INFINITY,
            sample(),
        );
        assert_mean(&x, mean);
    }
    let last = rest(&solver(&schedule, Spacing::Linspace, 11), 5);
    let x = run(Sampler::DpmPp2M, eps, &last, f64::INFINITY, noised(&last));
    assert_reported(&x, 318.4111, 0.4146);
}

/// The times of diffusers 0.42 for ten steps, which it counts from 0. It makes a tenth of
/// Karras' and of Lu's at t = 1, from where it stands still.
#[test]
fn dpm_solver_times() {
    let schedule = linear();
    let told = |spacing, n| -> Vec<u32> {
        let trajectory: Trajectory = solver(&schedule, spacing, n);
        trajectory
            .visits()
            .iter()
            .map(|at| at.t.get() - 1)
            .collect()
    };
    assert_eq!(
        told(Spacing::Linspace, 11),
        [999, 899, 799, 699, 599, 500, 400, 300, 200, 100]
    );
    assert_eq!(
        told(Spacing::Karras, 10),
        [999, 937, 864, 775, 663, 511, 301, 102, 18]
    );
    assert_eq!(
        told(Spacing::LogSnr, 10),
        [999, 886, 757, 603, 410, 202, 73, 22, 5]
    );
}

/// Each to 10⁻⁵, as the peer states them.
#[test]
fn variances() {
    let schedule = linear();
    let visit =
        |schedule: &NoiseSchedule, tau: u32| schedule.visit(schedule.timestep(tau + 1).unwrap());
    for (tau, variance) in [(0, 0.0), (487, 0.00979), (999, 0.02)] {
        let t = visit(&schedule, tau).t;
        assert_close(schedule.posterior_variance(t), variance, 1e-5);
    }
    for (t, s, variance) in [(420, 400, 0.14771), (980, 960, 0.32460)] {
        let [t, s] = [t, s].map(|tau| visit(&schedule, tau).level);
        let step = Sampler::ANCESTRAL.step(None, t, s);
        assert_close(step.z.powi(2), variance, 1e-5);
    }
    let cosine = NoiseSchedule::cosine(1000, 0.008).unwrap();
    for (tau, std) in [(487, 0.054_962_5), (999, 0.999_498_7)] {
        let t = visit(&cosine, tau).t;
        assert_close(cosine.posterior_variance(t).sqrt(), std, 1e-5);
    }
    // The peer's −10.1712790 at τ = 1 is, without single precision, −10.1713649.
    for (tau, log_variance, tolerance) in [
        (1, -10.171_279_0, 1e-4),
        (487, -5.799_805_2, 1e-5),
        (999, -0.001_001_1, 1e-5),
    ] {
        let t = visit(&cosine, tau).t;
        let choice = LearnedVariance::between(cosine.level(t), cosine.previous(t));
        assert_close(choice.log_variance(0.5), log_variance, tolerance);
    }
}

/// The mean that the peer's DDIM moves: where it takes the unclipped ε̂ with the clipped x̂₀, an x
/// whose x̂₀ is right does not arrive at its own marginal. Ours does, for every error of ε̂.
#[test]
fn clipping_moves_the_noise_along() {
    let schedule = linear();
    let [t, s] = [901, 801].map(|t| schedule.level(schedule.timestep(t).unwrap()));
    let (x0, eps) = (1.0, 0.7);
    let x_t = t.signal() * x0 + t.noise() * eps;
    // A network that is a tenth off in ε̂ is far off in x̂₀, which is then clipped to the truth.
    let guessed = eps - 0.1;
    let x0_guessed = (x_t - t.noise() * guessed) / t.signal();
    assert!(x0_guessed > 1.0);
    let step = DDIM.step(None, t, s);
    let ours = step.x0 * x0_guessed.min(1.0) + step.x_t * x_t;
    let truth = s.signal() * x0 + s.noise() * eps;
    assert_close(ours, truth, 1e-14);
    let peers = s.signal() * x0_guessed.min(1.0) + s.noise() * guessed;
    assert_close(truth - peers, 0.1 * s.noise(), 1e-14);
}

/// How many of N steps lead where the next begins, for the peer's "previous timestep", t − ⌊T/N⌋.
fn agreeing(trajectory: &Trajectory, stride: u32) -> usize {
    let times: Vec<u32> = trajectory.visits().iter().map(|at| at.t.get()).collect();
    let pairs = times.windows(2);
    pairs.filter(|pair| pair[0] - stride == pair[1]).count()
}

/// The peer's DDIM subtracts where ours carries both levels: of trailing times it agrees only if
/// N divides T, and of linspace it hardly ever does.
#[test]
fn subtracting_misses_the_next_time() {
    let schedule = linear();
    for (n, agree) in [(10, 9), (7, 1), (30, 19), (300, 199)] {
        let trailing = Trajectory::trailing(&schedule, n).unwrap();
        assert_eq!(agreeing(&trailing, 1000 / n), agree, "{n}");
    }
    let linspace = Trajectory::linspace(&schedule, 10).unwrap();
    assert_eq!(agreeing(&linspace, 100), 0);
}

/// After its last trailing step the peer's DDPM with variance β adds the noise of that step to the
/// finished image: of the standard deviation stated. Ours ends in x̂₀.
#[test]
fn the_last_step_adds_no_noise() {
    let schedule = linear();
    for (n, std) in [(4, 0.69), (10, 0.32), (20, 0.17), (50, 0.076)] {
        let trailing = Trajectory::trailing(&schedule, n).unwrap();
        let (t, s) = trailing.pairs().last().unwrap();
        assert_eq!(s, NoiseLevel::CLEAN);
        assert_eq!(Sampler::AncestralBeta.step(None, t.level, s).z, 0.0);
        assert_close(t.level.transition(s).variance.sqrt(), std, 5e-3);
    }
}
