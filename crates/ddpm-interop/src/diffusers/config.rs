//! `config.json` of a `UNet2DModel`, in both directions.

use ddpm_model::{Activation, ModelError, UNetConfig};
use serde_json::{Value, json};

use super::error::DiffusersError;
use super::json::Keys;
use super::version::VERSION;

const BLOCKS: [&str; 2] = ["DownBlock2D", "AttnDownBlock2D"];
const UP_BLOCKS: [&str; 2] = ["UpBlock2D", "AttnUpBlock2D"];

/// What `EMAModel.save_pretrained` adds to the file of the network whose weights it averaged.
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

/// What a file says.
pub(super) struct Found {
    /// The network it describes, with the defaults of diffusers.
    pub(super) config: UNetConfig,
    /// Its images' height and width.
    pub(super) sample_size: Option<[usize; 2]>,
    /// Which keys were ignored.
    pub(super) note: Option<String>,
}

/// Reads a file's keys.
pub(super) fn read(mut keys: Keys) -> Result<Found, DiffusersError> {
    let k = &mut keys;
    let class: Value = k.take("_class_name", Value::Null)?;
    if class != "UNet2DModel" {
        return Err(k.bad("_class_name", &class, "this is not a UNet2DModel"));
    }
    // Neither changes the network; the last names the length of an embedding refused below.
    for key in ["_diffusers_version", "_name_or_path", "num_train_timesteps"] {
        k.take(key, Value::Null)?;
    }
    k.only("time_embedding_type", &[json!("positional")])?;
    k.only("mid_block_type", &[json!("UNetMidBlock2D")])?;
    k.only("downsample_type", &[json!("conv")])?;
    k.only("upsample_type", &[json!("conv")])?;
    k.only("class_embed_type", &[Value::Null])?;

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
    let attention = attention(k, "down_block_types", &down, BLOCKS)?;
    let mut up_attention = self::attention(k, "up_block_types", &up, UP_BLOCKS)?;
    up_attention.reverse();
    let block_out_channels = k.take("block_out_channels", vec![224, 448, 672, 896])?;
    let first = block_out_channels.first().copied().unwrap_or(0);
    let four = usize::saturating_mul(first, 4);
    k.only("time_embedding_dim", &[Value::Null, json!(four)])?;
    let scale_shift = scale_shift(k)?;
    let norm_num_groups: usize = k.take("norm_num_groups", 32)?;
    let config = without_idle(UNetConfig {
        in_channels: k.take("in_channels", 3)?,
        out_channels: k.take("out_channels", 3)?,
        block_out_channels,
        layers_per_block: k.take("layers_per_block", 2)?,
        up_attention: (up_attention != attention).then_some(up_attention),
        attention,
        mid_attention: k.take("add_attention", true)?,
        mid_attention_norm: mid_attention_norm(k, norm_num_groups, scale_shift)?,
        mid_block_scale_factor: k.take("mid_block_scale_factor", 1.0)?,
        // Absent and null differ.
        attention_head_dim: k.take("attention_head_dim", Some(8))?,
        activation: activation(k)?,
        dropout: k.take("dropout", 0.0)?,
        norm_num_groups,
        norm_eps: k.take("norm_eps", 1e-5)?,
        downsample_padding: k.take("downsample_padding", 1)?,
        scale_shift,
        center_input_sample: k.take("center_input_sample", false)?,
        flip_sin_to_cos: k.take("flip_sin_to_cos", true)?,
        freq_shift: k.take("freq_shift", 0.0)?,
        num_classes: k.take("num_class_embeds", None)?,
        null_class: false,
    });
    let sample_size = sample_size(k)?;
    let note = k.ignore(&OF_AVERAGES, "keys that say how the weights were averaged");
    let path = keys.path().to_owned();
    keys.finish()?;
    match config.check() {
        Ok(()) => Ok(Found {
            config,
            sample_size,
            note,
        }),
        Err(error) => {
            let error = as_named_there(error);
            Err(DiffusersError::Network { path, error })
        }
    }
}

/// A network in which what has no effect is as by default in `[model]`. diffusers writes every key,
/// and a run's configuration refuses those that nothing reads.
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

/// An error about the one count that has another name in these files.
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

/// Which of a path's blocks attend: their types must be the two of `known`.
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
    match keys.take(key, "default".to_owned())?.as_str() {
        "default" => Ok(false),
        "scale_shift" => Ok(true),
        other => {
            let reason = "not supported; only \"default\" and \"scale_shift\" are";
            Err(keys.bad(key, &json!(other), reason))
        }
    }
}

/// Without `attn_norm_num_groups` the bottom's norm is as the others', but in networks with
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
        act_fn(*activation) == name || (name == "swish" && *activation == Activation::Silu)
    };
    Activation::ALL.into_iter().find(known).ok_or_else(|| {
        let reason = "not supported; silu, swish, mish, gelu and relu are";
        keys.bad("act_fn", &json!(name), reason)
    })
}

/// diffusers' name of a function.
fn act_fn(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "silu",
        Activation::Mish => "mish",
        Activation::Gelu => "gelu",
        Activation::Relu => "relu",
    }
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
        "not a side, nor a height and a width",
    ))
}

/// The file of a network for images of a height and a width.
pub(super) fn write(config: &UNetConfig, [height, width]: [usize; 2]) -> Value {
    let blocks = |attention: &[bool], names: [&str; 2]| -> Vec<String> {
        let names = attention.iter().map(|&attends| names[usize::from(attends)]);
        names.map(str::to_owned).collect()
    };
    let mut up = blocks(config.up_attention(), UP_BLOCKS);
    up.reverse();
    let groups = config.norm_num_groups;
    json!({
        "_class_name": "UNet2DModel",
        "_diffusers_version": VERSION,
        "act_fn": act_fn(config.activation),
        "add_attention": config.mid_attention,
        "attention_head_dim": config.attention_head_dim,
        "attn_norm_num_groups": config.mid_attention_norm.then_some(groups),
        "block_out_channels": config.block_out_channels,
        "center_input_sample": config.center_input_sample,
        "down_block_types": blocks(&config.attention, BLOCKS),
        "downsample_padding": config.downsample_padding,
        "dropout": config.dropout,
        "flip_sin_to_cos": config.flip_sin_to_cos,
        "freq_shift": config.freq_shift,
        "in_channels": config.in_channels,
        "layers_per_block": config.layers_per_block,
        "mid_block_scale_factor": config.mid_block_scale_factor,
        "norm_eps": config.norm_eps,
        "norm_num_groups": groups,
        "num_class_embeds": config.class_rows(),
        "out_channels": config.out_channels,
        "resnet_time_scale_shift": if config.scale_shift { "scale_shift" } else { "default" },
        "sample_size": if height == width { json!(height) } else { json!([height, width]) },
        "up_block_types": up,
    })
}
