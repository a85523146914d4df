//! Any text as a scheduler's configuration, and the trajectories it lays out.

#![no_main]

use ddpm_train::diffusers::scheduler::Scheduler;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(scheduler) = Scheduler::parse(text, "scheduler_config.json") {
        for steps in [1, 2, 14, 15, 50] {
            let _ = scheduler.trajectory(steps);
        }
    }
});
