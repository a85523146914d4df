//! Damage to each file of a checkpoint: it is named, and the checkpoint before it is taken.

use super::{Bench, Fault};
use crate::torture::random::Random;
use anyhow::{Context as _, ensure};
use std::fs;

/// A checkpoint's files.
const FILES: [&str; 7] = [
    "config.toml",
    "ema.safetensors",
    "losses.safetensors",
    "manifest.json",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
];

/// How often a file is damaged where that is at random.
const TIMES: usize = 16;

/// What can happen to a file.
#[derive(Clone, Copy)]
enum Damage {
    Flipped,
    Truncated,
    Missing,
}

impl Damage {
    const ALL: [Self; 3] = [Self::Flipped, Self::Truncated, Self::Missing];

    fn name(self) -> &'static str {
        match self {
            Self::Flipped => "flipped bit",
            Self::Truncated => "truncated",
            Self::Missing => "missing",
        }
    }

    fn times(self) -> usize {
        match self {
            Self::Flipped | Self::Truncated => TIMES,
            Self::Missing => 1,
        }
    }

    /// What is left of a file, if anything.
    fn of(self, mut bytes: Vec<u8>, random: &mut Random) -> Option<Vec<u8>> {
        match self {
            Self::Flipped => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
                Some(bytes)
            }
            Self::Truncated => {
                bytes.truncate(random.below(bytes.len()));
                Some(bytes)
            }
            Self::Missing => None,
        }
    }
}

/// Every damage to every file of the newest checkpoint, found by `ddpm check`, and the last of each
/// survived by `ddpm train --resume`.
pub(super) fn damage(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    bench.ok("train --config tiny.toml --out run")?;
    let mut random = Random::new(0);
    let mut faults = Vec::new();
    for damage in Damage::ALL {
        for file in FILES {
            let what = format!("{} {}", file, damage.name());
            let said = survive(bench, damage, file, &mut random).context(what.clone())?;
            faults.push(Fault::new(what, damage.times(), "2", said));
        }
    }
    bench.is_the_run("run", "tiny.toml", 4)?;
    Ok(faults)
}

fn survive(
    bench: &Bench,
    damage: Damage,
    file: &str,
    random: &mut Random,
) -> anyhow::Result<String> {
    let whole = bench.hash("run")?;
    let path = bench.path("run/checkpoints/step-00000004").join(file);
    let bytes = fs::read(&path)?;
    for _ in 0..damage.times() {
        match damage.of(bytes.clone(), random) {
            Some(damaged) => fs::write(&path, damaged)?,
            None => fs::remove_file(&path)?,
        }
        let found = bench.run("check run")?;
        let out = &found.out;
        // Where the manifest errs, the file is named that it errs about.
        let named = out.contains(file) || file == "manifest.json";
        let named = named && out.contains("step 4: damaged: ");
        ensure!(found.code == Some(1) && named, "not noticed: {out}");
    }
    let resumed = bench.run("train --out run --resume")?;
    resumed.ends_with(0)?;
    ensure!(bench.hash("run")? == whole, "survived as another run");
    Ok(resumed.first_line())
}

/// All checkpoints damaged: nothing is read, and nothing is begun anew.
pub(super) fn none_whole(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    bench.ok("train --config tiny.toml --out run")?;
    for step in ["step-00000002", "step-00000004"] {
        let path = bench.path("run/checkpoints").join(step).join("state.json");
        fs::write(path, "{}")?;
    }
    let said = bench.refused("train --out run --resume")?;
    Ok(vec![Fault::new("every checkpoint damaged", 1, "all", said)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_changes_a_file() {
        let mut random = Random::new(0);
        let bytes = vec![7; 100];
        for _ in 0..100 {
            let flipped = Damage::Flipped.of(bytes.clone(), &mut random).unwrap();
            let differ = bytes
                .iter()
                .zip(&flipped)
                .map(|(a, b)| (a ^ b).count_ones());
            assert_eq!(differ.sum::<u32>(), 1);
            let cut = Damage::Truncated.of(bytes.clone(), &mut random).unwrap();
            assert!(cut.len() < 100);
        }
        assert_eq!(Damage::Missing.of(bytes, &mut random), None);
    }
}
