//! What samples depend on, in the words of the command line: `samples.json`, and what shards are
//! compared by.

use anyhow::Result;
use burn::module::Module;
use ddpm_process::AfterClip;
use ddpm_schedule::Levels;

use super::options::SampleOptions;
use crate::config::PrecisionKind;
use crate::drawing::Classes;
use crate::plan::SamplingPlan;
use crate::rows::Dtype;
use crate::shard::{self, Set};
use ddpm_model::weights::module_bytes;

/// What a set of samples says that it is.
pub(super) const SAMPLES: &str = "samples";

/// The set of samples that is asked for.
pub(super) fn set<N: Module>(
    options: &SampleOptions,
    sampling: &SamplingPlan,
    classes: Option<Classes>,
    init_noise: Option<String>,
    shape: &[usize],
    network: &N,
) -> Result<Set> {
    let network = module_bytes(network).map_err(anyhow::Error::msg)?;
    let numbers = Some(sampling.sampler.numbers()).filter(|numbers| !numbers.is_empty());
    let clip = sampling
        .clip
        .map_or("none".to_owned(), |clip| match sampling.epsilon {
            AfterClip::Derived => clip.to_string(),
            AfterClip::Kept => format!("{clip}, the network's ε̂ kept"),
        });
    let class = match classes {
        Some(Classes::Only(class)) => class.to_string(),
        Some(Classes::InTurn(_)) | None => "all".to_owned(),
    };
    let precision = match options.precision {
        PrecisionKind::F32 => "f32",
        PrecisionKind::Bf16 => "bf16",
    };
    let noise = init_noise.map_or("none".to_owned(), |hash| format!("SHA-256 {hash}"));
    let evaluations = sampling.evaluations().map(|n| n.to_string());
    let entries = [
        ("what", SAMPLES.to_owned()),
        ("network", shard::hash(&network)),
        ("seed", options.seed.unwrap_or_default().to_string()),
        ("sampler", sampling.sampler.name().to_owned()),
        ("numbers", numbers.unwrap_or_else(|| "published".to_owned())),
        ("steps", sampling.levels.len().to_string()),
        (
            "evaluations",
            evaluations.unwrap_or_else(|| "by error".to_owned()),
        ),
        ("levels", levels(&sampling.levels)),
        ("clip", clip),
        ("class", class),
        ("guidance", options.guidance.to_string()),
        ("init-noise", noise),
        ("precision", precision.to_owned()),
    ];
    Ok(Set {
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        count: options.num,
        batch: options.batch_size,
        provenance: entries.map(|(name, text)| (name.to_owned(), text)).into(),
    })
}

/// The hash of the levels, which may be a thousand.
fn levels(levels: &Levels) -> String {
    let mut bytes = Vec::new();
    for level in levels.as_slice() {
        bytes.extend(level.signal().to_le_bytes());
        bytes.extend(level.noise().to_le_bytes());
    }
    shard::hash(&bytes)
}
