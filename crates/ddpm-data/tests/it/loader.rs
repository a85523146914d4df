//! The order of rows: a function of the seed alone.

use std::sync::Arc;

use ddpm_data::{Batch, DataError, Dataset, Loader, Source, load};

use crate::row;

const LEN: u64 = 1797;

fn digits() -> Arc<dyn Dataset> {
    Arc::new(load(&Source::Digits).unwrap())
}

fn loader(batch_size: usize, flip: bool, workers: usize, first_step: u64) -> Loader {
    Loader::new(
        digits(),
        batch_size,
        0..batch_size,
        0,
        flip,
        workers,
        first_step,
    )
    .unwrap()
}

/// The same batches as an iterator.
fn batches(
    batch_size: usize,
    flip: bool,
    workers: usize,
    first_step: u64,
) -> impl Iterator<Item = Batch> {
    loader(batch_size, flip, workers, first_step).map(Result::unwrap)
}

#[test]
fn batches_do_not_depend_on_workers_or_on_where_one_starts() {
    // 40 batches of 100 straddle two ends of epochs.
    let whole: Vec<Batch> = batches(100, true, 0, 0).take(40).collect();
    for workers in [1, 3] {
        assert!(
            batches(100, true, workers, 0)
                .take(40)
                .eq(whole.iter().cloned()),
            "{workers}"
        );
        for first in [1, 17] {
            let resumed = batches(100, true, workers, first).take(40 - 17);
            let first = usize::try_from(first).unwrap();
            assert!(
                resumed.eq(whole[first..first + 40 - 17].iter().cloned()),
                "{workers} {first}"
            );
        }
    }
    let any = loader(100, true, 2, 5);
    for step in [39, 0, 18, 17] {
        assert_eq!(any.batch(step as u64).unwrap(), whole[step]);
    }
}

#[test]
fn a_batch_holds_what_it_says() {
    let data = digits();
    for (step, batch) in batches(7, false, 1, 0).take(3).enumerate() {
        let first = 7 * step as u64;
        assert_eq!(batch.samples, (first..first + 7).collect::<Vec<_>>());
        let rows: Vec<f32> = batch.indices.iter().flat_map(|&i| row(&*data, i)).collect();
        assert_eq!(batch.rows, rows);
        let labels: Option<Vec<usize>> = batch.indices.iter().map(|&i| data.label(i)).collect();
        assert_eq!(batch.labels, labels);
    }
    let roll = load(&Source::SwissRoll { points: 3, seed: 0 }).unwrap();
    let batch = Loader::new(Arc::new(roll), 8, 0..8, 0, true, 0, 0)
        .unwrap()
        .batch(0)
        .unwrap();
    // Larger than the data: the batch runs through several epochs. Points are not mirrored.
    assert_eq!(
        (batch.labels, batch.rows.len(), batch.indices.len()),
        (None, 16, 8)
    );
}

#[test]
fn every_epoch_is_another_permutation() {
    let positions = batches(100, false, 0, 0)
        .take(54)
        .flat_map(|batch| batch.indices);
    let order: Vec<usize> = positions.take(3 * 1797).collect();
    let epochs: Vec<&[usize]> = order.chunks(1797).collect();
    for epoch in &epochs {
        let mut sorted = epoch.to_vec();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1797));
    }
    // Two random permutations agree in one place on average (Poisson), so 10 would be a wonder.
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert!(
            epochs[a]
                .iter()
                .zip(epochs[b])
                .filter(|(x, y)| x == y)
                .count()
                < 10
        );
    }
}

#[test]
fn shuffles_are_uniform() {
    // All 6 orders of 3 rows over 6000 epochs: each has 1000 ± 5·√(6000·1/6·5/6) = ±144.
    let points = load(&Source::TwoMoons { points: 3, seed: 0 }).unwrap();
    let epochs = Loader::new(Arc::new(points), 3, 0..3, 1, false, 0, 0).unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for batch in epochs.take(6000).map(Result::unwrap) {
        *counts.entry(batch.indices).or_insert(0_i32) += 1;
    }
    assert_eq!(counts.len(), 6);
    assert!(
        counts.values().all(|n| (n - 1000).abs() < 144),
        "{counts:?}"
    );
}

#[test]
fn the_order_keeps_its_values() {
    // Pinned: a change here changes every run.
    let first = loader(8, false, 0, 0).batch(0).unwrap();
    assert_eq!(first.indices, [175, 1243, 779, 597, 1136, 784, 1690, 304]);
    let second = loader(8, false, 0, 0).batch(225).unwrap();
    assert_eq!(second.samples[0] / LEN, 1);
    assert_eq!(
        second.indices,
        [1614, 843, 1042, 1511, 154, 1565, 1358, 1052]
    );
}

#[test]
fn half_of_the_rows_are_mirrored() {
    let data = digits();
    let (mut flips, mut rows) = (0.0, 0.0);
    let mut pattern = Vec::new();
    for batch in batches(200, true, 0, 0).take(50) {
        for (&i, found) in batch.indices.iter().zip(batch.rows.chunks(64)) {
            let straight = row(&*data, i);
            let mirrored: Vec<f32> = straight
                .chunks(8)
                .flat_map(|line| line.iter().rev().copied())
                .collect();
            let flipped = found == mirrored;
            assert!(flipped || found == straight);
            if straight != mirrored {
                flips += f64::from(u8::from(flipped));
                rows += 1.0;
            }
            pattern.push(flipped);
        }
    }
    // 5 standard errors of a fair coin.
    assert!(
        (flips / rows - 0.5).abs() < 5.0 * 0.5 / f64::sqrt(rows),
        "{flips} of {rows}"
    );
    // The flip belongs to the position, not to the row: epochs differ.
    assert_ne!(pattern[..1797], pattern[1797..2 * 1797]);
}

#[test]
fn dropping_the_loader_ends_its_threads() {
    let data = digits();
    let mut loader = Loader::new(Arc::clone(&data), 4, 0..4, 0, false, 3, 0).unwrap();
    loader.next().unwrap().unwrap();
    assert!(Arc::strong_count(&data) > 3);
    drop(loader);
    assert_eq!(Arc::strong_count(&data), 1);
}

#[test]
fn impossible_batches_are_refused() {
    let refused = |batch_size, first_step| {
        let loader = Loader::new(digits(), batch_size, 0..batch_size, 0, false, 1, first_step);
        loader.err().expect("an impossible loader").to_string()
    };
    let message = refused(0, 0);
    assert!(message.contains("batches of 0 from 1797"), "{message}");
    let message = refused(128, u64::MAX / 128);
    assert!(message.contains(&(u64::MAX / 128).to_string()), "{message}");
    assert!(refused(1, u64::MAX).contains(&u64::MAX.to_string()));
}

/// Numbers as points, of which the last cannot be read.
struct Numbers;

impl Dataset for Numbers {
    fn len(&self) -> usize {
        10
    }

    fn shape(&self) -> &[usize] {
        &[2]
    }

    fn write_row(&self, i: usize, row: &mut [f32]) -> Result<(), DataError> {
        let number = u8::try_from(i).unwrap();
        row.fill(number.into());
        let broken = || DataError::Source(format!("number {i}"));
        (i < 9).then_some(()).ok_or_else(broken)
    }

    fn fingerprint(&self) -> String {
        "numbers".to_owned()
    }
}

#[test]
fn a_data_set_of_ones_own_is_loaded_and_its_errors_arrive() {
    for workers in [0, 1, 3] {
        let loader = Loader::new(Arc::new(Numbers), 1, 0..1, 0, false, workers, 0).unwrap();
        let (mut found, mut broken) = (Vec::new(), 0);
        for batch in loader.take(20) {
            match batch {
                Ok(batch) => {
                    let number = f32::from(u8::try_from(batch.indices[0]).unwrap());
                    assert_eq!((batch.rows, batch.labels), (vec![number; 2], None));
                    found.push(batch.indices[0]);
                }
                Err(error) => {
                    assert_eq!(error.to_string(), "number 9");
                    broken += 1;
                }
            }
        }
        assert_eq!((found.len(), broken), (18, 2));
        found.sort_unstable();
        assert_eq!(found[..4], [0, 0, 1, 1]);
    }
}
