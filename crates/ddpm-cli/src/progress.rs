//! What a person sees of work that takes long: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};

use crate::terminal::say;
use ddpm_data::Reading;
use ddpm_train::metrics::Metrics;

/// Steps between plain lines.
const LINES: u64 = 50;

/// A bar on standard error, if that is a terminal.
fn bar(template: &str, done: u64, total: u64) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(total).with_position(done);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        bar
    })
}

/// Progress of a run, on standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
}

impl Progress {
    /// Progress from step `done` of `total`.
    pub fn new(done: u64, total: u64) -> Self {
        let bar = bar("{bar:24} {pos}/{len} {msg} eta {eta}", done, total);
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

/// Time before the first plain line of a [`Tally`], and between two others.
const FIRST_LINE: Duration = Duration::from_secs(2);
const NEXT_LINE: Duration = Duration::from_secs(10);

/// Parts of the whole that the bar of a [`Tally`] can show.
const PARTS: u64 = 10_000;

/// Progress of work on a number of things, on standard error; what is shown of it goes with it.
pub struct Tally {
    bar: Option<ProgressBar>,
    what: &'static str,
    /// All of them, if their number is known.
    total: Option<usize>,
    /// Things that were done before this began.
    before: f64,
    begun: Instant,
    next: Duration,
}

impl Tally {
    /// Progress of `total` things called `what`, of which `done` are done already.
    pub fn new(what: &'static str, done: usize, total: usize) -> Self {
        Self {
            bar: bar("{bar:10} {msg}", 0, PARTS),
            what,
            total: Some(total),
            before: done as f64,
            begun: Instant::now(),
            next: FIRST_LINE,
        }
    }

    /// Progress of an unknown number of things called `what`.
    pub fn counting(what: &'static str) -> Self {
        Self {
            bar: bar("{spinner} {msg}", 0, PARTS),
            what,
            total: None,
            before: 0.0,
            begun: Instant::now(),
            next: FIRST_LINE,
        }
    }

    /// Shows that so many things are done; a part of one counts as that. `detail` says what is being
    /// done to the ones at hand.
    pub fn at(&mut self, done: f64, detail: &str) {
        let elapsed = self.begun.elapsed();
        if self.bar.is_none() && elapsed < self.next {
            return;
        }
        self.next = elapsed + NEXT_LINE;
        let text = self.text(done, detail, elapsed);
        match &self.bar {
            Some(bar) => {
                let part = self.total.map_or(0.0, |total| done / total as f64);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                bar.set_position((PARTS as f64 * part) as u64);
                bar.set_message(text);
            }
            None => say(text),
        }
    }

    fn text(&self, done: f64, detail: &str, elapsed: Duration) -> String {
        let what = self.what;
        let rate = (done - self.before) / elapsed.as_secs_f64();
        let whole = done.floor();
        let Some(total) = self.total else {
            return format!("{whole:.0} {what}{detail}");
        };
        let text = format!("{whole:.0}/{total} {what}{detail}");
        let left = Duration::try_from_secs_f64((total as f64 - done) / rate);
        if let (true, Ok(left)) = (rate > 0.0, left) {
            let rate = match rate {
                fast if fast >= 100.0 => format!("{fast:.0}"),
                fast if fast >= 1.0 => format!("{fast:.1}"),
                slow => format!("{slow:.3}"),
            };
            let left = FormattedDuration(Duration::from_secs(left.as_secs()));
            return format!("{text} {rate} {what}/s eta {left}");
        }
        text
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Progress of reading a folder of images, on standard error.
pub struct FolderProgress {
    is_shown: bool,
    /// What is being done to the files, with its progress.
    stage: Option<(&'static str, Tally)>,
}

impl FolderProgress {
    /// Progress that is shown by the first rank only.
    pub fn new(is_shown: bool) -> Self {
        Self {
            is_shown,
            stage: None,
        }
    }

    /// Shows how far the folder has been read.
    pub fn at(&mut self, reading: Reading) {
        if !self.is_shown {
            return;
        }
        let (stage, done, total) = match reading {
            Reading::Listed { found } => (" found", found, None),
            Reading::Checked { done, total } => (" checked", done, Some(total)),
            Reading::Decoded { done, total } => (" decoded", done, Some(total)),
            _ => return,
        };
        let old = self.stage.take().filter(|(old, _)| *old == stage);
        let (_, tally) = self.stage.insert(old.unwrap_or_else(|| {
            let tally = total.map_or_else(
                || Tally::counting("files"),
                |total| Tally::new("files", 0, total),
            );
            (stage, tally)
        }));
        tally.at(done as f64, stage);
    }

    /// Says something, after what was shown.
    pub fn say(&mut self, text: &str) {
        self.stage = None;
        if self.is_shown {
            say(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 64 things 10 were done before; 6½ more in 13 seconds are one in two seconds, and the 47½ that
    /// are left take 95 seconds.
    #[test]
    fn rate_and_eta_are_of_what_was_done_since() {
        let tally = Tally {
            bar: None,
            what: "samples",
            total: Some(64),
            before: 10.0,
            begun: Instant::now(),
            next: FIRST_LINE,
        };
        let text = |done, seconds| tally.text(done, ", step 5/10", Duration::from_secs(seconds));
        let shown = "16/64 samples, step 5/10 0.500 samples/s eta 00:01:35";
        assert_eq!(text(16.5, 13), shown);
        assert_eq!(text(10.0, 3), "10/64 samples, step 5/10");
        assert_eq!(text(10.0, 0), "10/64 samples, step 5/10");
        // Half of a sample in so long a time: the rest takes longer than a duration holds.
        let mut forever = tally;
        forever.total = Some(usize::MAX);
        assert!(
            forever
                .text(10.5, "", Duration::from_secs(u64::MAX))
                .starts_with("10/")
        );
    }
}
