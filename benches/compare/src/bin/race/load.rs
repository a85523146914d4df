//! The load of other programs during a race: on a busy machine its times mean nothing.

use std::{fs, time::Instant};

/// Ticks per second in `/proc`, the same on every Linux.
const TICKS: f64 = 100.0;

/// The state of the machine before a child process.
pub(super) struct Watch {
    start: Instant,
    others: Option<f64>,
}

impl Watch {
    /// Starts to watch.
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            others: others(),
        }
    }

    /// The number of cores that other programs kept busy since the start. `None` if the system does
    /// not report it. The child must have ended and been waited for.
    pub(super) fn stop(&self) -> Option<f64> {
        let ticks = others()? - self.others?;
        Some((ticks / TICKS / self.start.elapsed().as_secs_f64()).max(0.0))
    }
}

/// The ticks of other processes than this one and the children that it has waited for.
fn others() -> Option<f64> {
    let all = busy(&fs::read_to_string("/proc/stat").ok()?)?;
    let own = own(&fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(all - own)
}

/// The ticks that all processors spent neither idle nor waiting, from `/proc/stat`.
fn busy(stat: &str) -> Option<f64> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?;
    let numbers: Result<Vec<f64>, _> = numbers.split_whitespace().map(str::parse).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; user includes the guests.
    let numbers = numbers.ok()?;
    Some(numbers.get(..8)?.iter().sum::<f64>() - numbers[3] - numbers[4])
}

/// The ticks of a process and the children it has waited for, from its `/proc/self/stat`.
fn own(stat: &str) -> Option<f64> {
    // Field 2, the name in parentheses, may contain any character; utime is field 14.
    let (_, fields) = stat.rsplit_once(')')?;
    let times: Vec<&str> = fields.split_whitespace().skip(11).take(4).collect();
    let times: Result<Vec<f64>, _> = times.iter().map(|time| time.parse()).collect();
    times
        .ok()
        .filter(|times| times.len() == 4)
        .map(|times| times.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_system_are_read() {
        let stat = "cpu  100 20 30 4000 500 1 2 3 7 7\ncpu0 50 10 15 2000 250 1 1 1 0 0\n";
        assert_eq!(busy(stat), Some(156.0));
        assert_eq!(busy("cpu  1 2 3\n"), None);
        let stat = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 10 20 3 4 20 0 1 0 100";
        assert_eq!(own(stat), Some(37.0));
        assert_eq!(own("7 (x) S 1"), None);
    }
}
