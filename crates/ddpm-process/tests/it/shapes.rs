//! Operands that Burn would broadcast, or read as another type, are refused before they meet.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{DType, Device, Tensor};
use ddpm_process::oracle::{Component, Mixture};
use ddpm_process::{
    Clip, Clipped, Decoder, Denoiser, Guided, NoiseStream, Prediction, Predictor, Reverse, diffuse,
    hybrid_loss, training_loss, transition,
};
use ddpm_schedule::{
    NoiseSchedule, Objective, Parametrization, Sampler, Trajectory, Visit, Weighting,
};

use crate::linear;

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
        panic!("accepted, but should have been refused: {expected}");
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
    let t = [schedule.first(), schedule.last()];
    for eps in [[2, 1], [1, 3]] {
        let message = format!("eps has the shape {eps:?}, not [2, 3]");
        assert_refused(&message, || diffuse(ones([2, 3]), ones(eps), &schedule, &t));
        let step = schedule.level(t[1]).transition(schedule.previous(t[1]));
        let message = format!("z has the shape {eps:?}, not [2, 3]");
        assert_refused(&message, || transition(ones([2, 3]), ones(eps), step));
    }
    assert_refused("one time per row", || {
        diffuse(ones([2, 3]), ones([2, 3]), &schedule, &t[..1])
    });
}

/// An output `[B, 2, H, W]` for images of one channel trained both heads on ε.
#[test]
fn the_loss_refuses_an_output_of_another_shape() {
    let objective = objective();
    let t = [objective.schedule().last(); 2];
    let loss = |output: [usize; 4]| {
        let network = move |_, _| ones(output);
        training_loss(
            network,
            &objective,
            ones([2, 1, 4, 4]),
            ones([2, 1, 4, 4]),
            &t,
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
    let t = [objective.schedule().last(); 2];
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
    let t = [objective.schedule().first(); 2];
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
    let schedule = objective.schedule();
    let at = schedule.visit(schedule.last());
    for output in [[1, 3], [3, 1], [3, 4], [3, 12]] {
        let predictor = Predictor {
            network: move |_: Tensor<2>, _: Tensor<1>| ones(output),
            objective: &objective,
        };
        let message = format!("the network's output has the shape {output:?}, not [3, 3]");
        assert_refused(&message, || predictor.denoise(ones([3, 3]), at));
    }
    let own = |x: Tensor<2>, _: Visit| x;
    let row = |_: Tensor<2>, _: Visit| ones([1, 3]);
    let guided = |weight| Guided {
        conditional: own,
        base: row,
        weight,
    };
    assert_refused("the base's x̂₀ has the shape [1, 3], not [2, 3]", || {
        guided(2.0).denoise(ones([2, 3]), at)
    });
    // At weight 1 the base is not asked.
    assert_eq!(guided(1.0).denoise(ones([2, 3]), at).dims(), [2, 3]);
    for weight in [f64::NAN, f64::INFINITY, 1e39] {
        let guided = Guided {
            conditional: own,
            base: own,
            weight,
        };
        assert_refused("beyond the range of F32", || {
            guided.denoise(ones([2, 3]), at)
        });
    }
    // 6 numbers are 3 rows of the mixture, but not of x.
    let mixture = Mixture::new(vec![Component {
        weight: 1.0,
        mean: vec![0.0; 2],
        covariance: vec![1.0, 0.0, 0.0, 1.0],
    }]);
    let mixture = mixture.unwrap();
    assert_refused("a row of x_t has 3 numbers, the mixture 2", || {
        (&mixture).denoise(ones([2, 3]), at)
    });
    let clipped = Clipped {
        denoiser: own,
        clip: Clip::dynamic(0.5, 2.0).unwrap(),
    };
    assert_refused("a row without elements", || {
        clipped.denoise(ones([2, 0]), at)
    });
}

/// The first step of `denoiser`, with noise of the shape `z`, from x of `[2, 3]`.
fn step(sampler: Sampler, denoiser: impl Denoiser<2>, z: [usize; 2]) -> Tensor<2> {
    let trajectory = Trajectory::full(&linear());
    let noise = |_| ones(z);
    let mut reverse = Reverse::new(denoiser, sampler, &trajectory, ones([2, 3]), noise).unwrap();
    reverse.next().unwrap().x
}

#[test]
fn the_reverse_process_refuses_what_would_broadcast() {
    let x0 = |_: Tensor<2>, _: Visit| ones([1, 3]);
    assert_refused(
        "the denoiser's x̂₀ has the shape [1, 3], not [2, 3]",
        || step(Sampler::ANCESTRAL, x0, [2, 3]),
    );
    let own = |x: Tensor<2>, _: Visit| x;
    assert_refused("the noise z has the shape [2, 1], not [2, 3]", || {
        step(Sampler::ANCESTRAL, own, [2, 1])
    });
    let share = |x: Tensor<2>, _: Visit| Prediction {
        x0: x,
        share: Some(ones([2, 1])),
    };
    assert_refused(
        "the denoiser's share of β has the shape [2, 1], not [2, 3]",
        || step(Sampler::AncestralLearned, share, [2, 3]),
    );
}

/// A closure that gives up the variance is refused at the first step, before noise is drawn.
#[test]
fn a_variance_that_is_missing_is_named() {
    let silent = |x: Tensor<2>, _: Visit| x;
    assert_refused("a denoiser that chooses the variance", || {
        step(Sampler::AncestralLearned, silent, [0, 0])
    });
}

#[test]
fn operands_of_another_dtype_are_refused() {
    let double = |shape| ones::<2>(shape).cast(DType::F64);
    let schedule = linear();
    let t = [schedule.last(); 2];
    assert_refused("eps is of F32, not of F64", || {
        diffuse(double([2, 3]), ones([2, 3]), &schedule, &t)
    });
    assert_refused("the network's output is of F64, not of F32", || {
        let network = |_, _| double([2, 3]);
        training_loss(network, &objective(), ones([2, 3]), ones([2, 3]), &t)
    });
    assert_refused("the denoiser's x̂₀ is of F64, not of F32", || {
        step(
            Sampler::ANCESTRAL,
            |_: Tensor<2>, _: Visit| double([2, 3]),
            [2, 3],
        )
    });
}

/// A schedule alone may have levels that only f64 has room for.
#[test]
fn coefficients_beyond_the_dtype_are_refused() {
    let walk = NoiseSchedule::random_walk(2, 1e40).unwrap();
    let t = [walk.first(); 2];
    let message = "the coefficient 1.00e40 is beyond the range of F32, ±3.40e38";
    assert_refused(message, || diffuse(ones([2, 3]), ones([2, 3]), &walk, &t));
    let step = walk.level(t[0]).transition(walk.previous(t[0]));
    assert_refused("beyond the range of F32", || {
        transition(ones([2, 3]), ones([2, 3]), step)
    });
    // ln 10⁴⁰ = 92 is rounded to 2⁻⁴⁷, which is then relative.
    let double = || ones::<2>([2, 3]).cast(DType::F64);
    let x: Vec<f64> = diffuse(double(), double(), &walk, &t)
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
