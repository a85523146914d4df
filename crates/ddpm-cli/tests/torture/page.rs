//! The results as tables, and as the page `docs/faults.md`.

use super::{Findings, faults::Fault, kills::Kills, streams};
use std::fmt::Write as _;

/// All tables.
pub(super) fn tables(findings: &Findings) -> String {
    let (kills, faults) = (kills(&findings.kills), faults(&findings.faults));
    format!("{kills}\n{}\n{faults}", streams::table(&findings.streams))
}

/// A table with one row per case, and their sum.
fn kills(found: &[Kills]) -> String {
    let mut text = String::from(
        "| recipe | work | kills | during a write | before a checkpoint | works | most steps \
         lost | differences |\n|---|---|--:|--:|--:|--:|--:|--:|\n",
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
    row(&mut text, "together", "", &total);
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

/// A table with one row per fault.
fn faults(found: &[Fault]) -> String {
    let mut text = String::from(
        "| fault | times | steps lost | first line of the message |\n|---|--:|--:|---|\n",
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

`cargo xtask torture` writes this page; `--kills N` chooses how many processes it kills, 200 without
it. This one took {seconds} s. What needs root is left out for other users, and said to be.

## What is promised

A run that is killed and resumed with `ddpm train --resume` is the run that was never killed. Weights,
averages, moments and the losses that times are drawn by are the same bytes (`ddpm check --hash` is the
same line), the record is the same but for what the clock says, the pictures are the same. It does not
matter when it was killed, how often, with how many workers it goes on, or what was being written.
What a kill costs is time: the steps since the newest checkpoint, or, while that is still being written,
since the one before; never more than twice `checkpoint.every`.

A resumed run is the run that was begun. Its configuration is compared with the checkpoint's, key by
key: the steps, the path and workers of the data, the pictures, the checkpoints and the name may change;
any other difference is named, and the run refused. `--init-from` begins another run with its weights.

A checkpoint is whole or it is not one. Its directory is written under another name, synced and
renamed; its manifest, written last, holds every file's size and SHA-256. What does not agree with its
manifest is named and passed over, and never read.

What cannot be written on the way is said once and does not stop the training; when it can be written
again, that is said too. A run whose last files could not be written does not end as if they were.
What a run cannot survive is refused before anything is computed, in a sentence that names the file,
the key or the number.

The promise is for one backend on one device, with the same program. On CPUs it holds for any number
of threads, because work is divided by shapes alone. GPUs cannot give it: their kernels add by
atomic operations, in the order in which threads arrive, and which kernel is used is chosen by timing
it at run time, so the next process may choose another one, which adds in another order. There a
resumed run begins with the same bytes, the same noise and the same order of the data, and drifts from
the other by rounding, as two runs from the beginning would.

## Kills

SIGKILL after a random part of the work, its start included. Trained is every recipe, made small, with
data of the same shape, plain and with features: accumulation, dropout, mirrored rows, times drawn by
their losses, learned variance (images), a warmup of rate and average, `keep_last`, and other workers
after each resume. A checkpoint is taken every step, with features every two steps, so that many kills
fall into the writing of one. Two of the runs are sampled from, `ddpm sample --raw --film`, 200 samples
in thirteen batches. Each work suffers six kills, if it does not reach its end before. It is brought to
its end with `--resume`, and compared with the work that was never killed: the hash of the training's
state, the record but for the clock, and every byte of all pictures, samples and films, by the names of
all files. A kill that comes after the process's end is not counted.

{kills}
## Streams and signals

No write to a standard stream stops the work or makes the program panic. What cannot be written to
standard error is lost. A failed write to standard output is an error, with exit code 1; a reader that has
gone, as `head` does, ends the program quietly. SIGINT, SIGTERM, SIGHUP and SIGUSR1 ask training, sampling
and evaluation to stop: what is done is kept, the exit code is 128 and the signal's number, and a second
signal ends the process at once. SIGHUP is ignored where the program was started with it ignored (`nohup`).
SIGXFSZ does nothing: the write that caused it fails with an error that names the file.

{streams}
## Faults

Each is injected into a small run, with checkpoints every two or ten steps. What survives is resumed and
compared by hash with a run that nothing happened to. Damage is to the newest of two checkpoints, a bit
or a length chosen at random, found by `ddpm check` each time and survived by `--resume`.

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
        assert_eq!(last, "| together |  | 11 | 2 | 0 | 2 | 3 | 0 |");
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
