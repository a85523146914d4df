//! Damage to each file of a checkpoint: the file is named, and the previous checkpoint is used.

use super::{Bench, Fault};
use crate::random::Random;
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

/// How often a file is damaged at a random place.
const TIMES: usize = 16;

/// Damage to a file.
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

    /// The damaged bytes; `None` if the file is removed.
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

/// Damages every file of the newest checkpoint in every way. `ddpm check` must name the file, and
/// `ddpm train --resume` must recover.
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
        // A damaged manifest disagrees with another file, which is then the one named.
        let named = out.contains(file) || file == "manifest.json";
        let named = named && out.contains("step 4: damaged: ");
        ensure!(found.code == Some(1) && named, "not noticed: {out}");
    }
    let resumed = bench.run("train --out run --resume")?;
    resumed.ends_with(0)?;
    ensure!(bench.hash("run")? == whole, "survived as another run");
    Ok(resumed.first_line())
}

/// Damages all checkpoints: nothing is read, and no new run is started.
pub(super) fn none_whole(bench: &Bench) -> anyhow::Result<Vec<Fault>> {
    bench.ok("train --config tiny.toml --out run")?;
    for step in ["step-00000002", "step-00000004"] {
        let path = bench.path("run/checkpoints").join(step).join("state.json");
        fs::write(path, "{}")?;
    }
    let said = bench.refused("train --out run --resume")?;
    Ok(vec![Fault::new("every checkpoint damaged", 1, "all", said)])
}

pub(in super::super) mod tests {
    use super::{Damage, Random};

    pub(in super::super::super) fn damage() {
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
