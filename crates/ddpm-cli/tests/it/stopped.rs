//! Sampling and evaluation that end early: by a signal, by a kill, by a full disk.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::faults::{said, send, start, until};
use crate::run::{ok, refused, tiny};
use crate::samples::{files_of, names, trained};

/// Some batches of many steps, each of its own noise.
const DRAW: &str = "sample --from run --num 100 --sampler ddpm --steps 40 --film --raw --out";

/// The images there are, each of them whole.
fn images(out: &Path) -> usize {
    let images = out.join("images");
    let mut names = names(&images);
    names.retain(|name| !name.starts_with('.'));
    for name in &names {
        image::open(images.join(name)).unwrap();
    }
    names.len()
}

/// Each signal ends between two steps, with whole batches and the command that goes on; and what it
/// comes to is what was never stopped.
#[test]
fn a_signal_leaves_whole_batches_and_the_way_on() {
    let folder = trained();
    let folder = folder.path();
    ok(folder, &format!("{DRAW} whole"));
    let whole = files_of(&folder.join("whole"));
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("USR1", 138)] {
        let out = folder.join(signal);
        let mut child = start(folder, &format!("{DRAW} {signal}"));
        until("a batch", || out.join("images/0015.png").exists());
        send(&child, &[signal]);
        let ended = child.wait().unwrap().code();
        let said = said(folder);
        assert_eq!(ended, Some(code), "{said}");
        let last = said.lines().last().unwrap();
        let (stopped, back) = last.split_once("; go on with: ddpm ").unwrap();
        let done = images(&out);
        let expected = format!("stopped by SIG{signal} after {done} of 100 samples");
        assert_eq!(stopped, expected);
        assert!(
            (16..100).contains(&done) && done.is_multiple_of(16),
            "{done}"
        );
        let same = format!("{DRAW} {signal}");
        refused(folder, &same, 1, &["holds samples already", "--resume"]);
        ok(folder, back);
        assert!(files_of(&out) == whole, "{signal}");
    }
}

/// Killed without notice again and again, in any place, with a shard beside it.
#[test]
fn a_killed_order_goes_on() {
    let folder = trained();
    let folder = folder.path();
    let shard = DRAW.replace("--film --raw", "--shard 1/2");
    ok(folder, &format!("{DRAW} whole"));
    ok(folder, &format!("{shard} whole-shard"));
    for (draw, whole) in [(DRAW, "whole"), (&shard[..], "whole-shard")] {
        let out = folder.join(format!("{whole}-cut"));
        let draw = format!("{draw} {whole}-cut");
        for kill in 1..=8 {
            let resume = if out.exists() { " --resume" } else { "" };
            let mut child = start(folder, &format!("{draw}{resume}"));
            sleep(Duration::from_millis(60 * kill));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        ok(folder, &format!("{draw} --resume"));
        assert!(files_of(&out) == files_of(&folder.join(whole)), "{draw}");
    }
}

/// Killed before anything was drawn: the folder is one that any order may begin in.
#[test]
fn an_order_killed_at_its_start_is_no_obstacle() {
    let folder = trained();
    let folder = folder.path();
    let out = folder.join("s");
    for option in ["", "--resume", "--overwrite"] {
        for left in [".samples.json.tmp", ".samples.json.lock"] {
            fs::create_dir(&out).unwrap();
            fs::write(out.join(left), "{").unwrap();
            ok(
                folder,
                &format!("sample --from run --num 2 --out s {option}"),
            );
            fs::remove_dir_all(&out).unwrap();
        }
    }
    // A shard that was cut in its header is begun again.
    let draw = "sample --from run --num 2 --shard 1/1 --out s";
    ok(folder, draw);
    let shard = out.join("shard-1-of-1.safetensors");
    let whole = fs::read(&shard).unwrap();
    for length in [0, 7, 20] {
        fs::remove_file(&shard).unwrap();
        let aside = out.join(".shard-1-of-1.safetensors.tmp");
        fs::write(aside, &whole[..length]).unwrap();
        refused(folder, draw, 1, &["was begun already", "--resume"]);
        ok(folder, &format!("{draw} --resume"));
        assert!(fs::read(&shard).unwrap() == whole, "{length}");
    }
}

/// A limit on the size of files is what a quota looks like: the values exceed it in their third batch.
#[test]
fn a_full_disk_leaves_whole_batches() {
    let folder = trained();
    let folder = folder.path();
    let draw = "sample --from run --num 60 --raw --out s";
    ok(folder, &draw.replace("--out s", "--out whole"));
    let program = env!("CARGO_BIN_EXE_ddpm");
    // 20 blocks of 512 bytes.
    let script = format!("ulimit -f 20; exec {program} {draw}");
    let mut shell = Command::new("sh");
    let output = shell.current_dir(folder).args(["-c", &script]).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let expected = "error: 32 of 60 samples are done, and --resume goes on with them: ";
    assert!(errors.contains(expected), "{errors}");
    assert_eq!(images(&folder.join("s")), 32);
    assert!(!folder.join("s/grid.png").exists());
    ok(folder, &format!("{draw} --resume"));
    assert!(files_of(&folder.join("s")) == files_of(&folder.join("whole")));
}

#[test]
fn two_orders_do_not_share_a_folder() {
    let folder = trained();
    let folder = folder.path();
    let mut child = start(
        folder,
        &format!("{DRAW} s --num 5000").replace("--num 100 ", ""),
    );
    until("a batch", || folder.join("s/images/0015.png").exists());
    let second = format!("{DRAW} s --resume");
    refused(folder, &second, 1, &["s is in use by another process"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// An evaluation has nothing to keep; it says so, with the signal's code, and writes nothing.
#[test]
fn an_evaluation_is_stopped() {
    let folder = trained();
    let folder = folder.path();
    for (question, left) in [
        ("--json bits.json", false),
        ("--shard 1/2 --out bits", true),
    ] {
        let question = format!("eval nll --from run --num 1000 --flow 50 {question}");
        for (signal, code) in [("INT", 130), ("USR1", 138)] {
            let mut child = start(folder, &question);
            sleep(Duration::from_secs(1));
            send(&child, &[signal]);
            let ended = child.wait().unwrap().code();
            let said = said(folder);
            assert_eq!(ended, Some(code), "{said}");
            assert!(
                said.contains("of 1000 images; nothing is kept") || left,
                "{said}"
            );
            assert!(said.contains("--shard"), "{said}");
        }
        assert_eq!(folder.join("bits").exists(), left);
        assert!(!left || names(&folder.join("bits")).is_empty());
    }
    refused(
        folder,
        "eval nll --from run --json no/bits.json",
        1,
        &["--json", "no/bits.json"],
    );
    refused(
        folder,
        "eval nll --from run --json run",
        1,
        &["run", "is a folder"],
    );
}

/// It is given up, it does not delay the stop, and the resumed run makes it: the same.
#[test]
fn a_picture_in_the_making_does_not_delay_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let text = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let config = |steps: &str, count: &str| {
        let text = text.replace("steps = 3", steps).replace("count = 3", count);
        let text = text.replace("\nsteps = 4", "\nsteps = 2");
        text.replace("every = 2", "every = 1")
    };
    // Hours of pictures, were they not given up.
    fs::write(
        folder.join("slow.toml"),
        config("steps = 100", "count = 100000"),
    )
    .unwrap();
    for step in [1, 2] {
        let command = match step {
            1 => "train --config slow.toml --out run",
            _ => "train --out run --resume",
        };
        let mut child = start(folder, command);
        // Of a resumed run the picture comes before the first step.
        if step == 1 {
            until("a step", || said(folder).contains("step 1/2"));
        } else {
            sleep(Duration::from_secs(1));
        }
        send(&child, &["TERM"]);
        assert_eq!(child.wait().unwrap().code(), Some(143), "{}", said(folder));
        let expected = "stopped by SIGTERM after step 1; go on with: ";
        assert!(said(folder).contains(expected), "{}", said(folder));
        assert!(names(&folder.join("run/samples")).is_empty());
    }
    // A short one takes its place, that the end can be waited for.
    let quick = config("steps = 100", "count = 16");
    fs::write(folder.join("run/config.toml"), &quick).unwrap();
    ok(folder, "train --out run --resume");
    fs::write(folder.join("quick.toml"), quick).unwrap();
    ok(folder, "train --config quick.toml --out whole");
    let pictures = |run: &str| files_of(&folder.join(run).join("samples"));
    assert_eq!(pictures("whole").len(), 2);
    assert!(pictures("run") == pictures("whole"));
}
