//! Winograd's algorithms: the same results as the definition, with their own errors.

use ddpm_kernels::cpu::Isa;
use ddpm_kernels::cpu::conv::{Algorithm, Shape};

use super::{Case, plain, terms};

/// Shapes to which Winograd's algorithms apply on every instruction set.
fn winograd_shapes() -> Vec<Shape> {
    vec![
        plain([12, 12], 64, 32, 3),
        plain([7, 13], 16, 48, 3),
        plain([1, 2], 16, 16, 3),
        Shape {
            in_channels: [32, 16],
            ..plain([9, 6], 0, 16, 3)
        },
        Shape {
            padding: [[0, 1], [2, 0]],
            ..plain([6, 5], 32, 32, 3)
        },
    ]
}

/// Sums in the transforms cancel, so the error is larger. The measured error is at most 3 times the
/// direct bound for F(2×2) and 20 times for F(4×4), whose matrices have entries up to 8.
#[test]
fn winograd_matches_the_definition() {
    for isa in Isa::available() {
        for (seed, shape) in (0..).zip(winograd_shapes()) {
            println!("{isa:?} {shape:?}");
            let case = Case::new(shape, 3, seed);
            case.check_within(3.0, isa, Algorithm::Winograd2);
            case.check_within(20.0, isa, Algorithm::Winograd4);
        }
    }
}

/// The documented error of each algorithm: the root mean square error of the output and of the weight
/// gradient, relative to the root mean square of the result.
#[test]
fn errors_are_as_documented() {
    let case = Case::new(plain([16, 16], 64, 64, 3), 2, 11);
    let mut exact = [vec![0.0; case.dy.len()], vec![0.0; case.w.len()]];
    terms(case.conv.shape(), case.conv.output_size(), 2, |term| {
        let x = f64::from(case.x[0][term.x.1]);
        exact[0][term.y] += x * f64::from(case.w[term.w]);
        exact[1][term.w] += x * f64::from(case.dy[term.y]);
    });
    let error = |found: &[f32], exact: &[f64]| {
        let norm: f64 = exact.iter().map(|y| y * y).sum();
        let pairs = found.iter().zip(exact);
        let error: f64 = pairs.map(|(&y, e)| (f64::from(y) - e).powi(2)).sum();
        (error / norm).sqrt()
    };
    for (algorithm, limits) in [
        (Algorithm::Direct, [6e-7, 6e-7]),
        (Algorithm::Winograd2, [6e-7, 6e-7]),
        (Algorithm::Winograd4, [3e-6, 3e-6]),
        (Algorithm::Fastest, [3e-6, 3e-6]),
        (Algorithm::FastestOfOne, [3e-6, 3e-6]),
    ] {
        let found = case.run(Isa::detect(), algorithm);
        let errors = [error(&found.plain, &exact[0]), error(&found.dw, &exact[1])];
        println!("{algorithm:?}: {errors:.1?}");
        for (error, limit) in errors.into_iter().zip(limits) {
            assert!(error < limit, "{algorithm:?}: {error:.1e}");
        }
    }
}
