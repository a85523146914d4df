//! Whether two configurations are those of one run.

use std::collections::BTreeMap;
use std::fmt;

use ddpm_train::optim::MuonSettings;
use toml::{Table, Value};

use crate::config::{
    Config, Decays, ImageSize, LevelsKind, Model, OptimizerKind, ProcessKind, WeightingKind,
};
use crate::plan;

/// The keys, and tables of keys, that a resumed run may change. Any other is part of what the run is,
/// so that a key that is added to the configuration is compared unless it is added here.
///
/// - The end of the run, to which the learning rate's cosine moves too; where its data is, which a hash
///   identifies; whether it is held in memory; and by how many threads it is prepared.
/// - What is drawn and kept on the way, and the name.
pub(super) const FREE: [&str; 7] = [
    "name",
    "steps",
    "data.path",
    "data.in_memory",
    "data.workers",
    "sampling",
    "checkpoint",
];

/// A key that has another value in another configuration.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    /// The key, as `table.key`.
    pub(super) key: String,
    there: Option<Value>,
    here: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| match value {
            Some(value) => value.to_string(),
            None => "absent".to_owned(),
        };
        let (there, here) = (text(&self.there), text(&self.here));
        write!(f, "{} is {there} there and {here} here", self.key)
    }
}

/// The keys whose values differ between a run's configuration, `there`, and another one, but for those
/// that are `free`. A key that is absent has its default.
///
/// # Errors
///
/// If a number is beyond those of TOML.
pub(super) fn differences(
    there: &Config,
    here: &Config,
    free: &[&str],
) -> Result<Vec<Difference>, toml::ser::Error> {
    let (there, here) = (leaves(there)?, leaves(here)?);
    let mut keys: Vec<_> = there.keys().chain(here.keys()).collect();
    keys.sort();
    keys.dedup();
    let compared = keys.into_iter().filter(|key| !is_in(key, free));
    Ok(compared
        .filter(|key| there.get(*key) != here.get(*key))
        .map(|key| Difference {
            key: key.clone(),
            there: there.get(key).cloned(),
            here: here.get(key).cloned(),
        })
        .collect())
}

/// Whether a key is one of `keys`, or in a table of these.
pub(super) fn is_in(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|table| {
        let rest = key.strip_prefix(table);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// A configuration's values by their keys.
fn leaves(config: &Config) -> Result<BTreeMap<String, Value>, toml::ser::Error> {
    let mut leaves = BTreeMap::new();
    collect(Table::try_from(resolved(config.clone()))?, "", &mut leaves);
    Ok(leaves)
}

fn collect(table: Table, prefix: &str, leaves: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(table) => collect(table, &format!("{key}."), leaves),
            value => {
                leaves.insert(key, value);
            }
        }
    }
}

/// The configuration with the values that [`plan`] takes for what it leaves out.
fn resolved(mut config: Config) -> Config {
    config.data.points.get_or_insert(10_000);
    config.data.channels.get_or_insert(3);
    let size = config.data.size;
    config.data.size = size.map(|size| ImageSize::Sides(size.sides()));
    let process = &mut config.process;
    let (start, end) = plan::beta_ends(process);
    process.beta_start = Some(start);
    process.beta_end = Some(end);
    if process.kind == ProcessKind::RandomWalk {
        let timesteps = process.timesteps.unwrap_or(1).max(1);
        process
            .sigma
            .get_or_insert(f64::from(timesteps).sqrt().recip());
    }
    for (number, published) in [
        (&mut process.beta_min, 0.1),
        (&mut process.beta_max, 20.0),
        (&mut process.sigma_min, 0.002),
        (&mut process.sigma_max, 80.0),
        (&mut process.shift, 1.0),
    ] {
        number.get_or_insert(published);
    }
    let objective = &mut config.objective;
    let gamma = if objective.weighting == WeightingKind::P2 {
        1.0
    } else {
        5.0
    };
    let [mean, std] = match objective.levels {
        LevelsKind::LogNormal => [-1.2, 1.2],
        _ => [0.0, 1.0],
    };
    for (number, published) in [
        (&mut objective.gamma, gamma),
        (&mut objective.k, 1.0),
        (&mut objective.bias, 0.0),
        (&mut objective.sigma_data, 0.5),
        (&mut objective.mean, mean),
        (&mut objective.std, std),
    ] {
        number.get_or_insert(published);
    }
    if config.optimizer.kind == OptimizerKind::Muon {
        let momentum = MuonSettings::default().momentum;
        config.optimizer.momentum.get_or_insert(momentum);
    }
    if let [decay] = *config.ema.decay.as_slice() {
        config.ema.decay = Decays::One(decay);
    }
    if let Model::UNet(unet) = &mut config.model {
        unet.up_attention.get_or_insert(unet.attention.clone());
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::recipe;

    fn parse(changes: &[(&str, &str)]) -> Config {
        let mut text = recipe("digits").unwrap().to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        Config::parse(&text, "digits").unwrap()
    }

    fn keys(there: &Config, here: &Config) -> Vec<String> {
        let differences = differences(there, here, &FREE).unwrap();
        differences.into_iter().map(|d| d.key).collect()
    }

    #[test]
    fn what_a_run_is_must_be_equal() {
        let run = parse(&[]);
        assert!(keys(&run, &run).is_empty());
        for (key, from, to) in [
            ("seed", "seed = 0", "seed = 1"),
            ("batch_size", "batch_size = 64", "batch_size = 32"),
            ("accumulate", "steps = 1000", "accumulate = 2\nsteps = 1000"),
            (
                "precision",
                "steps = 1000",
                "precision = \"bf16\"\nsteps = 1000",
            ),
            (
                "data.flip",
                "kind = \"digits\"",
                "kind = \"digits\"\nflip = true",
            ),
            ("data.kind", "kind = \"digits\"", "kind = \"idx\""),
            ("process.kind", "\"cosine\"", "\"sigmoid\""),
            ("process.timesteps", "timesteps = 1000", "timesteps = 50"),
            ("objective.parametrization", "\"v\"", "\"epsilon\""),
            (
                "objective.class_dropout",
                "class_dropout = 0.1",
                "class_dropout = 0.2",
            ),
            (
                "model.norm_num_groups",
                "norm_num_groups = 8",
                "norm_num_groups = 4",
            ),
            (
                "model.activation",
                "norm_num_groups = 8",
                "norm_num_groups = 8\nactivation = \"relu\"",
            ),
            (
                "optimizer.learning_rate",
                "learning_rate = 1e-3",
                "learning_rate = 1e-4",
            ),
            (
                "optimizer.kind",
                "learning_rate = 1e-3",
                "kind = \"muon\"\nlearning_rate = 1e-3",
            ),
            ("optimizer.decay", "\"cosine\"\nclip", "\"linear\"\nclip"),
            ("ema.decay", "decay = 0.995", "decay = 0.5"),
            ("ema.decay", "decay = 0.995", "decay = [0.995, 0.5]"),
        ] {
            assert_eq!(keys(&run, &parse(&[(from, to)])), [key], "{to}");
        }
        let other = parse(&[("seed = 0", "seed = 1"), ("\"v\"", "\"epsilon\"")]);
        let named: Vec<_> = differences(&run, &other, &FREE).unwrap();
        let named: Vec<_> = named.iter().map(ToString::to_string).collect();
        assert_eq!(
            named,
            [
                "objective.parametrization is \"v\" there and \"epsilon\" here",
                "seed is 0 there and 1 here"
            ]
        );
    }

    #[test]
    fn what_is_no_part_of_a_run_may_change() {
        let run = parse(&[]);
        let mut other = run.clone();
        other.name = "other".to_owned();
        other.steps += 1;
        other.data.path = Some("elsewhere".into());
        other.data.workers += 1;
        other.sampling.count += 1;
        other.sampling.eta = Some(0.5);
        other.checkpoint.every += 1;
        other.checkpoint.keep_last = std::num::NonZeroUsize::new(2);
        assert_ne!(other, run);
        assert_eq!(keys(&run, &other), [""; 0]);
    }

    /// What a key's absence stands for is what the plan makes of it.
    #[test]
    fn an_absent_key_has_its_default() {
        for name in ["digits", "swiss-roll", "cifar10"] {
            use ProcessKind::{Edm, Flow, Linear, RandomWalk, VpLinear};
            for kind in [Linear, RandomWalk, VpLinear, Edm, Flow] {
                let mut config = Config::parse(recipe(name).unwrap(), name).unwrap();
                config.data.path.get_or_insert("data".into());
                config.process.kind = kind;
                (config.process.beta_start, config.process.beta_end) = (None, None);
                config.data.points = None;
                config.process.timesteps = kind.has_timesteps().then_some(100);
                let process = plan::process(&config.process).unwrap();
                let resolved = resolved(config.clone());
                assert_eq!(keys(&config, &resolved), [""; 0]);
                // The keys of other kinds would be refused.
                let (mut explicit, all) = (config.process.clone(), resolved.process);
                match kind {
                    Linear => {
                        (explicit.beta_start, explicit.beta_end) = (all.beta_start, all.beta_end);
                    }
                    RandomWalk => explicit.sigma = all.sigma,
                    VpLinear => {
                        (explicit.beta_min, explicit.beta_max) = (all.beta_min, all.beta_max);
                    }
                    Edm => {
                        (explicit.sigma_min, explicit.sigma_max) = (all.sigma_min, all.sigma_max);
                    }
                    _ => explicit.shift = all.shift,
                }
                assert_ne!(explicit, config.process);
                assert_eq!(plan::process(&explicit).unwrap(), process);
            }
        }
        let gamma = parse(&[(
            "weighting = \"simple\"",
            "weighting = \"min-snr\"\ngamma = 5.0",
        )]);
        let none = parse(&[("weighting = \"simple\"", "weighting = \"min-snr\"")]);
        assert_eq!(keys(&gamma, &none), [""; 0]);
    }
}
