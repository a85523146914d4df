//! The guarantees of a noise stream for every seed, sample and step.

use burn::tensor::Device;
use ddpm_process::NoiseStream;
use proptest::prelude::*;

use crate::values;

proptest! {
    /// A row of noise depends on its sample and step, and not on its batch.
    #[test]
    fn noise_does_not_depend_on_the_batch(
        seed: u64,
        samples in prop::collection::vec(any::<u64>(), 1..6),
        step: u32,
        len in 1..9_usize,
    ) {
        let stream = NoiseStream::new(seed, "test");
        let draw = |samples: &[u64]| {
            values(stream.normal(samples, step, [samples.len(), len], &Device::flex()))
        };
        let together = draw(&samples);
        let apart: Vec<f32> = samples.iter().flat_map(|&k| draw(&[k])).collect();
        prop_assert_eq!(&together, &apart);
        let backwards: Vec<u64> = samples.iter().rev().copied().collect();
        let backwards: Vec<f32> = draw(&backwards).chunks(len).rev().flatten().copied().collect();
        prop_assert_eq!(&together, &backwards);
        prop_assert!(together.iter().all(|z| z.is_finite()));
    }

    /// Different seeds, samples or steps have different noise. Four equal normals by chance have
    /// odds
    /// below 2⁻⁸⁰.
    #[test]
    fn different_keys_give_different_noise(
        a in (any::<u64>(), any::<u64>(), any::<u32>()),
        b in (any::<u64>(), any::<u64>(), any::<u32>()),
    ) {
        let draw = |(seed, sample, step)| {
            let mut out = [0.0; 4];
            NoiseStream::new(seed, "test").row(sample, step).fill_normal(&mut out);
            out
        };
        let mixed = [a, b, (b.0, a.1, a.2), (a.0, b.1, a.2), (a.0, a.1, b.2)];
        for (i, &one) in mixed.iter().enumerate() {
            for &two in &mixed[..i] {
                prop_assert_eq!(one == two, draw(one) == draw(two), "{:?} {:?}", one, two);
            }
        }
    }

    /// Uniform draws stay in [0, 1) and 1..=n.
    #[test]
    fn draws_stay_in_their_range(seed: u64, sample: u64, step: u32, n in 1..=u32::MAX) {
        let mut row = NoiseStream::new(seed, "test").row(sample, step);
        for _ in 0..20 {
            prop_assert!((0.0..1.0).contains(&row.uniform()));
            prop_assert!((1..=n).contains(&row.one_to(n)));
        }
    }
}
