//! `config.json`: what is read, what is by default, and what is refused by name.

use std::fs;

use ddpm_interop::diffusers;
use ddpm_model::{Activation, UNetConfig};
use serde_json::{Value, json};

use super::{copy, edit, refusal};

/// The network of a configuration that says only this.
fn read(config: &Value) -> Result<(UNetConfig, Option<[usize; 2]>), String> {
    let folder = copy("flat");
    let path = folder.path().join("config.json");
    fs::write(path, config.to_string()).unwrap();
    match diffusers::unet(folder.path()) {
        Ok(unet) => Ok((unet.config, unet.sample_size)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn an_absent_key_is_as_in_diffusers() {
    let (config, sample_size) = read(&json!({"_class_name": "UNet2DModel"})).unwrap();
    let expected = UNetConfig {
        block_out_channels: vec![224, 448, 672, 896],
        layers_per_block: 2,
        attention: vec![false, true, true, true],
        up_attention: None,
        mid_attention: true,
        mid_attention_norm: true,
        mid_block_scale_factor: 1.0,
        attention_head_dim: Some(8),
        activation: Activation::Silu,
        dropout: 0.0,
        norm_num_groups: 32,
        norm_eps: 1e-5,
        downsample_padding: 1,
        scale_shift: false,
        center_input_sample: false,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
        num_classes: None,
        null_class: true,
    };
    assert_eq!((config, sample_size), (expected, None));
}

/// The published file, key for key.
#[test]
fn the_published_cifar10_network_is_ours() {
    let (config, sample_size) = read(&json!({
        "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu",
        "attention_head_dim": null, "block_out_channels": [128, 256, 256, 256],
        "center_input_sample": false,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "downsample_padding": 0, "flip_sin_to_cos": false, "freq_shift": 1, "in_channels": 3,
        "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-06,
        "norm_num_groups": 32, "out_channels": 3, "sample_size": 32,
        "time_embedding_type": "positional",
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    }))
    .unwrap();
    let expected = UNetConfig {
        dropout: 0.0,
        ..UNetConfig::cifar10()
    };
    assert_eq!((config, sample_size), (expected, Some([32, 32])));
}

#[test]
fn the_bottoms_norm_is_there_unless_time_scales_and_nothing_is_said() {
    let norm = |time: &str, groups: Value| {
        let config = json!({"_class_name": "UNet2DModel", "resnet_time_scale_shift": time,
            "attn_norm_num_groups": groups});
        read(&config).unwrap().0.mid_attention_norm
    };
    assert!(norm("default", Value::Null));
    assert!(norm("default", json!(32)));
    assert!(norm("scale_shift", json!(32)));
    assert!(!norm("scale_shift", Value::Null));
}

/// A run that begins with such a network may not have these keys in its configuration.
#[test]
fn what_has_no_effect_is_as_by_default() {
    let read = |edit: Value| {
        let mut config = json!({"_class_name": "UNet2DModel", "block_out_channels": [32],
            "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"],
            "add_attention": false, "attention_head_dim": 8, "downsample_padding": 0,
            "resnet_time_scale_shift": "scale_shift"});
        let edit = edit.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(edit);
        let config = read(&config).unwrap().0;
        (
            config.attention_head_dim,
            config.mid_attention_norm,
            config.downsample_padding,
            config.null_class,
        )
    };
    assert_eq!(read(json!({})), (None, true, 1, true));
    let attends = json!({"add_attention": true});
    assert_eq!(read(attends), (Some(8), false, 1, true));
    let levels = json!({"block_out_channels": [32, 32], "num_class_embeds": 3,
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]});
    assert_eq!(read(levels), (Some(8), true, 0, false));
}

#[test]
fn what_is_not_supported_is_refused_with_key_and_value() {
    for (key, value, words) in [
        ("time_embedding_type", json!("fourier"), "\"positional\""),
        ("time_embedding_dim", json!(7), "16"),
        ("mid_block_type", Value::Null, "\"UNetMidBlock2D\""),
        ("downsample_type", json!("resnet"), "\"conv\""),
        ("upsample_type", json!("resnet"), "\"conv\""),
        ("class_embed_type", json!("timestep"), "only null"),
        (
            "resnet_time_scale_shift",
            json!("spatial"),
            "\"scale_shift\"",
        ),
        ("act_fn", json!("tanh"), "swish"),
        ("attn_norm_num_groups", json!(4), "norm_num_groups, 2"),
        (
            "down_block_types",
            json!(["DownBlock2D", "SkipDownBlock2D"]),
            "AttnDownBlock2D",
        ),
        (
            "up_block_types",
            json!(["DownBlock2D", "UpBlock2D"]),
            "AttnUpBlock2D",
        ),
        ("sample_size", json!([8]), "one side"),
        ("sample_size", json!(-8), "one side"),
        ("layers_per_block", json!("two"), "invalid type"),
        ("layers_per_block", Value::Null, "invalid type"),
        ("dropout", json!([0.1]), "invalid type"),
        (
            "_class_name",
            json!("UNet2DConditionModel"),
            "not a UNet2DModel",
        ),
    ] {
        let folder = copy("flat");
        edit(&folder.path().join("config.json"), |config| {
            config.insert(key.to_owned(), value.clone());
        });
        let message = refusal(folder.path());
        let value = match &value {
            Value::Array(kinds) if key.ends_with("types") => kinds
                .iter()
                .map(ToString::to_string)
                .find(|kind| message.contains(kind))
                .unwrap(),
            value => value.to_string(),
        };
        let start = format!("config.json: {key} = {value}: ");
        assert!(message.contains(&start), "{message}");
        assert!(message.contains(words), "no {words} in {message}");
    }
}

#[test]
fn networks_that_cannot_be_are_refused_with_the_number() {
    for (key, value, words) in [
        ("downsample_padding", json!(2), "downsample_padding = 2"),
        ("dropout", json!(1.0), "dropout = 1"),
        ("norm_num_groups", json!(3), "3 groups"),
        ("attention_head_dim", json!(3), "width 3"),
        ("layers_per_block", json!(0), "layers_per_block"),
        ("block_out_channels", json!([4]), "1 levels"),
        (
            "block_out_channels",
            json!([]),
            "length must be in 1..=1048576, not 0",
        ),
        (
            "num_class_embeds",
            json!(0),
            "num_class_embeds must be in 1..=1048576, not 0",
        ),
        (
            "mid_block_scale_factor",
            json!(0),
            "mid_block_scale_factor = 0",
        ),
    ] {
        let folder = copy("flat");
        edit(&folder.path().join("config.json"), |config| {
            config.insert(key.to_owned(), value);
        });
        let message = refusal(folder.path());
        assert!(message.contains("config.json"), "{message}");
        assert!(message.contains(words), "no {words:?} in {message}");
    }
}

/// What `EMAModel.save_pretrained` writes into `unet_ema`.
#[test]
fn keys_of_an_average_are_noted() {
    let folder = copy("flat");
    let plain = diffusers::unet(folder.path()).unwrap();
    assert_eq!(plain.note, None);
    let file = folder.path().join("config.json");
    edit(&file, |config| {
        for (key, value) in [
            ("decay", json!(0.9999)),
            ("inv_gamma", json!(1.0)),
            ("min_decay", json!(0.0)),
            ("optimization_step", json!(500)),
            ("power", json!(0.75)),
            ("update_after_step", json!(0)),
            ("use_ema_warmup", json!(true)),
        ] {
            config.insert(key.to_owned(), value);
        }
    });
    let averaged = diffusers::unet(folder.path()).unwrap();
    assert_eq!(averaged.config, plain.config);
    let note = format!(
        "{}: ignores keys that say how the weights were averaged: decay, inv_gamma, min_decay, \
         optimization_step, power, update_after_step, use_ema_warmup",
        file.display()
    );
    assert_eq!(averaged.note, Some(note));
}

#[test]
fn every_unknown_key_is_named() {
    let folder = copy("flat");
    edit(&folder.path().join("config.json"), |config| {
        config.insert("decay".to_owned(), json!(0.9));
        config.insert("use_linear_projection".to_owned(), json!(true));
        config.insert("cross_attention_dim".to_owned(), json!(768));
    });
    let message = refusal(folder.path());
    let expected = "config.json: unknown keys: cross_attention_dim, use_linear_projection";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn what_is_no_object_is_refused() {
    for text in ["", "[]", "{", "null", "{\"a\": 1e999}", "\u{0}"] {
        let folder = copy("flat");
        fs::write(folder.path().join("config.json"), text).unwrap();
        assert!(refusal(folder.path()).contains("config.json"));
    }
    let folder = copy("flat");
    fs::remove_file(folder.path().join("config.json")).unwrap();
    fs::create_dir(folder.path().join("config.json")).unwrap();
    assert!(refusal(folder.path()).contains("config.json: not a regular file"));
}

/// UTF-8 and UTF-16, as editors and shells of Windows write them.
#[test]
fn a_byte_order_mark_is_named() {
    for mark in [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"] {
        let folder = copy("flat");
        let file = folder.path().join("config.json");
        let text = fs::read(&file).unwrap();
        fs::write(&file, [mark, &text].concat()).unwrap();
        let message = format!(
            "{}: begins with a byte order mark; save it as UTF-8 without one",
            file.display()
        );
        assert_eq!(refusal(folder.path()), message);
    }
}
