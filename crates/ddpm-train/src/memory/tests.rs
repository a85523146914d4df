//! The estimate against networks that are really built, and configurations that ask too much.

use super::*;
use crate::config::{Config, Model, RECIPES, recipe};
use burn::module::Module;
use burn::tensor::Device;

fn plan(name: &str, change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config::parse(recipe(name).unwrap(), name).unwrap();
    config.data.path.get_or_insert_with(|| "data".into());
    change(&mut config);
    Plan::new(config, name).unwrap()
}

/// The count leaves out biases, norms, classes and the time features' first layer, and the ends of
/// an MLP: little of the large networks, a fifth of the smallest one here.
#[test]
fn parameters_are_those_of_the_networks() {
    for (name, _) in RECIPES {
        let plan = plan(name, |_| ());
        let (counted, found) = match &plan.network {
            NetworkPlan::UNet(config) => {
                let network = config.init(0, &Device::flex()).unwrap();
                let needs = unet(config, config.in_channels, 64.0);
                (needs.parameters, network.num_params())
            }
            NetworkPlan::Mlp(config) => {
                let network = config.init(0, &Device::flex()).unwrap();
                (mlp(config).parameters, network.num_params())
            }
        };
        let ratio = counted / found as f64;
        assert!((0.8..=1.0).contains(&ratio), "{name}: {counted} of {found}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_both_numbers() {
    let shape = [3, 32, 32];
    let machine = 8.0 * (1_u64 << 30) as f64;
    assert_eq!(
        check_within(&plan("digits", |_| ()), &[1, 8, 8], 1, machine),
        Ok(())
    );
    assert!(check(&plan("digits", |_| ()), &[1, 8, 8], 1, &Device::flex()).is_ok());
    let wide = |config: &mut Config| {
        if let Model::UNet(unet) = &mut config.model {
            unet.channels = vec![1 << 20; 4];
        }
    };
    let error = check_within(&plan("cifar10", wide), &shape, 1, machine).unwrap_err();
    assert!(error.needed > 1e15, "{error}");
    let error = check_within(
        &plan("cifar10", |c| c.batch_size = 4096),
        &shape,
        1,
        machine,
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("8.0 GiB"), "{error}");
    let pictures = |c: &mut Config| c.sampling.count = usize::MAX / 16;
    let error = check_within(&plan("cifar10", pictures), &shape, 1, machine).unwrap_err();
    assert!(error.to_string().contains("sampling.count"), "{error}");
    let parts = |config: &mut Config| (config.batch_size, config.accumulate) = (4096, 4096);
    assert_eq!(
        check_within(&plan("cifar10", parts), &shape, 1, machine),
        Ok(())
    );
}
