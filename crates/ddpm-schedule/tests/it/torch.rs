//! The numbers of `torch.randn` on a CPU, which are the noise of the peers' tests.

/// The Mersenne Twister MT19937 (Matsumoto & Nishimura 1998), seeded as `torch.manual_seed` does.
pub(crate) struct Torch {
    state: [u32; 624],
    next: usize,
}

impl Torch {
    pub(crate) fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for (i, at) in (1..624).zip(1_u32..) {
            let last: u32 = state[i - 1];
            state[i] = (last ^ (last >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(at);
        }
        Self { state, next: 624 }
    }

    fn twist(&mut self) {
        for i in 0..624 {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % 624] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// Uniform in [0, 1), the lower 24 bits of a draw.
    fn uniform(&mut self) -> f64 {
        if self.next == 624 {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^= y >> 18;
        f64::from(y & 0x00ff_ffff) / f64::from(1 << 24)
    }

    /// `n` standard normal numbers, n a multiple of 16: Box–Muller pairs are eight apart.
    pub(crate) fn randn(&mut self, n: usize) -> Vec<f64> {
        assert!(n.is_multiple_of(16), "another rule serves the rest");
        let mut x: Vec<f64> = (0..n).map(|_| self.uniform()).collect();
        #[allow(
            clippy::cast_possible_truncation,
            reason = "every operation of torch's is rounded to f32"
        )]
        let round = |x: f64| f64::from(x as f32);
        for block in x.chunks_exact_mut(16) {
            for j in 0..8 {
                let radius = round(round(-2.0 * round((-block[j]).ln_1p())).sqrt());
                let angle = round(round(std::f64::consts::TAU) * block[j + 8]);
                let (sin, cos) = angle.sin_cos();
                (block[j], block[j + 8]) = (round(radius * round(cos)), round(radius * round(sin)));
            }
        }
        x
    }
}

/// As `torch.manual_seed(0); torch.randn(16)` prints, to four places.
#[test]
fn the_noise_is_torchs() {
    let x = Torch::new(0).randn(16);
    let printed = [
        -1.1258, -1.1524, -0.2506, -0.4339, 0.8487, 0.6920, -0.3160, -2.1152,
    ];
    for (x, printed) in x.into_iter().zip(printed) {
        crate::assert_close(x, printed, 5.1e-5);
    }
}
