//! Operands that Burn would broadcast, or read as another dtype, are refused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{DType, Device, Tensor};
use ddpm_process::oracle::{Component, Mixture};
use ddpm_process::{
    AfterClip, Clip, Clipped, Decoder, Denoiser, Guided, NoiseStream, Prediction, Predictor,
    Reverse, diffuse, hybrid_loss, training_loss, transition,
};
use ddpm_schedule::solver::Ddpm;
use ddpm_schedule::{Levels, NoiseLevel, NoiseSchedule, Objective, Parametrization, Weighting};

use crate::{LEARNED, SMALL, linear};

fn ones<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::ones(shape, &Device::flex())
}

fn objective() -> Objective {
    Objective::new(linear(), Parametrization::Epsilon, Weighting::Simple).unwrap()
}

/// Asserts that `work` panics with a message that contains `expected`.
#[track_caller]
fn assert_refused<T>(expected: &str, work: impl FnOnce() -> T) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(work)) else {
        panic!("should have been refused: {expected}");
    };
    let text = payload.downcast_ref::<String>().cloned();
    let message = text.or_else(|| {
        payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
    });
    let message = message.unwrap_or_default();
    assert!(
        message.contains(expected),
        "{message:?} is not {expected:?}"
    );
}

#[test]
fn the_forward_process_refuses_what_would_broadcast() {
    let schedule = linear();
    let levels = [schedule.first(), schedule.last()].map(|t| schedule.level(t));
    for eps in [[2, 1], [1, 3]] {
        let message = format!("eps has the shape {eps:?}, not [2, 3]");
        assert_refused(&message, || diffuse(ones([2, 3]), ones(eps), &levels));
        let step = levels[1].transition(levels[0]);
        let message = format!("z has the shape {eps:?}, not [2, 3]");
        assert_refused(&message, || transition(ones([2, 3]), ones(eps), step));
    }
    assert_refused("one level per row", || {
        diffuse(ones([2, 3]), ones([2, 3]), &levels[..1])
    });
}

/// An output `[B, 2, H, W]` for images of one channel trained both heads on ε.
#[test]
fn the_loss_refuses_an_output_of_another_shape() {
    let objective = objective();
    let levels = [objective.process().ends().0; 2];
    let loss = |output: [usize; 4]| {
        let network = move |_, _| ones(output);
        training_loss(
            network,
            &objective,
            ones([2, 1, 4, 4]),
            ones([2, 1, 4, 4]),
            &levels,
        )
    };
    for output in [[2, 2, 4, 4], [1, 1, 4, 4], [2, 1, 1, 1], [2, 1, 4, 1]] {
        let message = format!("the network's output has the shape {output:?}, not [2, 1, 4, 4]");
        assert_refused(&message, || loss(output));
    }
    assert_eq!(loss([2, 1, 4, 4]).dims(), [2]);
}

#[test]
fn the_hybrid_loss_refuses_an_output_of_another_shape() {
    let objective = objective();
    let t = [objective.schedule().unwrap().last(); 2];
    let loss = |output: [usize; 3], decoder| {
        let network = move |_, _| ones(output);
        hybrid_loss(
            network,
            &objective,
            decoder,
            ones([2, 2, 4]),
            ones([2, 2, 4]),
            &t,
        )
    };
    let density = Decoder::Density;
    assert_refused("no second half", || loss([2, 2, 4], density));
    for (output, wanted) in [
        ([2, 4, 1], [2, 4, 4]),
        ([1, 4, 4], [2, 4, 4]),
        ([2, 1, 4], [2, 2, 4]),
        ([2, 8, 4], [2, 2, 4]),
    ] {
        let message = format!("the network's output has the shape {output:?}, not {wanted:?}");
        assert_refused(&message, || loss(output, density));
    }
    assert_eq!(loss([2, 4, 4], density).dims(), [2]);
    let t = [objective.schedule().unwrap().first(); 2];
    assert_refused("must be above 0", || {
        let network = |_, _| ones([2, 4, 4]);
        let bins = Decoder::Bins { max: 0 };
        hybrid_loss(
            network,
            &objective,
            bins,
            ones([2, 2, 4]),
            ones([2, 2, 4]),
            &t,
        )
    });
}

#[test]
fn denoisers_refuse_answers_of_another_shape() {
    let objective = objective();
    let at = objective.process().ends().0;
    for output in [[1, 3], [3, 1], [3, 4], [3, 12]] {
        let predictor = Predictor {
            network: move |_: Tensor<2>, _: Tensor<1>| ones(output),
            objective: &objective,
        };
        let message = format!("the network's output has the shape {output:?}, not [3, 3]");
        assert_refused(&message, || predictor.predict(ones([3, 3]), at));
    }
    let own = |x: Tensor<2>, _: NoiseLevel| x;
    let row = |_: Tensor<2>, _: NoiseLevel| ones([1, 3]);
    let guided = |weight| Guided {
        conditional: own,
        base: row,
        weight,
    };
    assert_refused("the base's x̂₀ has the shape [1, 3], not [2, 3]", || {
        guided(2.0).predict(ones([2, 3]), at)
    });
    // At weight 1 the base is not evaluated.
    assert_eq!(guided(1.0).predict(ones([2, 3]), at).x0.dims(), [2, 3]);
    for weight in [f64::NAN, f64::INFINITY, 1e39] {
        let guided = Guided {
            conditional: own,
            base: own,
            weight,
        };
        assert_refused("beyond the range of F32", || {
            guided.predict(ones([2, 3]), at)
        });
    }
    // 6 numbers are 3 rows of the mixture, but not of x.
    let mixture = Mixture::new(vec![Component {
        weight: 1.0,
        mean: vec![0.0; 2],
        covariance: vec![1.0, 0.0, 0.0, 1.0],
    }]);
    let mixture = mixture.unwrap();
    assert_refused("a row of x_t has 3 numbers, but the mixture has 2", || {
        mixture.predict(ones([2, 3]), at)
    });
    let clipped = Clipped {
        denoiser: own,
        clip: Clip::dynamic(0.5, 2.0).unwrap(),
        epsilon: AfterClip::Derived,
    };
    assert_refused("a row without elements", || {
        clipped.predict(ones([2, 0]), at)
    });
}

/// The first step of `denoiser`, with noise of the shape `z`, from x of `[2, 3]`.
fn step(solver: Ddpm, denoiser: impl Denoiser<2>, z: [usize; 2]) -> Tensor<2> {
    let levels = Levels::full(&linear());
    let (levels, x) = (levels.as_slice(), ones([2, 3]));
    let mut reverse = Reverse::new(denoiser, solver, levels, x, |_| ones(z)).unwrap();
    reverse.next().unwrap().x
}

#[test]
fn the_reverse_process_refuses_what_would_broadcast() {
    let x0 = |_: Tensor<2>, _: NoiseLevel| ones([1, 3]);
    assert_refused(
        "the denoiser's x̂₀ has the shape [1, 3], not [2, 3]",
        || step(SMALL, x0, [2, 3]),
    );
    let own = |x: Tensor<2>, _: NoiseLevel| x;
    assert_refused("the noise z has the shape [2, 1], not [2, 3]", || {
        step(SMALL, own, [2, 1])
    });
    let share = |x: Tensor<2>, _: NoiseLevel| Prediction {
        x0: x,
        eps: None,
        share: Some(ones([2, 1])),
    };
    assert_refused(
        "the denoiser's share of β has the shape [2, 1], not [2, 3]",
        || step(LEARNED, share, [2, 3]),
    );
    let eps = |x: Tensor<2>, _: NoiseLevel| Prediction {
        x0: x,
        eps: Some(ones([1, 3])),
        share: None,
    };
    assert_refused(
        "the denoiser's ε̂ has the shape [1, 3], not [2, 3]",
        || step(SMALL, eps, [2, 3]),
    );
}

/// A closure without a variance is refused in the first step, before noise is drawn.
#[test]
fn a_missing_variance_is_reported() {
    let silent = |x: Tensor<2>, _: NoiseLevel| x;
    assert_refused("a denoiser with a learned variance", || {
        step(LEARNED, silent, [0, 0])
    });
}

#[test]
fn operands_of_another_dtype_are_refused() {
    let double = |shape| ones::<2>(shape).cast(DType::F64);
    let levels = [linear().level(linear().last()); 2];
    assert_refused("eps has the dtype F32, not F64", || {
        diffuse(double([2, 3]), ones([2, 3]), &levels)
    });
    assert_refused("the network's output has the dtype F64, not F32", || {
        let network = |_, _| double([2, 3]);
        training_loss(network, &objective(), ones([2, 3]), ones([2, 3]), &levels)
    });
    assert_refused("the denoiser's x̂₀ has the dtype F64, not F32", || {
        step(SMALL, |_: Tensor<2>, _: NoiseLevel| double([2, 3]), [2, 3])
    });
}

/// A schedule may have levels that only f64 can represent.
#[test]
fn coefficients_beyond_the_dtype_are_refused() {
    let walk = NoiseSchedule::random_walk(2, 1e40).unwrap();
    let t = walk.first();
    let levels = [walk.level(t); 2];
    let message = "the coefficient 1.00e40 is beyond the range of F32, ±3.40e38";
    assert_refused(message, || diffuse(ones([2, 3]), ones([2, 3]), &levels));
    let step = walk.level(t).transition(walk.previous(t));
    assert_refused("beyond the range of F32", || {
        transition(ones([2, 3]), ones([2, 3]), step)
    });
    // ln 10⁴⁰ = 92 is rounded to 2⁻⁴⁷, which is then relative.
    let double = || ones::<2>([2, 3]).cast(DType::F64);
    let x: Vec<f64> = diffuse(double(), double(), &levels)
        .into_data()
        .iter()
        .collect();
    assert!(x.iter().all(|x| (x / 1e40 - 1.0).abs() < 1e-14), "{x:?}");
    for p in [1.0, -0.1, f64::NAN] {
        assert_refused("is outside [0, 1)", || {
            NoiseStream::new(0, "test")
                .row(0, 0)
                .fill_dropout(p, &mut [0.0; 2]);
        });
    }
}
