//! Random numbers that depend on their sample and step, and not on the batch.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// Each step of a sample owns 2³⁶ words of that sample's ChaCha stream: more than any row needs,
/// and room for 2³² steps.
const WORDS_PER_STEP: u128 = 1 << 36;

/// A counter-based source of random numbers.
///
/// The numbers of sample k at step n depend only on (seed, domain, k, n): the generator is ChaCha8
/// with the key (seed, domain), the stream k and the position n. Batch size, number of machines
/// and backend therefore cannot change a sample's numbers. The values are computed in f64 with a
/// portable `libm` and rounded to f32 once, so they are the same on every platform; they are
/// pinned by a test.
///
/// ```
/// use ddpm_random::Stream;
///
/// let stream = Stream::new(7, "time");
/// assert_eq!(stream.row(4, 0).uniform(), stream.row(4, 0).uniform()); // sample 4, step 0
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u8; 32],
}

impl Stream {
    /// The stream of `seed` for one purpose. Streams of different domains are independent.
    ///
    /// # Panics
    ///
    /// If `domain` is longer than 24 bytes; it is a name in the program, not data.
    pub fn new(seed: u64, domain: &'static str) -> Self {
        assert!(domain.len() <= 24, "domain {domain:?} exceeds 24 bytes");
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..8 + domain.len()].copy_from_slice(domain.as_bytes());
        Self { key }
    }

    /// The generator of sample `sample` at step `step` (below 2³²).
    pub fn row(&self, sample: u64, step: u32) -> RowRng {
        let mut rng = ChaCha8Rng::from_seed(self.key);
        rng.set_stream(sample);
        rng.set_word_pos(u128::from(step) * WORDS_PER_STEP);
        RowRng { rng }
    }
}

/// The generator of one sample at one step.
///
/// ```
/// use ddpm_random::Stream;
///
/// let mut rng = Stream::new(7, "time").row(4, 0);
/// assert!((0.0..1.0).contains(&rng.uniform()));
/// assert!((1..=1000).contains(&rng.one_to(1000)));
/// ```
#[derive(Clone, Debug)]
pub struct RowRng {
    rng: ChaCha8Rng,
}

impl RowRng {
    /// A uniform draw from [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        const TWO_53: f64 = (1_u64 << 53) as f64;
        (self.rng.next_u64() >> 11) as f64 / TWO_53
    }

    /// A uniform draw from 1..=`n`, with a bias below n·2⁻⁵³.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn one_to(&mut self, n: u32) -> u32 {
        assert!(n > 0, "nothing to draw from");
        1 + (self.uniform() * f64::from(n)) as u32
    }

    /// Fills `out` with independent standard normal values, by the Box–Muller transform.
    #[allow(clippy::cast_possible_truncation)]
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        for pair in out.chunks_mut(2) {
            // 1 − u lies in (0, 1], so the logarithm is finite.
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
            let (sin, cos) = libm::sincos(std::f64::consts::TAU * self.uniform());
            pair[0] = (radius * cos) as f32;
            if let Some(second) = pair.get_mut(1) {
                *second = (radius * sin) as f32;
            }
        }
    }

    /// Fills `out` with 1/(1 − p) where a value is kept and 0 where it is dropped: an inverted
    /// dropout mask. `p` is rounded to a multiple of 2⁻³².
    ///
    /// # Panics
    ///
    /// Unless 0 ≤ `p` < 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn fill_dropout(&mut self, p: f64, out: &mut [f32]) {
        assert!((0.0..1.0).contains(&p), "dropout of {p} is outside [0, 1)");
        let dropped = (p * 4_294_967_296.0) as u32;
        let kept = (1.0 / (1.0 - p)) as f32;
        for value in out {
            *value = if self.rng.next_u32() < dropped {
                0.0
            } else {
                kept
            };
        }
    }
}
