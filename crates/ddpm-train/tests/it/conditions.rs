//! What a trainer refuses before its first step.

use std::sync::Arc;

use burn::tensor::Device;
use ddpm_data::{Source, load};
use ddpm_model::UNetConfig;
use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
use ddpm_train::{Classes, Settings, Trainer};

/// A class that the network would ignore, and a network that would wait for one.
#[test]
fn a_network_must_take_what_the_settings_give() {
    let device = Device::flex();
    let schedule = NoiseSchedule::cosine(100, 0.008).unwrap();
    let objective = Objective::new(schedule, Parametrization::V, Weighting::Simple).unwrap();
    let refusal = |num_classes: Option<usize>, classes: Option<Classes>| {
        let config = UNetConfig {
            block_out_channels: vec![4, 4],
            layers_per_block: 1,
            attention: vec![false, false],
            norm_num_groups: 2,
            num_classes,
            ..UNetConfig::cifar10()
        };
        let network = config.init([1, 1], 0, &device).unwrap();
        let settings = Settings {
            classes,
            ..Settings::new(objective.clone()).unwrap()
        };
        let data = Arc::new(load(&Source::Digits).unwrap());
        let trainer = Trainer::<4, _>::new(network, data, settings, &device);
        trainer.err().map(|error| error.to_string())
    };
    let digits = |dropout| Some(Classes { count: 10, dropout });
    for (num_classes, classes, message) in [
        (None, None, None),
        (Some(10), digits(Some((10, 0.1))), None),
        (
            None,
            digits(None),
            Some("the network takes no class, but one is given"),
        ),
        (
            Some(10),
            None,
            Some("no class is given, but the network needs one"),
        ),
        (
            Some(9),
            digits(Some((10, 0.1))),
            Some("there are 11 classes, the network takes 10"),
        ),
    ] {
        assert_eq!(refusal(num_classes, classes).as_deref(), message);
    }
}
