//! The trainer on networks and data of one's own: it learns, resumes exactly, and divides among ranks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use ddpm_data::Dataset;
use ddpm_model::Network;
use ddpm_model::weights::Weights;
use ddpm_train::optim::{AdamW, AdamWSettings, Decay, Muon, MuonSettings};
use ddpm_train::ranks::{RanksError, on_devices};
use ddpm_train::{Settings, TrainError, Trainer, checkpoint, params};

use crate::networks::{Angles, Points, Signals, optimizers, settings};

fn points() -> Arc<dyn Dataset> {
    Angles::new(&[2], 32)
}

fn signals() -> Arc<dyn Dataset> {
    Angles::new(&[1, 8], 32)
}

fn trainer<const D: usize, M: Network<D>>(
    network: M,
    data: &Arc<dyn Dataset>,
    settings: Settings,
) -> Trainer<D, M> {
    Trainer::new(network, data.clone(), settings, &Device::flex()).unwrap()
}

/// Takes the next steps; their losses.
fn take<const D: usize, M: Network<D>>(trainer: &mut Trainer<D, M>, steps: usize) -> Vec<f64> {
    let losses = trainer.take(steps).map(|metrics| metrics.unwrap().loss);
    let losses: Vec<_> = losses.collect();
    assert_eq!(losses.len(), steps);
    losses
}

fn weights<M: Module>(module: &M) -> BTreeMap<String, Vec<f32>> {
    let values = params::values(module).into_iter();
    values
        .map(|(name, value)| (name, value.try_to_vec_as::<f32>().unwrap()))
        .collect()
}

fn save<const D: usize, M: Network<D>>(trainer: &Trainer<D, M>, folder: &Path) -> PathBuf {
    checkpoint::save(folder, &trainer.snapshot(), "").unwrap()
}

/// The bytes of a checkpoint's files.
fn files(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(checkpoint).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Settings in which everything that a checkpoint must hold has an effect.
fn full(steps: u64) -> Settings {
    let mut settings = settings(steps);
    settings.accumulate = 2;
    settings.clip = Some(0.5);
    settings.ema = vec![0.9, 0.99];
    settings.learning_rate.warmup = 3;
    settings.learning_rate.decay = Decay::Cosine;
    settings.levels.by_loss = true;
    settings
}

fn check_learns<const D: usize, M: Network<D>>(network: &M, data: &Arc<dyn Dataset>) {
    for optimizer in optimizers() {
        let mut settings = settings(300);
        settings.optimizer = optimizer;
        settings.learning_rate.peak = 5e-3;
        let name = settings.optimizer.identity();
        let losses = take(&mut trainer(network.clone(), data, settings), 300);
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        // Burn draws the first weights anew in each process, so the bound leaves room.
        let (first, last) = (mean(&losses[..10]), mean(&losses[250..]));
        assert!(
            last < 0.85 * first,
            "{name}: {first} at first, {last} at last"
        );
    }
}

#[test]
fn the_loss_falls() {
    check_learns(&Points::new(0), &points());
    check_learns(&Signals::new(0), &signals());
}

/// k and n − k steps are n steps, to the last byte of the checkpoint.
fn check_resume<const D: usize, M: Network<D>>(new: impl Fn(u64) -> M, data: &Arc<dyn Dataset>) {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [half, whole, resumed] = folders.each_ref().map(tempfile::TempDir::path);
    for optimizer in optimizers() {
        let name = optimizer.identity();
        let settings = Settings {
            optimizer,
            ..full(7)
        };
        let mut run = trainer(new(0), data, settings.clone());
        take(&mut run, 4);
        let checkpoint = save(&run, half);
        take(&mut run, 3);
        assert!(run.next().is_none());
        let whole = files(&save(&run, whole));
        // It begins with other weights, of which nothing may be left.
        let mut run = trainer(new(1), data, settings).resume(&checkpoint).unwrap();
        run.agree().unwrap();
        assert_eq!(run.step(), 4);
        take(&mut run, 3);
        let resumed = files(&save(&run, resumed));
        assert!(whole.contains_key("ema-0.99.safetensors"), "{name}");
        for (file, bytes) in &whole {
            assert!(resumed[file] == *bytes, "{name}: {file}");
        }
    }
}

#[test]
fn a_resumed_run_is_the_run() {
    check_resume(Points::new, &points());
    check_resume(Signals::new, &signals());
    let frozen = |seed| {
        let mut network = Points::new(seed);
        network.hidden = network.hidden.no_grad();
        network
    };
    check_resume(frozen, &points());
}

#[test]
fn frozen_parameters_stay_and_have_no_state() {
    let folder = tempfile::tempdir().unwrap();
    for optimizer in optimizers() {
        let mut network = Signals::new(0);
        network.time = network.time.no_grad();
        let before = weights(&network);
        let mut settings = full(4);
        settings.optimizer = optimizer;
        let mut run = trainer(network, &signals(), settings);
        take(&mut run, 4);
        for (module, is_average) in [(run.network().clone(), false), (run.average(), true)] {
            for (name, after) in weights(&module) {
                let same = after == before[&name];
                assert_eq!(same, name.starts_with("time."), "{name} {is_average}");
            }
        }
        let checkpoint = save(&run, folder.path());
        let state = Weights::read(&checkpoint.join("optimizer.safetensors")).unwrap();
        let mut names = state.shapes().map(|(name, _)| name);
        assert!(names.any(|name| name.contains("hidden.weight")));
        assert!(state.shapes().all(|(name, _)| !name.contains("time.")));
    }
}

#[test]
fn what_is_frozen_belongs_to_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = Points::new(0);
    network.input = network.input.no_grad();
    let mut run = trainer(network, &points(), settings(4));
    take(&mut run, 2);
    let checkpoint = save(&run, folder.path());
    let other = trainer(Points::new(1), &points(), settings(4));
    let error = other.resume(&checkpoint).err().unwrap().to_string();
    assert!(
        error.starts_with(
            "frozen is [\"input.bias\", \"input.weight\"] in the checkpoint and [] here"
        ),
        "{error}"
    );
    let all = Points::new(0).no_grad();
    let all = Trainer::new(all, points(), settings(4), &Device::flex());
    assert!(matches!(all.err().unwrap(), TrainError::AllFrozen));
}

/// The gradients of two ranks are sums in another order: after three steps of at most 1e-3 each, the
/// weights, of order 1, differ by some roundings, and by what AdamW and Muon make of those of small
/// gradients.
fn check_ranks<const D: usize, M: Network<D>>(network: &M, data: &Arc<dyn Dataset>) {
    for optimizer in optimizers() {
        let settings = Settings {
            optimizer,
            ..full(3)
        };
        let run = |devices: &[Device]| {
            on_devices(devices, |ranks, device| {
                let (network, settings) = (network.clone(), settings.clone());
                let mut run = Trainer::with_ranks(network, data.clone(), settings, device, ranks)?;
                run.agree()?;
                take(&mut run, 3);
                run.agree()?;
                Ok::<_, TrainError>([weights(run.network()), weights(&run.average())])
            })
            .unwrap_or_else(|error| panic!("{}", error.error))
        };
        let (one, two) = (
            run(&[Device::flex()]),
            run(&[Device::flex(), Device::flex()]),
        );
        for (one, two) in one.iter().zip(&two) {
            for (name, one) in one {
                for (a, b) in one.iter().zip(&two[name]) {
                    assert!((a - b).abs() < 1e-5, "{name}: {a} is not {b}");
                }
            }
        }
    }
}

#[test]
fn two_ranks_are_one() {
    check_ranks(&Points::new(0), &points());
    check_ranks(&Signals::new(0), &signals());
    // Eight rows in two parts do not divide among three ranks.
    let three = [(); 3].map(|()| Device::flex());
    let outcome = on_devices(&three, |ranks, device| {
        Trainer::with_ranks(Points::new(0), points(), full(3), device, ranks).map(|_| ())
    });
    assert!(matches!(
        outcome.unwrap_err().error,
        TrainError::Ranks(RanksError::Indivisible { .. })
    ));
}

/// How a setting is changed.
type Change = fn(&mut Settings);

#[test]
fn another_run_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = trainer(Points::new(0), &points(), full(4));
    take(&mut run, 2);
    let checkpoint = save(&run, folder.path());
    let resume = |data: &Arc<dyn Dataset>, change: Change| {
        let mut settings = full(4);
        change(&mut settings);
        trainer(Points::new(1), data, settings).resume(&checkpoint)
    };
    let changes: [(&str, Change); 11] = [
        ("seed", |s| s.seed = 1),
        ("batch_size", |s| s.batch_size = 4),
        ("accumulate", |s| s.accumulate = 1),
        ("flip", |s| s.flip = true),
        ("clip", |s| s.clip = None),
        ("ema", |s| s.ema = vec![0.9]),
        ("ema", |s| s.ema = vec![0.99, 0.9]),
        ("learning_rate", |s| s.learning_rate.decay = Decay::Linear),
        ("levels.by_loss", |s| s.levels.by_loss = false),
        ("optimizer", |s| {
            s.optimizer = Box::new(AdamW::new(AdamWSettings {
                beta_1: 0.5,
                ..AdamWSettings::default()
            }));
        }),
        ("optimizer", |s| {
            s.optimizer = Box::new(Muon::new(MuonSettings::default()));
        }),
    ];
    for (expected, change) in changes {
        match resume(&points(), change).err() {
            Some(TrainError::Differs { key, .. }) => assert_eq!(key, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let error = resume(&points(), changes[10].1).err().unwrap().to_string();
    assert!(
        error.starts_with("optimizer is AdamWSettings {") && error.contains("MuonSettings {"),
        "{error}"
    );
    let other: Arc<dyn Dataset> = Angles::new(&[2], 31);
    let error = resume(&other, |_| {}).err().unwrap().to_string();
    assert!(error.starts_with("data is 32 angles"), "{error}");
    // The end of a run and its workers are no part of it.
    let longer: Change = |s| (s.steps, s.workers) = (9, 0);
    assert_eq!(resume(&points(), longer).unwrap().step(), 2);
}

/// Changes the `state.json` of a checkpoint.
fn edit(checkpoint: &Path, change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) {
    let path = checkpoint.join("state.json");
    let mut state = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut state);
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
}

/// A checkpoint of a time when `state.json` counted the updates and named no settings, and every
/// optimizer was AdamW.
#[test]
fn a_checkpoint_of_an_older_version_is_resumed_by_adamw_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = trainer(Points::new(0), &points(), settings(4));
    take(&mut run, 2);
    let checkpoint = save(&run, folder.path());
    edit(&checkpoint, |state| {
        state.insert("updates".to_owned(), 2.into());
        state.remove("settings");
    });
    let resume = |settings| trainer(Points::new(1), &points(), settings).resume(&checkpoint);
    let mut resumed = resume(settings(4)).unwrap();
    take(&mut run, 2);
    take(&mut resumed, 2);
    assert_eq!(weights(run.network()), weights(resumed.network()));
    for (optimizer, reason) in optimizers().into_iter().skip(1).zip([
        "the moments of hidden.weight are not those of",
        "exp_avg.hidden.bias is no state of",
    ]) {
        let settings = Settings {
            optimizer,
            ..settings(4)
        };
        let error = resume(settings).err().unwrap().to_string();
        assert!(
            error.contains("optimizer.safetensors") && error.contains(reason),
            "{error}"
        );
    }
}

/// Each average is what it is alone, and the first is the one to sample from. The kernel and Burn's
/// operations round differently.
#[test]
fn averages_of_several_lengths_are_kept() {
    let network = Points::new(0);
    let run = |ema: &[f64]| {
        let mut settings = settings(20);
        settings.ema = ema.to_vec();
        let mut run = trainer(network.clone(), &points(), settings);
        take(&mut run, 20);
        run
    };
    let both = run(&[0.5, 0.0, 0.7]);
    let averages = both.averages();
    let decays: Vec<_> = averages.iter().map(|(decay, _)| *decay).collect();
    assert_eq!(decays, [0.5, 0.0, 0.7]);
    assert_eq!(weights(&both.average()), weights(&averages[0].1));
    for (decay, average) in &averages {
        let alone = weights(&run(&[*decay]).average());
        for (name, found) in weights(average) {
            for (a, b) in found.iter().zip(&alone[&name]) {
                assert!((a - b).abs() < 1e-6, "{decay} {name}: {a} is not {b}");
            }
        }
    }
    assert_ne!(weights(&averages[0].1), weights(&averages[2].1));
    let (last, weights) = (weights(&averages[1].1), weights(both.network()));
    for (name, found) in last {
        let off = found
            .iter()
            .zip(&weights[&name])
            .map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-6, "{name}");
    }
}

#[test]
fn numbers_outside_their_ranges_are_named() {
    let adamw = |change: fn(&mut AdamWSettings)| {
        let mut numbers = AdamWSettings::default();
        change(&mut numbers);
        numbers
    };
    let with = |optimizer| Settings {
        optimizer,
        ..settings(1)
    };
    let ema = |ema: &[f64]| Settings {
        ema: ema.to_vec(),
        ..settings(1)
    };
    let muon = |momentum, adamw| {
        let settings = MuonSettings { momentum, adamw };
        with(Box::new(Muon::new(settings)))
    };
    let own = AdamWSettings::default();
    let mut peak = settings(1);
    peak.learning_rate.peak = f64::NAN;
    for (name, settings) in [
        ("ema", ema(&[])),
        ("ema", ema(&[0.9, 1.0])),
        ("ema", ema(&[f64::NAN])),
        ("ema", ema(&[0.9, 0.99, 0.9])),
        ("learning_rate.peak", peak),
        ("optimizer.momentum", muon(1.0, own)),
        ("optimizer.momentum", muon(f64::NAN, own)),
        ("optimizer.beta_2", muon(0.9, adamw(|n| n.beta_2 = 1.0))),
        (
            "optimizer.beta_1",
            with(Box::new(AdamW::new(adamw(|n| n.beta_1 = -0.1)))),
        ),
        (
            "optimizer.epsilon",
            with(Box::new(AdamW::new(adamw(|n| n.epsilon = 0.0)))),
        ),
        (
            "optimizer.weight_decay",
            with(Box::new(AdamW::new(adamw(|n| {
                n.weight_decay = f64::INFINITY;
            })))),
        ),
    ] {
        assert_eq!(settings.check().unwrap_err().name, name);
        let trainer = Trainer::new(Points::new(0), points(), settings, &Device::flex());
        assert!(matches!(trainer.err().unwrap(), TrainError::Settings(_)));
    }
    ema(&[0.0]).check().unwrap();
}
