//! A run's sampler, written for diffusers and read back.

use ddpm_cli::config::Config;
use ddpm_cli::plan::Plan;
use ddpm_interop::diffusers::scheduler::{Exported, Scheduler};
use ddpm_schedule::Levels;
use ddpm_schedule::solver::Row;

/// The times told at the levels where steps start, counted from 0 as diffusers does.
fn told(scheduler: &Scheduler, levels: &Levels) -> Vec<f64> {
    let clock = scheduler.clock(levels);
    let starts = &levels.as_slice()[..levels.len()];
    starts.iter().map(|&at| clock.time(at)).collect()
}

/// A recipe's plan with another process, objective and sampling.
fn plan(process: &str, objective: &str, sampling: &str) -> Plan {
    let digits = include_str!("../../recipes/digits.toml");
    let mut table: toml::Table = toml::from_str(digits).unwrap();
    let changed = |name: &str, keys: &str| -> toml::Value {
        let mut own = table[name].as_table().unwrap().clone();
        own.extend(toml::from_str::<toml::Table>(keys).unwrap());
        own.into()
    };
    let objective = changed("objective", objective);
    let sampling = changed("sampling", &format!("steps = 10\n{sampling}"));
    table.insert("objective".to_owned(), objective);
    table.insert("sampling".to_owned(), sampling);
    let process: toml::Table = toml::from_str(process).unwrap();
    table.insert("process".to_owned(), process.into());
    let config = Config::parse(&toml::to_string(&table).unwrap(), "digits.toml").unwrap();
    Plan::new(config, "digits.toml").unwrap()
}

fn written(plan: &Plan) -> (Exported, Scheduler) {
    let exported = ddpm_cli::export::scheduler(plan).unwrap();
    let found = Scheduler::parse(&exported.file.to_string(), "s.json").unwrap();
    (exported, found)
}

fn class(exported: &Exported) -> &str {
    exported.file["_class_name"].as_str().unwrap()
}

/// What is written for diffusers is read back as the same levels, target, sampler and times.
#[test]
fn a_plans_scheduler_comes_back() {
    for (process, parametrization) in [
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
        for name in ["ddpm", "ddpm-large", "ddim"] {
            let objective = format!("parametrization = '{parametrization}'");
            let plan = plan(process, &objective, &format!("sampler = '{name}'"));
            let (exported, found) = written(&plan);
            // diffusers goes on with the network's own ε̂ after the clip.
            assert_eq!(exported.note.is_some(), name == "ddim");
            let levels = found.levels(10).unwrap();
            assert_eq!(found.rule(&levels).name(), name);
            assert_eq!(found.clip, plan.sampling.clip);
            let (ours, theirs) = (&plan.settings.objective, &found.objective);
            assert_eq!(ours.parametrization(), theirs.parametrization());
            // β of a step is accurate to 10⁻¹¹ of itself, and a hundred of them add up to λ.
            let [ours, theirs] = [ours, theirs].map(|objective| objective.schedule().unwrap());
            for t in ours.iter() {
                let [ours, theirs] = [ours, theirs].map(|schedule| schedule.level(t));
                assert!(
                    (ours.noise() - theirs.noise()).abs() < 1e-9,
                    "{process} {t:?}"
                );
                assert!(
                    (ours.signal() - theirs.signal()).abs() < 1e-9,
                    "{process} {t:?}"
                );
            }
            let process = plan.settings.objective.process();
            let pairs = plan
                .sampling
                .levels
                .as_slice()
                .iter()
                .zip(told(&found, &levels));
            for (&at, told) in pairs {
                assert!((process.time(at) - told).abs() < 1e-6);
            }
        }
    }
    let walk = plan(
        "kind = 'random-walk'\ntimesteps = 10",
        "parametrization = 'x0'",
        "sampler = 'ddim'",
    );
    assert_eq!(
        ddpm_cli::export::scheduler(&walk).unwrap_err(),
        "kind = \"random-walk\" does not preserve variance, as a DDPMScheduler does"
    );
}

/// Each sampler that diffusers has is written as its class, and the steps of the file are the
/// plan's.
#[test]
#[expect(clippy::too_many_lines, reason = "one table of rows")]
fn samplers_are_written_as_their_classes() {
    let linear = "kind = 'linear'\ntimesteps = 1000";
    let edm = "kind = 'edm'";
    let flow = "kind = 'flow'\nshift = 3.0";
    let multistep = "DPMSolverMultistepScheduler";
    for (process, objective, sampler, grid, expected) in [
        (
            linear,
            "epsilon",
            "euler",
            "trailing",
            "EulerDiscreteScheduler",
        ),
        (
            linear,
            "epsilon",
            "euler",
            "karras",
            "EulerDiscreteScheduler",
        ),
        (
            linear,
            "epsilon",
            "euler-ancestral",
            "leading",
            "EulerAncestralDiscreteScheduler",
        ),
        (linear, "epsilon", "heun", "karras", "HeunDiscreteScheduler"),
        (linear, "v", "dpm2", "exponential", "KDPM2DiscreteScheduler"),
        (
            linear,
            "epsilon",
            "dpm2-ancestral",
            "trailing",
            "KDPM2AncestralDiscreteScheduler",
        ),
        (
            linear,
            "epsilon",
            "lms",
            "beta-sigma",
            "LMSDiscreteScheduler",
        ),
        (linear, "epsilon", "pndm", "trailing", "PNDMScheduler"),
        (linear, "epsilon", "dpmpp-2m", "karras", multistep),
        (linear, "epsilon", "dpmpp-2m-sde", "trailing", multistep),
        (linear, "epsilon", "dpmpp-3m", "log-snr", multistep),
        (
            linear,
            "epsilon",
            "unipc",
            "trailing",
            "UniPCMultistepScheduler",
        ),
        (linear, "epsilon", "lcm", "lcm", "LCMScheduler"),
        (edm, "edm", "euler", "karras", "EDMEulerScheduler"),
        (
            edm,
            "edm",
            "dpmpp-2m",
            "exponential",
            "EDMDPMSolverMultistepScheduler",
        ),
        (
            flow,
            "flow",
            "ddim",
            "linspace",
            "FlowMatchEulerDiscreteScheduler",
        ),
        (
            flow,
            "flow",
            "heun-flow",
            "linspace",
            "FlowMatchHeunDiscreteScheduler",
        ),
    ] {
        let objective = format!("parametrization = '{objective}'");
        let sampling = format!("sampler = '{sampler}'\ngrid = '{grid}'");
        let plan = plan(process, &objective, &sampling);
        let (exported, found) = written(&plan);
        let note = exported.note.clone().unwrap_or_default();
        let what = format!("{sampler} along {grid}: {note}");
        assert_eq!(class(&exported), expected, "{what}");
        let clips = found.clip.is_some();
        assert_eq!(exported.note.is_none(), clips, "{what}");
        assert!(clips || what.contains("does not clip"), "{what}");
        let levels = found.levels(10).unwrap();
        let theirs = found.rule(&levels);
        let ours = plan
            .sampling
            .sampler
            .solver(plan.settings.objective.process(), &levels);
        let [ours, theirs] = [
            ddpm_schedule::solver::steps(&ours, levels.as_slice()).unwrap(),
            ddpm_schedule::solver::steps(&theirs, levels.as_slice()).unwrap(),
        ];
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.asks.len(), theirs.asks.len(), "{what}");
            assert!(close(&ours.last, &theirs.last), "{what}");
        }
    }
}

fn close(a: &Row, b: &Row) -> bool {
    let factors = |row: &Row| {
        let past = row.past.iter().flat_map(|term| [term.x, term.x0]);
        [row.state]
            .into_iter()
            .chain(past)
            .chain(row.z.iter().copied().filter(|&z| z != 0.0))
            .collect::<Vec<_>>()
    };
    let (a, b) = (factors(a), factors(b));
    a.len() == b.len()
        && a.iter()
            .zip(&b)
            .all(|(a, b)| (a - b).abs() < 1e-9 * (1.0 + a.abs()))
}

/// What no class does is written as the plainest one, and said.
#[test]
fn what_no_class_does_is_said() {
    let linear = "kind = 'linear'\ntimesteps = 1000";
    for (sampler, grid, reason) in [
        ("er-sde", "trailing", "diffusers has no class for it"),
        (
            "deis",
            "trailing",
            "a DEISMultistepScheduler takes other steps",
        ),
        (
            "dpmpp-2m",
            "linspace",
            "a DPMSolverMultistepScheduler has other levels than linspace",
        ),
    ] {
        let sampling = format!("sampler = '{sampler}'\ngrid = '{grid}'");
        let plan = plan(linear, "parametrization = 'epsilon'", &sampling);
        let (exported, _) = written(&plan);
        assert_eq!(class(&exported), "DDPMScheduler");
        let note = exported.note.unwrap();
        let begin = format!("the scheduler is a DDPMScheduler, not {sampler}: ");
        assert!(note.starts_with(&begin), "{note}");
        assert!(note.ends_with(reason) || sampler == "deis", "{note}");
    }
    // DDPMPipeline scales no inputs.
    let sampling = "sampler = 'euler'\ngrid = 'trailing'";
    let (exported, _) = written(&plan(linear, "parametrization = 'epsilon'", sampling));
    assert_eq!(
        exported.of_pipeline.unwrap()["_class_name"],
        "DDPMScheduler"
    );
    let (exported, _) = written(&plan(
        "kind = 'edm'",
        "parametrization = 'edm'",
        "sampler = 'euler'\ngrid = 'karras'",
    ));
    assert_eq!(exported.of_pipeline, None);
}
