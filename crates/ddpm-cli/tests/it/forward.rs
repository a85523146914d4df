//! The forward process on data, against its closed form.

use burn::tensor::Device;
use ddpm_cli::forward::{Moment, run};
use ddpm_data::{self, Source};
use ddpm_schedule::NoiseSchedule;

/// Runs of both processes on data that is far from Gaussian: every moment within five standard
/// errors, of which chance exceeds one in two million. A pixel that is black in all but one of 1797
/// digits has no such law until noise has come to it.
#[test]
fn both_processes_have_the_moments_of_the_closed_form() {
    let points = 2000;
    let moons = ddpm_data::load(&Source::TwoMoons { points, seed: 0 }).unwrap();
    let digits = ddpm_data::load(&Source::Digits).unwrap();
    let vp = NoiseSchedule::linear(50, 2e-3, 0.4).unwrap();
    let walk = NoiseSchedule::random_walk(50, 0.3).unwrap();
    for (data, rows, at) in [
        (&moons, 4000, &[0, 1, 25, 50][..]),
        (&digits, 1000, &[25, 50]),
    ] {
        for schedule in [&vp, &walk] {
            let moments = run(data, schedule, rows, 1, at, &Device::flex(), |_, _| ()).unwrap();
            assert_eq!(moments.len(), at.len());
            for moments in &moments {
                for moment in moments.mean.iter().chain(&moments.covariance) {
                    assert!(moment.z().abs() < 5.0, "t = {}: {moment:?}", moments.t);
                }
            }
        }
    }
}

/// By hand: the walk's variance is Σ + Tσ² and grows without end, DDPM's ends at 1; the walk keeps
/// the mean, DDPM forgets it.
#[test]
fn the_walk_ends_elsewhere_than_ddpm() {
    let digits = ddpm_data::load(&Source::Digits).unwrap();
    let last = |schedule: &NoiseSchedule| {
        let moments = run(
            &digits,
            schedule,
            100,
            0,
            &[0, 50],
            &Device::flex(),
            |_, _| (),
        )
        .unwrap();
        let variance = |i: usize| moments[i].covariance[0].expected;
        let mean = |i: usize| moments[i].mean[0].expected;
        // The first pixel of every digit is black.
        assert!((mean(0) + 1.0).abs() < 1e-12 && variance(0) < 1e-12);
        [mean(1), variance(1)]
    };
    let walk = last(&NoiseSchedule::random_walk(50, 0.3).unwrap());
    assert!(
        (walk[0] + 1.0).abs() < 1e-12 && (walk[1] - 4.5).abs() < 1e-12,
        "{walk:?}"
    );
    let vp = last(&NoiseSchedule::linear(50, 2e-3, 0.4).unwrap());
    // Π(1 − β) = 8e-6.
    assert!(vp[0].abs() < 4e-3 && (vp[1] - 1.0).abs() < 1e-5, "{vp:?}");
}

#[test]
fn z_counts_standard_errors() {
    let moment = Moment {
        measured: 1.5,
        expected: 1.0,
        error: 0.25,
    };
    assert_eq!(moment.z(), 2.0);
}
