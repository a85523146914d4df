//! `metrics.jsonl`: what is known of each step of a run, and its one reader.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file's name in a run's folder.
pub const NAME: &str = "metrics.jsonl";

/// A line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Steps done.
    pub step: u64,
    /// Mean weighted loss of the batch.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Joint norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Rows a second, since the step before.
    pub images_per_second: f64,
    /// What the checkpoint cost whose writing ended since the step before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Saved>,
}

/// What a checkpoint cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Its step.
    pub step: u64,
    /// Length of its files.
    pub bytes: u64,
    /// Seconds from its first byte to its last, beside the training loop.
    pub seconds: f64,
    /// Seconds that the training loop waited: for the checkpoint before, where that was still being
    /// written, and for the copy of the tensors.
    pub stall: f64,
}

/// What `metrics.jsonl` holds.
#[derive(Debug, Default, PartialEq)]
pub struct Lines<'a> {
    /// The lines of steps, each with its text, the end of the line included.
    pub steps: Vec<(Metrics, &'a str)>,
    /// How many other lines there are. They are passed over.
    pub bad: usize,
}

impl<'a> Lines<'a> {
    /// The lines of a record's bytes. A last line without an end is none: it is still being written,
    /// or its process died.
    pub fn of(bytes: &'a [u8]) -> Self {
        let mut lines = Self::default();
        let whole = bytes.split_inclusive(|&byte| byte == b'\n');
        for line in whole.filter(|line| line.ends_with(b"\n")) {
            let text = str::from_utf8(line).ok();
            let step = text.and_then(|text| Some((serde_json::from_str(text).ok()?, text)));
            match step {
                Some(step) => lines.steps.push(step),
                None => lines.bad += 1,
            }
        }
        lines
    }
}

/// The bytes of the record of the run in the folder `run`, for [`Lines::of`].
///
/// # Errors
///
/// If the system refuses.
pub fn read(run: &Path) -> io::Result<Vec<u8>> {
    fs::read(run.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_costs_no_other() {
        let line = |step: u64| {
            format!(
                "{{\"step\":{step},\"loss\":0.5,\"lr\":0.1,\"grad_norm\":1.0,\
                 \"images_per_second\":9.0}}\n"
            )
        };
        let text = [
            line(1).as_bytes(),
            b"{\"step\":2,\"lo{\"step\":\n",
            b"\xff\xfe\n",
            line(3).as_bytes(),
            b"\n",
            line(4).as_bytes(),
            line(5).trim_end().as_bytes(),
        ]
        .concat();
        let lines = Lines::of(&text);
        assert_eq!(lines.bad, 3);
        let steps: Vec<_> = lines
            .steps
            .iter()
            .map(|(metrics, _)| metrics.step)
            .collect();
        assert_eq!(steps, [1, 3, 4]);
        assert_eq!(lines.steps[1].1, line(3));
        assert_eq!(Lines::of(b""), Lines::default());
    }
}
