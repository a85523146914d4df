//! The results of a race, as a table and as JSON.

use std::fmt::Write as _;

/// The number of cores that other programs may keep busy in a valid race.
const IDLE: f64 = 0.1;

/// The measurements of one process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Mean milliseconds per step, after the warm-up.
    pub(super) ms: f64,
    /// Its peak memory.
    pub(super) peak_mib: Option<f64>,
    /// Seconds from its start to the end of its first step.
    pub(super) first_step_s: f64,
    /// The number of cores that other programs kept busy during the run.
    pub(super) others: Option<f64>,
}

/// One case, timed on several sides.
#[derive(Debug)]
pub(super) struct Contest {
    pub(super) network: &'static str,
    pub(super) case: &'static str,
    /// The numbers that are multiplied: f32 or bf16.
    pub(super) precision: &'static str,
    /// Images per step; of a product, the rows of the matrices.
    pub(super) batch: u32,
    /// Billions of additions and multiplications per step of the direct algorithm.
    pub(super) gflop: f64,
    /// Each side and its runs, one per round; our side is the first.
    pub(super) runs: Vec<(&'static str, Vec<Run>)>,
}

/// The case that multiplies two square matrices, the yardstick of the others.
pub(super) const PRODUCT: &str = "product";

impl Contest {
    /// Billions of operations per second, by the median time.
    fn rate(&self, runs: &[Run]) -> f64 {
        self.gflop * 1e3 / median(&column(runs, |run| run.ms))
    }
}

/// One line per side and contest, with medians over the rounds.
pub(super) fn text(contests: &[Contest]) -> String {
    let mut text = format!(
        "{:<26}{:<14}{:>7} {:<13}{:>8}{:>6}{:>9}{:>7}{:>9}{:>9}\n",
        "",
        "",
        "ms/step",
        "[min–max]",
        "images/s",
        "ratio",
        "GFLOP/s",
        "of it",
        "peak MiB",
        "1st, s",
    );
    let products = contests.iter().filter(|contest| contest.case == PRODUCT);
    let rates = products.flat_map(|c| c.runs.iter().map(|(_, runs)| c.rate(runs)));
    let fastest = rates.fold(f64::NAN, f64::max);
    for contest in contests {
        let Contest {
            network,
            case,
            precision,
            batch,
            runs,
            ..
        } = contest;
        let ours = runs
            .first()
            .map(|(_, runs)| median(&column(runs, |run| run.ms)));
        for (side, runs) in runs {
            let ms = column(runs, |run| run.ms);
            let middle = median(&ms);
            let (least, most) = (ms.first().copied(), ms.last().copied());
            let range = format!(
                "[{:.0}–{:.0}]",
                least.unwrap_or(f64::NAN),
                most.unwrap_or(f64::NAN)
            );
            let peaks = column(runs, |run| run.peak_mib.unwrap_or(f64::NAN));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<26}{side:<14}{middle:>7.1} {range:<13}{:>8.1}{:>6.2}{:>9.0}{:>6.0}%{:>9.0}{:>9.2}",
                format!("{network} {case} {batch} {precision}"),
                f64::from(*batch) * 1e3 / middle,
                middle / ours.unwrap_or(f64::NAN),
                contest.rate(runs),
                100.0 * contest.rate(runs) / fastest,
                median(&peaks),
                median(&column(runs, |run| run.first_step_s)),
            );
        }
    }
    text.push_str(
        "ratio: a side's milliseconds over ours; above 1 we are faster\n\
         of it: of the rate of the fastest matrix product; the operations of the direct\n       \
         algorithm are counted, whatever was computed\n\
         1st: seconds from the start of the process to its first step\n",
    );
    let runs = contests.iter().flat_map(|contest| &contest.runs);
    let others = runs.flat_map(|(_, runs)| runs).filter_map(|run| run.others);
    let others = others.fold(0.0, f64::max);
    if others > IDLE {
        let _ = writeln!(
            text,
            "these times mean nothing: other programs kept up to {others:.1} cores busy"
        );
    }
    text
}

/// Every run of every contest.
pub(super) fn json(contests: &[Contest], threads: &str) -> String {
    let mut lines = Vec::new();
    for Contest {
        network,
        case,
        precision,
        batch,
        gflop,
        runs,
    } in contests
    {
        for (side, runs) in runs {
            let list = |of: fn(&Run) -> Option<f64>| {
                let numbers = runs.iter().map(|run| number(of(run)));
                format!("[{}]", numbers.collect::<Vec<_>>().join(", "))
            };
            lines.push(format!(
                "    {{\"network\": \"{network}\", \"case\": \"{case}\", \"precision\": \"{precision}\", \"batch\": {batch}, \"gflop\": {gflop}, \
                 \"side\": \"{side}\", \"ms\": {}, \"peak_mib\": {}, \"first_step_s\": {}, \"others\": {}}}",
                list(|run| Some(run.ms)),
                list(|run| run.peak_mib),
                list(|run| Some(run.first_step_s)),
                list(|run| run.others),
            ));
        }
    }
    let results = lines.join(",\n");
    format!("{{\n  \"threads\": {threads},\n  \"results\": [\n{results}\n  ]\n}}\n")
}

fn number(value: Option<f64>) -> String {
    value.map_or("null".into(), |value| format!("{value:.3}"))
}

/// One number per run, sorted.
fn column(runs: &[Run], of: impl Fn(&Run) -> f64) -> Vec<f64> {
    let mut numbers: Vec<_> = runs.iter().map(of).collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The median of sorted numbers; NaN if there are none.
fn median(sorted: &[f64]) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ms: f64) -> Run {
        Run {
            ms,
            peak_mib: Some(2.0 * ms),
            first_step_s: 0.5,
            others: Some(0.0),
        }
    }

    fn contest() -> Contest {
        let ours = [20.0, 10.0, 40.0].map(run).to_vec();
        let none = Run {
            peak_mib: None,
            ..run(30.0)
        };
        Contest {
            network: "mnist",
            case: "train",
            precision: "f32",
            batch: 64,
            gflop: 2.0,
            runs: vec![("ours", ours), ("eager", vec![none])],
        }
    }

    fn product() -> Contest {
        Contest {
            case: PRODUCT,
            batch: 10,
            gflop: 1.0,
            runs: vec![("ours", vec![run(8.0)]), ("eager", vec![run(5.0)])],
            ..contest()
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_table_compares_with_us() {
        let text = text(&[contest(), product()]);
        let lines: Vec<Vec<_>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        // The fastest product makes 1 GFLOP in 5 ms.
        let ours = "mnist train 64 f32 ours 20.0 [10–40] 3200.0 1.00 100 50% 40 0.50";
        let theirs = "mnist train 64 f32 eager 30.0 [30–30] 2133.3 1.50 67 33% NaN 0.50";
        assert_eq!(lines[1].join(" "), ours);
        assert_eq!(lines[2].join(" "), theirs);
    }

    #[test]
    fn a_busy_machine_has_no_result() {
        let mut contest = contest();
        assert!(!text(std::slice::from_ref(&contest)).contains("mean nothing"));
        contest.runs[0].1[2].others = Some(1.25);
        assert!(text(&[contest]).contains("mean nothing: other programs kept up to 1.2 cores"));
    }

    #[test]
    fn the_json_holds_every_run() {
        let text = json(&[contest()], "2");
        assert!(text.contains("\"ms\": [20.000, 10.000, 40.000], \"peak_mib\": [40.000, "));
        assert!(text.contains("\"side\": \"eager\", \"ms\": [30.000], \"peak_mib\": [null], "));
        assert_eq!(text.matches("\"network\"").count(), 2);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
