//! A run's scheduler, written for diffusers and read back.

use ddpm_process::Clip;
use ddpm_schedule::Sampler;
use ddpm_train::config::Config;
use ddpm_train::diffusers::scheduler::{Scheduler, ddpm_config};
use ddpm_train::plan::Plan;

use super::told;

/// A recipe's plan with another schedule and objective.
fn plan(schedule: &str, parametrization: &str, sampler: &str) -> Plan {
    let digits = include_str!("../../../recipes/digits.toml");
    let mut config = Config::parse(digits, "digits.toml").unwrap();
    let table: toml::Table = toml::from_str(schedule).unwrap();
    config.schedule = table.try_into().unwrap();
    let value = |name: &str| toml::Value::String(name.to_owned());
    config.objective.parametrization = value(parametrization).try_into().unwrap();
    config.sampling.sampler = value(sampler).try_into().unwrap();
    config.sampling.steps = 10;
    Plan::new(config, "digits.toml").unwrap()
}

/// What is written for diffusers is read back as the same levels, target, sampler and times.
#[test]
fn a_plans_scheduler_comes_back() {
    for (schedule, parametrization) in [
        ("kind = 'linear'\ntimesteps = 1000", "epsilon"),
        (
            "kind = 'linear'\ntimesteps = 50\nbeta_start = 1e-3\nbeta_end = 0.2",
            "x0",
        ),
        (
            "kind = 'scaled-linear'\ntimesteps = 100\nbeta_start = 8.5e-4\nbeta_end = 0.12",
            "v",
        ),
        ("kind = 'cosine'\ntimesteps = 100", "epsilon"),
        (
            "kind = 'cosine'\ntimesteps = 100\nzero_terminal_snr = true",
            "v",
        ),
        ("kind = 'sigmoid'\ntimesteps = 100", "epsilon"),
        (
            "kind = 'sigmoid'\ntimesteps = 100\nzero_terminal_snr = true",
            "v",
        ),
    ] {
        for (name, sampler) in [
            ("ancestral", Sampler::ANCESTRAL),
            ("ancestral-beta", Sampler::AncestralBeta),
        ] {
            let plan = plan(schedule, parametrization, name);
            let written = ddpm_config(&plan).unwrap().to_string();
            let found = Scheduler::parse(&written, "s.json").unwrap();
            assert_eq!(found.sampler, sampler);
            assert_eq!(found.clip, Some(Clip::UNIT));
            let (ours, theirs) = (&plan.objective, &found.objective);
            assert_eq!(ours.parametrization(), theirs.parametrization());
            // β of a step is accurate to 10⁻¹¹ of itself, and a hundred of them add up to λ.
            for t in ours.schedule().iter() {
                let [ours, theirs] = [ours, theirs].map(|objective| objective.schedule().level(t));
                assert!(
                    (ours.noise() - theirs.noise()).abs() < 1e-9,
                    "{schedule} {t:?}"
                );
                assert!(
                    (ours.signal() - theirs.signal()).abs() < 1e-9,
                    "{schedule} {t:?}"
                );
            }
            let trajectory = found.trajectory(10).unwrap();
            assert_eq!(told(&trajectory), told(&plan.sampling.trajectory));
        }
    }
    let walk = plan("kind = 'random-walk'\ntimesteps = 10", "x0", "ddim");
    assert_eq!(
        ddpm_config(&walk).unwrap_err(),
        "kind = \"random-walk\" does not preserve variance, as a DDPMScheduler does"
    );
}
