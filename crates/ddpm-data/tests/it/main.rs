//! The data sets: what they hold, and how a broken file is refused.
#![allow(missing_docs)]

mod cifar10;
mod folders;
mod idx;
mod image_folder;
mod images;
mod loader;
mod whole;

use std::sync::Arc;

use ddpm_data::{Dataset, Loader, Source, load};

/// All of row `i`.
fn row(dataset: &dyn Dataset, i: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; dataset.row_len()];
    dataset.write_row(i, &mut out).unwrap();
    out
}

/// The source is refused with a message that has all the parts: the file and the numbers.
fn assert_refused(source: &Source, parts: &[&str]) {
    let message = load(source).expect_err("a broken source loads").to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn digits_are_the_published_ones() {
    let digits = load(&Source::Digits).unwrap();
    assert_eq!((digits.len(), digits.shape()), (1797, &[1, 8, 8][..]));
    assert_eq!(digits.classes(), Some(10));
    assert_eq!(digits.class_names()[7], "7");
    let mut counts = [0; 10];
    let mut sum = 0.0;
    for i in 0..digits.len() {
        counts[digits.label(i).unwrap()] += 1;
        // v = 16·(x + 1)/2 is a small integer, so the sum is exact.
        sum += row(&digits, i)
            .iter()
            .map(|x| 8.0 * (f64::from(*x) + 1.0))
            .sum::<f64>();
    }
    // Counts and sum as scikit-learn's copy has them.
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    assert!((sum - 561_718.0).abs() < 0.5, "{sum}");
    // The first row of the first digit: 0 0 5 13 9 1 0 0, of 16.
    assert_eq!(
        row(&digits, 0)[..8],
        [-1.0, -1.0, -0.375, 0.625, 0.125, -0.875, -1.0, -1.0]
    );
}

/// Some rows of a batch are mirrored, the others are as they were.
#[test]
fn mirroring_reverses_each_line_and_only_that() {
    let digits: Arc<dyn Dataset> = Arc::new(load(&Source::Digits).unwrap());
    let loader = Loader::new(digits.clone(), 64, 0..64, 0, true, 0, 0).unwrap();
    let batch = loader.batch(0).unwrap();
    let mut mirrored = 0;
    for (found, &i) in batch.rows.chunks(64).zip(&batch.indices) {
        let straight = row(&*digits, i);
        let expected: Vec<f32> = (0..64).map(|i| straight[8 * (i / 8) + 7 - i % 8]).collect();
        assert!(found == straight || found == expected, "row {i}");
        mirrored += usize::from(found != straight);
    }
    // Of 64 rows one half, within 4 standard errors of 4.
    assert!((16..=48).contains(&mirrored), "{mirrored}");
}

#[test]
fn toys_are_standardised_and_reproducible() {
    let points = 5000;
    for seed in [0, 1] {
        for source in [
            Source::SwissRoll { points, seed },
            Source::TwoMoons { points, seed },
        ] {
            let toy = load(&source).unwrap();
            assert_eq!(
                (toy.len(), toy.shape(), toy.classes()),
                (points, &[2][..], None)
            );
            for axis in 0..2 {
                let values: Vec<f64> = (0..points).map(|i| f64::from(row(&toy, i)[axis])).collect();
                let mean = values.iter().sum::<f64>() / points as f64;
                let square = values.iter().map(|v| v * v).sum::<f64>() / points as f64;
                // Exact but for rounding to f32: 6e-8 of values below 4.
                assert!(
                    mean.abs() < 1e-6 && (square - 1.0).abs() < 1e-6,
                    "{mean} {square}"
                );
            }
            let again = load(&source).unwrap();
            assert!((0..points).all(|i| row(&again, i) == row(&toy, i)));
        }
    }
    let first = |seed| row(&load(&Source::SwissRoll { points, seed }).unwrap(), 0);
    assert_ne!(first(0), first(1));
}

#[test]
fn the_swiss_roll_is_a_spiral() {
    // Undo the standardisation with the exact moments of (θ cos θ, θ sin θ) + N(0, ¼) for θ
    // uniform on [3π/2, 9π/2], found by integrating on a grid; then the radius of a point must
    // fit its angle modulo a turn, θ ≡ atan2(y, x). 5000 points know a mean to 7/√5000 = 0.1.
    let points = 5000;
    let roll = load(&Source::SwissRoll { points, seed: 0 }).unwrap();
    let grid = 100_000;
    let theta =
        |i: i32| std::f64::consts::PI * (1.5 + 3.0 * (f64::from(i) + 0.5) / f64::from(grid));
    let mean =
        |f: &dyn Fn(f64) -> f64| (0..grid).map(|i| f(theta(i))).sum::<f64>() / f64::from(grid);
    let moments = |f: fn(f64) -> f64| {
        let first = mean(&|t| t * f(t));
        let second = mean(&|t| (t * f(t)).powi(2));
        (first, (second - first * first + 0.25).sqrt())
    };
    let [(mean_x, std_x), (mean_y, std_y)] = [moments(f64::cos), moments(f64::sin)];
    let fits = (0..points).filter(|&i| {
        let point = row(&roll, i);
        let x = mean_x + std_x * f64::from(point[0]);
        let y = mean_y + std_y * f64::from(point[1]);
        let turns = (x.hypot(y) - y.atan2(x)) / std::f64::consts::TAU;
        // Arms are 2π apart; three standard deviations of the blur are 1.5, the moments add 0.5.
        // Of points spread evenly, a third would fail.
        (turns - turns.round()).abs() * std::f64::consts::TAU < 2.0
    });
    assert!(fits.count() > points * 99 / 100);
}

#[test]
fn toys_of_no_or_too_many_points_are_refused() {
    let seed = 0;
    assert_refused(
        &Source::SwissRoll { points: 0, seed },
        &["swiss-roll", "found 0"],
    );
    let points = usize::MAX;
    assert_refused(
        &Source::TwoMoons { points, seed },
        &["two-moons", &points.to_string()],
    );
}

#[test]
fn toys_keep_their_values() {
    // Pinned: a change here changes every run on a toy.
    let close = |source, expected: [f32; 2]| {
        let point = row(&load(&source).unwrap(), 0);
        // The moments that standardise are sums over all points; the rest is portable to the bit.
        for (x, e) in point.iter().zip(expected) {
            assert!((x - e).abs() < 1e-6, "{point:?}");
        }
    };
    let (points, seed) = (100, 0);
    close(
        Source::SwissRoll { points, seed },
        [-1.407_064_4, -0.910_266_34],
    );
    close(
        Source::TwoMoons { points, seed },
        [-0.411_172_57, 1.828_995_2],
    );
}
