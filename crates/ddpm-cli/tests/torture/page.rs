//! The results as tables, and as the page `docs/faults.md`.

use super::{Findings, faults::Fault, kills::Kills, streams};
use std::fmt::Write as _;

/// All tables.
pub(super) fn tables(findings: &Findings) -> String {
    let (kills, faults) = (kills(&findings.kills), faults(&findings.faults));
    format!("{kills}\n{}\n{faults}", streams::table(&findings.streams))
}

/// One row per case, and their sum.
fn kills(found: &[Kills]) -> String {
    let mut text = String::from(
        "| recipe | work | kills | during a write | before the first save | runs | steps lost, \
         at most | differences |\n|---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut total = Kills::default();
    for case in found {
        row(&mut text, case.recipe, case.work, case);
        total.count += case.count;
        total.unfinished += case.unfinished;
        total.before += case.before;
        total.runs += case.runs;
        total.lost = total.lost.max(case.lost);
        total.differences.extend(case.differences.iter().cloned());
    }
    row(&mut text, "total", "", &total);
    text
}

fn row(text: &mut String, recipe: &str, work: &str, kills: &Kills) {
    let Kills {
        count,
        unfinished,
        before,
        runs,
        lost,
        differences,
        ..
    } = kills;
    let differences = match differences.as_slice() {
        [] => "0".to_owned(),
        some => format!("{}: {}", some.len(), some.join("; ")),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "| {recipe} | {work} | {count} | {unfinished} | {before} | {runs} | {lost} | \
         {differences} |"
    );
}

/// One row per fault.
fn faults(found: &[Fault]) -> String {
    let mut text = String::from(
        "| fault | times | steps lost | the first line printed |\n|---|--:|--:|---|\n",
    );
    for fault in found {
        let Fault {
            what,
            times,
            lost,
            said,
            broken,
        } = fault;
        // A bar would end the cell, and a line break the row.
        let said = said.replace('|', "\\|").replace('\n', " ");
        let said = match (broken, times) {
            (true, _) => format!("**not as promised**: {said}"),
            (false, 0) => said,
            (false, _) if said.is_empty() => "nothing".to_owned(),
            (false, _) => format!("`{said}`"),
        };
        let _ = writeln!(text, "| {what} | {times} | {lost} | {said} |");
    }
    text
}

/// `docs/faults.md`.
pub(super) fn page(findings: &Findings) -> String {
    let seconds = findings.time.as_secs();
    let (kills, faults) = (kills(&findings.kills), faults(&findings.faults));
    let streams = streams::table(&findings.streams);
    format!(
        "\
# Faults

`cargo xtask torture` writes this page; `--kills N` chooses how many processes it kills, 200 without it.
This one took {seconds} s. For users other than root it skips the faults that need root, and says so in
their rows.

## What is promised

A run that is killed and resumed with `ddpm train --resume` gives the same result as a run that was
never killed. Weights, averages, moments and the losses used to draw times have the same bytes
(`ddpm check --hash` prints the same line), the record is the same except for its timings, and the
pictures are the same. This does not depend on when and how often the run was killed, with how many
workers it continues, or which file was being written. A kill costs only time: the steps since the
newest checkpoint, or, while that is still being written, since the one before; never more than twice
`checkpoint.every`.

A resumed run continues the run that was started. Its configuration is compared with the checkpoint's,
key by key. The steps, the path and workers of the data, the pictures, the checkpoints and the name may
change; any other difference is an error that names the key. `--init-from` starts another run from its
weights.

A checkpoint is either complete or ignored. Its directory is written under a temporary name, synced and
renamed; its manifest, written last, holds every file's size and SHA-256. A checkpoint that does not
match its manifest is reported and skipped, and never loaded.

A failed write during training is reported once and does not stop the training; the first write that
succeeds again is reported too. A run whose last files could not be written ends with an error.
Conditions that a run cannot survive are refused before anything is computed, with a message that names
the file, the key or the number.

The promise is for one backend on one device, with the same program. On CPUs it holds for any number of
threads, because work is divided by shapes alone. It cannot hold on GPUs: their kernels add by atomic
operations, in the order in which threads arrive, and the backend chooses kernels by timing them at run
time, so the next process may choose another one, which adds in another order. There a resumed run
starts with the same bytes, the same noise and the same order of the data, and drifts from the
uninterrupted run by rounding, as two complete runs would.

## Kills

SIGKILL is sent at a random time, including during startup. A small version of every recipe, with data
of the same shape, is trained plain and with all features: accumulation, dropout, mirrored rows, times
drawn by their losses, learned variance (images), a warmup of rate and average, `keep_last`, and a
different number of workers after each resume. Checkpoints are written every step, with features every
two steps, so that many kills happen during a write. Two of the runs are also sampled,
`ddpm sample --raw --film`, 200 samples in thirteen batches. Each process is killed up to six times and
then brought to its end with `--resume`. The result is compared with that of an uninterrupted process:
the hash of the training state, the record except its timings, and every byte of all pictures, samples
and films, by the names of all files. A kill that comes after the process's end is not counted.

{kills}
## Streams and signals

No write to a standard stream stops the work or makes the program panic. Text that cannot be written to
standard error is lost. A failed write to standard output is an error, with exit code 1; if the reader
has closed the pipe, as `head` does, the program ends quietly. SIGINT, SIGTERM, SIGHUP and SIGUSR1 ask
training, sampling and evaluation to stop: finished work is kept, the exit code is 128 plus the signal's
number, and a second signal ends the process at once. SIGHUP is ignored if the program was started with
it ignored (`nohup`). SIGXFSZ is ignored: the write that caused it fails with an error that names the
file.

{streams}
## Faults

Each fault is injected into a small run with checkpoints every two or ten steps. A run that survives is
resumed and compared by hash with an undisturbed run. Damage is done to the newest of two checkpoints,
at a random bit or length; `ddpm check` must find it each time, and `--resume` must survive it.

{faults}"
    )
}

pub(super) mod tests {
    use super::{Fault, Kills, faults, kills};

    pub(in super::super) fn tables() {
        cases_add_up();
        a_difference_is_shown();
        messages_stay_in_their_cells();
    }

    fn cases_add_up() {
        let case = |count, unfinished, lost| Kills {
            recipe: "digits",
            count,
            unfinished,
            lost,
            runs: 1,
            ..Kills::default()
        };
        let text = kills(&[case(5, 2, 1), case(6, 0, 3)]);
        let last = text.lines().last().unwrap();
        assert_eq!(last, "| total |  | 11 | 2 | 0 | 2 | 3 | 0 |");
    }

    fn a_difference_is_shown() {
        let case = Kills {
            recipe: "digits",
            differences: vec!["run 1: hash".into()],
            ..Kills::default()
        };
        assert!(kills(&[case]).contains("| 1: run 1: hash |"));
    }

    fn messages_stay_in_their_cells() {
        let fault = |times, said: &str, broken| Fault {
            what: "a".into(),
            times,
            lost: "0".into(),
            said: said.into(),
            broken,
        };
        let text = faults(&[
            fault(1, "x | y\nz", false),
            fault(0, "not run: no", false),
            fault(1, "", false),
            fault(1, "other", true),
        ]);
        let rows: Vec<_> = text.lines().skip(2).collect();
        let expected = [
            "| a | 1 | 0 | `x \\| y z` |",
            "| a | 0 | 0 | not run: no |",
            "| a | 1 | 0 | nothing |",
            "| a | 1 | 0 | **not as promised**: other |",
        ];
        assert_eq!(rows, expected);
    }
}
