//! Convolutions and their gradients against the definition in f64.

use ddpm_kernels::cpu::conv::{Algorithm, Conv, Epilogue, Shape, shift_gradient};
use ddpm_kernels::cpu::{Isa, Precision};

mod bf16;
mod bounds;
mod winograd;

/// A linear congruential generator: the same test data on every machine.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// One of `choices`.
    fn one<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.next()).unwrap() % choices.len()]
    }

    /// Numbers in [−1, 1).
    #[allow(clippy::cast_possible_truncation, reason = "rounds")]
    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| (self.next() as f64 / f64::from(1_u32 << 30) - 1.0) as f32)
            .collect()
    }
}

/// One term of the convolution's sum.
struct Term {
    y: usize,
    w: usize,
    /// The number of the input, and the index in it.
    x: (usize, usize),
}

/// Calls `f` with every term of y[b,p,q,o] = Σ w[o,i,r,c] · up(x)[b, s·p + r − top, s·q + c − left, i].
fn terms(shape: &Shape, [height, width]: [usize; 2], batch: usize, mut f: impl FnMut(&Term)) {
    let [c1, c2] = shape.in_channels;
    let read = |k: usize, p: usize, t: usize| {
        let padded = (shape.stride * p + t).checked_sub(shape.padding[k][0])?;
        let source = padded / shape.upsample;
        (source < shape.size[k]).then_some(source)
    };
    for b in 0..batch {
        for (p, q) in (0..height).flat_map(|p| (0..width).map(move |q| (p, q))) {
            for r in 0..shape.kernel[0] {
                for c in 0..shape.kernel[1] {
                    let (Some(row), Some(col)) = (read(0, p, r), read(1, q, c)) else {
                        continue;
                    };
                    let pixel = (b * shape.size[0] + row) * shape.size[1] + col;
                    for o in 0..shape.out_channels {
                        for i in 0..c1 + c2 {
                            f(&Term {
                                y: ((b * height + p) * width + q) * shape.out_channels + o,
                                w: ((o * (c1 + c2) + i) * shape.kernel[0] + r) * shape.kernel[1]
                                    + c,
                                x: if i < c1 {
                                    (0, pixel * c1 + i)
                                } else {
                                    (1, pixel * c2 + i - c1)
                                },
                            });
                        }
                    }
                }
            }
        }
    }
}

/// Sums, the sums of the magnitudes of their terms, and the numbers of terms.
struct Sums(Vec<(f64, f64, u32)>);

impl Sums {
    fn new(len: usize) -> Self {
        Self(vec![(0.0, 0.0, 0); len])
    }

    fn add(&mut self, at: usize, term: f64) {
        let (sum, magnitude, count) = &mut self.0[at];
        *sum += term;
        *magnitude += term.abs();
        *count += 1;
    }

    /// The error of a sum of n rounded products, in any order, is at most about n·ε·Σ|terms|. With
    /// random signs of the rounding errors it is about √n·ε·Σ|terms|. The bound is four times that,
    /// plus the error from merging weights.
    fn check(&self, name: &str, actual: &[f32]) {
        self.check_within(1.0, name, actual);
    }

    /// As `check`, with the bound multiplied by `factor`.
    fn check_within(&self, factor: f64, name: &str, actual: &[f32]) {
        for (at, (&(sum, magnitude, count), &actual)) in self.0.iter().zip(actual).enumerate() {
            let bound = factor
                * 4.0
                * (f64::from(count).sqrt() + 2.0)
                * f64::from(f32::EPSILON)
                * magnitude;
            let error = (f64::from(actual) - sum).abs();
            assert!(
                error <= bound,
                "{name}[{at}]: {actual} for {sum}, off by {error}, not {bound}"
            );
        }
    }
}

/// Inputs of one convolution and its exact results.
struct Case {
    conv: Conv,
    batch: usize,
    x: [Vec<f32>; 2],
    w: Vec<f32>,
    dy: Vec<f32>,
    bias: Vec<f32>,
    shift: Vec<f32>,
    residual: Vec<f32>,
}

/// The results of the kernels.
#[derive(PartialEq, Debug)]
struct Results {
    y: Vec<f32>,
    plain: Vec<f32>,
    dx: [Vec<f32>; 2],
    dw: Vec<f32>,
}

impl Case {
    fn new(shape: Shape, batch: usize, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let conv = Conv::new(shape).unwrap();
        let [height, width] = conv.output_size();
        let outputs = batch * height * width * shape.out_channels;
        let pixels = batch * shape.size[0] * shape.size[1];
        let weights = (shape.in_channels[0] + shape.in_channels[1])
            * shape.out_channels
            * shape.kernel[0]
            * shape.kernel[1];
        Self {
            x: shape.in_channels.map(|c| numbers.floats(pixels * c)),
            w: numbers.floats(weights),
            dy: numbers.floats(outputs),
            bias: numbers.floats(shape.out_channels),
            shift: numbers.floats(batch * shape.out_channels),
            residual: numbers.floats(outputs),
            conv,
            batch,
        }
    }

    /// All results of the kernels, written into buffers full of NaN.
    fn run(&self, isa: Isa, algorithm: Algorithm) -> Results {
        self.run_in(Precision::F32, isa, algorithm)
    }

    fn run_in(&self, precision: Precision, isa: Isa, algorithm: Algorithm) -> Results {
        let nan = |len| vec![f32::NAN; len];
        let mut results = Results {
            y: nan(self.dy.len()),
            plain: nan(self.dy.len()),
            dx: self.x.each_ref().map(|x| nan(x.len())),
            dw: nan(self.w.len()),
        };
        let x = self.x.each_ref().map(Vec::as_slice);
        let packed = self.conv.pack(isa, precision, algorithm, &self.w);
        let epilogue = Epilogue {
            bias: Some(&self.bias),
            shift: Some(&self.shift),
            residual: Some(&self.residual),
        };
        self.conv.forward(&packed, x, epilogue, &mut results.y);
        self.conv
            .forward(&packed, x, Epilogue::default(), &mut results.plain);
        let [dx, dx2] = &mut results.dx;
        let packed = self.conv.pack_transpose(isa, precision, algorithm, &self.w);
        self.conv
            .input_gradient(&packed, &self.dy, [Some(dx), Some(dx2)]);
        self.conv
            .weight_gradient(isa, precision, algorithm, x, &self.dy, &mut results.dw);
        results
    }

    fn check(&self, isa: Isa) {
        self.check_within(1.0, isa, Algorithm::Direct);
    }

    fn check_within(&self, factor: f64, isa: Isa, algorithm: Algorithm) {
        let results = self.run(isa, algorithm);
        let shape = self.conv.shape();
        let mut y = Sums::new(self.dy.len());
        let mut dx = self.x.each_ref().map(|x| Sums::new(x.len()));
        let mut dw = Sums::new(self.w.len());
        terms(shape, self.conv.output_size(), self.batch, |term| {
            let (k, at) = term.x;
            let [x, w, dy] = [self.x[k][at], self.w[term.w], self.dy[term.y]].map(f64::from);
            y.add(term.y, x * w);
            dx[k].add(at, dy * w);
            dw.add(term.w, dy * x);
        });
        y.check_within(factor, "y without epilogue", &results.plain);
        for (dx, actual) in dx.iter().zip(&results.dx) {
            dx.check_within(factor, "dx", actual);
        }
        dw.check_within(factor, "dw", &results.dw);
        let channels = shape.out_channels;
        let image = self.dy.len() / self.batch;
        for at in 0..self.dy.len() {
            y.add(at, f64::from(self.bias[at % channels]));
            y.add(
                at,
                f64::from(self.shift[at / image * channels + at % channels]),
            );
            y.add(at, f64::from(self.residual[at]));
        }
        y.check_within(factor, "y", &results.y);
    }
}

fn plain(size: [usize; 2], inputs: usize, outputs: usize, kernel: usize) -> Shape {
    Shape {
        size,
        in_channels: [inputs, 0],
        out_channels: outputs,
        kernel: [kernel; 2],
        stride: 1,
        padding: [[kernel / 2; 2]; 2],
        upsample: 1,
    }
}

/// The shapes of the U-Nets this project trains, small in height and width.
fn network() -> Vec<Shape> {
    vec![
        plain([9, 9], 64, 64, 3),
        plain([5, 5], 128, 64, 1),
        plain([8, 8], 3, 64, 3),
        plain([8, 8], 64, 1, 3),
        plain([6, 6], 20, 3, 3),
        Shape {
            stride: 2,
            ..plain([8, 8], 32, 48, 3)
        },
        Shape {
            stride: 2,
            padding: [[0, 1]; 2],
            ..plain([8, 8], 32, 32, 3)
        },
        Shape {
            upsample: 2,
            ..plain([7, 7], 32, 32, 3)
        },
        Shape {
            in_channels: [32, 17],
            ..plain([7, 5], 0, 40, 3)
        },
        plain([1, 1], 1, 1, 1),
        plain([1, 1], 1, 1, 3),
    ]
}

#[test]
fn network_shapes_match_the_definition() {
    for isa in Isa::available() {
        for (seed, shape) in (0..).zip(network()) {
            println!("{isa:?} {shape:?}");
            Case::new(shape, 3, seed).check(isa);
        }
    }
}

/// Small enough for Miri.
#[test]
fn tiny() {
    let strided = Shape {
        in_channels: [2, 1],
        stride: 2,
        padding: [[0, 1], [0, 1]],
        ..plain([3, 4], 0, 2, 3)
    };
    let upsampled = Shape {
        upsample: 2,
        ..plain([2, 2], 2, 1, 3)
    };
    for shape in [plain([5, 2], 2, 3, 3), strided, upsampled] {
        for algorithm in [
            Algorithm::Direct,
            Algorithm::Winograd2,
            Algorithm::Winograd4,
        ] {
            let case = Case::new(shape, 1, 1);
            // The bound of the least accurate algorithm, as in `winograd`.
            case.check_within(20.0, Isa::Portable, algorithm);
            case.run_in(Precision::Bf16, Isa::Portable, algorithm);
        }
    }
}

/// A shape with every feature at random.
fn random(numbers: &mut Numbers) -> (Shape, usize) {
    let shape = Shape {
        size: [(); 2].map(|()| numbers.one(&[1, 2, 3, 4, 5, 7, 8, 11])),
        in_channels: [
            numbers.one(&[1, 2, 3, 5, 8, 14, 15, 16, 17, 31, 33]),
            numbers.one(&[0, 0, 1, 4, 16, 19]),
        ],
        out_channels: numbers.one(&[1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 49]),
        kernel: [(); 2].map(|()| numbers.one(&[1, 3, 3, 5])),
        stride: numbers.one(&[1, 1, 2, 3]),
        padding: [(); 2].map(|()| [(); 2].map(|()| numbers.one(&[0, 1, 1, 2]))),
        upsample: numbers.one(&[1, 1, 2, 3]),
    };
    (shape, numbers.one(&[1, 2, 3, 5]))
}

#[test]
fn random_shapes_match_the_definition() {
    let mut numbers = Numbers::new(1);
    let mut checked = 0;
    while checked < 150 {
        let (shape, batch) = random(&mut numbers);
        if Conv::new(shape).is_err() {
            continue;
        }
        println!("{shape:?} batch {batch}");
        let case = Case::new(shape, batch, checked);
        for isa in Isa::available() {
            case.check(isa);
        }
        checked += 1;
    }
}

/// The division of the work depends on the shape alone.
#[test]
fn the_number_of_threads_changes_no_bit() {
    let shapes = [
        plain([28, 28], 17, 33, 3),
        plain([8, 8], 64, 64, 3),
        Shape {
            upsample: 2,
            ..plain([7, 7], 16, 40, 3)
        },
    ];
    for shape in shapes {
        let case = Case::new(shape, 7, 5);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build()
                .unwrap()
                .install(|| case.run(Isa::detect(), Algorithm::Fastest))
        };
        let one = run(1);
        assert!(run(2) == one && run(3) == one, "{shape:?}");
    }
}

#[test]
fn bias_and_shift_gradients_are_sums() {
    let mut numbers = Numbers::new(3);
    for (batch, pixels, channels) in [(1, 1, 1), (3, 5, 7), (2, 49, 33), (5, 9, 64), (0, 4, 3)] {
        let dy = numbers.floats(batch * pixels * channels);
        let mut exact = [Sums::new(batch * channels), Sums::new(channels)];
        for (k, &dy) in dy.iter().enumerate() {
            let channel = k % channels;
            exact[0].add(k / (pixels * channels) * channels + channel, f64::from(dy));
            exact[1].add(channel, f64::from(dy));
        }
        for isa in Isa::available() {
            let mut shift = vec![f32::NAN; batch * channels];
            let mut bias = vec![f32::NAN; channels];
            shift_gradient(isa, &dy, &mut shift, &mut bias);
            exact[0].check("shift", &shift);
            exact[1].check("bias", &bias);
        }
    }
}
