//! The estimate against networks that are really built, and configurations that ask too much.

use super::*;
use crate::config::{Config, Model, RECIPES, recipe};
use burn::module::Module;
use burn::tensor::Device;

fn plan(name: &str, change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config::parse(recipe(name).unwrap(), name).unwrap();
    if config.data.kind.has_path() {
        config.data.path = Some("data".into());
    }
    change(&mut config);
    Plan::new(config, name).unwrap()
}

/// The count leaves out biases, norms, classes and the time features' first layer, and the ends of
/// an MLP: little of the large networks, a fifth of the smallest one here.
#[test]
fn parameters_are_those_of_the_networks() {
    for (name, _) in RECIPES {
        let plan = plan(name, |_| ());
        let (counted, found) = match &plan.config.model {
            Model::UNet(config) => {
                let network = config.init([3, 3], 0, &Device::flex()).unwrap();
                let needs = config.footprint([3, 8, 8]);
                (needs.parameters, network.num_params())
            }
            Model::Mlp(config) => {
                let network = config.init([2, 2], 0, &Device::flex()).unwrap();
                (config.footprint().parameters, network.num_params())
            }
        };
        let ratio = counted / found as f64;
        assert!((0.8..=1.0).contains(&ratio), "{name}: {counted} of {found}");
    }
}

const GIB: f64 = (1_u64 << 30) as f64;

/// Whether a recipe, changed, can be trained on CIFAR-10's shape in so many bytes.
fn within(
    change: impl FnOnce(&mut Config),
    data: f64,
    spread: Spread,
    available: f64,
) -> Result<(), MemoryError> {
    check_within(
        &plan("cifar10", change),
        &[3, 32, 32],
        data,
        spread,
        available,
    )
}

#[test]
fn what_cannot_be_is_refused_with_both_numbers() {
    let digits = plan("digits", |_| ());
    assert!(check(&digits, &[1, 8, 8], 0.0, Spread::ALONE, &Device::flex()).is_ok());
    let refused =
        |change: &dyn Fn(&mut Config)| within(change, 0.0, Spread::ALONE, 8.0 * GIB).unwrap_err();
    let wide = refused(&|config| {
        if let Model::UNet(unet) = &mut config.model {
            unet.block_out_channels = vec![1 << 20; 4];
        }
    });
    assert!(wide.needed > 1e15, "{wide}");
    let large = refused(&|config| config.batch_size = 4096).to_string();
    assert!(large.contains("8.0 GiB"), "{large}");
    let pictures = refused(&|config| config.sampling.count = usize::MAX / 16).to_string();
    assert!(pictures.contains("sampling.count"), "{pictures}");
    let parts = |config: &mut Config| (config.batch_size, config.accumulate) = (4096, 4096);
    assert_eq!(within(parts, 0.0, Spread::ALONE, 8.0 * GIB), Ok(()));
}

/// The least memory in which CIFAR-10's network can be trained.
fn least(data: f64, spread: Spread) -> f64 {
    within(|_| (), data, spread, 0.0).unwrap_err().needed
}

/// Numbers from the definition: 35.7 million weights, 5 copies a rank and 4 for the checkpoint.
#[test]
fn data_and_ranks_are_counted() {
    let alone = least(0.0, Spread::ALONE);
    assert_eq!(least(3.0 * GIB, Spread::ALONE), alone + 3.0 * GIB);
    // Two threads halve the batch, and have their own weights.
    let threads = Spread {
        ranks: 2,
        processes: 1,
        threads: 2,
    };
    let weights = 4.0 * 35.7e6;
    let more = least(3.0 * GIB, threads) - alone - 3.0 * GIB;
    assert!((more / (5.0 * weights) - 1.0).abs() < 0.02, "{more}");
    // Two processes of one machine read the data twice.
    let processes = Spread {
        processes: 2,
        threads: 1,
        ..threads
    };
    assert_eq!(least(3.0 * GIB, processes), least(6.0 * GIB, threads));
    // Processes of two machines do not share memory.
    let machines = Spread {
        processes: 1,
        ..processes
    };
    assert!(least(0.0, machines) < alone);
}

#[test]
fn a_large_batch_of_samples_is_refused() {
    let network = plan("cifar10", |_| ()).config.model;
    let check = |rows| check_forward_within(&network, &[3, 32, 32], rows, 0.0, 8.0 * GIB);
    assert_eq!(check(16), Ok(()));
    let error = check(100_000).unwrap_err().to_string();
    assert!(error.contains("--batch-size"), "{error}");
}
