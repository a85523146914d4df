//! Which rows are trained without their class.

use super::*;
use crate::config::{Config, recipe};
use crate::data::{Batch, Source};
use ddpm_model::{Mlp, MlpConfig};

/// The plan of the digits' recipe with another probability of dropping the class.
fn plan(class_dropout: f64) -> Plan {
    let mut config = Config::parse(recipe("digits").unwrap(), "digits").unwrap();
    config.objective.class_dropout = class_dropout;
    Plan::new(config, "digits").unwrap()
}

/// A run that is never trained; classes do not ask what network it has.
fn run<'a>(plan: &'a Plan, dataset: &Arc<Dataset>, ranks: &'a Ranks) -> Run<'a, Mlp> {
    let device = Device::flex();
    let network = MlpConfig {
        features: 2,
        out_features: 2,
        hidden: 4,
        layers: 1,
    };
    let network = network.init(0, &device.clone().autodiff()).unwrap();
    Run::new(
        plan,
        Path::new(""),
        dataset.clone(),
        network,
        &device,
        ranks,
        0..plan.config.batch_size,
    )
    .unwrap()
}

fn batch(dataset: &Arc<Dataset>, size: usize, step: u64) -> Batch {
    let loader = Loader::new(dataset.clone(), size, 0..size, 0, false, 0, 0).unwrap();
    loader.batch(step)
}

/// Of n rows, p·n lose their class, within 5 standard errors √(p·(1 − p)/n); the others keep it.
#[test]
fn classes_are_dropped_with_their_probability() {
    let dataset = Arc::new(data::load(&Source::Digits).unwrap());
    let n = 20_000;
    let batch = batch(&dataset, n, 0);
    let labels = batch.labels.clone().unwrap();
    for p in [0.0, 0.1, 0.5, 0.9] {
        let plan = plan(p);
        let classes = run(&plan, &dataset, &Ranks::default())
            .classes(&batch, 0..n)
            .unwrap();
        let mut dropped = 0;
        for (&class, &label) in classes.iter().zip(&labels) {
            assert!(class == label || class == 10, "{class} of {label}");
            dropped += usize::from(class == 10);
        }
        let fraction = dropped as f64 / n as f64;
        let error = (p * (1.0 - p) / n as f64).sqrt();
        assert!((fraction - p).abs() <= 5.0 * error, "{fraction} is not {p}");
    }
}

/// A thousand rows spread evenly visit each of a thousand times once; drawn one by one they miss
/// a share of (1 − 1/1000)¹⁰⁰⁰, more than a third.
#[test]
fn stratified_times_leave_none_out() {
    let mut config = Config::parse(recipe("digits").unwrap(), "digits").unwrap();
    let samples: Vec<u64> = (3000..4000).collect();
    let mut visited = |stratified| {
        config.objective.stratified = stratified;
        let plan = Plan::new(config.clone(), "digits").unwrap();
        let times = Times::new(plan.draws, plan.objective.process(), 0);
        let mut t: Vec<_> = times.draw(&samples).t.iter().map(|t| t.get()).collect();
        t.sort_unstable();
        t.dedup();
        t.len()
    };
    assert_eq!(visited(true), 1000);
    // 632 with a standard error of 10.
    assert!((582..=682).contains(&visited(false)));
}

/// Once every t has its losses, the one with large ones is drawn more and weighs less; the weights
/// keep the mean: Σ p_t·1/(T·p_t) = 1.
#[test]
fn large_losses_are_visited_more() {
    let mut config = Config::parse(recipe("digits").unwrap(), "digits").unwrap();
    config.objective.importance_sampling = true;
    config.process.timesteps = Some(2);
    config.sampling.steps = 1;
    let plan = Plan::new(config, "digits").unwrap();
    let schedule = plan.objective.schedule().unwrap();
    let mut times = Times::new(plan.draws.clone(), plan.objective.process(), 0);
    let samples: Vec<u64> = (0..10_000).collect();
    assert!(
        times
            .draw(&samples)
            .weight
            .iter()
            .all(|&w| (w - 1.0).abs() < 1e-12)
    );
    for _ in 0..10 {
        let t: Vec<_> = schedule.iter().collect();
        times.record(&t, &[3.0, 1.0]).unwrap();
    }
    let drawn = times.draw(&samples);
    let first = drawn.t.iter().filter(|t| t.get() == 1).count();
    // p₁ = 0.999·3/4 + 0.001/2 = 0.7498, the standard error 43 of 10,000.
    assert!((7280..=7720).contains(&first), "{first}");
    let mean = drawn.weight.iter().sum::<f64>() / 10_000.0;
    // Weights 0.667 and 1.998: a standard deviation of 0.577, 0.0058 of the mean.
    assert!((mean - 1.0).abs() < 0.029, "{mean}");
}

/// The draw belongs to the row's position in the run, however batches cut the run and parts cut
/// the batch.
#[test]
fn classes_do_not_depend_on_the_split() {
    let dataset = Arc::new(data::load(&Source::Digits).unwrap());
    let plan = plan(0.5);
    let alone = Ranks::default();
    let run = run(&plan, &dataset, &alone);
    let whole = run.classes(&batch(&dataset, 96, 0), 0..96).unwrap();
    assert!(whole.contains(&10));
    for size in [1, 8, 32] {
        for part in [1, size / 2, size] {
            let mut split = Vec::new();
            for step in 0..96 / size as u64 {
                let batch = batch(&dataset, size, step);
                for rows in (0..size).step_by(part.max(1)) {
                    split.extend(run.classes(&batch, rows..rows + part.max(1)).unwrap());
                }
            }
            assert_eq!(split, whole, "batches of {size} in parts of {part}");
        }
    }
    // A later run of positions is another draw.
    assert_ne!(run.classes(&batch(&dataset, 96, 1), 0..96).unwrap(), whole);
}
