//! The keys of a configuration: their ranges, and whether they mean anything beside the others.

use ddpm_model::UNetConfig;

use super::refusal::Refusal;
use crate::config::{ClippedEpsilon, Config, DataKind, Model, OptimizerKind};

/// Threads beyond these prepare no batch sooner.
const MOST_WORKERS: usize = 1024;

/// The one table of ranges. Comparisons are written so that NaN fails them.
#[allow(clippy::too_many_lines)] // It is a table.
pub(super) fn check_ranges(config: &Config) -> Result<(), Refusal> {
    let optimizer = &config.optimizer;
    let unit = |x: f64| (0.0..1.0).contains(&x);
    let decays = config.ema.decay.as_slice();
    let mut each = decays.iter().enumerate();
    let distinct = each.all(|(i, decay)| !decays[..i].contains(decay));
    let checks = [
        (
            "steps",
            config.steps >= 1,
            config.steps.to_string(),
            "at least 1",
        ),
        (
            "batch_size",
            config.batch_size >= 1,
            config.batch_size.to_string(),
            "at least 1",
        ),
        (
            "accumulate",
            config.accumulate >= 1 && config.batch_size.is_multiple_of(config.accumulate.max(1)),
            config.accumulate.to_string(),
            "at least 1 and a divisor of batch_size",
        ),
        (
            "data.workers",
            config.data.workers <= MOST_WORKERS,
            config.data.workers.to_string(),
            "at most 1024",
        ),
        (
            "optimizer.learning_rate",
            optimizer.learning_rate > 0.0 && optimizer.learning_rate <= 1.0,
            optimizer.learning_rate.to_string(),
            "in (0, 1]",
        ),
        (
            "optimizer.beta_1",
            unit(optimizer.beta_1),
            optimizer.beta_1.to_string(),
            "in [0, 1)",
        ),
        (
            "optimizer.beta_2",
            unit(optimizer.beta_2),
            optimizer.beta_2.to_string(),
            "in [0, 1)",
        ),
        (
            "optimizer.epsilon",
            optimizer.epsilon > 0.0 && optimizer.epsilon.is_finite(),
            optimizer.epsilon.to_string(),
            "positive",
        ),
        (
            "optimizer.weight_decay",
            optimizer.weight_decay >= 0.0 && optimizer.weight_decay.is_finite(),
            optimizer.weight_decay.to_string(),
            "not negative",
        ),
        (
            "optimizer.clip",
            optimizer
                .clip
                .is_none_or(|clip| clip > 0.0 && clip.is_finite()),
            format!("{:?}", optimizer.clip),
            "positive",
        ),
        (
            "optimizer.momentum",
            optimizer.momentum.is_none_or(unit),
            format!("{:?}", optimizer.momentum.unwrap_or_default()),
            "in [0, 1)",
        ),
        (
            "ema.decay",
            !decays.is_empty() && decays.iter().all(|&decay| unit(decay)) && distinct,
            format!("{decays:?}"),
            "one number or several, each in [0, 1) and no two alike",
        ),
        (
            "objective.class_dropout",
            unit(config.objective.class_dropout),
            config.objective.class_dropout.to_string(),
            "in [0, 1)",
        ),
        (
            "sampling.count",
            config.sampling.count >= 1,
            config.sampling.count.to_string(),
            "at least 1",
        ),
        (
            "checkpoint.every",
            config.checkpoint.every >= 1,
            config.checkpoint.every.to_string(),
            "at least 1",
        ),
    ];
    for (key, valid, value, range) in checks {
        if !valid {
            return Err((key, format!("{value} must be {range}")));
        }
    }
    Ok(())
}

/// Refuses keys that nothing would read. A key at its default is taken for one that is not there.
pub(super) fn check_use(config: &Config) -> Result<(), Refusal> {
    let data = &config.data;
    let kind = data.kind;
    let is_images = kind == DataKind::Images;
    let of_kind = format!("data.kind = \"{}\"", kind.name());
    let unet = match &config.model {
        Model::UNet(unet) => Some(unet),
        Model::Mlp(_) => None,
    };
    let of_network = |is_unused: fn(&UNetConfig) -> bool| unet.is_some_and(is_unused);
    let classes = unet.and_then(|unet| unet.num_classes);
    let without_classes = "a network without model.num_classes".to_owned();
    let without_attention = "a network that attends nowhere".to_owned();
    let without_mid = "a network of model.mid_attention = false".to_owned();
    let one_level = "a network of one level, which halves nothing".to_owned();
    let dropout = config.objective.class_dropout > 0.0 && classes.is_none();
    let optimizer = &config.optimizer;
    let of_optimizer = format!("optimizer.kind = \"{}\"", optimizer.kind.name());
    let unused = [
        (
            "data.path",
            data.path.is_some() && !kind.has_path(),
            &of_kind,
        ),
        ("data.size", data.size.is_some() && !is_images, &of_kind),
        (
            "data.channels",
            data.channels.is_some() && !is_images,
            &of_kind,
        ),
        (
            "data.points",
            data.points.is_some() && !kind.is_points(),
            &of_kind,
        ),
        (
            "data.in_memory",
            data.in_memory.is_some() && !is_images,
            &of_kind,
        ),
        ("data.flip", data.flip && kind.is_points(), &of_kind),
        (
            "sampling.clipped_epsilon",
            config.sampling.clipped_epsilon == ClippedEpsilon::Kept && kind.is_points(),
            &of_kind,
        ),
        ("objective.class_dropout", dropout, &without_classes),
        (
            "optimizer.momentum",
            optimizer.momentum.is_some() && optimizer.kind != OptimizerKind::Muon,
            &of_optimizer,
        ),
        (
            "model.null_class",
            of_network(|unet| !unet.null_class && unet.num_classes.is_none()),
            &without_classes,
        ),
        (
            "model.attention_head_dim",
            of_network(|unet| unet.attention_head_dim.is_some() && !unet.attends()),
            &without_attention,
        ),
        (
            "model.mid_attention_norm",
            of_network(|unet| !unet.mid_attention_norm && !unet.mid_attention),
            &without_mid,
        ),
        (
            "model.downsample_padding",
            of_network(|unet| unet.downsample_padding != 1 && unet.block_out_channels.len() == 1),
            &one_level,
        ),
    ];
    match unused.into_iter().find(|(_, is_unused, _)| *is_unused) {
        Some((key, _, what)) => Err((key, format!("it means nothing to {what}; leave it out"))),
        None => Ok(()),
    }
}
