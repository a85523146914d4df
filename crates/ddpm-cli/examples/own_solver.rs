//! A solver of one's own: Ralston's method of second order, which no table of this project holds,
//! run by the same loop as all others, on a network.

use burn::tensor::{Device, Tensor};
use ddpm_model::{Condition, MlpConfig, Network};
use ddpm_process::{NoiseStream, Predictor, Reverse};
use ddpm_schedule::solver::{Position, Row, Solver, Step};
use ddpm_schedule::{Grid, NoiseLevel, Objective, Parametrization, Process, Weighting};

/// In σ = b/a the flow is d(x/a)/dσ = ε̂: a first slope at σ_t, a second two thirds of the way on.
struct Ralston;

impl Solver for Ralston {
    fn step(&self, &Position { t, s, .. }: &Position) -> Step {
        let h = s.sigma() - t.sigma();
        let x = |slope: Row, h: f64| 1.0 / t.signal() * Row::x(0) + h * slope;
        if s == NoiseLevel::CLEAN {
            return Step::one(t, x(Row::eps(0, t), h));
        }
        let middle = NoiseLevel::variance_exploding(t.sigma() + 2.0 / 3.0 * h).unwrap_or(s);
        let slope = 0.75 * Row::eps(0, middle) + 0.25 * Row::eps(1, t);
        let start = 1.0 / t.signal() * Row::x(1);
        Step {
            asks: vec![
                (t, Row::state()),
                (middle, x(Row::eps(0, t), 2.0 / 3.0 * h)),
            ],
            last: s.signal() * (start + h * slope),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    // Its weights are still those it begins with; a trained network takes its place.
    let network = MlpConfig {
        hidden: 16,
        layers: 2,
    };
    let network = network.init([2, 2], 0, &device)?;
    let process = Process::edm(0.01, 10.0)?;
    let parametrization = Parametrization::Edm { sigma_data: 0.5 };
    let objective = Objective::new(process, parametrization, Weighting::Simple)?;
    let predictor = Predictor {
        network: |x: Tensor<2>, t: Tensor<1>| network.predict(x, t, &Condition::none(), None),
        objective: &objective,
    };
    let levels = Grid::Karras { rho: 7.0 }.levels(objective.process(), 20)?;
    let stream = NoiseStream::new(0, "sample");
    let noise = |draw| stream.normal::<2>(&[0, 1, 2], draw, [3, 2], &device);
    let start = noise(0) * levels.start().prior_std();
    let mut reverse = Reverse::new(predictor, Ralston, levels.as_slice(), start, noise)?;
    let sample = reverse.by_ref().last().ok_or("there are steps")?.x;
    println!("{sample}after {} evaluations", reverse.evaluations());
    assert_eq!(reverse.evaluations(), 2 * 19 + 1);
    assert!(sample.is_finite().all().into_scalar::<bool>());
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
