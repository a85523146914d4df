//! Requests to stop. The work at hand is finished and saved first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGXFSZ};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What asks the program to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Int,
    /// What `kill`, schedulers and a machine that shuts down send.
    Term,
    /// The terminal was closed.
    #[cfg(unix)]
    Hup,
    /// What schedulers send some time before they end a job.
    #[cfg(unix)]
    Usr1,
}

impl Signal {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Int,
        Self::Term,
        #[cfg(unix)]
        Self::Hup,
        #[cfg(unix)]
        Self::Usr1,
    ];

    /// Its name, for example `SIGINT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
            #[cfg(unix)]
            Self::Hup => "SIGHUP",
            #[cfg(unix)]
            Self::Usr1 => "SIGUSR1",
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::Int => SIGINT,
            Self::Term => SIGTERM,
            #[cfg(unix)]
            Self::Hup => SIGHUP,
            #[cfg(unix)]
            Self::Usr1 => SIGUSR1,
        }
    }

    /// The exit code of a program that this signal stopped: 128 and its number, for example 130 for
    /// SIGINT.
    pub fn exit_code(self) -> u8 {
        // No signal's number is above 127.
        128 + u8::try_from(self.number()).unwrap_or_default()
    }

    /// Whether it is listened to: all are, but for a SIGHUP that the program was started with ignored,
    /// where the system says so.
    fn is_heard(self) -> bool {
        if self.name() != "SIGHUP" {
            return true;
        }
        let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
            return true;
        };
        let mut lines = status.lines();
        let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_none_or(|mask| mask >> (self.number() - 1) & 1 == 0)
    }
}

/// Whether the program was asked to stop. The default cannot be asked.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// 0, or the exit code of the signal.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Listens for [every signal](Signal::ALL). The first one asks. The second one, of any kind, ends
    /// the process at once with its [exit code](Signal::exit_code). SIGHUP stays ignored where the program
    /// was started with it ignored, as `nohup` does.
    ///
    /// SIGXFSZ, which the system sends beside a write beyond a limit of file sizes, does nothing: the
    /// write fails with an error that names the file, as it does on a full disk.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        let asked = Arc::new(AtomicBool::new(false));
        for signal in Signal::ALL.iter().filter(|signal| signal.is_heard()) {
            let (number, code) = (signal.number(), signal.exit_code().into());
            // In this order: the first signal finds that nobody has asked before.
            flag::register_conditional_shutdown(number, code, asked.clone())?;
            flag::register(number, asked.clone())?;
            flag::register_usize(number, stop.signal.clone(), usize::from(signal.exit_code()))?;
        }
        #[cfg(unix)]
        flag::register(SIGXFSZ, Arc::default())?;
        Ok(stop)
    }

    /// What asked.
    pub fn asked(&self) -> Option<Signal> {
        let code = self.signal.load(Ordering::Relaxed);
        let mut all = Signal::ALL.iter().copied();
        all.find(|signal| usize::from(signal.exit_code()) == code)
    }
}

/// Work that was stopped; what was done of it is whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by {} after {done}", signal.name())]
pub struct Interrupted {
    /// What asked.
    pub signal: Signal,
    /// What was done, for example `step 500`.
    pub done: String,
}
