//! Compares a file's objective with that of a run.

use ddpm_schedule::{NoiseLevel, Objective, Process};
use serde_json::json;

use super::export::prediction_type;

/// The allowed difference of log-SNRs. If a file has β in single precision, a product of a thousand
/// is accurate to 10⁻⁴; another schedule, or other ends, differ by more.
const TOLERANCE: f64 = 1e-2;

/// Below this log-SNR the signal counts as zero. Classes that divide by the signal use ᾱ_T = 2⁻²⁴,
/// a log-SNR of −16.6, in place of 0.
const NO_SIGNAL: f64 = -16.0;

/// The key that differs from `wanted`, its value in the file, and a reason with the other value.
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
    let reason = format!("the network is to be trained with {ours}, from another schedule of β");
    let key = "beta_schedule";
    let value = format!("(ᾱ at t = {}) {theirs}", t.get());
    Some((key, value, reason))
}

/// The kind of a process, without its numbers: training draws its own levels.
fn process(process: &Process) -> &'static str {
    match process {
        Process::Discrete(_) => "the timesteps of a schedule",
        Process::Edm { .. } => "the σ of EDM",
        Process::Flow { .. } => "the times of a rectified flow",
        _ => "a variance preserving process in continuous time",
    }
}

/// Two levels without signal are the same, whatever their log-SNR.
fn close(a: NoiseLevel, b: NoiseLevel) -> bool {
    let [a, b] = [a, b].map(NoiseLevel::log_snr);
    (a < NO_SIGNAL && b < NO_SIGNAL) || (a - b).abs() <= TOLERANCE
}
