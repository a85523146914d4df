//! What samples depend on, in the words of the command line: `samples.json`, and what shards are
//! compared by.

use anyhow::Result;
use burn::module::Module;
use ddpm_schedule::{Eta, Sampler, Trajectory};
use safetensors::tensor::Dtype;

use super::Order;
use crate::checkpoint::module_bytes;
use crate::config::PrecisionKind;
use crate::plan::SamplingPlan;
use crate::sample::Classes;
use crate::shard::{self, Set};

/// What a set of samples says that it is.
pub(super) const SAMPLES: &str = "samples";

/// The set of samples that an order is for.
pub(super) fn set<N: Module>(
    order: &Order,
    sampling: &SamplingPlan,
    classes: Option<Classes>,
    init_noise: Option<String>,
    shape: &[usize],
    network: &N,
) -> Result<Set> {
    let network = module_bytes(network).map_err(anyhow::Error::msg)?;
    let (sampler, eta) = words(sampling.sampler);
    let clip = sampling
        .clip
        .map_or("none".to_owned(), |clip| clip.to_string());
    let class = match classes {
        Some(Classes::Only(class)) => class.to_string(),
        Some(Classes::InTurn(_)) | None => "all".to_owned(),
    };
    let precision = match order.precision {
        PrecisionKind::F32 => "f32",
        PrecisionKind::Bf16 => "bf16",
    };
    let noise = init_noise.map_or("none".to_owned(), |hash| format!("SHA-256 {hash}"));
    let entries = [
        ("what", SAMPLES.to_owned()),
        ("network", shard::hash(&network)),
        ("seed", order.seed.unwrap_or_default().to_string()),
        ("sampler", sampler.to_owned()),
        ("eta", eta),
        ("steps", sampling.trajectory.len().to_string()),
        ("levels", levels(&sampling.trajectory)),
        ("clip", clip),
        ("class", class),
        ("guidance", order.guidance.to_string()),
        ("init-noise", noise),
        ("precision", precision.to_owned()),
    ];
    Ok(Set {
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        count: order.num,
        batch: order.batch_size,
        order: entries.map(|(name, text)| (name.to_owned(), text)).into(),
    })
}

/// A sampler as `--sampler` and `--eta` name it.
fn words(sampler: Sampler) -> (&'static str, String) {
    match sampler {
        Sampler::Ddim { eta: Eta::ONE } => ("ancestral", "none".to_owned()),
        Sampler::Ddim { eta } => ("ddim", eta.get().to_string()),
        Sampler::AncestralBeta => ("ancestral-beta", "none".to_owned()),
        Sampler::AncestralLearned => ("ancestral-learned", "none".to_owned()),
        Sampler::DpmPp2M => ("dpmpp-2m", "none".to_owned()),
    }
}

/// The hash of the times and levels that are visited, which may be a thousand.
fn levels(trajectory: &Trajectory) -> String {
    let mut bytes = Vec::new();
    for visit in trajectory.visits() {
        bytes.extend(visit.t.get().to_le_bytes());
        bytes.extend(visit.level.signal().to_le_bytes());
        bytes.extend(visit.level.noise().to_le_bytes());
    }
    bytes.extend(trajectory.end().signal().to_le_bytes());
    bytes.extend(trajectory.end().noise().to_le_bytes());
    shard::hash(&bytes)
}
