//! `config.json` of a `UNet2DModel`, in both directions.

use std::convert::Infallible;

use ddpm_model::{Activation, ModelError, UNetConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::DiffusersError;
use super::json::Keys;
use super::version::VERSION;

const BLOCKS: [&str; 2] = ["DownBlock2D", "AttnDownBlock2D"];
const UP_BLOCKS: [&str; 2] = ["UpBlock2D", "AttnUpBlock2D"];

/// Whether time scales and shifts the second norm: no and yes.
const TIME: [&str; 2] = ["default", "scale_shift"];

/// The keys that `EMAModel.save_pretrained` adds to the file of an averaged network.
const OF_AVERAGES: [&str; 8] = [
    "collected_params",
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
];

/// The content of a file.
pub(super) struct Found {
    /// The network it describes, with the defaults of diffusers.
    pub(super) config: UNetConfig,
    /// Channels of its input and output.
    pub(super) channels: [usize; 2],
    /// Its images' height and width.
    pub(super) sample_size: Option<[usize; 2]>,
    /// A note about ignored keys.
    pub(super) note: Option<String>,
}

/// A file whose keys are walked through: read from [`Keys`], or written to a [`Map`].
trait File {
    type Error;

    /// A key that holds `field`; `default` is its value where the file does not have it.
    fn key<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &str,
        field: &mut T,
        default: T,
    ) -> Result<(), Self::Error>;
}

impl File for Keys {
    type Error = DiffusersError;

    fn key<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &str,
        field: &mut T,
        default: T,
    ) -> Result<(), DiffusersError> {
        *field = self.take(key, default)?;
        Ok(())
    }
}

impl File for Map<String, Value> {
    type Error = Infallible;

    fn key<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &str,
        field: &mut T,
        _default: T,
    ) -> Result<(), Infallible> {
        self.insert(key.to_owned(), json!(field));
        Ok(())
    }
}

/// The keys whose values are those of the fields, with the defaults of diffusers. The fields that are
/// not named here have values of another kind in the file, which [`read`] and [`write`] translate.
fn plain_keys<F: File>(
    file: &mut F,
    config: &mut UNetConfig,
    [input, output]: &mut [usize; 2],
) -> Result<(), F::Error> {
    let UNetConfig {
        block_out_channels,
        attention: _,
        up_attention: _,
        mid_attention,
        mid_attention_norm: _,
        mid_block_scale_factor,
        layers_per_block,
        attention_head_dim,
        activation: _,
        dropout,
        norm_num_groups,
        norm_eps,
        downsample_padding,
        scale_shift: _,
        center_input_sample,
        flip_sin_to_cos,
        freq_shift,
        num_classes: _,
        null_class: _,
    } = config;
    file.key("in_channels", input, 3)?;
    file.key("out_channels", output, 3)?;
    let channels = vec![224, 448, 672, 896];
    file.key("block_out_channels", block_out_channels, channels)?;
    file.key("layers_per_block", layers_per_block, 2)?;
    file.key("add_attention", mid_attention, true)?;
    file.key("mid_block_scale_factor", mid_block_scale_factor, 1.0)?;
    // An absent key is 8, null is one head.
    file.key("attention_head_dim", attention_head_dim, Some(8))?;
    file.key("dropout", dropout, 0.0)?;
    file.key("norm_num_groups", norm_num_groups, 32)?;
    file.key("norm_eps", norm_eps, 1e-5)?;
    file.key("downsample_padding", downsample_padding, 1)?;
    file.key("center_input_sample", center_input_sample, false)?;
    file.key("flip_sin_to_cos", flip_sin_to_cos, true)?;
    file.key("freq_shift", freq_shift, 0.0)
}

/// Reads a file's keys.
pub(super) fn read(mut keys: Keys) -> Result<Found, DiffusersError> {
    let k = &mut keys;
    let class: Value = k.take("_class_name", Value::Null)?;
    if class != "UNet2DModel" {
        return Err(k.bad("_class_name", &class, "this is not a UNet2DModel"));
    }
    // These do not change the network; the last is the length of an embedding that is refused
    // below.
    for key in ["_diffusers_version", "_name_or_path", "num_train_timesteps"] {
        k.take(key, Value::Null)?;
    }
    k.only("time_embedding_type", &[json!("positional")])?;
    k.only("mid_block_type", &[json!("UNetMidBlock2D")])?;
    k.only("downsample_type", &[json!("conv")])?;
    k.only("upsample_type", &[json!("conv")])?;
    k.only("class_embed_type", &[Value::Null])?;

    let (mut config, mut channels) = (UNetConfig::cifar10(), [3, 3]);
    plain_keys(k, &mut config, &mut channels)?;
    other_keys(k, &mut config)?;
    let config = without_idle(config);
    let sample_size = sample_size(k)?;
    let note = k.ignore(&OF_AVERAGES, "keys that say how the weights were averaged");
    let path = keys.path().to_owned();
    keys.finish()?;
    match config.check().and(UNetConfig::check_channels(channels)) {
        Ok(()) => Ok(Found {
            config,
            channels,
            sample_size,
            note,
        }),
        Err(error) => {
            let error = as_named_there(error);
            Err(DiffusersError::Network { path, error })
        }
    }
}

/// The keys that hold a field in another form.
fn other_keys(k: &mut Keys, config: &mut UNetConfig) -> Result<(), DiffusersError> {
    let down = [
        "DownBlock2D",
        "AttnDownBlock2D",
        "AttnDownBlock2D",
        "AttnDownBlock2D",
    ];
    let up = [
        "AttnUpBlock2D",
        "AttnUpBlock2D",
        "AttnUpBlock2D",
        "UpBlock2D",
    ];
    config.attention = attention(k, "down_block_types", &down, BLOCKS)?;
    let mut up_attention = attention(k, "up_block_types", &up, UP_BLOCKS)?;
    up_attention.reverse();
    config.up_attention = (up_attention != config.attention).then_some(up_attention);

    let first = config.block_out_channels.first().copied().unwrap_or(0);
    let four = usize::saturating_mul(first, 4);
    k.only("time_embedding_dim", &[Value::Null, json!(four)])?;
    config.scale_shift = scale_shift(k)?;
    config.mid_attention_norm = mid_attention_norm(k, config.norm_num_groups, config.scale_shift)?;
    config.activation = activation(k)?;
    config.num_classes = k.take("num_class_embeds", None)?;
    config.null_class = false;
    Ok(())
}

/// Sets options without effect to their defaults in `[model]`. diffusers writes every key, but a
/// run's configuration refuses options without effect.
fn without_idle(config: UNetConfig) -> UNetConfig {
    let halves = config.block_out_channels.len() > 1;
    UNetConfig {
        mid_attention_norm: config.mid_attention_norm || !config.mid_attention,
        attention_head_dim: config.attention_head_dim.filter(|_| config.attends()),
        downsample_padding: if halves { config.downsample_padding } else { 1 },
        null_class: config.null_class || config.num_classes.is_none(),
        ..config
    }
}

/// Renames the one count that has another name in these files.
fn as_named_there(error: ModelError) -> ModelError {
    match error {
        ModelError::Count {
            name: "num_classes",
            value,
        } => ModelError::Count {
            name: "num_class_embeds",
            value,
        },
        other => other,
    }
}

/// Which blocks of a path have attention. Their types must be one of `known`.
fn attention(
    keys: &mut Keys,
    key: &str,
    default: &[&str],
    known: [&str; 2],
) -> Result<Vec<bool>, DiffusersError> {
    let default = default.iter().map(|&kind| kind.to_owned()).collect();
    let kinds: Vec<String> = keys.take(key, default)?;
    let attends = |kind: &String| {
        let reason = format!("not supported; only {} and {} are", known[0], known[1]);
        match known.iter().position(|known| known == kind) {
            Some(attends) => Ok(attends == 1),
            None => Err(keys.bad(key, &json!(kind), &reason)),
        }
    };
    kinds.iter().map(attends).collect()
}

fn scale_shift(keys: &mut Keys) -> Result<bool, DiffusersError> {
    let key = "resnet_time_scale_shift";
    let name = keys.take(key, TIME[0].to_owned())?;
    if let Some(scales) = TIME.iter().position(|known| *known == name) {
        return Ok(scales == 1);
    }
    let reason = "not supported; only \"default\" and \"scale_shift\" are";
    Err(keys.bad(key, &json!(name), reason))
}

/// Without `attn_norm_num_groups` the mid block's norm is like the others, except in networks with
/// scale_shift, where diffusers makes none.
fn mid_attention_norm(
    keys: &mut Keys,
    norm_num_groups: usize,
    scale_shift: bool,
) -> Result<bool, DiffusersError> {
    let key = "attn_norm_num_groups";
    match keys.take::<Option<usize>>(key, None)? {
        None => Ok(!scale_shift),
        Some(groups) if groups == norm_num_groups => Ok(true),
        Some(groups) => {
            let reason = format!("not supported unless it is norm_num_groups, {norm_num_groups}");
            Err(keys.bad(key, &json!(groups), &reason))
        }
    }
}

fn activation(keys: &mut Keys) -> Result<Activation, DiffusersError> {
    let name = keys.take("act_fn", "silu".to_owned())?;
    // swish is SiLU's other name, and diffusers looks names up in lower case.
    let name = name.to_lowercase();
    let known = |activation: &Activation| {
        json!(activation) == name || (name == "swish" && *activation == Activation::Silu)
    };
    Activation::ALL.into_iter().find(known).ok_or_else(|| {
        let reason = "not supported; silu, swish, mish, gelu and relu are";
        keys.bad("act_fn", &json!(name), reason)
    })
}

/// A side, or height and width.
fn sample_size(keys: &mut Keys) -> Result<Option<[usize; 2]>, DiffusersError> {
    let value: Value = keys.take("sample_size", Value::Null)?;
    let side = |value: &Value| value.as_u64().and_then(|side| usize::try_from(side).ok());
    match &value {
        Value::Null => return Ok(None),
        Value::Array(sides) if sides.len() == 2 => {
            if let (Some(height), Some(width)) = (side(&sides[0]), side(&sides[1])) {
                return Ok(Some([height, width]));
            }
        }
        other => {
            if let Some(side) = side(other) {
                return Ok(Some([side, side]));
            }
        }
    }
    Err(keys.bad(
        "sample_size",
        &value,
        "expected one side, or a height and a width",
    ))
}

/// The file of a network of these channels for images of a height and a width.
pub(super) fn write(
    config: &UNetConfig,
    mut channels: [usize; 2],
    [height, width]: [usize; 2],
) -> Value {
    let blocks = |attention: &[bool], names: [&str; 2]| -> Vec<String> {
        let names = attention.iter().map(|&attends| names[usize::from(attends)]);
        names.map(str::to_owned).collect()
    };
    let mut up = blocks(config.up_attention(), UP_BLOCKS);
    up.reverse();
    let groups = config.mid_attention_norm.then_some(config.norm_num_groups);
    let square = height == width;
    let mut file = Map::new();
    let Ok(()) = plain_keys(&mut file, &mut config.clone(), &mut channels);
    file.extend(
        [
            ("_class_name", json!("UNet2DModel")),
            ("_diffusers_version", json!(VERSION)),
            ("act_fn", json!(config.activation)),
            ("attn_norm_num_groups", json!(groups)),
            ("down_block_types", json!(blocks(&config.attention, BLOCKS))),
            ("num_class_embeds", json!(config.class_rows())),
            (
                "resnet_time_scale_shift",
                json!(TIME[usize::from(config.scale_shift)]),
            ),
            (
                "sample_size",
                if square {
                    json!(height)
                } else {
                    json!([height, width])
                },
            ),
            ("up_block_types", json!(up)),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    Value::Object(file)
}
