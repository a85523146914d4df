//! Guidance as the sampler applies it, on a network with classes.

use burn::tensor::{Device, Tensor};
use ddpm_cli::drawing::{BATCH, Classes, Drawing, Request};
use ddpm_cli::interrupt::Stop;
use ddpm_cli::plan::{Sampler, SamplingPlan};
use ddpm_model::{Condition, Network, UNet, UNetConfig};
use ddpm_process::{AfterClip, Clip, Denoiser, NoiseStream, Predictor};
use ddpm_schedule::{Grid, NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::params;

use crate::resume::changed;
use crate::run::{ok, refused, tiny};

const CLASSES: usize = 3;
const SHAPE: [usize; 3] = [1, 4, 4];
const LEN: usize = 16;

/// A tiny conditional U-Net whose every weight is moved, so that its output and the effect of the
/// class are not the zeros it begins with.
fn network(device: &Device) -> UNet {
    let config = UNetConfig {
        block_out_channels: vec![4, 4],
        layers_per_block: 1,
        attention: vec![false, false],
        mid_attention: false,
        norm_num_groups: 2,
        num_classes: Some(CLASSES),
        ..UNetConfig::cifar10()
    };
    let stream = NoiseStream::new(0, "test");
    let mut count = 0;
    params::update(config.init([1, 1], 0, device).unwrap(), |_, value| {
        count += 1;
        let len = value.dims()[0];
        value
            + stream
                .normal::<2>(&[count], 0, [1, len], device)
                .flatten(0, 1)
                * 0.3
    })
}

/// What a class does is to move the time's vector by its row of the table: a network that knows no
/// class, its time's vector moved by its last bias instead, answers the same.
///
/// The two add three numbers in different orders, a rounding that the network carries to its
/// answer: a few times 1e-6 on numbers of order 1, while a class moves them by more than 1e-2.
#[test]
fn the_class_is_added_to_the_time() {
    let device = Device::flex();
    let network = network(&device);
    let table = params::values(&network)
        .remove("class_embedding.weight")
        .unwrap();
    let width = table.dims()[0] / (CLASSES + 1);
    let x: Tensor<4> = NoiseStream::new(1, "test").normal(&[0], 0, [1, 1, 4, 4], &device);
    let answer = |network: &UNet, class: usize| -> Vec<f64> {
        let t = Tensor::from_floats([700.0], &device);
        let class = Condition::classes(&[class], &device);
        let answer = network.predict(x.clone(), t, &class, None);
        answer.into_data().iter().collect()
    };
    let unmoved = params::update(network.clone(), |name, value| match name {
        "class_embedding.weight" => value.zeros_like(),
        _ => value,
    });
    for class in 0..=CLASSES {
        let row = table.clone().narrow(0, class * width, width);
        let moved = params::update(unmoved.clone(), |name, value| match name {
            "time_embedding.linear_2.bias" => value + row.clone(),
            _ => value,
        });
        let [expected, without] = [&moved, &unmoved].map(|network| answer(network, 0));
        let found = answer(&network, class);
        let largest = |of: &[f64]| {
            let off = found.iter().zip(of).map(|(a, b)| (a - b).abs());
            off.fold(0.0, f64::max)
        };
        assert!(largest(&expected) < 1e-5, "{class}: {}", largest(&expected));
        assert!(largest(&without) > 1e-2, "{class}: {}", largest(&without));
    }
}

/// A run of one step ends in x̂₀ itself, so its samples are the guided prediction at T: base +
/// w·(conditional − base) of two predictions made here, one without class, clamped once.
#[test]
fn one_step_is_the_guided_prediction() {
    let device = Device::flex();
    let network = network(&device);
    let schedule = NoiseSchedule::cosine(100, 0.008).unwrap();
    let objective = Objective::new(schedule, Parametrization::V, Weighting::Simple).unwrap();
    let plan = SamplingPlan {
        process: objective.process().clone(),
        sampler: Sampler::Named("ddim".parse().unwrap()),
        levels: Grid::Trailing.levels(objective.process(), 1).unwrap(),
        clip: Some(Clip::UNIT),
        epsilon: AfterClip::Derived,
        file: None,
    };
    let t = plan.levels.start();

    let classes: Vec<usize> = (0..BATCH).map(|k| k % CLASSES).collect();
    let ids: Vec<u64> = (0..BATCH as u64).collect();
    let z: Tensor<4> = NoiseStream::new(7, "sample").normal(&ids, 0, [BATCH, 1, 4, 4], &device);
    let x_t = z * t.prior_std();
    let predict = |classes: &[usize]| -> Vec<f32> {
        let class = Condition::classes(classes, &device);
        let network = |x, t| network.predict(x, t, &class, None);
        let predictor = Predictor {
            network,
            objective: &objective,
        };
        predictor
            .predict(x_t.clone(), t)
            .x0
            .into_data()
            .iter()
            .collect()
    };
    let conditional = predict(&classes);
    let base = predict(&[CLASSES; BATCH]);

    let draw = |guidance: f64, classes: Classes| {
        let drawing = Drawing {
            network: &network,
            objective: &objective,
            plan: &plan,
            request: Request {
                seed: 7,
                classes: Some(classes),
                null_class: Some(CLASSES),
                guidance,
                shape: &SHAPE,
                batch: BATCH,
            },
            device: &device,
        };
        let samples = drawing.sample::<4>(0..BATCH, &Stop::default());
        samples.unwrap().unwrap().values
    };
    let (in_turn, none) = (Classes::InTurn(CLASSES), Classes::Only(CLASSES));
    for w in [0.0, 1.0, 2.0, -1.0] {
        let mut free = 0;
        for (i, found) in draw(w, in_turn).into_iter().enumerate() {
            let (conditional, base) = (f64::from(conditional[i]), f64::from(base[i]));
            let expected = (base + w * (conditional - base)).clamp(-1.0, 1.0);
            // The same network on the same batch: only the four operations of f32 round, on
            // numbers below some ten, 6e-7 each.
            let off = (f64::from(found) - expected).abs();
            assert!(off < 4e-6, "w = {w}: {found} is not {expected}");
            free += usize::from(expected.abs() < 1.0 && (conditional - base).abs() > 1e-2);
        }
        // Enough values are neither clamped nor without an effect of the class.
        assert!(free > BATCH * LEN / 4, "{free}");
    }
    // Weight 0 does not know the class, to the bit; nor does any weight where the class is none.
    let without = draw(1.0, none);
    assert_eq!(draw(0.0, in_turn), without);
    assert_eq!(draw(2.0, none), without);
}

/// A row of the embedding that no step has trained is no base to go away from.
#[test]
fn a_null_class_that_nothing_trained_guides_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let plain = [("class_dropout = 0.1\n", "")];
    changed(folder, "plain.toml", &plain);
    for (config, run) in [("tiny.toml", "run"), ("plain.toml", "plain")] {
        ok(
            folder,
            &format!("train --config {config} --out {run} --steps 2"),
        );
    }
    let draw = "sample --num 1 --steps 2 --guidance 2";
    ok(folder, &format!("{draw} --from run --out guided"));
    let words = [
        "--guidance",
        "mean none",
        "objective.class_dropout is above 0",
    ];
    refused(folder, &format!("{draw} --from plain --out x"), 1, &words);
    ok(
        folder,
        "sample --num 1 --steps 2 --from plain --class 3 --out x",
    );
}
