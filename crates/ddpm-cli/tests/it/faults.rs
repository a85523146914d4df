//! What happens to a running job: signals, full disks, folders that vanish, a second process, other
//! data, too large a network.

use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ddpm_cli::config;

use crate::checkpoints::hash;
use crate::run::{ok, refused, tiny};

/// Points, so that steps take little, and so many of them that the run is not over before it is met.
pub(crate) fn endless(folder: &Path) {
    let mut text = config::recipe("swiss-roll").unwrap().to_owned();
    for (from, to) in [
        ("steps = 10000\n", "steps = 1000000\n"),
        ("batch_size = 256", "batch_size = 8"),
        ("hidden = 128", "hidden = 16"),
        ("count = 2000\nevery = 1000", "count = 4\nevery = 0"),
        (
            "[checkpoint]\nevery = 1000",
            "[checkpoint]\nevery = 10\nkeep_last = 3",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    fs::write(folder.join("endless.toml"), text).unwrap();
}

/// A process that ends with its test, even one that fails: these runs have no end of their own.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Deref for Running {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// Starts the program in the background; what it says goes to the file `said`.
pub(crate) fn start(folder: &Path, arguments: &str) -> Running {
    let mut command = listening();
    command
        .current_dir(folder)
        .args(arguments.split_whitespace());
    start_command(folder, &mut command)
}

/// The program, which listens to SIGHUP even where the tests were started with it ignored (`nohup`).
pub(crate) fn listening() -> Command {
    let program = env!("CARGO_BIN_EXE_ddpm");
    if cfg!(not(target_os = "linux")) {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", program]);
    command
}

/// Starts a command that runs in `folder` likewise.
pub(crate) fn start_command(folder: &Path, command: &mut Command) -> Running {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(folder.join("said")).unwrap());
    spawn(command)
}

/// Starts a command that says what it says elsewhere.
pub(crate) fn spawn(command: &mut Command) -> Running {
    Running(command.spawn().unwrap())
}

pub(crate) fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("said")).unwrap()
}

/// Waits until something is so; a minute is far more than any of it takes.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "waited for {what}"
        );
        sleep(Duration::from_millis(5));
    }
}

/// Waits for a checkpoint of the run in the folder `run`.
pub(crate) fn until_saved(folder: &Path) {
    let checkpoints = folder.join("run/checkpoints");
    until("a checkpoint", || {
        let entries = fs::read_dir(&checkpoints).into_iter().flatten();
        let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.any(|name| name.starts_with("step-"))
    });
}

#[cfg(unix)]
pub(crate) fn send(child: &Child, signals: &[&str]) {
    let id = child.id();
    let script: Vec<_> = signals.iter().map(|s| format!("kill -{s} {id}")).collect();
    let sent = Command::new("sh").args(["-c", &script.join(";")]).status();
    assert!(sent.unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_signal_saves_the_run_and_names_the_way_back() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("USR1", 138)] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        endless(folder);
        let mut child = start(folder, "train --config endless.toml --out run");
        until_saved(folder);
        send(&child, &[signal]);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{}", said(folder));
        let said = said(folder);
        let last = said.lines().last().unwrap();
        let (stopped, back) = last.split_once("; go on with: ddpm ").unwrap();
        let stopped = stopped.strip_prefix(&format!("stopped by SIG{signal} after step "));
        let step: u64 = stopped.unwrap().parse().unwrap();
        // Every step is in the record, and the last one is saved.
        let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
        assert_eq!(metrics.lines().count() as u64, step);
        let newest = folder.join(format!("run/checkpoints/step-{step:08}"));
        assert!(newest.join("manifest.json").is_file(), "{last}");
        ok(folder, &format!("{back} --steps {}", step + 5));
    }
}

/// The second signal does not wait, not even for the end of a step, and this one is long.
#[cfg(unix)]
#[test]
fn a_second_signal_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    endless(folder);
    let config = fs::read_to_string(folder.join("endless.toml")).unwrap();
    let long = config
        .replace("batch_size = 8", "batch_size = 100000")
        .replace("hidden = 16", "hidden = 128");
    fs::write(folder.join("endless.toml"), long).unwrap();
    let mut child = start(folder, "train --config endless.toml --out run");
    until("a step", || said(folder).contains("step 1/"));
    // Two signals that wait together are delivered in an order of the system's.
    send(&child, &["INT", "TERM"]);
    let code = child.wait().unwrap().code();
    assert!(
        matches!(code, Some(130 | 143)),
        "{code:?}: {}",
        said(folder)
    );
    assert!(!said(folder).contains("go on with"), "{}", said(folder));
}

#[test]
fn a_second_process_is_refused_and_a_dead_one_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    endless(folder);
    let mut child = start(folder, "train --config endless.toml --out run");
    until_saved(folder);
    for command in [
        "train --out run --resume",
        "train --config endless.toml --out run",
    ] {
        refused(folder, command, 1, &["run is in use by another process"]);
    }
    assert_eq!(child.try_wait().unwrap(), None, "the first goes on");
    child.kill().unwrap();
    child.wait().unwrap();
    ok(folder, "train --out run --resume --steps 1");
}

/// A limit on the size of files, which is what a quota and a full disk look like to a program: the
/// weights exceed it, the configuration does not. Three checkpoints fail, and it is said once.
#[cfg(unix)]
#[test]
fn a_full_disk_costs_the_checkpoint_and_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    ok(folder, "train --config tiny.toml --out run --steps 2");
    ok(folder, "train --config tiny.toml --out whole --steps 8");
    let half = hash(folder, "run");
    let program = env!("CARGO_BIN_EXE_ddpm");
    let script = format!("ulimit -f 16; exec {program} train --out run --resume --steps 8");
    let mut shell = Command::new("sh");
    let output = shell.current_dir(folder).args(["-c", &script]).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let event = "training goes on: checkpoint not written: ";
    assert_eq!(errors.matches(event).count(), 1, "{errors}");
    let last = errors.lines().last().unwrap();
    assert!(last.starts_with("error: at step 8 "), "{last}");
    assert!(
        last.contains("too large") && last.contains("step-00000008"),
        "{last}"
    );
    // What was there is there, nothing half done beside it, and the rest comes when there is room.
    assert_eq!(hash(folder, "run"), half);
    assert_eq!(
        fs::read_dir(folder.join("run/checkpoints"))
            .unwrap()
            .count(),
        1
    );
    ok(folder, "train --out run --resume --steps 8");
    assert_eq!(hash(folder, "run"), hash(folder, "whole"));
}

/// The folder is gone, and comes back: each is said, and it is not made anew meanwhile.
#[test]
fn a_vanished_folder_is_said_and_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    endless(folder);
    let mut child = start(folder, "train --config endless.toml --out run");
    until_saved(folder);
    fs::rename(folder.join("run"), folder.join("away")).unwrap();
    // The folder itself or a file in it: it may have gone in the middle of a checkpoint.
    let gone = "training goes on: checkpoint not written: run/checkpoints";
    until("a checkpoint that fails", || said(folder).contains(gone));
    assert!(!folder.join("run").exists());
    fs::rename(folder.join("away"), folder.join("run")).unwrap();
    until("one that succeeds", || {
        said(folder).contains("checkpoint written again")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(said(folder).matches(gone).count(), 1, "{}", said(folder));
    ok(folder, "check run");
}

/// A small IDX data set: images of one color each.
fn idx(folder: &Path, first: u8) {
    let data = folder.join("data");
    fs::create_dir_all(&data).unwrap();
    let (count, side) = (16_u8, 8_u8);
    let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, side, 0, 0, 0, side];
    for i in 0..count {
        bytes.extend([first + i; 64]);
    }
    fs::write(data.join("train-images-idx3-ubyte"), bytes).unwrap();
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, count];
    labels.extend((0..count).map(|i| i % 10));
    fs::write(data.join("train-labels-idx1-ubyte"), labels).unwrap();
}

/// A running job has its data in memory; a resumed one knows it again, or refuses.
#[test]
fn other_data_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let config = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let config = config
        .replace("kind = \"digits\"", "kind = \"idx\"\npath = \"data\"")
        .replace("\nsteps = 4", "\nsteps = 40");
    fs::write(folder.join("idx.toml"), config).unwrap();
    idx(folder, 0);
    ok(folder, "train --config idx.toml --out whole");
    let mut child = start(folder, "train --config idx.toml --out run");
    until_saved(folder);
    idx(folder, 100);
    fs::remove_file(folder.join("data/train-labels-idx1-ubyte")).unwrap();
    assert!(child.wait().unwrap().success(), "{}", said(folder));
    assert_eq!(hash(folder, "run"), hash(folder, "whole"));

    let go_on = "train --out run --resume --steps 42";
    refused(folder, go_on, 1, &["num_classes", "no labels"]);
    idx(folder, 100);
    refused(folder, go_on, 1, &["step-00000040", "the data is not what"]);
    fs::remove_file(folder.join("data/train-images-idx3-ubyte")).unwrap();
    refused(folder, go_on, 1, &["train-images-idx3-ubyte"]);
    idx(folder, 0);
    ok(folder, go_on);
}

#[test]
fn more_memory_than_there_is_is_refused_before_any_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny(folder);
    let text = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    for (from, to) in [
        ("channels = [8, 8]", "channels = [1048576, 1048576]"),
        ("batch_size = 8\n", "batch_size = 4294967294\n"),
    ] {
        fs::write(folder.join("big.toml"), text.replacen(from, to, 1)).unwrap();
        let words = ["training takes", "and there are"];
        refused(folder, "train --config big.toml --out big", 1, &words);
        assert!(!folder.join("big").exists());
    }
}
