//! AdamW and the moving average against their formulas in f64.

use ddpm_kernels::cpu::Isa;
use ddpm_kernels::cpu::adamw::{AdamW, ParameterSlices, square_sum, update};

use crate::reference::{Data, assert_near, assert_same_on_any_threads, bits, wide};

const LENGTHS: [usize; 5] = [1, 15, 0, 64, 40_001];

/// p, m, v, ema.
type State = [Vec<f32>; 4];

fn start(data: &mut Data, len: usize) -> State {
    let p = data.values(len);
    [p.clone(), vec![0.0; len], vec![0.0; len], p]
}

fn step(isa: Isa, adamw: &AdamW, state: &mut State, gradient: &[f32]) {
    let [value, exp_avg, exp_avg_sq, ema] = state;
    let parameter = ParameterSlices {
        value,
        gradient,
        exp_avg,
        exp_avg_sq,
        ema,
    };
    update(isa, adamw, parameter);
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
fn ten_steps_match_the_formulas() {
    match_the_formulas(&LENGTHS);
}

/// Small enough for Miri.
#[test]
fn tiny() {
    match_the_formulas(&[3]);
}

fn match_the_formulas(lengths: &[usize]) {
    for (isa, &len) in Isa::available()
        .into_iter()
        .flat_map(|isa| lengths.iter().map(move |len| (isa, len)))
    {
        let mut data = Data::new(11);
        let mut state = start(&mut data, len);
        let mut exact = state.each_ref().map(|s| wide(s));
        for t in 1..=10 {
            let gradient = data.values(len);
            let a = settings(t, 0.3);
            step(isa, &a, &mut state, &gradient);
            let [p, m, v, e] = &mut exact;
            let power = i32::try_from(t).expect("few steps");
            for (i, g) in wide(&gradient).iter().enumerate() {
                let g = g * a.clip;
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
            // The rounding errors of ten steps; through m/√v a relative error of g changes p by lr times
            // that error in each step.
            assert_near(
                &format!("{isa:?} {len} {what}"),
                &state[i],
                &exact[i],
                tolerance,
            );
        }
    }
}

#[test]
fn the_sum_of_squares() {
    for (isa, len) in Isa::available()
        .into_iter()
        .flat_map(|isa| LENGTHS.map(|len| (isa, len)))
    {
        let x = Data::new(5).values(len);
        let exact: f64 = wide(&x).iter().map(|x| x * x).sum();
        // At most 1024/4 terms per lane are summed in f32, the rest in f64.
        let sum = square_sum(isa, &x);
        assert!((sum - exact).abs() <= 2e-6 * exact, "{sum} {exact}");
    }
}

#[test]
#[should_panic = "AdamW: length of the gradient"]
fn different_lengths_panic() {
    let mut state = start(&mut Data::new(1), 40_000);
    step(
        Isa::detect(),
        &settings(1, 1.0),
        &mut state,
        &vec![0.0; 10_000],
    );
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    assert_same_on_any_threads(|| {
        let mut data = Data::new(3);
        let mut state = start(&mut data, 40_001);
        let gradient = data.values(40_001);
        let sum = square_sum(Isa::detect(), &gradient);
        step(
            Isa::detect(),
            &settings(1, 1.0 / sum),
            &mut state,
            &gradient,
        );
        bits(&state.each_ref().map(Vec::as_slice))
    });
}
