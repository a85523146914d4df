//! AdamW, clipping and the moving average against their formulas in f64.

use ddpm_kernels::cpu::Isa;
use ddpm_kernels::cpu::adamw::{AdamW, Parameter, clip_scale, global_norm, update};

use crate::reference::{Data, assert_near, assert_same_on_any_threads, bits, wide};

const LENGTHS: [usize; 5] = [1, 15, 0, 64, 40_001];

/// p, m, v, ema of every parameter.
type State = [Vec<Vec<f32>>; 4];

fn start(data: &mut Data) -> State {
    let p: Vec<Vec<f32>> = LENGTHS.iter().map(|&n| data.values(n)).collect();
    let zero: Vec<Vec<f32>> = LENGTHS.iter().map(|&n| vec![0.0; n]).collect();
    [p.clone(), zero.clone(), zero, p]
}

fn step(isa: Isa, adamw: &AdamW, [p, m, v, e]: &mut State, g: &[Vec<f32>], ema: bool) {
    let parameters = (p.iter_mut().zip(g))
        .zip(m.iter_mut().zip(v).zip(e))
        .map(|((value, gradient), ((mean, square), e))| Parameter {
            value,
            gradient,
            mean,
            square,
            ema: ema.then_some(e),
        })
        .collect();
    update(isa, adamw, parameters);
}

fn settings(step: u64, clip: f64) -> AdamW {
    AdamW {
        lr: 2e-2,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        step,
        ema_decay: 0.95,
        clip,
    }
}

#[test]
fn ten_steps_follow_the_formulas() {
    for isa in Isa::available() {
        let mut data = Data::new(11);
        let mut state = start(&mut data);
        let mut exact = state.clone().map(|s| wide(&s.concat()));
        for t in 1..=10 {
            let g: Vec<Vec<f32>> = LENGTHS.iter().map(|&n| data.values(n)).collect();
            let slices: Vec<&[f32]> = g.iter().map(Vec::as_slice).collect();
            let norm = global_norm(isa, &slices);
            let flat = wide(&g.concat());
            let exact_norm = flat.iter().map(|g| g * g).sum::<f64>().sqrt();
            // Lanes of at most 1024/4 terms in f32, the rest in f64.
            assert!(
                (norm / exact_norm - 1.0).abs() < 1e-6,
                "{norm} {exact_norm}"
            );
            let clip = clip_scale(norm, 30.0);
            let a = settings(t, clip);
            step(isa, &a, &mut state, &g, true);
            let [p, m, v, e] = &mut exact;
            let power = i32::try_from(t).expect("few steps");
            for (i, g) in flat.iter().enumerate() {
                let g = g * clip;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let mean = m[i] / (1.0 - 0.9f64.powi(power));
                let square = v[i] / (1.0 - 0.999f64.powi(power));
                p[i] -= a.lr * (a.weight_decay * p[i] + mean / (square.sqrt() + a.eps));
                e[i] = 0.95 * e[i] + 0.05 * p[i];
            }
        }
        for (i, (what, tolerance)) in [("p", 1e-5), ("m", 1e-6), ("v", 1e-6), ("ema", 1e-5)]
            .into_iter()
            .enumerate()
        {
            // Ten steps' roundings; m/√v passes on a relative error of g, lr of it each time.
            assert_near(
                &format!("{isa:?} {what}"),
                &state[i].concat(),
                &exact[i],
                tolerance,
            );
        }
    }
}

#[test]
fn the_average_may_be_left_out() {
    let mut data = Data::new(2);
    let mut with = start(&mut data);
    let mut without = with.clone();
    let g: Vec<Vec<f32>> = LENGTHS.iter().map(|&n| data.values(n)).collect();
    step(Isa::detect(), &settings(1, 1.0), &mut with, &g, true);
    step(Isa::detect(), &settings(1, 1.0), &mut without, &g, false);
    assert_eq!(with[..3], without[..3]);
    assert_ne!(with[3], without[3]);
}

#[test]
fn clipping_shortens_only() {
    assert_eq!(clip_scale(0.5, 1.0), 1.0);
    assert!((clip_scale(4.0, 1.0) - 0.25).abs() < 1e-6);
}

#[test]
fn threads_do_not_change_a_bit() {
    assert_same_on_any_threads(|| {
        let mut data = Data::new(3);
        let mut state = start(&mut data);
        let g: Vec<Vec<f32>> = LENGTHS.iter().map(|&n| data.values(n)).collect();
        let slices: Vec<&[f32]> = g.iter().map(Vec::as_slice).collect();
        let clip = clip_scale(global_norm(Isa::detect(), &slices), 1.0);
        step(Isa::detect(), &settings(1, clip), &mut state, &g, true);
        bits(
            &state
                .each_ref()
                .map(|s| s.concat())
                .each_ref()
                .map(Vec::as_slice),
        )
    });
}
