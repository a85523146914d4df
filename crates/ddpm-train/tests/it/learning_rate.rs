//! The learning rate by hand.

use ddpm_train::optim::{Decay, LearningRate};

const DECAYS: [Decay; 4] = [
    Decay::Constant,
    Decay::Cosine,
    Decay::InverseSqrt,
    Decay::Linear,
];

fn rate(warmup: u64, decay: Decay) -> LearningRate {
    LearningRate {
        peak: 0.8,
        warmup,
        decay,
    }
}

/// f64 throughout: some roundings of 1e-16.
fn check(rate: LearningRate, steps: u64, expected: &[(u64, f64)]) {
    for &(step, expected) in expected {
        let found = rate.at(step, steps);
        assert!((found - expected).abs() < 1e-15, "{rate:?} {step}: {found}");
    }
}

/// 4 steps of warmup to 0.8. Step 12 would be the one after the last of 11: a quarter, a half and three
/// quarters of the way there are the steps 6, 8 and 10.
#[test]
fn the_rate_falls_toward_the_step_after_the_last() {
    let root = std::f64::consts::SQRT_2;
    let warm = [(1, 0.2), (2, 0.4), (3, 0.6), (4, 0.8)];
    for decay in DECAYS {
        check(rate(4, decay), 11, &warm);
    }
    let cosine = [
        (6, 0.4 + 0.2 * root),
        (8, 0.4),
        (10, 0.4 - 0.2 * root),
        // The last: sin²(π/16)·0.8, by the half angles (1 − √(2 + √2)/2)/2.
        (11, 0.4 * (1.0 - (2.0 + root).sqrt() / 2.0)),
        (12, 0.0),
        (20, 0.0),
    ];
    check(rate(4, Decay::Cosine), 11, &cosine);
    let linear = [
        (6, 0.6),
        (8, 0.4),
        (10, 0.2),
        (11, 0.1),
        (12, 0.0),
        (20, 0.0),
    ];
    check(rate(4, Decay::Linear), 11, &linear);
    let inverse_sqrt = [(9, 0.8 * 2.0 / 3.0), (16, 0.4), (64, 0.2), (400, 0.08)];
    for steps in [20, 1000] {
        check(rate(4, Decay::InverseSqrt), steps, &inverse_sqrt);
    }
    check(
        rate(4, Decay::Constant),
        11,
        &[(5, 0.8), (11, 0.8), (20, 0.8)],
    );
}

/// Without warmup the first step has the peak, and a run of three steps the thirds: 1, 2/3 and 1/3 of the
/// way to zero are left, whose cosines are 1, 1/2 and −1/2.
#[test]
fn a_run_without_warmup_begins_at_the_peak() {
    for warmup in [0, 1] {
        let thirds = [(1, 0.8), (2, 0.8 * 2.0 / 3.0), (3, 0.8 / 3.0)];
        check(rate(warmup, Decay::Linear), 3, &thirds);
        check(
            rate(warmup, Decay::Cosine),
            3,
            &[(1, 0.8), (2, 0.6), (3, 0.2)],
        );
        check(rate(warmup, Decay::InverseSqrt), 3, &[(1, 0.8), (4, 0.4)]);
        check(rate(warmup, Decay::Constant), 3, &[(1, 0.8), (3, 0.8)]);
    }
}

/// No step of a run has the rate 0, and a run that ends within its warmup divides by nothing.
#[test]
fn every_step_moves_the_weights() {
    for decay in DECAYS {
        for warmup in 0..6 {
            for steps in 1..8 {
                for step in 1..=steps {
                    let found = rate(warmup, decay).at(step, steps);
                    assert!(found > 0.0 && found <= 0.8, "{decay:?} {step} of {steps}");
                }
            }
        }
        check(rate(4, decay), 2, &[(1, 0.2), (2, 0.4)]);
    }
}
