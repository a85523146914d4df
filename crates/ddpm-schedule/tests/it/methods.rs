//! The table of solvers: names, parameters, and every solver on every process.

use ddpm_schedule::solver::{Info, Method, MethodError, Parameters, run, steps};
use ddpm_schedule::{Grid, NoiseSchedule, Process};

use crate::assert_close;

/// One process of every kind, two of them without signal at their noisiest level.
fn processes() -> [Process; 6] {
    let linear = NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
    let zero_snr = linear.rescale_zero_terminal_snr().unwrap();
    [
        linear.into(),
        zero_snr.into(),
        Process::vp_linear(0.1, 20.0).unwrap(),
        Process::vp_cosine(0.008).unwrap(),
        Process::edm(0.002, 80.0).unwrap(),
        Process::flow(1.0).unwrap(),
    ]
}

/// Every solver samples a point mass exactly, whatever it interpolates: x̂₀ is that point at every
/// level, and the last step leads to clean data. With one step to a few dozen, and also from levels
/// without signal.
#[test]
fn every_method_samples_a_point_mass_exactly() {
    for (i, process) in processes().into_iter().enumerate() {
        for info in Info::all() {
            let method: Method = info.name.parse().unwrap();
            for n in [1, 2, 3, 4, 7, 25] {
                let levels = Grid::Trailing.levels(&process, n).unwrap();
                let solver = method.solver(&process, &levels);
                let x = vec![0.7 * levels.start().prior_std()];
                let point = |x: &[f64], _| vec![1.5; x.len()];
                let mut drawn = 0;
                let noise = |len| {
                    drawn += 1;
                    vec![if drawn % 2 == 0 { 0.8 } else { -1.1 }; len]
                };
                let what = format!("{} on process {i} in {n}", info.name);
                let x = run(&solver, levels.as_slice(), x, point, noise);
                let x = x.unwrap_or_else(|error| panic!("{what}: {error}"));
                // Rounding of some dozen steps whose factors reach 10⁴.
                assert!((x[0] - 1.5).abs() < 1e-9, "{what}: {}", x[0]);
            }
        }
    }
}

/// The table states the evaluations and the noise of the steps, except the first and the last.
#[test]
fn the_table_states_the_evaluations_and_the_noise() {
    let process = Process::edm(0.01, 80.0).unwrap();
    let levels = Grid::Karras { rho: 7.0 }.levels(&process, 20).unwrap();
    for info in Info::all() {
        let method: Method = info.name.parse().unwrap();
        let made = steps(&method.solver(&process, &levels), levels.as_slice()).unwrap();
        let middle = &made[10];
        assert_eq!(
            middle.asks.len(),
            info.evaluations as usize,
            "{}",
            info.name
        );
        assert_eq!(middle.is_stochastic(), info.stochastic, "{}", info.name);
        assert_eq!(method.is_stochastic(), info.stochastic, "{}", info.name);
    }
}

/// η = 0 removes the noise of every solver that has an η, which then solves the flow.
#[test]
fn without_eta_there_is_no_noise() {
    let process = Process::edm(0.01, 80.0).unwrap();
    let levels = Grid::Karras { rho: 7.0 }.levels(&process, 10).unwrap();
    for info in Info::all() {
        if !info.parameters.contains(&"eta") {
            continue;
        }
        let numbers = Parameters {
            eta: Some(0.0),
            ..Parameters::default()
        };
        let method = Method::new(info.name, numbers).unwrap();
        assert!(!method.is_stochastic(), "{}", info.name);
        let made = steps(&method.solver(&process, &levels), levels.as_slice()).unwrap();
        assert!(
            made.iter().all(|step| !step.is_stochastic()),
            "{}",
            info.name
        );
    }
}

/// No two solvers have the same name in any library.
#[test]
fn names_are_unique_and_parse() {
    let mut names = Vec::new();
    for info in Info::all() {
        names.push(info.name);
        names.extend(info.aliases().filter(|alias| *alias != info.name));
        for name in info.aliases() {
            let found: Method = name.parse().unwrap();
            assert_eq!(found.info().name, info.name, "{name}");
        }
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn invalid_parameters_are_refused() {
    let with = |name: &str, numbers| Method::new(name, numbers).unwrap_err().to_string();
    let none = Parameters::default();
    let eta = |eta| Parameters {
        eta: Some(eta),
        ..none
    };
    let order = |order| Parameters {
        order: Some(order),
        ..none
    };
    for (found, expected) in [
        (with("heun", eta(1.0)), "heun has no eta; it has churn"),
        (
            with("ddpm", eta(1.0)),
            "ddpm has no eta; it has no parameters",
        ),
        (
            with("ddim", eta(1.5)),
            "eta = 1.5 of ddim is outside [0, 1]",
        ),
        (
            with("ddim", eta(f64::NAN)),
            "eta = NaN of ddim is outside [0, 1]",
        ),
        (with("lms", order(5)), "order = 5 of lms is outside 1..=4"),
        (with("deis", order(0)), "order = 0 of deis is outside 1..=3"),
        (
            with("ancestral", none),
            "there is no sampler \"ancestral\"; it is called \"ddpm\" now",
        ),
    ] {
        assert_eq!(found, expected);
    }
    assert!(matches!(
        Method::new("plms", none),
        Err(MethodError::Unknown(_))
    ));
    assert!(with("plms", none).contains("ddim, euler, "));
}

/// At order 1 the families are the same step: DDIM (scheduler-sums: identities).
#[test]
fn the_first_order_is_ddim() {
    let process = Process::from(NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap());
    let levels = Grid::Trailing.levels(&process, 10).unwrap();
    let ends = |method: Method| {
        let solver = method.solver(&process, &levels);
        let denoiser = |x: &[f64], _| x.iter().map(|x| x.tanh()).collect();
        let none = |_| unreachable!("no noise");
        run(&solver, levels.as_slice(), vec![0.3, -1.2], denoiser, none).unwrap()
    };
    let ddim = ends("ddim".parse().unwrap());
    for name in [
        "euler",
        "lms",
        "ipndm",
        "ipndm-v",
        "dpm-solver",
        "dpm-solver-single",
        "deis",
    ] {
        let mut numbers = Parameters::default();
        if name != "euler" {
            numbers.order = Some(1);
        }
        let found = ends(Method::new(name, numbers).unwrap());
        for (found, ddim) in found.iter().zip(&ddim) {
            assert_close(*found, *ddim, 1e-12);
        }
    }
}
