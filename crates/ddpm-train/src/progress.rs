//! What a person sees of a run: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::fit::Metrics;
use crate::terminal::say;

/// Steps between plain lines.
const LINES: u64 = 50;

/// Progress of a run, on standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
}

impl Progress {
    /// Progress from step `done` of `total`.
    pub fn new(done: u64, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_position(done);
            let template = "{bar:24} {pos}/{len} {msg} eta {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self { bar, total }
    }

    /// Says what is about to happen.
    pub fn begin(
        what: &str,
        rows: usize,
        shape: &[usize],
        parameters: usize,
        ranks: usize,
        out: &Path,
    ) {
        let shape: Vec<_> = shape.iter().map(ToString::to_string).collect();
        let together = match ranks {
            1 => String::new(),
            n => format!(" by {n} ranks"),
        };
        say(format_args!(
            "{what}: {rows} rows of {}, {parameters} parameters{together}, in {}",
            shape.join("×"),
            out.display()
        ));
    }

    /// Shows one step.
    pub fn step(&self, metrics: &Metrics) {
        let Metrics {
            step,
            loss,
            images_per_second,
            ..
        } = metrics;
        let message = format!("loss {loss:.4} {images_per_second:.0} images/s");
        match &self.bar {
            Some(bar) => {
                bar.set_message(message);
                bar.set_position(*step);
            }
            None if *step == 1 || step.is_multiple_of(LINES) || *step == self.total => {
                say(format_args!("step {step}/{} {message}", self.total));
            }
            None => {}
        }
    }

    /// Says something, without tearing the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// Says where the results are.
    pub fn finish(&self, out: &Path) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        say(format_args!(
            "done: pictures in {}; more with: ddpm sample --from {}",
            out.join("samples").display(),
            out.display()
        ));
    }
}
