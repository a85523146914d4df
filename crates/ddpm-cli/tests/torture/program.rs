//! The program `ddpm`: started, signalled, killed, and its messages.

use anyhow::{Context as _, ensure};
use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The longest wait; everything here takes far less.
const PATIENCE: Duration = Duration::from_mins(2);

/// The compiled program.
pub(super) struct Program {
    path: PathBuf,
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its exit code; `None` if a signal ended it.
    pub(super) code: Option<i32>,
    /// Its standard output.
    pub(super) out: String,
    /// Its standard error.
    pub(super) said: String,
}

impl Program {
    /// The program that cargo compiled for this test.
    pub(super) fn compiled() -> Self {
        Self {
            path: env!("CARGO_BIN_EXE_ddpm").into(),
        }
    }

    fn command(&self, folder: &Path, arguments: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments.split_whitespace());
        command.current_dir(folder).stdin(Stdio::null());
        command
    }

    /// The program, which handles SIGHUP even if this test was started with SIGHUP ignored (`nohup`).
    fn listening(&self) -> Command {
        if cfg!(not(target_os = "linux")) {
            return Command::new(&self.path);
        }
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(&self.path);
        command
    }

    /// Runs it in `folder` to its end.
    pub(super) fn run(&self, folder: &Path, arguments: &str) -> anyhow::Result<Outcome> {
        finish(self.command(folder, arguments))
    }

    /// As [`run`](Self::run), with a limit of `blocks` blocks of 512 bytes on each file.
    pub(super) fn run_limited(
        &self,
        folder: &Path,
        blocks: u32,
        arguments: &str,
    ) -> anyhow::Result<Outcome> {
        let program = self.path.display();
        let script = format!("ulimit -f {blocks}; exec '{program}' {arguments}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(folder);
        finish(shell)
    }

    /// As [`run`](Self::run), with redirections of a shell in which descriptor 4 is a pipe without a
    /// reader.
    pub(super) fn run_redirected(
        &self,
        folder: &Path,
        arguments: &str,
        redirections: &str,
    ) -> anyhow::Result<Outcome> {
        let program = self.path.display();
        // A named pipe: both ends are opened, then its only reader is closed.
        let script = format!(
            "mkfifo pipe; exec 3<>pipe 4>pipe 3<&-; rm pipe; exec '{program}' {arguments} {redirections}"
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(folder);
        shell.stdin(Stdio::null());
        finish(shell)
    }

    /// Runs it to its end and returns its standard output; it must succeed.
    pub(super) fn succeed(&self, folder: &Path, arguments: &str) -> anyhow::Result<String> {
        let outcome = self.run(folder, arguments)?;
        outcome
            .ends_with(0)
            .with_context(|| format!("ddpm {arguments}"))?;
        Ok(outcome.out)
    }

    /// Starts it in `folder`; its standard error goes to the file `said` there.
    pub(super) fn start(&self, folder: &Path, arguments: &str) -> anyhow::Result<Job> {
        let said = folder.join("said");
        let file = File::create(&said).with_context(|| said.display().to_string())?;
        let mut command = self.listening();
        command.args(arguments.split_whitespace());
        command.current_dir(folder).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(file).spawn();
        let child = child.with_context(|| format!("cannot start {command:?}"))?;
        Ok(Job { child, said })
    }
}

fn finish(mut command: Command) -> anyhow::Result<Outcome> {
    let output = command.output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    Ok(Outcome {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into(),
        said: String::from_utf8_lossy(&output.stderr).into(),
    })
}

impl Outcome {
    /// Checks the exit code; the error has the last line of standard error.
    pub(super) fn ends_with(&self, code: i32) -> anyhow::Result<()> {
        let (found, last) = (self.code, last_line(&self.said));
        ensure!(found == Some(code), "exit code {found:?}: {last}");
        Ok(())
    }

    /// The first unusual line of standard error.
    pub(super) fn first_line(&self) -> String {
        first_line(&self.said)
    }
}

pub(super) fn last_line(said: &str) -> &str {
    said.lines().last().unwrap_or("it said nothing")
}

/// The first line that a run without faults does not print.
fn first_line(said: &str) -> String {
    let usual = |line: &str| {
        let begins = ["step ", "done: ", "goes on from "];
        begins.iter().any(|begin| line.starts_with(begin)) || line.contains(" rows of ")
    };
    let mut lines = said.lines().filter(|line| !usual(line));
    lines.next().unwrap_or_default().to_owned()
}

/// A running process, which is killed when this is dropped.
pub(super) struct Job {
    child: Child,
    said: PathBuf,
}

impl Job {
    /// Its standard error until now.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    pub(super) fn is_over(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Sends signals by name, one directly after the other.
    pub(super) fn signal(&self, names: &[&str]) -> anyhow::Result<()> {
        let id = self.child.id();
        let kills: Vec<_> = names.iter().map(|n| format!("kill -{n} {id}")).collect();
        let sent = Command::new("sh").args(["-c", &kills.join(";")]).status()?;
        ensure!(sent.success(), "cannot send {names:?}");
        Ok(())
    }

    /// Sends SIGKILL. Returns whether the process was still running.
    pub(super) fn kill(&mut self) -> anyhow::Result<bool> {
        self.child.kill()?;
        Ok(self.child.wait()?.code().is_none())
    }

    /// Waits until it ends by itself.
    pub(super) fn wait(&mut self) -> anyhow::Result<Outcome> {
        self.until("the end", Self::is_over)?;
        Ok(Outcome {
            code: self.child.wait()?.code(),
            out: String::new(),
            said: self.said(),
        })
    }

    /// Waits until a condition holds.
    pub(super) fn until(
        &mut self,
        what: &str,
        mut so: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !so(self)? {
            let late = begun.elapsed() > PATIENCE;
            ensure!(!late, "waited for {what}: {}", last_line(&self.said()));
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until its standard error contains `words`.
    pub(super) fn until_said(&mut self, words: &str) -> anyhow::Result<()> {
        self.until(words, |job| {
            let over = job.is_over()?;
            let said = job.said();
            let found = said.contains(words);
            ensure!(found || !over, "no {words:?}: {}", last_line(&said));
            Ok(found)
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // The process may have ended already, which is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) mod tests {
    use super::first_line;

    pub(in super::super) fn usual_lines() {
        let said = "digits: 1797 rows of 1×8×8, 100 parameters, in run\n\
                    step 1/4 loss 1.0 2 images/s\n\
                    training goes on: checkpoint not written: run: gone\n\
                    error: more\n";
        assert_eq!(
            first_line(said),
            "training goes on: checkpoint not written: run: gone"
        );
        assert_eq!(first_line("done: pictures in run/samples\n"), "");
    }
}
