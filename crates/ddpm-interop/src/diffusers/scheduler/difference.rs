//! Whether a file's objective is the one that is to be trained by.

use ddpm_schedule::{NoiseLevel, Objective, Process};
use serde_json::json;

use super::export::prediction_type;

/// How far log-SNRs may be apart. Files may hold β in single precision, of which a product of a
/// thousand keeps 10⁻⁴; another schedule, or other ends of the same, are further off.
const TOLERANCE: f64 = 1e-2;

/// A log-SNR below which there is no signal to speak of. Classes that divide by it put ᾱ_T = 2⁻²⁴,
/// of a log-SNR of −16.6, for 0.
const NO_SIGNAL: f64 = -16.0;

/// The key that says otherwise than `wanted`, its value in the file and the reason with the other.
pub(in crate::diffusers) fn difference(
    found: &Objective,
    wanted: &Objective,
) -> Option<(&'static str, String, String)> {
    let [theirs, ours] =
        [found, wanted].map(|objective| prediction_type(objective.parametrization()));
    if theirs != ours {
        let reason = format!("the network is to be trained to predict {ours:?}");
        return Some(("prediction_type", json!(theirs).to_string(), reason));
    }
    let [theirs, ours] = [found, wanted].map(Objective::schedule);
    let (Some(theirs), Some(ours)) = (theirs, ours) else {
        let [theirs, ours] = [found, wanted].map(|objective| process(objective.process()));
        let reason = format!("the network is to be trained on {ours}");
        let differs = theirs != ours;
        return differs.then(|| ("_class_name", format!("(a scheduler of {theirs})"), reason));
    };
    let [len, to_be] = [theirs, ours].map(|schedule| schedule.last().get());
    if len != to_be {
        let reason = format!("the network is to be trained on {to_be} timesteps");
        return Some(("num_train_timesteps", len.to_string(), reason));
    }
    let levels = theirs.iter().zip(ours.iter());
    let mut levels = levels.map(|(t, same)| (t, theirs.level(t), ours.level(same)));
    let (t, theirs, ours) = levels.find(|(_, theirs, ours)| !close(*theirs, *ours))?;
    let [theirs, ours] = [theirs, ours].map(NoiseLevel::alpha_bar);
    let reason = format!("the network is to be trained with {ours}, by another schedule of β");
    let key = "beta_schedule";
    let value = format!("(ᾱ at t = {}) {theirs}", t.get());
    Some((key, value, reason))
}

/// What a process is, whatever its numbers: training draws levels of its own.
fn process(process: &Process) -> &'static str {
    match process {
        Process::Discrete(_) => "the timesteps of a schedule",
        Process::Edm { .. } => "the σ of EDM",
        Process::Flow { .. } => "the times of a rectified flow",
        _ => "a variance preserving process in continuous time",
    }
}

/// Both without signal are the same level, whatever their log-SNR.
fn close(a: NoiseLevel, b: NoiseLevel) -> bool {
    let [a, b] = [a, b].map(NoiseLevel::log_snr);
    (a < NO_SIGNAL && b < NO_SIGNAL) || (a - b).abs() <= TOLERANCE
}
