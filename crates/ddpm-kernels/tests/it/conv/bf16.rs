//! Convolutions in bf16: with AVX512-BF16 where the processor has it, and in plain Rust everywhere.

use ddpm_kernels::cpu::conv::{Algorithm, Conv};
use ddpm_kernels::cpu::{Isa, Precision};

use super::{Case, Numbers, Results, network, plain, random, terms};

/// The root mean square of the difference, relative to that of the exact numbers.
fn error(found: &[f32], exact: &[f64]) -> f64 {
    let norm: f64 = exact.iter().map(|y| y * y).sum();
    let pairs = found.iter().zip(exact);
    let error: f64 = pairs.map(|(&y, e)| (f64::from(y) - e).powi(2)).sum();
    (error / norm).sqrt()
}

/// y without epilogue, dx and dw of the definition.
fn exact(case: &Case) -> [Vec<f64>; 4] {
    let [mut y, mut dw] = [&case.dy, &case.w].map(|x| vec![0.0; x.len()]);
    let mut dx = case.x.each_ref().map(|x| vec![0.0; x.len()]);
    terms(
        case.conv.shape(),
        case.conv.output_size(),
        case.batch,
        |term| {
            let (k, at) = term.x;
            let [x, w, slope] = [case.x[k][at], case.w[term.w], case.dy[term.y]].map(f64::from);
            y[term.y] += x * w;
            dx[k][at] += slope * w;
            dw[term.w] += slope * x;
        },
    );
    let [dx, dx2] = dx;
    [y, dx, dx2, dw]
}

fn found(results: &Results) -> [&[f32]; 4] {
    let [dx, dx2] = &results.dx;
    [&results.plain, dx, dx2, &results.dw]
}

/// The relative error of a bf16 is at most 2⁻⁹ and that of a product of two at most 2⁻⁸, on average
/// 1.6·10⁻³. For a sum of products with random signs it is the same on average. In a sum of few terms
/// they may cancel, so the limit is twice the maximum.
#[test]
fn random_shapes_are_within_the_rounding_error() {
    let mut numbers = Numbers::new(4);
    let mut shapes: Vec<_> = network().into_iter().map(|shape| (shape, 3)).collect();
    while shapes.len() < 100 {
        let (shape, batch) = random(&mut numbers);
        if Conv::new(shape).is_ok() {
            shapes.push((shape, batch));
        }
    }
    for (seed, (shape, batch)) in (0..).zip(shapes) {
        println!("{shape:?} batch {batch}");
        let case = Case::new(shape, batch, seed);
        let exact = exact(&case);
        for isa in [Isa::detect(), Isa::Portable] {
            let results = case.run_in(Precision::Bf16, isa, Algorithm::Direct);
            for (found, exact) in found(&results).into_iter().zip(&exact) {
                assert!(found.iter().all(|x| x.is_finite()));
                if exact.iter().any(|&x| x != 0.0) {
                    let error = error(found, exact);
                    assert!(error < 8e-3, "{isa:?}: {error:.1e}");
                }
            }
        }
    }
}

/// The instruction and plain Rust differ only in the order of sums.
#[test]
fn the_instruction_matches_plain_rust() {
    let case = Case::new(plain([12, 12], 64, 64, 3), 3, 7);
    for algorithm in [
        Algorithm::Direct,
        Algorithm::Winograd2,
        Algorithm::Winograd4,
    ] {
        let run = |isa| case.run_in(Precision::Bf16, isa, algorithm);
        let (here, spelt_out) = (run(Isa::detect()), run(Isa::Portable));
        for (found, other) in found(&here).into_iter().zip(found(&spelt_out)) {
            let other: Vec<f64> = other.iter().copied().map(f64::from).collect();
            if !other.is_empty() {
                let error = error(found, &other);
                println!("{algorithm:?}: {error:.1e}");
                // A number may be rounded differently if its f32 differs in the last bit.
                assert!(error < 1e-4, "{algorithm:?}: {error:.1e}");
            }
        }
    }
}

/// The documented error of each algorithm, as in `super::winograd`.
#[test]
fn errors_are_as_documented() {
    let case = Case::new(plain([16, 16], 64, 64, 3), 2, 11);
    let exact = exact(&case);
    for (algorithm, limits) in [
        (Algorithm::Direct, [2.5e-3, 2.5e-3, 2.5e-3]),
        (Algorithm::Winograd2, [5e-3, 5e-3, 5e-3]),
        (Algorithm::Winograd4, [3.5e-2, 3.5e-2, 3.5e-2]),
    ] {
        let results = case.run_in(Precision::Bf16, Isa::detect(), algorithm);
        let [y, dx, _, dw] = found(&results);
        let errors = [
            error(y, &exact[0]),
            error(dx, &exact[1]),
            error(dw, &exact[3]),
        ];
        println!("{algorithm:?}: {errors:?}");
        for (error, limit) in errors.into_iter().zip(limits) {
            assert!(error < limit, "{algorithm:?}: {error:.1e}");
        }
    }
}
