//! The section "Output and signals".

use std::fs::{self, File, OpenOptions};
use std::io::pipe;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{Fault, check, ends, outcome};
use crate::faults::{endless, listening, said, send, spawn, start_command, until, until_saved};
use crate::run::{ok, tiny};

const ROWS: &[Fault] = &[
    Fault {
        reports: "rustic-rs/rustic#1915, gitbutlerapp/gitbutler#11088",
        kind: "a panic when the reader of a pipe has closed it",
        tried: "`ddpm train` with standard output and standard error in a pipe without a reader",
        run: |folder| {
            tiny(folder);
            ok(folder, "train --config tiny.toml --out whole");
            let output = program(folder, "train --config tiny.toml --out run")
                .stdout(unread())
                .stderr(unread())
                .output();
            assert_eq!(output.unwrap().status.code(), Some(0));
            same_run(folder);
            "exit 0; the run is byte for byte the same".into()
        },
    },
    Fault {
        reports: "uutils/coreutils#10613",
        kind: "a full device behind standard error changes the outcome",
        tried: "`ddpm train 2> /dev/full`",
        run: |folder| {
            tiny(folder);
            ok(folder, "train --config tiny.toml --out whole");
            let output = program(folder, "train --config tiny.toml --out run")
                .stderr(full())
                .output();
            assert_eq!(output.unwrap().status.code(), Some(0));
            same_run(folder);
            "exit 0; the run is byte for byte the same".into()
        },
    },
    Fault {
        reports: "sharkdp/fd#737, uutils/coreutils#9782, torognes/vsearch#243",
        kind: "success is reported although standard output could not be written",
        tried: "`ddpm recipe digits > /dev/full`, and the same with `schedule`, `check --hash`, `devices` and \
                `--help`",
        run: |folder| {
            tiny(folder);
            ok(folder, "train --config tiny.toml --out run");
            let commands = [
                "recipe digits",
                "schedule --format csv",
                "check run --hash",
                "devices",
                "--help",
            ];
            let shown = commands.map(|command| {
                let output = program(folder, command).stdout(full()).output().unwrap();
                assert_eq!(output.status.code(), Some(1), "{command}");
                outcome(&output)
            });
            assert!(shown.iter().all(|line| *line == shown[0]), "{shown:?}");
            shown[0].clone()
        },
    },
    Fault {
        reports: "clap-rs/clap#5457, clap-rs/clap#5993",
        kind: "completions panic if their output cannot be written",
        tried: "`ddpm completions bash`, to a pipe without a reader and to `/dev/full`",
        run: |folder| {
            let run = |out: Stdio| program(folder, "completions bash").stdout(out).output();
            let closed = run(unread()).unwrap();
            assert_eq!((closed.status.code(), closed.stderr.len()), (Some(0), 0));
            let full = run(full()).unwrap();
            assert_eq!(full.status.code(), Some(1));
            format!("exit 0, silently; {}", outcome(&full))
        },
    },
    Fault {
        reports: "open-mmlab/mmsegmentation#1998, tdrussell/diffusion-pipe#139",
        kind: "training ends with the terminal and saves nothing",
        tried: "SIGHUP, SIGUSR1, SIGINT and SIGTERM during `ddpm train`, whose standard error nobody reads",
        run: |folder| {
            for (signal, code) in [("HUP", 129), ("USR1", 138), ("INT", 130), ("TERM", 143)] {
                let folder = folder.join(signal);
                fs::create_dir(&folder).unwrap();
                endless(&folder);
                let mut command = listening();
                command.args(["train", "--config", "endless.toml", "--out", "run"]);
                command.current_dir(&folder);
                let mut job = spawn(command.stdin(Stdio::null()).stderr(unread()));
                until_saved(&folder);
                send(&job, &[signal]);
                assert_eq!(job.wait().unwrap().code(), Some(code), "SIG{signal}");
                let record = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
                let step = record.lines().count();
                let last = format!("run/checkpoints/step-{step:08}/manifest.json");
                assert!(folder.join(&last).exists(), "SIG{signal}: {last}");
            }
            "exit 129, 138, 130, 143, each with a checkpoint of the last step".into()
        },
    },
    Fault {
        reports: "open-mmlab/mmsegmentation#1998",
        kind: "under nohup, closing the terminal ends the program",
        tried: "SIGHUP to a `ddpm train` that was started with SIGHUP ignored, then SIGTERM",
        run: |folder| {
            endless(folder);
            let program = env!("CARGO_BIN_EXE_ddpm");
            let script =
                format!("trap '' HUP; exec '{program}' train --config endless.toml --out run");
            let mut command = Command::new("sh");
            command.args(["-c", &script]).current_dir(folder);
            let mut job = start_command(folder, &mut command);
            until_saved(folder);
            send(&job, &["HUP"]);
            let lines =
                || fs::read_to_string(folder.join("run/metrics.jsonl")).map(|m| m.lines().count());
            let then = lines().unwrap();
            // The record is written with every checkpoint, one in ten steps.
            until("more steps", || lines().unwrap() > then + 20);
            send(&job, &["TERM"]);
            assert_eq!(job.wait().unwrap().code(), Some(143), "{}", said(folder));
            "SIGHUP is ignored; SIGTERM saves, exit 143".into()
        },
    },
    Fault {
        reports: "Sygil-Dev/stable-diffusion#137",
        kind: "negative guidance is useful",
        tried: "`ddpm sample --guidance -1`, `--guidance nan` and `--seed -1`",
        run: |folder| {
            tiny(folder);
            ok(folder, "train --config tiny.toml --out run");
            ok(
                folder,
                "sample --from run --num 1 --guidance -1 --out negative",
            );
            let nan = ends(
                folder,
                "sample --from run --num 1 --guidance nan --out n",
                1,
            );
            let output = program(folder, "sample --from run --seed -1 --out s")
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(2));
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().next().unwrap();
            format!("drawn; {nan}; exit 2: `{first}`")
        },
    },
];

#[test]
fn the_page_says_what_happens() {
    check("Output and signals", ROWS);
}

/// `ddpm` with these arguments, to be run in `folder`.
fn program(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ddpm"));
    command.current_dir(folder);
    command.args(arguments.split_whitespace());
    command
}

/// The writing end of a pipe whose reader has gone.
fn unread() -> Stdio {
    let (_, writer) = pipe().unwrap();
    writer.into()
}

/// A device without space.
fn full() -> Stdio {
    let full: File = OpenOptions::new().write(true).open("/dev/full").unwrap();
    full.into()
}

/// That `run` and `whole` have come to the same.
fn same_run(folder: &Path) {
    let hash = |run: &str| -> Output {
        let check = format!("check {run} --hash");
        program(folder, &check).output().unwrap()
    };
    let (run, whole) = (hash("run"), hash("whole"));
    assert!(run.status.success() && run.stdout == whole.stdout);
}
