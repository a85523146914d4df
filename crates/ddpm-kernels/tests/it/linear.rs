//! The linear layer and its gradients against sums in f64.

use ddpm_kernels::cpu::Isa;
use ddpm_kernels::cpu::linear::{Packed, apply, bias_gradient, weight_gradient};

use crate::reference::{Data, assert_same_on_any_threads, bits, wide};

/// a[m][k]·b[k][n] through index functions, and Σ|terms| for the error bound.
fn product(
    [m, n, k]: [usize; 3],
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> Vec<(f64, f64)> {
    (0..m * n)
        .map(|i| {
            (0..k).fold((0.0, 0.0), |(sum, size), k| {
                let term = a(i / n, k) * b(k, i % n);
                (sum + term, size + term.abs())
            })
        })
        .collect()
}

/// A sum of k terms in any order errs by at most k·2⁻²⁴·Σ|terms| (Higham 2002, §4.2).
#[track_caller]
fn assert_sums(what: &str, out: &[f32], exact: &[(f64, f64)], k: usize) {
    assert_eq!(out.len(), exact.len());
    for (i, (&out, &(exact, size))) in out.iter().zip(exact).enumerate() {
        let bound = (k + 2) as f64 * 2f64.powi(-24) * size + 1e-30;
        let error = (f64::from(out) - exact).abs();
        assert!(
            error <= bound,
            "{what}[{i}] = {out}, exactly {exact}, bound {bound:e}"
        );
    }
}

/// [M, inputs, outputs]: one of each, sizes around the tiles', and several tasks each way.
const SHAPES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [1, 64, 256],
    [3, 5, 7],
    [13, 16, 17],
    [97, 33, 31],
    [200, 8, 100],
    [64, 257, 47],
    [700, 12, 1],
    [1030, 40, 130],
];

#[test]
fn products_and_gradients() {
    for (seed, shape) in SHAPES.into_iter().enumerate() {
        let [m, inputs, outputs] = shape;
        let mut data = Data::new(seed as u64);
        let (x, w) = (data.values(m * inputs), data.values(outputs * inputs));
        let (b, dy) = (data.values(outputs), data.values(m * outputs));
        let [wx, ww, wb, wdy] = [&x, &w, &b, &dy].map(|v| wide(v));
        let mut y = product(
            [m, outputs, inputs],
            |m, k| wx[m * inputs + k],
            |k, n| ww[n * inputs + k],
        );
        for (i, (sum, size)) in y.iter_mut().enumerate() {
            *sum += wb[i % outputs];
            *size += wb[i % outputs].abs();
        }
        let dx = product(
            [m, inputs, outputs],
            |m, k| wdy[m * outputs + k],
            |k, n| ww[k * inputs + n],
        );
        let dw = product(
            [outputs, inputs, m],
            |o, k| wdy[k * outputs + o],
            |k, n| wx[k * inputs + n],
        );
        let db = product([1, outputs, m], |_, _| 1.0, |k, n| wdy[k * outputs + n]);
        for isa in Isa::available() {
            let what = |name| format!("{isa:?} {shape:?} {name}");
            let mut out = vec![f32::NAN; m * outputs];
            apply(
                &Packed::forward(isa, &w, outputs, inputs),
                &x,
                Some(&b),
                &mut out,
            );
            assert_sums(&what("y"), &out, &y, inputs);
            let mut out = vec![f32::NAN; m * inputs];
            apply(
                &Packed::backward(isa, &w, outputs, inputs),
                &dy,
                None,
                &mut out,
            );
            assert_sums(&what("dx"), &out, &dx, outputs);
            let mut out = vec![f32::NAN; outputs * inputs];
            weight_gradient(isa, [outputs, inputs], &x, &dy, &mut out);
            assert_sums(&what("dW"), &out, &dw, m);
            let mut out = vec![f32::NAN; outputs];
            bias_gradient(isa, &dy, &mut out);
            assert_sums(&what("db"), &out, &db, m);
        }
    }
}

#[test]
fn no_rows_give_no_gradient() {
    let mut dw = vec![f32::NAN; 6];
    weight_gradient(Isa::detect(), [2, 3], &[], &[], &mut dw);
    assert_eq!(dw, [0.0; 6]);
    let mut db = vec![f32::NAN; 2];
    bias_gradient(Isa::detect(), &[], &mut db);
    assert_eq!(db, [0.0; 2]);
}

#[test]
fn threads_do_not_change_a_bit() {
    let [m, inputs, outputs] = [1500, 70, 90];
    let mut data = Data::new(1);
    let (x, w) = (data.values(m * inputs), data.values(outputs * inputs));
    let dy = data.values(m * outputs);
    assert_same_on_any_threads(|| {
        let isa = Isa::detect();
        let mut y = vec![0.0; m * outputs];
        apply(&Packed::forward(isa, &w, outputs, inputs), &x, None, &mut y);
        let (mut dw, mut db) = (vec![0.0; outputs * inputs], vec![0.0; outputs]);
        weight_gradient(isa, [outputs, inputs], &x, &dy, &mut dw);
        bias_gradient(isa, &dy, &mut db);
        bits(&[&y, &dw, &db])
    });
}
