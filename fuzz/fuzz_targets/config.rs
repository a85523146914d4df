//! Any text as a configuration: read, checked, and its memory estimated.

#![no_main]

use ddpm_cli::config::Config;
use ddpm_cli::memory;
use ddpm_cli::plan::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let plan =
        Config::parse(text, "config.toml").and_then(|config| Plan::new(config, "config.toml"));
    let Ok(plan) = plan else {
        return;
    };
    // The rows of data that is not there are those of Fashion-MNIST.
    let shape = plan.source.shape().unwrap_or_else(|| vec![1, 28, 28]);
    let _ = memory::check_within(&plan, &shape, 0.0, memory::Spread::ALONE, 8e9);
});
