//! Any text as a scheduler's configuration, the levels it lays out, and its solver's steps along
//! them.

#![no_main]

use ddpm_schedule::solver::steps;
use ddpm_interop::diffusers::scheduler::Scheduler;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(scheduler) = Scheduler::parse(text, "scheduler_config.json") {
        for n in [1, 2, 14, 15, 50] {
            if let Ok(levels) = scheduler.levels(n) {
                let _ = scheduler.clock(&levels);
                let _ = steps(&scheduler.rule(&levels), levels.as_slice());
            }
        }
    }
});
