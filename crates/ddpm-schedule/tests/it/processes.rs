//! Processes: network time and level are functions of each other.

use std::f64::consts::FRAC_PI_2;

use ddpm_schedule::{NoiseLevel, NoiseSchedule, Process};
use proptest::prelude::*;

use crate::cases::chain;
use crate::{assert_close, assert_relative};

/// Continuous processes, each with the times of its ends.
fn continuous() -> [(Process, [f64; 2]); 5] {
    let log = |sigma: f64| 0.25 * sigma.ln();
    [
        (Process::vp_linear(0.1, 20.0).unwrap(), [0.999, 999.0]),
        (Process::vp_linear(3.0, 3.0).unwrap(), [0.999, 999.0]),
        (Process::vp_cosine(0.008).unwrap(), [0.999, 999.0]),
        (Process::edm(0.002, 80.0).unwrap(), [log(0.002), log(80.0)]),
        (Process::flow(3.0).unwrap(), [3.0 / 1.002, 1000.0]),
    ]
}

proptest! {
    #[test]
    fn time_is_the_inverse_of_level(share in 0.0..=1.0, step in 1e-4..0.1) {
        for (process, [least, most]) in continuous() {
            let time: f64 = (1.0 - share) * least + share * most;
            let later = f64::min(time + step * (most - least), most);
            let level = process.level(time).unwrap();
            // Near pure noise a cosine is flat, so λ is only as accurate as its own rounding.
            assert_close(process.time(level), time, 1e-11 * most.abs());
            let noisier = process.level(later).unwrap();
            assert!(time >= most || noisier.log_snr() < level.log_snr());
            let again = process.at_log_snr(level.log_snr()).unwrap();
            assert_relative(again.signal(), level.signal(), 1e-12);
            assert_relative(again.noise(), level.noise(), 1e-12);
        }
    }

    /// Any schedule, with and without signal at T.
    #[test]
    fn the_time_of_a_level_between_two_timesteps_is_between_them(
        chain in chain(),
        share in 0.0..=1.0,
        zero in any::<bool>(),
    ) {
        let schedule = chain.schedule();
        let schedule = if zero { schedule.rescale_zero_terminal_snr().unwrap_or(schedule) } else { schedule };
        let process = Process::from(schedule.clone());
        let last = f64::from(schedule.timesteps() - 1);
        for t in schedule.iter() {
            let time = f64::from(t.get() - 1);
            assert_eq!(process.level(time), Some(schedule.level(t)));
            assert_eq!(process.time(schedule.level(t)), time);
        }
        let level = process.level(share * last).unwrap();
        let spacing = schedule.iter().skip(1).map(|t| {
            schedule.previous(t).log_snr() - schedule.level(t).log_snr()
        });
        // A fraction of λ's interval is as accurate as λ.
        let closest = spacing.fold(1.0, f64::min);
        let error = 1e-14 * level.log_snr().abs().clamp(1.0, 1e3) / closest;
        assert_close(process.time(level), share * last, error + 1e-9);
        if !zero {
            let same = process.at_log_snr(level.log_snr()).unwrap();
            assert_relative(level.signal(), same.signal(), 1e-12 / closest);
            assert_relative(level.noise(), same.noise(), 1e-12 / closest);
        }
        assert_eq!((process.level(last + 0.1), process.level(-0.1)), (None, None));
        assert_eq!(process.level(f64::NAN), None);
        assert_eq!(process.at_log_snr(f64::INFINITY), None);
        assert_eq!(process.time(NoiseLevel::CLEAN), 0.0);
        let pure = NoiseLevel::new(0.0, 1.0).unwrap();
        assert_eq!(process.time(pure), last);
    }
}

/// The levels of Song et al. 2021, eq. 33, of Nichol & Dhariwal and of Liu et al.
#[test]
fn continuous_processes_have_the_published_levels() {
    let at = |process: &Process, time| process.level(time).unwrap();
    let vp = Process::vp_linear(0.1, 20.0).unwrap();
    let integral: f64 = -0.25 * 0.36 * 19.9 - 0.5 * 0.6 * 0.1;
    let level = at(&vp, 999.0 * 0.6);
    assert_relative(level.signal(), integral.exp(), 1e-14);
    assert_relative(level.noise(), (1.0 - (2.0 * integral).exp()).sqrt(), 1e-14);
    assert_relative(vp.prior_std(), 1.0, 1e-15);

    let cosine = Process::vp_cosine(0.008).unwrap();
    let f = |t: f64| ((t + 0.008) / 1.008 * FRAC_PI_2).cos();
    let level = at(&cosine, 999.0 * 0.6);
    assert_relative(level.signal(), f(0.6) / f(0.0), 1e-14);
    assert_relative(level.prior_std(), 1.0, 1e-14);
    assert_eq!(at(&cosine, 999.0).signal(), 0.0);
    assert_close(at(&cosine, 999.0).noise(), 1.0, 1e-15);
    assert_close(cosine.time(at(&cosine, 999.0)), 999.0, 1e-12);

    let edm = Process::edm(0.002, 80.0).unwrap();
    let (noisiest, least) = edm.ends();
    assert_relative(noisiest.sigma(), 80.0, 1e-14);
    assert_relative(least.sigma(), 0.002, 1e-14);
    assert_relative(edm.prior_std(), 6401_f64.sqrt(), 1e-14);
    let level = NoiseLevel::new(0.5, 1.0).unwrap();
    assert_relative(edm.time(level), 0.25 * 2_f64.ln(), 1e-14);

    let flow = Process::flow(3.0).unwrap();
    let level = at(&flow, 250.0);
    assert_relative(level.signal(), 0.75, 1e-15);
    assert_relative(level.noise(), 0.25, 1e-15);
    assert_eq!(flow.ends().0.signal(), 0.0);
    assert_relative(flow.ends().1.noise(), 0.003 / 1.002, 1e-14);
    // A level of another process is identified by its ratio: 0.6/(0.8 + 0.6).
    let level = NoiseLevel::new(0.8, 0.6).unwrap();
    assert_relative(flow.time(level), 1000.0 * 3.0 / 7.0, 1e-14);
}

/// Levels beyond the ends, where no network is trained.
#[test]
fn times_beyond_the_ends_are_those_of_the_ends() {
    let clean = NoiseLevel::CLEAN;
    let pure = NoiseLevel::new(0.0, 1.0).unwrap();
    for (process, times) in continuous().into_iter().zip([
        [0.0, 999.0],
        [0.0, 999.0],
        [0.0, 999.0],
        [f64::NEG_INFINITY, f64::INFINITY],
        [0.0, 1000.0],
    ]) {
        let process = process.0;
        assert_eq!(process.time(clean), times[0], "{process:?}");
        assert_close_or_same(process.time(pure), times[1]);
        assert_eq!(process.at_log_snr(f64::NAN), None);
        assert_eq!(process.at_log_snr(f64::INFINITY), None);
        assert_eq!(process.level(f64::INFINITY), None);
    }
}

#[track_caller]
fn assert_close_or_same(actual: f64, expected: f64) {
    assert!(actual == expected || (actual - expected).abs() < 1e-12);
}

/// From T−1 to T, where there is no signal, √ᾱ falls linearly as the time rises.
#[test]
fn the_last_step_to_zero_snr_is_linear_in_the_signal() {
    let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
    let process = Process::from(schedule.rescale_zero_terminal_snr().unwrap());
    let [before, quarter] = [998.0, 998.25].map(|time| process.level(time).unwrap());
    assert_relative(quarter.signal(), 0.75 * before.signal(), 1e-13);
    assert_relative(quarter.prior_std(), 1.0, 1e-14);
    assert_close(process.time(quarter), 998.25, 1e-12);
    assert_eq!(process.level(999.0).unwrap().signal(), 0.0);
}

#[test]
fn invalid_processes_are_refused() {
    for (result, message) in [
        (
            Process::vp_linear(0.0, 1.0),
            "beta_min = 0 is outside (0, ∞)",
        ),
        (
            Process::vp_linear(2.0, 1.0),
            "beta_max = 1 is outside [beta_min, ∞)",
        ),
        (Process::vp_cosine(-0.1), "s = -0.1 is outside [0, ∞)"),
        (Process::edm(-1.0, 80.0), "sigma_min = -1 is outside (0, ∞)"),
        (
            Process::edm(80.0, 80.0),
            "sigma_max = 80 is outside (sigma_min, ∞)",
        ),
        (Process::flow(f64::NAN), "shift = NaN is outside (0, ∞)"),
    ] {
        assert_eq!(result.unwrap_err().to_string(), message);
    }
}
