//! A noise schedule as text: table, CSV, JSON or a picture.

use std::fmt::Write;

use ddpm_schedule::NoiseSchedule;
use serde::Serialize;

use crate::plot::{self, Scale};

/// The numbers of one time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    t: u32,
    beta: f64,
    alpha_bar: f64,
    signal: f64,
    noise: f64,
    log_snr: f64,
    posterior_variance: f64,
}

const COLUMNS: [&str; 7] = [
    "t",
    "beta",
    "alpha_bar",
    "signal",
    "noise",
    "log_snr",
    "posterior_variance",
];

/// The schedule's numbers, t = 1 to T.
pub fn rows(schedule: &NoiseSchedule) -> Vec<Row> {
    let row = |t| {
        let level = schedule.level(t);
        Row {
            t: t.get(),
            beta: schedule.beta(t),
            alpha_bar: level.alpha_bar(),
            signal: level.signal(),
            noise: level.noise(),
            log_snr: level.log_snr(),
            posterior_variance: schedule.posterior_variance(t),
        }
    };
    schedule.iter().map(row).collect()
}

impl Row {
    fn values(&self) -> [f64; 6] {
        [
            self.beta,
            self.alpha_bar,
            self.signal,
            self.noise,
            self.log_snr,
            self.posterior_variance,
        ]
    }
}

/// Comma separated, 17 significant digits.
pub fn csv(schedule: &NoiseSchedule) -> String {
    let mut out = COLUMNS.join(",") + "\n";
    for row in rows(schedule) {
        out += &row.t.to_string();
        for value in row.values() {
            // Writing to a string cannot fail.
            let _ = write!(out, ",{value:.16e}");
        }
        out.push('\n');
    }
    out
}

/// Some twenty rows, to be read by a person.
pub fn table(schedule: &NoiseSchedule) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:>6} {:>11} {:>11} {:>9} {:>9} {:>9} {:>11}",
        "t", "beta", "alpha_bar", "signal", "noise", "log_snr", "post_var"
    );
    let rows = rows(schedule);
    let every = rows.len().div_ceil(20);
    for (i, row) in rows.iter().enumerate() {
        if i == 0 || (i + 1).is_multiple_of(every) || i + 1 == rows.len() {
            let _ = writeln!(
                out,
                "{:>6} {:>11.4e} {:>11.4e} {:>9.6} {:>9.6} {:>9.3} {:>11.4e}",
                row.t,
                row.beta,
                row.alpha_bar,
                row.signal,
                row.noise,
                row.log_snr,
                row.posterior_variance
            );
        }
    }
    out
}

/// Signal and noise over t.
pub fn svg(schedule: &NoiseSchedule) -> String {
    let rows = rows(schedule);
    let line = |name, color, value: fn(&Row) -> f64| plot::Line {
        name,
        color,
        points: rows.iter().map(|r| (r.t.into(), value(r))).collect(),
    };
    let lines = [
        line("signal", "steelblue", |row| row.signal),
        line("noise", "firebrick", |row| row.noise),
    ];
    plot::svg("t", &lines, [Scale::Linear; 2])
}
