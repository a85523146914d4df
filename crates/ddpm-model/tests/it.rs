//! The networks: their layout, their start, and what they refuse.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot};
use burn::tensor::{Device, Tensor};
use ddpm_model::{
    Activation, Condition, ConditionSpec, MlpConfig, ModelError, Network, UNet, UNetConfig,
    sinusoidal_embedding,
};

fn small() -> UNetConfig {
    UNetConfig {
        block_out_channels: vec![8, 16],
        layers_per_block: 1,
        attention: vec![false, true],
        norm_num_groups: 4,
        ..UNetConfig::cifar10()
    }
}

fn tensors(unet: &UNet) -> BTreeMap<String, String> {
    let tensors = unet.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
    tensors
        .into_iter()
        .map(|t| (t.name.clone(), format!("{:?}", t.shape.to_vec())))
        .collect()
}

/// The list was made from the published checkpoint, not from this code.
#[test]
fn the_cifar10_network_has_the_published_tensors() {
    let unet = UNetConfig::cifar10()
        .init([3, 3], 0, &Device::flex())
        .unwrap();
    let published: BTreeMap<String, String> = include_str!("unet2d_cifar10.tsv")
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, shape)| (name.to_owned(), shape.to_owned()))
        .collect();
    assert_eq!(published.len(), 328);
    assert_eq!(tensors(&unet), published);
    assert_eq!(unet.num_params(), 35_746_307);
}

/// The last convolution starts at zero, so the output does too, whatever the input.
#[test]
fn a_new_network_answers_zero() {
    let device = Device::flex();
    let unet = small().init([1, 1], 0, &device).unwrap();
    let x = Tensor::ones([2, 1, 8, 8], &device);
    let t = Tensor::from_floats([3.0, 700.0], &device);
    let y = unet.predict(x, t, &Condition::none(), None);
    assert_eq!(y.dims(), [2, 1, 8, 8]);
    assert!(y.into_data().iter::<f32>().all(|v| v == 0.0));
}

#[test]
fn a_seed_gives_its_weights() {
    let weights = |seed| -> Vec<f32> {
        let unet = small().init([1, 1], seed, &Device::flex()).unwrap();
        let conv_in = unet
            .collect(None, None, true)
            .into_iter()
            .find(|t| t.name == "conv_in.weight")
            .unwrap();
        let bytes = conv_in.to_bytes().unwrap();
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
    // U(−l, l) with l² = 6/(9 + 72): all inside, and the 72 values spread over most of it.
    let limit = (6.0_f32 / 81.0).sqrt();
    let largest = weights(1).iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    assert!(
        largest <= limit && largest > 0.8 * limit,
        "{largest} of {limit}"
    );
}

/// diffusers' asserted values for dim 64, rows 23..26, columns 47..50, given to 4 digits.
#[test]
fn time_features_are_the_published_ones() {
    let published = [
        (
            false,
            1.0,
            [
                [0.9646, 0.9804, 0.9892],
                [0.9615, 0.9787, 0.9882],
                [0.9582, 0.9769, 0.9872],
            ],
        ),
        (
            true,
            0.0,
            [
                [0.3019, 0.2280, 0.1716],
                [0.3146, 0.2377, 0.1790],
                [0.3272, 0.2474, 0.1864],
            ],
        ),
    ];
    for (cos_first, shift, rows) in published {
        let t = Tensor::from_floats([23.0, 24.0, 25.0], &Device::flex());
        let features = sinusoidal_embedding(t, 64, cos_first, shift);
        let values: Vec<f32> = features.slice([0..3, 47..50]).into_data().iter().collect();
        for (value, expected) in values.iter().zip(rows.iter().flatten()) {
            assert!((value - expected).abs() < 1e-4, "{value} is not {expected}");
        }
    }
}

#[test]
fn what_cannot_be_built_is_refused_by_name() {
    let refused = |change: fn(&mut UNetConfig)| {
        let mut config = small();
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    for (message, words) in [
        (
            refused(|c| c.block_out_channels = vec![]),
            ["block_out_channels", "0"],
        ),
        (
            refused(|c| c.norm_num_groups = 3),
            ["8 channels", "3 groups"],
        ),
        (
            refused(|c| c.attention_head_dim = Some(7)),
            ["16 channels", "width 7"],
        ),
        (
            refused(|c| c.attention = vec![true]),
            ["1 entries", "2 levels"],
        ),
        (refused(|c| c.dropout = 1.0), ["dropout = 1", "[0, 1)"]),
        (
            refused(|c| c.norm_eps = f64::NAN),
            ["norm_eps = NaN", "(0, 1)"],
        ),
        (
            refused(|c| c.downsample_padding = 2),
            ["downsample_padding = 2", "{0, 1}"],
        ),
        (refused(|c| c.num_classes = Some(0)), ["num_classes", "0"]),
        (
            refused(|c| c.num_classes = Some(usize::MAX)),
            ["num_classes", "1..=1048576"],
        ),
        (
            refused(|c| c.block_out_channels = vec![8, 1 << 40]),
            ["block_out_channels", "1099511627776"],
        ),
        (
            refused(|c| c.up_attention = Some(vec![true; 3])),
            ["3 entries", "2 levels"],
        ),
        (
            refused(|c| c.mid_attention_norm = false),
            ["mid_attention_norm", "scale_shift"],
        ),
        (
            refused(|c| c.mid_block_scale_factor = f64::INFINITY),
            ["mid_block_scale_factor = inf", "positive"],
        ),
    ] {
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
    assert_eq!(
        small().check_image_size(8, 7),
        Err(ModelError::ImageSize {
            height: 8,
            width: 7,
            halvings: 1
        })
    );
    let mlp = MlpConfig {
        hidden: 5,
        layers: 1,
    };
    assert!(mlp.check().unwrap_err().to_string().contains("hidden = 5"));
}

/// A network that is only to be loaded must not take the memory of one that was: this one has
/// 10¹³ weights.
#[test]
fn weights_are_drawn_when_looked_at() {
    let config = UNetConfig {
        block_out_channels: vec![1 << 20; 2],
        norm_num_groups: 32,
        ..small()
    };
    assert!(config.init([1, 1], 0, &Device::flex()).is_ok());
}

/// By the definitions, in f64, on both sides of 0.
#[test]
fn every_activation_is_its_formula() {
    // Φ(x) by Simpson's rule.
    let phi = |x: f64| {
        let density = |u: f64| (-u * u / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let n = 2000;
        let h = x / f64::from(n);
        let inner: f64 = (0..n)
            .map(|i| {
                let u = f64::from(i) * h;
                (density(u) + 4.0 * density(u + h / 2.0) + density(u + h)) * h / 6.0
            })
            .sum();
        0.5 + inner
    };
    let formula = |activation, x: f64| match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Mish => x * x.exp().ln_1p().tanh(),
        Activation::Gelu => x * phi(x),
        Activation::Relu => x.max(0.0),
    };
    for activation in Activation::ALL {
        for x in [-3.0_f32, -0.5, 0.0, 0.7, 2.5] {
            let found: f32 = activation
                .of(Tensor::<1>::from_floats([x], &Device::flex()))
                .into_scalar();
            let expected = formula(activation, x.into());
            // A few roundings of f32.
            assert!(
                (f64::from(found) - expected).abs() < 1e-6,
                "{activation:?}({x}) = {found}, not {expected}"
            );
        }
    }
}

/// A condition without an input, and an input without its condition, are refused with their name.
#[test]
fn conditions_are_refused_rather_than_ignored() {
    let device = Device::flex();
    let mlp = MlpConfig {
        hidden: 8,
        layers: 1,
    };
    let with_classes = UNetConfig {
        num_classes: Some(3),
        ..small()
    };
    let plain = small().init([1, 1], 0, &device).unwrap().takes();
    let conditional = with_classes.init([1, 1], 0, &device).unwrap().takes();
    let mlp = mlp.init([2, 2], 0, &device).unwrap().takes();
    assert_eq!(plain, ConditionSpec::none());
    assert_eq!(mlp, ConditionSpec::none());
    // Three classes and the null class.
    assert_eq!(conditional, ConditionSpec::none().with_classes(4));

    let class = || Condition::classes(&[0, 3], &device);
    let image = |c| Condition::none().with_image(Tensor::zeros([2, c, 4, 4], &device));
    let vector = |f| Condition::none().with_vector(Tensor::zeros([2, f], &device));
    for (takes, condition, message) in [
        (
            plain,
            class(),
            "the network takes no class, but one is given",
        ),
        (
            plain,
            image(1),
            "the network takes no image, but one is given",
        ),
        (
            mlp,
            vector(1),
            "the network takes no vector, but one is given",
        ),
        (
            conditional,
            Condition::none(),
            "no class is given, but the network needs one",
        ),
        (
            conditional,
            class().rows(0..1),
            "the class has 1 rows, the batch 2",
        ),
        (
            plain.with_image(3),
            image(4),
            "the image has size 4, the network takes 3",
        ),
        (
            plain.with_vector(3),
            vector(4),
            "the vector has size 4, the network takes 3",
        ),
    ] {
        let error = takes.check(&condition, 2).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    for (given, message) in [
        (
            ConditionSpec::none(),
            Some("no class is given, but the network needs one"),
        ),
        (ConditionSpec::none().with_classes(3), None),
        (ConditionSpec::none().with_classes(4), None),
        (
            ConditionSpec::none().with_classes(5),
            Some("there are 5 classes, the network takes 4"),
        ),
    ] {
        let error = conditional.admits(&given).err();
        assert_eq!(error.map(|error| error.to_string()).as_deref(), message);
    }
    for (takes, condition) in [
        (plain, Condition::none()),
        (conditional, class()),
        (plain.with_image(4), image(4)),
        (plain.with_vector(4), vector(4)),
    ] {
        assert_eq!(takes.check(&condition, 2), Ok(()));
    }
}

#[test]
#[should_panic(expected = "the network takes no class, but one is given")]
fn a_network_without_classes_panics_at_one() {
    let device = Device::flex();
    let unet = small().init([1, 1], 0, &device).unwrap();
    let x = Tensor::zeros([1, 1, 4, 4], &device);
    let class = Condition::classes(&[0], &device);
    unet.predict(x, Tensor::zeros([1], &device), &class, None);
}

#[test]
fn rows_of_a_condition_are_rows_of_each_tensor() {
    let device = Device::flex();
    let numbers = Tensor::<1>::from_floats([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &device);
    let all = Condition::classes(&[7, 8, 9], &device)
        .with_image(numbers.clone().reshape([3, 1, 1, 2]))
        .with_vector(numbers.reshape([3, 2]));
    let rows = all.rows(1..3);
    let class: Vec<i64> = rows.class.unwrap().into_data().iter().collect();
    let image: Vec<f32> = rows.image.unwrap().into_data().iter().collect();
    let vector: Vec<f32> = rows.vector.unwrap().into_data().iter().collect();
    assert_eq!(class, [8, 9]);
    assert_eq!(image, [2.0, 3.0, 4.0, 5.0]);
    assert_eq!(vector, image);
    assert!(Condition::none().rows(0..1).class.is_none());
}

/// The counts leave out biases, norms and embeddings, which are 1 % of the CIFAR-10 network. The
/// numbers of the small one are added by hand.
#[test]
fn a_footprint_is_a_close_lower_bound() {
    let cifar10 = UNetConfig::cifar10().footprint([3, 32, 32]);
    let ratio = cifar10.parameters / 35_746_307.0;
    assert!((0.98..=1.0).contains(&ratio), "{ratio}");

    let c = 8.0;
    let one_level = UNetConfig {
        block_out_channels: vec![8],
        attention: vec![false],
        mid_attention: false,
        dropout: 0.0,
        ..small()
    };
    let found = one_level.footprint([1, 2, 2]);
    // One block down, two in the middle, two up; each keeps the inputs of its norms but for the skip.
    assert_eq!(found.activations, 4.0 * 5.0 * 2.0 * c);
    // A block on the way up reads two tensors and writes one.
    assert_eq!(found.forward, 4.0 * 3.0 * c);
    let dropout = UNetConfig {
        dropout: 0.1,
        ..one_level
    };
    let masks = dropout.footprint([1, 2, 2]).activations - found.activations;
    assert_eq!(masks, 4.0 * 5.0 * c);
    let mlp = MlpConfig {
        hidden: 8,
        layers: 3,
    };
    assert_eq!(mlp.footprint().parameters, 3.0 * 64.0 * 3.0);
}

/// What the configuration files of runs say: names, defaults, and refusals that name the key.
#[test]
fn configurations_are_read_as_they_were_written() {
    let least = r#"{"block_out_channels": [8, 16], "layers_per_block": 1,
        "attention": [false, true], "norm_num_groups": 4"#;
    let read = |more: &str| serde_json::from_str::<UNetConfig>(&format!("{least}{more}}}"));
    let expected = UNetConfig {
        dropout: 0.0,
        downsample_padding: 1,
        ..small()
    };
    assert_eq!(read("").unwrap(), expected);
    let other = UNetConfig {
        up_attention: Some(vec![true, false]),
        attention_head_dim: Some(4),
        activation: Activation::Mish,
        num_classes: Some(3),
        null_class: false,
        ..small()
    };
    let text = serde_json::to_string(&other).unwrap();
    assert_eq!(serde_json::from_str::<UNetConfig>(&text).unwrap(), other);
    for (more, words) in [
        (r#", "in_channels": 3"#, "unknown field `in_channels`"),
        (r#", "activation": "swish""#, "unknown variant `swish`"),
        (r#", "dropout": "much""#, "invalid type"),
    ] {
        let message = read(more).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    let missing = serde_json::from_str::<UNetConfig>("{}")
        .unwrap_err()
        .to_string();
    assert!(missing.contains("missing field"), "{missing}");
}
